//! What any process of a container's does for itself between clone and exec, the
//! first one or a further one: cgroups, limits, standard streams, privileges, the
//! command. It allocates nothing, never returns, and names each step.

use std::convert::Infallible;
use std::ffi::CStr;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, UnshareFlags};
use tank_shim::protocol::Step;

use super::process_plan::{Output, ProcessPlan};
use super::stumble::{At, Stumble};
use super::{init, terminal};
use crate::syscall;

/// Ends the process if it is about to unwind into its parent's loop.
pub(crate) struct NeverUnwind;

impl Drop for NeverUnwind {
    fn drop(&mut self) {
        syscall::exit_now(126);
    }
}

/// Ends the process by what is not to return, or by telling why it has.
pub(super) fn report_failure(
    process: &ProcessPlan,
    steps: impl FnOnce() -> Result<Infallible, Stumble>,
) -> ! {
    let _guard = NeverUnwind;
    let Err(stumble) = steps();
    if let Some(report) = &process.report {
        // Nobody else can be told: a shim that is dead takes this process along.
        let _ = rustix::io::write(report, &stumble.to_bytes());
    }
    syscall::exit_now(127);
}

/// What a step is done to, for the steps whose objects are listed here.
pub(super) fn object(step: Step, index: usize) -> Option<&'static str> {
    Some(match step {
        Step::SetUpTerminal => "/dev/console",
        Step::LimitProcess => ["oom_score_adj", "nice", "nofile"].get(index)?,
        Step::SetUpStdio => ["stdin", "stdout", "stderr", "descriptors"].get(index)?,
        _ => return None,
    })
}

pub(super) fn join_cgroups(process: &ProcessPlan) -> Result<(), Stumble> {
    for (index, file) in process.joins.iter().enumerate() {
        rustix::io::write(file, b"0").at_nth(Step::JoinCgroup, index)?;
    }
    Ok(())
}

/// Once it is in the container's cgroups, which are the roots of what it sees then.
pub(super) fn enter_cgroup_namespace() -> Result<(), Stumble> {
    syscall::enter_new(UnshareFlags::NEWCGROUP).at(Step::EnterCgroupNamespace)
}

/// Sets what each process has of its own and its children inherit. The host's
/// `/proc` is still there.
pub(super) fn limit_process(process: &ProcessPlan) -> Result<(), Stumble> {
    if let Some(adj) = &process.oom_score_adj {
        write_own_oom_score(adj).at_nth(Step::LimitProcess, 0)?;
    }
    if let Some(nice) = process.nice {
        rustix::process::setpriority_process(None, nice).at_nth(Step::LimitProcess, 1)?;
    }
    if let Some(nofile) = process.nofile {
        let limit = Rlimit { current: Some(nofile), maximum: Some(nofile) };
        rustix::process::setrlimit(Resource::Nofile, limit).at_nth(Step::LimitProcess, 2)?;
    }
    Ok(())
}

fn write_own_oom_score(adj: &str) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::open(c"/proc/self/oom_score_adj", flags, Mode::empty())?;
    rustix::io::write(&file, adj.as_bytes()).map(drop)
}

pub(super) fn begin_session() -> Result<(), Stumble> {
    rustix::process::setsid().at(Step::BeginSession)?;
    syscall::leave_keyring().at(Step::LeaveKeyring)
}

/// Sets up standard output and error and closes all but them, standard input
/// and the report. After this no link through `/proc/self/fd` can lead out of
/// the container.
pub(super) fn redirect_and_close(process: &ProcessPlan) -> Result<(), Stumble> {
    if let Some(Output::Pipes(pipes)) = &process.output {
        for (index, output) in pipes.iter().enumerate() {
            let number = if index == 0 { 1 } else { 2 };
            let redirected = syscall::duplicate_to(output.as_fd(), number, true);
            redirected.at_nth(Step::SetUpStdio, 1 + index)?;
        }
    }
    let Some(report) = &process.report else { return Err(Errno::BADF).at_nth(Step::SetUpStdio, 3) };
    syscall::close_all_but(report.as_fd()).at_nth(Step::SetUpStdio, 3)
}

