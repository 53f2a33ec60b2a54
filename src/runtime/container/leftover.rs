//! What is left of runs, by an earlier port program, by a shim that did not end in
//! order, or by whoever removed files of ours. Finds what lives and who it is, ends what
//! can be spoken to by nobody, and removes what belongs to nothing. Decides about no run
//! that is on record.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tank_shim::protocol::{CONTAINERS_DIR, FromShim, Hello, State};
use tank_shim::record::EXIT_FILE;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};

use crate::core::event::{EndCause, Ended, Incarnation, ObservedRun};
use crate::core::failure::{Code, Failure, Place};
use crate::core::spec::{Name, PodSpec};
use crate::core::status::Exit;
use crate::core::time::Millis;
use crate::daemon::clock;
use crate::os_words::os_words;

use super::cgroup::Cgroups;
use super::run_record::{self, RunRecord};
use super::shim::{Shim, Word};
use super::{Surroundings, end, run_dir};

/// The file in a run directory that says which process is its shim, or makes it.
const PROCESS_FILE: &str = "process";

/// How long a live shim may take to answer before others are waited for no longer.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long what was killed may take to be gone.
pub(super) const KILL_PATIENCE: Duration = Duration::from_secs(3);

/// How long a shim may take to remove what only its user can.
const REMOVE_PATIENCE: Duration = Duration::from_secs(10);

/// Between two looks at something that no descriptor announces.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// A run that an earlier port program began.
#[derive(Debug)]
pub struct Leftover {
    /// What is known of it.
    pub run: ObservedRun,
    /// What of it lives.
    pub(super) live: Option<Live>,
}

/// A run that lives.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) shim: Shim,
    pub(super) record: Option<RunRecord>,
    /// None of one that has not said anything yet: it may be frozen.
    pub(super) hello: Option<Hello>,
    /// Whether it speaks versions of the protocol alone that this program does not.
    pub(super) is_foreign: bool,
}

/// Names of pods that have left something on this machine.
#[derive(Debug, Default)]
pub(super) struct Traces {
    /// With a run directory or a cgroup.
    pub(super) pods: BTreeSet<Name>,
    /// With logs.
    pub(super) logs: Vec<Name>,
}

/// Looks for traces.
///
/// # Errors
/// `start_failed` when the run directory cannot be read.
pub(super) fn look(run_dir: &Path, data_dir: &Path, cgroups: &Cgroups) -> Result<Traces, Failure> {
    let pods = run_dir::pods(run_dir);
    let failed = |error: io::Error| {
        let what = format!("look for runs in {}: {}", pods.display(), os_words(&error));
        Failure::new(Code::StartFailed, what).at(Place::Path, pods.display())
    };
    let mut traces = Traces { pods: names_in(&pods).map_err(failed)?, logs: Vec::new() };
    traces.pods.extend(cgroups.pods());
    let logs = names_in(&data_dir.join("logs"));
    traces.logs.extend(logs.unwrap_or_default());
    Ok(traces)
}

/// What the runs of this run directory were made from that live, as far as that is on
/// record.
#[must_use]
pub fn specs_of_live_runs(run_dir: &Path) -> Vec<Arc<PodSpec>> {
    let pods = run_dir::pods(run_dir);
    let spec = |pod: Name| {
        let path = run_dir::of_pod(run_dir, pod.as_str());
        let dir = run_dir::open(&path).ok()?;
        let is_live = !run_dir::try_lock(&dir).ok()?;
        let record = RunRecord::read(&path).ok().flatten().filter(|_| is_live)?;
        Some(Arc::clone(&record.origin.spec)).filter(|spec| spec.name == pod)
    };
    names_in(&pods).unwrap_or_default().into_iter().filter_map(spec).collect()
}

/// Whether there is a run that lives in this run directory, whoever has begun it.
#[must_use]
pub fn has_live_runs(run_dir: &Path) -> bool {
    let pods = names_in(&run_dir::pods(run_dir)).unwrap_or_default();
    count_live(run_dir, &pods) > 0
}

