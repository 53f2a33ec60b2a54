//! A step of a launch that failed, as it goes from a process that is on its way to
//! exec to the shim: a few bytes in a pipe.

use rustix::io::Errno;
use tank_shim::protocol::Step;

/// A step that failed, as it goes through the report pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stumble {
    /// Which step.
    pub(crate) step: Step,
    /// Which of the step's objects, where there are several.
    pub(crate) index: usize,
    /// Why.
    pub(crate) errno: i32,
}

impl Stumble {
    /// How long one is in the pipe.
    pub(crate) const BYTES: usize = 7;

    pub(crate) fn to_bytes(self) -> [u8; Self::BYTES] {
        let [a, b, c, d] = self.errno.to_ne_bytes();
        // A path has at most 2,048 parts, and no other list is as long.
        let [e, f] = u16::try_from(self.index).unwrap_or(u16::MAX).to_ne_bytes();
        [self.step as u8, a, b, c, d, e, f]
    }

    /// Reads one; `None` for bytes that are none.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let &[step, a, b, c, d, e, f] = bytes else { return None };
        let step = *Step::ALL.get(usize::from(step))?;
        let index = u16::from_ne_bytes([e, f]).into();
        Some(Self { step, index, errno: i32::from_ne_bytes([a, b, c, d]) })
    }
}

/// Makes a result of the kernel's say what failed.
pub(crate) trait At<T> {
    /// At this step.
    fn at(self, step: Step) -> Result<T, Stumble>;
    /// At this step, with this one of its objects.
    fn at_nth(self, step: Step, index: usize) -> Result<T, Stumble>;
}

impl<T> At<T> for Result<T, Errno> {
    fn at(self, step: Step) -> Result<T, Stumble> {
        self.at_nth(step, 0)
    }

    fn at_nth(self, step: Step, index: usize) -> Result<T, Stumble> {
        self.map_err(|errno| Stumble { step, index, errno: errno.raw_os_error() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stumble_survives_the_pipe() {
        for &step in Step::ALL {
            let stumble = Stumble { step, index: 300, errno: libc::ENOSPC };
            assert_eq!(Stumble::from_bytes(&stumble.to_bytes()), Some(stumble));
        }
    }

    #[test]
    fn bytes_that_are_no_stumble_are_told_apart() {
        assert_eq!(Stumble::from_bytes(&[]), None);
        assert_eq!(Stumble::from_bytes(&[0; 6]), None);
        assert_eq!(Stumble::from_bytes(&[u8::MAX; Stumble::BYTES]), None);
    }
}
