//! `tank-shim`: supervises one pod. One thread, one poll loop, no policy.
#![deny(unsafe_code)]

mod begin;
mod cgroup;
mod container;
mod control;
mod deadline;
mod hook;
mod ids;
mod launch;
mod log;
mod namespaces;
mod own_users;
mod pod;
mod pod_volumes;
mod process;
mod supervisor;
#[expect(unsafe_code, reason = "system calls that have no safe wrapper")]
mod syscall;
mod user_namespace;

use std::process::ExitCode;

fn main() -> ExitCode {
    match begin::begin().and_then(|inherited| supervisor::Supervisor::new(inherited)?.run()) {
        Ok(()) => ExitCode::SUCCESS,
        // There is nobody to tell: standard error is /dev/null, and the daemon
        // sees the connection end.
        Err(_) => ExitCode::FAILURE,
    }
}
