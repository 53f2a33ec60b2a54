//! The start of a value's text, for messages and logs: what a client sent may be
//! 16 MiB long, and its text a multiple of that.

use std::fmt::{self, Display, Write};

/// The first characters of a value's text, with `...` when it has more. No more
/// of it is ever made.
pub(crate) fn excerpt(value: &impl Display, characters_max: usize) -> String {
    let mut start = Start { text: String::new(), room: characters_max };
    // The only error there is: no more room.
    if write!(start, "{value}").is_err() {
        start.text.push_str("...");
    }
    start.text
}

struct Start {
    text: String,
    room: usize,
}

impl Write for Start {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let cut = text.char_indices().nth(self.room).map(|(end, _)| end);
        let taken = &text[..cut.unwrap_or(text.len())];
        self.text.push_str(taken);
        self.room -= taken.chars().count();
        if cut.is_some() { Err(fmt::Error) } else { Ok(()) }
    }

    /// Without a count of what is one: text in quotes is written so.
    fn write_char(&mut self, character: char) -> fmt::Result {
        self.room = self.room.checked_sub(1).ok_or(fmt::Error)?;
        self.text.push(character);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_too_long_is_cut_and_no_character_is() {
        assert_eq!(excerpt(&"abc", 3), "abc");
        assert_eq!(excerpt(&"abcd", 3), "abc...");
        assert_eq!(excerpt(&"ab\u{e9}\u{e9}", 3), "ab\u{e9}...");
        assert_eq!(excerpt(&"", 0), "");
        assert_eq!(excerpt(&"a", 0), "...");
        assert_eq!(excerpt(&format_args!("{}{}", 'a', '\u{e9}'), 2), "a\u{e9}");
        assert_eq!(excerpt(&format_args!("{}{}", 'a', '\u{e9}'), 1), "a...");
    }

    #[test]
    fn the_text_of_a_value_is_made_no_further_than_it_is_shown() {
        struct Endless;
        impl Display for Endless {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                loop {
                    f.write_str("word ")?;
                }
            }
        }
        assert_eq!(excerpt(&Endless, 12), "word word wo...");
    }
}
