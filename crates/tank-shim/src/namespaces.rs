//! The namespaces that the containers of a pod share: network, ipc and uts. The
//! shim is in them itself, so that every container is born in them and none
//! holds them for the others. They end with the shim.

use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::thread::UnshareFlags;
use tank_shim::protocol::{Failure, Launch, Network, Step};

use crate::launch::failure;
use crate::syscall;

/// Makes them and leaves the host's for them.
pub(crate) fn enter(launch: &Launch) -> Result<(), Failure> {
    let always = UnshareFlags::NEWUTS | UnshareFlags::NEWIPC;
    let new = match launch.network {
        Network::None => always | UnshareFlags::NEWNET,
        Network::Host => always,
    };
    let failed = |step, object: &str| {
        let object = object.to_owned();
        move |errno| failure(step, object, errno)
    };
    syscall::enter_new(new).map_err(failed(Step::MakeNamespaces, &launch.pod))?;
    rustix::system::sethostname(launch.hostname.as_bytes())
        .map_err(failed(Step::SetHostname, &launch.hostname))?;
    match launch.network {
        Network::None => raise_loopback().map_err(failed(Step::RaiseLoopback, "lo")),
        Network::Host => Ok(()),
    }
}

fn raise_loopback() -> Result<(), Errno> {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?;
    syscall::raise_loopback(socket.as_fd())
}
