//! One container of a pod, from its clone to its end: how far its launch came,
//! its output, its stop. It decides nothing about the others.

use std::os::fd::BorrowedFd;

use tank_shim::protocol::{self, Adjustment, Exit, Failure, Role, Step, StopPlan};

use crate::cgroup::Cgroups;
use crate::launch::{self, Launching, Report};
use crate::log::{Log, Stream};
use crate::pod_volumes::PodVolume;
use crate::process::FirstProcess;

/// How whatever was killed ends.
const KILLED: Exit = Exit::Signaled(libc::SIGKILL);

/// How many descriptors a container is waited for by.
pub(crate) const SOURCES: usize = 4;

/// A container with a first process.
pub(crate) struct Container {
    name: String,
    role: Role,
    process: FirstProcess,
    launch: Progress,
    cgroups: Cgroups,
    log: Log,
    streams: [Stream; 2],
    stop: StopPlan,
    kill_at_ms: Option<u64>,
    is_killed: bool,
}

/// How far a launch has come.
enum Progress {
    UnderWay(Box<Launching>),
    Executed,
    Failed(Failure),
}

/// How a container ended.
pub(crate) enum End {
    /// It was never executed.
    Failed(Failure),
    /// It was.
    Exited(Exit),
}

impl Container {
    /// Clones the first process, or undoes everything.
    pub(crate) fn begin(
        wanted: &protocol::Container,
        volumes: &[PodVolume],
    ) -> Result<Self, Failure> {
        Self::try_to_begin(wanted, volumes).map_err(|failure| failure.of(&wanted.name))
    }

    fn try_to_begin(wanted: &protocol::Container, volumes: &[PodVolume]) -> Result<Self, Failure> {
        let log = Log::open(&wanted.log)
            .map_err(|error| launch::failure_of(Step::OpenLog, wanted.log.path.as_str(), &error))?;
        let mut cgroups = Cgroups::make(&wanted.cgroups)?;
        let started = launch::start(wanted, volumes).inspect_err(|_| {
            launch::clean(&wanted.name);
            cgroups.remove();
        })?;
        let [stdout, stderr] = started.output;
        Ok(Self {
            name: wanted.name.clone(),
            role: wanted.role,
            process: FirstProcess::new(started.pidfd),
            launch: Progress::UnderWay(Box::new(started.launching)),
            cgroups,
            log,
            streams: [Stream::new("stdout", stdout), Stream::new("stderr", stderr)],
            stop: wanted.stop.clone(),
            kill_at_ms: None,
            is_killed: false,
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn role(&self) -> Role {
        self.role
    }

    pub(crate) fn is_executed(&self) -> bool {
        matches!(self.launch, Progress::Executed)
    }

    /// What a client is told of it.
    pub(crate) fn running(&self) -> protocol::RunningContainer {
        let (name, host_pid) = (self.name.clone(), self.process.host_pid());
        protocol::RunningContainer { name, role: self.role, host_pid }
    }

    /// What to wait for: a report, a death, output.
    pub(crate) fn sources(&self) -> [Option<BorrowedFd<'_>>; SOURCES] {
        let report = match &self.launch {
            Progress::UnderWay(launching) => Some(launching.report()),
            Progress::Executed | Progress::Failed(_) => None,
        };
        let [stdout, stderr] = &self.streams;
        [report, Some(self.process.pidfd()), stdout.pipe(), stderr.pipe()]
    }

    /// Takes what those have to say that are ready.
    pub(crate) fn hear(&mut self, ready: &[bool]) {
        let &[report, _, stdout, stderr] = ready else { return };
        for (stream, is_ready) in self.streams.iter_mut().zip([stdout, stderr]) {
            if is_ready {
                stream.pump(&mut self.log);
            }
        }
        if report {
            self.take_report();
        }
    }

    /// Learns whether the workload has been exec'd.
    fn take_report(&mut self) {
        let Progress::UnderWay(launching) = &self.launch else { return };
        match launching.read_report() {
            Report::Pending => {}
            // The child ends by itself; its death is what is waited for.
            Report::Failed(failure) => self.launch = Progress::Failed(failure.of(&self.name)),
            Report::Executed => self.launch = Progress::Executed,
        }
    }

    /// Reaps the first process, with which everything in the container is dead.
    /// Says how it ended, if it has.
    pub(crate) fn bury(&mut self, ready: &[bool]) -> Option<End> {
        let &[_, true, ..] = ready else { return None };
        // An error cannot be: the pidfd is ours, and nobody else reaps.
        let exit = self.process.reap().ok().flatten()?;
        for stream in &mut self.streams {
            stream.finish(&mut self.log);
        }
        Some(match std::mem::replace(&mut self.launch, Progress::Executed) {
            Progress::Failed(failure) => End::Failed(failure),
            Progress::UnderWay(_) | Progress::Executed => End::Exited(self.cause(exit)),
        })
    }

    /// The cgroups, for whoever removes them.
    pub(crate) fn take_cgroups(&mut self) -> Cgroups {
        std::mem::take(&mut self.cgroups)
    }

    /// A kill of ours is told apart from the kernel's own.
    fn cause(&self, exit: Exit) -> Exit {
        let is_ooms = exit == KILLED && !self.is_killed && self.cgroups.had_oom_kill();
        if is_ooms { Exit::OutOfMemory } else { exit }
    }

    /// Asks it to end, where it can be asked.
    pub(crate) fn stop(&mut self, asked_at_ms: u64) {
        if self.is_executed() && self.process.ask(self.stop.signal) {
            let kill_at_ms = asked_at_ms.saturating_add(self.stop.grace_ms);
            self.kill_at_ms = Some(self.kill_at_ms.map_or(kill_at_ms, |at| at.min(kill_at_ms)));
        } else {
            self.kill();
        }
    }

    pub(crate) fn kill(&mut self) {
        self.kill_at_ms = None;
        self.is_killed = true;
        self.process.kill();
        self.cgroups.kill();
    }

    /// How long it may take to stop.
    pub(crate) fn grace_ms(&self) -> u64 {
        self.stop.grace_ms
    }

    /// When it is killed, if it is to be.
    pub(crate) fn kill_at_ms(&self) -> Option<u64> {
        self.kill_at_ms
    }

    pub(crate) fn kill_if_due(&mut self, now_ms: u64) {
        if self.kill_at_ms.is_some_and(|at_ms| at_ms <= now_ms) {
            self.kill();
        }
    }

    /// Changes what can be changed while it lives.
    pub(crate) fn adjust(&mut self, adjustment: &Adjustment) -> Result<(), Failure> {
        self.stop = adjustment.stop.clone();
        self.cgroups.limit(&adjustment.cgroups).map_err(|failure| failure.of(&self.name))
    }
}
