//! The terminal of a container that asks for one (`tty: true`): a pair in its own
//! `/dev/pts`, of which the container has one end, as `/dev/console` and as its
//! standard streams, and the shim the other. Allocates nothing.
//!
//! The container's end is had from the other one (TIOCGPTPEER) and mounted by
//! its descriptor, never by a path that could be another's by then (CVE-2025-52565).

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, FileType, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use rustix::pty::OpenptFlags;

use crate::syscall;

/// What a terminal without a window is taken for.
const ROWS_AND_COLUMNS: (u16, u16) = (24, 80);

/// Makes the pair, sends one end to the shim and makes the other the standard
/// streams. `/dev` must be the container's own by now, and nobody else in it.
pub(super) fn set_up(shim: BorrowedFd<'_>, owner: Uid) -> Result<(), Errno> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = rustix::fs::open(c"/dev/pts/ptmx", flags, Mode::empty())?;
    rustix::pty::unlockpt(&master)?;
    let terminal = open_peer(&master)?;
    let (ws_row, ws_col) = ROWS_AND_COLUMNS;
    let size = rustix::termios::Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&terminal, size)?;
    rustix::fs::fchown(&terminal, Some(owner), None)?;
    mount_console(&terminal)?;
    send(shim, &master)?;
    for number in 0..3 {
        syscall::duplicate_to(terminal.as_fd(), number, true)?;
    }
    Ok(())
}

/// The other end of a pair.
fn open_peer(master: &OwnedFd) -> Result<OwnedFd, Errno> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    rustix::pty::ioctl_tiocgptpeer(master, flags)
}

/// Makes the terminal on standard input that of this session.
pub(super) fn control() -> Result<(), Errno> {
    rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())
}

fn mount_console(terminal: &OwnedFd) -> Result<(), Errno> {
    rustix::fs::mknodat(CWD, c"/dev/console", FileType::RegularFile, Mode::empty(), 0)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = rustix::mount::open_tree(terminal, c"", flags)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(&tree, c"", CWD, c"/dev/console", flags)
}

fn send(shim: BorrowedFd<'_>, master: &OwnedFd) -> Result<(), Errno> {
    let fds = [master.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(Errno::NOBUFS);
    }
    let byte = [IoSlice::new(&[0])];
    rustix::net::sendmsg(shim, &byte, &mut ancillary, SendFlags::empty()).map(drop)
}

/// The shim's end, once it has been sent; it never blocks. And one of the
/// container's: as long as it is open, the terminal does not hang up when the
/// container has it open nowhere for a while, as `/dev/console` often is.
pub(crate) fn receive(socket: &OwnedFd) -> Result<(OwnedFd, OwnedFd), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut byte = [std::io::IoSliceMut::new(&mut byte)];
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    rustix::net::recvmsg(socket, &mut byte, &mut ancillary, flags)?;
    let mut fds = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    let master = fds.next().and_then(|mut fds| fds.next()).ok_or(Errno::BADF)?;
    rustix::io::ioctl_fionbio(&master, true)?;
    let peer = open_peer(&master)?;
    Ok((master, peer))
}
