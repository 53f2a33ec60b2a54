//! `tank decode`: streams that are whole, and every way to break one.

use std::io::{BufRead, BufReader, Write};
use std::process::Command;

use crate::program::{Ended, run, spawn};

/// `#{a => 1}` and `2`, each in its frame.
const MAP: &[u8] = b"\0\0\0\x0b\x83t\0\0\0\x01w\x01aa\x01";
const TWO: &[u8] = b"\0\0\0\x03\x83a\x02";

fn decode(stream: &[&[u8]]) -> Ended {
    run(&["decode"], stream.concat())
}

#[test]
fn every_frame_is_a_line() {
    let ended = decode(&[MAP, TWO, MAP]);
    assert_eq!(ended.stdout, "#{a => 1}\n2\n#{a => 1}\n");
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""));
    let nothing = decode(&[]);
    assert_eq!((nothing.code, &*nothing.stdout, &*nothing.stderr), (Some(0), "", ""));
}

#[test]
fn a_term_is_shown_as_soon_as_its_frame_is_whole() {
    let mut child = spawn(&["decode"]);
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let mut lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
    for (part, line) in [([MAP, &TWO[..5]].concat(), "#{a => 1}"), (TWO[5..].to_vec(), "2")] {
        stdin.write_all(&part).expect("it reads");
        assert_eq!(lines.next().expect("a line").expect("text"), line);
    }
    drop(stdin);
    assert_eq!(child.wait().expect("our child").code(), Some(0));
}

#[test]
fn a_broken_frame_is_located_and_shown_and_the_next_one_is_decoded() {
    let ended = decode(&[TWO, b"\0\0\0\x07\x83h\x03a\x01\xc8\x05", TWO]);
    assert_eq!(ended.stdout, "2\n2\n");
    assert_eq!(ended.code, Some(1));
    let expected = "\
tank decode: frame 2: unknown tag 200 at byte 5 of the frame, byte 16 of the stream
00000000                       00  00 00 07 83 68 03 61 01  |       .....h.a.|
00000010  c8 05                                             |..              |
          ^^
";
    assert_eq!(ended.stderr, expected);
}

#[test]
fn a_frame_without_a_term_is_broken_at_its_end() {
    let ended = decode(&[b"\0\0\0\0", TWO]);
    assert_eq!((ended.code, &*ended.stdout), (Some(1), "2\n"));
    let expected = "frame 1: unexpected end of input at byte 0 of the frame, byte 4 of the stream";
    assert!(ended.stderr.contains(expected), "{}", ended.stderr);
}

#[test]
fn a_stream_that_stops_inside_a_frame_says_how_far_it_came() {
    let ended = decode(&[TWO, &MAP[..9]]);
    assert_eq!((ended.code, &*ended.stdout), (Some(1), "2\n"));
    let expected = "frame 2: the stream ends at byte 16, 5 bytes into a frame of 11 bytes";
    assert!(ended.stderr.contains(expected), "{}", ended.stderr);
    let ended = decode(&[b"\0\0"]);
    let expected = "frame 1: the stream ends at byte 2, 2 bytes into a frame's length";
    assert!(ended.stderr.contains(expected), "{}", ended.stderr);
}

#[test]
fn a_frame_longer_than_the_limit_is_skipped() {
    let long = 16_777_217_u32;
    let ended = decode(&[&long.to_be_bytes(), &vec![0xff; 16_777_217], TWO]);
    assert_eq!((ended.code, &*ended.stdout), (Some(1), "2\n"));
    let expected = "frame 1: a length of 16777217 bytes, the limit is 16777216: skipping them";
    assert!(ended.stderr.contains(expected), "{}", ended.stderr);
    let ended = decode(&[b"\x7f\0\0\0rest"]);
    let expected = "frame 1: the stream ends at byte 8, 2130706428 bytes before the frame does";
    assert!(ended.stderr.contains(expected), "{}", ended.stderr);
}

#[test]
fn what_somebody_printed_to_the_pipe_is_taken_for_text_and_passed_over() {
    for text in ["Hello, world\n", "ok\n", "\x1b[31mwarning\x1b[0m\n", "caf\u{e9}\n"] {
        let ended = decode(&[TWO, text.as_bytes(), MAP]);
        assert_eq!((ended.code, &*ended.stdout), (Some(1), "2\n#{a => 1}\n"), "{text:?}");
        let expected = format!(
            "byte 7, after frame 1: this looks like text, not frames: {text:?}\n\
             00000000"
        );
        assert!(ended.stderr.contains(&expected), "{}", ended.stderr);
        assert!(ended.stderr.contains("hint: something prints to the pipe"), "{}", ended.stderr);
    }
    let all = run(&["decode"], "nothing but text, and much of it".repeat(10_000));
    assert_eq!((all.code, &*all.stdout), (Some(1), ""));
    assert_eq!(all.stderr.matches("looks like text").count(), 1);
    let short = decode(&[b"ok\n"]);
    assert!(short.stderr.contains("byte 0, after frame 0: this looks like text"));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let mut child = spawn(&["decode"]);
    drop(child.stdout.take());
    let mut stdin = child.stdin.take().expect("stdin is piped");
    // It may end while this is written.
    let _ = stdin.write_all(&TWO.repeat(100_000));
    drop(stdin);
    let output = child.wait_with_output().expect("our child");
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty());
}

#[test]
fn a_person_at_a_terminal_is_told_where_frames_come_from() {
    let output = Command::new("script")
        .args(["-qec", concat!(env!("CARGO_BIN_EXE_tank"), " decode"), "/dev/null"])
        .env("SHELL", "/bin/sh")
        .output()
        .expect("script is part of every Debian");
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.contains("stdin is a terminal: tank decode reads frames"), "{text}");
}
