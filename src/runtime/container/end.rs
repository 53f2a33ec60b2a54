//! What a shim's last words mean: how a run ended, or why it never came to be, in the
//! core's terms. Pure.

use tank_shim::protocol::{self as shim_protocol, ExitRecord, FromShim, Role, Step};

use crate::core::event::{EndCause, Ended};
use crate::core::failure::{Code, Failure, Place};
use crate::core::spec::{Name, PodSpec};
use crate::core::status::Exit;
use crate::core::time::Millis;

use super::{hint, launch};

/// How a run ended and when its workload had been exec'd, by its shim's last words.
/// `read_at` stands for the time of those that tell none.
pub(super) fn of_last_words(
    pod: &Name,
    spec: &PodSpec,
    words: FromShim,
    read_at: Millis,
) -> Option<(Ended, Option<Millis>)> {
    match words {
        FromShim::Exited(record) => Some(of_record(pod, record)),
        FromShim::Failed(failure) => {
            let exit = Exit::Failed(launch_failure(pod, spec, failure));
            Some((Ended::new(exit, read_at), None))
        }
        _ => None,
    }
}

/// The same of a record.
pub(super) fn of_record(pod: &Name, record: ExitRecord) -> (Ended, Option<Millis>) {
    let cause = if record.is_asked { EndCause::Request } else { EndCause::Itself };
    let (at, started_at) = (Millis(record.ended_at_ms), record.launched_at_ms.map(Millis));
    let exit = match is_early(&record) {
        true => Exit::Failed(ended_early(pod, &record)),
        false => exit_of(record),
    };
    (Ended { exit, at, cause }, started_at)
}

/// Whether a container was over before all were there, and was not to be.
pub(super) fn is_early(record: &ExitRecord) -> bool {
    record.launched_at_ms.is_none() && record.role != Role::Main
}

/// One container is over before all are there.
pub(super) fn ended_early(pod: &Name, record: &ExitRecord) -> Failure {
    let ended = exit_in_words(record.exit);
    let what = format!("container {} {ended} before the pod was there", record.container);
    start_failure(pod, "launch", what).at(Place::Container, &record.container)
}

/// A shim that ended without a word was killed.
pub(super) fn killed(pod: &Name) -> Exit {
    let what = "the shim was killed, and its containers with it";
    Exit::Failed(Failure::new(Code::Lost, what).at(Place::Pod, pod))
}

/// A failed start, by the name of the step that failed.
pub(super) fn start_failure(pod: &Name, step: &str, what: impl Into<String>) -> Failure {
    Failure::new(Code::StartFailed, what).at(Place::Pod, pod).at(Place::Step, step)
}

/// A launch that the shim says has failed, with the field that was in its way.
pub(super) fn launch_failure(
    pod: &Name,
    spec: &PodSpec,
    failure: shim_protocol::Failure,
) -> Failure {
    let field = launch::field_of(spec, &failure);
    let failure = shim_failure(pod, failure);
    match field {
        Some(field) => failure.at(Place::Field, field),
        None => failure,
    }
}

/// What the shim says has failed.
pub(super) fn shim_failure(pod: &Name, failure: shim_protocol::Failure) -> Failure {
    let hint = hint::of(failure.step, failure.errno).map(str::to_owned);
    let told = start_failure(pod, &step_name(failure.step), failure.message)
        .at(Place::Path, path_of(failure.step, &failure.object));
    let told = match failure.errno {
        // Another program failed, for reasons of its own.
        0 => told,
        errno => told.at(Place::Errno, errno),
    };
    let told = match failure.container {
        Some(container) => told.at(Place::Container, container),
        None => told,
    };
    Failure { hint, ..told }
}

/// A limit is named with its value, which is no part of the path.
fn path_of(step: Step, object: &str) -> &str {
    match object.rsplit_once(" = ") {
        Some((path, _value)) if step == Step::WriteCgroupLimit => path,
        _ => object,
    }
}

/// The step's name on the wire.
fn step_name(step: Step) -> String {
    let term = erlang_term_format::to_term(&step).ok();
    term.and_then(|term| term.as_atom().map(str::to_owned)).unwrap_or_default()
}

/// Of several containers, it says which.
fn exit_of(record: ExitRecord) -> Exit {
    let exit = match record.exit {
        shim_protocol::Exit::Exited(code) => Exit::Exited(code),
        shim_protocol::Exit::Signaled(signal) => Exit::Signaled(signal),
        shim_protocol::Exit::OutOfMemory => Exit::OutOfMemory,
    };
    match Name::new(&record.container).filter(|_| !record.is_alone) {
        Some(container) => Exit::InContainer(container, Box::new(exit)),
        None => exit,
    }
}

fn exit_in_words(exit: shim_protocol::Exit) -> String {
    match exit {
        shim_protocol::Exit::Exited(code) => format!("exited with status {code}"),
        shim_protocol::Exit::Signaled(signal) => format!("was ended by signal {signal}"),
        shim_protocol::Exit::OutOfMemory => "was killed by the kernel, out of memory,".to_owned(),
    }
}
