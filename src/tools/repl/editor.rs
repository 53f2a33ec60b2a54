//! The line that is being typed: completion, what makes it complete, and where
//! earlier lines are kept. It looks at what is known and asks nobody.

use std::borrow::Cow;
use std::fs::{DirBuilder, Permissions, set_permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{CompletionType, Config, Context, Editor, Helper, Result};

use super::command::{COMMANDS, Command, Completes, Wrong, about};
use super::conversation::{Shared, look};
use super::show::Paint;

/// What stands before a line.
pub(super) const PROMPT: &str = "tank> ";

/// Lines that are kept.
const HISTORY_LINES: usize = 1_000;

/// An editor of lines that has a history.
pub(super) type Lines = Editor<Entry, FileHistory>;

/// Makes an editor.
pub(super) fn editor(view: &Shared) -> Result<Lines> {
    let config = Config::builder()
        .completion_type(CompletionType::List)
        .max_history_size(HISTORY_LINES)?
        // A line that begins with a blank is not kept, as in a shell.
        .history_ignore_space(true)
        .build();
    let mut editor = Editor::with_config(config)?;
    editor.set_helper(Some(Entry { view: Shared::clone(view), paths: FilenameCompleter::new() }));
    Ok(editor)
}

/// Where lines are kept: `$XDG_STATE_HOME/tank/repl_history`, or below
/// `~/.local/state`. Nowhere without a home. Only for its owner: specs hold
/// secrets.
pub(super) fn history_file() -> Option<PathBuf> {
    let absolute =
        |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))?;
    let dir = state.join("tank");
    DirBuilder::new().recursive(true).mode(0o700).create(&dir).ok()?;
    let file = dir.join("repl_history");
    make_private(&file);
    Some(file)
}

/// A new file is made private by the line editor; this is for one that was
/// copied here.
fn make_private(file: &Path) {
    // That it is not there is the usual reason to fail.
    let _ = set_permissions(file, Permissions::from_mode(0o600));
}

/// What the editor asks about a line.
pub(super) struct Entry {
    view: Shared,
    paths: FilenameCompleter,
}

impl Helper for Entry {}

impl Hinter for Entry {
    type Hint = String;
}

impl Validator for Entry {
    /// A term that goes on is continued in the next line.
    fn validate(&self, context: &mut ValidationContext<'_>) -> Result<ValidationResult> {
        let syntax = look(&self.view).style.syntax;
        Ok(match Command::parse(context.input(), syntax) {
            Err(Wrong::Incomplete) => ValidationResult::Incomplete,
            _ => ValidationResult::Valid(None),
        })
    }
}

impl Highlighter for Entry {
    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(
        &'s self,
        prompt: &'p str,
        _is_default: bool,
    ) -> Cow<'b, str> {
        Cow::Owned(look(&self.view).style.paint(Paint::Bold, prompt))
    }
}

impl Completer for Entry {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        position: usize,
        _context: &Context<'_>,
    ) -> Result<(usize, Vec<Pair>)> {
        let before = &line[..position];
        let start = before.rfind(char::is_whitespace).map_or(0, |blank| blank + 1);
        let word = &before[start..];
        let mut words = before[..start].split_whitespace();
        let (command, argument) = (words.next(), words.next());
        let candidates: Vec<String> = match (command, argument) {
            (None, _) => names(),
            (Some(command), None) => match about(command).map(|about| about.completes) {
                Some(Completes::Pod) => look(&self.view).pods.iter().cloned().collect(),
                Some(Completes::Command) => names(),
                Some(Completes::Word(words)) => words.iter().map(|&word| word.into()).collect(),
                Some(Completes::Path) if word.starts_with('@') => {
                    let (from, paths) = self.paths.complete_path(&word[1..], word.len() - 1)?;
                    return Ok((start + 1 + from, paths));
                }
                Some(Completes::Path | Completes::Nothing) | None => Vec::new(),
            },
            (Some(_), Some(_)) => Vec::new(),
        };
        let candidates = candidates.into_iter().filter(|candidate| candidate.starts_with(word));
        let pair = |display: String| Pair { replacement: format!("{display} "), display };
        Ok((start, candidates.map(pair).collect()))
    }
}

fn names() -> Vec<String> {
    COMMANDS.iter().map(|about| about.name.to_owned()).collect()
}
