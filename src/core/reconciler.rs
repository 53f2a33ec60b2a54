//! The entry point: takes events, keeps the pods, and draws the consequences.
//! What a single pod does is not decided here but in `pod` and `plan`.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;

use super::action::{Command, Desired, Notice, Reply, Response, Write};
use super::awaits::{Awaits, Sight, Waiter};
use super::effects::{Alarm, Effects, Mode, Pending, PendingWrite};
use super::event::{
    ActionId, DesiredChange, Event, Incarnation, Observation, ObservedRun, Outcome, Request,
    Revision, StoredPod, Ticket,
};
use super::failure::{Code, Failure, Place};
use super::forecast::{Course, Forecast};
use super::pod::{Pod, Stored};
use super::resync::Resync;
use super::sightings;
use super::spec::{Name, PodSpec};
use super::status::{Goal, PodStatus};
use super::syncs::Syncs;
use super::time::Millis;
use super::trail::{Cause, Trail};
use super::versions::Versions;

/// What the core is told once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// From the end of one full pass to the next. More than 0.
    pub interval_ms: u64,
    /// How long a nudge or a delete waits for another of its kind.
    pub debounce_ms: u64,
    /// The first wait before a restart.
    pub backoff_base_ms: u64,
    /// The longest wait before a restart.
    pub backoff_cap_ms: u64,
    /// A run that lasted this long starts counting its restarts anew.
    pub stable_window_ms: u64,
    /// The first run's number; above all that were ever used. More than 0.
    pub first_incarnation: u64,
    /// Whether anything is started and stopped at all. Without it the core
    /// only holds the desired state.
    pub actuate: bool,
    /// Whether a live run can be given other limits and another policy. Without
    /// it, another spec is another run.
    pub adjust: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            interval_ms: 5_000,
            debounce_ms: 100,
            backoff_base_ms: 10_000,
            backoff_cap_ms: 300_000,
            stable_window_ms: 600_000,
            first_incarnation: 1,
            actuate: true,
            adjust: true,
        }
    }
}

/// The reconcile loop. See [the module](super) for how to drive it.
#[derive(Debug)]
pub struct Reconciler {
    pods: BTreeMap<Name, Pod>,
    /// Pods that are to be forgotten once no observation is in flight.
    fading: BTreeSet<Name>,
    versions: Versions,
    resync: Resync,
    syncs: Syncs,
    awaits: Awaits,
    fx: Effects,
    is_ready: bool,
    shutdowns: Vec<Ticket>,
}

impl Reconciler {
    /// A core that knows nothing. Its first command asks what there is, and
    /// nothing is started or stopped before the answer.
    #[must_use]
    pub fn new(config: Config, now: Millis) -> Self {
        assert!(config.first_incarnation > 0, "run number 0 means that there was none");
        let mut core = Self {
            pods: BTreeMap::new(),
            fading: BTreeSet::new(),
            versions: Versions::default(),
            resync: Resync::new(config.interval_ms, config.debounce_ms, now),
            syncs: Syncs::default(),
            awaits: Awaits::default(),
            fx: Effects::new(config, now),
            is_ready: false,
            shutdowns: Vec::new(),
        };
        core.observe_if_due();
        core
    }

    /// Takes one event. `now` never goes back; if it does, it is ignored.
    pub fn handle(&mut self, now: Millis, event: Event) {
        self.fx.now = self.fx.now.max(now);
        match event {
            Event::Requested(ticket, request) => self.requested(ticket, request),
            Event::Abandoned(ticket) => self.abandoned(ticket),
            Event::Nudged => self.resync.nudged(self.fx.now),
            Event::Finished(id, outcome) => self.finished(id, outcome),
            Event::RunEnded { pod, incarnation, ended } => {
                self.touch(&pod, Cause::RunEnded, |state, fx| {
                    state.run_ended(&pod, fx, incarnation, ended);
                });
            }
            Event::Woke => {}
        }
        self.ring_alarms();
        self.give_up_awaits();
        self.observe_if_due();
        self.answer_shutdowns();
    }

