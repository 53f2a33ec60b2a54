//! In which fields two specs differ, by the paths that errors name fields by.

use std::collections::BTreeMap;

use erlang_term_format::Term;

use super::PodSpec;

impl PodSpec {
    /// The fields in which `other` differs, as `containers[0].limits.memory`, sorted.
    /// Containers and the like are compared one by one, in their order; all other
    /// lists are one field.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut paths = Vec::new();
        compare("", &self.to_term(), &other.to_term(), &mut paths);
        paths.sort_unstable();
        paths
    }
}

fn compare(path: &str, one: &Term<'_>, other: &Term<'_>, paths: &mut Vec<String>) {
    if one == other {
        return;
    }
    match (one, other) {
        (Term::Map(ours), Term::Map(theirs)) => {
            let dot = if path.is_empty() { "" } else { "." };
            for (key, (one, other)) in side_by_side(ours, theirs) {
                compare_parts(format!("{path}{dot}{key}"), one, other, paths);
            }
        }
        (Term::List(ours), Term::List(theirs)) if is_of_maps(ours) && is_of_maps(theirs) => {
            for index in 0..ours.len().max(theirs.len()) {
                let path = format!("{path}[{index}]");
                compare_parts(path, ours.get(index), theirs.get(index), paths);
            }
        }
        _ => paths.push(path.to_owned()),
    }
}

fn compare_parts(
    path: String,
    one: Option<&Term<'_>>,
    other: Option<&Term<'_>>,
    paths: &mut Vec<String>,
) {
    match (one, other) {
        (Some(one), Some(other)) => compare(&path, one, other, paths),
        _ => paths.push(path),
    }
}

type Entries<'a> = [(Term<'a>, Term<'a>)];

/// The values of each key that either has.
fn side_by_side<'a>(
    ours: &'a Entries<'_>,
    theirs: &'a Entries<'_>,
) -> BTreeMap<&'a str, (Option<&'a Term<'a>>, Option<&'a Term<'a>>)> {
    let mut both: BTreeMap<_, (Option<&Term<'_>>, Option<&Term<'_>>)> = BTreeMap::new();
    for (key, value) in ours {
        both.entry(text(key)).or_default().0 = Some(value);
    }
    for (key, value) in theirs {
        both.entry(text(key)).or_default().1 = Some(value);
    }
    both
}

/// Keys of specs are atoms, and those of environments are text.
fn text<'a>(key: &'a Term<'_>) -> &'a str {
    key.as_atom().or_else(|| key.as_str()).expect("keys of a spec are text")
}

fn is_of_maps(items: &[Term<'_>]) -> bool {
    items.iter().all(|item| matches!(item, Term::Map(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(fields: &str) -> PodSpec {
        let term = erlang_term_format::text::parse(fields).expect("a term");
        PodSpec::from_term(&term).expect("a good pod")
    }

    #[test]
    fn fields_that_differ_are_named_by_their_paths() {
        let pod = |container: &str, rest: &str| {
            let app = "name => <<\"c\">>, image => <<\"i\">>";
            pod(&format!("#{{name => <<\"p\">>, containers => [#{{{app}{container}}}]{rest}}}"))
        };
        let plain = pod("", "");
        for (container, rest, paths) in [
            ("", "", &[][..]),
            (", limits => #{memory => 1}", "", &["containers[0].limits.memory"]),
            (", args => [<<\"a\">>]", "", &["containers[0].args"]),
            (", env => #{<<\"K\">> => <<\"v\">>}", "", &["containers[0].env.K"]),
            ("", ", restart => never", &["restart"]),
            ("", ", network => host", &["network"]),
            ("", ", volumes => [#{name => <<\"v\">>}]", &["volumes[0]"]),
            (
                ", tty => true, user => <<\"u\">>",
                ", userns => auto",
                &["containers[0].tty", "containers[0].user", "userns"],
            ),
        ] {
            let other = pod(container, rest);
            assert_eq!(plain.differences(&other), paths, "{container} {rest}");
            assert_eq!(other.differences(&plain), paths, "and the other way: {container} {rest}");
        }
        let (one, two) = (
            pod(", limits => #{memory => 1}", ""),
            pod(", limits => #{memory => 2, pids => 3}", ""),
        );
        let both = ["containers[0].limits.memory", "containers[0].limits.pids"];
        assert_eq!(one.differences(&two), both);
    }
}
