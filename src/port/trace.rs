//! Every frame of a session as a line of text, for `TANK_TRACE=frames`.
//!
//! A trace shows frames and changes none. The lines go where it is told to; when
//! they passed is for whoever is there to say.

use std::fmt::{self, Write};
use std::rc::Rc;

use erlang_term_format::{Limits, Term};

use crate::excerpt::excerpt;

/// Characters of a frame that are shown.
const SHOWN_MAX: usize = 2_000;

/// Bytes that are shown of a frame that is no term.
const BROKEN_BYTES_MAX: usize = 32;

/// Which way a frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the client to the program.
    In,
    /// From the program to the client.
    Out,
}

/// Where a session's frames are shown.
#[derive(Clone)]
pub struct Trace {
    say: Rc<dyn Fn(&str)>,
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trace")
    }
}

impl Trace {
    /// A trace whose lines go to `say`.
    #[must_use]
    pub fn new(say: impl Fn(&str) + 'static) -> Self {
        Self { say: Rc::new(say) }
    }

    /// Shows a frame.
    pub(super) fn frame(&self, way: Way, frame: &[u8]) {
        (self.say)(&line(way, frame));
    }

    /// Shows that a frame was not even read.
    pub(super) fn refused(&self, way: Way, claimed: usize) {
        (self.say)(&format!("{way} - a frame of {claimed} bytes, which are discarded"));
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::In => "->",
            Self::Out => "<-",
        })
    }
}

/// `-> 17 {17,apply,#{...}}`.
fn line(way: Way, frame: &[u8]) -> String {
    match erlang_term_format::decode_with(frame, &limits(way)) {
        Ok(mut term) => {
            let id = id(&term);
            mask(&mut term);
            let shown = excerpt(&term, SHOWN_MAX);
            let size = if shown.ends_with("...") { size(frame) } else { String::new() };
            format!("{way} {id} {shown}{size}")
        }
        Err(error) => {
            let mut line = format!("{way} - {error}:");
            for byte in &frame[..frame.len().min(BROKEN_BYTES_MAX)] {
                let _ = write!(line, " {byte:02x}");
            }
            if frame.len() > BROKEN_BYTES_MAX {
                line.push_str("...");
            }
            line + &size(frame)
        }
    }
}

fn size(frame: &[u8]) -> String {
    format!(" ({} bytes)", frame.len())
}

/// What a client sends is read as the session reads it; what is ours may be more.
fn limits(way: Way) -> Limits {
    match way {
        Way::In => Limits::default(),
        Way::Out => Limits {
            bytes_max: usize::MAX,
            depth_max: Limits::DEPTH_CEILING,
            nodes_max: usize::MAX,
        },
    }
}

/// The id of a request, a reply or a part of one.
fn id(term: &Term<'_>) -> String {
    let elements = term.as_tuple().unwrap_or_default();
    let id = match elements {
        [tag, id, ..] if tag.is_atom("chunk") => id.as_i64(),
        [id, ..] => id.as_i64(),
        [] => None,
    };
    id.map_or_else(|| "-".to_owned(), |id| id.to_string())
}

/// Hides the values of environments, which hold secrets, and the insides of
/// chunks, which hold environments.
fn mask(term: &mut Term<'_>) {
    match term {
        Term::Map(entries) => {
            for (key, value) in entries {
                if is_env(key) { hide(value) } else { mask(value) }
            }
        }
        Term::Tuple(elements) => match &mut elements[..] {
            [tag, value] if is_env(tag) => hide(value),
            [tag, _, _, Term::Binary(part)] if tag.is_atom("chunk") => {
                elements[3] = Term::binary(format!("{} bytes", part.len()));
            }
            elements => elements.iter_mut().for_each(mask),
        },
        Term::List(elements) => elements.iter_mut().for_each(mask),
        Term::ImproperList(elements, tail) => {
            elements.iter_mut().for_each(mask);
            mask(tail);
        }
        _ => {}
    }
}

/// The names of fields are atoms. A client that sends binaries is refused, and its
/// secrets are secrets all the same.
fn is_env(key: &Term<'_>) -> bool {
    key.is_atom("env") || key.as_bytes() == Some(b"env")
}

fn hide(env: &mut Term<'_>) {
    match env {
        Term::Map(entries) => entries.iter_mut().for_each(|(_, value)| *value = hidden()),
        other => *other = hidden(),
    }
}

fn hidden() -> Term<'static> {
    Term::binary("***")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(way: Way, source: &str) -> String {
        let term = erlang_term_format::text::parse(source).unwrap();
        line(way, &erlang_term_format::encode(&term))
    }

    #[test]
    fn a_line_says_which_way_under_which_id_and_what() {
        for (way, source, expected) in [
            (Way::In, "{17,get,<<\"web\">>}", "-> 17 {17,get,<<\"web\">>}"),
            (Way::Out, "{17,{ok,nil}}", "<- 17 {17,{ok,nil}}"),
            (Way::Out, "{notice,5,resync}", "<- - {notice,5,resync}"),
            (Way::In, "{hello,#{protocol => 1}}", "-> - {hello,#{protocol => 1}}"),
            (Way::In, "web", "-> - web"),
            (Way::Out, "{chunk,7,true,<<1,2,3>>}", "<- 7 {chunk,7,true,<<\"3 bytes\">>}"),
        ] {
            assert_eq!(shown(way, source), expected);
        }
    }

    #[test]
    fn a_broken_frame_is_shown_with_its_error_and_how_it_begins() {
        assert_eq!(
            line(Way::In, b"\x83\x61"),
            format!("-> - {}: 83 61 (2 bytes)", {
                erlang_term_format::decode(b"\x83\x61").unwrap_err()
            })
        );
        let long = line(Way::In, &[0xff; 1_000]);
        assert!(long.ends_with(" ff ff... (1000 bytes)"), "{long}");
        assert_eq!(long.matches(" ff").count(), BROKEN_BYTES_MAX);
    }

    #[test]
    fn a_long_frame_is_cut_and_says_how_long_it_is() {
        let long = shown(Way::In, &format!("{{1,ping,<<\"{}\">>}}", "v".repeat(5_000)));
        assert!(long.ends_with("vvv... (5016 bytes)"), "{long}");
        assert_eq!(long.len(), "-> 1 ".len() + SHOWN_MAX + "... (5016 bytes)".len());
    }

    #[test]
    fn the_values_of_an_environment_are_never_shown() {
        for env in [
            "{1,apply,#{containers => [#{env => #{<<\"K\">> => <<\"secret\">>}}]}}",
            "{1,apply,[{containers,[[{env,#{<<\"K\">> => <<\"secret\">>}}]]}]}",
            "{1,apply,#{env => [{<<\"K\">>,<<\"secret\">>}]}}",
            "{1,apply,#{<<\"containers\">> => [#{<<\"env\">> => #{<<\"K\">> => <<\"secret\">>}}]}}",
            "{1,apply,[{<<\"env\">>,#{<<\"K\">> => <<\"secret\">>}}]}",
            "{1,apply,[web|#{env => #{<<\"K\">> => <<\"secret\">>}}]}",
            "{1,{ok,[#{spec => #{containers => [#{env => #{<<\"K\">> => secret}}]}}]}}",
        ] {
            let line = shown(Way::In, env);
            assert!(line.contains("***") && !line.contains("secret"), "{line}");
        }
        let with_key = shown(Way::In, "{1,apply,#{env => #{<<\"KEY\">> => <<\"secret\">>}}}");
        assert!(with_key.contains("<<\"KEY\">> => <<\"***\">>"), "{with_key}");
    }
}
