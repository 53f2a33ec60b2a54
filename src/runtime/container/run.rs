//! One run of one pod, from the launch to the last trace of it.
//!
//! A run is one task. It owns the shim, takes orders from the loop and sends
//! each outcome exactly once; it is over only when the shim is dead and the cgroups
//! are gone. What is on record of it then stays in the run directory, for a program
//! that comes before its end has been acted on; of one that was stopped nothing stays.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tank_shim::protocol::{
    self as shim_protocol, ExitRecord, FromShim, Hello, PreStopFailed, Role, RunningContainer,
    State, ToShim, UserNamespace,
};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{OwnedMutexGuard, Semaphore, oneshot};
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::core::event::{
    ActionId, EndCause, Ended, Event, Incarnation, Origin, Outcome, StartError, Started,
};
use crate::core::failure::{Code, Failure, Place};
use crate::core::spec::{Name, PodSpec, Userns};
use crate::core::status::Exit;
use crate::core::time::Millis;
use crate::daemon::clock;
use crate::os_words::os_words;
use crate::runtime::{Events, StartOrder};

use super::confinement::Filters;
use super::leftover::{KILL_PATIENCE, Live};
use super::run_record::{self, RunRecord};
use super::shim::Shim;
use super::users::Ranges;
use super::{Directories, LOOK_PAUSE, Surroundings, end, launch, leftover, run_dir, volumes};

/// How long a shim may take for what needs no patience (a kill, its own end)
/// before it is taken for stuck and killed.
const PATIENCE: Duration = Duration::from_secs(5);

/// Between two tries to remove what is left of a run, each of which is patient
/// itself: of a process that the kernel cannot kill now (in uninterruptible sleep), the
/// pod has a run for as long as it is there.
const CLEAR_AGAIN: Duration = Duration::from_secs(1);

/// What can be done about what cannot be killed.
const UNKILLABLE: &str = "a process that is killed and stays waits in the kernel, for a disk or a \
                          mount that is gone perhaps: /proc/PID/stack says for what";

/// What the loop asks of a run.
#[derive(Debug)]
pub(super) enum Order {
    /// Take it over, of a run that another program began; ends in `Started` for this
    /// action.
    Adopt(ActionId),
    /// The same of one that is known to run; nothing is waited for.
    SeeThrough,
    /// Signal, grace, kill; ends in `Stopped` for this action.
    Stop(ActionId),
    /// Change the limits to those of this origin; ends in `Adjusted` for this action.
    Adjust(ActionId, Arc<Origin>),
    /// The start is no longer wanted.
    Cancel,
    /// Kill now.
    Kill,
    /// Go on when this program is no more.
    Keep(oneshot::Sender<()>),
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
    /// Whether the program is about to end and its pods go on.
    pub(super) is_holding: Rc<Cell<bool>>,
    /// Who works on which run directory.
    pub(super) directories: Rc<Directories>,
    pub(super) pod: Name,
    pub(super) incarnation: Incarnation,
    pub(super) events: Events,
}

type Orders = UnboundedReceiver<Order>;

/// Launches a run and sees it through.
pub(super) async fn started(context: Context, order: StartOrder, mut orders: Orders) {
    let mut record = context.record_of(order.origin);
    // Whoever looks at what an earlier run has left has done so by then.
    let turn = tokio::select! {
        turn = context.directories.turn(&context.pod) => turn,
        () = cancelled(&mut orders) => {
            let Unlaunched { failure, .. } = context.cancelled();
            return context.report_failure(order.action, failure, false, &mut orders);
        }
    };
    // Whoever has removed what was on record of the last run has forgotten this one, too.
    context.directories.know(&context.pod);
    context.directories.claim(&context.pod);
    match context.launch(&record, &mut orders).await {
        Ok((shim, launch)) => {
            drop(turn);
            context.report_start(order.action, launch.started, &mut record);
            let asked = Asked::default();
            context.see_through(shim, orders, Some(record), launch.ended, asked).await;
        }
        Err(unlaunched) => {
            context.give_up(order.action, unlaunched, &record, orders, turn).await;
        }
    }
}

