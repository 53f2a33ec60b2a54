//! One pod: what is desired of it, the run it has, and how it came to that.
//!
//! Methods record what happened; [`Pod::reconcile`] alone decides what follows,
//! by the table in [`plan`]. A pod never looks at another.

use std::sync::Arc;

use super::action::{Action, Notice, Write};
use super::awaits::Sight;
use super::backoff::{self, delay_text};
use super::effects::{Alarm, Effects, Mode, PendingWrite};
use super::event::{
    ActionId, EndCause, Ended, Incarnation, LastExit, ObservedRun, Origin, Revision, StartError,
    Started, StoredPod, Verdict,
};
use super::failure::{Code, Failure, Place};
use super::forecast::{self, Course, Forecast};
use super::plan::{self, Doing, Step, Want};
use super::sightings::Sighting;
use super::spec::{ContainerSpec, Name, PodSpec};
use super::status::{ContainerStatus, Exit, Phase, PodStatus, Status};
use super::time::Millis;

/// All that the core knows of one pod.
#[derive(Debug, Default)]
pub(super) struct Pod {
    desired: Option<Stored>,
    /// What the current or last run was made from.
    tracked: Option<Tracked>,
    state: State,
    /// When the state last changed, on the clock of action ids: what was
    /// observed at the request of an older id says nothing about it.
    changed: ActionId,
    /// The current or last run; 0 before the first.
    incarnation: Incarnation,
    retries: u32,
    last: Option<Box<LastExit>>,
    /// A fresh run is wanted although the spec may be the same.
    is_restart_asked: bool,
    /// The pod was deleted and may be applied again until then.
    delete_due: Option<Millis>,
    /// Runs that nobody asked for.
    orphans: Vec<Incarnation>,
    /// Whether anything was begun that may have left something behind.
    has_traces: bool,
    /// The generation that was last acknowledged to a client.
    acknowledged: Revision,
    announced: Option<Announced>,
}

/// What the store holds of a pod. A pass looks at every pod, so that what is
/// rare is kept out of the way.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) generation: Revision,
    pub(super) spec: Arc<PodSpec>,
    pub(super) verdict: Option<Box<Verdict>>,
}

#[derive(Debug)]
struct Tracked {
    generation: Revision,
    spec: Arc<PodSpec>,
}

/// What a subscriber knows, as far as it matters for telling it again.
type Announced = (Status, Phase, u32, u64, u64);

/// What the pod is doing.
#[derive(Debug)]
enum State {
    /// No run, nothing in flight.
    Resting(Rest),
    /// A start is in flight, or the run of an earlier program is being taken over.
    Launching { action: ActionId, is_adopted: bool, is_cancelled: bool, ended: Option<Box<Ended>> },
    /// The workload lives.
    Running { started: Arc<Started> },
    /// The workload lives, and is adjusted to `target`.
    Adjusting {
        action: ActionId,
        target: Box<Tracked>,
        started: Arc<Started>,
        ended: Option<Box<Ended>>,
    },
    /// The run is being ended, or that failed and is tried again.
    Stopping { action: Option<ActionId>, started: Arc<Started>, ended: Option<Box<Ended>> },
    /// A run that nobody asked for is being ended, or that failed.
    Sweeping { action: Option<ActionId>, run: Incarnation, rest: Rest },
    /// What the deleted pod left behind is being removed.
    Removing { action: ActionId },
}

/// Why nothing runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// Nothing has been decided yet.
    Fresh,
    /// A run of an earlier program lives: the current one, to be taken over.
    Found,
    /// The next run begins at `until`.
    Waiting { until: Millis, delay_ms: u64 },
    /// There is no next run.
    Terminal,
}

impl Default for State {
    fn default() -> Self {
        Self::Resting(Rest::Fresh)
    }
}

/// What is desired of the pod.
impl Pod {
    pub(super) fn desired(&self) -> Option<&Stored> {
        self.desired.as_ref()
    }

    /// The store holds this spec at this generation. Whether the spec is
    /// another than before.
    pub(super) fn spec_stored(&mut self, name: &Name, fx: &mut Effects, stored: StoredPod) -> bool {
        self.settle_delete(name, fx);
        if let Some(old) = &mut self.desired
            && old.generation == stored.generation
        {
            // Only before its first run can others know of a verdict we do not.
            if self.tracked.is_none() && old.verdict.is_none() {
                old.verdict = stored.verdict.map(Box::new);
            }
            return false;
        }
        let is_change = self.desired.as_ref().is_none_or(|old| old.spec != stored.spec);
        self.desired = Some(Stored::new(stored));
        is_change
    }

    /// The store no longer holds the pod, and whoever removed it may be about
    /// to apply it again.
    pub(super) fn deleted(&mut self, name: &Name, fx: &mut Effects) {
        self.vanished(name, fx);
        if fx.mode != Mode::Working {
            return;
        }
        let due = fx.now.after(fx.config.debounce_ms);
        self.delete_due = Some(due);
        fx.set_alarm(due, name, Alarm::Delete);
    }

    /// The store was seen without the pod.
    pub(super) fn vanished(&mut self, name: &Name, fx: &mut Effects) {
        self.settle_delete(name, fx);
        self.desired = None;
    }

    /// A delete has waited long enough.
    pub(super) fn settle_delete(&mut self, name: &Name, fx: &mut Effects) {
        if let Some(due) = self.delete_due.take() {
            fx.clear_alarm(due, name, Alarm::Delete);
        }
    }

    /// A client is told of this generation. Whether it was not told before.
    pub(super) fn acknowledge(&mut self, generation: Revision) -> bool {
        std::mem::replace(&mut self.acknowledged, generation) != generation
    }

