//! A process of a container's, by its pidfd: signals, what it catches, how it
//! ended. Never a bare pid.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::process::{Signal, WaitId, WaitIdOptions};
use tank_shim::protocol::Exit;

use crate::syscall;

/// A child of the shim's: the first process of a container, which takes all
/// others with it, or a further one.
#[derive(Debug)]
pub(crate) struct Process {
    pidfd: OwnedFd,
    host_pid: i32,
}

impl Process {
    /// A process that lives, or is not reaped yet. One whose pid cannot be known is
    /// ended: nobody could be told of it.
    pub(crate) fn new(pidfd: OwnedFd) -> Result<Self, Errno> {
        match host_pid(&pidfd) {
            Ok(host_pid) => Ok(Self { pidfd, host_pid }),
            Err(errno) => {
                end(&pidfd);
                Err(errno)
            }
        }
    }

    /// Readable once the process is dead, and if it is the first one, all of its
    /// pid namespace.
    pub(crate) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Its pid on the host.
    pub(crate) fn host_pid(&self) -> i32 {
        self.host_pid
    }

    /// Kills it; a first one with everything in its pid namespace.
    pub(crate) fn kill(&self) {
        // It fails only when the process is dead already.
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    /// Asks it to end. False when that is in vain: the kernel drops a signal
    /// that the first process of a pid namespace neither catches nor blocks.
    pub(crate) fn ask(&self, number: i32) -> bool {
        self.is_open_to(number) && self.send(number)
    }

    /// Sends a signal. False when that is impossible.
    pub(crate) fn send(&self, number: i32) -> bool {
        syscall::send_signal(self.pidfd(), number).is_ok()
    }

    /// Any of its threads will do.
    fn is_open_to(&self, number: i32) -> bool {
        let threads = fs::read_dir(format!("/proc/{}/task", self.host_pid));
        threads.into_iter().flatten().flatten().any(|thread| {
            let read = |file| fs::read_to_string(thread.path().join(file)).unwrap_or_default();
            let is_open = || catches(&read("status"), number);
            // Between two waits it is neither here nor there, but blocks again.
            is_open() || waits_for_signals(&read("syscall")) || is_open()
        })
    }

    /// Whether it has executed anything since it was forked: also known of a
    /// process that has ended and is not reaped.
    pub(crate) fn has_executed(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.host_pid));
        stat.is_ok_and(|stat| !is_forked_only(&stat))
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

/// Whether a thread's `syscall` file of `/proc` (proc_pid_syscall(5)) tells of a
/// wait for signals, as those inits do that images bring along: what they wait for
/// is not shown as blocked meanwhile.
fn waits_for_signals(syscall: &str) -> bool {
    /// The numbers of 32-bit programs on x86, with times of 32 and of 64 bits.
    const OF_32_BITS: [libc::c_long; 2] = [177, 421];
    let number = syscall.split(' ').next().and_then(|number| number.trim().parse().ok());
    number.is_some_and(|number: libc::c_long| {
        number == libc::SYS_rt_sigtimedwait || OF_32_BITS.contains(&number)
    })
}

/// Whether the flags in a stat file of `/proc` (proc_pid_stat(5), field 9) have
/// `PF_FORKNOEXEC` (`include/linux/sched.h`).
fn is_forked_only(stat: &str) -> bool {
    const PF_FORKNOEXEC: u32 = 0x40;
    // The second field is the name in parentheses and may hold anything.
    let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let flags = after_name.split(' ').nth(6).and_then(|flags| flags.parse::<u32>().ok());
    flags.is_none_or(|flags| flags & PF_FORKNOEXEC != 0)
}

/// Kills a child and waits for its end.
pub(crate) fn end(pidfd: &OwnedFd) {
    // It fails only when the process is dead already.
    let _ = rustix::process::pidfd_send_signal(pidfd, Signal::KILL);
    let _ = rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
}

/// The pid that the host's `/proc` shows for a pidfd.
pub(crate) fn host_pid(pidfd: &OwnedFd) -> Result<i32, Errno> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()))
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:"));
    pid.and_then(|pid| pid.trim().parse().ok()).ok_or(Errno::SRCH)
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
    fn an_exec_shows_in_the_flags() {
        assert!(is_forked_only("49 (a) b) S 1 49 49 0 -1 4194624 11"));
        assert!(!is_forked_only("49 (crun) Z 1 49 49 0 -1 4194560 11"));
        assert!(is_forked_only(""));
    }

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

    #[test]
    fn who_waits_for_signals_is_told_from_who_does_something_else() {
        let line =
            format!("{} 0x7ffc 0x0 0x0 0x8 0x0 0x0 0x7ffc 0x7f1b", libc::SYS_rt_sigtimedwait);
        assert!(waits_for_signals(&line));
        assert!(waits_for_signals("421 0x7ffc 0x0 0x0 0x8 0x0 0x0 0x7ffc 0x7f1b"));
        for other in ["running\n", "230 0x0 0x0", "-1 0x7ffc 0x7f1b", ""] {
            assert!(!waits_for_signals(other), "{other}");
        }
    }
}
