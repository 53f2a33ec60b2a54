//! What a container finds as its root: the overlay, the kernel's file systems and
//! devices, what is hidden of the host and what is for reading only. Steps between
//! clone and exec, which allocate nothing.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, OpenTreeFlags, UnmountFlags};
use tank_shim::protocol::Step;

use super::mapped::Mapped;
use super::plan::Plan;
use super::stumble::{At, Stumble};
use super::volumes;
use crate::syscall;

/// What in `/dev` is made, in this order; errors name an entry.
const DEVICES: [&CStr; 6] =
    [c"/dev/null", c"/dev/zero", c"/dev/full", c"/dev/random", c"/dev/urandom", c"/dev/tty"];

/// The same devices as seen from the host's root directory.
const HOST_DEVICES: [&CStr; 6] =
    [c"dev/null", c"dev/zero", c"dev/full", c"dev/random", c"dev/urandom", c"dev/tty"];

/// Links in `/dev`: name and target.
const DEV_LINKS: [(&CStr, &CStr); 5] = [
    (c"/dev/ptmx", c"pts/ptmx"),
    (c"/dev/fd", c"/proc/self/fd"),
    (c"/dev/stdin", c"/proc/self/fd/0"),
    (c"/dev/stdout", c"/proc/self/fd/1"),
    (c"/dev/stderr", c"/proc/self/fd/2"),
];

/// A file system below `/dev`.
struct DevMount {
    path: &'static CStr,
    kind: &'static CStr,
    flags: MountFlags,
    options: &'static CStr,
    /// The options where there is no group `tty`.
    without_group: Option<&'static CStr>,
}

impl DevMount {
    fn options(&self, has_tty_group: bool) -> &'static CStr {
        self.without_group.filter(|_| !has_tty_group).unwrap_or(self.options)
    }
}

const DEV_MOUNTS: [DevMount; 3] = [
    DevMount {
        path: c"/dev/pts",
        kind: c"devpts",
        flags: MountFlags::NOSUID.union(MountFlags::NOEXEC),
        options: c"newinstance,ptmxmode=0666,mode=0620,gid=5",
        without_group: Some(c"newinstance,ptmxmode=0666,mode=0620"),
    },
    DevMount {
        path: c"/dev/shm",
        kind: c"tmpfs",
        flags: NO_SUID_DEV_EXEC,
        options: c"mode=1777,size=64m",
        without_group: None,
    },
    DevMount {
        path: c"/dev/mqueue",
        kind: c"mqueue",
        flags: NO_SUID_DEV_EXEC,
        options: c"",
        without_group: None,
    },
];

pub(super) const NO_SUID_DEV_EXEC: MountFlags =
    MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// Hidden: they tell of the host or reach into it. Docker's list.
const MASKED: [&CStr; 11] = [
    c"/proc/asound",
    c"/proc/acpi",
    c"/proc/kcore",
    c"/proc/keys",
    c"/proc/latency_stats",
    c"/proc/timer_list",
    c"/proc/timer_stats",
    c"/proc/sched_debug",
    c"/proc/scsi",
    c"/sys/firmware",
    c"/sys/devices/virtual/powercap",
];

/// Readable only: they set the host's kernel up. Docker's list.
const PROTECTED: [&CStr; 5] =
    [c"/proc/bus", c"/proc/fs", c"/proc/irq", c"/proc/sys", c"/proc/sysrq-trigger"];

/// What a step is done to, for the steps whose objects are listed here.
pub(super) fn object(step: Step, index: usize) -> Option<&'static CStr> {
    Some(match step {
        Step::MakeMountsPrivate | Step::DetachHostRoot | Step::ProtectRoot => c"/",
        Step::MountProc => c"/proc",
        Step::MountCgroups => c"/sys/fs/cgroup",
        Step::MountSys => c"/sys",
        Step::MountDev => dev_object(index)?,
        Step::MaskPath => MASKED.get(index)?,
        Step::ProtectPath => PROTECTED.get(index)?,
        _ => return None,
    })
}

/// `/dev` itself, devices, file systems and links are numbered through.
fn dev_object(index: usize) -> Option<&'static CStr> {
    let mounts = DEV_MOUNTS.iter().map(|mount| mount.path);
    let links = DEV_LINKS.iter().map(|(name, _)| *name);
    [c"/dev"].into_iter().chain(DEVICES).chain(mounts).chain(links).nth(index)
}

