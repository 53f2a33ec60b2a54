//! Passing over terms, checking them on the way.

use crate::error::Step;
use crate::list::{Piece, Pieces};
use crate::reader::{Head, Reader, Result};
use crate::seen::SeenKeys;

impl Reader<'_> {
    /// Passes over one term.
    pub(crate) fn skip(&mut self) -> Result<()> {
        match self.head()? {
            Head::Tuple(arity) => self.inside(|reader| reader.skip_each(0, arity)),
            Head::List(length) => self.inside(|reader| reader.skip_list(length)),
            Head::Map(entries) => self.inside(|reader| reader.skip_entries(entries)),
            _ => Ok(()),
        }
    }

    fn inside(&mut self, read: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        self.enter()?;
        read(self)?;
        self.leave();
        Ok(())
    }

    fn skip_list(&mut self, length: usize) -> Result<()> {
        let mut pieces = Pieces::new(length);
        self.skip_each(0, length)?;
        loop {
            let first = pieces.length();
            match pieces.next(self)? {
                Piece::Elements(count) => self.skip_each(first, count)?,
                Piece::Bytes(_) => return Ok(()),
                Piece::Tail => return self.skip(),
            }
        }
    }

    /// Passes over `count` elements, of which the first has the index `first`.
    pub(crate) fn skip_each(&mut self, first: usize, count: usize) -> Result<()> {
        for index in first..first + count {
            self.skip().map_err(|error| error.below(Step::Index(index)))?;
        }
        Ok(())
    }

    fn skip_entries(&mut self, entries: usize) -> Result<()> {
        let mut seen = SeenKeys::new(entries, self)?;
        for _ in 0..entries {
            let key = self.position();
            self.skip()?;
            seen.add(self, key)?;
            self.skip().map_err(|error| error.below(self.key_step(key)))?;
        }
        seen.finish(self)
    }
}