/// How many runs of this run directory live, of these pods.
pub(super) fn count_live(run_dir: &Path, pods: &BTreeSet<Name>) -> usize {
    let is_live = |pod: &&Name| {
        let dir = run_dir::open(&run_dir::of_pod(run_dir, pod.as_str()));
        dir.and_then(|dir| run_dir::try_lock(&dir)).is_ok_and(|is_free| !is_free)
    };
    pods.iter().filter(is_live).count()
}

/// What in a directory has a pod's name. A directory that is not there is empty.
fn names_in(dir: &Path) -> io::Result<BTreeSet<Name>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        entries => entries?,
    };
    let name = |entry: fs::DirEntry| entry.file_name().to_str().and_then(Name::new);
    Ok(entries.flatten().filter_map(name).collect())
}

/// Kills shims whose run directory has been removed from under them: nobody can reach
/// them any more, or tell by its lock that they live.
pub(super) fn kill_lost_shims(run_dir: &Path) {
    let pods = run_dir::pods(run_dir).display().to_string();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()) {
        kill_if_lost(pid, &pods);
    }
}

/// A shim's working directory is its run directory.
fn kill_if_lost(pid: i32, pods: &str) {
    let is_shim = |name: String| name.trim_end() == "tank-shim";
    if !fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(is_shim) {
        return;
    }
    let Some(process) = Pid::from_raw(pid) else { return };
    let Ok(process) = pidfd_open(process, PidfdFlags::empty()) else { return };
    // After the pidfd was opened, so that it is of this process.
    let Ok(dir) = fs::read_link(format!("/proc/{pid}/cwd")) else { return };
    let dir = dir.display().to_string();
    if dir.starts_with(pods) && dir.ends_with(" (deleted)") {
        tracing::warn!(pid, dir, "killing a shim whose directory is gone");
        let _ = pidfd_send_signal(&process, Signal::KILL);
    }
}

/// What is left of a pod's run: one that lives and can be spoken to, or may be soon, or
/// the record of one that does not. Nothing else is left of it afterwards.
pub(super) async fn look_at(
    surroundings: &Surroundings,
    pod: &Name,
) -> io::Result<Option<Leftover>> {
    let path = run_dir::of_pod(&surroundings.run_dir, pod.as_str());
    let Some(dir) = run_dir::open_if_there(&path)? else {
        tracing::info!(%pod, "removing cgroups that belong to no run");
        sweep_cgroups(surroundings, pod).await?;
        return Ok(None);
    };
    let record = unless_wanting(RunRecord::read(&path))?.unwrap_or_else(|error| {
        tracing::warn!(%pod, %error, "what a run was made from cannot be read");
        None
    });
    if !run_dir::try_lock(&dir)?
        && let Some((shim, greeting)) = greet(&dir).await?
        && let Some(leftover) = live(surroundings, pod, &path, record.clone(), shim, greeting)
    {
        return Ok(Some(leftover));
    }
    drop(dir);
    let Some(record) = record else {
        tracing::info!(%pod, "removing what is left of a run");
        clear(surroundings, pod).await?;
        return Ok(None);
    };
    let run = ended(surroundings, pod, &path, &record).await?;
    Ok(Some(Leftover { run, live: None }))
}

/// Whether this program has no means to find out, for now. It says nothing of what it was
/// to find out about, and nobody is to be ended for it.
pub(super) fn is_wanting(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    // The last one is what epoll(7) says when it watches too much.
    let wants = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS, Errno::NOSPC];
    errno.is_some_and(|errno| wants.contains(&errno))
}

/// What was found out, or why not, unless that is want of means.
fn unless_wanting<T>(found: io::Result<T>) -> io::Result<io::Result<T>> {
    match found {
        Err(error) if is_wanting(&error) => Err(error),
        found => Ok(found),
    }
}

/// How a shim greets.
enum Greeting {
    Hello(Hello),
    Foreign(String),
    /// It has not yet.
    Silence,
}