    /// A fresh run is wanted, with retries 0.
    pub(super) fn ask_restart(&mut self) {
        self.retries = 0;
        self.is_restart_asked = true;
    }

    pub(super) fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Whether this is the number of a run that has not ended.
    pub(super) fn has_run(&self, incarnation: Incarnation) -> bool {
        let is_live = matches!(
            self.state,
            State::Running { .. } | State::Adjusting { .. } | State::Stopping { .. }
        );
        is_live && self.incarnation == incarnation
    }

    /// Whether an action of this pod is in flight, or soon will be.
    pub(super) fn is_busy(&self) -> bool {
        self.action().is_some() || self.delete_due.is_some()
    }

    /// Whether there is no reason to remember the pod.
    pub(super) fn is_forgettable(&self) -> bool {
        let is_idle = matches!(self.state, State::Resting(Rest::Fresh));
        let is_wanted = self.desired.is_some() || self.delete_due.is_some();
        is_idle && !is_wanted && self.orphans.is_empty()
    }

    fn action(&self) -> Option<ActionId> {
        match self.state {
            State::Launching { action, .. }
            | State::Adjusting { action, .. }
            | State::Removing { action } => Some(action),
            State::Stopping { action, .. } | State::Sweeping { action, .. } => action,
            State::Resting(_) | State::Running { .. } => None,
        }
    }
}

/// Decisions.
impl Pod {
    /// Compares what is wanted with what is, and takes the next step.
    pub(super) fn reconcile(&mut self, name: &Name, fx: &mut Effects) {
        if self.delete_due.is_some() {
            return;
        }
        self.take_policy();
        let want = self.want(fx);
        if want == Want::Same && !matches!(self.state, State::Stopping { .. }) {
            self.adopt_generation(name, fx);
        }
        let doing = self.doing(fx.now);
        fx.trail.note_decision(doing, want);
        match plan::next(doing, want) {
            Step::Nothing => {}
            Step::Start => self.start(name, fx),
            Step::Adopt => self.adopt(name, fx),
            Step::Cancel => self.cancel(fx),
            Step::Adjust => self.adjust(name, fx),
            Step::Stop => self.stop(name, fx),
            Step::Sweep => self.sweep(name, fx),
            Step::Remove => self.remove(name, fx),
            Step::Retire => self.retire(fx),
        }
    }

    pub(super) fn doing(&self, now: Millis) -> Doing {
        match &self.state {
            State::Resting(_) if !self.orphans.is_empty() => Doing::Littered,
            State::Resting(rest) => rest.doing(now),
            State::Launching { is_cancelled: true, .. } => Doing::Cancelled,
            State::Launching { is_adopted: true, .. } => Doing::Adopting,
            State::Launching { .. } => Doing::Launching,
            State::Running { .. } => Doing::Running,
            State::Adjusting { .. } => Doing::Adjusting,
            State::Stopping { .. } | State::Sweeping { .. } | State::Removing { .. } => {
                Doing::Ending
            }
        }
    }

    fn want(&self, fx: &Effects) -> Want {
        let Some(desired) = &self.desired else { return Want::Gone };
        match fx.mode {
            Mode::Holding => Want::Hold,
            Mode::Halting => Want::Halt,
            Mode::Working => self.want_beside(fx, self.tracked.as_ref(), desired),
        }
    }

    /// What is wanted of a pod that has this and shall have that.
    fn want_beside(&self, fx: &Effects, tracked: Option<&Tracked>, desired: &Stored) -> Want {
        match tracked {
            _ if self.is_restart_asked => Want::New,
            Some(tracked) if !tracked.is_of(desired) => {
                let is_adjusted = fx.config.adjust && tracked.spec.is_adjustable_to(&desired.spec);
                if is_adjusted { Want::Adjusted } else { Want::New }
            }
            _ if desired.verdict.is_some() => Want::Finished,
            Some(_) => Want::Same,
            None => Want::New,
        }
    }

    /// A run that is being taken over may have ended: another policy is in force before
    /// that is known.
    fn take_policy(&mut self) {
        let is_found = matches!(
            self.state,
            State::Resting(Rest::Found) | State::Launching { is_adopted: true, .. }
        );
        let (Some(desired), Some(tracked)) = (&self.desired, &self.tracked) else { return };
        let is_other = tracked.generation != desired.generation;
        if is_found && is_other && tracked.spec.is_same_run(&desired.spec) {
            self.tracked = Some(Tracked::new(desired));
        }
    }

    /// The same spec at another generation is no reason to restart.
    fn adopt_generation(&mut self, name: &Name, fx: &mut Effects) {
        let (Some(desired), Some(tracked)) = (&self.desired, &mut self.tracked) else { return };
        if tracked.generation != desired.generation {
            tracked.generation = desired.generation;
            self.record_verdict(name, fx);
        }
    }

    fn start(&mut self, name: &Name, fx: &mut Effects) {
        self.leave_rest(name, fx);
        assert!(fx.mode == Mode::Working, "nothing starts while shutting down");
        assert!(self.orphans.is_empty(), "nothing starts while another run is there");
        let desired = self.desired.as_mut().expect("only a desired pod starts");
        // An observation from before it was taken back may have shown it.
        desired.verdict = None;
        let is_same = self.tracked.as_ref().is_some_and(|tracked| tracked.is_of(desired));
        if !is_same || self.is_restart_asked {
            self.retries = 0;
        }
        self.tracked = Some(Tracked::new(desired));
        self.is_restart_asked = false;
        let incarnation = fx.new_incarnation();
        assert!(incarnation > self.incarnation, "run numbers grow");
        self.incarnation = incarnation;
        let origin = desired.origin(self.retries, self.last.as_deref());
        let action = fx.act(name, Action::Start { pod: name.clone(), incarnation, origin });
        self.launch(fx, action, false);
    }

