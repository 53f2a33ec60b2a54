//! The files of a container's `/etc` that are its pod's and not its root
//! filesystem's. They go into the overlay's upper directory before it is
//! mounted, where no link in an image can lead anywhere.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use tank_shim::protocol::{Container, Failure, Step, UserNamespace};

use super::failure_of;

/// Writes the files into a container's directory, unless the root filesystem's
/// `/etc` is something else than a directory.
pub(super) fn write(
    container: &Container,
    dir: &Path,
    ids: Option<UserNamespace>,
) -> Result<(), Failure> {
    let failed = |name: &str, error: &io::Error| {
        failure_of(Step::WriteEtcFile, format!("/etc/{name}"), error)
    };
    if container.etc.is_empty() {
        return Ok(());
    }
    let made = make_dir(&dir.join("upper/etc"), Path::new(&container.rootfs), ids);
    let Some(etc) = made.map_err(|error| failed("", &error))? else { return Ok(()) };
    for (name, content) in &container.etc {
        write_file(&etc, name, content, ids).map_err(|error| failed(name, &error))?;
    }
    Ok(())
}

/// Makes the directory, as the one is that it will lie over; `None` where that is
/// no directory.
fn make_dir(etc: &Path, rootfs: &Path, ids: Option<UserNamespace>) -> io::Result<Option<PathBuf>> {
    let lower = match rootfs.join("etc").symlink_metadata() {
        Ok(lower) if !lower.is_dir() => return Ok(None),
        Ok(lower) => Some(lower),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    DirBuilder::new().mode(0o755).create(etc)?;
    // Whatever the shim's mask of modes is.
    std::fs::set_permissions(etc, PermissionsExt::from_mode(0o755))?;
    let (uid, gid) = lower.as_ref().map_or((0, 0), |lower| (lower.uid(), lower.gid()));
    match give(etc, uid, gid, ids) {
        // Its owner is nobody here, and cannot be one's either.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
        owned => owned?,
    }
    if let Some(lower) = lower {
        std::fs::set_permissions(etc, PermissionsExt::from_mode(lower.mode() & 0o7777))?;
    }
    Ok(Some(etc.to_owned()))
}

/// Makes a file somebody's in the container.
fn give(path: &Path, uid: u32, gid: u32, ids: Option<UserNamespace>) -> io::Result<()> {
    let host_id = |id| ids.map_or(id, |ids| ids.host_id(id));
    if (host_id(uid), host_id(gid)) == (0, 0) {
        return Ok(());
    }
    std::os::unix::fs::chown(path, Some(host_id(uid)), Some(host_id(gid)))
}

fn write_file(etc: &Path, name: &str, content: &str, ids: Option<UserNamespace>) -> io::Result<()> {
    if name.is_empty() || name.contains('/') {
        return Err(Errno::INVAL.into());
    }
    let path = etc.join(name);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&path)?;
    give(&path, 0, 0, ids)?;
    // Whatever the shim's mask of modes is.
    file.set_permissions(PermissionsExt::from_mode(0o644))?;
    file.write_all(content.as_bytes())
}
