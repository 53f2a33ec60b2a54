//! `tank decode`: its options, and what it is connected to.

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use clap::Args;

use super::{EXIT_BAD_OPTION, say, tool_end};
use crate::core::failure::{Code, Failure};
use crate::tools;

const EXAMPLES: &str = "\
A term is written as soon as its frame is there. Of a frame that is broken, stderr says which it \
is, what is wrong, at which byte of the frame and of the stream, and shows the bytes around it; \
the frames after it are decoded.

Examples:
  echo '{hello, #{protocol => 1}} {1, status, nil}' |
    tank encode | tank port --runtime none --store memory | tank decode
  tank decode <recorded.frames

Exit status: 0, or 1 when anything in the stream was broken.";

/// Show frames of Erlang terms as text: frames on stdin, a term a line on stdout
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct DecodeArgs {}

/// Decodes stdin until it ends.
pub(super) fn run(_args: &DecodeArgs) -> ExitCode {
    if io::stdin().is_terminal() {
        let what = "stdin is a terminal: tank decode reads frames from a pipe or a file";
        say(&Failure::new(Code::BadOption, what).hint("tank decode --help"));
        return ExitCode::from(EXIT_BAD_OPTION);
    }
    tool_end(tools::decode::decode(io::stdin().lock(), io::stdout().lock(), io::stderr()))
}
