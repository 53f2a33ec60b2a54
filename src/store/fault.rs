//! redb's errors, told apart by what a caller can do about them.

use std::io;
use std::path::Path;

use super::StoreError;
use crate::os_words::os_words;

/// An error that does not know yet which file it is about.
#[derive(Debug)]
pub(super) enum Fault {
    Io(io::Error),
    Corrupt(String),
    TooNew { found: u64, supported: u64 },
    Locked,
    Other(String),
}

impl Fault {
    /// What an error of the system means for a state file.
    pub(super) fn of_io(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::InvalidData => Self::Corrupt(error.to_string()),
            io::ErrorKind::UnexpectedEof => Self::Corrupt("it is cut short".to_owned()),
            _ => Self::Io(error),
        }
    }

    /// The error of this operation on this file.
    pub(super) fn on(self, operation: &'static str, path: &Path) -> StoreError {
        let path = path.to_owned();
        match self {
            Self::Io(error) => {
                let errno = error.raw_os_error();
                StoreError::Io { operation, path, what: os_words(&error), errno }
            }
            Self::Corrupt(what) => StoreError::Corrupt { path, what },
            Self::TooNew { found, supported } => {
                StoreError::SchemaTooNew { path, found, supported }
            }
            Self::Locked => StoreError::Locked { path },
            Self::Other(what) => StoreError::Io { operation, path, what, errno: None },
        }
    }
}

impl<E: Into<redb::Error>> From<E> for Fault {
    fn from(error: E) -> Self {
        match error.into() {
            redb::Error::Io(error) => Self::of_io(error),
            redb::Error::Corrupted(what) => Self::Corrupt(what),
            redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => Self::Locked,
            // Our tables with other types, or not there.
            error @ (redb::Error::TableTypeMismatch { .. }
            | redb::Error::TableIsMultimap(_)
            | redb::Error::TypeDefinitionChanged { .. }
            | redb::Error::TableDoesNotExist(_)
            | redb::Error::UpgradeRequired(_)) => Self::Corrupt(error.to_string()),
            error => Self::Other(error.to_string()),
        }
    }
}
