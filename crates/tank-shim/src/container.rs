//! One container of a pod, from its clone to its end: how far its launch came,
//! its output, its stop. It decides nothing about the others.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::Errno;
use tank_shim::protocol::{self, Adjustment, Exit, Failure, PreStopFailed, Role, Step};

use crate::cgroup::Cgroups;
use crate::hook::Hook;
use crate::launch::{self, Launching, Output, Report};
use crate::log::{Log, Stream};
use crate::pod_volumes::PodVolume;
use crate::process::Process;
use crate::user_namespace::UserNamespace;

/// How whatever was killed ends.
const KILLED: Exit = Exit::Signaled(libc::SIGKILL);

/// The same, told by an init.
const KILLED_BELOW_INIT: Exit = Exit::Exited(128 + libc::SIGKILL);

/// Between looks at a process that is about to execute its command. Most have when
/// their runtime ends.
const LOOK_AGAIN_MS: u64 = 1;

/// How many descriptors a container is waited for by.
pub(crate) const SOURCES: usize = 8;

/// A container with a first process.
pub(crate) struct Container {
    /// As it was asked for.
    wanted: protocol::Container,
    ids: Option<protocol::UserNamespace>,
    process: Process,
    launch: Progress,
    cgroups: Cgroups,
    log: Log,
    streams: [Stream; 2],
    terminal: Option<Terminal>,
    farewell: Farewell,
    kill_at_ms: Option<u64>,
    is_killed: bool,
}

/// The terminal of a container that has one.
enum Terminal {
    /// It comes over this socket.
    Awaited(OwnedFd),
    /// It is there, and does not hang up as long as this is open.
    Held { _peer: OwnedFd },
}

/// How far a stop has come.
enum Farewell {
    NotYet,
    /// Its `pre_stop` runs.
    Preparing(Box<Hook>),
    /// It has been asked to end.
    Said,
}

/// How far a launch has come.
enum Progress {
    UnderWay(Box<Launching>),
    /// The process is an OCI runtime's, which is to make the container's own.
    ByRuntime(Box<Launching>),
    /// The process is the container's own, though it may be the runtime's program yet.
    Started(Box<Launching>),
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

impl End {
    /// Whether it did what it was to do.
    pub(crate) fn is_clean(&self) -> bool {
        matches!(self, Self::Exited(Exit::Exited(0)))
    }
}

impl Container {
    /// Clones the first process, or undoes everything.
    pub(crate) fn begin(
        wanted: protocol::Container,
        volumes: &[PodVolume],
        user_namespace: Option<&UserNamespace>,
    ) -> Result<Self, Failure> {
        let name = wanted.name.clone();
        Self::try_to_begin(wanted, volumes, user_namespace).map_err(|failure| failure.of(&name))
    }

