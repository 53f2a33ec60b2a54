//! Signals as specs name them: Linux's names and numbers, which are the same on
//! x86-64 and on arm64.

use std::borrow::Cow;

/// The signals of signal(7), each at the place of its number, from 1 on.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// Other names, and what they are other names of.
const ALIASES: [(&str, &str); 3] = [("IOT", "ABRT"), ("CLD", "CHLD"), ("POLL", "IO")];

/// The first real-time signal that the C library leaves to programs.
const RTMIN: i32 = 34;

/// The last signal there is.
const RTMAX: i32 = 64;

/// The signal that asks a container to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StopSignal(i32);

impl StopSignal {
    /// The signal of this number.
    #[must_use]
    pub fn new(number: i32) -> Option<Self> {
        (1..=RTMAX).contains(&number).then_some(Self(number))
    }

    /// `SIGTERM`, `TERM`, `RTMIN+3` or `RTMAX-2`, in any case.
    #[must_use]
    pub fn named(text: &str) -> Option<Self> {
        let text = text.to_ascii_uppercase();
        let name = text.strip_prefix("SIG").unwrap_or(&text);
        standard(name).or_else(|| real_time(name)).map(Self)
    }

    /// Its number, from 1 to 64.
    #[must_use]
    pub fn number(self) -> i32 {
        self.0
    }

    /// Its name without `SIG`. The two that the C library keeps for itself have none.
    #[must_use]
    pub fn name(self) -> Option<Cow<'static, str>> {
        if self.0 >= RTMIN {
            return Some(match self.0 - RTMIN {
                0 => "RTMIN".into(),
                steps => format!("RTMIN+{steps}").into(),
            });
        }
        let place = usize::try_from(self.0 - 1).expect("numbers begin at 1");
        NAMES.get(place).map(|name| (*name).into())
    }
}

fn standard(name: &str) -> Option<i32> {
    let alias = ALIASES.iter().find(|(alias, _)| *alias == name);
    let name = alias.map_or(name, |(_, name)| name);
    (1..).zip(NAMES).find_map(|(number, known)| (known == name).then_some(number))
}

/// Counted from either end, in decimal and without zeroes in front.
fn real_time(name: &str) -> Option<i32> {
    let steps = |text: &str| (0..=RTMAX - RTMIN).find(|steps| steps.to_string() == text);
    match name.split_at_checked("RTMIN".len())? {
        ("RTMIN", "") => Some(RTMIN),
        ("RTMAX", "") => Some(RTMAX),
        ("RTMIN", rest) => Some(RTMIN + steps(rest.strip_prefix('+')?)?),
        ("RTMAX", rest) => Some(RTMAX - steps(rest.strip_prefix('-')?)?),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_found_however_it_is_written() {
        let number = |text| StopSignal::named(text).map(StopSignal::number);
        for text in ["TERM", "SIGTERM", "sigterm", "Term"] {
            assert_eq!(number(text), Some(15), "{text}");
        }
        for text in ["RTMIN+3", "sigrtmin+3", "RTMAX-27"] {
            assert_eq!(number(text), Some(37), "{text}");
        }
        for text in ["", "SIG", "SIGSIGTERM", "TERM ", "15", "RTMIN+", "RTMIN-1", "RTMIN+03"] {
            assert_eq!(number(text), None, "{text}");
        }
        for text in ["RTMIN++3", "RTMIN+31", "RTMAX+1", "RTMAX-31", "RTMI\u{130}N", "EXIT"] {
            assert_eq!(number(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_are_the_kernels() {
        let number = |text| StopSignal::named(text).map(StopSignal::number);
        for (name, signal) in [
            ("HUP", libc::SIGHUP),
            ("KILL", libc::SIGKILL),
            ("USR1", libc::SIGUSR1),
            ("CHLD", libc::SIGCHLD),
            ("POLL", libc::SIGPOLL),
            ("WINCH", libc::SIGWINCH),
            ("SYS", libc::SIGSYS),
            ("RTMIN", libc::SIGRTMIN()),
            ("RTMAX", libc::SIGRTMAX()),
        ] {
            assert_eq!(number(name), Some(signal), "{name}");
        }
    }

    #[test]
    fn every_name_leads_back_to_its_signal() {
        for number in 1..=RTMAX {
            let signal = StopSignal::new(number).expect("in range");
            match signal.name() {
                Some(name) => assert_eq!(StopSignal::named(&name), Some(signal), "{name}"),
                None => assert!([32, 33].contains(&number), "{number}"),
            }
        }
        assert_eq!([0, -1, 65].map(StopSignal::new), [None; 3]);
    }
}
