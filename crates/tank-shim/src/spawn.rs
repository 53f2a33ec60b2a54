//! Starts a shim: opens and locks its run directory and hands over its first
//! control connection. Launches nothing and waits for no answer.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::fs::FlockOperation;

use crate::Program;

/// What a shim is given on its command line, after its run directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Birth {
    /// A version 2 cgroup to be born in.
    pub cgroup: Option<PathBuf>,
    /// How many files it and what it launches may have open (the soft limit of
    /// setrlimit(2)), where whoever starts it may have more.
    pub open_files: Option<u64>,
}

const CGROUP: &str = "cgroup=";
const OPEN_FILES: &str = "open-files=";

impl Birth {
    fn to_args(&self) -> impl Iterator<Item = OsString> {
        let cgroup = self.cgroup.as_ref().map(|path| {
            let mut arg = OsString::from(CGROUP);
            arg.push(path);
            arg
        });
        let open_files = self.open_files.map(|most| format!("{OPEN_FILES}{most}").into());
        cgroup.into_iter().chain(open_files)
    }

    /// What these words say; others are passed over.
    #[must_use]
    pub fn from_args(args: impl IntoIterator<Item = OsString>) -> Self {
        let mut birth = Self::default();
        for arg in args {
            if let Some(path) = arg.as_bytes().strip_prefix(CGROUP.as_bytes()) {
                birth.cgroup = Some(OsStr::from_bytes(path).into());
            } else if let Some(most) = arg.to_str().and_then(|arg| arg.strip_prefix(OPEN_FILES)) {
                birth.open_files = most.parse().ok();
            }
        }
        birth
    }
}

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
    let (control, mut maker) = start(program.command(), run_dir, &Birth::default(), lock)?;
    let status = maker.wait()?;
    if status.success() {
        Ok(control)
    } else {
        Err(io::Error::other(format!("{} did not begin: {status}", program.path().display())))
    }
}

/// Starts a shim, by a command without arguments, on a run directory that is
/// locked. Returns the first control connection, in blocking mode, and the process
/// that makes the shim as its child and ends, so that the shim belongs to nobody.
///
/// # Errors
///
/// What the operating system says to a pair of sockets or to executing.
pub fn start(
    mut command: Command,
    run_dir: &Path,
    birth: &Birth,
    lock: OwnedFd,
) -> io::Result<(UnixStream, Child)> {
    let (ours, theirs) = UnixStream::pair()?;
    let maker = command
        .arg(run_dir)
        .args(birth.to_args())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_shim_is_given_is_what_it_reads() {
        let cgroup = Some(PathBuf::from(OsStr::from_bytes(b"/sys/fs/cgroup/\xff open-files=1")));
        for birth in [
            Birth::default(),
            Birth { cgroup: cgroup.clone(), open_files: None },
            Birth { cgroup, open_files: Some(1_024) },
        ] {
            assert_eq!(Birth::from_args(birth.to_args()), birth);
        }
    }
}
