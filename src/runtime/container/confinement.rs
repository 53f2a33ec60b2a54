//! What a container's first process is left with: capabilities by docker's
//! rules, and the seccomp program for them. Programs for the default profile are
//! made once for each set of capabilities, not once for each launch.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use tank_seccomp::{Circumstances, Filter, Machine, Profile};
use tank_shim::protocol::{Bytes, DEFAULT_CAPABILITIES, Seccomp as ShimSeccomp};
use tokio::task::spawn_blocking;

use crate::core::spec::{CapabilityName, Confinement, Seccomp, capability_names};
use crate::os_words::os_words;

/// The longest profile that is read.
const PROFILE_BYTES_MAX: u64 = 1 << 20;

/// The capabilities that containers can have here: the program's own or, without
/// root, all that there are, for whoever makes a user namespace has them in it.
#[must_use]
pub(super) fn available() -> u64 {
    if rustix::process::geteuid().is_root() {
        return rustix::thread::capabilities(None).map_or(0, |sets| sets.permitted.bits());
    }
    let last = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap");
    let last: u32 = last.ok().and_then(|last| last.trim().parse().ok()).unwrap_or(0);
    u64::MAX >> 63_u32.saturating_sub(last)
}

/// The capabilities that a spec leaves, of those that are available. A privileged
/// container has all. What is dropped counts before what is added, unless all are
/// added.
///
/// # Errors
/// The first that is asked for by name and not available.
pub(super) fn capabilities(spec: &Confinement, available: u64) -> Result<u64, CapabilityName> {
    let bits = |names: &BTreeSet<CapabilityName>| {
        let ones = names.iter().filter(|name| **name != CapabilityName::All);
        ones.fold(0, |bits, name| bits | name.bits())
    };
    let (added, dropped) = (bits(&spec.cap_add), bits(&spec.cap_drop));
    let is_missing =
        |name: &&CapabilityName| **name != CapabilityName::All && name.bits() & available == 0;
    if spec.privileged {
        return Ok(available);
    }
    if let Some(missing) = spec.cap_add.iter().find(is_missing) {
        return Err(*missing);
    }
    let has_all = |names: &BTreeSet<CapabilityName>| names.contains(&CapabilityName::All);
    let left = if has_all(&spec.cap_add) {
        available & !dropped
    } else if has_all(&spec.cap_drop) {
        added
    } else {
        DEFAULT_CAPABILITIES & !dropped | added
    };
    Ok(left & available)
}

/// Seccomp programs.
#[derive(Debug, Default)]
pub(super) struct Filters {
    /// Those of the default profile, by capabilities.
    defaults: RefCell<BTreeMap<u64, ShimSeccomp>>,
}

impl Filters {
    /// With the program that nearly every container has.
    pub(super) fn new() -> Self {
        let filters = Self::default();
        // A machine without one says so at each start that needs it.
        let _ = filters.of_default(DEFAULT_CAPABILITIES & available());
        filters
    }

    /// The program for a container with these capabilities, if it is to have one.
    ///
    /// # Errors
    /// Why there is none, in a line.
    pub(super) async fn of(
        &self,
        spec: &Confinement,
        capabilities: u64,
    ) -> Result<Option<ShimSeccomp>, String> {
        match &spec.seccomp {
            Seccomp::Unconfined => Ok(None),
            // As docker: a profile that is asked for is in force all the same.
            Seccomp::Default if spec.privileged => Ok(None),
            Seccomp::Default => self.of_default(capabilities).map(Some),
            Seccomp::Profile(path) => {
                let path = path.clone();
                // A file system may take its time.
                let read = spawn_blocking(move || of_file(Path::new(&path), capabilities));
                read.await.expect("reading a profile never panics").map(Some)
            }
        }
    }

    fn of_default(&self, capabilities: u64) -> Result<ShimSeccomp, String> {
        if let Some(known) = self.defaults.borrow().get(&capabilities) {
            return Ok(known.clone());
        }
        let made = compile(&Profile::default(), capabilities)?;
        self.defaults.borrow_mut().insert(capabilities, made.clone());
        Ok(made)
    }
}

/// The profile for a container with these capabilities, if it is to have one, for
/// a runtime that makes the program of it.
///
/// # Errors
/// Why it cannot be had, in a line.
pub(super) async fn profile(
    spec: &Confinement,
    capabilities: u64,
) -> Result<Option<Profile>, String> {
    let profile = match &spec.seccomp {
        Seccomp::Unconfined => return Ok(None),
        Seccomp::Default if spec.privileged => return Ok(None),
        Seccomp::Default => Profile::default(),
        Seccomp::Profile(path) => {
            let path = path.clone();
            let read = spawn_blocking(move || parse_file(Path::new(&path)));
            read.await.expect("reading a profile never panics")?
        }
    };
    in_circumstances(capabilities, |circumstances| profile.resolved(circumstances)).map(Some)
}

fn of_file(path: &Path, capabilities: u64) -> Result<ShimSeccomp, String> {
    compile(&parse_file(path)?, capabilities)
        .map_err(|error| format!("{}: {error}", path.display()))
}

fn parse_file(path: &Path) -> Result<Profile, String> {
    let shown = path.display();
    let text = read(path).map_err(|error| format!("read {shown}: {}", os_words(&error)))?;
    Profile::parse(&text).map_err(|error| format!("{shown}: {error}"))
}

