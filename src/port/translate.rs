//! Between the core's values and terms (`docs/protocol.md`).

use std::sync::Arc;

use erlang_term_format::{Term, tuple};

use crate::core::action::{Desired, Notice, Response};
use crate::core::event::{Incarnation, Request};
use crate::core::failure::{Code, Failure, Place};
use crate::core::forecast::Forecast;
use crate::core::journal::{Entry, Kind};
use crate::core::spec::{Name, PodSpec, SpecError};
use crate::core::status::{ContainerStatus, Exit, Goal, PodStatus};
use crate::core::time::{Millis, Moment};
use crate::daemon::clock;
use crate::excerpt::excerpt;

use super::outbox::Outbox;

/// The most notices that a client can have credit for.
pub const CREDITS_MAX: u64 = 1 << 53;

/// The longest that a client can wait for anything, but for without end.
const TIMEOUT_MS_MAX: u64 = 1 << 53;

/// Characters that are kept of a message of the client's own.
const MESSAGE_CHARACTERS_MAX: usize = 4_096;

/// Bytes of a broken rule's term, beyond which an error is told without it: it
/// repeats what the client has sent.
const REASON_BYTES_MAX: usize = 32 << 10;

/// An error, as a client is told it.
#[derive(Debug)]
pub enum Refusal {
    /// A failure.
    Failure(Failure),
    /// A spec that breaks a rule; told with the rule.
    Spec(SpecError),
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

/// What a client asked of the session or of the loop.
#[derive(Debug)]
pub enum Call {
    /// For the core.
    Core(Request),
    /// For the store: what happened to this pod.
    Journal(Name),
    /// For the session: the arguments are the answer.
    Ping,
    /// For the session: notices, with this many credits.
    Subscribe {
        /// How many notices may be sent.
        credits: u64,
    },
}

impl Call {
    /// Whether its answer may be much longer than the question, or is as long.
    #[must_use]
    pub fn is_answered_at_length(&self, frame_bytes: usize) -> bool {
        match self {
            Self::Core(
                Request::List | Request::Status(None) | Request::Get(_) | Request::Plan(_),
            )
            | Self::Journal(_) => true,
            Self::Ping => Outbox::is_large(frame_bytes),
            Self::Core(_) | Self::Subscribe { .. } => false,
        }
    }
}

/// What a client said without wanting an answer.
#[derive(Debug)]
pub enum Cast {
    /// Something may have changed.
    Nudge,
    /// More notices may be sent.
    Credit(u64),
    /// A run of an injected runtime is over.
    Exited(Name, Incarnation, Exit),
}

/// Reads a request.
///
/// # Errors
/// `unknown_op`, `bad_args`, `invalid_spec`.
pub fn call(op: &str, args: &Term<'_>) -> Result<Call, Refusal> {
    Ok(Call::Core(match op {
        "apply" => Request::Apply(pod(args)?),
        "create" => Request::Create(pod(args)?),
        "seed" => Request::Seed(pod(args)?),
        "delete" => Request::Delete(name(op, args)?),
        "get" => Request::Get(name(op, args)?),
        "list" => nothing(op, args, Request::List)?,
        "status" if args.is_nil() => Request::Status(None),
        "status" => Request::Status(Some(name(op, args)?)),
        "sync" => nothing(op, args, Request::Sync)?,
        "restart" => Request::Restart(name(op, args)?),
        "plan" => Request::Plan(pods(op, args)?),
        "await" => awaited(args).ok_or_else(|| bad_args(op, AWAIT_SHAPE))?,
        "kill" => run(args)
            .map(|(pod, incarnation)| Request::Kill(pod, incarnation))
            .ok_or_else(|| bad_args(op, "{Name, Incarnation}"))?,
        "shutdown" => match args.get("pods").and_then(Term::as_atom) {
            Some("stop") => Request::Shutdown { stop_pods: true },
            Some("keep") => Request::Shutdown { stop_pods: false },
            _ => return Err(bad_args(op, "#{pods => stop | keep}").into()),
        },
        "events" => return Ok(Call::Journal(name(op, args)?)),
        "ping" => return Ok(Call::Ping),
        "subscribe" => {
            let credits = args.get("credits").and_then(credits);
            let credits = credits.ok_or_else(|| bad_args(op, "#{credits => 0 to 2^53}"))?;
            return Ok(Call::Subscribe { credits });
        }
        "nudge" | "credit" | "exited" => {
            let what = format!("{op} is a cast: its id must be 0");
            return Err(Failure::new(Code::BadArgs, what).at(Place::Field, "id").into());
        }
        _ => return Err(unknown_op(op).into()),
    }))
}

/// Reads a cast.
///
/// # Errors
/// `unknown_op`, `bad_args`.
pub fn cast(op: &str, args: &Term<'_>) -> Result<Cast, Failure> {
    match op {
        "nudge" => nothing(op, args, Cast::Nudge),
        "credit" => credits(args).map(Cast::Credit).ok_or_else(|| bad_args(op, "0 to 2^53")),
        "exited" => exited(args).ok_or_else(|| bad_args(op, "{Name, Incarnation, Exit}")),
        _ => Err(unknown_op(op)),
    }
}

fn unknown_op(op: &str) -> Failure {
    // An atom of 255 characters is the longest there is: safe to repeat.
    Failure::new(Code::UnknownOp, format!("there is no operation {op}"))
        .at(Place::Field, "op")
        .hint("docs/protocol.md lists the operations")
}

fn bad_args(op: &str, shape: &str) -> Failure {
    Failure::new(Code::BadArgs, format!("{op}: the arguments must be {shape}"))
        .at(Place::Field, "args")
}

fn nothing<T>(op: &str, args: &Term<'_>, value: T) -> Result<T, Failure> {
    if args.is_nil() { Ok(value) } else { Err(bad_args(op, "nil")) }
}

fn pod(args: &Term<'_>) -> Result<Arc<PodSpec>, Refusal> {
    PodSpec::from_term(args).map(Arc::new).map_err(Refusal::Spec)
}

fn pods(op: &str, args: &Term<'_>) -> Result<Vec<Arc<PodSpec>>, Refusal> {
    let terms = args.as_list().ok_or_else(|| bad_args(op, "a list of pods"))?;
    let specs = PodSpec::all_from_terms(terms).map_err(Refusal::Spec)?;
    Ok(specs.into_iter().map(Arc::new).collect())
}

/// What an `await` takes.
const AWAIT_SHAPE: &str = "#{pod => Name, state => starting | running | stopping | backing_off | \
                           terminal | gone, timeout_ms => nil | 0 to 2^53}";

fn awaited(args: &Term<'_>) -> Option<Request> {
    let pod = Name::new(args.get("pod")?.as_str()?)?;
    let goal = Goal::from_name(args.get("state")?.as_atom()?)?;
    let timeout_ms = args.get("timeout_ms").filter(|timeout| !timeout.is_nil());
    let timeout_ms = match timeout_ms {
        Some(timeout) => Some(timeout.as_u64().filter(|timeout| *timeout <= TIMEOUT_MS_MAX)?),
        None => None,
    };
    Some(Request::Await { pod, goal, timeout_ms })
}

fn name(op: &str, args: &Term<'_>) -> Result<Name, Failure> {
    args.as_str().and_then(Name::new).ok_or_else(|| {
        let shape = "a pod name: 1 to 63 bytes of a-z A-Z 0-9 . _ -, first and last alphanumeric";
        bad_args(op, shape)
    })
}

fn run(term: &Term<'_>) -> Option<(Name, Incarnation)> {
    let [pod, incarnation] = term.as_tuple()? else { return None };
    Some((Name::new(pod.as_str()?)?, Incarnation(incarnation.as_u64()?)))
}

fn credits(term: &Term<'_>) -> Option<u64> {
    term.as_u64().filter(|credits| *credits <= CREDITS_MAX)
}

fn exited(term: &Term<'_>) -> Option<Cast> {
    let [pod, incarnation, exit] = term.as_tuple()? else { return None };
    let (pod, incarnation) = (Name::new(pod.as_str()?)?, Incarnation(incarnation.as_u64()?));
    Some(Cast::Exited(pod, incarnation, exit_from(exit)?))
}

fn exit_from(term: &Term<'_>) -> Option<Exit> {
    let [tag, value] = term.as_tuple()? else { return None };
    let number = || i32::try_from(value.as_i64()?).ok();
    match tag.as_atom()? {
        "exited" => number().map(Exit::Exited),
        "signaled" => number().map(Exit::Signaled),
        "error" => Some(Exit::Failed(failure_from(value))),
        _ => None,
    }
}

/// Reads what a client says went wrong on its side. Whatever it sent, the code
/// is ours to give.
#[must_use]
pub fn failure_from(term: &Term<'_>) -> Failure {
    let message = term.get("message").and_then(Term::as_str);
    let message = message.map_or_else(
        || excerpt(term, MESSAGE_CHARACTERS_MAX),
        |message| excerpt(&message, MESSAGE_CHARACTERS_MAX),
    );
    Failure::new(Code::RuntimeFailed, message)
}

/// The value of a good answer.
#[must_use]
pub fn response(response: &Response) -> Term<'_> {
    match response {
        Response::Done => Term::nil(),
        Response::Applied { generation, changed } => Term::map([
            (Term::atom("generation"), integer(generation.0)),
            (Term::atom("changed"), Term::from(*changed)),
        ]),
        Response::Pod(pod) => desired(pod),
        Response::Pods(pods) => Term::List(pods.iter().map(desired).collect()),
        Response::Statuses(statuses) => {
            let clock = WallClock::read();
            let entry = |(name, status)| (text(name), pod_status(status, &clock));
            Term::Map(statuses.iter().map(entry).collect())
        }
        Response::Planned(forecasts) => Term::List(forecasts.iter().map(forecast).collect()),
    }
}

