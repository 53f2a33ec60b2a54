//! The files that tell a container its name and how to find others: hosts(5),
//! hostname(5) and resolv.conf(5), a pod's own and not the image's.

use crate::core::spec::Network;

/// Names and contents of files below `/etc`. `of_host` reads one of the host's
/// own, by its name.
pub(super) fn files(
    pod: &str,
    network: &Network,
    of_host: impl Fn(&str) -> String,
) -> Vec<(String, String)> {
    let (hosts, resolv_conf) = match network {
        // The same network, and so the same names.
        Network::Host => (ended(of_host("hosts")) + &named(pod), of_host("resolv.conf")),
        // Nobody can be reached who could be asked.
        Network::None | Network::Interfaces { .. } => {
            (LOCAL.to_owned() + &named(pod), String::new())
        }
    };
    let files = [("hosts", hosts), ("hostname", format!("{pod}\n")), ("resolv.conf", resolv_conf)];
    files.into_iter().map(|(name, content)| (name.to_owned(), content)).collect()
}

/// What docker and Debian say of a host's own addresses.
const LOCAL: &str = "\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
";

/// An address that is the pod's own wherever it is.
fn named(pod: &str) -> String {
    format!("127.0.1.1\t{pod}\n")
}

/// A text whose last line is whole, so that another can follow.
fn ended(mut text: String) -> String {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(network: &Network, name: &str) -> String {
        let of_host = |name: &str| format!("the host's {name}");
        let files = files("web", network, of_host);
        files.into_iter().find(|(each, _)| each == name).expect(name).1
    }

    #[test]
    fn a_pod_by_itself_knows_itself_alone() {
        assert_eq!(file(&Network::None, "hosts"), format!("{LOCAL}127.0.1.1\tweb\n"));
        assert_eq!(file(&Network::None, "resolv.conf"), "");
        assert_eq!(file(&Network::None, "hostname"), "web\n");
    }

    #[test]
    fn a_pod_in_the_hosts_network_knows_what_the_host_knows() {
        assert_eq!(file(&Network::Host, "hosts"), "the host's hosts\n127.0.1.1\tweb\n");
        assert_eq!(file(&Network::Host, "resolv.conf"), "the host's resolv.conf");
        assert_eq!(file(&Network::Host, "hostname"), "web\n");
    }
}