    /// The next command to carry out, in order.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.fx.poll_command()
    }

    /// The next reply to send, in order.
    pub fn poll_reply(&mut self) -> Option<Reply> {
        self.fx.poll_reply()
    }

    /// The next notice to send, in order.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.fx.poll_notice()
    }

    /// The next instant at which `Event::Woke` must be delivered, if nothing
    /// else is before.
    #[must_use]
    pub fn poll_deadline(&self) -> Option<Millis> {
        if self.fx.mode != Mode::Working {
            return self.fx.next_alarm();
        }
        let alarms = self.fx.next_alarm().into_iter().chain(self.awaits.deadline());
        self.resync.deadline().into_iter().chain(alarms).min()
    }

    /// Whether anything is wanted of this pod, or goes on with it.
    #[must_use]
    pub fn is_known(&self, pod: &Name) -> bool {
        self.pods.contains_key(pod)
    }

    /// Which transitions have been taken so far.
    #[must_use]
    pub fn trail(&self) -> &Trail {
        &self.fx.trail
    }

    /// Whether the first observation has been digested.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.is_ready
    }
}

/// Requests.
impl Reconciler {
    fn requested(&mut self, ticket: Ticket, request: Request) {
        if self.fx.mode != Mode::Working && !is_answered_late(&request) {
            return self.fx.reply(ticket, Err(shutting_down()));
        }
        match request {
            Request::Apply(spec) => self.apply(ticket, spec),
            Request::Create(spec) => self.create(ticket, spec),
            // Only the store knows what was ever seeded, and has to be told in any case.
            Request::Seed(spec) => self.persist(ticket, Write::Seed(spec), true),
            Request::Delete(pod) => self.persist(ticket, Write::Delete(pod), true),
            Request::Get(pod) => self.get(ticket, &pod),
            Request::List => self.list(ticket),
            Request::Status(None) => self.statuses(ticket),
            Request::Status(Some(pod)) => self.status(ticket, &pod),
            Request::Sync => self.sync(ticket),
            Request::Restart(pod) => self.restart(ticket, &pod),
            Request::Plan(specs) => {
                let forecasts = self.forecasts(&specs);
                self.fx.reply(ticket, Ok(Response::Planned(forecasts)));
            }
            Request::Await { pod, goal, timeout_ms } => {
                self.await_goal(ticket, &pod, goal, timeout_ms);
            }
            Request::Kill(pod, incarnation) => self.kill(ticket, &pod, incarnation),
            Request::Shutdown { stop_pods } => self.shutdown(ticket, stop_pods),
        }
    }

    fn apply(&mut self, ticket: Ticket, spec: Arc<PodSpec>) {
        let desired = self.desired(&spec.name);
        let same = desired.filter(|stored| stored.spec == spec).map(|stored| stored.generation);
        match same {
            Some(generation) if !self.fx.is_writing_spec(&spec.name) => {
                self.fx.reply(ticket, Ok(Response::Applied { generation, changed: false }));
            }
            _ => self.persist(ticket, Write::Put(spec), same.is_none()),
        }
    }

    fn create(&mut self, ticket: Ticket, spec: Arc<PodSpec>) {
        let is_there = self.desired(&spec.name).is_some();
        if is_there && !self.fx.is_writing_spec(&spec.name) {
            return self.fx.reply(ticket, Err(exists(&spec.name)));
        }
        self.persist(ticket, Write::Create(spec), true);
    }

    fn get(&mut self, ticket: Ticket, pod: &Name) {
        let found = self.desired(pod).map(described);
        self.fx.reply(ticket, found.map(Response::Pod).ok_or_else(|| Failure::no_pod(pod)));
    }

    fn list(&mut self, ticket: Ticket) {
        let pods = self.pods.values().filter_map(Pod::desired).map(described).collect();
        self.fx.reply(ticket, Ok(Response::Pods(pods)));
    }

