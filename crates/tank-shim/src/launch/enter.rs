//! A further process in a container that lives: in its namespaces and cgroups,
//! under its user, its capabilities and its seccomp program. What is true of the
//! first process is true of this one: it is left with no more.
//!
//! Namespaces of processes are for children only. So a process of the shim's
//! enters, and makes a brother there: the shim is its parent, which can wait for
//! it, and its first process the container's.

use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::process::{PidfdFlags, Signal, WaitId, WaitIdOptions, WaitOptions};
use rustix::thread::ThreadNameSpaceType as NameSpaces;
use tank_shim::protocol::{Container, Failure, Step, UserNamespace};

use super::child;
use super::process_plan::ProcessPlan;
use super::stumble::{At, Stumble};
use super::{Explain, Launching, Started, failure, mapped, oci, workload};
use crate::process;
use crate::syscall::{self, Cloned, Forked, SharedPid};

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
    let cgroups = oci::cgroups(container);
    let beside = Container { init: false, tty: false, cgroups, ..container.clone() };
    let (plan, ends) = ProcessPlan::new(&beside, argv, ids)?;
    let brother = brother()?;
    match syscall::clone(0, plan.birth_cgroup()) {
        Ok(Cloned::Child) => {
            let is_mapped = ids.is_some();
            workload::report_failure(&plan, || enter(&plan, first, is_mapped, &brother))
        }
        Ok(Cloned::Parent(entering)) => {
            let pidfd = wait_for_brother(&brother, &entering);
            let explain = Explain::Process(Box::new(plan.without_descriptors()));
            let launching = Launching { report: ends.report, explain };
            let why_not = |errno| launching.why_not(Step::EnterContainer, &container.name, errno);
            let pidfd = pidfd.map_err(why_not)?;
            Ok(Started { pidfd, output: ends.output, launching })
        }
        Err(errno) => Err(failure(Step::Clone, plan.clone_object, errno)),
    }
}

/// Enters, gives up what it is not to have while nobody in the container can see
/// it, and makes the brother that goes on: who is there may be allowed to look into
/// others, and could take what it finds (CVE-2016-9962).
fn enter(
    plan: &ProcessPlan,
    first: BorrowedFd<'_>,
    is_mapped: bool,
    brother: &SharedPid,
) -> Result<Infallible, Stumble> {
    workload::join_cgroups(plan)?;
    workload::limit_process(plan)?;
    let namespaces = if is_mapped { NAMESPACES.union(MAPPED_NAMESPACES) } else { NAMESPACES };
    rustix::thread::move_into_thread_name_spaces(first, namespaces).at(Step::EnterContainer)?;
    if is_mapped {
        mapped::become_root().at(Step::EnterUserNamespace)?;
    }
    workload::redirect_and_close(plan)?;
    workload::redirect_stdin().at(Step::SetUpStdio)?;
    workload::drop_privileges(plan)?;
    syscall::forbid_looks().at(Step::ForbidLooks)?;
    match syscall::fork_brother(brother).at(Step::Clone)? {
        Forked::Child => child::begin_and_exec(plan),
        Forked::Parent(_) => syscall::exit_now(0),
    }
}

/// A place for a brother's pid.
pub(super) fn brother() -> Result<SharedPid, Failure> {
    SharedPid::new().map_err(|errno| failure(Step::MakePipe, "the process's id", errno))
}

/// The brother of a process that is about to end. Where it cannot be had, none is left.
pub(super) fn wait_for_brother(brother: &SharedPid, entering: &OwnedFd) -> Result<OwnedFd, Errno> {
    let waited = rustix::process::waitid(WaitId::PidFd(entering.as_fd()), WaitIdOptions::EXITED);
    if waited.is_err() {
        process::end(entering);
    }
    // It is a child of the shim's, and not reaped: the pid is still its own.
    let pid = brother.get().ok_or(waited.err().unwrap_or(Errno::CHILD))?;
    let opened = waited.and_then(|_| rustix::process::pidfd_open(pid, PidfdFlags::empty()));
    if opened.is_err() {
        let _ = rustix::process::kill_process(pid, Signal::KILL);
        let _ = rustix::process::waitpid(Some(pid), WaitOptions::empty());
    }
    opened
}
