//! A frame into a request, on the program's own path: the envelope, the operation, the spec.

use std::sync::Arc;

use erlang_term_format::{Term, decode, encode};
use tank::core::event::Request;
use tank::core::failure::{Code, Failure};
use tank::core::spec::PodSpec;
use tank::port::message::{Greeting, Incoming};
use tank::port::translate::{self, Call};

use crate::{atoms, memory, terms};

/// Panics if a frame of `input` panics, costs more memory than it may, or is refused by what is
/// no error of the protocol.
pub fn holds(input: &[u8]) {
    let (answer, peak) = memory::peak_of(|| answer_to(input));
    let allowed = ALLOWED_TIMES * terms::allowed(input);
    assert!(peak <= allowed, "{peak} bytes for a frame of {}", input.len());
    if let Some(refusal) = answer {
        holds_for_refusal(input, &refusal);
    }
}

/// The tree, what is made of it, and the answer.
const ALLOWED_TIMES: usize = 3;

/// The refusal, if it is one.
fn answer_to(frame: &[u8]) -> Option<Vec<u8>> {
    let refused = |failure: Failure| Some(encode(&translate::failure(&failure)));
    match Incoming::parse(frame) {
        Err(failure) => refused(failure),
        Ok(Incoming::Hello(about)) => Greeting::parse(&about).err().and_then(refused),
        Ok(Incoming::Reply { result, .. }) => {
            result.err().and_then(|error| refused(translate::failure_from(&error)))
        }
        Ok(Incoming::Request { id: 0, op, args }) => {
            translate::cast(&op, &args).err().and_then(refused)
        }
        Ok(Incoming::Request { op, args, .. }) => match translate::call(&op, &args) {
            Ok(Call::Core(Request::Apply(spec) | Request::Create(spec) | Request::Seed(spec))) => {
                holds_for_spec(&spec);
                None
            }
            Ok(Call::Core(Request::Plan(specs))) => {
                specs.iter().for_each(holds_for_spec);
                None
            }
            Ok(_) => None,
            Err(refusal) => Some(encode(&translate::refusal(refusal))),
        },
    }
}

/// A spec is told to the client as what it can apply again.
fn holds_for_spec(spec: &Arc<PodSpec>) {
    let bytes = encode(&spec.to_term());
    let told = decode(&bytes).expect("a frame of ours");
    assert_eq!(PodSpec::from_term(&told).as_ref(), Ok(&**spec));
}

/// An error is a well-formed frame, with a code of the closed list, words, and no unknown atom.
fn holds_for_refusal(heard: &[u8], refusal: &[u8]) {
    let error = decode(refusal).expect("a frame of ours");
    let code = error.get("code").and_then(Term::as_atom).and_then(Code::from_name);
    assert!(code.is_some_and(|code| code != Code::Internal), "{error}");
    let message = error.get("message").and_then(Term::as_str);
    assert!(message.is_some_and(|message| !message.is_empty()), "{error}");
    let heard = decode(heard);
    atoms::are_known(&error, &heard.as_ref().map(atoms::of).unwrap_or_default());
}
