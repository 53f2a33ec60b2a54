//! A world in which every action is over at once and without fault, so that
//! only what the core decides can make a difference.

use std::collections::BTreeMap;

use tank::core::action::{Action, Command, Response};
use tank::core::event::{
    ActionId, Ended, Event, Incarnation, Observation, ObservedRun, Outcome, Request, StartError,
    Started, Ticket,
};
use tank::core::failure::{Code, Failure};
use tank::core::reconciler::{Config, Reconciler};
use tank::core::spec::Name;
use tank::core::status::{Exit, PodStatus};
use tank::core::time::Millis;

use crate::store::Store;

pub(crate) struct Prompt {
    core: Reconciler,
    now: u64,
    next_ticket: u64,
    answers: BTreeMap<Ticket, Result<Response, Failure>>,
    pub(crate) store: Store,
    runs: BTreeMap<Incarnation, ObservedRun>,
    /// What comes of starts; those of other pods work.
    pub(crate) failing: BTreeMap<Name, StartError>,
}

impl Prompt {
    pub(crate) fn new(config: Config) -> Self {
        let mut world = Self {
            core: Reconciler::new(config, Millis(0)),
            now: 0,
            next_ticket: 1,
            answers: BTreeMap::new(),
            store: Store::default(),
            runs: BTreeMap::new(),
            failing: BTreeMap::new(),
        };
        world.settle();
        world
    }

    pub(crate) fn tell(&mut self, event: Event) {
        self.core.handle(Millis(self.now), event);
        self.settle();
    }

    /// Asks, and returns the answer, which comes at once.
    pub(crate) fn request(&mut self, request: Request) -> Result<Response, Failure> {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.tell(Event::Requested(ticket, request));
        self.answers.remove(&ticket).expect("an answer at once")
    }

    pub(crate) fn statuses(&mut self) -> BTreeMap<Name, PodStatus> {
        match self.request(Request::Status(None)) {
            Ok(Response::Statuses(statuses)) => statuses,
            other => panic!("a status is answered with {other:?}"),
        }
    }

    pub(crate) fn wait(&mut self, delay_ms: u64) {
        let until = self.now + delay_ms;
        while let Some(deadline) = self.core.poll_deadline().filter(|at| at.0 <= until) {
            self.now = self.now.max(deadline.0);
            self.tell(Event::Woke);
        }
        self.now = until;
    }

    /// Ends the pod's live run, if it has one. Returns the notice of it, which
    /// is not delivered.
    pub(crate) fn end_run(&mut self, pod: &Name, exit: Exit) -> Option<Event> {
        let run = self.runs.values_mut().find(|run| run.pod == *pod && run.ended.is_none())?;
        let ended = Ended::new(exit, Millis(self.now));
        run.ended = Some(ended.clone());
        Some(Event::RunEnded { pod: pod.clone(), incarnation: run.incarnation, ended })
    }

    fn settle(&mut self) {
        while let Some(command) = self.core.poll_command() {
            match command {
                Command::Act(id, action) => self.act(id, action),
                Command::Cancel(id) => panic!("{id:?} was over at once"),
                Command::Kill(pod, _) => {
                    let notice = self.end_run(&pod, Exit::Signaled(9));
                    let notice = notice.unwrap_or_else(|| panic!("{pod}: killed without a run"));
                    self.core.handle(Millis(self.now), notice);
                }
                Command::Forget(_, run) => drop(self.runs.remove(&run)),
            }
        }
        while let Some(reply) = self.core.poll_reply() {
            self.answers.insert(reply.ticket, reply.result);
        }
        while self.core.poll_notice().is_some() {}
    }

    fn act(&mut self, id: ActionId, action: Action) {
        let outcome = match action {
            Action::Persist(write) => Outcome::Persisted(self.store.commit(write)),
            Action::Start { pod, incarnation, .. } => self.start(pod, incarnation),
            Action::Stop { incarnation, .. } => {
                let ended = self.runs.remove(&incarnation).and_then(|run| run.ended);
                Outcome::Stopped(Ok(ended.map_or(Exit::Signaled(15), |ended| ended.exit)))
            }
            Action::Adjust { incarnation, .. } => {
                let is_live = self.runs.get(&incarnation).is_some_and(|run| run.ended.is_none());
                let gone = || Failure::new(Code::Lost, "the run was gone already");
                Outcome::Adjusted(is_live.then_some(()).ok_or_else(gone))
            }
            Action::Adopt { pod, .. } => panic!("{pod}: taken over by who began it"),
            Action::Remove(_) => Outcome::Removed,
            Action::Observe { since } => {
                let runs = self.runs.values().cloned().collect();
                Outcome::Observed(Observation { desired: self.store.changes(since), runs })
            }
        };
        self.core.handle(Millis(self.now), Event::Finished(id, outcome));
    }

    fn start(&mut self, pod: Name, incarnation: Incarnation) -> Outcome {
        if let Some(error) = self.failing.get(&pod) {
            return Outcome::Started(Err(error.clone()));
        }
        // The runtime forgets a run that ended when the pod's next one begins.
        self.runs.retain(|_, run| run.pod != pod || run.ended.is_none());
        let is_alone = self.runs.values().all(|run| run.pod != pod);
        assert!(is_alone, "{pod}: two runs at once");
        self.runs.insert(incarnation, ObservedRun::live(pod, incarnation));
        Outcome::Started(Ok(Started::new(Millis(self.now), None)))
    }
}
