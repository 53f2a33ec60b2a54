//! The tools that show frames to a person and take them from one: what each makes of a stream does
//! not depend on how it arrives, and `tank encode` undoes what `tank decode` does.

use std::io::{self, Read};

use erlang_term_format::text::Syntax;
use tank::tools::{decode::decode, encode::encode};

use crate::stream::Stream;

/// Panics if a tool panics on `input`, or does not undo the other.
pub fn holds(input: &[u8]) {
    let Some(stream) = Stream::of(input) else { return };
    for syntax in [Syntax::Erlang, Syntax::Elixir] {
        let shown = outcome(Tool::Decode, syntax, stream.pieces());
        assert_eq!(shown, outcome(Tool::Decode, syntax, vec![&stream.bytes]));
        let framed = outcome(Tool::Encode, syntax, vec![&shown.output]);
        assert!(framed.is_well, "{framed:?} of {shown:?}");
        let again = outcome(Tool::Decode, syntax, vec![&framed.output]);
        assert_eq!(again.output, shown.output, "{framed:?}");

        let typed = outcome(Tool::Encode, syntax, stream.pieces());
        assert_eq!(typed, outcome(Tool::Encode, syntax, vec![&stream.bytes]));
    }
}

#[derive(Clone, Copy)]
enum Tool {
    Decode,
    Encode,
}

/// What a tool has written, and whether all was well. What it says is wrong shows the bytes that
/// were there by then.
#[derive(Debug, PartialEq)]
struct Outcome {
    output: Vec<u8>,
    is_well: bool,
}

fn outcome(tool: Tool, syntax: Syntax, pieces: Vec<&[u8]>) -> Outcome {
    let (mut output, mut complaints) = (Vec::new(), Vec::new());
    let input = Pieces(pieces.into_iter());
    let is_well = match tool {
        Tool::Decode => decode(input, &mut output, &mut complaints, syntax),
        Tool::Encode => encode(input, &mut output, &mut complaints, syntax),
    };
    let is_well = is_well.expect("memory can be written");
    let complaints = String::from_utf8(complaints).expect("text");
    assert_eq!(complaints.is_empty(), is_well, "{complaints}");
    Outcome { output, is_well }
}

/// Gives a piece at a time, as a pipe does.
struct Pieces<'p>(std::vec::IntoIter<&'p [u8]>);

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(piece) = self.0.next() else { return Ok(0) };
        buffer[..piece.len()].copy_from_slice(piece);
        Ok(piece.len())
    }
}
