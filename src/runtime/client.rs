//! An injected runtime: the client starts and stops, this side keeps count.
//!
//! The client's word is carried by one ordered pipe, so what it said last is
//! what is so.

use std::collections::{BTreeMap, VecDeque};

use erlang_term_format::{Term, tuple};

use crate::core::event::{
    ActionId, Ended, Event, Incarnation, ObservedRun, Outcome, StartError, Started,
};
use crate::core::failure::Place;
use crate::core::spec::Name;
use crate::core::status::Exit;
use crate::daemon::clock;
use crate::port::translate;

use super::StartOrder;

/// What a request to the client was for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// Starting a run.
    Start(ActionId, Name, Incarnation),
    /// Stopping one.
    Stop(ActionId, Name, Incarnation),
}

/// A message to the client.
#[derive(Debug)]
pub enum ToClient {
    /// A request.
    Ask(&'static str, Term<'static>, Purpose),
    /// A cast.
    Tell(&'static str, Term<'static>),
}

/// The client's own processes as pods.
#[derive(Debug, Default)]
pub struct ClientRuntime {
    runs: BTreeMap<Name, Incarnation>,
    outbox: VecDeque<ToClient>,
}

impl ClientRuntime {
    /// See [`super::Runtime::start`].
    pub fn start(&mut self, order: &StartOrder) {
        self.runs.insert(order.pod.clone(), order.incarnation);
        let args = tuple![
            Term::binary(order.pod.to_string()),
            Term::from(order.incarnation.0),
            order.origin.spec.to_term().into_owned()
        ];
        let purpose = Purpose::Start(order.action, order.pod.clone(), order.incarnation);
        self.outbox.push_back(ToClient::Ask("start", args, purpose));
    }

    /// See [`super::Runtime::stop`].
    pub fn stop(&mut self, action: ActionId, pod: &Name, incarnation: Incarnation) {
        let purpose = Purpose::Stop(action, pod.clone(), incarnation);
        self.outbox.push_back(ToClient::Ask("stop", run(pod, incarnation), purpose));
    }

    /// See [`super::Runtime::kill`].
    pub fn kill(&mut self, pod: &Name, incarnation: Incarnation) {
        self.outbox.push_back(ToClient::Tell("kill", run(pod, incarnation)));
    }

    /// See [`super::Runtime::runs`].
    #[must_use]
    pub fn runs(&self) -> Vec<ObservedRun> {
        let runs = self.runs.iter();
        runs.map(|(pod, incarnation)| ObservedRun::live(pod.clone(), *incarnation)).collect()
    }

    /// The next message to send.
    pub fn poll_message(&mut self) -> Option<ToClient> {
        self.outbox.pop_front()
    }

    /// The client has answered.
    pub fn answered(
        &mut self,
        purpose: Purpose,
        result: Result<Term<'static>, Term<'static>>,
    ) -> Event {
        match purpose {
            Purpose::Start(action, pod, incarnation) => {
                let result = result.map(|value| started(&value)).map_err(|error| {
                    self.forget(&pod, incarnation);
                    let failure = translate::failure_from(&error).at(Place::Pod, &pod);
                    StartError { failure, is_download: false }
                });
                Event::Finished(action, Outcome::Started(result))
            }
            Purpose::Stop(action, pod, incarnation) => {
                let result = result.map_err(|error| translate::failure_from(&error)).map(|_| {
                    self.forget(&pod, incarnation);
                    // A process that was asked to shut down and did is a clean exit.
                    Exit::Exited(0)
                });
                Event::Finished(action, Outcome::Stopped(result))
            }
        }
    }

    /// The client says that a run is over.
    pub fn exited(&mut self, pod: Name, incarnation: Incarnation, exit: Exit) -> Event {
        self.forget(&pod, incarnation);
        Event::RunEnded { pod, incarnation, ended: Ended::new(exit, clock::now()) }
    }

    fn forget(&mut self, pod: &Name, incarnation: Incarnation) {
        if self.runs.get(pod) == Some(&incarnation) {
            self.runs.remove(pod);
        }
    }
}

fn run(pod: &Name, incarnation: Incarnation) -> Term<'static> {
    tuple![Term::binary(pod.to_string()), Term::from(incarnation.0)]
}

fn started(value: &Term<'_>) -> Started {
    let host_pid = value.get("host_pid").and_then(Term::as_i64);
    Started::new(clock::now(), host_pid.and_then(|pid| i32::try_from(pid).ok()))
}
