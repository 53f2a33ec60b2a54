//! Pods as containers, each under a shim of its own.
//!
//! A run is a task: it starts the shim, speaks its protocol and reports what
//! happened. The tasks share nothing, so that no pod waits for another.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Resource;
use tank_shim::Program;
use tank_shim::protocol::{OnHangup, ShimCgroup};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::{JoinSet, spawn_blocking, spawn_local};
use tokio::time::{sleep, timeout};

use crate::core::event::{
    ActionId, Event, Incarnation, ObservedRun, Origin, Outcome, StartError, Started,
};
use crate::core::failure::{Code, Failure, Place};
use crate::core::spec::{Image, Name, Network, PodSpec, Userns};

use super::{Events, StartOrder};

pub mod cgroup;
mod confinement;
mod directories;
mod end;
mod etc;
mod hint;
mod launch;
mod leftover;
mod oci;
pub(crate) mod reaper;
mod run;
mod run_dir;
mod run_record;
mod shim;
mod user;
mod users;
mod volumes;

use confinement::Filters;
use directories::Directories;
pub use leftover::{Leftover, has_live_runs, specs_of_live_runs};
use run::Order;
use users::Ranges;

/// How long shims may take to be told something at the end of the program: less
/// than clients wait for that.
const TELL_PATIENCE: Duration = Duration::from_secs(2);

/// Between tries to remove what an orderly end leaves empty.
const CLOSE_PAUSES_MS: [u64; 8] = [1, 2, 4, 8, 16, 32, 64, 128];

/// Between tries to look at what there are no means for now to look at.
const LOOK_PAUSE: Duration = Duration::from_millis(10);

/// What this program has open of each run that lives: its shim's connection and process.
const DESCRIPTORS_OF_RUN: usize = 2;

/// What it needs besides, to look at one after the other.
const DESCRIPTORS_TO_LOOK: usize = 4;

/// What every run needs to know of its surroundings.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// State that outlives a reboot: logs and managed volumes.
    pub data_dir: PathBuf,
    /// State that does not: a directory a run.
    pub run_dir: PathBuf,
    /// The shim's program.
    pub shim: Rc<Program>,
    /// Which boot of the machine this is.
    pub boot_id: String,
    /// Where pods live in the cgroup trees.
    pub cgroups: cgroup::Cgroups,
    /// Where shims move to.
    pub shim_cgroups: Vec<ShimCgroup>,
    /// Where this program was before it moved there, too, if it did: what its
    /// `/proc/self/cgroup` was then.
    pub home_cgroups: Option<String>,
    /// How many files a workload may have open unless its spec says so, where this
    /// program has raised its own limit.
    pub open_files: Option<u64>,
    /// Milliseconds between the stop signal and the kill.
    pub stop_grace_ms: u64,
    /// What pods do when this program is no more, however it ends.
    pub on_hangup: Option<OnHangup>,
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
    directories: Rc<Directories>,
    is_holding: Rc<Cell<bool>>,
    runs: BTreeMap<Name, RunHandle>,
    /// Runs of an earlier program that are over, until that has been acted on.
    ended: BTreeMap<Name, ObservedRun>,
    forgetting: JoinSet<()>,
    events: Events,
}

#[derive(Debug)]
struct RunHandle {
    incarnation: Incarnation,
    /// Of a run of an earlier program.
    found: Option<ObservedRun>,
    /// What it has begun with, of one that was found and is to be taken over.
    started: Option<Started>,
    /// Whether it is to be.
    is_untaken: bool,
    orders: UnboundedSender<Order>,
}

/// What a look at this machine has found.
#[derive(Debug, Default)]
pub struct Found {
    /// Runs that nobody here has begun.
    pub leftovers: Vec<Leftover>,
    /// Pods that have logs.
    pub logs: Vec<Name>,
}

