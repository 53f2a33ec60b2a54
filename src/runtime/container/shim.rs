//! One shim, from the daemon's side: its process and its control connection.
//!
//! The process that is spawned makes the shim as its child and ends: the shim's
//! pid is known from its greeting. The daemon is a subreaper, so that the shim
//! is its child from then on ([`super::reaper`]); an orphan would stay a zombie
//! wherever the first process does not reap, as in many containers.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tank_shim::Program;
use tank_shim::frame::{Decoder, encode};
use tank_shim::protocol::{FromShim, SOCKET_FILE, ToShim};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::poll::register;

/// A shim that lived when this value was made.
#[derive(Debug)]
pub(super) struct Shim {
    control: UnixStream,
    decoder: Decoder,
    process: AsyncFd<OwnedFd>,
    pid: Pid,
}

impl Shim {
    /// Starts a shim on a locked run directory, which keeps the lock. Until the
    /// shim has greeted, [`Self::kill`] reaches the process that makes it.
    pub(super) fn spawn(program: &Program, dir: &Path, lock: OwnedFd) -> io::Result<Self> {
        let (control, maker) = tank_shim::spawn::start(program.command(), dir, lock)?;
        control.set_nonblocking(true)?;
        Self::new(UnixStream::from_std(control)?, Pid::from_child(&maker))
    }

    /// Connects to a shim that somebody else has started. The directory's
    /// descriptor stands for its path, which may be too long for an address.
    pub(super) async fn connect(dir: &OwnedFd) -> io::Result<Self> {
        let address = format!("/proc/self/fd/{}/{SOCKET_FILE}", dir.as_raw_fd());
        let control = UnixStream::connect(address).await?;
        // The listener's pid is known to the kernel, whatever the shim says.
        let pid = control.peer_cred()?.pid().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("the shim is in a foreign pid namespace"))?;
        Self::new(control, pid)
    }

    fn new(control: UnixStream, pid: Pid) -> io::Result<Self> {
        let process = register(pidfd_open(pid, PidfdFlags::NONBLOCK)?)?;
        Ok(Self { control, decoder: Decoder::default(), process, pid })
    }

    pub(super) fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Sends an order.
    pub(super) async fn send(&mut self, message: &ToShim) -> io::Result<()> {
        self.control.write_all(&encode(message)).await
    }

    /// The shim's next message, `None` when the connection is over. Losing a
    /// race against another future loses no message.
    pub(super) async fn recv(&mut self) -> io::Result<Option<FromShim>> {
        loop {
            if let Some(message) = self.decoder.decode().map_err(io::Error::other)? {
                if let FromShim::Hello(hello) = &message {
                    self.greeted_by(hello.pid)?;
                }
                return Ok(Some(message));
            }
            let mut chunk = [0; 4096];
            match self.control.read(&mut chunk).await {
                Ok(0) => return Ok(None),
                Ok(count) => self.decoder.push(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    fn greeted_by(&mut self, pid: i32) -> io::Result<()> {
        let pid = Pid::from_raw(pid).ok_or_else(|| io::Error::other("the shim has no pid"))?;
        if pid != self.pid {
            self.process = register(pidfd_open(pid, PidfdFlags::NONBLOCK)?)?;
            self.pid = pid;
        }
        Ok(())
    }

    /// Ends the connection: a shim that has launched nothing ends with it.
    pub(super) async fn hang_up(&mut self) -> io::Result<()> {
        self.control.shutdown().await
    }

    /// Kills the shim, and with it everything that it launched.
    pub(super) fn kill(&self) {
        // ESRCH: it is dead already, which is what was wanted.
        let _ = pidfd_send_signal(self.process.get_ref(), Signal::KILL);
    }

    /// Waits for the shim's death.
    pub(super) async fn died(&self) {
        // A pidfd is readable once its process has ended (pidfd_open(2)); one
        // that cannot be polled is the run directory's lock to judge.
        let _ = self.process.readable().await;
    }
}
