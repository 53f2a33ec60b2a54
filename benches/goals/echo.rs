//! The peer of a call over pipes: one process that blocks in read(2) and
//! answers each frame with write(2), and does nothing else.

use std::fs::File;
use std::io::{self, Read, Write};
use std::process::Command;

use rustix::stdio::{stdin, stdout};

use crate::child::FrameChild;

/// The argument that makes this program the peer.
pub(crate) const ROLE: &str = "echo-peer";

/// Bytes read at once.
const READ_BYTES: usize = 64 << 10;

/// Starts the peer; each of its answers has this many bytes.
pub(crate) fn spawn(reply_bytes: usize) -> io::Result<FrameChild> {
    let program = std::env::current_exe()?;
    FrameChild::spawn(Command::new(program).args([ROLE, &reply_bytes.to_string()]))
}

/// Is the peer until the end of its input.
pub(crate) fn serve(reply_bytes: usize) -> io::Result<()> {
    let mut input = File::from(stdin().try_clone_to_owned()?);
    let mut output = File::from(stdout().try_clone_to_owned()?);
    let mut reply = vec![0; 4 + reply_bytes];
    let length = u32::try_from(reply_bytes).map_err(io::Error::other)?;
    reply[..4].copy_from_slice(&length.to_be_bytes());
    let mut buffer = vec![0; READ_BYTES];
    let mut filled = 0;
    loop {
        match input.read(&mut buffer[filled..])? {
            0 => return Ok(()),
            count => filled += count,
        }
        while let Some(end) = first_frame(&buffer[..filled]) {
            output.write_all(&reply)?;
            buffer.copy_within(end..filled, 0);
            filled -= end;
        }
    }
}

/// Where the first frame ends, when all of it is there.
fn first_frame(bytes: &[u8]) -> Option<usize> {
    let header = bytes.first_chunk()?;
    let end = 4 + u32::from_be_bytes(*header) as usize;
    (end <= bytes.len()).then_some(end)
}