    fn statuses(&mut self, ticket: Ticket) {
        let with_status = |(name, pod): (&Name, &Pod)| Some((name.clone(), pod.status(&self.fx)?));
        let statuses: BTreeMap<Name, PodStatus> =
            self.pods.iter().filter_map(with_status).collect();
        self.fx.reply(ticket, Ok(Response::Statuses(statuses)));
    }

    fn status(&mut self, ticket: Ticket, pod: &Name) {
        let status = self.pods.get(pod).and_then(|state| state.status(&self.fx));
        let found = status.map(|status| BTreeMap::from([(pod.clone(), status)]));
        self.fx.reply(ticket, found.map(Response::Statuses).ok_or_else(|| Failure::no_pod(pod)));
    }

    fn sync(&mut self, ticket: Ticket) {
        self.syncs.add(ticket);
        self.resync.demanded();
    }

    fn restart(&mut self, ticket: Ticket, pod: &Name) {
        let Some(desired) = self.desired(pod) else {
            return self.fx.reply(ticket, Err(Failure::no_pod(pod)));
        };
        // Before the first observation there may be a verdict that is not known.
        let may_be_judged = desired.verdict.is_some() || !self.is_ready;
        if may_be_judged || self.fx.is_writing_verdict(pod) {
            return self.persist(ticket, Write::ClearVerdict(pod.clone()), false);
        }
        self.fx.reply(ticket, Ok(Response::Done));
        self.touch(pod, Cause::RestartAsked, |state, _| state.ask_restart());
    }

    /// What an apply of each would come to. Nothing is another for having been asked.
    fn forecasts(&self, specs: &[Arc<PodSpec>]) -> Vec<Forecast> {
        let unknown = |spec: &PodSpec| Forecast {
            pod: spec.name.clone(),
            course: Course::Create,
            changes: Vec::new(),
            generation: None,
        };
        let forecast = |spec: &Arc<PodSpec>| {
            let pod = self.pods.get(&spec.name);
            pod.map_or_else(|| unknown(spec), |pod| pod.forecast(&self.fx, spec))
        };
        specs.iter().map(forecast).collect()
    }

    fn await_goal(&mut self, ticket: Ticket, pod: &Name, goal: Goal, timeout_ms: Option<u64>) {
        let after = self.fx.next_action();
        let deadline = timeout_ms.map(|timeout_ms| self.fx.now.after(timeout_ms));
        self.awaits.add(ticket, pod, Waiter { goal, after, generation: None }, deadline);
        self.answer_awaits(pod);
    }

    /// Shows a pod to those who wait for it.
    fn answer_awaits(&mut self, pod: &Name) {
        if self.awaits.is_awaited(pod) {
            let sight = self.sight(pod);
            for (ticket, result) in self.awaits.seen(pod, &sight) {
                self.fx.reply(ticket, result);
            }
        }
    }

    fn give_up_awaits(&mut self) {
        while let Some((ticket, pod, waiter)) = self.awaits.take_late(self.fx.now) {
            let failure = waiter.too_late(&pod, &self.sight(&pod));
            self.fx.reply(ticket, Err(failure));
        }
    }

    fn sight(&self, pod: &Name) -> Sight {
        let state = self.pods.get(pod).map(|state| state.sight(&self.fx));
        Sight { oldest_write: self.fx.oldest_spec_write(pod), ..state.unwrap_or_default() }
    }

    fn kill(&mut self, ticket: Ticket, pod: &Name, incarnation: Incarnation) {
        if !self.pods.get(pod).is_some_and(|state| state.has_run(incarnation)) {
            return self.fx.reply(ticket, Err(no_run(pod, incarnation)));
        }
        self.fx.kill(pod, incarnation);
        self.fx.reply(ticket, Ok(Response::Done));
    }

