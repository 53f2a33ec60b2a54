//! One shim, from the daemon's side: its process and its control connection.
//!
//! The process that is spawned makes the shim as its child and ends: the shim's
//! pid is known from its greeting. The daemon is a subreaper, so that the shim
//! is its child from then on ([`super::reaper`]); an orphan would stay a zombie
//! wherever the first process does not reap, as in many containers.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use bytes::BytesMut;
use erlang_term_format::{Term, decode, from_slice};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tank_shim::frame::{Decoder, encode};
use tank_shim::protocol::{
    FromShim, Join, PROTOCOL, PROTOCOL_MIN, SOCKET_FILE, ShimCgroup, ToShim,
};
use tank_shim::spawn::Birth;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::poll::register;

use super::Surroundings;

/// A shim that lived when this value was made.
#[derive(Debug)]
pub(super) struct Shim {
    control: UnixStream,
    /// Of an order that was given up half-way: the shim waits for the rest.
    unsent: BytesMut,
    decoder: Decoder,
    process: AsyncFd<OwnedFd>,
    pid: Pid,
    /// Whether the kernel has said whose pid that is, and not only the shim.
    is_known: bool,
    has_been_asked: bool,
}

/// What a shim has said.
#[derive(Debug)]
pub(super) enum Word {
    /// A message of the protocol.
    Message(FromShim),
    /// The greeting of one that speaks other versions alone, in words.
    Foreign(String),
}

impl Shim {
    /// Starts a shim on a locked run directory, which keeps the lock. Until the
    /// shim has greeted, [`Self::kill`] reaches the process that makes it.
    pub(super) fn spawn(around: &Surroundings, dir: &Path, lock: OwnedFd) -> io::Result<Self> {
        let is_born_there = |group: &&ShimCgroup| group.join == Join::Clone;
        let cgroup = around.shim_cgroups.iter().find(is_born_there);
        let cgroup = cgroup.map(|group| group.path.clone().into());
        let birth = Birth { cgroup, open_files: around.open_files };
        let (control, maker) = tank_shim::spawn::start(around.shim.command(), dir, &birth, lock)?;
        control.set_nonblocking(true)?;
        Self::new(UnixStream::from_std(control)?, Pid::from_child(&maker), false)
    }

