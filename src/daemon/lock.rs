//! One port program a directory, by an advisory lock that dies with its holder.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::core::failure::{Code, Failure, Place};
use crate::os_words::os_words;

/// The file in the directory that is locked and holds the holder's pid, and [`ENDING`]
/// while that stops what it has before it ends.
const FILE_NAME: &str = "lock";

const ENDING: &str = "ending";

/// A directory held by this process for as long as this value lives.
#[derive(Debug)]
pub struct DirLock {
    dir: PathBuf,
    file: File,
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
        if !is_still(&file, &path) {
            // Its holder removed the directory between our open and our lock.
            return Self::acquire(dir);
        }
        write_pid(&mut file).map_err(|error| failure("write", &path, &error))?;
        Ok(Self { dir: dir.to_owned(), file })
    }

    /// Says that the lock will be given back, if not at once.
    pub fn note_ending(&mut self) {
        // Nothing depends on it but how long others wait.
        let _ = writeln!(self.file, "{ENDING}");
    }

    /// Whether whoever holds a directory has said that it ends.
    pub fn is_holder_ending(dir: &Path) -> bool {
        let noted = fs::read_to_string(dir.join(FILE_NAME)).unwrap_or_default();
        noted.lines().nth(1) == Some(ENDING)
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Gives the lock back and removes the directory if it holds nothing else.
    pub fn remove(self) {
        let path = self.dir.join(FILE_NAME);
        let is_empty = fs::read_dir(&self.dir).is_ok_and(|entries| entries.count() == 1);
        if is_empty && is_still(&self.file, &path) {
            // While it is locked: who opens it now finds it gone and starts over.
            let _ = fs::remove_file(path);
            let _ = fs::remove_dir(&self.dir);
        }
    }
}

fn is_still(file: &File, path: &Path) -> bool {
    let (Ok(ours), Ok(found)) = (file.metadata(), fs::metadata(path)) else { return false };
    (ours.dev(), ours.ino()) == (found.dev(), found.ino())
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
    let mut noted = String::new();
    // The holder writes its pid just after it has locked: an empty file is a
    // holder that is starting.
    let _ = file.read_to_string(&mut noted);
    let mut lines = noted.lines();
    let pid = lines.next().filter(|pid| !pid.is_empty()).unwrap_or("unknown");
    let (doing, hint) = match lines.next() {
        Some(ENDING) => (", which stops its pods and ends", "start this one when it has ended"),
        _ => ("", "stop it, or give this one another --data-dir and --run-dir"),
    };
    let what = format!("{} is in use by another tank port, pid {pid}{doing}", dir.display());
    let failure = Failure::new(Code::Locked, what).at(Place::Path, dir.display());
    failure.at(Place::Pid, pid).hint(hint)
}

fn failure(operation: &str, path: &Path, error: &io::Error) -> Failure {
    let code = match error.kind() {
        io::ErrorKind::PermissionDenied => Code::NotPermitted,
        _ => Code::StoreFailed,
    };
    Failure::new(code, format!("{operation} {}: {}", path.display(), os_words(error)))
        .at(Place::Path, path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_refused_and_told_the_first_ones_pid() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = DirLock::acquire(dir.path()).unwrap();
        let refused = DirLock::acquire(dir.path()).unwrap_err();
        assert_eq!(refused.code, Code::Locked);
        assert!(refused.at.contains(&(Place::Pid, std::process::id().to_string())));
        assert!(!DirLock::is_holder_ending(dir.path()));
        first.note_ending();
        assert!(DirLock::is_holder_ending(dir.path()));
        let refused = DirLock::acquire(dir.path()).unwrap_err();
        assert!(refused.at.contains(&(Place::Pid, std::process::id().to_string())));
        assert!(refused.message.ends_with("which stops its pods and ends"), "{}", refused.message);
        drop(first);
        DirLock::acquire(dir.path()).unwrap();
    }

    #[test]
    fn a_directory_that_holds_nothing_is_removed_with_its_lock() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("run");
        DirLock::acquire(&dir).unwrap().remove();
        assert!(!dir.exists());
        let lock = DirLock::acquire(&dir).unwrap();
        fs::write(dir.join("kept"), "").unwrap();
        lock.remove();
        assert!(dir.join("kept").exists());
        DirLock::acquire(&dir).unwrap();
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let refused = DirLock::acquire(&file.join("data")).unwrap_err();
        assert_eq!(refused.code, Code::StoreFailed);
        assert!(refused.message.contains("file/data: not a directory"), "{}", refused.message);
    }
}
