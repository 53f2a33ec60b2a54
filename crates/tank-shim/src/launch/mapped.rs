//! Launches a container whose pod has users of its own.
//!
//! What takes the host's root is done by a process in between: it mounts the
//! overlay and the volumes for these users, enters their namespaces, makes the
//! first process there as a brother, and ends. So mount and pid namespace of the
//! first process belong to the user namespace, and the kernel has locked what is
//! mounted in the one: nobody inside can take it apart or make it writable.

use std::cell::OnceCell;
use std::convert::Infallible;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, OpenTreeFlags};
use rustix::thread::UnshareFlags;
use tank_shim::protocol::{Failure, Step};

use super::child;
use super::plan::Plan;
use super::process_plan::Ends;
use super::root::NO_SUID_DEV_EXEC;
use super::stumble::{At, Stumble};
use super::{Explain, Launching, NAMESPACES, Started, enter, failure, volumes, workload};
use crate::syscall::{self, Cloned, Forked, SharedPid};
use crate::user_namespace::UserNamespace;

/// Where the root filesystem is mounted for these users, below the container's
/// directory.
pub(super) const LOWER: &CStr = c"lower";

/// What is otherwise with users of its own.
#[derive(Debug)]
pub(super) struct Mapped {
    has_network: bool,
    /// `/sys` of the host's network, which only the host's root can mount.
    sys: OnceCell<OwnedFd>,
}

impl Mapped {
    pub(super) fn new(user_namespace: &UserNamespace) -> Self {
        Self { has_network: user_namespace.has_network(), sys: OnceCell::new() }
    }

    /// What is to be mounted on `/sys`, where the container cannot make it.
    pub(super) fn sys(&self) -> Option<BorrowedFd<'_>> {
        self.sys.get().map(AsFd::as_fd)
    }
}

/// Clones the process in between, and waits until the first process is there.
pub(super) fn start(
    plan: Plan,
    ends: Ends,
    user_namespace: &UserNamespace,
) -> Result<Started, Failure> {
    let brother = enter::brother()?;
    match syscall::clone(0, None) {
        Ok(Cloned::Child) => {
            workload::report_failure(&plan.process, || go_between(&plan, user_namespace, &brother))
        }
        Ok(Cloned::Parent(between)) => {
            let pidfd = enter::wait_for_brother(&brother, &between);
            let object = plan.process.clone_object.clone();
            let explain = Explain::Container(Box::new(plan.without_descriptors()));
            let launching = Launching { report: ends.report, explain };
            let pidfd = pidfd.map_err(|errno| launching.why_not(Step::Clone, &object, errno))?;
            Ok(Started { pidfd, output: ends.output, launching })
        }
        Err(errno) => Err(failure(Step::Clone, plan.process.clone_object, errno)),
    }
}

/// Does what takes the host's root, and makes the brother that goes on.
fn go_between(
    plan: &Plan,
    user_namespace: &UserNamespace,
    brother: &SharedPid,
) -> Result<Infallible, Stumble> {
    mount_all(plan, user_namespace)?;
    workload::limit_process(&plan.process)?;
    user_namespace.enter().at(Step::EnterUserNamespace)?;
    // Before it is root there: the host's cgroups let their owner's id in.
    let cgroup = plan.process.birth_cgroup();
    match syscall::clone_brother(NAMESPACES, cgroup, brother).at(Step::Clone)? {
        Forked::Child => child::run(plan),
        Forked::Parent(_) => syscall::exit_now(0),
    }
}

/// Mounts, in a mount namespace of its own, all that the container is to find.
fn mount_all(plan: &Plan, user_namespace: &UserNamespace) -> Result<(), Stumble> {
    syscall::enter_new(UnshareFlags::NEWNS).at(Step::MakeMountsPrivate)?;
    let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
    rustix::mount::mount_change(c"/", private).at(Step::MakeMountsPrivate)?;
    let path = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(&*plan.dir, path, Mode::empty()).at(Step::MountOverlay)?;
    volumes::stage(&plan.mounts, &dir, user_namespace.as_fd())?;
    rustix::process::fchdir(&dir).at(Step::MountOverlay)?;
    mount_overlay(plan, user_namespace)?;
    if user_namespace.has_network() {
        return Ok(());
    }
    let flags = NO_SUID_DEV_EXEC | MountFlags::RDONLY;
    rustix::mount::mount(c"sysfs", c"sys", c"sysfs", flags, None).at(Step::MountSys)
}

/// Mounts the overlay for the host's root, who may do whatever an overlay has to,
/// on a lower layer whose files are the pod's users'.
fn mount_overlay(plan: &Plan, user_namespace: &UserNamespace) -> Result<(), Stumble> {
    let lower = open_tree(&plan.rootfs).at(Step::OpenRootfs)?;
    syscall::map_mount(lower.as_fd(), 0, user_namespace.as_fd()).at(Step::MapRootfs)?;
    volumes::attach(lower.as_fd(), CWD, LOWER).at(Step::MapRootfs)?;
    let options = Some(&*plan.overlay_options);
    rustix::mount::mount(c"overlay", c"root", c"overlay", MountFlags::NODEV, options)
        .at(Step::MountOverlay)
}

fn open_tree(path: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    rustix::mount::open_tree(CWD, path, flags)
}

/// The beginning of the first process: takes what has been mounted for it, enters
/// its root and becomes root. Until then it has the id of the host's root, whose
/// directory it is in, but none of his rights.
pub(super) fn arrive(plan: &Plan, mapped: &Mapped) -> Result<(), Stumble> {
    volumes::open_staged(&plan.mounts)?;
    if !mapped.has_network {
        let _ = mapped.sys.set(open_tree(c"sys").at(Step::MountSys)?);
    }
    // What is locked can be no root, but a copy of it can.
    let root = open_tree(c"root").at(Step::PivotRoot)?;
    volumes::attach(root.as_fd(), CWD, c"root").at(Step::PivotRoot)?;
    rustix::process::fchdir(&root).at(Step::PivotRoot)?;
    become_root().at(Step::EnterUserNamespace)
}

/// Becomes root of the user namespace that it has entered.
pub(super) fn become_root() -> Result<(), Errno> {
    rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)?;
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)
}
