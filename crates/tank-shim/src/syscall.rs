//! The system calls that have no safe wrapper elsewhere, each made into a safe
//! function. Nothing here allocates, so that all of it may be called between
//! clone and exec.

use std::ffi::{CStr, CString, c_char};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};
use rustix::process::Pid;
use rustix::thread::UnshareFlags;

/// Which side of a clone one is on.
#[derive(Debug)]
pub(crate) enum Cloned {
    /// The parent, with a pidfd of the child.
    Parent(OwnedFd),
    /// The child. It must never return into its parent's loop.
    Child,
}

/// The arguments of clone3 (`include/uapi/linux/sched.h`), as of version 2.
#[repr(C)]
#[derive(Default)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Beyond the 32 bits that libc has for it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Forks into new namespaces and, if given, a version 2 cgroup.
///
/// The child has a copy of the parent's memory and of its descriptors. The
/// caller must be the only thread of its process, which the shim always is.
pub(crate) fn clone(
    namespaces: libc::c_int,
    cgroup: Option<BorrowedFd<'_>>,
) -> Result<Cloned, Errno> {
    let mut pidfd: RawFd = -1;
    let arguments = CloneArguments {
        flags: u64::from((namespaces | libc::CLONE_PIDFD).cast_unsigned()),
        pidfd: (&raw mut pidfd).addr() as u64,
        exit_signal: libc::SIGCHLD.cast_unsigned().into(),
        ..CloneArguments::default()
    };
    // SAFETY: `pidfd` outlives the call.
    let result = unsafe { clone3(arguments, cgroup) }?;
    if result == 0 {
        return Ok(Cloned::Child);
    }
    // SAFETY: clone3 succeeded, so it stored a new descriptor that nobody else owns.
    Ok(Cloned::Parent(unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

/// Which side of a fork one is on.
pub(crate) enum Forked {
    /// The parent, with the child's pid.
    Parent(i32),
    /// The child. It must never return into its parent's loop.
    Child,
}

/// Forks, by a call that seccomp profiles let pass.
pub(crate) fn fork() -> Result<Forked, Errno> {
    fork_with(libc::SIGCHLD, ptr::null_mut())
}

/// A pid that is shared with whoever is forked from here on: the kernel itself puts
/// it there, before the process of that pid begins to run. Whoever made it may be
/// killed at any moment, and it is there all the same.
pub(crate) struct SharedPid(NonNull<AtomicI32>);

impl SharedPid {
    const BYTES: usize = size_of::<AtomicI32>();

    /// None yet.
    pub(crate) fn new() -> Result<Self, Errno> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let place = unsafe {
            rustix::mm::mmap_anonymous(ptr::null_mut(), Self::BYTES, access, MapFlags::SHARED)
        }?;
        NonNull::new(place.cast()).map(Self).ok_or(Errno::NOMEM)
    }

    /// The pid, once there is one.
    pub(crate) fn get(&self) -> Option<Pid> {
        // SAFETY: the mapping is as large and lives as long as this value; zero is
        // a value of the type.
        Pid::from_raw(unsafe { self.0.as_ref() }.load(Ordering::Acquire))
    }
}

impl Drop for SharedPid {
    fn drop(&mut self) {
        // SAFETY: it is this value's own mapping, and nothing borrows from it.
        let _ = unsafe { rustix::mm::munmap(self.0.as_ptr().cast(), Self::BYTES) };
    }
}

/// Forks a brother: its parent is the caller's. Its pid goes to `pid`.
pub(crate) fn fork_brother(pid: &SharedPid) -> Result<Forked, Errno> {
    let flags = libc::CLONE_PARENT | libc::CLONE_PARENT_SETTID | libc::SIGCHLD;
    fork_with(flags, pid.0.as_ptr().cast())
}

/// The same into new namespaces and, if given, a version 2 cgroup.
pub(crate) fn clone_brother(
    namespaces: libc::c_int,
    cgroup: Option<BorrowedFd<'_>>,
    pid: &SharedPid,
) -> Result<Forked, Errno> {
    // The signal at its end is the caller's own.
    let flags = namespaces | libc::CLONE_PARENT | libc::CLONE_PARENT_SETTID;
    let arguments = CloneArguments {
        flags: flags.cast_unsigned().into(),
        parent_tid: pid.0.as_ptr().addr() as u64,
        ..CloneArguments::default()
    };
    // SAFETY: the kernel writes a pid where there is place for one, for as long as
    // `pid` is borrowed here.
    Ok(forked(unsafe { clone3(arguments, cgroup) }?))
}

/// # Safety
///
/// What the arguments point to outlives the call.
unsafe fn clone3(
    mut arguments: CloneArguments,
    cgroup: Option<BorrowedFd<'_>>,
) -> Result<libc::c_long, Errno> {
    if let Some(cgroup) = cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = cgroup.as_raw_fd().cast_unsigned().into();
    }
    // SAFETY: the arguments are a valid clone_args of the size given. Without
    // CLONE_VM the child runs on a copy of this memory; with one thread, no lock
    // can be held by another.
    check(unsafe {
        libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<CloneArguments>())
    })
}

