//! The simulated world: clients, a store, workloads and a daemon in virtual
//! time, all of them unreliable while faults are on. It keeps the promises that
//! the core relies on (each action finishes exactly once, writes in order,
//! observations not before their command) and no other.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::rc::Rc;
use std::sync::Arc;

use tank::core::action::{Action, Command, Notice, Reply, Response, Write};
use tank::core::event::{
    ActionId, EndCause, Ended, Event, Incarnation, Observation, ObservedRun, Origin, Outcome,
    Request, Revision, StartError, Started, Ticket,
};
use tank::core::failure::{Code, Failure};
use tank::core::reconciler::{Config, Reconciler};
use tank::core::spec::{Name, PodSpec, RestartPolicy};
use tank::core::status::{Exit, Goal, PodStatus, Status};
use tank::core::time::Millis;
use tank::core::trail::Trail;

use super::judge::{Judge, Truth};
use super::random::Random;
use super::runs::Runs;
use crate::store::Store;
use crate::{fixtures, text};

/// What has happened, for a person to read. Shared, so that it outlives a panic.
pub(crate) type Log = Rc<RefCell<String>>;

/// How long everything goes wrong.
const TROUBLE_MS: u64 = 60_000;
/// Nothing is ever later than this.
const DELAY_MS_MAX: u64 = 30_000;
/// More steps than this at one instant mean that time stands still.
const STEPS_AT_ONCE_MAX: u32 = 10_000;
/// Runs that no core started have numbers below the first.
const STRAYS_MAX: u64 = 1_000;

/// Something that will happen.
#[derive(Debug, Clone)]
enum Happening {
    /// The core of this life is told something.
    Tell(u32, Event),
    /// An action of the core of this life has its effect.
    Effect(u32, ActionId),
    /// A workload ends.
    Crash(Incarnation),
    /// A client asks for something.
    Ask,
    /// Somebody other than the core does something.
    Meddle,
}

/// What becomes of an action in flight.
#[derive(Debug)]
struct Flight {
    action: Action,
    is_cancelled: bool,
}

pub(crate) struct World {
    random: Random,
    config: Config,
    core: Reconciler,
    /// Hears what the core hears, but is never asked what an apply would come to.
    twin: Reconciler,
    judge: Judge,
    /// How often the program has been started.
    life: u32,
    now: u64,
    is_troubled: bool,
    queue: BTreeMap<(u64, u64), Happening>,
    sequence: u64,
    steps_at_once: u32,
    flights: BTreeMap<ActionId, Flight>,
    last_commit: u64,
    store: Store,
    runs: Runs,
    names: Vec<Name>,
    next_ticket: u64,
    next_stray: u64,
    /// Live runs of an earlier program that this one has not taken over.
    untaken: BTreeSet<Incarnation>,
    /// What all cores so far have taken.
    trail: Trail,
    log: Log,
}

impl World {
    pub(crate) fn new(seed: u64, log: Log) -> Self {
        let mut random = Random::new(seed);
        let config = Config {
            interval_ms: *random.pick(&[1_000, 5_000]),
            debounce_ms: 100,
            backoff_base_ms: *random.pick(&[1, 100, 1_000, 10_000]),
            backoff_cap_ms: *random.pick(&[50, 4_000, 20_000]),
            stable_window_ms: *random.pick(&[2_000, 10_000, 600_000]),
            first_incarnation: STRAYS_MAX,
            actuate: true,
            adjust: random.percent(80),
        };
        let names = ["a", "b", "c", "d", "e"];
        let count = usize::try_from(random.between(1, 5)).expect("few pods");
        let mut world = Self {
            random,
            config,
            core: Reconciler::new(config, Millis(0)),
            twin: Reconciler::new(config, Millis(0)),
            judge: Judge::new(config),
            life: 1,
            now: 0,
            is_troubled: true,
            queue: BTreeMap::new(),
            sequence: 0,
            steps_at_once: 0,
            flights: BTreeMap::new(),
            last_commit: 0,
            store: Store::default(),
            runs: Runs::default(),
            names: names[..count].iter().copied().map(fixtures::name).collect(),
            next_ticket: 1,
            next_stray: 1,
            untaken: BTreeSet::new(),
            trail: Trail::default(),
            log,
        };
        world.say(&format!("{config:?}, {count} pods"));
        world.meet_core();
        world.later(0, Happening::Ask);
        world.later(0, Happening::Meddle);
        world
    }

