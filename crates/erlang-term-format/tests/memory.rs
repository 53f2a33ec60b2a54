//! What decoding takes at its peak: at most 32 times the input and a constant, for every trap.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};

use erlang_term_format::{Atom, Limits, Term, decode, encode, from_slice, map, to_vec, tuple};
use serde::Deserialize;
use serde::de::IgnoredAny;

/// What is allowed: [`Limits`] says so.
const FACTOR: usize = 32;
const CONSTANT: usize = 3 << 20;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// Knows what each thread holds, and the most that it has held. What moves is there twice.
struct Counting;

impl Counting {
    fn add(bytes: isize) {
        // A thread that ends has no counters any more, and nobody who reads them.
        let _ = HELD.try_with(|held| {
            held.set(held.get() + bytes);
            let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held.get())));
        });
    }
}

// SAFETY: every call goes to the system's allocator as it came; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::add(layout.size().cast_signed());
        // SAFETY: the caller keeps the contract of `alloc`, which is the same one.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        Self::add(-layout.size().cast_signed());
        // SAFETY: the pointer came from `System`, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most that `run` held beyond what was held before.
fn peak_of(run: impl FnOnce()) -> usize {
    let before = HELD.get();
    PEAK.set(before);
    run();
    usize::try_from(PEAK.get() - before).expect("the peak is not below the start")
}

/// Nothing that reads `bytes` may take more than the rule allows, whether it likes them or not.
fn assert_bounded(name: &str, bytes: &[u8]) {
    type Reader = fn(&[u8]);
    let readers: [(&str, Reader); 7] = [
        ("a tree", |bytes| drop(decode(bytes))),
        ("a tree that is kept", |bytes| drop(decode(bytes).map(Term::into_owned))),
        ("skipping", |bytes| drop(from_slice::<IgnoredAny>(bytes))),
        ("a term by serde", |bytes| drop(from_slice::<Term>(bytes))),
        ("a list of terms", |bytes| drop(from_slice::<Vec<Term>>(bytes))),
        ("a list of numbers", |bytes| drop(from_slice::<Vec<u64>>(bytes))),
        ("maps", |bytes| drop(from_slice::<BTreeMap<String, HashMap<Atom, Term>>>(bytes))),
    ];
    let allowed = FACTOR * bytes.len() + CONSTANT;
    for (reader, read) in readers {
        let peak = peak_of(|| read(bytes));
        let length = bytes.len();
        assert!(peak <= allowed, "{name}, {length} bytes, read as {reader}: {peak} bytes");
    }
}

fn versioned(parts: &[&[u8]]) -> Vec<u8> {
    [&[131][..], &parts.concat()].concat()
}

fn length(length: usize) -> [u8; 4] {
    u32::try_from(length).expect("32 bits").to_be_bytes()
}

fn compressed(term: &[u8], claimed: usize) -> Vec<u8> {
    let stream = miniz_oxide::deflate::compress_to_vec_zlib(term, 9);
    [&[131, 80][..], &length(claimed), &stream].concat()
}

/// A list of as many empty lists: no term is shorter.
fn nils(count: usize) -> Vec<u8> {
    [&[108][..], &length(count), &vec![106; count + 1]].concat()
}

fn string(count: u16) -> Vec<u8> {
    [&[107][..], &count.to_be_bytes(), &vec![7; count.into()]].concat()
}

#[test]
fn claimed_lengths_take_nothing() {
    for tag in [77, 105, 107, 108, 109, 111, 116] {
        assert_bounded("2^32 - 1 in six bytes", &versioned(&[&[tag, 255, 255, 255, 255, 0]]));
    }
    let lists = [108, 0x00, 0x98, 0x96, 0x80].repeat(200);
    assert_bounded("200 lists of ten million", &versioned(&[&lists]));
    assert_bounded("the same with the room for it", &versioned(&[&lists, &vec![106; 12 << 20]]));
    let thirds = [108, 0x00, 0x05, 0x00, 0x00].repeat(60);
    assert_bounded("lists that share a budget", &versioned(&[&thirds, &vec![106; 10 << 20]]));
}

#[test]
fn nesting_takes_nothing() {
    for level in [&[108, 0, 0, 0, 1][..], &[104, 1], &[116, 0, 0, 0, 1], &[108, 0, 0, 0, 0]] {
        assert_bounded("nesting", &versioned(&[&level.repeat(10_000_000 / level.len())]));
    }
    let levels = [&[104, 2, 106][..]].concat().repeat(60);
    assert_bounded("nesting as deep as allowed", &versioned(&[&levels, &nils(900_000)]));
}

