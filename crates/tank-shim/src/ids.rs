//! Which users and groups there are for this process: all, or what its user
//! namespace has. Looked up once, at the launch, and never changed.

use std::fs;
use std::io::ErrorKind;
use std::ops::Range;
use std::sync::OnceLock;

use tank_shim::protocol::{Failure, Step};

use crate::launch::failure_of;

/// The map of a user namespace in which every id is what it is outside.
const ALL: Range<u64> = 0..u32::MAX as u64;

/// The ids of a user namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ids {
    users: Vec<Range<u64>>,
    groups: Vec<Range<u64>>,
    /// Whether a process may leave its groups for others.
    pub(crate) may_set_groups: bool,
}

static OWN: OnceLock<Ids> = OnceLock::new();

/// Looks up this process's, whose maps must be there.
pub(crate) fn look_up() -> Result<(), Failure> {
    let ids = Ids::parse(&read("uid_map")?, &read("gid_map")?, &read("setgroups")?);
    // A shim launches once.
    let _ = OWN.set(ids);
    Ok(())
}

/// This process's, which have been looked up.
pub(crate) fn own() -> &'static Ids {
    OWN.get().expect("a launch begins by looking them up")
}

/// A file of a kernel's that has user namespaces, or nothing.
fn read(file: &str) -> Result<String, Failure> {
    let path = format!("/proc/self/{file}");
    match fs::read_to_string(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        read => read.map_err(|error| failure_of(Step::CheckContainer, path, &error)),
    }
}

impl Ids {
    /// From the files of user_namespaces(7).
    fn parse(uid_map: &str, gid_map: &str, setgroups: &str) -> Self {
        Self {
            users: ranges(uid_map),
            groups: ranges(gid_map),
            may_set_groups: setgroups.trim() != "deny",
        }
    }

    /// Whether some are missing: the process is in a user namespace, and what its
    /// capabilities are good for ends there.
    pub(crate) fn are_few(&self) -> bool {
        self.users != [ALL] || self.groups != [ALL]
    }

    pub(crate) fn has_user(&self, uid: u32) -> bool {
        self.users.iter().any(|range| range.contains(&uid.into()))
    }

    pub(crate) fn has_group(&self, gid: u32) -> bool {
        self.groups.iter().any(|range| range.contains(&gid.into()))
    }

    /// The last group of those that follow 0 without a gap.
    pub(crate) fn last_group(&self) -> u32 {
        let mut end = 0;
        while let Some(range) = self.groups.iter().find(|range| range.contains(&end)) {
            end = range.end;
        }
        u32::try_from(end.saturating_sub(1)).unwrap_or(u32::MAX)
    }
}

/// The ids inside. A kernel that tells of none has no user namespaces.
fn ranges(map: &str) -> Vec<Range<u64>> {
    let range = |line: &str| {
        let mut fields = line.split_whitespace().map(str::parse::<u64>);
        let (first, _outside, count) =
            (fields.next()?.ok()?, fields.next()?.ok()?, fields.next()?.ok()?);
        Some(first..first + count)
    };
    if map.is_empty() { vec![ALL] } else { map.lines().filter_map(range).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outside_all_ids_are_there() {
        let all = "         0          0 4294967295\n";
        for ids in [Ids::parse(all, all, "allow\n"), Ids::parse("", "", "")] {
            assert!(!ids.are_few() && ids.may_set_groups);
            assert!(ids.has_user(4_294_967_294) && ids.has_group(4_294_967_294));
            assert!(!ids.has_user(u32::MAX));
            assert_eq!(ids.last_group(), 4_294_967_294);
        }
    }

    #[test]
    fn of_a_single_user_there_is_root_alone() {
        let ids = Ids::parse("0 1000 1\n", "0 100 1\n", "deny\n");
        assert!(ids.are_few() && !ids.may_set_groups);
        assert!(ids.has_user(0) && ids.has_group(0));
        assert!(!ids.has_user(1) && !ids.has_group(1) && !ids.has_user(1000));
        assert_eq!(ids.last_group(), 0);
    }

    #[test]
    fn subordinate_ids_follow_root() {
        let map = "0 1000 1\n1 100000 10\n11 300000 5\n100 500000 5\n";
        let ids = Ids::parse(map, map, "allow");
        assert!(ids.are_few() && ids.may_set_groups);
        assert!(ids.has_user(15) && !ids.has_user(16) && ids.has_user(104));
        assert_eq!(ids.last_group(), 15);
    }
}
