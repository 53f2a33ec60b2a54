//! The envelopes: what a frame from the client can be, and how frames to it
//! look. What is inside a request is [`super::translate`]'s to know.

use erlang_term_format::{Term, tuple};

use crate::core::failure::{Code, Failure, Place};

use super::frame::FRAME_BYTES_MAX;
use super::translate;

/// The newest version of the protocol that is spoken here.
pub const PROTOCOL: i64 = 1;

/// The oldest one that still is.
pub const PROTOCOL_MIN: i64 = 1;

/// Shortest chunks that a client can ask for, in bytes.
pub const CHUNK_BYTES_MIN: usize = 1 << 10;

/// Largest request id.
pub const ID_MAX: i64 = 1 << 53;

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

/// A part of the reply to request `id`, and whether there is more of it.
#[must_use]
pub fn chunk(id: i64, more: bool, bytes: &[u8]) -> Term<'_> {
    tuple![Term::atom("chunk"), Term::Integer(id), Term::from(more), Term::binary(bytes)]
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

/// What the client has said of itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Greeting {
    /// It takes large replies in chunks of at most so many bytes.
    pub chunk_bytes: Option<usize>,
}

impl Greeting {
    /// Reads the client's greeting, and checks the version that it has chosen.
    /// What else is in it and not known here is a newer client's, and no error.
    ///
    /// # Errors
    /// `protocol_mismatch`, saying what each side speaks; `bad_args`.
    pub fn parse(about: &Term<'_>) -> Result<Self, Failure> {
        check_version(about)?;
        Ok(Self { chunk_bytes: chunk_bytes(about)? })
    }
}

fn check_version(about: &Term<'_>) -> Result<(), Failure> {
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

fn chunk_bytes(about: &Term<'_>) -> Result<Option<usize>, Failure> {
    let Some(value) = about.get("chunk_bytes").filter(|value| !value.is_nil()) else {
        return Ok(None);
    };
    let bytes = value.as_u64().and_then(|bytes| usize::try_from(bytes).ok());
    let bytes = bytes.filter(|bytes| (CHUNK_BYTES_MIN..=FRAME_BYTES_MAX).contains(bytes));
    bytes.map(Some).ok_or_else(|| {
        let shape = format!("chunk_bytes => {CHUNK_BYTES_MIN} to {FRAME_BYTES_MAX}");
        bad_hello("chunk_bytes", &shape)
    })
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

    fn parse(about: &str) -> Result<Greeting, Failure> {
        Greeting::parse(&erlang_term_format::text::parse(about).unwrap())
    }

    #[test]
    fn a_greeting_may_hold_what_only_a_newer_program_knows() {
        let greeting = parse("#{protocol => 1, client => <<\"x\">>, colour => [blue]}");
        assert_eq!(greeting, Ok(Greeting::default()));
    }

    #[test]
    fn a_mismatch_names_what_each_side_speaks() {
        for (about, theirs) in [
            ("#{protocol => 2}", "protocol 2 and"),
            ("#{protocol => 0}", "protocol 0 and"),
            ("#{protocol => 7, protocol_min => 5, client => <<\"x\">>}", "protocol 5 to 7 and"),
            ("#{protocol => 7, protocol_min => soon}", "protocol 7 and"),
        ] {
            let failure = parse(about).unwrap_err();
            assert_eq!(failure.code, Code::ProtocolMismatch, "{about}");
            assert!(failure.message.contains(theirs), "{failure}");
            assert!(failure.message.ends_with("this program 1"), "{failure}");
        }
    }

    #[test]
    fn chunks_are_of_a_length_between_the_limits() {
        for (length, is_good) in
            [("1023", false), ("1024", true), ("16777216", true), ("16777217", false)]
        {
            let greeting = parse(&format!("#{{protocol => 1, chunk_bytes => {length}}}"));
            match greeting {
                Ok(ref greeting) => assert_eq!(greeting.chunk_bytes, length.parse().ok()),
                Err(ref failure) => assert_eq!(failure.at, [(Place::Field, "chunk_bytes".into())]),
            }
            assert_eq!(greeting.is_ok(), is_good, "{length}");
        }
        assert!(parse("#{protocol => 1, chunk_bytes => nil}").is_ok());
        assert!(parse("#{protocol => 1, chunk_bytes => many}").is_err());
    }

    #[test]
    fn a_greeting_without_a_version_is_no_mismatch() {
        for about in ["#{}", "[]", "nil", "#{protocol => new}", "#{<<\"protocol\">> => 1}"] {
            assert_eq!(parse(about).unwrap_err().code, Code::BadArgs, "{about}");
        }
    }
}
