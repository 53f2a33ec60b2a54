//! Mounts a pod's volumes into a container: opens what is to be mounted while
//! the host is in sight, and mounts it when nothing of the host is left that a
//! path could lead to. Never decides what a volume is, and never removes one.
//!
//! A target is a descriptor from its first look-up to the mount, so that who
//! swaps a directory for a link meanwhile (CVE-2021-30465) gains nothing. The
//! look-up stays in the root, whatever links there are, and follows none of
//! `/proc`'s, which lead to the host's through open descriptors.

use std::cell::OnceCell;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags};
use tank_shim::protocol::{Failure, Mount, Step};

use super::plan::c_string;
use super::stumble::{At, Stumble};
use crate::pod_volumes::PodVolume;
use crate::syscall;

/// How often a look-up is tried that renames and mounts have got in the way of.
const LOOK_UPS_MAX: usize = 128;

/// The name of `/proc`'s file system (`include/uapi/linux/magic.h`).
const PROC_MAGIC: u64 = 0x9fa0;

/// A mount, with all strings that it takes.
pub(super) struct MountPlan {
    /// A path of the host.
    source: CString,
    /// The path inside and its parents, outermost first.
    steps: Vec<PathStep>,
    is_read_only: bool,
    /// Whether the files are the host's users'.
    is_hosts: bool,
    /// Where it is mounted meanwhile, below the container's directory, when the
    /// pod has users of its own.
    stage: CString,
    /// What is to be mounted, from [`open`] on.
    tree: OnceCell<OwnedFd>,
}

/// A path from the root on, and the last name in it.
struct PathStep {
    path: CString,
    name: CString,
}

impl MountPlan {
    /// Where it goes, for errors.
    pub(super) fn path(&self) -> &CStr {
        self.steps.last().map_or(c"/", |step| &step.path)
    }

    /// Where it comes from, for errors.
    pub(super) fn source(&self) -> &CStr {
        &self.source
    }
}

/// Allocates what [`open`] and [`mount`] need.
pub(super) fn plan(volumes: &[PodVolume], mounts: &[Mount]) -> Result<Vec<MountPlan>, Failure> {
    let plan = |(index, mount): (usize, &Mount)| {
        let named = volumes.iter().find(|volume| volume.name == mount.volume);
        let Some(volume) = named else { return Err(faulty("mounts")) };
        let source = c_string("volumes", &volume.path)?;
        let steps = steps(&mount.path)?;
        let stage = c_string("mounts", &format!("volumes/{index}"))?;
        let (is_read_only, is_hosts) = (mount.read_only, volume.is_hosts);
        Ok(MountPlan { source, steps, is_read_only, is_hosts, stage, tree: OnceCell::new() })
    };
    mounts.iter().enumerate().map(plan).collect()
}

/// `/a//b/` as `/a` and `/a/b`.
fn steps(path: &str) -> Result<Vec<PathStep>, Failure> {
    let names: Vec<&str> = path.split('/').filter(|name| !matches!(*name, "" | ".")).collect();
    if !path.starts_with('/') || names.is_empty() || names.contains(&"..") {
        return Err(faulty("mounts"));
    }
    let mut path = String::new();
    let step = |name: &&str| {
        path.extend(["/", name]);
        Ok(PathStep { path: c_string("mounts", &path)?, name: c_string("mounts", name)? })
    };
    names.iter().map(step).collect()
}

fn faulty(field: &str) -> Failure {
    Failure::new(Step::CheckContainer, field, libc::EINVAL)
}

/// Opens what is to be mounted, as long as paths are the host's. All of it is
/// in no mount namespace until it is mounted.
pub(super) fn open(mounts: &[MountPlan]) -> Result<(), Stumble> {
    open_each(mounts, MountPlan::source)
}

/// The same of what has been mounted meanwhile, in the container's directory.
pub(super) fn open_staged(mounts: &[MountPlan]) -> Result<(), Stumble> {
    open_each(mounts, |mount| &mount.stage)
}

fn open_each(mounts: &[MountPlan], path: impl Fn(&MountPlan) -> &CStr) -> Result<(), Stumble> {
    for (index, mount) in mounts.iter().enumerate() {
        let tree = open_path(path(mount)).at_nth(Step::OpenVolume, index)?;
        // Each is opened once, so that there is none to be replaced.
        let _ = mount.tree.set(tree);
    }
    Ok(())
}

/// Mounts all in the container's directory, for the pod's own users. A mount
/// namespace that is made of this one for such users cannot take back what is
/// forbidden here: read-only stays read-only, whoever is privileged there.
pub(super) fn stage(
    mounts: &[MountPlan],
    dir: &OwnedFd,
    user_namespace: BorrowedFd<'_>,
) -> Result<(), Stumble> {
    for (index, mount) in mounts.iter().enumerate() {
        let tree = open_path(&mount.source).at_nth(Step::OpenVolume, index)?;
        let tree = tree.as_fd();
        if mount.is_hosts {
            let mapped = syscall::map_mount(tree, attributes(mount, false), user_namespace);
            mapped.at_nth(Step::MapVolume, index)?;
        } else {
            restrict(tree, mount, false).at_nth(Step::OpenVolume, index)?;
        }
        let staged = is_directory(tree)
            .and_then(|is_directory| make(dir, &mount.stage, !is_directory))
            .and_then(|()| attach(tree, dir.as_fd(), &mount.stage));
        staged.at_nth(Step::OpenVolume, index)?;
    }
    Ok(())
}