fn fork_with(flags: libc::c_int, pid: *mut i32) -> Result<Forked, Errno> {
    // SAFETY: without CLONE_VM the child runs on a copy of this memory, and the
    // caller is the only thread of its process. The stack is null, the place for the
    // pid, if the flags ask for one, is one, and what follows, in whichever order a
    // machine has it, is null.
    check(unsafe { libc::syscall(libc::SYS_clone, flags, 0, pid, 0, 0) }).map(forked)
}

fn forked(pid: libc::c_long) -> Forked {
    match i32::try_from(pid).unwrap_or_default() {
        0 => Forked::Child,
        pid => Forked::Parent(pid),
    }
}

/// Ends the process at once: no destructors, no exit handlers.
pub(crate) fn exit_now(status: libc::c_int) -> ! {
    // SAFETY: `_exit` is always sound; it never returns.
    unsafe { libc::_exit(status) }
}

/// A null-terminated array of C strings, as exec wants it.
#[derive(Debug)]
pub(crate) struct CStrings {
    strings: Vec<CString>,
    pointers: Vec<*const c_char>,
}

impl CStrings {
    /// Allocates the array. A string with a NUL byte is the error.
    pub(crate) fn new(strings: &[String]) -> Result<Self, &String> {
        let strings = strings
            .iter()
            .map(|string| CString::new(string.as_bytes()).map_err(|_| string))
            .collect::<Result<Vec<_>, _>>()?;
        let pointers = strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect();
        Ok(Self { strings, pointers })
    }

    /// The first string.
    pub(crate) fn first(&self) -> Option<&CStr> {
        self.strings.first().map(CString::as_c_str)
    }
}

/// Executes a program; returns only when it cannot.
pub(crate) fn exec(path: &CStr, argv: &CStrings, env: &CStrings) -> Errno {
    // SAFETY: path is a C string, both arrays end with a null pointer, and the
    // strings they point to are owned by what is borrowed here.
    let result = unsafe {
        libc::syscall(
            libc::SYS_execve,
            path.as_ptr(),
            argv.pointers.as_ptr(),
            env.pointers.as_ptr(),
        )
    };
    check(result).expect_err("exec returns only when it has failed")
}

/// Sets every signal to its default disposition, those the spawner ignored and
/// those a runtime caught, and unblocks all. What is launched inherits that.
pub(crate) fn reset_signals() -> Result<(), Errno> {
    /// The kernel's own `sigaction`, all zero: SIG_DFL, no flags, no mask. Not
    /// libc's, which refuses the two signals it keeps for itself.
    static DEFAULT: [u64; 4] = [0; 4];
    const MASK_BYTES: usize = 8;
    for signal in 1..=64 {
        // SAFETY: the kernel reads a sigaction of 32 bytes and writes nothing.
        // SIGKILL and SIGSTOP are refused, which is right.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                &raw const DEFAULT,
                ptr::null::<u8>(),
                MASK_BYTES,
            )
        };
    }
    unblock_signals()
}

/// Blocks every signal that can be.
pub(crate) fn block_signals() -> Result<(), Errno> {
    set_blocked_signals(u64::MAX)
}

/// Blocks none.
pub(crate) fn unblock_signals() -> Result<(), Errno> {
    set_blocked_signals(0)
}

fn set_blocked_signals(mask: u64) -> Result<(), Errno> {
    const MASK_BYTES: usize = 8;
    // SAFETY: the kernel reads a mask of 8 bytes and writes nothing.
    check(unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const mask,
            ptr::null::<u8>(),
            MASK_BYTES,
        )
    })
    .map(drop)
}

/// Waits for a signal that is blocked, and takes it.
pub(crate) fn wait_for_signal() -> Result<i32, Errno> {
    const MASK_BYTES: usize = 8;
    let all = u64::MAX;
    // SAFETY: the kernel reads a mask of 8 bytes; without a place for its
    // information and without a time it writes and reads nothing else.
    let signal = check(unsafe {
        libc::syscall(
            libc::SYS_rt_sigtimedwait,
            &raw const all,
            ptr::null::<u8>(),
            ptr::null::<u8>(),
            MASK_BYTES,
        )
    })?;
    Ok(i32::try_from(signal).unwrap_or_default())
}

