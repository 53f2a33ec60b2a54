//! The control connection: at most one, the newest. It carries frames both ways
//! and knows nothing of their meaning. Whatever is wrong with it costs the
//! connection only.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use tank_shim::frame::{self, Decoder};
use tank_shim::protocol::{FromShim, SOCKET_FILE, ToShim};

/// The listening socket and the connection.
#[derive(Debug)]
pub(crate) struct Control {
    listener: UnixListener,
    connection: Option<Connection>,
}

#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    decoder: Decoder,
}

impl Control {
    /// Listens in the current directory, and takes a first connection.
    pub(crate) fn new(first: OwnedFd) -> io::Result<Self> {
        // A socket of an older shim may lie there; the lock says that it is dead.
        let _ = std::fs::remove_file(SOCKET_FILE);
        let listener = UnixListener::bind(SOCKET_FILE)?;
        listener.set_nonblocking(true)?;
        let connection = Some(Connection::new(first.into())?);
        Ok(Self { listener, connection })
    }

    /// Readable when somebody connects.
    pub(crate) fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Readable when there is a message, or the connection's end.
    pub(crate) fn connection(&self) -> Option<BorrowedFd<'_>> {
        self.connection.as_ref().map(|connection| connection.stream.as_fd())
    }

    /// Removes the socket's file: nobody is to connect any more.
    pub(crate) fn forget_socket(&self) {
        let _ = std::fs::remove_file(SOCKET_FILE);
    }

    /// Takes a new connection in the old one's place. False when there is none.
    pub(crate) fn accept(&mut self) -> bool {
        let Ok((stream, _)) = self.listener.accept() else { return false };
        self.connection = Connection::new(stream).ok();
        self.connection.is_some()
    }

    /// Sends a message, if there is anybody to send to. Returns whether there was.
    pub(crate) fn send(&mut self, message: &FromShim) -> bool {
        let Some(connection) = &mut self.connection else { return false };
        // A peer that lets the few messages of a life fill its socket is gone. What it
        // has said before is still read, and then the connection's end.
        let sent = connection.stream.write_all(&frame::encode(message)).is_ok();
        if !sent {
            let _ = connection.stream.shutdown(Shutdown::Both);
        }
        sent
    }

    /// Reads once what the connection has, and calls for each message. Closes
    /// it at its end, and for a frame that is none.
    pub(crate) fn receive(&mut self) -> Vec<ToShim> {
        let Some(connection) = &mut self.connection else { return Vec::new() };
        let mut messages = Vec::new();
        if connection.receive(&mut messages).is_err() {
            self.connection = None;
        }
        messages
    }
}

impl Connection {
    fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream, decoder: Decoder::default() })
    }

    fn receive(&mut self, messages: &mut Vec<ToShim>) -> io::Result<()> {
        let mut bytes = [0; 4096];
        match self.stream.read(&mut bytes) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => self.decoder.push(&bytes[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(error),
        }
        while let Some(message) = self.decoder.decode().map_err(io::Error::other)? {
            messages.push(message);
        }
        Ok(())
    }
}
