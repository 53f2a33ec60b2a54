//! A child that speaks frames on its pipes: `tank port`, or a peer of it.

use std::io::{self, BufReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use erlang_term_format::{Term, text};
use rustix::process::Pid;

/// A child with a pipe in each direction. Dropped, it is hung up on and waited
/// for.
pub(crate) struct FrameChild {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl FrameChild {
    /// Starts it.
    pub(crate) fn spawn(command: &mut Command) -> io::Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .process_group(0)
            .spawn()?;
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        Ok(Self { child, stdin, stdout })
    }

    /// Starts `tank port` and shakes hands.
    pub(crate) fn port(args: &[&str]) -> io::Result<Self> {
        let tank = env!("CARGO_BIN_EXE_tank");
        let mut port = Self::spawn(Command::new(tank).arg("port").args(args))?;
        let hello = port.recv()?;
        if !is_tagged(&hello, "hello") {
            return Err(io::Error::other(format!("tank port cannot start: {hello}")));
        }
        port.send(&frame("{hello, #{protocol => 1, client => <<\"bench\">>}}"))?;
        Ok(port)
    }

    /// Its pid.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Where it reads from and where it writes to.
    pub(crate) fn pipes(&self) -> (BorrowedFd<'_>, BorrowedFd<'_>) {
        let stdin = self.stdin.as_ref().expect("open until dropped");
        (stdin.as_fd(), self.stdout.get_ref().as_fd())
    }

    /// Sends frames that are ready made.
    pub(crate) fn send(&mut self, frames: &[u8]) -> io::Result<()> {
        self.stdin.as_mut().expect("open until dropped").write_all(frames)
    }

    /// Reads a frame's bytes into `buffer`.
    pub(crate) fn recv_bytes(&mut self, buffer: &mut Vec<u8>) -> io::Result<()> {
        let mut header = [0; 4];
        self.stdout.read_exact(&mut header)?;
        buffer.resize(u32::from_be_bytes(header) as usize, 0);
        self.stdout.read_exact(buffer)
    }

    /// Reads a frame's term.
    pub(crate) fn recv(&mut self) -> io::Result<Term<'static>> {
        let mut payload = Vec::new();
        self.recv_bytes(&mut payload)?;
        let term = erlang_term_format::decode(&payload).map_err(io::Error::other)?;
        Ok(term.into_owned())
    }
}

impl Drop for FrameChild {
    fn drop(&mut self) {
        self.stdin = None;
        // What it still says must not block its end.
        let _ = io::copy(&mut self.stdout, &mut io::sink());
        let _ = self.child.wait();
    }
}

/// A term in Erlang's text form as a frame.
pub(crate) fn frame(source: &str) -> Vec<u8> {
    framed(&text::parse(source).expect("the program's own terms are well-formed"))
}

/// A term as a frame.
pub(crate) fn framed(term: &Term<'_>) -> Vec<u8> {
    let payload = erlang_term_format::encode(term);
    let length = u32::try_from(payload.len()).expect("a frame below 4 GiB");
    [&length.to_be_bytes()[..], &payload].concat()
}

/// Whether a term is a tuple that begins with this atom.
pub(crate) fn is_tagged(term: &Term<'_>, tag: &str) -> bool {
    term.as_tuple().and_then(<[_]>::first).is_some_and(|first| first.is_atom(tag))
}
