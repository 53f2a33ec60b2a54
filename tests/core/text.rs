//! How what goes in and what comes out is read and written as text.

use std::sync::Arc;

use tank::core::action::{Action, Command, Notice, Response, Write};
use tank::core::event::{EndCause, Ended, Event, Incarnation, Observation, Outcome, Request};
use tank::core::failure::Failure;
use tank::core::forecast::Forecast;
use tank::core::spec::{Name, PodSpec, RestartPolicy};
use tank::core::status::{Exit, Goal, PodStatus};
use tank::core::time::Moment;

use crate::fixtures;

/// `10s` or `250ms`.
pub(crate) fn millis(text: &str) -> u64 {
    let number = |digits: &str| digits.parse().unwrap_or_else(|_| panic!("no time: {text:?}"));
    match text.strip_suffix("ms") {
        Some(digits) => number(digits),
        None => number(text.strip_suffix('s').unwrap_or(text)) * 1000_u64,
    }
}

/// An instant or a delay, as [`millis`] reads it.
pub(crate) fn time(millis: u64) -> String {
    if millis.is_multiple_of(1000) { format!("{}s", millis / 1000) } else { format!("{millis}ms") }
}

/// `web restart=never image=b memory=1`.
pub(crate) fn spec(text: &str) -> Arc<PodSpec> {
    let mut words = text.split_whitespace();
    let name = fixtures::name(words.next().expect("a pod"));
    let (mut restart, mut image, mut memory) = (RestartPolicy::Always, "a", None);
    for word in words {
        match word.split_once('=') {
            Some(("restart", "always")) => restart = RestartPolicy::Always,
            Some(("restart", "on_failure")) => restart = RestartPolicy::OnFailure,
            Some(("restart", "never")) => restart = RestartPolicy::Never,
            Some(("image", text)) => image = text,
            Some(("memory", bytes)) => memory = Some(bytes.parse().expect("a number of bytes")),
            _ => panic!("no field of a pod: {word:?}"),
        }
    }
    fixtures::pod(name, restart, image, memory)
}

/// `exited 1`, `signaled 9`.
pub(crate) fn exit(kind: &str, number: &str) -> Exit {
    let number = number.parse().unwrap_or_else(|_| panic!("no number: {number:?}"));
    match kind {
        "exited" => Exit::Exited(number),
        "signaled" => Exit::Signaled(number),
        _ => panic!("no exit: {kind:?}"),
    }
}

/// `#3`.
pub(crate) fn incarnation(text: &str) -> Incarnation {
    let digits = text.strip_prefix('#').unwrap_or_else(|| panic!("no run: {text:?}"));
    Incarnation(digits.parse().unwrap_or_else(|_| panic!("no run: {text:?}")))
}

/// What a client asks.
pub(crate) fn request(text: &str) -> Request {
    let words: Vec<&str> = text.split_whitespace().collect();
    let rest = text.split_once(' ').map_or("", |(_, rest)| rest);
    match words.as_slice() {
        ["apply", ..] => Request::Apply(spec(rest)),
        ["create", ..] => Request::Create(spec(rest)),
        ["seed", ..] => Request::Seed(spec(rest)),
        ["delete", pod] => Request::Delete(fixtures::name(pod)),
        ["get", pod] => Request::Get(fixtures::name(pod)),
        ["list"] => Request::List,
        ["status"] => Request::Status(None),
        ["status", pod] => Request::Status(Some(fixtures::name(pod))),
        ["sync"] => Request::Sync,
        ["restart", pod] => Request::Restart(fixtures::name(pod)),
        ["plan", ..] => Request::Plan(rest.split("; ").map(spec).collect()),
        ["await", pod, goal] => awaited(pod, goal, None),
        ["await", pod, goal, timeout] => awaited(pod, goal, Some(millis(timeout))),
        ["kill", pod, run] => Request::Kill(fixtures::name(pod), incarnation(run)),
        ["shutdown", "keep"] => Request::Shutdown { stop_pods: false },
        ["shutdown", "stop"] => Request::Shutdown { stop_pods: true },
        _ => panic!("no request: {text:?}"),
    }
}

fn awaited(pod: &str, goal: &str, timeout_ms: Option<u64>) -> Request {
    let goal = Goal::from_name(goal).unwrap_or_else(|| panic!("no state: {goal:?}"));
    Request::Await { pod: fixtures::name(pod), goal, timeout_ms }
}

