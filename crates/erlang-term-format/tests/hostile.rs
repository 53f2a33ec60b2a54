//! Input that nobody vouches for: each trap is refused, cheaply, by the tree and by serde.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::HashMap;
use std::fmt::Debug;
use std::time::{Duration, Instant};

use erlang_term_format::{
    DecodeErrorKind as Kind, Limits, Term, decode, decode_with, encode, from_slice,
    from_slice_with, text,
};
use serde::Deserialize;
use serde::de::IgnoredAny;

thread_local! {
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
}

/// Adds up what each thread asks for.
struct Counting;

// SAFETY: every call goes to the system's allocator as it came; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // A thread that ends has no counter any more, and nobody who reads it.
        let _ = ALLOCATED.try_with(|sum| sum.set(sum.get() + layout.size()));
        // SAFETY: the caller keeps the contract of `alloc`, which is the same one.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `System`, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The result, and the bytes that were asked for on the way.
fn counted<T>(run: impl FnOnce() -> T) -> (T, usize) {
    let before = ALLOCATED.get();
    let result = run();
    (result, ALLOCATED.get() - before)
}

/// Bytes after the version byte.
fn versioned(term: &[u8]) -> Vec<u8> {
    [&[131], term].concat()
}

/// The one refusal that the tree, a skipping and a typed reader agree on.
fn refusal_of(bytes: &[u8]) -> Kind {
    let kind = decode(bytes).expect_err("the tree must refuse").kind;
    let skipped = serde_refusal::<IgnoredAny>(bytes);
    assert_eq!(skipped, Some(kind), "skipping and the tree disagree");
    let passed = serde_refusal::<Term>(bytes);
    assert_eq!(passed, Some(kind), "passing through and the tree disagree");
    kind
}

fn serde_refusal<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Option<Kind> {
    let error = from_slice::<T>(bytes).err().expect("serde must refuse");
    error.decode_error()
}

fn source(text: &str) -> Term<'static> {
    text::parse(text).expect("a test's own term")
}

fn decoded(bytes: &[u8]) -> Term<'_> {
    decode(bytes).expect("a well-formed term")
}

fn compressed(term: &[u8], claimed: u32) -> Vec<u8> {
    let stream = miniz_oxide::deflate::compress_to_vec_zlib(term, 9);
    [&[131, 80][..], &claimed.to_be_bytes(), &stream].concat()
}

#[derive(Deserialize, Debug)]
#[expect(dead_code, reason = "a shape to read into")]
enum Tree {
    Leaf,
    Branch(Box<Tree>, Vec<Tree>),
}

#[test]
fn latin_1_atoms_of_otp_25_become_text() {
    let bytes = versioned(&[100, 0, 3, b's', 0xfc, b'd']);
    assert_eq!(decoded(&bytes), Term::atom("süd"));
    assert_eq!(decoded(&versioned(&[115, 1, 0xe9])), Term::atom("é"));
    // These two bytes would be one letter in UTF-8.
    assert_eq!(decoded(&versioned(&[100, 0, 2, 0xc3, 0xa9])), Term::atom("Ã©"));
}

#[test]
fn utf8_atoms_of_otp_26_become_the_same_text() {
    assert_eq!(decoded(&versioned(&[119, 2, 0xc3, 0xa9])), Term::atom("é"));
    assert_eq!(decoded(&versioned(&[118, 0, 2, 0xc3, 0xa9])), Term::atom("é"));
}

#[test]
fn a_list_of_small_integers_that_arrives_as_a_string_is_a_list() {
    let bytes = versioned(&[107, 0, 3, 1, 2, 3]);
    assert_eq!(decoded(&bytes), Term::list([1, 2, 3]));
    assert_eq!(from_slice::<Vec<u64>>(&bytes).expect("a list"), [1, 2, 3]);
    assert_eq!(encode(&Term::list([1, 2, 3])), bytes);
    assert_eq!(decoded(&versioned(&[107, 0, 0])), Term::List(vec![]));
}

#[test]
fn integers_from_2_to_the_31_arrive_as_big_ones() {
    let bytes = versioned(&[110, 4, 0, 0, 0, 0, 0x80]);
    assert_eq!(decoded(&bytes), Term::from(1_i64 << 31));
    assert_eq!(from_slice::<u32>(&bytes).expect("it fits"), 1 << 31);
    assert_eq!(encode(&Term::from(1_i64 << 31)), bytes);
}

