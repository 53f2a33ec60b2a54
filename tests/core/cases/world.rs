//! The world a case plays in: a store, the runs, the clock, and the actions
//! that the core asked for and a line of the case has not finished yet.

use std::collections::BTreeMap;
use std::sync::Arc;

use tank::core::action::{Action, Command, Write};
use tank::core::event::{
    ActionId, EndCause, Ended, Event, Incarnation, LastExit, Observation, ObservedRun, Outcome,
    Request, StartError, Started, Ticket, Verdict,
};
use tank::core::failure::{Code, Failure};
use tank::core::reconciler::{Config, Reconciler};
use tank::core::spec::Name;
use tank::core::status::Exit;
use tank::core::time::{Millis, Moment};

use crate::store::Store;
use crate::{fixtures, text};

pub(crate) struct World {
    config: Config,
    core: Reconciler,
    now: u64,
    said: Vec<String>,
    pending: Vec<(ActionId, Action)>,
    finished: Vec<(ActionId, Outcome)>,
    asked: BTreeMap<Ticket, String>,
    is_observed_by_hand: bool,
    store: Store,
    runs: BTreeMap<Incarnation, ObservedRun>,
    /// What is on record of runs that are over.
    records: BTreeMap<Name, ObservedRun>,
    is_alive: bool,
}

impl World {
    pub(crate) fn new(options: &[String]) -> Self {
        let mut config = Config::default();
        let mut is_observed_by_hand = false;
        for option in options {
            match option.split_once('=').unwrap_or((option, "")) {
                ("interval", time) => config.interval_ms = text::millis(time),
                ("backoff_base", time) => config.backoff_base_ms = text::millis(time),
                ("backoff_cap", time) => config.backoff_cap_ms = text::millis(time),
                ("stable_window", time) => config.stable_window_ms = text::millis(time),
                ("first_run", run) => config.first_incarnation = text::incarnation(run).0,
                ("actuate", "no") => config.actuate = false,
                ("adjust", "no") => config.adjust = false,
                ("observe", "by_hand") => is_observed_by_hand = true,
                _ => panic!("no option: {option:?}"),
            }
        }
        let mut world = Self {
            config,
            core: Reconciler::new(config, Millis(0)),
            now: 0,
            said: Vec::new(),
            pending: Vec::new(),
            finished: Vec::new(),
            asked: BTreeMap::new(),
            is_observed_by_hand,
            store: Store::default(),
            runs: BTreeMap::new(),
            records: BTreeMap::new(),
            is_alive: true,
        };
        world.listen();
        world
    }

    pub(crate) fn take_said(&mut self) -> Vec<String> {
        std::mem::take(&mut self.said)
    }

    /// A pod that is applied and runs.
    pub(crate) fn have(&mut self, pod: &str) {
        self.request(&format!("apply {pod}"));
        self.happen("persisted");
        let name = pod.split_whitespace().next().expect("a pod");
        self.happen(&format!("started {name}"));
        self.said.clear();
    }

    pub(crate) fn request(&mut self, text: &str) {
        if let Some(request) = text.strip_prefix("abandon ") {
            let asked = self.asked.iter().find(|(_, asked)| *asked == request);
            let ticket = *asked.unwrap_or_else(|| panic!("nobody asked {request:?}")).0;
            return self.tell(Event::Abandoned(ticket));
        }
        let ticket = Ticket(self.asked.len() as u64 + 1);
        self.asked.insert(ticket, text.to_string());
        let request: Request = text::request(text);
        self.tell(Event::Requested(ticket, request));
    }

    /// Lets time pass, and wakes the core exactly when it asked for it.
    pub(crate) fn wait(&mut self, delay_ms: u64) {
        let until = self.now + delay_ms;
        let is_alive = self.is_alive;
        let is_due = |at: &Millis| is_alive && at.0 <= until;
        while let Some(deadline) = self.core.poll_deadline().filter(is_due) {
            assert!(deadline.0 >= self.now, "a deadline in the past was not served");
            let before = self.said.len();
            self.now = deadline.0;
            self.tell(Event::Woke);
            let at = text::time(self.now);
            for line in &mut self.said[before..] {
                *line = format!("at {at}: {line}");
            }
        }
        self.now = until;
    }

