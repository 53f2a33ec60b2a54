//! Everything a container's first process needs, allocated and opened before
//! the clone, so that between clone and exec it only calls the kernel.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use tank_shim::protocol::{Container, Failure, Step};

use super::mapped::Mapped;
use super::process_plan::{Ends, ProcessPlan};
use super::stumble::Stumble;
use super::volumes::{self, MountPlan};
use super::{dir_of, failure, mapped};
use crate::ids;
use crate::pod_volumes::PodVolume;
use crate::user_namespace::UserNamespace;

/// What the child works through.
pub(super) struct Plan {
    /// The container's directory in the run directory.
    pub(super) dir: CString,
    /// The lower directory's path.
    pub(super) rootfs: CString,
    /// A descriptor whose number the overlay's options name.
    pub(super) rootfs_fd: Option<OwnedFd>,
    /// The overlay's options.
    pub(super) overlay_options: CString,
    /// What is otherwise with users of its own.
    pub(super) mapped: Option<Mapped>,
    /// The volumes' mounts, in the order in which they are made.
    pub(super) mounts: Vec<MountPlan>,
    /// Whether the root is for reading only.
    pub(super) read_only: bool,
    /// Whether the kernel is left as it is.
    pub(super) privileged: bool,
    /// The process itself.
    pub(super) process: ProcessPlan,
}

impl Plan {
    /// Checks, allocates and opens.
    pub(super) fn new(
        container: &Container,
        volumes: &[PodVolume],
        user_namespace: Option<&UserNamespace>,
    ) -> Result<(Self, Ends), Failure> {
        let dir = dir_of(&container.name).display().to_string();
        let rootfs_fd = open_rootfs(&container.rootfs)?;
        // Volatile: what is written does not outlive the run, so that the end of
        // the mount need not wait until all of it is on the disk.
        let lower = match user_namespace {
            Some(_) => mapped::LOWER.to_string_lossy().into_owned(),
            None => format!("/proc/self/fd/{}", rootfs_fd.as_raw_fd()),
        };
        let mut overlay_options = format!("lowerdir={lower},upperdir=upper,workdir=work,volatile");
        // The kernel's own attributes are its own root's to write.
        if ids::own().are_few() {
            overlay_options.push_str(",userxattr");
        }
        let ids = user_namespace.map(UserNamespace::ids);
        let (process, ends) = ProcessPlan::new(container, &container.argv, ids)?;
        let plan = Self {
            dir: c_string("name", &dir)?,
            rootfs: c_string("rootfs", &container.rootfs)?,
            rootfs_fd: Some(rootfs_fd),
            overlay_options: c_string("rootfs", &overlay_options)?,
            mapped: user_namespace.map(Mapped::new),
            mounts: volumes::plan(volumes, &container.mounts)?,
            read_only: container.read_only,
            privileged: container.privileged,
            process,
        };
        Ok((plan, ends))
    }

    /// Whether device nodes open their devices: for root of the host's only.
    pub(super) fn opens_devices(&self) -> bool {
        self.privileged && self.mapped.is_none()
    }

    /// What the shim keeps: enough to explain a report.
    pub(super) fn without_descriptors(self) -> Self {
        Self { rootfs_fd: None, process: self.process.without_descriptors(), ..self }
    }

    /// What a step was done to.
    pub(super) fn object(&self, stumble: &Stumble) -> String {
        match stumble.step {
            Step::OpenRootfs | Step::MapRootfs => self.rootfs.to_string_lossy().into_owned(),
            Step::OpenVolume | Step::MapVolume => {
                self.mount_object(stumble.index, MountPlan::source)
            }
            Step::MakeMountTarget | Step::MountVolume => {
                self.mount_object(stumble.index, MountPlan::path)
            }
            Step::MountOverlay | Step::PivotRoot => {
                in_run_dir(&format!("{}/root", self.dir.to_string_lossy()))
            }
            _ => self.process.object(stumble),
        }
    }

    /// Something of a mount.
    fn mount_object(&self, index: usize, object: impl Fn(&MountPlan) -> &CStr) -> String {
        let object = self.mounts.get(index).map(object).unwrap_or_default();
        object.to_string_lossy().into_owned()
    }
}

/// A name below the run directory as a whole path.
fn in_run_dir(name: &str) -> String {
    std::env::current_dir().unwrap_or_default().join(name).display().to_string()
}

/// Says early, and by its own name, that the root filesystem is missing.
fn open_rootfs(path: &str) -> Result<OwnedFd, Failure> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .map_err(|errno| failure(Step::OpenRootfs, path, errno))
}

pub(super) fn c_string(field: &str, string: &str) -> Result<CString, Failure> {
    CString::new(string).map_err(|_| Failure::new(Step::CheckContainer, field, libc::EINVAL))
}
