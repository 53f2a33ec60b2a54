//! The port program as a child: this same executable as `tank port`, over two
//! pipes. Owns the process, the greeting and the ids of requests; knows nothing
//! of who listens.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;

use erlang_term_format::{Limits, Term, decode_with, map, tuple};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::core::failure::{Code, Failure};
use crate::port::frame::{FRAME_BYTES_MAX, Frame, FrameReader, FrameWriter};
use crate::port::message::{ID_MAX, Incoming, PROTOCOL};

/// Bytes read at once.
const READ_BYTES: usize = 64 << 10;

/// Bytes of a chunk of a long answer.
const CHUNK_BYTES: i64 = 64 << 10;

/// No answer is too long to be shown.
const LIMITS: Limits =
    Limits { bytes_max: usize::MAX, depth_max: Limits::DEPTH_CEILING, nodes_max: usize::MAX };

/// What the port program has said.
#[derive(Debug)]
pub(super) enum Heard {
    /// It is ready; what it says of itself.
    Greeting(Term<'static>),
    /// It cannot go on; stderr says why.
    Fatal,
    /// An answer; under id 0, an error that answers nothing in particular.
    Answer(i64, Result<Term<'static>, Term<'static>>),
    /// Something has happened.
    Notice(Term<'static>),
    /// The loop asks for something, or says it when the id is 0.
    Question(Term<'static>),
    /// What it sent cannot be read.
    Unreadable(String),
    /// It has ended.
    Ended(ExitStatus),
}

/// The way to the port program.
pub(super) struct Program {
    process: OwnedFd,
    stdin: Option<ChildStdin>,
    next_id: i64,
}

impl Program {
    /// Starts it. `hear` is told all it says, on a thread of its own, its end
    /// last.
    ///
    /// It has a process group of its own: a Ctrl-C is for whoever types, and
    /// not for the loop.
    pub(super) fn start(
        args: &[OsString],
        stderr: Stdio,
        hear: impl FnMut(Heard) + Send + 'static,
    ) -> io::Result<(Self, Option<ChildStderr>)> {
        let mut child = Command::new("/proc/self/exe")
            .arg0("tank")
            .arg("port")
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .process_group(0)
            .spawn()?;
        let process = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
        let stdin = child.stdin.take();
        let stderr = child.stderr.take();
        let stdout = child.stdout.take().expect("stdout is piped");
        thread::Builder::new().name("hear".into()).spawn(move || listen(child, stdout, hear))?;
        let mut program = Self { process, stdin, next_id: 0 };
        // Before its own greeting: neither side needs to wait for the other.
        let about = map! {
            "protocol" => PROTOCOL,
            "client" => concat!("tank repl ", env!("CARGO_PKG_VERSION")),
            "chunk_bytes" => CHUNK_BYTES,
        };
        program.send(&tuple![Term::atom("hello"), about]);
        Ok((program, stderr))
    }

    /// Sends a request under an id of its own.
    ///
    /// # Errors
    /// What the port program would say of it under no id, so that it would be
    /// waited for in vain.
    pub(super) fn ask(&mut self, op: &'static str, args: Term<'_>) -> Result<i64, Failure> {
        // Whoever types may have used the last one.
        self.next_id = self.next_id % ID_MAX + 1;
        let id = self.next_id;
        let request = tuple![id, Term::atom(op), args];
        check(&request)?;
        self.send(&request);
        Ok(id)
    }

    /// Says something that needs no answer.
    pub(super) fn tell(&mut self, op: &'static str, args: Term<'_>) {
        self.send(&tuple![0, Term::atom(op), args]);
    }

    /// Sends any term. When it is a request that can be answered, its id, under
    /// which no other will be sent soon.
    pub(super) fn send_raw(&mut self, term: &Term<'_>) -> Option<i64> {
        let id = match term.as_tuple() {
            Some([id, op, _]) if op.as_atom().is_some() => {
                id.as_i64().filter(|id| (1..=ID_MAX).contains(id))
            }
            _ => None,
        };
        self.next_id = self.next_id.max(id.unwrap_or(0));
        self.send(term);
        id.filter(|_| check(term).is_ok())
    }

    fn send(&mut self, term: &Term<'_>) {
        let mut frame = FrameWriter::default();
        frame.push(|out| erlang_term_format::encode_into(term, out));
        if let Some(stdin) = &mut self.stdin {
            // Whoever listens hears of its end.
            let _ = stdin.write_all(frame.pending());
        }
    }

    /// Ends it, whether it is ready or waits for what another program holds.
    pub(super) fn terminate(&self) {
        // That it has ended is what is wanted.
        let _ = pidfd_send_signal(&self.process, Signal::TERM);
    }

    /// Says that nothing more will come.
    pub(super) fn hang_up(&mut self) {
        self.stdin = None;
    }
}

/// Whether a request can be read, and so be answered under its id.
fn check(request: &Term<'_>) -> Result<(), Failure> {
    let frame = erlang_term_format::encode(request);
    if frame.len() > FRAME_BYTES_MAX {
        let what = format!("it takes {} bytes, the limit is {FRAME_BYTES_MAX}", frame.len());
        return Err(Failure::new(Code::FrameTooLarge, what));
    }
    Incoming::parse(&frame).map(drop)
}

fn listen(mut child: Child, mut stdout: ChildStdout, mut hear: impl FnMut(Heard)) {
    let mut reader = FrameReader::default();
    let mut parts = Parts::default();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match stdout.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => reader.push(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
        while let Some(frame) = reader.next_frame() {
            if let Some(heard) = parts.take(frame) {
                hear(heard);
            }
        }
    }
    let status = child.wait().expect("nobody else waits for our child");
    hear(Heard::Ended(status));
}

/// Long answers that have not yet come to their end, by their ids.
#[derive(Default)]
struct Parts(BTreeMap<i64, Vec<u8>>);

impl Parts {
    /// What a frame says, unless more of it will come.
    fn take(&mut self, frame: Frame) -> Option<Heard> {
        let frame = match frame {
            Frame::Whole(frame) => frame,
            Frame::TooLarge { claimed } => {
                return Some(Heard::Unreadable(format!("a frame of {claimed} bytes")));
            }
        };
        let term = match read(&frame) {
            Ok(term) => term,
            Err(heard) => return Some(heard),
        };
        let Some([tag, id, has_more, part]) = term.as_tuple() else {
            return Some(Heard::in_term(term));
        };
        let part = (id.as_i64(), has_more.as_bool(), part.as_bytes());
        let (true, (Some(id), Some(has_more), Some(part))) = (tag.is_atom("chunk"), part) else {
            return Some(Heard::in_term(term));
        };
        self.0.entry(id).or_default().extend_from_slice(part);
        if has_more {
            return None;
        }
        let whole = self.0.remove(&id).unwrap_or_default();
        Some(read(&whole).map_or_else(|heard| heard, Heard::in_term))
    }
}

fn read(frame: &[u8]) -> Result<Term<'static>, Heard> {
    decode_with(frame, &LIMITS)
        .map(Term::into_owned)
        .map_err(|error| Heard::Unreadable(format!("a frame of {} bytes: {error}", frame.len())))
}

impl Heard {
    /// Whether somebody may wait for it.
    pub(super) fn is_awaited(&self) -> bool {
        matches!(self, Self::Greeting(_) | Self::Answer(..) | Self::Ended(_))
    }

    fn in_term(term: Term<'static>) -> Self {
        match term.as_tuple() {
            Some([tag, about]) if tag.is_atom("hello") => Self::Greeting(about.clone()),
            Some([tag, _]) if tag.is_atom("error") => Self::Fatal,
            Some([tag, _, notice]) if tag.is_atom("notice") => Self::Notice(notice.clone()),
            Some([id, body]) => match (id.as_i64(), body.as_tuple()) {
                (Some(id), Some([tag, value])) if tag.is_atom("ok") => {
                    Self::Answer(id, Ok(value.clone()))
                }
                (Some(id), Some([tag, error])) if tag.is_atom("error") => {
                    Self::Answer(id, Err(error.clone()))
                }
                _ => Self::Question(term),
            },
            _ => Self::Question(term),
        }
    }
}
