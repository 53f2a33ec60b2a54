//! One port program a directory, by an advisory lock that dies with its holder.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::core::failure::{Code, Failure, Place};

/// The file in the directory that is locked and holds the holder's pid.
const FILE_NAME: &str = "lock";

/// A directory held by this process for as long as this value lives.
#[derive(Debug)]
pub struct DirLock {
    _file: File,
}

impl DirLock {
    /// Makes `dir` (mode 0700) if it is missing, and locks it.
    ///
    /// # Errors
    /// `locked`, naming the holder's pid, when another process holds it;
    /// `not_permitted` or `store_failed` when it cannot be made or opened.
    pub fn acquire(dir: &Path) -> Result<Self, Failure> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|error| failure("create", dir, &error))?;
        let path = dir.join(FILE_NAME);
        let mut file = open(&path).map_err(|error| failure("open", &path, &error))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(held(dir, &mut file)),
            Err(errno) => return Err(failure("lock", &path, &errno.into())),
        }
        write_pid(&mut file).map_err(|error| failure("write", &path, &error))?;
        Ok(Self { _file: file })
    }
}

fn open(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

fn held(dir: &Path, file: &mut File) -> Failure {
    let mut pid = String::new();
    // The holder writes its pid just after it has locked: an empty file is a
    // holder that is starting.
    let _ = file.read_to_string(&mut pid);
    let pid = if pid.trim().is_empty() { "unknown" } else { pid.trim() };
    Failure::new(
        Code::Locked,
        format!("{} is in use by another tank port, pid {pid}", dir.display()),
    )
    .at(Place::Path, dir.display())
    .at(Place::Pid, pid)
    .hint("stop it, or give this one another --data-dir and --run-dir")
}

fn failure(operation: &str, path: &Path, error: &io::Error) -> Failure {
    let code = match error.kind() {
        io::ErrorKind::PermissionDenied => Code::NotPermitted,
        _ => Code::StoreFailed,
    };
    Failure::new(code, format!("{operation} {}: {}", path.display(), describe(error)))
        .at(Place::Path, path.display())
}

/// The system's own words, without Rust's `(os error 2)`.
pub fn describe(error: &io::Error) -> String {
    let text = error.to_string();
    let end = text.find(" (os error").unwrap_or(text.len());
    let mut words = text[..end].to_owned();
    if let Some(first) = words.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_refused_and_told_the_first_ones_pid() {
        let dir = tempfile::tempdir().unwrap();
        let first = DirLock::acquire(dir.path()).unwrap();
        let refused = DirLock::acquire(dir.path()).unwrap_err();
        assert_eq!(refused.code, Code::Locked);
        assert!(refused.at.contains(&(Place::Pid, std::process::id().to_string())));
        drop(first);
        DirLock::acquire(dir.path()).unwrap();
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let refused = DirLock::acquire(&file.join("data")).unwrap_err();
        assert_eq!(refused.code, Code::StoreFailed);
        assert!(refused.message.contains("file/data: not a directory"), "{}", refused.message);
    }
}
