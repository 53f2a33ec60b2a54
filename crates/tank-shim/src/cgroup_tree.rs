//! Cgroups as directories: what both the shim and the daemon do to them.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

/// Removes a cgroup and those below it, deepest first. Missing is removed.
///
/// # Errors
///
/// `EBUSY` (`ResourceBusy`) while a process is in one of them.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir(path) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(_) => {}
    }
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}