/// Makes the overlay the root. The host's root is the current directory from here
/// until it is detached.
pub(super) fn change_root(plan: &Plan) -> Result<(), Stumble> {
    if plan.mapped.is_none() {
        mount_root(plan)?;
    }
    let path = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let host_root = rustix::fs::open(c"/", path, Mode::empty()).at(Step::PivotRoot)?;
    // The old root lies on top of the new one until it is detached.
    rustix::process::pivot_root(c".", c".").at(Step::PivotRoot)?;
    rustix::process::fchdir(&host_root).at(Step::PivotRoot)
}

/// Mounts the overlay and enters it.
fn mount_root(plan: &Plan) -> Result<(), Stumble> {
    let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
    rustix::mount::mount_change(c"/", private).at(Step::MakeMountsPrivate)?;
    volumes::open(&plan.mounts)?;
    mount_overlay(plan)?;
    rustix::process::chdir(c"root").at(Step::PivotRoot)
}

/// Mounts the overlay, and goes into its directory.
pub(super) fn mount_overlay(plan: &Plan) -> Result<(), Stumble> {
    rustix::process::chdir(&*plan.dir).at(Step::MountOverlay)?;
    open_rootfs_here(plan).at(Step::OpenRootfs)?;
    let flags = no_devices(plan);
    rustix::mount::mount(c"overlay", c"root", c"overlay", flags, Some(&*plan.overlay_options))
        .at(Step::MountOverlay)
}

/// No device node that a container makes may ever open a device, unless it is
/// privileged as the host's root.
fn no_devices(plan: &Plan) -> MountFlags {
    if plan.opens_devices() { MountFlags::empty() } else { MountFlags::NODEV }
}