    /// Trouble, then peace, and in the end what is must be what should be.
    /// Which transitions that took.
    pub(crate) fn run(&mut self) -> Trail {
        self.run_until(TROUBLE_MS);
        self.calm_down();
        let rest = DELAY_MS_MAX + self.config.backoff_cap_ms + 4 * self.config.interval_ms;
        if self.random.percent(10) {
            let stop_pods = self.random.percent(50);
            self.request(Request::Shutdown { stop_pods });
            self.run_until(self.now + rest + 10_000);
            self.judge_shutdown();
        } else {
            self.run_until(self.now + rest + 10_000);
            self.judge_settled();
        }
        self.trail.merge(self.core.trail());
        std::mem::take(&mut self.trail)
    }

    fn run_until(&mut self, end: u64) {
        loop {
            let next = self.queue.first_key_value().map(|((at, _), _)| *at);
            let deadline = self.core.poll_deadline().map(|at| at.0.max(self.now));
            let is_wake = deadline.is_some_and(|at| next.is_none_or(|next| at <= next));
            let is_late = is_wake && next.is_some() && self.is_troubled && self.random.percent(10);
            let at = if is_wake && !is_late { deadline } else { next };
            let Some(at) = at.filter(|at| *at <= end) else { break };
            self.pass_time(at);
            if is_wake && !is_late {
                self.tell(Event::Woke);
            } else if let Some((_, happening)) = self.queue.pop_first() {
                self.happen(happening);
            }
        }
        self.now = self.now.max(end);
    }

    fn pass_time(&mut self, at: u64) {
        // After the clock has jumped much is late.
        let at = at.max(self.now);
        self.steps_at_once = if at == self.now { self.steps_at_once + 1 } else { 0 };
        assert!(self.steps_at_once < STEPS_AT_ONCE_MAX, "time stands still");
        self.now = at;
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Tell(life, event) if life == self.life => {
                self.tell(event);
                if self.troubled(1) {
                    self.restart_program();
                }
            }
            Happening::Effect(life, id) if life == self.life => self.take_effect(id),
            Happening::Tell(..) | Happening::Effect(..) => {}
            Happening::Crash(incarnation) => self.crash(incarnation),
            Happening::Ask => self.ask(),
            Happening::Meddle => self.meddle(),
        }
    }

    fn later(&mut self, delay_ms: u64, happening: Happening) {
        self.sequence += 1;
        self.queue.insert((self.now + delay_ms, self.sequence), happening);
    }

    fn tell_later(&mut self, delay_ms: u64, event: Event) {
        self.later(delay_ms, Happening::Tell(self.life, event));
    }

    fn say(&self, line: &str) {
        writeln!(self.log.borrow_mut(), "{:>6} {line}", self.now).expect("memory");
    }

    /// Mostly none, sometimes long.
    fn delay(&mut self) -> u64 {
        match self.random.below(100) {
            0..50 => 0,
            _ if !self.is_troubled => self.random.below(20),
            50..80 => self.random.below(50),
            80..95 => self.random.below(3_000),
            _ => self.random.below(DELAY_MS_MAX),
        }
    }

    fn troubled(&mut self, percent: u64) -> bool {
        self.random.percent(percent) && self.is_troubled
    }
}

