//! A further process in a container that lives: in its namespaces and cgroups,
//! under its user, its capabilities and its seccomp program. What is true of the
//! first process is true of this one: it is left with no more.
//!
//! Namespaces of processes are for children only. So a process of the shim's
//! enters, and makes a brother there: the shim is its parent, which can wait for
//! it, and its first process the container's.

use std::convert::Infallible;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions};
use rustix::thread::ThreadNameSpaceType as NameSpaces;
use tank_shim::protocol::{Container, Failure, Step, UserNamespace};

use super::child::{self, At, Stumble};
use super::process_plan::ProcessPlan;
use super::{Explain, Launching, Started, failure, mapped};
use crate::syscall::{self, Cloned, Forked};

/// Where the container has to itself what the shim is not in.
const NAMESPACES: NameSpaces =
    NameSpaces::MOUNT.union(NameSpaces::PROCESS_ID).union(NameSpaces::CONTROL_GROUP);

/// Those that the shim is in as well, unless the pod has users of its own.
const MAPPED_NAMESPACES: NameSpaces = NameSpaces::USER
    .union(NameSpaces::NETWORK)
    .union(NameSpaces::INTER_PROCESS_COMMUNICATION)
    .union(NameSpaces::HOST_NAME_AND_NIS_DOMAIN_NAME);

/// Clones a process that executes `argv` beside a container's first process.
pub(crate) fn start(
    container: &Container,
    first: BorrowedFd<'_>,
    ids: Option<UserNamespace>,
    argv: &[String],
) -> Result<Started, Failure> {
    let beside = Container { init: false, tty: false, ..container.clone() };
    let (plan, ends) = ProcessPlan::new(&beside, argv, ids)?;
    let (brother, brother_child) = brother_pipe()?;
    match syscall::clone(0, plan.birth_cgroup()) {
        Ok(Cloned::Child) => {
            let is_mapped = ids.is_some();
            child::report_failure(&plan, || enter(&plan, first, is_mapped, &brother_child))
        }
        Ok(Cloned::Parent(entering)) => {
            drop(brother_child);
            let pidfd = wait_for_brother(brother, &entering);
            let explain = Explain::Process(Box::new(plan.without_descriptors()));
            let launching = Launching { report: ends.report, explain };
            let pidfd = pidfd.map_err(|errno| launching.why_not(errno))?;
            Ok(Started { pidfd, output: ends.output, launching })
        }
        Err(errno) => Err(failure(Step::Clone, plan.clone_object, errno)),
    }
}

/// Enters, and makes the brother that goes on.
fn enter(
    plan: &ProcessPlan,
    first: BorrowedFd<'_>,
    is_mapped: bool,
    brother: &OwnedFd,
) -> Result<Infallible, Stumble> {
    // Who is in the container already must not look into what comes (CVE-2016-9962).
    syscall::forbid_looks();
    child::join_cgroups(plan)?;
    child::limit_process(plan)?;
    let namespaces = if is_mapped { NAMESPACES.union(MAPPED_NAMESPACES) } else { NAMESPACES };
    rustix::thread::move_into_thread_name_spaces(first, namespaces).at(Step::EnterContainer)?;
    match syscall::fork_brother().at(Step::Clone)? {
        Forked::Child => {
            if is_mapped {
                mapped::become_root().at(Step::EnterUserNamespace)?;
            }
            child::begin_and_exec(plan)
        }
        Forked::Parent(pid) => {
            let _ = rustix::io::write(brother, &pid.to_ne_bytes());
            syscall::exit_now(0)
        }
    }
}

/// A pipe for a brother's pid, on which the shim waits for it.
pub(super) fn brother_pipe() -> Result<(OwnedFd, OwnedFd), Failure> {
    rustix::pipe::pipe_with(PipeFlags::CLOEXEC)
        .map_err(|errno| failure(Step::MakePipe, "the process's id", errno))
}

/// The brother of a process that is about to end.
pub(super) fn wait_for_brother(pipe: OwnedFd, entering: &OwnedFd) -> Result<OwnedFd, Errno> {
    let mut pid = [0; 4];
    let read = std::fs::File::from(pipe).read_exact(&mut pid);
    let _ = rustix::process::waitid(WaitId::PidFd(entering.as_fd()), WaitIdOptions::EXITED);
    read.map_err(|_| Errno::CHILD)?;
    let pid = Pid::from_raw(i32::from_ne_bytes(pid)).ok_or(Errno::CHILD)?;
    // It is a child of the shim's, and not reaped: the pid is still its own.
    rustix::process::pidfd_open(pid, PidfdFlags::empty())
}
