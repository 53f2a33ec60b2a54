//! `tank encode`: its options, and what it is connected to.

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use clap::Args;

use super::{EXIT_BAD_OPTION, SyntaxArg, say, tool_end};
use crate::core::failure::{Code, Failure};
use crate::tools;

const MORE: &str = "\
Terms are separated by blanks or newlines; a full stop (Erlang) or a semicolon
(Elixir) may end each, a term may go on over several lines, and comments are
passed over. A frame is written as soon as the line is there on which its term
ends. A term that is wrong ends it; all before it has been written.

Examples:
  echo '{hello, #{protocol => 1}} {1, status, nil}' |
    tank encode | tank port --runtime none --store memory | tank decode
  echo '{:hello, %{protocol: 1}}' | tank encode --syntax elixir | hexdump -C

Exit status: 0, or 1 when a term is wrong.";

/// Write terms as frames: text on stdin, frames of Erlang terms on stdout
#[derive(Debug, Args)]
#[command(after_long_help = MORE)]
pub(super) struct EncodeArgs {
    /// The syntax of the terms
    #[arg(long, value_enum, default_value_t = SyntaxArg::Erlang)]
    syntax: SyntaxArg,
}

/// Encodes stdin until it ends.
pub(super) fn run(args: &EncodeArgs) -> ExitCode {
    if io::stdout().is_terminal() {
        let what = "stdout is a terminal: tank encode writes frames to a pipe or a file";
        say(&Failure::new(Code::BadOption, what).hint("to look at them: tank encode | hexdump -C"));
        return ExitCode::from(EXIT_BAD_OPTION);
    }
    let syntax = args.syntax.syntax();
    tool_end(tools::encode::encode(io::stdin().lock(), io::stdout().lock(), io::stderr(), syntax))
}
