//! What a person looks at the wire with. The port program needs none of it, and
//! nothing in here decides about pods.

pub mod decode;
pub mod encode;
mod hexdump;
pub mod repl;