#[test]
fn the_shortest_terms_take_no_more_than_32_bytes_each() {
    for count in [1, 60_000, 70_000, 500_000, 999_000] {
        assert_bounded("a list of nothings", &versioned(&[&nils(count)]));
        let tuple = [&[105][..], &length(count), &vec![106; count]].concat();
        assert_bounded("a tuple of nothings", &versioned(&[&tuple]));
    }
    assert_bounded("a string", &versioned(&[&string(u16::MAX)]));
    let strings = string(u16::MAX).repeat(15);
    assert_bounded("strings", &versioned(&[&[104, 15], &strings]));
    let empties = [107, 0, 0].repeat(300_000);
    assert_bounded("empty strings", &versioned(&[&[105], &length(300_000), &empties]));
    let tuples = [104, 1, 106].repeat(300_000);
    assert_bounded("tuples of nothing", &versioned(&[&[105], &length(300_000), &tuples]));
    let bigs = [110, 9, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9].repeat(80_000);
    assert_bounded("big integers", &versioned(&[&[105], &length(80_000), &bigs]));
    let improper = [108, 0, 0, 0, 1, 106, 97, 1].repeat(100_000);
    assert_bounded("improper lists", &versioned(&[&[105], &length(100_000), &improper]));
    let latin1 = [115, 1, 0xe9].repeat(300_000);
    assert_bounded("Latin-1", &versioned(&[&[105], &length(300_000), &latin1]));
    let exports = [113, 115, 1, 0xe9, 115, 1, 0xe9, 97, 1].repeat(60_000);
    assert_bounded("exports", &versioned(&[&[105], &length(60_000), &exports]));
    let bits = [77, 0, 0, 0, 1, 3, 255].repeat(100_000);
    assert_bounded("bit strings", &versioned(&[&[105], &length(100_000), &bits]));
}

#[test]
fn lists_in_pieces_take_no_more_while_they_move() {
    for count in [40_000, 65_536, 70_000, 300_000] {
        let mut list = nils(count);
        list.pop();
        for tail in [&[108, 0, 0, 0, 1, 106, 106][..], &[107, 0, 1, 7], &[106], &[97, 1]] {
            assert_bounded("a list with more", &versioned(&[&list, tail]));
            assert_bounded("behind an empty one", &versioned(&[&list, &[108, 0, 0, 0, 0], tail]));
        }
    }
    let string = string(u16::MAX);
    assert_bounded("and a string", &versioned(&[&[108, 0, 0, 0, 2, 106, 106], &string]));
    let links = [108, 0, 0, 0, 1, 106].repeat(150_000);
    assert_bounded("a list of links", &versioned(&[&links, &[106]]));
}

#[test]
fn wide_maps_take_no_more_while_their_keys_are_compared() {
    for count in [17, 50_000, 200_000, 450_000] {
        let entries = vec![106; 2 * count];
        assert_bounded("the same key", &versioned(&[&[116], &length(count), &entries]));
        let numbers = |order: &dyn Fn(usize) -> usize| {
            let entry = |n| [&[98][..], &length(order(n)), &[106]].concat();
            (0..count).flat_map(entry).collect::<Vec<u8>>()
        };
        let rising = numbers(&|n| n);
        assert_bounded("rising keys", &versioned(&[&[116], &length(count), &rising]));
        let mixed = numbers(&|n| n.wrapping_mul(0x9e37_79b1) % (1 << 31));
        assert_bounded("mixed keys", &versioned(&[&[116], &length(count), &mixed]));
        let tuples = (0..count).flat_map(|n| [&[104, 1, 98][..], &length(n), &[106]].concat());
        let tuples: Vec<u8> = tuples.collect();
        assert_bounded("containers as keys", &versioned(&[&[116], &length(count), &tuples]));
    }
    for count in [30_000, 50_000, 65_000] {
        let entry = [&nils(count)[..], &[106]].concat();
        assert_bounded("two great keys", &versioned(&[&[116], &length(2), &entry, &entry]));
    }
    let mut keys = versioned(&[]);
    for _ in 0..60 {
        keys.extend([116, 0, 0, 0, 2]);
    }
    keys.extend(nils(400_000));
    for level in 0..60 {
        keys.extend([106, 104, 1, 97, level, 106]);
    }
    assert_bounded("maps in keys of maps", &keys);
}

