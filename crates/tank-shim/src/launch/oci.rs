//! Launches a container by an OCI runtime. A process of the shim's makes what is
//! outside: it joins the cgroups, mounts the overlay and what runtimes look at, has
//! the runtime create the container and start it, and ends. What is inside is the
//! runtime's affair, by a configuration of the daemon's.
//!
//! The container's own first process is the shim's child once its parent, the
//! runtime, has ended: the shim is the first process of its pid namespace.

use std::convert::Infallible;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::mount::MountPropagationFlags;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions};
use tank_shim::protocol::{
    Cgroup, Container, Exit, Failure, Join, OCI_CGROUP, OciRuntime, Step, UserNamespace,
};

use super::oci_words::words;
use super::plan::Plan;
use super::process_plan::ProcessPlan;
use super::root::{self, NO_SUID_DEV_EXEC};
use super::stumble::{At, Stumble};
use super::workload;
use super::{Explain, Launching, Started, dir_of, etc, failure, failure_of, make_overlay_dirs};
use crate::syscall::{self, CStrings, Cloned};

/// Below a container's directory, which is the runtime's bundle: what it is to
/// make, its state, what it says of failures, and the pid of what it has made.
const CONFIG_FILE: &str = "config.json";
const STATE_DIR: &str = "state";
const LOG_FILE: &str = "runtime.log";
const PID_FILE: &str = "pid";

/// What is read of a runtime's log at most.
const LOG_BYTES_MAX: u64 = 64 << 10;

/// Where a runtime finds programs of its own, if it needs any.
const RUNTIME_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the process works through.
struct OciPlan {
    /// With the command that creates the container.
    plan: Plan,
    /// The command that starts it.
    start: CStrings,
}

/// Begins. The pidfd is of a process that ends with status 0 once the runtime has
/// started the container.
pub(super) fn start(
    container: &Container,
    runtime: &OciRuntime,
    ids: Option<UserNamespace>,
) -> Result<Started, Failure> {
    check(container, ids)?;
    let dir = dir_of(&container.name);
    let run_dir = std::env::current_dir()
        .map_err(|error| failure_of(Step::WriteBundle, dir.display().to_string(), &error))?;
    let bundle = run_dir.join(&dir).display().to_string();
    let create = [
        &*format!("--bundle={bundle}"),
        &format!("--pid-file={bundle}/{PID_FILE}"),
        &container.name,
    ];
    let create = command(runtime, &bundle, "create", &create);
    let start = command(runtime, &bundle, "start", &[&container.name]);
    let start = CStrings::new(&start).map_err(|_| faulty("oci"))?;
    let (plan, ends) = Plan::new(&as_command(container, create), &[], None)?;
    make_overlay_dirs(&dir, None)?;
    etc::write(container, &dir, None)?;
    let config = dir.join(CONFIG_FILE);
    fs::write(&config, &runtime.config)
        .map_err(|error| failure_of(Step::WriteBundle, config.display().to_string(), &error))?;
    let plan = OciPlan { plan, start };
    let process = &plan.plan.process;
    match syscall::clone(libc::CLONE_NEWNS, process.birth_cgroup()) {
        Ok(Cloned::Child) => workload::report_failure(process, || set_up_and_run(&plan)),
        Ok(Cloned::Parent(pidfd)) => {
            let explain = Explain::Container(Box::new(plan.plan.without_descriptors()));
            let launching = Launching { report: ends.report, explain };
            Ok(Started { pidfd, output: ends.output, launching })
        }
        Err(errno) => Err(failure(Step::Clone, &process.clone_object, errno)),
    }
}

/// A command of a runtime's, as all of them take it.
fn command(runtime: &OciRuntime, bundle: &str, verb: &str, rest: &[&str]) -> Vec<String> {
    let state = format!("--root={bundle}/{STATE_DIR}");
    let log = format!("--log={bundle}/{LOG_FILE}");
    let all = [&*runtime.program, &state, &log, "--log-format=json", verb];
    all.iter().chain(rest).map(|&word| word.to_owned()).collect()
}

/// The runtime as what is to be executed, with of the container's what it inherits.
fn as_command(container: &Container, argv: Vec<String>) -> Container {
    Container {
        argv,
        env: vec![RUNTIME_PATH.to_owned()],
        working_dir: "/".to_owned(),
        nofile: None,
        oom_score_adj: None,
        mounts: Vec::new(),
        seccomp: None,
        oci: None,
        ..container.clone()
    }
}

/// Refuses what is the shim's own launcher's alone to do.
fn check(container: &Container, ids: Option<UserNamespace>) -> Result<(), Failure> {
    let is_killable = container.cgroups.iter().any(|cgroup| cgroup.join == Join::Clone);
    let faults = [
        // Without one, whatever a runtime has begun could not be killed with it.
        ("cgroups", !is_killable),
        ("init", container.init),
        ("tty", container.tty),
        ("user_namespace", ids.is_some()),
    ];
    match faults.iter().find(|(_, is_faulty)| *is_faulty) {
        Some((field, _)) => Err(faulty(field)),
        None => Ok(()),
    }
}

