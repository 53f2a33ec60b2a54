//! `tank repl`: its options, which are those of `tank port` and one more, and
//! what its end means.

use std::ffi::OsString;
use std::process::{ExitCode, ExitStatus};

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command};

use super::port::PortArgs;
use super::{EXIT_BAD_INPUT, EXIT_CANNOT_START, EXIT_INTERRUPTED, EXIT_PORT_DIED, SyntaxArg};
use crate::os_words::os_words;
use crate::tools::repl::{self, End, Options};

const MORE: &str = "\
Starts `tank port` with the options given here and talks with it: `help` lists
the commands, TAB completes, Ctrl-C cancels a line or the wait for an answer,
Ctrl-D leaves. What becomes of pods then is what --on-disconnect says.

Lines are kept in $XDG_STATE_HOME/tank/repl_history
(~/.local/state/tank/repl_history), but for those that begin with a blank.
NO_COLOR switches colours off.

When stdin or stdout is no terminal it reads a script: a command a line, terms
over several, # or % for comments. Results are printed plainly; a command that
fails is reported on stderr with its line, and the script goes on.

Examples:
  tank repl --runtime none --store memory
  printf 'apply @web.exs\\nsync\\nstatus web\\n' | tank repl

Exit status:
  0  all went well; at a terminal, also when commands failed
  1  a command of the script failed
  2  an option is wrong
  3, 4, 5  the port program did not start, and exited with this status
  6  the port program ended by itself
  130  Ctrl-C came before the port program was ready";

/// Talk with a port program of one's own, at a terminal or by a script
#[derive(Debug, Args)]
#[command(after_long_help = MORE)]
pub(super) struct ReplArgs {
    /// The syntax of terms, at first
    #[arg(long, value_enum, default_value_t = SyntaxArg::Elixir)]
    syntax: SyntaxArg,
    #[command(flatten, next_help_heading = "Options of tank port")]
    _port: PortArgs,
}

/// Talks until the end. `given` is what `args` were read from.
pub(super) fn run(args: &ReplArgs, given: &ArgMatches) -> ExitCode {
    let options = Options { port_args: port_args(given), syntax: args.syntax.syntax(), exit_code };
    match repl::run(&options) {
        Ok(end) => ExitCode::from(exit_code(&end)),
        Err(error) => {
            eprintln!("tank repl: {}", os_words(&error));
            ExitCode::from(EXIT_CANNOT_START)
        }
    }
}

fn exit_code(end: &End) -> u8 {
    match end {
        End::Done => 0,
        End::Failed => EXIT_BAD_INPUT,
        End::Interrupted => EXIT_INTERRUPTED,
        End::NotStarted(status) => own_code(*status).unwrap_or(EXIT_CANNOT_START),
        End::Died(_) => EXIT_PORT_DIED,
    }
}

/// The status of a port program that failed.
fn own_code(status: ExitStatus) -> Option<u8> {
    status.code().and_then(|code| u8::try_from(code).ok()).filter(|code| *code != 0)
}

/// The options of the port program among those given, as they were given.
fn port_args(given: &ArgMatches) -> Vec<OsString> {
    let port = PortArgs::augment_args(Command::new("port"));
    port.get_arguments().flat_map(|option| option_given(given, option)).collect()
}

fn option_given(given: &ArgMatches, option: &Arg) -> Vec<OsString> {
    let id = option.get_id().as_str();
    if given.value_source(id) != Some(ValueSource::CommandLine) {
        return Vec::new();
    }
    let long = option.get_long().expect("every option of the port program has a long name");
    let values = given.get_raw(id).into_iter().flatten();
    values.flat_map(|value| [format!("--{long}").into(), value.to_owned()]).collect()
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct Alone {
        #[command(flatten)]
        _args: ReplArgs,
    }

    #[test]
    fn the_port_program_gets_its_options_as_they_were_given() {
        let line = ["tank", "--syntax", "erlang", "--run-dir=a b", "--interval-ms", "7"];
        let given = Alone::command().get_matches_from(line);
        assert_eq!(port_args(&given), ["--run-dir", "a b", "--interval-ms", "7"]);
    }
}
