//! A shim with real containers. Needs root; without it each test says that it
//! was skipped.

mod attacks;
mod control;
mod ending;
mod failures;
#[cfg(target_arch = "x86_64")] // An error is put into registers of that machine.
mod faults;
mod first_process;
mod hangup;
mod isolation;
mod launch;
mod limits;
mod output;
mod pods;
mod scene;
mod user_namespaces;
mod volumes;
