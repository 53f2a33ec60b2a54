//! The desired state: every pod's spec and terminal verdict, revisioned, and
//! the journal of what happened to it.
//!
//! A store owns what must outlive the program and nothing else: it never
//! decides and never runs anything. Its operations block, so the daemon keeps a
//! store on a thread of its own and hands it all the writes it has at once.
//!
//! Nothing here supposes that this program is the only writer: a caller lists
//! once, then asks what changed since the revision it knows, and takes what it
//! is told over what it believes.

mod contents;
mod durable;
mod fault;
mod file;
mod journal;
mod memory;
mod record;
mod salvage;
mod tables;

use std::path::PathBuf;

use crate::core::action::Write;
use crate::core::event::{DesiredChange, Revision};
use crate::core::failure::{Code, Failure, Place};
use crate::core::journal::Entry;
use crate::core::spec::Name;

pub use durable::{DurableStore, Salvage};
pub use file::{Medium, StateFile};
pub use memory::MemoryStore;
pub(crate) use record::{exit_from_term, exit_to_term};
pub use tables::SetAside;

/// Something for a store to keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// What the core commands.
    Write(Write),
    /// What goes into a pod's journal, if the store has the pod by then.
    Note(Name, Entry),
}

/// What came of a commit.
#[derive(Debug)]
pub struct Committed {
    /// To each write, in their order.
    pub answers: Vec<Result<Revision, StoreError>>,
    /// Whether the journals have what they should.
    pub journal: Result<(), StoreError>,
}

/// A revisioned store of pod specs, terminal verdicts and journals.
pub trait Store: Send {
    /// Everything, at one revision.
    ///
    /// # Errors
    /// The store cannot be read.
    fn list(&mut self) -> Result<DesiredChange, StoreError>;

    /// What changed after `since`, or `None` when nothing did. A store that can
    /// no longer tell answers with everything (`is_full`).
    ///
    /// # Errors
    /// The store cannot be read.
    fn changes_since(&mut self, since: Revision) -> Result<Option<DesiredChange>, StoreError>;

    /// The journal of a pod, oldest first; `None` for a pod that is not stored.
    /// Entries that cannot be read are left out.
    ///
    /// # Errors
    /// The store cannot be read.
    fn journal(&mut self, pod: &Name) -> Result<Option<Vec<Entry>>, StoreError>;

    /// Carries out `changes` in order and makes them durable together, at the
    /// price of one.
    ///
    /// A write that is refused (`Exists`) does not hold back the others. When
    /// the store itself fails, all of them fail, and none has any effect.
    ///
    /// The revision in an answer is the pod's generation after `Put` and
    /// `Create`, and the store's revision after the other writes. Putting a
    /// spec that is there already changes nothing and keeps its generation.
    ///
    /// Each spec that is another than before is an entry of its pod's journal,
    /// at this time of the wall clock, and a pod that is deleted takes its journal
    /// along. A journal never keeps a write from succeeding: where there is no
    /// room for both, it goes without.
    fn commit_at(&mut self, at_unix_ms: i64, changes: &[Change]) -> Committed;

    /// Carries out `writes` as of the beginning of 1970, for whoever does not
    /// look at times.
    fn commit(&mut self, writes: &[Write]) -> Vec<Result<Revision, StoreError>> {
        let changes: Vec<Change> = writes.iter().cloned().map(Change::Write).collect();
        self.commit_at(0, &changes).answers
    }
}

