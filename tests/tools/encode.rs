//! `tank encode`: terms to frames and back, where a text is wrong, and the two
//! tools around a port program.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use crate::program::{run, run_bytes, spawn};

/// Every kind of term, a line each, as `tank decode` prints it.
const ERLANG: &str = r#"atom
'two words'
-7
340282366920938463463374607431768211456
1.5e-7
"text"
<<"caf\x{e9}"/utf8>>
<<1,2,255>>
<<5:3>>
[]
[a|b]
{}
{error,#{code => busy,where => #{}}}
fun lists:map/2
#{1 => a,<<"k">> => [1,2,300]}
binary_to_term(<<131,88,119,4,110,111,100,101,0,0,0,1,0,0,0,2,0,0,0,3>>)
"#;

const ELIXIR: &str = r#":atom
:"two words"
-7
340282366920938463463374607431768211456
1.5e-7
~c"text"
"café"
<<1, 2, 255>>
<<5::size(3)>>
[]
[:a | :b]
{}
{:error, %{code: :busy, where: %{}}}
&:lists.map/2
%{1 => :a, "k" => [1, 2, 300]}
%{:a => 1, "b" => nil}
[a: 1, b: true]
"#;

#[test]
fn what_is_decoded_is_what_was_encoded_in_both_syntaxes() {
    let erlang = ERLANG.replace("\\x{e9}", "é");
    for (syntax, text) in [("erlang", &*erlang), ("elixir", ELIXIR)] {
        let frames = run_bytes(&["encode", "--syntax", syntax], text);
        assert_eq!((frames.code, &*frames.stderr), (Some(0), ""), "{syntax}");
        let decoded = run(&["decode", "--syntax", syntax], &frames.stdout);
        assert_eq!((decoded.code, &*decoded.stderr), (Some(0), ""), "{syntax}");
        assert_eq!(decoded.stdout, text);
    }
}

#[test]
fn terms_are_separated_as_a_person_would() {
    let text = "% a comment\na {b, % another\n  c}. \"x\"\n\n.\n#{d =>\n[1]} 2";
    let frames = run_bytes(&["encode"], text);
    let decoded = run(&["decode"], frames.stdout);
    assert_eq!(decoded.stdout, "a\n{b,c}\n\"x\"\n#{d => [1]}\n2\n");
}

#[test]
fn a_frame_is_written_as_soon_as_its_line_is_there() {
    let mut child = spawn(&["encode"]);
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let mut stdout = child.stdout.take().expect("stdout is piped");
    for (text, frame) in [
        ("1 2\n{", &b"\0\0\0\x03\x83a\x01\0\0\0\x03\x83a\x02"[..]),
        ("3}\nab", b"\0\0\0\x05\x83h\x01a\x03"),
        ("c\n", b"\0\0\0\x06\x83w\x03abc"),
    ] {
        stdin.write_all(text.as_bytes()).expect("it reads");
        let mut written = vec![0; frame.len()];
        stdout.read_exact(&mut written).expect("a frame");
        assert_eq!(written, frame, "{text:?}");
    }
    drop(stdin);
    assert_eq!(child.wait().expect("our child").code(), Some(0));
}

#[test]
fn a_long_term_is_read_in_many_parts() {
    let text = format!("[{}\n]. done", "{pod, <<\"web\">>},\n".repeat(20_000) + "last");
    let decoded = run(&["decode"], run_bytes(&["encode"], &text).stdout);
    let lines: Vec<&str> = decoded.stdout.lines().collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0].matches("<<\"web\">>").count(), 20_000);
    assert_eq!(lines[1], "done");
}

