//! What is left of a run: by an earlier port program, or by a shim that did not
//! end in order. Finds what lives, ends what nobody wants, removes remains.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tank_shim::protocol::{CONTAINERS_DIR, FromShim, State};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::core::event::Incarnation;
use crate::core::failure::{Code, Failure, Place};
use crate::core::spec::Name;
use crate::os_words::os_words;

use super::Surroundings;
use super::run_dir;
use super::shim::Shim;

/// The file in a run directory that says which process was started on it.
const RECORD_FILE: &str = "starter";

/// How long a live shim may take to answer before it is killed as stuck.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long what was killed may take to be gone.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// Between two looks at something that no descriptor announces.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// A run that an earlier port program launched and that still lives.
#[derive(Debug)]
pub struct Leftover {
    /// The pod.
    pub pod: Name,
    /// The run's number.
    pub incarnation: Incarnation,
    pub(super) shim: Shim,
}

/// Finds the runs that live and removes the remains of those that do not, all
/// at the same time: what is stuck holds up the beginning once. What can be
/// neither spoken to nor removed is logged and left: it keeps its own pod from
/// starting, and no other.
///
/// # Errors
/// `start_failed` when the run directory itself cannot be read.
pub async fn find(surroundings: &Surroundings) -> Result<Vec<Leftover>, Failure> {
    let pods = run_dir::pods(&surroundings.run_dir);
    let failed = |error: &io::Error| {
        let what = format!("look for runs in {}: {}", pods.display(), os_words(error));
        Failure::new(Code::StartFailed, what).at(Place::Path, pods.display())
    };
    fs::create_dir_all(&pods).map_err(|error| failed(&error))?;
    let surroundings = Rc::new(surroundings.clone());
    let mut looks = JoinSet::new();
    for entry in fs::read_dir(&pods).map_err(|error| failed(&error))? {
        let path = entry.map_err(|error| failed(&error))?.path();
        let Some(pod) = path.file_name().and_then(|name| name.to_str()).and_then(Name::new) else {
            tracing::warn!(path = %path.display(), "not a run directory: left alone");
            continue;
        };
        let surroundings = Rc::clone(&surroundings);
        looks.spawn_local(async move {
            let looked = look_at(&surroundings, &path, pod).await;
            looked.map_err(|error| (path, error))
        });
    }
    let mut found = Vec::new();
    for looked in looks.join_all().await {
        match looked {
            Ok(leftover) => found.extend(leftover),
            Err((path, error)) => {
                tracing::error!(path = %path.display(), %error, "cannot end a run");
            }
        }
    }
    Ok(found)
}

async fn look_at(
    surroundings: &Surroundings,
    path: &Path,
    pod: Name,
) -> io::Result<Option<Leftover>> {
    let dir = run_dir::open(path)?;
    if !run_dir::try_lock(&dir)?
        && let Ok(Ok((shim, Some(incarnation)))) = timeout(PATIENCE, greet(&dir)).await
    {
        return Ok(Some(Leftover { pod, incarnation, shim }));
    }
    drop(dir);
    tracing::info!(%pod, "removing what is left of a run");
    clear(surroundings, &pod, path).await?;
    Ok(None)
}

/// Connects, and says which run the shim has; `None` when it has none.
async fn greet(dir: &OwnedFd) -> io::Result<(Shim, Option<Incarnation>)> {
    let mut shim = connect(dir).await?;
    loop {
        match shim.recv().await? {
            Some(FromShim::Hello(hello)) => match hello.state {
                State::Running(run) => return Ok((shim, Some(Incarnation(run.incarnation)))),
                State::Launching(_) => {}
                State::Idle | State::Exited(_) => return Ok((shim, None)),
            },
            Some(FromShim::Launched(_)) => {
                // The greeting had the number: ask again.
                shim = connect(dir).await?;
            }
            Some(FromShim::Adjusted(_) | FromShim::Stopping(_) | FromShim::PreStopFailed(_)) => {}
            Some(FromShim::Failed(_) | FromShim::Exited(_)) | None => return Ok((shim, None)),
        }
    }
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

/// Ends whatever holds a run directory, then removes the pod's cgroups and the
/// directory. Nothing of the run is left when this succeeds.
pub(super) async fn clear(surroundings: &Surroundings, pod: &Name, path: &Path) -> io::Result<()> {
    let dir = match run_dir::open(path) {
        Ok(dir) => dir,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    take_lock(&dir, path).await?;
    let groups = surroundings.cgroups.dirs_of_pod(pod.as_str());
    if groups.iter().any(|group| group.exists()) {
        let swept =
            tokio::task::spawn_blocking(move || groups.iter().try_for_each(|group| sweep(group)))
                .await;
        swept.map_err(io::Error::other)??;
    }
    if surroundings.is_rootless && path.join(CONTAINERS_DIR).exists() {
        let swept = timeout(KILL_PATIENCE, sweep_as_root(surroundings, path, dir)).await;
        swept.map_err(|_| io::Error::other("a shim that is to remove it takes too long"))??;
    }
    run_dir::remove_tree(path.to_owned()).await;
    Ok(())
}

/// Removes what a shim has left that was killed: it may belong to users that only
/// another shim is root over. One that is asked for nothing does it and ends.
async fn sweep_as_root(surroundings: &Surroundings, path: &Path, dir: OwnedFd) -> io::Result<()> {
    let mut shim = Shim::spawn(&surroundings.shim, path, dir)?;
    while !matches!(shim.recv().await?, Some(FromShim::Hello(_)) | None) {}
    shim.hang_up().await?;
    shim.died().await;
    Ok(())
}

/// Takes the lock of a run directory, killing who holds it.
async fn take_lock(dir: &OwnedFd, path: &Path) -> io::Result<()> {
    let deadline = Instant::now() + KILL_PATIENCE;
    while !run_dir::try_lock(dir)? {
        kill_starter(path);
        // The connection tells the pid of who listens without its help.
        if let Ok(Ok(shim)) = timeout(LOOK_AGAIN, Shim::connect(dir)).await {
            shim.kill();
        }
        if Instant::now() > deadline {
            return Err(io::Error::other("a shim holds it and cannot be killed"));
        }
        sleep(LOOK_AGAIN).await;
    }
    Ok(())
}

/// Notes which process was started on a run directory.
pub(super) fn record(dir: &Path, pid: i32) -> io::Result<()> {
    let start_time = start_time_of(pid)?;
    fs::write(dir.join(RECORD_FILE), format!("{pid} {start_time}\n"))
}

/// Kills the process that was recorded, if that pid still is that process.
fn kill_starter(path: &Path) {
    let Ok(text) = fs::read_to_string(path.join(RECORD_FILE)) else { return };
    let Some((pid, start_time)) = text.trim_end().split_once(' ') else { return };
    let Some(pid) = pid.parse().ok().and_then(Pid::from_raw) else { return };
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    // Looked at after the pidfd was opened, so that the pid cannot have changed
    // hands in between.
    if start_time_of(pid.as_raw_nonzero().get()).is_ok_and(|found| found == start_time) {
        let _ = pidfd_send_signal(&process, Signal::KILL);
    }
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
fn sweep(dir: &Path) -> io::Result<()> {
    let deadline = std::time::Instant::now() + KILL_PATIENCE;
    loop {
        kill_group(dir);
        match tank_shim::cgroup_tree::remove(dir) {
            Ok(()) => return Ok(()),
            Err(error) if std::time::Instant::now() > deadline => return Err(error),
            // What was killed takes a moment to leave its group.
            Err(_) => std::thread::sleep(LOOK_AGAIN),
        }
    }
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
