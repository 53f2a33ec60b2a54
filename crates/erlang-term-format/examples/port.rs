//! A port program: requests in, replies out, in `{packet, 4}` frames on stdin and stdout.
//!
//! ```elixir
//! port = Port.open({:spawn_executable, "target/debug/examples/port"}, [:binary, packet: 4])
//! Port.command(port, :erlang.term_to_binary({1, {:sum, [20, 22]}}))
//! receive do {^port, {:data, reply}} -> :erlang.binary_to_term(reply, [:safe]) end
//! #=> {1, {:ok, 42}}
//! ```
//!
//! It ends when the port is closed: its input does then.

use std::io::{self, ErrorKind, Read, Write};

use erlang_term_format::{Term, from_slice, to_vec};
use serde::{Deserialize, Serialize};

/// `{:sum, [1, 2]}`, `{:echo, any_term}` or `:version`.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Request<'a> {
    Sum(Vec<i64>),
    #[serde(borrow)]
    Echo(Term<'a>),
    Version,
}

/// `{:ok, term}` or `{:error, "why"}`.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Reply<'a> {
    Ok(Term<'a>),
    Error(String),
}

/// Longest frame that is read: a claimed length is not to be trusted either.
const FRAME_BYTES_MAX: usize = 16 << 20;

fn main() -> io::Result<()> {
    serve(io::stdin().lock(), io::stdout().lock())
}

/// Answers each frame in turn, until there are no more.
pub(crate) fn serve(mut input: impl Read, mut output: impl Write) -> io::Result<()> {
    while let Some(frame) = read_frame(&mut input)? {
        let reply = match from_slice::<(u64, Request<'_>)>(&frame) {
            Ok((id, request)) => to_vec(&(Some(id), answer(request))),
            // Not even an id to answer to: the error says what is wrong, and where.
            Err(error) => to_vec(&(None::<u64>, Reply::Error(error.to_string()))),
        };
        write_frame(&reply.map_err(io::Error::other)?, &mut output)?;
    }
    Ok(())
}

fn answer(request: Request<'_>) -> Reply<'_> {
    match request {
        Request::Sum(numbers) => match numbers.iter().try_fold(0_i64, |sum, n| sum.checked_add(*n))
        {
            Some(sum) => Reply::Ok(sum.into()),
            None => Reply::Error("the sum is beyond 64 bits".to_owned()),
        },
        Request::Echo(term) => Reply::Ok(term),
        Request::Version => Reply::Ok(env!("CARGO_PKG_VERSION").into()),
    }
}

/// The next frame's content, or nothing at the end of the input.
fn read_frame(input: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut header = [0; 4];
    match input.read_exact(&mut header) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let length = u32::from_be_bytes(header) as usize;
    if length > FRAME_BYTES_MAX {
        return Err(io::Error::other(format!("read a frame: {length} bytes are too many")));
    }
    let mut frame = vec![0; length];
    input.read_exact(&mut frame)?;
    Ok(Some(frame))
}

fn write_frame(content: &[u8], output: &mut impl Write) -> io::Result<()> {
    let length = u32::try_from(content.len()).map_err(io::Error::other)?;
    output.write_all(&length.to_be_bytes())?;
    output.write_all(content)?;
    output.flush()
}