    fn shutdown(&mut self, ticket: Ticket, stop_pods: bool) {
        let mode = if stop_pods { Mode::Halting } else { Mode::Holding };
        self.fx.mode = self.fx.mode.max(mode);
        self.fx.halt_failure = None;
        self.shutdowns.push(ticket);
        for waiting in self.syncs.refuse_waiting().into_iter().chain(self.awaits.refuse_all()) {
            self.fx.reply(waiting, Err(shutting_down()));
        }
        let names: Vec<Name> = self.pods.keys().cloned().collect();
        for name in names {
            let is_halting = self.fx.mode == Mode::Halting;
            self.touch(&name, Cause::ShutDown, |pod, fx| {
                pod.settle_delete(&name, fx);
                if is_halting {
                    pod.retry_stop(&name, fx);
                    pod.forget_wait(&name, fx);
                }
            });
        }
    }

    fn answer_shutdowns(&mut self) {
        if self.shutdowns.is_empty() || !self.fx.is_quiet() {
            return;
        }
        for ticket in mem::take(&mut self.shutdowns) {
            let result = self.fx.halt_failure.clone().map_or(Ok(Response::Done), Err);
            self.fx.reply(ticket, result);
        }
    }

    fn abandoned(&mut self, ticket: Ticket) {
        self.syncs.abandon(ticket);
        self.awaits.abandon(ticket);
        self.shutdowns.retain(|waiting| *waiting != ticket);
        self.fx.abandon(ticket);
    }

    fn desired(&self, pod: &Name) -> Option<&Stored> {
        self.pods.get(pod).and_then(Pod::desired)
    }

    fn persist(&mut self, ticket: Ticket, write: Write, is_change: bool) {
        let incarnation = match &write {
            Write::ClearVerdict(pod) => self.pods.get(pod).map(Pod::incarnation),
            _ => None,
        };
        let incarnation = incarnation.unwrap_or_default();
        self.fx.persist(PendingWrite { write, ticket: Some(ticket), is_change, incarnation });
    }
}

/// Outcomes.
impl Reconciler {
    fn finished(&mut self, id: ActionId, outcome: Outcome) {
        // An id that is not in flight has been answered before.
        let Some(pending) = self.fx.finish(id) else { return };
        match (pending, outcome) {
            (Pending::Write(write), Outcome::Persisted(result)) => self.persisted(write, result),
            (Pending::Observe, Outcome::Observed(observation)) => self.observed(id, observation),
            (Pending::Pod(pod), Outcome::Started(result)) => {
                let cause = if result.is_ok() { Cause::Started } else { Cause::NotStarted };
                let is_answer = self
                    .touch(&pod, cause, |state, fx| state.start_finished(&pod, fx, result))
                    .expect("a pod with an action in flight is remembered");
                if is_answer {
                    self.settled(&pod);
                }
            }
            (Pending::Pod(pod), Outcome::Stopped(result)) => {
                let cause = if result.is_ok() { Cause::Stopped } else { Cause::NotStopped };
                self.touch(&pod, cause, |state, fx| state.stop_finished(&pod, fx, result));
            }
            (Pending::Pod(pod), Outcome::Adjusted(result)) => {
                let is_done = result.is_ok();
                let cause = if is_done { Cause::Adjusted } else { Cause::NotAdjusted };
                self.touch(&pod, cause, |state, fx| state.adjust_finished(&pod, fx, is_done));
            }
            (Pending::Pod(pod), Outcome::Removed) => {
                self.touch(&pod, Cause::Removed, |state, fx| state.removed(&pod, fx));
            }
            (pending, outcome) => panic!("{pending:?} cannot finish as {outcome:?}"),
        }
    }