/// The core and what it says.
impl World {
    fn tell(&mut self, mut event: Event) {
        if let Event::Finished(_, Outcome::Observed(observation)) = &mut event {
            observation.runs.retain(|run| !self.makes_way(run));
        }
        self.say(&format!("> {}", text::event(&event)));
        self.judge.before(self.now, &event);
        self.core.handle(Millis(self.now), event.clone());
        if !is_plan(&event) {
            self.twin.handle(Millis(self.now), event.clone());
        }
        self.listen(&event);
    }

    /// A core has begun a life.
    fn meet_core(&mut self) {
        self.listen(&Event::Woke);
    }

    fn listen(&mut self, event: &Event) {
        let commands: Vec<_> = std::iter::from_fn(|| self.core.poll_command()).collect();
        let notices: Vec<_> = std::iter::from_fn(|| self.core.poll_notice()).collect();
        let replies: Vec<_> = std::iter::from_fn(|| self.core.poll_reply()).collect();
        self.judge_twin(event, &commands, &notices, &replies);
        for command in &commands {
            self.say(&format!("  < {}", text::command_with_id(command)));
        }
        for notice in &notices {
            self.say(&format!("  < {}", text::notice(notice)));
        }
        for reply in &replies {
            let result = text::response(&reply.result);
            self.say(&format!("  < reply {} {result}", reply.ticket.0));
        }
        // Nothing is left of a run by the time that it is said to have been stopped.
        if let Some(stopped) = self.judge.stopped_by(event) {
            self.runs.forget(stopped);
        }
        let truth = Truth { store: &self.store, runs: &self.runs };
        self.judge.after(event, &commands, &notices, &replies, &truth);
        for command in commands {
            self.carry_out(command);
        }
    }

    /// To be asked what an apply would come to makes no difference at all.
    fn judge_twin(
        &mut self,
        event: &Event,
        commands: &[Command],
        notices: &[Notice],
        replies: &[Reply],
    ) {
        assert_eq!(self.twin.poll_deadline(), self.core.poll_deadline(), "deadlines");
        if is_plan(event) {
            assert!(commands.is_empty(), "a plan commands {commands:?}");
            assert!(notices.is_empty(), "a plan is news: {notices:?}");
            return;
        }
        let twins: Vec<_> = std::iter::from_fn(|| self.twin.poll_command()).collect();
        assert_eq!(twins, commands, "commands of one that was never asked on the left");
        let twins: Vec<_> = std::iter::from_fn(|| self.twin.poll_notice()).collect();
        assert_eq!(twins, notices, "notices of one that was never asked on the left");
        let twins: Vec<_> = std::iter::from_fn(|| self.twin.poll_reply()).collect();
        assert_eq!(twins, replies, "replies of one that was never asked on the left");
    }

    fn carry_out(&mut self, command: Command) {
        match command {
            Command::Act(id, action) => {
                if let Action::Adjust { incarnation, .. } = &action {
                    self.runs.begin_adjust(*incarnation);
                }
                if let Action::Adopt { incarnation, .. } = &action {
                    self.untaken.remove(incarnation);
                }
                let delay = self.delay_of(&action);
                self.flights.insert(id, Flight { action, is_cancelled: false });
                self.later(delay, Happening::Effect(self.life, id));
            }
            Command::Cancel(id) => {
                // A start can be too late to be cancelled.
                if let Some(flight) = self.flights.get_mut(&id) {
                    flight.is_cancelled = true;
                    let delay = self.delay();
                    self.later(delay, Happening::Effect(self.life, id));
                }
            }
            Command::Kill(_, incarnation) => {
                let delay = self.delay();
                self.later(delay, Happening::Crash(incarnation));
            }
            Command::Forget(_, incarnation) => self.runs.forget(incarnation),
        }
    }

    /// Writes never overtake each other on their way to the disk.
    fn delay_of(&mut self, action: &Action) -> u64 {
        let delay = self.delay();
        if !matches!(action, Action::Persist(_)) {
            return delay;
        }
        self.last_commit = self.last_commit.max(self.now + delay.min(3_000));
        self.last_commit - self.now
    }