    /// Takes over the run that was found.
    fn adopt(&mut self, name: &Name, fx: &mut Effects) {
        let State::Resting(Rest::Found) = self.state else { panic!("only what was found") };
        let (pod, incarnation) = (name.clone(), self.incarnation);
        let action = fx.act(name, Action::Adopt { pod, incarnation });
        self.launch(fx, action, true);
    }

    fn launch(&mut self, fx: &Effects, action: ActionId, is_adopted: bool) {
        let (is_cancelled, ended) = (false, None);
        self.enter(fx, State::Launching { action, is_adopted, is_cancelled, ended });
    }

    /// Leaves a rest for a run. Asserts what no event may ever bring about.
    fn leave_rest(&mut self, name: &Name, fx: &mut Effects) {
        let State::Resting(rest) = self.state else { panic!("a run starts only from rest") };
        let is_other = matches!(self.want(fx), Want::Adjusted | Want::New);
        match rest {
            Rest::Fresh => {}
            Rest::Found => panic!("a run that was found is taken over first"),
            Rest::Waiting { until, .. } => {
                assert!(until <= fx.now || is_other, "no start before the deadline");
                fx.clear_alarm(until, name, Alarm::Restart);
            }
            Rest::Terminal => assert!(is_other, "a verdict stands"),
        }
    }

    fn cancel(&mut self, fx: &mut Effects) {
        let State::Launching { action, is_cancelled, .. } = &mut self.state else {
            panic!("only a start is cancelled")
        };
        *is_cancelled = true;
        fx.cancel(*action);
        // Should it start all the same, that run is not the one wanted.
        self.is_restart_asked = true;
        self.changed = fx.next_action();
    }

    /// Goes on by the desired spec: what the core itself does by it, the policy,
    /// from now on, and the rest as soon as the run has it.
    fn adjust(&mut self, name: &Name, fx: &mut Effects) {
        let State::Running { started } = &self.state else { panic!("only a live run is adjusted") };
        let started = Arc::clone(started);
        let desired = self.desired.as_ref().expect("only a desired pod is adjusted");
        let tracked = self.tracked.as_ref().expect("a run was made from a spec");
        let target = Tracked::new(desired);
        if target.spec.is_run_as(&tracked.spec) {
            self.tracked = Some(target);
            return;
        }
        let (incarnation, origin) =
            (self.incarnation, desired.origin(self.retries, self.last.as_deref()));
        let action = fx.act(name, Action::Adjust { pod: name.clone(), incarnation, origin });
        let target = Box::new(target);
        self.enter(fx, State::Adjusting { action, target, started, ended: None });
    }

    fn stop(&mut self, name: &Name, fx: &mut Effects) {
        let (State::Running { started } | State::Stopping { action: None, started, .. }) =
            &self.state
        else {
            panic!("only a live run is stopped, and once at a time")
        };
        let started = Arc::clone(started);
        let action = self.ask_stop(name, fx, self.incarnation);
        self.enter(fx, State::Stopping { action: Some(action), started, ended: None });
    }

    fn sweep(&mut self, name: &Name, fx: &mut Effects) {
        let State::Resting(rest) = self.state else { panic!("a sweep begins only from rest") };
        let run = self.orphans[0];
        let action = self.ask_stop(name, fx, run);
        self.enter(fx, State::Sweeping { action: Some(action), run, rest });
    }

    fn ask_stop(&self, name: &Name, fx: &mut Effects, incarnation: Incarnation) -> ActionId {
        assert!(self.action().is_none(), "one action of a pod is in flight at a time");
        fx.act(name, Action::Stop { pod: name.clone(), incarnation })
    }

    fn remove(&mut self, name: &Name, fx: &mut Effects) {
        let State::Resting(rest) = self.state else { panic!("a live run is never removed") };
        if let Rest::Waiting { until, .. } = rest {
            fx.clear_alarm(until, name, Alarm::Restart);
        }
        if !self.has_traces {
            // Of one that is at rest already nothing changes, and what was seen of it counts.
            if rest != Rest::Fresh {
                self.enter(fx, State::default());
            }
            return;
        }
        let action = fx.act(name, Action::Remove(name.clone()));
        self.enter(fx, State::Removing { action });
    }

    /// Takes over the verdict of an earlier program.
    fn retire(&mut self, fx: &mut Effects) {
        let desired = self.desired.as_ref().expect("a verdict is passed on a desired pod");
        let verdict = desired.verdict.as_deref().expect("the table saw a verdict").clone();
        self.tracked = Some(Tracked::new(desired));
        self.retries = verdict.retries;
        self.last = Some(Box::new(verdict.last));
        self.incarnation = self.incarnation.max(verdict.incarnation);
        fx.note_incarnation(self.incarnation);
        self.enter(fx, State::Resting(Rest::Terminal));
    }

    fn enter(&mut self, fx: &Effects, state: State) {
        self.has_traces |= !matches!(state, State::Resting(Rest::Fresh));
        self.state = state;
        self.changed = fx.next_action();
    }
}

/// What would be decided.
impl Pod {
    /// What an apply of this spec would come to now.
    pub(super) fn forecast(&self, fx: &Effects, spec: &Arc<PodSpec>) -> Forecast {
        let standing = self.standing();
        let is_same = self.desired.as_ref().is_some_and(|desired| desired.spec == *spec);
        Forecast {
            pod: spec.name.clone(),
            course: if is_same { Course::None } else { self.course(fx, spec, standing.is_some()) },
            changes: standing.map(|(_, old)| old.differences(spec)).unwrap_or_default(),
            generation: standing.map(|(generation, _)| generation),
        }
    }

