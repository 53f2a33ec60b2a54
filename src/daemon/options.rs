//! What `tank port` is told on its command line.

use std::path::PathBuf;

/// Where the desired state is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    /// In the data directory.
    Durable,
    /// In memory, for as long as the program lives.
    Memory,
}

/// What carries out starts and stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuntimeKind {
    /// Containers.
    Container,
    /// The client's own processes.
    Client,
    /// Nothing: the desired state is kept and nothing is started.
    None,
}

/// What becomes of pods when the client is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDisconnect {
    /// They go on.
    Keep,
    /// They are stopped.
    Stop,
    /// They stop by themselves this many milliseconds later.
    StopAfter(u64),
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// State that outlives a reboot.
    pub data_dir: PathBuf,
    /// State that does not.
    pub run_dir: PathBuf,
    /// Where the desired state is kept.
    pub store: StoreKind,
    /// What carries out starts and stops.
    pub runtime: RuntimeKind,
    /// Between the end of a full pass and the next.
    pub interval_ms: u64,
    /// The first backoff.
    pub backoff_base_ms: u64,
    /// The longest backoff.
    pub backoff_cap_ms: u64,
    /// A run of this length resets the backoff.
    pub stable_window_ms: u64,
    /// What becomes of pods when the client is gone.
    pub on_disconnect: OnDisconnect,
    /// Between the stop signal and the kill.
    pub stop_grace_ms: u64,
    /// How long to wait for directories that another program still holds.
    pub lock_wait_ms: u64,
    /// Whether each frame is shown on stderr.
    pub trace_frames: bool,
    /// The shim's program.
    pub shim: PathBuf,
    /// The cgroup below which pods live.
    pub cgroup_parent: String,
}
