//! The default profile: what docker allows by default, and with which
//! capabilities more of it (`seccomp/default.json` of moby/profiles).
//! Facts only; what they mean is said in `profile`.

use crate::profile::{Action, Argument, Condition, Operator, Profile, Rule, SubArchitectures};

/// Fails as it would in a kernel without it, so that libc falls back.
const ENOSYS: u32 = 38;

const EPERM: u32 = 1;

/// Every container's, on every machine that has them.
const ALLOWED: &str = "
    _llseek _newselect accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir
    chmod chown chown32 clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime
    clock_gettime64 clock_nanosleep clock_nanosleep_time64 close close_range connect copy_file_range
    creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2
    epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2
    fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32
    fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat
    fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64
    futex_wait futex_waitv futex_wake futimesat get_robust_list get_thread_area getcpu getcwd
    getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32
    getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresgid32
    getresuid getresuid32 getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday
    getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init inotify_init1
    inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup
    io_submit ioctl ioprio_get ioprio_set ipc kill landlock_add_rule landlock_create_ruleset
    landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listmount listxattr
    listxattrat llistxattr lremovexattr lseek lsetxattr lstat lstat64 madvise map_shadow_stack
    membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall
    mmap mmap2 mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64
    mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync
    munlock munlockall munmap name_to_handle_at nanosleep newfstatat open openat openat2 pause
    pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll
    ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease process_vm_readv
    process_vm_writev pselect6 pselect6_time64 ptrace pwrite64 pwritev pwritev2 read readahead
    readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages
    removexattr removexattrat rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction
    rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait
    rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min
    sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval
    sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler
    sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64 send sendfile
    sendfile64 sendmmsg sendmsg sendto set_robust_list set_thread_area set_tid_address setfsgid
    setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid
    setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32
    setrlimit setsid setsockopt setuid setuid32 setxattr setxattrat shmat shmctl shmdt shmget
    shutdown sigaltstack signalfd signalfd4 sigprocmask sigreturn socketcall socketpair splice stat
    stat64 statfs statfs64 statmount statx symlink symlinkat sync sync_file_range syncfs sysinfo tee
    tgkill time timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64
    timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime
    timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat
    uretprobe utime utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write
    writev";

/// Those of one machine, though others have them as well.
const ALLOWED_ON: [(&str, &str); 2] = [
    ("amd64", "arch_prctl modify_ldt"),
    (
        "arm64",
        "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2",
    ),
];