    fn course(&self, fx: &Effects, spec: &Arc<PodSpec>, is_there: bool) -> Course {
        // A generation of its own, which is of no run.
        let generation = Revision(u64::MAX);
        let desired = Stored { generation, spec: Arc::clone(spec), verdict: None };
        let (doing, tracked) = match &self.state {
            // By then the run is by what it is adjusted to, if it is not over.
            State::Adjusting { target, ended: None, .. } => (Doing::Running, Some(&**target)),
            State::Adjusting { target, .. } => (Doing::Waiting, Some(&**target)),
            // Nothing of this keeps the pod from being as it was.
            State::Resting(rest) | State::Sweeping { rest, .. } => {
                (rest.doing(fx.now), self.tracked.as_ref())
            }
            State::Removing { .. } => (Doing::Fresh, None),
            _ => (self.doing(fx.now), self.tracked.as_ref()),
        };
        forecast::course(doing, self.want_beside(fx, tracked, &desired), is_there)
    }

    /// The spec that another would replace. While a delete waits for another
    /// apply, it is that of the run.
    fn standing(&self) -> Option<(Revision, &Arc<PodSpec>)> {
        if let Some(desired) = &self.desired {
            return Some((desired.generation, &desired.spec));
        }
        self.delete_due?;
        let tracked = match &self.state {
            State::Adjusting { target, .. } => Some(&**target),
            State::Launching { is_cancelled: true, .. }
            | State::Resting(Rest::Fresh)
            | State::Sweeping { rest: Rest::Fresh, .. }
            | State::Stopping { .. }
            | State::Removing { .. } => None,
            _ => self.tracked.as_ref(),
        };
        tracked.map(|tracked| (tracked.generation, &tracked.spec))
    }
}

/// What happened.
impl Pod {
    /// The start with this id is over. Whether it had not been cancelled.
    pub(super) fn start_finished(
        &mut self,
        name: &Name,
        fx: &mut Effects,
        result: Result<Started, StartError>,
    ) -> bool {
        let state = std::mem::take(&mut self.state);
        let State::Launching { is_adopted, is_cancelled, ended, .. } = state else {
            panic!("{name}: a start finished where none was in flight")
        };
        match result {
            Ok(started) => {
                self.started(name, fx, started, is_adopted);
                if let Some(end) = ended {
                    self.run_ended(name, fx, self.incarnation, *end);
                }
            }
            Err(error) if is_cancelled => {
                drop(error);
                self.enter(fx, State::default());
            }
            Err(error) => self.start_failed(name, fx, error),
        }
        !is_cancelled
    }

    fn started(&mut self, name: &Name, fx: &mut Effects, started: Started, is_adopted: bool) {
        let (pod, incarnation, host_pid) = (name.clone(), self.incarnation, started.host_pid);
        // Nobody can take that back: its end is waited for, and it begins afresh.
        self.is_restart_asked |= started.is_stopping;
        let started = Arc::new(Started { at: started.at.min(fx.now), ..started });
        self.enter(fx, State::Running { started });
        let origin = self.origin();
        fx.notify(Notice::RunStarted { pod, incarnation, origin, host_pid, is_adopted });
    }

    fn start_failed(&mut self, name: &Name, fx: &mut Effects, error: StartError) {
        self.notify_failed(name, fx, &error.failure);
        let cause = if error.is_download { EndCause::Download } else { EndCause::Itself };
        let end = Ended { exit: Exit::Failed(error.failure), at: fx.now, cause };
        self.run_over(name, fx, end, 0);
    }

    /// A run ended by itself. Runs that are not the current one are no news.
    pub(super) fn run_ended(
        &mut self,
        name: &Name,
        fx: &mut Effects,
        incarnation: Incarnation,
        end: Ended,
    ) {
        if incarnation != self.incarnation {
            return;
        }
        let end = Ended { at: end.at.min(fx.now), ..end };
        match &mut self.state {
            State::Launching { ended, .. } | State::Adjusting { ended, .. } => {
                *ended = Some(Box::new(end));
            }
            // An earlier program had asked it to.
            State::Running { .. } if end.cause == EndCause::Request => {
                self.stop_done(name, fx, end);
            }
            State::Running { started } => {
                let ran_ms = end.at.since(started.at);
                self.notify_ended(name, fx, &end);
                self.run_over(name, fx, end, ran_ms);
            }
            State::Stopping { action: None, .. } => self.stop_done(name, fx, end),
            State::Stopping { ended, .. } => *ended = Some(Box::new(end)),
            State::Resting(_) | State::Sweeping { .. } | State::Removing { .. } => {}
        }
    }

    /// The adjustment in flight is over. A run that could not be adjusted makes
    /// way for one that is as it shall be.
    pub(super) fn adjust_finished(&mut self, name: &Name, fx: &mut Effects, is_done: bool) {
        let state = std::mem::take(&mut self.state);
        let State::Adjusting { target, started, ended, .. } = state else {
            panic!("{name}: an adjustment finished where none was in flight")
        };
        self.enter(fx, State::Running { started });
        if is_done {
            self.tracked = Some(*target);
        }
        match ended {
            Some(end) => self.run_ended(name, fx, self.incarnation, *end),
            None if is_done => {}
            None => self.ask_restart(),
        }
    }

