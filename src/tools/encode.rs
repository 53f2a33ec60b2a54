//! `tank encode`: terms in text form in, frames out; and where a text is wrong.
//! It knows nothing of what the terms mean.

use std::fmt::Display;
use std::io::{self, BufWriter, Read, Write};

use erlang_term_format::text::{ParseError, Syntax};
use erlang_term_format::{Term, try_encode_into};

use crate::port::frame::{FRAME_BYTES_MAX, HEADER_BYTES};

/// Bytes read at once.
const READ_BYTES: usize = 64 << 10;

/// What a map of the other language is told.
const ELIXIR_MAP: &str = "`%{` begins a comment, expected a term
  hint: --syntax elixir reads %{name: \"web\"}";

/// Bytes of text that one term may take.
const TEXT_BYTES_MAX: usize = 8 * FRAME_BYTES_MAX;

/// Copies the terms in `input` to `frames`, each as soon as its last line is
/// there. The first that is wrong ends it, and is told to `complaints`. Says
/// whether all was well.
///
/// # Errors
/// Those of reading, and of writing frames.
pub fn encode(
    mut input: impl Read,
    frames: impl Write,
    mut complaints: impl Write,
    syntax: Syntax,
) -> io::Result<bool> {
    let mut frames = BufWriter::new(frames);
    let mut source = Source::new(syntax);
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let count = match input.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            count => count?,
        };
        source.push(&buffer[..count]);
        // A full buffer means that more is waiting: a long term is not read from
        // its beginning for every part of it.
        if count == READ_BYTES && !source.has_doubled() {
            continue;
        }
        let outcome = source.take_terms(count == 0, &mut frames);
        frames.flush()?;
        match outcome? {
            Ok(()) if count == 0 => return Ok(true),
            Ok(()) => {}
            Err(complaint) => {
                // Nobody may be listening; the exit status says it too.
                let _ = complaints.write_all(complaint.as_bytes());
                return Ok(false);
            }
        }
    }
}

/// Text that has been read and not yet been encoded, from the beginning of a
/// line on.
struct Source {
    syntax: Syntax,
    text: Vec<u8>,
    /// How much of the text has been encoded: terms on the same line.
    used: usize,
    /// Lines before the text.
    lines: usize,
    /// How long the text was when it was last looked at.
    seen: usize,
}

impl Source {
    fn new(syntax: Syntax) -> Self {
        Self { syntax, text: Vec::new(), used: 0, lines: 0, seen: 0 }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.text.extend_from_slice(bytes);
    }

    fn has_doubled(&self) -> bool {
        self.text.len() >= 2 * self.seen
    }

    /// Encodes what is complete; with `is_end`, no more will come.
    fn take_terms(
        &mut self,
        is_end: bool,
        frames: &mut impl Write,
    ) -> io::Result<Result<(), String>> {
        let outcome = loop {
            let begin = self.used;
            match self.take_term(is_end) {
                Ok(Some(term)) => match frame(&term) {
                    Ok(bytes) => frames.write_all(&bytes)?,
                    Err(what) => break Err(self.complaint(begin, what)),
                },
                Ok(None) => break Ok(()),
                Err(complaint) => break Err(complaint),
            }
        };
        self.forget();
        Ok(outcome)
    }

