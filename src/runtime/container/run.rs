//! One run of one pod, from the launch to the last trace of it.
//!
//! A run is one task. It owns the shim, takes orders from the loop and sends
//! each outcome exactly once; it is over only when the shim is dead, the
//! cgroups are gone and the run directory is removed.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tank_shim::protocol::{
    self as shim_protocol, ExitRecord, FromShim, Launched, PreStopFailed, Role, RunUntil,
    RunningContainer, ToShim, UserNamespace,
};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::core::event::{ActionId, Event, Incarnation, Outcome, StartError, Started};
use crate::core::failure::{Code, Failure, Place};
use crate::core::spec::{Name, PodSpec, Userns};
use crate::core::status::Exit;
use crate::core::time::Millis;
use crate::daemon::clock;
use crate::os_words::os_words;
use crate::runtime::{Events, StartOrder};

use super::confinement::Filters;
use super::hint;
use super::shim::Shim;
use super::users::Ranges;
use super::{Surroundings, launch, leftover, run_dir, volumes};

/// How long a shim may take for what needs no patience (a kill, its own end)
/// before it is taken for stuck and killed.
const PATIENCE: Duration = Duration::from_secs(5);

/// Between two tries to remove what is left of a run, each of which is patient
/// itself.
const CLEAR_AGAIN: Duration = Duration::from_secs(1);

/// What the loop asks of a run.
#[derive(Debug)]
pub(super) enum Order {
    /// Signal, grace, kill; ends in `Stopped` for this action.
    Stop(ActionId),
    /// Change the limits to those of this spec; ends in `Adjusted` for this action.
    Adjust(ActionId, Arc<PodSpec>),
    /// The start is no longer wanted.
    Cancel,
    /// Kill now.
    Kill,
    /// Stop at this instant though nobody is left to ask.
    RunUntil(Millis, oneshot::Sender<()>),
}

/// What a run knows of itself.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) surroundings: Rc<Surroundings>,
    /// Whoever holds it may keep the loop's thread busy with a spawn.
    pub(super) turns: Rc<Semaphore>,
    /// Seccomp programs that are made already.
    pub(super) filters: Rc<Filters>,
    /// Users of the host's that are a run's own.
    pub(super) ranges: Rc<Ranges>,
    pub(super) pod: Name,
    pub(super) incarnation: Incarnation,
    pub(super) events: Events,
}

type Orders = UnboundedReceiver<Order>;

/// Launches a run and sees it through.
pub(super) async fn started(context: Context, order: StartOrder, mut orders: Orders) {
    match context.launch(&order.spec, &mut orders).await {
        Ok((shim, started)) => {
            let Launch { started, ended } = started;
            context.send(Event::Finished(order.action, Outcome::Started(Ok(started))));
            see_through(context, shim, orders, ended).await;
        }
        Err(failure) => {
            context.clear().await;
            // Closed before the outcome is sent: the name is free from then on.
            orders.close();
            let error = StartError { failure, is_download: false };
            context.send(Event::Finished(order.action, Outcome::Started(Err(error))));
        }
    }
}

/// A run that has come to be.
struct Launch {
    started: Started,
    /// How it is over already: a container has ended before all others were there.
    ended: Option<ExitRecord>,
}

/// What has been asked of a live run so far.
#[derive(Debug, Default)]
struct Asked {
    stop: Option<ActionId>,
    adjust: Option<ActionId>,
    is_kill: bool,
    /// When a shim that has not done so is taken for stuck.
    end_by: Option<Instant>,
    adjust_by: Option<Instant>,
}

impl Asked {
    /// A shim that is at it may take as long as its containers may.
    fn be_patient(&mut self, dead_by_ms: u64) {
        if !self.is_kill {
            let left = Duration::from_millis(dead_by_ms.saturating_sub(clock::now().0));
            self.end_by = Some(Instant::now() + left + PATIENCE);
        }
    }

    fn is_stuck_at(&self) -> Option<Instant> {
        self.end_by.into_iter().chain(self.adjust_by).min()
    }
}

/// Sees a live run through to its end.
pub(super) async fn supervise(context: Context, shim: Shim, orders: Orders) {
    see_through(context, shim, orders, None).await;
}