impl ContainerRuntime {
    /// A runtime in these surroundings. What there is already, a look will find.
    ///
    /// # Errors
    /// `start_failed` when the run directory cannot be read, or has more runs that live
    /// than this program may have descriptors for.
    pub fn new(surroundings: Surroundings, events: Events) -> Result<Self, Failure> {
        let Surroundings { run_dir, data_dir, cgroups, .. } = &surroundings;
        let traces = leftover::look(run_dir, data_dir, cgroups)?;
        check_descriptors(run_dir, &traces.pods)?;
        leftover::kill_lost_shims(&surroundings.run_dir);
        let ranges = Rc::new(Ranges::load(&surroundings.run_dir));
        Ok(Self {
            surroundings: Rc::new(surroundings),
            turns: Rc::new(Semaphore::new(1)),
            filters: Rc::new(Filters::new()),
            ranges,
            directories: Rc::default(),
            is_holding: Rc::default(),
            runs: BTreeMap::new(),
            ended: BTreeMap::new(),
            forgetting: JoinSet::new(),
            events,
        })
    }

    /// Looks for runs that nobody here has begun, all at the same time: what is stuck is
    /// waited for once. What can be neither spoken to nor removed is logged and left: it
    /// keeps its own pod from starting, and no other.
    ///
    /// Says nothing when the directory of runs could not be read: it is not known then that
    /// nothing runs.
    pub fn look(&self) -> impl Future<Output = Option<Found>> + use<> {
        let surroundings = Rc::clone(&self.surroundings);
        let (directories, ranges) = (Rc::clone(&self.directories), Rc::clone(&self.ranges));
        async move {
            let (run_dir, data_dir) = (surroundings.run_dir.clone(), surroundings.data_dir.clone());
            let cgroups = surroundings.cgroups.clone();
            let look = spawn_blocking(move || leftover::look(&run_dir, &data_dir, &cgroups));
            let traces = match look.await.expect("a look does not panic") {
                Ok(traces) => traces,
                Err(failure) => {
                    tracing::warn!("{failure}");
                    return None;
                }
            };
            let unknown = traces.pods.into_iter().filter(|pod| !directories.is_known(pod));
            let mut looks: JoinSet<_> = unknown
                .map(|pod| look_at(Rc::clone(&surroundings), Rc::clone(&directories), pod))
                .fold(JoinSet::new(), |mut looks, look| {
                    looks.spawn_local(look);
                    looks
                });
            let mut leftovers = Vec::new();
            while let Some(looked) = looks.join_next().await {
                match looked.expect("a look does not panic") {
                    Looked::Run(leftover) => leftovers.push(*leftover),
                    // Nothing is left that its users could be.
                    Looked::Gone(pod) => ranges.release(&pod),
                    Looked::Unknown => {}
                }
            }
            Some(Found { leftovers, logs: traces.logs })
        }
    }

    /// Takes note of the runs that a look has found.
    pub fn note(&mut self, leftovers: Vec<Leftover>) {
        for Leftover { run, live } in leftovers {
            // One has been begun in its place meanwhile.
            if self.directories.is_known(&run.pod) {
                continue;
            }
            self.directories.know(&run.pod);
            let Some(live) = live else {
                self.ended.insert(run.pod.clone(), run);
                continue;
            };
            let (orders, inbox) = unbounded_channel();
            let context = self.context(&run.pod, run.incarnation);
            let started = live.started();
            spawn_local(run::found(context, live, inbox));
            let (pod, incarnation) = (run.pod.clone(), run.incarnation);
            let (found, is_untaken) = (Some(run), true);
            let handle = RunHandle { incarnation, found, started, is_untaken, orders };
            self.runs.insert(pod, handle);
        }
    }

    /// Removes the logs of pods that are not known, which a program has left that ended
    /// while it deleted them.
    pub fn remove_logs(&self, logs: Vec<Name>, is_known: impl Fn(&Name) -> bool) {
        for pod in logs.iter().filter(|pod| !is_known(pod)) {
            let dir = launch::log_dir(&self.surroundings, pod);
            // At once, so that they are not those of a pod of that name that comes next.
            let aside = dir.with_file_name(format!(".{pod}.gone"));
            if std::fs::rename(&dir, &aside).is_ok() {
                tracing::info!(%pod, "removing the logs of a pod that is gone");
                spawn_local(run_dir::remove_tree(aside));
            }
        }
    }

