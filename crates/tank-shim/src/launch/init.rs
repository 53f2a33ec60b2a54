//! The init of a container that asks for one (`init: true`): its first process,
//! which reaps what nobody else does, hands signals on to the workload, and ends
//! as the workload does. It executes nothing, so that it needs no file in any
//! image; like all between clone and exec it allocates nothing.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use tank_shim::protocol::Step;

use super::stumble::{At, Stumble};
use crate::syscall::{self, Forked};

/// What a shell adds to the number of a signal.
const SIGNALED: i32 = 128;

/// Goes on as the workload, a child of what called this, which becomes the init.
/// `confine` is what both are to be under. Whichever of the two fails says so in the
/// report, which ends when the workload is executed and the init is one.
pub(super) fn stand_before(
    report: Option<&OwnedFd>,
    confine: impl FnOnce() -> Result<(), Stumble>,
) -> Result<(), Stumble> {
    // Before there are two, so that no signal is lost between them, and nobody looks
    // into what the init remembers of the shim.
    syscall::block_signals().at(Step::SetSignals)?;
    syscall::forbid_looks().at(Step::ForbidLooks)?;
    match syscall::fork().at(Step::Clone)? {
        Forked::Child => {
            syscall::unblock_signals().at(Step::SetSignals)?;
            // In its own session: the terminal is to be the workload's.
            rustix::process::setsid().at(Step::BeginSession).map(drop)
        }
        // The kernel ends the workload with it, should it fail.
        Forked::Parent(workload) => {
            // The standard streams are not its own, nor is the command line.
            syscall::close_standard().at_nth(Step::SetUpStdio, 3)?;
            syscall::hide_self(c"init");
            confine()?;
            be_init(workload, report)
        }
    }
}

/// What it cannot do under a profile of one's own, it does not try for ever.
fn be_init(workload: i32, report: Option<&OwnedFd>) -> ! {
    if report.is_some_and(|report| syscall::close_last(report.as_fd()).is_err()) {
        syscall::exit_now(127);
    }
    loop {
        match syscall::wait_for_signal() {
            Ok(libc::SIGCHLD) => reap(workload),
            // A workload that is dead is reaped next.
            Ok(signal) => drop(syscall::send_signal_to(workload, signal)),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => syscall::exit_now(127),
        }
    }
}

/// Collects all that are dead; ends with the workload.
fn reap(workload: i32) {
    loop {
        match syscall::reap_any() {
            Ok(Some((pid, status))) if pid == workload => syscall::exit_now(code(status)),
            Ok(Some(_)) => {}
            Ok(None) | Err(Errno::CHILD) => return,
            Err(Errno::INTR) => {}
            Err(_) => syscall::exit_now(127),
        }
    }
}

/// The exit code for a status of wait(2), as a shell has it: the first process of
/// a pid namespace cannot end by a signal of its own.
fn code(status: i32) -> i32 {
    if libc::WIFSIGNALED(status) {
        SIGNALED + libc::WTERMSIG(status)
    } else {
        libc::WEXITSTATUS(status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_a_code_beyond_128() {
        assert_eq!(code(7 << 8), 7);
        assert_eq!(code(libc::SIGTERM), 143);
        assert_eq!(code(libc::SIGSEGV | 0x80), 139);
    }
}
