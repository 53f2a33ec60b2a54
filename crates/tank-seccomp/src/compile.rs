//! From a profile to a program: for each ABI a search tree over the ranges of
//! calls that are treated alike.
//!
//! The kernel asks a new program about every call there is, and remembers those
//! that it always allows; a tree answers each in eight steps, a list in hundreds,
//! and that is most of what installing a program costs a launch.

use std::collections::{BTreeMap, BTreeSet};

use crate::machine::{ARM_PRIVATE, Abi, Machine};
use crate::profile::{Action, Argument, Flag, Operator, Profile, Rule};
use crate::program::{self, INSTRUCTIONS_MAX, Instruction};

/// What decides what a profile means.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances<'a> {
    /// Where the program is to run.
    pub machine: Machine,
    /// The kernel's version, major and minor.
    pub kernel: (u32, u32),
    /// The container's capabilities, by the kernel's names: `CAP_CHOWN`.
    pub capabilities: &'a BTreeSet<&'a str>,
}

/// What seccomp(2) takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// `SECCOMP_FILTER_FLAG_*`.
    pub flags: u32,
    /// Instructions, 8 bytes each.
    pub program: Vec<u8>,
}

/// Why there is no program for a profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// What happens to a call depends on which rule one looks at.
    #[error("{call} has a rule that says otherwise, without conditions on its arguments")]
    Ambiguous {
        /// The call.
        call: String,
    },
    /// The kernel would not take it.
    #[error("it takes {0} instructions, and the kernel takes {INSTRUCTIONS_MAX}")]
    TooLong(usize),
}

const ENOSYS: u32 = 38;
const EPERM: u32 = 1;

/// What a call of an ABI that nothing is known of ends in.
const KILL_PROCESS: u32 = 0x8000_0000;

/// The program for a profile.
///
/// # Errors
/// The profile contradicts itself, or says too much.
pub fn compile(
    profile: &Profile,
    circumstances: &Circumstances<'_>,
) -> Result<Filter, CompileError> {
    let profile = profile.resolved(circumstances);
    let abis = circumstances.machine.abis().iter();
    let served = abis.filter(|abi| profile.architectures.iter().any(|name| name == abi.name));
    let mut code = program::give(KILL_PROCESS);
    for abi in served.rev() {
        let mut tree = program::load_number();
        tree.extend(search(&ranges(&profile, abi)?, abi));
        code = program::if_equal(abi.audit, tree, code);
    }
    let code = [program::load_abi(), code].concat();
    if code.len() > INSTRUCTIONS_MAX {
        return Err(CompileError::TooLong(code.len()));
    }
    let flags = profile.flags.iter().fold(0, |bits, flag| bits | flag_bits(*flag));
    Ok(Filter { flags, program: code.into_iter().flat_map(Instruction::to_bytes).collect() })
}

/// What becomes of a call: the first of these whose arguments are as they must
/// be, else the last.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Verdict {
    when: Vec<(Vec<Argument>, u32)>,
    otherwise: u32,
}

impl Verdict {
    fn always(value: u32) -> Self {
        Self { when: Vec::new(), otherwise: value }
    }
}

/// The calls of an ABI from 0 on, each where another verdict begins.
fn ranges(profile: &Profile, abi: &Abi) -> Result<Vec<(u32, Verdict)>, CompileError> {
    let verdicts = verdicts(profile, abi)?;
    let default = value_of(profile.default_action, profile.default_errno_ret);
    // A call that is newer than the profile does not exist, as for runc, and so
    // docker: whoever tries it falls back, as it does on an older kernel.
    let newest = verdicts.keys().filter(|number| **number < ARM_PRIVATE).max();
    let beyond = match (newest, is_permissive(profile.default_action)) {
        (Some(_), false) => value_of(Action::Errno, Some(ENOSYS)),
        _ => default,
    };
    let known_end = newest.map_or(0, |newest| newest + 1);
    let mut ranges = vec![(0, Verdict::always(if known_end == 0 { beyond } else { default }))];
    for (number, verdict) in verdicts {
        begin(&mut ranges, number, verdict);
        let after = if number + 1 < known_end { default } else { beyond };
        begin(&mut ranges, number + 1, Verdict::always(after));
    }
    if abi.end != u32::MAX {
        begin(&mut ranges, abi.end, Verdict::always(value_of(Action::Errno, Some(ENOSYS))));
    }
    Ok(ranges)
}

/// From this one on it is another verdict, if it is one.
fn begin(ranges: &mut Vec<(u32, Verdict)>, start: u32, verdict: Verdict) {
    ranges.retain(|(known, _)| *known != start);
    if ranges.last().is_none_or(|(_, last)| *last != verdict) {
        ranges.push((start, verdict));
    }
}