    /// Nothing runs any more, and nobody had asked for that.
    fn run_over(&mut self, name: &Name, fx: &mut Effects, end: Ended, ran_ms: u64) {
        let tracked = self.tracked.as_ref().expect("a run was made from a spec");
        let is_retried = backoff::restarts_after(tracked.spec.restart, &end.exit);
        let (ended_at, cause) = (end.at, end.cause);
        self.last = Some(Box::new(end.into()));
        if is_retried || cause == EndCause::Download {
            self.back_off(name, fx, ended_at, ran_ms);
        } else {
            self.enter(fx, State::Resting(Rest::Terminal));
            self.record_verdict(name, fx);
        }
    }

    fn back_off(&mut self, name: &Name, fx: &mut Effects, ended_at: Millis, ran_ms: u64) {
        let is_stable = ran_ms >= fx.config.stable_window_ms;
        let before = if is_stable { 0 } else { self.retries };
        self.retries = before.saturating_add(1);
        let delay_ms =
            backoff::delay_ms(fx.config.backoff_base_ms, fx.config.backoff_cap_ms, before);
        let until = ended_at.after(delay_ms);
        fx.set_alarm(until, name, Alarm::Restart);
        self.enter(fx, State::Resting(Rest::Waiting { until, delay_ms }));
        self.forget_wait(name, fx);
    }

    /// After all has been stopped the next program begins afresh, and goes on with no
    /// wait of this one.
    pub(super) fn forget_wait(&self, name: &Name, fx: &mut Effects) {
        if fx.mode == Mode::Halting && matches!(self.state, State::Resting(Rest::Waiting { .. })) {
            fx.forget(name, self.incarnation);
        }
    }

    /// The stop in flight is over: of the run, or of one that nobody asked for.
    pub(super) fn stop_finished(
        &mut self,
        name: &Name,
        fx: &mut Effects,
        result: Result<Exit, Failure>,
    ) {
        match (&mut self.state, result) {
            (State::Stopping { ended, .. }, Ok(exit)) => {
                let end = ended.take().map_or_else(|| Ended::new(exit, fx.now), |ended| *ended);
                self.stop_done(name, fx, end);
            }
            (State::Sweeping { run, rest, .. }, Ok(exit)) => {
                let (run, rest) = (*run, *rest);
                self.orphans.retain(|orphan| *orphan != run);
                // Unless that is known from its record.
                if rest == Rest::Fresh && self.last.is_none() {
                    self.last = Some(Box::new(Ended::new(exit, fx.now).into()));
                }
                self.enter(fx, State::Resting(rest));
            }
            (State::Stopping { ended: Some(end), .. }, Err(_)) => {
                let end = (**end).clone();
                self.stop_done(name, fx, end);
            }
            (State::Stopping { action, .. } | State::Sweeping { action, .. }, Err(failure)) => {
                *action = None;
                self.changed = fx.next_action();
                if fx.mode == Mode::Halting {
                    fx.halt_failure.get_or_insert(failure);
                }
            }
            (state, _) => panic!("{name}: a stop finished in {state:?}"),
        }
    }

    /// The run that was to end has ended.
    fn stop_done(&mut self, name: &Name, fx: &mut Effects, end: Ended) {
        self.notify_ended(name, fx, &end);
        self.last = Some(Box::new(end.into()));
        self.retries = 0;
        if self.desired.is_some() {
            self.tracked = None;
        }
        self.enter(fx, State::default());
    }

    /// Nothing is left of the deleted pod; what is known of it goes too.
    pub(super) fn removed(&mut self, name: &Name, fx: &mut Effects) {
        let State::Removing { .. } = self.state else {
            panic!("{name}: a removal finished where none was in flight")
        };
        let old = std::mem::take(self);
        self.desired = old.desired;
        self.delete_due = old.delete_due;
        self.acknowledged = old.acknowledged;
        self.announced = old.announced;
        self.orphans = old.orphans;
        self.incarnation = old.incarnation;
        self.enter(fx, State::default());
    }

    fn notify_failed(&self, name: &Name, fx: &mut Effects, failure: &Failure) {
        fx.notify(Notice::StartFailed {
            pod: name.clone(),
            incarnation: self.incarnation,
            origin: self.origin(),
            failure: failure.clone(),
        });
    }

    fn notify_ended(&self, name: &Name, fx: &mut Effects, Ended { exit, at, .. }: &Ended) {
        fx.notify(Notice::RunEnded {
            pod: name.clone(),
            incarnation: self.incarnation,
            origin: self.origin(),
            exit: exit.clone(),
            at: *at,
        });
    }

    /// What is told of with what happens to the run.
    fn origin(&self) -> (Revision, u32) {
        let generation = self.tracked.as_ref().map(|tracked| tracked.generation);
        (generation.unwrap_or_default(), self.retries)
    }
}

/// Verdicts.
impl Pod {
    /// Makes the verdict durable, unless it is or is about to be.
    fn record_verdict(&mut self, name: &Name, fx: &mut Effects) {
        if !self.is_terminal() {
            return;
        }
        let (Some(desired), Some(tracked), Some(last)) = (&self.desired, &self.tracked, &self.last)
        else {
            return;
        };
        let is_recorded = desired.verdict.is_some() || fx.is_writing_verdict(name);
        let is_of_desired = tracked.generation == desired.generation && !self.is_restart_asked;
        if is_recorded || !is_of_desired {
            return;
        }
        let (last, retries) = (LastExit::clone(last), self.retries);
        let verdict = Verdict { last, retries, incarnation: self.incarnation };
        fx.persist(PendingWrite {
            write: Write::PutVerdict(name.clone(), desired.generation, verdict),
            ticket: None,
            is_change: false,
            incarnation: self.incarnation,
        });
    }