/// Sees a run through that another program began, by what the loop says first.
pub(super) async fn found(context: Context, live: Live, mut orders: Orders) {
    let started = live.started();
    let Live { mut shim, mut record, is_foreign, .. } = live;
    if !is_foreign {
        context.tell_policy(&mut shim).await;
    }
    let Some(first) = orders.recv().await else { return };
    let mut asked = Asked::default();
    let (Order::Adopt(action), Some(mut record)) = (&first, record.clone()) else {
        match (first, &mut record, started) {
            (Order::SeeThrough, Some(record), Some(started)) => {
                record.started_at = Some(started.at);
                context.put_on_record(record);
            }
            (Order::SeeThrough, ..) => {}
            (order, record, _) => {
                context.carry_out(order, &mut shim, &mut asked, record.as_mut()).await;
            }
        }
        return context.see_through(shim, orders, record, None, asked).await;
    };
    match context.adopt(shim, &record, &mut orders).await {
        Ok((shim, launch)) => {
            context.report_start(*action, launch.started, &mut record);
            context.see_through(shim, orders, Some(record), launch.ended, asked).await;
        }
        Err(unlaunched) => {
            let turn = context.directories.turn(&context.pod).await;
            context.give_up(*action, unlaunched, &record, orders, turn).await;
        }
    }
}

/// A run that has come to be.
struct Launch {
    started: Started,
    /// How it is over already: a container has ended before all others were there.
    ended: Option<ExitRecord>,
}

/// A run that has not.
struct Unlaunched {
    failure: Failure,
    cause: EndCause,
    /// Of one that goes on without this program.
    left: Option<Box<Shim>>,
}

impl From<Failure> for Unlaunched {
    fn from(failure: Failure) -> Self {
        Self { failure, cause: EndCause::Itself, left: None }
    }
}

/// What has been asked of a live run so far.
#[derive(Debug, Default)]
struct Asked {
    stop: Option<ActionId>,
    /// Whether nothing is to follow from its end.
    is_stopped: bool,
    adjust: Option<(ActionId, Arc<Origin>)>,
    is_kill: bool,
    /// Whether the shim has been taken for stuck.
    is_shim_killed: bool,
    /// When a shim that has not done so is taken for stuck.
    end_by: Option<Instant>,
    adjust_by: Option<Instant>,
}

impl Asked {
    fn stop(&mut self, action: ActionId) {
        (self.stop, self.is_stopped) = (Some(action), true);
    }

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

/// Seeing it through.
impl Context {
    /// Sees a live run through to its end. One that is not on record is nobody's.
    async fn see_through(
        self,
        mut shim: Shim,
        mut orders: Orders,
        mut record: Option<RunRecord>,
        mut ended: Option<ExitRecord>,
        mut asked: Asked,
    ) {
        let exited = loop {
            if ended.is_some() {
                break ended.take();
            }
            tokio::select! {
                message = shim.recv() => match message {
                    Ok(Some(FromShim::Exited(exited))) => break Some(exited),
                    Ok(Some(FromShim::Adjusted(failure))) => {
                        self.shim_adjusted(failure, &mut asked, record.as_mut());
                    }
                    Ok(Some(FromShim::Stopping(stopping))) => asked.be_patient(stopping.dead_by_ms),
                    Ok(Some(FromShim::PreStopFailed(failed))) => self.complain(&failed),
                    Ok(Some(_)) => {}
                    Ok(None) | Err(_) => break None,
                },
                order = orders.recv() => match order {
                    Some(order) => {
                        self.carry_out(order, &mut shim, &mut asked, record.as_mut()).await;
                    }
                    // The loop has ended and the pod goes on.
                    None => return,
                },
                () = instant(asked.is_stuck_at()) => {
                    tracing::warn!(pod = %self.pod, "the shim does not answer: killing it");
                    asked.is_shim_killed = true;
                    break None;
                }
            }
        };
        self.bury(&shim, record.as_ref(), exited, asked, orders).await;
    }

