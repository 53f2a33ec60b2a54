//! What a running `tank port` does with frames that are made to harm it, and
//! with clients that ask without reading: nothing but its work.

mod support;

use std::io::Write;

use erlang_term_format::{Term, text, tuple};
use rustix::fs::OFlags;
use support::{Port, code, eventually, place};

/// A program that holds specs in memory and starts nothing.
const IDLE: [&str; 4] = ["--store", "memory", "--runtime", "none"];

/// The longest frame.
const FRAME_BYTES_MAX: usize = 16 << 20;

/// What a frame may cost, beside 32 times its length.
const FRAME_COST_KIB: u64 = 3 << 10;

fn versioned(parts: &[&[u8]]) -> Vec<u8> {
    [&[131][..], &parts.concat()].concat()
}

/// A compressed term that claims so many bytes of content.
fn compressed(content: &[u8], claimed: u32) -> Vec<u8> {
    let stream = miniz_oxide::deflate::compress_to_vec_zlib(content, 1);
    versioned(&[&[80], &claimed.to_be_bytes(), &stream])
}

/// A binary of zeros, without its version.
fn zeros(length: usize) -> Vec<u8> {
    let mut term = vec![109];
    term.extend_from_slice(&u32::try_from(length).expect("a length").to_be_bytes());
    term.resize(term.len() + length, 0);
    term
}

/// Frames that are no term, or one that costs too much.
fn traps() -> Vec<(&'static str, Vec<u8>)> {
    let all_ones = [0xff; 4];
    let ten_million = 10_000_000_u32.to_be_bytes();
    let list_of_one = [108, 0, 0, 0, 1];
    let bomb = zeros(20 << 20);
    let bomb_bytes = u32::try_from(bomb.len()).expect("below 4 GiB");
    vec![
        ("a binary that claims 4 GiB", versioned(&[&[109], &all_ones])),
        ("a list that claims 4 billion elements", versioned(&[&[108], &all_ones])),
        ("a tuple that claims 4 billion elements", versioned(&[&[105], &all_ones])),
        ("a map that claims 4 billion entries", versioned(&[&[116], &all_ones])),
        ("a number that claims 4 billion digits", versioned(&[&[111], &all_ones, &[0]])),
        ("lists in lists as deep as a frame", versioned(&[&list_of_one.repeat(3_300_000)])),
        ("tuples in tuples as deep as a frame", versioned(&[&[104, 1].repeat(8_000_000)])),
        (
            "200 lists of ten million elements each",
            versioned(&[&[&[108][..], &ten_million].concat().repeat(200)]),
        ),
        ("more terms than are allowed", versioned(&[&[108], &ten_million, &[106; 10_000_001]])),
        ("a bomb that says so", compressed(&bomb, bomb_bytes)),
        ("a bomb that lies", compressed(&bomb, 1_000)),
        ("a bomb that hardly lies", compressed(&bomb, 16 << 20)),
        ("a stream that promises more than it has", compressed(&zeros(10), 16 << 20)),
        ("a broken stream", versioned(&[&[80, 0, 0, 0, 9], &[0xff; 50]])),
        ("an atom that is no UTF-8", versioned(&[&[119, 2, 0xff, 0xfe]])),
        ("a number that is none", versioned(&[&[70, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0]])),
        ("a key twice", versioned(&[&[116, 0, 0, 0, 2, 97, 1, 97, 1, 97, 1, 97, 2]])),
        ("a bit string of 0 bits", versioned(&[&[77, 0, 0, 0, 1, 0, 255]])),
        ("a bit string of 9 bits", versioned(&[&[77, 0, 0, 0, 1, 9, 255]])),
        ("bytes after the term", versioned(&[&[97, 1, 97]])),
        ("a reference to an atom cache", versioned(&[&[82, 0]])),
        ("a tag that nobody uses", versioned(&[&[1]])),
        ("another version", vec![130, 97, 1]),
        ("nothing", Vec::new()),
    ]
}

#[test]
fn every_trap_is_an_error_that_says_where_and_costs_no_more_than_a_multiple_of_its_length() {
    for (name, frame) in traps() {
        assert!(frame.len() <= FRAME_BYTES_MAX, "{name}");
        let mut port = Port::start(&IDLE);
        port.ok("status", "nil");
        let before = port.peak_memory_kib();
        port.send_bytes(&frame);
        let error = port.told();
        assert_eq!(code(&error), "malformed_frame", "{name}: {error}");
        let offset: usize = place(&error, "offset").parse().expect(name);
        assert!(offset <= frame.len(), "{name}: at {offset}");
        assert_eq!(port.ok("status", "nil"), Term::Map(Vec::new()), "{name}");
        let cost = port.peak_memory_kib() - before;
        let bound = 32 * frame.len() as u64 / 1024 + FRAME_COST_KIB;
        assert!(cost <= bound, "{name}: {cost} KiB for {} bytes", frame.len());
    }
}

#[test]
fn a_request_that_stops_at_any_byte_is_an_error_and_the_next_one_is_served() {
    let mut port = Port::start(&IDLE);
    let request = text::parse(
        "{7, apply, #{name => <<\"web\">>, restart => never, volumes => [], containers => \
         [#{name => <<\"c\">>, image => <<\"a\">>, limits => #{memory => 4294967296, pids => 3}}]}}",
    );
    let frame = erlang_term_format::encode(&request.expect("a term"));
    for cut in 0..frame.len() {
        port.send_bytes(&frame[..cut]);
        assert_eq!(code(&port.told()), "malformed_frame", "cut at {cut}");
    }
    port.send_bytes(&frame);
    assert!(port.answer(7).is_ok());
}

