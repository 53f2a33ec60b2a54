//! Whether it pays to look for input for a moment before going to sleep.
//!
//! To wake a CPU that sleeps, or to go to sleep and be woken again, takes longer
//! than a client needs to read an answer and to ask again. But a client may have
//! nothing more to ask, or may need the very CPU that is kept from it. Which it
//! is shows: looking in vain is tried ever less often.

use std::time::Duration;

/// How long to look (`docs/benchmarks.md`, round trips).
pub(super) const SPIN: Duration = Duration::from_micros(50);

/// Looks in a row, between two at the clock.
pub(super) const LOOKS: u32 = 8;

/// Chances to look that are let go in a row, at most.
const SKIPS_MAX: u32 = 1_023;

/// How looking went lately.
#[derive(Debug, Default)]
pub(super) struct Spin {
    /// Chances to let go after the next time in vain, but one.
    penalty: u32,
    /// Chances still to let go.
    skips: u32,
}

impl Spin {
    /// Whether to take this chance to look.
    pub(super) fn pays(&mut self) -> bool {
        let is_time = self.skips == 0;
        self.skips = self.skips.saturating_sub(1);
        is_time
    }

    /// What came of it.
    pub(super) fn has_found(&mut self, anything: bool) {
        self.penalty = if anything { 0 } else { (2 * self.penalty + 1).min(SKIPS_MAX) };
        self.skips = self.penalty;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of so many chances are taken.
    fn taken(spin: &mut Spin, chances: usize, finds: bool) -> usize {
        let looks = (0..chances).filter(|_| {
            let looks = spin.pays();
            if looks {
                spin.has_found(finds);
            }
            looks
        });
        looks.count()
    }

    #[test]
    fn looking_in_vain_is_tried_ever_less_often_and_never_given_up() {
        let mut spin = Spin::default();
        assert_eq!(taken(&mut spin, 1_000, false), 9);
        assert_eq!(taken(&mut spin, 1_024_000, false), 1_000);
    }

    #[test]
    fn as_soon_as_something_is_found_each_chance_is_taken() {
        let mut spin = Spin::default();
        taken(&mut spin, 5_000, false);
        assert!(taken(&mut spin, 2_048, true) > 1_000);
        assert_eq!(taken(&mut spin, 100, true), 100);
    }
}
