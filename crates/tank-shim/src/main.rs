//! `tank-shim`.
fn main() {}