fn open_path(path: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    rustix::mount::open_tree(CWD, path, flags)
}

/// Mounts what has been opened. The host's root must be gone: as long as it
/// lies on top of the new one, `/..` leads to it, RESOLVE_IN_ROOT or not.
pub(super) fn mount(mounts: &[MountPlan], opens_devices: bool) -> Result<(), Stumble> {
    if mounts.is_empty() {
        return Ok(());
    }
    let path = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(c"/", path, Mode::empty()).at(Step::MakeMountTarget)?;
    for (index, mount) in mounts.iter().enumerate() {
        let tree = mount.tree.get().ok_or(Errno::BADF);
        let tree = tree.at_nth(Step::MountVolume, index)?.as_fd();
        restrict(tree, mount, opens_devices).at_nth(Step::MountVolume, index)?;
        let is_directory = is_directory(tree).at_nth(Step::MountVolume, index)?;
        let target = target(&root, &mount.steps, is_directory);
        let target = target.at_nth(Step::MakeMountTarget, index)?;
        check(tree, &root, &target).at_nth(Step::MountVolume, index)?;
        attach(tree, target.as_fd(), c"").at_nth(Step::MountVolume, index)?;
    }
    Ok(())
}

/// Whatever a volume has below it: no programs that change the user, no devices
/// unless privileged, and no writing unless asked for.
fn restrict(tree: BorrowedFd<'_>, mount: &MountPlan, opens_devices: bool) -> Result<(), Errno> {
    syscall::set_mount_attributes(tree, attributes(mount, opens_devices))
}

fn attributes(mount: &MountPlan, opens_devices: bool) -> u64 {
    let no_devices = if opens_devices { 0 } else { libc::MOUNT_ATTR_NODEV };
    let always = libc::MOUNT_ATTR_NOSUID | no_devices;
    // What the host has read-only stays so.
    let read_only = if mount.is_read_only { libc::MOUNT_ATTR_RDONLY } else { 0 };
    always | read_only
}

fn is_directory(fd: BorrowedFd<'_>) -> Result<bool, Errno> {
    let mode = rustix::fs::fstat(fd)?.st_mode;
    Ok(FileType::from_raw_mode(mode) == FileType::Directory)
}

/// Finds a path in the root, or makes what is missing of it: directories, and
/// at its end a file for what is none.
fn target(root: &OwnedFd, steps: &[PathStep], is_directory: bool) -> Result<OwnedFd, Errno> {
    let mut parent: Option<OwnedFd> = None;
    for (index, step) in steps.iter().enumerate() {
        let found = match look_up(root, &step.path) {
            Err(Errno::NOENT) => {
                let is_file = index + 1 == steps.len() && !is_directory;
                make(parent.as_ref().unwrap_or(root), &step.name, is_file)?;
                look_up(root, &step.path)?
            }
            found => found?,
        };
        parent = Some(found);
    }
    parent.ok_or(Errno::INVAL)
}

/// A path below the root, and never out of it.
fn look_up(root: &OwnedFd, path: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let mut result = Err(Errno::AGAIN);
    for _ in 0..LOOK_UPS_MAX {
        result = rustix::fs::openat2(root, path, flags, Mode::empty(), resolve);
        if !matches!(result, Err(Errno::AGAIN)) {
            break;
        }
    }
    result
}

/// Makes one entry. Neither call follows a link at the end of a path.
fn make(parent: &OwnedFd, name: &CStr, is_file: bool) -> Result<(), Errno> {
    let made = if is_file {
        let mode = Mode::from_raw_mode(0o644);
        rustix::fs::mknodat(parent, name, FileType::RegularFile, mode, 0)
    } else {
        rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755))
    };
    // Who else has made it may have: what it is shows when it is looked up.
    if made == Err(Errno::EXIST) { Ok(()) } else { made }
}

/// Refuses what a link in an image can lead to and no volume may cover: what
/// tells programs of the kernel, and the root, on which a mount would not show.
/// For a file on a directory and the reverse, the kernel has no word of its own.
fn check(tree: BorrowedFd<'_>, root: &OwnedFd, target: &OwnedFd) -> Result<(), Errno> {
    let is_proc = rustix::fs::fstatfs(target)?.f_type as u64 == PROC_MAGIC;
    let place = |fd| rustix::fs::fstat(fd).map(|stat| (stat.st_dev, stat.st_ino));
    if is_proc || place(root.as_fd())? == place(target.as_fd())? {
        return Err(Errno::PERM);
    }
    match (is_directory(tree)?, is_directory(target.as_fd())?) {
        (true, false) => Err(Errno::NOTDIR),
        (false, true) => Err(Errno::ISDIR),
        _ => Ok(()),
    }
}

/// Mounts a tree on a path in a directory, or on what has been opened itself.
pub(super) fn attach(tree: BorrowedFd<'_>, dir: BorrowedFd<'_>, path: &CStr) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(tree, c"", dir, path, flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_walked_in_one_spelling() {
        let steps = steps("/a//b/./c/").unwrap();
        let walked: Vec<_> = steps.iter().map(|step| (&*step.path, &*step.name)).collect();
        assert_eq!(walked, [(c"/a", c"a"), (c"/a/b", c"b"), (c"/a/b/c", c"c")]);
    }

    #[test]
    fn a_path_that_is_none_is_refused() {
        for path in ["", "/", "/./", "a", "/..", "/a/../b", "/a\0"] {
            assert!(steps(path).is_err(), "{path:?}");
        }
    }
}
