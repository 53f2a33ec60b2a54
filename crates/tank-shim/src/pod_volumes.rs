//! A pod's volumes as its containers find them: paths. What is to be in memory
//! is mounted here, once for all containers, in a mount namespace of the shim's
//! own, with which it ends.

use std::ffi::CString;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::thread::UnshareFlags;
use tank_shim::protocol::{Failure, Launch, OwnedDir, Step, TMPFS_DIR, VolumeSource};

use crate::launch::{failure, failure_of};
use crate::syscall;

/// What a container may mount.
#[derive(Debug)]
pub(crate) struct PodVolume {
    /// The volume's name.
    pub(crate) name: String,
    /// A path of the host, or of the run directory.
    pub(crate) path: String,
    /// Whether its files are the host's users'. What is made for the pod is its own's.
    pub(crate) is_hosts: bool,
}

/// Mounts what is in memory, and says where all are.
pub(crate) fn prepare(launch: &Launch) -> Result<Vec<PodVolume>, Failure> {
    let is_tmpfs = |source: &VolumeSource| matches!(source, VolumeSource::Tmpfs(_));
    if launch.volumes.iter().any(|volume| is_tmpfs(&volume.source)) {
        leave_hosts_mounts().map_err(|errno| failure(Step::MakeNamespaces, &launch.pod, errno))?;
    }
    let volume = |volume: &tank_shim::protocol::Volume| {
        let root = launch.user_namespace.map_or(0, |ids| ids.host_id(0));
        let (path, is_hosts) = match &volume.source {
            VolumeSource::Path(path) => (path.clone(), true),
            VolumeSource::Owned(dir) => {
                give(dir).or_else(|error| forgive(dir, &error))?;
                (dir.path.clone(), true)
            }
            VolumeSource::Tmpfs(bytes) => (mount_tmpfs(&volume.name, *bytes, root)?, false),
        };
        Ok(PodVolume { name: volume.name.clone(), path, is_hosts })
    };
    launch.volumes.iter().map(volume).collect()
}

/// Unmounts what is in memory, once nobody uses it, and removes its places; those of a
/// shim that was killed, too. What somebody has put there himself stays.
pub(crate) fn clean() {
    for place in fs::read_dir(TMPFS_DIR).into_iter().flatten().flatten() {
        let _ = rustix::mount::unmount(place.path(), UnmountFlags::DETACH);
        let _ = fs::remove_dir(place.path());
    }
    let _ = fs::remove_dir(TMPFS_DIR);
}

/// Gives a new directory to the user whose it is to be. What somebody has used is
/// left as it is.
fn give(OwnedDir { path, uid, gid }: &OwnedDir) -> io::Result<()> {
    let about = fs::metadata(path)?;
    if (about.uid(), about.gid()) != (0, 0) {
        return Ok(());
    }
    match fs::read_dir(path)?.next() {
        Some(entry) => entry.map(drop),
        None => std::os::unix::fs::chown(path, Some(*uid), Some(*gid)),
    }
}

/// A directory that is not there has the launch of the container fail. Where it cannot
/// be given to anybody, the container says what it cannot do.
fn forgive(dir: &OwnedDir, error: &io::Error) -> Result<(), Failure> {
    match error.kind() {
        ErrorKind::NotFound
        | ErrorKind::NotADirectory
        | ErrorKind::PermissionDenied
        | ErrorKind::InvalidInput
        | ErrorKind::ReadOnlyFilesystem
        | ErrorKind::Unsupported => Ok(()),
        _ => Err(failure_of(Step::OpenVolume, &dir.path, error)),
    }
}

/// Goes on in a mount namespace of its own. What the host unmounts is unmounted
/// here, too, so that the pod keeps nothing busy.
fn leave_hosts_mounts() -> Result<(), Errno> {
    syscall::enter_new(UnshareFlags::NEWNS)?;
    let flags = MountPropagationFlags::REC | MountPropagationFlags::DOWNSTREAM;
    rustix::mount::mount_change(c"/", flags)
}

/// Mounts a file system in memory that belongs to `root`, for any user as `/tmp` is. As docker has it,
/// what is written there cannot be executed.
fn mount_tmpfs(name: &str, bytes: u64, root: u32) -> Result<String, Failure> {
    if name.is_empty() || name == ".." || name.contains('/') {
        return Err(failure(Step::CheckContainer, "volumes", Errno::INVAL));
    }
    let path = Path::new(TMPFS_DIR).join(name);
    fs::create_dir_all(&path).map_err(|error| failure_of(Step::MakeTmpfs, name, &error))?;
    let options =
        CString::new(format!("mode=1777,size={bytes},uid={root},gid={root}")).unwrap_or_default();
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount(c"tmpfs", &path, c"tmpfs", flags, Some(&*options))
        .map_err(|errno| failure(Step::MakeTmpfs, name, errno))?;
    Ok(path.display().to_string())
}