fn forecast(forecast: &Forecast) -> Term<'_> {
    let changes = forecast.changes.iter().map(|path| Term::binary(path.as_str()));
    let generation = forecast.generation.map(|generation| integer(generation.0));
    Term::map([
        (Term::atom("name"), text(&forecast.pod)),
        (Term::atom("action"), Term::atom(forecast.course.name())),
        (Term::atom("changes"), Term::List(changes.collect())),
        (Term::atom("generation"), generation.unwrap_or(Term::nil())),
    ])
}

fn desired(desired: &Desired) -> Term<'_> {
    Term::map([
        (Term::atom("generation"), integer(desired.generation.0)),
        (Term::atom("spec"), desired.spec.to_term()),
    ])
}

/// A pod's journal.
#[must_use]
pub fn journal(entries: &[Entry]) -> Term<'_> {
    Term::List(entries.iter().map(entry).collect())
}

fn entry(entry: &Entry) -> Term<'_> {
    let mut fields = vec![
        (Term::atom("at_ms"), Term::Integer(entry.at_unix_ms)),
        (Term::atom("event"), Term::atom(entry.kind.name())),
        (Term::atom("incarnation"), integer(entry.incarnation.0)),
        (Term::atom("generation"), integer(entry.generation.0)),
        (Term::atom("retries"), Term::Integer(i64::from(entry.retries))),
    ];
    let mut add = |key, value| fields.push((Term::atom(key), value));
    match &entry.kind {
        Kind::Applied => {}
        Kind::Started { host_pid } | Kind::Adopted { host_pid } => {
            add("host_pid", optional(*host_pid));
        }
        Kind::Ended { exit } => {
            add("exit", self::exit(exit));
            add("container", exit.container().map_or(Term::nil(), text));
        }
        Kind::Failed { failure } => {
            add("exit", tuple![Term::atom("error"), self::failure(failure)])
        }
        Kind::BackingOff { delay_ms, reason } => {
            add("retry_in_ms", integer(*delay_ms));
            add("reason", Term::binary(reason.as_str()));
        }
        Kind::Terminal { reason } | Kind::Stopping { reason } => {
            add("reason", Term::binary(reason.as_str()));
        }
    }
    Term::Map(fields)
}

