//! What a plan foretells is what an apply does: from any state, with actions in
//! flight, failed or under way, one of two equal worlds is asked and the other one
//! applies. Worlds are made equal by telling a new core all that the first was told.

use std::collections::BTreeMap;
use std::sync::Arc;

use tank::core::action::{Action, Command, Response, Write};
use tank::core::event::{
    ActionId, Ended, Event, Incarnation, Observation, ObservedRun, Outcome, Request, Revision,
    StartError, Started, Ticket,
};
use tank::core::failure::{Code, Failure};
use tank::core::forecast::{Course, Forecast};
use tank::core::reconciler::{Config, Reconciler};
use tank::core::spec::{Name, PodSpec, RestartPolicy};
use tank::core::status::{Exit, Phase, PodStatus, Status};
use tank::core::time::Millis;

use crate::fixtures;
use crate::simulation::random::Random;
use crate::store::Store;

const SEEDS: u64 = 1_000;
const STEPS: u64 = 60;
/// Runs below are of nobody.
const FIRST_RUN: u64 = 1_000;

#[test]
fn what_a_plan_foretells_is_what_an_apply_does() {
    let mut seen: BTreeMap<Course, u64> = BTreeMap::new();
    for seed in 1..=SEEDS {
        let mut random = Random::new(seed);
        let mut world = World::new(random.percent(80));
        for step in 0..STEPS {
            world.step(&mut random);
            if random.percent(20) {
                let course = check(&mut world, any_spec(&mut random), &format!("{seed}.{step}"));
                *seen.entry(course).or_default() += 1;
            }
        }
    }
    for course in [Course::Create, Course::None, Course::Adjust, Course::Replace, Course::Start] {
        let times = seen.get(&course).copied().unwrap_or_default();
        assert!(times > SEEDS / 10, "{course:?} was foretold {times} times");
    }
}

/// Compares what is foretold in this state with what follows.
fn check(world: &mut World, spec: Arc<PodSpec>, at: &str) -> Course {
    // A plan is about what is durable.
    world.commit_all();
    let pod = spec.name.clone();
    let forecast = world.again().forecast(&spec);
    let (before, stored) = (world.status(&pod), world.stored(&pod));
    let (mut idle, mut applied) = (world.again(), world.again());
    applied.request(Request::Apply(Arc::clone(&spec)));
    let (idle_steps, steps) = (idle.settle(&pod), applied.settle(&pod));
    let after = applied.status(&pod);
    let context = format!("{at}: {forecast:?} of {spec:?}\n{stored:?}, {before:?}\n{steps:?}");

    let (generation, old) = stored.clone().unzip();
    let was_held = stored.is_none() && forecast.generation.is_some();
    assert!(was_held || forecast.generation == generation, "generation, {context}");
    if let Some(old) = old {
        assert_eq!(forecast.changes.is_empty(), old == spec, "changes, {context}");
    }
    let is_started = steps.iter().any(|step| *step == Step::Start(Arc::clone(&spec)));
    let is_left = steps.iter().all(|step| *step == Step::Sweep);
    let had_run = before.as_ref().is_some_and(|status| world.has_run(status));
    let is_so = match forecast.course {
        Course::Create => stored.is_none() && is_started,
        Course::None => steps == idle_steps || is_left,
        Course::Adjust => {
            let is_same_run = before.zip(after.clone()).is_some_and(|(before, after)| {
                before.incarnation == after.incarnation && after.status == Status::Running
            });
            is_same_run && !is_started
        }
        Course::Replace => had_run && is_started,
        Course::Start => !had_run && is_started,
    };
    assert!(is_so, "{context}\n{after:?}");
    let known = applied.stored(&pod).expect("it was applied");
    assert_eq!(known.1, spec, "{context}");
    assert_eq!(after.map(|status| status.generation), Some(known.0.0), "{context}");
    forecast.course
}

/// What is done about a pod.
#[derive(Debug, Clone, PartialEq)]
enum Step {
    Start(Arc<PodSpec>),
    Adjust(Arc<PodSpec>),
    Stop,
    Cancel,
    /// A run of nobody is ended.
    Sweep,
}

struct World {
    core: Reconciler,
    config: Config,
    now: u64,
    told: Vec<(u64, Event)>,
    next_ticket: u64,
    in_flight: BTreeMap<ActionId, Action>,
    cancelled: Vec<ActionId>,
    steps: Vec<(Name, Step)>,
    store: Store,
    runs: BTreeMap<Incarnation, ObservedRun>,
}

impl World {
    fn new(adjust: bool) -> Self {
        let config = Config { first_incarnation: FIRST_RUN, adjust, ..Config::default() };
        let mut world = Self::of(config, Store::default(), BTreeMap::new());
        world.listen();
        world.finish_observation();
        world
    }

    fn of(config: Config, store: Store, runs: BTreeMap<Incarnation, ObservedRun>) -> Self {
        Self {
            core: Reconciler::new(config, Millis(0)),
            config,
            now: 0,
            told: Vec::new(),
            next_ticket: 1,
            in_flight: BTreeMap::new(),
            cancelled: Vec::new(),
            steps: Vec::new(),
            store,
            runs,
        }
    }

