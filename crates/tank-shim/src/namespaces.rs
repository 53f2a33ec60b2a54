//! The namespaces that the containers of a pod share: network, ipc and uts. The
//! shim is in them itself, so that every container is born in them and none
//! holds them for the others; where they belong to a user namespace, which it
//! does not enter, it holds them open. They end with the shim.

use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::thread::UnshareFlags;
use tank_shim::protocol::{Failure, Launch, Network, Step};

use crate::ids;
use crate::launch::{At, Stumble};
use crate::syscall;
use crate::user_namespace::UserNamespace;

/// What a network of a pod's own lets every user do, as docker has it: serve any
/// port, and send echo requests.
const NETWORK_SETTINGS: [&str; 2] =
    ["/proc/sys/net/ipv4/ip_unprivileged_port_start", "/proc/sys/net/ipv4/ping_group_range"];

/// The highest group that may be let send echo requests.
const PING_GROUP_MAX: u32 = 2_147_483_647;

/// Makes them, and leaves the host's for them unless they belong to a user
/// namespace, which it returns.
pub(crate) fn make(launch: &Launch) -> Result<Option<UserNamespace>, Failure> {
    if let Some(ids) = launch.user_namespace {
        return UserNamespace::make(launch, ids).map(Some);
    }
    let entered = syscall::enter_new(wanted(launch)).at(Step::MakeNamespaces);
    match entered.and_then(|()| set_up(launch)) {
        Ok(()) => Ok(None),
        Err(stumble) => Err(explain(launch, stumble)),
    }
}

/// Those that every pod has of its own.
pub(crate) fn wanted(launch: &Launch) -> UnshareFlags {
    let always = UnshareFlags::NEWUTS | UnshareFlags::NEWIPC;
    match launch.network {
        Network::None => always | UnshareFlags::NEWNET,
        Network::Host => always,
    }
}

/// Sets up those that the caller is in.
pub(crate) fn set_up(launch: &Launch) -> Result<(), Stumble> {
    rustix::system::sethostname(launch.hostname.as_bytes()).at(Step::SetHostname)?;
    match launch.network {
        Network::None => {
            raise_loopback().at(Step::RaiseLoopback)?;
            set_up_network(launch)
        }
        Network::Host => Ok(()),
    }
}

/// A step with its object.
pub(crate) fn explain(launch: &Launch, stumble: Stumble) -> Failure {
    let object = match stumble.step {
        Step::SetHostname => launch.hostname.as_str(),
        Step::RaiseLoopback => "lo",
        Step::SetUpNetwork => NETWORK_SETTINGS.get(stumble.index).copied().unwrap_or_default(),
        _ => launch.pod.as_str(),
    };
    Failure::new(stumble.step, object, stumble.errno)
}

fn set_up_network(launch: &Launch) -> Result<(), Stumble> {
    // A group that is not there cannot be named.
    let last = match launch.user_namespace {
        Some(ids) => ids.count - 1,
        None => ids::own().last_group().min(PING_GROUP_MAX),
    };
    let values = ["0".to_owned(), format!("0 {last}")];
    for (index, (path, value)) in NETWORK_SETTINGS.iter().zip(values).enumerate() {
        let written = std::fs::write(path, value)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO));
        match written {
            // A kernel may be without IPv4.
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno).at_nth(Step::SetUpNetwork, index),
        }
    }
    Ok(())
}

fn raise_loopback() -> Result<(), Errno> {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?;
    syscall::raise_loopback(socket.as_fd())
}
