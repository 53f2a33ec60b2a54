//! Specs as terms: what clients get back and what the store keeps.
//!
//! Every field is written, so that a reader needs no defaults. The text is
//! borrowed from the spec.

use std::collections::BTreeSet;

use erlang_term_format::Term;

use super::{
    CapabilityName, ContainerSpec, CpuLimit, Image, IpSource, Limits, MemorySwap, Mount, Network,
    Nic, NicMode, PodSpec, RestartPolicy, Seccomp, StopSignal, Userns, Volume, VolumeSource,
};

impl PodSpec {
    /// The spec as a term; `PodSpec::from_term` takes it back.
    #[must_use]
    pub fn to_term(&self) -> Term<'_> {
        map([
            ("name", self.name.as_str().into()),
            ("containers", list(&self.containers, container)),
            ("init_containers", list(&self.init_containers, container)),
            ("network", network(&self.network)),
            ("volumes", list(&self.volumes, volume)),
            ("restart", Term::atom(self.restart.name())),
            ("userns", Term::atom(self.userns.name())),
            ("oci_runtime", self.oci_runtime.as_deref().into()),
        ])
    }
}

impl RestartPolicy {
    /// The policy's name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::OnFailure => "on_failure",
            Self::Never => "never",
        }
    }
}

impl Userns {
    /// The choice's name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Auto => "auto",
        }
    }
}

impl NicMode {
    /// The mode's name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Macvlan => "macvlan",
            Self::Bridge => "bridge",
            Self::Ipvlan => "ipvlan",
        }
    }
}

fn container(spec: &ContainerSpec) -> Term<'_> {
    let env = spec.env.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    map([
        ("name", spec.name.as_str().into()),
        ("image", image(&spec.image)),
        ("command", list(&spec.command, |text| text.as_str().into())),
        ("args", list(&spec.args, |text| text.as_str().into())),
        ("env", Term::map(env)),
        ("working_dir", spec.working_dir.as_deref().into()),
        ("user", spec.user.as_deref().into()),
        ("mounts", list(&spec.mounts, mount)),
        ("limits", limits(&spec.limits)),
        ("tty", spec.tty.into()),
        ("cap_add", capabilities(&spec.confinement.cap_add)),
        ("cap_drop", capabilities(&spec.confinement.cap_drop)),
        ("seccomp", seccomp(&spec.confinement.seccomp)),
        ("privileged", spec.confinement.privileged.into()),
        ("read_only", spec.confinement.read_only.into()),
        ("sidecar", spec.sidecar.into()),
        ("stop_signal", spec.stop.signal.map(stop_signal).into()),
        ("stop_grace_ms", spec.stop.grace_ms.into()),
        ("pre_stop", list(&spec.stop.pre_stop, |text| text.as_str().into())),
        ("init", spec.init.into()),
    ])
}

fn stop_signal(signal: StopSignal) -> Term<'static> {
    signal.name().map_or_else(|| signal.number().into(), Term::from)
}

fn capabilities(names: &BTreeSet<CapabilityName>) -> Term<'static> {
    let name = |name: &CapabilityName| match *name {
        CapabilityName::All => Term::atom("all"),
        CapabilityName::One(name) => name.into(),
    };
    Term::List(names.iter().map(name).collect())
}

fn seccomp(seccomp: &Seccomp) -> Term<'_> {
    match seccomp {
        Seccomp::Default => Term::atom("default"),
        Seccomp::Unconfined => Term::atom("unconfined"),
        Seccomp::Profile(path) => path.as_str().into(),
    }
}

fn image(image: &Image) -> Term<'_> {
    match image {
        Image::Reference(reference) => reference.as_str().into(),
        Image::Rootfs(path) => tagged("rootfs", path),
    }
}

fn mount(mount: &Mount) -> Term<'_> {
    map([
        ("volume", mount.volume.as_str().into()),
        ("path", mount.path.as_str().into()),
        ("read_only", mount.read_only.into()),
    ])
}

/// A limit that is not set has no entry: there is no value that means "none".
fn limits(limits: &Limits) -> Term<'static> {
    let memory_swap = |swap| match swap {
        MemorySwap::Unlimited => Term::atom("unlimited"),
        MemorySwap::Bytes(bytes) => bytes.into(),
    };
    let cpu = |CpuLimit { quota_us, period_us }| Term::tuple([quota_us, period_us]);
    let entries = [
        ("memory", limits.memory.map(Term::from)),
        ("memory_swap", limits.memory_swap.map(memory_swap)),
        ("pids", limits.pids.map(Term::from)),
        ("cpu", limits.cpu.map(cpu)),
        ("cpu_shares", limits.cpu_shares.map(Term::from)),
        ("nofile", limits.nofile.map(Term::from)),
        ("nice", limits.nice.map(Term::from)),
        ("oom_score_adj", limits.oom_score_adj.map(Term::from)),
    ];
    map(entries.into_iter().filter_map(|(key, value)| Some((key, value?))))
}

fn volume(volume: &Volume) -> Term<'_> {
    let source = match &volume.source {
        VolumeSource::Managed => Term::atom("managed"),
        VolumeSource::Host(path) => tagged("host", path),
        VolumeSource::Tmpfs(bytes) => Term::Tuple(vec![Term::atom("tmpfs"), (*bytes).into()]),
    };
    map([("name", volume.name.as_str().into()), ("source", source)])
}

fn network(network: &Network) -> Term<'_> {
    match network {
        Network::None => Term::atom("none"),
        Network::Host => Term::atom("host"),
        Network::Interfaces { nics, dns } => {
            map([("nics", list(nics, nic)), ("dns", list(dns, |ip| ip.to_string().into()))])
        }
    }
}

fn nic(nic: &Nic) -> Term<'_> {
    map([
        ("name", nic.name.as_str().into()),
        ("mode", Term::atom(nic.mode.name())),
        ("parent", nic.parent.as_deref().map_or(Term::atom("auto"), Term::from)),
        ("ip", ip(&nic.ip)),
        ("gateway", nic.gateway.map(|ip| ip.to_string()).into()),
    ])
}

fn ip(ip: &IpSource) -> Term<'_> {
    match ip {
        IpSource::Static(address, prefix) => {
            Term::Tuple(vec![address.to_string().into(), (*prefix).into()])
        }
        IpSource::Dhcp => Term::atom("dhcp"),
        IpSource::Ipam(subnet) => tagged("ipam", subnet),
    }
}

fn tagged<'a>(tag: &'static str, text: &'a str) -> Term<'a> {
    Term::Tuple(vec![Term::atom(tag), text.into()])
}

fn list<'a, T>(items: &'a [T], item: impl Fn(&'a T) -> Term<'a>) -> Term<'a> {
    Term::List(items.iter().map(item).collect())
}

fn map<'a>(entries: impl IntoIterator<Item = (&'static str, Term<'a>)>) -> Term<'a> {
    Term::Map(entries.into_iter().map(|(key, value)| (Term::atom(key), value)).collect())
}
