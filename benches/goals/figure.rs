//! What a row compares: times or memory.

use std::fmt;

use crate::sample::Time;

/// A figure of Tank's or a peer's.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Figure {
    Time(Time),
    /// Memory in kilobytes.
    Memory(f64),
}

impl Figure {
    /// How many times `other` this is.
    pub(crate) fn over(self, other: Self) -> f64 {
        match (self, other) {
            (Self::Time(this), Self::Time(other)) => this.over(other),
            (Self::Memory(this), Self::Memory(other)) => this / other,
            _ => panic!("a row compares figures of one kind"),
        }
    }
}

impl From<Time> for Figure {
    fn from(time: Time) -> Self {
        Self::Time(time)
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time(time) => time.fmt(f),
            Self::Memory(kilobytes) => write!(f, "{kilobytes:.0} kB"),
        }
    }
}
