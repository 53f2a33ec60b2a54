//! What a decoder may spend on input that it does not trust.

use crate::term::Term;

/// Bounds that hold before anything is allocated.
///
/// # Memory
///
/// Decoding takes at most 32 times the length of the input and 3 MiB, whatever the input says.
/// It counts in terms, of 32 bytes each: an input may take as many as it has bytes, and 65,536
/// more. A container pays for its elements when its length is read. What takes memory besides
/// pays too: what a compressed term inflates to, twice, since what is made of it cannot borrow
/// from it; the keys of maps of more than sixteen while they are compared; and lists that are
/// written in pieces, since they move as they grow.
///
/// So an input that is not compressed has enough for all but the strangest terms, and one that is
/// may inflate to a megabyte and 16 times its length, less what its terms take.
///
/// That is for terms, and for what is skipped. Types of your own take what they take: an element
/// costs the input one byte or more, however large its type is, and a `Vec` up to three times its
/// size while it grows. `nodes_max` bounds how many there are.
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

/// What a term takes, and so one node.
pub(crate) const NODE_BYTES: usize = 32;
const _: () = assert!(size_of::<Term<'_>>() <= NODE_BYTES);

/// How many terms any input may take the memory of, however short it is.
const NODES_FREE: usize = 65_536;

impl Limits {
    /// The deepest nesting that any setting allows, so that no input can exhaust the stack.
    pub const DEPTH_CEILING: usize = 256;

    /// `depth_max`, bounded by the ceiling.
    pub(crate) fn depth(&self) -> usize {
        self.depth_max.min(Self::DEPTH_CEILING)
    }

    /// How many terms an input of so many bytes may take the memory of.
    pub(crate) fn memory(bytes: usize) -> usize {
        bytes.saturating_add(NODES_FREE)
    }
}

impl Default for Limits {
    /// 16 MiB, 64 levels, a million terms.
    fn default() -> Self {
        Self { bytes_max: 16 << 20, depth_max: 64, nodes_max: 1_000_000 }
    }
}
