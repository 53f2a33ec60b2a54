//! The machines that programs are made for: their ABIs, and the numbers that
//! system calls have in each. A program of a 64-bit machine serves the 32-bit
//! ABI of the same family as well, which the kernel lets any process use.

use syscalls::{aarch64, arm, x86, x86_64};

/// A kind of machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Machine {
    /// 64-bit x86, with i386 beside it.
    X86_64,
    /// 64-bit ARM, with 32-bit ARM beside it.
    Aarch64,
}

impl Machine {
    /// Every machine there are programs for.
    pub const ALL: [Self; 2] = [Self::X86_64, Self::Aarch64];

    /// The one that this program was built for.
    #[must_use]
    pub const fn native() -> Option<Self> {
        if cfg!(target_arch = "x86_64") {
            Some(Self::X86_64)
        } else if cfg!(target_arch = "aarch64") {
            Some(Self::Aarch64)
        } else {
            None
        }
    }

    /// Its ABIs, its own first.
    pub(crate) fn abis(self) -> &'static [Abi; 2] {
        match self {
            Self::X86_64 => &X86_ABIS,
            Self::Aarch64 => &ARM_ABIS,
        }
    }

    /// What Go calls it, and with it docker's profiles.
    pub(crate) fn go_name(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }
}

/// One way to call the kernel.
pub(crate) struct Abi {
    /// What libseccomp calls it, and with it every profile.
    pub(crate) name: &'static str,
    /// `AUDIT_ARCH_*`, which the kernel gives a program.
    pub(crate) audit: u32,
    /// Whether arguments have 64 bits. Of one that has 32 the upper half is what
    /// the process left in its register, and the kernel does not look at it.
    pub(crate) is_wide: bool,
    /// The first number that no call of this ABI has, where others begin.
    pub(crate) end: u32,
    number: fn(&str) -> Option<u32>,
}

impl Abi {
    /// The number of a system call, when this ABI has it.
    pub(crate) fn number(&self, name: &str) -> Option<u32> {
        (self.number)(name)
    }
}

/// Calls of the x32 ABI have this bit. No profile of ours serves them.
const X32: u32 = 0x4000_0000;

static X86_ABIS: [Abi; 2] = [
    Abi {
        name: "SCMP_ARCH_X86_64",
        audit: 0xc000_003e,
        is_wide: true,
        end: X32,
        number: |name| Some(name.parse::<x86_64::Sysno>().ok()?.id().cast_unsigned()),
    },
    Abi {
        name: "SCMP_ARCH_X86",
        audit: 0x4000_0003,
        is_wide: false,
        end: u32::MAX,
        number: |name| Some(name.parse::<x86::Sysno>().ok()?.id().cast_unsigned()),
    },
];

static ARM_ABIS: [Abi; 2] = [
    Abi {
        name: "SCMP_ARCH_AARCH64",
        audit: 0xc000_00b7,
        is_wide: true,
        end: u32::MAX,
        number: |name| Some(name.parse::<aarch64::Sysno>().ok()?.id().cast_unsigned()),
    },
    Abi {
        name: "SCMP_ARCH_ARM",
        audit: 0x4000_0028,
        is_wide: false,
        end: u32::MAX,
        number: arm_number,
    },
];

/// Where calls that only 32-bit ARM has begin (`arch/arm/include/uapi/asm/unistd.h`).
pub(crate) const ARM_PRIVATE: u32 = 0x0f_0000;

/// The private calls are in no table that is made from the common one.
fn arm_number(name: &str) -> Option<u32> {
    let private = match name {
        "breakpoint" => 1,
        "cacheflush" => 2,
        "set_tls" => 5,
        // One call by two names: the kernel's table has the first.
        "sync_file_range2" => return arm_number("arm_sync_file_range"),
        _ => return Some(name.parse::<arm::Sysno>().ok()?.id().cast_unsigned()),
    };
    Some(ARM_PRIVATE + private)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_has_another_number_in_each_abi() {
        let of = |name: &str| {
            let abis = Machine::ALL.iter().flat_map(|machine| machine.abis());
            abis.map(|abi| abi.number(name)).collect::<Vec<_>>()
        };
        assert_eq!(of("openat"), [Some(257), Some(295), Some(56), Some(322)]);
        assert_eq!(of("socketcall"), [None, Some(102), None, None]);
        assert_eq!(of("set_tls"), [None, None, None, Some(0xf0005)]);
        assert_eq!(of("sync_file_range2"), [None, None, None, Some(341)]);
        assert_eq!(of("no_such_call"), [None; 4]);
    }
}
