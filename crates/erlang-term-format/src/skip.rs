//! Passing over terms, checking them on the way.

use std::hash::RandomState;

use crate::decode::{Tail, read_term};
use crate::error::DecodeErrorKind;
use crate::keys::{self, FEW};
use crate::reader::{Head, Reader, Result};
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
    /// Of a small map: a quick fingerprint and the start of each key.
    few: [(u64, usize); FEW],
    /// Of a large one: compared all at once, at the end.
    many: Vec<(u64, usize)>,
    state: Option<RandomState>,
}

impl SeenKeys {
    pub(crate) fn new(entries: usize) -> Self {
        Self { entries, seen: 0, few: [(0, 0); FEW], many: Vec::new(), state: None }
    }

    /// Notes the key that was just read from `start` on.
    pub(crate) fn add(&mut self, reader: &mut Reader<'_>, start: usize) -> Result<()> {
        if self.entries == 1 {
            return Ok(());
        }
        let key = read_term(&mut reader.again(start))?;
        let print = self.fingerprint(reader, &key)?;
        if self.entries > FEW {
            self.many.push((print, start));
            return Ok(());
        }
        for (other, place) in &self.few[..self.seen] {
            if *other == print && keys::same(&key, &read_term(&mut reader.again(*place))?) {
                return Err(duplicate(start));
            }
        }
        self.few[self.seen] = (print, start);
        self.seen += 1;
        Ok(())
    }

    fn fingerprint(&mut self, reader: &mut Reader<'_>, key: &Term<'_>) -> Result<u64> {
        if self.entries <= FEW
            && let Some(print) = quick(key)
        {
            return Ok(print);
        }
        let state = self.state.get_or_insert_with(RandomState::new);
        let (digest, nodes) = keys::digest(state, key);
        if !keys::is_scalar(key) {
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
        Ok(())
    }
}

fn duplicate(offset: usize) -> crate::DecodeError {
    crate::DecodeError { kind: DecodeErrorKind::DuplicateKey, offset }
}

/// A cheap fingerprint of the common keys; what it takes for alike is compared in full.
fn quick(key: &Term<'_>) -> Option<u64> {
    match key {
        Term::Atom(text) => Some(ends(text.as_bytes())),
        Term::Binary(bytes) => Some(!ends(bytes)),
        Term::Integer(value) => Some(value.cast_unsigned()),
        _ => None,
    }
}

/// Length, first and last eight bytes.
fn ends(bytes: &[u8]) -> u64 {
    let word = |part: &[u8]| {
        let mut word = [0; 8];
        word[..part.len()].copy_from_slice(part);
        u64::from_le_bytes(word)
    };
    let first = word(&bytes[..bytes.len().min(8)]);
    let last = word(&bytes[bytes.len().saturating_sub(8)..]);
    first ^ last.rotate_left(29) ^ (bytes.len() as u64).rotate_left(53)
}
