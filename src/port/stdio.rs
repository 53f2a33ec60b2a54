//! Descriptors 0 and 1 as frame pipes, out of everybody else's reach.
//!
//! A stray `print` anywhere in the program would be read as a frame length, and
//! a child that inherited the pipes would keep them open after us: so the pipes
//! move to high, close-on-exec descriptors, 0 becomes `/dev/null` and 1 becomes
//! a copy of stderr.

use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::task::{Context, Poll, ready};
use std::thread::{self, JoinHandle};

use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::poll::register;

/// Bytes a pipe should hold. A larger pipe means fewer wake-ups a frame; the
/// kernel's default is 64 KiB, and an unprivileged user may get no more than
/// `/proc/sys/fs/pipe-max-size`.
const PIPE_BYTES: usize = 1 << 20;

/// First descriptor number to move the pipes to.
const HIGH_FD: i32 = 10;

/// Why waiting for a pipe cannot fail.
const POLLABLE: &str = "the runtime outlives what it polls";

/// The two pipes, non-blocking and registered with the runtime.
#[derive(Debug)]
pub struct Pipes {
    input: AsyncFd<OwnedFd>,
    output: AsyncFd<OwnedFd>,
    /// Copies the output to where it cannot be polled.
    pump: Option<JoinHandle<()>>,
}

impl Pipes {
    /// Takes descriptors 0 and 1 away from the rest of the program.
    ///
    /// # Errors
    /// When a descriptor cannot be duplicated or polled.
    pub fn take() -> io::Result<Self> {
        let input = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), HIGH_FD)?;
        let output = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), HIGH_FD)?;
        let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        rustix::stdio::dup2_stdin(&null)?;
        rustix::stdio::dup2_stdout(rustix::stdio::stderr())?;
        Self::new(input, output)
    }

    /// Frame pipes over any two descriptors.
    ///
    /// # Errors
    /// When a descriptor cannot be polled.
    pub fn new(input: OwnedFd, output: OwnedFd) -> io::Result<Self> {
        let input = if is_pollable(input.as_fd())? { input } else { pump_in(input)? };
        let (output, pump) = match is_pollable(output.as_fd())? {
            true => (output, None),
            false => pump_out(output).map(|(output, pump)| (output, Some(pump)))?,
        };
        Ok(Self { input: register(prepare(input)?)?, output: register(prepare(output)?)?, pump })
    }

    /// Closes the pipes, and waits until what was written is where it belongs.
    pub fn close(self) {
        drop(self.output);
        if let Some(pump) = self.pump {
            pump.join().expect("copying does not panic");
        }
    }

    /// Appends what is there to `room`, as far as there is room: `Ok(None)` when
    /// nothing is there, `Ok(Some(0))` at the end of the stream.
    ///
    /// # Errors
    /// Those of read(2).
    pub fn try_read(&self, room: &mut Vec<u8>) -> io::Result<Option<usize>> {
        let free = room.capacity() - room.len();
        let read = retry_on_intr(|| rustix::io::read(&self.input, spare_capacity(room)));
        // One that leaves room has emptied the pipe: another would find nothing.
        if read != Ok(free) {
            forget_ready(&self.input, Interest::READABLE);
        }
        match read {
            Ok(count) => Ok(Some(count)),
            Err(Errno::AGAIN) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Whether [`Self::try_read`] may find something; the task is woken when it
    /// may.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.input.poll_read_ready(cx).map(|ready| drop(ready.expect(POLLABLE)))
    }

    /// Whether nobody can say anything more, however much of what was said has
    /// not been read; the task is woken when it is so. Only for whoever reads no
    /// more: that there is something to read is forgotten.
    pub fn poll_hangup(&self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let mut ready = ready!(self.input.poll_read_ready(cx)).expect(POLLABLE);
            if ready.ready().is_read_closed() {
                return Poll::Ready(());
            }
            ready.clear_ready();
        }
    }

    /// Whether what is written can still be read by anybody.
    #[must_use]
    pub fn has_reader(&self) -> bool {
        let mut output = [PollFd::new(&self.output, PollFlags::empty())];
        let is_asked = rustix::event::poll(&mut output, Some(&Timespec::default())).is_ok();
        let broken = PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL;
        is_asked && !output[0].revents().intersects(broken)
    }

    /// Writes what fits: `Ok(0)` when nothing does.
    ///
    /// # Errors
    /// Those of write(2); `EPIPE` when the client is gone.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match retry_on_intr(|| rustix::io::write(&self.output, bytes)) {
            Ok(count) => Ok(count),
            Err(Errno::AGAIN) => {
                forget_ready(&self.output, Interest::WRITABLE);
                Ok(0)
            }
            Err(errno) => Err(errno.into()),
        }
    }

    /// Whether [`Self::try_write`] may write something; the task is woken when
    /// it may.
    ///
    /// # Errors
    /// When the descriptor cannot be polled.
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.output.poll_write_ready(cx).map(|ready| drop(ready.expect(POLLABLE)))
    }

    /// Writes something, once it can.
    ///
    /// # Errors
    /// Those of write(2); `EPIPE` when the client is gone.
    pub async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            poll_fn(|cx| self.poll_writable(cx)).await;
            match self.try_write(bytes)? {
                0 => {}
                count => return Ok(count),
            }
        }
    }

    /// Writes all of it, however long that takes.
    ///
    /// # Errors
    /// Those of write(2); `EPIPE` when the client is gone.
    pub async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = self.write(bytes).await?;
            bytes = &bytes[count..];
        }
        Ok(())
    }
}

/// Nothing more is to be had of a descriptor until the kernel says so, which it
/// does for all that happens after it was last asked.
fn forget_ready(fd: &AsyncFd<OwnedFd>, interest: Interest) {
    let nothing_there = |_: &OwnedFd| Err::<(), _>(io::ErrorKind::WouldBlock.into());
    // It says what it was told: that there is nothing.
    let _ = fd.try_io(interest, nothing_there);
}

fn is_pollable(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let kind = FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode);
    Ok(matches!(kind, FileType::Fifo | FileType::Socket))
}

fn prepare(fd: OwnedFd) -> io::Result<OwnedFd> {
    let flags = rustix::fs::fcntl_getfl(&fd)?;
    rustix::fs::fcntl_setfl(&fd, flags | OFlags::NONBLOCK)?;
    // Best effort: a smaller pipe is slower, not wrong, and a socket has none.
    let _ = rustix::pipe::fcntl_setpipe_size(&fd, PIPE_BYTES);
    Ok(fd)
}

/// A file or a terminal cannot be polled without disturbing whoever shares it,
/// so a thread copies it to a pipe. Only people debugging by hand come here.
fn pump_in(from: OwnedFd) -> io::Result<OwnedFd> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    thread::Builder::new().name("stdin".into()).spawn(move || copy(from, writer))?;
    Ok(reader)
}

fn pump_out(to: OwnedFd) -> io::Result<(OwnedFd, JoinHandle<()>)> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let pump = thread::Builder::new().name("stdout".into()).spawn(move || copy(reader, to))?;
    Ok((writer, pump))
}

fn copy(from: OwnedFd, to: OwnedFd) {
    let (mut from, mut to) = (std::fs::File::from(from), std::fs::File::from(to));
    // Either end closing is the end of the session, which the other pipe shows.
    let _ = io::copy(&mut from, &mut to);
}
