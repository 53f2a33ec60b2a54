//! Starts a shim: opens and locks its run directory and hands over its first
//! control connection. Launches nothing and waits for no answer.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::fs::FlockOperation;

use crate::Program;

/// Starts a shim for a run directory that exists, and returns the first control
/// connection, in blocking mode. The shim's `hello` is the first frame on it.
///
/// Blocks for about a millisecond, until the process that is started has made
/// the shim.
///
/// # Errors
///
/// `WouldBlock` when another shim holds the directory; else what the operating
/// system says to opening, locking or executing.
pub fn spawn(program: &Program, run_dir: &Path) -> io::Result<UnixStream> {
    let lock = lock(run_dir)?.into();
    let (control, mut maker) = start(program.command(), run_dir, None, lock)?;
    let status = maker.wait()?;
    if status.success() {
        Ok(control)
    } else {
        Err(io::Error::other(format!("{} did not begin: {status}", program.path().display())))
    }
}

/// Starts a shim, by a command without arguments, on a run directory that is
/// locked, to be born in a version 2 cgroup where one is given. Returns the first control connection, in blocking mode, and the
/// process that makes the shim as its child and ends, so that the shim belongs
/// to nobody.
///
/// # Errors
///
/// What the operating system says to a pair of sockets or to executing.
pub fn start(
    mut command: Command,
    run_dir: &Path,
    birth_cgroup: Option<&Path>,
    lock: OwnedFd,
) -> io::Result<(UnixStream, Child)> {
    let (ours, theirs) = UnixStream::pair()?;
    let maker = command
        .arg(run_dir)
        .args(birth_cgroup)
        .env_clear()
        .stdin(OwnedFd::from(theirs))
        .stdout(lock)
        .stderr(Stdio::null())
        .spawn()?;
    Ok((ours, maker))
}

/// Opens a run directory and locks it. The lock is free once the shim that held
/// it has died or is dying.
///
/// # Errors
///
/// `WouldBlock` when a shim holds it.
pub fn lock(run_dir: &Path) -> io::Result<File> {
    let dir = File::open(run_dir)?;
    rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive)?;
    Ok(dir)
}