    /// See [`super::Runtime::start`].
    pub fn start(&mut self, order: StartOrder) {
        let (orders, inbox) = unbounded_channel();
        let context = self.context(&order.pod, order.incarnation);
        self.forget_over();
        self.ended.remove(&order.pod);
        self.directories.know(&order.pod);
        let incarnation = order.incarnation;
        let (found, started, is_untaken) = (None, None, false);
        let handle = RunHandle { incarnation, found, started, is_untaken, orders };
        let previous = self.runs.insert(order.pod.clone(), handle);
        // One that nobody has taken over makes way.
        let is_own = previous.is_some_and(|run| !run.is_untaken);
        assert!(!is_own, "the core starts no pod that has a run: {}", order.pod);
        spawn_local(run::started(context, order, inbox));
    }

    /// See [`super::Runtime::adopt`].
    pub fn adopt(&mut self, action: ActionId, pod: &Name, incarnation: Incarnation) {
        let run = self.runs.get_mut(pod).filter(|run| run.incarnation == incarnation);
        let begin = |run: &mut RunHandle| {
            run.is_untaken = false;
            run.started.take()
        };
        // Of one that runs there is nothing to wait for.
        let outcome = match run.and_then(begin) {
            Some(started) => {
                self.order(pod, incarnation, Order::SeeThrough);
                Ok(started)
            }
            None if self.order(pod, incarnation, Order::Adopt(action)) => return,
            None => Err(StartError { failure: gone(pod), is_download: false }),
        };
        let _ = self.events.send(Event::Finished(action, Outcome::Started(outcome)));
    }

    /// See [`super::Runtime::forget`].
    pub fn forget(&mut self, pod: &Name, incarnation: Incarnation) {
        self.ended.remove(pod);
        let is_live = self.runs.get(pod).is_some_and(|run| !run.orders.is_closed());
        if is_live {
            return;
        }
        let context = self.context(pod, incarnation);
        while self.forgetting.try_join_next().is_some() {}
        self.forgetting.spawn_local(async move { context.forget().await });
    }

