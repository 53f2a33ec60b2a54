//! What a container may do to the machine beyond what its namespaces keep from
//! it: the kernel's names for capabilities, and what a spec says of them.

use std::collections::BTreeSet;
use std::fmt;

/// The kernel's capabilities, each at the place of its bit
/// (`include/uapi/linux/capability.h`).
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// How far a container is kept from the machine. The default is docker's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Confinement {
    /// Capabilities beside the default ones.
    pub cap_add: BTreeSet<CapabilityName>,
    /// Those of the default ones that it has not.
    pub cap_drop: BTreeSet<CapabilityName>,
    /// What it may ask of the kernel.
    pub seccomp: Seccomp,
    /// Whether it has all capabilities and sees the kernel as it is.
    pub privileged: bool,
    /// Whether its root is for reading only.
    pub read_only: bool,
}

/// What a container may ask of the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Seccomp {
    /// What docker allows by default.
    #[default]
    Default,
    /// Anything.
    Unconfined,
    /// What a profile says, by its absolute path on the host.
    Profile(String),
}

/// A capability as a spec names it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CapabilityName {
    /// Every one there is.
    All,
    /// This one.
    One(&'static str),
}

impl CapabilityName {
    /// `CAP_NET_ADMIN`, `NET_ADMIN` or `ALL`, in any case.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let text = text.to_ascii_uppercase();
        if text == "ALL" {
            return Some(Self::All);
        }
        let short = text.strip_prefix("CAP_").unwrap_or(&text);
        NAMES.iter().find(|name| **name == short).map(|name| Self::One(name))
    }

    /// Its bits in a set of the kernel's.
    #[must_use]
    pub fn bits(self) -> u64 {
        match self {
            Self::All => u64::MAX,
            Self::One(name) => {
                let bit = NAMES.iter().position(|known| *known == name);
                1 << bit.expect("only known names are made")
            }
        }
    }
}

/// The capabilities of a set, by the kernel's whole names.
pub fn names_of(bits: u64) -> impl Iterator<Item = String> {
    let held = NAMES.iter().enumerate().filter(move |(bit, _)| bits >> bit & 1 == 1);
    held.map(|(_, name)| format!("CAP_{name}"))
}

impl fmt::Display for CapabilityName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::All => "ALL",
            Self::One(name) => name,
        })
    }
}

impl fmt::Debug for CapabilityName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capability_is_found_however_it_is_written() {
        let chown = CapabilityName::new("CHOWN").unwrap();
        for text in ["CAP_CHOWN", "chown", "cap_chown", "Cap_Chown"] {
            assert_eq!(CapabilityName::new(text), Some(chown));
        }
        assert_eq!(CapabilityName::new("all"), Some(CapabilityName::All));
        for text in ["", "CAP_", "CAP_ALL", "CAP_CAP_CHOWN", "CHOWN ", "CAP_NEW"] {
            assert_eq!(CapabilityName::new(text), None, "{text}");
        }
    }

    #[test]
    fn bits_are_the_kernels() {
        let bits = |name| CapabilityName::new(name).unwrap().bits();
        assert_eq!(bits("CHOWN"), 1);
        assert_eq!(bits("SYS_ADMIN"), 1 << 21);
        assert_eq!(bits("CHECKPOINT_RESTORE"), 1 << 40);
        assert_eq!(names_of(0b101).collect::<Vec<_>>(), ["CAP_CHOWN", "CAP_DAC_READ_SEARCH"]);
    }
}
