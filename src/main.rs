//! `tank`: see [`tank::cli`].

fn main() -> std::process::ExitCode {
    tank::cli::main()
}
