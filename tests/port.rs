//! `tank port` as a program on two pipes: handshake, bad input, locks, and how
//! it ends. Nothing here needs containers.

mod support;

use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use erlang_term_format::{Term, text};
use rustix::process::Signal;
use tank::core::failure::{Code, Place};
use tank::port::frame::{FRAME_BYTES_MAX, Frame, FrameReader, FrameWriter};
use tank::port::in_flight::{REQUEST_BYTES_MAX, REQUESTS_MAX};
use tank::port::message::CHUNK_BYTES_MIN;
use tank::port::outbox::{CHUNK_BYTES, OUTPUT_BYTES_MAX, REPLY_BYTES_MAX};

use support::{Port, code, eventually, frame, message, place, refused};

const POD: &str =
    "#{name => <<\"web\">>, containers => [#{name => <<\"c\">>, image => <<\"a\">>}]}";

/// A program that holds specs in memory and starts nothing.
const IDLE: [&str; 4] = ["--store", "memory", "--runtime", "none"];

fn idle() -> Port {
    Port::start(&IDLE)
}

#[test]
fn the_greeting_says_protocol_version_pid_and_host() {
    let port = idle();
    assert_eq!(port.hello.get("protocol").and_then(Term::as_i64), Some(1));
    assert_eq!(port.hello.get("protocol_min").and_then(Term::as_i64), Some(1));
    assert_eq!(port.hello.get("pid").and_then(Term::as_i64), Some(i64::from(port.pid())));
    let version = port.hello.get("version").and_then(Term::as_str);
    assert_eq!(version, Some(env!("CARGO_PKG_VERSION")));
    let host = port.hello.get("host").expect("the greeting names the host's abilities");
    assert!(host.get("root").and_then(Term::as_bool).is_some());
}

#[test]
fn a_client_of_another_protocol_is_told_and_the_program_ends() {
    let mut port = Port::start_without_greeting(&IDLE);
    port.send("{hello, #{protocol => 99, protocol_min => 98}}");
    let frame = port.recv();
    let [tag, error] = frame.as_tuple().expect("an error tuple") else { panic!("{frame}") };
    assert!(tag.is_atom("error"));
    assert_eq!(code(error), "protocol_mismatch");
    assert!(message(error).contains("protocol 98 to 99 and this program 1"), "{error}");
    assert_eq!(port.wait().code(), Some(3));
}

#[test]
fn a_request_before_the_greeting_is_refused() {
    let mut port = Port::start_without_greeting(&IDLE);
    assert_eq!(code(&port.error("list", "nil")), "handshake_required");
    port.send("{hello, #{protocol => 1}}");
    assert_eq!(port.ok("list", "nil"), Term::List(Vec::new()));
}

#[test]
fn a_greeting_that_is_wrong_can_be_said_again_and_one_that_is_right_cannot() {
    let mut port = Port::start_without_greeting(&IDLE);
    port.send("{hello, #{version => 1}}");
    let error = port.told();
    assert_eq!((code(&error), place(&error, "field")), ("bad_args".into(), "protocol".into()));
    assert_eq!(code(&port.error("list", "nil")), "handshake_required");
    port.send("{hello, #{protocol => 1, <<\"said by a newer client\">> => true}}");
    assert_eq!(port.ok("list", "nil"), Term::List(Vec::new()));
    for again in ["{hello, #{protocol => 1}}", "{hello, #{protocol => 99}}"] {
        port.send(again);
        assert_eq!(code(&port.told()), "bad_args", "{again}");
    }
    assert_eq!(port.ok("list", "nil"), Term::List(Vec::new()));
}

#[test]
fn specs_are_applied_read_back_and_deleted() {
    let mut port = idle();
    let applied = port.ok("apply", POD);
    assert_eq!(applied.get("generation").and_then(Term::as_i64), Some(1));
    assert_eq!(applied.get("changed").and_then(Term::as_bool), Some(true));
    assert_eq!(port.ok("apply", POD).get("changed").and_then(Term::as_bool), Some(false));
    assert_eq!(code(&port.error("create", POD)), "exists");
    let got = port.ok("get", "<<\"web\">>");
    let spec = got.get("spec").expect("get returns the spec");
    assert_eq!(spec.get("restart").and_then(Term::as_atom), Some("always"));
    assert_eq!(port.ok("list", "nil").as_list().map(<[_]>::len), Some(1));
    assert!(port.ok("delete", "<<\"web\">>").is_nil());
    assert!(port.ok("delete", "<<\"web\">>").is_nil());
    assert_eq!(code(&port.error("get", "<<\"web\">>")), "not_found");
}

#[test]
fn a_seed_does_not_bring_back_what_was_deleted() {
    let mut port = idle();
    let seeded = port.ok("seed", POD);
    assert_eq!(seeded.get("generation").and_then(Term::as_i64), Some(1));
    assert_eq!(code(&port.error("seed", POD)), "exists");
    assert!(port.ok("delete", "<<\"web\">>").is_nil());
    let error = port.error("seed", POD);
    assert_eq!((code(&error), place(&error, "pod")), ("exists".into(), "web".into()));
    assert!(message(&error).contains("deleted since"), "{error}");
    assert_eq!(port.ok("list", "nil"), Term::List(Vec::new()));
    assert_eq!(port.ok("create", POD).get("changed").and_then(Term::as_bool), Some(true));
}

