//! What a pod's journal says happened to it: the entries that outlive the
//! program, and how many of them. Data only: who writes them, and where they
//! are kept, is not said here.

use super::event::{Incarnation, Revision};
use super::failure::Failure;
use super::status::Exit;

/// Entries that are kept of each pod; older ones make room.
pub const ENTRIES_MAX: usize = 100;

/// One thing that happened to a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When, by the wall clock, in milliseconds since 1970.
    pub at_unix_ms: i64,
    /// What.
    pub kind: Kind,
    /// The run it happened to; 0 where it happened to none.
    pub incarnation: Incarnation,
    /// The version of the spec that it happened under.
    pub generation: Revision,
    /// Restarts in a row at that moment.
    pub retries: u32,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Another spec became durable.
    Applied,
    /// A run was exec'd.
    Started {
        /// The workload's pid on the host, where it has one.
        host_pid: Option<i32>,
    },
    /// A run of an earlier program was taken over as it was.
    Adopted {
        /// The workload's pid on the host, where it has one.
        host_pid: Option<i32>,
    },
    /// A run that had been exec'd is over.
    Ended {
        /// How.
        exit: Exit,
    },
    /// A start failed.
    Failed {
        /// Why.
        failure: Failure,
    },
    /// The next start waits.
    BackingOff {
        /// How long.
        delay_ms: u64,
        /// What for.
        reason: String,
    },
    /// There is no next start.
    Terminal {
        /// Why.
        reason: String,
    },
    /// A run is being ended.
    Stopping {
        /// Why.
        reason: String,
    },
}

impl Entry {
    /// Whether a journal says so already: a program that starts acts once more on the
    /// end of a run that it finds on record. Takes its entries, the newest first.
    pub fn is_told_by(&self, newest_first: impl IntoIterator<Item = Self>) -> bool {
        let is_end = matches!(
            self.kind,
            Kind::Ended { .. }
                | Kind::Failed { .. }
                | Kind::BackingOff { .. }
                | Kind::Terminal { .. }
        );
        let is_since = |earlier: &Self| match earlier.kind {
            Kind::Applied => true,
            Kind::Started { .. } | Kind::Adopted { .. } => false,
            _ => earlier.incarnation == self.incarnation,
        };
        let mut since = newest_first.into_iter().take_while(is_since);
        is_end && since.any(|earlier| earlier.kind.name() == self.kind.name())
    }
}

impl Kind {
    /// The kind's name on the wire and in the store.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Started { .. } => "started",
            Self::Adopted { .. } => "adopted",
            Self::Ended { .. } => "ended",
            Self::Failed { .. } => "failed",
            Self::BackingOff { .. } => "backing_off",
            Self::Terminal { .. } => "terminal",
            Self::Stopping { .. } => "stopping",
        }
    }
}
