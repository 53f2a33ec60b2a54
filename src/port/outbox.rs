//! What is on its way to one client: frames in their order, and large replies
//! that wait beside them and go out in chunks, in turns, so that no small frame
//! has to wait for a large one.
//!
//! An outbox encodes and counts. It does not know what it carries, and does no
//! IO.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};
use erlang_term_format::Term;

use super::frame::{FRAME_BYTES_MAX, FrameWriter, HEADER_BYTES};
use super::message;
use super::trace::{Trace, Way};

/// Bytes of output beyond which a client that does not read is given no more.
pub const OUTPUT_BYTES_MAX: usize = 8 << 20;

/// The largest reply, in bytes, to a client that takes chunks.
pub const REPLY_BYTES_MAX: usize = 256 << 20;

/// Bytes of a reply in one chunk, when the client takes that many.
pub const CHUNK_BYTES: usize = 64 << 10;

/// Chunks that may be in the stream before what comes next. Two, so that one can
/// be filled while the other is written.
const CHUNKS_AHEAD: usize = 2;

/// Frames for one client.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    writer: FrameWriter,
    /// Bytes in a chunk; without it, replies go out whole.
    chunk_bytes: Option<usize>,
    chunked: VecDeque<ChunkedReply>,
    large_bytes: usize,
    /// Bytes of the others in chunks: they are short, or had not waited for room.
    /// They count as frames do.
    other_bytes: usize,
    trace: Option<Trace>,
}

/// What has not been sent of a reply in chunks.
#[derive(Debug)]
struct ChunkedReply {
    id: i64,
    rest: Bytes,
    is_large: bool,
}

/// A frame that is longer than the client takes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLarge {
    /// How long it is.
    pub(super) bytes: usize,
    /// How long it may be.
    pub(super) bytes_max: usize,
}

impl Outbox {
    /// Shows each frame that is sent.
    pub(super) fn trace(&mut self, trace: Trace) {
        self.trace = Some(trace);
    }

    /// The client takes large replies in chunks of so many bytes.
    pub(super) fn allow_chunks(&mut self, bytes_max: usize) {
        self.chunk_bytes = Some(bytes_max.min(CHUNK_BYTES));
    }

    /// Sends a frame whole.
    pub(super) fn push(&mut self, term: &Term<'_>) -> Result<(), TooLarge> {
        match self.write(term) {
            bytes if bytes > FRAME_BYTES_MAX => {
                drop(self.take_back(bytes));
                Err(TooLarge { bytes, bytes_max: FRAME_BYTES_MAX })
            }
            bytes => {
                self.show(bytes);
                Ok(())
            }
        }
    }

    /// Sends the reply to request `id`, in chunks when it is large and the
    /// client takes chunks. What is said under id 0 goes out whole: chunks of two
    /// could not be told apart.
    pub(super) fn push_reply(&mut self, id: i64, reply: &Term<'_>) -> Result<(), TooLarge> {
        let Some(chunk_bytes) = self.chunk_bytes.filter(|_| id != 0) else {
            return self.push(reply);
        };
        let bytes = self.write(reply);
        if bytes <= chunk_bytes {
            self.show(bytes);
            return Ok(());
        }
        let rest = self.take_back(bytes);
        if bytes > REPLY_BYTES_MAX {
            return Err(TooLarge { bytes, bytes_max: REPLY_BYTES_MAX });
        }
        // Where the reply would stand: a client can tell what came before it.
        self.write_chunk(id, true, &[]);
        let is_large = Self::is_large(bytes) && !self.is_full_of_large();
        *self.waiting_bytes(is_large) += bytes;
        self.chunked.push_back(ChunkedReply { id, rest, is_large });
        self.feed();
        Ok(())
    }

    /// Writes a frame; how long it is without its header.
    fn write(&mut self, term: &Term<'_>) -> usize {
        let before = self.writer.pending().len();
        self.writer.push(|out| erlang_term_format::encode_into(term, out));
        self.writer.pending().len() - before - HEADER_BYTES
    }

    fn write_chunk(&mut self, id: i64, more: bool, bytes: &[u8]) {
        let bytes = self.write(&message::chunk(id, more, bytes));
        self.show(bytes);
    }

    /// Shows the frame that was written last.
    fn show(&self, bytes: usize) {
        if let Some(trace) = &self.trace {
            let pending = self.writer.pending();
            trace.frame(Way::Out, &pending[pending.len() - bytes..]);
        }
    }

