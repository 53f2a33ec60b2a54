//! A run's directory, and the lock on it that tells whether its shim lives.
//!
//! The shim inherits the locked descriptor. An advisory lock belongs to the
//! open file, so it is held until the shim is dead, however it died and
//! whoever its parent is by then: a lock that can be taken is proof of that, and not
//! yet of the end of what is below it.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;

/// The directory of a pod's run.
#[must_use]
pub(super) fn of_pod(run_dir: &Path, pod: &str) -> PathBuf {
    pods(run_dir).join(pod)
}

/// The directory that holds the runs' directories.
#[must_use]
pub(super) fn pods(run_dir: &Path) -> PathBuf {
    run_dir.join("pods")
}

/// Opens a run's directory without locking it.
pub(super) fn open(dir: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(rustix::fs::open(dir, flags, Mode::empty())?)
}

/// The same, where there is one.
pub(super) fn open_if_there(dir: &Path) -> io::Result<Option<OwnedFd>> {
    match open(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened.map(Some),
    }
}

/// Locks an open run directory: `Ok(false)` when a shim that lives holds it.
pub(super) fn try_lock(dir: &OwnedFd) -> io::Result<bool> {
    match flock(dir, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Makes and locks a run's directory.
pub(super) fn create(dir: &Path) -> io::Result<OwnedFd> {
    fs::create_dir_all(dir)?;
    let fd = open(dir)?;
    if try_lock(&fd)? { Ok(fd) } else { Err(Errno::WOULDBLOCK.into()) }
}

/// Removes a tree off the loop's thread: it may be as large as what the
/// workload wrote.
pub(super) async fn remove_tree(dir: PathBuf) {
    let shown = dir.display().to_string();
    let removed = tokio::task::spawn_blocking(move || fs::remove_dir_all(dir)).await;
    match removed {
        Ok(Err(error)) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(dir = shown, %error, "could not remove a directory");
        }
        _ => {}
    }
}
