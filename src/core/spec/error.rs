//! The rule that a spec breaks: as a term for programs, as a line for people.

use std::borrow::Cow;
use std::fmt;

use erlang_term_format::Term;

use super::Name;
use super::order::order;
use crate::core::failure::{Code, Failure, Place};
use crate::excerpt::excerpt;

/// Characters of a value that a message shows.
const SHOWN_MAX: usize = 80;

/// Items of a list that a message shows.
const LISTED_MAX: usize = 10;

/// The first rule that a spec breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecError {
    /// The rule as the Elixir client says it, with the values as they came:
    /// `{invalid_name, <<"a/b">>}`.
    pub reason: Term<'static>,
    /// Where in the spec, as `containers[0].limits.cpu`; empty for the pod
    /// itself.
    pub path: String,
    /// The pod, where its name is good.
    pub pod: Option<Name>,
    message: String,
}

impl SpecError {
    fn new(reason: Term<'static>, message: String) -> Self {
        Self { reason, path: String::new(), pod: None, message }
    }

    /// `{tag, value}`.
    pub(super) fn of(tag: &'static str, value: &Term<'_>, rule: &str) -> Self {
        let message = format!("{} {rule}", shown(value));
        Self::new(tuple([atom(tag), value.clone().into_owned()]), message)
    }

    /// `{cannot_build, module, value}`.
    pub(super) fn cannot_build(module: &'static str, value: &Term<'_>) -> Self {
        let message = format!("{} is not a map", shown(value));
        let reason = [atom("cannot_build"), atom(module), value.clone().into_owned()];
        Self::new(tuple(reason), message)
    }

    /// `{unknown_keys, sorted}`.
    pub(super) fn unknown_keys(mut keys: Vec<Term<'static>>, allowed: &[&str]) -> Self {
        keys.sort_by(order);
        let listed = listed(keys.iter().map(shown));
        let message = format!("unknown key {listed} (known are {})", allowed.join(", "));
        Self::new(tuple([atom("unknown_keys"), Term::List(keys)]), message)
    }

    /// `{not_allowed, value, allowed}`.
    pub(super) fn not_allowed(value: &Term<'_>, allowed: &[&'static str]) -> Self {
        let message = format!("{} is not one of {}", shown(value), allowed.join(", "));
        let allowed = Term::List(allowed.iter().map(|word| atom(word)).collect());
        Self::new(tuple([atom("not_allowed"), value.clone().into_owned(), allowed]), message)
    }

    /// `{duplicate, values}`.
    pub(super) fn duplicate(values: &[&str]) -> Self {
        let message = format!(
            "{} is there more than once",
            listed(values.iter().map(|value| excerpt(value, SHOWN_MAX)))
        );
        let values = Term::List(values.iter().map(|text| owned_text(text)).collect());
        Self::new(tuple([atom("duplicate"), values]), message)
    }

    /// `no_containers`.
    pub(super) fn no_containers(rule: &str) -> Self {
        Self::new(atom("no_containers"), rule.to_owned())
    }

    /// `{unknown_volume_refs, [{container, volume}]}`.
    pub(super) fn unknown_volume_refs(missing: &[(&Name, &Name)]) -> Self {
        let line = |(container, volume): &(&Name, &Name)| {
            format!("container {container} mounts volume {volume}")
        };
        let lines = listed(missing.iter().map(line));
        let pairs = missing.iter().map(|(container, volume)| {
            tuple([owned_text(container.as_str()), owned_text(volume.as_str())])
        });
        let reason = tuple([atom("unknown_volume_refs"), Term::List(pairs.collect())]);
        Self::new(reason, format!("{lines}: the pod has no such volume"))
    }

    /// `{invalid_limit, key, value}`.
    pub(super) fn invalid_limit(key: &Term<'_>, value: &Term<'_>, rule: &str) -> Self {
        let message = format!("{} {rule}", shown(value));
        let reason = [atom("invalid_limit"), key.clone().into_owned(), value.clone().into_owned()];
        Self::new(tuple(reason), message)
    }

    /// The same error, seen from one level up.
    pub(super) fn within(mut self, step: &str) -> Self {
        let is_joined = self.path.is_empty() || self.path.starts_with('[');
        let dot = if is_joined { "" } else { "." };
        self.path = format!("{step}{dot}{}", self.path);
        self
    }

    /// The same error, naming the pod.
    pub(super) fn of_pod(mut self, pod: &Name) -> Self {
        self.pod = Some(pod.clone());
        self
    }
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for SpecError {}

impl From<SpecError> for Failure {
    fn from(error: SpecError) -> Self {
        let mut failure = Self::new(Code::InvalidSpec, error.to_string());
        if let Some(pod) = error.pod {
            failure = failure.at(Place::Pod, pod);
        }
        match error.path.is_empty() {
            true => failure,
            false => failure.at(Place::Field, error.path),
        }
    }
}

fn atom(text: &'static str) -> Term<'static> {
    Term::Atom(Cow::Borrowed(text))
}

fn owned_text(text: &str) -> Term<'static> {
    Term::binary(text.to_owned())
}

fn tuple<const N: usize>(elements: [Term<'static>; N]) -> Term<'static> {
    Term::Tuple(elements.into())
}

/// A value as Erlang writes it, cut to what fits a line.
fn shown(value: &Term<'_>) -> String {
    excerpt(value, SHOWN_MAX)
}

/// The first of many, and how many there are beside.
fn listed(items: impl ExactSizeIterator<Item = String>) -> String {
    let more = items.len().saturating_sub(LISTED_MAX);
    let first = items.take(LISTED_MAX).collect::<Vec<_>>().join(", ");
    if more == 0 { first } else { format!("{first} and {more} more") }
}
