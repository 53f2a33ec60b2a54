//! `tank`.
fn main() {}