    fn take_effect(&mut self, id: ActionId) {
        let Some(Flight { action, is_cancelled }) = self.flights.remove(&id) else { return };
        let outcome = match action {
            Action::Persist(write) => self.persist(write),
            Action::Start { pod, incarnation, origin } if !is_cancelled || self.troubled(20) => {
                Outcome::Started(self.launch(pod, incarnation, origin))
            }
            Action::Start { pod, .. } => {
                self.make_way(&pod);
                self.runs.forget_pod(&pod);
                Outcome::Started(Err(cancelled()))
            }
            Action::Adopt { incarnation, .. } => {
                Outcome::Started(self.adopt(incarnation, is_cancelled))
            }
            Action::Stop { incarnation, .. } => Outcome::Stopped(self.stop(incarnation)),
            Action::Adjust { incarnation, origin, .. } => {
                Outcome::Adjusted(self.adjust(incarnation, origin))
            }
            Action::Remove(pod) => {
                self.runs.forget_pod(&pod);
                Outcome::Removed
            }
            Action::Observe { since } => {
                let mut runs = self.look();
                if self.random.percent(50) {
                    self.random.shuffle(&mut runs);
                } else {
                    runs.sort_by(|a, b| a.pod.cmp(&b.pod));
                }
                let desired = match self.random.below(10) {
                    0 if self.is_troubled && since > Revision(0) => None,
                    1 => Some(self.store.full()),
                    _ => self.store.changes(since),
                };
                Outcome::Observed(Observation { desired, runs })
            }
        };
        let delay = self.delay();
        if self.troubled(10) {
            let again = delay + self.delay();
            self.tell_later(again, Event::Finished(id, outcome.clone()));
        }
        self.tell_later(delay, Event::Finished(id, outcome));
    }

    /// What a look finds: all there is, but for a run that it fails to see.
    fn look(&mut self) -> Vec<ObservedRun> {
        let mut runs = self.runs.observed();
        let is_first = !self.core.is_ready();
        if is_first && self.troubled(10) && !runs.is_empty() {
            let missed =
                runs.remove(usize::try_from(self.random.below(runs.len() as u64)).expect("few"));
            self.say(&format!("* run {} is not seen", missed.incarnation.0));
            self.judge.excuse(&missed.pod);
        }
        runs
    }

    fn persist(&mut self, write: Write) -> Outcome {
        if self.troubled(10) {
            let failure = Failure::new(Code::StoreFailed, "no space left on device");
            return Outcome::Persisted(Err(failure));
        }
        Outcome::Persisted(self.store.commit(write))
    }

    fn launch(
        &mut self,
        pod: Name,
        incarnation: Incarnation,
        origin: Arc<Origin>,
    ) -> Result<Started, StartError> {
        self.make_way(&pod);
        if self.troubled(20) {
            let is_download = self.random.percent(30);
            let code = if is_download { Code::ImageUnavailable } else { Code::StartFailed };
            let failure = Failure::new(code, "no luck");
            let cause = if is_download { EndCause::Download } else { EndCause::Itself };
            let exit = Exit::Failed(failure.clone());
            let ended = Ended { exit, at: Millis(self.now), cause };
            self.runs.fail(pod, incarnation, origin, ended);
            return Err(StartError { failure, is_download });
        }
        let others = self.runs.live_of(&pod);
        let others: Vec<_> = others.iter().filter(|run| run.0 >= STRAYS_MAX).collect();
        assert!(others.is_empty(), "{pod}: {others:?} and {incarnation:?} live at once");
        self.runs.launch(pod, incarnation, Some(origin), Millis(self.now));
        if self.is_troubled {
            let life_ms = self.random.between(1, 20_000);
            if self.random.percent(70) {
                self.later(life_ms, Happening::Crash(incarnation));
            }
        }
        Ok(self.began(incarnation))
    }

    /// Pids are few, and soon used again.
    fn began(&mut self, incarnation: Incarnation) -> Started {
        let at = self.runs.get(incarnation).and_then(|run| run.started_at);
        let host_pid = i32::try_from(self.random.below(3)).ok();
        Started::new(at.unwrap_or(Millis(self.now)), host_pid)
    }