/// Opens the root filesystem in this mount namespace under the number that the
/// overlay's options name: the kernel takes no layer from another namespace. A
/// number needs no escapes, unlike a path with a colon or a comma.
fn open_rootfs_here(plan: &Plan) -> Result<(), Errno> {
    let Some(number) = plan.rootfs_fd.as_ref().map(AsRawFd::as_raw_fd) else {
        return Err(Errno::BADF);
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let here = rustix::fs::open(&*plan.rootfs, flags, Mode::empty())?;
    syscall::duplicate_to(here.as_fd(), number, false)
}

/// Mounts what programs expect. All absolute paths are the container's by now,
/// so that no link in an image leads to the host.
pub(super) fn mount_kernel_file_systems(plan: &Plan) -> Result<(), Stumble> {
    mount_point(c"/proc").at(Step::MountProc)?;
    mount(c"proc", c"/proc", NO_SUID_DEV_EXEC, c"").at(Step::MountProc)?;
    mount_point(c"/sys").at(Step::MountSys)?;
    mount_sys(plan).at(Step::MountSys)?;
    mount_dev(plan)
}

/// Of the host's network the kernel lets only its own root mount a sysfs: without
/// that, it is the host's, and for reading even where it could be written to.
fn mount_sys(plan: &Plan) -> Result<(), Errno> {
    if let Some(tree) = plan.mapped.as_ref().and_then(Mapped::sys) {
        return volumes::attach(tree, CWD, c"/sys");
    }
    let read_only = if plan.privileged { MountFlags::empty() } else { MountFlags::RDONLY };
    match mount(c"sysfs", c"/sys", NO_SUID_DEV_EXEC | read_only, c"") {
        Err(Errno::PERM) => {}
        mounted => return mounted,
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    let hosts = rustix::mount::open_tree(CWD, c"sys", flags)?;
    let attributes = libc::MOUNT_ATTR_RDONLY
        | libc::MOUNT_ATTR_NOSUID
        | libc::MOUNT_ATTR_NODEV
        | libc::MOUNT_ATTR_NOEXEC;
    syscall::set_mount_attributes(hosts.as_fd(), attributes)?;
    volumes::attach(hosts.as_fd(), CWD, c"/sys")
}

fn mount_dev(plan: &Plan) -> Result<(), Stumble> {
    mount_point(c"/dev").at(Step::MountDev)?;
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC | no_devices(plan);
    mount(c"tmpfs", c"/dev", flags, c"mode=755,size=64k").at(Step::MountDev)?;
    for (index, (device, host_device)) in DEVICES.iter().zip(HOST_DEVICES).enumerate() {
        bind_device(host_device, device).at_nth(Step::MountDev, 1 + index)?;
    }
    for (index, entry) in DEV_MOUNTS.iter().enumerate() {
        let index = 1 + DEVICES.len() + index;
        let mode = Mode::from_raw_mode(0o755);
        rustix::fs::mkdir(entry.path, mode).at_nth(Step::MountDev, index)?;
        let options = entry.options(plan.process.has_tty_group);
        mount(entry.kind, entry.path, entry.flags, options).at_nth(Step::MountDev, index)?;
    }
    for (index, (name, target)) in DEV_LINKS.iter().enumerate() {
        let index = 1 + DEVICES.len() + DEV_MOUNTS.len() + index;
        rustix::fs::symlink(*target, *name).at_nth(Step::MountDev, index)?;
    }
    Ok(())
}

/// Binds a device of the host's: a node of our own would need a mount on which
/// devices can be opened, and containers may make nodes. What is read-only is the
/// node, the host's own: its mode and its owner, not what is written to the device.
fn bind_device(host_device: &CStr, device: &CStr) -> Result<(), Errno> {
    rustix::fs::mknodat(CWD, device, FileType::RegularFile, Mode::empty(), 0)?;
    rustix::mount::mount_bind(host_device, device)?;
    let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NOEXEC;
    rustix::mount::mount_remount(device, flags, c"")
}

/// Makes sure that a path is a directory and no link.
fn mount_point(path: &CStr) -> Result<(), Errno> {
    match rustix::fs::mkdir(path, Mode::from_raw_mode(0o755)) {
        Ok(()) => return Ok(()),
        Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    let stat = rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Ok(()),
        FileType::Symlink => Err(Errno::LOOP),
        _ => Err(Errno::NOTDIR),
    }
}

pub(super) fn mount(
    kind: &CStr,
    path: &CStr,
    flags: MountFlags,
    options: &CStr,
) -> Result<(), Errno> {
    rustix::mount::mount(kind, path, kind, flags, Some(options))
}

/// Masks, protects, and lets go of the host's root.
pub(super) fn hide_the_host(plan: &Plan) -> Result<(), Stumble> {
    let (masked, protected) =
        if plan.privileged { (&[][..], &[][..]) } else { (&MASKED[..], &PROTECTED[..]) };
    for (index, path) in masked.iter().enumerate() {
        ignore_missing(mask(path)).at_nth(Step::MaskPath, index)?;
    }
    for (index, path) in protected.iter().enumerate() {
        ignore_missing(protect(path)).at_nth(Step::ProtectPath, index)?;
    }
    rustix::mount::unmount(c".", UnmountFlags::DETACH).at(Step::DetachHostRoot)?;
    rustix::process::chdir(c"/").at(Step::DetachHostRoot)
}

/// Covers a file with `/dev/null`, a directory with an empty one. Looks first:
/// a bind that the kernel refuses costs it a grace period to undo.
fn mask(path: &CStr) -> Result<(), Errno> {
    let stat = rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        let flags = NO_SUID_DEV_EXEC | MountFlags::RDONLY;
        return mount(c"tmpfs", path, flags, c"nr_blocks=1,nr_inodes=1");
    }
    rustix::mount::mount_bind(c"/dev/null", path)
}

fn protect(path: &CStr) -> Result<(), Errno> {
    rustix::mount::mount_bind_recursive(path, path)?;
    let flags = MountFlags::BIND | MountFlags::RDONLY | NO_SUID_DEV_EXEC;
    rustix::mount::mount_remount(path, flags, c"")
}

fn ignore_missing(result: Result<(), Errno>) -> Result<(), Errno> {
    if result == Err(Errno::NOENT) { Ok(()) } else { result }
}

/// Makes the root read-only once all is in it that the launch puts there. What
/// is mounted below it stays as it is.
pub(super) fn protect_root(plan: &Plan) -> Result<(), Errno> {
    if !plan.read_only {
        return Ok(());
    }
    let flags = MountFlags::BIND | MountFlags::RDONLY | no_devices(plan);
    rustix::mount::mount_remount(c"/", flags, c"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_object_in_dev_has_its_number() {
        let count = 1 + DEVICES.len() + DEV_MOUNTS.len() + DEV_LINKS.len();
        assert_eq!(object(Step::MountDev, 0), Some(c"/dev"));
        assert_eq!(object(Step::MountDev, 6), Some(c"/dev/tty"));
        assert_eq!(object(Step::MountDev, 7), Some(c"/dev/pts"));
        assert_eq!(object(Step::MountDev, count - 1), Some(c"/dev/stderr"));
        assert_eq!(object(Step::MountDev, count), None);
    }
}