    /// Removes what is left of a run whose shim has nothing more to say, and reports its
    /// end: not before there is nothing left, but for a stop, which is told that it has
    /// failed so far.
    async fn bury(
        &self,
        shim: &Shim,
        record: Option<&RunRecord>,
        exited: Option<ExitRecord>,
        mut asked: Asked,
        mut orders: Orders,
    ) {
        let patience = if asked.is_shim_killed { Duration::ZERO } else { PATIENCE };
        let ended = async {
            self.await_death(shim, patience).await;
            self.end(record, exited).await
        };
        let ended = self.hear_beside(ended, &mut asked, &mut orders).await;
        let _turn = self.directories.turn(&self.pod).await;
        loop {
            let is_stopped = asked.is_stopped;
            let removed = async {
                match record.filter(|_| !is_stopped) {
                    Some(record) => self.settle(record, &ended).await,
                    None => self.clear().await,
                }
            };
            match self.hear_beside(removed, &mut asked, &mut orders).await {
                Ok(()) if is_stopped == asked.is_stopped => break,
                Ok(()) => {}
                Err(error) => {
                    if let Some(action) = asked.stop.take() {
                        let failed = Outcome::Stopped(Err(self.not_stopped(&error)));
                        self.send(Event::Finished(action, failed));
                    }
                    self.hear_beside(self.wait_after(&error), &mut asked, &mut orders).await;
                }
            }
        }
        self.send(match asked.stop {
            Some(action) => Event::Finished(action, Outcome::Stopped(Ok(ended.exit))),
            None => {
                let (pod, incarnation) = (self.pod.clone(), self.incarnation);
                Event::RunEnded { pod, incarnation, ended }
            }
        });
    }

    /// Does something after the run's end, and hears meanwhile what the loop asks of it.
    async fn hear_beside<T>(
        &self,
        work: impl Future<Output = T>,
        asked: &mut Asked,
        orders: &mut Orders,
    ) -> T {
        // There is nothing left to change; what follows goes by the new spec.
        let adjusted = |action| self.send(Event::Finished(action, Outcome::Adjusted(Ok(()))));
        asked.adjust.take().into_iter().for_each(|(action, _)| adjusted(action));
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                Some(order) = orders.recv() => match order {
                    Order::Stop(action) => asked.stop(action),
                    Order::Adjust(action, _) => adjusted(action),
                    Order::Keep(told) => drop(told),
                    Order::Adopt(_) | Order::SeeThrough | Order::Cancel | Order::Kill => {}
                },
                done = &mut work => return done,
            }
        }
    }

    /// A shim that does not die either, whoever takes its directory's lock will find.
    async fn await_death(&self, shim: &Shim, patience: Duration) {
        if timeout(patience, shim.died()).await.is_err() {
            shim.kill();
            let _ = timeout(KILL_PATIENCE, shim.died()).await;
        }
    }

    /// How it ended: by the shim's word, or what it has put on record.
    async fn end(&self, record: Option<&RunRecord>, exited: Option<ExitRecord>) -> Ended {
        let exited = match exited {
            Some(exited) => Some(exited),
            None => self.recorded_exit().await,
        };
        let is_own = |exited: &ExitRecord| exited.incarnation == self.incarnation.0;
        match exited.filter(|exited| record.is_none() || is_own(exited)) {
            Some(exited) => end::of_record(&self.pod, exited).0,
            None => Ended::new(end::killed(&self.pod), clock::now()),
        }
    }

    async fn recorded_exit(&self) -> Option<ExitRecord> {
        loop {
            match tank_shim::record::read(&self.dir()) {
                Ok(Some(FromShim::Exited(exited))) => return Some(exited),
                // It says nothing of the run that there is no descriptor to read with.
                Err(error) if leftover::is_wanting(&error) => sleep(LOOK_PAUSE).await,
                _ => return None,
            }
        }
    }
}

