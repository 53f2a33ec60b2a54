//! Which CPUs this process and its servers run on.

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::child::FrameChild;

/// Where client and server run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placement {
    /// Both on one CPU.
    One,
    /// Each on a CPU of its own, where each message wakes another CPU.
    Two,
    /// Wherever the kernel puts them.
    Any,
}

/// The CPUs that may be used, until dropped.
pub(crate) struct Cpus {
    all: CpuSet,
    placement: Placement,
}

impl Cpus {
    /// Binds this process to where the placement wants a client; nothing where
    /// there is no second CPU for it.
    pub(crate) fn take(placement: Placement) -> io::Result<Option<Self>> {
        let cpus = Self { all: sched_getaffinity(None)?, placement };
        if placement == Placement::Two && cpus.nth(1).is_none() {
            return Ok(None);
        }
        if placement != Placement::Any {
            sched_setaffinity(None, &cpus.nth(0).expect("this process runs on a CPU"))?;
        }
        Ok(Some(cpus))
    }

    /// Starts a server where the placement wants it. One that is not to be bound
    /// to a single CPU is not while it starts.
    pub(crate) fn start(
        &self,
        server: impl FnOnce() -> io::Result<FrameChild>,
    ) -> io::Result<FrameChild> {
        let Some(second) = self.nth(1).filter(|_| self.placement == Placement::Two) else {
            return server();
        };
        let own = sched_getaffinity(None)?;
        sched_setaffinity(None, &self.all)?;
        let server = server();
        sched_setaffinity(None, &own)?;
        let server = server?;
        sched_setaffinity(Some(server.pid()), &second)?;
        Ok(server)
    }

    /// The set of the nth CPU alone.
    fn nth(&self, index: usize) -> Option<CpuSet> {
        let mut cpus = (0..CpuSet::MAX_CPU).filter(|cpu| self.all.is_set(*cpu));
        let mut set = CpuSet::new();
        set.set(cpus.nth(index)?);
        Some(set)
    }
}

impl Drop for Cpus {
    fn drop(&mut self) {
        // The set that was there before is allowed again.
        let _ = sched_setaffinity(None, &self.all);
    }
}
