//! What comes out of the core. Every command is imperative: the daemon carries
//! it out and decides nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::event::{ActionId, Incarnation, Origin, Revision, Ticket, Verdict};
use super::failure::Failure;
use super::forecast::Forecast;
use super::spec::{Name, PodSpec};
use super::status::{Exit, PodStatus};
use super::time::Millis;

/// Something for the daemon to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Finishes exactly once, with `Event::Finished` and this id.
    Act(ActionId, Action),
    /// The start with this id is no longer wanted: it must finish soon, either
    /// failed or, when it was too late, started.
    Cancel(ActionId),
    /// Kill a run at once. No outcome of its own: the run's end says it.
    Kill(Name, Incarnation),
    /// The end of this run has been acted on for good: its record can go. No
    /// outcome; without it the record is found, and acted on, once more.
    Forget(Name, Incarnation),
}

/// Work that finishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Make a write durable. Writes are carried out in the order given.
    Persist(Write),
    /// Launch a run.
    Start {
        /// The pod.
        pod: Name,
        /// The run's number.
        incarnation: Incarnation,
        /// What to run, to be put on record before it does.
        origin: Arc<Origin>,
    },
    /// Take over a live run that was observed, and is not the work of this core.
    /// Finishes like a start, once the workload has been exec'd.
    Adopt {
        /// The pod.
        pod: Name,
        /// Which run of it.
        incarnation: Incarnation,
    },
    /// End a run: signal, grace, kill, reap, remove.
    Stop {
        /// The pod.
        pod: Name,
        /// Which run of it.
        incarnation: Incarnation,
    },
    /// Change the limits of a live run, and how it is stopped. Its failure has the run
    /// replaced.
    Adjust {
        /// The pod.
        pod: Name,
        /// Which run of it.
        incarnation: Incarnation,
        /// What it shall run by, and is on record to be made from.
        origin: Arc<Origin>,
    },
    /// Remove what a deleted pod left behind (logs, volumes).
    Remove(Name),
    /// Say what the store holds beyond this revision, and what runs.
    Observe {
        /// The last revision the core has seen.
        since: Revision,
    },
}

/// A durable write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Store a spec, whatever was there. Another spec clears the verdict; the
    /// same one changes nothing and keeps its generation.
    Put(Arc<PodSpec>),
    /// Store a spec where none is; else the outcome fails with `exists`.
    Create(Arc<PodSpec>),
    /// Store a spec where none is and none of that name was ever seeded; else the
    /// outcome fails with `exists`. The name counts as seeded either way.
    Seed(Arc<PodSpec>),
    /// Remove spec, verdict and journal.
    Delete(Name),
    /// Pass a verdict on a generation; no effect on a later one.
    PutVerdict(Name, Revision, Verdict),
    /// Take a verdict back.
    ClearVerdict(Name),
}

impl Write {
    /// The pod whose spec it writes, if it writes one.
    pub(super) fn spec_of(&self) -> Option<&Name> {
        match self {
            Self::Put(spec) | Self::Create(spec) | Self::Seed(spec) => Some(&spec.name),
            Self::Delete(pod) => Some(pod),
            Self::PutVerdict(..) | Self::ClearVerdict(_) => None,
        }
    }
}

/// A pod's spec with its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// The revision that last changed the spec.
    pub generation: Revision,
    /// The spec.
    pub spec: Arc<PodSpec>,
}

/// The answer to one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Whose.
    pub ticket: Ticket,
    /// The answer.
    pub result: Result<Response, Failure>,
}

/// A good answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response {
    /// Done; nothing to tell.
    Done,
    /// The spec is durable at this generation. `changed` is false when it was
    /// so already.
    Applied {
        /// The pod's generation.
        generation: Revision,
        /// Whether the spec is another than before.
        changed: bool,
    },
    /// One pod.
    Pod(Desired),
    /// Pods by name.
    Pods(Vec<Desired>),
    /// Statuses by name.
    Statuses(BTreeMap<Name, PodStatus>),
    /// What an apply of each spec would come to, in the order asked.
    Planned(Vec<Forecast>),
}

/// Something a subscriber is told unasked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A run was exec'd, or one that was has been taken over.
    RunStarted {
        /// The pod.
        pod: Name,
        /// Which run.
        incarnation: Incarnation,
        /// The version of the spec that it was made from, and restarts in a row before it.
        origin: (Revision, u32),
        /// The workload's pid on the host, where it has one.
        host_pid: Option<i32>,
        /// Whether it is an earlier program's.
        is_adopted: bool,
    },
    /// A run that had been exec'd is over.
    RunEnded {
        /// The pod.
        pod: Name,
        /// Which run.
        incarnation: Incarnation,
        /// The version of the spec that it was made from, and restarts in a row before it.
        origin: (Revision, u32),
        /// How.
        exit: Exit,
        /// When.
        at: Millis,
    },
    /// A start failed.
    StartFailed {
        /// The pod.
        pod: Name,
        /// Which run.
        incarnation: Incarnation,
        /// The version of the spec that it was made from, and restarts in a row before it.
        origin: (Revision, u32),
        /// Why.
        failure: Failure,
    },
    /// A pod's status is another than before.
    StatusChanged {
        /// The pod.
        pod: Name,
        /// The new status.
        status: PodStatus,
    },
    /// A pod is no longer tracked.
    PodGone {
        /// The pod.
        pod: Name,
    },
}