#[test]
fn big_integers_with_zeros_in_front_or_a_minus_zero_have_one_form() {
    assert_eq!(decoded(&versioned(&[110, 3, 1, 5, 0, 0])), Term::from(-5));
    assert_eq!(decoded(&versioned(&[110, 0, 1])), Term::from(0));
    let wide = versioned(&[&[111, 0, 0, 0, 20, 0][..], &[1; 8], &[0; 12]].concat());
    assert_eq!(decoded(&wide), Term::from(0x0101_0101_0101_0101_i64));
    assert_eq!(refusal_of(&versioned(&[110, 1, 2, 5])), Kind::Sign(2));
}

#[test]
fn integers_at_the_edges_of_64_and_128_bits_keep_their_value() {
    for value in [i64::MIN.into(), i64::MAX.into(), u64::MAX.into(), i128::MIN, i128::MAX] {
        let bytes = encode(&value.into());
        assert_eq!(decoded(&bytes).as_i128(), Some(value));
        assert_eq!(from_slice::<i128>(&bytes).expect("it fits"), value);
    }
    let bytes = encode(&source("340282366920938463463374607431768211455"));
    assert_eq!(from_slice::<u128>(&bytes).expect("it fits"), u128::MAX);
    let bytes = encode(&source("340282366920938463463374607431768211456"));
    let error = from_slice::<u128>(&bytes).expect_err("it does not fit");
    assert!(error.to_string().contains("more than 128 bits"), "{error}");
}

#[test]
fn a_claimed_length_of_2_to_the_32_in_six_bytes_is_refused_before_it_is_allocated() {
    for tag in [105, 108, 109, 111, 116] {
        let bytes = versioned(&[tag, 255, 255, 255, 255, 0]);
        let (_, allocated) = counted(|| {
            decode(&bytes).expect_err("the tree must refuse");
        });
        assert!(allocated < 1 << 10, "tag {tag}: {allocated} bytes");
        let kind = refusal_of(&bytes);
        assert!(matches!(kind, Kind::LengthBeyondEnd { .. }), "tag {tag}: {kind:?}");
    }
    assert!(matches!(
        refusal_of(&versioned(&[77, 255, 255, 255, 255, 1])),
        Kind::LengthBeyondEnd { .. }
    ));
}

#[test]
fn ten_million_nested_lists_are_refused_without_a_stack_overflow() {
    let levels = 10_000_000;
    let generous = Limits { bytes_max: usize::MAX, depth_max: usize::MAX, nodes_max: usize::MAX };
    for level in [&[108, 0, 0, 0, 1][..], &[104, 1], &[105, 0, 0, 0, 1], &[108, 0, 0, 0, 0]] {
        let bytes = versioned(&level.repeat(levels));
        for limits in [Limits { bytes_max: usize::MAX, ..Limits::default() }, generous] {
            let kind = decode_with(&bytes, &limits).expect_err("too deep").kind;
            assert!(matches!(kind, Kind::TooDeep { .. }), "{kind:?}");
            let error = from_slice_with::<IgnoredAny>(&bytes, &limits).expect_err("too deep");
            assert!(error.to_string().contains("levels of nesting"), "{error}");
        }
    }
}

#[test]
fn nested_maps_and_funs_count_as_levels_too() {
    let map = versioned(&[116, 0, 0, 0, 1, 97, 1].repeat(100_000));
    assert!(matches!(refusal_of(&map), Kind::TooDeep { max: 64 }));
    let keys = versioned(&[116, 0, 0, 0, 1].repeat(100_000));
    assert!(matches!(refusal_of(&keys), Kind::TooDeep { max: 64 }));
    let pid = [103, 119, 1, b'n', 0, 0, 0, 1, 0, 0, 0, 0, 0];
    let fun = [&[117, 0, 0, 0, 1][..], &pid, &[119, 1, b'm', 97, 0, 97, 0]].concat();
    let funs = versioned(&fun.repeat(10_000));
    assert!(matches!(refusal_of(&funs), Kind::TooDeep { max: 64 }));
}

#[test]
fn a_recursive_type_cannot_be_made_to_overflow_the_stack() {
    let branch = [&[104, 3, 119, 6][..], b"Branch"].concat();
    let bytes = versioned(&branch.repeat(1_000_000));
    let error = from_slice::<Tree>(&bytes).expect_err("too deep");
    assert!(error.to_string().contains("levels of nesting"), "{error}");
}