    fn take_back(&mut self, bytes: usize) -> Bytes {
        let mut frame = self.writer.take_back(HEADER_BYTES + bytes);
        frame.advance(HEADER_BYTES);
        frame
    }

    fn waiting_bytes(&mut self, is_large: bool) -> &mut usize {
        if is_large { &mut self.large_bytes } else { &mut self.other_bytes }
    }

    /// Puts chunks into the stream, of each reply in its turn.
    fn feed(&mut self) {
        let Some(chunk_bytes) = self.chunk_bytes else { return };
        while self.writer.pending().len() < CHUNKS_AHEAD * chunk_bytes
            && let Some(mut reply) = self.chunked.pop_front()
        {
            let chunk = reply.rest.split_to(chunk_bytes.min(reply.rest.len()));
            let more = !reply.rest.is_empty();
            *self.waiting_bytes(reply.is_large) -= chunk.len();
            self.write_chunk(reply.id, more, &chunk);
            if more {
                self.chunked.push_back(reply);
            }
        }
    }

    /// What is to be written next.
    pub(super) fn pending(&self) -> &[u8] {
        self.writer.pending()
    }

    /// `count` bytes have been written.
    pub(super) fn advance(&mut self, count: usize) {
        self.writer.advance(count);
        self.feed();
    }

    /// Whether frames are waiting that the client should read first.
    pub(super) fn is_full(&self) -> bool {
        self.writer.pending().len() + self.other_bytes > OUTPUT_BYTES_MAX
    }

    /// Whether large replies are waiting that the client should read before it
    /// gets more of them.
    pub(super) fn is_full_of_large(&self) -> bool {
        self.large_bytes > OUTPUT_BYTES_MAX
    }

    /// Whether a reply to request `id` has been begun and not ended.
    pub(super) fn is_sending(&self, id: i64) -> bool {
        self.chunked.iter().any(|reply| reply.id == id)
    }

    /// Whether so much goes out in chunks to every client that takes them, and
    /// waits for room.
    pub(super) fn is_large(bytes: usize) -> bool {
        bytes > CHUNK_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::frame::{Frame, FrameReader};

    fn chunked(bytes_max: usize) -> Outbox {
        let mut outbox = Outbox::default();
        outbox.allow_chunks(bytes_max);
        outbox
    }

    fn reply(id: i64, bytes: usize) -> Term<'static> {
        message::reply(id, Ok(Term::binary(vec![b'v'; bytes])))
    }

    /// What arrives, in its order, when the client reads all of it: whole
    /// frames as text, chunks as `id` and whether there is more.
    fn read_all(outbox: &mut Outbox) -> (Vec<String>, Vec<(i64, Vec<u8>)>) {
        let mut reader = FrameReader::default();
        while !outbox.pending().is_empty() {
            let count = outbox.pending().len().min(1_000);
            reader.push(&outbox.pending()[..count]);
            outbox.advance(count);
        }
        let (mut shown, mut chunks) = (Vec::new(), Vec::new());
        while let Some(Frame::Whole(frame)) = reader.next_frame() {
            let term = erlang_term_format::decode(&frame).unwrap();
            match term.as_tuple().unwrap() {
                [tag, id, more, bytes] if tag.is_atom("chunk") => {
                    shown.push(format!("{id} {more}"));
                    chunks.push((id.as_i64().unwrap(), bytes.as_bytes().unwrap().to_vec()));
                }
                _ => shown.push(term.to_string()),
            }
        }
        (shown, chunks)
    }

    fn joined(chunks: &[(i64, Vec<u8>)], id: i64) -> Vec<u8> {
        let of_id = chunks.iter().filter(|(each, _)| *each == id);
        of_id.flat_map(|(_, bytes)| bytes.clone()).collect()
    }

    #[test]
    fn chunks_of_two_replies_go_out_in_turns_and_are_the_bytes_of_the_replies() {
        let mut outbox = chunked(1_024);
        outbox.push_reply(1, &reply(1, 3_000)).unwrap();
        outbox.push_reply(2, &reply(2, 2_000)).unwrap();
        assert!(outbox.is_sending(1) && outbox.is_sending(2));
        let (shown, chunks) = read_all(&mut outbox);
        let expected = ["1 true", "1 true", "1 true", "2 true", "1 false", "2 true", "2 false"];
        assert_eq!(shown, expected);
        assert!(chunks[0].1.is_empty() && chunks[3].1.is_empty());
        assert!(chunks.iter().all(|(_, bytes)| bytes.len() <= 1_024));
        assert_eq!(joined(&chunks, 1), erlang_term_format::encode(&reply(1, 3_000)));
        assert_eq!(joined(&chunks, 2), erlang_term_format::encode(&reply(2, 2_000)));
        assert!(!outbox.is_sending(1) && !outbox.is_full_of_large());
    }

