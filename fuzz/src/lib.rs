//! What must hold for any input, whoever made it up.
//!
//! Each target is a function from bytes that returns or panics. libFuzzer drives it on nightly
//! (`fuzz_targets/`), and the tests replay the corpus through the same function on stable. No
//! target looks at more than one input: what it finds can be replayed from that input alone.
#![deny(unsafe_code)]

mod atoms;
pub mod frames;
#[path = "../../crates/erlang-term-format/tests/laws/mod.rs"]
mod laws;
#[expect(unsafe_code, reason = "an allocator is implemented by unsafe functions")]
mod memory;
pub mod requests;
pub mod session;
mod stream;
pub mod terms;
pub mod text;
pub mod tools;
pub mod types;

/// What is fuzzed, and the inputs kept for it.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The name, also of the target's program.
    pub name: &'static str,
    /// Panics if the input breaks what must hold.
    pub holds: fn(&[u8]),
    /// The fewest inputs that were found to reach all that was reached.
    pub corpus: &'static [&'static [u8]],
}

macro_rules! targets {
    ($($name:ident)*) => {
        /// Every target.
        pub const TARGETS: &[Target] = &[$(Target {
            name: stringify!($name),
            holds: $name::holds,
            corpus: &include!(concat!("../corpus/", stringify!($name), ".rs")),
        }),*];
    };
}

targets! { terms types requests frames session text tools }

/// The target of this name.
#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
