//! A byte stream into frames: the same ones however it is cut, and those that are in it.

use tank::port::frame::{FRAME_BYTES_MAX, Frame, FrameReader, HEADER_BYTES};

use crate::stream::Stream;

/// Panics if the frames of the stream in `input` depend on how it arrives.
pub fn holds(input: &[u8]) {
    let Some(stream) = Stream::of(input) else { return };
    let expected = found_in(&stream.bytes);
    assert_eq!(read([&stream.bytes[..]]), expected, "at once");
    assert_eq!(read(stream.pieces()), expected, "in pieces");
}

/// What is read of a stream: its frames, and whether it stops inside of one.
#[derive(Debug, PartialEq)]
struct Reading {
    frames: Vec<Frame>,
    is_partial: bool,
}

fn read<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> Reading {
    let mut reader = FrameReader::default();
    let mut frames = Vec::new();
    for piece in pieces {
        reader.push(piece);
        frames.extend(std::iter::from_fn(|| reader.next_frame()));
    }
    Reading { frames, is_partial: reader.is_partial() }
}

/// The plainest way to say what the frames of a stream are.
fn found_in(mut stream: &[u8]) -> Reading {
    let mut frames = Vec::new();
    while let Some((header, rest)) = stream.split_first_chunk::<HEADER_BYTES>() {
        let claimed = u32::from_be_bytes(*header) as usize;
        let is_too_large = claimed > FRAME_BYTES_MAX;
        if is_too_large {
            frames.push(Frame::TooLarge { claimed });
        }
        let Some((payload, rest)) = rest.split_at_checked(claimed) else { break };
        if !is_too_large {
            frames.push(Frame::Whole(payload.to_vec().into()));
        }
        stream = rest;
    }
    Reading { frames, is_partial: !stream.is_empty() }
}
