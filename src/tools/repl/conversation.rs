//! Carries out commands, one after another: asks the port program, waits for
//! its answer and says it. Whether a person or a script asks is all the same
//! here, but for what ends the wait.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use erlang_term_format::text::{ParseError, Syntax};
use erlang_term_format::{Term, map, tuple};

use super::command::{About, COMMANDS, Command, Pods, Source};
use super::program::{Heard, Program};
use super::show::{Paint, Style};
use crate::core::status::Goal;
use crate::os_words::os_words;
use crate::port::translate;

/// Credit for notices: as many as there will ever be. Whoever listens always
/// reads.
const CREDITS: i64 = 1 << 53;

/// What those who carry out commands and those who listen both know.
pub(super) struct View {
    pub(super) style: Style,
    /// Whether notices are shown.
    pub(super) has_notices: bool,
    /// The pods that there are, for completion.
    pub(super) pods: BTreeSet<String>,
    /// Requests whose answers nobody waits for any more, and what was asked.
    pub(super) abandoned: BTreeMap<i64, &'static str>,
    /// Whether somebody waits for the end of the port program, or for its
    /// beginning.
    pub(super) expects_end: bool,
}

/// A view that is shared.
pub(super) type Shared = Arc<Mutex<View>>;

/// A look at the view. Whoever panicked with it in hand has ended the program.
pub(super) fn look(view: &Shared) -> MutexGuard<'_, View> {
    view.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What came of waiting for an answer.
pub(super) enum Waited {
    Answer(Result<Term<'static>, Term<'static>>),
    /// Whoever waits wants to wait no more.
    Interrupted,
    Ended(ExitStatus),
}

/// Why a command was not carried out.
pub(super) enum Trouble {
    /// The port program refuses, with an error map.
    Refused(Term<'static>),
    /// The file cannot be read.
    Unreadable(PathBuf, std::io::Error),
    /// The file holds no term.
    NoTerm { path: PathBuf, error: ParseError, text: String },
    /// Nobody waits for the answer any more.
    Interrupted,
    /// The port program has ended.
    Ended(ExitStatus),
}

/// What to do after a command.
pub(super) enum Next {
    /// Say this and go on.
    Said(String),
    /// Leave.
    Leave,
}

/// One side of it.
pub(super) struct Conversation<W> {
    program: Program,
    view: Shared,
    /// Waits for the answer to a request, or else for the end.
    wait: W,
    has_subscribed: bool,
}

impl<W: FnMut(Option<i64>) -> Waited> Conversation<W> {
    pub(super) fn new(program: Program, view: Shared, wait: W) -> Self {
        Self { program, view, wait, has_subscribed: false }
    }

    /// Carries out a command.
    pub(super) fn carry_out(&mut self, command: Command) -> Result<Next, Trouble> {
        let style = look(&self.view).style;
        Ok(Next::Said(match command {
            Command::Nothing => String::new(),
            Command::Help(None) => help(style),
            Command::Help(Some(about)) => help_on(about, style),
            Command::Syntax(syntax) => {
                look(&self.view).style.syntax = syntax;
                String::new()
            }
            Command::Notices(is_on) => self.notices(is_on)?,
            Command::Apply(source) => self.apply("apply", source)?,
            Command::Create(source) => self.apply("create", source)?,
            Command::Plan(source) => self.plan(source)?,
            Command::Delete(pod) => {
                self.ask("delete", Term::binary(&*pod))?;
                look(&self.view).pods.remove(&pod);
                format!("{} is deleted\n", style.paint(Paint::Bold, &pod))
            }
            Command::Get(pod) => {
                let desired = self.ask("get", Term::binary(&*pod))?;
                style.term(desired.get("spec").unwrap_or(&desired))
            }
            Command::List => style.pods(&self.ask("list", Term::nil())?),
            Command::Status(None) => style.statuses(&self.ask("status", Term::nil())?),
            Command::Status(Some(pod)) => style.status(&self.ask("status", Term::binary(&*pod))?),
            Command::Events(pod) => style.events(&self.ask("events", Term::binary(&*pod))?),
            Command::Sync => self.done("sync", Term::nil())?,
            Command::Await(pod, goal, timeout_ms) => self.wait_for(&pod, goal, timeout_ms)?,
            Command::Restart(pod) => self.done("restart", Term::binary(&*pod))?,
            Command::Kill(pod, run) => self.done("kill", tuple![pod, run])?,
            Command::Ping => self.ping()?,
            Command::Nudge => {
                self.program.tell("nudge", Term::nil());
                String::new()
            }
            Command::Send(term) => self.send(&term)?,
            Command::Shutdown(pods) => return self.shut_down(pods),
            Command::Exit => return Ok(Next::Leave),
        }))
    }

