//! The bounded cursor under everything that decodes.
//!
//! Owns the reading of one term's head: its tag, its length, and the content of what is not a
//! container. Every limit is checked here, before whoever asks can allocate by it.

use alloc::borrow::Cow;
use core::str::from_utf8;

use crate::error::{DecodeError, DecodeErrorKind as Kind};
use crate::limits::Limits;
use crate::tag;

pub(crate) type Result<T> = core::result::Result<T, DecodeError>;

/// The start of a term. The elements of a container follow in the input.
#[derive(Clone, Debug)]
pub(crate) enum Head<'b> {
    Atom(Cow<'b, str>),
    Integer(i64),
    /// Sign, and little-endian magnitude as it stands.
    Big(bool, &'b [u8]),
    Float(f64),
    Binary(&'b [u8]),
    /// Bytes, of which the last has that many bits; not empty.
    Bits(&'b [u8], u8),
    Nil,
    /// A list of small integers.
    Bytes(&'b [u8]),
    /// At least one element, then a tail.
    List(usize),
    Tuple(usize),
    Map(usize),
    /// A pid, port, reference, fun or export, whole.
    Opaque(&'b [u8]),
}

/// A cursor over untrusted bytes and what may still be spent on them.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'b> {
    bytes: &'b [u8],
    position: usize,
    depth_left: usize,
    nodes_left: usize,
    /// Terms that the containers around this place still claim, of a byte at least each. What
    /// is owed to them is not there to be claimed again, or a few bytes deeper and deeper down
    /// could each reserve memory for all that is left.
    owed: usize,
    limits: Limits,
}

impl<'b> Reader<'b> {
    /// A reader of one term, without version byte.
    pub(crate) fn new(bytes: &'b [u8], limits: &Limits) -> Result<Self> {
        let mut reader = Self {
            bytes,
            position: 0,
            depth_left: limits.depth(),
            nodes_left: limits.nodes_max,
            owed: 1,
            limits: *limits,
        };
        if bytes.len() > limits.bytes_max {
            let (bytes, max) = (bytes.len(), limits.bytes_max);
            return Err(reader.error_at(0, Kind::TooLarge { bytes, max }));
        }
        reader.spend(1)?;
        Ok(reader)
    }

    pub(crate) fn position(&self) -> usize {
        self.position
    }

    /// The bytes from `start` to here.
    pub(crate) fn since(&self, start: usize) -> &'b [u8] {
        &self.bytes[start..self.position]
    }

    /// A reader of what was read before, at `start`. It has its own budget: nothing there is new.
    pub(crate) fn again(&self, start: usize) -> Self {
        Self {
            bytes: self.bytes,
            position: start,
            depth_left: self.limits.depth(),
            nodes_left: self.limits.nodes_max,
            owed: 1,
            limits: self.limits,
        }
    }

    fn error_at(&self, offset: usize, kind: Kind) -> DecodeError {
        DecodeError { kind, offset }
    }

    pub(crate) fn error(&self, kind: Kind) -> DecodeError {
        self.error_at(self.position, kind)
    }

    fn left(&self) -> usize {
        self.bytes.len() - self.position
    }

    /// One level down; [`leave`](Self::leave) goes up again.
    pub(crate) fn enter(&mut self) -> Result<()> {
        let Some(depth_left) = self.depth_left.checked_sub(1) else {
            let max = self.limits.depth();
            return Err(self.error(Kind::TooDeep { max }));
        };
        self.depth_left = depth_left;
        Ok(())
    }

    pub(crate) fn leave(&mut self) {
        self.depth_left += 1;
    }

    /// Takes `nodes` from the budget.
    pub(crate) fn spend(&mut self, nodes: usize) -> Result<()> {
        let Some(nodes_left) = self.nodes_left.checked_sub(nodes) else {
            let max = self.limits.nodes_max;
            return Err(self.error(Kind::TooManyNodes { max }));
        };
        self.nodes_left = nodes_left;
        Ok(())
    }

    /// The end of the input must be here.
    pub(crate) fn finish(&self) -> Result<()> {
        match self.left() {
            0 => Ok(()),
            left => Err(self.error(Kind::TrailingBytes(left))),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let Some(bytes) = self.bytes[self.position..].first_chunk() else {
            return Err(self.error_at(self.bytes.len(), Kind::UnexpectedEnd));
        };
        self.position += N;
        Ok(*bytes)
    }

    pub(crate) fn u8(&mut self) -> Result<u8> {
        self.array().map(|[byte]| byte)
    }

    fn u16_length(&mut self) -> Result<usize> {
        self.array().map(|bytes| u16::from_be_bytes(bytes).into())
    }

    pub(crate) fn u32_length(&mut self) -> Result<usize> {
        let length = self.array().map(u32::from_be_bytes)?;
        Ok(length.try_into().unwrap_or(usize::MAX))
    }

    fn u8_length(&mut self) -> Result<usize> {
        self.u8().map(usize::from)
    }

    fn take(&mut self, length: usize) -> Result<&'b [u8]> {
        let rest = &self.bytes[self.position..];
        let Some(taken) = rest.get(..length) else {
            let (claimed, left) = (length, rest.len());
            return Err(self.error(Kind::LengthBeyondEnd { claimed, left }));
        };
        self.position += length;
        Ok(taken)
    }

    /// All that is left.
    pub(crate) fn rest(&mut self) -> &'b [u8] {
        let rest = &self.bytes[self.position..];
        self.position = self.bytes.len();
        rest
    }

    /// Admits `count` elements of `terms_each`, and charges for them.
    fn admit(&mut self, count: usize, terms_each: usize) -> Result<usize> {
        let left = self.left().saturating_sub(self.owed);
        if count > left / terms_each {
            let claimed = count;
            return Err(self.error(Kind::LengthBeyondEnd { claimed, left }));
        }
        self.owed += count * terms_each;
        self.spend(count * terms_each)?;
        Ok(count)
    }

    /// Admits the one term that must follow: a tail, or a part.
    fn admit_one(&mut self) -> Result<()> {
        self.owed += 1;
        self.spend(1)
    }

    /// The tag of the next term, not consumed.
    pub(crate) fn peek(&self) -> Result<u8> {
        let tag = self.bytes.get(self.position).copied();
        tag.ok_or_else(|| self.error(Kind::UnexpectedEnd))
    }

    /// Whether the next term may be an atom; a list of no elements may be, by its tail.
    pub(crate) fn is_at_atom(&self) -> Result<bool> {
        self.peek().map(|tag| is_atom(tag) || tag == tag::LIST_EXT)
    }

    /// Reads the head of the next term.
    pub(crate) fn head(&mut self) -> Result<Head<'b>> {
        let start = self.position;
        let tag = self.u8()?;
        self.owed -= 1;
        match tag {
            tag::SMALL_INTEGER_EXT => self.u8().map(|value| Head::Integer(value.into())),
            tag::INTEGER_EXT => {
                let value = self.array().map(i32::from_be_bytes)?;
                Ok(Head::Integer(value.into()))
            }
            tag::BINARY_EXT => {
                let length = self.u32_length()?;
                self.take(length).map(Head::Binary)
            }
            tag::NIL_EXT => Ok(Head::Nil),
            tag::LIST_EXT => self.list(),
            tag::STRING_EXT => self.string(),
            tag::SMALL_TUPLE_EXT => {
                let arity = self.u8_length()?;
                self.admit(arity, 1).map(Head::Tuple)
            }
            tag::LARGE_TUPLE_EXT => {
                let arity = self.u32_length()?;
                self.admit(arity, 1).map(Head::Tuple)
            }
            tag::MAP_EXT => {
                let entries = self.u32_length()?;
                self.admit(entries, 2).map(Head::Map)
            }
            tag::SMALL_BIG_EXT | tag::LARGE_BIG_EXT => self.big(tag),
            tag::NEW_FLOAT_EXT => {
                let value = self.array().map(f64::from_be_bytes)?;
                self.finite(start, value)
            }
            tag::FLOAT_EXT => self.text_float(start),
            tag::BIT_BINARY_EXT => self.bits(start),
            _ if is_atom(tag) => self.atom_of(start, tag).map(Head::Atom),
            _ => self.opaque(start, tag),
        }
    }

    /// A list of no elements and a tail is that tail.
    fn list(&mut self) -> Result<Head<'b>> {
        match self.u32_length()? {
            0 => {
                // Each costs a node, or a chain of them would recurse for free.
                self.admit_one()?;
                self.enter()?;
                let head = self.head()?;
                self.leave();
                Ok(head)
            }
            length => {
                self.admit(length, 1)?;
                self.admit_one()?;
                Ok(Head::List(length))
            }
        }
    }

    fn string(&mut self) -> Result<Head<'b>> {
        let length = self.u16_length()?;
        let bytes = self.take(length)?;
        self.spend(length)?;
        Ok(if bytes.is_empty() { Head::Nil } else { Head::Bytes(bytes) })
    }

    fn big(&mut self, tag: u8) -> Result<Head<'b>> {
        let length = match tag {
            tag::SMALL_BIG_EXT => self.u8_length()?,
            _ => self.u32_length()?,
        };
        let negative = match self.u8()? {
            0 => false,
            1 => true,
            sign => return Err(self.error_at(self.position - 1, Kind::Sign(sign))),
        };
        let magnitude = self.take(length)?;
        Ok(small(negative, magnitude).map_or(Head::Big(negative, magnitude), Head::Integer))
    }

    fn finite(&self, start: usize, value: f64) -> Result<Head<'b>> {
        if value.is_finite() {
            Ok(Head::Float(value))
        } else {
            Err(self.error_at(start, Kind::Float))
        }
    }

    /// The format of `io:format("~.20e")` in 31 bytes, padded with zeros.
    fn text_float(&mut self, start: usize) -> Result<Head<'b>> {
        let text: [u8; 31] = self.array()?;
        let length = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
        let digits = from_utf8(&text[..length]).unwrap_or_default().trim_start();
        let plain = digits.bytes().all(|byte| b"+-.eE0123456789".contains(&byte));
        match digits.parse() {
            Ok(value) if plain => self.finite(start, value),
            _ => Err(self.error_at(start, Kind::Float)),
        }
    }

    fn bits(&mut self, start: usize) -> Result<Head<'b>> {
        let length = self.u32_length()?;
        let last_bits = self.u8()?;
        let bytes = self.take(length)?;
        match (last_bits, bytes) {
            (0, []) => Ok(Head::Binary(bytes)),
            (8, [_, ..]) => Ok(Head::Binary(bytes)),
            (1..=7, [_, ..]) => Ok(Head::Bits(bytes, last_bits)),
            _ => Err(self.error_at(start, Kind::LastBits(last_bits))),
        }
    }

    /// Reads an atom where nothing else may be.
    fn atom(&mut self) -> Result<Cow<'b, str>> {
        let start = self.position;
        match self.u8()? {
            tag if is_atom(tag) => self.atom_of(start, tag),
            tag::ATOM_CACHE_REF => Err(self.unsupported(start, tag::ATOM_CACHE_REF)),
            tag => Err(self.error_at(start, Kind::AtomExpected(tag))),
        }
    }

    fn atom_of(&mut self, start: usize, tag: u8) -> Result<Cow<'b, str>> {
        let length = match tag {
            tag::SMALL_ATOM_EXT | tag::SMALL_ATOM_UTF8_EXT => self.u8_length()?,
            _ => self.u16_length()?,
        };
        let bytes = self.take(length)?;
        let text = match tag {
            tag::ATOM_EXT | tag::SMALL_ATOM_EXT => latin1(bytes),
            _ => from_utf8(bytes)
                .map(Cow::Borrowed)
                .map_err(|_| self.error_at(start, Kind::AtomEncoding))?,
        };
        let long =
            length > tag::ATOM_CHARACTERS_MAX && text.chars().count() > tag::ATOM_CHARACTERS_MAX;
        if long {
            return Err(self.error_at(start, Kind::AtomTooLong));
        }
        Ok(text)
    }

    /// Checks a pid, port, reference, fun or export, and gives its bytes.
    fn opaque(&mut self, start: usize, tag: u8) -> Result<Head<'b>> {
        match tag {
            tag::PID_EXT => self.node_and(8 + 1)?,
            tag::NEW_PID_EXT => self.node_and(8 + 4)?,
            tag::PORT_EXT => self.node_and(4 + 1)?,
            tag::NEW_PORT_EXT => self.node_and(4 + 4)?,
            tag::V4_PORT_EXT => self.node_and(8 + 4)?,
            tag::REFERENCE_EXT => self.node_and(4 + 1)?,
            tag::NEW_REFERENCE_EXT => self.reference(start, 1)?,
            tag::NEWER_REFERENCE_EXT => self.reference(start, 4)?,
            tag::EXPORT_EXT => self.export(start)?,
            tag::NEW_FUN_EXT => self.nested(|reader| reader.fun(start))?,
            tag::FUN_EXT => self.nested(|reader| reader.old_fun(start))?,
            _ => return Err(self.unsupported(start, tag)),
        }
        Ok(Head::Opaque(self.since(start)))
    }

    fn unsupported(&self, start: usize, tag: u8) -> DecodeError {
        let name = match tag {
            tag::ATOM_CACHE_REF => "ATOM_CACHE_REF",
            tag::DIST_HEADER => "a distribution header",
            tag::DIST_FRAG_HEADER => "a distribution fragment",
            tag::LOCAL_EXT => "LOCAL_EXT",
            tag => return self.error_at(start, Kind::UnknownTag(tag)),
        };
        self.error_at(start, Kind::Unsupported { tag, name })
    }

    fn node_and(&mut self, bytes: usize) -> Result<()> {
        self.atom()?;
        self.take(bytes).map(drop)
    }

    fn reference(&mut self, start: usize, creation_bytes: usize) -> Result<()> {
        /// Words that a reference may have since OTP 24.
        const WORDS_MAX: usize = 5;
        let words = self.u16_length()?;
        if words == 0 || words > WORDS_MAX {
            return Err(self.error_at(start, Kind::Malformed("reference")));
        }
        self.node_and(creation_bytes + 4 * words)
    }

    fn export(&mut self, start: usize) -> Result<()> {
        self.atom()?;
        self.atom()?;
        self.admit_one()?;
        match self.head()? {
            // Source text has no other, and neither has any function.
            Head::Integer(0..=255) => Ok(()),
            _ => Err(self.error_at(start, Kind::Malformed("export"))),
        }
    }

    fn fun_integer(&mut self, start: usize) -> Result<()> {
        self.admit_one()?;
        match self.head()? {
            Head::Integer(_) => Ok(()),
            _ => Err(self.error_at(start, Kind::Malformed("fun"))),
        }
    }

    fn nested(&mut self, read: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        self.enter()?;
        read(self)?;
        self.leave();
        Ok(())
    }

    /// Size, arity, uniq, index, number of free variables; module, old index, old uniq, pid;
    /// the free variables. The size counts itself and all that follows.
    fn fun(&mut self, start: usize) -> Result<()> {
        let from = self.position;
        let size = self.u32_length()?;
        self.take(1 + 16 + 4)?;
        let free = self.u32_length()?;
        let free = self.admit(free, 1)?;
        self.atom()?;
        self.fun_integer(start)?;
        self.fun_integer(start)?;
        self.pid(start)?;
        self.skip_each(free)?;
        if self.position - from != size {
            return Err(self.error_at(start, Kind::Malformed("fun")));
        }
        Ok(())
    }

    /// Number of free variables; pid, module, index, uniq; the free variables.
    fn old_fun(&mut self, start: usize) -> Result<()> {
        let free = self.u32_length()?;
        let free = self.admit(free, 1)?;
        self.pid(start)?;
        self.atom()?;
        self.fun_integer(start)?;
        self.fun_integer(start)?;
        self.skip_each(free)
    }

    fn pid(&mut self, start: usize) -> Result<()> {
        match self.u8()? {
            tag::PID_EXT => self.node_and(8 + 1),
            tag::NEW_PID_EXT => self.node_and(8 + 4),
            _ => Err(self.error_at(start, Kind::Malformed("fun"))),
        }
    }
}

fn is_atom(tag: u8) -> bool {
    matches!(
        tag,
        tag::SMALL_ATOM_UTF8_EXT | tag::ATOM_UTF8_EXT | tag::ATOM_EXT | tag::SMALL_ATOM_EXT
    )
}

fn latin1(bytes: &[u8]) -> Cow<'_, str> {
    match from_utf8(bytes) {
        Ok(text) if bytes.is_ascii() => Cow::Borrowed(text),
        _ => bytes.iter().copied().map(char::from).collect(),
    }
}

/// The value, if it fits.
fn small(negative: bool, magnitude: &[u8]) -> Option<i64> {
    let mut bytes = [0; 8];
    let (low, high) = magnitude.split_at_checked(8).unwrap_or((magnitude, &[]));
    if high.iter().any(|byte| *byte != 0) {
        return None;
    }
    bytes[..low.len()].copy_from_slice(low);
    let absolute = u64::from_le_bytes(bytes);
    if negative { 0_i64.checked_sub_unsigned(absolute) } else { absolute.try_into().ok() }
}
