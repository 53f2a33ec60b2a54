//! The core, proved three ways: by text cases that a person can judge, against
//! a naive model that is too simple to be wrong, and in a simulated world where
//! everything is late, lost, repeated and out of order.

mod cases;
mod fixtures;
mod forecast;
mod level;
mod model;
mod prompt;
mod simulation;
mod store;
mod text;
