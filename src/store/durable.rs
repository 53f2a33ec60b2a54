//! The store that outlives the program: one redb file, and all of it in memory.
//!
//! Reads are answered from memory; a commit is one transaction, on disk before
//! memory takes it over. When a transaction fails, the file is opened again
//! before the next one and put back to what memory holds, so that a write that
//! was answered with an error stays without effect even where it had reached
//! the disk.

use std::path::Path;

use redb::{Builder, Database, StorageBackend};

use super::contents::Contents;
use super::fault::Fault;
use super::file::{Medium, StateFile};
use super::tables::{self, Loaded, Rows, SetAside};
use super::{Store, StoreError};
use crate::core::action::Write;
use crate::core::event::{DesiredChange, Revision};

/// Memory holds the specs decoded, so pages are seldom read twice.
const CACHE_BYTES: usize = 8 << 20;

/// A store in a file.
#[derive(Debug)]
pub struct DurableStore<M = StateFile> {
    medium: M,
    /// `None` after a failed transaction, until the file is opened again.
    database: Option<Database>,
    contents: Contents,
    set_aside: Vec<SetAside>,
}

impl DurableStore {
    /// Opens the store of a data directory, creating what is missing: the
    /// directory and the file for their owner alone.
    ///
    /// # Errors
    /// `Locked`, `Corrupt`, `SchemaTooNew` or `Io`.
    pub fn open(data_dir: &Path) -> Result<Self, StoreError> {
        Self::open_on(StateFile::in_dir(data_dir))
    }
}

impl<M: Medium> DurableStore<M> {
    /// Opens a store on any medium.
    ///
    /// # Errors
    /// As [`DurableStore::open`].
    pub fn open_on(medium: M) -> Result<Self, StoreError> {
        let open = || -> Result<_, Fault> {
            let database = open_database(&medium)?;
            let Loaded { contents, unreadable } = tables::load(&database, medium.path())?;
            tables::quarantine(&database, &contents, &unreadable)?;
            let set_aside = tables::list_quarantine(&database)?;
            Ok((database, contents, set_aside))
        };
        let (database, contents, set_aside) =
            open().map_err(|fault| fault.on("open", medium.path()))?;
        Ok(Self { medium, database: Some(database), contents, set_aside })
    }

    /// Records that could not be read, when the store was opened or before. A
    /// pod whose spec is among them is not in the store; one whose verdict is
    /// among them stays terminal.
    #[must_use]
    pub fn set_aside(&self) -> &[SetAside] {
        &self.set_aside
    }

    /// One transaction. When it fails, the file is closed.
    fn write(&mut self, rows: &Rows, revision: Revision) -> Result<(), Fault> {
        let database = match self.database.take() {
            Some(database) => database,
            None => self.reopen()?,
        };
        tables::write(&database, &self.contents, rows, revision)?;
        self.database = Some(database);
        Ok(())
    }

    /// Opens the file after a failed transaction, and puts it back to what
    /// memory holds.
    fn reopen(&self) -> Result<Database, Fault> {
        let database = open_database(&self.medium)?;
        let found = tables::load(&database, self.medium.path())?.contents;
        let rows = differences(&found, &self.contents);
        if !rows.is_empty() || found.revision() != self.contents.revision() {
            tables::write(&database, &found, &rows, self.contents.revision())?;
        }
        Ok(database)
    }
}

impl<M: Medium> Store for DurableStore<M> {
    fn list(&mut self) -> Result<DesiredChange, StoreError> {
        Ok(self.contents.list())
    }

    fn changes_since(&mut self, since: Revision) -> Result<Option<DesiredChange>, StoreError> {
        Ok(self.contents.changes_since(since))
    }

    fn commit(&mut self, writes: &[Write]) -> Vec<Result<Revision, StoreError>> {
        let (answers, staged) = self.contents.stage(writes);
        if staged.is_empty() {
            return answers;
        }
        match self.write(&staged.rows, staged.revision) {
            Ok(()) => {
                self.contents.merge(staged);
                answers
            }
            Err(fault) => vec![Err(fault.on("commit to", self.medium.path())); writes.len()],
        }
    }
}

/// Opens what is there, or makes a new store first.
fn open_database<M: Medium>(medium: &M) -> Result<Database, Fault> {
    let backend = match medium.open().map_err(Fault::of_io)? {
        Some(backend) => backend,
        None => create(medium)?,
    };
    // redb would take an empty file for a new one and forget every pod.
    if backend.len().map_err(Fault::of_io)? == 0 {
        return Err(Fault::Corrupt("it is empty".to_owned()));
    }
    let database = builder().create_with_backend(backend)?;
    tables::check(&database)?;
    Ok(database)
}

fn create<M: Medium>(medium: &M) -> Result<M::Backend, Fault> {
    let draft = builder().create_with_backend(medium.draft().map_err(Fault::of_io)?)?;
    tables::create(&draft)?;
    draft.close()?;
    medium.publish().map_err(Fault::of_io)?;
    let vanished = || Fault::Other("it vanished as soon as it was made".to_owned());
    medium.open().map_err(Fault::of_io)?.ok_or_else(vanished)
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    // Without the check a damaged page is found late, or taken for good.
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    builder
}

/// What has to be written to make `found` what is `wanted`.
fn differences(found: &Contents, wanted: &Contents) -> Rows {
    let (found, wanted) = (found.pods(), wanted.pods());
    let gone = found.keys().filter(|name| !wanted.contains_key(*name));
    let other = wanted.iter().filter(|(name, pod)| found.get(*name) != Some(*pod));
    let gone = gone.map(|name| (name.clone(), None));
    gone.chain(other.map(|(name, pod)| (name.clone(), Some(pod.clone())))).collect()
}
