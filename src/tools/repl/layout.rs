//! Terms over several lines, for people: what does not fit a line is broken at
//! its outermost brackets.

use std::fmt::Write;

use erlang_term_format::Term;
use erlang_term_format::text::Syntax;

/// Columns that a line should not go beyond.
const WIDTH: usize = 80;

/// A step inwards.
const INDENT: usize = 2;

/// `term` as text of as many lines as it takes, without a newline at its end.
pub(super) fn lay_out(term: &Term<'_>, syntax: Syntax) -> String {
    let mut text = String::new();
    Layout { syntax, text: &mut text }.write(term, 0, 0);
    text
}

struct Layout<'a> {
    syntax: Syntax,
    text: &'a mut String,
}

impl Layout<'_> {
    /// Writes `term` at `column`, in a line whose indent is `indent`.
    fn write(&mut self, term: &Term<'_>, column: usize, indent: usize) {
        let flat = self.syntax.print(term).to_string();
        if column + flat.chars().count() < WIDTH {
            self.text.push_str(&flat);
            return;
        }
        match term {
            Term::Map(entries) => self.write_map(entries, indent),
            Term::List(elements) if flat.starts_with('[') => {
                self.write_all("[", elements, "]", indent);
            }
            Term::Tuple(elements) => self.write_all("{", elements, "}", indent),
            _ => self.text.push_str(&flat),
        }
    }

    fn write_map(&mut self, entries: &[(Term<'_>, Term<'_>)], indent: usize) {
        let keys = Keys::of(entries, self.syntax);
        let open = match self.syntax {
            Syntax::Erlang => "#{",
            Syntax::Elixir => "%{",
        };
        self.enclose(open, entries, "}", indent, |layout, (key, value)| {
            let key = keys.write(key, layout.syntax);
            let column = indent + INDENT + key.chars().count();
            layout.text.push_str(&key);
            layout.write(value, column, indent + INDENT);
        });
    }

    fn write_all(&mut self, open: &str, elements: &[Term<'_>], close: &str, indent: usize) {
        self.enclose(open, elements, close, indent, |layout, element| {
            layout.write(element, indent + INDENT, indent + INDENT);
        });
    }

    fn enclose<T>(
        &mut self,
        open: &str,
        elements: &[T],
        close: &str,
        indent: usize,
        mut write: impl FnMut(&mut Self, &T),
    ) {
        self.text.push_str(open);
        for (index, element) in elements.iter().enumerate() {
            let separator = if index == 0 { "" } else { "," };
            let inner = indent + INDENT;
            write!(self.text, "{separator}\n{:inner$}", "").expect("a string takes everything");
            write(self, element);
        }
        write!(self.text, "\n{:indent$}{close}", "").expect("a string takes everything");
    }
}

/// How the keys of a map are written.
#[derive(Clone, Copy)]
enum Keys {
    /// `key: value`
    Short,
    /// `key => value`
    Arrow,
}

impl Keys {
    /// Elixir allows the short form behind the others only: here it is for maps
    /// that have nothing else.
    fn of(entries: &[(Term<'_>, Term<'_>)], syntax: Syntax) -> Self {
        let is_short = |(key, _): &(Term<'_>, Term<'_>)| {
            key.as_atom().is_some() && syntax.print(key).to_string().starts_with(':')
        };
        match syntax {
            Syntax::Elixir if entries.iter().all(is_short) => Self::Short,
            _ => Self::Arrow,
        }
    }

    fn write(self, key: &Term<'_>, syntax: Syntax) -> String {
        let text = syntax.print(key).to_string();
        match self {
            Self::Short => format!("{}: ", text.trim_start_matches(':')),
            Self::Arrow => format!("{text} => "),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Longer than a line when it stands beside anything.
    const LONG: &str = "a text that takes most of a line of eighty columns and not more than that";

    #[test]
    fn what_fits_a_line_is_one() {
        let term = Syntax::Elixir.parse("%{name: \"web\", ports: [80, 443]}").unwrap();
        assert_eq!(lay_out(&term, Syntax::Elixir), "%{name: \"web\", ports: [80, 443]}");
    }

    #[test]
    fn what_does_not_is_broken_at_its_outermost_brackets() {
        let text = format!("%{{name: \"web\", env: %{{\"K\" => \"{LONG}\", \"L\" => {{1, []}}}}}}");
        let term = Syntax::Elixir.parse(&text).unwrap();
        let elixir = format!(
            "%{{\n  name: \"web\",\n  env: %{{\n    \"K\" => \"{LONG}\",\n    \"L\" => {{1, []}}\n  }}\n}}"
        );
        assert_eq!(lay_out(&term, Syntax::Elixir), elixir);
        let erlang = format!(
            "#{{\n  name => <<\"web\">>,\n  env => #{{\n    <<\"K\">> => <<\"{LONG}\">>,\n    \
             <<\"L\">> => {{1,[]}}\n  }}\n}}"
        );
        assert_eq!(lay_out(&term, Syntax::Erlang), erlang);
    }

    #[test]
    fn what_is_laid_out_is_read_back() {
        let text = format!("{{:ok, [%{{:a => 1, \"b\" => \"{LONG}\"}}, %{{nil: 1, \"x y\": 2}}]}}");
        let term = Syntax::Elixir.parse(&text).unwrap();
        for syntax in [Syntax::Elixir, Syntax::Erlang] {
            assert_eq!(syntax.parse(&lay_out(&term, syntax)).unwrap(), term);
        }
    }
}
