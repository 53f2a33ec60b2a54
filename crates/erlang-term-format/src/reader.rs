//! The bounded cursor under everything that decodes.
//!
//! Owns the reading of one term's head: its tag, its length, and the content of what is not a
//! container. Every limit is checked here, before whoever asks can allocate by it.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::str::from_utf8;

use crate::decode::read_term;
use crate::error::{DecodeError, DecodeErrorKind as Kind, Step};
use crate::limits::{Limits, NODE_BYTES};
use crate::tag;

/// The error is boxed: it is rare, and what is common shall fit in registers.
pub(crate) type Result<T> = core::result::Result<T, Box<DecodeError>>;

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
#[derive(Debug)]
pub(crate) struct Reader<'b> {
    input: &'b [u8],
    rest: &'b [u8],
    depth_left: usize,
    nodes_left: usize,
    /// In nodes, as everything here; see [`Limits`].
    memory_left: usize,
    nodes_max: usize,
    memory_max: usize,
    depth_max: usize,
    /// Whether what is read has been read before.
    is_again: bool,
    /// Where the keys start of the maps that are being read; see [`crate::seen`].
    pub(crate) key_starts: Vec<usize>,
}

impl<'b> Reader<'b> {
    /// A reader of one term, or of what is to become one.
    pub(crate) fn new(input: &'b [u8], limits: &Limits) -> Result<Self> {
        if input.len() > limits.bytes_max {
            let (bytes, max) = (input.len(), limits.bytes_max);
            return Err(DecodeError::new(0, Kind::TooLarge { bytes, max }));
        }
        let memory_max = Limits::memory(input.len());
        let mut reader = Self::within(input, limits.nodes_max, memory_max, limits.depth());
        reader.spend(1)?;
        Ok(reader)
    }

    /// A reader of one term that was made or checked by this crate.
    pub(crate) fn admitted(input: &'b [u8]) -> Self {
        Self::within(input, usize::MAX, usize::MAX, Limits::DEPTH_CEILING)
    }

    fn within(input: &'b [u8], nodes_max: usize, memory_max: usize, depth_max: usize) -> Self {
        Self {
            input,
            rest: input,
            depth_left: depth_max,
            nodes_left: nodes_max,
            memory_left: memory_max,
            nodes_max,
            memory_max,
            depth_max,
            is_again: false,
            key_starts: Vec::new(),
        }
    }

