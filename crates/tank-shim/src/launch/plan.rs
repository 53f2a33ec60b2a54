//! Everything a container's first process needs, allocated and opened before
//! the clone, so that between clone and exec it only calls the kernel.

use std::ffi::{CStr, CString};
use std::fs::OpenOptions;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::pipe::PipeFlags;
use rustix::thread::CapabilitySet;
use tank_shim::protocol::{Container, Failure, Join, Seccomp, Step};

use super::child::Stumble;
use super::volumes::{self, MountPlan};
use super::{dir_of, failure, failure_of};
use crate::pod_volumes::PodVolume;
use crate::syscall::{CStrings, SECCOMP_INSTRUCTION_BYTES};

/// Where a command is looked for when the environment has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the child works through.
pub(super) struct Plan {
    /// The container's directory in the run directory.
    pub(super) dir: CString,
    /// A version 2 cgroup to be born in.
    pub(super) birth_cgroup: Option<OwnedFd>,
    /// Its path, else the container's name, for errors.
    pub(super) clone_object: String,
    /// Files to write `0` to, to join a cgroup.
    pub(super) joins: Vec<OwnedFd>,
    /// Their paths, for errors.
    pub(super) join_paths: Vec<String>,
    /// The lower directory's path.
    pub(super) rootfs: CString,
    /// A descriptor whose number the overlay's options name.
    pub(super) rootfs_fd: Option<OwnedFd>,
    /// The overlay's options.
    pub(super) overlay_options: CString,
    /// The volumes' mounts, in the order in which they are made.
    pub(super) mounts: Vec<MountPlan>,
    /// The working directory.
    pub(super) working_dir: CString,
    /// It and its parents, outermost first.
    pub(super) working_dir_parts: Vec<CString>,
    /// The user.
    pub(super) uid: Uid,
    /// The group.
    pub(super) gid: Gid,
    /// Further groups.
    pub(super) groups: Vec<Gid>,
    /// The limit of open files.
    pub(super) nofile: Option<u64>,
    /// The niceness.
    pub(super) nice: Option<i32>,
    /// What to write to `oom_score_adj`.
    pub(super) oom_score_adj: Option<String>,
    /// The most capabilities that it may have.
    pub(super) capabilities: CapabilitySet,
    /// What it may ask of the kernel.
    pub(super) seccomp: Option<Seccomp>,
    /// Whether the root is for reading only.
    pub(super) read_only: bool,
    /// Whether the kernel is left as it is.
    pub(super) privileged: bool,
    /// Paths to try to exec, in this order.
    pub(super) candidates: Vec<CString>,
    /// The arguments.
    pub(super) argv: CStrings,
    /// The environment.
    pub(super) env: CStrings,
    /// The child's ends of standard output and error.
    pub(super) output: Option<[OwnedFd; 2]>,
    /// The child's end of the report.
    pub(super) report: Option<OwnedFd>,
}

/// The shim's ends of the pipes.
pub(super) struct Ends {
    pub(super) report: OwnedFd,
    pub(super) output: [OwnedFd; 2],
}

