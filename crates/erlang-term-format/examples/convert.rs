//! Terms from one form into another: `erlang` and `elixir` source text, or `etf`, the bytes of
//! `term_to_binary/1`. From stdin to stdout; of text, one term after another.
//!
//! ```sh
//! echo '%{name: "web", ports: [80, 443]}' | cargo run --example convert -- elixir erlang
//! #{name => <<"web">>,ports => [80,443]}.
//! ```

use std::error::Error;
use std::io::{self, Read, Write};
use std::process::ExitCode;

use erlang_term_format::text::Syntax;
use erlang_term_format::{Term, decode, try_encode_into};

/// What a term is written in.
#[derive(Clone, Copy)]
pub(crate) enum Form {
    Text(Syntax),
    Etf,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [from, to] = &arguments[..] else {
        eprintln!("usage: convert FROM TO, each of erlang, elixir, etf");
        return ExitCode::from(2);
    };
    match run(from, to) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("convert: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(from: &str, to: &str) -> Result<(), Box<dyn Error>> {
    let (from, to) = (form(from)?, form(to)?);
    let mut input = Vec::new();
    io::stdin().read_to_end(&mut input)?;
    convert(from, to, &input, io::stdout().lock())
}

fn form(name: &str) -> Result<Form, String> {
    match name {
        "erlang" => Ok(Form::Text(Syntax::Erlang)),
        "elixir" => Ok(Form::Text(Syntax::Elixir)),
        "etf" => Ok(Form::Etf),
        other => Err(format!("no form `{other}`")),
    }
}

/// Writes what `input` holds in another form.
pub(crate) fn convert(
    from: Form,
    to: Form,
    input: &[u8],
    mut output: impl Write,
) -> Result<(), Box<dyn Error>> {
    match from {
        Form::Etf => write_term(&decode(input)?, to, &mut output),
        Form::Text(syntax) => {
            let mut rest = std::str::from_utf8(input)?;
            while let Some((term, behind)) = syntax.first(rest).map_err(|error| {
                // The text is at hand: show the line.
                format!("{error}\n{}", error.excerpt(rest))
            })? {
                write_term(&term, to, &mut output)?;
                rest = behind;
            }
            Ok(())
        }
    }
}

fn write_term(term: &Term<'_>, form: Form, output: &mut impl Write) -> Result<(), Box<dyn Error>> {
    match form {
        Form::Text(Syntax::Erlang) => writeln!(output, "{term}.")?,
        Form::Text(Syntax::Elixir) => writeln!(output, "{}", Syntax::Elixir.print(term))?,
        Form::Etf => {
            let mut bytes = Vec::new();
            try_encode_into(term, &mut bytes)?;
            output.write_all(&bytes)?;
        }
    }
    Ok(())
}
