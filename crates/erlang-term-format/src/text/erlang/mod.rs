//! Erlang's syntax: its tokens, and how it prints a term. The grammar is `parser`'s.

mod lexer;
mod print;

pub(super) use lexer::{COMMENT, token};

/// Whether an atom must be quoted because Erlang uses the word itself.
fn is_reserved(word: &str) -> bool {
    const RESERVED: [&str; 29] = [
        "after", "and", "andalso", "band", "begin", "bnot", "bor", "bsl", "bsr", "bxor", "case",
        "catch", "cond", "div", "else", "end", "fun", "if", "let", "maybe", "not", "of", "or",
        "orelse", "receive", "rem", "try", "when", "xor",
    ];
    RESERVED.binary_search(&word).is_ok()
}
