//! When the next full pass is due: every interval, soon after a nudge, at once
//! for a sync. At most one is in flight.

use super::event::ActionId;
use super::time::Millis;

/// The schedule of full passes.
#[derive(Debug)]
pub(super) struct Resync {
    interval_ms: u64,
    debounce_ms: u64,
    in_flight: Option<ActionId>,
    /// A pass was asked for while one was in flight, which does not count.
    again: bool,
    due: Millis,
    nudge: Option<Nudge>,
}

/// Nudges that have not been followed by a pass.
#[derive(Debug, Clone, Copy)]
struct Nudge {
    /// However many follow, the pass is no later than this.
    latest: Millis,
    due: Millis,
}

impl Resync {
    /// A schedule whose first pass is due at once.
    pub(super) fn new(interval_ms: u64, debounce_ms: u64, now: Millis) -> Self {
        assert!(interval_ms > 0, "a resync interval of 0 would never rest");
        Self { interval_ms, debounce_ms, in_flight: None, again: false, due: now, nudge: None }
    }

    /// A trailing debounce that no stream of nudges can put off for ever.
    pub(super) fn nudged(&mut self, now: Millis) {
        let latest = self.nudge.map_or(now.after(self.interval_ms), |nudge| nudge.latest);
        let due = now.after(self.debounce_ms).min(latest);
        self.nudge = Some(Nudge { latest, due });
    }

    /// A pass is wanted that begins after this call.
    pub(super) fn demanded(&mut self) {
        self.again = true;
    }

    /// Whether a pass should begin now.
    pub(super) fn is_due(&self, now: Millis) -> bool {
        let timed = self.deadline().is_some_and(|deadline| deadline <= now);
        self.in_flight.is_none() && (self.again || timed)
    }

    /// Whether an observation is in flight, which tells of a moment before now.
    pub(super) fn is_observing(&self) -> bool {
        self.in_flight.is_some()
    }

    /// The next instant at which a pass is due by itself.
    pub(super) fn deadline(&self) -> Option<Millis> {
        let nudge = self.nudge.map_or(self.due, |nudge| nudge.due);
        self.in_flight.is_none().then_some(nudge.min(self.due))
    }

    /// A pass began.
    pub(super) fn began(&mut self, id: ActionId) {
        assert!(self.in_flight.is_none(), "one observation is in flight at a time");
        self.in_flight = Some(id);
        self.again = false;
        self.nudge = None;
    }

    /// The pass in flight is over; the interval counts from here.
    pub(super) fn ended(&mut self, now: Millis, id: ActionId) {
        assert_eq!(self.in_flight, Some(id), "only the pass in flight can end");
        self.in_flight = None;
        self.due = now.after(self.interval_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idle() -> Resync {
        let mut resync = Resync::new(5_000, 100, Millis(0));
        resync.began(ActionId(1));
        resync.ended(Millis(0), ActionId(1));
        resync
    }

    #[test]
    fn nudges_are_debounced_and_never_later_than_one_interval() {
        let mut resync = idle();
        resync.nudged(Millis(10));
        assert_eq!(resync.deadline(), Some(Millis(110)));
        resync.nudged(Millis(60));
        assert_eq!(resync.deadline(), Some(Millis(160)));
        resync.due = Millis(100_000);
        for now in 60..6_000 {
            resync.nudged(Millis(now));
        }
        assert_eq!(resync.deadline(), Some(Millis(5_010)));
    }

    #[test]
    fn interval_counts_from_the_end_of_the_pass() {
        let mut resync = idle();
        assert_eq!(resync.deadline(), Some(Millis(5_000)));
        resync.began(ActionId(2));
        assert_eq!(resync.deadline(), None);
        resync.ended(Millis(9_000), ActionId(2));
        assert_eq!(resync.deadline(), Some(Millis(14_000)));
    }

    #[test]
    fn what_comes_during_a_pass_gets_another_one() {
        let mut resync = idle();
        resync.began(ActionId(2));
        resync.demanded();
        assert!(!resync.is_due(Millis(50)));
        resync.ended(Millis(60), ActionId(2));
        assert!(resync.is_due(Millis(60)));
        resync.began(ActionId(3));
        resync.nudged(Millis(61));
        resync.ended(Millis(70), ActionId(3));
        assert!(!resync.is_due(Millis(70)));
        assert!(resync.is_due(Millis(161)));
    }
}