    #[test]
    fn a_small_frame_waits_for_no_more_than_two_chunks() {
        let mut outbox = chunked(CHUNK_BYTES);
        outbox.push_reply(1, &reply(1, 100 * CHUNK_BYTES)).unwrap();
        outbox.push_reply(2, &reply(2, 1)).unwrap();
        let (shown, _) = read_all(&mut outbox);
        let place = shown.iter().position(|frame| frame == "{2,{ok,<<\"v\">>}}").unwrap();
        assert_eq!(place, 1 + CHUNKS_AHEAD);
        assert_eq!(shown.len(), 1 + 101 + 1);
    }

    #[test]
    fn what_is_told_under_no_id_is_never_in_chunks() {
        let mut outbox = chunked(1_024);
        outbox.push_reply(0, &reply(0, 2_000)).unwrap();
        let (shown, chunks) = read_all(&mut outbox);
        assert!(shown.len() == 1 && chunks.is_empty(), "{shown:?}");
    }

    #[test]
    fn short_replies_in_shorter_chunks_fill_an_outbox_as_frames_do() {
        let mut outbox = chunked(1_024);
        let mut count = 0;
        while !outbox.is_full() {
            count += 1;
            outbox.push_reply(count, &reply(count, 60_000)).unwrap();
            assert!(count < 1_000, "no number of them is too much");
        }
        assert!(!outbox.is_full_of_large());
        read_all(&mut outbox);
        assert!(!outbox.is_full() && outbox.other_bytes == 0);
    }

    #[test]
    fn a_large_reply_that_did_not_wait_for_room_fills_an_outbox_as_frames_do() {
        let mut outbox = chunked(CHUNK_BYTES);
        outbox.push_reply(1, &reply(1, OUTPUT_BYTES_MAX + CHUNK_BYTES * 3)).unwrap();
        assert!(outbox.is_full_of_large() && !outbox.is_full());
        outbox.push_reply(2, &reply(2, OUTPUT_BYTES_MAX)).unwrap();
        assert!(outbox.is_full());
        read_all(&mut outbox);
        assert!(!outbox.is_full_of_large() && !outbox.is_full());
    }

    #[test]
    fn a_client_of_longer_chunks_gets_no_longer_ones() {
        let mut outbox = chunked(FRAME_BYTES_MAX);
        outbox.push_reply(1, &reply(1, 2 * CHUNK_BYTES)).unwrap();
        let (_, chunks) = read_all(&mut outbox);
        assert_eq!(chunks.iter().map(|(_, bytes)| bytes.len()).max(), Some(CHUNK_BYTES));
    }

    #[test]
    fn without_chunks_a_reply_is_one_frame_and_as_long_as_a_frame_can_be() {
        let mut outbox = Outbox::default();
        let largest = FRAME_BYTES_MAX - erlang_term_format::encode(&reply(1, 0)).len();
        outbox.push_reply(1, &reply(1, largest)).unwrap();
        let before = outbox.pending().len();
        assert_eq!(before, HEADER_BYTES + FRAME_BYTES_MAX);
        let error = outbox.push_reply(2, &reply(2, largest + 1)).unwrap_err();
        let bytes = FRAME_BYTES_MAX + 1;
        assert_eq!(error, TooLarge { bytes, bytes_max: FRAME_BYTES_MAX });
        assert_eq!(outbox.pending().len(), before);
    }

    #[test]
    fn a_reply_beyond_the_limit_is_an_error_with_chunks_too() {
        let mut outbox = chunked(CHUNK_BYTES);
        let error = outbox.push_reply(1, &reply(1, REPLY_BYTES_MAX)).unwrap_err();
        assert_eq!(error.bytes_max, REPLY_BYTES_MAX);
        assert!(outbox.pending().is_empty() && !outbox.is_sending(1));
        outbox.push_reply(1, &reply(1, REPLY_BYTES_MAX - 100)).unwrap();
        assert!(outbox.is_full_of_large() && !outbox.is_full());
    }
}
