//! The ids of a user namespace in which a shim is root that was started without
//! root. They can be given from outside alone, which the process does that makes
//! the shim: it maps root to its own user and, where that user has subordinate
//! ids, these to all others. Never decides whether there is a namespace.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::io::Errno;
use tank_shim::protocol::{Failure, Step};

use crate::launch::{failure, failure_of};
use crate::process;

/// Where newuidmap(1) and newgidmap(1) are looked for: the shim has no `PATH`.
const TOOL_DIRS: [&str; 5] =
    ["/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin", "/run/wrappers/bin"];

/// Subordinate ids, as a line of subuid(5) or subgid(5) has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Subordinate {
    first: u32,
    count: u32,
}

/// A way to give subordinate ids: the program and the ids.
struct Way {
    tool: PathBuf,
    ids: Vec<Subordinate>,
}

/// Gives a child in a new user namespace its ids: all that this user has, or
/// itself alone.
pub(crate) fn give_ids(child: &OwnedFd) -> Result<(), Failure> {
    let pid = process::host_pid(child)
        .map_err(|errno| failure(Step::MapIds, "of a process that cannot be found", errno))?;
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    match ways(uid) {
        Some([users, groups]) => users.take(pid, uid).and_then(|()| groups.take(pid, gid)),
        None => map_one(pid, uid, gid),
    }
}

/// The ways to give subordinate users and groups, if there are both.
fn ways(uid: u32) -> Option<[Way; 2]> {
    // Both tools have a privilege by their files, of which nothing comes then.
    if rustix::thread::no_new_privs().unwrap_or(false) {
        return None;
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = name_of(&passwd, uid);
    let way = |tool: &str, file: &str| {
        let ids = of_user(&fs::read_to_string(file).ok()?, uid, name);
        let mut paths = TOOL_DIRS.iter().map(|dir| Path::new(dir).join(tool));
        Some(Way { tool: paths.find(|path| path.exists())?, ids }).filter(|way| !way.ids.is_empty())
    };
    Some([way("newuidmap", "/etc/subuid")?, way("newgidmap", "/etc/subgid")?])
}

impl Way {
    fn take(&self, pid: i32, own: u32) -> Result<(), Failure> {
        let tool = self.tool.display().to_string();
        let mut command = Command::new(&self.tool);
        command.arg(pid.to_string()).args(arguments(own, &self.ids));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        match command.status() {
            Ok(status) if status.success() => Ok(()),
            // It says more only to people.
            Ok(_) => Err(failure(Step::MapIds, format!("by {tool}"), Errno::PERM)),
            Err(error) => Err(failure_of(Step::MapIds, format!("by {tool}"), &error)),
        }
    }
}

/// Root first, then all others without a gap.
fn arguments(own: u32, ids: &[Subordinate]) -> Vec<String> {
    let mut arguments = vec![[0, own, 1]];
    let mut next: u32 = 1;
    for Subordinate { first, count } in ids {
        let Some(end) = next.checked_add(*count) else { break };
        arguments.push([next, *first, *count]);
        next = end;
    }
    arguments.concat().iter().map(u32::to_string).collect()
}

/// The one map that needs no privilege. In turn the kernel wants groups to be
/// left as they are: one may be there to deny something.
fn map_one(pid: i32, uid: u32, gid: u32) -> Result<(), Failure> {
    let write = |file: &str, text: String| -> Result<(), Failure> {
        let path = format!("/proc/{pid}/{file}");
        let failed = |error: io::Error| failure_of(Step::MapIds, format!("in {path}"), &error);
        fs::write(&path, text).map_err(failed)
    };
    write("setgroups", "deny".to_owned())?;
    write("uid_map", format!("0 {uid} 1"))?;
    write("gid_map", format!("0 {gid} 1"))
}

/// A user's name by passwd(5).
fn name_of(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

/// What a user has by subuid(5) or subgid(5), both of which name users.
fn of_user(text: &str, uid: u32, name: Option<&str>) -> Vec<Subordinate> {
    let ids = |line: &str| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        let is_users = Some(owner) == name || owner.parse() == Ok(uid);
        let (first, count) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        (is_users && count > 0).then_some(Subordinate { first, count })
    };
    text.lines().filter_map(ids).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_subordinate_ids_are_found_by_name_and_by_number() {
        let passwd = "root:x:0:0::/root:/bin/sh\nweb:x:1000:1000::/srv:/bin/sh\n";
        assert_eq!(name_of(passwd, 1000), Some("web"));
        assert_eq!(name_of(passwd, 1001), None);
        let text = "other:1:2\nweb:100000:65536\n# a comment\n1000:300000:10\nweb:5:0\nweb:x:1\n";
        let found = of_user(text, 1000, Some("web"));
        let of = |first, count| Subordinate { first, count };
        assert_eq!(found, [of(100_000, 65_536), of(300_000, 10)]);
        assert_eq!(of_user(text, 1000, None), [of(300_000, 10)]);
        assert_eq!(of_user(text, 1001, None), []);
    }

    #[test]
    fn ids_inside_follow_one_another_from_root_on() {
        let ids = [
            Subordinate { first: 100_000, count: 65_536 },
            Subordinate { first: 300_000, count: 10 },
            Subordinate { first: 5, count: u32::MAX },
        ];
        let told = arguments(1000, &ids).join(" ");
        assert_eq!(told, "0 1000 1 1 100000 65536 65537 300000 10");
    }
}
