//! What a person can ask for, and a line of text into one of these. Parsing
//! never acts: not even a file is read.

use std::path::PathBuf;

use erlang_term_format::Term;
use erlang_term_format::text::{ParseError, Syntax};

use crate::core::status::Goal;

/// One line, understood.
#[derive(Debug, PartialEq)]
pub(super) enum Command {
    /// Nothing was asked for.
    Nothing,
    Apply(Source),
    Create(Source),
    Plan(Source),
    Delete(String),
    Get(String),
    List,
    Status(Option<String>),
    Events(String),
    Sync,
    Await(String, Goal, u64),
    Restart(String),
    Kill(String, u64),
    Ping,
    Nudge,
    Notices(bool),
    Send(Term<'static>),
    Syntax(Syntax),
    Shutdown(Pods),
    Help(Option<&'static About>),
    Exit,
}

/// Where a spec is.
#[derive(Debug, PartialEq)]
pub(super) enum Source {
    /// In the line.
    Term(Term<'static>),
    /// In this file.
    File(PathBuf),
}

/// What becomes of pods when the port program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pods {
    Keep,
    Stop,
}

/// Why a line is no command.
#[derive(Debug, PartialEq)]
pub(super) enum Wrong {
    /// A term in it goes on in the next line.
    Incomplete,
    /// No command is called so.
    Unknown(String),
    /// The command is there and its arguments are others.
    Usage(&'static About),
    /// No pod can be in a state of this name.
    State(String),
    /// The term in this text is none.
    Term { error: ParseError, text: String },
}

/// What `help` and completion know of a command.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct About {
    pub(super) name: &'static str,
    pub(super) args: &'static str,
    pub(super) line: &'static str,
    pub(super) more: &'static str,
    pub(super) completes: Completes,
}

/// What an argument can be completed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Completes {
    Nothing,
    Pod,
    /// The path of a file, after `@`.
    Path,
    Command,
    Word(&'static [&'static str]),
}

/// How long a person waits for a pod who does not say how long.
const AWAIT_MS: u64 = 5_000;

