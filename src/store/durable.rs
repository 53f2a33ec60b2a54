//! The store that outlives the program: one redb file, and all of it in memory.
//!
//! Reads are answered from memory; a commit is one transaction, on disk before
//! memory takes it over. When a transaction fails, the file is opened again
//! before the next one and put back to what memory holds, so that a write that
//! was answered with an error stays without effect even where it had reached
//! the disk. A file that is damaged is set aside, and what it still gives goes
//! on in a new one.

use std::io;
use std::path::{Path, PathBuf};

use redb::{Builder, Database, StorageBackend};

use super::contents::{Contents, Staged};
use super::fault::Fault;
use super::file::{Medium, StateFile};
use super::salvage::Wreck;
use super::tables::{self, Loaded, SetAside};
use super::{Change, Committed, Store, StoreError};
use crate::core::event::{DesiredChange, Revision};
use crate::core::journal::Entry;
use crate::core::spec::Name;
use crate::os_words::os_words;

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
    salvage: Option<Salvage>,
    is_new: bool,
}

/// What became of a damaged state file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Salvage {
    /// The file.
    pub path: PathBuf,
    /// Where the damaged one is now.
    pub aside: PathBuf,
    /// What was wrong with it.
    pub what: String,
    /// How many pods were kept.
    pub pods: usize,
}

/// A state file that is open, and what it holds.
struct Opened {
    database: Database,
    contents: Contents,
    set_aside: Vec<SetAside>,
    /// Whether there was no file.
    is_new: bool,
}

impl DurableStore {
    /// Opens the store of a data directory, creating what is missing: the
    /// directory and the file for their owner alone. A damaged file is set aside
    /// and replaced by one with all that can still be read.
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
        let fault_on = |fault: Fault| fault.on("open", medium.path());
        let (opened, salvage) = match open(&medium) {
            Err(Fault::Corrupt(what)) => {
                let aside = salvage(&medium, &what).map_err(fault_on)?;
                let opened = open(&medium).map_err(fault_on)?;
                let (path, pods) = (medium.path().to_owned(), opened.contents.pods().len());
                (opened, Some(Salvage { path, aside, what, pods }))
            }
            opened => (opened.map_err(fault_on)?, None),
        };
        let Opened { database, contents, set_aside, is_new } = opened;
        Ok(Self { medium, database: Some(database), contents, set_aside, salvage, is_new })
    }

    /// Records that could not be read, when the store was opened or before. A
    /// pod whose spec is among them is not in the store; one whose verdict is
    /// among them stays terminal.
    #[must_use]
    pub fn set_aside(&self) -> &[SetAside] {
        &self.set_aside
    }

    /// What became of the file that was found, when that was damaged.
    #[must_use]
    pub fn salvage(&self) -> Option<&Salvage> {
        self.salvage.as_ref()
    }

    /// Whether there was no file.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// Whether any pod may be missing: the file that was found was damaged, or none was,
    /// now or when an earlier program came that did not get to [`Self::note_whole`].
    #[must_use]
    pub fn may_lack_pods(&self) -> bool {
        self.medium.is_incomplete()
    }

    /// Notes that what was missing and could be had is there.
    ///
    /// # Errors
    /// The system's.
    pub fn note_whole(&self) -> io::Result<()> {
        self.medium.note_whole()
    }

    /// The file, opened again if need be.
    fn database(&mut self) -> Result<Database, Fault> {
        match self.database.take() {
            Some(database) => Ok(database),
            None => self.reopen(),
        }
    }

    /// One transaction. When it fails, the file is closed.
    fn write(&mut self, staged: &Staged) -> Result<(), Fault> {
        let database = self.database()?;
        tables::write(&database, &self.contents, staged)?;
        self.database = Some(database);
        Ok(())
    }

    /// Opens the file after a failed transaction, and puts it back to what
    /// memory holds.
    fn reopen(&self) -> Result<Database, Fault> {
        let (database, _) = open_database(&self.medium)?;
        let found = tables::load(&database, self.medium.path())?.contents;
        tables::put_back(&database, &found, &self.contents)?;
        Ok(database)
    }

    fn read_journal(&mut self, pod: &Name) -> Result<Vec<Entry>, Fault> {
        let database = self.database()?;
        let entries = tables::load_journal(&database, pod)?;
        self.database = Some(database);
        Ok(entries)
    }
}

