//! The atoms of what the program says: those of the protocol's page, and the client's own. A BEAM
//! never forgets an atom, so a client must know all that can come.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use erlang_term_format::Term;

/// Panics if `said` has an atom that neither the page lists nor the client has sent.
pub(crate) fn are_known(said: &Term<'_>, heard: &BTreeSet<&str>) {
    let unknown: Vec<&str> = of(said)
        .into_iter()
        .filter(|atom| !LISTED.contains(atom) && !heard.contains(atom))
        .collect();
    assert!(unknown.is_empty(), "{unknown:?} in {said}");
}

/// All atoms in a term.
pub(crate) fn of<'t>(term: &'t Term<'_>) -> BTreeSet<&'t str> {
    let mut atoms = BTreeSet::new();
    collect(term, &mut atoms);
    atoms
}

fn collect<'t>(term: &'t Term<'_>, atoms: &mut BTreeSet<&'t str>) {
    match term {
        Term::Atom(text) => {
            atoms.insert(text);
        }
        Term::List(elements) | Term::Tuple(elements) => {
            elements.iter().for_each(|element| collect(element, atoms));
        }
        Term::ImproperList(elements, tail) => {
            elements.iter().for_each(|element| collect(element, atoms));
            collect(tail, atoms);
        }
        Term::Map(entries) => entries.iter().for_each(|(key, value)| {
            collect(key, atoms);
            collect(value, atoms);
        }),
        _ => {}
    }
}

/// "Atoms" in docs/protocol.md: indented lines, a heading in front of some.
static LISTED: LazyLock<BTreeSet<&str>> = LazyLock::new(|| {
    const PAGE: &str = include_str!("../../docs/protocol.md");
    const HEADINGS: usize = 12;
    let (_, section) = PAGE.split_once("\n## Atoms\n").expect("the page lists them");
    let section = section.split("\n## ").next().expect("a section");
    let lines = section.lines().filter_map(|line| line.strip_prefix("    ")?.get(HEADINGS..));
    lines.flat_map(str::split_ascii_whitespace).map(|atom| atom.trim_matches('\'')).collect()
});