#[test]
fn the_deepest_nesting_that_limits_allow_fits_a_small_stack() {
    let levels = Limits::DEPTH_CEILING;
    let bytes = versioned(&[&[104, 1].repeat(levels)[..], &[106]].concat());
    let limits = Limits { depth_max: usize::MAX, ..Limits::default() };
    let read = move || {
        let term = decode_with(&bytes, &limits).expect("as deep as allowed");
        assert_eq!(encode(&term), bytes);
        from_slice_with::<IgnoredAny>(&bytes, &limits).expect("as deep as allowed");
        drop(term.clone().into_owned());
    };
    let small = std::thread::Builder::new().stack_size(1 << 20);
    small.spawn(read).expect("a thread").join().expect("no overflow");
}

#[test]
fn two_hundred_lists_that_each_claim_ten_million_elements_are_refused() {
    let claims = [108, 0x00, 0x98, 0x96, 0x80].repeat(200);
    let bytes = versioned(&[&claims[..], &vec![106; 15_000_000]].concat());
    let (kind, allocated) = counted(|| decode(&bytes).expect_err("too many").kind);
    assert_eq!(kind, Kind::TooManyNodes { max: 1_000_000 });
    assert!(allocated < 1 << 10, "{allocated} bytes");
    assert_eq!(refusal_of(&bytes), kind);
}

#[test]
fn lists_that_share_one_budget_cannot_each_reserve_it_all() {
    // Each claims a third of the nodes: the fourth goes beyond.
    let claims = [108, 0x00, 0x05, 0x00, 0x00].repeat(60);
    let bytes = versioned(&[&claims[..], &vec![106; 10_000_000]].concat());
    let (kind, allocated) = counted(|| decode(&bytes).expect_err("too many").kind);
    assert_eq!(kind, Kind::TooManyNodes { max: 1_000_000 });
    assert!(allocated <= 1_000_000 * size_of::<Term>(), "{allocated} bytes");
}

#[test]
fn containers_in_one_another_that_each_claim_all_that_is_left_share_one_budget() {
    for claim in [&[105, 0, 0, 60, 0][..], &[108, 0, 0, 60, 0], &[116, 0, 0, 30, 0]] {
        let bytes = versioned(&[&claim.repeat(60)[..], &[106; 60 << 8]].concat());
        let (kind, allocated) = counted(|| decode(&bytes).expect_err("too many claims").kind);
        assert!(matches!(kind, Kind::TooMuchMemory { .. }), "{kind:?}");
        assert!(allocated <= bytes.len() * size_of::<Term>() + (2 << 20), "{allocated} bytes");
        assert_eq!(refusal_of(&bytes), kind);
    }
}

#[test]
fn a_tree_takes_no_more_memory_than_its_nodes() {
    assert!(size_of::<Term>() <= 32);
    let bytes = versioned(&[&[108, 0, 1, 0, 0][..], &[106; 65_537]].concat());
    let (term, allocated) = counted(|| decode(&bytes).map(|term| encode(&term).len()));
    assert_eq!(term.expect("within the limits"), bytes.len());
    assert!(allocated < 65_536 * size_of::<Term>() + (1 << 19), "{allocated} bytes");
}

#[test]
fn a_string_spends_a_node_for_each_byte() {
    let string = [&[107, 255, 255][..], &[1; 65_535]].concat();
    let bytes = versioned(&[&[104, 20][..], &string.repeat(20)].concat());
    assert_eq!(refusal_of(&bytes), Kind::TooManyNodes { max: 1_000_000 });
}

#[test]
fn input_beyond_the_limit_on_bytes_is_not_looked_at() {
    let bytes = vec![0; (16 << 20) + 1];
    assert!(matches!(refusal_of(&bytes), Kind::TooLarge { .. }));
}

