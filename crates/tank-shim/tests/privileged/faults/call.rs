//! One system call of a process that is traced: which it is, what it is about, and
//! how it is made to fail. Reads the process; decides nothing.

use std::fmt;
use std::fs;
use std::io::IoSliceMut;

use syscalls::Sysno;

use super::tracer::ptrace;

/// Where a traced process's registers are (`struct user_regs_struct` of x86-64).
const RAX: usize = 10 * size_of::<u64>();
const RDI: usize = 14 * size_of::<u64>();
const ORIG_RAX: usize = 15 * size_of::<u64>();

/// What a path that names nothing more than a descriptor has.
const NO_PATH: &str = "";

/// A system call by its name and what it is about: a path, where there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) name: &'static str,
    pub(super) object: String,
    /// Its first argument.
    first: u64,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.object)
    }
}

/// A stop at the beginning or the end of a call.
pub(super) struct Stop(libc::ptrace_syscall_info);

/// The beginning of a call.
pub(super) struct Entry {
    number: u64,
    arguments: [u64; 6],
}

/// What a process has stopped at; `None` when it was killed meanwhile.
pub(super) fn stop(pid: i32) -> Option<Stop> {
    // SAFETY: zero is a value of every field.
    let mut info: libc::ptrace_syscall_info = unsafe { std::mem::zeroed() };
    let place = (&raw mut info).addr();
    ptrace(libc::PTRACE_GET_SYSCALL_INFO, pid, size_of_val(&info), place).ok()?;
    Some(Stop(info))
}

impl Stop {
    pub(super) fn entry(&self) -> Option<Entry> {
        if self.0.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
            return None;
        }
        // SAFETY: this is the variant that the operation names.
        let entry = unsafe { self.0.u.entry };
        Some(Entry { number: entry.nr, arguments: entry.args })
    }
}

/// What is left to do at the end of a call that fails.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ending {
    register: usize,
    value: u64,
}

impl Ending {
    pub(super) fn write(self, pid: i32) {
        poke(pid, self.register, self.value);
    }
}

/// Sets a register. A process that has been killed meanwhile needs none.
fn poke(pid: i32, register: usize, value: u64) {
    let _ = ptrace(libc::PTRACE_POKEUSER, pid, register, value as usize);
}

impl Call {
    /// Reads the call that a process is about to make.
    pub(super) fn read(pid: i32, entry: Entry) -> Self {
        let name = Sysno::new(entry.number as usize).map_or("unknown", |number| number.name());
        Self { name, object: object(pid, name, &entry.arguments), first: entry.arguments[0] }
    }

    /// Has it fail that is about to be made.
    pub(super) fn prevent(&self, pid: i32, errno: i32) -> Ending {
        let error = i64::from(-self.errno(errno)).cast_unsigned();
        match self.name {
            // It fails by saying where the memory ends still, as when asked for nothing.
            "brk" => {
                poke(pid, RDI, 0);
                return Ending { register: RDI, value: self.first };
            }
            // What is to be closed is closed, whatever the call says.
            "close" => {}
            _ => poke(pid, ORIG_RAX, u64::MAX),
        }
        Ending { register: RAX, value: error }
    }

    /// Whether it belongs to the end of a descriptor, of which there are many alike.
    pub(super) fn is_close(&self) -> bool {
        self.name == "close" || self.name == "fcntl" && self.object.ends_with(" 0x1")
    }

    /// Whether it waits for whatever comes, perhaps once more.
    pub(super) fn is_wait(&self) -> bool {
        matches!(self.name, "poll" | "ppoll" | "restart_syscall")
    }

    /// Whether the kernel has no error for it.
    pub(super) fn never_fails(&self) -> bool {
        const NEVER: [&str; 8] = [
            "exit",
            "exit_group",
            "rt_sigreturn",
            "restart_syscall",
            "umask",
            "getpid",
            "gettid",
            "geteuid",
        ];
        NEVER.contains(&self.name)
    }