impl<M: Medium> Store for DurableStore<M> {
    fn list(&mut self) -> Result<DesiredChange, StoreError> {
        Ok(self.contents.list())
    }

    fn changes_since(&mut self, since: Revision) -> Result<Option<DesiredChange>, StoreError> {
        Ok(self.contents.changes_since(since))
    }

    fn journal(&mut self, pod: &Name) -> Result<Option<Vec<Entry>>, StoreError> {
        if !self.contents.pods().contains_key(pod) {
            return Ok(None);
        }
        let entries = self.read_journal(pod);
        entries.map(Some).map_err(|fault| fault.on("read", self.medium.path()))
    }

    fn commit_at(&mut self, at_unix_ms: i64, changes: &[Change]) -> Committed {
        let (mut answers, mut staged) = self.contents.stage(at_unix_ms, changes);
        let mut journal = Ok(());
        while !staged.is_empty() {
            let Err(fault) = self.write(&staged) else {
                self.contents.merge(staged);
                break;
            };
            let error = fault.on("commit to", self.medium.path());
            journal = Err(error.clone());
            if error.is_full() && !staged.entries.is_empty() {
                staged.entries.clear();
                continue;
            }
            answers.fill(Err(error));
            break;
        }
        Committed { answers, journal }
    }
}

fn open<M: Medium>(medium: &M) -> Result<Opened, Fault> {
    let (database, is_new) = open_database(medium)?;
    let Loaded { contents, unreadable } = tables::load(&database, medium.path())?;
    tables::quarantine(&database, &contents, &unreadable)?;
    let set_aside = tables::list_quarantine(&database)?;
    Ok(Opened { database, contents, set_aside, is_new })
}

/// Opens what is there, or makes a new store first, and says whether it did.
fn open_database<M: Medium>(medium: &M) -> Result<(Database, bool), Fault> {
    let (backend, is_new) = match medium.open().map_err(Fault::of_io)? {
        Some(backend) => (backend, false),
        None => (create(medium)?, true),
    };
    // redb would take an empty file for a new one and forget every pod.
    if backend.len().map_err(Fault::of_io)? == 0 {
        return Err(Fault::Corrupt("it is empty".to_owned()));
    }
    let database = builder().create_with_backend(backend)?;
    tables::migrate(&database)?;
    Ok((database, is_new))
}

/// Puts a new file with what is left of a damaged one in its place, and says
/// where the damaged one is.
fn salvage<M: Medium>(medium: &M, what: &str) -> Result<PathBuf, Fault> {
    let stays = |error: io::Error| {
        Fault::Corrupt(format!("{what}, and it cannot be set aside: {}", os_words(&error)))
    };
    let backend = medium.open().map_err(stays)?.ok_or_else(vanished)?;
    let draft = builder().create_with_backend(medium.draft().map_err(stays)?)?;
    tables::create(&draft)?;
    tables::salvage(&draft, &Wreck::new(&backend))?;
    draft.close()?;
    drop(backend);
    let aside = medium.set_aside().map_err(stays)?;
    medium.note_incomplete().map_err(stays)?;
    medium.publish().map_err(stays)?;
    Ok(aside)
}

fn create<M: Medium>(medium: &M) -> Result<M::Backend, Fault> {
    let draft = builder().create_with_backend(medium.draft().map_err(Fault::of_io)?)?;
    tables::create(&draft)?;
    draft.close()?;
    medium.note_incomplete().map_err(Fault::of_io)?;
    medium.publish().map_err(Fault::of_io)?;
    medium.open().map_err(Fault::of_io)?.ok_or_else(vanished)
}

fn vanished() -> Fault {
    Fault::Other("it vanished while it was looked at".to_owned())
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    // Without the check a damaged page is found late, or taken for good.
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    builder
}
