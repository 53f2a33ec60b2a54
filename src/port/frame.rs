//! `{packet, 4}`: cutting a byte stream into frames and back.

use bytes::{Buf, Bytes, BytesMut};

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

/// Bytes beyond which a frame gets memory of its own as soon as its length is
/// known, to be read into directly. Also how much is read at once of all others.
const LONG_BYTES: usize = 64 << 10;

/// Cuts frames out of a stream. Holds at most one unfinished frame and what
/// arrived behind it.
#[derive(Debug, Default)]
pub struct FrameReader {
    buffer: BytesMut,
    long: Option<LongFrame>,
    discard: usize,
    /// Where reads of unknown content go; empty between them.
    landing: Vec<u8>,
}

/// The beginning of a frame. Nothing is in the reader's buffer meanwhile.
#[derive(Debug)]
struct LongFrame {
    content: Vec<u8>,
    length: usize,
}

impl FrameReader {
    /// Takes off the stream what `read` appends within the room of the `Vec`
    /// that it is given.
    pub fn fill<T>(&mut self, read: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        if let Some(long) = &mut self.long
            && long.content.len() < long.length
        {
            let result = read(&mut long.content);
            // The allocator may have given more room than was asked for.
            let behind = long.content.split_off(long.length.min(long.content.len()));
            self.buffer.extend_from_slice(&behind);
            return result;
        }
        let mut landing = std::mem::take(&mut self.landing);
        landing.reserve(LONG_BYTES);
        let result = read(&mut landing);
        self.push(&landing);
        landing.clear();
        self.landing = landing;
        result
    }

    /// Takes bytes off the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        let dropped = self.discard.min(bytes.len());
        self.discard -= dropped;
        let mut bytes = &bytes[dropped..];
        if let Some(long) = &mut self.long {
            let missing = long.length - long.content.len();
            let (of_it, behind) = bytes.split_at(missing.min(bytes.len()));
            long.content.extend_from_slice(of_it);
            bytes = behind;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next frame, when there is one.
    pub fn next_frame(&mut self) -> Option<Frame> {
        if let Some(long) = &self.long {
            if long.content.len() < long.length {
                return None;
            }
            return self.long.take().map(|long| Frame::Whole(long.content.into()));
        }
        let header = self.buffer.first_chunk::<HEADER_BYTES>()?;
        let claimed = u32::from_be_bytes(*header) as usize;
        if claimed > FRAME_BYTES_MAX {
            self.buffer.advance(HEADER_BYTES);
            self.skip(claimed);
            return Some(Frame::TooLarge { claimed });
        }
        if self.buffer.len() >= HEADER_BYTES + claimed {
            self.buffer.advance(HEADER_BYTES);
            return Some(Frame::Whole(self.buffer.split_to(claimed).freeze()));
        }
        if claimed > LONG_BYTES {
            self.buffer.advance(HEADER_BYTES);
            let mut content = Vec::with_capacity(claimed);
            content.extend_from_slice(&self.buffer);
            self.buffer.clear();
            self.long = Some(LongFrame { content, length: claimed });
        }
        None
    }

    /// Whether [`Self::next_frame`] has one to give.
    #[must_use]
    pub fn has_frame(&self) -> bool {
        if let Some(long) = &self.long {
            return long.content.len() == long.length;
        }
        self.buffer.first_chunk::<HEADER_BYTES>().is_some_and(|header| {
            let claimed = u32::from_be_bytes(*header) as usize;
            claimed > FRAME_BYTES_MAX || self.buffer.len() >= HEADER_BYTES + claimed
        })
    }

    /// Whether the stream stopped inside a frame.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        !self.buffer.is_empty() || self.long.is_some() || self.discard > 0
    }

    fn skip(&mut self, count: usize) {
        let dropped = count.min(self.buffer.len());
        self.buffer.advance(dropped);
        self.discard = count - dropped;
    }
}

/// Bytes of room that a writer keeps once less than that was to be written.
const IDLE_BYTES_MAX: usize = 256 << 10;

/// Frames on their way out.
#[derive(Debug, Default)]
pub struct FrameWriter {
    buffer: Vec<u8>,
    /// How much of the buffer has been written.
    written: usize,
}

