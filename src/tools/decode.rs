//! `tank decode`: frames in, terms in text form out, a line each; and what is
//! wrong with a stream that is broken, and where.
//!
//! It goes on after what is broken for as long as it can tell where the next
//! frame begins. It knows nothing of what the terms mean.

use std::fmt::Display;
use std::io::{self, BufWriter, Read, Write};
use std::ops::ControlFlow;

use erlang_term_format::text::Syntax;
use erlang_term_format::{DecodeError, Limits, decode_with};

use super::hexdump;
use crate::port::frame::{FRAME_BYTES_MAX, HEADER_BYTES};

/// Bytes read at once.
const READ_BYTES: usize = 64 << 10;

/// Bytes at the beginning of what cannot be a frame that say what it is.
const GLANCE_BYTES: usize = 32;

/// Whatever fits a frame is shown, also what the port program would refuse.
const LIMITS: Limits = Limits {
    bytes_max: FRAME_BYTES_MAX,
    depth_max: Limits::DEPTH_CEILING,
    nodes_max: FRAME_BYTES_MAX,
};

/// Copies what `input` holds to `terms`, and what is wrong with it to
/// `complaints`. Terms are written as soon as their frames are there. Says
/// whether all was well.
///
/// # Errors
/// Those of reading, and of writing terms.
pub fn decode(
    mut input: impl Read,
    terms: impl Write,
    mut complaints: impl Write,
    syntax: Syntax,
) -> io::Result<bool> {
    let mut terms = BufWriter::new(terms);
    let mut stream = Stream { syntax, ..Stream::default() };
    let mut buffer = vec![0; READ_BYTES];
    let mut is_well = true;
    loop {
        let count = match input.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            count => count?,
        };
        stream.push(&buffer[..count]);
        let is_end = count == 0;
        while let Some(found) = stream.next(is_end) {
            match found {
                Ok(line) => writeln!(terms, "{line}")?,
                Err(complaint) => {
                    is_well = false;
                    // What came before is seen before.
                    terms.flush()?;
                    // Nobody may be listening; the exit status says it too.
                    let _ = complaints.write_all(complaint.as_bytes());
                }
            }
        }
        terms.flush()?;
        if is_end {
            return Ok(is_well);
        }
    }
}

/// What has been read and not yet told.
#[derive(Default)]
struct Stream {
    syntax: Syntax,
    buffer: Vec<u8>,
    /// How much of the buffer has been told.
    used: usize,
    /// Where in the stream the buffer begins.
    origin: u64,
    /// Frames that have begun.
    frames: u64,
    skipping: Skipping,
}

/// What is passed over without another word.
#[derive(Clone, Copy, Default)]
enum Skipping {
    #[default]
    Nothing,
    /// The rest of a frame that is too long: that many bytes.
    Frame(u64),
    /// Text, which ends where a frame can begin: at a zero.
    Text,
}

/// A line of text, or a complaint of several.
type Found = Result<String, String>;

