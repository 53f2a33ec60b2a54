//! What a term may hold that is about to be trusted further.

use serde::de::Error as _;

use crate::error::Error;
use crate::term::{OpaqueKind, Term};

/// What may occur in a term, as `binary_to_term/2`'s option `safe` has it, and stricter.
///
/// Decoding makes no atoms that stay and calls nothing, so it needs no such option to be safe
/// itself. These rules are for what is passed on: to a node, where each new atom takes a place
/// in a table for good, or to code that would call a fun. A type of your own has rules by its
/// nature: fields and variants are all the atoms that it takes.
///
/// ```
/// use erlang_term_format::{text, OpaqueKind, Rules};
///
/// let rules = Rules { atoms: Some(&["ok", "name"]), opaque: &[OpaqueKind::Pid] };
/// rules.check(&text::parse("{ok, #{name => <<\"web\">>}}")?)?;
/// let error = rules.check(&text::parse("{ok, #{name => [web]}}")?).expect_err("not listed");
/// assert_eq!(error.to_string(), "[1].name[0]: the atom web is not allowed");
/// let error = rules.check(&text::parse("[fun os:cmd/1]")?).expect_err("no pid");
/// assert_eq!(error.to_string(), "[0]: an export is not allowed");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Rules<'r> {
    /// The atoms that may occur; any, if there is no list. What atoms are inside of a pid, port,
    /// reference, fun or export is not looked at.
    pub atoms: Option<&'r [&'r str]>,
    /// Which of the values may occur that only a node can give meaning to.
    pub opaque: &'r [OpaqueKind],
}

impl Rules<'_> {
    /// Plain data: any atoms, and no value that only a node can give meaning to.
    pub const DATA: Self = Self { atoms: None, opaque: &[] };

    /// Checks a whole term.
    ///
    /// # Errors
    ///
    /// What is not allowed, and where it is.
    pub fn check(&self, term: &Term<'_>) -> Result<(), Error> {
        match term {
            Term::Atom(text) if !self.allows_atom(text) => {
                Err(Error::custom(format_args!("the atom {term} is not allowed")))
            }
            Term::Opaque(opaque) if !self.opaque.contains(&opaque.kind()) => {
                Err(Error::custom(format_args!("{} is not allowed", opaque.kind())))
            }
            Term::List(elements) | Term::Tuple(elements) => self.check_each(elements),
            Term::ImproperList(elements, tail) => {
                self.check_each(elements)?;
                self.check(tail).map_err(|error| error.below_index(elements.len()))
            }
            Term::Map(entries) => entries.iter().try_for_each(|(key, value)| {
                self.check(key)?;
                self.check(value).map_err(|error| error.below(key.step()))
            }),
            _ => Ok(()),
        }
    }

    fn check_each(&self, elements: &[Term<'_>]) -> Result<(), Error> {
        elements.iter().enumerate().try_for_each(|(index, element)| {
            self.check(element).map_err(|error| error.below_index(index))
        })
    }

    fn allows_atom(&self, text: &str) -> bool {
        self.atoms.is_none_or(|atoms| atoms.contains(&text))
    }
}