    /// Another world just like this one.
    fn again(&self) -> Self {
        let mut core = Reconciler::new(self.config, Millis(0));
        for (now, event) in &self.told {
            core.handle(Millis(*now), event.clone());
        }
        while core.poll_command().is_some() {}
        while core.poll_notice().is_some() {}
        while core.poll_reply().is_some() {}
        Self {
            core,
            now: self.now,
            told: self.told.clone(),
            next_ticket: self.next_ticket,
            in_flight: self.in_flight.clone(),
            cancelled: self.cancelled.clone(),
            ..Self::of(self.config, self.store.clone(), self.runs.clone())
        }
    }

    fn step(&mut self, random: &mut Random) {
        let pod = any_name(random);
        match random.below(100) {
            0..25 => drop(self.request(Request::Apply(any_spec(random)))),
            25..33 => drop(self.request(Request::Delete(pod))),
            33..38 => drop(self.request(Request::Restart(pod))),
            38..70 => self.finish_any(random),
            70..80 => self.end_run(&pod, random),
            80..84 => self.stray(pod),
            84..88 => drop(self.request(Request::Sync)),
            _ => self.wait(*random.pick(&[1, 50, 100, 5_000, 10_000])),
        }
    }

    fn tell(&mut self, event: Event) {
        self.told.push((self.now, event.clone()));
        self.core.handle(Millis(self.now), event);
        self.listen();
    }

    fn listen(&mut self) {
        let mut killed = Vec::new();
        while let Some(command) = self.core.poll_command() {
            match command {
                Command::Act(id, action) => {
                    self.note(&action);
                    self.in_flight.insert(id, action);
                }
                Command::Cancel(id) => {
                    let Some(Action::Start { pod, .. }) = self.in_flight.get(&id) else {
                        panic!("cancelled what is no start in flight")
                    };
                    self.steps.push((pod.clone(), Step::Cancel));
                    self.cancelled.push(id);
                }
                Command::Kill(pod, incarnation) => killed.push((pod, incarnation)),
                Command::Forget(..) => {}
            }
        }
        while self.core.poll_notice().is_some() {}
        for (pod, incarnation) in killed {
            self.runs.remove(&incarnation);
            let ended = Ended::new(Exit::Signaled(9), Millis(self.now));
            self.tell(Event::RunEnded { pod, incarnation, ended });
        }
    }

    fn note(&mut self, action: &Action) {
        let (pod, step) = match action {
            Action::Start { pod, origin, .. } => (pod, Step::Start(Arc::clone(&origin.spec))),
            Action::Adjust { pod, origin, .. } => (pod, Step::Adjust(Arc::clone(&origin.spec))),
            Action::Adopt { pod, .. } => panic!("{pod}: taken over by who began it"),
            Action::Stop { pod, incarnation } if incarnation.0 < FIRST_RUN => (pod, Step::Sweep),
            Action::Stop { pod, .. } => (pod, Step::Stop),
            Action::Persist(_) | Action::Remove(_) | Action::Observe { .. } => return,
        };
        self.steps.push((pod.clone(), step));
    }

    fn request(&mut self, request: Request) -> Option<Response> {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.tell(Event::Requested(ticket, request));
        let replies = std::iter::from_fn(|| self.core.poll_reply());
        let own = replies.filter(|reply| reply.ticket == ticket).last();
        own.and_then(|reply| reply.result.ok())
    }

    fn forecast(&mut self, spec: &Arc<PodSpec>) -> Forecast {
        match self.request(Request::Plan(vec![Arc::clone(spec)])) {
            Some(Response::Planned(forecasts)) => forecasts.into_iter().next().expect("one"),
            other => panic!("a plan is answered with {other:?}"),
        }
    }

    fn status(&mut self, pod: &Name) -> Option<PodStatus> {
        match self.request(Request::Status(Some(pod.clone()))) {
            Some(Response::Statuses(statuses)) => statuses.get(pod).cloned(),
            _ => None,
        }
    }

    /// Whether a run of the pod's own is there, or on its way in or out.
    fn has_run(&self, status: &PodStatus) -> bool {
        match status.status {
            Status::Starting => true,
            // The end of a run that is being adjusted is known before it is told.
            Status::Running => self.runs.contains_key(&Incarnation(status.incarnation)),
            Status::Stopping => status.phase != Phase::Sweeping && status.started_at.is_some(),
            Status::BackingOff | Status::Terminal => false,
        }
    }

    fn stored(&mut self, pod: &Name) -> Option<(Revision, Arc<PodSpec>)> {
        match self.request(Request::Get(pod.clone())) {
            Some(Response::Pod(desired)) => Some((desired.generation, desired.spec)),
            _ => None,
        }
    }

    fn wait(&mut self, delay_ms: u64) {
        self.now += delay_ms;
        self.tell(Event::Woke);
    }