#[test]
fn what_other_codecs_corrupt_comes_back_as_it_was() {
    let mut port = Port::start(&IDLE);
    for term in ["[-1,-128,255]", "#{1 => a,1.0 => b}", "[1,2,3]", "2147483648", "-2147483649"] {
        assert_eq!(port.ok("ping", term), text::parse(term).expect("a term"), "{term}");
    }
    // As OTP 25 writes them: a Latin-1 atom, and a list of bytes as a string.
    port.send_bytes(&versioned(&[&[104, 3, 97, 9, 100, 0, 4], b"ping", &[107, 0, 2, 1, 2]]));
    assert_eq!(port.answer(9), Ok(Term::list([1, 2])));
}

#[test]
fn a_client_that_asks_a_hundred_thousand_times_without_reading_is_made_to_wait() {
    const CALLS: i64 = 100_000;
    let mut port = Port::start(&IDLE);
    // Long enough that all the answers are more than the program may hold.
    let said = "v".repeat(150);
    let frame = |id: i64| {
        let ping = text::parse(&format!("{{{id}, ping, <<\"{said}\">>}}")).expect("a term");
        support::frame(&erlang_term_format::encode(&ping))
    };
    let frames: Vec<u8> = (1..=CALLS).flat_map(frame).collect();
    let (stdin, sent) = write_until_made_to_wait(&mut port, &frames);
    assert!(port.peak_memory_kib() < 64 << 10, "{} KiB", port.peak_memory_kib());

    std::thread::scope(|scope| {
        scope.spawn(|| (&stdin).write_all(&frames[sent..]).expect("the port reads on"));
        for id in 1..=CALLS {
            assert_eq!(port.answer(id).expect("an answer").as_str(), Some(&*said));
        }
    });
    assert!(port.peak_memory_kib() < 64 << 10, "{} KiB", port.peak_memory_kib());
}

#[test]
fn a_client_of_short_chunks_that_asks_without_reading_is_made_to_wait() {
    const CALLS: i64 = 1_000;
    // Each is no large answer to anybody else.
    let said = Term::binary(vec![b'v'; 60_000]);
    let ping = |id: i64| {
        let ping = tuple![Term::Integer(id), Term::atom("ping"), said.clone()];
        support::frame(&erlang_term_format::encode(&ping))
    };
    let mut port = Port::start_chunked(&IDLE, 1_024);
    let frames: Vec<u8> = (1..=CALLS).flat_map(ping).collect();
    let _stdin = write_until_made_to_wait(&mut port, &frames);
    assert!(port.peak_memory_kib() < 64 << 10, "{} KiB", port.peak_memory_kib());
    port.kill();
}

/// Writes until the program reads no more; the pipe, as it was, and how much it
/// took.
fn write_until_made_to_wait(port: &mut Port, frames: &[u8]) -> (std::fs::File, usize) {
    let stdin = std::fs::File::from(port.take_stdin());
    let flags = rustix::fs::fcntl_getfl(&stdin).expect("a pipe has flags");
    rustix::fs::fcntl_setfl(&stdin, flags | OFlags::NONBLOCK).expect("and takes others");
    let mut sent = 0;
    eventually("the write would block, for nothing is read any more", || {
        let count = write_what_fits(&stdin, &frames[sent..]);
        sent += count;
        assert!(sent < frames.len(), "all was taken");
        // Asleep with input to be had: it has decided not to read.
        count == 0 && port.is_asleep()
    });
    rustix::fs::fcntl_setfl(&stdin, flags).expect("and takes them back");
    (stdin, sent)
}

fn write_what_fits(mut pipe: &std::fs::File, bytes: &[u8]) -> usize {
    match pipe.write(bytes) {
        Ok(count) => count,
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => 0,
        Err(error) => panic!("the port lives: {error}"),
    }
}

/// Replaces a pod whose runs the client carries out: a handful of notices.
fn replace(port: &mut Port, round: usize) {
    let pod = format!(
        "#{{name => <<\"web\">>, containers => [#{{name => <<\"c\">>, image => <<\"{round}\">>}}]}}"
    );
    port.ok("apply", &pod);
    if round > 0 {
        let stop = port.asked("stop");
        port.send(&format!("{{{stop}, {{ok, nil}}}}"));
    }
    let start = port.asked("start");
    port.send(&format!("{{{start}, {{ok, #{{host_pid => nil}}}}}}"));
}

#[test]
fn a_subscriber_that_gives_no_more_credit_costs_nothing_and_gets_one_resync() {
    let mut port = Port::start(&["--store", "memory", "--runtime", "client"]);
    port.ok("subscribe", "#{credits => 10}");
    for round in 0..500 {
        replace(&mut port, round);
    }
    let before = port.peak_memory_kib();
    for round in 500..5_000 {
        replace(&mut port, round);
    }
    let grown = port.peak_memory_kib() - before;
    assert!(grown < 1 << 10, "{grown} KiB for 4,500 changes that nobody hears of");
    port.ok("ping", "nil");
    let credited: Vec<i64> = (1..=10).collect();
    assert_eq!(port.notices_heard(), credited);
    port.send("{0, credit, 1000}");
    assert_eq!(port.recv().to_string(), "{notice,11,resync}");
    port.ok("ping", "nil");
    assert_eq!(port.notices_heard().len(), 11, "more than one was told");
}
