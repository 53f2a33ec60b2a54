//! Managed volumes: a directory each, `volumes/<pod>/<name>` in the data
//! directory, made when a container first mounts it. Never removes one: what a
//! pod has stored is there for the next pod of that name.
//!
//! A volume comes to be all at once, by a rename, so that one that is there is
//! whole: whatever was under way at a crash is begun anew.

mod copy;

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use rustix::fs::{Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;
use tank_shim::protocol::{self as shim_protocol, Container, Launch, Mount, OwnedDir};

use crate::core::spec::{Name, PodSpec, Volume, VolumeSource};

/// A volume's directory.
pub(super) fn dir(data_dir: &Path, pod: &Name, volume: &Name) -> PathBuf {
    data_dir.join("volumes").join(pod.as_str()).join(volume.as_str())
}

/// A pod's volumes as its shim is told of them.
pub(super) fn told(data_dir: &Path, pod: &PodSpec) -> Vec<shim_protocol::Volume> {
    let source = |volume: &Volume| match &volume.source {
        VolumeSource::Managed => {
            let dir = dir(data_dir, &pod.name, &volume.name);
            shim_protocol::VolumeSource::Path(dir.display().to_string())
        }
        VolumeSource::Host(path) => shim_protocol::VolumeSource::Path(path.clone()),
        VolumeSource::Tmpfs(bytes) => shim_protocol::VolumeSource::Tmpfs(*bytes),
    };
    let volume = |volume: &Volume| shim_protocol::Volume {
        name: volume.name.to_string(),
        source: source(volume),
    };
    pod.volumes.iter().map(volume).collect()
}

/// The same, where this program cannot give new ones to the users of these
/// containers, and the shim does.
pub(super) fn owned(
    mut told: Vec<shim_protocol::Volume>,
    pod: &PodSpec,
    containers: &[Container],
) -> Vec<shim_protocol::Volume> {
    if is_root() {
        return told;
    }
    let managed = |(volume, _): &(&Volume, _)| volume.source == VolumeSource::Managed;
    for (volume, told) in pod.volumes.iter().zip(&mut told).filter(managed) {
        if let (Some((Container { uid, gid, .. }, _)), shim_protocol::VolumeSource::Path(path)) =
            (first_mount(containers, volume), &told.source)
        {
            let dir = OwnedDir { path: path.clone(), uid: *uid, gid: *gid };
            told.source = shim_protocol::VolumeSource::Owned(dir);
        }
    }
    told
}

/// A managed volume that a launch mounts.
#[derive(Debug)]
pub(super) struct Wanted {
    dir: PathBuf,
    /// What it is filled from, when it is new: a path in an image.
    rootfs: PathBuf,
    path: String,
    /// Whose it is where the image has no such path.
    owner: (Uid, Gid),
}

/// What went wrong, and on which path.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) operation: &'static str,
    pub(super) path: PathBuf,
    pub(super) error: io::Error,
}

type Result<T> = std::result::Result<T, Fault>;

/// The managed volumes that a launch mounts, each once and by its first mount.
pub(super) fn wanted(data_dir: &Path, pod: &PodSpec, launch: &Launch) -> Vec<Wanted> {
    let wanted = |volume: &Volume| {
        let (container, mount) = first_mount(&launch.containers, volume)?;
        (volume.source == VolumeSource::Managed).then(|| Wanted {
            dir: dir(data_dir, &pod.name, &volume.name),
            rootfs: PathBuf::from(&container.rootfs),
            path: mount.path.clone(),
            owner: (Uid::from_raw(container.uid), Gid::from_raw(container.gid)),
        })
    };
    pod.volumes.iter().filter_map(wanted).collect()
}

/// Where a volume is mounted first, and by which container.
fn first_mount<'a>(
    containers: &'a [Container],
    volume: &Volume,
) -> Option<(&'a Container, &'a Mount)> {
    let of = |container: &'a Container| container.mounts.iter().map(move |each| (container, each));
    containers.iter().flat_map(of).find(|(_, mount)| mount.volume == volume.name.as_str())
}