/// The events of pod web: what, of which run, under which generation.
fn events(port: &mut Port) -> Vec<(String, i64, i64)> {
    let events = port.ok("events", "<<\"web\">>");
    let number = |event: &Term<'_>, key| event.get(key).and_then(Term::as_i64).expect("a number");
    let event = |event: &Term<'_>| {
        assert!(number(event, "at_ms") > 1_700_000_000_000, "{event}");
        assert!(number(event, "retries") >= 0, "{event}");
        let what = event.get("event").and_then(Term::as_atom).expect("an event");
        (what.to_owned(), number(event, "incarnation"), number(event, "generation"))
    };
    events.as_list().expect("a list").iter().map(event).collect()
}

#[test]
fn events_tell_what_happened_to_a_pod_and_outlive_the_program() {
    let dir = tempfile::tempdir().expect("a directory");
    let args = ["--runtime", "client", "--data-dir", dir.path().to_str().expect("a path")];
    let mut port = Port::start(&args);
    assert_eq!(code(&port.error("events", "<<\"web\">>")), "not_found");
    assert_eq!(code(&port.error("events", "web")), "bad_args");
    port.ok("apply", POD);
    port.send("{1, {ok, #{host_pid => 4242}}}");
    port.send("{0, exited, {<<\"web\">>, 1, {exited, 3}}}");
    let happened = |events: &[(&str, i64, i64)]| -> Vec<(String, i64, i64)> {
        events.iter().map(|(what, run, spec)| ((*what).to_owned(), *run, *spec)).collect()
    };
    let mut expected =
        happened(&[("applied", 0, 1), ("started", 1, 1), ("ended", 1, 1), ("backing_off", 1, 1)]);
    eventually("the run has ended", || events(&mut port) == expected);
    let shown = port.ok("events", "<<\"web\">>").to_string();
    for part in [
        "host_pid => 4242",
        "exit => {exited,3},container => nil",
        "retry_in_ms => 10000,reason => <<\"exited with status 3, restarting in 10s\">>",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    port.kill();
    let mut port = Port::start(&args);
    let found = events(&mut port);
    assert_eq!(found[..expected.len()], expected);
    port.ok("delete", "<<\"web\">>");
    assert_eq!(code(&port.error("events", "<<\"web\">>")), "not_found");
    port.ok("apply", POD);
    expected = happened(&[("applied", 0, 3)]);
    assert_eq!(events(&mut port)[..1], expected);
}

#[test]
fn a_program_starts_on_a_damaged_state_file_and_says_what_it_kept() {
    let dir = tempfile::tempdir().expect("a directory");
    let args = ["--runtime", "none", "--data-dir", dir.path().to_str().expect("a path")];
    let mut port = Port::start(&args);
    port.ok("apply", POD);
    port.ok("shutdown", "#{pods => keep}");
    port.wait();
    let path = dir.path().join("state.redb");
    let mut content = std::fs::read(&path).expect("a state file");
    content[0] = b'R';
    std::fs::write(&path, &content).expect("a state file");
    let said = Command::new(env!("CARGO_BIN_EXE_tank"))
        .arg("port")
        .args(args)
        .args(["--run-dir", dir.path().to_str().expect("a path")])
        .stdin(Stdio::null())
        .output()
        .expect("the program runs");
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    let aside = dir.path().join("state.redb.corrupt-1");
    for part in ["ERROR", "state.redb is corrupt", aside.to_str().expect("a path"), "1 pod that"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(std::fs::read(aside).expect("what was damaged"), content);
    assert_eq!(Port::start(&args).ok("list", "nil").as_list().map(<[_]>::len), Some(1));
}

#[test]
fn a_ping_is_answered_with_the_same_term() {
    let mut port = idle();
    for term in [
        "nil",
        "<<\"text\">>",
        "[]",
        "[1,2,3]",
        "{a,[b|c],#{k => 1.5}}",
        "-9223372036854775808",
        "1180591620717411303424",
        "<<1,2,5:3>>",
    ] {
        assert_eq!(port.ok("ping", term), text::parse(term).expect("a term"), "{term}");
    }
    let large = "v".repeat(10 << 20);
    assert_eq!(port.ok("ping", &format!("<<\"{large}\">>")).as_str(), Some(&*large));
}

#[test]
fn malformed_frames_are_answered_and_the_program_goes_on() {
    let mut port = idle();
    for broken in [&b""[..], b"\x83", b"hello", b"\x83\x6d\xff\xff\xff\xff", b"\x83\x61\x01\x61"] {
        port.send_bytes(broken);
        assert_eq!(code(&port.told()), "malformed_frame", "{broken:?}");
    }
    for no_envelope in
        ["web", "{}", "{1}", "{web, list, nil}", "{1, <<\"list\">>, nil}", "{1,2,3,4}"]
    {
        port.send(no_envelope);
        assert_eq!(code(&port.told()), "bad_args", "{no_envelope}");
    }
    assert_eq!(port.ok("list", "nil"), Term::List(Vec::new()));
}

#[test]
fn an_oversized_frame_is_discarded_and_the_next_request_is_served() {
    let mut port = idle();
    let claimed: u32 = (16 << 20) + 5;
    port.send_raw(&claimed.to_be_bytes());
    assert_eq!(code(&port.told()), "frame_too_large");
    port.send_raw(&vec![0xff; claimed as usize]);
    assert_eq!(port.ok("list", "nil"), Term::List(Vec::new()));
}

/// A pod whose spec takes so many bytes.
fn large_pod(name: &str, bytes: usize) -> String {
    let value = "v".repeat(bytes);
    let env = format!("image => <<\"a\">>, env => #{{<<\"K\">> => <<\"{value}\">>}}");
    POD.replace("image => <<\"a\">>", &env).replace("web", name)
}

/// Reads frames until the reply to `id` is whole: its term, and what else came,
/// with the chunks before it.
fn read_chunked(port: &mut Port, id: i64) -> (Term<'static>, Vec<(usize, Term<'static>)>) {
    let (mut bytes, mut chunks, mut others) = (Vec::new(), 0, Vec::new());
    loop {
        let frame = port.recv();
        match frame.as_tuple() {
            Some([tag, of, more, chunk]) if tag.is_atom("chunk") => {
                assert_eq!(of.as_i64(), Some(id));
                let chunk = chunk.as_bytes().expect("a chunk is a binary");
                assert!(chunk.len() <= 64 << 10, "{} bytes", chunk.len());
                assert_eq!(chunk.is_empty(), chunks == 0, "the first chunk marks the place");
                bytes.extend_from_slice(chunk);
                chunks += 1;
                if more.as_bool() == Some(false) {
                    break;
                }
            }
            _ => others.push((chunks, frame)),
        }
    }
    let limits = erlang_term_format::Limits { bytes_max: 256 << 20, ..Default::default() };
    let reply = erlang_term_format::decode_with(&bytes, &limits).expect("a reply in parts");
    (reply.into_owned(), others)
}

#[test]
fn a_small_call_is_answered_between_the_chunks_of_a_large_reply() {
    let mut port = Port::start_chunked(&IDLE, 64 << 10);
    // More than one frame holds, and more than the bound on output.
    for name in ["a", "b"] {
        port.ok("apply", &large_pod(name, 9 << 20));
    }
    let list = port.ask("list", "nil");
    let ping = port.ask("ping", "<<\"small\">>");
    let status = port.ask("status", "<<\"a\">>");
    let (reply, others) = read_chunked(&mut port, list);
    let [id, result] = reply.as_tuple().expect("a reply") else { panic!("{reply}") };
    assert_eq!(id.as_i64(), Some(list));
    let pods = result.as_tuple().expect("a result")[1].as_list().expect("a list");
    let spec = pods[1].get("spec").and_then(|spec| spec.get("containers"));
    let spec = spec.expect("the spec came whole");
    let env = spec.as_list().expect("a list")[0].get("env").expect("an env");
    assert_eq!(
        env.get_term(&Term::binary("K")).and_then(Term::as_str).map(str::len),
        Some(9 << 20)
    );
    // All that a pipe holds may lie before them, and no more: 1 MiB and 2 chunks.
    let [(first, ponged), (second, stated)] = &others[..] else { panic!("{}", others.len()) };
    assert!(*first < 30 && *second < 30, "after {first} and {second} of 288 chunks");
    assert_eq!(ponged.as_tuple().map(|ponged| ponged[0].as_i64()), Some(Some(ping)));
    assert_eq!(stated.as_tuple().map(|stated| stated[0].as_i64()), Some(Some(status)));
}

#[test]
fn an_answer_that_no_frame_holds_is_an_error_to_who_asked_for_it() {
    let mut port = idle();
    for name in ["a", "b"] {
        port.ok("apply", &large_pod(name, 9 << 20));
    }
    let error = port.error("list", "nil");
    assert_eq!(code(&error), "frame_too_large");
    assert!(error.to_string().contains("chunk_bytes"), "{error}");
    assert_eq!(port.ok("get", "<<\"b\">>").get("generation").and_then(Term::as_i64), Some(2));
}

#[test]
fn a_notice_of_what_happened_before_comes_before_the_first_chunk() {
    let args = ["--store", "memory", "--runtime", "client"];
    let mut port = Port::start_chunked(&args, 1 << 10);
    port.ok("subscribe", "#{credits => 1000}");
    port.ok("apply", &large_pod("web", 1 << 20));
    let start = port.asked("start");
    port.send(&format!("{{{start}, {{ok, #{{host_pid => nil}}}}}}"));
    port.ask("get", "<<\"web\">>");
    let mut has_started = false;
    loop {
        let frame = port.recv();
        match frame.as_tuple().expect("every frame is a tuple") {
            [tag, ..] if tag.is_atom("chunk") => break,
            [tag, _, notice] if tag.is_atom("notice") => {
                has_started |= notice.as_tuple().is_some_and(|notice| notice[0].is_atom("started"));
            }
            _ => {}
        }
    }
    assert!(has_started);
}

#[test]
fn each_limit_on_what_a_frame_holds_is_an_error_and_the_program_goes_on() {
    let mut port = idle();
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    // The envelope is a level by itself, and the innermost, empty list is none.
    assert_eq!(code(&port.error("get", &nested(64))), "bad_args");
    port.send(&format!("{{1000, get, {}}}", nested(65)));
    assert_eq!(code(&port.told()), "malformed_frame");
    let many = |nodes: u32| {
        let mut frame = vec![131, 104, 3, 98, 0, 0, 3, 233, 119, 4];
        frame.extend_from_slice(b"ping");
        frame.push(108);
        frame.extend_from_slice(&nodes.to_be_bytes());
        frame.resize(frame.len() + nodes as usize, 106);
        frame.push(106);
        frame
    };
    port.send_bytes(&many(1_000_000));
    assert_eq!(code(&port.told()), "malformed_frame");
    for id in ["-1", "9007199254740993", "18446744073709551616", "1.0"] {
        port.send(&format!("{{{id}, list, nil}}"));
        assert_eq!(code(&port.told()), "bad_args", "{id}");
    }
    port.send("{9007199254740992, list, nil}");
    assert_eq!(port.answer(9_007_199_254_740_992), Ok(Term::List(Vec::new())));
    let name = "n".repeat(64);
    assert_eq!(code(&port.error("get", &format!("<<\"{name}\">>"))), "bad_args");
    assert_eq!(code(&port.error("apply", &POD.replace("web", &name))), "invalid_spec");
    port.ok("apply", &POD.replace("web", &name[1..]));
    assert_eq!(port.ok("list", "nil").as_list().map(<[_]>::len), Some(1));
}

#[test]
fn an_error_never_repeats_all_that_was_sent() {
    let mut port = idle();
    let keys: Vec<String> = (0..50_000).map(|n| format!("<<\"key {n}\">> => {n}")).collect();
    let error = port.error("apply", &format!("#{{{}}}", keys.join(",")));
    assert_eq!(code(&error), "invalid_spec");
    assert!(message(&error).contains("and 49990 more"), "{error}");
    assert!(error.to_string().len() < 2_000, "{}", error.to_string().len());
}

#[test]
fn unknown_operations_and_wrong_arguments_are_named() {
    let mut port = idle();
    let error = port.error("explode", "nil");
    assert_eq!(code(&error), "unknown_op");
    assert!(message(&error).contains("explode"));
    for (op, args) in [
        ("list", "1"),
        ("get", "web"),
        ("get", "<<\"../etc\">>"),
        ("sync", "[]"),
        ("kill", "{<<\"web\">>}"),
        ("subscribe", "#{}"),
        ("shutdown", "#{pods => burn}"),
        ("plan", "#{}"),
        ("plan", "[#{} | web]"),
        ("await", "<<\"web\">>"),
        ("await", "#{pod => <<\"web\">>, timeout_ms => 0}"),
        ("await", "#{pod => <<\"web\">>, state => asleep, timeout_ms => 0}"),
        ("await", "#{pod => <<\"web\">>, state => running, timeout_ms => -1}"),
        ("await", "#{pod => <<\"web\">>, state => running, timeout_ms => infinity}"),
        ("nudge", "nil"),
    ] {
        let error = port.error(op, args);
        assert_eq!(code(&error), "bad_args", "{op} {args}: {error}");
        assert!(message(&error).contains(op), "{error}");
    }
}

#[test]
fn a_bad_spec_names_field_and_rule_and_stores_nothing() {
    let mut port = idle();
    let error = port.error(
        "apply",
        "#{name => <<\"web\">>, containers => [#{name => <<\"c\">>, image => <<\"a\">>, \
         limits => #{memory => 0}}]}",
    );
    assert_eq!(code(&error), "invalid_spec");
    assert_eq!(place(&error, "pod"), "web");
    assert!(place(&error, "field").contains("limits"), "{error}");
    let reason = error.get("reason").expect("the rule as a term").to_string();
    assert_eq!(reason, "{invalid_limit,memory,0}");
    assert_eq!(port.ok("list", "nil"), Term::List(Vec::new()));
}

#[test]
fn a_plan_names_what_is_wrong_with_which_of_its_specs() {
    let mut port = idle();
    let bad = POD.replace("<<\"a\">>", "nil");
    for (specs, field, reason) in [
        (format!("[{POD}, {bad}]"), "[1].containers[0].image", "{invalid_image,nil}"),
        (format!("[{}, {POD}]", POD.replace("web", "/")), "[0].name", "{invalid_name,<<\"/\">>}"),
        ("[web]".to_owned(), "[0]", "{cannot_build,'Elixir.Tank.Pod',web}"),
    ] {
        let error = port.error("plan", &specs);
        assert_eq!((code(&error), place(&error, "field")), ("invalid_spec".into(), field.into()));
        assert_eq!(error.get("reason").expect("the rule").to_string(), reason);
    }
    let error = port.error("plan", &format!("[{POD}, {POD}, {POD}]"));
    let reason = error.get("reason").expect("the rule").to_string();
    assert_eq!((&*code(&error), &*reason), ("invalid_spec", "{duplicate,[<<\"web\">>]}"));
    assert_eq!(port.ok("plan", "[]"), Term::List(Vec::new()));
}

#[test]
fn what_a_client_that_hangs_up_waits_for_is_refused_when_its_time_is_over() {
    let mut port = idle();
    port.ok("apply", POD);
    let endless = port.ask("await", "#{pod => <<\"web\">>, state => running, timeout_ms => nil}");
    let short = port.ask("await", "#{pod => <<\"web\">>, state => running, timeout_ms => 1}");
    port.hang_up();
    let refused = |port: &mut Port, id| code(&port.answer(id).expect_err("nothing runs"));
    assert_eq!(refused(&mut port, short), "timeout");
    assert_eq!(refused(&mut port, endless), "shutting_down");
    assert_eq!(port.wait().code(), Some(0));
}

#[test]
fn notices_flow_under_credits_and_end_in_one_resync() {
    let mut port = Port::start(&["--store", "memory", "--runtime", "client"]);
    port.ok("subscribe", "#{credits => 1}");
    port.ask("apply", POD);
    // The one credit goes to the first notice; all further ones are dropped.
    let mut notices = Vec::new();
    let mut start = None;
    while start.is_none() || notices.is_empty() {
        let frame = port.recv();
        match frame.as_tuple() {
            Some([tag, seq, notice]) if tag.is_atom("notice") => {
                notices.push((seq.as_i64(), notice.clone()));
            }
            Some([id, op, _]) if op.is_atom("start") => start = id.as_i64(),
            _ => {}
        }
    }
    let start = start.expect("the loop above ends with one");
    port.send(&format!("{{{start}, {{ok, #{{host_pid => nil}}}}}}"));
    eventually("the run is live", || {
        let status = port.ok("status", "<<\"web\">>").to_string();
        status.contains("status => running")
    });
    port.send("{0, credit, 5}");
    let frame = port.recv();
    assert_eq!(frame.to_string(), "{notice,2,resync}");
    assert_eq!(notices.len(), 1);
}

#[test]
fn the_page_of_the_protocol_lists_every_code_and_every_place() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/protocol.md");
    let page = std::fs::read_to_string(page).expect("the page is in the repository");
    let (_, errors) = page.split_once("\n## Errors\n").expect("a section");
    let (errors, rest) = errors.split_once("\n## ").expect("another section");
    let (_, atoms) = rest.split_once("## Atoms\n").expect("a section");
    let atoms: Vec<&str> = atoms.split_whitespace().collect();
    for code in Code::ALL {
        assert!(errors.contains(&format!("\n| `{}` |", code.name())), "{}", code.name());
        assert!(atoms.contains(&code.name()), "{}", code.name());
    }
    for place in Place::ALL {
        assert!(errors.contains(&format!("`{}`", place.name())), "{}", place.name());
        assert!(atoms.contains(&place.name()), "{}", place.name());
    }
    for limit in [
        format!("| a frame, either way | {} MiB", FRAME_BYTES_MAX >> 20),
        format!("| a reply in chunks | {} MiB", REPLY_BYTES_MAX >> 20),
        format!("| frames that the client has not read | {} MiB", OUTPUT_BYTES_MAX >> 20),
        format!("and {} MiB of frames", REQUEST_BYTES_MAX >> 20),
        format!("| `chunk_bytes` | {} KiB to", CHUNK_BYTES_MIN >> 10),
        format!("the program sends no more than {} KiB", CHUNK_BYTES >> 10),
    ] {
        assert!(page.contains(&limit), "{limit}");
    }
    assert_eq!(REQUESTS_MAX, 65_536);
    assert!(page.contains("| requests in flight | 65,536,"));
}