/// Whatever else may stand there in a container that has been running is neither
/// followed nor waited for.
pub(super) fn redirect_stdin() -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let null = rustix::fs::open(c"/dev/null", flags, Mode::empty())?;
    rustix::fs::fcntl_setfl(&null, OFlags::empty())?;
    syscall::duplicate_to(null.as_fd(), 0, true)
}

pub(super) fn make_working_dir(process: &ProcessPlan) -> Result<(), Stumble> {
    match rustix::process::chdir(&*process.working_dir) {
        Err(Errno::NOENT) => {}
        result => return result.at(Step::EnterWorkingDir),
    }
    for (index, part) in process.working_dir_parts.iter().enumerate() {
        match rustix::fs::mkdir(&**part, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno).at_nth(Step::MakeWorkingDir, index),
        }
    }
    rustix::process::chdir(&*process.working_dir).at(Step::EnterWorkingDir)
}

/// Gives up what it is not to have, and executes the command. Signals are as new
/// since the shim began: it catches and blocks none.
pub(super) fn become_the_workload(process: &ProcessPlan) -> Result<Infallible, Stumble> {
    rustix::process::umask(Mode::from_raw_mode(0o022));
    drop_privileges(process)?;
    if process.init {
        init::stand_before(process.report.as_ref(), || install_seccomp(process))?;
    }
    if matches!(process.output, Some(Output::Terminal(_))) {
        terminal::control().at(Step::SetUpTerminal)?;
    }
    install_seccomp(process)?;
    exec(process)
}

/// Gives up capabilities, becomes the user, and forbids the way back.
pub(super) fn drop_privileges(process: &ProcessPlan) -> Result<(), Stumble> {
    bound_capabilities(process.capabilities).at(Step::DropCapabilities)?;
    if let Some(groups) = &process.groups {
        rustix::thread::set_thread_groups(groups).at(Step::SetUser)?;
    }
    let (uid, gid) = (process.uid, process.gid);
    rustix::thread::set_thread_res_gid(gid, gid, gid).at(Step::SetUser)?;
    // The kernel clears permitted and effective capabilities here, unless root stays root.
    rustix::thread::set_thread_res_uid(uid, uid, uid).at(Step::SetUser)?;
    // Only now: without those that may be dropped, nobody becomes another.
    drop_capabilities(process.capabilities).at(Step::DropCapabilities)?;
    rustix::thread::set_no_new_privs(true).at(Step::ForbidNewPrivileges)
}

/// Last before exec: the program may forbid whatever has been done before.
pub(super) fn install_seccomp(process: &ProcessPlan) -> Result<(), Stumble> {
    match &process.seccomp {
        Some(seccomp) => {
            syscall::install_seccomp(seccomp.flags, &seccomp.program.0).at(Step::InstallSeccomp)
        }
        None => Ok(()),
    }
}

/// What a program that is executed can have at most.
fn bound_capabilities(kept: CapabilitySet) -> Result<(), Errno> {
    for number in 0..64 {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if kept.contains(capability) {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // The kernel has no more.
            Err(Errno::INVAL) => break,
            Err(errno) => return Err(errno),
        }
    }
    rustix::thread::clear_ambient_capability_set()
}

fn drop_capabilities(kept: CapabilitySet) -> Result<(), Errno> {
    let permitted = rustix::thread::capabilities(None)?.permitted & kept;
    let sets =
        CapabilitySets { effective: permitted, permitted, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets)
}

/// Executes the first candidate that can be, as a shell would look for it.
pub(super) fn exec(process: &ProcessPlan) -> Result<Infallible, Stumble> {
    let mut failed = Errno::NOENT;
    for (index, path) in process.candidates.iter().enumerate() {
        match syscall::exec(path, &process.argv, &process.env) {
            Errno::NOENT if exists(path) => {
                return Err(Errno::NOENT).at_nth(Step::FindInterpreter, index);
            }
            Errno::NOENT | Errno::NOTDIR => {}
            Errno::ACCESS => failed = Errno::ACCESS,
            errno => return Err(errno).at(Step::Exec),
        }
    }
    Err(failed).at(Step::Exec)
}

fn exists(path: &CStr) -> bool {
    rustix::fs::statat(CWD, path, AtFlags::empty()).is_ok()
}
