//! The boot clock, and a timer on it that is a descriptor.
//!
//! `CLOCK_BOOTTIME` goes on while the machine sleeps, so that a backoff of five
//! minutes is over after five minutes on a laptop too.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;

use crate::core::time::{Millis, Moment};
use crate::poll::register;

/// Now, on the boot clock.
#[must_use]
pub fn now() -> Millis {
    let time = clock_gettime(ClockId::Boottime);
    let (seconds, nanos) = (time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs());
    Millis(seconds * 1_000 + nanos / 1_000_000)
}

/// Milliseconds by which the clocks must part before an instant gets another wall
/// clock time. Less is rounding, or a clock that somebody puts right bit by bit.
const STEP_MS: u64 = 1_000;

static WALL_CLOCK: WallClock = WallClock { offset_ms: AtomicI64::new(0) };

/// The wall clock's reading, in milliseconds since 1970, of an instant on the
/// boot clock: the same each time, unless the wall clock has been set since.
#[must_use]
pub fn unix_ms(instant: Millis) -> i64 {
    WALL_CLOCK.unix_ms(instant)
}

/// Has instants the wall clock times that earlier programs of this boot gave them: a file
/// has what they have read.
///
/// # Errors
/// The system's, where the file cannot be written.
pub fn keep_in(file: &Path, boot_id: &str) -> io::Result<()> {
    WALL_CLOCK.keep_in(file, boot_id)
}

/// The wall clock beside the boot clock.
struct WallClock {
    /// From that one to this one, as it was read first.
    offset_ms: AtomicI64,
}

impl WallClock {
    fn unix_ms(&self, instant: Millis) -> i64 {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis());
        let wall = i64::try_from(wall).unwrap_or(i64::MAX);
        let read = wall.saturating_sub(i64::try_from(now().0).unwrap_or(i64::MAX));
        let kept = self.offset_ms.load(Ordering::Relaxed);
        let offset = if read.abs_diff(kept) < STEP_MS { kept } else { read };
        self.offset_ms.store(offset, Ordering::Relaxed);
        i64::try_from(instant.0).unwrap_or(i64::MAX).saturating_add(offset)
    }

    fn keep_in(&self, file: &Path, boot_id: &str) -> io::Result<()> {
        let kept = fs::read_to_string(file).unwrap_or_default();
        let offset = kept.strip_prefix(boot_id).and_then(|offset| offset.trim().parse().ok());
        if let Some(offset) = offset {
            self.offset_ms.store(offset, Ordering::Relaxed);
        }
        let now = self.unix_ms(Millis(0));
        if offset == Some(now) {
            return Ok(());
        }
        let draft = file.with_extension("new");
        fs::write(&draft, format!("{boot_id} {now}\n"))?;
        fs::rename(draft, file)
    }
}

/// The wall clock's reading of a moment, in milliseconds since 1970.
#[must_use]
pub fn wall_ms(moment: Moment) -> i64 {
    match moment {
        Moment::Boot(instant) => unix_ms(instant),
        Moment::Wall(unix_ms) => unix_ms,
    }
}

/// The wall clock's time of day in UTC, to the microsecond: `23:59:59.999999`.
#[must_use]
pub fn utc_time_of_day() -> String {
    time_of_day(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn time_of_day(since_1970: Duration) -> String {
    let seconds = since_1970.as_secs();
    let (hours, minutes) = (seconds / 3_600 % 24, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}.{:06}", seconds % 60, since_1970.subsec_micros())
}

/// One alarm on the boot clock.
#[derive(Debug)]
pub struct Alarm {
    timer: AsyncFd<OwnedFd>,
    set_for: Option<Millis>,
}

impl Alarm {
    /// An alarm that is off.
    ///
    /// # Errors
    /// When the kernel has no descriptor to give.
    pub fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = register(timerfd_create(TimerfdClockId::Boottime, flags)?)?;
        Ok(Self { timer, set_for: None })
    }

    /// Sets the alarm for `deadline`, or off. Cheap when it is set so already.
    ///
    /// # Errors
    /// Those of timerfd_settime(2), which only a defect can cause.
    pub fn set(&mut self, deadline: Option<Millis>) -> io::Result<()> {
        if self.set_for == deadline {
            return Ok(());
        }
        // Zero would switch the timer off: what is due at boot is due in 1 ns.
        let value = deadline.map_or(Timespec::default(), |at| Timespec {
            tv_sec: i64::try_from(at.0 / 1_000).unwrap_or(i64::MAX),
            tv_nsec: (at.0 % 1_000 * 1_000_000).max(u64::from(at.0 == 0)) as _,
        });
        let spec = Itimerspec { it_interval: Timespec::default(), it_value: value };
        timerfd_settime(self.timer.get_ref(), TimerfdTimerFlags::ABSTIME, &spec)?;
        self.set_for = deadline;
        Ok(())
    }

    /// Whether the alarm has gone off, after which it is off; the task is woken
    /// when it does.
    pub fn poll_ring(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let mut ready = ready!(self.timer.poll_read_ready(cx)).expect("a timer can be polled");
            let mut count = [0; 8];
            if rustix::io::read(self.timer.get_ref(), &mut count).is_ok() {
                self.set_for = None;
                return Poll::Ready(());
            }
            ready.clear_ready();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    #[test]
    fn an_instant_has_one_wall_clock_time_however_the_clocks_tick() {
        let first = unix_ms(Millis(7));
        // Long enough that each has ticked alone.
        let until = now().after(5);
        while now() < until {
            assert_eq!(unix_ms(Millis(7)), first);
        }
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        let apart = unix_ms(now()).abs_diff(i64::try_from(wall).unwrap());
        assert!(apart <= STEP_MS, "{apart} ms from what the wall clock says");
    }

    #[test]
    fn what_was_read_first_holds_for_a_boot_unless_the_clock_was_set() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("clock");
        let read_by_a_program = || {
            let clock = WallClock { offset_ms: AtomicI64::new(0) };
            clock.keep_in(&file, "this").unwrap();
            let read = clock.unix_ms(Millis(0));
            assert_eq!(fs::read_to_string(&file).unwrap(), format!("this {read}\n"));
            read
        };
        let read = read_by_a_program();
        // Another program has read it so.
        fs::write(&file, format!("this {}\n", read + 5)).unwrap();
        assert_eq!(read_by_a_program(), read + 5);
        for other in ["earlier 7", "this 7", "this", ""] {
            fs::write(&file, other).unwrap();
            let now = read_by_a_program();
            assert!(now.abs_diff(read) < STEP_MS, "{now} after {other}");
        }
    }

    #[test]
    fn a_time_of_day_is_of_any_day() {
        let day = Duration::from_secs(86_400);
        assert_eq!(time_of_day(Duration::ZERO), "00:00:00.000000");
        assert_eq!(time_of_day(day * 20_000 - Duration::from_micros(1)), "23:59:59.999999");
        assert_eq!(time_of_day(day + Duration::from_secs(3_723)), "01:02:03.000000");
    }

    #[tokio::test]
    async fn an_alarm_never_rings_early() {
        let mut alarm = Alarm::new().unwrap();
        let deadline = now().after(3);
        alarm.set(Some(deadline)).unwrap();
        poll_fn(|cx| alarm.poll_ring(cx)).await;
        assert!(now() >= deadline);
    }

    #[tokio::test]
    async fn an_alarm_set_for_the_past_rings_at_once() {
        let mut alarm = Alarm::new().unwrap();
        alarm.set(Some(Millis(0))).unwrap();
        poll_fn(|cx| alarm.poll_ring(cx)).await;
    }
}
