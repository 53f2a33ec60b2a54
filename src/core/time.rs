//! The only notion of time the core has: milliseconds on the boot clock. Times of the wall
//! clock it hands on and never reads.

/// An instant on `CLOCK_BOOTTIME`, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Millis(pub u64);

/// When something happened that may have been before the machine was booted, or is told of
/// after the next boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// In this boot.
    Boot(Millis),
    /// By the wall clock, in milliseconds since 1970, as it was read then.
    Wall(i64),
}

impl Millis {
    /// The instant `delay_ms` after this one, saturating at the end of time.
    #[must_use]
    pub fn after(self, delay_ms: u64) -> Self {
        Self(self.0.saturating_add(delay_ms))
    }

    /// Milliseconds from `earlier` to this instant; zero when it is not earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}
