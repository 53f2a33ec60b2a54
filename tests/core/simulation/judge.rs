//! What must hold at each step, judged from outside the core: from the world as
//! it really is and from what the core says, never from what the core thinks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tank::core::action::{Action, Command, Notice, Reply, Response, Write};
use tank::core::event::{
    ActionId, DesiredChange, EndCause, Ended, Event, Incarnation, Outcome, Request, Revision,
    Ticket,
};
use tank::core::failure::{Code, Failure};
use tank::core::reconciler::Config;
use tank::core::spec::{Name, PodSpec, RestartPolicy};
use tank::core::status::{Exit, Goal, PodStatus, Status};

use super::runs::{Run, Runs};
use crate::store::Store;

/// The world behind the core.
pub(crate) struct Truth<'a> {
    pub(crate) store: &'a Store,
    pub(crate) runs: &'a Runs,
}

#[derive(Debug)]
pub(crate) struct Judge {
    config: Config,
    now: u64,
    in_flight: BTreeMap<ActionId, Action>,
    cancelled: BTreeSet<ActionId>,
    last_action: u64,
    last_run: u64,
    pods: BTreeMap<Name, Past>,
    /// The newest generation that the core was told of.
    learned: BTreeMap<Name, Revision>,
    asked: BTreeMap<Ticket, Request>,
    syncs: BTreeMap<Ticket, Sync>,
    awaits: BTreeMap<Ticket, Await>,
    shutdown: Option<bool>,
    /// Whether the core has been told of the runs that there are.
    has_observed: bool,
    /// Runs that were asked to stop.
    stopped: BTreeSet<Incarnation>,
    /// Runs that the core can know of.
    seen: BTreeSet<Incarnation>,
    /// Runs that the core must know of.
    observed: BTreeSet<Incarnation>,
    /// The first action after each pod's last change: what was observed at the
    /// request of an older one says nothing about the pod.
    changed: BTreeMap<Name, ActionId>,
}

/// What is known of a pod's last run, and whether something other than its own
/// end may be followed by another.
#[derive(Debug)]
struct Past {
    incarnation: Incarnation,
    /// What it is to run by.
    spec: Arc<PodSpec>,
    /// What it does run by.
    in_force: Arc<PodSpec>,
    retries: u32,
    started_at: Option<u64>,
    ended: Option<End>,
    /// Whether the core has not said yet that it has the run, or that it is over.
    is_found: bool,
    is_excused: bool,
    /// The run is to go on by another spec than before, and does not yet: should it
    /// end first, the next one need not wait.
    is_adjusting: bool,
}

#[derive(Debug)]
struct End {
    at: u64,
    exit: Exit,
    cause: EndCause,
}

/// What an await is answered with at the soonest.
#[derive(Debug)]
struct Await {
    pod: Name,
    goal: Goal,
    deadline: Option<u64>,
    /// Writes with an older id were asked for before it.
    first: ActionId,
    /// The newest generation that the core knew of when those were over.
    generation: Revision,
}

/// How far a sync has come.
#[derive(Debug)]
enum Sync {
    Waiting { first: ActionId },
    Settling { actions: BTreeSet<ActionId> },
}

impl Past {
    fn is_live(&self) -> bool {
        !self.is_found && self.started_at.is_some() && self.ended.is_none()
    }

    /// What is wanted of a run that has not been taken over, compared with what is on
    /// record of it. By another policy it is the same run.
    fn learn_found(&mut self, spec: &Arc<PodSpec>, can_adjust: bool, is_seen: bool) {
        let is_live = self.ended.is_none();
        if self.in_force.is_same_run(spec) {
            self.spec = Arc::clone(spec);
            // Only of a run that it knows of can the core note that.
            if is_seen {
                self.in_force = Arc::clone(spec);
            }
        } else if is_live && can_adjust && self.in_force.is_adjustable_to(spec) {
            self.spec = Arc::clone(spec);
            self.is_adjusting = true;
        } else {
            self.spec = Arc::clone(&self.in_force);
            self.is_excused = true;
        }
    }

    /// It is over before it was taken over: what it was made from is what counts.
    fn end_found(&mut self) {
        if std::mem::take(&mut self.is_found) && !self.in_force.is_same_run(&self.spec) {
            self.spec = Arc::clone(&self.in_force);
            self.is_excused = true;
        }
    }