impl Plan {
    /// Checks, allocates and opens.
    pub(super) fn new(
        container: &Container,
        volumes: &[PodVolume],
    ) -> Result<(Self, Ends), Failure> {
        let dir = dir_of(&container.name).display().to_string();
        let rootfs_fd = open_rootfs(&container.rootfs)?;
        // Volatile: what is written does not outlive the run, so that the end of
        // the mount need not wait until all of it is on the disk.
        let overlay_options = format!(
            "lowerdir=/proc/self/fd/{},upperdir=upper,workdir=work,volatile",
            rootfs_fd.as_raw_fd()
        );
        check(container)?;
        let argv = c_strings("argv", &container.argv)?;
        let (joins, join_paths) = open_joins(container)?;
        let birth = container.cgroups.iter().find(|cgroup| cgroup.join == Join::Clone);
        let clone_object = birth.map_or(&container.name, |cgroup| &cgroup.path).clone();
        let (report, report_child) = pipe("the launch report")?;
        let (stdout, stdout_child) = output_pipe("stdout", container)?;
        let (stderr, stderr_child) = output_pipe("stderr", container)?;
        let plan = Self {
            dir: c_string("name", &dir)?,
            birth_cgroup: birth.map(|cgroup| open_birth_cgroup(&cgroup.path)).transpose()?,
            clone_object,
            joins,
            join_paths,
            rootfs: c_string("rootfs", &container.rootfs)?,
            rootfs_fd: Some(rootfs_fd),
            overlay_options: c_string("rootfs", &overlay_options)?,
            mounts: volumes::plan(volumes, &container.mounts)?,
            working_dir: c_string("working_dir", &container.working_dir)?,
            working_dir_parts: parents_and_self(&container.working_dir)?,
            uid: Uid::from_raw(container.uid),
            gid: Gid::from_raw(container.gid),
            groups: container.groups.iter().map(|gid| Gid::from_raw(*gid)).collect(),
            nofile: container.nofile,
            nice: container.nice,
            oom_score_adj: container.oom_score_adj.map(|adj| adj.to_string()),
            capabilities: CapabilitySet::from_bits_retain(container.capabilities),
            seccomp: container.seccomp.clone(),
            read_only: container.read_only,
            privileged: container.privileged,
            candidates: candidates(container)?,
            env: c_strings("env", &container.env)?,
            argv,
            output: Some([stdout_child, stderr_child]),
            report: Some(report_child),
        };
        Ok((plan, Ends { report, output: [stdout, stderr] }))
    }

    /// What the shim keeps: enough to explain a report.
    pub(super) fn without_descriptors(self) -> Self {
        Self {
            seccomp: None,
            birth_cgroup: None,
            joins: Vec::new(),
            rootfs_fd: None,
            output: None,
            report: None,
            ..self
        }
    }

    /// A report's bytes as a failure.
    pub(super) fn explain(&self, bytes: &[u8]) -> Failure {
        let Some(stumble) = Stumble::from_bytes(bytes) else {
            return Failure::new(Step::Exec, "", libc::EIO);
        };
        Failure::new(stumble.step, self.object(&stumble), stumble.errno)
    }

    /// What a step was done to.
    fn object(&self, stumble: &Stumble) -> String {
        let lossy = |string: &CString| string.to_string_lossy().into_owned();
        match stumble.step {
            Step::OpenRootfs => lossy(&self.rootfs),
            Step::JoinCgroup => self.join_paths.get(stumble.index).cloned().unwrap_or_default(),
            Step::OpenVolume => self.mount_object(stumble.index, MountPlan::source),
            Step::MakeMountTarget | Step::MountVolume => {
                self.mount_object(stumble.index, MountPlan::path)
            }
            Step::MakeWorkingDir => {
                self.working_dir_parts.get(stumble.index).map(lossy).unwrap_or_default()
            }
            Step::EnterWorkingDir => lossy(&self.working_dir),
            Step::SetUser => format!("{}:{}", self.uid.as_raw(), self.gid.as_raw()),
            Step::MountOverlay | Step::PivotRoot => {
                in_run_dir(&format!("{}/root", lossy(&self.dir)))
            }
            Step::FindInterpreter => {
                self.candidates.get(stumble.index).map(lossy).unwrap_or_default()
            }
            step => super::child::object(step, stumble.index)
                .map_or_else(|| self.command(), str::to_owned),
        }
    }

    /// Something of a mount.
    fn mount_object(&self, index: usize, object: impl Fn(&MountPlan) -> &CStr) -> String {
        let object = self.mounts.get(index).map(object).unwrap_or_default();
        object.to_string_lossy().into_owned()
    }

    /// The command as it was asked for.
    fn command(&self) -> String {
        self.argv.first().map(|first| first.to_string_lossy().into_owned()).unwrap_or_default()
    }
}

/// A name below the run directory as a whole path.
fn in_run_dir(name: &str) -> String {
    std::env::current_dir().unwrap_or_default().join(name).display().to_string()
}