#[test]
fn a_second_program_on_one_data_directory_is_refused_by_the_firsts_pid() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().to_str().expect("a plain path");
    let args = ["--data-dir", data, "--runtime", "none"];
    let first = Port::start(&args);
    let (exit, error) = refused(&args);
    assert_eq!(exit, 4);
    assert_eq!(code(&error), "locked");
    assert_eq!(place(&error, "pid"), first.pid().to_string());
    assert_eq!(place(&error, "path"), data);
}

#[test]
fn a_lock_that_is_let_go_in_time_is_waited_for() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().to_str().expect("a plain path");
    let args = ["--data-dir", data, "--runtime", "none"];
    let first = Port::start(&args);
    let patient = [&args[..], &["--lock-wait-ms", "20000"]].concat();
    thread::scope(|scope| {
        let second = scope.spawn(|| Port::start(&patient).pid());
        let first_pid = first.pid();
        drop(first);
        assert_ne!(second.join().expect("the second one greets"), first_pid);
    });
}

#[test]
fn wrong_options_are_told_in_a_frame_and_end_with_status_2() {
    for (args, option) in [
        (&["--interval-ms", "soon"][..], "--interval-ms"),
        (&["--interval-ms", "0"], "--interval-ms"),
        (&["--on-disconnect", "explode"], "--on-disconnect"),
        (&["--cgroup-parent", "../x"], "--cgroup-parent"),
        (&["--no-such-option"], "--no-such-option"),
    ] {
        let (exit, error) = refused(args);
        assert_eq!(exit, 2, "{args:?}");
        assert_eq!(code(&error), "bad_option");
        assert!(message(&error).contains(option), "{error}");
    }
}