    /// Connects to a shim that somebody else has started. The directory's
    /// descriptor stands for its path, which may be too long for an address.
    pub(super) async fn connect(dir: &OwnedFd) -> io::Result<Self> {
        let address = format!("/proc/self/fd/{}/{SOCKET_FILE}", dir.as_raw_fd());
        let control = UnixStream::connect(address).await?;
        // The listener's pid is known to the kernel, whatever the shim says.
        let pid = control.peer_cred()?.pid().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("the shim is in a foreign pid namespace"))?;
        // Whoever has started it did so to launch something.
        Ok(Self { has_been_asked: true, ..Self::new(control, pid, true)? })
    }

    fn new(control: UnixStream, pid: Pid, is_known: bool) -> io::Result<Self> {
        let process = register(pidfd_open(pid, PidfdFlags::NONBLOCK)?)?;
        let (unsent, decoder) = (BytesMut::new(), Decoder::default());
        Ok(Self { control, unsent, decoder, process, pid, is_known, has_been_asked: false })
    }

    pub(super) fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Sends an order. Losing a race against another future loses nothing of it: what is
    /// unsent then goes before the next.
    pub(super) async fn send(&mut self, message: &ToShim) -> io::Result<()> {
        self.has_been_asked |= matches!(message, ToShim::Launch(_));
        self.unsent.extend_from_slice(&encode(message));
        self.control.write_all_buf(&mut self.unsent).await
    }

    /// Whether a launch was asked for, here or by whoever has started it.
    pub(super) fn has_been_asked(&self) -> bool {
        self.has_been_asked
    }

    /// The shim's next message, `None` when the connection is over. Losing a
    /// race against another future loses no message. One that this program does not
    /// know is none: a newer shim may say more, and nothing depends on it.
    pub(super) async fn recv(&mut self) -> io::Result<Option<FromShim>> {
        loop {
            match self.hear().await? {
                Some(Word::Message(message)) => return Ok(Some(message)),
                Some(Word::Foreign(_)) => {}
                None => return Ok(None),
            }
        }
    }

    /// The same, with the greeting of one that cannot be spoken with.
    pub(super) async fn hear(&mut self) -> io::Result<Option<Word>> {
        loop {
            while let Some(term) = self.decoder.next_term().map_err(io::Error::other)? {
                if let Some(word) = self.read(&term)? {
                    return Ok(Some(word));
                }
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

    fn read(&mut self, bytes: &[u8]) -> io::Result<Option<Word>> {
        match from_slice(bytes) {
            Ok(FromShim::Hello(hello)) => {
                let oldest = hello.protocol_min.unwrap_or(hello.protocol);
                if let Some(versions) = foreign_versions(hello.protocol.into(), oldest.into()) {
                    return Ok(Some(Word::Foreign(versions)));
                }
                self.greeted_by(hello.pid)?;
                Ok(Some(Word::Message(FromShim::Hello(hello))))
            }
            Ok(message) => Ok(Some(Word::Message(message))),
            Err(error) => {
                let term = decode(bytes).map_err(io::Error::other)?;
                tracing::debug!(%error, "a word of a shim's that is not known");
                Ok(foreign_greeting(&term).map(Word::Foreign))
            }
        }
    }

    fn greeted_by(&mut self, pid: i32) -> io::Result<()> {
        let pid = Pid::from_raw(pid).ok_or_else(|| io::Error::other("the shim has no pid"))?;
        if pid != self.pid && self.is_known {
            let what = format!("pid {} listens, and says that it is {pid}", self.pid());
            return Err(io::Error::other(what));
        }
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

/// The versions of a greeting that cannot be read, which has their numbers whatever
/// else it has.
fn foreign_greeting(term: &Term<'_>) -> Option<String> {
    let [tag, hello] = term.as_tuple()? else { return None };
    let number = |key: &str| hello.get(key).and_then(Term::as_u64);
    let newest = number("protocol").filter(|_| tag.is_atom("hello"))?;
    let versions = foreign_versions(newest, number("protocol_min").unwrap_or(newest));
    Some(versions.unwrap_or_else(|| format!("{newest}, in words that are not known")))
}

/// These versions in words, when this program speaks none of them.
fn foreign_versions(newest: u64, oldest: u64) -> Option<String> {
    let is_spoken = oldest <= u64::from(PROTOCOL) && newest >= u64::from(PROTOCOL_MIN);
    let range = || match oldest == newest {
        true => newest.to_string(),
        false => format!("{oldest} to {newest}"),
    };
    (!is_spoken).then(range)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::time::Duration;

    use erlang_term_format::text;
    use tank_shim::protocol::{Adjust, PodCgroup, Stop};
    use tokio::time::timeout;

    use super::*;

    /// More than a socket takes that nobody reads.
    const MUCH: usize = 1 << 20;

    /// A shim that is this process, and the end that it would read.
    fn shim() -> (Shim, std::os::unix::net::UnixStream) {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let ours = UnixStream::from_std(ours).unwrap();
        (Shim::new(ours, rustix::process::getpid(), false).unwrap(), theirs)
    }

    #[tokio::test]
    async fn an_order_that_is_given_up_half_way_is_whole_before_the_next() {
        let (mut shim, mut theirs) = shim();
        let group = PodCgroup { path: "x".repeat(MUCH), files: Vec::new() };
        let much = ToShim::Adjust(Adjust { cgroups: vec![group], containers: Vec::new() });
        let little = ToShim::Stop(Stop { asked_at_ms: 1 });
        timeout(Duration::ZERO, shim.send(&much)).await.unwrap_err();
        let reader = std::thread::spawn(move || {
            let mut read = Vec::new();
            theirs.read_to_end(&mut read).map(|_| read)
        });
        shim.send(&little).await.unwrap();
        drop(shim);
        let read = reader.join().unwrap().unwrap();
        assert!(read == [encode(&much), encode(&little)].concat(), "{} bytes", read.len());
    }

    #[test]
    fn versions_meet_where_they_overlap() {
        let foreign = |hello: &str| foreign_greeting(&text::parse(hello).unwrap());
        assert_eq!(foreign_versions(1, 1), None);
        assert_eq!(foreign_versions(9, 1), None);
        let unknown = foreign("{hello, #{protocol => 9, protocol_min => 1, state => new}}");
        assert_eq!(unknown.as_deref(), Some("9, in words that are not known"));
        assert_eq!(foreign("{hello, #{protocol => 9}}").as_deref(), Some("9"));
        let newer = foreign("{hello, #{protocol => 9, protocol_min => 2, state => {new, nil}}}");
        assert_eq!(newer.as_deref(), Some("2 to 9"));
        assert_eq!(foreign("{launched, #{protocol => 9}}"), None);
    }
}