pub(crate) fn command(command: &Command) -> String {
    match command {
        Command::Act(_, action) => self::action(action),
        Command::Cancel(_) => "cancel".to_string(),
        Command::Kill(pod, run) => format!("kill {pod} #{}", run.0),
        Command::Forget(pod, run) => format!("forget {pod} #{}", run.0),
    }
}

fn action(action: &Action) -> String {
    match action {
        Action::Persist(write) => format!("persist {}", self::write(write)),
        Action::Start { pod, incarnation, .. } => format!("start {pod} #{}", incarnation.0),
        Action::Adopt { pod, incarnation } => format!("adopt {pod} #{}", incarnation.0),
        Action::Stop { pod, incarnation } => format!("stop {pod} #{}", incarnation.0),
        Action::Adjust { pod, incarnation, .. } => format!("adjust {pod} #{}", incarnation.0),
        Action::Remove(pod) => format!("remove {pod}"),
        Action::Observe { since } => format!("observe since {}", since.0),
    }
}

fn write(write: &Write) -> String {
    match write {
        Write::Put(spec) => format!("put {}", spec.name),
        Write::Create(spec) => format!("create {}", spec.name),
        Write::Seed(spec) => format!("seed {}", spec.name),
        Write::Delete(pod) => format!("delete {pod}"),
        Write::PutVerdict(pod, generation, verdict) => {
            let (exit, retries) = (ended(&verdict.last.exit), verdict.retries);
            format!("verdict on {pod} generation {}: {exit}, retries {retries}", generation.0)
        }
        Write::ClearVerdict(pod) => format!("clear verdict on {pod}"),
    }
}

pub(crate) fn response(result: &Result<Response, Failure>) -> String {
    match result {
        Ok(Response::Done) => "ok".to_string(),
        Ok(Response::Applied { generation, changed }) => {
            let changed = if *changed { "changed" } else { "unchanged" };
            format!("ok, generation {}, {changed}", generation.0)
        }
        Ok(Response::Pod(pod)) => format!("generation {}", pod.generation.0),
        Ok(Response::Pods(pods)) => {
            let named = |name: &Name, generation: u64| format!("{name} at {generation}");
            let pods = pods.iter().map(|pod| named(&pod.spec.name, pod.generation.0));
            list(pods.collect())
        }
        Ok(Response::Statuses(statuses)) => {
            list(statuses.iter().map(|(pod, status)| full_status(pod, status)).collect())
        }
        Ok(Response::Planned(forecasts)) => list(forecasts.iter().map(forecast).collect()),
        Err(failure) => format!("error {}: {failure}", failure.code.name()),
    }
}

fn forecast(forecast: &Forecast) -> String {
    let Forecast { pod, course, changes, generation } = forecast;
    let at = generation.map(|generation| format!(" at {}", generation.0)).unwrap_or_default();
    let colon = if changes.is_empty() { "" } else { ": " };
    format!("{pod}{at} {}{colon}{}", course.name(), changes.join(", "))
}

fn list(items: Vec<String>) -> String {
    if items.is_empty() { "none".to_string() } else { items.join("; ") }
}

pub(crate) fn notice(notice: &Notice) -> String {
    match notice {
        Notice::RunStarted { pod, incarnation, is_adopted: true, .. } => {
            format!("{pod} #{} taken over", incarnation.0)
        }
        Notice::RunStarted { pod, incarnation, .. } => format!("{pod} #{} started", incarnation.0),
        Notice::RunEnded { pod, incarnation, exit, .. } => {
            format!("{pod} #{} {}", incarnation.0, ended(exit))
        }
        Notice::StartFailed { pod, incarnation, failure, .. } => {
            format!("{pod} #{} failed to start: {failure}", incarnation.0)
        }
        Notice::StatusChanged { pod, status } => {
            let (name, phase, retries) =
                (status.status.name(), status.phase.name(), status.retries);
            let phase = if name == phase { String::new() } else { format!(" ({phase})") };
            let reason = status.reason.as_ref().map(|reason| format!(": {reason}"));
            format!("{pod} is {name}{phase}, retries {retries}{}", reason.unwrap_or_default())
        }
        Notice::PodGone { pod } => format!("{pod} is gone"),
    }
}

fn full_status(pod: &Name, status: &PodStatus) -> String {
    let mut text = format!(
        "{pod} {} retries {} generation {} run {}",
        status.status.name(),
        status.retries,
        status.generation,
        status.incarnation
    );
    let mut add = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            text.push_str(&format!(" {key} {value}"));
        }
    };
    add("started at", status.started_at.map(|at| time(at.0)));
    add("pid", status.host_pid.map(|pid| pid.to_string()));
    add("retry in", status.retry_in_ms.map(time));
    add("last", status.last_exit.as_ref().map(ended));
    add("at", status.last_exit_at.map(moment));
    text
}

