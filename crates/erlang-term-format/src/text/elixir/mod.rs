//! Elixir's syntax: its tokens, and how it prints a term. The grammar is `parser`'s.

mod lexer;
mod print;

pub(super) use lexer::{COMMENT, name, token};
pub(super) use print::print;

/// What the atoms start with that Elixir writes as aliases: `Tank.Pod` is `:"Elixir.Tank.Pod"`.
const ALIAS_PREFIX: &str = "Elixir.";

/// Whether this may be a part of an alias: `Tank`.
fn is_alias(part: &str) -> bool {
    part.starts_with(|first: char| first.is_ascii_uppercase())
        && part.bytes().all(|each| each.is_ascii_alphanumeric() || each == b'_')
}
