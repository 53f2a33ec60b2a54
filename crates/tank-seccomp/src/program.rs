//! Classic BPF as seccomp(2) takes it: instructions, and how decisions are put
//! together from them. All jumps are relative and forward, so that pieces can be
//! put in any place. Knows nothing of profiles.

use crate::profile::{Argument, Operator};

/// The longest program that the kernel takes.
pub const INSTRUCTIONS_MAX: usize = 4096;

/// Where `struct seccomp_data` has the call's number and its ABI.
const NUMBER_OFFSET: u32 = 0;
const ABI_OFFSET: u32 = 4;
/// Where it has the arguments, 8 bytes each, in the machine's byte order.
const ARGUMENTS_OFFSET: u32 = 16;

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_GREATER: u16 = 0x25;
const JUMP_IF_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;

/// One instruction: `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Instruction {
    pub(crate) code: u16,
    pub(crate) if_true: u8,
    pub(crate) if_false: u8,
    pub(crate) operand: u32,
}

impl Instruction {
    fn new(code: u16, operand: u32) -> Self {
        Self { code, if_true: 0, if_false: 0, operand }
    }

    pub(crate) fn to_bytes(self) -> [u8; 8] {
        let mut bytes = [0; 8];
        bytes[..2].copy_from_slice(&self.code.to_ne_bytes());
        bytes[2] = self.if_true;
        bytes[3] = self.if_false;
        bytes[4..].copy_from_slice(&self.operand.to_ne_bytes());
        bytes
    }
}

type Code = Vec<Instruction>;

/// Ends with this value.
pub(crate) fn give(value: u32) -> Code {
    vec![Instruction::new(RETURN, value)]
}

/// Loads the call's number.
pub(crate) fn load_number() -> Code {
    vec![Instruction::new(LOAD, NUMBER_OFFSET)]
}

/// Loads the call's ABI.
pub(crate) fn load_abi() -> Code {
    vec![Instruction::new(LOAD, ABI_OFFSET)]
}

/// Loads the lower half of an argument.
pub(crate) fn load_low(index: u8) -> Code {
    vec![Instruction::new(LOAD, words_of(index).1)]
}

/// Loads the upper half of an argument.
pub(crate) fn load_high(index: u8) -> Code {
    vec![Instruction::new(LOAD, words_of(index).0)]
}

/// Where the upper and the lower half of an argument are.
fn words_of(index: u8) -> (u32, u32) {
    let offset = ARGUMENTS_OFFSET + 8 * u32::from(index);
    if cfg!(target_endian = "little") { (offset + 4, offset) } else { (offset, offset + 4) }
}

/// One or the other, by whether what is loaded is this.
pub(crate) fn if_equal(value: u32, then: Code, otherwise: Code) -> Code {
    branch(JUMP_IF_EQUAL, value, &then, otherwise)
}

/// One or the other, by whether what is loaded is at least this.
pub(crate) fn if_at_least(value: u32, then: Code, otherwise: Code) -> Code {
    // The piece that is jumped over comes first.
    branch(JUMP_IF_AT_LEAST, value, &then, otherwise)
}

/// `otherwise` lies first; a conditional jump reaches 255 instructions far, and
/// over more it takes another.
fn branch(code: u16, operand: u32, then: &[Instruction], otherwise: Code) -> Code {
    let far = u32::try_from(otherwise.len()).expect("programs are short");
    let jump = match u8::try_from(far) {
        Ok(near) => vec![Instruction { code, if_true: near, if_false: 0, operand }],
        Err(_) => vec![
            Instruction { code, if_true: 0, if_false: 1, operand },
            Instruction::new(JUMP, far),
        ],
    };
    [jump, otherwise, then.to_vec()].concat()
}

/// The value when all of this is so, and else what comes after.
pub(crate) fn give_when(arguments: &[Argument], is_wide: bool, value: u32) -> Code {
    arguments.iter().rev().fold(give(value), |rest, argument| {
        let mut code = check(argument, is_wide, rest.len());
        code.extend(rest);
        code
    })
}

/// What is known of a comparison so far.
#[derive(Clone, Copy)]
enum Known {
    /// It holds.
    Holds,
    /// It does not.
    Fails,
    /// The next word decides.
    Open,
}

/// One word of an argument: what to do when it is the same as the value's, when it is more, and
/// when it is less.
struct Word {
    offset: u32,
    mask: u32,
    value: u32,
    same: Known,
    more: Known,
    less: Known,
}

