//! Stored records: Erlang terms, which any BEAM can read too.
//!
//! A pod is `#{generation => N, spec => Pod}` with the pod as the protocol has
//! it, a verdict `#{retries => N, exit => Exit, at => UnixMs, incarnation => N}`, of which
//! older records lack the last two, and an entry of a journal
//! `#{at => UnixMs, event => Kind, incarnation => N, generation => N, retries => N}`
//! with what its kind has beside it. The form is the file's own:
//! the protocol may change without it. How it may change itself is said with
//! the tables.

use std::sync::Arc;

use erlang_term_format::{Term, decode, encode};

use crate::core::event::{Incarnation, LastExit, Revision, StoredPod, Verdict};
use crate::core::failure::{Code, Failure, Place};
use crate::core::journal::{Entry, Kind};
use crate::core::spec::{Name, PodSpec};
use crate::core::status::Exit;
use crate::core::time::Moment;

/// The record of a pod, without its verdict.
pub(super) fn encode_pod(pod: &StoredPod) -> Vec<u8> {
    encode(&map([("generation", Term::from(pod.generation.0)), ("spec", pod.spec.to_term())]))
}

/// The pod of a record, or why there is none.
pub(super) fn decode_pod(key: &[u8], record: &[u8]) -> Result<StoredPod, String> {
    let term = decode(record).map_err(|error| error.to_string())?;
    let generation = field(&term, "generation", Term::as_u64)?;
    let spec =
        PodSpec::from_term(field(&term, "spec", Some)?).map_err(|error| error.to_string())?;
    if spec.name.as_str().as_bytes() != key {
        return Err(format!("it is of pod {}", spec.name));
    }
    Ok(StoredPod { generation: Revision(generation), spec: Arc::new(spec), verdict: None })
}

/// The record of a verdict.
pub(super) fn encode_verdict(verdict: &Verdict) -> Vec<u8> {
    let at = match verdict.last.at {
        Some(Moment::Wall(at)) => Term::Integer(at),
        // Which nobody could read after a reboot.
        Some(Moment::Boot(_)) | None => Term::nil(),
    };
    encode(&map([
        ("retries", Term::from(verdict.retries)),
        ("exit", exit_to_term(&verdict.last.exit)),
        ("at", at),
        ("incarnation", Term::from(verdict.incarnation.0)),
    ]))
}

/// The verdict of a record, or why there is none.
pub(super) fn decode_verdict(record: &[u8]) -> Result<Verdict, String> {
    let term = decode(record).map_err(|error| error.to_string())?;
    let at = term.get("at").and_then(Term::as_i64).map(Moment::Wall);
    let incarnation = term.get("incarnation").and_then(Term::as_u64).unwrap_or_default();
    Ok(Verdict {
        retries: field(&term, "retries", retries_of)?,
        last: LastExit { exit: field(&term, "exit", exit_from_term)?, at },
        incarnation: Incarnation(incarnation),
    })
}

/// The record of an entry.
pub(super) fn encode_entry(entry: &Entry) -> Vec<u8> {
    let mut fields = vec![
        ("at", Term::Integer(entry.at_unix_ms)),
        ("event", Term::atom(entry.kind.name())),
        ("incarnation", Term::from(entry.incarnation.0)),
        ("generation", Term::from(entry.generation.0)),
        ("retries", Term::from(entry.retries)),
    ];
    fields.extend(details(&entry.kind));
    encode(&Term::Map(fields.into_iter().map(|(key, value)| (Term::atom(key), value)).collect()))
}

fn details(kind: &Kind) -> Vec<(&'static str, Term<'_>)> {
    match kind {
        Kind::Applied => Vec::new(),
        Kind::Started { host_pid } | Kind::Adopted { host_pid } => {
            vec![("host_pid", host_pid.map_or(Term::nil(), Term::from))]
        }
        Kind::Ended { exit } => vec![("exit", exit_to_term(exit))],
        Kind::Failed { failure } => vec![("failure", failure_term(failure))],
        Kind::BackingOff { delay_ms, reason } => {
            vec![("delay_ms", Term::from(*delay_ms)), ("reason", reason.as_str().into())]
        }
        Kind::Terminal { reason } | Kind::Stopping { reason } => {
            vec![("reason", reason.as_str().into())]
        }
    }
}

/// The entry of a record, or why there is none.
pub(super) fn decode_entry(record: &[u8]) -> Result<Entry, String> {
    let term = decode(record).map_err(|error| error.to_string())?;
    Ok(Entry {
        at_unix_ms: field(&term, "at", Term::as_i64)?,
        kind: kind_of(&term)?,
        incarnation: Incarnation(field(&term, "incarnation", Term::as_u64)?),
        generation: Revision(field(&term, "generation", Term::as_u64)?),
        retries: field(&term, "retries", retries_of)?,
    })
}

