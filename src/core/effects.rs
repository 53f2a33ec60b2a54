//! What is to go out and what is in flight: the one place that hands out ids,
//! so that each action is answered for exactly once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::action::{Action, Command, Notice, Reply, Response, Write};
use super::event::{ActionId, Incarnation, Revision, Ticket};
use super::failure::Failure;
use super::reconciler::Config;
use super::spec::Name;
use super::time::Millis;
use super::trail::Trail;

/// What the core may still do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mode {
    /// Everything.
    Working,
    /// Shutting down: start nothing more.
    Holding,
    /// Shutting down: stop everything.
    Halting,
}

/// What an action in flight is for.
#[derive(Debug)]
pub(super) enum Pending {
    /// A start, stop, adjustment or removal of this pod.
    Pod(Name),
    /// A write.
    Write(PendingWrite),
    /// The observation of a pass.
    Observe,
}

/// A write in flight.
#[derive(Debug)]
pub(super) struct PendingWrite {
    pub(super) write: Write,
    /// Who is to be told.
    pub(super) ticket: Option<Ticket>,
    /// For a spec: whether it was another than the desired one when asked.
    pub(super) is_change: bool,
    /// For a verdict: the pod's last run when asked.
    pub(super) incarnation: Incarnation,
}

/// Why a pod is to be looked at later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Alarm {
    /// Its restart deadline passes.
    Restart,
    /// Its delete has waited long enough for another apply.
    Delete,
}

/// Writes of one pod in flight, by kind.
#[derive(Debug, Default)]
struct Writing {
    specs: BTreeSet<ActionId>,
    verdicts: BTreeSet<ActionId>,
}

/// All that is going out.
#[derive(Debug)]
pub(super) struct Effects {
    pub(super) config: Config,
    pub(super) now: Millis,
    pub(super) mode: Mode,
    /// The first stop that failed while halting.
    pub(super) halt_failure: Option<Failure>,
    commands: VecDeque<Command>,
    replies: VecDeque<Reply>,
    notices: VecDeque<Notice>,
    pending: BTreeMap<ActionId, Pending>,
    writing: BTreeMap<Name, Writing>,
    alarms: BTreeSet<(Millis, Name, Alarm)>,
    next_action: u64,
    next_incarnation: u64,
    pub(super) trail: Trail,
}

impl Effects {
    pub(super) fn new(config: Config, now: Millis) -> Self {
        let next_incarnation = config.first_incarnation;
        Self {
            config,
            now,
            mode: Mode::Working,
            halt_failure: None,
            commands: VecDeque::new(),
            replies: VecDeque::new(),
            notices: VecDeque::new(),
            pending: BTreeMap::new(),
            writing: BTreeMap::new(),
            alarms: BTreeSet::new(),
            next_action: 1,
            next_incarnation,
            trail: Trail::default(),
        }
    }

    /// A run number that was never used.
    pub(super) fn new_incarnation(&mut self) -> Incarnation {
        let incarnation = Incarnation(self.next_incarnation);
        self.next_incarnation += 1;
        incarnation
    }

    /// A run has this number: later ones have higher ones.
    pub(super) fn note_incarnation(&mut self, incarnation: Incarnation) {
        self.next_incarnation = self.next_incarnation.max(incarnation.0 + 1);
    }

    /// What the next action's id will be: an instant on the core's own clock,
    /// which tells what was asked for before a change and what after.
    pub(super) fn next_action(&self) -> ActionId {
        ActionId(self.next_action)
    }

    /// Asks for a start, stop, adjustment or removal.
    pub(super) fn act(&mut self, pod: &Name, action: Action) -> ActionId {
        self.ask(action, Pending::Pod(pod.clone()))
    }

    /// Asks what the store and the runtime hold.
    pub(super) fn observe(&mut self, since: Revision) -> ActionId {
        self.ask(Action::Observe { since }, Pending::Observe)
    }

    /// Asks for a write.
    pub(super) fn persist(&mut self, write: PendingWrite) -> ActionId {
        let id = self.next_action();
        let writing = self.writing.entry(pod_of(&write.write).clone()).or_default();
        writing.of_kind(&write.write).insert(id);
        self.ask(Action::Persist(write.write.clone()), Pending::Write(write))
    }

    fn ask(&mut self, action: Action, pending: Pending) -> ActionId {
        let id = self.next_action();
        self.next_action += 1;
        self.pending.insert(id, pending);
        self.commands.push_back(Command::Act(id, action));
        id
    }

