//! A shim with real containers. Needs root; without it each test says that it
//! was skipped.

mod attacks;
mod control;
mod ending;
mod failures;
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