    fn try_to_begin(
        wanted: protocol::Container,
        volumes: &[PodVolume],
        user_namespace: Option<&UserNamespace>,
    ) -> Result<Self, Failure> {
        let log = Log::open(&wanted.log)
            .map_err(|error| launch::failure_of(Step::OpenLog, wanted.log.path.as_str(), &error))?;
        let mut cgroups = Cgroups::make(&wanted.cgroups)?;
        let started = launch::start(&wanted, volumes, user_namespace).inspect_err(|_| {
            launch::clean(&wanted.name);
            cgroups.remove();
        })?;
        let process = Process::new(started.pidfd).map_err(|errno| {
            launch::clean(&wanted.name);
            cgroups.remove();
            launch::failure(Step::Clone, &wanted.name, errno)
        })?;
        let (streams, terminal) = match started.output {
            Output::Pipes([stdout, stderr]) => {
                ([Stream::new("stdout", stdout), Stream::new("stderr", stderr)], None)
            }
            Output::Terminal(socket) => {
                ([Stream::none("stdout"), Stream::none("stderr")], Some(Terminal::Awaited(socket)))
            }
        };
        Ok(Self {
            process,
            launch: match wanted.oci {
                Some(_) => Progress::ByRuntime(Box::new(started.launching)),
                None => Progress::UnderWay(Box::new(started.launching)),
            },
            wanted,
            ids: user_namespace.map(UserNamespace::ids),
            cgroups,
            log,
            streams,
            terminal,
            farewell: Farewell::NotYet,
            kill_at_ms: None,
            is_killed: false,
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.wanted.name
    }

    pub(crate) fn role(&self) -> Role {
        self.wanted.role
    }

    pub(crate) fn is_executed(&self) -> bool {
        matches!(self.launch, Progress::Executed)
    }

    /// What a client is told of it.
    pub(crate) fn running(&self) -> protocol::RunningContainer {
        let (name, host_pid) = (self.wanted.name.clone(), self.process.host_pid());
        protocol::RunningContainer { name, role: self.wanted.role, host_pid }
    }

    /// What to wait for: a report, a death, output; and the same of a `pre_stop`.
    pub(crate) fn sources(&self) -> [Option<BorrowedFd<'_>>; SOURCES] {
        let report = match &self.launch {
            Progress::UnderWay(launching) => Some(launching.report()),
            // What a runtime has come to shows at its end.
            Progress::ByRuntime(_) | Progress::Started(_) => None,
            Progress::Executed | Progress::Failed(_) => None,
        };
        let [stdout, stderr] = &self.streams;
        let [a, b, c, d] = match &self.farewell {
            Farewell::Preparing(hook) => hook.sources(),
            Farewell::NotYet | Farewell::Said => [None; 4],
        };
        [report, Some(self.process.pidfd()), stdout.pipe(), stderr.pipe(), a, b, c, d]
    }

    /// Takes what those have to say that are ready. What it complains of, if it
    /// does.
    pub(crate) fn hear(&mut self, ready: &[bool]) -> Option<PreStopFailed> {
        let &[report, _, stdout, stderr, a, b, c, d] = ready else { return None };
        for (stream, is_ready) in self.streams.iter_mut().zip([stdout, stderr]) {
            if is_ready {
                stream.pump(&mut self.log);
            }
        }
        if report {
            self.take_report();
        }
        self.look();
        let Farewell::Preparing(hook) = &mut self.farewell else { return None };
        let end = hook.hear([a, b, c, d], &mut self.log)?;
        // Before it is asked, which may be in vain and a kill.
        let complaint = self.complaint(end.err());
        self.ask();
        complaint
    }

    fn complaint(&self, message: Option<String>) -> Option<PreStopFailed> {
        // One that is killed cannot help it.
        let message = message.filter(|_| !self.is_killed)?;
        Some(PreStopFailed { container: self.wanted.name.clone(), message })
    }

    /// Learns whether a workload has been exec'd of which nobody tells.
    fn look(&mut self) {
        if matches!(self.launch, Progress::Started(_)) && self.process.has_executed() {
            self.launch = Progress::Executed;
        }
    }

    /// Learns whether the workload has been exec'd.
    fn take_report(&mut self) {
        let Progress::UnderWay(launching) = &self.launch else { return };
        match launching.read_report() {
            Report::Pending => {}
            Report::Failed(failure) => self.fail(failure),
            Report::Executed => {
                self.launch = Progress::Executed;
                if let Err(failure) = self.take_terminal() {
                    self.fail(failure);
                }
            }
        }
    }

    /// Its death is what is waited for, and it may not end by itself.
    fn fail(&mut self, failure: Failure) {
        self.launch = Progress::Failed(failure.of(&self.wanted.name));
        self.process.kill();
    }

    /// The terminal is sent before exec. One that was killed before has none.
    fn take_terminal(&mut self) -> Result<(), Failure> {
        let Some(Terminal::Awaited(socket)) = &self.terminal else { return Ok(()) };
        match launch::receive_terminal(socket) {
            Ok((terminal, peer)) => {
                self.streams[0] = Stream::new("stdout", terminal);
                self.terminal = Some(Terminal::Held { _peer: peer });
                Ok(())
            }
            Err(Errno::AGAIN | Errno::BADF) => Ok(()),
            Err(errno) => Err(launch::failure(Step::SetUpTerminal, "/dev/console", errno)),
        }
    }

    /// Reaps the first process, with which everything in the container is dead.
    /// Says how it ended, if it has.
    pub(crate) fn bury(&mut self, ready: &[bool]) -> Option<End> {
        let [_, true, ..] = ready else { return None };
        self.look();
        // An error cannot be: the pidfd is ours, and nobody else reaps.
        let exit = self.process.reap().ok().flatten()?;
        let end = match std::mem::replace(&mut self.launch, Progress::Executed) {
            Progress::Failed(failure) => End::Failed(failure),
            Progress::ByRuntime(launching) => self.take_over(launching, exit)?,
            Progress::Started(launching) if !self.is_killed => {
                End::Failed(launching.not_executed().of(&self.wanted.name))
            }
            Progress::UnderWay(_) | Progress::Started(_) | Progress::Executed => {
                End::Exited(self.cause(exit))
            }
        };
        for stream in &mut self.streams {
            stream.finish(&mut self.log);
        }
        Some(end)
    }

    /// Goes on with the process that an OCI runtime has made before it ended.
    fn take_over(&mut self, launching: Box<Launching>, exit: Exit) -> Option<End> {
        let process = launching.of_runtime(&self.wanted.name, exit).and_then(|pidfd| {
            let failed = |errno| launch::failure(Step::RunOciRuntime, &self.wanted.name, errno);
            Process::new(pidfd).map_err(failed)
        });
        match process {
            Ok(process) => {
                self.process = process;
                self.launch = Progress::Started(launching);
                self.look();
                if self.is_killed {
                    // The kill was of what has made it.
                    self.kill();
                }
                None
            }
            Err(_) if self.is_killed => Some(End::Exited(KILLED)),
            Err(failure) => {
                // Whatever it has left behind.
                self.cgroups.kill();
                Some(End::Failed(failure.of(&self.wanted.name)))
            }
        }
    }

    /// The cgroups, for whoever removes them.
    pub(crate) fn take_cgroups(&mut self) -> Cgroups {
        std::mem::take(&mut self.cgroups)
    }

    /// A kill of ours is told apart from the kernel's own.
    fn cause(&self, exit: Exit) -> Exit {
        // An init tells of its workload's end by a code.
        let is_kill = exit == KILLED || self.wanted.init && exit == KILLED_BELOW_INIT;
        let is_ooms = is_kill && !self.is_killed && self.cgroups.had_oom_kill();
        if is_ooms { Exit::OutOfMemory } else { exit }
    }

    /// Asks it to end, after its `pre_stop`, where it can be asked. What it
    /// complains of, if it does.
    pub(crate) fn stop(&mut self, asked_at_ms: u64) -> Option<PreStopFailed> {
        if !self.is_executed() {
            self.kill();
            return None;
        }
        let kill_at_ms = asked_at_ms.saturating_add(self.wanted.stop.grace_ms);
        self.kill_at_ms = Some(self.kill_at_ms.map_or(kill_at_ms, |at| at.min(kill_at_ms)));
        match self.farewell {
            // Many take a second signal for an order to hurry.
            Farewell::Preparing(_) | Farewell::Said => None,
            Farewell::NotYet if !self.wanted.stop.pre_stop.is_empty() => self.prepare(),
            Farewell::NotYet => {
                self.ask();
                None
            }
        }
    }

    fn prepare(&mut self) -> Option<PreStopFailed> {
        match Hook::begin(&self.wanted, &self.process, self.ids) {
            Ok(hook) => {
                self.farewell = Farewell::Preparing(Box::new(hook));
                None
            }
            Err(failure) => {
                let complaint = self.complaint(Some(failure.message));
                self.ask();
                complaint
            }
        }
    }

    fn ask(&mut self) {
        self.farewell = Farewell::Said;
        let signal = self.wanted.stop.signal;
        // An init of ours hears everything, and hands it on.
        let is_heard =
            if self.wanted.init { self.process.send(signal) } else { self.process.ask(signal) };
        if !is_heard {
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
        self.wanted.stop.grace_ms
    }

    /// When there is something to do that nothing tells of.
    pub(crate) fn deadline_ms(&self, now_ms: u64) -> Option<u64> {
        let look_at_ms = match self.launch {
            Progress::Started(_) => Some(now_ms + LOOK_AGAIN_MS),
            _ => None,
        };
        self.kill_at_ms.into_iter().chain(look_at_ms).min()
    }

    pub(crate) fn kill_if_due(&mut self, now_ms: u64) {
        if self.kill_at_ms.is_some_and(|at_ms| at_ms <= now_ms) {
            self.kill();
        }
    }

    /// Changes what can be changed while it lives.
    pub(crate) fn adjust(&mut self, adjustment: &Adjustment) -> Result<(), Failure> {
        self.wanted.stop = adjustment.stop.clone();
        let cgroups = adjustment.cgroups.iter().map(|cgroup| (&*cgroup.path, &*cgroup.files));
        self.cgroups.limit(cgroups).map_err(|failure| failure.of(&self.wanted.name))
    }
}