/// Connects, and hears what the shim says first; `None` when there is nobody to speak
/// to, or nobody who has a run.
async fn greet(dir: &OwnedFd) -> io::Result<Option<(Shim, Greeting)>> {
    let Ok(connected) = timeout(PATIENCE, connect(dir)).await else { return Ok(None) };
    let Ok(mut shim) = unless_wanting(connected)? else { return Ok(None) };
    let Ok(heard) = timeout(PATIENCE, shim.hear()).await else {
        return Ok(Some((shim, Greeting::Silence)));
    };
    let greeting = match unless_wanting(heard)? {
        Ok(Some(Word::Message(FromShim::Hello(hello)))) if hello.state != State::Idle => {
            Some(Greeting::Hello(hello))
        }
        Ok(Some(Word::Foreign(versions))) => Some(Greeting::Foreign(versions)),
        _ => None,
    };
    Ok(greeting.map(|greeting| (shim, greeting)))
}

async fn connect(dir: &OwnedFd) -> io::Result<Shim> {
    loop {
        match Shim::connect(dir).await {
            // It holds the lock and does not listen yet.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                if run_dir::try_lock(dir)? {
                    return Err(error);
                }
                sleep(LOOK_AGAIN).await;
            }
            connected => return connected,
        }
    }
}

/// A shim that lives, with what it is known to run. One that is not who the record says
/// runs nothing that anybody has asked for.
fn live(
    surroundings: &Surroundings,
    pod: &Name,
    path: &Path,
    record: Option<RunRecord>,
    shim: Shim,
    greeting: Greeting,
) -> Option<Leftover> {
    let is_foreign = matches!(greeting, Greeting::Foreign(_));
    let (hello, doubt) = match greeting {
        Greeting::Hello(hello) => {
            let doubt = doubt(surroundings, pod, path, record.as_ref(), &hello);
            (Some(hello), doubt)
        }
        Greeting::Foreign(versions) => {
            let what = "the shim speaks another version of its protocol, and the run is replaced";
            tracing::warn!(%pod, versions, what);
            (None, Some(what.to_owned()))
        }
        // Nothing is known of it but what is on record.
        Greeting::Silence => match &record {
            Some(_) => (None, None),
            None => return None,
        },
    };
    let incarnation = hello.as_ref().and_then(|hello| run_of(&hello.state)).map(|(_, run)| run);
    let on_record = record.as_ref().map(|record| record.incarnation);
    let incarnation = incarnation.or(on_record).unwrap_or_default();
    if let Some(doubt) = &doubt {
        tracing::warn!(%pod, run = incarnation.0, "a run is not taken over: {doubt}");
    }
    let known = record.as_ref().filter(|_| doubt.is_none());
    let run = ObservedRun {
        pod: pod.clone(),
        incarnation,
        origin: known.map(|record| Arc::clone(&record.origin)),
        started_at: known.and_then(|record| record.started_at),
        ended: None,
    };
    Some(Leftover { run, live: Some(Live { shim, record, hello, is_foreign }) })
}

/// What speaks against a shim's being who the record says.
fn doubt(
    surroundings: &Surroundings,
    pod: &Name,
    path: &Path,
    record: Option<&RunRecord>,
    hello: &Hello,
) -> Option<String> {
    let Some(record) = record else { return Some("what it runs is not on record".to_owned()) };
    if record.boot_id != surroundings.boot_id {
        return Some("its record is of another boot of this machine".to_owned());
    }
    if record.is_adjusting {
        return Some(
            "its limits were being changed, and nobody knows how far that came".to_owned(),
        );
    }
    let (name, incarnation) = run_of(&hello.state)?;
    if name != pod.as_str() || incarnation != record.incarnation {
        let (said, known) = (incarnation.0, record.incarnation.0);
        return Some(format!("it says run {said} of {name}, on record is run {known}"));
    }
    // Until its shim has greeted, the one that makes it is on record.
    let (pid, start_time) = recorded_process(path)?;
    let is_other = pid == hello.pid && start_time_of(pid).is_ok_and(|found| found != start_time);
    is_other.then(|| format!("pid {pid} is another process than the one on record"))
}

fn run_of(state: &State) -> Option<(&str, Incarnation)> {
    let (pod, incarnation) = match state {
        State::Idle => return None,
        State::Launching(run) => (&run.pod, run.incarnation),
        State::Running(run) => (&run.pod, run.incarnation),
        State::Exited(run) => (&run.pod, run.incarnation),
    };
    Some((pod, Incarnation(incarnation)))
}