    /// Tells a start in flight to give up.
    pub(super) fn cancel(&mut self, start: ActionId) {
        assert!(self.pending.contains_key(&start), "only what is in flight can be cancelled");
        self.commands.push_back(Command::Cancel(start));
    }

    /// Kills a run.
    pub(super) fn kill(&mut self, pod: &Name, incarnation: Incarnation) {
        self.commands.push_back(Command::Kill(pod.clone(), incarnation));
    }

    /// The record of a run's end is not needed any more.
    pub(super) fn forget(&mut self, pod: &Name, incarnation: Incarnation) {
        self.commands.push_back(Command::Forget(pod.clone(), incarnation));
    }

    /// The action with this id is over. `None` when it was over before.
    pub(super) fn finish(&mut self, id: ActionId) -> Option<Pending> {
        let pending = self.pending.remove(&id)?;
        if let Pending::Write(write) = &pending {
            let pod = pod_of(&write.write);
            let writing = self.writing.get_mut(pod).expect("every write in flight is counted");
            writing.of_kind(&write.write).remove(&id);
            if writing.specs.is_empty() && writing.verdicts.is_empty() {
                self.writing.remove(pod);
            }
        }
        Some(pending)
    }

    /// Whether nothing at all is in flight.
    pub(super) fn is_quiet(&self) -> bool {
        self.pending.is_empty()
    }

    /// Whether a write of this pod's spec is in flight.
    pub(super) fn is_writing_spec(&self, pod: &Name) -> bool {
        self.oldest_spec_write(pod).is_some()
    }

    /// The oldest write of this pod's spec that is in flight.
    pub(super) fn oldest_spec_write(&self, pod: &Name) -> Option<ActionId> {
        self.writing.get(pod).and_then(|writing| writing.specs.first().copied())
    }

    /// Whether a write of this pod's verdict is in flight.
    pub(super) fn is_writing_verdict(&self, pod: &Name) -> bool {
        self.writing.get(pod).is_some_and(|writing| !writing.verdicts.is_empty())
    }

    /// Nobody waits for this ticket any more.
    pub(super) fn abandon(&mut self, ticket: Ticket) {
        for pending in self.pending.values_mut() {
            if let Pending::Write(write) = pending {
                write.ticket = write.ticket.filter(|waiting| *waiting != ticket);
            }
        }
    }

    /// Looks at this pod again at that instant.
    pub(super) fn set_alarm(&mut self, at: Millis, pod: &Name, alarm: Alarm) {
        self.alarms.insert((at, pod.clone(), alarm));
    }

    /// Takes an alarm back, if it has not gone off.
    pub(super) fn clear_alarm(&mut self, at: Millis, pod: &Name, alarm: Alarm) {
        self.alarms.remove(&(at, pod.clone(), alarm));
    }

    /// The next alarm that has gone off.
    pub(super) fn take_alarm(&mut self) -> Option<(Name, Alarm)> {
        let is_due = self.alarms.first().is_some_and(|(at, _, _)| *at <= self.now);
        let (_, pod, alarm) = is_due.then(|| self.alarms.pop_first()).flatten()?;
        Some((pod, alarm))
    }

    /// When the next alarm goes off.
    pub(super) fn next_alarm(&self) -> Option<Millis> {
        self.alarms.first().map(|(at, _, _)| *at)
    }

    pub(super) fn reply(&mut self, ticket: Ticket, result: Result<Response, Failure>) {
        self.replies.push_back(Reply { ticket, result });
    }

    pub(super) fn notify(&mut self, notice: Notice) {
        self.notices.push_back(notice);
    }

    pub(super) fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    pub(super) fn poll_reply(&mut self) -> Option<Reply> {
        self.replies.pop_front()
    }

    pub(super) fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }
}

impl Writing {
    fn of_kind(&mut self, write: &Write) -> &mut BTreeSet<ActionId> {
        match write {
            Write::Put(_) | Write::Create(_) | Write::Seed(_) | Write::Delete(_) => &mut self.specs,
            Write::PutVerdict(..) | Write::ClearVerdict(_) => &mut self.verdicts,
        }
    }
}

fn pod_of(write: &Write) -> &Name {
    match write {
        Write::Put(spec) | Write::Create(spec) | Write::Seed(spec) => &spec.name,
        Write::Delete(pod) | Write::PutVerdict(pod, ..) | Write::ClearVerdict(pod) => pod,
    }
}