#[test]
fn compression_bombs_take_no_more_than_what_is_stated() {
    let zeros = |count: usize| [&[109][..], &length(count), &vec![0; count]].concat();
    for term in [
        zeros(100_000),
        zeros(900_000),
        zeros(1 << 20),
        zeros(15 << 20),
        nils(30_000),
        nils(60_000),
        nils(900_000),
        [&[104, 15][..], &string(u16::MAX).repeat(15)].concat(),
        [&[105][..], &length(60_000), &[109, 0, 0, 0, 1, 7].repeat(60_000)].concat(),
    ] {
        assert_bounded("a bomb", &compressed(&term, term.len()));
        for lie in
            [0, 1, term.len() / 2, term.len() - 1, term.len() + 1, 16 << 20, u32::MAX as usize]
        {
            assert_bounded("a bomb that lies", &compressed(&term, lie));
        }
    }
}

#[test]
fn other_traps_take_next_to_nothing() {
    let traps: [&[u8]; 10] = [
        &[119, 2, 0xc3, 0x28],
        &[70, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0],
        &[116, 0, 0, 0, 2, 106, 106, 106, 106],
        &[108, 0, 0, 0, 2, 98, 255, 255, 255, 255, 97, 1, 106],
        &[116, 0, 0, 0, 2, 97, 1, 106, 70, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0, 106],
        &[77, 0, 0, 0, 1, 0, 1],
        &[77, 0, 0, 0, 1, 9, 1],
        &[106, 0],
        &[82, 0],
        &[],
    ];
    for trap in traps {
        let bytes = versioned(&[trap]);
        for length in 0..=bytes.len() {
            assert_bounded("a trap, cut off anywhere", &bytes[..length]);
        }
    }
}

#[test]
fn a_frame_of_one_large_binary_is_read_in_place() {
    let content = vec![7; (16 << 20) - 6];
    let bytes = encode(&content.as_slice().into());
    let peak =
        peak_of(|| assert!(decode(&bytes).is_ok_and(|term| term.as_bytes() == Some(&content))));
    assert!(peak < 1 << 10, "{peak} bytes");
}

#[test]
fn the_status_of_ten_thousand_pods_is_read_whole() {
    let status = |pid: i64| {
        map! {
            "status" => Term::atom("running"), "retries" => 0, "phase" => Term::atom("running"),
            "reason" => Term::nil(), "last_exit" => tuple![Term::atom("exited"), 1],
            "last_exit_at_ms" => 1_795_000_000_000_i64, "started_at_ms" => 1_795_000_000_000_i64,
            "retry_in_ms" => Term::nil(), "generation" => pid, "incarnation" => pid,
            "host_pid" => pid,
            "containers" => Term::map([
                ("application", map! { "host_pid" => pid }),
                ("sidecar", map! { "host_pid" => pid }),
            ])
        }
    };
    let pods = (0..10_000).map(|n| (format!("the-{n:05}th-of-many-pods"), status(n)));
    let term = Term::map(pods);
    let bytes = encode(&term);
    assert!(bytes.len() > 3 << 20);
    assert!(decode(&bytes).is_ok_and(|read| read == term));
    let statuses = from_slice::<HashMap<String, Term>>(&bytes).expect("well-formed");
    assert_eq!(statuses.len(), 10_000);
    assert_bounded("status", &bytes);
}

#[derive(Deserialize, serde::Serialize, Debug, PartialEq)]
struct Spec {
    name: String,
    args: Vec<String>,
}

#[test]
fn a_compressed_spec_is_read() {
    let args = (0..100).map(|n| format!("--option-{n}=a value like any other")).collect();
    let spec = Spec { name: "web".into(), args };
    let plain = to_vec(&spec).expect("encodes");
    let bytes = compressed(&plain[1..], plain.len() - 1);
    assert!(bytes.len() < plain.len() / 4);
    assert_eq!(from_slice::<Spec>(&bytes).expect("well-formed"), spec);
    assert_eq!(decode(&bytes), decode(&plain));
    assert_bounded("a spec", &bytes);
}

#[test]
fn limits_lower_than_the_default_hold() {
    let limits = Limits { nodes_max: 1_000, ..Limits::default() };
    let bytes = versioned(&[&nils(100_000)]);
    let peak = peak_of(|| {
        erlang_term_format::decode_with(&bytes, &limits).expect_err("too many");
    });
    assert!(peak < 1 << 10, "{peak} bytes");
}