/// Every command, in the order of `help`.
pub(super) const COMMANDS: [About; 21] = [
    About {
        name: "apply",
        args: "SPEC | @FILE",
        line: "create or replace a pod; done once it is on disk",
        more: "\
The spec is a map in the syntax of the moment; it may go on over several lines.
  apply %{name: \"web\", containers: [%{name: \"app\", image: {:rootfs, \"/srv/rootfs\"},
          command: [\"/bin/httpd\", \"-f\"]}]}
  apply @web.exs        reads the spec from a file (.erl, .config, .term: Erlang's syntax)",
        completes: Completes::Path,
    },
    About {
        name: "create",
        args: "SPEC | @FILE",
        line: "create a pod; refused when there is one of that name",
        more: "As `apply`, but never replaces a pod.",
        completes: Completes::Path,
    },
    About {
        name: "plan",
        args: "SPEC | @FILE",
        line: "say what `apply` would do, and do nothing",
        more: "\
One spec or a list of them. Each pod is one that it would create, leave alone (none), adjust (its
run goes on by other limits, another policy or another way to be stopped), replace (its run is
ended and another started) or start (nothing of it runs).",
        completes: Completes::Path,
    },
    About {
        name: "delete",
        args: "NAME",
        line: "delete a pod; fine when there is none",
        more: "Done once it is on disk; `sync` waits until the run is gone as well.",
        completes: Completes::Pod,
    },
    About {
        name: "get",
        args: "NAME",
        line: "show a pod's spec",
        more: "With all defaults filled in, and its generation: how often it has changed.",
        completes: Completes::Pod,
    },
    About {
        name: "list",
        args: "",
        line: "list the pods that are wanted",
        more: "What has been applied; `status` says what has become of it.",
        completes: Completes::Nothing,
    },
    About {
        name: "status",
        args: "[NAME]",
        line: "say how pods are, and why; with a name, all there is to say",
        more: "\
A pod is starting, running, stopping, backing_off (it has failed and waits to be started again)
or terminal (it has ended, and its restart policy says to leave it so).",
        completes: Completes::Pod,
    },
    About {
        name: "events",
        args: "NAME",
        line: "say what has happened to a pod, and why; the last 100 things",
        more: "\
They outlive the port program, and a reboot. A restart is what ended, backed off and started
again; a pod that is deleted takes them along.",
        completes: Completes::Pod,
    },
    About {
        name: "sync",
        args: "",
        line: "wait until what was asked for has been carried out",
        more: "Stops are complete then, and starts have been exec'd or have failed.",
        completes: Completes::Nothing,
    },
    About {
        name: "await",
        args: "NAME STATE [MS]",
        line: "wait until a pod is so, by the spec that was applied last; 5000 ms unless told",
        more: "\
The state is starting, running, stopping, backing_off, terminal or gone. In time or not, the answer
says how the pod is.",
        completes: Completes::Pod,
    },
    About {
        name: "restart",
        args: "NAME",
        line: "stop a pod and start it now, with no retries counted",
        more: "Also what makes a terminal pod run again.",
        completes: Completes::Pod,
    },
    About {
        name: "kill",
        args: "NAME RUN",
        line: "kill a run of a pod; `status NAME` has its number",
        more: "A crash, as to the restart policy. Refused when that run is over already.",
        completes: Completes::Pod,
    },
    About {
        name: "ping",
        args: "",
        line: "ask whether the port program is there, and time it",
        more: "Answered by the loop itself: an answer says that it turns.",
        completes: Completes::Nothing,
    },
    About {
        name: "nudge",
        args: "",
        line: "say that something may have changed: look now",
        more: "Without an answer. The loop looks by itself every --interval-ms.",
        completes: Completes::Nothing,
    },
    About {
        name: "notices",
        args: "on | off",
        line: "show what happens as it happens; on at a terminal, off in a script",
        more: "Notices begin with `*`.",
        completes: Completes::Word(&["on", "off"]),
    },
    About {
        name: "send",
        args: "TERM",
        line: "send any term as a frame, and show the answer as it is",
        more: "\
For what docs/protocol.md says and no command does:
  send {7, :status, nil}
An answer is waited for when the term is a request, {Id, Op, Args} with an id above 0.",
        completes: Completes::Nothing,
    },
    About {
        name: "syntax",
        args: "erlang | elixir",
        line: "read and show terms in this syntax",
        more: "Elixir's at first; `tank repl --syntax erlang` begins with Erlang's.",
        completes: Completes::Word(&["erlang", "elixir"]),
    },
    About {
        name: "shutdown",
        args: "keep | stop",
        line: "end the port program, and keep the pods running or stop them first",
        more: "`stop` waits until each is gone.",
        completes: Completes::Word(&["keep", "stop"]),
    },
    About {
        name: "help",
        args: "[COMMAND]",
        line: "this, or more about one command",
        more: "",
        completes: Completes::Command,
    },
    About {
        name: "exit",
        args: "",
        line: "leave: what becomes of pods is what --on-disconnect says",
        more: "As Ctrl-D does.",
        completes: Completes::Nothing,
    },
    About {
        name: "quit",
        args: "",
        line: "the same as exit",
        more: "",
        completes: Completes::Nothing,
    },
];

/// The command of this name.
pub(super) fn about(name: &str) -> Option<&'static About> {
    COMMANDS.iter().find(|about| about.name == name)
}

impl Command {
    /// Reads a line, or several when a term goes on.
    pub(super) fn parse(line: &str, syntax: Syntax) -> Result<Self, Wrong> {
        let line = line.trim();
        if line.is_empty() || is_comment(line) {
            return Ok(Self::Nothing);
        }
        let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let about = about(name).ok_or_else(|| Wrong::Unknown(name.to_owned()))?;
        match name {
            "apply" => source(line, rest, syntax, about).map(Self::Apply),
            "create" => source(line, rest, syntax, about).map(Self::Create),
            "plan" => source(line, rest, syntax, about).map(Self::Plan),
            "send" => term(line, rest, syntax, about).map(Self::Send),
            _ => {
                let words: Vec<&str> =
                    rest.split_whitespace().take_while(|word| !is_comment(word)).collect();
                Self::of_words(name, &words).ok_or_else(|| wrong_words(about, &words))
            }
        }
    }

    fn of_words(name: &str, words: &[&str]) -> Option<Self> {
        let pod = |word: &str| word.trim_matches('"').to_owned();
        Some(match (name, words) {
            ("delete", [name]) => Self::Delete(pod(name)),
            ("get", [name]) => Self::Get(pod(name)),
            ("list", []) => Self::List,
            ("status", []) => Self::Status(None),
            ("status", [name]) => Self::Status(Some(pod(name))),
            ("events", [name]) => Self::Events(pod(name)),
            ("sync", []) => Self::Sync,
            ("await", [name, goal]) => Self::Await(pod(name), Goal::from_name(goal)?, AWAIT_MS),
            ("await", [name, goal, timeout_ms]) => {
                Self::Await(pod(name), Goal::from_name(goal)?, timeout_ms.parse().ok()?)
            }
            ("restart", [name]) => Self::Restart(pod(name)),
            ("kill", [name, run]) => Self::Kill(pod(name), run.parse().ok()?),
            ("ping", []) => Self::Ping,
            ("nudge", []) => Self::Nudge,
            ("notices", ["on"]) => Self::Notices(true),
            ("notices", ["off"]) => Self::Notices(false),
            ("syntax", ["erlang"]) => Self::Syntax(Syntax::Erlang),
            ("syntax", ["elixir"]) => Self::Syntax(Syntax::Elixir),
            ("shutdown", ["keep"]) => Self::Shutdown(Pods::Keep),
            ("shutdown", ["stop"]) => Self::Shutdown(Pods::Stop),
            ("help", []) => Self::Help(None),
            ("help", [name]) => Self::Help(Some(about(name)?)),
            ("exit" | "quit", []) => Self::Exit,
            _ => return None,
        })
    }
}

/// Which of a command's words is the wrong one, where that can be told.
fn wrong_words(about: &'static About, words: &[&str]) -> Wrong {
    match (about.name, words) {
        ("await", [_, goal] | [_, goal, _]) if Goal::from_name(goal).is_none() => {
            Wrong::State((*goal).to_owned())
        }
        _ => Wrong::Usage(about),
    }
}

/// `#` and `%` begin comments, as in Elixir and Erlang; no command and no name
/// begins with them.
fn is_comment(text: &str) -> bool {
    text.starts_with(['#', '%'])
}

fn source(line: &str, rest: &str, syntax: Syntax, about: &'static About) -> Result<Source, Wrong> {
    match rest.trim().strip_prefix('@') {
        Some("") => Err(Wrong::Usage(about)),
        Some(path) => Ok(Source::File(path.into())),
        None => term(line, rest, syntax, about).map(Source::Term),
    }
}

/// The term that `rest` is, which is the end of `line`.
fn term(
    line: &str,
    rest: &str,
    syntax: Syntax,
    about: &'static About,
) -> Result<Term<'static>, Wrong> {
    if rest.trim().is_empty() {
        return Err(Wrong::Usage(about));
    }
    syntax.parse(rest).map_err(|mut error| {
        if error.is_incomplete() {
            return Wrong::Incomplete;
        }
        if error.line == 1 {
            error.column += line[..line.len() - rest.len()].chars().count();
        }
        Wrong::Term { error, text: line.to_owned() }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Command, Wrong> {
        Command::parse(line, Syntax::Elixir)
    }

    #[test]
    fn every_command_says_how_it_is_used() {
        for about in &COMMANDS {
            let wrong = parse(&format!("{} not used so at all", about.name));
            let is_usage = matches!(&wrong, Err(Wrong::Usage(found)) if *found == about);
            let is_term = matches!(wrong, Err(Wrong::Term { .. }));
            assert!(is_usage || is_term, "{}: {wrong:?}", about.name);
        }
    }

    #[test]
    fn names_and_words_stand_bare_and_comments_behind_them() {
        assert_eq!(parse("status"), Ok(Command::Status(None)));
        assert_eq!(parse(" status  web # why"), Ok(Command::Status(Some("web".into()))));
        assert_eq!(parse("delete \"web\""), Ok(Command::Delete("web".into())));
        assert_eq!(parse("kill web 3"), Ok(Command::Kill("web".into(), 3)));
        let running = Goal::from_name("running").expect("a state");
        assert_eq!(parse("await web running"), Ok(Command::Await("web".into(), running, 5_000)));
        assert_eq!(parse("await web running 0"), Ok(Command::Await("web".into(), running, 0)));
        assert_eq!(parse("await web asleep 0"), Err(Wrong::State("asleep".into())));
        assert!(matches!(parse("await web running soon"), Err(Wrong::Usage(_))));
        assert_eq!(parse("help kill"), Ok(Command::Help(about("kill"))));
        assert_eq!(parse("apply @web.exs"), Ok(Command::Apply(Source::File("web.exs".into()))));
        assert_eq!(parse("# apply"), Ok(Command::Nothing));
        assert_eq!(parse("  "), Ok(Command::Nothing));
    }

    #[test]
    fn a_term_that_has_no_end_yet_is_told_from_one_that_is_wrong() {
        assert_eq!(parse("apply %{name:"), Err(Wrong::Incomplete));
        let Err(Wrong::Term { error, text }) = parse("send {1,,}") else {
            panic!("a comma is no term");
        };
        assert_eq!(error.excerpt(&text).to_string(), "send {1,,}\n        ^");
    }
}