    /// Asks for notices; they are shown from now on.
    pub(super) fn notices(&mut self, is_on: bool) -> Result<String, Trouble> {
        look(&self.view).has_notices = is_on;
        if is_on && !self.has_subscribed {
            self.ask("subscribe", map! { "credits" => CREDITS })?;
            self.has_subscribed = true;
        }
        Ok(String::new())
    }

    /// Learns which pods there are.
    pub(super) fn learn_pods(&mut self) -> Result<(), Trouble> {
        let pods = self.ask("list", Term::nil())?;
        let name = |pod: &Term<'_>| Some(pod.get("spec")?.get("name")?.as_str()?.to_owned());
        let names = pods.as_list().into_iter().flatten().filter_map(name);
        look(&self.view).pods.extend(names);
        Ok(())
    }

    /// Says that nothing more will be asked, and waits for the end.
    pub(super) fn leave(&mut self) -> Option<ExitStatus> {
        look(&self.view).expects_end = true;
        self.program.hang_up();
        match (self.wait)(None) {
            Waited::Ended(status) => Some(status),
            Waited::Answer(_) | Waited::Interrupted => None,
        }
    }

    fn ask(&mut self, op: &'static str, args: Term<'_>) -> Result<Term<'static>, Trouble> {
        let id = self
            .program
            .ask(op, args)
            .map_err(|failure| Trouble::Refused(translate::failure(&failure).into_owned()))?;
        match (self.wait)(Some(id)) {
            Waited::Answer(Ok(value)) => Ok(value),
            Waited::Answer(Err(error)) => Err(Trouble::Refused(error)),
            Waited::Interrupted => {
                look(&self.view).abandoned.insert(id, op);
                Err(Trouble::Interrupted)
            }
            Waited::Ended(status) => Err(Trouble::Ended(status)),
        }
    }

    fn done(&mut self, op: &'static str, args: Term<'_>) -> Result<String, Trouble> {
        self.ask(op, args)?;
        Ok("done\n".to_owned())
    }

    fn apply(&mut self, op: &'static str, source: Source) -> Result<String, Trouble> {
        let style = look(&self.view).style;
        let spec = read(source, style.syntax)?;
        let name = spec.get("name").and_then(Term::as_str).unwrap_or("pod").to_owned();
        let applied = self.ask(op, spec)?;
        look(&self.view).pods.insert(name.clone());
        let generation = applied.get("generation").and_then(Term::as_i64);
        let is_changed = applied.get("changed").and_then(Term::as_bool);
        let name = style.paint(Paint::Bold, &name);
        Ok(match (generation, is_changed) {
            (Some(generation), Some(true)) => {
                format!("{name} is applied, generation {generation}\n")
            }
            (Some(generation), Some(false)) => {
                format!("{name} is unchanged, generation {generation}\n")
            }
            _ => style.term(&applied),
        })
    }

    fn plan(&mut self, source: Source) -> Result<String, Trouble> {
        let style = look(&self.view).style;
        let specs = match read(source, style.syntax)? {
            specs @ Term::List(_) => specs,
            spec => Term::List(vec![spec]),
        };
        Ok(style.plan(&self.ask("plan", specs)?))
    }

    fn wait_for(&mut self, pod: &str, goal: Goal, timeout_ms: u64) -> Result<String, Trouble> {
        let style = look(&self.view).style;
        let args = map! {
            "pod" => pod, "state" => Term::atom(goal.name()), "timeout_ms" => timeout_ms
        };
        let statuses = self.ask("await", args)?;
        Ok(match goal {
            Goal::Is(_) => style.status(&statuses),
            Goal::Gone => format!("{} is gone\n", style.paint(Paint::Bold, pod)),
        })
    }

    fn ping(&mut self) -> Result<String, Trouble> {
        let began = Instant::now();
        self.ask("ping", Term::nil())?;
        Ok(format!("answered after {} µs\n", began.elapsed().as_micros()))
    }

    fn send(&mut self, term: &Term<'_>) -> Result<String, Trouble> {
        let style = look(&self.view).style;
        let Some(id) = self.program.send_raw(term) else { return Ok(String::new()) };
        match (self.wait)(Some(id)) {
            Waited::Answer(Ok(value)) => {
                Ok(style.term(&tuple![id, tuple![Term::atom("ok"), value]]))
            }
            Waited::Answer(Err(error)) => {
                Ok(style.term(&tuple![id, tuple![Term::atom("error"), error]]))
            }
            Waited::Interrupted => {
                look(&self.view).abandoned.insert(id, "send");
                Err(Trouble::Interrupted)
            }
            Waited::Ended(status) => Err(Trouble::Ended(status)),
        }
    }