    /// Whether another is about to begin in this one's place.
    fn makes_way(&self, run: &ObservedRun) -> bool {
        let is_start = |flight: &Flight| matches!(&flight.action, Action::Start { pod, .. } if *pod == run.pod);
        self.untaken.contains(&run.incarnation) && self.flights.values().any(is_start)
    }

    /// A run that nobody has taken over cannot stay while another begins.
    fn make_way(&mut self, pod: &Name) {
        for run in self.runs.live_of(pod) {
            if run.0 >= STRAYS_MAX && self.untaken.remove(&run) {
                self.say(&format!("* run {} makes way", run.0));
                self.runs.end(run, self.ended_now(Exit::Signaled(9), EndCause::Itself));
                self.runs.forget(run);
            }
        }
    }

    /// A run that lives is taken over, be it over by the time that anybody hears of it.
    fn adopt(
        &mut self,
        incarnation: Incarnation,
        is_cancelled: bool,
    ) -> Result<Started, StartError> {
        let is_live = self.runs.live().any(|(run, _)| run == incarnation);
        if is_live && is_cancelled && self.random.percent(50) {
            let ended = self.ended_now(Exit::Signaled(15), EndCause::Request);
            self.runs.end(incarnation, ended);
            self.runs.forget(incarnation);
            return Err(cancelled());
        }
        let ended =
            self.runs.get(incarnation).and_then(|run| Some((run.pod.clone(), run.ended.clone()?)));
        let is_begun = self.runs.get(incarnation).is_some_and(|run| run.is_start_recorded);
        let is_lost =
            |(_, ended): &(Name, Ended)| !is_begun && matches!(ended.exit, Exit::Failed(_));
        if ended.as_ref().is_some_and(is_lost) && self.random.percent(50) {
            let failure = Failure::new(Code::Lost, "it had ended before it was taken over");
            return Err(StartError { failure, is_download: false });
        }
        if let Some((pod, ended)) = ended {
            let delay = DELAY_MS_MAX / 2;
            self.tell_later(delay, Event::RunEnded { pod, incarnation, ended });
        }
        self.runs.record_start(incarnation, true);
        let is_stopping = is_live && self.troubled(20);
        if is_stopping {
            let pod = self.runs.get(incarnation).expect("it lives").pod.clone();
            self.say(&format!("* run {} is being stopped", incarnation.0));
            self.judge.excuse(&pod);
        }
        Ok(Started { is_stopping, ..self.began(incarnation) })
    }

    fn ended_now(&self, exit: Exit, cause: EndCause) -> Ended {
        Ended { exit, at: Millis(self.now), cause }
    }

    fn stop(&mut self, incarnation: Incarnation) -> Result<Exit, Failure> {
        if self.troubled(20) {
            return Err(Failure::new(Code::RuntimeFailed, "device or resource busy"));
        }
        let exit = Exit::Signaled(if self.random.percent(50) { 15 } else { 9 });
        self.runs.end(incarnation, self.ended_now(exit.clone(), EndCause::Request));
        self.runs.unlist(incarnation);
        let ended = self.runs.get(incarnation).and_then(|run| run.ended.clone());
        Ok(ended.map_or(exit, |ended| ended.exit))
    }

    fn adjust(&mut self, incarnation: Incarnation, origin: Arc<Origin>) -> Result<(), Failure> {
        if self.troubled(20) {
            return Err(Failure::new(Code::RuntimeFailed, "device or resource busy"));
        }
        let gone = || Failure::new(Code::Lost, "the run was gone already");
        self.runs.adjust(incarnation, origin).then_some(()).ok_or_else(gone)
    }