/// A notice.
#[must_use]
pub fn notice(notice: &Notice) -> Term<'_> {
    match notice {
        Notice::RunStarted { pod, incarnation, host_pid, .. } => {
            tuple![Term::atom("started"), text(pod), integer(incarnation.0), optional(*host_pid)]
        }
        Notice::RunEnded { pod, incarnation, exit, .. } => {
            tuple![Term::atom("ended"), text(pod), integer(incarnation.0), self::exit(exit)]
        }
        Notice::StartFailed { pod, incarnation, failure, .. } => {
            tuple![Term::atom("failed"), text(pod), integer(incarnation.0), self::failure(failure)]
        }
        Notice::StatusChanged { pod, status } => {
            tuple![Term::atom("status"), text(pod), pod_status(status, &WallClock::read())]
        }
        Notice::PodGone { pod } => tuple![Term::atom("gone"), text(pod)],
    }
}

fn pod_status<'a>(status: &'a PodStatus, clock: &WallClock) -> Term<'a> {
    let atom = Term::atom;
    let wall = |at: Option<_>| at.map_or(Term::nil(), |at| Term::Integer(clock.unix_ms(at)));
    let last_exit_at = match status.last_exit_at {
        Some(Moment::Wall(at)) => Term::Integer(at),
        Some(Moment::Boot(at)) => wall(Some(at)),
        None => Term::nil(),
    };
    Term::map([
        (atom("status"), atom(status.status.name())),
        (atom("retries"), Term::Integer(i64::from(status.retries))),
        (atom("phase"), atom(status.phase.name())),
        (atom("reason"), status.reason.as_deref().map_or(Term::nil(), Term::binary)),
        (atom("last_exit"), status.last_exit.as_ref().map_or(Term::nil(), exit)),
        (atom("last_exit_container"), last_exit_container(status)),
        (atom("last_exit_at_ms"), last_exit_at),
        (atom("started_at_ms"), wall(status.started_at)),
        (atom("retry_in_ms"), status.retry_in_ms.map_or(Term::nil(), integer)),
        (atom("generation"), integer(status.generation)),
        (atom("incarnation"), integer(status.incarnation)),
        (atom("host_pid"), optional(status.host_pid)),
        (atom("containers"), Term::Map(status.containers.iter().map(container).collect())),
    ])
}

