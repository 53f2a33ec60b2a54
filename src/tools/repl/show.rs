//! What the port program says, in words and tables for a person. Every shape
//! that is not the expected one is shown as it is: the program may be newer.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use erlang_term_format::Term;
use erlang_term_format::text::Syntax;

use super::layout::lay_out;

/// How things are shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    pub(super) syntax: Syntax,
    pub(super) has_colour: bool,
}

/// What colour says beside the words.
#[derive(Debug, Clone, Copy)]
pub(super) enum Paint {
    Bold,
    Dim,
    Good,
    Bad,
    Uncertain,
}

impl Style {
    pub(super) fn paint(self, paint: Paint, text: &str) -> String {
        let code = match paint {
            Paint::Bold => 1,
            Paint::Dim => 2,
            Paint::Bad => 31,
            Paint::Good => 32,
            Paint::Uncertain => 33,
        };
        if self.has_colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// A term over as many lines as it takes.
    pub(super) fn term(self, term: &Term<'_>) -> String {
        lay_out(term, self.syntax) + "\n"
    }

    /// An error map: what, where, and what to do.
    pub(super) fn error(self, error: &Term<'_>) -> String {
        let Some((code, message)) = code_and_message(error) else {
            return format!("{} {}", self.paint(Paint::Bad, "error:"), self.term(error));
        };
        let mut text = format!("{} {message}\n", self.paint(Paint::Bad, &format!("{code}:")));
        let mut line = |name: &str, what: &str| {
            let name = self.paint(Paint::Dim, &format!("{name:>7}:"));
            writeln!(text, "{name} {what}").expect("a string takes everything");
        };
        let places = places(error);
        if !places.is_empty() {
            line("where", &places);
        }
        if let Some(reason) = error.get("reason") {
            line("rule", &self.syntax.print(reason).to_string());
        }
        if let Some(hint) = error.get("hint").and_then(words) {
            line("hint", &hint);
        }
        text
    }

    /// What a notice says, in a line.
    pub(super) fn notice(self, notice: &Term<'_>) -> String {
        let said = self.notice_in_words(notice);
        let said = said.unwrap_or_else(|| self.syntax.print(notice).to_string());
        format!("{} {said}\n", self.paint(Paint::Dim, "*"))
    }

    fn notice_in_words(self, notice: &Term<'_>) -> Option<String> {
        if notice.is_atom("resync") {
            return Some("notices were dropped; `status` says how things are now".to_owned());
        }
        let elements = notice.as_tuple()?;
        let (tag, pod) = (elements.first()?.as_atom()?, elements.get(1)?.as_str()?);
        let pod = self.paint(Paint::Bold, pod);
        Some(match (tag, &elements[2..]) {
            ("started", [run, pid]) => match pid.as_i64() {
                Some(pid) => format!("{pod} started: run {run}, pid {pid}"),
                None => format!("{pod} started: run {run}"),
            },
            ("ended", [run, exit]) => format!("{pod} ended: run {run} {}", exit_in_words(exit)?),
            ("failed", [run, error]) => {
                let (code, message) = code_and_message(error)?;
                format!("{pod} could not be started: run {run}: {code}: {message}")
            }
            ("status", [status]) => {
                let name = status.get("status")?.as_atom()?;
                let why = why(status);
                let colon = if why.is_empty() { "" } else { ": " };
                format!("{pod} is {}{colon}{why}", self.paint(paint_of(name), name))
            }
            ("gone", []) => format!("{pod} is gone"),
            _ => return None,
        })
    }

    /// All pods, a line each.
    pub(super) fn statuses(self, statuses: &Term<'_>) -> String {
        let Some(entries) = statuses.as_map() else { return self.term(statuses) };
        if entries.is_empty() {
            return "no pods\n".to_owned();
        }
        let mut entries: Vec<_> = entries.iter().collect();
        entries.sort_by_key(|(name, _)| name.as_str().map(str::to_owned));
        let now_ms = now_ms();
        let rows = entries.iter().map(|(name, status)| {
            let state = status.get("status").and_then(Term::as_atom).unwrap_or("?");
            let number = |key| status.get(key).and_then(Term::as_i64);
            let since = if state == "running" { "started_at_ms" } else { "last_exit_at_ms" };
            Row {
                paint: Some((1, paint_of(state))),
                cells: vec![
                    name.as_str().unwrap_or("?").to_owned(),
                    state.to_owned(),
                    number(since).map_or_else(blank, |at| duration(now_ms - at)),
                    number("retries").map_or_else(blank, |count| count.to_string()),
                    number("host_pid").map_or_else(blank, |pid| pid.to_string()),
                    why(status),
                ],
            }
        });
        self.table(&["POD", "STATUS", "FOR", "RETRIES", "PID", "WHY"], rows.collect())
    }

    /// One pod: why first, then the rest.
    pub(super) fn status(self, statuses: &Term<'_>) -> String {
        let one = match statuses.as_map() {
            Some([(name, status)]) => name.as_str().zip(Some(status)),
            _ => None,
        };
        let Some((name, status)) = one else { return self.term(statuses) };
        let state = status.get("status").and_then(Term::as_atom).unwrap_or("?");
        let now_ms = now_ms();
        let number = |key| status.get(key).and_then(Term::as_i64);
        let ago = |key| number(key).map(|at| format!("{} ago", duration(now_ms - at)));
        let mut text = format!(
            "{} is {}\n",
            self.paint(Paint::Bold, name),
            self.paint(paint_of(state), state)
        );
        let mut line = |name: &str, what: Option<String>| {
            if let Some(what) = what.filter(|what| !what.is_empty()) {
                let name = self.paint(Paint::Dim, &format!("{name:>12}"));
                writeln!(text, "{name}  {what}").expect("a string takes everything");
            }
        };
        line("why", Some(why(status)));
        let exit = status.get("last_exit");
        line(
            "last exit",
            exit.and_then(exit_in_words).map(|exit| {
                let container = status.get("last_exit_container").and_then(Term::as_str);
                let whose = container.map_or_else(String::new, |name| format!("{name} "));
                let at = ago("last_exit_at_ms").map_or_else(String::new, |ago| format!(", {ago}"));
                whose + &exit + &at
            }),
        );
        let error = exit.and_then(error_of);
        line("where", error.map(places));
        line("hint", error.and_then(|error| words(error.get("hint")?)));
        line("doing", status.get("phase").and_then(Term::as_atom).map(str::to_owned));
        line("started", ago("started_at_ms"));
        line("retries", number("retries").map(|count| count.to_string()));
        line("next start", number("retry_in_ms").map(|ms| format!("in {}", duration(ms))));
        line("run", number("incarnation").filter(|run| *run > 0).map(|run| run.to_string()));
        line("generation", number("generation").map(|count| count.to_string()));
        line("pid", number("host_pid").map(|pid| pid.to_string()));
        for (name, container) in status.get("containers").and_then(Term::as_map).unwrap_or(&[]) {
            let pid = container.get("host_pid").and_then(Term::as_i64);
            let pid = pid.map_or_else(|| "no process".to_owned(), |pid| format!("pid {pid}"));
            line("container", name.as_str().map(|name| format!("{name}, {pid}")));
        }
        text
    }

    /// What has happened to a pod, a line each.
    pub(super) fn events(self, events: &Term<'_>) -> String {
        let Some(events) = events.as_list() else { return self.term(events) };
        if events.is_empty() {
            return "no events\n".to_owned();
        }
        let now_ms = now_ms();
        let rows = events.iter().map(|event| {
            let number = |key| event.get(key).and_then(Term::as_i64);
            let kind = event.get("event").and_then(Term::as_atom).unwrap_or("?");
            Row {
                paint: Some((1, paint_of_event(kind))),
                cells: vec![
                    number("at_ms").map_or_else(blank, |at| duration(now_ms - at)),
                    kind.to_owned(),
                    number("incarnation")
                        .filter(|run| *run > 0)
                        .map_or_else(blank, |run| run.to_string()),
                    number("generation").map_or_else(blank, |count| count.to_string()),
                    number("retries").map_or_else(blank, |count| count.to_string()),
                    what_happened(event),
                ],
            }
        });
        self.table(&["AGO", "EVENT", "RUN", "GENERATION", "RETRIES", "WHAT"], rows.collect())
    }

    /// What is desired, a line each.
    pub(super) fn pods(self, pods: &Term<'_>) -> String {
        let Some(pods) = pods.as_list() else { return self.term(pods) };
        if pods.is_empty() {
            return "no pods\n".to_owned();
        }
        let rows = pods.iter().map(|pod| {
            let spec = pod.get("spec");
            let field = |name: &str| spec.and_then(|spec| spec.get(name));
            let containers = field("containers").and_then(Term::as_list).unwrap_or(&[]);
            Row {
                paint: None,
                cells: vec![
                    field("name").and_then(Term::as_str).unwrap_or("?").to_owned(),
                    pod.get("generation").map_or_else(blank, Term::to_string),
                    field("restart").and_then(Term::as_atom).unwrap_or("?").to_owned(),
                    containers.iter().map(container).collect::<Vec<_>>().join(", "),
                ],
            }
        });
        self.table(&["POD", "GENERATION", "RESTART", "CONTAINERS"], rows.collect())
    }

    /// What would become of pods, a line each.
    pub(super) fn plan(self, pods: &Term<'_>) -> String {
        let Some(pods) = pods.as_list() else { return self.term(pods) };
        let rows = pods.iter().map(|pod| {
            let changes = pod.get("changes").and_then(Term::as_list).unwrap_or(&[]);
            Row {
                paint: None,
                cells: vec![
                    pod.get("name").and_then(Term::as_str).unwrap_or("?").to_owned(),
                    pod.get("action").and_then(Term::as_atom).unwrap_or("?").to_owned(),
                    changes.iter().filter_map(words).collect::<Vec<_>>().join(", "),
                ],
            }
        });
        self.table(&["POD", "ACTION", "CHANGES"], rows.collect())
    }

    fn table(self, heads: &[&str], rows: Vec<Row>) -> String {
        let width = |column: usize| {
            let cells = rows.iter().map(|row| row.cells[column].chars().count());
            cells.chain([heads[column].len()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..heads.len()).map(width).collect();
        let line = |cells: Vec<String>, paint: Option<(usize, Paint)>| {
            let cells = cells.into_iter().enumerate().map(|(column, cell)| {
                let padded = format!("{cell:0$}", widths[column]);
                match paint {
                    Some((painted, paint)) if painted == column => self.paint(paint, &padded),
                    _ => padded,
                }
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
        };
        let heads = heads.iter().map(|&head| head.to_owned()).collect();
        let mut text = self.paint(Paint::Dim, line(heads, None).trim_end()) + "\n";
        text.extend(rows.into_iter().map(|row| line(row.cells, row.paint)));
        text
    }
}

/// A line of a table, and which of its cells has which colour.
struct Row {
    cells: Vec<String>,
    paint: Option<(usize, Paint)>,
}

fn blank() -> String {
    "-".to_owned()
}

fn paint_of(status: &str) -> Paint {
    match status {
        "running" => Paint::Good,
        "backing_off" => Paint::Bad,
        "terminal" => Paint::Dim,
        _ => Paint::Uncertain,
    }
}

fn paint_of_event(event: &str) -> Paint {
    match event {
        "started" | "adopted" => Paint::Good,
        "failed" | "backing_off" => Paint::Bad,
        "applied" | "terminal" => Paint::Dim,
        _ => Paint::Uncertain,
    }
}

/// What an event says beside its name.
fn what_happened(event: &Term<'_>) -> String {
    let pid = event.get("host_pid").and_then(Term::as_i64).map(|pid| format!("pid {pid}"));
    let exit = event.get("exit").and_then(exit_in_words).map(|exit| {
        let container = event.get("container").and_then(Term::as_str);
        container.map_or_else(String::new, |name| format!("{name} ")) + &exit
    });
    pid.or(exit).unwrap_or_else(|| why(event))
}

fn code_and_message<'a>(error: &'a Term<'_>) -> Option<(&'a str, String)> {
    error.get("code")?.as_atom().zip(words(error.get("message")?))
}

/// Text on one line. It may hold what somebody has put into a path or a command,
/// and must not become a sequence that the terminal obeys.
fn words(term: &Term<'_>) -> Option<String> {
    let show = |each: char| match each.is_control() {
        true => each.escape_default().to_string(),
        false => each.to_string(),
    };
    term.as_str().map(|text| text.chars().map(show).collect())
}

/// The places that an error names: `pod web, field containers[0].limits`.
fn places(error: &Term<'_>) -> String {
    let places = error.get("where").and_then(Term::as_map).unwrap_or(&[]);
    let place = |(place, value): &(Term<'_>, Term<'_>)| {
        Some(format!("{} {}", place.as_atom()?, words(value)?))
    };
    places.iter().filter_map(place).collect::<Vec<_>>().join(", ")
}

/// Why a pod is as it is.
fn why(status: &Term<'_>) -> String {
    status.get("reason").and_then(words).unwrap_or_default()
}

fn exit_in_words(exit: &Term<'_>) -> Option<String> {
    let [tag, value] = exit.as_tuple()? else { return None };
    Some(match tag.as_atom()? {
        "exited" => format!("exited with status {value}"),
        "signaled" => format!("was killed by signal {value}"),
        "error" => {
            let (code, message) = code_and_message(value)?;
            format!("failed: {code}: {message}")
        }
        _ => return None,
    })
}

fn error_of<'a>(exit: &'a Term<'a>) -> Option<&'a Term<'a>> {
    match exit.as_tuple()? {
        [tag, error] if tag.is_atom("error") => Some(error),
        _ => None,
    }
}

fn container(container: &Term<'_>) -> String {
    let name = container.get("name").and_then(Term::as_str).unwrap_or("?");
    let image = container.get("image");
    let image = match image.and_then(Term::as_tuple) {
        Some([_, path]) => words(path),
        _ => image.and_then(words),
    };
    format!("{name} ({})", image.as_deref().unwrap_or("?"))
}

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

/// `1.2s`, `3m 5s`, `2h 7m`, `4d 3h`.
fn duration(ms: i64) -> String {
    let ms = ms.max(0);
    let (seconds, minutes, hours) = (ms / 1_000, ms / 60_000, ms / 3_600_000);
    match seconds {
        0..10 => format!("{seconds}.{}s", ms / 100 % 10),
        10..60 => format!("{seconds}s"),
        60..3_600 => format!("{minutes}m {}s", seconds % 60),
        3_600..86_400 => format!("{hours}h {}m", minutes % 60),
        _ => format!("{}d {}h", hours / 24, hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_units_at_most() {
        let shown = [0, 1_250, 42_000, 185_000, 7_620_000, 356_400_000, -5].map(duration);
        assert_eq!(shown, ["0.0s", "1.2s", "42s", "3m 5s", "2h 7m", "4d 3h", "0.0s"]);
    }

    #[test]
    fn no_text_becomes_a_sequence_that_the_terminal_obeys() {
        let plain = Style { syntax: Syntax::Erlang, has_colour: false };
        let error = Syntax::Erlang
            .parse(
                "#{code => start_failed, message => <<\"exec /\\e[2J\">>, hint => nil,
                   where => #{path => <<\"/\\e[2J\\n\">>}}",
            )
            .unwrap();
        let shown = plain.error(&error);
        assert_eq!(shown, "start_failed: exec /\\u{1b}[2J\n  where: path /\\u{1b}[2J\\n\n");
    }

    #[test]
    fn what_is_of_another_shape_is_shown_as_it_is() {
        let plain = Style { syntax: Syntax::Erlang, has_colour: false };
        let term = Syntax::Erlang.parse("{paused,<<\"web\">>,1}").unwrap();
        assert_eq!(plain.notice(&term), "* {paused,<<\"web\">>,1}\n");
        assert_eq!(plain.error(&term), "error: {paused,<<\"web\">>,1}\n");
        assert_eq!(plain.statuses(&term), "{paused,<<\"web\">>,1}\n");
        assert_eq!(plain.pods(&term), "{paused,<<\"web\">>,1}\n");
    }
}