    fn crash(&mut self, incarnation: Incarnation) {
        let exit = match self.random.below(4) {
            0 => Exit::Exited(0),
            1 => Exit::Signaled(9),
            _ => Exit::Exited(1),
        };
        let ended = self.ended_now(exit.clone(), EndCause::Itself);
        if !self.runs.end(incarnation, ended.clone()) {
            return;
        }
        self.say(&format!("* run {} {}", incarnation.0, text::ended(&exit)));
        let pod = self.runs.get(incarnation).expect("it ended").pod.clone();
        let event = Event::RunEnded { pod, incarnation, ended };
        if self.random.percent(50) {
            self.unlist(incarnation);
        }
        let is_lost = self.troubled(30);
        let count = if is_lost { 0 } else { 1 + u64::from(self.troubled(20)) };
        for _ in 0..count {
            let delay = self.delay();
            self.tell_later(delay, event.clone());
        }
    }
}

fn cancelled() -> StartError {
    StartError { failure: Failure::new(Code::StartFailed, "cancelled"), is_download: false }
}

/// Everybody else.
impl World {
    fn ask(&mut self) {
        if !self.is_troubled {
            return;
        }
        let request = self.any_request();
        let is_repeated = self.random.percent(10);
        if is_repeated {
            self.request(request.clone());
        }
        let is_delete = matches!(&request, Request::Delete(_));
        self.request(request.clone());
        self.await_or_plan(&request);
        if is_delete && self.random.percent(30) {
            let again = self.any_apply();
            self.request(again);
        }
        if self.random.percent(5) && self.next_ticket > 1 {
            let ticket = Ticket(self.random.between(1, self.next_ticket - 1));
            self.tell(Event::Abandoned(ticket));
        }
        let pause = *self.random.pick(&[0, 1, 50, 99, 100, 500, 2_000]);
        self.later(pause, Happening::Ask);
    }

    /// Mostly right after an apply, where the old run could be taken for the new.
    fn await_or_plan(&mut self, request: &Request) {
        if let Request::Apply(spec) = request
            && self.random.percent(40)
        {
            let wait = self.any_await(spec.name.clone());
            self.request(wait);
        }
        if self.random.percent(20) {
            let count = self.random.between(1, 3);
            let specs: Vec<_> = (0..count).map(|_| self.any_spec()).collect();
            self.request(Request::Plan(specs));
        }
    }

    fn any_await(&mut self, pod: Name) -> Request {
        let goals = Status::ALL.map(Goal::Is);
        let goal = match self.random.below(10) {
            0..6 => Goal::Is(Status::Running),
            6 => Goal::Gone,
            _ => *self.random.pick(&goals),
        };
        let timeout_ms = *self.random.pick(&[Some(0), Some(100), Some(5_000), Some(40_000), None]);
        Request::Await { pod, goal, timeout_ms }
    }

    fn request(&mut self, request: Request) {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.tell(Event::Requested(ticket, request));
    }

    fn any_request(&mut self) -> Request {
        let pod = self.any_name();
        match self.random.below(100) {
            0..40 => self.any_apply(),
            40..52 => Request::Delete(pod),
            52..57 => {
                let Request::Apply(spec) = self.any_apply() else { unreachable!("an apply") };
                if self.random.percent(50) { Request::Create(spec) } else { Request::Seed(spec) }
            }
            57..62 => Request::Get(pod),
            62..65 => Request::List,
            65..73 => Request::Status(Some(pod).filter(|_| self.random.percent(50))),
            73..82 => Request::Sync,
            82..87 => Request::Restart(pod),
            87..91 => self.any_await(pod),
            _ => {
                let live = self.runs.live_of(&pod);
                let run = live.last().copied().unwrap_or(Incarnation(STRAYS_MAX));
                Request::Kill(pod, run)
            }
        }
    }

    fn any_name(&mut self) -> Name {
        self.random.pick(&self.names).clone()
    }

    fn any_apply(&mut self) -> Request {
        Request::Apply(self.any_spec())
    }