/// Of several containers.
fn last_exit_container(status: &PodStatus) -> Term<'_> {
    let container = status.last_exit.as_ref().and_then(Exit::container);
    container.map_or(Term::nil(), text)
}

fn container(status: &ContainerStatus) -> (Term<'_>, Term<'_>) {
    (text(&status.name), Term::map([(Term::atom("host_pid"), optional(status.host_pid))]))
}

/// How a run ended.
#[must_use]
pub fn exit(exit: &Exit) -> Term<'_> {
    match exit {
        Exit::Exited(code) => tuple![Term::atom("exited"), Term::Integer(i64::from(*code))],
        Exit::Signaled(signal) => tuple![Term::atom("signaled"), Term::Integer(i64::from(*signal))],
        // The signal that it was; the reason says whose.
        Exit::OutOfMemory => tuple![Term::atom("signaled"), Term::Integer(9)],
        Exit::Failed(failure) => tuple![Term::atom("error"), self::failure(failure)],
        Exit::InContainer(_, exit) => self::exit(exit),
    }
}

/// An error map.
#[must_use]
pub fn failure(failure: &Failure) -> Term<'_> {
    let place =
        |(place, value): &(Place, String)| (Term::atom(place.name()), Term::binary(value.clone()));
    Term::map([
        (Term::atom("code"), Term::atom(failure.code.name())),
        (Term::atom("message"), Term::binary(failure.message.as_str())),
        (Term::atom("where"), Term::Map(failure.at.iter().map(place).collect())),
        (Term::atom("hint"), failure.hint.as_deref().map_or(Term::nil(), Term::binary)),
    ])
}

/// A refusal as an error map.
#[must_use]
pub fn refusal(refusal: Refusal) -> Term<'static> {
    match refusal {
        Refusal::Failure(failure) => self::failure(&failure).into_owned(),
        Refusal::Spec(error) => {
            let reason = error.reason.clone();
            let failure = Failure::from(error);
            let mut map = self::failure(&failure).into_owned();
            let is_short = erlang_term_format::encode(&reason).len() <= REASON_BYTES_MAX;
            if is_short && let Term::Map(entries) = &mut map {
                entries.push((Term::atom("reason"), reason));
            }
            map
        }
    }
}

/// A name or a text as a binary.
fn text(name: &Name) -> Term<'_> {
    Term::binary(name.as_str())
}

fn integer(value: u64) -> Term<'static> {
    Term::from(value)
}

fn optional(value: Option<i32>) -> Term<'static> {
    value.map_or(Term::nil(), |value| Term::Integer(i64::from(value)))
}

/// The wall clock against the boot clock, read once for a whole answer.
struct WallClock {
    offset_ms: i64,
}

impl WallClock {
    fn read() -> Self {
        Self { offset_ms: clock::unix_ms(Millis(0)) }
    }

    fn unix_ms(&self, at: Millis) -> i64 {
        self.offset_ms.saturating_add(i64::try_from(at.0).unwrap_or(i64::MAX))
    }
}