#[test]
fn a_person_at_a_terminal_is_told_in_words_what_the_program_is_for() {
    let tank = format!("{} port --store memory --runtime none", env!("CARGO_BIN_EXE_tank"));
    let output = Command::new("script")
        .args(["-qec", &tank, "/dev/null"])
        .env("SHELL", "/bin/sh")
        .stdin(Stdio::null())
        .output()
        .expect("script is part of every Debian");
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stdout).expect("text and no frame");
    assert!(text.contains("stdin is a terminal"), "{text}");
    assert!(text.contains("hint: {Tank.Reconciler, opts}"), "{text}");
    assert!(!text.contains('\0'), "{text:?}");
}

#[test]
fn a_log_level_that_is_none_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let stderr = |level: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_tank"))
            .args(["port", "--runtime", "none", "--run-dir", "/nonexistent", "--data-dir"])
            .arg(dir.path())
            .env("TANK_LOG", level)
            .env_remove("TANK_TRACE")
            .stdin(Stdio::null())
            .output()
            .expect("ours");
        String::from_utf8(output.stderr).expect("text")
    };
    assert!(stderr("tank=loud").contains("TANK_LOG is tank=loud"));
    assert_eq!(stderr("warn"), "");
    assert_eq!(stderr(""), "");
}

/// What a program says on stderr of a few frames, with `TANK_TRACE` set so.
fn traced(trace: &str, frames: &[u8]) -> String {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tank"))
        .args(["port", "--store", "memory", "--runtime", "none"])
        .env("TANK_TRACE", trace)
        .env_remove("TANK_LOG")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut stdin = child.stdin.take().expect("piped");
    Write::write_all(&mut stdin, frames).expect("the port reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0));
    String::from_utf8(output.stderr).expect("text")
}

#[test]
fn a_trace_shows_every_frame_either_way_with_its_time_and_no_secret() {
    let secret = large_pod("web", 10).replace("vvvvvvvvvv", "secret");
    let mut frames = Vec::new();
    for source in
        ["{hello, #{protocol => 1}}", "{1, ping, <<\"x\">>}", &format!("{{2,apply,{secret}}}")]
    {
        let frame = erlang_term_format::encode(&text::parse(source).expect("a term"));
        frames.extend_from_slice(&u32::try_from(frame.len()).expect("short").to_be_bytes());
        frames.extend_from_slice(&frame);
    }
    frames.extend_from_slice(&[0, 0, 0, 1, 131]);
    let shown = traced("frames", &frames);
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines.iter().all(|line| line.as_bytes()[2] == b':' && line.as_bytes()[8] == b'.'));
    let without_time: Vec<&str> = lines.iter().map(|line| &line[16..]).collect();
    assert!(without_time[0].starts_with("<- - {hello,#{protocol => 1,"), "{shown}");
    assert_eq!(without_time[1], "-> - {hello,#{protocol => 1}}");
    for expected in [
        "-> 1 {1,ping,<<\"x\">>}",
        "<- 1 {1,{ok,<<\"x\">>}}",
        "-> 2 {2,apply,#{name => <<\"web\">>",
        "<- 0 {0,{error,#{code => malformed_frame",
    ] {
        assert!(without_time.iter().any(|line| line.starts_with(expected)), "{shown}");
    }
    assert!(without_time.iter().any(|line| line.ends_with(": 83 (1 bytes)")), "{shown}");
    assert!(shown.contains("<<\"K\">> => <<\"***\">>") && !shown.contains("secret"), "{shown}");
    assert_eq!(traced("", &frames), "");
    let unknown = traced("all", &frames);
    assert!(unknown.contains("TANK_TRACE is all"), "{unknown}");
    assert!(!unknown.contains("<-"), "{unknown}");
}