impl Stream {
    fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.used);
        self.origin += self.used as u64;
        self.used = 0;
        self.buffer.extend_from_slice(bytes);
    }

    fn rest(&self) -> &[u8] {
        &self.buffer[self.used..]
    }

    /// Where in the stream the next byte is.
    fn offset(&self) -> u64 {
        self.origin + self.used as u64
    }

    /// What can be told of the stream so far; with `is_end`, no more will come.
    fn next(&mut self, is_end: bool) -> Option<Found> {
        if let ControlFlow::Break(complaint) = self.skip(is_end) {
            return complaint.map(Err);
        }
        let is_text = looks_like_text(self.rest(), is_end)?;
        if is_text {
            return Some(Err(self.take_text()));
        }
        let Some(header) = self.rest().first_chunk::<HEADER_BYTES>() else {
            return is_end.then(|| Err(self.take_partial("a frame's length".to_owned())));
        };
        let claimed = u32::from_be_bytes(*header) as usize;
        if claimed > FRAME_BYTES_MAX {
            return Some(Err(self.take_too_long(claimed)));
        }
        if self.rest().len() >= HEADER_BYTES + claimed {
            return Some(self.take_frame(claimed));
        }
        is_end.then(|| Err(self.take_partial(format!("a frame of {claimed} bytes"))))
    }

    /// Passes over what is to be skipped. Breaks when that is all there is.
    fn skip(&mut self, is_end: bool) -> ControlFlow<Option<String>> {
        let (skipped, skipping) = match self.skipping {
            Skipping::Nothing => (0, Skipping::Nothing),
            Skipping::Text => match self.rest().iter().position(|&byte| byte == 0) {
                Some(zero) => (zero, Skipping::Nothing),
                None => (self.rest().len(), Skipping::Text),
            },
            Skipping::Frame(left) => {
                let skipped = self.rest().len().min(usize::try_from(left).unwrap_or(usize::MAX));
                match left - skipped as u64 {
                    0 => (skipped, Skipping::Nothing),
                    left => (skipped, Skipping::Frame(left)),
                }
            }
        };
        self.used += skipped;
        self.skipping = skipping;
        match skipping {
            Skipping::Frame(left) if is_end => {
                self.skipping = Skipping::Nothing;
                ControlFlow::Break(Some(format!(
                    "tank decode: frame {}: the stream ends at byte {}, {left} bytes before the \
                     frame does\n",
                    self.frames,
                    self.offset()
                )))
            }
            _ if self.rest().is_empty() => ControlFlow::Break(None),
            _ => ControlFlow::Continue(()),
        }
    }

    fn take_frame(&mut self, length: usize) -> Found {
        self.frames += 1;
        let frame = &self.rest()[..HEADER_BYTES + length];
        let payload = &frame[HEADER_BYTES..];
        let found = match decode_with(payload, &LIMITS) {
            Ok(term) => Ok(self.syntax.print(&term).to_string()),
            Err(error) => Err(self.broken(frame, error)),
        };
        self.used += HEADER_BYTES + length;
        found
    }

    fn broken(&self, frame: &[u8], error: DecodeError) -> String {
        let DecodeError { kind, offset: inside, .. } = error;
        let start = self.offset();
        let frame_offset = HEADER_BYTES + inside;
        if frame_offset > frame.len() {
            // Only what was inflated is longer than the frame.
            let what = format!("{kind} at byte {inside} of what the frame inflates to");
            return self.complaint(&what, frame, HEADER_BYTES);
        }
        let in_stream = start + frame_offset as u64;
        let what = format!("{kind} at byte {inside} of the frame, byte {in_stream} of the stream");
        self.complaint(&what, frame, frame_offset)
    }

    fn take_too_long(&mut self, claimed: usize) -> String {
        self.frames += 1;
        let what =
            format!("a length of {claimed} bytes, the limit is {FRAME_BYTES_MAX}: skipping them");
        let complaint = self.complaint(&what, self.glance(), 0);
        self.used += HEADER_BYTES;
        self.skipping = Skipping::Frame(claimed as u64);
        complaint
    }

    fn take_partial(&mut self, whole: String) -> String {
        self.frames += 1;
        let rest = self.rest();
        let have = rest.len().saturating_sub(HEADER_BYTES);
        let have = if rest.len() < HEADER_BYTES { rest.len() } else { have };
        let what = format!(
            "the stream ends at byte {}, {have} bytes into {whole}",
            self.offset() + rest.len() as u64
        );
        let complaint = self.complaint(&what, rest, rest.len());
        self.used = self.buffer.len();
        complaint
    }

    /// Says that text is where a frame should begin: somebody has printed to
    /// the pipe.
    fn take_text(&mut self) -> String {
        let glance = self.glance();
        let end = glance.iter().position(|&byte| byte == 0).unwrap_or(glance.len());
        let text = String::from_utf8_lossy(&glance[..end]);
        let complaint = format!(
            "tank decode: byte {}, after frame {}: this looks like text, not frames: {text:?}\n{}  \
             hint: something prints to the pipe; going on at the next zero byte\n",
            self.offset(),
            self.frames,
            hexdump::around(glance, self.offset(), 0),
        );
        self.skipping = Skipping::Text;
        complaint
    }

    fn glance(&self) -> &[u8] {
        &self.rest()[..self.rest().len().min(GLANCE_BYTES)]
    }

    fn complaint(&self, what: impl Display, bytes: &[u8], mark: usize) -> String {
        let dump = hexdump::around(bytes, self.offset(), mark);
        format!("tank decode: frame {}: {what}\n{dump}", self.frames)
    }
}

/// Whether text is where the length of a frame should be; `None` when that
/// cannot be said yet. No length of a frame that fits the limit is text: it
/// begins with a zero.
fn looks_like_text(rest: &[u8], is_end: bool) -> Option<bool> {
    let is_text = |byte: &u8| matches!(byte, b' '..=b'~' | b'\t' | b'\n' | b'\r' | 0x1b | 0x80..);
    let known = rest.len().min(HEADER_BYTES);
    // A word shorter than a length is followed by the zero of the next one.
    let word = rest[..known].iter().take_while(|&&byte| byte != 0).count();
    let is_cut = known < HEADER_BYTES && word == known && !is_end;
    match rest.first() {
        None => Some(false),
        Some(0..=8) => Some(false),
        Some(_) if is_cut => None,
        Some(first) => Some(*first < 0x80 && rest[..word].iter().all(is_text)),
    }
}
