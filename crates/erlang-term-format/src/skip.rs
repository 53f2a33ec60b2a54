//! Passing over terms, checking them on the way.

use alloc::vec::Vec;

use crate::decode::{Tail, read_term};
use crate::error::DecodeErrorKind;
use crate::keys::{self, DigestKey, FEW};
use crate::reader::{Head, Reader, Result};
use crate::tag;
use crate::term::Term;

impl Reader<'_> {
    /// Passes over one term.
    pub(crate) fn skip(&mut self) -> Result<()> {
        match self.head()? {
            Head::Tuple(arity) => self.inside(|reader| reader.skip_each(arity)),
            Head::List(length) => self.inside(|reader| reader.skip_list(length)),
            Head::Map(entries) => self.inside(|reader| reader.skip_entries(entries)),
            _ => Ok(()),
        }
    }

    /// A tail that is a list again continues this one.
    fn skip_list(&mut self, length: usize) -> Result<()> {
        let mut more = length;
        loop {
            self.skip_each(more)?;
            match self.tail()? {
                Tail::Elements(count) => more = count,
                Tail::Term => return self.skip(),
            }
        }
    }

    fn inside(&mut self, read: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        self.enter()?;
        read(self)?;
        self.leave();
        Ok(())
    }

    pub(crate) fn skip_each(&mut self, count: usize) -> Result<()> {
        (0..count).try_for_each(|_| self.skip())
    }

    fn skip_entries(&mut self, entries: usize) -> Result<()> {
        let mut seen = SeenKeys::new(entries);
        for _ in 0..entries {
            let start = self.position();
            self.skip()?;
            seen.add(self, start)?;
            self.skip()?;
        }
        seen.finish(self)
    }
}

/// The keys of one map so far, by where they start: decoding into the user's own types must
/// not let a key pass twice.
pub(crate) struct SeenKeys {
    entries: usize,
    seen: usize,
    /// Of a small map: a fingerprint of each key, and where it starts.
    prints: [u64; FEW],
    starts: [usize; FEW],
    /// Of a large one: compared all at once, at the end.
    many: Vec<(u64, usize)>,
    state: Option<DigestKey>,
}

impl SeenKeys {
    pub(crate) fn new(entries: usize) -> Self {
        Self { entries, seen: 0, prints: [0; FEW], starts: [0; FEW], many: Vec::new(), state: None }
    }

    /// Notes the key that was just read from `start` on.
    #[inline]
    pub(crate) fn add(&mut self, reader: &mut Reader<'_>, start: usize) -> Result<()> {
        if self.entries == 1 {
            return Ok(());
        }
        if self.entries > FEW {
            let print = self.digest(reader, start)?;
            self.many.push((print, start));
            return Ok(());
        }
        let print = match quick(reader.since(start)) {
            Some(print) => print,
            None => self.slow(reader, start)?,
        };
        if self.prints[..self.seen].contains(&print) {
            self.compare(reader, print, start)?;
        }
        self.prints[self.seen] = print;
        self.starts[self.seen] = start;
        self.seen += 1;
        Ok(())
    }

    /// The fingerprint of a key that is not encoded in the way that OTP 26 would, or is one of
    /// the rarer kinds.
    #[cold]
    fn slow(&mut self, reader: &mut Reader<'_>, start: usize) -> Result<u64> {
        match read_term(&mut reader.again(start))? {
            Term::Atom(text) => Ok(atom_print(text.as_bytes())),
            Term::Binary(bytes) => Ok(binary_print(&bytes)),
            Term::Integer(value) => Ok(integer_print(value)),
            _ => self.digest(reader, start),
        }
    }

    /// Compares with the keys that have the same fingerprint.
    #[cold]
    fn compare(&self, reader: &Reader<'_>, print: u64, start: usize) -> Result<()> {
        let key = read_term(&mut reader.again(start))?;
        let before = self.prints[..self.seen].iter().zip(&self.starts);
        for (_, place) in before.filter(|(other, _)| **other == print) {
            if keys::same(&key, &read_term(&mut reader.again(*place))?) {
                return Err(duplicate(start));
            }
        }
        Ok(())
    }

    fn digest(&mut self, reader: &mut Reader<'_>, start: usize) -> Result<u64> {
        let key = read_term(&mut reader.again(start))?;
        let state = self.state.get_or_insert_with(DigestKey::default);
        let (digest, nodes) = keys::digest(state, &key);
        if !keys::is_scalar(&key) {
            reader.spend(nodes - 1)?;
        }
        Ok(digest)
    }

    /// Called after the last entry.
    pub(crate) fn finish(&mut self, reader: &Reader<'_>) -> Result<()> {
        self.many.sort_unstable();
        for pair in self.many.windows(2) {
            let [(one, first), (other, second)] = [pair[0], pair[1]];
            if one != other {
                continue;
            }
            let first = read_term(&mut reader.again(first))?;
            if keys::same(&first, &read_term(&mut reader.again(second))?) {
                return Err(duplicate(second));
            }
        }
        keys::made_to_collide(&self.many).map_or(Ok(()), |third| Err(duplicate(third)))
    }
}

fn duplicate(offset: usize) -> crate::DecodeError {
    crate::DecodeError { kind: DecodeErrorKind::DuplicateKey, offset }
}

/// A cheap fingerprint of a common key, from its encoding; what it takes for alike is compared
/// in full.
#[inline]
fn quick(encoded: &[u8]) -> Option<u64> {
    match encoded {
        [tag::SMALL_ATOM_UTF8_EXT, _, text @ ..] => Some(atom_print(text)),
        [tag::BINARY_EXT, _, _, _, _, bytes @ ..] => Some(binary_print(bytes)),
        [tag::SMALL_INTEGER_EXT, byte] => Some(integer_print((*byte).into())),
        _ => None,
    }
}

fn atom_print(text: &[u8]) -> u64 {
    ends(text)
}

fn binary_print(bytes: &[u8]) -> u64 {
    !ends(bytes)
}

fn integer_print(value: i64) -> u64 {
    value.cast_unsigned()
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