    /// Something other than a request.
    pub(crate) fn happen(&mut self, text: &str) {
        let (text, message) = text.split_once(": ").unwrap_or((text, ""));
        let failure = |code| Failure::new(code, message);
        let words: Vec<&str> = text.split_whitespace().collect();
        match words.as_slice() {
            ["persisted"] => self.persisted(None),
            ["persisting", "failed"] => self.persisted(Some(failure(Code::StoreFailed))),
            ["started", pod] => self.started(pod, Ok(())),
            ["starting", pod, "failed"] => {
                let failure = failure(Code::StartFailed);
                self.started(pod, Err(StartError { failure, is_download: false }));
            }
            ["downloading", pod, "failed"] => {
                let failure = failure(Code::ImageUnavailable);
                self.started(pod, Err(StartError { failure, is_download: true }));
            }
            ["adopted", pod] => self.adopted(pod, Ok(()), false),
            ["adopted", pod, "stopping"] => self.adopted(pod, Ok(()), true),
            ["adopting", pod, "failed"] => {
                let failure = failure(Code::StartFailed);
                self.adopted(pod, Err(StartError { failure, is_download: false }), false);
            }
            ["stopped", pod] => self.stopped(pod, Ok(Exit::Signaled(15))),
            ["stopped", pod, kind, number] => self.stopped(pod, Ok(text::exit(kind, number))),
            ["stopping", pod, "failed"] => self.stopped(pod, Err(failure(Code::RuntimeFailed))),
            ["adjusted", pod] => self.adjusted(pod, Ok(())),
            ["adjusting", pod, "failed"] => {
                self.adjusted(pod, Err(failure(Code::RuntimeFailed)));
            }
            ["removed", pod] => {
                let id = self.take(|action| is_of(action, pod));
                self.finish(id, Outcome::Removed);
            }
            ["observed"] => self.observed(),
            ["finished", "again"] => self.finished_again(),
            ["another", "removed", pod] => {
                self.store.delete(&fixtures::name(pod));
            }
            ["another", "stored", ..] => {
                let spec = text.strip_prefix("another stored ").expect("as matched");
                self.store.put(text::spec(spec));
            }
            ["stored", "verdict", pod, kind, number] => {
                let exit = text::exit(kind, number);
                let pod = fixtures::name(pod);
                let generation = self.store.pods()[&pod].generation;
                let last = LastExit { exit, at: Some(Moment::Wall(-1_000)) };
                let verdict = Verdict { last, retries: 2, incarnation: Incarnation(7) };
                let verdict = Write::PutVerdict(pod, generation, verdict);
                self.store.commit(verdict).expect("this store does not fail");
            }
            [pod, "vanished", "unnoticed"] => {
                let run = self.run_of(pod);
                self.runs.remove(&run);
            }
            [pod, kind, number, "unnoticed"] => {
                self.ended_unnoticed(pod, text::exit(kind, number), EndCause::Itself);
            }
            [pod, kind, number, "on", "request", "unnoticed"] => {
                self.ended_unnoticed(pod, text::exit(kind, number), EndCause::Request);
            }
            ["the", "program", "is", "killed"] => self.kill_program(),
            ["the", "program", "starts"] => self.start_program(),
            [pod, "runs", "stray", run] => self.stray(pod, text::incarnation(run)),
            [pod, kind @ ("exited" | "signaled"), number] => {
                let run = self.run_of(pod);
                self.ended(pod, run, text::exit(kind, number));
            }
            [pod, run, kind, number] => {
                self.ended(pod, text::incarnation(run), text::exit(kind, number));
            }
            _ => panic!("nothing that happens: {text:?}"),
        }
    }

