//! `{packet, 4}`: cutting a byte stream into frames and back.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Bytes of a frame's length field.
pub const HEADER_BYTES: usize = 4;

/// Longest frame that is accepted, in bytes without the header.
pub const FRAME_BYTES_MAX: usize = 16 << 20;

/// What the stream held next.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame {
    /// A whole frame, without its header.
    Whole(Bytes),
    /// A frame that claims more than [`FRAME_BYTES_MAX`]; its bytes will be
    /// discarded as they arrive.
    TooLarge {
        /// The claimed length.
        claimed: usize,
    },
}

/// Cuts frames out of a stream. Holds at most one unfinished frame and what
/// arrived behind it.
#[derive(Debug, Default)]
pub struct FrameReader {
    buffer: BytesMut,
    discard: usize,
}

impl FrameReader {
    /// Takes bytes off the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        let dropped = self.discard.min(bytes.len());
        self.discard -= dropped;
        self.buffer.extend_from_slice(&bytes[dropped..]);
    }

    /// The next frame, when there is one.
    pub fn next_frame(&mut self) -> Option<Frame> {
        let header = self.buffer.first_chunk::<HEADER_BYTES>()?;
        let claimed = u32::from_be_bytes(*header) as usize;
        if claimed > FRAME_BYTES_MAX {
            self.buffer.advance(HEADER_BYTES);
            self.skip(claimed);
            return Some(Frame::TooLarge { claimed });
        }
        if self.buffer.len() < HEADER_BYTES + claimed {
            return None;
        }
        self.buffer.advance(HEADER_BYTES);
        Some(Frame::Whole(self.buffer.split_to(claimed).freeze()))
    }

    /// Whether the stream stopped inside a frame.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        !self.buffer.is_empty() || self.discard > 0
    }

    fn skip(&mut self, count: usize) {
        let dropped = count.min(self.buffer.len());
        self.buffer.advance(dropped);
        self.discard = count - dropped;
    }
}

/// Frames on their way out.
#[derive(Debug, Default)]
pub struct FrameWriter {
    buffer: BytesMut,
}

impl FrameWriter {
    /// Appends a frame whose payload `encode` writes.
    pub fn push(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        let mut payload = Vec::with_capacity(128);
        encode(&mut payload);
        let length = u32::try_from(payload.len()).expect("a frame we made is below 4 GiB");
        self.buffer.put_u32(length);
        self.buffer.put_slice(&payload);
    }

    /// Takes back the last `length` bytes that were pushed, headers included.
    pub fn take_back(&mut self, length: usize) -> Bytes {
        self.buffer.split_off(self.buffer.len() - length).freeze()
    }

    /// What is to be written next.
    #[must_use]
    pub fn pending(&self) -> &[u8] {
        &self.buffer
    }

    /// `count` bytes have been written.
    pub fn advance(&mut self, count: usize) {
        self.buffer.advance(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(payload: &[u8]) -> Vec<u8> {
        let mut writer = FrameWriter::default();
        writer.push(|out| out.extend_from_slice(payload));
        writer.pending().to_vec()
    }

    #[test]
    fn a_frame_is_found_however_the_stream_is_cut() {
        let stream = [framed(b"one"), framed(b""), framed(b"three")].concat();
        for cut in 0..=stream.len() {
            let mut reader = FrameReader::default();
            let mut frames = Vec::new();
            for part in [&stream[..cut], &stream[cut..]] {
                reader.push(part);
                while let Some(frame) = reader.next_frame() {
                    frames.push(frame);
                }
            }
            let expected = [&b"one"[..], b"", b"three"]
                .map(|payload| Frame::Whole(Bytes::copy_from_slice(payload)));
            assert_eq!(frames, expected);
            assert!(!reader.is_partial());
        }
    }

    #[test]
    fn an_oversized_frame_is_discarded_and_the_next_one_is_served() {
        let claimed = FRAME_BYTES_MAX + 1;
        let mut reader = FrameReader::default();
        reader.push(&u32::try_from(claimed).unwrap().to_be_bytes());
        assert_eq!(reader.next_frame(), Some(Frame::TooLarge { claimed }));
        let chunk = vec![0; 1 << 20];
        let mut left = claimed;
        while left > 0 {
            let count = left.min(chunk.len());
            reader.push(&chunk[..count]);
            assert_eq!(reader.next_frame(), None);
            left -= count;
        }
        reader.push(&framed(b"next"));
        assert_eq!(reader.next_frame(), Some(Frame::Whole(Bytes::from_static(b"next"))));
    }

    #[test]
    fn a_stream_that_stops_inside_a_frame_is_partial() {
        let mut reader = FrameReader::default();
        reader.push(&framed(b"whole")[..6]);
        assert_eq!(reader.next_frame(), None);
        assert!(reader.is_partial());
    }
}
