//! The order in which a container's processes come to be, between clone and exec:
//! the first one in a root that it sets up, a further one in a root that is there.

use std::convert::Infallible;
use std::os::fd::AsFd;

use rustix::fs::Mode;
use tank_shim::protocol::Step;

use super::mapped;
use super::plan::Plan;
use super::process_plan::{Output, ProcessPlan};
use super::root::{change_root, hide_the_host, mount_kernel_file_systems, protect_root};
use super::stumble::{At, Stumble};
use super::workload::{
    become_the_workload, begin_session, enter_cgroup_namespace, exec, install_seccomp,
    join_cgroups, limit_process, make_working_dir, redirect_and_close, redirect_stdin,
    report_failure,
};
use super::{terminal, volumes};

/// Sets the container up and executes the command, or reports why not.
pub(super) fn run(plan: &Plan) -> ! {
    report_failure(&plan.process, || set_up_and_exec(plan))
}

fn set_up_and_exec(plan: &Plan) -> Result<Infallible, Stumble> {
    join_cgroups(&plan.process)?;
    enter_cgroup_namespace()?;
    match &plan.mapped {
        Some(mapped) => mapped::arrive(plan, mapped)?,
        None => limit_process(&plan.process)?,
    }
    begin_session()?;
    rustix::process::umask(Mode::empty());
    change_root(plan)?;
    mount_kernel_file_systems(plan)?;
    hide_the_host(plan)?;
    // Before the volumes: one may lie over the devices.
    set_up_input(plan)?;
    volumes::mount(&plan.mounts, plan.opens_devices())?;
    redirect_and_close(&plan.process)?;
    make_working_dir(&plan.process)?;
    protect_root(plan).at(Step::ProtectRoot)?;
    become_the_workload(&plan.process)
}

/// The end of it for a process that has entered a container that is set up, and
/// has given up what it is not to have.
pub(super) fn begin_and_exec(process: &ProcessPlan) -> Result<Infallible, Stumble> {
    begin_session()?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    rustix::process::chdir(&*process.working_dir).at(Step::EnterWorkingDir)?;
    install_seccomp(process)?;
    exec(process)
}

/// Standard input, and all of a terminal.
fn set_up_input(plan: &Plan) -> Result<(), Stumble> {
    match &plan.process.output {
        Some(Output::Terminal(socket)) => {
            terminal::set_up(socket.as_fd(), plan.process.uid).at(Step::SetUpTerminal)
        }
        _ => redirect_stdin().at(Step::SetUpStdio),
    }
}
