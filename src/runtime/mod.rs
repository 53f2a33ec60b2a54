//! What carries out the core's starts and stops.
//!
//! [`container`] launches containers through shims; [`client`] asks the other
//! end of the wire to do it, which is how a test drives the loop with no
//! containers. Every order comes back as exactly one event, sent on the
//! daemon's channel; nothing here blocks the loop and nothing decides.

use std::sync::Arc;

use tokio::sync::mpsc::UnboundedSender;

use crate::core::event::{ActionId, Event, Incarnation, ObservedRun, Origin, Outcome};
use crate::core::failure::Failure;
use crate::core::spec::{Name, PodSpec};

pub mod client;
pub mod container;

use client::ClientRuntime;
use container::ContainerRuntime;

/// Where runtimes send what happened.
pub type Events = UnboundedSender<Event>;

/// One run to be started.
#[derive(Debug, Clone)]
pub struct StartOrder {
    /// The action that this is.
    pub action: ActionId,
    /// The pod.
    pub pod: Name,
    /// The run's number.
    pub incarnation: Incarnation,
    /// What to run, and how it came to that.
    pub origin: Arc<Origin>,
}

/// The runtime in use.
#[derive(Debug)]
pub enum Runtime {
    /// Containers under shims.
    Container(ContainerRuntime),
    /// The client's own processes.
    Client(ClientRuntime),
    /// None: the desired state is kept and nothing is started.
    None,
}

impl Runtime {
    /// Whether runs can go on without the client.
    #[must_use]
    pub fn outlives_client(&self) -> bool {
        matches!(self, Self::Container(_))
    }

    /// Whether this runtime can run such a pod at all.
    ///
    /// # Errors
    /// `unsupported`, naming the field.
    pub fn check(&self, spec: &PodSpec) -> Result<(), Failure> {
        match self {
            Self::Container(_) => container::check(spec),
            Self::Client(_) | Self::None => Ok(()),
        }
    }

    /// Starts a run. Ends in `Started`.
    pub fn start(&mut self, order: StartOrder) {
        match self {
            Self::Container(runtime) => runtime.start(order),
            Self::Client(runtime) => runtime.start(&order),
            Self::None => unreachable!("the core does not actuate without a runtime"),
        }
    }

    /// Takes over a run that was observed and not started here. Ends in `Started`.
    pub fn adopt(&mut self, action: ActionId, pod: &Name, incarnation: Incarnation) {
        match self {
            Self::Container(runtime) => runtime.adopt(action, pod, incarnation),
            Self::Client(_) | Self::None => {
                unreachable!("what no other program can have begun has no origin")
            }
        }
    }

    /// What is on record of this run, which is over, is needed no more.
    pub fn forget(&mut self, pod: &Name, incarnation: Incarnation) {
        match self {
            Self::Container(runtime) => runtime.forget(pod, incarnation),
            Self::Client(_) | Self::None => {}
        }
    }

    /// The program is about to end and its pods go on: from here on a start that is no
    /// longer wanted is left to the next program, where it may have executed something.
    pub fn hold(&self) {
        match self {
            Self::Container(runtime) => runtime.hold(),
            // What carries them out is gone or about to be.
            Self::Client(_) | Self::None => {}
        }
    }

    /// The start of this run is no longer wanted.
    pub fn cancel(&mut self, pod: &Name, incarnation: Incarnation) {
        match self {
            Self::Container(runtime) => runtime.cancel(pod, incarnation),
            Self::Client(runtime) => runtime.kill(pod, incarnation),
            Self::None => {}
        }
    }

    /// Stops a run. Ends in `Stopped`.
    pub fn stop(&mut self, action: ActionId, pod: &Name, incarnation: Incarnation) {
        match self {
            Self::Container(runtime) => runtime.stop(action, pod, incarnation),
            Self::Client(runtime) => runtime.stop(action, pod, incarnation),
            Self::None => unreachable!("the core does not actuate without a runtime"),
        }
    }

    /// Kills a run; its end is an event of its own.
    pub fn kill(&mut self, pod: &Name, incarnation: Incarnation) {
        match self {
            Self::Container(runtime) => runtime.kill(pod, incarnation),
            Self::Client(runtime) => runtime.kill(pod, incarnation),
            Self::None => {}
        }
    }

    /// Changes a run's limits to those of `origin`. Ends in `Adjusted`.
    pub fn adjust(
        &mut self,
        action: ActionId,
        pod: &Name,
        incarnation: Incarnation,
        origin: Arc<Origin>,
    ) {
        match self {
            Self::Container(runtime) => runtime.adjust(action, pod, incarnation, origin),
            Self::Client(_) | Self::None => {
                unreachable!("the core adjusts no run of a runtime that cannot")
            }
        }
    }

    /// Removes what a deleted pod left behind. Ends in `Removed`.
    pub fn remove(&mut self, action: ActionId, pod: &Name, events: &Events) {
        match self {
            Self::Container(runtime) => runtime.remove(action, pod),
            Self::Client(_) | Self::None => {
                let _ = events.send(Event::Finished(action, Outcome::Removed));
            }
        }
    }

    /// Every run that there is.
    #[must_use]
    pub fn runs(&self) -> Vec<ObservedRun> {
        match self {
            Self::Container(runtime) => runtime.runs(),
            Self::Client(runtime) => runtime.runs(),
            Self::None => Vec::new(),
        }
    }
}