#[test]
fn what_was_applied_is_there_after_kill_dash_9() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().to_str().expect("a plain path");
    let args = ["--data-dir", data, "--runtime", "none"];
    let mut first = Port::start(&args);
    first.ok("apply", POD);
    first.kill();
    let mut second = Port::start(&args);
    assert_eq!(second.ok("list", "nil").as_list().map(<[_]>::len), Some(1));
}

#[test]
fn the_end_of_stdin_ends_the_program() {
    let mut port = idle();
    port.ok("list", "nil");
    port.hang_up();
    assert_eq!(port.wait().code(), Some(0));
}

/// Frames of these terms, after a greeting.
fn session_of(requests: &[&str]) -> Vec<u8> {
    let mut frames = FrameWriter::default();
    for source in [&["{hello, #{protocol => 1}}"], requests].concat() {
        let term = text::parse(source).expect("a term");
        frames.push(|out| erlang_term_format::encode_into(&term, out));
    }
    frames.pending().to_vec()
}

/// The terms in a stream of frames, as text.
fn terms_in(stream: &[u8]) -> Vec<String> {
    let mut reader = FrameReader::default();
    reader.push(stream);
    let frames = std::iter::from_fn(|| reader.next_frame());
    let terms = frames.map(|frame| match frame {
        Frame::Whole(frame) => erlang_term_format::decode(&frame).expect("a term").to_string(),
        Frame::TooLarge { claimed } => panic!("{claimed} bytes"),
    });
    let terms = terms.collect();
    assert!(!reader.is_partial(), "the stream stops inside a frame");
    terms
}