    fn any_spec(&mut self) -> Arc<PodSpec> {
        use RestartPolicy::{Always, Never, OnFailure};
        let restart = *self.random.pick(&[Always, Always, OnFailure, Never]);
        let image = *self.random.pick(&["v1", "v1", "v2"]);
        let memory = *self.random.pick(&[None, None, Some(1)]);
        fixtures::pod(self.any_name(), restart, image, memory)
    }

    fn meddle(&mut self) {
        if !self.is_troubled {
            return;
        }
        match self.random.below(100) {
            0..40 => self.tell(Event::Nudged),
            40..55 => self.write_from_elsewhere(),
            55..65 => self.stray(),
            65..70 => self.vanish(),
            70..74 => self.restart_program(),
            74..77 => self.jump(),
            _ => {}
        }
        let pause = self.random.below(3_000);
        self.later(pause, Happening::Meddle);
    }

    /// Another program writes to the same store.
    fn write_from_elsewhere(&mut self) {
        let spec = self.any_spec();
        if self.random.percent(40) {
            self.say(&format!("* another removes {}", spec.name));
            self.store.delete(&spec.name);
        } else {
            self.say(&format!("* another stores {}", spec.name));
            self.store.put(spec);
        }
    }

    /// A run that nobody asked for.
    fn stray(&mut self) {
        if self.next_stray < STRAYS_MAX {
            let (pod, run) = (self.any_name(), Incarnation(self.next_stray));
            self.next_stray += 1;
            self.say(&format!("* stray run {} of {pod}", run.0));
            self.runs.launch(pod, run, None, Millis(self.now));
        }
    }

    /// A run is gone without a trace.
    fn vanish(&mut self) {
        let live: Vec<Incarnation> = self.runs.live().map(|(run, _)| run).collect();
        if !live.is_empty() {
            let run = *self.random.pick(&live);
            self.say(&format!("* run {} vanishes", run.0));
            let lost = Failure::new(Code::Lost, "the shim was killed");
            self.runs.end(run, self.ended_now(Exit::Failed(lost), EndCause::Itself));
            self.unlist(run);
        }
    }

    /// The runtime lists it no more; what it has not looked for yet it still finds.
    fn unlist(&mut self, run: Incarnation) {
        if self.core.is_ready() {
            self.runs.unlist(run);
        }
    }

    /// The machine sleeps.
    fn jump(&mut self) {
        let slept_ms = self.random.between(1, 10_000);
        self.say(&format!("* {slept_ms} ms are slept through"));
        self.now += slept_ms;
    }

    /// What was in flight has its effect, or has not, or has it later; nobody is told.
    fn die(&mut self) {
        let mut is_storing = true;
        for (_, Flight { action, .. }) in std::mem::take(&mut self.flights) {
            let is_done = self.random.percent(50);
            // Writes are made in order.
            is_storing &= is_done || !matches!(action, Action::Persist(_));
            match action {
                Action::Persist(write) if is_storing => drop(self.store.commit(write)),
                Action::Start { pod, incarnation, origin } if is_done => {
                    let _ = self.launch(pod, incarnation, origin);
                    let is_recorded = self.random.percent(50);
                    self.runs.record_start(incarnation, is_recorded);
                }
                Action::Stop { incarnation, .. } if is_done => drop(self.stop(incarnation)),
                Action::Adjust { incarnation, origin, .. } if is_done => {
                    let _ = self.adjust(incarnation, Arc::clone(&origin));
                    if self.random.percent(50) {
                        self.runs.begin_adjust(incarnation);
                    }
                }
                _ => {}
            }
        }
    }

    /// The program dies, and another takes over what it finds.
    fn restart_program(&mut self) {
        self.say("* the program is killed");
        self.life += 1;
        self.die();
        self.flights.clear();
        self.last_commit = self.now;
        self.runs.find();
        self.untaken = self.runs.live().map(|(run, _)| run).collect();
        self.config.first_incarnation += 1_000;
        self.trail.merge(self.core.trail());
        self.core = Reconciler::new(self.config, Millis(self.now));
        self.twin = Reconciler::new(self.config, Millis(self.now));
        self.judge = Judge::next(self.config, &self.runs);
        self.say("* the program is started again");
        self.meet_core();
    }
}

