//! Starts a shim: opens and locks its run directory and hands over its first
//! control connection. Launches nothing and waits for no answer.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::FlockOperation;

/// Starts the shim `binary` for a run directory that exists, and returns the
/// first control connection, in blocking mode. The shim's `hello` is the first
/// frame on it.
///
/// Blocks for about a millisecond: the process that is started makes the shim
/// as its child and exits, so that the shim belongs to nobody.
///
/// # Errors
///
/// `WouldBlock` when another shim holds the directory; else what the operating
/// system says to opening, locking or executing.
pub fn spawn(binary: &Path, run_dir: &Path) -> io::Result<UnixStream> {
    let dir = lock(run_dir)?;
    let (ours, theirs) = UnixStream::pair()?;
    let status = Command::new(binary)
        .arg(run_dir)
        .env_clear()
        .stdin(OwnedFd::from(theirs))
        .stdout(dir)
        .stderr(Stdio::null())
        .status()?;
    if status.success() {
        Ok(ours)
    } else {
        Err(io::Error::other(format!("{} did not begin: {status}", binary.display())))
    }
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