/// Refuses what the kernel would take for something else.
fn check(container: &Container) -> Result<(), Failure> {
    let faults = [
        ("argv", container.argv.first().is_none_or(String::is_empty)),
        ("working_dir", !container.working_dir.starts_with('/')),
        // The highest id means "as it is" to the kernel, and it is root.
        ("uid", container.uid == u32::MAX),
        ("gid", container.gid == u32::MAX),
        ("groups", container.groups.contains(&u32::MAX)),
        ("seccomp", container.seccomp.as_ref().is_some_and(|seccomp| !is_program(seccomp))),
    ];
    match faults.iter().find(|(_, is_faulty)| *is_faulty) {
        Some((field, _)) => Err(Failure::new(Step::CheckContainer, *field, libc::EINVAL)),
        None => Ok(()),
    }
}

/// Whether there are whole instructions, and as many as the kernel can count. What
/// they do is for the kernel to check.
fn is_program(seccomp: &Seccomp) -> bool {
    let bytes = seccomp.program.0.len();
    bytes.is_multiple_of(SECCOMP_INSTRUCTION_BYTES)
        && u16::try_from(bytes / SECCOMP_INSTRUCTION_BYTES).is_ok()
}

/// Says early, and by its own name, that the root filesystem is missing.
fn open_rootfs(path: &str) -> Result<OwnedFd, Failure> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .map_err(|errno| failure(Step::OpenRootfs, path, errno))
}

fn open_birth_cgroup(path: &str) -> Result<OwnedFd, Failure> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .map_err(|errno| failure(Step::JoinCgroup, path, errno))
}

/// Opens the files through which the child joins its cgroups.
fn open_joins(container: &Container) -> Result<(Vec<OwnedFd>, Vec<String>), Failure> {
    let paths: Vec<String> = container
        .cgroups
        .iter()
        .filter_map(|cgroup| match cgroup.join {
            Join::Tasks => Some(format!("{}/tasks", cgroup.path)),
            Join::Procs => Some(format!("{}/cgroup.procs", cgroup.path)),
            Join::Clone => None,
        })
        .collect();
    let open = |path: &String| {
        OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_CLOEXEC)
            .open(path)
            .map(OwnedFd::from)
            .map_err(|error| failure_of(Step::JoinCgroup, path.as_str(), &error))
    };
    let files = paths.iter().map(open).collect::<Result<_, _>>()?;
    Ok((files, paths))
}

/// A pipe: the shim's end, which never blocks, and the child's.
fn pipe(purpose: &str) -> Result<(OwnedFd, OwnedFd), Failure> {
    let make = || {
        let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&reader, true)?;
        Ok((reader, writer))
    };
    make().map_err(|errno| failure(Step::MakePipe, purpose, errno))
}

/// A pipe for output. It belongs to the container's user, who may open it once
/// more through `/dev/stdout`.
fn output_pipe(name: &str, container: &Container) -> Result<(OwnedFd, OwnedFd), Failure> {
    let (reader, writer) = pipe(name)?;
    let owner = (Uid::from_raw(container.uid), Gid::from_raw(container.gid));
    rustix::fs::fchown(&writer, Some(owner.0), Some(owner.1))
        .map_err(|errno| failure(Step::MakePipe, name, errno))?;
    Ok((reader, writer))
}

/// The paths at which a command may be.
fn candidates(container: &Container) -> Result<Vec<CString>, Failure> {
    let command = container.argv.first().map_or("", String::as_str);
    if command.contains('/') {
        return Ok(vec![c_string("argv", command)?]);
    }
    let path = container.env.iter().rev().find_map(|entry| entry.strip_prefix("PATH="));
    path.unwrap_or(DEFAULT_PATH)
        .split(':')
        .map(|dir| if dir.is_empty() { "." } else { dir })
        .map(|dir| c_string("argv", &format!("{dir}/{command}")))
        .collect()
}

/// `/a/b` as `/a`, `/a/b`.
fn parents_and_self(path: &str) -> Result<Vec<CString>, Failure> {
    let ends = path.match_indices('/').map(|(at, _)| at).filter(|&at| at > 0);
    ends.chain([path.len()]).map(|end| c_string("working_dir", &path[..end])).collect()
}

pub(super) fn c_string(field: &str, string: &str) -> Result<CString, Failure> {
    CString::new(string).map_err(|_| Failure::new(Step::CheckContainer, field, libc::EINVAL))
}

fn c_strings(field: &str, strings: &[String]) -> Result<CStrings, Failure> {
    CStrings::new(strings).map_err(|_| Failure::new(Step::CheckContainer, field, libc::EINVAL))
}