fn faulty(field: &str) -> Failure {
    Failure::new(Step::CheckContainer, field, libc::EINVAL)
}

/// Between clone and exec: allocates nothing.
fn set_up_and_run(OciPlan { plan, start }: &OciPlan) -> Result<Infallible, Stumble> {
    let process = &plan.process;
    workload::join_cgroups(process)?;
    workload::enter_cgroup_namespace()?;
    workload::limit_process(process)?;
    rustix::process::setsid().at(Step::BeginSession)?;
    // What it makes in the root is for all users.
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
    rustix::mount::mount_change(c"/", private).at(Step::MakeMountsPrivate)?;
    root::mount_overlay(plan)?;
    mount_what_runtimes_look_at()?;
    workload::redirect_stdin().at(Step::SetUpStdio)?;
    workload::redirect_and_close(process)?;
    match syscall::clone(0, None).at(Step::RunOciRuntime)? {
        Cloned::Child => return execute(process, &process.argv),
        Cloned::Parent(pidfd) => wait_for_success(&pidfd).at(Step::RunOciRuntime)?,
    }
    execute(process, start)
}

/// The host's `/proc` has other pids than a runtime here does. And of cgroups it
/// sees the container's own of version 2 alone, in which it makes another: so it is
/// on every host the same, and nothing of what Tank has set up is its to change.
fn mount_what_runtimes_look_at() -> Result<(), Stumble> {
    root::mount(c"proc", c"/proc", NO_SUID_DEV_EXEC, c"").at(Step::MountProc)?;
    root::mount(c"cgroup2", c"/sys/fs/cgroup", NO_SUID_DEV_EXEC, c"").at(Step::MountCgroups)
}

fn execute(process: &ProcessPlan, argv: &CStrings) -> Result<Infallible, Stumble> {
    let program = process.candidates.first().ok_or(Errno::NOENT).at(Step::RunOciRuntime)?;
    Err(syscall::exec(program, argv, &process.env)).at(Step::RunOciRuntime)
}

/// Ends as a process of the runtime's does that fails.
fn wait_for_success(pidfd: &OwnedFd) -> Result<(), Errno> {
    loop {
        match rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED) {
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
            Ok(Some(status)) if status.exit_status() == Some(0) => return Ok(()),
            Ok(status) => {
                syscall::exit_now(status.and_then(|status| status.exit_status()).unwrap_or(1))
            }
        }
    }
}

/// The container's first process, where the runtime has started it.
pub(super) fn first_process(dir: &Path, program: &str, exit: Exit) -> Result<OwnedFd, Failure> {
    let failed = |words: &str| Err(Failure::in_words(Step::RunOciRuntime, program, words));
    if exit != Exit::Exited(0) {
        let said = words(&read_log(dir));
        return failed(&said.unwrap_or_else(|| match exit {
            Exit::Exited(code) => format!("it exited with status {code}, without a word"),
            Exit::Signaled(signal) => format!("it was ended by signal {signal}"),
            Exit::OutOfMemory => "it ran out of memory".to_owned(),
        }));
    }
    let path = || dir.join(PID_FILE).display().to_string();
    let pid = match fs::read_to_string(dir.join(PID_FILE)) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(failure_of(Step::RunOciRuntime, path(), &error));
        }
        pid => pid.unwrap_or_default(),
    };
    let pid = pid.trim().parse().ok().and_then(Pid::from_raw);
    let Some(pid) = pid else { return failed("it left no pid in its pid file") };
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())
        .map_err(|errno| failure(Step::RunOciRuntime, path(), errno))?;
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    match rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), options) {
        Ok(_) => Ok(pidfd),
        Err(Errno::CHILD) => failed("the process in its pid file has another parent"),
        Err(errno) => Err(failure(Step::RunOciRuntime, path(), errno)),
    }
}

/// The cgroups of a container's processes. Of version 2, a runtime has made one below
/// that which is the container's: by it, it denies devices.
pub(super) fn cgroups(container: &Container) -> Vec<Cgroup> {
    let cgroup = |cgroup: &Cgroup| match cgroup.join {
        Join::Clone if container.oci.is_some() => {
            Cgroup { path: format!("{}/{OCI_CGROUP}", cgroup.path), ..cgroup.clone() }
        }
        _ => cgroup.clone(),
    };
    container.cgroups.iter().map(cgroup).collect()
}

/// The log, or as much of it as there is.
fn read_log(dir: &Path) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(dir.join(LOG_FILE)) {
        let _ = file.take(LOG_BYTES_MAX).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
