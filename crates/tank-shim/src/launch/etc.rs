//! The files of a container's `/etc` that are its pod's and not its root
//! filesystem's. They go into the overlay's upper directory before it is
//! mounted, where no link in an image can lead anywhere.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::io::Errno;
use tank_shim::protocol::{Container, Failure, Step};

use super::failure_of;

/// Where the overlay keeps what is written to `/etc`.
const UPPER_ETC: &str = "upper/etc";

/// Writes the files, unless the root filesystem's `/etc` is something else than
/// a directory.
pub(super) fn write(container: &Container) -> Result<(), Failure> {
    let failed = |name: &str, error: &io::Error| {
        failure_of(Step::WriteEtcFile, format!("/etc/{name}"), error)
    };
    if container.etc.is_empty()
        || !make_dir(Path::new(&container.rootfs)).map_err(|error| failed("", &error))?
    {
        return Ok(());
    }
    for (name, content) in &container.etc {
        write_file(name, content).map_err(|error| failed(name, &error))?;
    }
    Ok(())
}

/// Makes the directory, as the one is that it will lie over. Whether it may.
fn make_dir(rootfs: &Path) -> io::Result<bool> {
    let lower = match rootfs.join("etc").symlink_metadata() {
        Ok(lower) if !lower.is_dir() => return Ok(false),
        Ok(lower) => Some(lower),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    DirBuilder::new().mode(0o755).create(UPPER_ETC)?;
    if let Some(lower) = lower {
        std::os::unix::fs::chown(UPPER_ETC, Some(lower.uid()), Some(lower.gid()))?;
        std::fs::set_permissions(UPPER_ETC, PermissionsExt::from_mode(lower.mode() & 0o7777))?;
    }
    Ok(true)
}

fn write_file(name: &str, content: &str) -> io::Result<()> {
    if name.is_empty() || name.contains('/') {
        return Err(Errno::INVAL.into());
    }
    let path = Path::new(UPPER_ETC).join(name);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)?;
    // Whatever the shim's mask of modes is.
    file.set_permissions(PermissionsExt::from_mode(0o644))?;
    file.write_all(content.as_bytes())
}