    /// A verdict is durable. It may be on a generation that is no longer ours.
    pub(super) fn verdict_recorded(
        &mut self,
        name: &Name,
        fx: &mut Effects,
        (generation, verdict): (Revision, Verdict),
        incarnation: Incarnation,
    ) {
        let is_of_this_run = self.is_terminal() && self.incarnation == incarnation;
        match &mut self.desired {
            Some(desired) if is_of_this_run && desired.generation == generation => {
                desired.verdict = Some(Box::new(verdict));
                fx.forget(name, incarnation);
            }
            _ => self.record_verdict(name, fx),
        }
    }

    fn is_terminal(&self) -> bool {
        let (State::Resting(rest) | State::Sweeping { rest, .. }) = self.state else {
            return false;
        };
        rest == Rest::Terminal
    }

    /// The verdict has been taken back, so that the pod can run again, unless it has since
    /// that was asked for.
    pub(super) fn verdict_cleared(&mut self, incarnation: Incarnation) {
        // Of the run of an earlier program one learns only with its verdict.
        let verdict = self.desired.as_ref().and_then(|desired| desired.verdict.as_ref());
        let is_of_earlier_run = verdict.is_some_and(|v| v.incarnation == self.incarnation);
        if self.incarnation != incarnation && !is_of_earlier_run {
            return;
        }
        if let Some(desired) = &mut self.desired {
            desired.verdict = None;
        }
        self.ask_restart();
    }
}

/// What was observed.
impl Pod {
    /// Whether this is the pod's own run, seen alive.
    pub(super) fn is_own_live_run(&self, run: &ObservedRun) -> bool {
        run.ended.is_none() && self.has_run(run.incarnation)
    }

    /// Whether a pass has nothing to do here, given whether the own run was
    /// seen alive. Must be cheap: a pass asks it of every pod.
    pub(super) fn is_at_rest(&self, is_alive: bool) -> bool {
        let (Some(desired), Some(tracked)) = (&self.desired, &self.tracked) else { return false };
        let is_settled = match self.state {
            State::Running { .. } => is_alive,
            State::Resting(Rest::Waiting { .. })
            | State::Launching { .. }
            | State::Adjusting { .. } => true,
            State::Resting(Rest::Terminal) => desired.verdict.is_some(),
            _ => false,
        };
        is_settled
            && desired.generation == tracked.generation
            && !self.is_restart_asked
            && self.orphans.is_empty()
    }

    /// What the observation asked for by `asked` saw of this pod.
    pub(super) fn observed(
        &mut self,
        name: &Name,
        fx: &mut Effects,
        asked: ActionId,
        sighting: &Sighting,
    ) {
        self.settle_delete(name, fx);
        self.record_verdict(name, fx);
        if asked < self.changed {
            return;
        }
        match &self.state {
            State::Running { .. } if !sighting.is_alive => {
                let end = self.observed_end(name, fx, sighting);
                self.run_ended(name, fx, self.incarnation, end);
                self.note_orphans(sighting);
            }
            State::Running { .. } | State::Launching { .. } | State::Adjusting { .. } => {
                self.note_orphans(sighting);
                self.kill_orphans(name, fx, sighting);
            }
            State::Stopping { action: None, .. } if sighting.is_alive => {
                self.note_orphans(sighting);
                self.stop(name, fx);
            }
            State::Stopping { action: None, .. } => {
                let end = self.observed_end(name, fx, sighting);
                self.stop_done(name, fx, end);
                self.note_orphans(sighting);
            }
            State::Resting(Rest::Fresh | Rest::Found) => {
                self.take_up(name, fx, sighting);
                self.note_orphans(sighting);
            }
            State::Sweeping { action: None, rest, .. } => {
                self.state = State::Resting(*rest);
                self.note_orphans(sighting);
            }
            State::Resting(_)
            | State::Sweeping { .. }
            | State::Stopping { .. }
            | State::Removing { .. } => self.note_orphans(sighting),
        }
    }

    /// Tries a stop again that failed.
    pub(super) fn retry_stop(&mut self, name: &Name, fx: &mut Effects) {
        match self.state {
            State::Stopping { action: None, .. } => self.stop(name, fx),
            State::Sweeping { action: None, rest, .. } => self.enter(fx, State::Resting(rest)),
            _ => {}
        }
    }

    fn observed_end(&self, name: &Name, fx: &Effects, sighting: &Sighting) -> Ended {
        let own = |run: &&ObservedRun| run.incarnation == self.incarnation;
        let ended = sighting.runs.iter().find(own).and_then(|run| run.ended.as_ref());
        match ended {
            Some(ended) => ended.clone(),
            None => Ended::new(Exit::Failed(lost(name, self.incarnation)), fx.now),
        }
    }

    /// Goes on from the run of an earlier program, where there is one that somebody
    /// asked for: it is the current one if it lives, else the last one.
    fn take_up(&mut self, name: &Name, fx: &mut Effects, sighting: &Sighting) {
        self.lose_found();
        let newer = sighting.runs.iter().filter(|run| run.incarnation > self.incarnation);
        let known = newer.filter_map(|run| Some((run, run.origin.as_deref()?)));
        let Some((run, origin)) = known.max_by_key(|(run, _)| run.incarnation) else { return };
        // Where nothing is to follow from its end, what is left of it is swept.
        match &run.ended {
            Some(_) if self.desired.is_none() => return,
            Some(ended) if ended.cause == EndCause::Request => {
                return self.note_asked_end(name, fx, run.incarnation, origin, ended);
            }
            _ => {}
        }
        self.incarnation = run.incarnation;
        fx.note_incarnation(run.incarnation);
        let is_judged = self.desired.as_ref().is_some_and(|desired| desired.verdict.is_some());
        if is_judged && run.ended.is_some() {
            // That has been acted on for good, whatever is left of the record.
            return fx.forget(name, run.incarnation);
        }
        self.tracked = Some(self.tracked_by(origin));
        self.retries = origin.retries;
        self.last = origin.last.clone().map(Box::new);
        match &run.ended {
            None => self.enter(fx, State::Resting(Rest::Found)),
            Some(ended) => self.take_up_end(name, fx, ended, run.started_at),
        }
    }

