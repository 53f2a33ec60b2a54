//! The list of differences, `tests/cases/oracle.txt`: what each paragraph must look
//! like, and what is wrong between it and what was found.

use std::collections::BTreeSet;
use std::fmt;

/// The runtimes that Tank is compared with.
pub(crate) const RUNTIMES: [&str; 2] = ["crun", "runc"];

/// A value that is not there.
pub(crate) const NONE: &str = "-";

/// Something that is other under a runtime than under Tank.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Difference {
    pub(crate) runtime: &'static str,
    pub(crate) key: String,
    pub(crate) ours: String,
    pub(crate) theirs: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { runtime, key, ours, theirs } = self;
        write!(out, "{runtime} | {key} | {ours} | {theirs}")
    }
}

/// Every difference that is listed.
pub(crate) fn read() -> BTreeSet<Difference> {
    let text = include_str!("../cases/oracle.txt");
    let mut listed = BTreeSet::new();
    for paragraph in text.split("\n\n") {
        let (reason, lines): (Vec<&str>, Vec<&str>) =
            paragraph.lines().partition(|line| line.starts_with('#'));
        assert!(!reason.is_empty(), "no reason is given: {paragraph}");
        for difference in lines.into_iter().flat_map(parse) {
            assert!(listed.insert(difference.clone()), "it is listed twice: {difference}");
        }
    }
    listed
}

/// A line of the list, for each of the runtimes that it names.
fn parse(line: &str) -> impl Iterator<Item = Difference> {
    let fields: Vec<String> = line.split(" | ").map(|field| field.trim().to_owned()).collect();
    let [named, key, ours, theirs] =
        <[String; 4]>::try_from(fields).unwrap_or_else(|_| panic!("not four fields: {line}"));
    let is_known = named == "both" || RUNTIMES.contains(&&*named);
    assert!(is_known, "a runtime or both: {line}");
    RUNTIMES.into_iter().filter(move |runtime| named == "both" || named == *runtime).map(
        move |runtime| Difference {
            runtime,
            key: key.clone(),
            ours: ours.clone(),
            theirs: theirs.clone(),
        },
    )
}

/// Fails unless what was found is what is listed.
pub(crate) fn assert_listed(found: &BTreeSet<Difference>, listed: &BTreeSet<Difference>) {
    let lines = |differences: Vec<&Difference>| {
        differences.into_iter().map(|difference| format!("{difference}\n")).collect::<String>()
    };
    let unlisted = lines(found.difference(listed).collect());
    let gone = lines(listed.difference(found).collect());
    assert!(
        unlisted.is_empty() && gone.is_empty(),
        "not in tests/cases/oracle.txt:\n{unlisted}\nin it, and no longer so:\n{gone}"
    );
}
