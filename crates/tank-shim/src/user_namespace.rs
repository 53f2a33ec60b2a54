//! A pod's user namespace, and the namespaces that belong to it: held open, so
//! that containers can be launched into them. The shim itself stays in the host's.
//!
//! A process makes them by being born in them, sets them up, and ends: what is
//! left of it are the descriptors.

use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{WaitId, WaitIdOptions};
use rustix::thread::UnshareFlags;
use tank_shim::protocol::{self, Failure, Launch, Network, Step};

use crate::launch::{At, NeverUnwind, Stumble, failure};
use crate::namespaces;
use crate::process::host_pid;
use crate::syscall::{self, Cloned};

/// A user namespace with those that belong to it.
#[derive(Debug)]
pub(crate) struct UserNamespace {
    ids: protocol::UserNamespace,
    has_network: bool,
    user: OwnedFd,
    /// Network, ipc and uts.
    others: Vec<OwnedFd>,
}

impl UserNamespace {
    /// Makes one with these users, and the others that the pod is to have.
    pub(crate) fn make(launch: &Launch, ids: protocol::UserNamespace) -> Result<Self, Failure> {
        check(ids)?;
        Self::try_to_make(launch, ids).map_err(|stumble| namespaces::explain(launch, stumble))
    }

    fn try_to_make(launch: &Launch, ids: protocol::UserNamespace) -> Result<Self, Stumble> {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)
                .at(Step::MakeNamespaces)?;
        let new = namespaces::wanted(launch) | UnshareFlags::NEWUSER;
        match syscall::clone(new.bits().cast_signed(), None).at(Step::MakeNamespaces)? {
            Cloned::Child => {
                drop(ours);
                hold(launch, &theirs)
            }
            Cloned::Parent(holder) => {
                drop(theirs);
                let made = Self::take_over(launch, ids, &holder, &ours);
                // The process ends at the end of the connection.
                drop(ours);
                let id = WaitId::PidFd(holder.as_fd());
                let _ = rustix::process::waitid(id, WaitIdOptions::EXITED);
                made
            }
        }
    }

    fn take_over(
        launch: &Launch,
        ids: protocol::UserNamespace,
        holder: &OwnedFd,
        connection: &OwnedFd,
    ) -> Result<Self, Stumble> {
        let process = format!("/proc/{}", host_pid(holder).at(Step::MapUsers)?);
        let map = format!("0 {} {}", ids.first_id, ids.count);
        for file in ["uid_map", "gid_map"] {
            let written = fs::write(format!("{process}/{file}"), &map);
            written.map_err(|error| errno_of(&error)).at(Step::MapUsers)?;
        }
        hear_from(connection)?;
        let open = |name: &str| {
            let opened = File::open(format!("{process}/ns/{name}")).map(OwnedFd::from);
            opened.map_err(|error| errno_of(&error)).at(Step::MakeNamespaces)
        };
        let has_network = launch.network == Network::None;
        let mut others = vec![open("ipc")?, open("uts")?];
        if has_network {
            others.push(open("net")?);
        }
        Ok(Self { ids, has_network, user: open("user")?, others })
    }

    /// The users.
    pub(crate) fn ids(&self) -> protocol::UserNamespace {
        self.ids
    }

    /// Whether the network is the pod's own.
    pub(crate) fn has_network(&self) -> bool {
        self.has_network
    }

    /// The namespace itself.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.user.as_fd()
    }

    /// Enters all of them, in a process of one thread, which has every capability
    /// there from here on, and none elsewhere. It allocates nothing.
    pub(crate) fn enter(&self) -> Result<(), Errno> {
        std::iter::once(&self.user)
            .chain(&self.others)
            .try_for_each(|fd| rustix::thread::move_into_link_name_space(fd.as_fd(), None))
    }
}

/// Refuses what would make somebody inside the host's root.
fn check(ids: protocol::UserNamespace) -> Result<(), Failure> {
    let has_end = ids.first_id.checked_add(ids.count).is_some();
    if ids.first_id == 0 || ids.count == 0 || !has_end {
        return Err(failure(Step::CheckContainer, "user_namespace", Errno::INVAL));
    }
    Ok(())
}

/// What the namespaces begin with: a process that sets them up once it is told to,
/// says how it went, and is there until they are held.
fn hold(launch: &Launch, connection: &OwnedFd) -> ! {
    let _guard = NeverUnwind;
    let wait = || rustix::io::read(connection, &mut [0; 1]);
    if wait() == Ok(1) {
        let report = match namespaces::set_up(launch) {
            Ok(()) => [0; Stumble::BYTES],
            Err(stumble) => stumble.to_bytes(),
        };
        // Who is not told learns it from the end of this process.
        if rustix::io::write(connection, &report).is_ok() {
            let _ = wait();
        }
    }
    syscall::exit_now(0)
}

/// Tells the process to set them up, and hears how it went.
fn hear_from(connection: &OwnedFd) -> Result<(), Stumble> {
    let mut report = Vec::with_capacity(Stumble::BYTES);
    rustix::io::write(connection, &[1])
        .and_then(|_| rustix::io::read(connection, spare_capacity(&mut report)))
        .at(Step::MakeNamespaces)?;
    match Stumble::from_bytes(&report) {
        Some(Stumble { errno: 0, .. }) => Ok(()),
        Some(stumble) => Err(stumble),
        None => Err(Errno::IO).at(Step::MakeNamespaces),
    }
}

fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