/// What the rules say of each call that they name.
fn verdicts(profile: &Profile, abi: &Abi) -> Result<BTreeMap<u32, Verdict>, CompileError> {
    let mut named: BTreeMap<u32, (&str, Vec<&Rule>)> = BTreeMap::new();
    for rule in &profile.syscalls {
        for call in rule.calls() {
            if let Some(number) = abi.number(call) {
                named.entry(number).or_insert((call, Vec::new())).1.push(rule);
            }
        }
    }
    let default = value_of(profile.default_action, profile.default_errno_ret);
    let verdict = |(number, (call, rules)): (u32, (&str, Vec<&Rule>))| {
        Ok((number, verdict(call, &rules, default)?))
    };
    named.into_iter().map(verdict).collect()
}

/// A rule without conditions is the only word on a call.
fn verdict(call: &str, rules: &[&Rule], default: u32) -> Result<Verdict, CompileError> {
    let value = |rule: &Rule| value_of(rule.action, rule.errno_ret);
    if let Some(always) = rules.iter().find(|rule| rule.args.is_empty()) {
        let always = value(always);
        return match rules.iter().all(|rule| value(rule) == always) {
            true => Ok(Verdict::always(always)),
            false => Err(CompileError::Ambiguous { call: call.to_owned() }),
        };
    }
    let alternatives = |rule: &&Rule| {
        let value = value(rule);
        rule.alternatives().into_iter().map(move |arguments| (arguments, value))
    };
    Ok(Verdict { when: rules.iter().flat_map(alternatives).collect(), otherwise: default })
}

/// The tree over ranges: half of them on each side.
fn search(ranges: &[(u32, Verdict)], abi: &Abi) -> Vec<Instruction> {
    let (below, from) = ranges.split_at(ranges.len() / 2);
    match (below, from) {
        ([], [(_, verdict)]) => leaf(verdict, abi),
        (_, [(start, _), ..]) => {
            program::if_at_least(*start, search(from, abi), search(below, abi))
        }
        _ => unreachable!("there is a range from 0 on"),
    }
}

fn leaf(verdict: &Verdict, abi: &Abi) -> Vec<Instruction> {
    if let Some((index, ranges)) = by_value(verdict) {
        let code = [program::load_low(index), search(&ranges, abi)].concat();
        if !abi.is_wide {
            return code;
        }
        let otherwise = program::give(verdict.otherwise);
        let high = program::load_high(index);
        return [high, program::if_equal(0, code, otherwise)].concat();
    }
    let when = verdict.when.iter();
    when.flat_map(|(arguments, value)| program::give_when(arguments, abi.is_wide, *value))
        .chain(program::give(verdict.otherwise))
        .collect()
}

/// The ranges of an argument's values, where some of them give one thing and the
/// rest another: which sockets there are takes a list of thirty. All are of one
/// word.
fn by_value(verdict: &Verdict) -> Option<(u8, Vec<(u32, Verdict)>)> {
    let [(first, value), _, ..] = verdict.when.as_slice() else { return None };
    let index = first.first()?.index;
    let span = |(arguments, each): &(Vec<Argument>, u32)| {
        let [argument] = arguments.as_slice() else { return None };
        let (start, end) = match argument.op {
            Operator::Equal => (argument.value, argument.value.checked_add(1)?),
            Operator::Less => (0, argument.value),
            _ => return None,
        };
        let is_alike = argument.index == index && each == value && end <= 1 << 32;
        is_alike.then_some((start, end))
    };
    let mut spans: Vec<(u64, u64)> = verdict.when.iter().map(span).collect::<Option<_>>()?;
    spans.sort_unstable();
    let mut ranges = vec![(0, Verdict::always(verdict.otherwise))];
    let mut covered = 0;
    for (start, end) in spans.into_iter().filter(|(start, end)| start < end) {
        let begins = [(start.max(covered), *value), (end.max(covered), verdict.otherwise)];
        for (start, value) in begins {
            // The last of them may end where there are no more values.
            if let Ok(start) = u32::try_from(start) {
                begin(&mut ranges, start, Verdict::always(value));
            }
        }
        covered = covered.max(end);
    }
    Some((index, ranges))
}

/// `SECCOMP_RET_*`.
fn value_of(action: Action, errno: Option<u32>) -> u32 {
    let errno = errno.unwrap_or(EPERM);
    match action {
        Action::KillProcess => KILL_PROCESS,
        Action::KillThread => 0,
        Action::Trap => 0x0003_0000,
        Action::Errno => 0x0005_0000 | errno,
        Action::Trace => 0x7ff0_0000 | errno,
        Action::Log => 0x7ffc_0000,
        Action::Allow => 0x7fff_0000,
    }
}