    /// What a core that starts is to make of a run that is on record.
    fn of_run(incarnation: Incarnation, run: &Run) -> Option<Self> {
        let origin = run.origin.as_ref().filter(|_| run.is_recorded)?;
        let end =
            |ended: &Ended| End { at: ended.at.0, exit: ended.exit.clone(), cause: ended.cause };
        let ended = run.ended.as_ref();
        Some(Self {
            incarnation,
            spec: Arc::clone(&origin.spec),
            in_force: Arc::clone(&origin.spec),
            retries: origin.retries,
            started_at: run.recorded_start().map(|at| at.0),
            ended: ended.map(end),
            is_found: true,
            is_excused: run.is_adjusting
                || ended.is_some_and(|ended| ended.cause == EndCause::Request),
            is_adjusting: false,
        })
    }
}

impl Judge {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            config,
            now: 0,
            in_flight: BTreeMap::new(),
            cancelled: BTreeSet::new(),
            last_action: 0,
            last_run: config.first_incarnation - 1,
            pods: BTreeMap::new(),
            learned: BTreeMap::new(),
            asked: BTreeMap::new(),
            syncs: BTreeMap::new(),
            awaits: BTreeMap::new(),
            shutdown: None,
            has_observed: false,
            stopped: BTreeSet::new(),
            seen: BTreeSet::new(),
            observed: BTreeSet::new(),
            changed: BTreeMap::new(),
        }
    }

    /// A judge of the next core, which is to go on from what is on record.
    pub(crate) fn next(config: Config, runs: &Runs) -> Self {
        let recorded = runs.all().filter_map(|(incarnation, run)| {
            Some((run.pod.clone(), Past::of_run(incarnation, run)?))
        });
        Self { pods: recorded.collect(), ..Self::new(config) }
    }

    /// The run that this event tells has been stopped.
    pub(crate) fn stopped_by(&self, event: &Event) -> Option<Incarnation> {
        let Event::Finished(id, Outcome::Stopped(Ok(_))) = event else { return None };
        match self.in_flight.get(id) {
            Some(Action::Stop { incarnation, .. }) => Some(*incarnation),
            _ => None,
        }
    }

    /// Something other than its own end may start this pod anew.
    pub(crate) fn excuse(&mut self, pod: &Name) {
        if let Some(past) = self.pods.get_mut(pod) {
            past.is_excused = true;
        }
    }

    /// What clients still wait for.
    pub(crate) fn unanswered(&self) -> Vec<&Request> {
        self.asked.values().collect()
    }

    pub(crate) fn in_flight(&self) -> impl Iterator<Item = &Action> {
        self.in_flight.values()
    }

    /// The event is about to be handled.
    pub(crate) fn before(&mut self, now: u64, event: &Event) {
        assert!(now >= self.now, "time went back");
        self.now = now;
        match event {
            Event::Requested(ticket, request) => self.requested(*ticket, request),
            Event::Abandoned(ticket) => {
                self.asked.remove(ticket);
                self.syncs.remove(ticket);
                self.awaits.remove(ticket);
            }
            Event::Finished(id, outcome) => self.finished(*id, outcome),
            Event::RunEnded { pod, .. } => self.change(pod),
            Event::Nudged | Event::Woke => {}
        }
    }

    fn requested(&mut self, ticket: Ticket, request: &Request) {
        assert!(self.asked.insert(ticket, request.clone()).is_none(), "a ticket was used twice");
        match request {
            Request::Restart(pod) => self.excuse(pod),
            Request::Sync => {
                let first = ActionId(self.last_action + 1);
                self.syncs.insert(ticket, Sync::Waiting { first });
            }
            Request::Await { pod, goal, timeout_ms } => {
                let awaited = Await {
                    pod: pod.clone(),
                    goal: *goal,
                    deadline: timeout_ms.map(|timeout_ms| self.now + timeout_ms),
                    first: ActionId(self.last_action + 1),
                    generation: self.learned.get(pod).copied().unwrap_or_default(),
                };
                self.awaits.insert(ticket, awaited);
            }
            Request::Shutdown { stop_pods } => {
                self.shutdown = Some(*stop_pods || self.shutdown == Some(true));
            }
            _ => {}
        }
    }

    fn finished(&mut self, id: ActionId, outcome: &Outcome) {
        let Some(action) = self.in_flight.get(&id).cloned() else { return };
        match (action, outcome) {
            (
                Action::Start { pod, incarnation, .. } | Action::Adopt { pod, incarnation },
                Outcome::Started(result),
            ) => {
                let past = self.pods.get_mut(&pod).expect("a start was judged");
                assert_eq!(past.incarnation, incarnation, "an older start is still in flight");
                match result {
                    Ok(started) => past.started_at = Some(started.at.0),
                    Err(error) => {
                        let exit = Exit::Failed(error.failure.clone());
                        let cause = match error.is_download {
                            true => EndCause::Download,
                            false => EndCause::Itself,
                        };
                        past.ended = Some(End { at: self.now, exit, cause });
                    }
                }
            }
            (Action::Adjust { pod, origin, .. }, Outcome::Adjusted(result)) => {
                let past = self.pods.get_mut(&pod).expect("an adjustment was judged");
                match result {
                    Ok(()) => past.in_force = Arc::clone(&origin.spec),
                    Err(_) => {
                        past.spec = Arc::clone(&past.in_force);
                        past.is_excused = true;
                    }
                }
            }
            (Action::Persist(Write::Delete(pod)), Outcome::Persisted(Ok(_))) => self.excuse(&pod),
            (
                Action::Persist(Write::Put(spec) | Write::Create(spec) | Write::Seed(spec)),
                Outcome::Persisted(Ok(generation)),
            ) => {
                self.learn(&spec.name, Some((*generation, &spec)));
                let later = self.awaits.values_mut().filter(|awaited| id < awaited.first);
                for awaited in later.filter(|awaited| awaited.pod == spec.name) {
                    awaited.generation = awaited.generation.max(*generation);
                }
            }
            (Action::Observe { .. }, Outcome::Observed(observation)) => {
                self.has_observed = true;
                if let Some(change) = &observation.desired {
                    self.learn_all(change);
                }
            }
            _ => {}
        }
    }

    fn learn_all(&mut self, change: &DesiredChange) {
        let told: BTreeMap<&Name, _> =
            change.pods.iter().map(|(pod, stored)| (pod, stored)).collect();
        for (pod, stored) in &told {
            self.learn(pod, stored.as_ref().map(|stored| (stored.generation, &stored.spec)));
        }
        if change.is_full {
            let gone: Vec<Name> =
                self.pods.keys().filter(|pod| !told.contains_key(pod)).cloned().collect();
            for pod in gone {
                self.excuse(&pod);
            }
        }
    }

    /// The core is told what the store holds of a pod. Another spec, or none,
    /// is a reason to end its run and to start it anew, unless the run can go on
    /// by it.
    fn learn(&mut self, pod: &Name, stored: Option<(Revision, &Arc<PodSpec>)>) {
        if let Some((generation, _)) = stored {
            let newest = self.learned.entry(pod.clone()).or_default();
            if generation < *newest {
                return;
            }
            *newest = generation;
        }
        let Some(past) = self.pods.get_mut(pod) else { return };
        match stored {
            Some((_, spec)) if past.is_found => {
                past.learn_found(spec, self.config.adjust, self.has_observed);
            }
            Some((_, spec)) if *spec == past.spec => {}
            Some((_, spec))
                if self.config.adjust && past.is_live() && past.spec.is_adjustable_to(spec) =>
            {
                past.spec = Arc::clone(spec);
                past.is_adjusting = true;
            }
            _ => past.is_excused = true,
        }
    }

    /// The event has been handled, and this is what the core said.
    pub(crate) fn after(
        &mut self,
        event: &Event,
        commands: &[Command],
        notices: &[Notice],
        replies: &[Reply],
        truth: &Truth<'_>,
    ) {
        let finished = self.take_finished(event);
        for notice in notices {
            self.noticed(notice, truth);
        }
        for command in commands {
            self.commanded(command, notices, truth);
        }
        if let Some((id, action)) = finished {
            self.advance_syncs(id, &action, commands);
        }
        for reply in replies {
            self.replied(reply, truth);
        }
        self.note_adjusted();
    }

    /// A live run without an adjustment in flight is as it shall be.
    fn note_adjusted(&mut self) {
        for (pod, past) in &mut self.pods {
            let is_adjust = |action: &Action| matches!(action, Action::Adjust { pod: adjusted, .. } if adjusted == pod);
            if past.is_live() && !self.in_flight.values().any(is_adjust) {
                past.in_force = Arc::clone(&past.spec);
                past.is_adjusting = false;
            }
        }
    }

    fn take_finished(&mut self, event: &Event) -> Option<(ActionId, Action)> {
        let Event::Finished(id, outcome) = event else { return None };
        let action = self.in_flight.remove(id)?;
        if let Outcome::Observed(observation) = outcome {
            let runs = observation.runs.iter();
            self.seen.extend(runs.clone().map(|run| run.incarnation));
            let telling =
                runs.filter(|run| self.changed.get(&run.pod).is_none_or(|changed| id >= changed));
            self.observed.extend(telling.map(|run| run.incarnation));
        }
        if let Some(pod) = pod_of(&action) {
            self.change(pod);
        }
        Some((*id, action))
    }

    fn change(&mut self, pod: &Name) {
        self.changed.insert(pod.clone(), ActionId(self.last_action + 1));
    }

    fn commanded(&mut self, command: &Command, notices: &[Notice], truth: &Truth<'_>) {
        match command {
            Command::Act(id, action) => {
                assert_eq!(id.0, self.last_action + 1, "action ids count up");
                self.last_action = id.0;
                self.acted(action, notices, truth);
                self.in_flight.insert(*id, action.clone());
                if let Some(pod) = pod_of(action) {
                    self.change(pod);
                }
            }
            Command::Cancel(id) => {
                let cancelled = self.in_flight.get(id).cloned();
                let Some(Action::Start { pod, .. } | Action::Adopt { pod, .. }) = cancelled else {
                    panic!("cancelled {id:?}, which is no start in flight")
                };
                assert!(self.cancelled.insert(*id), "{pod}: cancelled twice");
                self.excuse(&pod);
                self.change(&pod);
            }
            Command::Kill(..) => {}
            Command::Forget(pod, incarnation) => self.judge_forget(pod, *incarnation, truth),
        }
    }

    fn acted(&mut self, action: &Action, notices: &[Notice], truth: &Truth<'_>) {
        match action {
            Action::Persist(write) => Self::judge_write(write, truth),
            Action::Start { pod, incarnation, origin } => {
                let spec = &origin.spec;
                self.judge_one_at_a_time(pod);
                self.judge_start(pod, *incarnation, spec, truth);
                let retries = told_retries(pod, notices);
                assert_eq!(origin.retries, retries, "{pod}: what is put on record");
                self.judge_retries(pod, *incarnation, spec, retries);
            }
            Action::Adopt { pod, incarnation } => {
                self.judge_one_at_a_time(pod);
                assert!(self.seen.contains(incarnation), "{pod}: takes over what it cannot know");
                let past = self.past(pod, *incarnation);
                assert!(past.is_found, "{pod}: takes over what it has");
            }
            Action::Stop { pod, incarnation } => {
                self.stopped.insert(*incarnation);
                self.judge_one_at_a_time(pod);
                self.judge_stop(pod, *incarnation, truth);
            }
            Action::Adjust { pod, incarnation, origin } => {
                self.judge_one_at_a_time(pod);
                assert!(self.config.adjust, "{pod}: adjusted by a runtime that cannot");
                assert!(self.shutdown.is_none(), "{pod}: adjusted while shutting down");
                let past = self.past(pod, *incarnation);
                assert!(past.is_live(), "{pod}: adjusted, and does not live");
                let is_last = past.spec == origin.spec;
                assert!(is_last, "{pod}: adjusted to another spec than the last");
            }
            Action::Remove(pod) => {
                self.judge_one_at_a_time(pod);
                let wanted = self.known_live(pod, truth);
                assert!(wanted.is_empty(), "{pod}: removed while {wanted:?} lives");
            }
            Action::Observe { since } => {
                assert!(*since <= truth.store.revision(), "observes from the future");
                let is_observe = |action: &Action| matches!(action, Action::Observe { .. });
                assert!(!self.in_flight.values().any(is_observe), "two observations at once");
                assert!(self.shutdown.is_none(), "observes while shutting down");
            }
        }
    }

    fn judge_write(write: &Write, truth: &Truth<'_>) {
        let Write::PutVerdict(pod, generation, verdict) = write else { return };
        let spec = truth.store.spec_at(pod, *generation).expect("a verdict on a stored spec");
        let is_retried = restarts(spec.restart, &verdict.last.exit);
        assert!(!is_retried, "{pod}: a verdict where {:?} restarts", spec.restart);
    }

    fn judge_one_at_a_time(&self, pod: &Name) {
        let other = self.in_flight.values().find(|action| pod_of(action) == Some(pod));
        assert!(other.is_none(), "{pod}: two actions at once, the other is {other:?}");
    }

    /// Live runs of the pod that the core knows of.
    fn known_live(&self, pod: &Name, truth: &Truth<'_>) -> Vec<Incarnation> {
        let first = self.config.first_incarnation;
        let is_known = |run: &Incarnation| run.0 >= first || self.observed.contains(run);
        truth.runs.live_of(pod).into_iter().filter(is_known).collect()
    }

    fn judge_start(
        &mut self,
        pod: &Name,
        incarnation: Incarnation,
        spec: &Arc<PodSpec>,
        truth: &Truth<'_>,
    ) {
        assert!(self.shutdown.is_none(), "{pod}: started while shutting down");
        assert!(incarnation.0 > self.last_run, "run numbers grow");
        self.last_run = incarnation.0;
        let live = self.known_live(pod, truth);
        assert!(live.is_empty(), "{pod}: started while {live:?} lives");
        if let Some(stored) = truth.store.pods().get(pod) {
            let is_judged = stored.verdict.is_some() && stored.spec == *spec;
            assert!(!is_judged, "{pod}: started against a durable verdict");
        }
    }

    /// A start with retries follows an end that is followed by a restart, and
    /// not too soon. A start without needs a reason of another kind.
    fn judge_retries(
        &mut self,
        pod: &Name,
        incarnation: Incarnation,
        spec: &Arc<PodSpec>,
        retries: u32,
    ) {
        if let Some(past) = self.pods.get(pod) {
            if retries == 0 {
                let is_other = past.spec != *spec;
                let is_excused = past.is_excused || past.is_adjusting;
                assert!(is_excused || is_other, "{pod}: started anew for no reason");
            } else {
                self.judge_restart(pod, past, spec, retries);
            }
        } else {
            assert_eq!(retries, 0, "{pod}: retries of the first run");
        }
        let past = Past {
            incarnation,
            spec: Arc::clone(spec),
            in_force: Arc::clone(spec),
            retries,
            started_at: None,
            ended: None,
            is_found: false,
            is_excused: false,
            is_adjusting: false,
        };
        self.pods.insert(pod.clone(), past);
    }

    fn judge_restart(&self, pod: &Name, past: &Past, spec: &Arc<PodSpec>, retries: u32) {
        // A run that ended before it was adjusted was by what it had.
        let was_by = if past.is_adjusting && past.in_force == *spec { spec } else { &past.spec };
        assert_eq!(was_by, spec, "{pod}: another spec starts counting anew");
        let end = past.ended.as_ref();
        let end = end.unwrap_or_else(|| panic!("{pod}: started again, and nothing had ended"));
        let is_retried = end.cause == EndCause::Download || restarts(spec.restart, &end.exit);
        assert!(is_retried, "{pod}: started again after {:?} under {:?}", end.exit, spec.restart);
        let before = self.retries_before(past);
        let deadline = end.at + self.backoff_ms(before);
        assert!(self.now >= deadline, "{pod}: started at {} before {deadline}", self.now);
        assert_eq!(retries, before + 1, "{pod}: retries");
    }

    fn retries_before(&self, past: &Past) -> u32 {
        let ended = past.ended.as_ref().map_or(self.now, |end| end.at);
        let ran_ms = past.started_at.map_or(0, |started| ended.saturating_sub(started));
        if ran_ms >= self.config.stable_window_ms { 0 } else { past.retries }
    }

    /// `min(base * 2^n, cap)`, the slow way.
    fn backoff_ms(&self, retries: u32) -> u64 {
        let mut delay_ms = u128::from(self.config.backoff_base_ms);
        for _ in 0..retries.min(64) {
            delay_ms = (delay_ms * 2).min(u128::from(u64::MAX));
        }
        u64::try_from(delay_ms).unwrap_or(u64::MAX).min(self.config.backoff_cap_ms)
    }

    /// A run of the core's own is ended only for a reason.
    fn judge_stop(&mut self, pod: &Name, incarnation: Incarnation, truth: &Truth<'_>) {
        let is_known = self.pods.get(pod).is_some_and(|past| past.incarnation == incarnation);
        if !is_known && incarnation.0 < self.config.first_incarnation {
            assert!(self.seen.contains(&incarnation), "{pod}: stops a run it cannot know");
            return;
        }
        let past = self.pods.get_mut(pod).expect("only a run that was started is stopped");
        if past.incarnation != incarnation {
            // The runtime still lists an older run, and is told to clear it away.
            let is_over = truth.runs.get(incarnation).is_some_and(|run| run.ended.is_some());
            assert!(is_over, "{pod}: stops a live run that is not the last");
            return;
        }
        let is_asked = past.is_excused || self.shutdown == Some(true);
        assert!(is_asked, "{pod}: stopped for no reason");
        past.is_excused = true;
    }

    fn noticed(&mut self, notice: &Notice, truth: &Truth<'_>) {
        match notice {
            Notice::RunStarted { pod, incarnation, is_adopted, .. } => {
                let past = self.past(pod, *incarnation);
                assert!(past.started_at.is_some(), "{pod}: started, and no start did");
                assert_eq!(past.is_found, *is_adopted, "{pod}: whose run it is");
                let is_over = past.ended.is_some() && !past.is_found;
                assert!(!is_over, "{pod}: started after its end");
                past.is_found = false;
                let run = truth.runs.get(*incarnation);
                assert!(run.is_some_and(|run| run.pod == *pod), "{pod}: no such run started");
            }
            Notice::RunEnded { pod, incarnation, exit, at, .. } => {
                self.run_ended(pod, *incarnation, exit, at.0, truth);
            }
            Notice::StartFailed { pod, incarnation, .. } => {
                let past = self.past(pod, *incarnation);
                assert!(past.ended.is_some(), "{pod}: failed to start, and no start did");
                past.end_found();
                let run = truth.runs.get(*incarnation);
                let is_live = run.is_some_and(|run| run.ended.is_none());
                assert!(!is_live, "{pod}: a run of a failed start");
            }
            Notice::StatusChanged { pod, status } if status.status == Status::BackingOff => {
                self.judge_wait(pod, status);
            }
            Notice::StatusChanged { .. } | Notice::PodGone { .. } => {}
        }
    }

    /// The wait that is told of is the one of the contract, to the millisecond.
    fn judge_wait(&self, pod: &Name, status: &PodStatus) {
        let past = self.pods.get(pod).unwrap_or_else(|| panic!("{pod}: backs off from nothing"));
        let end = past.ended.as_ref().unwrap_or_else(|| panic!("{pod}: backs off from nothing"));
        if past.is_excused && status.retries <= 1 {
            // Whatever else was a reason to start anew may have reset the count.
            return;
        }
        let before = self.retries_before(past);
        assert_eq!(status.retries, before + 1, "{pod}: retries of the next run");
        let wait = (end.at + self.backoff_ms(before)).saturating_sub(self.now);
        assert_eq!(status.retry_in_ms, Some(wait), "{pod}: wait before the next run");
    }

    fn past(&mut self, pod: &Name, incarnation: Incarnation) -> &mut Past {
        let past = self.pods.get_mut(pod).filter(|past| past.incarnation == incarnation);
        past.unwrap_or_else(|| panic!("{pod}: a notice of {incarnation:?}, which is stale"))
    }

    fn run_ended(
        &mut self,
        pod: &Name,
        incarnation: Incarnation,
        exit: &Exit,
        at: u64,
        truth: &Truth<'_>,
    ) {
        let past = self.past(pod, incarnation);
        assert!(past.is_found || past.started_at.is_some(), "{pod}: ended before it started");
        assert!(past.is_found || past.ended.is_none(), "{pod}: ended twice");
        past.end_found();
        let run = truth.runs.get(incarnation).expect("a run that was started");
        let really = run.ended.as_ref();
        let really = really.unwrap_or_else(|| panic!("{pod}: said to have ended, but lives"));
        let is_lost = matches!(exit, Exit::Failed(Failure { code: Code::Lost, .. }));
        let is_so = *exit == really.exit;
        assert!(is_lost || is_so, "{pod}: ended {really:?}, not {exit:?}");
        assert!(is_so || !run.is_listed, "{pod}: lost, but its exit is on record");
        let is_stopped = really.cause == EndCause::Request;
        let is_untimed = is_lost || is_stopped || self.stopped.contains(&incarnation);
        assert!(is_untimed || at == really.at.0, "{pod}: ended {really:?}, not at {at}");
        let cause = really.cause;
        let past = self.past(pod, incarnation);
        past.ended = Some(End { at, exit: exit.clone(), cause });
        past.is_excused |= is_stopped;
    }

    /// What is on record can go once what follows from it is durable, or everything ends.
    fn judge_forget(&mut self, pod: &Name, incarnation: Incarnation, truth: &Truth<'_>) {
        let past = self.pods.get_mut(pod).filter(|past| past.incarnation == incarnation);
        if let Some(past) = past {
            past.end_found();
        }
        let live = truth.runs.live_of(pod);
        assert!(!live.contains(&incarnation), "{pod}: forgets {incarnation:?}, which lives");
        let stored = truth.store.pods().get(pod);
        let is_judged = stored.is_none_or(|stored| {
            let is_of_it = self.learned.get(pod) == Some(&stored.generation);
            stored.verdict.is_some() || !is_of_it
        });
        let is_to_run_anew = self.pods.get(pod).is_some_and(|past| past.is_excused);
        let is_end = self.shutdown == Some(true) || is_to_run_anew;
        assert!(is_judged || is_end, "{pod}: forgets an end that nothing durable came of");
    }

    fn advance_syncs(&mut self, id: ActionId, action: &Action, commands: &[Command]) {
        let pod_actions = || {
            let is_pods =
                |action: &Action| !matches!(action, Action::Persist(_) | Action::Observe { .. });
            let in_flight = self.in_flight.iter().filter(move |(_, action)| is_pods(action));
            in_flight.map(|(id, _)| *id).collect::<BTreeSet<_>>()
        };
        let settling = pod_actions();
        let is_answer = match action {
            Action::Start { .. } | Action::Adopt { .. } => !self.cancelled.contains(&id),
            _ => false,
        };
        for sync in self.syncs.values_mut() {
            match sync {
                Sync::Waiting { first } if matches!(action, Action::Observe { .. }) => {
                    if id >= *first {
                        *sync = Sync::Settling { actions: settling.clone() };
                    }
                }
                Sync::Settling { actions } => {
                    if actions.remove(&id) && !is_answer {
                        // What the same pod does next belongs to the same pass.
                        actions.extend(next_of(action, commands));
                    }
                }
                Sync::Waiting { .. } => {}
            }
        }
    }

    fn replied(&mut self, reply: &Reply, truth: &Truth<'_>) {
        let ticket = reply.ticket;
        let request = self.asked.remove(&ticket);
        let request = request.unwrap_or_else(|| panic!("{ticket:?} is answered, and none waits"));
        match (&request, &reply.result) {
            (Request::Apply(spec) | Request::Create(spec) | Request::Seed(spec), Ok(response)) => {
                let Response::Applied { generation, .. } = response else {
                    panic!("an apply is answered with {response:?}")
                };
                let durable = truth.store.spec_at(&spec.name, *generation);
                assert_eq!(durable, Some(spec), "acknowledged what is not durable");
            }
            (Request::Sync, Ok(_)) => match self.syncs.remove(&ticket) {
                Some(Sync::Settling { actions }) => {
                    assert!(actions.is_empty(), "synced before {actions:?} were over");
                }
                sync => panic!("synced without a pass of its own: {sync:?}"),
            },
            (Request::Await { .. }, result) => {
                let awaited = self.awaits.remove(&ticket).expect("an await was asked for");
                self.judge_await(&awaited, result, truth);
            }
            (Request::Shutdown { stop_pods }, result) => {
                assert!(self.in_flight.is_empty(), "shut down while {:?}", self.in_flight);
                let live: Vec<_> =
                    self.pods.keys().flat_map(|pod| self.known_live(pod, truth)).collect();
                let is_over = live.is_empty() || !stop_pods || result.is_err();
                assert!(is_over, "shut down while {live:?} live");
            }
            _ => {}
        }
    }
}