fn kind_of(term: &Term<'_>) -> Result<Kind, String> {
    let host_pid = || {
        let pid = |term: &Term<'_>| match term.as_i64() {
            Some(pid) => i32::try_from(pid).ok().map(Some),
            None => term.is_nil().then_some(None),
        };
        field(term, "host_pid", pid)
    };
    let reason = || field(term, "reason", |term| term.as_str().map(str::to_owned));
    Ok(match field(term, "event", Term::as_atom)? {
        "applied" => Kind::Applied,
        "started" => Kind::Started { host_pid: host_pid()? },
        "adopted" => Kind::Adopted { host_pid: host_pid()? },
        "ended" => Kind::Ended { exit: field(term, "exit", exit_from_term)? },
        "failed" => Kind::Failed { failure: field(term, "failure", failure_of)? },
        "backing_off" => {
            Kind::BackingOff { delay_ms: field(term, "delay_ms", Term::as_u64)?, reason: reason()? }
        }
        "terminal" => Kind::Terminal { reason: reason()? },
        "stopping" => Kind::Stopping { reason: reason()? },
        other => return Err(format!("there is no event {other}")),
    })
}

fn retries_of(term: &Term<'_>) -> Option<u32> {
    u32::try_from(term.as_u64()?).ok()
}

/// An exit as a term of a record.
pub(crate) fn exit_to_term(exit: &Exit) -> Term<'_> {
    let tagged = |tag, value| Term::Tuple(vec![Term::atom(tag), value]);
    match exit {
        Exit::Exited(code) => tagged("exited", Term::from(*code)),
        Exit::Signaled(signal) => tagged("signaled", Term::from(*signal)),
        Exit::OutOfMemory => tagged("signaled", Term::atom("out_of_memory")),
        Exit::Failed(failure) => tagged("error", failure_term(failure)),
        Exit::InContainer(name, exit) => {
            let value = Term::Tuple(vec![name.as_str().into(), exit_to_term(exit)]);
            tagged("in_container", value)
        }
    }
}

/// The exit of such a term, if it is one.
pub(crate) fn exit_from_term(term: &Term<'_>) -> Option<Exit> {
    let [tag, value] = term.as_tuple()? else { return None };
    let number = || i32::try_from(value.as_i64()?).ok();
    match tag.as_atom()? {
        "exited" => number().map(Exit::Exited),
        "signaled" if value.is_atom("out_of_memory") => Some(Exit::OutOfMemory),
        "signaled" => number().map(Exit::Signaled),
        "error" => failure_of(value).map(Exit::Failed),
        "in_container" => {
            let [name, exit] = value.as_tuple()? else { return None };
            // One in another would be no exit of ours.
            let exit = exit_from_term(exit).filter(|exit| exit.container().is_none())?;
            Some(Exit::InContainer(Name::new(name.as_str()?)?, Box::new(exit)))
        }
        _ => None,
    }
}

/// The places are a list, since their order says from the outside in.
fn failure_term(failure: &Failure) -> Term<'_> {
    let place = |(place, value): &(Place, String)| {
        Term::Tuple(vec![Term::atom(place.name()), Term::binary(value.clone())])
    };
    map([
        ("code", Term::atom(failure.code.name())),
        ("message", failure.message.as_str().into()),
        ("where", Term::List(failure.at.iter().map(place).collect())),
        ("hint", failure.hint.as_deref().into()),
    ])
}

fn failure_of(term: &Term<'_>) -> Option<Failure> {
    let place = |term: &Term<'_>| {
        let [place, value] = term.as_tuple()? else { return None };
        Some((Place::from_name(place.as_atom()?)?, value.as_str()?.to_owned()))
    };
    Some(Failure {
        code: Code::from_name(term.get("code")?.as_atom()?)?,
        message: term.get("message")?.as_str()?.to_owned(),
        at: term.get("where")?.as_list()?.iter().map(place).collect::<Option<_>>()?,
        hint: term.get("hint")?.as_str().map(str::to_owned),
    })
}

fn field<'t, 'a, T>(
    term: &'t Term<'a>,
    key: &str,
    parse: impl FnOnce(&'t Term<'a>) -> Option<T>,
) -> Result<T, String> {
    let value = term.get(key).ok_or_else(|| format!("it has no {key}"))?;
    parse(value).ok_or_else(|| format!("its {key} is {value}"))
}

fn map<'a, const N: usize>(entries: [(&'static str, Term<'a>); N]) -> Term<'a> {
    Term::Map(entries.into_iter().map(|(key, value)| (Term::atom(key), value)).collect())
}
