//! The container's first process, by its pidfd: signals, what it catches, how
//! it ended. Never a bare pid.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::process::{Signal, WaitId, WaitIdOptions};
use tank_shim::protocol::Exit;

use crate::syscall;

/// The first process of a container, which takes all others with it.
#[derive(Debug)]
pub(crate) struct FirstProcess {
    pidfd: OwnedFd,
    host_pid: i32,
}

impl FirstProcess {
    /// A process that lives, or is not reaped yet.
    pub(crate) fn new(pidfd: OwnedFd) -> Self {
        let host_pid = host_pid(&pidfd).unwrap_or(0);
        Self { pidfd, host_pid }
    }

    /// Readable once the process and all of its pid namespace are dead.
    pub(crate) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Its pid on the host.
    pub(crate) fn host_pid(&self) -> i32 {
        self.host_pid
    }

    /// Kills it, and with it everything in its pid namespace.
    pub(crate) fn kill(&self) {
        // It fails only when the process is dead already.
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    /// Asks it to end. False when that is in vain: the kernel drops a signal
    /// that the first process of a pid namespace neither catches nor blocks.
    pub(crate) fn ask(&self, number: i32) -> bool {
        self.is_open_to(number) && syscall::send_signal(self.pidfd(), number).is_ok()
    }

    fn is_open_to(&self, number: i32) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.host_pid));
        status.is_ok_and(|status| catches(&status, number))
    }

    /// Reaps it; `None` while it lives.
    pub(crate) fn reap(&self) -> Result<Option<Exit>, Errno> {
        let id = WaitId::PidFd(self.pidfd.as_fd());
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let Some(status) = rustix::process::waitid(id, options)? else { return Ok(None) };
        let exit = match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Exit::Exited(code),
            (None, Some(signal)) => Exit::Signaled(signal),
            (None, None) => return Ok(None),
        };
        Ok(Some(exit))
    }
}

/// Whether a status file of `/proc` tells of a handler for a signal, or of a
/// mask that keeps it for `signalfd` or `sigwait`.
fn catches(status: &str, signal: i32) -> bool {
    let Ok(shift) = u32::try_from(signal - 1) else { return false };
    let has = |field: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(field))
            .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
            .and_then(|mask| mask.checked_shr(shift))
            .is_some_and(|mask| mask & 1 == 1)
    };
    has("SigCgt:") || has("SigBlk:")
}

/// The pid that the host's `/proc` shows for a pidfd.
fn host_pid(pidfd: &OwnedFd) -> Option<i32> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).ok()?;
    info.lines().find_map(|line| line.strip_prefix("Pid:"))?.trim().parse().ok()
}

/// The shim's own pid on the host.
pub(crate) fn own_host_pid() -> i32 {
    fs::read_link("/proc/self")
        .ok()
        .and_then(|link| link.to_str()?.parse().ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tsh\nSigBlk:\t0000000000000002\nSigCgt:\t0000000000004001\n";

    #[test]
    fn caught_and_blocked_signals_are_worth_sending() {
        assert!(catches(STATUS, 1));
        assert!(catches(STATUS, 2));
        assert!(catches(STATUS, 15));
        assert!(!catches(STATUS, 10));
        assert!(!catches(STATUS, 0));
        assert!(!catches(STATUS, 65));
        assert!(!catches("", 15));
    }
}
