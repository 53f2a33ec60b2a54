//! One pod's life: a state, a poll loop, a deadline. Holds no policy: it does
//! what it is told, and tells how it ended.
//!
//! | state \ input | launch | limit | stop | kill | report | dead | deadline |
//! |---|---|---|---|---|---|---|---|
//! | idle | launching, or failed | - | - | - | - | - | - |
//! | launching | - | limits | kills | kills | running, or failed | removing | kills |
//! | running | - | limits | asks, or kills | kills | - | removing | stops, kills |
//! | removing | - | - | - | - | - | - | tries again; done |
//!
//! Failed and done end the loop. A connection may come and go in every state;
//! only an idle shim ends with it.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use tank_shim::protocol::{
    Cgroup, Exit, ExitRecord, Failure, FromShim, Hello, Launch, Launched, LaunchingRun, PROTOCOL,
    RunUntil, RunningRun, State, Step, Stop, ToShim,
};
use tank_shim::record;

use crate::begin::Inherited;
use crate::cgroup::{Cgroups, Move};
use crate::control::Control;
use crate::deadline::{Deadline, boot_clock_ms};
use crate::launch::{self, Launching, Report};
use crate::log::{Log, Stream};
use crate::process::{self, FirstProcess};

/// How often removal is tried, the pause doubling from 1 ms: 4 s in all.
const REMOVAL_TRIES: u32 = 12;

/// How whatever was killed ends.
const KILLED: Exit = Exit::Signaled(libc::SIGKILL);

/// The supervisor of a pod.
pub(crate) struct Supervisor {
    control: Control,
    deadline: Deadline,
    pid_namespace: Result<(), Errno>,
    run_until: Option<RunUntil>,
    stage: Stage,
}

/// Where a pod is in its life.
enum Stage {
    Idle,
    Launching(Box<Run>),
    Running(Box<Run>),
    Removing(Box<Removal>),
    Over,
}

/// A pod with a first process.
struct Run {
    pod: String,
    incarnation: u64,
    process: FirstProcess,
    launching: Launching,
    failure: Option<Failure>,
    cgroups: Cgroups,
    shim_move: Option<Move>,
    log: Log,
    streams: [Stream; 2],
    kill_at_ms: Option<u64>,
    is_killed: bool,
}

/// A pod whose processes are dead: what is left to remove, then to say.
struct Removal {
    state: State,
    last_words: FromShim,
    is_recorded: bool,
    cgroups: Cgroups,
    tries_left: u32,
    again_at_ms: Option<u64>,
}

/// What there is to do after a wait.
struct Ready {
    listener: bool,
    connection: bool,
    report: bool,
    dead: bool,
    streams: [bool; 2],
}

impl Supervisor {
    /// An idle supervisor.
    pub(crate) fn new(inherited: Inherited) -> Result<Self, Errno> {
        let control = Control::new(inherited.control)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        Ok(Self {
            control,
            deadline: Deadline::new()?,
            pid_namespace: inherited.pid_namespace,
            run_until: None,
            stage: Stage::Idle,
        })
    }

    /// Serves until the pod's life is over.
    pub(crate) fn run(mut self) -> Result<(), Errno> {
        self.greet();
        while !self.is_over() {
            self.deadline.set(self.next_deadline_ms())?;
            let ready = self.wait()?;
            self.handle(&ready);
        }
        self.control.forget_socket();
        // Before the connection ends: whoever sees its end may begin anew.
        rustix::fs::flock(rustix::stdio::stdout(), FlockOperation::Unlock)
    }

    fn is_over(&self) -> bool {
        match self.stage {
            Stage::Over => true,
            Stage::Idle => self.control.connection().is_none(),
            _ => false,
        }
    }

    /// Waits for whatever comes first.
    fn wait(&self) -> Result<Ready, Errno> {
        let run = self.stage.run();
        let report = match &self.stage {
            Stage::Launching(run) if run.failure.is_none() => Some(run.launching.report()),
            _ => None,
        };
        let stream = |index: usize| run.and_then(|run| run.streams[index].pipe());
        let [_, listener, connection, report, dead, stdout, stderr] = poll([
            Some(self.deadline.as_fd()),
            Some(self.control.listener()),
            self.control.connection(),
            report,
            run.map(|run| run.process.pidfd()),
            stream(0),
            stream(1),
        ])?;
        Ok(Ready { listener, connection, report, dead, streams: [stdout, stderr] })
    }

    /// The order matters: a report is read before the death that may follow it,
    /// and both before orders that may concern them.
    fn handle(&mut self, ready: &Ready) {
        self.stage.pump(ready.streams);
        if ready.report {
            self.take_report();
        }
        if ready.dead {
            self.bury();
        }
        if ready.connection {
            for message in self.control.receive() {
                self.obey(message);
            }
        }
        if ready.listener && self.control.accept() {
            self.greet();
        }
        self.meet_deadlines(boot_clock_ms());
        self.finish();
    }

