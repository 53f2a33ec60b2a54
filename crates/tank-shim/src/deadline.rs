//! The supervisor's one deadline, on the boot clock: time that a machine sleeps
//! counts.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec,
};

/// A timer that is readable from its deadline on.
#[derive(Debug)]
pub(crate) struct Deadline {
    timer: OwnedFd,
    set_to: Option<u64>,
}

impl Deadline {
    /// A timer without a deadline.
    pub(crate) fn new() -> Result<Self, Errno> {
        let timer = rustix::time::timerfd_create(
            TimerfdClockId::Boottime,
            TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
        )?;
        Ok(Self { timer, set_to: None })
    }

    /// Sets or takes away the deadline, in milliseconds of the boot clock. It
    /// stays due until it is set to another.
    pub(crate) fn set(&mut self, at_ms: Option<u64>) -> Result<(), Errno> {
        if self.set_to == at_ms {
            return Ok(());
        }
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        // A time of zero would mean none.
        let it_value = at_ms.map_or(zero, |at_ms| timespec(at_ms.max(1)));
        let value = Itimerspec { it_interval: zero, it_value };
        rustix::time::timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &value)?;
        self.set_to = at_ms;
        Ok(())
    }
}

impl AsFd for Deadline {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}

/// Milliseconds since the machine booted.
pub(crate) fn boot_clock_ms() -> u64 {
    let now = rustix::time::clock_gettime(ClockId::Boottime);
    now.tv_sec.cast_unsigned() * 1000 + now.tv_nsec.cast_unsigned() / 1_000_000
}

fn timespec(ms: u64) -> Timespec {
    let tv_sec = i64::try_from(ms / 1000).unwrap_or(i64::MAX);
    Timespec { tv_sec, tv_nsec: (ms % 1000 * 1_000_000).cast_signed() }
}
