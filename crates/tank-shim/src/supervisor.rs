//! A pod's life: a state, a poll loop, a deadline. Holds no policy: it does what
//! it is told, and tells how it ended. What goes on among the containers is
//! [`crate::pod`]'s affair.
//!
//! | state \\ input | launch | adjust | stop | kill | advance | last one dead | deadline |
//! |---|---|---|---|---|---|---|---|
//! | idle | live, or failed | - | - | - | - | - | - |
//! | live, launching | - | adjusts | asks, or kills | kills | launches more; launched | removing | stops, kills |
//! | live, launched | - | adjusts | asks, or kills | kills | stops more | removing | stops, kills |
//! | removing | - | - | - | - | - | - | tries again; done |
//!
//! Failed and done end the loop. A connection may come and go in every state;
//! only an idle shim ends with it. Whether a pod may go on alone, and for how long,
//! the last one has said: that time is one of its deadlines, from the connection's
//! end until another connects.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use tank_shim::protocol::{
    Adjust, Failure, FromShim, Hello, Launch, Launched, OnHangup, PROTOCOL, PROTOCOL_MIN, RunUntil,
    State, Stopping, ToShim,
};
use tank_shim::record;

use crate::begin::Inherited;
use crate::cgroup::Cgroups;
use crate::control::Control;
use crate::deadline::{Deadline, boot_clock_ms};
use crate::launch;
use crate::pod::{End, Pod};
use crate::pod_volumes;
use crate::process;

/// How often removal is tried, the pause doubling from 1 ms: 4 s in all.
const REMOVAL_TRIES: u32 = 12;

/// The supervisor of a pod.
pub(crate) struct Supervisor {
    control: Control,
    deadline: Deadline,
    namespaces: Result<(), Failure>,
    run_until: Option<RunUntil>,
    on_hangup: Option<OnHangup>,
    /// How long the pod goes on with nobody connected.
    alone_until_ms: Option<u64>,
    stage: Stage,
}

/// Where a pod is in its life.
enum Stage {
    Idle,
    Live(Box<Pod>),
    Removing(Box<Removal>),
    Over,
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
    /// The pod's sources.
    pod: Vec<bool>,
}

