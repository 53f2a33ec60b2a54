//! Whom a container runs as: `user` of its spec, by the accounts of its own root
//! file system, as docker reads them.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// The largest passwd(5) or group(5) file that is read, in bytes.
const ACCOUNTS_BYTES_MAX: u64 = 4 << 20;

/// A user with the groups to be in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct User {
    /// The user's id.
    pub(super) uid: u32,
    /// The group's.
    pub(super) gid: u32,
    /// All groups, the user's own among them.
    pub(super) groups: Vec<u32>,
    /// The home directory, where the accounts know one.
    pub(super) home: Option<String>,
}

/// The accounts of a root file system: the text of its passwd(5) and group(5).
#[derive(Debug, Default)]
pub(super) struct Accounts {
    passwd: String,
    group: String,
}

impl Accounts {
    /// Reads those of a root file system; one that has none has no accounts.
    ///
    /// # Errors
    /// The file and why it cannot be read.
    pub(super) fn read(rootfs: &Path) -> Result<Self, (&'static str, io::Error)> {
        let read = |path| read_in(rootfs, path).map_err(|error| (path, error));
        Ok(Self { passwd: read("etc/passwd")?, group: read("etc/group")? })
    }

    /// The user that a spec names: `user`, `uid`, `user:group` or `uid:gid`; root
    /// without. An id needs no account; a name does.
    ///
    /// Without a group it is the account's, or root's, and the user is also in
    /// the groups that list its name.
    ///
    /// # Errors
    /// What is not found, in words.
    pub(super) fn find(&self, wanted: Option<&str>) -> Result<User, String> {
        let (user, group) = match wanted.unwrap_or("0").split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (wanted.unwrap_or("0"), None),
        };
        let account = self.accounts().find(|account| account.is(user));
        let uid = match &account {
            Some(account) => account.uid,
            None => id(user).ok_or_else(|| format!("user: no user {user} in its etc/passwd"))?,
        };
        let (gid, mut groups) = match (group, &account) {
            (Some(group), _) => (self.gid(group)?, Vec::new()),
            (None, Some(account)) => (account.gid, self.groups_of(account.name)),
            (None, None) => (0, Vec::new()),
        };
        // Else a program that changes its group would leave one that may deny it a
        // file (CVE-2022-36109).
        groups.insert(0, gid);
        let home = account.and_then(|account| account.home).map(str::to_owned);
        Ok(User { uid, gid, groups, home })
    }

    fn gid(&self, group: &str) -> Result<u32, String> {
        let found = self.groups().find(|(name, gid, _)| *name == group || gid.to_string() == group);
        let found = found.map(|(_, gid, _)| gid).or_else(|| id(group));
        found.ok_or_else(|| format!("user: no group {group} in its etc/group"))
    }

    fn groups_of(&self, user: &str) -> Vec<u32> {
        let lists = |members: &str| members.split(',').any(|member| member == user);
        self.groups().filter(|(_, _, members)| lists(members)).map(|(_, gid, _)| gid).collect()
    }

    fn accounts(&self) -> impl Iterator<Item = Account<'_>> {
        self.passwd.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let (name, _password) = (fields.next()?, fields.next()?);
            let (uid, gid) = (id(fields.next()?)?, id(fields.next()?)?);
            let home = fields.nth(1).filter(|home| home.starts_with('/'));
            Some(Account { name, uid, gid, home })
        })
    }

    fn groups(&self) -> impl Iterator<Item = (&str, u32, &str)> {
        self.group.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let (name, _password) = (fields.next()?, fields.next()?);
            Some((name, id(fields.next()?)?, fields.next().unwrap_or_default()))
        })
    }
}

/// A line of passwd(5).
struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: Option<&'a str>,
}

impl Account<'_> {
    fn is(&self, user: &str) -> bool {
        self.name == user || self.uid.to_string() == user
    }
}

/// An id in digits. The highest means "as it is" to the kernel, and it is root.
fn id(text: &str) -> Option<u32> {
    let is_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|id| is_digits && *id != u32::MAX)
}