    fn shut_down(&mut self, pods: Pods) -> Result<Next, Trouble> {
        look(&self.view).expects_end = true;
        let pods = match pods {
            Pods::Keep => "keep",
            Pods::Stop => "stop",
        };
        let answer = self.ask("shutdown", map! { "pods" => Term::atom(pods) });
        if answer.is_err() {
            look(&self.view).expects_end = false;
        }
        answer.map(|_| Next::Leave)
    }
}

/// What is in the line, or in the file that the line names.
fn read(source: Source, syntax: Syntax) -> Result<Term<'static>, Trouble> {
    match source {
        Source::Term(term) => Ok(term),
        Source::File(path) => read_spec(&path, syntax),
    }
}

/// A spec in a file: in Erlang's syntax when its name says so.
fn read_spec(path: &Path, syntax: Syntax) -> Result<Term<'static>, Trouble> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Trouble::Unreadable(path.to_owned(), error))?;
    let syntax = match path.extension().and_then(|extension| extension.to_str()) {
        Some("erl" | "config" | "term" | "terms") => Syntax::Erlang,
        Some("ex" | "exs") => Syntax::Elixir,
        _ => syntax,
    };
    syntax.parse(&text).map_err(|error| Trouble::NoTerm { path: path.to_owned(), error, text })
}

impl Trouble {
    /// In words, over as many lines as it takes.
    pub(super) fn in_words(&self, style: Style) -> String {
        match self {
            Self::Refused(error) => style.error(error),
            Self::Unreadable(path, error) => {
                format!("read {}: {}\n", path.display(), os_words(error))
            }
            Self::NoTerm { path, error, text } => {
                format!("{}: {error}\n{}\n", path.display(), error.excerpt(text))
            }
            Self::Interrupted => "not waiting any more; the answer is shown when it comes\n".into(),
            Self::Ended(status) => {
                format!("the port program has ended: {}\n", how_it_ended(*status))
            }
        }
    }
}

/// `status 4`, `killed by signal 9`.
pub(super) fn how_it_ended(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;

    match (status.code(), status.signal()) {
        (Some(code), _) => format!("status {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => status.to_string(),
    }
}

fn help(style: Style) -> String {
    let width = COMMANDS.iter().map(|about| about.usage().len()).max().unwrap_or(0);
    let mut text = String::new();
    for about in &COMMANDS {
        let usage = format!("{:width$}", about.usage());
        let usage = style.paint(Paint::Bold, &usage);
        writeln!(text, "  {usage}  {}", about.line).expect("a string takes everything");
    }
    text + "A spec may go on over several lines. `help apply` shows one.\n"
}

fn help_on(about: &About, style: Style) -> String {
    let more = if about.more.is_empty() { String::new() } else { format!("{}\n", about.more) };
    format!("{}: {}\n{more}", style.paint(Paint::Bold, &about.usage()), about.line)
}

impl About {
    /// The command with its arguments.
    pub(super) fn usage(&self) -> String {
        format!("{} {}", self.name, self.args).trim_end().to_owned()
    }
}

/// Says what nobody waits for, on the thread that listens. `None`: it is an
/// answer that somebody may wait for, or nothing to show.
pub(super) fn overheard(view: &Shared, heard: &Heard) -> Option<String> {
    let mut view = look(view);
    let style = view.style;
    match heard {
        Heard::Notice(notice) => {
            note_pod(&mut view.pods, notice);
            view.has_notices.then(|| style.notice(notice))
        }
        Heard::Answer(0, Err(error)) => Some(style.error(error)),
        Heard::Answer(id, result) => {
            let op = view.abandoned.remove(id)?;
            Some(match result {
                Ok(value) => format!("{op} is answered: {}", style.term(value)),
                Err(error) => format!("{op} is answered: {}", style.error(error)),
            })
        }
        Heard::Question(term) => {
            Some(format!("{} the loop asks: {}", style.paint(Paint::Dim, "*"), style.term(term)))
        }
        Heard::Unreadable(what) => {
            Some(format!("the port program sent what cannot be read: {what}\n"))
        }
        Heard::Greeting(_) | Heard::Fatal | Heard::Ended(_) => None,
    }
}

/// Pods come and go without being asked for here.
fn note_pod(pods: &mut BTreeSet<String>, notice: &Term<'_>) {
    let Some([tag, name, ..]) = notice.as_tuple() else { return };
    let Some(name) = name.as_str() else { return };
    if tag.is_atom("gone") {
        pods.remove(name);
    } else if !pods.contains(name) {
        pods.insert(name.to_owned());
    }
}
