//! A person at a terminal: lines are edited, answers waited for until Ctrl-C,
//! and what happens meanwhile is printed above the line that is being typed.

use std::future::ready;
use std::io::{self, BufRead, BufReader};
use std::path::PathBuf;
use std::process::{ChildStderr, ExitStatus, Stdio, exit};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use erlang_term_format::Term;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::ioctl_fionread;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use rustyline::error::ReadlineError;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

use super::command::Command;
use super::conversation::{
    Conversation, Next, Shared, Trouble, Waited, how_it_ended, look, overheard,
};
use super::editor::{Lines, PROMPT, editor, history_file};
use super::program::{Heard, Program};
use super::screen::{Screen, print};
use super::show::{Paint, Style};
use super::{End, Options};

/// How long the last words of a port program that has died are waited for.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How long an end may take before it is explained.
const PATIENCE: Duration = Duration::from_secs(1);

/// Ends a paste that is in brackets: what the line editor has begun.
const PASTE_PLAINLY: &str = "\x1b[?2004l";

/// Talks with a person until they leave.
pub(super) fn run(options: &Options, view: &Shared) -> io::Result<End> {
    let before = tcgetattr(rustix::stdio::stdin())?;
    let mut lines = editor(view).map_err(io::Error::other)?;
    let printer = lines.create_external_printer().map_err(io::Error::other)?;
    let screen = Screen::new(printer)?;
    let (sender, heard) = unbounded_channel();
    let (words, last_words) = mpsc::channel();
    let listener = Listener {
        view: Shared::clone(view),
        screen: Arc::clone(&screen),
        before,
        last_words,
        exit_code: options.exit_code,
    };
    let (program, stderr) = Program::start(&options.port_args, Stdio::piped(), move |heard| {
        if let Some(heard) = listener.hear(heard) {
            // Nobody waits any more while this program ends.
            let _ = sender.send(heard);
        }
    })?;
    let stderr = stderr.expect("stderr is piped");
    let shown = Arc::clone(&screen);
    thread::Builder::new().name("stderr".into()).spawn(move || repeat(stderr, &shown, words))?;
    let mut ear = Ear::new(heard, Shared::clone(view))?;
    let about = match ear.greeting() {
        Ok(about) => about,
        Err(End::Interrupted) => {
            // It may wait for a lock and not see that nobody is there any more.
            program.terminate();
            ear.wait(None);
            return Ok(End::Interrupted);
        }
        Err(end) => return Ok(end),
    };
    look(view).expects_end = false;
    print(&welcome(&about, look(view).style));
    let conversation = Conversation::new(program, Shared::clone(view), |id| ear.wait(id));
    talk(conversation, &mut lines, &screen, view)
}

fn talk(
    mut conversation: Conversation<impl FnMut(Option<i64>) -> Waited>,
    lines: &mut Lines,
    screen: &Screen,
    view: &Shared,
) -> io::Result<End> {
    let history = history_file();
    if let Some(file) = &history {
        // The first time, there is none.
        let _ = lines.load_history(file);
    }
    let begun = conversation.learn_pods().and_then(|()| conversation.notices(true));
    let mut trouble = begun.err();
    loop {
        if let Some(trouble) = trouble.take() {
            print(&trouble.in_words(look(view).style));
            if let Trouble::Ended(status) = trouble {
                return Ok(End::Died(status));
            }
        }
        if has_end_of_input() {
            break;
        }
        let line = match screen.while_editing(|| lines.readline(PROMPT)) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(io::Error::other(error)),
        };
        remember(lines, &line, history.as_ref());
        let syntax = look(view).style.syntax;
        match Command::parse(&line, syntax) {
            Err(wrong) => print(&wrong.in_words()),
            Ok(command) => match conversation.carry_out(command) {
                Ok(Next::Said(text)) => print(&text),
                Ok(Next::Leave) => break,
                Err(failed) => trouble = Some(failed),
            },
        }
    }
    Ok(match conversation.leave() {
        Some(status) if !status.success() => End::Died(status),
        _ => End::Done,
    })
}

/// Whether Ctrl-D was typed while no line was being edited. The terminal has taken
/// it for the end of its input, of which the line editor would not hear: there is
/// something to read, and it is nothing.
fn has_end_of_input() -> bool {
    let stdin = rustix::stdio::stdin();
    let mut input = [PollFd::new(&stdin, PollFlags::IN)];
    let is_readable = poll(&mut input, Some(&Timespec::default())) == Ok(1);
    is_readable && ioctl_fionread(stdin) == Ok(0)
}

