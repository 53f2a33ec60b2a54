//! What a process of a container needs, the first one or a further one: its
//! cgroups, its limits, its user, its command and its ends of pipes. All of it is
//! allocated and opened before the clone.

use std::borrow::Cow;
use std::ffi::{CStr, CString};
use std::fs::OpenOptions;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::pipe::PipeFlags;
use rustix::thread::CapabilitySet;
use tank_shim::protocol::{Container, Failure, Join, Seccomp, Step, UserNamespace};

use super::plan::c_string;
use super::stumble::Stumble;
use super::{failure, failure_of};
use super::{root, workload};
use crate::ids::{self, Ids};
use crate::syscall::{CStrings, SECCOMP_INSTRUCTION_BYTES};

/// Where a command is looked for when the environment has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The group `tty`, by the number that it has everywhere.
const TTY_GROUP: u32 = 5;

/// What a child works through once it is in the container.
pub(super) struct ProcessPlan {
    /// A version 2 cgroup to be born in.
    birth_cgroup: Option<OwnedFd>,
    /// Its path, else the container's name, for errors.
    pub(super) clone_object: String,
    /// Files to write `0` to, to join a cgroup.
    pub(super) joins: Vec<OwnedFd>,
    /// Their paths, for errors.
    join_paths: Vec<String>,
    /// The limit of open files.
    pub(super) nofile: Option<u64>,
    /// The niceness.
    pub(super) nice: Option<i32>,
    /// What to write to `oom_score_adj`.
    pub(super) oom_score_adj: Option<String>,
    /// The working directory.
    pub(super) working_dir: CString,
    /// It and its parents, outermost first.
    pub(super) working_dir_parts: Vec<CString>,
    /// The user.
    pub(super) uid: Uid,
    /// The group.
    pub(super) gid: Gid,
    /// All groups to be in; `None` where they cannot be changed.
    pub(super) groups: Option<Vec<Gid>>,
    /// Whether there is a group for terminals.
    pub(super) has_tty_group: bool,
    /// The most capabilities that it may have.
    pub(super) capabilities: CapabilitySet,
    /// What it may ask of the kernel.
    pub(super) seccomp: Option<Seccomp>,
    /// Whether an init stands before it.
    pub(super) init: bool,
    /// Paths to try to exec, in this order.
    pub(super) candidates: Vec<CString>,
    /// The arguments.
    pub(super) argv: CStrings,
    /// The environment.
    pub(super) env: CStrings,
    /// The child's ends of its output.
    pub(super) output: Option<Output<OwnedFd>>,
    /// The child's end of the report.
    pub(super) report: Option<OwnedFd>,
}

/// Where output goes, by one of its two ends.
pub(crate) enum Output<T> {
    /// Two pipes: standard output and standard error.
    Pipes([T; 2]),
    /// A socket over which the terminal's other end comes.
    Terminal(T),
}

/// The shim's ends.
pub(super) struct Ends {
    pub(super) report: OwnedFd,
    pub(super) output: Output<OwnedFd>,
}

impl ProcessPlan {
    /// Checks, allocates and opens for a container's own command.
    pub(super) fn new(
        container: &Container,
        argv: &[String],
        ids: Option<UserNamespace>,
    ) -> Result<(Self, Ends), Failure> {
        check(container, argv, ids)?;
        let own = ids::own();
        if ids.is_none() {
            check_ids(container, own)?;
        }
        let (joins, join_paths) = open_joins(container)?;
        let birth = container.cgroups.iter().find(|cgroup| cgroup.join == Join::Clone);
        let clone_object = birth.map_or(&container.name, |cgroup| &cgroup.path).clone();
        let (report, report_child) = pipe("the launch report")?;
        let (output, output_child) = output_of(container, ids)?;
        let groups = container.groups.iter().map(|gid| Gid::from_raw(*gid));
        let has_tty_group = match ids {
            Some(ids) => ids.count > TTY_GROUP,
            None => own.has_group(TTY_GROUP),
        };
        let plan = Self {
            birth_cgroup: birth.map(|cgroup| open_birth_cgroup(&cgroup.path)).transpose()?,
            clone_object,
            joins,
            join_paths,
            nofile: container.nofile,
            nice: container.nice,
            oom_score_adj: container.oom_score_adj.map(|adj| adj.to_string()),
            working_dir: c_string("working_dir", &container.working_dir)?,
            working_dir_parts: parents_and_self(&container.working_dir)?,
            uid: Uid::from_raw(container.uid),
            gid: Gid::from_raw(container.gid),
            groups: (ids.is_some() || own.may_set_groups).then(|| groups.collect()),
            has_tty_group,
            capabilities: CapabilitySet::from_bits_retain(container.capabilities),
            seccomp: container.seccomp.clone(),
            init: container.init,
            candidates: candidates(argv, &container.env)?,
            argv: c_strings("argv", argv)?,
            env: c_strings("env", &container.env)?,
            output: Some(output_child),
            report: Some(report_child),
        };
        Ok((plan, Ends { report, output }))
    }