#[test]
fn a_compressed_term_is_read_and_owns_what_it_holds() {
    let plain = encode(&source("{pod, <<\"web\">>, [1,2,3], #{a => 1.5}}"));
    let bytes = compressed(&plain[1..], u32::try_from(plain.len() - 1).expect("short"));
    assert_eq!(decoded(&bytes), decoded(&plain));
    let read: (erlang_term_format::Atom, String, Vec<u8>, HashMap<erlang_term_format::Atom, f64>) =
        from_slice(&bytes).expect("the same through serde");
    assert_eq!((&*read.0, &*read.1, &read.2[..]), ("pod", "web", &[1, 2, 3][..]));
    let error = from_slice::<(Term, &str, Term, Term)>(&bytes).expect_err("nothing to borrow");
    assert!(error.to_string().starts_with("[1]: "), "{error}");
}

#[test]
fn a_compression_bomb_is_refused_by_what_it_claims() {
    let bomb = [&[109, 0x40, 0, 0, 0][..], &vec![0; 64 << 20]].concat();
    let honest = compressed(&bomb, u32::try_from(bomb.len()).expect("short"));
    let (kind, allocated) = counted(|| decode(&honest).expect_err("too large").kind);
    assert!(matches!(kind, Kind::TooLarge { .. }), "{kind:?}");
    assert!(allocated < 1 << 10, "{allocated} bytes");
    assert_eq!(refusal_of(&honest), kind);
}

#[test]
fn a_compression_bomb_with_a_lying_size_is_refused() {
    let zeros = [&[109, 0x00, 0x10, 0, 0][..], &vec![0; 1 << 20]].concat();
    let length = u32::try_from(zeros.len()).expect("short");
    for lie in [0, 1, length - 1] {
        let bytes = compressed(&zeros, lie);
        let (kind, allocated) = counted(|| decode(&bytes).expect_err("a lie").kind);
        assert!(matches!(kind, Kind::CompressedSize { .. }), "{lie}: {kind:?}");
        assert!(allocated < lie as usize + (64 << 10), "{allocated} bytes");
        assert_eq!(refusal_of(&bytes), kind);
    }
    let kind = refusal_of(&compressed(&zeros, length + 1));
    assert!(matches!(kind, Kind::CompressedSize { .. }), "{kind:?}");
}

#[test]
fn a_small_stream_that_claims_megabytes_is_refused_before_they_are_allocated() {
    let bytes = compressed(&[106], 10 << 20);
    let (kind, allocated) = counted(|| decode(&bytes).expect_err("a lie").kind);
    assert!(matches!(kind, Kind::CompressedSize { .. }), "{kind:?}");
    assert!(allocated < 1 << 10, "{allocated} bytes");
}

#[test]
fn damaged_compressed_data_is_refused() {
    let plain = encode(&source("[{a, <<\"some text\">>}, {b, <<\"some text\">>}]"));
    let length = u32::try_from(plain.len() - 1).expect("short");
    let whole = compressed(&plain[1..], length);
    decoded(&whole);
    for index in 6..whole.len() {
        let mut damaged = whole.clone();
        damaged[index] ^= 0x55;
        refusal_of(&damaged);
    }
}

#[test]
fn a_compressed_term_inside_a_compressed_term_is_refused() {
    let inner = &compressed(&[106], 1)[1..];
    let bytes = compressed(inner, u32::try_from(inner.len()).expect("short"));
    assert_eq!(refusal_of(&bytes), Kind::UnknownTag(80));
    assert_eq!(refusal_of(&versioned(&[104, 1, 80])), Kind::UnknownTag(80));
}

#[test]
fn invalid_utf8_in_an_atom_is_refused() {
    assert_eq!(refusal_of(&versioned(&[119, 2, 0xc3, 0x28])), Kind::AtomEncoding);
    assert_eq!(refusal_of(&versioned(&[118, 0, 1, 0xff])), Kind::AtomEncoding);
    // A surrogate.
    assert_eq!(refusal_of(&versioned(&[119, 3, 0xed, 0xa0, 0x80])), Kind::AtomEncoding);
}

#[test]
fn an_atom_of_more_than_255_characters_is_refused() {
    let long = |tag, letter: &str, count: usize| {
        let text = letter.repeat(count);
        let length = u16::try_from(text.len()).expect("short").to_be_bytes();
        versioned(&[&[tag][..], &length, text.as_bytes()].concat())
    };
    assert_eq!(decoded(&long(118, "é", 255)), Term::atom("é".repeat(255)));
    assert_eq!(refusal_of(&long(118, "é", 256)), Kind::AtomTooLong);
    assert_eq!(refusal_of(&long(100, "a", 256)), Kind::AtomTooLong);
}

