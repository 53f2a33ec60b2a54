//! `tank`: see [`tank::cli`].
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    tank::cli::main()
}
