//! Launches a container: prepares everything in the shim, clones, and reads
//! from a pipe how far the child came. Knows nothing of what happens later.

mod child;
mod enter;
mod etc;
mod init;
mod mapped;
mod oci;
mod oci_words;
mod plan;
mod process_plan;
mod root;
mod stumble;
mod terminal;
mod volumes;
mod workload;

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use tank_shim::protocol::{CONTAINERS_DIR, Container, Exit, Failure, Step, UserNamespace as Ids};

pub(crate) use self::stumble::{At, Stumble};
pub(crate) use self::workload::NeverUnwind;
use crate::pod_volumes::PodVolume;
use crate::syscall::{self, Cloned};
use crate::user_namespace::UserNamespace;
pub(crate) use enter::start as start_beside;
use plan::Plan;
pub(crate) use process_plan::Output;
use process_plan::ProcessPlan;
pub(crate) use terminal::receive as receive_terminal;

/// The directories below a container's that belong to its overlay.
const OVERLAY_DIRS: [&str; 3] = ["upper", "work", "root"];

/// Those that are there, too, when the pod has users of its own.
const MAPPED_DIRS: [&str; 3] = ["lower", "volumes", "sys"];

/// The namespaces that a container has to itself from its birth.
const NAMESPACES: libc::c_int = libc::CLONE_NEWNS | libc::CLONE_NEWPID;

/// A process of a container's, on its way to exec.
pub(crate) struct Started {
    /// The process.
    pub(crate) pidfd: OwnedFd,
    /// Where its output comes from.
    pub(crate) output: Output<OwnedFd>,
    /// How far it comes.
    pub(crate) launching: Launching,
}

/// What tells how far a process comes.
pub(crate) struct Launching {
    /// Ends at exec; before that, what failed comes through.
    report: OwnedFd,
    explain: Explain,
}

/// What can explain a report.
enum Explain {
    Container(Box<Plan>),
    Process(Box<ProcessPlan>),
}

/// What a report says.
pub(crate) enum Report {
    /// Nothing yet.
    Pending,
    /// The workload has been exec'd, or was killed before.
    Executed,
    /// A step failed.
    Failed(Failure),
}

/// Clones a container's first process. On failure nothing is left but the
/// cgroups, which are the caller's, and what [`clean`] removes.
pub(crate) fn start(
    container: &Container,
    volumes: &[PodVolume],
    user_namespace: Option<&UserNamespace>,
) -> Result<Started, Failure> {
    let ids = user_namespace.map(UserNamespace::ids);
    if let Some(runtime) = &container.oci {
        return oci::start(container, runtime, ids);
    }
    let (plan, ends) = Plan::new(container, volumes, user_namespace)?;
    let dir = dir_of(&container.name);
    make_overlay_dirs(&dir, ids)?;
    etc::write(container, &dir, ids)?;
    if let Some(user_namespace) = user_namespace {
        return mapped::start(plan, ends, user_namespace);
    }
    match syscall::clone(NAMESPACES, plan.process.birth_cgroup()) {
        Ok(Cloned::Child) => child::run(&plan),
        Ok(Cloned::Parent(pidfd)) => {
            let explain = Explain::Container(Box::new(plan.without_descriptors()));
            let launching = Launching { report: ends.report, explain };
            Ok(Started { pidfd, output: ends.output, launching })
        }
        Err(errno) => Err(failure(Step::Clone, plan.process.clone_object, errno)),
    }
}