/// Falls through when the argument is as it must be, and else jumps over the
/// `rest` that comes after.
fn check(argument: &Argument, is_wide: bool, rest: usize) -> Code {
    let (high, low) = words_of(argument.index);
    let (value, mask) = match argument.op {
        Operator::MaskedEqual => (argument.value_two, argument.value),
        _ => (argument.value, u64::MAX),
    };
    let (same, more, less) = outcomes(argument.op);
    #[expect(clippy::cast_possible_truncation, reason = "the lower word is meant")]
    let word = |offset, shift, same| Word {
        offset,
        mask: (mask >> shift) as u32,
        value: (value >> shift) as u32,
        same,
        more,
        less,
    };
    let mut words = vec![word(low, 0, same)];
    if is_wide {
        words.insert(0, word(high, 32, Known::Open));
    }
    words.iter().rev().fold(Vec::new(), |after, word| {
        let mut code = word_check(word, after.len(), rest);
        code.extend(after);
        code
    })
}

/// Whether a comparison holds when the argument is the same, more, or less.
fn outcomes(op: Operator) -> (Known, Known, Known) {
    use Known::{Fails, Holds};
    match op {
        Operator::Equal | Operator::MaskedEqual => (Holds, Fails, Fails),
        Operator::NotEqual => (Fails, Holds, Holds),
        Operator::Less => (Fails, Fails, Holds),
        Operator::LessOrEqual => (Holds, Fails, Holds),
        Operator::GreaterOrEqual => (Holds, Holds, Fails),
        Operator::Greater => (Fails, Holds, Fails),
    }
}

/// Compares one word, with so many instructions of this comparison `after` it
/// and so many of the `rest`.
fn word_check(word: &Word, after: usize, rest: usize) -> Code {
    // Within one rule: at most six arguments of at most eight instructions each.
    let reach = |known: Known, own: usize| {
        let distance = match known {
            Known::Open => own,
            Known::Holds => own + after,
            Known::Fails => own + after + rest,
        };
        u8::try_from(distance).expect("a rule is short")
    };
    let mut code = vec![Instruction::new(LOAD, word.offset)];
    if word.mask != u32::MAX {
        code.push(Instruction::new(AND, word.mask));
    }
    let jump =
        |code, if_true, if_false| Instruction { code, if_true, if_false, operand: word.value };
    let is_one_way = matches!(
        (word.more, word.less),
        (Known::Holds, Known::Holds) | (Known::Fails, Known::Fails)
    );
    if is_one_way {
        code.push(jump(JUMP_IF_EQUAL, reach(word.same, 0), reach(word.more, 0)));
    } else {
        code.push(jump(JUMP_IF_GREATER, reach(word.more, 1), 0));
        code.push(jump(JUMP_IF_EQUAL, reach(word.same, 0), reach(word.less, 0)));
    }
    code
}

/// Runs programs as the kernel does.
#[cfg(test)]
pub(crate) mod machine {
    use super::*;

    /// A call, as a program sees it.
    #[derive(Debug, Clone, Copy, Default)]
    pub(crate) struct Call {
        pub(crate) number: u32,
        pub(crate) abi: u32,
        pub(crate) arguments: [u64; 6],
    }

    impl Call {
        fn word(&self, offset: u32) -> u32 {
            match offset {
                NUMBER_OFFSET => self.number,
                ABI_OFFSET => self.abi,
                _ => {
                    let at = (offset - ARGUMENTS_OFFSET) as usize;
                    let argument = self.arguments[at / 8];
                    if at.is_multiple_of(8) { argument as u32 } else { (argument >> 32) as u32 }
                }
            }
        }
    }

    /// What a program says of a call. It must end, and within itself.
    pub(crate) fn run(program: &[u8], call: &Call) -> u32 {
        let (mut at, mut loaded) = (0, 0_u32);
        loop {
            let bytes: [u8; 8] = program[8 * at..8 * at + 8].try_into().unwrap();
            let code = u16::from_ne_bytes([bytes[0], bytes[1]]);
            let operand = u32::from_ne_bytes(bytes[4..].try_into().unwrap());
            at += 1;
            let is_so = match code {
                LOAD => {
                    loaded = call.word(operand);
                    continue;
                }
                AND => {
                    loaded &= operand;
                    continue;
                }
                JUMP => {
                    at += operand as usize;
                    continue;
                }
                RETURN => return operand,
                JUMP_IF_EQUAL => loaded == operand,
                JUMP_IF_GREATER => loaded > operand,
                JUMP_IF_AT_LEAST => loaded >= operand,
                _ => panic!("instruction {code:#x}"),
            };
            at += usize::from(if is_so { bytes[2] } else { bytes[3] });
        }
    }
}
