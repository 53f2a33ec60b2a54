//! The envelopes: what a frame from the client can be, and how frames to it
//! look. What is inside a request is [`super::translate`]'s to know.

use erlang_term_format::{Term, tuple};

use crate::core::failure::{Code, Failure, Place};

use super::translate;

/// The newest version of the protocol that is spoken here.
pub const PROTOCOL: i64 = 1;

/// The oldest one that still is.
pub const PROTOCOL_MIN: i64 = 1;

/// Largest request id.
const ID_MAX: i64 = 1 << 53;

/// What a client sent.
#[derive(Debug, PartialEq)]
pub enum Incoming<'a> {
    /// The greeting.
    Hello(Term<'a>),
    /// A request, or a cast when the id is 0.
    Request {
        /// The client's id for it.
        id: i64,
        /// The operation.
        op: String,
        /// Its arguments.
        args: Term<'a>,
    },
    /// The answer to a request of ours.
    Reply {
        /// Our id for it.
        id: i64,
        /// The value, or the error as a term.
        result: Result<Term<'a>, Term<'a>>,
    },
}

impl<'a> Incoming<'a> {
    /// Reads one frame.
    ///
    /// # Errors
    /// `malformed_frame` when it is not one term, `bad_args` when the term is no
    /// envelope.
    pub fn parse(frame: &'a [u8]) -> Result<Self, Failure> {
        let term = erlang_term_format::decode(frame).map_err(|error| {
            Failure::new(Code::MalformedFrame, error.to_string())
                .at(Place::Offset, error.offset)
                .hint("a frame is one term in external term format, after 4 bytes of length")
        })?;
        let not_an_envelope = || {
            Failure::new(
                Code::BadArgs,
                "a frame must be {Id, Op, Args} or {Id, {ok | error, Value}}",
            )
        };
        let Term::Tuple(elements) = term else { return Err(not_an_envelope()) };
        match <[Term<'a>; 3]>::try_from(elements) {
            Ok([id, op, args]) => {
                let id = id.as_i64().filter(|id| (0..=ID_MAX).contains(id));
                let op = op.as_atom().map(str::to_owned);
                let (id, op) = id.zip(op).ok_or_else(not_an_envelope)?;
                Ok(Self::Request { id, op, args })
            }
            Err(elements) => pair(elements).ok_or_else(not_an_envelope),
        }
    }
}

fn pair(elements: Vec<Term<'_>>) -> Option<Incoming<'_>> {
    let [head, body] = <[Term<'_>; 2]>::try_from(elements).ok()?;
    if head.is_atom("hello") {
        return Some(Incoming::Hello(body));
    }
    let id = head.as_i64().filter(|id| (1..=ID_MAX).contains(id))?;
    let Term::Tuple(result) = body else { return None };
    let [tag, value] = <[Term<'_>; 2]>::try_from(result).ok()?;
    let result = match tag.as_atom()? {
        "ok" => Ok(value),
        "error" => Err(value),
        _ => return None,
    };
    Some(Incoming::Reply { id, result })
}

/// The greeting of this program. Its atoms are those of version 1 for ever: it is
/// read by clients that have not said yet what they know.
#[must_use]
pub fn hello(host: Term<'static>) -> Term<'static> {
    let about = Term::map([
        (Term::atom("protocol"), Term::Integer(PROTOCOL)),
        (Term::atom("protocol_min"), Term::Integer(PROTOCOL_MIN)),
        (Term::atom("version"), Term::binary(env!("CARGO_PKG_VERSION"))),
        (Term::atom("pid"), Term::Integer(i64::from(std::process::id()))),
        (Term::atom("host"), host),
    ]);
    tuple![Term::atom("hello"), about]
}

/// The reply to request `id`.
#[must_use]
pub fn reply<'a>(id: i64, result: Result<Term<'a>, Term<'a>>) -> Term<'a> {
    let body = match result {
        Ok(value) => tuple![Term::atom("ok"), value],
        Err(error) => tuple![Term::atom("error"), error],
    };
    tuple![Term::Integer(id), body]
}

/// A request of ours to the client, or a cast when `id` is 0.
#[must_use]
pub fn request(id: i64, op: &'static str, args: Term<'static>) -> Term<'static> {
    tuple![Term::Integer(id), Term::atom(op), args]
}

/// The program's only frame when it cannot start.
#[must_use]
pub fn fatal(failure: &Failure) -> Term<'_> {
    tuple![Term::atom("error"), translate::failure(failure)]
}

/// Checks the version that the client has chosen. What else is in its greeting
/// and not known here is a newer client's, and no error.
///
/// # Errors
/// `protocol_mismatch`, saying what each side speaks; `bad_args`.
pub fn check_hello(about: &Term<'_>) -> Result<(), Failure> {
    let Some(chosen) = about.get("protocol").and_then(Term::as_i64) else {
        return Err(bad_hello("protocol", "protocol => integer"));
    };
    if (PROTOCOL_MIN..=PROTOCOL).contains(&chosen) {
        return Ok(());
    }
    let oldest = about.get("protocol_min").and_then(Term::as_i64).unwrap_or(chosen);
    let (theirs, ours) = (range(oldest, chosen), range(PROTOCOL_MIN, PROTOCOL));
    let what = format!("the client speaks protocol {theirs} and this program {ours}");
    Err(Failure::new(Code::ProtocolMismatch, what)
        .hint("use a client and a program of the same release"))
}

fn bad_hello(field: &str, shape: &str) -> Failure {
    Failure::new(Code::BadArgs, format!("hello must be a map with {shape}")).at(Place::Field, field)
}

fn range(oldest: i64, newest: i64) -> String {
    if oldest < newest { format!("{oldest} to {newest}") } else { newest.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(about: &str) -> Result<(), Failure> {
        check_hello(&erlang_term_format::text::parse(about).unwrap())
    }

    #[test]
    fn a_greeting_may_hold_what_only_a_newer_program_knows() {
        assert_eq!(check("#{protocol => 1, client => <<\"x\">>, colour => [blue]}"), Ok(()));
    }

    #[test]
    fn a_mismatch_names_what_each_side_speaks() {
        for (about, theirs) in [
            ("#{protocol => 2}", "protocol 2 and"),
            ("#{protocol => 0}", "protocol 0 and"),
            ("#{protocol => 7, protocol_min => 5, client => <<\"x\">>}", "protocol 5 to 7 and"),
            ("#{protocol => 7, protocol_min => soon}", "protocol 7 and"),
        ] {
            let failure = check(about).unwrap_err();
            assert_eq!(failure.code, Code::ProtocolMismatch, "{about}");
            assert!(failure.message.contains(theirs), "{failure}");
            assert!(failure.message.ends_with("this program 1"), "{failure}");
        }
    }

    #[test]
    fn a_greeting_without_a_version_is_no_mismatch() {
        for about in ["#{}", "[]", "nil", "#{protocol => new}", "#{<<\"protocol\">> => 1}"] {
            assert_eq!(check(about).unwrap_err().code, Code::BadArgs, "{about}");
        }
    }
}
