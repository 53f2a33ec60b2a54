//! What to do about a launch that failed, where step and errno tell. Knows what
//! users get wrong, and nothing of how a launch goes.

use tank_shim::protocol::Step;

/// Advice for the failures that a spec or its root file system causes.
pub(super) fn of(step: Step, errno: i32) -> Option<&'static str> {
    Some(match (step, errno) {
        (Step::OpenRootfs, libc::ENOENT | libc::ENOTDIR) => {
            "{:rootfs, path} names a directory on this host with the container's files in it"
        }
        (Step::Exec, libc::ENOENT) => {
            "the command is looked up in the container's root file system, not on the host"
        }
        (Step::Exec, libc::EACCES) => {
            "the command must be a file that the container's user may execute: see its mode, and \
             the modes of the directories above it"
        }
        (Step::Exec, libc::ENOEXEC) => {
            "the command is no program of this machine's kind, and a script needs a #! line"
        }
        (Step::FindInterpreter, libc::ENOENT) => {
            "what the command's #! line or its dynamic loader names is not in the container's \
             root file system"
        }
        (Step::WriteCgroupLimit, libc::EINVAL) => {
            "the kernel refuses the value; for cpu, quota and period are microseconds, the period \
             1000 to 1000000 and the quota at least 1000"
        }
        (Step::MakeDirectory | Step::OpenLog, libc::ENOSPC) => "make room on that file system",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_means_another_thing_at_each_step() {
        let hints = [Step::OpenRootfs, Step::Exec, Step::FindInterpreter]
            .map(|step| of(step, libc::ENOENT).expect("a hint"));
        assert!(hints[0].contains("directory on this host"));
        assert!(hints[1].contains("not on the host"));
        assert!(hints[2].contains("#!"));
    }

    #[test]
    fn where_nothing_is_known_nothing_is_said() {
        assert_eq!(of(Step::PivotRoot, libc::ENOENT), None);
        assert_eq!(of(Step::Exec, libc::EIO), None);
    }
}