fn moment(at: Moment) -> String {
    match at {
        Moment::Boot(at) => time(at.0),
        Moment::Wall(at) => format!("{at} ms since 1970"),
    }
}

pub(crate) fn ended(exit: &Exit) -> String {
    match exit {
        Exit::Exited(status) => format!("exited {status}"),
        Exit::Signaled(signal) => format!("signaled {signal}"),
        Exit::OutOfMemory => "out of memory".to_string(),
        Exit::Failed(failure) => format!("failed ({}: {failure})", failure.code.name()),
        Exit::InContainer(name, exit) => format!("{name} {}", ended(exit)),
    }
}

fn ended_at(Ended { exit, at, cause }: &Ended) -> String {
    let cause = match cause {
        EndCause::Itself => "",
        EndCause::Download => " downloading",
        EndCause::Request => " on request",
    };
    format!("{}{cause} at {}", ended(exit), time(at.0))
}

/// A command with the id of its action, for a log.
pub(crate) fn command_with_id(command: &Command) -> String {
    match command {
        Command::Act(id, action) => format!("[{}] {}", id.0, self::action(action)),
        Command::Cancel(id) => format!("cancel [{}]", id.0),
        Command::Kill(..) | Command::Forget(..) => self::command(command),
    }
}

/// An event, for a log.
pub(crate) fn event(event: &Event) -> String {
    match event {
        Event::Requested(ticket, request) => {
            format!("request {} {}", ticket.0, requested(request))
        }
        Event::Abandoned(ticket) => format!("abandoned {}", ticket.0),
        Event::Nudged => "nudged".to_string(),
        Event::Finished(id, outcome) => format!("[{}] {}", id.0, self::outcome(outcome)),
        Event::RunEnded { pod, incarnation, ended } => {
            format!("{pod} #{} {}", incarnation.0, ended_at(ended))
        }
        Event::Woke => "woke".to_string(),
    }
}

fn described(spec: &PodSpec) -> String {
    let (image, memory) = (&spec.containers[0].image, spec.containers[0].limits.memory);
    format!("{} {:?} {image:?} memory {memory:?}", spec.name, spec.restart)
}

fn requested(request: &Request) -> String {
    match request {
        Request::Apply(spec) => format!("apply {}", described(spec)),
        Request::Create(spec) => format!("create {}", described(spec)),
        Request::Plan(specs) => {
            let specs: Vec<String> = specs.iter().map(|spec| described(spec)).collect();
            format!("plan {}", specs.join("; "))
        }
        Request::Seed(spec) => format!("seed {}", described(spec)),
        other => format!("{other:?}"),
    }
}

fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Persisted(Ok(revision)) => format!("persisted at {}", revision.0),
        Outcome::Persisted(Err(failure)) => format!("not persisted: {failure}"),
        Outcome::Started(Ok(_)) => "started".to_string(),
        Outcome::Started(Err(error)) => format!("not started: {}", error.failure),
        Outcome::Stopped(Ok(exit)) => format!("stopped: {}", ended(exit)),
        Outcome::Stopped(Err(failure)) => format!("not stopped: {failure}"),
        Outcome::Adjusted(Ok(())) => "adjusted".to_string(),
        Outcome::Adjusted(Err(failure)) => format!("not adjusted: {failure}"),
        Outcome::Removed => "removed".to_string(),
        Outcome::Observed(observation) => observed(observation),
    }
}

fn observed(observation: &Observation) -> String {
    let desired = observation.desired.as_ref().map(|change| {
        let kind = if change.is_full { "all" } else { "changes" };
        let pods: Vec<String> = change
            .pods
            .iter()
            .map(|(name, pod)| match pod {
                Some(pod) => format!("{} at {}", described(&pod.spec), pod.generation.0),
                None => format!("no {name}"),
            })
            .collect();
        format!("{kind} up to {}: {}", change.revision.0, list(pods))
    });
    let runs = observation.runs.iter().map(|run| {
        let ended = run.ended.as_ref().map_or("alive".to_string(), ended_at);
        let origin = run
            .origin
            .as_ref()
            .map(|origin| format!(" of {} at {}", described(&origin.spec), origin.generation.0));
        format!("{} #{}{} {ended}", run.pod, run.incarnation.0, origin.unwrap_or_default())
    });
    format!("observed {}; runs {}", desired.unwrap_or_default(), list(runs.collect()))
}