impl Supervisor {
    /// An idle supervisor.
    pub(crate) fn new(inherited: Inherited) -> Result<Self, Errno> {
        let control = Control::new(inherited.control)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        Ok(Self {
            control,
            deadline: Deadline::new()?,
            namespaces: inherited.namespaces,
            run_until: None,
            on_hangup: None,
            alone_until_ms: None,
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
        if matches!(self.stage, Stage::Idle) {
            // What a shim has left that was killed, root of this user namespace can
            // remove, and whoever has started this one perhaps cannot.
            clean_run_dir();
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
        let own =
            [Some(self.deadline.as_fd()), Some(self.control.listener()), self.control.connection()];
        let pods = self.stage.pod().into_iter().flat_map(Pod::sources);
        let mut ready = poll(own.into_iter().chain(pods).collect())?;
        let pod = ready.split_off(own.len());
        Ok(Ready { listener: ready[1], connection: ready[2], pod })
    }

    /// The order matters: a report is read, and told, before the death that may
    /// follow it, and both before orders that may concern them.
    fn handle(&mut self, ready: &Ready) {
        if let Stage::Live(pod) = &mut self.stage {
            pod.hear(&ready.pod);
        }
        self.advance();
        if let Stage::Live(pod) = &mut self.stage {
            pod.bury(&ready.pod, boot_clock_ms());
        }
        // A pod between two containers is in no state to be stopped.
        self.advance();
        if ready.connection {
            self.listen();
        }
        // A connection is heard out before another takes its place.
        let is_heard_out = !ready.connection || self.control.connection().is_none();
        if ready.listener && is_heard_out && self.control.accept() {
            self.alone_until_ms = None;
            self.greet();
        }
        self.meet_deadlines(boot_clock_ms());
        self.advance();
        self.finish();
    }

    /// Does what it is told, the last words of a connection that ends among it.
    fn listen(&mut self) {
        for message in self.control.receive() {
            self.obey(message);
        }
        if self.control.connection().is_none() {
            let until = |policy: OnHangup| boot_clock_ms().saturating_add(policy.stop_after_ms);
            self.alone_until_ms = self.on_hangup.map(until);
        }
    }

    fn obey(&mut self, message: ToShim) {
        match (message, &mut self.stage) {
            (ToShim::Launch(launch), Stage::Idle) => self.launch(*launch),
            (ToShim::RunUntil(run_until), _) => self.run_until = run_until,
            (ToShim::OnHangup(on_hangup), _) => self.on_hangup = on_hangup,
            (ToShim::Stop(stop), Stage::Live(pod)) => {
                // Before it, which may have to wait for a container's cgroup.
                let dead_by_ms = pod.dead_by_ms(stop.asked_at_ms);
                self.control.send(&FromShim::Stopping(Stopping { dead_by_ms }));
                pod.ask_stop(stop.asked_at_ms);
            }
            (ToShim::Kill, Stage::Live(pod)) => pod.kill(),
            (ToShim::Adjust(adjust), Stage::Live(_)) => self.adjust(&adjust),
            // Of a pod that is over, its end is the answer.
            (ToShim::Launch(_) | ToShim::Stop(_) | ToShim::Kill | ToShim::Adjust(_), _) => {}
        }
    }

    fn greet(&mut self) {
        let pid = process::own_host_pid();
        let (protocol, protocol_min) = (PROTOCOL, Some(PROTOCOL_MIN));
        let hello = Hello { protocol, protocol_min, pid, state: self.stage.state() };
        self.control.send(&FromShim::Hello(hello));
    }

    fn launch(&mut self, launch: Launch) {
        match self.namespaces.clone().and_then(|()| Pod::begin(launch)) {
            Ok(pod) => {
                self.stage = Stage::Live(Box::new(pod));
                self.advance();
            }
            Err(failure) => {
                clean_run_dir();
                self.control.send(&FromShim::Failed(failure));
                self.stage = Stage::Over;
            }
        }
    }

    fn adjust(&mut self, adjust: &Adjust) {
        if let Stage::Live(pod) = &mut self.stage {
            let failure = pod.adjust(adjust).err();
            self.control.send(&FromShim::Adjusted(failure));
        }
    }

    /// Lets the pod go on, and says so when it has come to be or is over.
    fn advance(&mut self) {
        let Stage::Live(pod) = &mut self.stage else { return };
        if let Some(at_ms) = pod.advance(boot_clock_ms()) {
            let containers = pod.running();
            self.control.send(&FromShim::Launched(Launched { at_ms, containers }));
            pod.settle();
        }
        for complaint in pod.take_complaints() {
            self.control.send(&FromShim::PreStopFailed(complaint));
        }
        if pod.is_over() {
            let Stage::Live(pod) = std::mem::replace(&mut self.stage, Stage::Over) else {
                unreachable!("it has just been live");
            };
            self.stage = Stage::Removing(Box::new(Removal::begin(*pod)));
        }
    }

    fn next_deadline_ms(&self) -> Option<u64> {
        match &self.stage {
            Stage::Live(pod) => {
                let run_until = self.run_until.map(|run_until| run_until.at_ms);
                let own = pod.deadline_ms(boot_clock_ms());
                own.into_iter().chain(run_until).chain(self.alone_until_ms).min()
            }
            Stage::Removing(removal) => removal.again_at_ms,
            Stage::Idle | Stage::Over => None,
        }
    }

    fn meet_deadlines(&mut self, now_ms: u64) {
        match &mut self.stage {
            Stage::Removing(removal) => removal.advance(now_ms),
            Stage::Live(pod) => {
                let told = self.run_until.take_if(|run_until| run_until.at_ms <= now_ms);
                let alone = self.alone_until_ms.take_if(|until_ms| *until_ms <= now_ms);
                for asked_at_ms in told.map(|told| told.at_ms).into_iter().chain(alone) {
                    pod.ask_stop(asked_at_ms);
                }
                pod.kill_if_due(now_ms);
            }
            Stage::Idle | Stage::Over => {}
        }
    }

    /// Says the last words, once nothing is left to remove. What could not be
    /// recorded waits for somebody to hear it.
    fn finish(&mut self) {
        let Stage::Removing(removal) = &self.stage else { return };
        if removal.again_at_ms.is_some() {
            return;
        }
        let is_heard = self.control.send(&removal.last_words);
        // Of a failure that nobody hears, whoever comes next reads.
        if !is_heard && matches!(removal.last_words, FromShim::Failed(_)) {
            let _ = removal.write_record();
        }
        if is_heard || removal.is_recorded {
            self.stage = Stage::Over;
        }
    }
}

impl Stage {
    fn pod(&self) -> Option<&Pod> {
        match self {
            Self::Live(pod) => Some(pod),
            Self::Idle | Self::Removing(_) | Self::Over => None,
        }
    }

    fn state(&self) -> State {
        match self {
            Self::Idle | Self::Over => State::Idle,
            Self::Live(pod) => pod.state(),
            Self::Removing(removal) => removal.state.clone(),
        }
    }
}

impl Removal {
    /// Of a pod whose output is in the files. Its record is written from here on.
    fn begin(pod: Pod) -> Self {
        let state = pod.state();
        let (end, cgroups) = pod.into_remains();
        let (state, last_words) = match end {
            End::Failed(failure) => (state, FromShim::Failed(failure)),
            End::Exited(record) => (State::Exited(record.clone()), FromShim::Exited(record)),
        };
        let mut removal = Self {
            state,
            last_words,
            is_recorded: false,
            cgroups,
            tries_left: REMOVAL_TRIES,
            again_at_ms: Some(0),
        };
        removal.record();
        clean_run_dir();
        removal
    }

    fn record(&mut self) {
        self.is_recorded = match &self.last_words {
            FromShim::Exited(_) => self.write_record().is_ok(),
            // A run that never was leaves no record, if only somebody hears of it.
            _ => true,
        };
    }

    fn write_record(&self) -> io::Result<()> {
        record::write(Path::new("."), &self.last_words)
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

/// Removes what a pod has in the run directory but its record.
fn clean_run_dir() {
    launch::clean_all();
    pod_volumes::clean();
}

/// Polls those that there are; says which have something.
fn poll(sources: Vec<Option<BorrowedFd<'_>>>) -> Result<Vec<bool>, Errno> {
    let mut fds: Vec<PollFd<'_>> =
        sources.iter().flatten().map(|&fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
    match rustix::event::poll(&mut fds, None) {
        // Without memory for it, there is another try: what lives is not to die of it.
        Ok(_) | Err(Errno::INTR | Errno::AGAIN | Errno::NOMEM) => {}
        Err(errno) => return Err(errno),
    }
    let mut results = fds.iter();
    let is_ready = |source: Option<BorrowedFd<'_>>| {
        source.and_then(|_| results.next()).is_some_and(|result| !result.revents().is_empty())
    };
    Ok(sources.into_iter().map(is_ready).collect())
}