    fn end_run(&mut self, pod: &Name, random: &mut Random) {
        let Some(run) = self.runs.values().find(|run| run.pod == *pod) else { return };
        let (pod, incarnation) = (pod.clone(), run.incarnation);
        self.runs.remove(&incarnation);
        let exit = Exit::Exited(*random.pick(&[0, 1]));
        let ended = Ended::new(exit, Millis(self.now));
        self.tell(Event::RunEnded { pod, incarnation, ended });
    }

    fn stray(&mut self, pod: Name) {
        let strays = self.runs.keys().filter(|run| run.0 < FIRST_RUN).count();
        let incarnation = Incarnation(1 + strays as u64 + self.told.len() as u64);
        self.runs.insert(incarnation, ObservedRun::live(pod, incarnation));
    }

    fn finish_any(&mut self, random: &mut Random) {
        let first_write = self.writes().first().copied();
        let is_ready = |(id, action): (&ActionId, &Action)| match action {
            Action::Persist(_) => (Some(*id) == first_write).then_some(*id),
            _ => Some(*id),
        };
        let ready: Vec<ActionId> = self.in_flight.iter().filter_map(is_ready).collect();
        if !ready.is_empty() {
            let id = *random.pick(&ready);
            self.finish(id, random.percent(80));
        }
    }

    fn writes(&self) -> Vec<ActionId> {
        let is_write = |(_, action): &(&ActionId, &Action)| matches!(action, Action::Persist(_));
        self.in_flight.iter().filter(is_write).map(|(id, _)| *id).collect()
    }

    fn commit_all(&mut self) {
        while let Some(id) = self.writes().first() {
            self.finish(*id, true);
        }
    }

    fn finish_observation(&mut self) {
        let is_observe = |action: &Action| matches!(action, Action::Observe { .. });
        let found = self.in_flight.iter().find(|(_, action)| is_observe(action));
        if let Some(id) = found.map(|(id, _)| *id) {
            self.finish(id, true);
        }
    }

    fn finish(&mut self, id: ActionId, is_good: bool) {
        let action = self.in_flight.remove(&id).expect("in flight");
        let is_cancelled = self.cancelled.contains(&id);
        let busy = || Failure::new(Code::RuntimeFailed, "device or resource busy");
        let outcome = match action {
            Action::Persist(write) => Outcome::Persisted(self.commit(write, is_good)),
            Action::Start { pod, incarnation, .. } if is_good && !is_cancelled => {
                self.runs.insert(incarnation, ObservedRun::live(pod, incarnation));
                Outcome::Started(Ok(Started::new(Millis(self.now), None)))
            }
            Action::Start { .. } => {
                Outcome::Started(Err(StartError { failure: busy(), is_download: false }))
            }
            Action::Stop { incarnation, .. } if is_good => {
                self.runs.remove(&incarnation);
                Outcome::Stopped(Ok(Exit::Signaled(15)))
            }
            Action::Stop { .. } => Outcome::Stopped(Err(busy())),
            Action::Adjust { .. } => Outcome::Adjusted(is_good.then_some(()).ok_or_else(busy)),
            Action::Adopt { pod, .. } => panic!("{pod}: taken over by who began it"),
            Action::Remove(_) => Outcome::Removed,
            Action::Observe { since } => {
                let runs = self.runs.values().cloned().collect();
                Outcome::Observed(Observation { desired: self.store.changes(since), runs })
            }
        };
        self.tell(Event::Finished(id, outcome));
    }

    fn commit(&mut self, write: Write, is_good: bool) -> Result<Revision, Failure> {
        if is_good {
            return self.store.commit(write);
        }
        Err(Failure::new(Code::StoreFailed, "no space left on device"))
    }

    /// Lets all that is in flight work, at this moment, and what follows from it.
    /// What is done about the pod from here on.
    fn settle(&mut self, pod: &Name) -> Vec<Step> {
        self.commit_all();
        loop {
            let is_observe = |action: &Action| matches!(action, Action::Observe { .. });
            let next = self.in_flight.iter().find(|(_, action)| !is_observe(action));
            if let Some(id) = next.map(|(id, _)| *id) {
                self.finish(id, true);
                continue;
            }
            // A stop that has failed is tried again by a pass.
            if self.status(pod).is_none_or(|status| status.status != Status::Stopping) {
                break;
            }
            self.finish_observation();
            self.request(Request::Sync);
            self.finish_observation();
        }
        let own = self.steps.iter().filter(|(other, _)| other == pod);
        own.map(|(_, step)| step.clone()).collect()
    }
}

fn any_name(random: &mut Random) -> Name {
    let name = *random.pick(&["a", "b"]);
    fixtures::name(name)
}

fn any_spec(random: &mut Random) -> Arc<PodSpec> {
    use RestartPolicy::{Always, Never};
    let restart = *random.pick(&[Always, Always, Never]);
    let image = *random.pick(&["v1", "v1", "v2"]);
    let memory = *random.pick(&[None, None, Some(1)]);
    fixtures::pod(any_name(random), restart, image, memory)
}