impl FrameWriter {
    /// Appends a frame whose payload `encode` appends.
    pub fn push(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        // Each byte is moved once at most, as what is kept is less than what goes.
        if self.written > self.buffer.len() / 2 {
            self.buffer.drain(..self.written);
            self.written = 0;
        }
        let start = self.buffer.len();
        self.buffer.extend_from_slice(&[0; HEADER_BYTES]);
        encode(&mut self.buffer);
        let length = self.buffer.len() - start - HEADER_BYTES;
        let length = u32::try_from(length).expect("a frame we made is below 4 GiB");
        self.buffer[start..start + HEADER_BYTES].copy_from_slice(&length.to_be_bytes());
    }

    /// Takes back the last `length` bytes that were pushed, headers included.
    pub fn take_back(&mut self, length: usize) -> Bytes {
        let start = self.buffer.len() - length;
        if start == self.written {
            // It is all there is: its memory goes with it.
            self.written = 0;
            let mut taken = Bytes::from(std::mem::take(&mut self.buffer));
            taken.advance(start);
            return taken;
        }
        let taken = self.buffer.split_off(start);
        self.buffer.shrink_to(IDLE_BYTES_MAX);
        taken.into()
    }

    /// What is to be written next.
    #[must_use]
    pub fn pending(&self) -> &[u8] {
        &self.buffer[self.written..]
    }

    /// `count` bytes have been written.
    pub fn advance(&mut self, count: usize) {
        self.written += count;
        if self.written < self.buffer.len() {
            return;
        }
        self.buffer.clear();
        // Much room is kept as long as much is written, but no longer: to get it
        // anew costs as much as to fill it.
        if std::mem::take(&mut self.written) <= IDLE_BYTES_MAX {
            self.buffer.shrink_to(IDLE_BYTES_MAX);
        }
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
                while reader.has_frame() {
                    frames.push(reader.next_frame().expect("it has one"));
                }
                assert_eq!(reader.next_frame(), None);
            }
            let expected = [&b"one"[..], b"", b"three"]
                .map(|payload| Frame::Whole(Bytes::copy_from_slice(payload)));
            assert_eq!(frames, expected);
            assert!(!reader.is_partial());
        }
    }

    #[test]
    fn a_long_frame_is_found_however_it_is_read() {
        let long: Vec<u8> = (0..3 * LONG_BYTES).map(|n| (n % 251) as u8).collect();
        let stream = [framed(b"one"), framed(&long), framed(b""), framed(b"three")].concat();
        for read_bytes in [1_000, LONG_BYTES - 1, LONG_BYTES, 2 * LONG_BYTES, usize::MAX] {
            let (mut by_push, mut by_fill) = (FrameReader::default(), FrameReader::default());
            let (mut rest, mut frames) = (&stream[..], [Vec::new(), Vec::new()]);
            while !rest.is_empty() {
                let count = by_fill.fill(|room| {
                    let free = room.capacity() - room.len();
                    let count = read_bytes.min(free).min(rest.len());
                    room.extend_from_slice(&rest[..count]);
                    count
                });
                by_push.push(&rest[..count]);
                rest = &rest[count..];
                for (reader, frames) in [&mut by_push, &mut by_fill].into_iter().zip(&mut frames) {
                    while let Some(frame) = reader.next_frame() {
                        frames.push(frame);
                    }
                }
            }
            let expected = [&b"one"[..], &long, b"", b"three"]
                .map(|payload| Frame::Whole(Bytes::copy_from_slice(payload)));
            assert!(frames.iter().all(|frames| *frames == expected), "in reads of {read_bytes}");
            assert!(!by_push.is_partial() && !by_fill.is_partial());
        }
    }

    #[test]
    fn frames_go_out_in_their_order_however_they_are_written() {
        let (mut writer, mut written) = (FrameWriter::default(), Vec::new());
        let payloads: Vec<Vec<u8>> = (0..100).map(|n| vec![n; usize::from(n) * 7]).collect();
        for payload in &payloads {
            writer.push(|out| out.extend_from_slice(payload));
            let count = writer.pending().len().min(333);
            written.extend_from_slice(&writer.pending()[..count]);
            writer.advance(count);
        }
        written.extend_from_slice(writer.pending());
        let expected: Vec<u8> = payloads.iter().flat_map(|payload| framed(payload)).collect();
        assert!(written == expected);
    }

    #[test]
    fn a_writer_gives_back_much_room_with_the_next_small_frame() {
        let mut writer = FrameWriter::default();
        for (payload_bytes, room_max) in [(8 << 20, 32 << 20), (8, IDLE_BYTES_MAX)] {
            writer.push(|out| out.resize(out.len() + payload_bytes, 0));
            writer.advance(HEADER_BYTES + payload_bytes);
            assert!(writer.buffer.capacity() <= room_max, "{}", writer.buffer.capacity());
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