    /// See [`super::Runtime::hold`].
    pub fn hold(&self) {
        self.is_holding.set(true);
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
        if self.order(pod, incarnation, Order::Stop(action)) {
            return;
        }
        let ended = self.ended_runs().find(|run| run.pod == *pod).and_then(|run| run.ended.clone());
        if let Some(ended) = ended {
            let context = self.context(pod, incarnation);
            spawn_local(async move { context.stop_ended(action, ended.exit).await });
        } else {
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
        origin: Arc<Origin>,
    ) {
        if !self.order(pod, incarnation, Order::Adjust(action, origin)) {
            let adjusted = Outcome::Adjusted(Err(gone(pod)));
            let _ = self.events.send(Event::Finished(action, adjusted));
        }
    }

    /// See [`super::Runtime::remove`].
    pub fn remove(&mut self, action: ActionId, pod: &Name) {
        self.ended.remove(pod);
        let context = self.context(pod, Incarnation::default());
        spawn_local(async move { context.remove(action).await });
    }

    /// See [`super::Runtime::runs`].
    #[must_use]
    pub fn runs(&self) -> Vec<ObservedRun> {
        let live = self.runs.iter().filter(|(_, run)| !run.orders.is_closed());
        let observed = |(pod, run): (&Name, &RunHandle)| {
            let own = || ObservedRun::live(pod.clone(), run.incarnation);
            run.found.clone().unwrap_or_else(own)
        };
        live.map(observed).chain(self.ended_runs().cloned()).collect()
    }

    /// Those that were found and of which something is left.
    fn ended_runs(&self) -> impl Iterator<Item = &ObservedRun> {
        self.ended.values().filter(|run| self.directories.is_known(&run.pod))
    }

    /// Removes what an orderly end leaves empty.
    pub async fn close(&mut self) {
        while self.forgetting.join_next().await.is_some() {}
        let has_runs = self.runs.values().any(|run| !run.orders.is_closed());
        if let Some(home) = self.surroundings.home_cgroups.as_ref().filter(|_| !has_runs) {
            self.surroundings.cgroups.leave_refuge(home);
        }
        // A shim that has ended may be in its cgroup for a moment yet.
        for pause in CLOSE_PAUSES_MS.map(Duration::from_millis) {
            if self.surroundings.cgroups.remove_empty() || has_runs {
                break;
            }
            sleep(pause).await;
        }
        let _ = std::fs::remove_dir(run_dir::pods(&self.surroundings.run_dir));
    }

    /// Lets every pod go on when this program is no more, whatever was to become of
    /// it, and waits until all shims have been told, within reason.
    pub async fn keep(&self) {
        if self.surroundings.on_hangup.is_none() {
            return;
        }
        let mut told = Vec::new();
        for run in self.runs.values() {
            let (tell, when_told) = oneshot::channel();
            // A run that has ended has closed its inbox.
            if run.orders.send(Order::Keep(tell)).is_ok() {
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
            tracing::warn!("not every pod could be told to go on");
        }
    }

    fn order(&self, pod: &Name, incarnation: Incarnation, order: Order) -> bool {
        let run = self.runs.get(pod).filter(|run| run.incarnation == incarnation);
        run.is_some_and(|run| run.orders.send(order).is_ok())
    }

    /// A task that is over has closed its inbox.
    fn forget_over(&mut self) {
        self.runs.retain(|_, run| !run.orders.is_closed());
    }

    fn context(&self, pod: &Name, incarnation: Incarnation) -> run::Context {
        run::Context {
            surroundings: Rc::clone(&self.surroundings),
            turns: Rc::clone(&self.turns),
            filters: Rc::clone(&self.filters),
            ranges: Rc::clone(&self.ranges),
            directories: Rc::clone(&self.directories),
            is_holding: Rc::clone(&self.is_holding),
            pod: pod.clone(),
            incarnation,
            events: self.events.clone(),
        }
    }
}

/// What a look at one pod has found.
enum Looked {
    /// A run that lives or is on record.
    Run(Box<Leftover>),
    /// Nothing is left of this one any more.
    Gone(Name),
    /// One that is known by now, or that cannot be looked at.
    Unknown,
}

/// Looks at what one pod has left, unless somebody here begins a run of it meanwhile.
async fn look_at(
    surroundings: Rc<Surroundings>,
    directories: Rc<Directories>,
    pod: Name,
) -> Looked {
    let _turn = directories.turn(&pod).await;
    if directories.is_known(&pod) {
        return Looked::Unknown;
    }
    loop {
        match leftover::look_at(&surroundings, &pod).await {
            // Others are done before long, and what they need no longer is left.
            Err(error) if leftover::is_wanting(&error) => sleep(LOOK_PAUSE).await,
            Err(error) => {
                tracing::error!(%pod, %error, "cannot end a run");
                return Looked::Unknown;
            }
            Ok(Some(leftover)) => return Looked::Run(Box::new(leftover)),
            Ok(None) => return Looked::Gone(pod),
        }
    }
}

/// Refuses to begin where not all runs that live could be spoken to.
fn check_descriptors(run_dir: &Path, pods: &BTreeSet<Name>) -> Result<(), Failure> {
    let live = leftover::count_live(run_dir, pods);
    let most = rustix::process::getrlimit(Resource::Nofile).current;
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let needed = open + live * DESCRIPTORS_OF_RUN + DESCRIPTORS_TO_LOOK;
    match most {
        Some(most) if live > 0 && most < needed as u64 => {
            let what = format!(
                "take over {live} runs: that needs {needed} open files, and {most} are allowed"
            );
            Err(Failure::new(Code::StartFailed, what)
                .hint("raise the hard limit (ulimit -Hn, LimitNOFILE=); the pods go on meanwhile"))
        }
        _ => Ok(()),
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
