//! From the command line to an exit status. Parsing never acts: each
//! subcommand has a file with its arguments and with what they set going.

use std::io;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use erlang_term_format::text::Syntax;
use tracing_subscriber::EnvFilter;

use crate::core::failure::Failure;
use crate::os_words::os_words;

mod decode;
mod encode;
mod port;
mod repl;

/// Input was wrong, or a command of a script failed; stderr says what and
/// where.
pub const EXIT_BAD_INPUT: u8 = 1;
/// A command line option is wrong, or a terminal is where a pipe must be.
pub const EXIT_BAD_OPTION: u8 = 2;
/// The client speaks another protocol.
pub const EXIT_MISMATCH: u8 = 3;
/// The program could not start; the error says why.
pub const EXIT_CANNOT_START: u8 = 4;
/// A defect: the loop itself failed, or something panicked.
pub const EXIT_INTERNAL: u8 = 5;
/// The port program that `tank repl` talked with ended by itself.
pub const EXIT_PORT_DIED: u8 = 6;
/// Ctrl-C ended `tank repl` before the port program was ready: 128 and the number
/// of SIGINT, as a shell says it.
pub const EXIT_INTERRUPTED: u8 = 130;

/// What is logged when `TANK_LOG` does not say.
const DEFAULT_LOG: &str = "warn";

const LOG_HELP: &str =
    "TANK_LOG says what is logged on stderr: error, warn (default), info or debug";

/// Keeps containers running the way plain data says they should run.
#[derive(Debug, Parser)]
#[command(version, about, after_help = LOG_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Port(port::PortArgs),
    Repl(repl::ReplArgs),
    Encode(encode::EncodeArgs),
    Decode(decode::DecodeArgs),
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum SyntaxArg {
    /// #{name => <<"web">>}
    Erlang,
    /// %{name: "web"}
    Elixir,
}

impl SyntaxArg {
    fn syntax(self) -> Syntax {
        match self {
            Self::Erlang => Syntax::Erlang,
            Self::Elixir => Syntax::Elixir,
        }
    }
}

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    end_on_panic();
    let read = Cli::command().try_get_matches().and_then(|given| {
        let cli = Cli::from_arg_matches(&given)?;
        Ok((cli, given))
    });
    let (cli, given) = match read {
        Ok(read) => read,
        Err(error) => return wrong_usage(&error),
    };
    log_to_stderr();
    match cli.command {
        Command::Port(args) => port::run(args),
        Command::Repl(args) => {
            let (_, given) = given.subcommand().expect("a command was given");
            repl::run(&args, given)
        }
        Command::Encode(args) => encode::run(&args),
        Command::Decode(args) => decode::run(&args),
    }
}

/// What is worth a line goes to stderr, without colour: in most places a
/// log collector reads it.
fn log_to_stderr() {
    let wanted = std::env::var_os("TANK_LOG").unwrap_or_default();
    let wanted = wanted.to_string_lossy();
    let (filter, wrong) = match EnvFilter::try_new(&*wanted) {
        Ok(filter) if !wanted.is_empty() => (filter, None),
        Ok(_) => (EnvFilter::new(DEFAULT_LOG), None),
        Err(error) => (EnvFilter::new(DEFAULT_LOG), Some(error)),
    };
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(false)
        .with_env_filter(filter)
        .init();
    if let Some(error) = wrong {
        tracing::warn!(%error, "TANK_LOG is {wanted}: logging {DEFAULT_LOG} and above");
    }
}

/// A defect in any task or thread ends the program, as a crash ends a process:
/// the client's supervisor starts another, and pods go on meanwhile. A task
/// that just vanished would leave its pod stuck for ever.
fn end_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        std::process::exit(i32::from(EXIT_INTERNAL));
    }));
}

/// Help and version are answers; everything else is an error, on stderr for a
/// person and in a frame for a client.
fn wrong_usage(error: &clap::Error) -> ExitCode {
    let is_port = std::env::args().nth(1).is_some_and(|command| command == "port");
    if is_port && error.use_stderr() {
        port::tell_wrong_usage(error);
    }
    let _ = error.print();
    if error.use_stderr() { ExitCode::from(EXIT_BAD_OPTION) } else { ExitCode::SUCCESS }
}

/// Says a failure on stderr.
fn say(failure: &Failure) {
    eprintln!("tank: {failure}");
    if let Some(hint) = &failure.hint {
        eprintln!("  hint: {hint}");
    }
}

/// How a tool between two pipes ends. Who reads its output may have seen
/// enough: that is no failure.
fn tool_end(is_well: io::Result<bool>) -> ExitCode {
    match is_well {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(EXIT_BAD_INPUT),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tank: {}", os_words(&error));
            ExitCode::from(EXIT_BAD_INPUT)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use tokio::task::{LocalSet, spawn_local};

    use super::*;

    /// Set in a process whose every task is to panic.
    const MARK: &str = "TANK_TEST_DEFECT";

    /// The test below, in a process of its own.
    const THIS: &str = "cli::tests::a_defect_in_a_task_or_a_thread_ends_the_program_at_once";

    #[test]
    fn a_defect_in_a_task_or_a_thread_ends_the_program_at_once() {
        if let Ok(place) = std::env::var(MARK) {
            fail_in(&place);
        }
        let program = std::env::current_exe().expect("it is there");
        for place in ["task", "worker", "thread"] {
            let mut command = Command::new(&program);
            command.args(["--exact", THIS, "--nocapture"]).env(MARK, place);
            let output = command.output().expect("it starts");
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(i32::from(EXIT_INTERNAL)), "{place}: {said}");
            assert!(said.contains(&format!("a defect in a {place}")), "{said}");
        }
    }

    /// What nobody waits for: it would be gone without a word.
    fn fail_in(place: &str) -> ! {
        end_on_panic();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let (kind, place) = (place, place.to_owned());
        let defect = move || panic!("a defect in a {place}");
        LocalSet::new().block_on(&runtime.expect("a runtime"), async {
            match kind {
                "task" => drop(spawn_local(async move { defect() })),
                "worker" => drop(tokio::task::spawn_blocking(defect)),
                _ => drop(std::thread::spawn(defect)),
            }
            std::future::pending().await
        })
    }
}