/// Keeps a line for the next time. That it cannot be is no reason to stop.
fn remember(lines: &mut Lines, line: &str, file: Option<&PathBuf>) {
    if line.trim().is_empty() {
        return;
    }
    if let (Ok(true), Some(file)) = (lines.add_history_entry(line), file) {
        let _ = lines.append_history(file);
    }
}

/// Hears answers, on the thread of the person.
struct Ear {
    runtime: Runtime,
    heard: UnboundedReceiver<Heard>,
    /// Ctrl-C, while no line is being edited.
    interrupt: Signal,
    view: Shared,
}

impl Ear {
    fn new(heard: UnboundedReceiver<Heard>, view: Shared) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let interrupt = {
            let _inside = runtime.enter();
            signal(SignalKind::interrupt())?
        };
        Ok(Self { runtime, heard, interrupt, view })
    }

    /// What the program says of itself when it is ready.
    fn greeting(&mut self) -> Result<Term<'static>, End> {
        loop {
            match self.next("waiting for the port program to be ready; Ctrl-C leaves\n") {
                Some(Heard::Greeting(about)) => return Ok(about),
                Some(Heard::Ended(status)) => return Err(End::NotStarted(status)),
                Some(_) => {}
                None => return Err(End::Interrupted),
            }
        }
    }

    /// Waits for an answer, or for the end.
    fn wait(&mut self, id: Option<i64>) -> Waited {
        self.forget_interrupt();
        let explanation = match id {
            Some(_) => "",
            None => "waiting for the port program to end; Ctrl-C leaves at once\n",
        };
        loop {
            match self.next(explanation) {
                Some(Heard::Answer(found, result)) if Some(found) == id => {
                    return Waited::Answer(result);
                }
                Some(Heard::Ended(status)) => return Waited::Ended(status),
                Some(other) => print(&overheard(&self.view, &other).unwrap_or_default()),
                None => return Waited::Interrupted,
            }
        }
    }

    /// The next that is heard, unless Ctrl-C comes first. A wait that takes
    /// long is explained.
    fn next(&mut self, explanation: &str) -> Option<Heard> {
        let Self { runtime, heard, interrupt, .. } = self;
        runtime.block_on(async {
            let next = async {
                tokio::select! {
                    biased;
                    heard = heard.recv() => Some(heard.expect("the end is heard last")),
                    _ = interrupt.recv() => None,
                }
            };
            tokio::pin!(next);
            if let Ok(next) = timeout(PATIENCE, &mut next).await {
                return next;
            }
            print(explanation);
            next.await
        })
    }

    /// One that came before the wait was not meant for it.
    fn forget_interrupt(&mut self) {
        let Self { runtime, interrupt, .. } = self;
        runtime.block_on(async {
            tokio::select! {
                biased;
                _ = interrupt.recv() => {}
                () = ready(()) => {}
            }
        });
    }
}

/// Hears the port program, on a thread of its own.
struct Listener {
    view: Shared,
    screen: Arc<Screen>,
    /// How the terminal was.
    before: Termios,
    /// Ends when the port program's stderr does.
    last_words: mpsc::Receiver<()>,
    exit_code: fn(&End) -> u8,
}

impl Listener {
    /// Says what nobody waits for, and hands on the rest.
    fn hear(&self, heard: Heard) -> Option<Heard> {
        if let Some(text) = overheard(&self.view, &heard) {
            self.screen.say(text);
            return None;
        }
        if let Heard::Ended(status) = heard {
            // They come before the end is told.
            let _ = self.last_words.recv_timeout(LAST_WORDS);
            if !look(&self.view).expects_end {
                self.end(status);
            }
        }
        heard.is_awaited().then_some(heard)
    }

    /// The port program is gone, and with it all that there is to talk to. The
    /// person may be in the middle of a line, which nothing else interrupts.
    fn end(&self, status: ExitStatus) -> ! {
        // There may be no terminal any more.
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &self.before);
        print(&format!("{PASTE_PLAINLY}\n"));
        self.screen.end_editing();
        eprintln!("tank repl: the port program has ended: {}", how_it_ended(status));
        exit((self.exit_code)(&End::Died(status)).into())
    }
}

/// Repeats what the port program says on stderr.
fn repeat(stderr: ChildStderr, screen: &Screen, _until_the_end: mpsc::Sender<()>) {
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        screen.say(line + "\n");
    }
}

fn welcome(about: &Term<'_>, style: Style) -> String {
    let version = about.get("version").and_then(Term::as_str).unwrap_or("?");
    let pid = about.get("pid").map_or_else(|| "?".to_owned(), Term::to_string);
    let tank = style.paint(Paint::Bold, &format!("tank {version}"));
    format!("{tank}, port program {pid}. `help` lists the commands, Ctrl-D leaves.\n")
}