async fn instant(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// The beginning.
impl Context {
    fn record_of(&self, origin: Arc<Origin>) -> RunRecord {
        let boot_id = self.surroundings.boot_id.clone();
        let (incarnation, started_at) = (self.incarnation, None);
        RunRecord { boot_id, incarnation, origin, started_at, is_adjusting: false }
    }

    /// Says that the run has begun, and puts on record when.
    fn report_start(&self, action: ActionId, started: Started, record: &mut RunRecord) {
        record.started_at = Some(started.at);
        self.send(Event::Finished(action, Outcome::Started(Ok(started))));
        self.put_on_record(record);
    }

    /// What cannot be put on record now is taken from what is, later.
    fn put_on_record(&self, record: &RunRecord) {
        if let Err(error) = record.write(&self.dir()) {
            tracing::warn!(pod = %self.pod, %error, "a run cannot be put on record");
        }
    }

    /// Says that the run has not begun, when nothing of it is left.
    async fn give_up(
        &self,
        action: ActionId,
        unlaunched: Unlaunched,
        record: &RunRecord,
        mut orders: Orders,
        turn: OwnedMutexGuard<()>,
    ) {
        let Unlaunched { failure, cause, left } = unlaunched;
        if let Some(shim) = left {
            drop(turn);
            return self.leave(action, failure, *shim, orders).await;
        }
        let exit = Exit::Failed(failure.clone());
        let ended = Ended { exit, at: clock::now(), cause };
        let remove = async || match cause {
            EndCause::Request => self.clear().await,
            _ => self.settle(record, &ended).await,
        };
        let is_download = cause == EndCause::Download;
        let report = |_| self.report_failure(action, failure, is_download, &mut orders);
        self.insist(turn, remove, report).await;
    }

    fn report_failure(
        &self,
        action: ActionId,
        failure: Failure,
        is_download: bool,
        orders: &mut Orders,
    ) {
        // Closed before the outcome is sent: the name is free from then on.
        orders.close();
        let error = StartError { failure, is_download };
        self.send(Event::Finished(action, Outcome::Started(Err(error))));
    }

    /// Says that the run is waited for no longer. What becomes of it, the program that
    /// comes next finds out.
    async fn leave(&self, action: ActionId, failure: Failure, mut shim: Shim, mut orders: Orders) {
        let error = StartError { failure, is_download: false };
        self.send(Event::Finished(action, Outcome::Started(Err(error))));
        while let Some(order) = orders.recv().await {
            if let Order::Keep(told) = order {
                self.keep(&mut shim, told).await;
            }
        }
    }

    async fn launch(
        &self,
        record: &RunRecord,
        orders: &mut Orders,
    ) -> Result<(Shim, Launch), Unlaunched> {
        let spec = &record.origin.spec;
        // As of an image that could not be had, the workload was never reached: what is left
        // of another run says nothing of this one.
        let in_the_way = |failure| Unlaunched { failure, cause: EndCause::Download, left: None };
        self.make_way().await.map_err(in_the_way)?;
        let mut request = tokio::select! {
            request = launch::request(&self.surroundings, &self.filters, spec, self.incarnation) => request?,
            () = cancelled(orders) => return Err(self.cancelled()),
        };
        request.user_namespace = self.users_of(spec)?;
        self.make_volumes(spec, &request, orders).await?;
        let mut shim = self.spawn_in_turn(record).await?;
        self.tell_policy(&mut shim).await;
        let launch = async {
            // A shim that dies at once breaks the pipe before it is read: its end,
            // not the broken pipe, is the news.
            let _ = shim.send(&ToShim::Launch(Box::new(request))).await;
            self.hear(&mut shim, spec).await
        };
        let launched = tokio::select! {
            launched = launch => launched,
            () = cancelled(orders) => return Err(self.abandon(shim, orders).await),
        };
        if launched.is_err() {
            shim.kill();
        }
        Ok((shim, launched?))
    }

    /// Goes on from where a run of another program is.
    async fn adopt(
        &self,
        mut shim: Shim,
        record: &RunRecord,
        orders: &mut Orders,
    ) -> Result<(Shim, Launch), Unlaunched> {
        let launched = tokio::select! {
            launched = self.hear(&mut shim, &record.origin.spec) => launched,
            () = cancelled(orders) => return Err(self.abandon(shim, orders).await),
        };
        let launched = match (launched, record.started_at) {
            // It had begun: this is no failed start, but its end.
            (Err(_), Some(at)) => Ok(Launch { started: Started::new(at, None), ended: None }),
            (launched, _) => launched,
        };
        if launched.is_err() {
            shim.kill();
        }
        Ok((shim, launched?))
    }

    /// A run that is not waited for any longer, and may have executed something: it is
    /// ended, but where the program ends and its pods go on.
    async fn abandon(&self, mut shim: Shim, orders: &mut Orders) -> Unlaunched {
        if self.is_holding.get() {
            return Unlaunched { left: Some(Box::new(shim)), ..self.cancelled() };
        }
        self.call_off(&mut shim, orders).await;
        shim.kill();
        self.cancelled()
    }

    /// Ends what is left of a pod's earlier runs, and nobody has taken over.
    async fn make_way(&self) -> Result<(), Failure> {
        let left = leftover::make_way(&self.surroundings, &self.pod).await;
        left.map_err(|error| {
            let what = format!("remove what is left of another run: {}", os_words(&error));
            self.failure("clear", what).at(Place::Path, self.dir().display()).hint(UNKILLABLE)
        })
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
        if !shim.has_been_asked() {
            // It would have nothing to say to a stop.
            return;
        }
        let mut asked = Asked::default();
        let stop = shim_protocol::Stop { asked_at_ms: clock::now().0 };
        // One that is frozen does not take even that, once the launch has filled the pipe.
        let _ = timeout(PATIENCE, shim.send(&ToShim::Stop(stop))).await;
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
    ) -> Result<(), Unlaunched> {
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
                Some(errno) => failure.at(Place::Errno, errno).into(),
                None => failure.into(),
            }
        })
    }

    /// Spawns a shim on the loop's thread, which takes up to a millisecond: one
    /// for each turn of the loop, so that however many pods start at once, a
    /// client waits for one of them and not for all.
    async fn spawn_in_turn(&self, record: &RunRecord) -> Result<Shim, Failure> {
        let _turn = self.turns.acquire().await.expect("turns are never closed");
        let spawned = self.spawn_shim(record);
        // Comes back only after the loop has looked for what else there is.
        tokio::task::yield_now().await;
        spawned
    }

    fn spawn_shim(&self, record: &RunRecord) -> Result<Shim, Failure> {
        let surroundings = &self.surroundings;
        let failed = |operation: &str, path: &Path, error: &io::Error| {
            let what = format!("{operation} {}: {}", path.display(), os_words(error));
            self.failure(operation, what).at(Place::Path, path.display())
        };
        let (dir, logs) = (self.dir(), launch::log_dir(surroundings, &self.pod));
        std::fs::create_dir_all(&logs).map_err(|error| failed("create", &logs, &error))?;
        let lock = run_dir::create(&dir).map_err(|error| failed("create", &dir, &error))?;
        // Before the end of the last run is gone: one or the other is on record.
        let recorded = record.write(&dir).and_then(|()| run_record::remove_end_and_others(&dir));
        recorded.map_err(|error| failed("write", &dir, &error))?;
        self.ranges.note(&self.pod, &dir).map_err(|error| failed("write", &dir, &error))?;
        let shim = Shim::spawn(surroundings, &dir, lock)
            .map_err(|error| failed("spawn", surroundings.shim.path(), &error))?;
        leftover::record_process(&dir, shim.pid())
            .map_err(|error| failed("write", &dir, &error))?;
        Ok(shim)
    }

    /// Waits until the shim says what has become of the launch.
    async fn hear(&self, shim: &mut Shim, spec: &PodSpec) -> Result<Launch, Unlaunched> {
        loop {
            match shim.recv().await {
                Ok(Some(FromShim::Hello(hello))) => {
                    // Who has it from here on is its shim, and not who made that.
                    if let Err(error) = leftover::record_process(&self.dir(), hello.pid) {
                        tracing::warn!(pod = %self.pod, %error, "a shim cannot be put on record");
                    }
                    if let Some(started) = started_by_greeting(&hello) {
                        return Ok(Launch { started, ended: None });
                    }
                }
                Ok(Some(
                    FromShim::Adjusted(_) | FromShim::Stopping(_) | FromShim::PreStopFailed(_),
                )) => {}
                Ok(Some(FromShim::Launched(launched))) => {
                    let started = started_of(launched.at_ms, &launched.containers);
                    return Ok(Launch { started, ended: None });
                }
                Ok(Some(FromShim::Failed(failure))) => {
                    return Err(end::launch_failure(&self.pod, spec, failure).into());
                }
                // It did run, and for as long as it wanted to.
                Ok(Some(FromShim::Exited(record))) if !end::is_early(&record) => {
                    let at = record.launched_at_ms.unwrap_or(record.ended_at_ms);
                    let started = Started::new(Millis(at), None);
                    return Ok(Launch { started, ended: Some(record) });
                }
                Ok(Some(FromShim::Exited(record))) => {
                    return Err(end::ended_early(&self.pod, &record).into());
                }
                Ok(None) => return self.ended_unheard(spec),
                Err(error) => {
                    let what = format!("read from the shim: {}", os_words(&error));
                    return Err(self.failure("shim", what).into());
                }
            }
        }
    }

    /// What a shim that says no more has put on record before.
    fn ended_unheard(&self, spec: &PodSpec) -> Result<Launch, Unlaunched> {
        match tank_shim::record::read(&self.dir()) {
            Ok(Some(FromShim::Exited(record)))
                if record.incarnation == self.incarnation.0 && !end::is_early(&record) =>
            {
                let at = record.launched_at_ms.unwrap_or(record.ended_at_ms);
                Ok(Launch { started: Started::new(Millis(at), None), ended: Some(record) })
            }
            Ok(Some(FromShim::Failed(failure))) => {
                Err(end::launch_failure(&self.pod, spec, failure).into())
            }
            _ => {
                let what = "the shim ended before the workload was exec'd";
                Err(self.failure("shim", what).into())
            }
        }
    }

    /// Says what the pod is to do when this program is no more: once on each
    /// connection, before there is anything on it that could be left alone.
    async fn tell_policy(&self, shim: &mut Shim) {
        // A shim that cannot be reached is ending; recv() says so next.
        let _ = shim.send(&ToShim::OnHangup(self.surroundings.on_hangup)).await;
    }

    fn not_stopped(&self, error: &io::Error) -> Failure {
        let what = format!("something of its run cannot be ended: {}", os_words(error));
        Failure::new(Code::StopFailed, what).at(Place::Pod, &self.pod).hint(UNKILLABLE)
    }

    fn failure(&self, step: &str, what: impl Into<String>) -> Failure {
        end::start_failure(&self.pod, step, what)
    }

    fn cancelled(&self) -> Unlaunched {
        let failure = self.failure("cancel", "the start was cancelled");
        Unlaunched { failure, cause: EndCause::Request, left: None }
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
            Some(Order::Adjust(..) | Order::Adopt(_) | Order::SeeThrough) => {
                unreachable!("the core adjusts and adopts only what has started")
            }
            Some(Order::Keep(told)) => drop(told),
            // The loop has ended; who comes next finds the run directory.
            None => std::future::pending().await,
        }
    }
}