/// The end.
impl World {
    /// From now on everything works, and what lives goes on living.
    fn calm_down(&mut self) {
        self.say("* peace");
        self.is_troubled = false;
        self.queue.retain(|_, happening| match happening {
            Happening::Tell(..) | Happening::Effect(..) => true,
            Happening::Crash(_) | Happening::Ask | Happening::Meddle => false,
        });
    }

    fn judge_settled(&mut self) {
        let statuses = self.statuses();
        self.judge_unanswered(&statuses);
        for (name, status) in &statuses {
            let is_stored = self.store.pods().contains_key(name);
            assert!(is_stored, "{name} is {:?}, and nobody wants it", status.status);
        }
        for (run, what) in self.runs.live() {
            let wanted = self.store.pods().get(&what.pod).map(|stored| &stored.spec);
            // The policy is the core's own business: no runtime hears of another.
            let is_so = |wanted: &Arc<PodSpec>, spec: &Arc<PodSpec>| spec.is_same_run(wanted);
            let is_wanted = wanted.zip(what.spec.as_ref()).is_some_and(|(a, b)| is_so(a, b));
            assert!(is_wanted, "{}: {run:?} lives, and nobody wants it", what.pod);
        }
        for name in self.store.pods().keys() {
            self.judge_pod(name, statuses.get(name));
        }
    }

    /// What is still waited for has not come, and may be waited for without end.
    fn judge_unanswered(&self, statuses: &BTreeMap<Name, PodStatus>) {
        for request in self.judge.unanswered() {
            let Request::Await { pod, goal, timeout_ms: None } = request else {
                panic!("never answered: {request:?}")
            };
            let status = statuses.get(pod).map(|status| status.status);
            let is_there = self.store.pods().contains_key(pod);
            assert!(is_there, "{pod}: never told that it is not there: {request:?}");
            assert_ne!(status.map(Goal::Is), Some(*goal), "{pod}: never told that it is so");
        }
    }

    fn judge_pod(&self, name: &Name, status: Option<&PodStatus>) {
        let status = status.unwrap_or_else(|| panic!("{name} is wanted and not tracked"));
        let stored = &self.store.pods()[name];
        let live: Vec<u64> = self.runs.live_of(name).iter().map(|run| run.0).collect();
        assert_eq!(status.generation, stored.generation.0, "{name}: generation");
        match status.status {
            Status::Running => assert_eq!(live, [status.incarnation], "{name}: the run"),
            Status::Terminal => {
                assert!(live.is_empty(), "{name}: terminal, but {live:?} live");
                assert!(stored.verdict.is_some(), "{name}: its verdict is not durable");
            }
            other => panic!("{name} is still {other:?}"),
        }
    }

    fn judge_shutdown(&mut self) {
        let unanswered = self.judge.unanswered();
        assert!(unanswered.is_empty(), "never answered: {unanswered:?}");
        let in_flight: Vec<_> = self.judge.in_flight().collect();
        assert!(in_flight.is_empty(), "still in flight: {in_flight:?}");
    }

    fn statuses(&mut self) -> BTreeMap<Name, PodStatus> {
        let ticket = Ticket(self.next_ticket);
        self.core.handle(Millis(self.now), Event::Requested(ticket, Request::Status(None)));
        let replies: Vec<_> = std::iter::from_fn(|| self.core.poll_reply()).collect();
        match &replies[..] {
            [reply] => match &reply.result {
                Ok(Response::Statuses(statuses)) => statuses.clone(),
                other => panic!("a status is answered with {other:?}"),
            },
            _ => panic!("a status is answered at once, and nothing else: {replies:?}"),
        }
    }
}

fn is_plan(event: &Event) -> bool {
    matches!(event, Event::Requested(_, Request::Plan(_)))
}
