//! Who waits for a pod to reach a state, and until when. A change of one pod
//! costs what waits for that pod, and nothing where nobody does. It never looks
//! at a pod by itself: whoever knows that one has changed shows it a [`Sight`].

use std::collections::{BTreeMap, BTreeSet};
use std::mem;

use super::action::Response;
use super::event::{ActionId, Revision, Ticket};
use super::failure::{Code, Failure, Place};
use super::spec::Name;
use super::status::{Goal, PodStatus};
use super::time::Millis;

/// All awaits that have not been answered.
#[derive(Debug, Default)]
pub(super) struct Awaits {
    pods: BTreeMap<Name, BTreeMap<Ticket, Waiter>>,
    /// Where each ticket waits, and until when.
    tickets: BTreeMap<Ticket, (Name, Option<Millis>)>,
    deadlines: BTreeSet<(Millis, Ticket)>,
}

/// One who waits.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) goal: Goal,
    /// Writes of the pod's spec with an older id were asked for before.
    pub(super) after: ActionId,
    /// What was desired when those were over. No status of an older one counts.
    pub(super) generation: Option<Revision>,
}

/// What there is to see of a pod.
#[derive(Debug, Default)]
pub(super) struct Sight {
    /// The oldest write of its spec that is in flight.
    pub(super) oldest_write: Option<ActionId>,
    /// The generation that is desired.
    pub(super) desired: Option<Revision>,
    pub(super) status: Option<PodStatus>,
    /// Whether the run that there is will be another before long: it counts for
    /// nobody.
    pub(super) is_passing: bool,
    /// Whether anything is left of the pod.
    pub(super) is_there: bool,
}

/// The answer to one who waited.
pub(super) type Answer = (Ticket, Result<Response, Failure>);

impl Awaits {
    pub(super) fn add(
        &mut self,
        ticket: Ticket,
        pod: &Name,
        waiter: Waiter,
        deadline: Option<Millis>,
    ) {
        self.tickets.insert(ticket, (pod.clone(), deadline));
        self.deadlines.extend(deadline.map(|deadline| (deadline, ticket)));
        self.pods.entry(pod.clone()).or_default().insert(ticket, waiter);
    }

    /// Whether anybody waits for this pod.
    pub(super) fn is_awaited(&self, pod: &Name) -> bool {
        !self.pods.is_empty() && self.pods.contains_key(pod)
    }

    /// The pods that anybody waits for.
    pub(super) fn pods(&self) -> Vec<Name> {
        self.pods.keys().cloned().collect()
    }

    /// The pod is so now. Returns the answers to those who need not wait any more.
    pub(super) fn seen(&mut self, pod: &Name, sight: &Sight) -> Vec<Answer> {
        let Some(waiters) = self.pods.get_mut(pod) else { return Vec::new() };
        let mut answers = Vec::new();
        waiters.retain(|ticket, waiter| match waiter.look(pod, sight) {
            Some(result) => {
                answers.push((*ticket, result));
                false
            }
            None => true,
        });
        if waiters.is_empty() {
            self.pods.remove(pod);
        }
        for (ticket, _) in &answers {
            self.forget(*ticket);
        }
        answers
    }

    /// When the next one has waited long enough.
    pub(super) fn deadline(&self) -> Option<Millis> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// One who has waited long enough, for this pod.
    pub(super) fn take_late(&mut self, now: Millis) -> Option<(Ticket, Name, Waiter)> {
        let (_, ticket) = *self.deadlines.first().filter(|(at, _)| *at <= now)?;
        self.take(ticket).map(|(pod, waiter)| (ticket, pod, waiter))
    }

    /// Nobody waits for this ticket any more.
    pub(super) fn abandon(&mut self, ticket: Ticket) {
        self.take(ticket);
    }

    /// Nothing will come true any more. Returns all who wait.
    pub(super) fn refuse_all(&mut self) -> Vec<Ticket> {
        self.pods.clear();
        self.deadlines.clear();
        mem::take(&mut self.tickets).into_keys().collect()
    }

    fn take(&mut self, ticket: Ticket) -> Option<(Name, Waiter)> {
        let pod = self.forget(ticket)?;
        let waiters = self.pods.get_mut(&pod).expect("a ticket waits for its pod");
        let waiter = waiters.remove(&ticket).expect("a ticket waits for its pod");
        if waiters.is_empty() {
            self.pods.remove(&pod);
        }
        Some((pod, waiter))
    }

    fn forget(&mut self, ticket: Ticket) -> Option<Name> {
        let (pod, deadline) = self.tickets.remove(&ticket)?;
        if let Some(deadline) = deadline {
            self.deadlines.remove(&(deadline, ticket));
        }
        Some(pod)
    }
}

impl Waiter {
    /// The answer, when what there is to see is one.
    fn look(&mut self, pod: &Name, sight: &Sight) -> Option<Result<Response, Failure>> {
        if self.is_early(sight) {
            return None;
        }
        let Goal::Is(goal) = self.goal else {
            return (!sight.is_there).then(|| Ok(Response::Statuses(BTreeMap::new())));
        };
        let Some(desired) = sight.desired else { return Some(Err(Failure::no_pod(pod))) };
        let generation = *self.generation.get_or_insert(desired);
        let status = sight.status.as_ref().filter(|status| status.status == goal)?;
        let counts = status.generation >= generation.0 && !sight.is_passing;
        counts.then(|| Ok(Response::Statuses(BTreeMap::from([(pod.clone(), status.clone())]))))
    }

    /// Whether a write that was asked for before is still in flight.
    fn is_early(&self, sight: &Sight) -> bool {
        sight.oldest_write.is_some_and(|write| write < self.after)
    }

    /// Says what the pod is instead of what was waited for, and why.
    pub(super) fn too_late(&self, pod: &Name, sight: &Sight) -> Failure {
        let message = format!("pod {pod} {}", self.instead(sight));
        Failure::new(Code::Timeout, message).at(Place::Pod, pod)
    }

    fn instead(&self, sight: &Sight) -> String {
        let goal = self.goal.name();
        if self.is_early(sight) {
            return format!("is not {goal}: its spec is still on its way to the disk");
        }
        let Some(status) = &sight.status else {
            return format!("is not {goal}: nothing of it has been started");
        };
        let (name, generation) = (status.status.name(), status.generation);
        let older = self.generation.filter(|wanted| generation < wanted.0);
        let what = match older {
            _ if name != goal => format!("is {name}, not {goal}"),
            Some(wanted) => format!("is {name} at generation {generation}, not yet {}", wanted.0),
            None => format!("is {name} by a run that is about to be another"),
        };
        match &status.reason {
            Some(reason) => format!("{what}: {reason}"),
            None => what,
        }
    }
}