async fn killed(orders: &mut Orders) {
    loop {
        match orders.recv().await {
            Some(Order::Kill) => return,
            Some(Order::Keep(told)) => drop(told),
            Some(_) => {}
            None => std::future::pending().await,
        }
    }
}

/// The life and the end.
impl Context {
    async fn carry_out(
        &self,
        order: Order,
        shim: &mut Shim,
        asked: &mut Asked,
        record: Option<&mut RunRecord>,
    ) {
        let message = match order {
            Order::Stop(action) => {
                asked.stop(action);
                ToShim::Stop(shim_protocol::Stop { asked_at_ms: clock::now().0 })
            }
            Order::Adjust(action, origin) => {
                return self.adjust(action, origin, shim, asked, record).await;
            }
            Order::Adopt(_) | Order::SeeThrough => unreachable!("a run is taken over once"),
            Order::Kill | Order::Cancel => {
                asked.is_kill = true;
                ToShim::Kill
            }
            Order::Keep(told) => return self.keep(shim, told).await,
        };
        asked.end_by = Some(Instant::now() + PATIENCE);
        // A shim that cannot be reached is ending; recv() says so next.
        let _ = shim.send(&message).await;
    }

    async fn keep(&self, shim: &mut Shim, told: oneshot::Sender<()>) {
        let _ = shim.send(&ToShim::OnHangup(None)).await;
        let _ = told.send(());
    }

