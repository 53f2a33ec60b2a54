//! Descriptors 0 and 1 as frame pipes, out of everybody else's reach.
//!
//! A stray `print` anywhere in the program would be read as a frame length, and
//! a child that inherited the pipes would keep them open after us: so the pipes
//! move to high, close-on-exec descriptors, 0 becomes `/dev/null` and 1 becomes
//! a copy of stderr.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread::{self, JoinHandle};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

use crate::poll::register;

/// Bytes a pipe should hold. A larger pipe means fewer wake-ups a frame; the
/// kernel's default is 64 KiB, and an unprivileged user may get no more than
/// `/proc/sys/fs/pipe-max-size`.
const PIPE_BYTES: usize = 1 << 20;

/// First descriptor number to move the pipes to.
const HIGH_FD: i32 = 10;

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

    /// Reads what is there into `buffer`'s spare room: `Ok(None)` when nothing
    /// is, `Ok(Some(0))` at the end of the stream.
    ///
    /// # Errors
    /// Those of read(2).
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match rustix::io::read(&self.input, buffer) {
            Ok(count) => Ok(Some(count)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Waits until a read may succeed, then reads as [`Self::try_read`] does.
    ///
    /// # Errors
    /// Those of read(2).
    pub async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.input.readable().await?;
            match self.try_read(buffer)? {
                Some(count) => return Ok(count),
                None => ready.clear_ready(),
            }
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
        match rustix::io::write(&self.output, bytes) {
            Ok(count) => Ok(count),
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            Err(errno) => Err(errno.into()),
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

    /// Waits until a write may succeed, then writes as [`Self::try_write`] does.
    ///
    /// # Errors
    /// Those of write(2); `EPIPE` when the client is gone.
    pub async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.output.writable().await?;
            match self.try_write(bytes)? {
                0 => ready.clear_ready(),
                count => return Ok(count),
            }
        }
    }
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