const FAREWELL: [&str; 8] = [
    "{1, sync, nil}",
    "{2, get, <<\"web\">>}",
    "{3, list, nil}",
    "{4, status, nil}",
    "{5, restart, <<\"web\">>}",
    "{6, delete, <<\"web\">>}",
    "{7, ping, <<\"pong\">>}",
    "{8, sync, nil}",
];

#[test]
fn all_that_was_asked_before_the_end_of_stdin_is_answered() {
    let apply = format!("{{9, apply, {POD}}}");
    let requests = [&[&*apply], &FAREWELL[..]].concat();
    for runtime in ["none", "client"] {
        let dir = tempfile::tempdir().expect("a directory");
        let data = dir.path().to_str().expect("a plain path");
        let mut child = support::spawn(&["--data-dir", data, "--runtime", runtime]);
        let mut stdin = child.stdin.take().expect("piped");
        Write::write_all(&mut stdin, &session_of(&requests)).expect("the port reads");
        drop(stdin);
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(0));
        let terms = terms_in(&output.stdout);
        for id in 1..=9 {
            let answer = terms.iter().find(|term| term.starts_with(&format!("{{{id},{{")));
            let answer = answer.unwrap_or_else(|| panic!("no answer to {id}: {terms:?}"));
            let is_early = id == 2 || id == 5;
            assert!(is_early || answer.contains("{ok,"), "{answer}");
        }
    }
}