    async fn adjust(
        &self,
        action: ActionId,
        origin: Arc<Origin>,
        shim: &mut Shim,
        asked: &mut Asked,
        record: Option<&mut RunRecord>,
    ) {
        if let Some(record) = record {
            record.is_adjusting = true;
            self.put_on_record(record);
        }
        match launch::adjust(&self.surroundings, &origin.spec) {
            Ok(adjust) => {
                asked.adjust = Some((action, origin));
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

    fn shim_adjusted(
        &self,
        failure: Option<shim_protocol::Failure>,
        asked: &mut Asked,
        record: Option<&mut RunRecord>,
    ) {
        let Some((action, origin)) = asked.adjust.take() else { return };
        asked.adjust_by = None;
        let failure = failure.map(|failure| end::shim_failure(&self.pod, failure));
        if let (None, Some(record)) = (&failure, record) {
            (record.origin, record.is_adjusting) = (origin, false);
            self.put_on_record(record);
        }
        self.adjusted(action, failure.map_or(Ok(()), Err));
    }

    fn adjusted(&self, action: ActionId, result: Result<(), Failure>) {
        if let Err(failure) = &result {
            tracing::warn!(pod = %self.pod, "{failure}: starting the pod anew with its new limits");
        }
        self.send(Event::Finished(action, Outcome::Adjusted(result)));
    }

    /// Removes whatever is left of the run, shim included.
    async fn clear(&self) -> io::Result<()> {
        leftover::clear(&self.surroundings, &self.pod).await?;
        self.ranges.release(&self.pod);
        self.directories.forget(&self.pod);
        Ok(())
    }

    /// The same, but for what is on record of it.
    async fn settle(&self, record: &RunRecord, ended: &Ended) -> io::Result<()> {
        leftover::settle(&self.surroundings, &self.pod, record, ended).await?;
        self.ranges.release(&self.pod);
        Ok(())
    }

    /// Removes what is left of a run, however often that has to be tried, until another begins
    /// in its place. What has come of the first time is reported: nobody is kept waiting for
    /// what cannot be removed now, nor between two tries for a turn.
    async fn insist(
        &self,
        turn: OwnedMutexGuard<()>,
        mut remove: impl AsyncFnMut() -> io::Result<()>,
        report: impl FnOnce(Result<(), Failure>),
    ) {
        let claim = self.directories.last_claim(&self.pod);
        let mut turn = Some(turn);
        let mut removed = remove().await;
        report(removed.as_ref().copied().map_err(|error| self.not_stopped(error)));
        while let Err(error) = removed {
            drop(turn.take());
            self.wait_after(&error).await;
            turn = Some(self.directories.turn(&self.pod).await);
            if self.directories.last_claim(&self.pod) != claim {
                return;
            }
            removed = remove().await;
        }
    }

    /// Removes what is on record of a run that is over. The end of the program waits for no
    /// more than the first try.
    pub(super) async fn forget(self) {
        let turn = self.directories.turn(&self.pod).await;
        let (tried, has_tried) = oneshot::channel::<()>();
        spawn_local(async move {
            let remove = async || match RunRecord::read(&self.dir()).ok().flatten() {
                Some(record) if record.incarnation == self.incarnation => self.clear().await,
                // Another may have begun in its place.
                _ => Ok(()),
            };
            self.insist(turn, remove, |_| drop(tried)).await;
        });
        let _ = has_tried.await;
    }

    /// The same, for a run that the loop has asked to be stopped.
    pub(super) async fn stop_ended(&self, action: ActionId, exit: Exit) {
        let turn = self.directories.turn(&self.pod).await;
        let report = |removed: Result<(), Failure>| {
            self.send(Event::Finished(action, Outcome::Stopped(removed.map(|()| exit))));
        };
        self.insist(turn, async || self.clear().await, report).await;
    }

    /// Removes all that a deleted pod has left but its volumes.
    pub(super) async fn remove(&self, action: ActionId) {
        let turn = self.directories.turn(&self.pod).await;
        run_dir::remove_tree(launch::log_dir(&self.surroundings, &self.pod)).await;
        let report = |_| self.send(Event::Finished(action, Outcome::Removed));
        self.insist(turn, async || self.clear().await, report).await;
    }

    async fn wait_after(&self, error: &io::Error) {
        tracing::warn!(pod = %self.pod, %error, "what is left of a run cannot be removed yet");
        sleep(CLEAR_AGAIN).await;
    }

    fn dir(&self) -> PathBuf {
        run_dir::of_pod(&self.surroundings.run_dir, self.pod.as_str())
    }

    fn send(&self, event: Event) {
        // The loop outlives its runs, but for the moment in which it ends.
        let _ = self.events.send(event);
    }
}

impl Live {
    /// What it is known to have begun with.
    pub(super) fn started(&self) -> Option<Started> {
        self.hello.as_ref().and_then(started_by_greeting)
    }
}

/// What a greeting says of a run that has been launched.
fn started_by_greeting(hello: &Hello) -> Option<Started> {
    let State::Running(run) = &hello.state else { return None };
    let started = started_of(run.launched_at_ms, &run.containers);
    Some(Started { is_stopping: run.is_stopping, ..started })
}

fn started_of(at_ms: u64, containers: &[RunningContainer]) -> Started {
    let pid = |running: &RunningContainer| Some((Name::new(&running.name)?, running.host_pid));
    let host_pid = containers.iter().find(|each| each.role == Role::Main);
    let pids = || containers.iter().filter_map(pid).collect();
    Started {
        at: Millis(at_ms),
        host_pid: host_pid.map(|first| first.host_pid),
        containers: (containers.len() > 1).then(|| Arc::new(pids())),
        is_stopping: false,
    }
}