/// A run that is over, by what is on record. Ends what may still hold its directory,
/// and leaves of it the record alone. What cannot be removed now keeps the next run from
/// beginning, and says nothing of how this one has ended.
async fn ended(
    surroundings: &Surroundings,
    pod: &Name,
    path: &Path,
    record: &RunRecord,
) -> io::Result<ObservedRun> {
    let locked = unless_wanting(take_lock(path).await)?;
    let (ended, started_at) = end_of(surroundings, pod, path, record)?;
    let remove = async {
        let dir = locked?;
        keep_as_end(path, record.incarnation, &ended)?;
        sweep(surroundings, pod, path, dir).await?;
        remove_others(path).await
    };
    if let Err(error) = unless_wanting(remove.await)? {
        tracing::error!(%pod, %error, "something of a run that is over cannot be ended");
    }
    let is_of_this_boot = record.boot_id == surroundings.boot_id;
    let mut origin = Arc::clone(&record.origin);
    if !is_of_this_boot {
        // What was on another boot's clock begins afresh.
        Arc::make_mut(&mut origin).retries = 0;
    }
    Ok(ObservedRun {
        pod: pod.clone(),
        incarnation: record.incarnation,
        origin: Some(origin),
        started_at: started_at.filter(|_| is_of_this_boot),
        ended: Some(ended),
    })
}

/// How a run ended and when it had started. Where its shim has not said how, it was
/// killed, and from here on that is on record.
fn end_of(
    surroundings: &Surroundings,
    pod: &Name,
    path: &Path,
    record: &RunRecord,
) -> io::Result<(Ended, Option<Millis>)> {
    let now = clock::now();
    let is_of_this_boot = record.boot_id == surroundings.boot_id;
    let on_this_clock = |at: Millis| if is_of_this_boot { at } else { Millis(0) };
    if let Some((ended, started_at)) = recorded_end(pod, path, record, now)? {
        let ended = Ended { at: on_this_clock(ended.at), ..ended };
        return Ok((ended, started_at.or(record.started_at)));
    }
    // What has made no directory for a container has executed nothing.
    let is_begun = record.started_at.is_some() || path.join(CONTAINERS_DIR).exists();
    let (exit, cause) = match is_of_this_boot {
        true if is_begun => (end::killed(pod), EndCause::Itself),
        true => (interrupted(pod, "the program ended before the launch"), EndCause::Request),
        false => (interrupted(pod, "the machine was started anew"), EndCause::Request),
    };
    let ended = Ended { exit, at: now, cause };
    if let Err(error) = run_record::write_end(path, record.incarnation, &ended) {
        tracing::warn!(%pod, %error, "the end of a run cannot be put on record");
    }
    Ok((ended, record.started_at))
}

/// The shim's own words count before those of this program.
fn recorded_end(
    pod: &Name,
    path: &Path,
    record: &RunRecord,
    now: Millis,
) -> io::Result<Option<(Ended, Option<Millis>)>> {
    let words = unless_wanting(tank_shim::record::read(path))?.ok().flatten();
    let words = words.filter(|words| match words {
        FromShim::Exited(exited) => exited.incarnation == record.incarnation.0,
        _ => true,
    });
    let by_shim = words.and_then(|words| end::of_last_words(pod, &record.origin.spec, words, now));
    if by_shim.is_some() {
        return Ok(by_shim);
    }
    let by_us = unless_wanting(run_record::read_end(path, record.incarnation))?.ok().flatten();
    Ok(by_us.map(|ended| (ended, None)))
}

fn interrupted(pod: &Name, what: &str) -> Exit {
    Exit::Failed(Failure::new(Code::Lost, what).at(Place::Pod, pod))
}

/// Ends whatever holds a run directory, then removes the pod's cgroups and the
/// directory. Nothing of the run is left when this succeeds.
pub(super) async fn clear(surroundings: &Surroundings, pod: &Name) -> io::Result<()> {
    let path = run_dir::of_pod(&surroundings.run_dir, pod.as_str());
    if !path.exists() {
        return sweep_cgroups(surroundings, pod).await;
    }
    let dir = take_lock(&path).await?;
    sweep(surroundings, pod, &path, dir).await?;
    run_record::disown(&path)?;
    run_dir::remove_tree(path).await;
    Ok(())
}