/// What a store can fail with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A pod of that name is there already.
    #[error("pod {pod} exists already")]
    Exists {
        /// The pod.
        pod: Name,
    },
    /// There is no such pod, and there was one that was seeded.
    #[error("pod {pod} was seeded before, and has been deleted since")]
    SeededBefore {
        /// The pod.
        pod: Name,
    },
    /// The operating system refused. Nothing changed.
    #[error("{operation} {}: {what}", path.display())]
    Io {
        /// What was attempted, as `commit to`.
        operation: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// The system's own words.
        what: String,
        /// The system's error number, when it gave one.
        errno: Option<i32>,
    },
    /// The file is not a state file, or is damaged, and cannot be set aside. It is
    /// left as it is.
    #[error("{} is corrupt: {what}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A newer version of the program wrote the file. It is left as it is.
    #[error(
        "{} has schema version {found}, and this program knows none beyond {supported}",
        path.display()
    )]
    SchemaTooNew {
        /// The file.
        path: PathBuf,
        /// The file's schema version.
        found: u64,
        /// The newest that this program knows.
        supported: u64,
    },
    /// Another process has the file open.
    #[error("{} is in use by another process", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
}

impl StoreError {
    /// Whether there was no room.
    fn is_full(&self) -> bool {
        // ENOSPC and EDQUOT
        matches!(self, Self::Io { errno: Some(28 | 122), .. })
    }

    /// The code that clients are told.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Exists { .. } | Self::SeededBefore { .. } => Code::Exists,
            Self::Io { .. } | Self::SchemaTooNew { .. } => Code::StoreFailed,
            Self::Corrupt { .. } => Code::StoreCorrupt,
            Self::Locked { .. } => Code::Locked,
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let failure = Self::new(error.code(), error.to_string());
        match error {
            StoreError::Exists { pod } => failure.at(Place::Pod, pod),
            StoreError::SeededBefore { pod } => failure
                .at(Place::Pod, pod)
                .hint("apply it: a seed does not bring back what was deleted"),
            StoreError::Io { path, errno, .. } => {
                let failure = failure.at(Place::Path, path.display());
                match errno {
                    Some(errno) => failure.at(Place::Errno, errno),
                    None => failure,
                }
            }
            StoreError::Corrupt { path, .. } => failure
                .at(Place::Path, path.display())
                .hint("nothing was written to it: put a good copy in its place, or move it away"),
            StoreError::SchemaTooNew { path, .. } => failure
                .at(Place::Path, path.display())
                .hint("run the version that wrote it, or choose another data directory"),
            StoreError::Locked { path } => failure
                .at(Place::Path, path.display())
                .hint("stop the other program, or choose another data directory"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure_of(error: StoreError) -> Failure {
        error.into()
    }

    #[test]
    fn every_failure_of_the_store_names_its_file() {
        let path = PathBuf::from("/srv/tank/state.redb");
        let errors = [
            StoreError::Io {
                operation: "commit to",
                path: path.clone(),
                what: "no space left on device".into(),
                errno: Some(28),
            },
            StoreError::Corrupt { path: path.clone(), what: "page 3".into() },
            StoreError::SchemaTooNew { path: path.clone(), found: 9, supported: 1 },
            StoreError::Locked { path: path.clone() },
        ];
        for error in errors {
            let failure = failure_of(error);
            assert!(failure.message.contains("/srv/tank/state.redb"), "{failure:?}");
            assert!(
                failure.at.contains(&(Place::Path, "/srv/tank/state.redb".into())),
                "{failure:?}"
            );
        }
    }

    #[test]
    fn an_io_failure_keeps_the_systems_words_and_number() {
        let failure = failure_of(StoreError::Io {
            operation: "commit to",
            path: "/d/state.redb".into(),
            what: "no space left on device".into(),
            errno: Some(28),
        });
        assert_eq!(failure.code, Code::StoreFailed);
        assert_eq!(failure.message, "commit to /d/state.redb: no space left on device");
        assert!(failure.at.contains(&(Place::Errno, "28".into())));
    }

    #[test]
    fn an_existing_pod_is_named() {
        let failure = failure_of(StoreError::Exists { pod: Name::new("web").unwrap() });
        assert_eq!(failure.code, Code::Exists);
        assert_eq!(failure.at, vec![(Place::Pod, "web".to_owned())]);
    }
}
