//! The namespaces that the containers of a pod share: network, ipc and uts. The
//! shim is in them itself, so that every container is born in them and none
//! holds them for the others. They end with the shim.

use std::io::ErrorKind;
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::thread::UnshareFlags;
use tank_shim::protocol::{Failure, Launch, Network, Step};

use crate::launch::{failure, failure_of};
use crate::syscall;

/// What a network of a pod's own lets every user do, as docker has it: serve any
/// port, and send echo requests.
const NETWORK_SETTINGS: [(&str, &str); 2] = [
    ("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0"),
    ("/proc/sys/net/ipv4/ping_group_range", "0 2147483647"),
];

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
        Network::None => {
            raise_loopback().map_err(failed(Step::RaiseLoopback, "lo"))?;
            set_up_network()
        }
        Network::Host => Ok(()),
    }
}

fn set_up_network() -> Result<(), Failure> {
    for (path, value) in NETWORK_SETTINGS {
        match std::fs::write(path, value) {
            // A kernel may be without IPv4.
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(failure_of(Step::SetUpNetwork, path, &error));
            }
            _ => {}
        }
    }
    Ok(())
}

fn raise_loopback() -> Result<(), Errno> {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?;
    syscall::raise_loopback(socket.as_fd())
}