impl Judge {
    /// An await is answered by what was desired when it began, or by what came later.
    fn judge_await(&self, awaited: &Await, result: &Result<Response, Failure>, truth: &Truth<'_>) {
        let pod = &awaited.pod;
        let statuses = match result {
            Ok(Response::Statuses(statuses)) => statuses,
            Ok(other) => panic!("{pod}: an await is answered with {other:?}"),
            Err(failure) => return self.judge_failed_await(awaited, failure),
        };
        self.judge_written(awaited);
        let Goal::Is(goal) = awaited.goal else {
            assert!(statuses.is_empty(), "{pod}: gone, and yet {statuses:?}");
            let live = self.known_live(pod, truth);
            assert!(live.is_empty(), "{pod}: gone, but {live:?} live");
            return;
        };
        let status = statuses.get(pod).unwrap_or_else(|| panic!("{pod}: awaited, and no status"));
        assert_eq!(status.status, goal, "{pod}: awaited {goal:?}");
        let generation = Revision(status.generation);
        assert!(
            generation >= awaited.generation,
            "{pod}: {goal:?} at {generation:?}, and {:?} was desired when it was awaited",
            awaited.generation
        );
        if goal == Status::Running {
            let spec = truth.store.spec_at(pod, generation).expect("a generation of this pod");
            let run = truth.runs.get(Incarnation(status.incarnation)).expect("a run that started");
            let by = run.spec.as_ref().expect("a run of the core's own");
            let is_by_it = by.is_adjustable_to(spec) && by.is_run_as(spec);
            assert!(is_by_it, "{pod}: awaited at {generation:?}, and runs by another spec");
        }
    }