/// Removes what a pod has that is not on record, so that a run can begin in its place.
/// What holds its directory is nobody's, since whoever asks knows of no run.
pub(super) async fn make_way(surroundings: &Surroundings, pod: &Name) -> io::Result<()> {
    let path = run_dir::of_pod(&surroundings.run_dir, pod.as_str());
    if !path.exists() {
        return sweep_cgroups(surroundings, pod).await;
    }
    let dir = take_lock(&path).await?;
    sweep(surroundings, pod, &path, dir).await?;
    remove_others(&path).await
}

/// The same of a run that is over. How it ended is on record, too, if its shim has not
/// written it.
pub(super) async fn settle(
    surroundings: &Surroundings,
    pod: &Name,
    record: &RunRecord,
    ended: &Ended,
) -> io::Result<()> {
    let path = run_dir::of_pod(&surroundings.run_dir, pod.as_str());
    fs::create_dir_all(&path)?;
    let dir = take_lock(&path).await?;
    if recorded_end(pod, &path, record, ended.at)?.is_none() {
        let written = record
            .write(&path)
            .and_then(|()| run_record::write_end(&path, record.incarnation, ended));
        // This program knows it all the same.
        if let Err(error) = written {
            tracing::warn!(%pod, %error, "the end of a run cannot be put on record");
        }
    }
    keep_as_end(&path, record.incarnation, ended)?;
    sweep(surroundings, pod, &path, dir).await?;
    remove_others(&path).await
}

/// A failure that a shim has put on record says of no run that it is of that one: it must
/// not be found beside what the next one is made from.
fn keep_as_end(path: &Path, incarnation: Incarnation, ended: &Ended) -> io::Result<()> {
    if let Ok(Some(FromShim::Failed(_))) = tank_shim::record::read(path) {
        run_record::write_end(path, incarnation, ended)?;
        fs::remove_file(path.join(EXIT_FILE))?;
    }
    Ok(())
}

/// Off the loop's thread: of a shim that was killed, all that its containers have written
/// is there.
async fn remove_others(path: &Path) -> io::Result<()> {
    let path = path.to_owned();
    let removed = spawn_blocking(move || run_record::remove_others(&path)).await;
    removed.map_err(io::Error::other)?
}

/// Removes what a run has outside of its directory, and what in it only the shim's user
/// can remove. The directory is locked.
async fn sweep(
    surroundings: &Surroundings,
    pod: &Name,
    path: &Path,
    dir: OwnedFd,
) -> io::Result<()> {
    sweep_cgroups(surroundings, pod).await?;
    if surroundings.is_rootless && path.join(CONTAINERS_DIR).exists() {
        let swept = timeout(REMOVE_PATIENCE, sweep_as_root(surroundings, path, dir)).await;
        swept.map_err(|_| io::Error::other("a shim that is to remove it takes too long"))??;
    }
    Ok(())
}

async fn sweep_cgroups(surroundings: &Surroundings, pod: &Name) -> io::Result<()> {
    let groups = surroundings.cgroups.dirs_of_pod(pod.as_str());
    if !groups.iter().any(|group| group.exists()) {
        return Ok(());
    }
    let swept = spawn_blocking(move || groups.iter().try_for_each(|group| sweep_group(group)));
    swept.await.map_err(io::Error::other)?
}

/// Removes what a shim has left that was killed: it may belong to users that only
/// another shim is root over. One that is asked for nothing does it and ends.
async fn sweep_as_root(surroundings: &Surroundings, path: &Path, dir: OwnedFd) -> io::Result<()> {
    let mut shim = Shim::spawn(surroundings, path, dir)?;
    while !matches!(shim.recv().await?, Some(FromShim::Hello(_)) | None) {}
    shim.hang_up().await?;
    shim.died().await;
    Ok(())
}

