//! Pods as containers, each under a shim of its own.
//!
//! A run is a task: it starts the shim, speaks its protocol and reports what
//! happened. The tasks share nothing, so that no pod waits for another.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tank_shim::Program;
use tank_shim::protocol::ShimCgroup;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

use crate::core::event::{ActionId, Event, Incarnation, ObservedRun, Outcome};
use crate::core::failure::{Code, Failure, Place};
use crate::core::spec::{Image, Name, Network, PodSpec, Userns};
use crate::core::time::Millis;

use super::{Events, StartOrder};

pub mod cgroup;
mod confinement;
mod etc;
mod hint;
mod launch;
mod leftover;
mod oci;
pub(crate) mod reaper;
mod run;
mod run_dir;
mod shim;
mod user;
mod users;
mod volumes;

use confinement::Filters;
pub use leftover::{Leftover, find as leftovers};
use run::Order;
use users::Ranges;

/// How long shims may take to be told something at the end of the program.
const TELL_PATIENCE: Duration = Duration::from_secs(5);

/// Between tries to remove what an orderly end leaves empty.
const CLOSE_PAUSES_MS: [u64; 8] = [1, 2, 4, 8, 16, 32, 64, 128];

/// What every run needs to know of its surroundings.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// State that outlives a reboot: logs and managed volumes.
    pub data_dir: PathBuf,
    /// State that does not: a directory a run.
    pub run_dir: PathBuf,
    /// The shim's program.
    pub shim: Rc<Program>,
    /// Where pods live in the cgroup trees.
    pub cgroups: cgroup::Cgroups,
    /// Where shims move to.
    pub shim_cgroups: Vec<ShimCgroup>,
    /// Milliseconds between the stop signal and the kill.
    pub stop_grace_ms: u64,
    /// Whether the program is without root, and its shims are root of user
    /// namespaces alone.
    pub is_rootless: bool,
}

/// Pods as containers.
#[derive(Debug)]
pub struct ContainerRuntime {
    surroundings: Rc<Surroundings>,
    turns: Rc<Semaphore>,
    filters: Rc<Filters>,
    ranges: Rc<Ranges>,
    runs: BTreeMap<Name, RunHandle>,
    events: Events,
}

#[derive(Debug)]
struct RunHandle {
    incarnation: Incarnation,
    orders: UnboundedSender<Order>,
}

impl ContainerRuntime {
    /// A runtime in these surroundings, with the runs that were left by a port
    /// program before this one.
    #[must_use]
    pub fn new(surroundings: Surroundings, leftovers: Vec<Leftover>, events: Events) -> Self {
        let ranges = Rc::new(Ranges::load(&surroundings.run_dir));
        let mut runtime = Self {
            surroundings: Rc::new(surroundings),
            turns: Rc::new(Semaphore::new(1)),
            filters: Rc::new(Filters::new()),
            ranges,
            runs: BTreeMap::new(),
            events,
        };
        for leftover in leftovers {
            let (pod, incarnation) = (leftover.pod.clone(), leftover.incarnation);
            let (orders, inbox) = unbounded_channel();
            let context = runtime.context(&pod, incarnation);
            spawn_local(run::supervise(context, leftover.shim, inbox));
            runtime.runs.insert(pod, RunHandle { incarnation, orders });
        }
        runtime
    }

    /// See [`super::Runtime::start`].
    pub fn start(&mut self, order: StartOrder) {
        let (orders, inbox) = unbounded_channel();
        let context = self.context(&order.pod, order.incarnation);
        self.forget_ended();
        let handle = RunHandle { incarnation: order.incarnation, orders };
        let previous = self.runs.insert(order.pod.clone(), handle);
        assert!(previous.is_none(), "the core starts no pod that has a run: {}", order.pod);
        spawn_local(run::started(context, order, inbox));
    }

    /// See [`super::Runtime::cancel`].
    pub fn cancel(&mut self, pod: &Name, incarnation: Incarnation) {
        self.order(pod, incarnation, Order::Cancel);
    }

    /// See [`super::Runtime::kill`].
    pub fn kill(&mut self, pod: &Name, incarnation: Incarnation) {
        self.order(pod, incarnation, Order::Kill);
    }

    /// See [`super::Runtime::stop`].
    pub fn stop(&mut self, action: ActionId, pod: &Name, incarnation: Incarnation) {
        if !self.order(pod, incarnation, Order::Stop(action)) {
            // The run ended while the order was on its way; its end has been
            // or is being reported, and a stop of what is gone is done.
            let exit = crate::core::status::Exit::Failed(gone(pod));
            let _ = self.events.send(Event::Finished(action, Outcome::Stopped(Ok(exit))));
        }
    }

    /// See [`super::Runtime::adjust`].
    pub fn adjust(
        &mut self,
        action: ActionId,
        pod: &Name,
        incarnation: Incarnation,
        spec: Arc<PodSpec>,
    ) {
        if !self.order(pod, incarnation, Order::Adjust(action, spec)) {
            let adjusted = Outcome::Adjusted(Err(gone(pod)));
            let _ = self.events.send(Event::Finished(action, adjusted));
        }
    }

