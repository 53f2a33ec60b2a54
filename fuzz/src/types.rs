//! Bytes into derived types, borrowed and owned: whatever is read survives, and was well-formed.

use std::borrow::Cow;
use std::collections::BTreeMap;

use erlang_term_format::{Atom, Term, decode, from_slice, from_term, to_vec};
use serde::{Deserialize, Serialize};

/// Panics if reading `input` into a type panics, or gives what does not come back.
pub fn holds(input: &[u8]) {
    let tree = decode(input).ok();
    macro_rules! hold_for {
        ($($type:ty)*) => {$({
            let read = from_slice::<$type>(input);
            if let Ok(value) = &read {
                let bytes = to_vec(value).expect("it was written once");
                let again = from_slice::<$type>(&bytes);
                assert_eq!(again.as_ref().ok(), Some(value), "{again:?}");
                assert!(tree.is_some(), "no term, and yet {value:?}");
            }
            if let Some(tree) = &tree && !is_compressed(input) {
                let from_tree = from_term::<$type>(tree);
                assert_eq!(from_tree.as_ref().ok(), read.as_ref().ok(), "{from_tree:?} {read:?}");
            }
        })*};
    }
    hold_for! {
        Pod
        Shape
        Loose
        Vec<Tagged>
        (Atom, i128, Option<(u64, char)>)
        BTreeMap<String, f64>
        Vec<Option<Port>>
    }
}

/// There is nothing to borrow from what was inflated.
fn is_compressed(input: &[u8]) -> bool {
    input.get(1) == Some(&80)
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
struct Pod<'a> {
    name: &'a str,
    #[serde(default)]
    restart: Restart,
    #[serde(borrow, default)]
    containers: Vec<Container<'a>>,
    #[serde(borrow, default)]
    labels: BTreeMap<&'a str, Option<&'a str>>,
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct Container<'a> {
    #[serde(borrow)]
    image: Image<'a>,
    #[serde(borrow, default)]
    args: Vec<Cow<'a, str>>,
    cpu: Option<(u64, u64)>,
    tty: bool,
    #[serde(borrow)]
    extra: Option<Term<'a>>,
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Image<'a> {
    None,
    #[serde(borrow)]
    Rootfs(&'a str),
    Layers(u32, [i16; 2]),
    Pull {
        #[serde(borrow)]
        from: Atom<'a>,
        every: f64,
    },
}

#[derive(Serialize, Deserialize, Debug, PartialEq, Default)]
#[serde(rename_all = "snake_case")]
enum Restart {
    #[default]
    Always,
    Never,
}

/// Recursive, and of every kind.
#[derive(Serialize, Deserialize, Debug, PartialEq)]
enum Shape {
    Unit,
    Newtype(Option<Box<Shape>>),
    Wide(i128, u128),
    Struct { text: String, flag: bool, number: f64 },
    Many(Vec<Shape>),
    Pairs(BTreeMap<i64, Shape>),
    Nothing((), [u8; 3]),
}

/// Small integers in a list arrive as a string, which has no terms in it.
#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct Port(u16);

/// What serde buffers before it chooses.
#[derive(Serialize, Deserialize, Debug, PartialEq)]
#[serde(untagged)]
enum Loose {
    Number(i64),
    Text(String),
    Numbers(Vec<u16>),
    Named { name: String, value: Box<Loose> },
}

/// What serde looks for the tag in.
#[derive(Serialize, Deserialize, Debug, PartialEq)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Tagged {
    Exited { code: i32 },
    Signaled { signal: u8, core: Option<bool> },
}
