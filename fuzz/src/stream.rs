//! A byte stream and the ways to cut it, out of one input.
//!
//! The first byte says how the stream is made of the rest, and cut. A length field would have to
//! be right for anything to happen, and a change to what it counts would break it; so most
//! streams are framed here, a frame for each version byte.

/// Bytes as they come off a pipe.
#[derive(Debug)]
pub(crate) struct Stream {
    /// All of them.
    pub(crate) bytes: Vec<u8>,
    seed: u8,
}

impl Stream {
    /// The stream of an input, unless it is empty.
    pub(crate) fn of(input: &[u8]) -> Option<Self> {
        let (&seed, rest) = input.split_first()?;
        let is_raw = seed & 0x80 != 0;
        let bytes = if is_raw { rest.to_vec() } else { framed(rest) };
        Some(Self { bytes, seed })
    }

    /// The same bytes in pieces, as the input says.
    pub(crate) fn pieces(&self) -> Vec<&[u8]> {
        let mut pieces = Vec::new();
        let mut rest = &self.bytes[..];
        let mut state = u32::from(self.seed) + 1;
        while !rest.is_empty() {
            // A linear congruence: from one byte to what holds several frames.
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let length = 1 + (state >> 24) as usize % (1 + usize::from(self.seed & 0x7f));
            let (piece, others) = rest.split_at(length.min(rest.len()));
            pieces.push(piece);
            rest = others;
        }
        pieces
    }
}

/// A frame for each version byte in front of what follows it.
fn framed(payloads: &[u8]) -> Vec<u8> {
    /// What every term begins with.
    const VERSION: u8 = 131;
    let mut stream = Vec::new();
    for payload in payloads.chunk_by(|_, next| *next != VERSION) {
        let length = u32::try_from(payload.len()).expect("an input is short");
        stream.extend_from_slice(&length.to_be_bytes());
        stream.extend_from_slice(payload);
    }
    stream
}