#[test]
fn nan_and_infinities_are_refused() {
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let bytes = versioned(&[&[70][..], &value.to_be_bytes()].concat());
        assert_eq!(refusal_of(&bytes), Kind::Float);
        let error = erlang_term_format::to_vec(&vec![1.0, value]).expect_err("no form");
        assert!(error.to_string().starts_with("[1]: a float that is not finite"), "{error}");
    }
}

#[test]
fn floats_of_old_releases_are_read_as_text() {
    let float = |text: &[u8]| {
        let mut bytes = [0; 31];
        bytes[..text.len()].copy_from_slice(text);
        versioned(&[&[99][..], &bytes].concat())
    };
    assert_eq!(decoded(&float(b"1.50000000000000000000e+00")), Term::from(1.5));
    assert_eq!(decoded(&float(b"-1.00000000000000000000e-10")), Term::from(-1e-10));
    for wrong in [&b"nan"[..], b"inf", b"1e999", b"", b"1.5x", b"\xff"] {
        assert_eq!(refusal_of(&float(wrong)), Kind::Float, "{wrong:?}");
    }
    // The BEAM reads on into whatever lies behind.
    assert_eq!(refusal_of(&float(b"1.50000000000000000000000000000")), Kind::Float);
}

#[test]
fn a_map_with_the_same_key_twice_is_refused() {
    let keys = [
        "a",
        "<<\"a\">>",
        "1",
        "-1",
        "1.5",
        "123456789012345678901234567890",
        "\"text\"",
        "<<1:1>>",
        "{a,1}",
        "[a|b]",
        "#{a => #{b => 1}, c => 2}",
        "fun m:f/1",
        "[]",
        "{}",
        "#{}",
    ];
    for key in keys {
        for others in [0, 1, 15, 16, 100] {
            let mut entries = vec![(source(key), 1.into())];
            entries.extend((0..others).map(|n| (Term::from(1_000 + n), 0.into())));
            decoded(&encode(&Term::Map(entries.clone())));
            entries.push((source(key), 2.into()));
            let bytes = encode(&Term::Map(entries));
            assert_eq!(refusal_of(&bytes), Kind::DuplicateKey, "{key}, {others} others");
        }
    }
}

#[test]
fn the_same_key_in_two_encodings_is_still_the_same_key() {
    let pairs: [(&[u8], &[u8]); 8] = [
        (&[100, 0, 1, b'a'], &[119, 1, b'a']),
        (&[115, 1, 0xe9], &[119, 2, 0xc3, 0xa9]),
        (&[97, 5], &[98, 0, 0, 0, 5]),
        (&[97, 5], &[110, 2, 0, 5, 0]),
        (&[107, 0, 1, 7], &[108, 0, 0, 0, 1, 97, 7, 106]),
        (&[104, 1, 97, 5], &[105, 0, 0, 0, 1, 98, 0, 0, 0, 5]),
        (&[109, 0, 0, 0, 1, 9], &[77, 0, 0, 0, 1, 8, 9]),
        (
            &[113, 100, 0, 1, b'm', 115, 1, b'f', 97, 1],
            &[113, 119, 1, b'm', 119, 1, b'f', 98, 0, 0, 0, 1],
        ),
    ];
    for (one, other) in pairs {
        let bytes = versioned(&[&[116, 0, 0, 0, 2][..], one, &[106], other, &[106]].concat());
        assert_eq!(refusal_of(&bytes), Kind::DuplicateKey, "{one:?} and {other:?}");
    }
}

#[test]
fn maps_as_keys_are_the_same_in_any_order() {
    let bytes = encode(&Term::Map(vec![
        (source("#{a => 1, b => #{c => 1, d => 2}}"), 1.into()),
        (source("#{b => #{d => 2, c => 1}, a => 1}"), 2.into()),
    ]));
    assert_eq!(refusal_of(&bytes), Kind::DuplicateKey);
}

#[test]
fn one_and_one_point_zero_are_two_keys() {
    let bytes = encode(&source("#{1 => a, 1.0 => b}"));
    let map = decoded(&bytes);
    assert_eq!(map.get_term(&1.into()), Some(&Term::atom("a")));
    assert_eq!(map.get_term(&1.0.into()), Some(&Term::atom("b")));
    assert_ne!(Term::from(1), Term::from(1.0));
}