    /// An earlier program, or the shim on its behalf, had stopped the run.
    fn note_asked_end(
        &mut self,
        name: &Name,
        fx: &mut Effects,
        incarnation: Incarnation,
        origin: &Origin,
        ended: &Ended,
    ) {
        let end = Ended { at: ended.at.min(fx.now), ..ended.clone() };
        let last = LastExit::from(end.clone());
        // It is seen again until it is swept.
        if self.last.as_deref() != Some(&last) {
            self.last = Some(Box::new(last));
            let origin = (origin.generation, origin.retries);
            let (pod, exit, at) = (name.clone(), end.exit, end.at);
            fx.notify(Notice::RunEnded { pod, incarnation, origin, exit, at });
        }
    }

    /// A run that was found and not taken over may have ended, and another begun.
    fn lose_found(&mut self) {
        if let State::Resting(rest @ Rest::Found) = &mut self.state {
            *rest = Rest::Fresh;
            self.tracked = None;
            self.incarnation = Incarnation::default();
        }
    }

    /// What a run of an earlier program was made from. A policy that it is not on
    /// record by is the core's own business: it holds for it, too.
    fn tracked_by(&self, origin: &Origin) -> Tracked {
        let Origin { generation, spec, .. } = origin;
        match &self.desired {
            Some(desired) if spec.is_same_run(&desired.spec) => Tracked::new(desired),
            _ => Tracked { generation: *generation, spec: Arc::clone(spec) },
        }
    }

    fn take_up_end(
        &mut self,
        name: &Name,
        fx: &mut Effects,
        ended: &Ended,
        started_at: Option<Millis>,
    ) {
        let end = Ended { at: ended.at.min(fx.now), ..ended.clone() };
        let ran_ms = started_at.map_or(0, |at| end.at.since(at));
        match (started_at, &end.exit) {
            (None, Exit::Failed(failure)) if failure.code != Code::Lost => {
                self.notify_failed(name, fx, failure);
            }
            _ => self.notify_ended(name, fx, &end),
        }
        self.run_over(name, fx, end, ran_ms);
    }

    /// A run that nobody asked for is swept before anything else happens. The
    /// last run, seen after its end, is no such thing.
    fn note_orphans(&mut self, sighting: &Sighting) {
        let is_orphan = |run: &&ObservedRun| {
            let is_own = run.incarnation == self.incarnation;
            let is_over = matches!(self.state, State::Resting(rest) if rest != Rest::Found);
            !is_own || (run.ended.is_none() && is_over)
        };
        let orphans = sighting.runs.iter().filter(is_orphan).map(|run| run.incarnation);
        self.orphans = orphans.collect();
        self.orphans.sort_unstable();
        self.orphans.dedup();
    }

    /// Beside a run that is wanted there is no time for an orderly sweep. It
    /// follows before the next start.
    fn kill_orphans(&self, name: &Name, fx: &mut Effects, sighting: &Sighting) {
        let live = sighting.runs.iter().filter(|run| run.ended.is_none());
        for orphan in live.filter(|run| run.incarnation != self.incarnation) {
            fx.kill(name, orphan.incarnation);
        }
    }
}

/// What is told of the pod.
impl Pod {
    /// Tells subscribers, when the pod is another than they know.
    pub(super) fn announce(&mut self, name: &Name, fx: &mut Effects) {
        let status = self.status(fx);
        let announced = status.as_ref().map(|status| {
            let PodStatus { status, phase, retries, generation, incarnation, .. } = *status;
            (status, phase, retries, generation, incarnation)
        });
        if self.announced == announced {
            return;
        }
        self.announced = announced;
        fx.notify(match status {
            Some(status) => Notice::StatusChanged { pod: name.clone(), status },
            None => Notice::PodGone { pod: name.clone() },
        });
    }

    /// The public status; `None` while the pod is not tracked.
    pub(super) fn status(&self, fx: &Effects) -> Option<PodStatus> {
        let (status, phase) = self.public_state(fx.mode)?;
        let generation = self.tracked.as_ref().map(|tracked| tracked.generation);
        let started = match &self.state {
            State::Running { started }
            | State::Adjusting { started, .. }
            | State::Stopping { started, .. } => Some(started),
            _ => None,
        };
        Some(PodStatus {
            status,
            retries: self.retries,
            phase,
            reason: self.reason(fx.mode),
            last_exit: self.last.as_ref().map(|last| last.exit.clone()),
            last_exit_at: self.last.as_ref().and_then(|last| last.at),
            started_at: started.map(|started| started.at),
            retry_in_ms: self.deadline().map(|until| until.since(fx.now)),
            generation: generation.unwrap_or_default().0,
            incarnation: self.incarnation.0,
            host_pid: started.and_then(|started| started.host_pid),
            containers: self.containers(started),
        })
    }

    /// What those see who wait for the pod to be something.
    pub(super) fn sight(&self, fx: &Effects) -> Sight {
        let is_run = matches!(self.state, State::Launching { .. } | State::Running { .. });
        let is_adjusting = matches!(self.state, State::Adjusting { .. });
        Sight {
            desired: self.desired.as_ref().map(|desired| desired.generation),
            status: self.status(fx),
            is_passing: is_adjusting || (is_run && self.is_restart_asked),
            is_there: !self.is_forgettable(),
            ..Sight::default()
        }
    }

