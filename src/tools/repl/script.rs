//! A script from a pipe or a file: one command after another, each answer
//! waited for and printed as it is, no prompt, no colour. It goes on after a
//! command that fails, and says so in the end.

use std::io::{self, BufRead, Write};
use std::process::Stdio;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::command::{Command, Wrong};
use super::conversation::{Conversation, Next, Shared, Trouble, Waited, look, overheard};
use super::program::{Heard, Program};
use super::{End, Options};

/// Reads and carries out a script.
pub(super) fn run(options: &Options, view: &Shared, input: impl BufRead) -> io::Result<End> {
    let (sender, mut heard) = unbounded_channel();
    let listening = Shared::clone(view);
    let (program, _) = Program::start(&options.port_args, Stdio::inherit(), move |heard| {
        if let Some(text) = overheard(&listening, &heard) {
            print(&text);
        } else if heard.is_awaited() {
            // Nobody waits any more once the script has come to its end.
            let _ = sender.send(heard);
        }
    })?;
    // The greeting, or the end; why is on stderr then, in its own words.
    if let Some(Heard::Ended(status)) = heard.blocking_recv() {
        return Ok(End::NotStarted(status));
    }
    let mut conversation =
        Conversation::new(program, Shared::clone(view), |id| wait(&mut heard, id));
    let (mut commands, mut failed) = (0, 0);
    let mut script = Lines { lines: input.lines(), number: 0 };
    while let Some((line, command)) = script.next_command(view)? {
        commands += 1;
        let done = match command {
            Ok(command) => conversation.carry_out(command),
            Err(wrong) => {
                failed += 1;
                complain(line + wrong.lines_before(), &wrong.in_words());
                continue;
            }
        };
        match done {
            Ok(Next::Said(text)) => print(&text),
            Ok(Next::Leave) => break,
            Err(trouble) => {
                failed += 1;
                complain(line, &trouble.in_words(look(view).style));
                if let Trouble::Ended(status) = trouble {
                    return Ok(End::Died(status));
                }
            }
        }
    }
    let status = conversation.leave();
    if failed > 0 {
        eprintln!("tank repl: {failed} of {commands} commands failed");
    }
    Ok(match status {
        Some(status) if !status.success() => End::Died(status),
        _ if failed > 0 => End::Failed,
        _ => End::Done,
    })
}

/// The lines of a script.
struct Lines<I> {
    lines: I,
    /// Lines that have been read.
    number: usize,
}

impl<I: Iterator<Item = io::Result<String>>> Lines<I> {
    /// The next command and the line on which it begins. A term may go on over
    /// several.
    fn next_command(
        &mut self,
        view: &Shared,
    ) -> io::Result<Option<(usize, Result<Command, Wrong>)>> {
        let mut text = String::new();
        let mut first = self.number + 1;
        loop {
            let Some(line) = self.lines.next().transpose()? else {
                let is_cut = !text.is_empty();
                return Ok(is_cut.then_some((first, Err(Wrong::Incomplete))));
            };
            self.number += 1;
            text.push_str(&line);
            text.push('\n');
            let syntax = look(view).style.syntax;
            match Command::parse(&text, syntax) {
                Ok(Command::Nothing) => {
                    text.clear();
                    first = self.number + 1;
                }
                Err(Wrong::Incomplete) => {}
                command => return Ok(Some((first, command))),
            }
        }
    }
}

fn wait(heard: &mut UnboundedReceiver<Heard>, id: Option<i64>) -> Waited {
    loop {
        match heard.blocking_recv().expect("the end is heard last") {
            Heard::Answer(found, result) if Some(found) == id => return Waited::Answer(result),
            Heard::Ended(status) => return Waited::Ended(status),
            _ => {}
        }
    }
}

fn print(text: &str) {
    // Whoever read it may have seen enough; the script goes on.
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes());
    let _ = stdout.flush();
}

fn complain(line: usize, what: &str) {
    eprint!("tank repl: line {line}: {what}");
}
