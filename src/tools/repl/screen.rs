//! Where lines go that nobody has asked for: straight to the terminal, or above
//! the line that is being typed.
//!
//! The line editor takes them one at a time, and only while it reads keys. A
//! thread of its own waits for that, so that nobody who listens ever does: the
//! next thing heard may be the answer that ends the wait for it.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustyline::ExternalPrinter;

/// The terminal, as those see it who do not edit.
#[derive(Default)]
pub(super) struct Screen {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    is_editing: bool,
    /// For the line editor.
    waiting: VecDeque<String>,
}

impl Screen {
    /// A screen on which nothing is being typed yet.
    pub(super) fn new(printer: impl ExternalPrinter + Send + 'static) -> io::Result<Arc<Self>> {
        let screen = Arc::new(Self::default());
        let lent = Arc::clone(&screen);
        thread::Builder::new().name("screen".into()).spawn(move || lent.hand_over(printer))?;
        Ok(screen)
    }

    /// Shows text without waiting for anybody.
    pub(super) fn say(&self, text: String) {
        let mut state = self.state();
        if state.is_editing {
            state.waiting.push_back(text);
            self.changed.notify_all();
        } else {
            print(&text);
        }
    }

    /// Runs `edit`, during which lines go above the one that is being typed.
    pub(super) fn while_editing<T>(&self, edit: impl FnOnce() -> T) -> T {
        self.state().is_editing = true;
        let edited = edit();
        self.end_editing();
        edited
    }

    /// Shows at once what the line editor has not taken.
    pub(super) fn end_editing(&self) {
        let mut state = self.state();
        state.is_editing = false;
        state.waiting.drain(..).for_each(|text| print(&text));
    }

    fn hand_over(&self, mut printer: impl ExternalPrinter) {
        loop {
            let mut state = self.state();
            let text = loop {
                match state.waiting.pop_front() {
                    Some(text) => break text,
                    None => {
                        let waited = self.changed.wait(state);
                        state = waited.unwrap_or_else(PoisonError::into_inner);
                    }
                }
            };
            drop(state);
            // There may be no terminal any more; the end of the input tells.
            let _ = printer.print(text);
        }
    }

    /// Whoever panicked with it in hand has ended the program.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes to the terminal while no line is being edited.
pub(super) fn print(text: &str) {
    let mut stdout = io::stdout().lock();
    // There may be no terminal any more; the end of the input tells.
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A line editor that does not read keys, and so takes nothing.
    struct Stuck(mpsc::Receiver<()>);

    impl ExternalPrinter for Stuck {
        fn print(&mut self, _text: String) -> rustyline::Result<()> {
            let _ = self.0.recv();
            Ok(())
        }
    }

    #[test]
    fn nobody_who_says_something_waits_for_the_line_editor() {
        let (_hold, held) = mpsc::channel();
        let screen = Screen::new(Stuck(held)).unwrap();
        screen.while_editing(|| (0..10).for_each(|_| screen.say(String::new())));
        assert!(screen.state().waiting.is_empty());
    }
}
