//! What a decoder may spend on input that it does not trust.

/// Bounds that hold before anything is allocated.
///
/// ```
/// use erlang_term_format::{decode_with, Limits};
///
/// let limits = Limits { depth_max: 2, ..Limits::default() };
/// assert!(decode_with(&[131, 104, 1, 104, 1, 106], &limits).is_ok());
/// assert!(decode_with(&[131, 104, 1, 104, 1, 104, 1, 106], &limits).is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest input, and longest content of a compressed term, in bytes.
    pub bytes_max: usize,
    /// How many containers may lie inside one another. Decoding recurses, so values above
    /// [`Limits::DEPTH_CEILING`] count as that.
    pub depth_max: usize,
    /// How many terms there may be, counting every element, key and value. A container whose
    /// claimed length would go beyond is refused before its first element is read.
    pub nodes_max: usize,
}

impl Limits {
    /// The deepest nesting that any setting allows, so that no input can exhaust the stack.
    pub const DEPTH_CEILING: usize = 256;

    /// `depth_max`, bounded by the ceiling.
    pub(crate) fn depth(&self) -> usize {
        self.depth_max.min(Self::DEPTH_CEILING)
    }
}

impl Default for Limits {
    /// 16 MiB, 64 levels, a million terms.
    fn default() -> Self {
        Self { bytes_max: 16 << 20, depth_max: 64, nodes_max: 1_000_000 }
    }
}