/// Reads a file, and nothing that has no end or must be waited for.
fn read(path: &Path) -> io::Result<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(io::Error::other("not a file"));
    }
    if about.len() > PROFILE_BYTES_MAX {
        return Err(io::Error::other(format!("longer than {PROFILE_BYTES_MAX} bytes")));
    }
    let mut text = String::new();
    file.take(PROFILE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

fn compile(profile: &Profile, capabilities: u64) -> Result<ShimSeccomp, String> {
    let compiled = in_circumstances(capabilities, |circumstances| {
        tank_seccomp::compile(profile, circumstances).map_err(|error| error.to_string())
    });
    let Filter { flags, program } = compiled??;
    Ok(ShimSeccomp { flags, program: Bytes(program) })
}

/// On this machine, with these capabilities.
fn in_circumstances<T>(
    capabilities: u64,
    make: impl FnOnce(&Circumstances<'_>) -> T,
) -> Result<T, String> {
    let machine = Machine::native().ok_or_else(|| {
        format!("there are no seccomp programs for {} yet", std::env::consts::ARCH)
    })?;
    let names: Vec<String> = capability_names(capabilities).collect();
    let names = names.iter().map(String::as_str).collect();
    Ok(make(&Circumstances { machine, kernel: kernel(), capabilities: &names }))
}

/// The kernel's version, major and minor.
fn kernel() -> (u32, u32) {
    let about = rustix::system::uname();
    let release = about.release().to_string_lossy();
    let mut numbers = release.split(|sign: char| !sign.is_ascii_digit()).map(str::parse);
    let mut next = || numbers.next().and_then(Result::ok).unwrap_or_default();
    (next(), next())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(add: &[&str], drop: &[&str]) -> Confinement {
        let names = |list: &[&str]| {
            list.iter().map(|name| CapabilityName::new(name).expect("a capability")).collect()
        };
        Confinement { cap_add: names(add), cap_drop: names(drop), ..Confinement::default() }
    }

    fn bit(name: &str) -> u64 {
        CapabilityName::new(name).expect("a capability").bits()
    }

    const EVERY: u64 = (1 << 41) - 1;

    #[test]
    fn capabilities_are_added_and_dropped_as_docker_does() {
        let of = |add: &[&str], drop: &[&str]| capabilities(&spec(add, drop), EVERY);
        let default = DEFAULT_CAPABILITIES;
        assert_eq!(of(&[], &[]), Ok(default));
        assert_eq!(of(&["NET_ADMIN"], &[]), Ok(default | bit("NET_ADMIN")));
        assert_eq!(of(&[], &["CHOWN"]), Ok(default & !bit("CHOWN")));
        assert_eq!(of(&[], &["ALL"]), Ok(0));
        assert_eq!(of(&["CHOWN"], &["ALL"]), Ok(bit("CHOWN")));
        assert_eq!(of(&["ALL"], &[]), Ok(EVERY));
        assert_eq!(of(&["ALL"], &["CHOWN"]), Ok(EVERY & !bit("CHOWN")));
        assert_eq!(of(&["ALL"], &["ALL"]), Ok(EVERY));
        assert_eq!(of(&["CHOWN"], &["CHOWN"]), Ok(default));
        let privileged = Confinement { privileged: true, ..spec(&[], &["ALL"]) };
        assert_eq!(capabilities(&privileged, EVERY), Ok(EVERY));
    }

    #[test]
    fn what_is_not_available_is_left_out_or_named_when_it_was_asked_for() {
        let some = EVERY & !bit("SYS_RESOURCE") & !bit("KILL");
        let of = |add: &[&str]| capabilities(&spec(add, &[]), some);
        assert_eq!(of(&[]), Ok(DEFAULT_CAPABILITIES & some));
        assert_eq!(of(&["ALL"]), Ok(some));
        assert_eq!(of(&["SYS_RESOURCE"]), Err(CapabilityName::new("SYS_RESOURCE").expect("one")));
    }

    #[test]
    fn the_default_program_is_made_once_for_a_set_of_capabilities() {
        let filters = Filters::new();
        let first = filters.of_default(DEFAULT_CAPABILITIES).expect("a program");
        assert_eq!(filters.of_default(DEFAULT_CAPABILITIES), Ok(first.clone()));
        let other = filters.of_default(bit("SYS_ADMIN")).expect("a program");
        assert_ne!(other, first);
        assert!(filters.defaults.borrow().len() <= 3);
    }

    #[test]
    fn a_profile_that_cannot_be_had_says_why() {
        let dir = tempfile::tempdir().expect("a directory");
        let of = |name: &str| of_file(&dir.path().join(name), 0).expect_err(name);
        std::fs::write(dir.path().join("broken"), "{").expect("ours");
        std::fs::write(dir.path().join("wrong"), r#"{"defaultAction": "DENY"}"#).expect("ours");
        let long = File::create(dir.path().join("long")).expect("ours");
        long.set_len(PROFILE_BYTES_MAX + 1).expect("ours");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            dir.path().join("fifo"),
            rustix::fs::FileType::Fifo,
            Mode::RUSR,
            0,
        )
        .expect("ours");
        for (name, what) in [
            ("missing", "no such file or directory"),
            (".", "not a file"),
            ("fifo", "not a file"),
            ("long", "longer than 1048576 bytes"),
            ("broken", "EOF while parsing"),
            ("wrong", "defaultAction: unknown variant `DENY`"),
        ] {
            let found = of(name);
            assert!(found.contains(name) && found.contains(what), "{found}");
        }
    }
}