/// Whether this program can give files away. Without root they are its user's,
/// whoever had them in an image.
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Makes those that are not there. Waits for the disk, and ends early once it is
/// no longer wanted.
pub(super) fn make(wanted: &[Wanted], is_unwanted: &AtomicBool) -> Result<()> {
    wanted.iter().try_for_each(|wanted| wanted.make(is_unwanted))
}

impl Wanted {
    fn make(&self, is_unwanted: &AtomicBool) -> Result<()> {
        match fs::metadata(&self.dir) {
            Ok(found) if found.is_dir() => return Ok(()),
            Ok(_) => return Err(fault("use volume", &self.dir, Errno::NOTDIR)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(fault("use volume", &self.dir, error)),
        }
        // An image that is missing is for the launch to tell.
        let Ok(rootfs) = open_dir(&self.rootfs) else { return Ok(()) };
        let (pod_dir, new_dir) = self.make_new()?;
        let made = self.fill(&rootfs, &new_dir, is_unwanted).and_then(|()| {
            fs::rename(&new_dir, &self.dir).map_err(|error| fault("make volume", &self.dir, error))
        });
        if made.is_err() {
            // The room is needed, whoever filled the disk.
            let _ = fs::remove_dir_all(&new_dir);
        }
        made.and_then(|()| sync(&pod_dir))
    }

    /// Makes a directory beside, under a name that no volume can have, and closed
    /// to other users as those above it are. Returns the pod's, too.
    fn make_new(&self) -> Result<(PathBuf, PathBuf)> {
        let mut pod_dir = self.dir.clone();
        pod_dir.pop();
        let name = self.dir.file_name().unwrap_or_default().display();
        let new_dir = pod_dir.join(format!(".{name}.new"));
        let mut private = DirBuilder::new();
        private.recursive(true).mode(0o700);
        private.create(&pod_dir).map_err(|error| fault("make volume", &pod_dir, error))?;
        match fs::remove_dir_all(&new_dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(fault("remove", &new_dir, error));
            }
            _ => {}
        }
        private.create(&new_dir).map_err(|error| fault("make volume", &new_dir, error))?;
        Ok((pod_dir, new_dir))
    }

    /// Copies what the image has at the path. Where it has nothing, the directory
    /// is the container's user's, as podman makes it: if it were root's, nobody
    /// else could use it.
    fn fill(&self, rootfs: &OwnedFd, new_dir: &Path, is_unwanted: &AtomicBool) -> Result<()> {
        let new = open_dir(new_dir).map_err(|errno| fault("open", new_dir, errno))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        // What is mounted in an image's directory on the host is no part of the
        // image: its containers do not see it either.
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        match rustix::fs::openat2(rootfs, &self.path, flags, Mode::empty(), resolve) {
            Ok(image) => {
                copy::tree(&image, &new, is_unwanted).map_err(|failed| Fault {
                    operation: "copy the image's files to volume",
                    path: self.dir.join(failed.path),
                    error: failed.error,
                })?;
                rustix::fs::syncfs(&new).map_err(|errno| fault("write volume", &self.dir, errno))
            }
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => {
                let (uid, gid) = self.owner;
                copy::give(|| rustix::fs::fchown(&new, Some(uid), Some(gid)))
                    .and_then(|()| rustix::fs::fchmod(&new, Mode::from_raw_mode(0o755)))
                    .and_then(|()| rustix::fs::fsync(&new))
                    .map_err(|errno| fault("make volume", &self.dir, errno))
            }
            Err(errno) => {
                let path = self.rootfs.join(self.path.trim_start_matches('/'));
                Err(fault("read", &path, errno))
            }
        }
    }
}

fn open_dir(path: &Path) -> std::result::Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
}

fn sync(dir: &Path) -> Result<()> {
    let synced = open_dir(dir).and_then(|dir| rustix::fs::fsync(&dir));
    synced.map_err(|errno| fault("write", dir, errno))
}