    fn obey(&mut self, message: ToShim) {
        match message {
            ToShim::Launch(launch) => self.launch(&launch),
            ToShim::Stop(stop) => self.stage.stop(stop),
            ToShim::Kill => self.stage.kill(),
            ToShim::Limit(cgroups) => self.limit(&cgroups),
            ToShim::RunUntil(run_until) => self.run_until = run_until,
        }
    }

    fn greet(&mut self) {
        let pid = process::own_host_pid();
        let hello = Hello { protocol: PROTOCOL, pid, state: self.stage.state() };
        self.control.send(&FromShim::Hello(hello));
    }

    fn launch(&mut self, launch: &Launch) {
        if !matches!(self.stage, Stage::Idle) {
            return;
        }
        let run = self
            .pid_namespace
            .map_err(|errno| launch::failure(Step::EnterPidNamespace, "of its own", errno))
            .and_then(|()| Run::begin(launch));
        match run {
            Ok(run) => self.stage = Stage::Launching(Box::new(run)),
            Err(failure) => {
                self.control.send(&FromShim::Failed(failure));
                self.stage = Stage::Over;
            }
        }
    }

    /// Of a pod that is over, its end is the answer.
    fn limit(&mut self, cgroups: &[Cgroup]) {
        if let Some(run) = self.stage.run() {
            let failure = run.cgroups.limit(cgroups).err();
            self.control.send(&FromShim::Limited(failure));
        }
    }

    /// Learns whether the workload has been exec'd.
    fn take_report(&mut self) {
        let Stage::Launching(mut run) = std::mem::replace(&mut self.stage, Stage::Over) else {
            unreachable!("only a launching pod's report is waited for");
        };
        match run.launching.read_report() {
            Report::Pending => self.stage = Stage::Launching(run),
            Report::Failed(failure) => {
                // The child ends by itself; its death is what is waited for.
                run.failure = Some(failure);
                self.stage = Stage::Launching(run);
            }
            Report::Executed => {
                let host_pid = run.process.host_pid();
                self.control.send(&FromShim::Launched(Launched { host_pid }));
                if let Some(shim_move) = run.shim_move.take() {
                    shim_move.finish();
                }
                self.stage = Stage::Running(run);
            }
        }
    }

    /// Reaps the first process, with which everything in the pod is dead.
    fn bury(&mut self) {
        let Some(run) = self.stage.run() else { return };
        // An error cannot be: the pidfd is ours, and nobody else reaps.
        let Ok(Some(exit)) = run.process.reap() else { return };
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Launching(run) | Stage::Running(run) => {
                self.stage = Stage::Removing(Box::new(run.end(exit)));
            }
            Stage::Idle | Stage::Removing(_) | Stage::Over => unreachable!("they have no run"),
        }
    }

    fn next_deadline_ms(&self) -> Option<u64> {
        match &self.stage {
            Stage::Launching(run) | Stage::Running(run) => {
                let run_until = self.run_until.map(|run_until| run_until.at_ms);
                run.kill_at_ms.into_iter().chain(run_until).min()
            }
            Stage::Removing(removal) => removal.again_at_ms,
            Stage::Idle | Stage::Over => None,
        }
    }

    fn meet_deadlines(&mut self, now_ms: u64) {
        if let Stage::Removing(removal) = &mut self.stage {
            removal.advance(now_ms);
        }
        let due = self.run_until.filter(|run_until| run_until.at_ms <= now_ms);
        if let (Some(RunUntil { signal, kill_at_ms, .. }), Some(_)) = (due, self.stage.run()) {
            self.run_until = None;
            self.stage.stop(Stop { signal, kill_at_ms });
        }
        self.stage.kill_if_due(now_ms);
    }

    /// Says the last words, once nothing is left to remove. What could not be
    /// recorded waits for somebody to hear it.
    fn finish(&mut self) {
        let Stage::Removing(removal) = &self.stage else { return };
        if removal.again_at_ms.is_some() {
            return;
        }
        let is_heard = self.control.send(&removal.last_words);
        if is_heard || removal.is_recorded {
            self.stage = Stage::Over;
        }
    }
}

impl Stage {
    fn run(&self) -> Option<&Run> {
        match self {
            Self::Launching(run) | Self::Running(run) => Some(run),
            Self::Idle | Self::Removing(_) | Self::Over => None,
        }
    }

    fn run_mut(&mut self) -> Option<&mut Run> {
        match self {
            Self::Launching(run) | Self::Running(run) => Some(run),
            Self::Idle | Self::Removing(_) | Self::Over => None,
        }
    }

    fn state(&self) -> State {
        match self {
            Self::Idle | Self::Over => State::Idle,
            Self::Launching(run) => State::Launching(run.launching_state()),
            Self::Running(run) => State::Running(RunningRun {
                pod: run.pod.clone(),
                incarnation: run.incarnation,
                host_pid: run.process.host_pid(),
            }),
            Self::Removing(removal) => removal.state.clone(),
        }
    }