#[test]
fn negative_integers_in_small_lists_stay_negative() {
    for values in [vec![-1, 2, 3], vec![1, 2, 256], vec![-128, -129, i32::MIN, i32::MAX]] {
        let bytes = erlang_term_format::to_vec(&values).expect("a list");
        assert_eq!(bytes[1], 108);
        assert_eq!(encode(&Term::list(values.clone())), bytes);
        assert_eq!(from_slice::<Vec<i32>>(&bytes).expect("a list"), values);
        assert_eq!(decoded(&bytes), Term::list(values));
    }
}

#[test]
fn bit_strings_with_0_or_9_bits_are_refused() {
    assert_eq!(refusal_of(&versioned(&[77, 0, 0, 0, 1, 0, 1])), Kind::LastBits(0));
    assert_eq!(refusal_of(&versioned(&[77, 0, 0, 0, 1, 9, 1])), Kind::LastBits(9));
    assert_eq!(refusal_of(&versioned(&[77, 0, 0, 0, 0, 3])), Kind::LastBits(3));
    assert_eq!(decoded(&versioned(&[77, 0, 0, 0, 1, 8, 1])), Term::binary(&[1]));
}

#[test]
fn bits_that_do_not_count_make_no_difference() {
    let clean = versioned(&[77, 0, 0, 0, 1, 3, 0b1010_0000]);
    let dirty = versioned(&[77, 0, 0, 0, 1, 3, 0b1011_1111]);
    assert_eq!(decoded(&clean), decoded(&dirty));
    assert_eq!(encode(&decoded(&dirty)), clean);
}

#[test]
fn trailing_bytes_are_refused() {
    assert_eq!(refusal_of(&versioned(&[106, 0])), Kind::TrailingBytes(1));
    let mut bytes = compressed(&[106], 1);
    bytes.push(0);
    assert_eq!(refusal_of(&bytes), Kind::TrailingBytes(1));
    assert_eq!(refusal_of(&compressed(&[106, 106], 2)), Kind::TrailingBytes(1));
}

#[test]
fn atom_cache_references_and_other_parts_of_a_connection_are_refused_by_name() {
    for (tag, name) in [
        (82, "ATOM_CACHE_REF"),
        (68, "a distribution header"),
        (69, "a distribution fragment"),
        (121, "LOCAL_EXT"),
    ] {
        assert_eq!(refusal_of(&versioned(&[tag, 0])), Kind::Unsupported { tag, name });
    }
    // In place of a node's name.
    let pid = [&[88, 82, 0][..], &[0; 12]].concat();
    assert!(matches!(refusal_of(&versioned(&pid)), Kind::Unsupported { tag: 82, .. }));
}

#[test]
fn unknown_tags_and_versions_are_refused() {
    for tag in (0..=255).filter(|tag| !matches!(tag, 68..=70 | 77 | 80 | 82 | 88..=90 | 97..=121)) {
        assert_eq!(refusal_of(&versioned(&[tag, 0, 0, 0, 0])), Kind::UnknownTag(tag));
    }
    assert_eq!(refusal_of(&[130, 106]), Kind::Version(130));
    assert_eq!(refusal_of(&[]), Kind::UnexpectedEnd);
    assert_eq!(refusal_of(&[131]), Kind::UnexpectedEnd);
}

#[test]
fn a_tail_that_is_a_list_belongs_to_the_list() {
    let tailed = |tail: &[u8]| versioned(&[&[108, 0, 0, 0, 1, 97, 1][..], tail].concat());
    for tail in [&[107, 0, 1, 2][..], &[108, 0, 0, 0, 1, 97, 2, 106]] {
        let bytes = tailed(tail);
        assert_eq!(decoded(&bytes), Term::list([1, 2]));
        assert_eq!(from_slice::<Vec<u8>>(&bytes).expect("a list"), [1, 2]);
    }
    let improper = tailed(&[97, 2]);
    assert_eq!(decoded(&improper), source("[1|2]"));
    let error = from_slice::<Vec<u8>>(&improper).expect_err("improper");
    assert!(error.to_string().contains("improper list"), "{error}");
}