    pub(crate) fn tell(&mut self, event: Event) {
        self.core.handle(Millis(self.now), event);
        self.listen();
    }

    /// Writes down what the core says, and keeps its actions for later.
    fn listen(&mut self) {
        let mut is_observing = false;
        while let Some(command) = self.core.poll_command() {
            let said = self.said_of(&command);
            match command {
                Command::Act(_, Action::Observe { .. }) if !self.is_observed_by_hand => {}
                _ => self.said.push(said),
            }
            if let Command::Forget(pod, run) = &command {
                self.runs.remove(run);
                self.records.remove(pod);
            }
            if let Command::Act(id, action) = command {
                is_observing |= matches!(action, Action::Observe { .. });
                self.pending.push((id, action));
            }
        }
        while let Some(notice) = self.core.poll_notice() {
            self.said.push(text::notice(&notice));
        }
        while let Some(reply) = self.core.poll_reply() {
            let asked = &self.asked[&reply.ticket];
            self.said.push(format!("{asked} -> {}", text::response(&reply.result)));
        }
        if is_observing && !self.is_observed_by_hand {
            self.observed();
        }
    }

    fn said_of(&self, command: &Command) -> String {
        let cancelled = |id: &ActionId| self.pending.iter().find(|(pending, _)| pending == id);
        match command {
            Command::Cancel(id) => match cancelled(id) {
                Some((_, Action::Start { pod, incarnation, .. })) => {
                    format!("cancel start {pod} #{}", incarnation.0)
                }
                Some((_, Action::Adopt { pod, incarnation })) => {
                    format!("cancel takeover of {pod} #{}", incarnation.0)
                }
                _ => panic!("cancelled what is no start in flight"),
            },
            _ => text::command(command),
        }
    }

    fn take(&mut self, is_it: impl Fn(&Action) -> bool) -> ActionId {
        let found = self.pending.iter().position(|(_, action)| is_it(action));
        self.pending.remove(found.expect("the core asked for nothing like that")).0
    }

    fn finish(&mut self, id: ActionId, outcome: Outcome) {
        self.finished.push((id, outcome.clone()));
        self.tell(Event::Finished(id, outcome));
    }

    fn finished_again(&mut self) {
        for (id, outcome) in self.finished.clone() {
            self.tell(Event::Finished(id, outcome));
        }
    }

    fn persisted(&mut self, failure: Option<Failure>) {
        let is_write = |(_, action): &(ActionId, Action)| matches!(action, Action::Persist(_));
        let found = self.pending.iter().position(is_write).expect("a write is in flight");
        let (id, Action::Persist(write)) = self.pending.remove(found) else {
            unreachable!("as found")
        };
        let result = failure.map_or_else(|| self.store.commit(write), Err);
        self.finish(id, Outcome::Persisted(result));
    }

    fn started(&mut self, pod: &str, result: Result<(), StartError>) {
        let id = self.start_of(pod, result.is_ok());
        let host_pid = self.runs.keys().next_back().map(|run| 1000 + run.0 as i32);
        let result = result.map(|()| Started::new(Millis(self.now), host_pid));
        self.finish(id, Outcome::Started(result));
    }

    fn start_of(&mut self, pod: &str, is_launched: bool) -> ActionId {
        let is_start = |action: &Action| matches!(action, Action::Start { pod: started, .. } if started.as_str() == pod);
        let found = self.pending.iter().find(|(_, action)| is_start(action));
        let Some((_, Action::Start { pod, incarnation, origin })) = found else {
            panic!("no start of {pod} is in flight")
        };
        if is_launched {
            let run = ObservedRun {
                origin: Some(Arc::clone(origin)),
                started_at: Some(Millis(self.now)),
                ..ObservedRun::live(pod.clone(), *incarnation)
            };
            self.records.remove(pod);
            self.runs.retain(|_, earlier| earlier.pod != *pod || earlier.ended.is_none());
            self.runs.insert(*incarnation, run);
        }
        self.take(is_start)
    }