    fn pump(&mut self, ready: [bool; 2]) {
        let Some(run) = self.run_mut() else { return };
        for (stream, is_ready) in run.streams.iter_mut().zip(ready) {
            if is_ready {
                stream.pump(&mut run.log);
            }
        }
    }

    /// Asks the workload to end, where it can be asked.
    fn stop(&mut self, stop: Stop) {
        let is_running = matches!(self, Self::Running(_));
        let Some(run) = self.run_mut() else { return };
        if is_running && run.process.ask(stop.signal) {
            let earlier = run.kill_at_ms.unwrap_or(u64::MAX);
            run.kill_at_ms = Some(stop.kill_at_ms.min(earlier));
        } else {
            run.kill();
        }
    }

    fn kill(&mut self) {
        if let Some(run) = self.run_mut() {
            run.kill();
        }
    }

    fn kill_if_due(&mut self, now_ms: u64) {
        if let Some(run) = self.run_mut()
            && run.kill_at_ms.is_some_and(|at_ms| at_ms <= now_ms)
        {
            run.kill();
        }
    }
}

impl Run {
    /// Clones the first process, or undoes everything.
    fn begin(launch: &Launch) -> Result<Self, Failure> {
        let container = &launch.container;
        let shim_move = Move::begin(&launch.shim_cgroups)?;
        let log = Log::open(&container.log).map_err(|error| {
            launch::failure_of(Step::OpenLog, container.log.path.as_str(), &error)
        })?;
        let mut cgroups = Cgroups::make(&container.cgroups)?;
        let started = launch::start(launch).inspect_err(|_| {
            launch::clean();
            cgroups.remove();
        })?;
        let [stdout, stderr] = started.output;
        Ok(Self {
            pod: launch.pod.clone(),
            incarnation: launch.incarnation,
            process: FirstProcess::new(started.pidfd),
            launching: started.launching,
            failure: None,
            cgroups,
            shim_move: Some(shim_move),
            log,
            streams: [Stream::new("stdout", stdout), Stream::new("stderr", stderr)],
            kill_at_ms: None,
            is_killed: false,
        })
    }

    fn launching_state(&self) -> LaunchingRun {
        LaunchingRun { pod: self.pod.clone(), incarnation: self.incarnation }
    }

    fn kill(&mut self) {
        self.kill_at_ms = None;
        self.is_killed = true;
        self.process.kill();
        self.cgroups.kill();
    }

    /// A kill of ours is told apart from the kernel's own.
    fn cause(&self, exit: Exit) -> Exit {
        let is_ooms = exit == KILLED && !self.is_killed && self.cgroups.had_oom_kill();
        if is_ooms { Exit::OutOfMemory } else { exit }
    }

    /// What is left of a run whose first process has been reaped. Its output is
    /// in the file and its record is written from here on.
    fn end(mut self, exit: Exit) -> Removal {
        for stream in &mut self.streams {
            stream.finish(&mut self.log);
        }
        let launching_state = self.launching_state();
        let (state, last_words) = match self.failure {
            Some(failure) => (State::Launching(launching_state), FromShim::Failed(failure)),
            None => {
                let exit = self.cause(exit);
                let (pod, incarnation) = (self.pod, self.incarnation);
                let record = ExitRecord { pod, incarnation, exit, ended_at_ms: unix_time_ms() };
                (State::Exited(record.clone()), FromShim::Exited(record))
            }
        };
        let mut removal = Removal {
            state,
            last_words,
            is_recorded: false,
            cgroups: self.cgroups,
            tries_left: REMOVAL_TRIES,
            again_at_ms: Some(0),
        };
        removal.record();
        launch::clean();
        removal
    }
}

impl Removal {
    fn record(&mut self) {
        self.is_recorded = match &self.last_words {
            FromShim::Exited(exit) => record::write(Path::new("."), exit).is_ok(),
            // A run that never was leaves no record.
            _ => true,
        };
    }

    /// Tries to remove what is left, unless it is too early to try again.
    fn advance(&mut self, now_ms: u64) {
        if self.again_at_ms.is_none_or(|at_ms| at_ms > now_ms) {
            return;
        }
        if !self.is_recorded {
            self.record();
        }
        let is_removed = self.cgroups.remove();
        if (is_removed && self.is_recorded) || self.tries_left == 0 {
            // What cannot be removed by now is swept by the daemon.
            self.again_at_ms = None;
            return;
        }
        self.cgroups.kill();
        self.again_at_ms = Some(now_ms + (1 << (REMOVAL_TRIES - self.tries_left)));
        self.tries_left -= 1;
    }
}

/// Polls those that there are; says which have something.
fn poll<const N: usize>(sources: [Option<BorrowedFd<'_>>; N]) -> Result<[bool; N], Errno> {
    let mut fds: Vec<PollFd<'_>> =
        sources.iter().flatten().map(|&fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
    match rustix::event::poll(&mut fds, None) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(errno) => return Err(errno),
    }
    let mut results = fds.iter();
    Ok(sources.map(|source| {
        source.and_then(|_| results.next()).is_some_and(|result| !result.revents().is_empty())
    }))
}

fn unix_time_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
