//! `tank repl`: a person, or a script, at the port program.
//!
//! It starts this same executable as `tank port` over two pipes and is its
//! client, so that what one sees here is what any client sees. `terminal`
//! talks with a person and `script` reads a script; both hand lines to
//! `command` and commands to `conversation`. It knows the protocol and
//! nothing of how the loop works.

mod command;
mod conversation;
mod editor;
mod layout;
mod program;

mod screen;
mod script;
mod show;
mod terminal;

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::process::ExitStatus;
use std::sync::{Arc, Mutex};

use erlang_term_format::text::Syntax;

use crate::core::status::Status;

use command::{About, Wrong};
use conversation::{Shared, View};
use show::Style;

/// What to start, and how to talk.
#[derive(Debug)]
pub struct Options {
    /// The command line of `tank port`, from its first option on.
    pub port_args: Vec<OsString>,
    /// The syntax of terms, at first.
    pub syntax: Syntax,
    /// How this program exits.
    pub exit_code: fn(&End) -> u8,
}

/// How it ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// As it was asked to.
    Done,
    /// The script came to its end, and some of its commands failed.
    Failed,
    /// Whoever typed did not want to wait until the port program is ready.
    Interrupted,
    /// The port program did not start; its own status says why.
    NotStarted(ExitStatus),
    /// The port program ended by itself.
    Died(ExitStatus),
}

/// Talks until whoever types or the script comes to the end.
///
/// # Errors
/// When the port program cannot be spawned, or the terminal fails.
pub fn run(options: &Options) -> io::Result<End> {
    let is_person = io::stdin().is_terminal() && io::stdout().is_terminal();
    let has_no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    let view: Shared = Arc::new(Mutex::new(View {
        style: Style {
            syntax: options.syntax,
            has_colour: is_person && !has_no_colour && !is_dumb,
        },
        has_notices: false,
        pods: Default::default(),
        abandoned: Default::default(),
        expects_end: true,
    }));
    if is_person {
        terminal::run(options, &view)
    } else {
        script::run(options, &view, io::stdin().lock())
    }
}

impl Wrong {
    /// How many lines of the command come before what is wrong.
    fn lines_before(&self) -> usize {
        match self {
            Self::Term { error, .. } => error.line - 1,
            _ => 0,
        }
    }

    /// In words.
    fn in_words(&self) -> String {
        match self {
            Self::Incomplete => "the term has no end\n".to_owned(),
            Self::Unknown(name) => format!("there is no command {name}; help lists them\n"),
            Self::Usage(about) => format!("usage: {}\n", About::usage(about)),
            Self::State(name) => {
                let states = Status::ALL.map(Status::name).join(", ");
                format!("there is no state {name}; a pod is {states} or gone\n")
            }
            Self::Term { error, text } => {
                format!("{}\n{}\n", error.message, error.excerpt(text))
            }
        }
    }
}