/// Takes the lock of a run directory, killing who holds it. A shim that ends lets go of the
/// lock before the kernel has ended what is below it: its own end is waited for, too.
async fn take_lock(path: &Path) -> io::Result<OwnedFd> {
    let dir = run_dir::open(path)?;
    let deadline = Instant::now() + KILL_PATIENCE;
    loop {
        let is_alive = kill_recorded(path);
        if run_dir::try_lock(&dir)? && !is_alive {
            return Ok(dir);
        }
        // The connection tells the pid of who listens without its help.
        if let Ok(Ok(shim)) = timeout(LOOK_AGAIN, Shim::connect(&dir)).await {
            shim.kill();
        }
        if Instant::now() > deadline {
            let pid = recorded_process(path).map(|(pid, _)| format!(", pid {pid},"));
            let pid = pid.unwrap_or_default();
            let what = format!("its shim{pid} or something below it is killed and still there");
            return Err(io::Error::other(what));
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// Notes which process is the shim of a run directory, or makes it.
pub(super) fn record_process(dir: &Path, pid: i32) -> io::Result<()> {
    let start_time = start_time_of(pid)?;
    fs::write(dir.join(PROCESS_FILE), format!("{pid} {start_time}\n"))
}

fn recorded_process(path: &Path) -> Option<(i32, String)> {
    let text = fs::read_to_string(path.join(PROCESS_FILE)).ok()?;
    let (pid, start_time) = text.trim_end().split_once(' ')?;
    Some((pid.parse().ok()?, start_time.to_owned()))
}

/// Kills the process that was recorded, if that pid still is that process. Whether it lives,
/// or something in its pid namespace does.
fn kill_recorded(path: &Path) -> bool {
    let Some((pid, start_time)) = recorded_process(path) else { return false };
    let Some(process) = Pid::from_raw(pid) else { return false };
    let Ok(process) = pidfd_open(process, PidfdFlags::empty()) else { return false };
    // Looked at after the pidfd was opened, so that the pid cannot have changed
    // hands in between.
    if start_time_of(pid).is_ok_and(|found| found != start_time) {
        return false;
    }
    let _ = pidfd_send_signal(&process, Signal::KILL);
    // Of the first process of a namespace not before all of that are dead.
    let mut fds = [PollFd::new(&process, PollFlags::IN)];
    !matches!(rustix::event::poll(&mut fds, Some(&Timespec::default())), Ok(1))
}

/// Field 22 of `/proc/PID/stat` (proc_pid_stat(5)): with the pid it names a
/// process for as long as the machine is up.
fn start_time_of(pid: i32) -> io::Result<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the name in parentheses and may hold anything.
    let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let field = after_name.split(' ').nth(19);
    field.map(str::to_owned).ok_or_else(|| io::Error::other("stat has too few fields"))
}

/// Kills everything in a group and removes it.
fn sweep_group(dir: &Path) -> io::Result<()> {
    let deadline = std::time::Instant::now() + KILL_PATIENCE;
    loop {
        kill_group(dir);
        match tank_shim::cgroup_tree::remove(dir) {
            Ok(()) => return Ok(()),
            Err(error) if std::time::Instant::now() > deadline => {
                return Err(still_there(dir).unwrap_or(error));
            }
            // What was killed takes a moment to leave its group.
            Err(_) => std::thread::sleep(LOOK_AGAIN),
        }
    }
}

/// Names a process that a group cannot be removed for.
fn still_there(dir: &Path) -> Option<io::Error> {
    let first = |dir: &Path| {
        let procs = fs::read_to_string(dir.join("cgroup.procs")).ok()?;
        let pid = procs.lines().next()?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (name, rest) = (stat.split_once(" (")?.1, stat.rsplit_once(") ")?.1);
        let (name, state) = (name.split(") ").next()?, rest.split(' ').next()?);
        let what = format!("process {pid} ({name}), in state {state}, is killed and still there");
        Some(io::Error::other(what))
    };
    let below = fs::read_dir(dir).ok()?.flatten();
    let below = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    first(dir).or_else(|| below.into_iter().find_map(|entry| still_there(&entry.path())))
}

fn kill_group(dir: &Path) {
    if fs::write(dir.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            kill_group(&entry.path());
        }
    }
    let procs = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    for pid in procs.lines().filter_map(|line| line.parse().ok()).filter_map(Pid::from_raw) {
        if let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) {
            let _ = pidfd_send_signal(&process, Signal::KILL);
        }
    }
}
