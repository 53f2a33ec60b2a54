//! Copies a tree of an image: content, owners, modes, times and attributes.
//! Never leaves either tree: whatever is opened is opened by one name in an
//! open directory, and no link is followed.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::buffer::spare_capacity;
use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid,
    XattrFlags,
};
use rustix::io::Errno;

/// Deeper than what an image has, and far from what a thread's stack and its
/// share of descriptors hold.
const DEPTH_MAX: usize = 64;

/// Bytes that are copied before anybody asks whether they are still wanted.
const CHUNK_BYTES: u64 = 4 << 20;

/// Bytes that Linux lets the names and the value of attributes have.
const XATTR_BYTES_MAX: usize = 64 << 10;

/// What could not be copied.
#[derive(Debug)]
pub(super) struct Failed {
    /// Below the tree's root.
    pub(super) path: PathBuf,
    pub(super) error: io::Error,
}

/// Copies what is in an open directory into an empty one, and makes that one's
/// owner, mode, time and attributes the same. Devices and sockets are left out:
/// no volume opens the one, and nobody listens at the other.
pub(super) fn tree(from: &OwnedFd, to: &OwnedFd, is_unwanted: &AtomicBool) -> Result<(), Failed> {
    let mut copy = Copy { is_unwanted, path: PathBuf::new(), depth: 0 };
    copy.directory(from, to).map_err(|error| Failed { path: copy.path, error })
}

struct Copy<'a> {
    is_unwanted: &'a AtomicBool,
    /// What is being copied; after an error, what could not be.
    path: PathBuf,
    depth: usize,
}

impl Copy<'_> {
    fn directory(&mut self, from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
        if self.depth == DEPTH_MAX {
            return Err(io::Error::other("directories lie too deep in one another"));
        }
        self.depth += 1;
        for entry in Dir::read_from(from)? {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            self.path.push(Path::new(std::ffi::OsStr::from_bytes(name.to_bytes())));
            self.entry(from, to, name)?;
            self.path.pop();
        }
        self.depth -= 1;
        // Last: an entry that is made changes its directory's time.
        dress(from, to, &rustix::fs::fstat(from)?)
    }

    fn entry(&mut self, from: &OwnedFd, to: &OwnedFd, name: &CStr) -> io::Result<()> {
        self.go_on()?;
        let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let Some(from) = open_directory(from, name)? else { return Ok(()) };
                rustix::fs::mkdirat(to, name, Mode::RWXU)?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let to = rustix::fs::openat(to, name, flags, Mode::empty())?;
                self.directory(&from, &to)
            }
            FileType::RegularFile => self.file(from, to, name),
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(from, name, Vec::new())?;
                rustix::fs::symlinkat(&target, to, name)?;
                Ok(chown_entry(to, name, &stat)?)
            }
            FileType::Fifo => {
                let mode = Mode::from_raw_mode(stat.st_mode);
                rustix::fs::mknodat(to, name, FileType::Fifo, Mode::empty(), 0)?;
                chown_entry(to, name, &stat)?;
                Ok(rustix::fs::chmodat(to, name, mode, AtFlags::empty())?)
            }
            _ => Ok(()),
        }
    }

    fn file(&self, from: &OwnedFd, to: &OwnedFd, name: &CStr) -> io::Result<()> {
        // Not to wait at a pipe that has come in the file's place.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let from = File::from(rustix::fs::openat(from, name, flags, Mode::empty())?);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let mut to = File::from(rustix::fs::openat(to, name, flags, mode)?);
        while io::copy(&mut (&from).take(CHUNK_BYTES), &mut to)? > 0 {
            self.go_on()?;
        }
        dress(&from, &to, &rustix::fs::fstat(&from)?)
    }

    fn go_on(&self) -> io::Result<()> {
        match self.is_unwanted.load(Ordering::Relaxed) {
            true => Err(Errno::CANCELED.into()),
            false => Ok(()),
        }
    }
}

/// `None` for one on which something else is mounted.
fn open_directory(from: &OwnedFd, name: &CStr) -> Result<Option<OwnedFd>, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    match rustix::fs::openat2(from, name, flags, Mode::empty(), resolve) {
        Ok(directory) => Ok(Some(directory)),
        Err(Errno::XDEV) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn owner(stat: &Stat) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))
}

fn chown_entry(dir: &OwnedFd, name: &CStr, stat: &Stat) -> Result<(), Errno> {
    let (uid, gid) = owner(stat);
    give(|| rustix::fs::chownat(dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW))
}

/// Does what only root may, unless this is not root: files are the user's then,
/// whoever had them in an image.
pub(super) fn give(to_other: impl FnOnce() -> Result<(), Errno>) -> Result<(), Errno> {
    if super::is_root() { to_other() } else { Ok(()) }
}

/// Gives a copy what its original has beside content. In this order: a change of
/// the owner takes mode bits and capabilities away.
fn dress(from: &impl AsFd, to: &impl AsFd, stat: &Stat) -> io::Result<()> {
    let (uid, gid) = owner(stat);
    give(|| rustix::fs::fchown(to, uid, gid))?;
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode))?;
    attributes(from, to)?;
    let time = |seconds, nanoseconds: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: i64::try_from(nanoseconds).unwrap_or(0),
    };
    let times = Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    };
    Ok(rustix::fs::futimens(to, &times)?)
}

/// Copies the attributes that belong to a file, and none that a file system
/// keeps for itself.
fn attributes(from: &impl AsFd, to: &impl AsFd) -> Result<(), Errno> {
    let mut names = Vec::with_capacity(XATTR_BYTES_MAX);
    match rustix::fs::flistxattr(from, spare_capacity(&mut names)) {
        Ok(_) => {}
        Err(Errno::OPNOTSUPP) => return Ok(()),
        Err(errno) => return Err(errno),
    }
    for name in names.split_inclusive(|&byte| byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        let is_files = |prefix: &&[u8]| name.to_bytes().starts_with(prefix);
        let kinds: [&[u8]; 3] = [b"user.", b"security.capability", b"system.posix_acl_"];
        if !kinds.iter().any(is_files) {
            continue;
        }
        let mut value = Vec::with_capacity(XATTR_BYTES_MAX);
        rustix::fs::fgetxattr(from, name, spare_capacity(&mut value))?;
        match rustix::fs::fsetxattr(to, name, &value, XattrFlags::empty()) {
            // The other file system has none.
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            // Capabilities are root's to give.
            Err(Errno::PERM) if !super::is_root() => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