fn is_permissive(action: Action) -> bool {
    matches!(action, Action::Allow | Action::Log | Action::Trace)
}

fn flag_bits(flag: Flag) -> u32 {
    match flag {
        // There is one thread, and the flag would change what failing means.
        Flag::AllThreads => 0,
        Flag::Log => 1 << 1,
        Flag::AllowSpeculation => 1 << 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::machine::{Call, run};

    const ALLOW: u32 = 0x7fff_0000;
    const FAIL: u32 = 0x0005_0000;
    const NEW_KERNEL: (u32, u32) = (6, 1);

    /// Every number that could matter: the common ones, and where others begin.
    fn numbers() -> impl Iterator<Item = u32> {
        let around = [ARM_PRIVATE, 0x4000_0000, 0x8000_0000];
        let around = around.into_iter().flat_map(|number| number - 8..number + 8);
        (0..600).chain(around).chain([u32::MAX])
    }

    fn compiled(profile: &Profile, machine: Machine, capabilities: &[&str]) -> Filter {
        let capabilities = capabilities.iter().copied().collect();
        let kernel = NEW_KERNEL;
        compile(profile, &Circumstances { machine, kernel, capabilities: &capabilities }).unwrap()
    }

    fn says(filter: &Filter, abi: &Abi, number: u32, arguments: [u64; 6]) -> u32 {
        run(&filter.program, &Call { number, abi: abi.audit, arguments })
    }

    /// What the default says of a call of the first ABI, by name.
    fn of_default(capabilities: &[&str], call: &str, arguments: [u64; 6]) -> u32 {
        let filter = compiled(&Profile::default(), Machine::X86_64, capabilities);
        let abi = &Machine::X86_64.abis()[0];
        says(&filter, abi, abi.number(call).expect(call), arguments)
    }

    /// The rules of one ABI, as they are written.
    struct Written<'a> {
        abi: &'a Abi,
        rules: BTreeMap<u32, Vec<&'a Rule>>,
    }

    impl<'a> Written<'a> {
        fn new(profile: &'a Profile, abi: &'a Abi) -> Self {
            let mut rules: BTreeMap<u32, Vec<&Rule>> = BTreeMap::new();
            for rule in &profile.syscalls {
                for number in rule.calls().filter_map(|call| abi.number(call)) {
                    rules.entry(number).or_default().push(rule);
                }
            }
            Self { abi, rules }
        }

        /// What the first says whose arguments are as they must be.
        fn say(&self, number: u32, arguments: [u64; 6]) -> u32 {
            let holds = |argument: &Argument| {
                let own = arguments[usize::from(argument.index)];
                let own = if self.abi.is_wide { own } else { own & 0xffff_ffff };
                match argument.op {
                    Operator::Equal => own == argument.value,
                    Operator::Less => own < argument.value,
                    Operator::MaskedEqual => own & argument.value == argument.value_two,
                    _ => unreachable!("the default has no other"),
                }
            };
            let mut rules = self.rules.get(&number).into_iter().flatten();
            if let Some(rule) = rules.find(|rule| rule.args.iter().all(holds)) {
                return value_of(rule.action, rule.errno_ret);
            }
            let newest = self.rules.keys().filter(|number| **number < ARM_PRIVATE).max().unwrap();
            let is_unknown = number > *newest || number >= self.abi.end;
            if is_unknown { FAIL | ENOSYS } else { FAIL | EPERM }
        }
    }

    #[test]
    fn the_program_says_what_the_rules_say() {
        let profile = Profile::default();
        let every = ["CAP_SYS_ADMIN", "CAP_SYS_CHROOT", "CAP_SYS_TIME", "CAP_DAC_READ_SEARCH"];
        let firsts = [0, 8, 11, 12, 13, 16, 38, 40, 0x1_0000_0028, 0x2000_0000, 0x11, u64::MAX];
        let circumstances =
            Machine::ALL.map(|machine| [&[][..], &every[..1], &every].map(|has| (machine, has)));
        for (machine, has) in circumstances.into_iter().flatten() {
            let filter = compiled(&profile, machine, has);
            let capabilities = has.iter().copied().collect();
            let kernel = NEW_KERNEL;
            let rules =
                profile.resolved(&Circumstances { machine, kernel, capabilities: &capabilities });
            for abi in machine.abis() {
                let written = Written::new(&rules, abi);
                for number in numbers() {
                    for arguments in firsts.map(|first| [first, 0, 0, 0, 0, 0]) {
                        let found = says(&filter, abi, number, arguments);
                        let expected = written.say(number, arguments);
                        assert_eq!(found, expected, "{} {number} {arguments:x?}", abi.name);
                    }
                }
            }
        }
    }

    #[test]
    fn the_default_is_dockers_where_arguments_matter() {
        let none = [0; 6];
        let first = |value| [value, 0, 0, 0, 0, 0];
        assert_eq!(of_default(&[], "clone", first(0x11)), ALLOW);
        for namespace in
            [0x2_0000, 0x200_0000, 0x400_0000, 0x800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000]
        {
            assert_eq!(of_default(&[], "clone", first(namespace | 0x11)), FAIL | EPERM);
            assert_eq!(of_default(&["CAP_SYS_ADMIN"], "clone", first(namespace)), ALLOW);
        }
        assert_eq!(of_default(&[], "clone3", none), FAIL | ENOSYS);
        assert_eq!(of_default(&["CAP_SYS_ADMIN"], "clone3", none), ALLOW);
        for (domain, value) in
            [(1, ALLOW), (2, ALLOW), (16, ALLOW), (38, FAIL | EPERM), (40, FAIL | EPERM)]
        {
            assert_eq!(of_default(&[], "socket", first(domain)), value, "{domain}");
        }
        for (personality, value) in [(0, ALLOW), (0xffff_ffff, ALLOW), (0x40000, FAIL | EPERM)] {
            assert_eq!(of_default(&[], "personality", first(personality)), value);
        }
        assert_eq!(of_default(&[], "chroot", none), FAIL | EPERM);
        assert_eq!(of_default(&["CAP_SYS_CHROOT"], "chroot", none), ALLOW);
    }

    #[test]
    fn a_32_bit_call_cannot_hide_behind_what_else_is_in_its_register() {
        let filter = compiled(&Profile::default(), Machine::X86_64, &[]);
        let [_, i386] = Machine::X86_64.abis();
        let socket = i386.number("socket").unwrap();
        let dirty = |value: u64| [0xdead_0000_0000_0000 | value, 0, 0, 0, 0, 0];
        assert_eq!(says(&filter, i386, socket, dirty(2)), ALLOW);
        let denying = r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"],
            "syscalls": [{"names": ["socket"], "action": "SCMP_ACT_ERRNO",
                          "args": [{"index": 0, "value": 40, "op": "SCMP_CMP_EQ"}]}]}"#;
        let filter = compiled(&Profile::parse(denying).unwrap(), Machine::X86_64, &[]);
        assert_eq!(says(&filter, i386, socket, dirty(40)), FAIL | EPERM);
        assert_eq!(says(&filter, i386, socket, dirty(41)), ALLOW);
    }

    #[test]
    fn calls_of_no_abi_that_is_served_kill_or_do_not_exist() {
        let alone = r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#;
        let filter = compiled(&Profile::parse(alone).unwrap(), Machine::X86_64, &[]);
        let [wide, i386] = Machine::X86_64.abis();
        assert_eq!(says(&filter, wide, 0, [0; 6]), ALLOW);
        assert_eq!(says(&filter, i386, 0, [0; 6]), KILL_PROCESS);
        // Were x32 let through, it would be every call by another number.
        assert_eq!(says(&filter, wide, 0x4000_0000, [0; 6]), FAIL | ENOSYS);
    }

    #[test]
    fn every_operator_compares_64_bits() {
        let near = |value: u64| [value.wrapping_sub(1), value, value.wrapping_add(1)];
        let values: Vec<u64> = [1, 0xffff_ffff, 0x1_0000_0000, 0x1_0000_0001, u64::MAX - 1]
            .into_iter()
            .flat_map(near)
            .collect();
        type Compare = fn(u64, u64) -> bool;
        let operators: [(&str, Compare); 7] = [
            ("NE", |own, value| own != value),
            ("LT", |own, value| own < value),
            ("LE", |own, value| own <= value),
            ("EQ", |own, value| own == value),
            ("GE", |own, value| own >= value),
            ("GT", |own, value| own > value),
            ("MASKED_EQ", |own, value| own & value == 1),
        ];
        let abi = &Machine::X86_64.abis()[0];
        for (name, compare) in operators {
            for value in &values {
                let json = format!(
                    r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{{"names": ["read"],
                        "action": "SCMP_ACT_ALLOW", "args": [{{"index": 5, "value": {value},
                        "valueTwo": 1, "op": "SCMP_CMP_{name}"}}]}}]}}"#
                );
                let filter = compiled(&Profile::parse(&json).unwrap(), Machine::X86_64, &[]);
                for own in &values {
                    let found = says(&filter, abi, 0, [0, 0, 0, 0, 0, *own]);
                    let expected = if compare(*own, *value) { ALLOW } else { FAIL | EPERM };
                    assert_eq!(found, expected, "{own:#x} {name} {value:#x}");
                }
            }
        }
    }

    #[test]
    fn conditions_on_several_arguments_must_all_hold_and_on_one_any() {
        let rule = |args: &str| {
            let json = format!(
                r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{{"name": "read",
                    "action": "SCMP_ACT_LOG", "args": [{args}]}}]}}"#
            );
            compiled(&Profile::parse(&json).unwrap(), Machine::X86_64, &[])
        };
        let abi = &Machine::X86_64.abis()[0];
        let says = |filter: &Filter, a, b| says(filter, abi, 0, [a, b, 0, 0, 0, 0]);
        let [log, fail] = [0x7ffc_0000, FAIL | EPERM];
        let equal = |index, value| {
            format!(r#"{{"index": {index}, "value": {value}, "op": "SCMP_CMP_EQ"}}"#)
        };
        let both = rule(&format!("{}, {}", equal(0, 1), equal(1, 2)));
        assert_eq!([says(&both, 1, 2), says(&both, 1, 1), says(&both, 2, 2)], [log, fail, fail]);
        let any = rule(&format!("{}, {}", equal(0, 1), equal(0, 2)));
        assert_eq!([says(&any, 1, 0), says(&any, 2, 0), says(&any, 3, 0)], [log, log, fail]);
    }

    #[test]
    fn values_of_one_argument_may_overlap_and_end_where_they_end() {
        let argument = |op, value| {
            let argument = Argument { index: 1, value, value_two: 0, op };
            (vec![argument], ALLOW)
        };
        let when = vec![
            argument(Operator::Equal, 0xffff_ffff),
            argument(Operator::Equal, 3),
            argument(Operator::Less, 5),
            argument(Operator::Less, 0),
            argument(Operator::Equal, 5),
            argument(Operator::Equal, 9),
        ];
        let verdict = Verdict { when, otherwise: FAIL };
        for abi in Machine::X86_64.abis() {
            let code = leaf(&verdict, abi);
            assert!(code.len() < 20, "it is a tree");
            let program: Vec<u8> = code.into_iter().flat_map(Instruction::to_bytes).collect();
            let of = |value: u64| {
                run(&program, &Call { arguments: [0, value, 0, 0, 0, 0], ..Call::default() })
            };
            for value in [0, 1, 3, 4, 5, 9, 0xffff_ffff] {
                assert_eq!(of(value), ALLOW, "{value}");
                let beyond = if abi.is_wide { FAIL } else { ALLOW };
                assert_eq!(of(value | 1 << 32), beyond, "{value}");
            }
            for value in [6, 8, 10, 0xffff_fffe] {
                assert_eq!(of(value), FAIL, "{value}");
            }
        }
    }

    #[test]
    fn a_tree_too_wide_for_a_short_jump_is_one_all_the_same() {
        let calls = (0..400).filter(|number| number % 2 == 0);
        let abi = &Machine::X86_64.abis()[0];
        let ranges: Vec<(u32, Verdict)> = calls
            .flat_map(|number| {
                [(number, Verdict::always(number)), (number + 1, Verdict::always(1))]
            })
            .collect();
        let code = [program::load_number(), search(&ranges, abi)].concat();
        let program: Vec<u8> = code.into_iter().flat_map(Instruction::to_bytes).collect();
        for number in 0..400 {
            let call = Call { number, ..Call::default() };
            assert_eq!(run(&program, &call), if number % 2 == 0 { number } else { 1 });
        }
    }

    #[test]
    fn the_default_is_short() {
        let filter = compiled(&Profile::default(), Machine::X86_64, &["CAP_SYS_CHROOT"]);
        assert!(filter.program.len() / 8 < 550, "{}", filter.program.len() / 8);
        assert_eq!(filter.flags, 0);
    }

    #[test]
    fn rules_that_contradict_each_other_are_refused() {
        let json = r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            {"names": ["read", "socket"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["socket"], "action": "SCMP_ACT_ERRNO",
             "args": [{"index": 0, "value": 40, "op": "SCMP_CMP_EQ"}]}]}"#;
        let none = BTreeSet::new();
        let machine = Machine::X86_64;
        let circumstances = Circumstances { machine, kernel: NEW_KERNEL, capabilities: &none };
        let error = compile(&Profile::parse(json).unwrap(), &circumstances).unwrap_err();
        assert_eq!(error, CompileError::Ambiguous { call: "socket".into() });
    }
}