    /// The error it is to have: this one, or the only one that the kernel has for it.
    pub(super) fn errno(&self, errno: i32) -> i32 {
        if matches!(self.name, "mmap" | "mremap") { libc::ENOMEM } else { errno }
    }
}

/// What a call is about: its path, else what its descriptor stands for, else its
/// first argument, where that tells one from another.
fn object(pid: i32, name: &str, arguments: &[u64; 6]) -> String {
    let path = |index: usize| without_pid(read_string(pid, arguments[index]));
    let at = |index: usize| {
        Some(path(index))
            .filter(|path| path != NO_PATH)
            .unwrap_or_else(|| file(pid, arguments[index - 1]))
    };
    match name {
        "open" | "mkdir" | "rmdir" | "unlink" | "chdir" | "stat" | "lstat" | "readlink"
        | "rename" | "chmod" | "chown" | "lchown" | "execve" | "umount2" | "pivot_root"
        | "access" => path(0),
        "mount" | "symlink" => path(1),
        "symlinkat" => path(2),
        "openat" | "openat2" | "mkdirat" | "mknodat" | "newfstatat" | "statx" | "unlinkat"
        | "readlinkat" | "open_tree" | "fchmodat" | "fchownat" | "faccessat" | "mount_setattr" => {
            at(1)
        }
        "move_mount" => at(3),
        "read" | "write" | "writev" | "close" | "fstat" | "fstatfs" | "ftruncate"
        | "getdents64" | "fchown" | "fchmod" | "fchdir" | "sendmsg" | "recvmsg" | "sendto"
        | "recvfrom" | "timerfd_settime" | "lseek" | "flock" | "fsync" | "setns"
        | "pidfd_send_signal" => file(pid, arguments[0]),
        "ioctl" | "fcntl" => format!("{} {:#x}", file(pid, arguments[0]), arguments[1]),
        "dup3" => format!("{} {}", file(pid, arguments[0]), arguments[1]),
        "prctl" | "unshare" | "clone" | "rt_sigaction" => format!("{:#x}", arguments[0]),
        _ => String::new(),
    }
}

/// What a descriptor stands for, without the number of a pipe, a socket or a process.
fn file(pid: i32, number: u64) -> String {
    let number = number as i32;
    if number == libc::AT_FDCWD {
        return ".".to_owned();
    }
    let link = fs::read_link(format!("/proc/{pid}/fd/{number}")).unwrap_or_default();
    let link = link.display().to_string();
    match link.split_once(":[") {
        Some((kind, _)) => kind.to_owned(),
        None => without_pid(link),
    }
}

/// A path below a process's directory in `/proc` as one below any's.
fn without_pid(path: String) -> String {
    match path.strip_prefix("/proc/").and_then(|rest| rest.split_once('/')) {
        Some((pid, rest)) if pid.parse::<u32>().is_ok() => format!("/proc/N/{rest}"),
        _ => path,
    }
}

/// A C string of the process's.
fn read_string(pid: i32, address: u64) -> String {
    const PAGE: usize = 4096;
    let mut bytes = [0; 256];
    // In two parts: there may be nothing behind its page.
    let first = (PAGE - address as usize % PAGE).min(bytes.len());
    let part = |from: usize, length| libc::iovec {
        iov_base: (address as usize + from) as *mut _,
        iov_len: length,
    };
    let there = [part(0, first), part(first, bytes.len() - first)];
    let mut here = IoSliceMut::new(&mut bytes);
    // SAFETY: an IoSliceMut is an iovec, of bytes that are borrowed here; the other
    // process is only read.
    let count =
        unsafe { libc::process_vm_readv(pid, (&raw mut here).cast(), 1, there.as_ptr(), 2, 0) };
    let bytes = &bytes[..usize::try_from(count).unwrap_or_default()];
    let text = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}
