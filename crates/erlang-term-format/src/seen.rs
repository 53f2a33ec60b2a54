//! Whether a map that is being read has a key twice, by how its keys are encoded.
//!
//! Nothing is made of the keys but in rare cases, and nothing is allocated for a map but its
//! share of one stack of places, which belongs to the reader. What is the same key is said by
//! [`keys`].

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::mem;

use crate::decode::read_term;
use crate::error::{DecodeError, DecodeErrorKind, Step};
use crate::keys::{self, DigestKey, FEW};
use crate::limits::NODE_BYTES;
use crate::reader::{Reader, Result, atom_parts, is_latin1};
use crate::tag;

/// The keys of one map so far.
pub(crate) struct SeenKeys {
    /// Whether there is anything to find.
    wanted: bool,
    /// Where this map's part of the stack starts.
    base: usize,
    /// A bit for each fingerprint so far: most keys are new by a glance at it.
    filter: u64,
    /// Whether they are compared all at once, after the last one.
    late: bool,
    /// The nodes that this has cost, until it is over.
    paid: usize,
}

impl SeenKeys {
    #[inline]
    pub(crate) fn new(entries: usize, reader: &mut Reader<'_>) -> Result<Self> {
        let base = reader.key_starts.len();
        let wanted = entries > 1 && !reader.is_again();
        let late = wanted && entries > FEW;
        let paid = if late { pay(entries, reader)? } else { 0 };
        Ok(Self { wanted, base, filter: 0, late, paid })
    }

    /// Notes the key that starts there.
    #[inline]
    pub(crate) fn add(&mut self, reader: &mut Reader<'_>, start: usize) -> Result<()> {
        if !self.wanted {
            return Ok(());
        }
        // Containers in keys of containers would be compared over and over.
        self.late |= is_container(reader.from(start));
        if !self.late {
            // A key without a fingerprint may be the same as any.
            let bits = plain(reader.from(start)).map_or(u64::MAX, |key| key.bit());
            if self.filter & bits != 0 {
                self.compare(reader, start)?;
            }
            self.filter |= bits;
        }
        reader.key_starts.push(start);
        Ok(())
    }

    /// Compares with the keys before, none of which is a container.
    #[cold]
    fn compare(&self, reader: &Reader<'_>, start: usize) -> Result<()> {
        let key = plain(reader.from(start));
        for before in &reader.key_starts[self.base..] {
            let same = match (key, plain(reader.from(*before))) {
                (Some(key), Some(other)) => key == other,
                _ => {
                    let key = read_term(&mut reader.again(start))?;
                    keys::same(&key, &read_term(&mut reader.again(*before))?)
                }
            };
            if same {
                return Err(duplicate(reader, start));
            }
        }
        Ok(())
    }

    /// Called after the last entry.
    #[inline]
    pub(crate) fn finish(self, reader: &mut Reader<'_>) -> Result<()> {
        let compared = if self.late { self.compare_all(reader) } else { Ok(()) };
        // Also after an error: whoever asked may get over it, and read the next entry.
        reader.key_starts.truncate(self.base);
        reader.free_memory(self.paid);
        compared
    }

    #[cold]
    fn compare_all(&self, reader: &mut Reader<'_>) -> Result<()> {
        let stack = mem::take(&mut reader.key_starts);
        let starts = &stack[self.base..];
        let compared =
            if are_ascending(reader, starts) { Ok(()) } else { find_same(reader, starts) };
        reader.key_starts = stack;
        compared
    }
}

/// The step to the key that is there twice, of those that start at `starts` in `written`.
pub(crate) fn twice(written: &[u8], starts: &[usize]) -> Option<Step> {
    let mut reader = Reader::admitted(written);
    let twice = find_twice(&mut reader, starts).err()?;
    // Keys that are nested too deeply to be read again are left to their author.
    (twice.kind == DecodeErrorKind::DuplicateKey).then(|| reader.key_step(twice.offset))
}

fn find_twice(reader: &mut Reader<'_>, starts: &[usize]) -> Result<()> {
    let mut seen = SeenKeys::new(starts.len(), reader)?;
    starts.iter().try_for_each(|start| seen.add(reader, *start))?;
    seen.finish(reader)
}

/// Makes room for the places of so many keys, and pays for that and for their digests.
#[cold]
fn pay(entries: usize, reader: &mut Reader<'_>) -> Result<usize> {
    let bytes = entries * (size_of::<usize>() + size_of::<(u64, usize)>());
    let nodes = bytes.div_ceil(NODE_BYTES);
    reader.spend_memory(nodes)?;
    reader.key_starts.reserve_exact(entries);
    Ok(nodes)
}