    fn stopped(&mut self, pod: &str, result: Result<Exit, Failure>) {
        let is_stop = |action: &Action| matches!(action, Action::Stop { pod: stopped, .. } if stopped.as_str() == pod);
        let found = self.pending.iter().find(|(_, action)| is_stop(action));
        let Some((_, Action::Stop { incarnation, .. })) = found else {
            panic!("no stop of {pod} is in flight")
        };
        if result.is_ok() {
            self.runs.remove(incarnation);
        }
        let id = self.take(is_stop);
        self.finish(id, Outcome::Stopped(result));
    }

    fn adjusted(&mut self, pod: &str, result: Result<(), Failure>) {
        let id = self.take(|action| {
            matches!(action, Action::Adjust { pod: adjusted, .. } if adjusted.as_str() == pod)
        });
        self.finish(id, Outcome::Adjusted(result));
    }

    fn ended(&mut self, pod: &str, incarnation: Incarnation, exit: Exit) {
        let (pod, ended) = (fixtures::name(pod), Ended::new(exit, Millis(self.now)));
        if let Some(run) = self.runs.remove(&incarnation) {
            let run = ObservedRun { ended: Some(ended.clone()), ..run };
            self.records.insert(pod.clone(), run);
        }
        self.tell(Event::RunEnded { pod, incarnation, ended });
    }

    fn stray(&mut self, pod: &str, incarnation: Incarnation) {
        self.runs.insert(incarnation, ObservedRun::live(fixtures::name(pod), incarnation));
    }

    fn ended_unnoticed(&mut self, pod: &str, exit: Exit, cause: EndCause) {
        let (run, at) = (self.run_of(pod), Millis(self.now));
        self.runs.get_mut(&run).expect("a run").ended = Some(Ended { exit, at, cause });
    }

    /// Nothing that was under way goes on.
    fn kill_program(&mut self) {
        self.is_alive = false;
        self.pending.clear();
        self.finished.clear();
        self.asked.clear();
    }

    fn start_program(&mut self) {
        let recorded = std::mem::take(&mut self.records).into_values();
        self.runs.extend(recorded.map(|run| (run.incarnation, run)));
        self.core = Reconciler::new(self.config, Millis(self.now));
        self.is_alive = true;
        self.listen();
    }

    fn adopted(&mut self, pod: &str, result: Result<(), StartError>, is_stopping: bool) {
        let is_it = |(_, action): &&(ActionId, Action)| matches!(action, Action::Adopt { pod: adopted, .. } if adopted.as_str() == pod);
        let Some((id, Action::Adopt { incarnation, .. })) = self.pending.iter().find(is_it) else {
            panic!("{pod} is not being taken over")
        };
        let (id, run) = (*id, *incarnation);
        self.pending.retain(|(pending, _)| *pending != id);
        let known = self.runs.get(&run).or_else(|| self.records.get(&fixtures::name(pod)));
        let at = known.and_then(|run| run.started_at).expect("it began once");
        if result.is_err() {
            self.runs.remove(&run);
        }
        let started = Started::new(at, i32::try_from(1000 + run.0).ok());
        let started = Started { is_stopping, ..started };
        self.finish(id, Outcome::Started(result.map(|()| started)));
    }

    fn run_of(&self, pod: &str) -> Incarnation {
        let mut runs = self.runs.values().filter(|run| run.pod.as_str() == pod);
        runs.next_back().unwrap_or_else(|| panic!("{pod} does not run")).incarnation
    }

    /// Answers the observation in flight with all there is.
    fn observed(&mut self) {
        let runs = self.runs.values().cloned().collect();
        let id = self.take(|action| matches!(action, Action::Observe { .. }));
        self.finish(id, Outcome::Observed(Observation { desired: Some(self.store.full()), runs }));
    }
}

fn is_of(action: &Action, pod: &str) -> bool {
    matches!(action, Action::Remove(removed) if removed.as_str() == pod)
}