fn fault(operation: &'static str, path: &Path, error: impl Into<io::Error>) -> Fault {
    Fault { operation, path: path.to_owned(), error: error.into() }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    fn wanted(root: &Path) -> Wanted {
        fs::create_dir_all(root.join("image/data/deep")).unwrap();
        fs::write(root.join("image/data/deep/file"), "content").unwrap();
        Wanted {
            dir: root.join("volumes/web/data"),
            rootfs: root.join("image"),
            path: "/data".to_owned(),
            owner: (rustix::process::getuid(), rustix::process::getgid()),
        }
    }

    fn entries(dir: PathBuf) -> usize {
        fs::read_dir(dir).unwrap().count()
    }

    #[test]
    fn a_copy_that_is_no_longer_wanted_ends_and_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let wanted = wanted(root.path());
        let is_unwanted = AtomicBool::new(true);
        let fault = make(&[wanted], &is_unwanted).unwrap_err();
        assert_eq!(fault.error.raw_os_error(), Some(libc::ECANCELED));
        assert_eq!(entries(root.path().join("volumes/web")), 0);
        // It is whole once nobody has changed their mind.
        is_unwanted.store(false, Ordering::Relaxed);
        make(&[self::wanted(root.path())], &is_unwanted).unwrap();
        let file = root.path().join("volumes/web/data/deep/file");
        assert_eq!(fs::read_to_string(file).unwrap(), "content");
        assert_eq!(entries(root.path().join("volumes/web")), 1);
    }

    #[test]
    fn attributes_come_along() {
        let root = tempfile::tempdir().unwrap();
        let wanted = wanted(root.path());
        let flags = rustix::fs::XattrFlags::empty();
        for path in ["image/data", "image/data/deep/file"] {
            rustix::fs::setxattr(root.path().join(path), "user.origin", path.as_bytes(), flags)
                .unwrap();
        }
        make(&[wanted], &AtomicBool::new(false)).unwrap();
        for (path, origin) in [("", "image/data"), ("deep/file", "image/data/deep/file")] {
            let copy = root.path().join("volumes/web/data").join(path);
            let mut value = [0; 64];
            let length = rustix::fs::getxattr(copy, "user.origin", &mut value).unwrap();
            assert_eq!(&value[..length], origin.as_bytes());
        }
    }

    #[test]
    fn a_tree_that_is_too_deep_to_copy_is_told() {
        let root = tempfile::tempdir().unwrap();
        let wanted = wanted(root.path());
        fs::create_dir_all(root.path().join("image/data").join("d/".repeat(100))).unwrap();
        let fault = make(&[wanted], &AtomicBool::new(false)).unwrap_err();
        assert!(fault.error.to_string().contains("too deep"), "{}", fault.error);
        assert_eq!(entries(root.path().join("volumes/web")), 0);
    }

    #[test]
    fn what_is_there_is_left_alone_and_what_is_no_directory_is_told() {
        let root = tempfile::tempdir().unwrap();
        let wanted = wanted(root.path());
        fs::create_dir_all(&wanted.dir).unwrap();
        make(&[wanted], &AtomicBool::new(false)).unwrap();
        assert_eq!(entries(root.path().join("volumes/web/data")), 0);

        fs::remove_dir(root.path().join("volumes/web/data")).unwrap();
        fs::write(root.path().join("volumes/web/data"), "").unwrap();
        let wanted = self::wanted(root.path());
        let fault = make(&[wanted], &AtomicBool::new(false)).unwrap_err();
        assert_eq!(fault.error.raw_os_error(), Some(libc::ENOTDIR));
    }

    #[test]
    fn an_image_that_is_missing_is_not_told_here() {
        let root = tempfile::tempdir().unwrap();
        let mut wanted = wanted(root.path());
        wanted.rootfs = root.path().join("none");
        make(&[wanted], &AtomicBool::new(false)).unwrap();
        assert!(!root.path().join("volumes").exists());
    }
}