#[test]
fn a_list_of_no_elements_is_its_tail() {
    let bytes = versioned(&[108, 0, 0, 0, 0, 97, 7]);
    assert_eq!(decoded(&bytes), Term::from(7));
    assert_eq!(from_slice::<u8>(&bytes).expect("the tail"), 7);
    // As a tail: what follows is not its own.
    let tail = versioned(&[104, 2, 108, 0, 0, 0, 1, 97, 1, 108, 0, 0, 0, 0, 106, 97, 2]);
    assert_eq!(decoded(&tail), source("{[1],2}"));
    assert_eq!(from_slice::<(Vec<u8>, u8)>(&tail).expect("a list and a number"), (vec![1], 2));
    from_slice::<IgnoredAny>(&tail).expect("well-formed");
    let nil = versioned(&[108, 0, 0, 0, 0, 106]);
    assert_eq!(decoded(&nil), Term::List(vec![]));
    assert_eq!(from_slice::<Vec<u8>>(&nil).expect("empty"), [0_u8; 0]);
}

#[test]
fn a_long_chain_of_tails_is_one_list() {
    let links = 200_000;
    let chain = [108, 0, 0, 0, 1, 97, 1].repeat(links);
    let bytes = versioned(&[&chain[..], &[106]].concat());
    assert_eq!(decoded(&bytes).as_list().map(<[Term]>::len), Some(links));
    assert_eq!(from_slice::<Vec<u8>>(&bytes).expect("a list").len(), links);
    from_slice::<IgnoredAny>(&bytes).expect("a list");
}

#[test]
fn malformed_pids_references_and_funs_are_refused() {
    for bytes in [
        &[90, 0, 0, 119, 1, b'n', 0, 0, 0, 0][..],
        &[90, 0, 6, 119, 1, b'n', 0, 0, 0, 0],
        &[113, 119, 1, b'm', 119, 1, b'f', 119, 1, b'a'],
        &[113, 119, 1, b'm', 119, 1, b'f', 98, 255, 255, 255, 255],
        &[113, 119, 1, b'm', 119, 1, b'f', 98, 0, 0, 1, 0],
        &[117, 0, 0, 0, 0, 97, 1],
    ] {
        let kind = refusal_of(&versioned(bytes));
        assert!(matches!(kind, Kind::Malformed(_)), "{bytes:?}: {kind:?}");
    }
    assert_eq!(refusal_of(&versioned(&[103, 97, 1])), Kind::AtomExpected(97));
}