    /// The version 2 cgroup to be born in.
    pub(super) fn birth_cgroup(&self) -> Option<BorrowedFd<'_>> {
        self.birth_cgroup.as_ref().map(AsFd::as_fd)
    }

    /// What the shim keeps: enough to explain a report.
    pub(super) fn without_descriptors(self) -> Self {
        Self {
            seccomp: None,
            birth_cgroup: None,
            joins: Vec::new(),
            output: None,
            report: None,
            ..self
        }
    }

    /// What a step was done to.
    pub(super) fn object(&self, stumble: &Stumble) -> String {
        let lossy = |string: &CString| string.to_string_lossy().into_owned();
        match stumble.step {
            Step::Clone => self.clone_object.clone(),
            Step::JoinCgroup => self.join_paths.get(stumble.index).cloned().unwrap_or_default(),
            Step::MakeWorkingDir => {
                self.working_dir_parts.get(stumble.index).map(lossy).unwrap_or_default()
            }
            Step::EnterWorkingDir => lossy(&self.working_dir),
            Step::SetUser => format!("{}:{}", self.uid.as_raw(), self.gid.as_raw()),
            Step::FindInterpreter => {
                self.candidates.get(stumble.index).map(lossy).unwrap_or_default()
            }
            step => {
                let of_root = root::object(step, stumble.index).map(CStr::to_string_lossy);
                let object =
                    of_root.or_else(|| workload::object(step, stumble.index).map(Into::into));
                object.map_or_else(|| self.command(), Cow::into_owned)
            }
        }
    }

    /// The command as it was asked for.
    pub(super) fn command(&self) -> String {
        self.argv.first().map(|first| first.to_string_lossy().into_owned()).unwrap_or_default()
    }
}

/// Refuses what the kernel would take for something else.
fn check(
    container: &Container,
    argv: &[String],
    ids: Option<UserNamespace>,
) -> Result<(), Failure> {
    // The highest id means "as it is" to the kernel, and it is root.
    let count = ids.map_or(u32::MAX, |ids| ids.count);
    let is_none = |id: &u32| *id >= count;
    let faults = [
        ("argv", argv.first().is_none_or(String::is_empty)),
        ("working_dir", !container.working_dir.starts_with('/')),
        ("uid", is_none(&container.uid)),
        ("gid", is_none(&container.gid)),
        ("groups", container.groups.iter().any(is_none)),
        ("seccomp", container.seccomp.as_ref().is_some_and(|seccomp| !is_program(seccomp))),
    ];
    match faults.iter().find(|(_, is_faulty)| *is_faulty) {
        Some((field, _)) => Err(Failure::new(Step::CheckContainer, *field, libc::EINVAL)),
        None => Ok(()),
    }
}

/// Refuses a user that cannot be had here, and groups that cannot.
fn check_ids(container: &Container, ids: &Ids) -> Result<(), Failure> {
    let Container { uid, gid, groups, .. } = container;
    let refused = |object, errno| Err(failure(Step::SetUser, object, errno));
    if !ids.has_user(*uid) || !ids.has_group(*gid) {
        return refused(format!("{uid}:{gid}"), Errno::INVAL);
    }
    if let Some(group) = groups.iter().find(|group| !ids.has_group(**group)) {
        return refused(format!("{uid}:{gid} with group {group}"), Errno::INVAL);
    }
    if !ids.may_set_groups && groups.iter().any(|group| group != gid) {
        return refused(format!("{uid}:{gid} with further groups"), Errno::PERM);
    }
    Ok(())
}

/// Whether there are whole instructions, and as many as the kernel can count. What
/// they do is for the kernel to check.
fn is_program(seccomp: &Seccomp) -> bool {
    let bytes = seccomp.program.0.len();
    bytes.is_multiple_of(SECCOMP_INSTRUCTION_BYTES)
        && u16::try_from(bytes / SECCOMP_INSTRUCTION_BYTES).is_ok()
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
pub(super) fn pipe(purpose: &str) -> Result<(OwnedFd, OwnedFd), Failure> {
    let make = || {
        let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&reader, true)?;
        Ok((reader, writer))
    };
    make().map_err(|errno| failure(Step::MakePipe, purpose, errno))
}

/// The shim's end of the output, and the child's.
fn output_of(
    container: &Container,
    ids: Option<UserNamespace>,
) -> Result<(Output<OwnedFd>, Output<OwnedFd>), Failure> {
    if container.tty {
        let (ours, childs) = socket_pair("the terminal")?;
        return Ok((Output::Terminal(ours), Output::Terminal(childs)));
    }
    let (stdout, stdout_child) = output_pipe("stdout", container, ids)?;
    let (stderr, stderr_child) = output_pipe("stderr", container, ids)?;
    Ok((Output::Pipes([stdout, stderr]), Output::Pipes([stdout_child, stderr_child])))
}

fn socket_pair(purpose: &str) -> Result<(OwnedFd, OwnedFd), Failure> {
    let flags = SocketFlags::CLOEXEC;
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(|errno| failure(Step::MakePipe, purpose, errno))
}

/// A pipe for output. It belongs to the container's user, who may open it once
/// more through `/dev/stdout`.
fn output_pipe(
    name: &str,
    container: &Container,
    ids: Option<UserNamespace>,
) -> Result<(OwnedFd, OwnedFd), Failure> {
    let (reader, writer) = pipe(name)?;
    let host_id = |id| ids.map_or(id, |ids| ids.host_id(id));
    let (uid, gid) = (host_id(container.uid), host_id(container.gid));
    rustix::fs::fchown(&writer, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
        .map_err(|errno| failure(Step::MakePipe, name, errno))?;
    Ok((reader, writer))
}

/// The paths at which a command may be.
fn candidates(argv: &[String], env: &[String]) -> Result<Vec<CString>, Failure> {
    let command = argv.first().map_or("", String::as_str);
    if command.contains('/') {
        return Ok(vec![c_string("argv", command)?]);
    }
    let path = env.iter().rev().find_map(|entry| entry.strip_prefix("PATH="));
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

fn c_strings(field: &str, strings: &[String]) -> Result<CStrings, Failure> {
    CStrings::new(strings).map_err(|_| Failure::new(Step::CheckContainer, field, libc::EINVAL))
}