async fn see_through(
    context: Context,
    mut shim: Shim,
    mut orders: Orders,
    mut ended: Option<ExitRecord>,
) {
    let mut asked = Asked::default();
    let record = loop {
        if ended.is_some() {
            break ended.take();
        }
        tokio::select! {
            message = shim.recv() => match message {
                Ok(Some(FromShim::Exited(record))) => break Some(record),
                Ok(Some(FromShim::Adjusted(failure))) => context.shim_adjusted(failure, &mut asked),
                Ok(Some(FromShim::Stopping(stopping))) => asked.be_patient(stopping.dead_by_ms),
                Ok(Some(FromShim::PreStopFailed(failed))) => context.complain(&failed),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => break None,
            },
            order = orders.recv() => match order {
                Some(order) => context.carry_out(order, &mut shim, &mut asked).await,
                // The loop has ended and the pod goes on.
                None => return,
            },
            () = instant(asked.is_stuck_at()) => {
                tracing::warn!(pod = %context.pod, "the shim does not answer: killing it");
                shim.kill();
                (asked.end_by, asked.adjust_by) = (None, None);
            }
        }
    };
    let exit = context.end(&shim, record).await;
    orders.close();
    while let Ok(order) = orders.try_recv() {
        match order {
            Order::Stop(action) => asked.stop = Some(action),
            Order::Adjust(action, _) => asked.adjust = Some(action),
            _ => {}
        }
    }
    if let Some(action) = asked.adjust {
        // There is nothing left to change; what follows goes by the new spec.
        context.send(Event::Finished(action, Outcome::Adjusted(Ok(()))));
    }
    context.send(match asked.stop {
        Some(action) => Event::Finished(action, Outcome::Stopped(Ok(exit))),
        None => {
            let (pod, incarnation) = (context.pod.clone(), context.incarnation);
            Event::RunEnded { pod, incarnation, exit }
        }
    });
}