    /// See [`super::Runtime::remove`].
    pub fn remove(&mut self, action: ActionId, pod: &Name) {
        let logs = launch::log_dir(&self.surroundings, pod);
        let events = self.events.clone();
        spawn_local(async move {
            run_dir::remove_tree(logs).await;
            let _ = events.send(Event::Finished(action, Outcome::Removed));
        });
    }

    /// See [`super::Runtime::runs`].
    #[must_use]
    pub fn runs(&self) -> Vec<ObservedRun> {
        let live = self.runs.iter().filter(|(_, run)| !run.orders.is_closed());
        live.map(|(pod, run)| ObservedRun {
            pod: pod.clone(),
            incarnation: run.incarnation,
            ended: None,
        })
        .collect()
    }

    /// Removes what an orderly end leaves empty.
    pub async fn close(&self) {
        let has_runs = self.runs.values().any(|run| !run.orders.is_closed());
        // A shim that has ended may be in its cgroup for a moment yet.
        for pause in CLOSE_PAUSES_MS.map(Duration::from_millis) {
            if self.surroundings.cgroups.remove_empty() || has_runs {
                break;
            }
            sleep(pause).await;
        }
        let _ = std::fs::remove_dir(run_dir::pods(&self.surroundings.run_dir));
    }

    /// Tells every shim to stop its pod by itself `after_ms` from now, and waits
    /// until all have been told, within reason.
    pub async fn run_until(&self, deadline: Millis) {
        let mut told = Vec::new();
        for run in self.runs.values() {
            let (tell, when_told) = oneshot::channel();
            // A run that has ended has closed its inbox.
            if run.orders.send(Order::RunUntil(deadline, tell)).is_ok() {
                told.push(when_told);
            }
        }
        let all_told = async {
            for when_told in told {
                let _ = when_told.await;
            }
        };
        // A run that is on its way out listens no more, and may take its time.
        if timeout(TELL_PATIENCE, all_told).await.is_err() {
            tracing::warn!("not every pod could be told when to stop");
        }
    }

    fn order(&self, pod: &Name, incarnation: Incarnation, order: Order) -> bool {
        let run = self.runs.get(pod).filter(|run| run.incarnation == incarnation);
        run.is_some_and(|run| run.orders.send(order).is_ok())
    }

    /// A task that is over has closed its inbox.
    fn forget_ended(&mut self) {
        self.runs.retain(|_, run| !run.orders.is_closed());
    }

    fn context(&self, pod: &Name, incarnation: Incarnation) -> run::Context {
        run::Context {
            surroundings: Rc::clone(&self.surroundings),
            turns: Rc::clone(&self.turns),
            filters: Rc::clone(&self.filters),
            ranges: Rc::clone(&self.ranges),
            pod: pod.clone(),
            incarnation,
            events: self.events.clone(),
        }
    }
}

fn gone(pod: &Name) -> Failure {
    Failure::new(Code::Lost, "the run was gone already").at(Place::Pod, pod)
}

/// Whether this runtime can run such a pod.
///
/// # Errors
/// `unsupported`, naming the field.
pub fn check(spec: &PodSpec) -> Result<(), Failure> {
    let unsupported = |field: &str, what: &str| {
        let failure = Failure::new(Code::Unsupported, format!("{field}: {what}"));
        Err(failure.at(Place::Pod, &spec.name).at(Place::Field, field))
    };
    if spec.userns != Userns::Host && !rustix::process::geteuid().is_root() {
        let what = "without root a pod's users are those of its program's user: leave it :host";
        return unsupported("userns", what);
    }
    if spec.userns != Userns::Host && spec.oci_runtime.is_some() {
        return unsupported("userns", "only :host can run under an oci_runtime");
    }
    if matches!(spec.network, Network::Interfaces { .. }) {
        return unsupported("network.nics", "only :none and :host can run yet");
    }
    let by_runtime = spec.oci_runtime.is_some();
    for launch::Member { field, spec: container, .. } in launch::members(spec) {
        let unsupported = |part: &str, what| unsupported(&format!("{field}.{part}"), what);
        if by_runtime && container.tty {
            return unsupported("tty", "an oci_runtime is given no terminal");
        }
        if by_runtime && container.init {
            return unsupported("init", "an oci_runtime puts no init before the command");
        }
        if matches!(container.image, Image::Reference(_)) {
            let what = "only {:rootfs, path} can run yet, images cannot be pulled";
            return unsupported("image", what);
        }
        for (index, mount) in container.mounts.iter().enumerate() {
            if let Some(what) = launch::mount_refusal(&mount.path) {
                return unsupported(&format!("mounts[{index}].path"), what);
            }
        }
    }
    Ok(())
}
