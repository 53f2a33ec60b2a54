//! Frames: 4 bytes of length, one term. Owns no connection.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest term in a frame, in bytes. More than the kernel takes as
/// arguments and environment of one program.
pub const TERM_BYTES_MAX: usize = 4 << 20;

/// A connection said something that is no frame of this protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length is beyond [`TERM_BYTES_MAX`].
    #[error("a frame of {0} bytes is too long")]
    TooLong(usize),
    /// The bytes are not a term, or not one that is expected.
    #[error("malformed frame: {0}")]
    Malformed(String),
}

/// A message as one frame.
///
/// # Panics
///
/// Never, for the types of [`crate::protocol`]: they all are terms.
#[must_use]
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    let term = erlang_term_format::to_vec(message).expect("the protocol's types are terms");
    let length = u32::try_from(term.len()).expect("a message is shorter than 4 GiB");
    let mut frame = Vec::with_capacity(4 + term.len());
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&term);
    frame
}

/// Makes messages of bytes as they arrive. Holds no more than was received.
#[derive(Debug, Default)]
pub struct Decoder {
    received: Vec<u8>,
}

impl Decoder {
    /// Adds bytes that were received.
    pub fn push(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
    }

    /// The next whole message, if there is one.
    ///
    /// # Errors
    ///
    /// The connection is of no more use.
    pub fn decode<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        let Some(term) = self.next_term()? else { return Ok(None) };
        let message = erlang_term_format::from_slice(&term);
        message.map(Some).map_err(|error| FrameError::Malformed(error.to_string()))
    }

    /// The bytes of the next whole term, if there is one, for who looks before
    /// reading it as a message.
    ///
    /// # Errors
    ///
    /// The connection is of no more use.
    pub fn next_term(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        let Some((head, rest)) = self.received.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*head) as usize;
        if length > TERM_BYTES_MAX {
            return Err(FrameError::TooLong(length));
        }
        let Some(term) = rest.get(..length) else {
            return Ok(None);
        };
        let term = term.to_vec();
        // Not `drain`: a launch is large, and its memory is not needed again.
        self.received = rest[length..].to_vec();
        Ok(Some(term))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ToShim;

    #[test]
    fn messages_come_out_however_they_are_cut() {
        let frames = [encode(&ToShim::Kill), encode(&ToShim::RunUntil(None))].concat();
        for cut in 0..=frames.len() {
            let mut decoder = Decoder::default();
            let mut messages: Vec<ToShim> = Vec::new();
            for part in [&frames[..cut], &frames[cut..]] {
                decoder.push(part);
                while let Some(message) = decoder.decode().unwrap() {
                    messages.push(message);
                }
            }
            assert_eq!(messages, [ToShim::Kill, ToShim::RunUntil(None)], "cut at {cut}");
        }
    }

    #[test]
    fn a_long_claim_is_refused_before_it_is_received() {
        let mut decoder = Decoder::default();
        decoder.push(&u32::MAX.to_be_bytes());
        let error = decoder.decode::<ToShim>().unwrap_err();
        assert_eq!(error, FrameError::TooLong(u32::MAX as usize));
    }

    #[test]
    fn a_term_of_another_shape_is_malformed() {
        let mut decoder = Decoder::default();
        decoder.push(&encode(&"kill"));
        assert!(matches!(decoder.decode::<ToShim>(), Err(FrameError::Malformed(_))));
    }
}
