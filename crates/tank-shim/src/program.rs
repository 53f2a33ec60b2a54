//! The shim's program as shims execute it: a sealed copy in memory, made once
//! and shared by all of them. Starts nothing.
//!
//! Whoever becomes a container's first process can get hold of the file that it
//! was before, through `/proc/self/exe`, and write to it once nobody executes it
//! (CVE-2019-5736), or change its mode at once. Of the copy nothing can be
//! changed by anybody, and no file of the host's is in a container's reach.
//!
//! Shims go on from the copy when the file is replaced. What has made the copy
//! has to begin anew to start shims of another version.

use std::fs::{File, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;

/// What a shim is called, by the kernel and by itself.
const NAME: &str = "tank-shim";

/// Root executes it, and nobody else.
const MODE: u32 = 0o500;

/// Against all that changes content, and against other seals.
const SEALS: SealFlags =
    SealFlags::WRITE.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::SEAL);

/// How often it is tried to seal; the kernel waits a tenth of a second each time.
const SEALINGS_MAX: u32 = 50;

/// A sealed copy of a program.
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
    copy: File,
    /// The copy by the name under which children of this process find it.
    link: PathBuf,
}

impl Program {
    /// Copies the program at a path and seals the copy.
    ///
    /// # Errors
    ///
    /// `PermissionDenied` when the path is no file that can be executed; else
    /// what the operating system says to reading it, or to a file in memory that
    /// can be executed, of which `vm.memfd_noexec` may want none.
    pub fn seal(path: &Path) -> io::Result<Self> {
        let about = path.metadata()?;
        if !about.is_file() || about.permissions().mode() & 0o111 == 0 {
            return Err(Errno::ACCESS.into());
        }
        let mut copy = File::from(file_in_memory()?);
        io::copy(&mut File::open(path)?, &mut copy)?;
        copy.set_permissions(Permissions::from_mode(MODE))?;
        add_seals(&copy)?;
        Self::of(path, copy)
    }

    fn of(path: &Path, copy: File) -> io::Result<Self> {
        // By this process's number and not as `self`: of a script, the
        // interpreter opens it once more, when the child's own descriptor is closed.
        let own = Path::new("/proc").join(std::fs::read_link("/proc/self")?);
        let link = own.join("fd").join(copy.as_raw_fd().to_string());
        Ok(Self { path: path.to_owned(), copy, link })
    }

    /// The path that it is a copy of.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A command that executes it, without arguments.
    #[must_use]
    pub fn command(&self) -> Command {
        // Linux before 6.3 has no seal of the mode. It fails only where the mode
        // is sealed, and what it should be.
        let _ = self.copy.set_permissions(Permissions::from_mode(MODE));
        let mut command = Command::new(&self.link);
        command.arg0(NAME);
        command
    }
}

fn file_in_memory() -> Result<OwnedFd, Errno> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    match rustix::fs::memfd_create(NAME, flags | MemfdFlags::EXEC) {
        // Before Linux 6.3 every one can be executed.
        Err(Errno::INVAL) => rustix::fs::memfd_create(NAME, flags),
        made => made,
    }
}

/// Against writing, the kernel seals only pages that nobody holds. On a busy machine
/// it may hold some itself, to move them, and for longer than it waits.
fn add_seals(copy: &File) -> Result<(), Errno> {
    let mut added = Err(Errno::BUSY);
    for _ in 0..SEALINGS_MAX {
        added = match rustix::fs::fcntl_add_seals(copy, SEALS | SealFlags::EXEC) {
            // Before Linux 6.3.
            Err(Errno::INVAL) => rustix::fs::fcntl_add_seals(copy, SEALS),
            added => added,
        };
        if added != Err(Errno::BUSY) {
            break;
        }
    }
    added
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Write;

    use super::*;

    #[test]
    fn a_copy_runs_under_its_own_name() {
        let program = Program::seal(Path::new("/bin/cat")).unwrap();
        let output = program.command().arg("/proc/self/cmdline").output().unwrap();
        assert_eq!(output.stdout, b"tank-shim\0/proc/self/cmdline\0");
        assert_eq!(program.path(), Path::new("/bin/cat"));
    }

    #[test]
    fn a_script_is_found_by_its_interpreter() {
        let script = std::env::temp_dir().join(format!("tank-program-{}", std::process::id()));
        std::fs::write(&script, "#!/bin/sh\nexit 7\n").unwrap();
        std::fs::set_permissions(&script, Permissions::from_mode(0o755)).unwrap();
        let program = Program::seal(&script);
        std::fs::remove_file(&script).unwrap();
        let status = program.unwrap().command().status().unwrap();
        assert_eq!(status.code(), Some(7));
    }

    #[test]
    fn nothing_of_a_copy_can_be_changed() {
        let program = Program::seal(Path::new("/bin/true")).unwrap();
        let refused = |result: io::Result<()>| result.unwrap_err().raw_os_error();
        // Its owner may do that much, root or not.
        std::fs::set_permissions(&program.link, Permissions::from_mode(0o700)).unwrap();
        let executable = std::fs::set_permissions(&program.link, Permissions::from_mode(0o4711));
        assert_eq!(refused(executable), Some(libc::EPERM));
        let mut again = OpenOptions::new().write(true).open(&program.link).unwrap();
        assert_eq!(refused(again.write_all(b"#!/bin/sh\n")), Some(libc::EPERM));
        assert_eq!(refused(again.set_len(0)), Some(libc::EPERM));
        assert_eq!(refused(again.set_len(1 << 30)), Some(libc::EPERM));
        let seals = rustix::fs::fcntl_add_seals(&again, SealFlags::FUTURE_WRITE);
        assert_eq!(seals, Err(Errno::PERM));
        assert!(std::fs::read(&program.link).unwrap() == std::fs::read("/bin/true").unwrap());
    }

    #[test]
    fn a_mode_that_could_be_changed_is_put_right() {
        let mut copy = File::from(file_in_memory().unwrap());
        io::copy(&mut File::open("/bin/true").unwrap(), &mut copy).unwrap();
        rustix::fs::fcntl_add_seals(&copy, SEALS).unwrap();
        copy.set_permissions(Permissions::from_mode(0o000)).unwrap();
        let program = Program::of(Path::new("/bin/true"), copy).unwrap();
        assert!(program.command().status().unwrap().success());
    }

    #[test]
    fn what_cannot_be_executed_is_refused() {
        for (path, kind) in [
            ("/none/at/all", io::ErrorKind::NotFound),
            ("/etc/passwd", io::ErrorKind::PermissionDenied),
            ("/", io::ErrorKind::PermissionDenied),
            ("/dev/zero", io::ErrorKind::PermissionDenied),
        ] {
            let refused = Program::seal(Path::new(path)).unwrap_err();
            assert_eq!(refused.kind(), kind, "{path}");
        }
    }
}
