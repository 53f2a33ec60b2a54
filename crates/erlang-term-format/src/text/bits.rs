//! Binaries and bit strings, put together of segments.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use crate::term::Term;

/// A bit string that grows at its end.
#[derive(Default)]
pub(super) struct Bits {
    bytes: Vec<u8>,
    /// Bits used of the last byte; 0 when it is full.
    used: u32,
}

impl Bits {
    /// Appends the lowest `count` bits of `value`, highest first.
    pub(super) fn push(&mut self, value: u128, count: u32) {
        if self.used == 0 && count == 8 {
            self.bytes.push(value.to_le_bytes()[0]);
            return;
        }
        for index in (0..count).rev() {
            let bit = (value >> index) & 1 == 1;
            if self.used == 0 {
                self.bytes.push(0);
            }
            if let Some(last) = self.bytes.last_mut() {
                *last |= u8::from(bit) << (7 - self.used);
            }
            self.used = (self.used + 1) % 8;
        }
    }

    pub(super) fn push_bytes(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.push((*byte).into(), 8));
    }

    pub(super) fn term(self) -> Term<'static> {
        match u8::try_from(self.used) {
            Ok(used @ 1..=7) => Term::from_bits(Cow::Owned(self.bytes), used),
            _ => Term::Binary(Cow::Owned(self.bytes)),
        }
    }
}
