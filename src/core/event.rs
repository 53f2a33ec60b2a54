//! What goes into the core. Every event is past tense: it has happened, and the
//! core draws the consequence.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::failure::Failure;
use super::spec::{Name, PodSpec};
use super::status::{Exit, Goal};
use super::time::{Millis, Moment};

/// A request's key for its reply, chosen by the daemon, never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// An action's key for its outcome, chosen by the core, never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct ActionId(pub u64);

/// A run number: unique and growing over all pods of one program, so that a
/// late notice can never be taken for a newer run's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Incarnation(pub u64);

/// A version of the desired state: each commit that changes a spec takes the
/// next one. A pod's generation is the revision that last changed its spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Revision(pub u64);

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A client asks for something; it gets exactly one reply.
    Requested(Ticket, Request),
    /// Nobody waits for this ticket any more.
    Abandoned(Ticket),
    /// A hint that something may have changed; debounced.
    Nudged,
    /// An action that the core asked for is over.
    Finished(ActionId, Outcome),
    /// A run ended by itself.
    RunEnded {
        /// The pod.
        pod: Name,
        /// Which run of it.
        incarnation: Incarnation,
        /// How, and when, which may be some time ago.
        ended: Ended,
    },
    /// A deadline may have passed. Harmless when none has.
    Woke,
}

/// What a client can ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Create or replace a pod; answered once durable.
    Apply(Arc<PodSpec>),
    /// Create a pod; refused when there is one of that name.
    Create(Arc<PodSpec>),
    /// Create a pod, unless there is one of that name or ever was one that was
    /// made so: what a user deletes does not come back by itself.
    Seed(Arc<PodSpec>),
    /// Remove a pod, also when absent; answered once durable.
    Delete(Name),
    /// One desired pod.
    Get(Name),
    /// All desired pods, by name.
    List,
    /// The status of one pod or of all.
    Status(Option<Name>),
    /// Answered once a pass that began after it has settled.
    Sync,
    /// Stop and start now, retries 0.
    Restart(Name),
    /// What an apply of each would come to. The names are unique.
    Plan(Vec<Arc<PodSpec>>),
    /// Answered once the pod is in this state, by the spec that is desired when
    /// all writes of it that were asked for before are over.
    Await {
        /// The pod.
        pod: Name,
        /// What is waited for.
        goal: Goal,
        /// How long, before it fails; without end when absent.
        timeout_ms: Option<u64>,
    },
    /// Kill a run as a crash: policy decides what follows.
    Kill(Name, Incarnation),
    /// Start nothing more. With `stop_pods`, stop all pods too. Answered when
    /// nothing is in flight.
    Shutdown {
        /// Whether running pods are stopped.
        stop_pods: bool,
    },
}

/// How an action ended. `Err` on any action means that it had no effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A write is durable.
    Persisted(Result<Revision, Failure>),
    /// The workload has been exec'd, or could not be.
    Started(Result<Started, StartError>),
    /// The run is gone with all it had, reaped and removed. An error means that
    /// it still is there, and the core asks again at the next resync.
    Stopped(Result<Exit, Failure>),
    /// The run is as it was to be adjusted. An error means that it may be so in part.
    Adjusted(Result<(), Failure>),
    /// What a deleted pod left behind has been removed.
    Removed,
    /// What the store and the runtime hold.
    Observed(Observation),
}

/// A run that began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// When it was exec'd: for a run that was taken over, some time ago.
    pub at: Millis,
    /// The pid of the workload, or of the first of several, on the host, where it
    /// has one.
    pub host_pid: Option<i32>,
    /// The pids of several containers.
    pub containers: Option<Arc<BTreeMap<Name, i32>>>,
    /// Whether it was being stopped already when it was taken over.
    pub is_stopping: bool,
}

impl Started {
    /// A run with a single workload, or none that has a pid.
    #[must_use]
    pub fn new(at: Millis, host_pid: Option<i32>) -> Self {
        Self { at, host_pid, containers: None, is_stopping: false }
    }
}

/// A run that could not begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartError {
    /// Why.
    pub failure: Failure,
    /// Whether the workload was never reached (an image that could not be
    /// downloaded): then every policy tries again.
    pub is_download: bool,
}

/// What the store and the runtime held at one moment after the request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observation {
    /// What changed in the store since the revision that was asked from; none
    /// when nothing did, or when the store could not be read, which leaves the
    /// desired state as it was. The first observation must have read it.
    pub desired: Option<DesiredChange>,
    /// Every run the runtime knows, ended and unacknowledged ones included. In
    /// any order; that of the pods' names is much the cheapest.
    pub runs: Vec<ObservedRun>,
}

/// A change of the desired state that came from the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredChange {
    /// The store's revision after it.
    pub revision: Revision,
    /// Whether `pods` is everything (what is not in it is gone) or a delta.
    pub is_full: bool,
    /// Pods with their new spec; `None` for one that is gone.
    pub pods: Vec<(Name, Option<StoredPod>)>,
}

/// A pod as the store holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPod {
    /// The revision that last changed the spec.
    pub generation: Revision,
    /// The spec.
    pub spec: Arc<PodSpec>,
    /// A terminal verdict on that generation, if one was passed.
    pub verdict: Option<Verdict>,
}

/// Why a pod is left alone until its spec changes. Durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// How the last run ended.
    pub last: LastExit,
    /// Retries at that moment.
    pub retries: u32,
    /// The last run; 0 where that is not on record.
    pub incarnation: Incarnation,
}

/// What is kept of the end of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastExit {
    /// How.
    pub exit: Exit,
    /// When, where that is on record.
    pub at: Option<Moment>,
}

impl From<Ended> for LastExit {
    fn from(ended: Ended) -> Self {
        Self { exit: ended.exit, at: Some(Moment::Boot(ended.at)) }
    }
}

/// A run the runtime knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedRun {
    /// The pod.
    pub pod: Name,
    /// Which run of it.
    pub incarnation: Incarnation,
    /// What it was made from, where that is on record: without it the run is
    /// nobody's. A program that starts goes by it.
    pub origin: Option<Arc<Origin>>,
    /// When its workload was exec'd, where that is on record.
    pub started_at: Option<Millis>,
    /// How it ended, when it has.
    pub ended: Option<Ended>,
}

impl ObservedRun {
    /// A live run of this program's own, which is told of no other to be known by.
    #[must_use]
    pub fn live(pod: Name, incarnation: Incarnation) -> Self {
        Self { pod, incarnation, origin: None, started_at: None, ended: None }
    }
}

/// What a run was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The version of the spec.
    pub generation: Revision,
    /// The spec, with the limits that the run has now.
    pub spec: Arc<PodSpec>,
    /// Consecutive restarts up to this run.
    pub retries: u32,
    /// The end of the run before it.
    pub last: Option<LastExit>,
}

/// The end of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// How.
    pub exit: Exit,
    /// When.
    pub at: Millis,
    /// What it came of.
    pub cause: EndCause,
}

impl Ended {
    /// A run that ended by itself.
    #[must_use]
    pub fn new(exit: Exit, at: Millis) -> Self {
        Self { exit, at, cause: EndCause::Itself }
    }
}

/// What the end of a run came of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndCause {
    /// The workload's own doing, or a failed start: policy decides what follows.
    Itself,
    /// An image that could not be downloaded: every policy tries again.
    Download,
    /// It was asked to stop: what is wanted now begins afresh.
    Request,
}