    fn persisted(&mut self, write: PendingWrite, result: Result<Revision, Failure>) {
        let PendingWrite { write, ticket, is_change, incarnation } = write;
        let written = write.spec_of().cloned();
        let result = result.map(|revision| match write {
            Write::Put(spec) | Write::Create(spec) | Write::Seed(spec) => {
                let changed = self.spec_persisted(spec, revision, is_change);
                Response::Applied { generation: revision, changed }
            }
            Write::Delete(pod) => {
                self.delete_persisted(&pod, revision);
                Response::Done
            }
            Write::PutVerdict(pod, generation, verdict) => {
                let verdict = (generation, verdict);
                self.touch(&pod, Cause::Judged, |state, fx| {
                    state.verdict_recorded(&pod, fx, verdict, incarnation);
                });
                Response::Done
            }
            Write::ClearVerdict(pod) => {
                self.touch(&pod, Cause::Pardoned, |state, _| state.verdict_cleared(incarnation));
                Response::Done
            }
        });
        if let Some(ticket) = ticket {
            self.fx.reply(ticket, result);
        }
        if let Some(pod) = written {
            self.answer_awaits(&pod);
        }
    }

    /// Whether this made the spec another than before.
    fn spec_persisted(
        &mut self,
        spec: Arc<PodSpec>,
        generation: Revision,
        is_change: bool,
    ) -> bool {
        let name = spec.name.clone();
        if !self.versions.put(&name, generation) {
            let pod = self.pods.get_mut(&name);
            return is_change && pod.is_none_or(|pod| pod.acknowledge(generation));
        }
        self.pods.entry(name.clone()).or_default().acknowledge(generation);
        let stored = StoredPod { generation, spec, verdict: None };
        let stored = |pod: &mut Pod, fx: &mut Effects| pod.spec_stored(&name, fx, stored);
        self.touch(&name, Cause::Stored, stored).unwrap_or(is_change)
    }

    fn delete_persisted(&mut self, pod: &Name, revision: Revision) {
        if self.versions.delete(pod, revision) && self.desired(pod).is_some() {
            self.touch(pod, Cause::Deleted, |state, fx| state.deleted(pod, fx));
        }
    }
}

/// Passes.
impl Reconciler {
    fn observe_if_due(&mut self) {
        if self.fx.mode == Mode::Working && self.resync.is_due(self.fx.now) {
            let id = self.fx.observe(self.versions.seen());
            self.resync.began(id);
            self.syncs.pass_began();
        }
    }

    fn observed(&mut self, id: ActionId, observation: Observation) {
        let Observation { desired, runs } = observation;
        if !self.is_ready {
            runs.iter().for_each(|run| self.fx.note_incarnation(run.incarnation));
        }
        if let Some(change) = desired {
            self.digest(change);
        }
        self.is_ready = true;
        if self.fx.config.actuate {
            self.pass(id, runs);
        } else {
            self.pods.retain(|_, pod| !pod.is_forgettable());
        }
        self.resync.ended(self.fx.now, id);
        for name in mem::take(&mut self.fading) {
            if self.pods.get(&name).is_some_and(Pod::is_forgettable) {
                self.pods.remove(&name);
            }
        }
        // What is due now is work of this pass, too.
        self.ring_alarms();
        for pod in self.awaits.pods() {
            self.answer_awaits(&pod);
        }
        self.end_pass();
    }

    /// Takes over what the store holds.
    fn digest(&mut self, change: DesiredChange) {
        let DesiredChange { revision, is_full, pods } = change;
        if !self.versions.is_current(revision) {
            return;
        }
        if is_full {
            self.forget_missing(revision, &pods);
        }
        for (name, stored) in pods {
            if self.versions.may_tell(&name, revision) {
                self.digest_pod(&name, stored);
            }
        }
        self.versions.observed(revision);
    }

    fn forget_missing(&mut self, revision: Revision, stored: &[(Name, Option<StoredPod>)]) {
        let stored: BTreeMap<&Name, ()> = stored.iter().map(|(name, _)| (name, ())).collect();
        for (name, pod) in &mut self.pods {
            if !stored.contains_key(name) && self.versions.may_tell(name, revision) {
                pod.vanished(name, &mut self.fx);
            }
        }
    }

