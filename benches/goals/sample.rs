//! Durations of one thing done many times.

use std::fmt;
use std::time::Duration;

/// Durations, sorted.
pub(crate) struct Sample(Vec<Duration>);

impl Sample {
    /// The sample of at least one duration.
    pub(crate) fn new(mut durations: Vec<Duration>) -> Self {
        assert!(!durations.is_empty(), "a sample is never empty");
        durations.sort_unstable();
        Self(durations)
    }

    /// The duration that this share of all does not exceed.
    pub(crate) fn percentile(&self, percent: usize) -> Time {
        Time(self.0[(self.0.len() - 1) * percent / 100])
    }

    /// The middle one.
    pub(crate) fn median(&self) -> Time {
        self.percentile(50)
    }
}

/// A duration that shows itself in a fitting unit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Time(pub(crate) Duration);

impl Time {
    /// How many times `other` this is.
    pub(crate) fn over(self, other: Self) -> f64 {
        self.0.as_secs_f64() / other.0.as_secs_f64()
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_secs_f64() * 1e6;
        if micros < 1_000.0 {
            write!(f, "{micros:.1} µs")
        } else {
            write!(f, "{:.2} ms", micros / 1e3)
        }
    }
}