    fn judge_failed_await(&self, awaited: &Await, failure: &Failure) {
        let pod = &awaited.pod;
        match failure.code {
            Code::Timeout => {
                let is_late = awaited.deadline.is_some_and(|deadline| deadline <= self.now);
                assert!(is_late, "{pod}: {failure}, and there is time until {awaited:?}");
            }
            Code::NotFound => self.judge_written(awaited),
            Code::ShuttingDown => assert!(self.shutdown.is_some(), "{pod}: {failure}"),
            _ => panic!("{pod}: an await is answered with {failure:?}"),
        }
    }

    /// Whatever was asked for before an await is over when that is answered.
    fn judge_written(&self, awaited: &Await) {
        let is_before = |action: &Action| match action {
            Action::Persist(Write::Put(spec) | Write::Create(spec)) => spec.name == awaited.pod,
            Action::Persist(Write::Delete(pod)) => *pod == awaited.pod,
            _ => false,
        };
        let mut before = self.in_flight.range(..awaited.first).map(|(_, action)| action);
        let write = before.find(|action| is_before(action));
        assert!(write.is_none(), "{}: answered before {write:?} was over", awaited.pod);
    }
}

/// The retries that subscribers are told of with a start.
fn told_retries(pod: &Name, notices: &[Notice]) -> u32 {
    let told = notices.iter().rev().find_map(|notice| match notice {
        Notice::StatusChanged { pod: other, status } if other == pod => Some(status),
        _ => None,
    });
    let status = told.unwrap_or_else(|| panic!("{pod}: a start that nobody is told of"));
    assert_eq!(status.status, Status::Starting, "{pod}: status of a start");
    status.retries
}

/// What the pod of this action does next.
fn next_of(action: &Action, commands: &[Command]) -> Option<ActionId> {
    commands.iter().find_map(|command| match command {
        Command::Act(next, other) if same_pod(action, other) => Some(*next),
        _ => None,
    })
}

fn pod_of(action: &Action) -> Option<&Name> {
    match action {
        Action::Start { pod, .. }
        | Action::Adopt { pod, .. }
        | Action::Stop { pod, .. }
        | Action::Adjust { pod, .. }
        | Action::Remove(pod) => Some(pod),
        Action::Persist(_) | Action::Observe { .. } => None,
    }
}

fn same_pod(one: &Action, other: &Action) -> bool {
    pod_of(one).is_some() && pod_of(one) == pod_of(other)
}

fn restarts(policy: RestartPolicy, exit: &Exit) -> bool {
    match policy {
        RestartPolicy::Always => true,
        RestartPolicy::OnFailure => *exit != Exit::Exited(0),
        RestartPolicy::Never => false,
    }
}