/// A small file below a directory that no link leads out of.
fn read_in(dir: &Path, path: &str) -> io::Result<String> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let Ok(dir) = rustix::fs::openat(CWD, dir, flags, Mode::empty()) else {
        // That it is missing, the launch says by its own name.
        return Ok(String::new());
    };
    // A pipe that stands there must not be waited for.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match rustix::fs::openat2(&dir, path, flags, Mode::empty(), ResolveFlags::IN_ROOT) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(String::new()),
        Err(errno) => return Err(errno.into()),
    };
    if FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) != FileType::RegularFile {
        return Err(io::Error::other("it is no file"));
    }
    let mut bytes = Vec::new();
    File::from(file).take(ACCOUNTS_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > ACCOUNTS_BYTES_MAX {
        return Err(io::Error::other(format!("it is longer than {ACCOUNTS_BYTES_MAX} bytes")));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn accounts() -> Accounts {
        Accounts {
            passwd: "root:x:0:0:root:/root:/bin/sh\n# a comment\nbroken:x:one:2\n\
                     web:x:33:34:web,,,:/srv/web:/bin/false\nweb:x:99:99::/second:\n\
                     homeless:x:40:41::none:\n7:x:70:71::/seven:\n"
                .to_owned(),
            group: "root:x:0:\nwww:x:34:\nlogs:x:4:backup,web\nall:x:5:web\nnear:x:6:webmaster\n"
                .to_owned(),
        }
    }

    fn found(wanted: &str) -> (u32, u32, Vec<u32>, Option<String>) {
        let User { uid, gid, groups, home } = accounts().find(Some(wanted)).unwrap();
        (uid, gid, groups, home)
    }

    #[test]
    fn names_and_ids_are_found_with_their_groups_and_home() {
        let web = (33, 34, vec![34, 4, 5], Some("/srv/web".to_owned()));
        assert_eq!(found("web"), web);
        assert_eq!(found("33"), web);
        assert_eq!(found("homeless"), (40, 41, vec![41], None));
        assert_eq!(found("7").0, 70, "a name is a name, be it of digits");
        assert_eq!(accounts().find(None).unwrap().home.as_deref(), Some("/root"));
    }

    #[test]
    fn a_group_that_is_named_is_the_only_one() {
        assert_eq!(found("web:logs"), (33, 4, vec![4], Some("/srv/web".to_owned())));
        assert_eq!(found("web:4"), found("web:logs"));
        assert_eq!(found("1000:www"), (1000, 34, vec![34], None));
        assert_eq!(found("1000:1001"), (1000, 1001, vec![1001], None));
    }

    #[test]
    fn an_id_needs_no_account_and_a_name_does() {
        assert_eq!(found("1000"), (1000, 0, vec![0], None));
        assert_eq!(Accounts::default().find(Some("1000")).unwrap().uid, 1000);
        for (wanted, what) in [
            ("nobody", "user: no user nobody in its etc/passwd"),
            ("web:nobody", "user: no group nobody in its etc/group"),
            ("web:", "user: no group  in its etc/group"),
            ("-1", "user: no user -1 in its etc/passwd"),
            ("+1", "user: no user +1 in its etc/passwd"),
            ("4294967295", "user: no user 4294967295 in its etc/passwd"),
            ("0:4294967295", "user: no group 4294967295 in its etc/group"),
        ] {
            assert_eq!(accounts().find(Some(wanted)).unwrap_err(), what);
        }
    }

    #[test]
    fn no_link_leads_to_the_hosts_accounts() {
        let dir = tempfile::tempdir().unwrap();
        let host = dir.path().join("host");
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::fs::write(&host, "secret:x:1:1::/:\n").unwrap();
        symlink(&host, root.join("etc/passwd")).unwrap();
        symlink("../../host", root.join("etc/group")).unwrap();
        let accounts = Accounts::read(&root).unwrap();
        assert_eq!((&*accounts.passwd, &*accounts.group), ("", ""));
        // Within the root it is followed.
        std::fs::write(root.join("accounts"), "in:x:2:2::/:\n").unwrap();
        std::fs::remove_file(root.join("etc/passwd")).unwrap();
        symlink("/accounts", root.join("etc/passwd")).unwrap();
        assert_eq!(Accounts::read(&root).unwrap().find(Some("in")).unwrap().uid, 2);
    }

    #[test]
    fn what_is_no_file_is_refused_and_not_waited_for() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        let fifo = root.path().join("etc/passwd");
        rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR, 0).unwrap();
        let (file, error) = Accounts::read(root.path()).unwrap_err();
        assert_eq!((file, error.to_string()), ("etc/passwd", "it is no file".to_owned()));
    }
}
