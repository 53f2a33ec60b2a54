//! What to do about a launch that failed, where step and errno tell. Knows what
//! users get wrong, and nothing of how a launch goes.

use rustix::io::Errno;
use tank_shim::protocol::Step;

/// Advice for a limit that takes a cgroup, where the program can make none.
pub(super) const DELEGATE: &str = "limits of memory, pids and cpu need root, or a cgroup that is delegated to this user \
                                   (docs/rootless.md)";

/// What the kernel uses.
const ERRNOS: std::ops::RangeInclusive<i32> = 1..=4095;

/// Advice for the failures that a spec or its root file system causes.
pub(super) fn of(step: Step, errno: i32) -> Option<&'static str> {
    if step == Step::RunOciRuntime {
        return Some(
            "the pod's oci_runtime has failed: without the field, Tank runs the containers itself",
        );
    }
    // A shim may send any number, and an `Errno` is made of few.
    if !ERRNOS.contains(&errno) {
        return None;
    }
    Some(match (step, Errno::from_raw_os_error(errno)) {
        (Step::MakeUserNamespace, _) => {
            "without root, containers need user namespaces: an administrator allows them with \
             user.max_user_namespaces and, on some systems, kernel.unprivileged_userns_clone or \
             kernel.apparmor_restrict_unprivileged_userns"
        }
        (Step::MapIds, _) => {
            "newuidmap and newgidmap give what /etc/subuid and /etc/subgid have for this user: see \
             whether they may (docs/rootless.md)"
        }
        (Step::MakeNamespaces, Errno::PERM | Errno::ACCESS) => {
            "the program lacks privileges: it is root without them, or a security module keeps \
             them from user namespaces (kernel.apparmor_restrict_unprivileged_userns)"
        }
        (Step::MountOverlay, Errno::PERM) => "without root, containers need Linux 5.11 or later",
        (Step::SetUser, Errno::INVAL) => {
            "without root, users and groups other than root need newuidmap (package uidmap), and \
             ranges in /etc/subuid and /etc/subgid that have them"
        }
        (Step::LimitProcess, Errno::PERM | Errno::ACCESS) => {
            "to have more than the program itself takes privileges that it lacks: a lower nice or \
             oom_score_adj, or more open files than its own hard limit"
        }
        (Step::OpenRootfs, Errno::ACCESS) => {
            "the program's user must be able to enter the directory and all above it"
        }
        (Step::OpenRootfs, Errno::NOENT | Errno::NOTDIR) => {
            "{:rootfs, path} names a directory on this host with the container's files in it"
        }
        (Step::Exec, Errno::NOENT) => {
            "the command is looked up in the container's root file system, not on the host"
        }
        (Step::Exec, Errno::ACCESS) => {
            "the command must be a file that the container's user may execute: see its mode, and \
             the modes of the directories above it"
        }
        (Step::Exec, Errno::NOEXEC) => {
            "the command is no program of this machine's kind, and a script needs a #! line"
        }
        (Step::FindInterpreter, Errno::NOENT) => {
            "what the command's #! line or its dynamic loader names is not in the container's \
             root file system"
        }
        (Step::WriteCgroupLimit, Errno::INVAL) => {
            "the kernel refuses the value; for cpu, quota and period are microseconds, the period \
             1000 to 1000000 and the quota at least 1000"
        }
        (Step::OpenVolume, Errno::NOENT | Errno::NOTDIR) => {
            "{:host, path} names a directory or a file that is there: make it first, Tank does not"
        }
        (Step::MakeNamespaces, Errno::NOSPC | Errno::INVAL) => {
            "the kernel gives no more namespaces, or none of that kind: see the limits in \
             /proc/sys/user; userns: :auto needs a kernel with user namespaces"
        }
        (Step::MapRootfs, Errno::INVAL | Errno::PERM) => {
            "with userns: :auto the root file system must be on one whose files can be mapped: \
             ext4, xfs, btrfs or tmpfs (Linux 6.3) can, overlay, NFS and FUSE mostly cannot"
        }
        (Step::MapVolume, Errno::INVAL | Errno::PERM) => {
            "with userns: :auto a volume, and all that is mounted below it, must be on a file \
             system whose files can be mapped: ext4, xfs, btrfs or tmpfs (Linux 6.3) can, \
             overlay, NFS and FUSE mostly cannot"
        }
        (Step::MapRootfs | Step::MapVolume, Errno::NOSYS) => "userns: :auto needs Linux 5.19",
        (Step::MountOverlay, Errno::INVAL) => {
            "the run directory or the root file system is on a file system that is none for an \
             overlay; userns: :auto needs Linux 5.19"
        }
        (Step::MountProc | Step::MountSys, Errno::PERM) => {
            "with userns: :auto the kernel mounts /proc and /sys only where all of the host's is \
             in sight: not where Tank is in a container that hides parts of them"
        }
        (Step::MakeMountTarget, Errno::NOENT | Errno::LOOP) => {
            "a part of the path is a link that leads nowhere in the container's root file system, \
             or is in a file system in which nothing can be made: mount at what the link names"
        }
        (Step::MakeMountTarget, Errno::ROFS) => {
            "the path is in a read-only volume: make its directory there first"
        }
        (Step::MountVolume, Errno::PERM) => {
            "the path leads, through a link in the root file system, to /proc or to the root itself"
        }
        (Step::MountVolume, Errno::NOTDIR) => {
            "the volume is a directory, and what the root file system has at the path is none"
        }
        (Step::MountVolume, Errno::ISDIR) => {
            "the volume is a file, and what the root file system has at the path is a directory"
        }
        (Step::MountVolume, Errno::NOSYS) => "volumes need Linux 5.12 or later",
        (Step::MakeDirectory | Step::OpenLog, Errno::NOSPC) => "make room on that file system",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_means_another_thing_at_each_step() {
        let hints = [Step::OpenRootfs, Step::Exec, Step::FindInterpreter]
            .map(|step| of(step, Errno::NOENT.raw_os_error()).expect("a hint"));
        assert!(hints[0].contains("directory on this host"));
        assert!(hints[1].contains("not on the host"));
        assert!(hints[2].contains("#!"));
    }

    #[test]
    fn where_nothing_is_known_nothing_is_said() {
        assert_eq!(of(Step::PivotRoot, Errno::NOENT.raw_os_error()), None);
        assert_eq!(of(Step::Exec, Errno::IO.raw_os_error()), None);
        for impossible in [0, -1, i32::MIN, i32::MAX] {
            assert_eq!(of(Step::Exec, impossible), None);
        }
    }
}
