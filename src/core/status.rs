//! What a client is told of a pod: its public status and how runs end.

use super::failure::Failure;
use super::spec::Name;
use super::time::{Millis, Moment};

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// The workload exited with this status.
    Exited(i32),
    /// A signal ended the workload.
    Signaled(i32),
    /// The kernel killed the workload for lack of memory.
    OutOfMemory,
    /// The run never started, or vanished.
    Failed(Failure),
    /// One container of several ended so, and the run with it.
    InContainer(Name, Box<Exit>),
}

impl Exit {
    /// Whether restart policy `:on_failure` counts this as success.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        matches!(self.of_any(), Self::Exited(0))
    }

    /// How it ended, whichever container that was.
    #[must_use]
    pub fn of_any(&self) -> &Self {
        match self {
            Self::InContainer(_, exit) => exit.of_any(),
            _ => self,
        }
    }

    /// The container that it was, where there are several.
    #[must_use]
    pub fn container(&self) -> Option<&Name> {
        match self {
            Self::InContainer(name, _) => Some(name),
            _ => None,
        }
    }
}

/// The public status of a pod (contract, section 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    /// A start is in flight.
    Starting,
    /// The workload has been exec'd and lives.
    Running,
    /// A stop is in flight.
    Stopping,
    /// Waiting for the restart deadline.
    BackingOff,
    /// Ended, and the policy says to leave it so.
    Terminal,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 5] =
        [Self::Starting, Self::Running, Self::Stopping, Self::BackingOff, Self::Terminal];

    /// The status's name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::BackingOff => "backing_off",
            Self::Terminal => "terminal",
        }
    }
}

/// What a client can wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Goal {
    /// The pod has this status.
    Is(Status),
    /// Nobody wants the pod, and nothing is left of it.
    Gone,
}

impl Goal {
    /// The goal of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let goals = Status::ALL.into_iter().map(Self::Is).chain([Self::Gone]);
        goals.into_iter().find(|goal| goal.name() == name)
    }

    /// The goal's name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Is(status) => status.name(),
            Self::Gone => "gone",
        }
    }
}

/// What the pod is doing now, finer than its status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// A run is being launched.
    Launching,
    /// The workload lives.
    Running,
    /// Stopping in order to start again.
    Restarting,
    /// Stopping for good.
    Deleting,
    /// A run that nobody asked for is being removed.
    Sweeping,
    /// Waiting for the restart deadline.
    Waiting,
    /// Ended.
    Done,
}

impl Phase {
    /// The phase's name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Launching => "launching",
            Self::Running => "running",
            Self::Restarting => "restarting",
            Self::Deleting => "deleting",
            Self::Sweeping => "sweeping",
            Self::Waiting => "waiting",
            Self::Done => "done",
        }
    }
}

/// Everything a client is told of one pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodStatus {
    /// The public status.
    pub status: Status,
    /// Consecutive restarts.
    pub retries: u32,
    /// What it is doing now.
    pub phase: Phase,
    /// Why, in one line, when there is something to say.
    pub reason: Option<String>,
    /// How the last run that ended did so; kept across restarts.
    pub last_exit: Option<Exit>,
    /// When the last run ended, where that is on record.
    pub last_exit_at: Option<Moment>,
    /// When the current run was exec'd.
    pub started_at: Option<Millis>,
    /// Milliseconds until the next start, while backing off.
    pub retry_in_ms: Option<u64>,
    /// The version of the spec that is tracked.
    pub generation: u64,
    /// The number of the current or last run; 0 before the first.
    pub incarnation: u64,
    /// The workload's pid on the host.
    pub host_pid: Option<i32>,
    /// The tracked spec's containers, in its order.
    pub containers: Vec<ContainerStatus>,
}

/// What a client is told of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerStatus {
    /// The container's name.
    pub name: Name,
    /// Its first process's pid on the host, where it has one.
    pub host_pid: Option<i32>,
}