#[test]
fn what_waits_for_room_for_its_answer_when_stdin_ends_is_answered() {
    let mut port = idle();
    port.ok("apply", &large_pod("web", 1 << 20));
    let ids: Vec<i64> = (0..40).map(|_| port.ask("list", "nil")).collect();
    port.hang_up();
    for id in ids {
        port.answer(id).expect("a list");
    }
    assert_eq!(port.wait().code(), Some(0));
}

#[test]
fn a_file_gets_all_that_is_said() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("answers");
    let file = std::fs::File::create(&path).expect("the directory is ours");
    let mut child = Command::new(env!("CARGO_BIN_EXE_tank"))
        .args(["port", "--store", "memory", "--runtime", "none"])
        .stdin(Stdio::piped())
        .stdout(file)
        .spawn()
        .expect("the program starts");
    let large = format!("{{1, ping, <<\"{}\">>}}", "v".repeat(8 << 20));
    let mut stdin = child.stdin.take().expect("piped");
    Write::write_all(&mut stdin, &session_of(&[&large])).expect("the port reads");
    drop(stdin);
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    let terms = terms_in(&std::fs::read(&path).expect("a file"));
    assert_eq!(terms.len(), 2);
    assert!(terms[1].starts_with("{1,{ok,<<\"vvv") && terms[1].len() > 8 << 20);
}

#[test]
fn a_client_that_hangs_up_and_does_not_read_cannot_keep_the_program() {
    let mut port = idle();
    port.ok("apply", &large_pod("web", 3 << 20));
    port.ask("list", "nil");
    port.hang_up();
    assert_eq!(port.wait().code(), Some(0));
}

/// A program with a start that never ends, and a sync that waits for it; how
/// long it takes to end when the client has hung up, and what it says then.
fn hang_up_on_a_hung_start(listens: bool) -> (Duration, Vec<String>) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name).to_str().expect("a plain path").to_owned();
    // It ends with the connection, of which it says nothing.
    std::fs::write(path("shim"), "#!/bin/sh\nexec cat >/dev/null\n").expect("our directory");
    std::fs::set_permissions(path("shim"), PermissionsExt::from_mode(0o755)).expect("our file");
    let dirs = [path("data"), path("run"), path("shim")];
    let [data, run, shim] = &dirs;
    let parent = format!("tank-port-test-{}", std::process::id());
    let args = ["--data-dir", data, "--run-dir", run, "--shim", shim, "--cgroup-parent", &parent];
    let mut child = support::spawn(&args);
    let pod = POD.replace("<<\"a\">>", "{rootfs, <<\"/\">>}, command => [<<\"/bin/true\">>]");
    let requests = [&*format!("{{1, apply, {pod}}}"), "{2, sync, nil}"];
    let mut stdin = child.stdin.take().expect("piped");
    let stdout = child.stdout.take().expect("piped");
    Write::write_all(&mut stdin, &session_of(&requests)).expect("the port reads");
    eventually("the start hangs", || std::path::Path::new(&path("run/pods/web")).exists());
    let began = Instant::now();
    drop(stdin);
    let mut said = Vec::new();
    if listens {
        io::Read::read_to_end(&mut { stdout }, &mut said).expect("a pipe");
    } else {
        drop(stdout);
    }
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    let took = began.elapsed();
    let trees = std::fs::read_dir("/sys/fs/cgroup").expect("it is mounted").flatten();
    let groups: Vec<_> = trees.map(|tree| tree.path().join(&parent)).collect();
    eventually("its cgroups are empty", || groups.iter().all(|group| remove_empty(group)));
    (took, terms_in(&said))
}

/// Removes a cgroup with those in it, which hold nothing any more. Whether it is gone.
fn remove_empty(group: &std::path::Path) -> bool {
    for entry in std::fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_empty(&entry.path());
        }
    }
    let _ = std::fs::remove_dir(group);
    !group.exists()
}

#[test]
fn a_sync_that_never_settles_holds_up_the_end_for_a_while_and_only_if_somebody_listens() {
    if !support::is_root("a sync that never settles") {
        return;
    }
    let (patient, said) = hang_up_on_a_hung_start(true);
    let sync = said.iter().find(|term| term.starts_with("{2,")).expect("an answer");
    assert!(sync.starts_with("{2,{error,#{code => shutting_down"), "{sync}");
    let (prompt, _) = hang_up_on_a_hung_start(false);
    assert!(prompt < patient, "{prompt:?} for nobody, {patient:?} for somebody");
}

#[test]
fn sigterm_and_sighup_end_the_program_as_the_end_of_stdin_does() {
    for signal in [Signal::TERM, Signal::HUP] {
        let mut port = idle();
        port.ok("list", "nil");
        port.signal(signal);
        assert_eq!(port.wait().code(), Some(0));
    }
}

#[test]
fn sigterm_is_heard_while_a_client_never_stops_talking() {
    let mut port = idle();
    port.ok("list", "nil");
    // No word has an answer: nothing but input ever wakes the loop.
    let words = frame(b"\x83\x68\x03\x61\x00\x77\x05nudge\x77\x03nil").repeat(50_000);
    let (mut to, _) = port.pipes();
    let (said, heard) = std::sync::mpsc::channel();
    // It ends when the program does.
    let talks =
        thread::spawn(move || while to.write_all(&words).is_ok() && said.send(()).is_ok() {});
    // As much as a pipe holds, often enough that the program has not slept lately.
    assert_eq!(heard.iter().take(8).count(), 8);
    port.signal(Signal::TERM);
    assert_eq!(port.wait().code(), Some(0));
    port.hang_up();
    talks.join().expect("a broken pipe is its end");
}