    /// A reader of other bytes with what this one has left.
    pub(crate) fn instead<'o>(&self, input: &'o [u8]) -> Reader<'o> {
        Reader {
            input,
            rest: input,
            depth_left: self.depth_max,
            nodes_left: self.nodes_left,
            memory_left: self.memory_left,
            nodes_max: self.nodes_max,
            memory_max: self.memory_max,
            depth_max: self.depth_max,
            is_again: false,
            key_starts: Vec::new(),
        }
    }

    /// A reader of what was read before, at `start`. Costs nothing: nothing there is new.
    pub(crate) fn again(&self, start: usize) -> Self {
        let mut again = self.instead(self.input);
        again.rest = &self.input[start..];
        again.is_again = true;
        again
    }

    /// Whether maps have been searched for keys that are there twice. If keys were searched each
    /// time that they are looked at, those of maps in keys of maps would be without end.
    pub(crate) fn is_again(&self) -> bool {
        self.is_again
    }

    #[inline]
    pub(crate) fn position(&self) -> usize {
        self.input.len() - self.rest.len()
    }

    /// The bytes from `start` to here.
    #[inline]
    pub(crate) fn since(&self, start: usize) -> &'b [u8] {
        &self.input[start..self.position()]
    }

    /// The bytes from `start` to the end.
    pub(crate) fn from(&self, start: usize) -> &'b [u8] {
        &self.input[start..]
    }

    /// The step of a path to what a map holds at the key that starts there.
    #[cold]
    pub(crate) fn key_step(&self, start: usize) -> Step {
        match read_term(&mut self.again(start)) {
            Ok(key) => key.step(),
            Err(_) => Step::key(&"?"),
        }
    }

    #[cold]
    pub(crate) fn error(&self, kind: Kind) -> Box<DecodeError> {
        DecodeError::new(self.position(), kind)
    }

    /// One level down; [`leave`](Self::leave) goes up again.
    #[inline]
    pub(crate) fn enter(&mut self) -> Result<()> {
        let Some(depth_left) = self.depth_left.checked_sub(1) else {
            return Err(self.error(Kind::TooDeep { max: self.depth_max }));
        };
        self.depth_left = depth_left;
        Ok(())
    }

    #[inline]
    pub(crate) fn leave(&mut self) {
        self.depth_left += 1;
    }

    /// Takes so many terms from both budgets.
    #[inline]
    pub(crate) fn spend(&mut self, nodes: usize) -> Result<()> {
        self.spend_work(nodes)?;
        self.spend_memory(nodes)
    }

    /// Takes from the budget of terms what looking at so many costs.
    #[inline]
    pub(crate) fn spend_work(&mut self, nodes: usize) -> Result<()> {
        let Some(nodes_left) = self.nodes_left.checked_sub(nodes) else {
            return Err(self.error(Kind::TooManyNodes { max: self.nodes_max }));
        };
        self.nodes_left = nodes_left;
        Ok(())
    }

    /// Takes from the budget of memory what so many terms need.
    #[inline]
    pub(crate) fn spend_memory(&mut self, nodes: usize) -> Result<()> {
        let Some(memory_left) = self.memory_left.checked_sub(nodes) else {
            let max = self.memory_max.saturating_mul(NODE_BYTES);
            return Err(self.error(Kind::TooMuchMemory { max }));
        };
        self.memory_left = memory_left;
        Ok(())
    }

    /// Gives back what was spent on memory that is free again.
    #[inline]
    pub(crate) fn free_memory(&mut self, nodes: usize) {
        self.memory_left += nodes;
    }

    /// The end of the input must be here.
    pub(crate) fn finish(&self) -> Result<()> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(self.error(Kind::TrailingBytes(left))),
        }
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let Some((bytes, rest)) = self.rest.split_first_chunk() else {
            return Err(self.ended());
        };
        self.rest = rest;
        Ok(*bytes)
    }

    #[cold]
    fn ended(&self) -> Box<DecodeError> {
        DecodeError::new(self.input.len(), Kind::UnexpectedEnd)
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8> {
        self.array().map(|[byte]| byte)
    }

    fn u16_length(&mut self) -> Result<usize> {
        self.array().map(|bytes| u16::from_be_bytes(bytes).into())
    }

    #[inline]
    pub(crate) fn u32_length(&mut self) -> Result<usize> {
        let length = self.array().map(u32::from_be_bytes)?;
        Ok(length.try_into().unwrap_or(usize::MAX))
    }

    #[inline]
    fn u8_length(&mut self) -> Result<usize> {
        self.u8().map(usize::from)
    }

    #[inline]
    fn take(&mut self, length: usize) -> Result<&'b [u8]> {
        let Some((taken, rest)) = self.rest.split_at_checked(length) else {
            let (claimed, left) = (length, self.rest.len());
            return Err(self.error(Kind::LengthBeyondEnd { claimed, left }));
        };
        self.rest = rest;
        Ok(taken)
    }

    /// All that is left.
    pub(crate) fn rest(&self) -> &'b [u8] {
        self.rest
    }

    /// Admits `count` elements of `terms_each`, which take a byte each or more, and charges for
    /// them.
    #[inline]
    fn admit(&mut self, count: usize, terms_each: usize) -> Result<usize> {
        let left = self.rest.len();
        if count > left / terms_each {
            let claimed = count;
            return Err(self.error(Kind::LengthBeyondEnd { claimed, left }));
        }
        self.spend(count * terms_each)?;
        Ok(count)
    }

    /// The tag of the next term, not consumed.
    #[inline]
    pub(crate) fn peek(&self) -> Result<u8> {
        self.rest.first().copied().ok_or_else(|| self.ended())
    }

    /// Reads an integer of one or four bytes, if that is next. Those of other sizes are left to
    /// [`head`](Self::head), as is everything that the next few do not take.
    #[inline]
    pub(crate) fn short_integer(&mut self) -> Option<i64> {
        match self.rest {
            [tag::SMALL_INTEGER_EXT, value, rest @ ..] => {
                self.rest = rest;
                Some((*value).into())
            }
            [tag::INTEGER_EXT, a, b, c, d, rest @ ..] => {
                self.rest = rest;
                Some(i32::from_be_bytes([*a, *b, *c, *d]).into())
            }
            _ => None,
        }
    }

    /// Reads the end of a proper list, if that is next.
    #[inline]
    pub(crate) fn nil(&mut self) -> bool {
        let [tag::NIL_EXT, rest @ ..] = self.rest else { return false };
        self.rest = rest;
        true
    }

    /// Reads a binary, if that is next.
    #[inline]
    pub(crate) fn binary(&mut self) -> Option<&'b [u8]> {
        let [tag::BINARY_EXT, a, b, c, d, rest @ ..] = self.rest else { return None };
        let length = u32::from_be_bytes([*a, *b, *c, *d]).try_into().ok()?;
        let (bytes, rest) = rest.split_at_checked(length)?;
        self.rest = rest;
        Some(bytes)
    }

    /// Reads an atom, if that is next, is `text`, and is written as since OTP 26.
    #[inline]
    pub(crate) fn is_atom(&mut self, text: &str) -> bool {
        let [tag::SMALL_ATOM_UTF8_EXT, length, rest @ ..] = self.rest else { return false };
        match rest.split_at_checked((*length).into()) {
            Some((found, rest)) if is_same(found, text.as_bytes()) => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    /// Reads an atom, if that is next and one of `names`; which one.
    pub(crate) fn atom_among(&mut self, names: &[&str]) -> Option<usize> {
        let (tag, text, rest) = atom_parts(self.rest)?;
        let index = names.iter().position(|name| is_same(name.as_bytes(), text))?;
        // The same bytes are another text in Latin-1, unless they are ASCII.
        if is_latin1(tag) && !text.is_ascii() {
            return None;
        }
        self.rest = rest;
        Some(index)
    }

    /// As [`atom_among`](Self::atom_among), for atoms that are written as nobody writes them.
    #[cold]
    pub(crate) fn odd_atom_among(&mut self, names: &[&str]) -> Result<Option<usize>> {
        let Head::Atom(text) = self.again(self.position()).head()? else { return Ok(None) };
        let index = names.iter().position(|name| *name == text);
        if index.is_some() {
            self.skip()?;
        }
        Ok(index)
    }

    /// Whether the next term may be an atom; a list of no elements may be, by its tail.
    #[inline]
    pub(crate) fn is_at_atom(&self) -> Result<bool> {
        self.peek().map(|tag| is_atom(tag) || tag == tag::LIST_EXT)
    }

    /// Reads the head of the next term.
    #[inline]
    pub(crate) fn head(&mut self) -> Result<Head<'b>> {
        let start = self.position();
        let tag = self.u8()?;
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
            tag::STRING_EXT => self.string_after_tag().map(|bytes| match bytes {
                [] => Head::Nil,
                bytes => Head::Bytes(bytes),
            }),
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
                finite(start, value)
            }
            tag::FLOAT_EXT => self.text_float(start),
            tag::BIT_BINARY_EXT => self.bits(start),
            _ if is_atom(tag) => self.atom_of(start, tag).map(Head::Atom),
            _ => self.opaque(start, tag),
        }
    }

    /// A list of no elements and a tail is that tail.
    fn list(&mut self) -> Result<Head<'b>> {
        match self.list_length_after_tag()? {
            0 => {
                // Each costs a node, or a chain of them would recurse for free.
                self.spend(1)?;
                self.enter()?;
                let head = self.head()?;
                self.leave();
                Ok(head)
            }
            length => Ok(Head::List(length)),
        }
    }

    fn list_length_after_tag(&mut self) -> Result<usize> {
        let length = self.u32_length()?;
        self.admit(length, 1)
    }

    /// Reads tag and length of a list, of which the tag has been seen.
    pub(crate) fn list_length(&mut self) -> Result<usize> {
        self.u8()?;
        self.list_length_after_tag()
    }

    fn string_after_tag(&mut self) -> Result<&'b [u8]> {
        let length = self.u16_length()?;
        let bytes = self.take(length)?;
        self.spend(length)?;
        Ok(bytes)
    }

    /// Reads a list of small integers, of which the tag has been seen.
    pub(crate) fn string(&mut self) -> Result<&'b [u8]> {
        self.u8()?;
        self.string_after_tag()
    }

    fn big(&mut self, tag: u8) -> Result<Head<'b>> {
        let length = match tag {
            tag::SMALL_BIG_EXT => self.u8_length()?,
            _ => self.u32_length()?,
        };
        let negative = match self.u8()? {
            0 => false,
            1 => true,
            sign => return Err(DecodeError::new(self.position() - 1, Kind::Sign(sign))),
        };
        let magnitude = self.take(length)?;
        Ok(small(negative, magnitude).map_or(Head::Big(negative, magnitude), Head::Integer))
    }

    /// What `io:format("~.20e")` writes, in 31 bytes of which those behind it are zero.
    fn text_float(&mut self, start: usize) -> Result<Head<'b>> {
        let text: [u8; 31] = self.array()?;
        match float_of(&text) {
            Some(value) => finite(start, value),
            None => Err(DecodeError::new(start, Kind::Float)),
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
            _ => Err(DecodeError::new(start, Kind::LastBits(last_bits))),
        }
    }

    /// Reads an atom where nothing else may be.
    fn atom(&mut self) -> Result<Cow<'b, str>> {
        let start = self.position();
        match self.u8()? {
            tag if is_atom(tag) => self.atom_of(start, tag),
            tag::ATOM_CACHE_REF => Err(unsupported(start, tag::ATOM_CACHE_REF)),
            tag => Err(DecodeError::new(start, Kind::AtomExpected(tag))),
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
                .map_err(|_| DecodeError::new(start, Kind::AtomEncoding))?,
        };
        let long =
            length > tag::ATOM_CHARACTERS_MAX && text.chars().count() > tag::ATOM_CHARACTERS_MAX;
        if long {
            return Err(DecodeError::new(start, Kind::AtomTooLong));
        }
        Ok(text)
    }

    /// Checks a pid, port, reference, fun or export, and gives its bytes.
    ///
    /// A node refuses more than this of what claims to be from itself, by how many processes and
    /// ports it may have and how long its references are: nobody else can know.
    fn opaque(&mut self, start: usize, tag: u8) -> Result<Head<'b>> {
        match tag {
            tag::PID_EXT | tag::NEW_PID_EXT => self.pid_after_tag(start, tag)?,
            tag::PORT_EXT => {
                self.node_and(4)?;
                self.old_creation(start, "port")?;
            }
            tag::NEW_PORT_EXT => self.node_and(4 + 4)?,
            tag::V4_PORT_EXT => self.node_and(8 + 4)?,
            tag::REFERENCE_EXT => {
                self.atom()?;
                self.old_reference_word(start)?;
                self.old_creation(start, "reference")?;
            }
            tag::NEW_REFERENCE_EXT => {
                let words = self.reference_words(start)?;
                self.atom()?;
                self.old_creation(start, "reference")?;
                self.old_reference_word(start)?;
                self.take(4 * (words - 1))?;
            }
            tag::NEWER_REFERENCE_EXT => {
                let words = self.reference_words(start)?;
                self.node_and(4 + 4 * words)?;
            }
            tag::EXPORT_EXT => self.export(start)?,
            tag::NEW_FUN_EXT => self.nested(|reader| reader.fun(start))?,
            tag::FUN_EXT => self.nested(|reader| reader.old_fun(start))?,
            _ => return Err(unsupported(start, tag)),
        }
        Ok(Head::Opaque(self.since(start)))
    }

    fn node_and(&mut self, bytes: usize) -> Result<()> {
        self.atom()?;
        self.take(bytes).map(drop)
    }

    fn pid_after_tag(&mut self, start: usize, tag: u8) -> Result<()> {
        self.node_and(8)?;
        match tag {
            tag::PID_EXT => self.old_creation(start, "pid"),
            _ => self.take(4).map(drop),
        }
    }

    /// A creation was two bits before it was 32.
    fn old_creation(&mut self, start: usize, whose: &'static str) -> Result<()> {
        match self.u8()? {
            0..=3 => Ok(()),
            _ => Err(DecodeError::new(start, Kind::Malformed(whose))),
        }
    }

    /// The first word of a reference was 18 bits before it was 32.
    fn old_reference_word(&mut self, start: usize) -> Result<()> {
        match self.array().map(u32::from_be_bytes)? {
            0..0x4_0000 => Ok(()),
            _ => Err(DecodeError::new(start, Kind::Malformed("reference"))),
        }
    }

    fn reference_words(&mut self, start: usize) -> Result<usize> {
        match self.u16_length()? {
            // As many as a reference may have since OTP 24.
            words @ 1..=5 => Ok(words),
            _ => Err(DecodeError::new(start, Kind::Malformed("reference"))),
        }
    }

    fn export(&mut self, start: usize) -> Result<()> {
        self.atom()?;
        self.atom()?;
        self.spend(1)?;
        match self.head()? {
            // Source text has no other, and neither has any function.
            Head::Integer(0..=255) => Ok(()),
            _ => Err(DecodeError::new(start, Kind::Malformed("export"))),
        }
    }

    /// As wide as what a node keeps in a word, which is all that it takes there.
    fn fun_integer(&mut self, start: usize) -> Result<()> {
        const END: i64 = 1 << 59;
        self.spend(1)?;
        match self.head()? {
            Head::Integer(value) if (-END..END).contains(&value) => Ok(()),
            _ => Err(DecodeError::new(start, Kind::Malformed("fun"))),
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
        /// They are arguments too, behind those of the call.
        const FREE_MAX: usize = 255;
        let from = self.position();
        let size = self.u32_length()?;
        self.take(1 + 16 + 4)?;
        let free = self.u32_length()?;
        let free = self.admit(free, 1)?;
        self.atom()?;
        self.fun_integer(start)?;
        self.fun_integer(start)?;
        self.pid(start)?;
        self.skip_each(0, free)?;
        if free > FREE_MAX || self.position() - from != size {
            return Err(DecodeError::new(start, Kind::Malformed("fun")));
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
        self.skip_each(0, free)
    }

    fn pid(&mut self, start: usize) -> Result<()> {
        match self.u8()? {
            tag @ (tag::PID_EXT | tag::NEW_PID_EXT) => self.pid_after_tag(start, tag),
            _ => Err(DecodeError::new(start, Kind::Malformed("fun"))),
        }
    }
}

/// Digits, a point, digits and perhaps an exponent; then a zero.
fn float_of(text: &[u8]) -> Option<f64> {
    let end = text.iter().position(|byte| *byte == 0)?;
    let text = from_utf8(&text[..end]).ok()?;
    let (whole, fraction) = text.split_once('.')?;
    let digit = |each: char| each.is_ascii_digit();
    // What else `parse` takes has no digit in one of these places.
    if !whole.ends_with(digit) || !fraction.starts_with(digit) {
        return None;
    }
    text.parse().ok()
}

fn finite<'b>(start: usize, value: f64) -> Result<Head<'b>> {
    if value.is_finite() {
        Ok(Head::Float(value))
    } else {
        Err(DecodeError::new(start, Kind::Float))
    }
}

fn unsupported(start: usize, tag: u8) -> Box<DecodeError> {
    let name = match tag {
        tag::ATOM_CACHE_REF => "ATOM_CACHE_REF",
        tag::DIST_HEADER => "a distribution header",
        tag::DIST_FRAG_HEADER => "a distribution fragment",
        tag::LOCAL_EXT => "LOCAL_EXT",
        tag => return DecodeError::new(start, Kind::UnknownTag(tag)),
    };
    DecodeError::new(start, Kind::Unsupported { tag, name })
}

#[inline]
fn is_atom(tag: u8) -> bool {
    matches!(
        tag,
        tag::SMALL_ATOM_UTF8_EXT | tag::ATOM_UTF8_EXT | tag::ATOM_EXT | tag::SMALL_ATOM_EXT
    )
}

pub(crate) fn is_latin1(tag: u8) -> bool {
    matches!(tag, tag::ATOM_EXT | tag::SMALL_ATOM_EXT)
}

/// Tag and text of an atom at the front of `bytes`, and what follows it.
#[inline]
pub(crate) fn atom_parts(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, length, rest) = match bytes {
        [tag @ (tag::SMALL_ATOM_UTF8_EXT | tag::SMALL_ATOM_EXT), length, rest @ ..] => {
            (*tag, usize::from(*length), rest)
        }
        [tag @ (tag::ATOM_UTF8_EXT | tag::ATOM_EXT), high, low, rest @ ..] => {
            (*tag, u16::from_be_bytes([*high, *low]).into(), rest)
        }
        _ => return None,
    };
    let (text, rest) = rest.split_at_checked(length)?;
    Some((tag, text, rest))
}

/// What `==` says, without a call for what is as short as names are.
#[inline]
fn is_same(left: &[u8], right: &[u8]) -> bool {
    fn ends<const N: usize>(bytes: &[u8]) -> Option<(&[u8; N], &[u8; N])> {
        Some((bytes.first_chunk()?, bytes.last_chunk()?))
    }
    left.len() == right.len()
        && match left.len() {
            0..4 => left.iter().eq(right),
            4..8 => ends::<4>(left) == ends::<4>(right),
            8..=16 => ends::<8>(left) == ends::<8>(right),
            _ => left == right,
        }
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