    /// The next term, when it is all there.
    fn take_term(&mut self, is_end: bool) -> Result<Option<Term<'static>>, String> {
        let (text, is_text) = self.whole_lines(is_end);
        let not_text = || Err(self.complaint(text.len(), "this is not UTF-8"));
        if let Some(offset) = self.find_elixir_map(text) {
            return Err(self.complaint(offset, ELIXIR_MAP));
        }
        match self.syntax.first(&text[self.used..]) {
            Ok(Some((term, rest))) => {
                self.used = text.len() - rest.len();
                Ok(Some(term))
            }
            Ok(None) if !is_text => not_text(),
            Ok(None) => {
                self.used = text.len();
                Ok(None)
            }
            Err(error) if error.is_incomplete() && !is_text => not_text(),
            Err(error) if error.is_incomplete() && !is_end => self.wait_for_more(),
            Err(error) => Err(self.excerpt(text, error)),
        }
    }

    /// Where a comment in front of the next term looks like a map of Elixir's: nobody would see
    /// that it was not sent. Line by line, since each may arrive alone.
    fn find_elixir_map(&self, text: &str) -> Option<usize> {
        if self.syntax != Syntax::Erlang {
            return None;
        }
        let mut end = self.used;
        for line in text[self.used..].split_inclusive('\n') {
            end += line.len();
            // Dots end the term before.
            let shown = line.trim_start_matches(|each: char| each.is_whitespace() || each == '.');
            if shown.starts_with("%{") {
                return Some(end - shown.len());
            }
            if !shown.is_empty() && !shown.starts_with('%') {
                return None;
            }
        }
        None
    }

    /// The lines that are there to their end, and whether all of them is text:
    /// a line that is not may go on in the middle of a word.
    fn whole_lines(&self, is_end: bool) -> (&str, bool) {
        let newline = self.text.iter().rposition(|&byte| byte == b'\n');
        let end = if is_end { self.text.len() } else { newline.map_or(0, |at| at + 1) };
        let bytes = &self.text[..end];
        match std::str::from_utf8(bytes) {
            Ok(text) => (text, true),
            Err(error) => {
                let text = std::str::from_utf8(&bytes[..error.valid_up_to()]);
                (text.expect("it is valid up to here"), false)
            }
        }
    }

    fn wait_for_more(&self) -> Result<Option<Term<'static>>, String> {
        if self.text.len() <= TEXT_BYTES_MAX {
            return Ok(None);
        }
        let what = format!("a term of more than {TEXT_BYTES_MAX} bytes of text");
        Err(self.complaint(self.used, what))
    }

    /// Lets go of what has been encoded, but for the line that goes on.
    fn forget(&mut self) {
        let line = self.line_start(self.used);
        self.lines += newlines(&self.text[..line]);
        self.text.drain(..line);
        self.used -= line;
        self.seen = self.text.len();
    }

    fn line_start(&self, offset: usize) -> usize {
        self.text[..offset].iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1)
    }

    /// Says what is wrong in the line that it is in.
    fn excerpt(&self, text: &str, mut error: ParseError) -> String {
        let line_start = self.line_start(self.used);
        if error.line == 1 {
            error.column += text[line_start..self.used].chars().count();
        }
        let line = self.lines + newlines(&self.text[..line_start]) + error.line;
        let excerpt = error.excerpt(&text[line_start..]);
        let ParseError { column, message, .. } = &error;
        format!("tank encode: line {line}, column {column}: {message}\n{excerpt}\n")
    }

    /// Says what is wrong, at a byte of the text.
    fn complaint(&self, offset: usize, what: impl Display) -> String {
        let line = self.lines + newlines(&self.text[..offset]) + 1;
        let before = String::from_utf8_lossy(&self.text[self.line_start(offset)..offset]);
        let column = before.chars().count() + 1;
        format!("tank encode: line {line}, column {column}: {what}\n")
    }
}

fn newlines(text: &[u8]) -> usize {
    text.iter().filter(|&&byte| byte == b'\n').count()
}

/// The frame that holds `term`, or what is wrong with that.
fn frame(term: &Term<'_>) -> Result<Vec<u8>, String> {
    let mut frame = vec![0; HEADER_BYTES];
    try_encode_into(term, &mut frame).map_err(|error| error.to_string())?;
    let length = frame.len() - HEADER_BYTES;
    if length > FRAME_BYTES_MAX {
        return Err(format!("a term of {length} bytes, a frame takes {FRAME_BYTES_MAX}"));
    }
    let header = u32::try_from(length).expect("the limit is below 4 GiB").to_be_bytes();
    frame[..HEADER_BYTES].copy_from_slice(&header);
    Ok(frame)
}