impl Launching {
    /// Readable when there is a report to read.
    pub(crate) fn report(&self) -> BorrowedFd<'_> {
        self.report.as_fd()
    }

    /// Reads the report, without waiting.
    pub(crate) fn read_report(&self) -> Report {
        let mut bytes = Vec::with_capacity(Stumble::BYTES);
        match rustix::io::read(&self.report, spare_capacity(&mut bytes)) {
            Ok(0) => Report::Executed,
            Ok(_) => Report::Failed(self.explain(&bytes)),
            Err(Errno::AGAIN | Errno::INTR) => Report::Pending,
            Err(errno) => Report::Failed(failure(Step::Exec, self.command(), errno)),
        }
    }

    /// That a runtime's container has ended without that its command was executed.
    pub(crate) fn not_executed(&self) -> Failure {
        let words = "the command could not be executed, and the container's log has why";
        Failure::in_words(Step::RunOciRuntime, self.command(), words)
    }

    /// What an OCI runtime has come to that ended in this way: the pidfd of the
    /// container's first process, which is the shim's child now.
    pub(crate) fn of_runtime(&self, container: &str, exit: Exit) -> Result<OwnedFd, Failure> {
        match self.read_report() {
            Report::Failed(failure) => Err(failure),
            Report::Pending | Report::Executed => {
                oci::first_process(&dir_of(container), &self.command(), exit)
            }
        }
    }

    /// Why there is no process, where that is all that is known.
    fn why_not(&self, step: Step, object: &str, errno: Errno) -> Failure {
        match self.read_report() {
            Report::Failed(failure) => failure,
            Report::Pending | Report::Executed => failure(step, object, errno),
        }
    }

    fn command(&self) -> String {
        match &self.explain {
            Explain::Container(plan) => plan.process.command(),
            Explain::Process(plan) => plan.command(),
        }
    }

    /// A report's bytes as a failure.
    fn explain(&self, bytes: &[u8]) -> Failure {
        let Some(stumble) = Stumble::from_bytes(bytes) else {
            return failure(Step::Exec, self.command(), Errno::IO);
        };
        let object = match &self.explain {
            Explain::Container(plan) => plan.object(&stumble),
            Explain::Process(plan) => plan.object(&stumble),
        };
        Failure::new(stumble.step, object, stumble.errno)
    }
}

/// Where a container has its overlay, below the run directory.
fn dir_of(container: &str) -> PathBuf {
    Path::new(CONTAINERS_DIR).join(container)
}

/// Removes a container's directories. The mounts are gone with its mount
/// namespace.
pub(crate) fn clean(container: &str) {
    // What cannot be removed now goes with the run directory.
    let _ = fs::remove_dir_all(dir_of(container));
}

/// Removes all containers' directories.
pub(crate) fn clean_all() {
    let _ = fs::remove_dir_all(CONTAINERS_DIR);
}

/// Makes the overlay's directories, new and empty.
fn make_overlay_dirs(dir: &Path, ids: Option<Ids>) -> Result<(), Failure> {
    let failed =
        |dir: &Path, error| failure_of(Step::MakeDirectory, dir.display().to_string(), &error);
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(dir, error)),
        _ => fs::create_dir_all(dir).map_err(|error| failed(dir, error))?,
    }
    let mapped = if ids.is_some() { &MAPPED_DIRS[..] } else { &[] };
    for dir in OVERLAY_DIRS.iter().chain(mapped).map(|name| dir.join(name)) {
        fs::create_dir(&dir).map_err(|error| failed(&dir, error))?;
    }
    // The container's root directory is the upper one, and other users enter it.
    let upper = dir.join("upper");
    if let Some(root) = ids.map(|ids| ids.host_id(0)) {
        chown(&upper, Some(root), Some(root)).map_err(|error| failed(&upper, error))?;
    }
    fs::set_permissions(&upper, Permissions::from_mode(0o755))
        .map_err(|error| failed(&upper, error))
}

/// A failure with an error number.
pub(crate) fn failure(step: Step, object: impl Into<String>, errno: Errno) -> Failure {
    Failure::new(step, object, errno.raw_os_error())
}

/// A failure with an error of the standard library.
pub(crate) fn failure_of(step: Step, object: impl Into<String>, error: &std::io::Error) -> Failure {
    Failure::new(step, object, error.raw_os_error().unwrap_or(libc::EIO))
}
