//! How a shim begins: it becomes the first process of a pid namespace, and root of
//! a user namespace unless it is root, takes over the descriptors it was given,
//! and leaves everything of its spawner behind. Runs once, before anything else.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::process::{Resource, Rlimit};
use tank_shim::protocol::{Failure, Step};
use tank_shim::spawn::Birth;

use crate::launch::failure;
use crate::own_users;
use crate::syscall::{self, Cloned};

/// What a shim was given.
pub(crate) struct Inherited {
    /// The first control connection.
    pub(crate) control: OwnedFd,
    /// Whether the shim is the first process of a pid namespace, and root.
    /// Without that it launches nothing.
    pub(crate) namespaces: Result<(), Failure>,
}

/// Begins. The process that was started exits here; its child returns.
pub(crate) fn begin() -> Result<Inherited, Errno> {
    syscall::close_inherited()?;
    // It is executed by the number of a descriptor, which nobody knows it by.
    rustix::thread::set_name(c"tank-shim")?;
    syscall::note_command_line();
    syscall::reset_signals()?;
    let birth = Birth::from_args(std::env::args_os().skip(2));
    if let Some(most) = birth.open_files {
        limit_open_files(most)?;
    }
    let namespaces = become_first_process(birth.cgroup.as_deref());
    rustix::process::umask(Mode::from_raw_mode(0o077));
    let _ = rustix::process::setsid();
    rustix::process::fchdir(rustix::stdio::stdout())?;
    let control = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let null = rustix::fs::open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    Ok(Inherited { control, namespaces })
}

/// Whoever starts shims may have raised its own limit: programs that go by it, as those
/// that use select(2), must not find another than was meant for them.
fn limit_open_files(most: u64) -> Result<(), Errno> {
    let limit = Rlimit { current: Some(most), ..rustix::process::getrlimit(Resource::Nofile) };
    rustix::process::setrlimit(Resource::Nofile, limit)
}

/// Goes on as the first process of a new pid namespace. The kernel kills all of
/// a namespace when its first process dies, so nothing that the shim launches
/// can outlive it: not by a double fork, and not by changing its user, which
/// would undo a parent death signal.
fn become_first_process(cgroup: Option<&Path>) -> Result<(), Failure> {
    if !rustix::process::geteuid().is_root() {
        return become_root(cgroup);
    }
    let cloned = be_born(cgroup, libc::CLONE_NEWPID);
    match cloned.map_err(|errno| failure(Step::EnterPidNamespace, "of its own", errno))? {
        Cloned::Parent(_) => syscall::exit_now(0),
        Cloned::Child => Ok(()),
    }
}

/// Makes the shim in the cgroup that is named for it, if any. Whoever started the
/// BEAM may kill the one that this process is in at any moment. A refusal, which is
/// whoever's who is not root, leaves the shim there: it works, and a pod is the
/// better for it.
fn be_born(named: Option<&Path>, namespaces: libc::c_int) -> Result<Cloned, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let cgroup = named.and_then(|path| rustix::fs::open(path, flags, Mode::empty()).ok());
    match syscall::clone(namespaces, cgroup.as_ref().map(AsFd::as_fd)) {
        Err(_) if cgroup.is_some() => syscall::clone(namespaces, None),
        cloned => cloned,
    }
}

/// The same in a new user namespace, which has the pid namespace and all that the
/// shim makes later. It has no ids until its parent has given it some.
fn become_root(cgroup: Option<&Path>) -> Result<(), Failure> {
    let failed = |errno| failure(Step::MakeUserNamespace, "of its own", errno);
    let (given, tell) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
    match be_born(cgroup, libc::CLONE_NEWUSER | libc::CLONE_NEWPID).map_err(failed)? {
        // A child that is told nothing ends, and this process tells why there is none.
        Cloned::Parent(child) => {
            own_users::give_ids(&child)?;
            rustix::io::write(&tell, &[0]).map_err(failed)?;
            syscall::exit_now(0)
        }
        Cloned::Child => {
            drop(tell);
            match rustix::io::read(&given, &mut [0; 1]) {
                Ok(1) => Ok(()),
                _ => syscall::exit_now(1),
            }
        }
    }
}
