//! A real BEAM makes random terms in every encoding that it knows, and judges what this crate
//! makes of them. `judge.erl` is the other side; run again with `ETF_SEED` to repeat a failure.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::SystemTime;

use erlang_term_format::text::Syntax;
use erlang_term_format::{Term, decode, encode, from_slice, from_term, to_term, to_vec};
use serde::de::IgnoredAny;

const DONE: u8 = 0;
const ECHO: u8 = 1;
const SORT: u8 = 2;
const PRINT_ERLANG: u8 = 3;
const PARSE_ERLANG: u8 = 4;
const PRINT_ELIXIR: u8 = 5;
const PARSE_ELIXIR: u8 = 6;

/// Random terms in a run; each goes through some twenty encodings.
const TERMS: u32 = 2_000;

/// A BEAM that is gone when the test is over, however it ends.
struct Beam(Child);

impl Beam {
    fn start(seed: u32) -> Self {
        let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/judge.erl");
        // Compiled in memory: nothing is left behind.
        let program = format!(
            "case :compile.file(~c\"{}\", [:binary, :return_errors]) do \
               {{:ok, :judge, code}} -> \
                 {{:module, :judge}} = :code.load_binary(:judge, ~c\"judge\", code); \
                 :judge.main({seed}, {TERMS}); \
               failure -> \
                 IO.inspect(:stderr, failure, []); \
                 System.halt(1) \
             end",
            module.display()
        );
        let child = Command::new("elixir")
            .args(["--erl", "-noinput +pc unicode", "-e", &program])
            .env("ERL_CRASH_DUMP_BYTES", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        Self(child.expect("start `elixir`: this test needs it and Erlang/OTP (Debian: elixir)"))
    }

    fn receive(&mut self) -> (u8, Vec<u8>) {
        let from = self.0.stdout.as_mut().expect("a pipe");
        let mut length = [0; 4];
        from.read_exact(&mut length).expect("the BEAM has ended without a verdict");
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        from.read_exact(&mut frame).expect("a whole frame");
        let content = frame.split_off(1);
        (frame[0], content)
    }

    fn send(&mut self, content: &[u8]) {
        let length = u32::try_from(content.len()).expect("a short frame");
        let frame = [&length.to_be_bytes(), content].concat();
        self.0.stdin.as_mut().expect("a pipe").write_all(&frame).expect("send to the BEAM");
    }
}

impl Drop for Beam {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // It ends by itself at the end of its input, unless something is badly wrong.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn seed() -> u32 {
    if let Ok(seed) = std::env::var("ETF_SEED") {
        return seed.parse().expect("ETF_SEED is a number");
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    now.subsec_nanos()
}

fn echo(bytes: &[u8]) -> Vec<u8> {
    let term = decode(bytes).unwrap_or_else(|error| panic!("{error}: {bytes:?}"));
    from_slice::<IgnoredAny>(bytes).expect("skipped like it is read");
    encode(&term)
}

/// Through every other way in and out that the crate has; all must agree.
fn agree(bytes: &[u8], term: &Term<'_>) {
    let encoded = encode(term);
    let passed: Term = from_slice(bytes).expect("passed through serde");
    assert_eq!(passed, *term);
    assert_eq!(to_vec(&passed).expect("encodes"), encoded);
    assert_eq!(from_term::<Term>(term).expect("a term"), *term);
    assert_eq!(to_term(term).expect("a term"), *term);
    assert_eq!(decode(&encoded).expect("reads its own"), *term);
}

/// From whatever order, to bytes that are the same for the same term.
fn sort(bytes: &[u8]) -> Vec<u8> {
    let mut term = decode(bytes).expect("a term");
    reverse_maps(&mut term);
    term.sort_maps();
    encode(&term)
}

fn reverse_maps(term: &mut Term<'_>) {
    match term {
        Term::List(elements) | Term::Tuple(elements) => {
            elements.iter_mut().for_each(reverse_maps);
        }
        Term::Map(entries) => {
            entries.reverse();
            for (key, value) in entries {
                reverse_maps(key);
                reverse_maps(value);
            }
        }
        _ => {}
    }
}

fn print(syntax: Syntax, bytes: &[u8]) -> Vec<u8> {
    let term = decode(bytes).expect("a term");
    agree(bytes, &term);
    let printed = syntax.print(&term).to_string();
    let parsed = syntax.parse(&printed).unwrap_or_else(|error| panic!("{error}: {printed}"));
    assert_eq!(parsed, term, "{printed}");
    printed.into_bytes()
}

fn parse(syntax: Syntax, source: &[u8]) -> Vec<u8> {
    let source = std::str::from_utf8(source).expect("UTF-8");
    let term = syntax.parse(source).unwrap_or_else(|error| panic!("{error}: {source}"));
    encode(&term)
}

#[test]
fn the_beam_gets_back_every_term_that_it_sends() {
    let seed = seed();
    println!("ETF_SEED={seed}");
    let mut beam = Beam::start(seed);
    let verdict = loop {
        let (what, content) = beam.receive();
        match what {
            ECHO => beam.send(&echo(&content)),
            SORT => beam.send(&sort(&content)),
            PRINT_ERLANG => beam.send(&print(Syntax::Erlang, &content)),
            PARSE_ERLANG => beam.send(&parse(Syntax::Erlang, &content)),
            PRINT_ELIXIR => beam.send(&print(Syntax::Elixir, &content)),
            PARSE_ELIXIR => beam.send(&parse(Syntax::Elixir, &content)),
            DONE => break String::from_utf8(content).expect("UTF-8"),
            other => panic!("unknown request {other}"),
        }
    };
    let answers = verdict.strip_prefix("ok ").and_then(|count| count.parse::<u32>().ok());
    let answers = answers.unwrap_or_else(|| panic!("ETF_SEED={seed}: {verdict}"));
    println!("{answers} answers, all right");
    assert!(answers >= TERMS * 25, "only {answers} answers");
}