/// Sends a signal by its number to a child that is not reaped yet.
pub(crate) fn send_signal_to(child: i32, number: i32) -> Result<(), Errno> {
    // SAFETY: kill takes two integers.
    check(unsafe { libc::syscall(libc::SYS_kill, child, number) }).map(drop)
}

/// Reaps any child that is dead: its pid and its status. `None` when none is.
pub(crate) fn reap_any() -> Result<Option<(i32, i32)>, Errno> {
    wait4(-1, libc::WNOHANG)
}

fn wait4(pid: i32, options: libc::c_int) -> Result<Option<(i32, i32)>, Errno> {
    let mut status = 0_i32;
    // SAFETY: the kernel writes a status, which outlives the call, and no usage.
    let found = check(unsafe {
        libc::syscall(libc::SYS_wait4, pid, &raw mut status, options, ptr::null::<u8>())
    })?;
    let pid = i32::try_from(found).unwrap_or_default();
    Ok((pid != 0).then_some((pid, status)))
}

/// How many bytes the command line has, as the kernel laid it out.
static COMMAND_LINE_BYTES: AtomicUsize = AtomicUsize::new(0);

/// Notes how long the command line is, for [`hide_self`].
pub(crate) fn note_command_line() {
    let bytes = std::env::args_os().map(|word| word.len() + 1).sum();
    COMMAND_LINE_BYTES.store(bytes, Ordering::Relaxed);
}

/// Takes a name, and loses the command line and what tells of it in `/proc`.
pub(crate) fn hide_self(name: &CStr) {
    unsafe extern "C" {
        /// The first word of the command line, in the memory that the kernel shows.
        static program_invocation_name: *mut c_char;
    }
    let length = COMMAND_LINE_BYTES.load(Ordering::Relaxed);
    let shown = name.to_bytes().len().min(length.saturating_sub(1));
    // SAFETY: the words of a command line lie one behind the other from the first
    // on, in memory of this process that is its own to write; nobody holds a
    // reference into it, for those whom it is given have copies.
    unsafe {
        let command_line = program_invocation_name.cast::<u8>();
        ptr::write_bytes(command_line, 0, length);
        ptr::copy_nonoverlapping(name.as_ptr().cast::<u8>(), command_line, shown);
    }
    // SAFETY: it reads a C string.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}

/// Lets no process look into this one that could not look into any.
pub(crate) fn forbid_looks() -> Result<(), Errno> {
    // SAFETY: it takes integers.
    check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0) }.into()).map(drop)
}

/// Closes the standard streams, in a process that has no use for them.
pub(crate) fn close_standard() -> Result<(), Errno> {
    close_range(0, 2)
}

/// Closes the last descriptor of a process that never returns, by a call that seccomp
/// profiles let pass.
pub(crate) fn close_last(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: close takes an integer. The owner of the descriptor is never dropped.
    match check(unsafe { libc::syscall(libc::SYS_close, fd.as_raw_fd()) }) {
        // It is closed, whatever else has gone wrong (close(2)).
        Ok(_) | Err(Errno::INTR | Errno::IO | Errno::NOSPC | Errno::DQUOT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Closes every descriptor from 3 on, in a process that has just begun.
pub(crate) fn close_inherited() -> Result<(), Errno> {
    close_range(3, libc::c_uint::MAX)
}

fn close_range(first: libc::c_uint, last: libc::c_uint) -> Result<(), Errno> {
    // SAFETY: close_range takes three integers. A process that has just begun
    // owns no descriptor yet, and one that is about to exec uses none again.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }).map(drop)
}

/// Closes every descriptor from 3 on but one, in a process that is about to exec.
pub(crate) fn close_all_but(kept: BorrowedFd<'_>) -> Result<(), Errno> {
    let kept = kept.as_raw_fd().cast_unsigned();
    if kept > 3 {
        close_range(3, kept - 1)?;
    }
    close_range(kept + 1, libc::c_uint::MAX)
}

/// Makes descriptor `number` a copy of `fd`, kept over an exec only if asked.
pub(crate) fn duplicate_to(fd: BorrowedFd<'_>, number: RawFd, keep: bool) -> Result<(), Errno> {
    if fd.as_raw_fd() == number {
        let flags = if keep { rustix::io::FdFlags::empty() } else { rustix::io::FdFlags::CLOEXEC };
        return rustix::io::fcntl_setfd(fd, flags);
    }
    let flags = if keep { 0 } else { libc::O_CLOEXEC };
    // SAFETY: dup3 takes three integers. Whatever `number` was is replaced: only
    // the child of a clone calls this, for numbers that it uses in no other way.
    check(unsafe { libc::syscall(libc::SYS_dup3, fd.as_raw_fd(), number, flags) }).map(drop)
}

/// Sends a signal by its number, a real-time one too, to the process of a pidfd.
pub(crate) fn send_signal(pidfd: BorrowedFd<'_>, number: i32) -> Result<(), Errno> {
    let info = ptr::null::<libc::siginfo_t>();
    // SAFETY: without information of the caller's the kernel touches no memory.
    let result =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), number, info, 0) };
    check(result).map(drop)
}