#[test]
fn a_term_that_is_wrong_is_shown_and_what_came_before_is_written() {
    for (text, complaint) in [
        ("1\n{a,,b}\n", "line 2, column 4: `,`, expected a term\n{a,,b}\n   ^\n"),
        ("1 {a,\n B}\n", "line 2, column 2: variable `B`, expected a term\n B}\n ^\n"),
        ("1 )\n", "line 1, column 3: `)`, expected a term\n1 )\n  ^\n"),
        ("1\n\n\n{a", "line 4, column 3: the end of the text, expected `,` or `}`\n{a\n  ^\n"),
        ("1\n<<\"x>>", "line 2, column 3: no closing"),
        ("1 #{a => 1, a => 2}", "line 1, column 3: a map has the same key twice"),
    ] {
        let ended = run_bytes(&["encode"], text);
        assert_eq!(ended.stdout, b"\0\0\0\x03\x83a\x01", "{text:?}");
        assert_eq!(ended.code, Some(1));
        let stderr = ended.stderr;
        assert!(stderr.starts_with(&format!("tank encode: {complaint}")), "{stderr}");
    }
}

#[test]
fn a_map_of_the_other_language_is_no_silent_comment() {
    let encoded = run_bytes(&["encode"], "{1, status, nil}\n%{name: \"web\"}\n");
    assert_eq!((encoded.code, encoded.stdout.len()), (Some(1), 22), "what came before is written");
    let expected = "tank encode: line 2, column 1: `%{` begins a comment, expected a term\n  \
                    hint: --syntax elixir reads %{name: \"web\"}\n";
    assert_eq!(encoded.stderr, expected);
    // The same when more follows, which in a pipe comes later.
    let encoded = run_bytes(&["encode"], "{1, status, nil}\n%{name: \"web\"}\n{2, status, nil}\n");
    assert_eq!((encoded.code, encoded.stdout.len()), (Some(1), 22));
    assert_eq!(encoded.stderr, expected);
}

#[test]
fn what_is_no_text_and_what_fits_no_frame_is_located() {
    let ended = run_bytes(&["encode"], b"1\n 2 \xff 3\n");
    assert_eq!(ended.stdout, b"\0\0\0\x03\x83a\x01\0\0\0\x03\x83a\x02");
    assert_eq!(ended.stderr, "tank encode: line 2, column 4: this is not UTF-8\n");
    assert_eq!(ended.code, Some(1));
    let long = format!("1\n<<\"{}\">>\n2\n", "x".repeat(16 << 20));
    let ended = run_bytes(&["encode"], long);
    assert_eq!(ended.stdout, b"\0\0\0\x03\x83a\x01");
    let expected = "line 2, column 1: a term of 16777222 bytes, a frame takes 16777216";
    assert!(ended.stderr.contains(expected), "{}", ended.stderr);
}

#[test]
fn frames_are_kept_from_a_terminal() {
    let output = Command::new("script")
        .args(["-qec", concat!(env!("CARGO_BIN_EXE_tank"), " encode"), "/dev/null"])
        .env("SHELL", "/bin/sh")
        .stdin(Stdio::null())
        .output()
        .expect("script is part of every Debian");
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stdout).expect("text and no frame");
    assert!(text.contains("stdout is a terminal: tank encode writes frames"), "{text}");
}

#[test]
fn encode_port_and_decode_make_a_debugging_session() {
    let dir = tempfile::tempdir().expect("a directory");
    let session = "
        echo '{hello, #{protocol => 1}} {1, status, nil} {2, explode, nil}' |
            \"$TANK\" encode |
            \"$TANK\" port --runtime none --store memory --data-dir D --run-dir R |
            \"$TANK\" decode";
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", session])
        .current_dir(dir.path())
        .env("TANK", env!("CARGO_BIN_EXE_tank"))
        .output()
        .expect("bash is part of every Debian");
    let stdout = String::from_utf8(output.stdout).expect("text");
    let lines: Vec<&str> = stdout.lines().collect();
    let [hello, status, error] = lines[..] else { panic!("{stdout}") };
    assert!(hello.starts_with("{hello,#{protocol => 1,"), "{hello}");
    assert_eq!(status, "{1,{ok,#{}}}");
    assert!(error.starts_with("{2,{error,#{code => unknown_op,"), "{error}");
    assert_eq!(output.status.code(), Some(0));
}
