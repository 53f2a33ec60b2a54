//! Terms to specs: every rule that a spec keeps.
//!
//! The rules and their order are those of the Elixir client, so that both sides
//! name the same one; `tests/cases/specs.terms` is run by both. The fields of
//! each struct below are parsed in the order they are written in.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use erlang_term_format::Term;

use super::error::SpecError;
use super::order::order;
use super::{
    CapabilityName, Confinement, ContainerSpec, CpuLimit, Image, IpSource, Limits, MemorySwap,
    Mount, Name, Network, Nic, NicMode, PodSpec, RestartPolicy, Seccomp, Stop, StopSignal, Userns,
    Volume, VolumeSource,
};

type Result<T> = std::result::Result<T, SpecError>;

/// The largest limit: what the kernel's files take.
const LIMIT_MAX: u64 = i64::MAX as u64;

/// The least, the most, and the rule in words.
type Range = (i64, i64, &'static str);

/// What the kernel's `cpu.shares` takes.
const CPU_SHARES: Range = (2, 262_144, "is not an integer from 2 to 262144");

/// What setpriority(2) takes.
const NICE: Range = (-20, 19, "is not an integer from -20 to 19");

/// What proc_pid_oom_score_adj(5) takes.
const OOM_SCORE_ADJ: Range = (-1_000, 1_000, "is not an integer from -1000 to 1000");

/// What an absent field without a default is.
static NIL: Term<'static> = Term::nil();

impl PodSpec {
    /// The spec that a term describes.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn from_term(term: &Term<'_>) -> Result<Self> {
        let keys = [
            "name",
            "containers",
            "init_containers",
            "network",
            "volumes",
            "restart",
            "userns",
            "oci_runtime",
        ];
        let fields = Fields::of(term, "Elixir.Tank.Pod", &keys)?;
        let name = fields.required("name", name)?;
        Self::named(name.clone(), &fields).map_err(|error| error.of_pod(&name))
    }

    /// The specs that terms describe, no two of one name.
    ///
    /// # Errors
    /// The first rule that one of them breaks, or else `{duplicate, names}`.
    pub fn all_from_terms(terms: &[Term<'_>]) -> Result<Vec<Self>> {
        let parse = |(index, term): (usize, &Term<'_>)| {
            Self::from_term(term).map_err(|error| error.within(&format!("[{index}]")))
        };
        let specs = terms.iter().enumerate().map(parse).collect::<Result<Vec<_>>>()?;
        unique(specs.iter().map(|spec| spec.name.as_str()))?;
        Ok(specs)
    }

    fn named(name: Name, fields: &Fields<'_, '_>) -> Result<Self> {
        let containers = fields.parse("containers", containers)?;
        let init_containers = fields.parse("init_containers", init_containers)?;
        let volumes = fields.parse("volumes", volumes)?;
        let network = fields.optional("network", Network::None, network)?;
        let restart = fields.optional("restart", RestartPolicy::Always, restart)?;
        let userns = fields.optional("userns", Userns::Host, userns)?;
        let oci_runtime = fields.required("oci_runtime", oci_runtime)?;
        let pod = Self {
            name,
            containers,
            init_containers,
            network,
            volumes,
            restart,
            userns,
            oci_runtime,
        };
        name_once(&pod)?;
        refer_to_volumes(&pod)?;
        Ok(pod)
    }
}

/// The entries of a map, all of them known.
struct Fields<'t, 'a>(Vec<(&'t Term<'a>, &'t Term<'a>)>);

impl<'t, 'a> Fields<'t, 'a> {
    fn of(term: &'t Term<'a>, module: &'static str, keys: &[&str]) -> Result<Self> {
        let Some(mut entries) = entries(term) else {
            return Err(SpecError::cannot_build(module, term));
        };
        // A struct of the client's is as good as a map.
        entries.retain(|(key, _)| !key.is_atom("__struct__"));
        let is_known = |key: &Term<'_>| keys.iter().any(|known| key.is_atom(known));
        let unknown: Vec<Term<'static>> = entries
            .iter()
            .filter(|(key, _)| !is_known(key))
            .map(|(key, _)| (*key).clone().into_owned())
            .collect();
        match unknown.is_empty() {
            true => Ok(Self(entries)),
            false => Err(SpecError::unknown_keys(unknown, keys)),
        }
    }

    /// The value of a field. In a keyword list the last one counts.
    fn get(&self, key: &str) -> Option<&'t Term<'a>> {
        self.0.iter().rev().find(|(each, _)| each.is_atom(key)).map(|(_, value)| *value)
    }

    /// A field whose parser decides what absence means.
    fn parse<T>(
        &self,
        key: &str,
        parse: impl FnOnce(Option<&'t Term<'a>>) -> Result<T>,
    ) -> Result<T> {
        parse(self.get(key)).map_err(|error| error.within(key))
    }

    /// A field that is `nil` when absent.
    fn required<T>(&self, key: &str, parse: impl FnOnce(&Term<'_>) -> Result<T>) -> Result<T> {
        self.parse(key, |value| parse(value.unwrap_or(&NIL)))
    }

    /// A field with a default.
    fn optional<T>(
        &self,
        key: &str,
        default: T,
        parse: impl FnOnce(&Term<'_>) -> Result<T>,
    ) -> Result<T> {
        self.parse(key, |value| value.map_or(Ok(default), parse))
    }
}

/// What a map or a keyword list holds.
fn entries<'t, 'a>(term: &'t Term<'a>) -> Option<Vec<(&'t Term<'a>, &'t Term<'a>)>> {
    match term {
        Term::Map(entries) => Some(entries.iter().map(|(key, value)| (key, value)).collect()),
        Term::List(pairs) => pairs.iter().map(keyword).collect(),
        _ => None,
    }
}

fn keyword<'t, 'a>(pair: &'t Term<'a>) -> Option<(&'t Term<'a>, &'t Term<'a>)> {
    match pair.as_tuple()? {
        [key, value] if key.as_atom().is_some() => Some((key, value)),
        _ => None,
    }
}

fn containers(value: Option<&Term<'_>>) -> Result<Vec<ContainerSpec>> {
    let containers = list(value, container)?;
    if containers.is_empty() {
        return Err(SpecError::no_containers("a pod has at least one container"));
    }
    if containers.iter().all(|container| container.sidecar) {
        let rule = "a pod has at least one container that is no sidecar";
        return Err(SpecError::no_containers(rule));
    }
    unique(containers.iter().map(|container| container.name.as_str()))?;
    Ok(containers)
}

fn init_containers(value: Option<&Term<'_>>) -> Result<Vec<ContainerSpec>> {
    list(value, |term| {
        let container = container(term)?;
        match container.sidecar {
            true => Err(SpecError::not_allowed(&Term::from(true), &["false"]).within("sidecar")),
            false => Ok(container),
        }
    })
}

fn container(term: &Term<'_>) -> Result<ContainerSpec> {
    let keys = [
        "name",
        "image",
        "command",
        "args",
        "env",
        "working_dir",
        "user",
        "mounts",
        "limits",
        "tty",
        "cap_add",
        "cap_drop",
        "seccomp",
        "privileged",
        "read_only",
        "sidecar",
        "stop_signal",
        "stop_grace_ms",
        "pre_stop",
        "init",
    ];
    let fields = Fields::of(term, "Elixir.Tank.Container", &keys)?;
    Ok(ContainerSpec {
        name: fields.required("name", name)?,
        image: fields.required("image", image)?,
        command: fields.optional("command", Vec::new(), strings)?,
        args: fields.optional("args", Vec::new(), strings)?,
        env: fields.optional("env", BTreeMap::new(), env)?,
        working_dir: fields.required("working_dir", working_dir)?,
        user: fields.required("user", user)?,
        mounts: fields.parse("mounts", mounts)?,
        limits: fields.optional("limits", Limits::default(), limits)?,
        tty: fields.optional("tty", false, flag)?,
        confinement: confinement(&fields)?,
        sidecar: fields.optional("sidecar", false, flag)?,
        stop: stop(&fields)?,
        init: fields.optional("init", false, flag)?,
    })
}

fn stop(fields: &Fields<'_, '_>) -> Result<Stop> {
    Ok(Stop {
        signal: fields.required("stop_signal", stop_signal)?,
        grace_ms: fields.required("stop_grace_ms", stop_grace_ms)?,
        pre_stop: fields.optional("pre_stop", Vec::new(), strings)?,
    })
}

fn stop_signal(value: &Term<'_>) -> Result<Option<StopSignal>> {
    if value.is_nil() {
        return Ok(None);
    }
    let number = value.as_i64().and_then(|number| i32::try_from(number).ok());
    let named = value.as_str().and_then(StopSignal::named);
    let signal = named.or_else(|| number.and_then(StopSignal::new));
    signal.map(Some).ok_or_else(|| {
        let rule = "is neither the name of a signal, like TERM, nor an integer from 1 to 64";
        SpecError::of("invalid_stop_signal", value, rule)
    })
}

fn stop_grace_ms(value: &Term<'_>) -> Result<Option<u64>> {
    if value.is_nil() {
        return Ok(None);
    }
    let grace_ms = value.as_u64().filter(|grace_ms| *grace_ms <= Stop::GRACE_MS_MAX);
    grace_ms.map(Some).ok_or_else(|| {
        let rule = "is not an integer from 0 to 86400000, a day in milliseconds";
        SpecError::of("invalid_stop_grace_ms", value, rule)
    })
}

fn confinement(fields: &Fields<'_, '_>) -> Result<Confinement> {
    Ok(Confinement {
        cap_add: fields.parse("cap_add", capabilities)?,
        cap_drop: fields.parse("cap_drop", capabilities)?,
        seccomp: fields.optional("seccomp", Seccomp::Default, seccomp)?,
        privileged: fields.optional("privileged", false, flag)?,
        read_only: fields.optional("read_only", false, read_only)?,
    })
}

fn capabilities(value: Option<&Term<'_>>) -> Result<BTreeSet<CapabilityName>> {
    Ok(list(value, capability)?.into_iter().collect())
}

fn capability(value: &Term<'_>) -> Result<CapabilityName> {
    if value.is_atom("all") {
        return Ok(CapabilityName::All);
    }
    value.as_str().and_then(CapabilityName::new).ok_or_else(|| {
        let rule = "is neither all nor the name of a capability, like NET_ADMIN";
        SpecError::of("invalid_capability", value, rule)
    })
}

fn seccomp(value: &Term<'_>) -> Result<Seccomp> {
    match value {
        Term::Atom(word) if word == "default" => return Ok(Seccomp::Default),
        Term::Atom(word) if word == "unconfined" => return Ok(Seccomp::Unconfined),
        _ => {}
    }
    match text(value) {
        Some(path) if path.starts_with('/') => Ok(Seccomp::Profile(path)),
        Some(_) => {
            Err(SpecError::of("seccomp_path_not_absolute", value, "is not an absolute path"))
        }
        None => {
            let rule = "is neither default, nor unconfined, nor the path of a profile";
            Err(SpecError::of("invalid_seccomp", value, rule))
        }
    }
}

fn image(value: &Term<'_>) -> Result<Image> {
    let invalid = || {
        let rule = "is neither an image reference nor {rootfs, path}";
        SpecError::of("invalid_image", value, rule)
    };
    if let Some([tag, path]) = value.as_tuple() {
        let path_text = text(path).filter(|_| tag.is_atom("rootfs")).ok_or_else(invalid)?;
        return match path_text.starts_with('/') {
            true => Ok(Image::Rootfs(path_text)),
            false => {
                Err(SpecError::of("rootfs_path_not_absolute", path, "is not an absolute path"))
            }
        };
    }
    text(value).filter(|text| !text.is_empty()).map(Image::Reference).ok_or_else(invalid)
}

fn strings(value: &Term<'_>) -> Result<Vec<String>> {
    let strings = value.as_list().and_then(|list| list.iter().map(text).collect());
    strings.ok_or_else(|| {
        SpecError::of("not_a_string_list", value, "is not a list of text without NUL")
    })
}

fn env(value: &Term<'_>) -> Result<BTreeMap<String, String>> {
    let variable = |(key, value): &(Term<'_>, Term<'_>)| {
        let key = text(key).filter(|key| !key.is_empty() && !key.contains('='))?;
        Some((key, text(value)?))
    };
    let env = value.as_map().and_then(|entries| entries.iter().map(variable).collect());
    env.ok_or_else(|| {
        let rule = "is not a map of text to text, with names that have no =";
        SpecError::of("invalid_env", value, rule)
    })
}

fn working_dir(value: &Term<'_>) -> Result<Option<String>> {
    if value.is_nil() {
        return Ok(None);
    }
    match text(value) {
        Some(path) if path.starts_with('/') => Ok(Some(path)),
        Some(_) => Err(SpecError::of("working_dir_not_absolute", value, "is not an absolute path")),
        None => Err(SpecError::of("invalid_working_dir", value, "is not a path")),
    }
}

fn user(value: &Term<'_>) -> Result<Option<String>> {
    if value.is_nil() {
        return Ok(None);
    }
    let user = text(value).filter(|user| !user.is_empty());
    user.map(Some).ok_or_else(|| SpecError::of("invalid_user", value, "is not a user"))
}

fn mounts(value: Option<&Term<'_>>) -> Result<Vec<Mount>> {
    let mounts = list(value, mount)?;
    let places: Vec<String> = mounts.iter().map(|mount| place(&mount.path)).collect();
    unique(places.iter().map(String::as_str))?;
    Ok(mounts)
}

fn mount(term: &Term<'_>) -> Result<Mount> {
    let fields = Fields::of(term, "Elixir.Tank.Mount", &["volume", "path", "read_only"])?;
    Ok(Mount {
        volume: fields.required("volume", name)?,
        path: fields.required("path", mount_path)?,
        read_only: fields.optional("read_only", false, read_only)?,
    })
}

/// Where a volume goes: below the container's root, and never out of it.
fn mount_path(value: &Term<'_>) -> Result<String> {
    let invalid = |rule| SpecError::of("invalid_mount_path", value, rule);
    let path = text(value).ok_or_else(|| invalid("is not a path"))?;
    if !path.starts_with('/') {
        return Err(SpecError::of("mount_path_not_absolute", value, "is not an absolute path"));
    }
    if steps(&path).next().is_none() {
        return Err(invalid("is the root itself"));
    }
    if steps(&path).any(|step| step == "..") {
        return Err(invalid("has a .. in it"));
    }
    Ok(path)
}

/// One form for all spellings of a path.
fn place(path: &str) -> String {
    steps(path).flat_map(|step| ["/", step]).collect()
}

fn steps(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|step| !matches!(*step, "" | "."))
}

fn read_only(value: &Term<'_>) -> Result<bool> {
    let rule = "is neither true nor false";
    value.as_bool().ok_or_else(|| SpecError::of("invalid_read_only", value, rule))
}

fn limits(value: &Term<'_>) -> Result<Limits> {
    let Some(entries) = value.as_map() else {
        return Err(SpecError::of("invalid_limits", value, "is not a map"));
    };
    let mut limits = Limits::default();
    let mut entries: Vec<_> = entries.iter().collect();
    // So that the same one is named however the map is laid out.
    entries.sort_by(|(a, _), (b, _)| order(a, b));
    for (key, value) in entries {
        limit(&mut limits, key, value)
            .map_err(|error| error.within(key.as_atom().unwrap_or_default()))?;
    }
    Ok(limits)
}

fn limit(limits: &mut Limits, key: &Term<'_>, value: &Term<'_>) -> Result<()> {
    let invalid = |rule| SpecError::invalid_limit(key, value, rule);
    let number = || positive(value).ok_or_else(|| invalid("is not a positive integer below 2^63"));
    let number_in = |(least, most, rule): Range| {
        let number = value.as_i64().filter(|number| (least..=most).contains(number));
        number.ok_or_else(|| invalid(rule))
    };
    let int = |number| i32::try_from(number).expect("both ranges are narrow");
    match key.as_atom() {
        Some("memory") => limits.memory = Some(number()?),
        Some("memory_swap") => {
            let swap = memory_swap(value, limits.memory);
            let rule = "is neither unlimited nor bytes, not less than memory, which it needs";
            limits.memory_swap = Some(swap.ok_or_else(|| invalid(rule))?);
        }
        Some("pids") => limits.pids = Some(number()?),
        Some("cpu") => {
            let rule = "is not {quota_us, period_us}, both positive integers below 2^63";
            limits.cpu = Some(cpu(value).ok_or_else(|| invalid(rule))?);
        }
        Some("cpu_shares") => limits.cpu_shares = Some(number_in(CPU_SHARES)?.unsigned_abs()),
        Some("nofile") => limits.nofile = Some(number()?),
        Some("nice") => limits.nice = Some(int(number_in(NICE)?)),
        Some("oom_score_adj") => limits.oom_score_adj = Some(int(number_in(OOM_SCORE_ADJ)?)),
        _ => {
            let rule = "is for no limit there is (known are memory, memory_swap, pids, cpu, \
                        cpu_shares, nofile, nice, oom_score_adj)";
            return Err(invalid(rule));
        }
    }
    Ok(())
}

/// After `memory`, which is parsed before it.
fn memory_swap(value: &Term<'_>, memory: Option<u64>) -> Option<MemorySwap> {
    let memory = memory?;
    match value {
        value if value.is_atom("unlimited") => Some(MemorySwap::Unlimited),
        value => positive(value).filter(|bytes| *bytes >= memory).map(MemorySwap::Bytes),
    }
}

fn cpu(value: &Term<'_>) -> Option<CpuLimit> {
    match value.as_tuple()? {
        [quota, period] => {
            Some(CpuLimit { quota_us: positive(quota)?, period_us: positive(period)? })
        }
        _ => None,
    }
}

fn positive(value: &Term<'_>) -> Option<u64> {
    value.as_u64().filter(|number| (1..=LIMIT_MAX).contains(number))
}

fn flag(value: &Term<'_>) -> Result<bool> {
    value.as_bool().ok_or_else(|| SpecError::not_allowed(value, &["true", "false"]))
}

fn volumes(value: Option<&Term<'_>>) -> Result<Vec<Volume>> {
    let volumes = list(value, volume)?;
    unique(volumes.iter().map(|volume| volume.name.as_str()))?;
    Ok(volumes)
}

fn volume(term: &Term<'_>) -> Result<Volume> {
    let fields = Fields::of(term, "Elixir.Tank.Volume", &["name", "source"])?;
    Ok(Volume {
        name: fields.required("name", name)?,
        source: fields.optional("source", VolumeSource::Managed, source)?,
    })
}

fn source(value: &Term<'_>) -> Result<VolumeSource> {
    let invalid = || {
        let rule = "is none of managed, {host, path}, tmpfs, and {tmpfs, bytes} with a positive \
                    integer below 2^63";
        SpecError::of("invalid_source", value, rule)
    };
    match value {
        Term::Atom(word) if word == "managed" => return Ok(VolumeSource::Managed),
        Term::Atom(word) if word == "tmpfs" => {
            return Ok(VolumeSource::Tmpfs(VolumeSource::TMPFS_BYTES_DEFAULT));
        }
        _ => {}
    }
    match value.as_tuple() {
        Some([tag, path]) if tag.is_atom("host") => host_path(path, invalid),
        Some([tag, bytes]) if tag.is_atom("tmpfs") => {
            positive(bytes).map(VolumeSource::Tmpfs).ok_or_else(invalid)
        }
        _ => Err(invalid()),
    }
}

fn host_path(path: &Term<'_>, invalid: impl FnOnce() -> SpecError) -> Result<VolumeSource> {
    let path_text = text(path).ok_or_else(invalid)?;
    match path_text.starts_with('/') {
        true => Ok(VolumeSource::Host(path_text)),
        false => Err(SpecError::of("host_path_not_absolute", path, "is not an absolute path")),
    }
}

fn network(value: &Term<'_>) -> Result<Network> {
    match value {
        Term::Atom(word) if word == "none" => Ok(Network::None),
        Term::Atom(word) if word == "host" => Ok(Network::Host),
        _ if entries(value).is_some() => interfaces(value),
        _ => {
            let rule = "is neither none, nor host, nor a map of nics and dns";
            Err(SpecError::of("invalid_network", value, rule))
        }
    }
}

fn interfaces(term: &Term<'_>) -> Result<Network> {
    let fields = Fields::of(term, "Elixir.Tank.Pod.Network", &["nics", "dns"])?;
    Ok(Network::Interfaces {
        nics: fields.parse("nics", nics)?,
        dns: fields.optional("dns", Vec::new(), dns)?,
    })
}

fn nics(value: Option<&Term<'_>>) -> Result<Vec<Nic>> {
    let nics = list(value, nic)?;
    unique(nics.iter().map(|nic| nic.name.as_str()))?;
    Ok(nics)
}

fn nic(term: &Term<'_>) -> Result<Nic> {
    let keys = ["name", "mode", "parent", "ip", "gateway"];
    let fields = Fields::of(term, "Elixir.Tank.Nic", &keys)?;
    Ok(Nic {
        name: fields.required("name", name)?,
        mode: fields.optional("mode", NicMode::Macvlan, mode)?,
        parent: fields.optional("parent", None, parent)?,
        ip: fields.required("ip", ip)?,
        gateway: fields.required("gateway", gateway)?,
    })
}

fn mode(value: &Term<'_>) -> Result<NicMode> {
    one_of(value, &[NicMode::Macvlan, NicMode::Bridge, NicMode::Ipvlan], NicMode::name)
}

fn restart(value: &Term<'_>) -> Result<RestartPolicy> {
    let policies = [RestartPolicy::Always, RestartPolicy::OnFailure, RestartPolicy::Never];
    one_of(value, &policies, RestartPolicy::name)
}

fn userns(value: &Term<'_>) -> Result<Userns> {
    one_of(value, &[Userns::Host, Userns::Auto], Userns::name)
}

/// A program by its name, which is looked for, or by its path.
fn oci_runtime(value: &Term<'_>) -> Result<Option<String>> {
    if value.is_nil() {
        return Ok(None);
    }
    let is_one = |text: &String| text.starts_with('/') || !text.contains('/');
    let runtime = text(value).filter(|text| !text.is_empty() && is_one(text));
    runtime.map(Some).ok_or_else(|| {
        let rule = "is neither the name of a program nor an absolute path";
        SpecError::of("invalid_oci_runtime", value, rule)
    })
}

fn parent(value: &Term<'_>) -> Result<Option<String>> {
    if value.is_atom("auto") {
        return Ok(None);
    }
    let parent = text(value).filter(|parent| !parent.is_empty());
    let rule = "is neither auto nor the name of an interface";
    parent.map(Some).ok_or_else(|| SpecError::of("invalid_parent", value, rule))
}

fn ip(value: &Term<'_>) -> Result<IpSource> {
    let invalid = || {
        let rule = "is neither {address, prefix}, nor dhcp, nor {ipam, subnet}";
        SpecError::of("invalid_ip", value, rule)
    };
    if value.is_atom("dhcp") {
        return Ok(IpSource::Dhcp);
    }
    let Some([first, second]) = value.as_tuple() else { return Err(invalid()) };
    match (first, second) {
        (tag, Term::Binary(_)) if tag.is_atom("ipam") => subnet(second).map(IpSource::Ipam),
        (tag, _) if tag.is_atom("ipam") => Err(invalid()),
        (address, prefix) => match prefix.as_u64().map(u8::try_from) {
            Some(Ok(prefix @ 0..=32)) => Ok(IpSource::Static(ipv4(address)?, prefix)),
            _ => Err(invalid()),
        },
    }
}

/// A subnet in CIDR form.
fn subnet(value: &Term<'_>) -> Result<String> {
    let parsed = text(value).filter(|subnet| {
        subnet.split_once('/').is_some_and(|(address, prefix)| {
            address.parse::<Ipv4Addr>().is_ok() && is_prefix(prefix)
        })
    });
    parsed.ok_or_else(|| {
        SpecError::of("invalid_ipam_subnet", value, "is not a subnet like 10.0.0.0/24")
    })
}

fn is_prefix(text: &str) -> bool {
    text.parse::<u8>().is_ok_and(|prefix| prefix <= 32 && prefix.to_string() == text)
}

fn gateway(value: &Term<'_>) -> Result<Option<Ipv4Addr>> {
    if value.is_nil() { Ok(None) } else { ipv4(value).map(Some) }
}

fn dns(value: &Term<'_>) -> Result<Vec<Ipv4Addr>> {
    let Some(servers) = value.as_list() else {
        return Err(SpecError::of("invalid_dns", value, "is not a list of addresses"));
    };
    each(servers, ipv4)
}

fn ipv4(value: &Term<'_>) -> Result<Ipv4Addr> {
    let address = value.as_str().and_then(|text| text.parse().ok());
    address.ok_or_else(|| SpecError::of("invalid_ipv4", value, "is not an IPv4 address"))
}

fn name(value: &Term<'_>) -> Result<Name> {
    value.as_str().and_then(Name::new).ok_or_else(|| {
        let rule = "is not a name: 1 to 63 of a-z A-Z 0-9 . _ -, a letter or digit at both ends";
        SpecError::of("invalid_name", value, rule)
    })
}

/// Text that the system can take: UTF-8, without NUL.
fn text(value: &Term<'_>) -> Option<String> {
    value.as_str().filter(|text| !text.contains('\0')).map(str::to_owned)
}

fn one_of<T: Copy>(value: &Term<'_>, all: &[T], name: fn(T) -> &'static str) -> Result<T> {
    let found = all.iter().find(|each| value.is_atom(name(**each)));
    found.copied().ok_or_else(|| {
        let names: Vec<&'static str> = all.iter().map(|each| name(*each)).collect();
        SpecError::not_allowed(value, &names)
    })
}

/// A list of things; empty when absent.
fn list<T>(value: Option<&Term<'_>>, item: impl Fn(&Term<'_>) -> Result<T>) -> Result<Vec<T>> {
    match value {
        None => Ok(Vec::new()),
        Some(Term::List(items)) => each(items, item),
        Some(other) => Err(SpecError::of("not_a_list", other, "is not a list")),
    }
}

fn each<T>(items: &[Term<'_>], item: impl Fn(&Term<'_>) -> Result<T>) -> Result<Vec<T>> {
    let at = |(index, value)| item(value).map_err(|error| error.within(&format!("[{index}]")));
    items.iter().enumerate().map(at).collect()
}

/// Refuses what is there more than once, named in the order of the repetitions.
fn unique<'a>(values: impl Iterator<Item = &'a str>) -> Result<()> {
    let mut seen = BTreeSet::new();
    let mut repeated: Vec<&str> = values.filter(|value| !seen.insert(*value)).collect();
    let mut named = BTreeSet::new();
    repeated.retain(|value| named.insert(*value));
    if repeated.is_empty() { Ok(()) } else { Err(SpecError::duplicate(&repeated)) }
}

/// No two of the pod's containers have one name, whenever they run.
fn name_once(pod: &PodSpec) -> Result<()> {
    let names = pod.containers.iter().chain(&pod.init_containers).map(|each| each.name.as_str());
    unique(names).map_err(|error| error.within("init_containers"))
}

/// Every mount refers to a volume of the pod.
fn refer_to_volumes(pod: &PodSpec) -> Result<()> {
    let known: BTreeSet<&Name> = pod.volumes.iter().map(|volume| &volume.name).collect();
    let mut missing = Vec::new();
    let mut first = None;
    let lists = [("containers", &pod.containers), ("init_containers", &pod.init_containers)];
    let placed = lists.into_iter().flat_map(|(field, containers)| {
        containers.iter().enumerate().map(move |(at, container)| (field, at, container))
    });
    for (field, at, container) in placed {
        for (mount_at, mount) in container.mounts.iter().enumerate() {
            if !known.contains(&mount.volume) {
                first.get_or_insert_with(|| format!("{field}[{at}].mounts[{mount_at}].volume"));
                missing.push((&container.name, &mount.volume));
            }
        }
    }
    first.map_or(Ok(()), |path| Err(SpecError::unknown_volume_refs(&missing).within(&path)))
}