/// Leaves the spawner's session keyring for a new one, so that no key of the
/// host's can be used. A kernel without keyrings has none to leave.
pub(crate) fn leave_keyring() -> Result<(), Errno> {
    // SAFETY: joining a session keyring without a name touches no memory.
    let result = check(unsafe {
        libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, ptr::null::<c_char>())
    });
    match result {
        Ok(_) | Err(Errno::NOSYS) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// How long an instruction of a seccomp program is: `struct sock_filter`.
pub(crate) const SECCOMP_INSTRUCTION_BYTES: usize = 8;

/// Puts this process, and all that it becomes and begets, under a seccomp
/// program. It must have no new privileges to hope for.
pub(crate) fn install_seccomp(flags: u32, program: &[u8]) -> Result<(), Errno> {
    /// `struct sock_fprog`.
    #[repr(C)]
    struct Program {
        length: u16,
        instructions: *const u8,
    }
    let length = program.len() / SECCOMP_INSTRUCTION_BYTES;
    let length = u16::try_from(length).map_err(|_| Errno::INVAL)?;
    let program = Program { length, instructions: program.as_ptr() };
    // SAFETY: the kernel reads the header and, at any alignment, as many whole
    // instructions as it says; they are borrowed here.
    check(unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program)
    })
    .map(drop)
}

/// Leaves namespaces for new ones: with `NEWCGROUP` the current cgroups are the
/// roots of what the process sees.
pub(crate) fn enter_new(namespaces: UnshareFlags) -> Result<(), Errno> {
    assert!(!namespaces.contains(UnshareFlags::FILES), "descriptors have owners");
    // SAFETY: only CLONE_FILES could take descriptors from under their owners.
    unsafe { rustix::thread::unshare_unsafe(namespaces) }
}

/// Sets flags (`MOUNT_ATTR_*`) of a mount and of all below it, and makes them
/// private. Linux 5.12.
pub(crate) fn set_mount_attributes(tree: BorrowedFd<'_>, set: u64) -> Result<(), Errno> {
    mount_setattr(tree, set, 0)
}

/// The same, and the files of a tree that is mounted nowhere belong to the users
/// of a user namespace, by the numbers that they have in it.
pub(crate) fn map_mount(
    tree: BorrowedFd<'_>,
    set: u64,
    user_namespace: BorrowedFd<'_>,
) -> Result<(), Errno> {
    let userns_fd = user_namespace.as_raw_fd().cast_unsigned().into();
    mount_setattr(tree, set | libc::MOUNT_ATTR_IDMAP, userns_fd)
}

fn mount_setattr(tree: BorrowedFd<'_>, set: u64, userns_fd: u64) -> Result<(), Errno> {
    let attributes =
        libc::mount_attr { attr_set: set, attr_clr: 0, propagation: libc::MS_PRIVATE, userns_fd };
    // SAFETY: the path is a C string and the kernel reads a mount_attr of the
    // size given.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    })
    .map(drop)
}

/// Brings up the loopback device of the current network namespace.
pub(crate) fn raise_loopback(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    /// `struct ifreq` for SIOCSIFFLAGS: a name, flags, and the rest of a union.
    #[repr(C)]
    struct Request {
        name: [u8; libc::IFNAMSIZ],
        flags: libc::c_short,
        rest: [u8; 22],
    }
    let mut request = Request { name: [0; libc::IFNAMSIZ], flags: 0, rest: [0; 22] };
    request.name[..2].copy_from_slice(b"lo");
    request.flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the kernel reads an ifreq of 40 bytes from `request`, which is one.
    check(unsafe {
        libc::syscall(libc::SYS_ioctl, socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw mut request)
    })
    .map(drop)
}

/// The result of a raw system call made through libc.
fn check(result: libc::c_long) -> Result<libc::c_long, Errno> {
    if result >= 0 {
        return Ok(result);
    }
    // SAFETY: the pointer is this thread's errno, always valid.
    Err(Errno::from_raw_os_error(unsafe { *libc::__errno_location() }))
}