/// Whether each key is greater than the one before, as text of a sorted map is: then no two are
/// the same.
fn are_ascending(reader: &Reader<'_>, starts: &[usize]) -> bool {
    let mut keys = starts.iter().map(|start| plain(reader.from(*start)));
    let Some(Some(mut before)) = keys.next() else { return false };
    keys.all(|key| match key {
        Some(key) if before < key => {
            before = key;
            true
        }
        _ => false,
    })
}

/// Finds keys that are the same by their digests.
fn find_same(reader: &mut Reader<'_>, starts: &[usize]) -> Result<()> {
    let state = DigestKey::default();
    let mut places = Vec::with_capacity(starts.len());
    for start in starts {
        let key = read_term(&mut reader.again(*start))?;
        let (digest, nodes) = keys::digest(&state, &key);
        if !keys::is_scalar(&key) {
            reader.spend_work(nodes - 1)?;
        }
        places.push((digest, *start));
    }
    places.sort_unstable();
    for pair in places.windows(2) {
        let [(one, first), (other, second)] = [pair[0], pair[1]];
        if one == other && same_at(reader, first, second)? {
            return Err(duplicate(reader, second));
        }
    }
    if let Some(third) = keys::made_to_collide(&places) {
        return Err(duplicate(reader, third));
    }
    Ok(())
}

fn same_at(reader: &Reader<'_>, one: usize, other: usize) -> Result<bool> {
    let mut first = reader.again(one);
    let one = read_term(&mut first)?;
    // Both are there at once, and share what is left.
    Ok(keys::same(&one, &read_term(&mut first.again(other))?))
}

/// The error about the key that starts there.
#[cold]
pub(crate) fn duplicate(reader: &Reader<'_>, start: usize) -> Box<DecodeError> {
    DecodeError::new(start, DecodeErrorKind::DuplicateKey).below(reader.key_step(start))
}

/// Whether the key may be a list, a tuple or a map.
#[inline]
fn is_container(encoded: &[u8]) -> bool {
    matches!(
        encoded.first(),
        Some(
            &(tag::LIST_EXT
                | tag::STRING_EXT
                | tag::SMALL_TUPLE_EXT
                | tag::LARGE_TUPLE_EXT
                | tag::MAP_EXT)
        )
    )
}

/// A key of the common kinds, in the one form that it has there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Plain<'b> {
    /// UTF-8, or what would be.
    Atom(&'b [u8]),
    Binary(&'b [u8]),
    Integer(i64),
}

/// The key at the front of `encoded`, if it is of a common kind.
#[inline]
fn plain(encoded: &[u8]) -> Option<Plain<'_>> {
    match encoded {
        [tag::BINARY_EXT, a, b, c, d, rest @ ..] => {
            let length = u32::from_be_bytes([*a, *b, *c, *d]).try_into().ok()?;
            rest.get(..length).map(Plain::Binary)
        }
        [tag::SMALL_INTEGER_EXT, value, ..] => Some(Plain::Integer((*value).into())),
        [tag::INTEGER_EXT, a, b, c, d, ..] => {
            Some(Plain::Integer(i32::from_be_bytes([*a, *b, *c, *d]).into()))
        }
        _ => {
            let (tag, text, _) = atom_parts(encoded)?;
            (!is_latin1(tag) || text.is_ascii()).then_some(Plain::Atom(text))
        }
    }
}

impl Plain<'_> {
    /// A fingerprint of six bits, as the one bit of 64.
    #[inline]
    fn bit(self) -> u64 {
        let print = match self {
            Plain::Atom(bytes) | Plain::Binary(bytes) => ends(bytes),
            Plain::Integer(value) => value.cast_unsigned(),
        };
        // Fibonacci hashing: the upper bits depend on all others.
        1 << (print.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58)
    }
}

/// Length, first and last eight bytes.
#[inline]
fn ends(bytes: &[u8]) -> u64 {
    let length = bytes.len() as u64;
    let (first, last) = match (bytes.first_chunk(), bytes.last_chunk()) {
        (Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
        _ => short_ends(bytes),
    };
    (first ^ last.rotate_left(29)).wrapping_add(length.rotate_left(53))
}

/// As `ends` reads them, of fewer than eight bytes.
#[inline]
fn short_ends(bytes: &[u8]) -> (u64, u64) {
    match (bytes.first_chunk(), bytes.last_chunk()) {
        (Some(first), Some(last)) => {
            (u32::from_le_bytes(*first).into(), u32::from_le_bytes(*last).into())
        }
        _ => {
            let word = bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
            (word, 0)
        }
    }
}