/// Those that a capability brings along.
const ALLOWED_WITH: [(&str, &str); 14] = [
    (
        "CAP_SYS_ADMIN",
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie
         lsm_get_self_attr lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount
         open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog
         umount umount2 unshare",
    ),
    ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
    ("CAP_SYS_BOOT", "reboot"),
    ("CAP_SYS_CHROOT", "chroot"),
    ("CAP_SYS_MODULE", "delete_module finit_module init_module"),
    ("CAP_SYS_PACCT", "acct"),
    ("CAP_SYS_PTRACE", "kcmp pidfd_getfd process_madvise"),
    ("CAP_SYS_RAWIO", "ioperm iopl"),
    ("CAP_SYS_TIME", "clock_settime clock_settime64 settimeofday stime"),
    ("CAP_SYS_TTY_CONFIG", "vhangup"),
    ("CAP_SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    ("CAP_SYSLOG", "syslog"),
    ("CAP_BPF", "bpf"),
    ("CAP_PERFMON", "perf_event_open"),
];

/// Socket domains below this are allowed: AF_UNIX to AF_ROSE.
const DOMAINS_END: u64 = 12;

/// And these. Not AF_ALG (38), which reaches into the kernel's cryptography, nor
/// AF_VSOCK (40), which knows no namespaces and reaches the virtual machine's
/// host, nor what kernels have removed.
const DOMAINS: [u64; 25] = [
    13, 14, 15, 16, 17, 18, 21, 22, 24, 26, 27, 28, 29, 30, 31, 32, 33, 35, 36, 39, 41, 42, 43, 44,
    45,
];

/// Linux, uname of 2.6, both with 16-bit ids, and the question which it is.
const PERSONALITIES: [u64; 5] = [0, 0x0008, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Every `CLONE_NEW*` that clone(2) takes.
const CLONE_NAMESPACES: u64 = 0x7e02_0000;

/// Docker's default.
impl Default for Profile {
    fn default() -> Self {
        let allowed = [allow(ALLOWED)].into_iter();
        let on = ALLOWED_ON.iter().map(|(arch, calls)| {
            let includes = Condition { arches: words(arch), ..Condition::default() };
            Rule { includes, ..allow(calls) }
        });
        let with = ALLOWED_WITH
            .iter()
            .map(|(capability, calls)| Rule { includes: having(capability), ..allow(calls) });
        let equal = |call| move |value: &u64| allow_when(call, Operator::Equal, *value);
        let syscalls = allowed
            .chain(on)
            .chain(with)
            .chain([allow_when("socket", Operator::Less, DOMAINS_END)])
            .chain(DOMAINS.iter().map(equal("socket")))
            .chain(PERSONALITIES.iter().map(equal("personality")))
            .chain(without_namespaces())
            .collect();
        let beside = |architecture: &str, others: &str| SubArchitectures {
            architecture: architecture.to_owned(),
            sub_architectures: words(others),
        };
        Self {
            default_action: Action::Errno,
            default_errno_ret: Some(EPERM),
            architectures: Vec::new(),
            arch_map: vec![
                beside("SCMP_ARCH_X86_64", "SCMP_ARCH_X86"),
                beside("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"),
            ],
            flags: Vec::new(),
            syscalls,
        }
    }
}

/// New processes, but in no new namespaces. What clone3(2) is asked for is in
/// memory, where no program can look.
fn without_namespaces() -> [Rule; 2] {
    let clone = allow_when("clone", Operator::MaskedEqual, CLONE_NAMESPACES);
    let clone3 = Rule { action: Action::Errno, errno_ret: Some(ENOSYS), ..allow("clone3") };
    [clone, clone3].map(|rule| Rule { excludes: having("CAP_SYS_ADMIN"), ..rule })
}

fn allow(calls: &str) -> Rule {
    Rule {
        names: words(calls),
        name: None,
        action: Action::Allow,
        errno_ret: None,
        args: Vec::new(),
        includes: Condition::default(),
        excludes: Condition::default(),
    }
}

/// Given its first argument.
fn allow_when(call: &str, op: Operator, value: u64) -> Rule {
    Rule { args: vec![Argument { index: 0, value, value_two: 0, op }], ..allow(call) }
}

fn having(capability: &str) -> Condition {
    Condition { caps: words(capability), ..Condition::default() }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::machine::Machine;

    /// Podman's, which is made from docker's and goes its own ways: a paragraph is
    /// when, and then names.
    const PODMAN: &str = include_str!("../tests/podman.txt");

    /// Podman leaves these to the kernel's own checks; the last line are old calls of
    /// 32-bit machines.
    const PODMAN_ALONE: &str = "
        clone clone3 fsconfig fsmount fsopen fspick get_mempolicy keyctl mbind mount mount_setattr
        move_mount open_tree pidfd_getfd pivot_root reboot set_mempolicy setns syslog umount umount2
        unshare
        readdir sigaction signal sigpending sigsuspend";

    /// Calls that are newer than podman's list; those of the last line it refuses.
    const DOCKER_ALONE: &str = "
        cachestat fchmodat2 futex_requeue futex_wait futex_waitv futex_wake getxattrat listmount
        listxattrat map_shadow_stack mseal removexattrat setxattrat statmount uretprobe
        io_pgetevents io_pgetevents_time64 vmsplice";

    fn podman(when: &str) -> BTreeSet<&'static str> {
        let mut is_wanted = false;
        let mut names = BTreeSet::new();
        for line in PODMAN.lines().filter(|line| !line.starts_with('#')) {
            match line.strip_suffix(':') {
                Some(header) => is_wanted = header == when,
                None if is_wanted => names.extend(line.split_whitespace()),
                None => {}
            }
        }
        names
    }

    fn names(text: &str) -> BTreeSet<&str> {
        text.split_whitespace().collect()
    }

    #[test]
    fn what_is_always_allowed_is_what_podman_allows_but_for_what_is_listed() {
        let exists = |name: &&str| {
            Machine::ALL
                .iter()
                .flat_map(|machine| machine.abis())
                .any(|abi| abi.number(name).is_some())
        };
        let theirs: BTreeSet<_> = podman("always").into_iter().filter(exists).collect();
        let ours = names(ALLOWED);
        let missing: BTreeSet<_> = theirs.difference(&ours).copied().collect();
        let more: BTreeSet<_> = ours.difference(&theirs).copied().collect();
        assert_eq!(missing, names(PODMAN_ALONE));
        assert_eq!(more, names(DOCKER_ALONE));
    }

    #[test]
    fn every_call_that_is_named_is_one() {
        let tables = ALLOWED_ON.iter().chain(&ALLOWED_WITH).map(|(_, calls)| *calls);
        for name in tables.chain([ALLOWED]).flat_map(str::split_whitespace) {
            let abis = Machine::ALL.iter().flat_map(|machine| machine.abis());
            assert!(abis.filter(|abi| abi.number(name).is_some()).count() > 0, "{name}");
        }
    }
}