/// A term with every tag in it.
fn rich() -> Vec<u8> {
    let node: &[u8] = &[119, 3, b'n', b'@', b'h'];
    let pid = [&[88][..], node, &[0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1]].concat();
    let fun_body = [
        &[2][..],
        &[7; 16],
        &[0, 0, 0, 1],
        &[0, 0, 0, 1],
        &[119, 1, b'm'],
        &[97, 1],
        &[97, 2],
        &pid,
        &[116, 0, 0, 0, 1, 97, 1, 106],
    ]
    .concat();
    let fun_size = u32::try_from(fun_body.len() + 4).expect("short").to_be_bytes();
    let float = [&[99][..], b"1.50000000000000000000e+00\0\0\0\0\0"].concat();
    let parts: Vec<Vec<u8>> = vec![
        pid.clone(),
        [&[103][..], node, &[0; 9]].concat(),
        [&[89][..], node, &[0; 8]].concat(),
        [&[102][..], node, &[0; 5]].concat(),
        [&[120][..], node, &[0; 12]].concat(),
        [&[101][..], node, &[0; 5]].concat(),
        [&[114, 0, 3][..], node, &[0; 13]].concat(),
        [&[90, 0, 5][..], node, &[0; 24]].concat(),
        [&[112][..], &fun_size, &fun_body].concat(),
        [&[117, 0, 0, 0, 1][..], &pid, &[119, 1, b'm', 97, 0, 97, 0, 106]].concat(),
        vec![113, 100, 0, 1, b'm', 115, 1, b'f', 97, 2],
        vec![70, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0],
        float,
        vec![77, 0, 0, 0, 2, 3, 255, 0xe0],
        vec![110, 9, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9],
        vec![111, 0, 0, 0, 9, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
        vec![98, 255, 255, 255, 254],
        vec![118, 0, 2, 0xc3, 0xa9],
        vec![109, 0, 0, 0, 3, 1, 2, 3],
        vec![107, 0, 2, 1, 2],
        vec![108, 0, 0, 0, 2, 97, 1, 106, 97, 3],
        vec![116, 0, 0, 0, 2, 104, 1, 97, 1, 106, 119, 1, b'k', 105, 0, 0, 0, 1, 97, 1],
    ];
    let arity = u8::try_from(parts.len()).expect("few");
    versioned(&[&[104, arity][..], &parts.concat()].concat())
}

#[test]
fn truncation_at_every_byte_is_an_error_and_never_a_panic() {
    let bytes = rich();
    decoded(&bytes);
    from_slice::<IgnoredAny>(&bytes).expect("well-formed");
    for length in 0..bytes.len() {
        let kind = refusal_of(&bytes[..length]);
        let truncated = matches!(kind, Kind::UnexpectedEnd | Kind::LengthBeyondEnd { .. });
        assert!(truncated, "at {length}: {kind:?}");
    }
}

#[test]
fn opaque_values_are_carried_byte_for_byte() {
    let bytes = rich();
    let parts = decoded(&bytes);
    let again = encode(&parts);
    assert_eq!(decoded(&again), parts);
    for part in parts.as_tuple().expect("a tuple").iter().take(10) {
        let Term::Opaque(opaque) = part else { panic!("{part}") };
        let encoded = opaque.encoded();
        assert!(bytes.windows(encoded.len()).any(|window| window == encoded));
        assert_eq!(encode(part), versioned(encoded));
    }
}

#[test]
fn any_byte_changed_to_anything_never_panics() {
    let bytes = rich();
    for index in 0..bytes.len() {
        for value in 0..=255 {
            let mut changed = bytes.clone();
            changed[index] = value;
            let tree = decode(&changed);
            let skipped = from_slice::<IgnoredAny>(&changed);
            assert_eq!(tree.is_ok(), skipped.is_ok(), "byte {index} is {value}: {tree:?}");
            if let Ok(term) = tree {
                assert_eq!(decoded(&encode(&term)), term);
                assert!(!term.to_string().is_empty());
            }
        }
    }
}

/// Maps in keys of maps: `levels` of them, with two unlike keys in each.
fn nested_keys(levels: usize, width: usize) -> Vec<u8> {
    let mut key = versioned(&[108, 0, 0, 0, 0]);
    key.truncate(1);
    let leaf = [&[108][..], &u32::try_from(width).expect("few").to_be_bytes()].concat();
    let mut term = [&leaf[..], &[97, 1].repeat(width), &[106]].concat();
    for level in 0..u8::try_from(levels).expect("few") {
        term = [&[116, 0, 0, 0, 2][..], &term, &[106, 104, 1, 97, level, 106]].concat();
    }
    [&key[..], &term].concat()
}

#[test]
fn maps_in_keys_of_maps_cost_no_more_than_the_budget() {
    let bytes = nested_keys(60, 900_000);
    let started = Instant::now();
    assert_eq!(decode(&bytes).expect_err("too dear").kind, Kind::TooManyNodes { max: 1_000_000 });
    from_slice::<IgnoredAny>(&bytes).expect_err("too dear");
    from_slice::<Term>(&bytes).expect_err("too dear");
    // Naively this takes hours: the bound is far from the 0.2 s that it takes here.
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
    decoded(&nested_keys(60, 100));
}

#[test]
fn maps_in_keys_of_maps_are_sorted_and_compared_in_no_giant_time() {
    // Two keys that differ in their last value alone. Sorting at each level for each comparison
    // takes six times as long with each level.
    let mut pair = [Term::from(1), Term::from(2)];
    for _ in 0..15 {
        let map = |last| Term::map([(pair[0].clone(), 0), (pair[1].clone(), last)]);
        pair = [map(1), map(2)];
    }
    let [mut deep, other] = pair;
    assert!(deep < other);
    assert!(deep.cmp(&deep.clone()).is_eq());
    let before = deep.clone();
    deep.sort_maps();
    assert!(deep.cmp(&before).is_eq());
}

#[test]
fn large_maps_are_checked_in_linear_time() {
    let entries: Vec<(Term, Term)> = (0..400_000).map(|n| (Term::from(n), Term::nil())).collect();
    let bytes = encode(&Term::Map(entries));
    let started = Instant::now();
    let map = decoded(&bytes);
    from_slice::<IgnoredAny>(&bytes).expect("well-formed");
    let other = map.clone();
    assert_eq!(map, other);
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
}
