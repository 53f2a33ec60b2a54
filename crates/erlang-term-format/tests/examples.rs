//! What `examples/` shows, run.

use erlang_term_format::text::Syntax::{self, Elixir, Erlang};
use erlang_term_format::{Term, decode, encode};

#[path = "../examples/convert.rs"]
#[expect(dead_code, reason = "its command line")]
mod convert;
#[path = "../examples/port.rs"]
#[expect(dead_code, reason = "its command line")]
mod port;

use convert::Form;

fn frame(content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).expect("a short frame");
    [&length.to_be_bytes(), content].concat()
}

/// What the port program answers, as Elixir shows it.
fn answer(request: &str) -> String {
    let request = Elixir.parse(request).expect(request);
    let mut output = Vec::new();
    port::serve(&frame(&encode(&request))[..], &mut output).expect("serves");
    let (length, content) = output.split_first_chunk().expect("a frame");
    assert_eq!(u32::from_be_bytes(*length) as usize, content.len());
    Elixir.print(&decode(content).expect("a term")).to_string()
}

#[test]
fn the_port_program_answers_each_request() {
    assert_eq!(answer("{1, {:sum, [20, 22]}}"), "{1, {:ok, 42}}");
    assert_eq!(answer("{2, {:echo, %{a: nil}}}"), "{2, {:ok, %{a: nil}}}");
    assert!(answer("{3, :version}").starts_with("{3, {:ok, \""));
    assert!(answer("{4, {:sum, [9223372036854775807, 1]}}").contains("beyond 64 bits"));
}

#[test]
fn the_port_program_says_what_is_wrong_with_a_request_and_where() {
    let reply = answer("{5, {:sum, [1, :two]}}");
    assert!(reply.starts_with("{nil, {:error, \"[1].sum[1]: "), "{reply}");
    assert!(answer("{6, :no_such}").contains("no_such"));
}

#[test]
fn the_port_program_ends_with_its_input() {
    port::serve(&[][..], Vec::new()).expect("nothing to do");
    let oversized = u32::MAX.to_be_bytes();
    let error = port::serve(&oversized[..], Vec::new()).expect_err("4 GiB are too many");
    assert_eq!(error.to_string(), "read a frame: 4294967295 bytes are too many");
}

fn converted(from: Form, to: Form, input: &[u8]) -> Result<Vec<u8>, String> {
    let mut output = Vec::new();
    convert::convert(from, to, input, &mut output).map_err(|error| error.to_string())?;
    Ok(output)
}

#[test]
fn terms_are_converted_from_each_form_into_each_other() {
    let text = |syntax: Syntax| Form::Text(syntax);
    let erlang = "{a,<<\"b\">>}.\n[].\n";
    let elixir = "{:a, \"b\"}\n[]\n";
    let into = |from, to, input: &str| converted(text(from), text(to), input.as_bytes());
    assert_eq!(into(Erlang, Elixir, erlang), Ok(elixir.as_bytes().to_vec()));
    assert_eq!(into(Elixir, Erlang, elixir), Ok(erlang.as_bytes().to_vec()));
    let etf = converted(text(Elixir), Form::Etf, b"%{a: 1}").expect("a term");
    assert_eq!(decode(&etf), Ok(erlang_term_format::map! { "a" => 1 }));
    assert_eq!(converted(Form::Etf, text(Elixir), &etf), Ok(b"%{a: 1}\n".to_vec()));
    assert_eq!(converted(Form::Etf, Form::Etf, &encode(&Term::nil())), Ok(encode(&Term::nil())));
}

#[test]
fn a_text_that_is_wrong_is_shown_with_a_mark() {
    let error = converted(Form::Text(Elixir), Form::Etf, b":ok\n[a]").expect_err("a variable");
    assert!(error.ends_with("variable `a`, expected a term\n[a]\n ^"), "{error}");
}