    fn digest_pod(&mut self, name: &Name, stored: Option<StoredPod>) {
        match stored {
            Some(stored) => {
                self.pods.entry(name.clone()).or_default().spec_stored(name, &mut self.fx, stored);
            }
            None => {
                if let Some(pod) = self.pods.get_mut(name) {
                    pod.vanished(name, &mut self.fx);
                }
            }
        }
    }

    /// Compares everything with everything.
    fn pass(&mut self, id: ActionId, runs: Vec<ObservedRun>) {
        for (name, sighting) in sightings::compare(&self.pods, runs) {
            self.pods.entry(name.clone()).or_default();
            self.touch(&name, Cause::Observed, |pod, fx| {
                pod.observed(&name, fx, id, &sighting);
            });
        }
    }

    fn end_pass(&mut self) {
        if !self.syncs.is_awaiting_pass() {
            return;
        }
        let busy = self.pods.iter().filter(|(_, pod)| pod.is_busy());
        let busy = busy.map(|(name, _)| name.clone()).collect();
        for ticket in self.syncs.pass_ended(busy) {
            self.fx.reply(ticket, Ok(Response::Done));
        }
    }

    fn ring_alarms(&mut self) {
        while let Some((name, alarm)) = self.fx.take_alarm() {
            self.touch(&name, Cause::Alarm, |pod, fx| {
                if alarm == Alarm::Delete {
                    pod.settle_delete(&name, fx);
                }
            });
        }
    }

    /// Lets something happen to a pod, then draws all consequences.
    fn touch<T>(
        &mut self,
        name: &Name,
        cause: Cause,
        happen: impl FnOnce(&mut Pod, &mut Effects) -> T,
    ) -> Option<T> {
        let pod = self.pods.get_mut(name)?;
        let before = pod.doing(self.fx.now);
        let result = happen(pod, &mut self.fx);
        if self.is_ready && self.fx.config.actuate {
            pod.reconcile(name, &mut self.fx);
        }
        self.fx.trail.note_transition(before, cause, pod.doing(self.fx.now));
        pod.announce(name, &mut self.fx);
        let is_busy = pod.is_busy();
        if pod.is_forgettable() {
            self.forget(name);
        }
        self.answer_awaits(name);
        if !is_busy {
            self.settled(name);
        }
        Some(result)
    }

    /// An observation in flight may still show what the pod had: it is remembered that
    /// this is over until then.
    fn forget(&mut self, pod: &Name) {
        if self.resync.is_observing() {
            self.fading.insert(pod.clone());
        } else {
            self.pods.remove(pod);
        }
    }

    fn settled(&mut self, pod: &Name) {
        for ticket in self.syncs.pod_settled(pod) {
            self.fx.reply(ticket, Ok(Response::Done));
        }
    }
}

fn is_answered_late(request: &Request) -> bool {
    use Request as R;
    match request {
        R::Get(_) | R::List | R::Status(_) | R::Kill(..) | R::Shutdown { .. } => true,
        R::Apply(_)
        | R::Create(_)
        | R::Seed(_)
        | R::Delete(_)
        | R::Sync
        | R::Restart(_)
        | R::Plan(_)
        | R::Await { .. } => false,
    }
}

fn described(stored: &Stored) -> Desired {
    Desired { generation: stored.generation, spec: Arc::clone(&stored.spec) }
}

fn no_run(pod: &Name, incarnation: Incarnation) -> Failure {
    let message = format!("no run {} of pod {pod}", incarnation.0);
    Failure::new(Code::NotFound, message).at(Place::Pod, pod)
}

fn exists(pod: &Name) -> Failure {
    Failure::new(Code::Exists, format!("pod {pod} exists")).at(Place::Pod, pod)
}

fn shutting_down() -> Failure {
    Failure::new(Code::ShuttingDown, "the program is shutting down")
}
