//! How a shim begins: it becomes the first process of a pid namespace, takes
//! over the descriptors it was given, and leaves everything of its spawner
//! behind. Runs once, before anything else.

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::syscall::{self, Cloned};

/// What a shim was given.
pub(crate) struct Inherited {
    /// The first control connection.
    pub(crate) control: OwnedFd,
    /// Whether the shim is the first process of a pid namespace. Without
    /// that it launches nothing.
    pub(crate) pid_namespace: Result<(), Errno>,
}

/// Begins. The process that was started exits here; its child returns.
pub(crate) fn begin() -> Result<Inherited, Errno> {
    syscall::close_inherited()?;
    // It is executed by the number of a descriptor, which nobody knows it by.
    rustix::thread::set_name(c"tank-shim")?;
    syscall::note_command_line();
    let pid_namespace = become_first_process();
    syscall::reset_signals();
    rustix::process::umask(Mode::from_raw_mode(0o077));
    let _ = rustix::process::setsid();
    rustix::process::fchdir(rustix::stdio::stdout())?;
    let control = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let null = rustix::fs::open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    Ok(Inherited { control, pid_namespace })
}

/// Goes on as the first process of a new pid namespace. The kernel kills all of
/// a namespace when its first process dies, so nothing that the shim launches
/// can outlive it: not by a double fork, and not by changing its user, which
/// would undo a parent death signal.
fn become_first_process() -> Result<(), Errno> {
    match syscall::clone(libc::CLONE_NEWPID, None)? {
        Cloned::Parent(_) => syscall::exit_now(0),
        Cloned::Child => Ok(()),
    }
}