    /// Where one pid is all that is known, it is that of the only container.
    fn containers(&self, started: Option<&Arc<Started>>) -> Vec<ContainerStatus> {
        let specs = self.tracked.as_ref().map_or(&[][..], |tracked| &tracked.spec.containers);
        let host_pid = |spec: &ContainerSpec| match started?.containers.as_deref() {
            Some(pids) => pids.get(&spec.name).copied(),
            None => started?.host_pid.filter(|_| specs.len() == 1),
        };
        let status = |spec: &ContainerSpec| ContainerStatus {
            name: spec.name.clone(),
            host_pid: host_pid(spec),
        };
        specs.iter().map(status).collect()
    }

    fn public_state(&self, mode: Mode) -> Option<(Status, Phase)> {
        let is_ending = self.desired.is_none() || mode == Mode::Halting;
        Some(match self.state {
            State::Resting(Rest::Fresh) => return None,
            State::Resting(Rest::Waiting { .. }) => (Status::BackingOff, Phase::Waiting),
            State::Resting(Rest::Terminal) => (Status::Terminal, Phase::Done),
            State::Resting(Rest::Found) | State::Launching { .. } => {
                (Status::Starting, Phase::Launching)
            }
            State::Running { .. } | State::Adjusting { .. } => (Status::Running, Phase::Running),
            State::Stopping { .. } if is_ending => (Status::Stopping, Phase::Deleting),
            State::Stopping { .. } => (Status::Stopping, Phase::Restarting),
            State::Sweeping { .. } => (Status::Stopping, Phase::Sweeping),
            State::Removing { .. } => (Status::Stopping, Phase::Deleting),
        })
    }

    /// Why the pod is where it is. Changes only with its state.
    fn reason(&self, mode: Mode) -> Option<String> {
        let last = self.last.as_ref().map(|last| exit_text(&last.exit)).unwrap_or_default();
        Some(match &self.state {
            State::Resting(Rest::Fresh | Rest::Found)
            | State::Launching { is_adopted: true, is_cancelled: false, .. }
            | State::Running { .. }
            | State::Adjusting { .. } => return None,
            State::Resting(Rest::Waiting { delay_ms, .. }) => {
                format!("{last}, restarting in {}", delay_text(*delay_ms))
            }
            State::Resting(Rest::Terminal) => format!("{last}, not restarted"),
            State::Launching { is_cancelled: true, .. } => {
                format!("giving up the start: {}", self.end_cause(mode))
            }
            State::Launching { .. } if self.retries > 0 => format!("{last}, restarting"),
            State::Launching { .. } => return None,
            State::Stopping { action: Some(_), .. } => self.end_cause(mode).to_string(),
            State::Stopping { action: None, .. } => {
                format!("{}, and the last stop failed", self.end_cause(mode))
            }
            State::Sweeping { .. } => "clearing an earlier run away".to_string(),
            State::Removing { .. } => "deleted, removing what it left behind".to_string(),
        })
    }

    fn end_cause(&self, mode: Mode) -> &'static str {
        let Some(desired) = &self.desired else { return "deleted" };
        let tracked = self.tracked.as_ref().map(|tracked| tracked.generation);
        let was_stopping =
            matches!(&self.state, State::Stopping { started, .. } if started.is_stopping);
        match mode {
            Mode::Working if was_stopping => "restarting after a stop that was under way",
            Mode::Working if tracked == Some(desired.generation) => "restarting on request",
            Mode::Working => "restarting with a new spec",
            Mode::Holding | Mode::Halting => "shutting down",
        }
    }

    fn deadline(&self) -> Option<Millis> {
        match self.state {
            State::Resting(Rest::Waiting { until, .. }) => Some(until),
            _ => None,
        }
    }
}

impl Rest {
    fn doing(self, now: Millis) -> Doing {
        match self {
            Self::Fresh => Doing::Fresh,
            Self::Found => Doing::Found,
            Self::Waiting { until, .. } if until > now => Doing::Waiting,
            Self::Waiting { .. } => Doing::Due,
            Self::Terminal => Doing::Terminal,
        }
    }
}

impl Stored {
    fn new(stored: StoredPod) -> Self {
        let StoredPod { generation, spec, verdict } = stored;
        Self { generation, spec, verdict: verdict.map(Box::new) }
    }

    /// What a run by it is made from.
    fn origin(&self, retries: u32, last: Option<&LastExit>) -> Arc<Origin> {
        let (generation, spec) = (self.generation, Arc::clone(&self.spec));
        Arc::new(Origin { generation, spec, retries, last: last.cloned() })
    }
}

impl Tracked {
    fn new(desired: &Stored) -> Self {
        Self { generation: desired.generation, spec: Arc::clone(&desired.spec) }
    }

    /// Specs are compared only where generations differ.
    fn is_of(&self, desired: &Stored) -> bool {
        self.generation == desired.generation || self.spec == desired.spec
    }
}

fn lost(name: &Name, incarnation: Incarnation) -> Failure {
    let message = format!("run {} vanished without an exit status", incarnation.0);
    Failure::new(Code::Lost, message).at(Place::Pod, name)
}

fn exit_text(exit: &Exit) -> String {
    match exit {
        Exit::Exited(status) => format!("exited with status {status}"),
        Exit::Signaled(signal) => format!("ended by signal {signal}"),
        Exit::OutOfMemory => "killed by the kernel, out of memory".to_string(),
        Exit::Failed(failure) => failure.message.clone(),
        Exit::InContainer(name, exit) => format!("container {name} {}", exit_text(exit)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_small_since_a_pass_looks_at_each() {
        assert!(size_of::<Pod>() <= 192, "{} bytes", size_of::<Pod>());
    }
}
