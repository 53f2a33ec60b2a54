//! The envelopes: what a frame from the client can be, and how frames to it
//! look. What is inside a request is [`super::translate`]'s to know.

use erlang_term_format::{Term, tuple};

use crate::core::failure::{Code, Failure, Place};

use super::translate;

/// The protocol's version.
pub const PROTOCOL: i64 = 1;

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

/// The greeting of this program.
#[must_use]
pub fn hello(host: Term<'static>) -> Term<'static> {
    let about = Term::map([
        (Term::atom("protocol"), Term::Integer(PROTOCOL)),
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

/// Checks the client's greeting.
///
/// # Errors
/// `protocol_mismatch`, saying both versions.
pub fn check_hello(about: &Term<'_>) -> Result<(), Failure> {
    match about.get("protocol").and_then(Term::as_i64) {
        Some(PROTOCOL) => Ok(()),
        Some(theirs) => Err(Failure::new(
            Code::ProtocolMismatch,
            format!("the client speaks protocol {theirs}, this program speaks {PROTOCOL}"),
        )
        .hint("use a client and a program of the same release")),
        None => Err(Failure::new(Code::BadArgs, "hello must be a map with protocol => integer")
            .at(Place::Field, "protocol")),
    }
}
