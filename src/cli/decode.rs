//! `tank decode`: its options, and what it is connected to.

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use clap::Args;

use super::{EXIT_BAD_OPTION, SyntaxArg, say, tool_end};
use crate::core::failure::{Code, Failure};
use crate::tools;

const MORE: &str = "\
A term is written as soon as its frame is there. Of a frame that is broken,
stderr says which it is, what is wrong, at which byte of the frame and of the
stream, and shows the bytes around it; the frames after it are decoded.

Examples:
  echo '{hello, #{protocol => 1}} {1, status, nil}' |
    tank encode | tank port --runtime none --store memory | tank decode
  tank decode <recorded.frames

Exit status: 0, or 1 when anything in the stream was broken.";

/// Show frames of Erlang terms as text: frames on stdin, a term a line on stdout
#[derive(Debug, Args)]
#[command(after_long_help = MORE)]
pub(super) struct DecodeArgs {
    /// The syntax to show terms in
    #[arg(long, value_enum, default_value_t = SyntaxArg::Erlang)]
    syntax: SyntaxArg,
}

/// Decodes stdin until it ends.
pub(super) fn run(args: &DecodeArgs) -> ExitCode {
    if io::stdin().is_terminal() {
        let what = "stdin is a terminal: tank decode reads frames from a pipe or a file";
        say(&Failure::new(Code::BadOption, what).hint("tank decode --help"));
        return ExitCode::from(EXIT_BAD_OPTION);
    }
    let syntax = args.syntax.syntax();
    tool_end(tools::decode::decode(io::stdin().lock(), io::stdout().lock(), io::stderr(), syntax))
}