#[test]
fn no_more_than_the_memory_of_one_large_frame_is_kept() {
    let mut port = idle();
    let frame_bytes = 15 << 20;
    let large = format!("<<\"{}\">>", "v".repeat(frame_bytes));
    let before = port.memory_kib();
    for _ in 0..3 {
        port.ok("ping", &large);
    }
    // The buffer of the answers goes once the next small one is written, which is
    // so when another is; the allocator may keep that of the calls.
    port.ok("ping", "nil");
    port.ok("ping", "nil");
    let (kept, frame_kib) = (port.memory_kib() - before, (frame_bytes >> 10) as u64);
    assert!(kept < frame_kib + (4 << 10), "{kept} KiB more than the {before} before");
}

#[test]
fn shutdown_is_answered_before_the_program_ends() {
    let mut port = idle();
    assert!(port.ok("shutdown", "#{pods => stop}").is_nil());
    assert_eq!(port.wait().code(), Some(0));
}

#[test]
fn a_client_runtime_that_never_answers_does_not_hold_up_the_end() {
    let mut port = Port::start(&["--store", "memory", "--runtime", "client"]);
    port.ok("apply", POD);
    port.hang_up();
    assert_eq!(port.wait().code(), Some(0));
}

#[test]
fn a_client_that_goes_right_after_a_delete_does_not_hold_up_the_end() {
    let mut port = Port::start(&["--store", "memory", "--runtime", "client"]);
    port.ask("apply", POD);
    let start = port.asked("start");
    port.send(&format!("{{{start}, {{ok, #{{host_pid => nil}}}}}}"));
    eventually("the run is live", || {
        port.ok("status", "<<\"web\">>").to_string().contains("status => running")
    });
    port.ok("delete", "<<\"web\">>");
    port.hang_up();
    assert_eq!(port.wait().code(), Some(0));
}

#[test]
fn answers_that_nobody_reads_do_not_pile_up() {
    let mut port = idle();
    port.ok("apply", &large_pod("web", 1 << 20));
    let ids: Vec<i64> = (0..200).map(|_| port.ask("list", "nil")).collect();
    for id in ids {
        let answer = port.answer(id).expect("a list");
        assert_eq!(answer.as_list().map(<[_]>::len), Some(1));
    }
    assert!(port.peak_memory_kib() < 100 << 10, "{} KiB", port.peak_memory_kib());
}

#[test]
fn a_client_that_does_not_read_the_last_answers_cannot_keep_the_program() {
    let mut port = idle();
    port.ok("apply", &large_pod("web", 3 << 20));
    // More than a pipe holds, less than what keeps the program from reading.
    port.ask("list", "nil");
    port.ask("list", "nil");
    port.ask("shutdown", "#{pods => stop}");
    eventually("all requests have been read", || port.unread_by_program() == 0);
    port.signal(Signal::TERM);
    assert_eq!(port.wait().code(), Some(0));
}

#[test]
fn a_client_that_hangs_up_after_a_shutdown_and_does_not_read_cannot_keep_the_program() {
    let mut port = idle();
    port.ok("apply", &large_pod("web", 3 << 20));
    port.ask("list", "nil");
    port.ask("list", "nil");
    port.ask("shutdown", "#{pods => stop}");
    eventually("the program waits for its reader", || {
        port.unread_by_program() == 0 && port.is_asleep()
    });
    // This it does not read any more, and hears of the end all the same.
    port.send("{0, nudge, nil}");
    port.hang_up();
    assert_eq!(port.wait().code(), Some(0));
}

#[test]
fn requests_beyond_the_bound_on_work_in_flight_are_refused() {
    let mut port = Port::start(&["--store", "memory", "--runtime", "client"]);
    port.ok("apply", POD);
    port.asked("start");
    // No pass settles while the start is not answered.
    let ids: Vec<i64> = (0..70_000).map(|_| port.ask("sync", "nil")).collect();
    let last = *ids.last().expect("there are many");
    // Requests are taken in turn: the last sync is refused before this one is
    // answered, or it is not refused at all.
    let probe = port.ask("get", "<<\"web\">>");
    let (first, result) = port.first_answer(&[last, probe]);
    assert_eq!(first, last, "a sync beyond the bound was taken");
    assert_eq!(code(&result.expect_err("one too many")), "busy");
    port.signal(Signal::TERM);
    assert_eq!(port.wait().code(), Some(0));
}

#[test]
fn a_connection_that_breaks_is_a_client_that_is_gone() {
    // A socket whose peer is closed with answers unread is reset: to read from
    // it is an error and not its end.
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("a pair of sockets");
    let theirs: std::os::fd::OwnedFd = theirs.into();
    let mut child = Command::new(env!("CARGO_BIN_EXE_tank"))
        .args(["port", "--store", "memory", "--runtime", "none"])
        .stdin(theirs.try_clone().expect("a descriptor"))
        .stdout(theirs)
        .spawn()
        .expect("the program starts");
    let mut hello = [0; 4];
    let mut stream = &ours;
    io::Read::read_exact(&mut stream, &mut hello).expect("a greeting");
    Write::write_all(&mut stream, &[0, 0, 0, 1, 131]).expect("the port lives");
    drop(ours);
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}
