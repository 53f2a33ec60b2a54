//! Lists that are written in pieces: the tail of one is the next.
//!
//! Says what the next piece is and sees to it that it is paid; what is made of the elements is
//! whoever's who reads them.

use crate::reader::{Reader, Result};
use crate::tag;

/// What follows the elements of a list.
pub(crate) enum Piece<'b> {
    /// So many elements more, and then another piece.
    Elements(usize),
    /// Small integers, perhaps none, and then the end of a proper list.
    Bytes(&'b [u8]),
    /// A term, not read yet, that is not a list, or the empty one.
    Tail,
}

impl<'b> Reader<'b> {
    /// Reads up to the next elements of a list, or up to its tail.
    pub(crate) fn piece(&mut self) -> Result<Piece<'b>> {
        self.spend(1)?;
        loop {
            match self.peek()? {
                tag::LIST_EXT => match self.list_length()? {
                    0 => self.spend(1)?,
                    length => return Ok(Piece::Elements(length)),
                },
                tag::STRING_EXT => return self.string().map(Piece::Bytes),
                _ => return Ok(Piece::Tail),
            }
        }
    }
}

/// The pieces of a list that is read into one place.
pub(crate) struct Pieces {
    /// The elements of all pieces so far.
    length: usize,
    /// How many there is room for, and paid.
    room: usize,
}

impl Pieces {
    /// The first piece, paid when its length was read.
    pub(crate) fn new(length: usize) -> Self {
        Self { length, room: length }
    }

    /// The elements of all pieces so far.
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// How many elements there should be room for.
    pub(crate) fn room(&self) -> usize {
        self.room
    }

    /// Called after the last element of a piece. A list moves when it outgrows its room, and is
    /// there twice meanwhile.
    pub(crate) fn next<'b>(&mut self, reader: &mut Reader<'b>) -> Result<Piece<'b>> {
        let piece = reader.piece()?;
        self.length += match piece {
            Piece::Elements(count) => count,
            Piece::Bytes(bytes) => bytes.len(),
            Piece::Tail => 0,
        };
        if self.length > self.room {
            self.room = self.length.max(2 * self.room);
            reader.spend_memory(self.room)?;
        }
        Ok(piece)
    }
}