async fn instant(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// The beginning.
impl Context {
    async fn launch(&self, spec: &PodSpec, orders: &mut Orders) -> Result<(Shim, Launch), Failure> {
        let mut request = tokio::select! {
            request = launch::request(&self.surroundings, &self.filters, spec, self.incarnation) => request?,
            () = cancelled(orders) => return Err(self.cancelled()),
        };
        request.user_namespace = self.users_of(spec)?;
        self.make_volumes(spec, &request, orders).await?;
        let mut shim = self.spawn_in_turn().await?;
        let launched = tokio::select! {
            launched = self.ask(&mut shim, spec, request) => launched,
            () = cancelled(orders) => {
                self.call_off(&mut shim, orders).await;
                Err(self.cancelled())
            }
        };
        if launched.is_err() {
            shim.kill();
        }
        Ok((shim, launched?))
    }

    /// A range of users for a pod that has its own.
    fn users_of(&self, spec: &PodSpec) -> Result<Option<UserNamespace>, Failure> {
        if spec.userns == Userns::Host {
            return Ok(None);
        }
        let users = self.ranges.take(&self.pod);
        users.map(Some).ok_or_else(|| {
            let what = "userns: all ranges of users are taken by other pods";
            self.failure("map_users", what).at(Place::Field, "userns")
        })
    }

    /// Lets what has begun end in order, unless it is to be killed.
    async fn call_off(&self, shim: &mut Shim, orders: &mut Orders) {
        let mut asked = Asked::default();
        let stop = shim_protocol::Stop { asked_at_ms: clock::now().0 };
        let _ = shim.send(&ToShim::Stop(stop)).await;
        asked.end_by = Some(Instant::now() + PATIENCE);
        loop {
            tokio::select! {
                message = shim.recv() => match message {
                    Ok(Some(FromShim::Stopping(stopping))) => asked.be_patient(stopping.dead_by_ms),
                    Ok(Some(FromShim::Exited(_) | FromShim::Failed(_)) | None) | Err(_) => return,
                    Ok(Some(_)) => {}
                },
                () = killed(orders) => return,
                () = instant(asked.is_stuck_at()) => return,
            }
        }
    }

    /// Makes the managed volumes that are not there yet, off the loop's thread:
    /// an image may have much for them.
    async fn make_volumes(
        &self,
        spec: &PodSpec,
        request: &shim_protocol::Launch,
        orders: &mut Orders,
    ) -> Result<(), Failure> {
        let wanted = volumes::wanted(&self.surroundings.data_dir, spec, request);
        if wanted.is_empty() {
            return Ok(());
        }
        let unwanted = Unwanted::default();
        let is_unwanted = Arc::clone(&unwanted.0);
        let mut making = tokio::task::spawn_blocking(move || volumes::make(&wanted, &is_unwanted));
        let made = tokio::select! {
            made = &mut making => made.expect("making volumes does not panic"),
            () = cancelled(orders) => {
                drop(unwanted);
                // The next run must not find somebody at work on its volumes.
                let _ = making.await;
                return Err(self.cancelled());
            }
        };
        made.map_err(|fault| {
            let what =
                format!("{} {}: {}", fault.operation, fault.path.display(), os_words(&fault.error));
            let failure = self.failure("make_volume", what).at(Place::Path, fault.path.display());
            match fault.error.raw_os_error() {
                Some(errno) => failure.at(Place::Errno, errno),
                None => failure,
            }
        })
    }

    /// Spawns a shim on the loop's thread, which takes up to a millisecond: one
    /// for each turn of the loop, so that however many pods start at once, a
    /// client waits for one of them and not for all.
    async fn spawn_in_turn(&self) -> Result<Shim, Failure> {
        let _turn = self.turns.acquire().await.expect("turns are never closed");
        let spawned = self.spawn_shim();
        // Comes back only after the loop has looked for what else there is.
        tokio::task::yield_now().await;
        spawned
    }

    fn spawn_shim(&self) -> Result<Shim, Failure> {
        let surroundings = &self.surroundings;
        let failed = |operation: &str, path: &Path, error: &io::Error| {
            let what = format!("{operation} {}: {}", path.display(), os_words(error));
            self.failure(operation, what).at(Place::Path, path.display())
        };
        let (dir, logs) = (self.dir(), launch::log_dir(surroundings, &self.pod));
        std::fs::create_dir_all(&logs).map_err(|error| failed("create", &logs, &error))?;
        let lock = run_dir::create(&dir).map_err(|error| failed("create", &dir, &error))?;
        self.ranges.note(&self.pod, &dir).map_err(|error| failed("write", &dir, &error))?;
        let shim = Shim::spawn(&surroundings.shim, &dir, lock)
            .map_err(|error| failed("spawn", surroundings.shim.path(), &error))?;
        leftover::record(&dir, shim.pid()).map_err(|error| failed("write", &dir, &error))?;
        Ok(shim)
    }

    /// Asks for the launch and waits for its answer behind the greeting.
    async fn ask(
        &self,
        shim: &mut Shim,
        spec: &PodSpec,
        request: shim_protocol::Launch,
    ) -> Result<Launch, Failure> {
        // A shim that dies at once breaks the pipe before it is read: its end,
        // not the broken pipe, is the news.
        let _ = shim.send(&ToShim::Launch(Box::new(request))).await;
        loop {
            match shim.recv().await {
                Ok(Some(
                    FromShim::Hello(_)
                    | FromShim::Adjusted(_)
                    | FromShim::Stopping(_)
                    | FromShim::PreStopFailed(_),
                )) => {}
                Ok(Some(FromShim::Launched(launched))) => {
                    return Ok(Launch { started: started_of(&launched), ended: None });
                }
                Ok(Some(FromShim::Failed(failure))) => {
                    let field = launch::field_of(spec, &failure);
                    let failure = self.launch_failure(failure);
                    return Err(match field {
                        Some(field) => failure.at(Place::Field, field),
                        None => failure,
                    });
                }
                // It did run, and for as long as it wanted to.
                Ok(Some(FromShim::Exited(record))) if record.role == Role::Main => {
                    return Ok(Launch { started: Started::new(None), ended: Some(record) });
                }
                Ok(Some(FromShim::Exited(record))) => return Err(self.ended_early(&record)),
                Ok(None) => {
                    let what = "the shim ended before the workload was exec'd";
                    return Err(self.failure("shim", what));
                }
                Err(error) => {
                    let what = format!("read from the shim: {}", os_words(&error));
                    return Err(self.failure("shim", what));
                }
            }
        }
    }

    fn failure(&self, step: &str, what: impl Into<String>) -> Failure {
        Failure::new(Code::StartFailed, what).at(Place::Pod, &self.pod).at(Place::Step, step)
    }

    /// One container is over before all are there.
    fn ended_early(&self, record: &ExitRecord) -> Failure {
        let ended = exit_in_words(record.exit);
        let what = format!("container {} {ended} before the pod was there", record.container);
        self.failure("launch", what).at(Place::Container, &record.container)
    }

    fn cancelled(&self) -> Failure {
        self.failure("cancel", "the start was cancelled")
    }

    fn launch_failure(&self, failure: shim_protocol::Failure) -> Failure {
        let hint = hint::of(failure.step, failure.errno).map(str::to_owned);
        let told = self
            .failure(&step_name(failure.step), failure.message)
            .at(Place::Path, path_of(failure.step, &failure.object));
        let told = match failure.errno {
            // Another program failed, for reasons of its own.
            0 => told,
            errno => told.at(Place::Errno, errno),
        };
        let told = match failure.container {
            Some(container) => told.at(Place::Container, container),
            None => told,
        };
        Failure { hint, ..told }
    }
}

/// Ends what goes on off the loop's thread when dropped: with a start that is
/// cancelled, and with a program that ends.
#[derive(Debug, Default)]
struct Unwanted(Arc<AtomicBool>);

impl Drop for Unwanted {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

async fn cancelled(orders: &mut Orders) {
    loop {
        match orders.recv().await {
            Some(Order::Cancel | Order::Kill | Order::Stop(_)) => return,
            Some(Order::Adjust(..)) => unreachable!("the core adjusts only what has started"),
            Some(Order::RunUntil(_, told)) => drop(told),
            // The loop has ended; who comes next finds the run directory.
            None => std::future::pending().await,
        }
    }
}

async fn killed(orders: &mut Orders) {
    loop {
        match orders.recv().await {
            Some(Order::Kill) => return,
            Some(Order::RunUntil(_, told)) => drop(told),
            Some(_) => {}
            None => std::future::pending().await,
        }
    }
}

/// The life and the end.
impl Context {
    async fn carry_out(&self, order: Order, shim: &mut Shim, asked: &mut Asked) {
        let message = match order {
            Order::Stop(action) => {
                asked.stop = Some(action);
                ToShim::Stop(shim_protocol::Stop { asked_at_ms: clock::now().0 })
            }
            Order::Adjust(action, spec) => return self.adjust(action, &spec, shim, asked).await,
            Order::Kill | Order::Cancel => {
                asked.is_kill = true;
                ToShim::Kill
            }
            Order::RunUntil(at, told) => {
                let until = RunUntil { at_ms: at.0 };
                let _ = shim.send(&ToShim::RunUntil(Some(until))).await;
                let _ = told.send(());
                return;
            }
        };
        asked.end_by = Some(Instant::now() + PATIENCE);
        // A shim that cannot be reached is ending; recv() says so next.
        let _ = shim.send(&message).await;
    }

    async fn adjust(&self, action: ActionId, spec: &PodSpec, shim: &mut Shim, asked: &mut Asked) {
        match launch::adjust(&self.surroundings, spec) {
            Ok(adjust) => {
                asked.adjust = Some(action);
                asked.adjust_by = Some(Instant::now() + PATIENCE);
                let _ = shim.send(&ToShim::Adjust(adjust)).await;
            }
            Err(controller) => {
                let what = format!("the run has no {controller} cgroup to set a limit on");
                self.adjusted(action, Err(self.failure("write_cgroup_limit", what)));
            }
        }
    }

    /// The stop goes on all the same.
    fn complain(&self, PreStopFailed { container, message }: &PreStopFailed) {
        tracing::warn!(pod = %self.pod, container, "pre_stop: {message}");
    }

    fn shim_adjusted(&self, failure: Option<shim_protocol::Failure>, asked: &mut Asked) {
        let Some(action) = asked.adjust.take() else { return };
        asked.adjust_by = None;
        self.adjusted(action, failure.map_or(Ok(()), |failure| Err(self.launch_failure(failure))));
    }

    fn adjusted(&self, action: ActionId, result: Result<(), Failure>) {
        if let Err(failure) = &result {
            tracing::warn!(pod = %self.pod, "{failure}: starting the pod anew with its new limits");
        }
        self.send(Event::Finished(action, Outcome::Adjusted(result)));
    }

    /// Waits until nothing of the run is left, and says how it ended.
    async fn end(&self, shim: &Shim, record: Option<ExitRecord>) -> Exit {
        if timeout(PATIENCE, shim.died()).await.is_err() {
            shim.kill();
            shim.died().await;
        }
        let record = record.or_else(|| self.record());
        self.clear().await;
        record.map(exit_of).unwrap_or_else(|| {
            let what = "the shim was killed, and its containers with it";
            Exit::Failed(Failure::new(Code::Lost, what).at(Place::Pod, &self.pod))
        })
    }

    fn record(&self) -> Option<ExitRecord> {
        let record = tank_shim::record::read(&self.dir()).ok().flatten()?;
        (record.incarnation == self.incarnation.0).then_some(record)
    }

    /// Removes whatever is left of the run, shim included, and returns only
    /// when nothing is: a process that the kernel cannot kill now (in
    /// uninterruptible sleep) is still the pod's live run.
    async fn clear(&self) {
        let dir = self.dir();
        while let Err(error) = leftover::clear(&self.surroundings, &self.pod, &dir).await {
            tracing::warn!(pod = %self.pod, %error, "what is left of a run cannot be removed yet");
            sleep(CLEAR_AGAIN).await;
        }
        self.ranges.release(&self.pod);
    }

    fn dir(&self) -> PathBuf {
        run_dir::of_pod(&self.surroundings.run_dir, self.pod.as_str())
    }

    fn send(&self, event: Event) {
        // The loop outlives its runs, but for the moment in which it ends.
        let _ = self.events.send(event);
    }
}

/// A limit is named with its value, which is no part of the path.
fn path_of(step: shim_protocol::Step, object: &str) -> &str {
    match object.rsplit_once(" = ") {
        Some((path, _value)) if step == shim_protocol::Step::WriteCgroupLimit => path,
        _ => object,
    }
}

/// The step's name on the wire.
fn step_name(step: shim_protocol::Step) -> String {
    let term = erlang_term_format::to_term(&step).ok();
    term.and_then(|term| term.as_atom().map(str::to_owned)).unwrap_or_default()
}

/// Of several containers, it says which.
fn exit_of(record: ExitRecord) -> Exit {
    let exit = match record.exit {
        shim_protocol::Exit::Exited(code) => Exit::Exited(code),
        shim_protocol::Exit::Signaled(signal) => Exit::Signaled(signal),
        shim_protocol::Exit::OutOfMemory => Exit::OutOfMemory,
    };
    match Name::new(&record.container).filter(|_| !record.is_alone) {
        Some(container) => Exit::InContainer(container, Box::new(exit)),
        None => exit,
    }
}

fn exit_in_words(exit: shim_protocol::Exit) -> String {
    match exit {
        shim_protocol::Exit::Exited(code) => format!("exited with status {code}"),
        shim_protocol::Exit::Signaled(signal) => format!("was ended by signal {signal}"),
        shim_protocol::Exit::OutOfMemory => "was killed by the kernel, out of memory,".to_owned(),
    }
}

fn started_of(launched: &Launched) -> Started {
    let pid = |running: &RunningContainer| Some((Name::new(&running.name)?, running.host_pid));
    let host_pid = launched.containers.iter().find(|each| each.role == Role::Main);
    let pids = || launched.containers.iter().filter_map(pid).collect();
    Started {
        host_pid: host_pid.map(|first| first.host_pid),
        containers: (launched.containers.len() > 1).then(|| Arc::new(pids())),
    }
}
