//! Any spec survives the way to a frame, or to the store, and back.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use erlang_term_format::{decode, encode};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use tank::core::spec::{
    CapabilityName, Confinement, ContainerSpec, CpuLimit, Image, IpSource, Limits, MemorySwap,
    Mount, Name, Network, Nic, NicMode, PodSpec, RestartPolicy, Seccomp, Stop, StopSignal, Userns,
    Volume, VolumeSource, capability_names,
};

fn name() -> impl Strategy<Value = Name> {
    "[a-zA-Z0-9]([a-zA-Z0-9._-]{0,61}[a-zA-Z0-9])?".prop_map(|text| Name::new(&text).unwrap())
}

/// Text as specs allow it: anything but NUL.
fn text() -> impl Strategy<Value = String> {
    "[^\\x00]{0,12}"
}

fn some_text() -> impl Strategy<Value = String> {
    "[^\\x00]{1,12}"
}

fn path() -> impl Strategy<Value = String> {
    text().prop_map(|text| format!("/{text}"))
}

fn limit() -> impl Strategy<Value = u64> {
    prop_oneof![Just(1), Just(i64::MAX as u64), 1..=i64::MAX as u64, 1..1_000_000u64]
}

fn limits() -> impl Strategy<Value = Limits> {
    let cpu = (limit(), limit()).prop_map(|(quota_us, period_us)| CpuLimit { quota_us, period_us });
    let memory = option::of(limit()).prop_flat_map(|memory| {
        let swap = match memory {
            None => Just(None).boxed(),
            Some(memory) => {
                let bytes = (memory..=i64::MAX as u64).prop_map(MemorySwap::Bytes);
                option::of(prop_oneof![Just(MemorySwap::Unlimited), bytes]).boxed()
            }
        };
        (Just(memory), swap)
    });
    let cpu = (option::of(cpu), option::of(2..=262_144u64));
    let inherited = (option::of(limit()), option::of(-20..=19i32), option::of(-1_000..=1_000i32));
    (memory, option::of(limit()), cpu, inherited).prop_map(
        |((memory, memory_swap), pids, (cpu, cpu_shares), (nofile, nice, oom_score_adj))| Limits {
            memory,
            memory_swap,
            pids,
            cpu,
            cpu_shares,
            nofile,
            nice,
            oom_score_adj,
        },
    )
}

fn image() -> impl Strategy<Value = Image> {
    prop_oneof![some_text().prop_map(Image::Reference), path().prop_map(Image::Rootfs)]
}

fn env() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map("[^\\x00=]{1,8}", text(), 0..4)
}

fn capabilities() -> impl Strategy<Value = BTreeSet<CapabilityName>> {
    let every = capability_names(u64::MAX).chain(["ALL".into()]).collect::<Vec<_>>();
    let name = prop::sample::select(every).prop_map(|name| CapabilityName::new(&name).unwrap());
    btree_set(name, 0..4)
}

fn confinement() -> impl Strategy<Value = Confinement> {
    let seccomp = prop_oneof![
        Just(Seccomp::Default),
        Just(Seccomp::Unconfined),
        path().prop_map(Seccomp::Profile)
    ];
    (capabilities(), capabilities(), seccomp, any::<bool>(), any::<bool>()).prop_map(
        |(cap_add, cap_drop, seccomp, privileged, read_only)| Confinement {
            cap_add,
            cap_drop,
            seccomp,
            privileged,
            read_only,
        },
    )
}

fn stop() -> impl Strategy<Value = Stop> {
    let signal = (1..=64).prop_map(|number| StopSignal::new(number).unwrap());
    (option::of(signal), option::of(0..=Stop::GRACE_MS_MAX), vec(text(), 0..3))
        .prop_map(|(signal, grace_ms, pre_stop)| Stop { signal, grace_ms, pre_stop })
}

/// A container without its name, which is unique in the pod; mounts name
/// volumes by their index.
fn container(volumes: Vec<Name>) -> impl Strategy<Value = ContainerSpec> {
    let mount = (any::<prop::sample::Index>(), any::<bool>());
    let mounts = vec(mount, 0..=if volumes.is_empty() { 0 } else { 3 });
    (
        image(),
        vec(text(), 0..3),
        vec(text(), 0..3),
        env(),
        option::of(path()),
        option::of(some_text()),
        mounts,
        limits(),
        any::<bool>(),
        confinement(),
        (any::<bool>(), stop(), any::<bool>()),
    )
        .prop_map(
            move |(
                image,
                command,
                args,
                env,
                working_dir,
                user,
                mounts,
                limits,
                tty,
                confinement,
                (sidecar, stop, init),
            )| {
                let mount =
                    |(at, (index, read_only)): (usize, (prop::sample::Index, bool))| Mount {
                        volume: index.get(&volumes).clone(),
                        path: format!("/mnt/{at}"),
                        read_only,
                    };
                let mounts = mounts.into_iter().enumerate().map(mount).collect();
                let name = Name::new("unnamed").unwrap();
                ContainerSpec {
                    name,
                    image,
                    command,
                    args,
                    env,
                    working_dir,
                    user,
                    mounts,
                    limits,
                    tty,
                    confinement,
                    sidecar,
                    stop,
                    init,
                }
            },
        )
}

fn address() -> impl Strategy<Value = Ipv4Addr> {
    any::<u32>().prop_map(Ipv4Addr::from)
}

fn nic() -> impl Strategy<Value = Nic> {
    let mode = prop_oneof![Just(NicMode::Macvlan), Just(NicMode::Bridge), Just(NicMode::Ipvlan)];
    let ip = prop_oneof![
        (address(), 0..=32u8).prop_map(|(address, prefix)| IpSource::Static(address, prefix)),
        Just(IpSource::Dhcp),
        (address(), 0..=32u8)
            .prop_map(|(address, prefix)| IpSource::Ipam(format!("{address}/{prefix}"))),
    ];
    (name(), mode, option::of(some_text()), ip, option::of(address()))
        .prop_map(|(name, mode, parent, ip, gateway)| Nic { name, mode, parent, ip, gateway })
}

fn network() -> impl Strategy<Value = Network> {
    let nics = vec(nic(), 0..3).prop_map(|mut nics| {
        nics.sort_by(|a, b| a.name.cmp(&b.name));
        nics.dedup_by(|a, b| a.name == b.name);
        nics
    });
    prop_oneof![
        Just(Network::None),
        Just(Network::Host),
        (nics, vec(address(), 0..3)).prop_map(|(nics, dns)| Network::Interfaces { nics, dns }),
    ]
}

fn volumes() -> impl Strategy<Value = Vec<Volume>> {
    let source = prop_oneof![
        Just(VolumeSource::Managed),
        path().prop_map(VolumeSource::Host),
        limit().prop_map(VolumeSource::Tmpfs)
    ];
    btree_map(name(), source, 0..3).prop_map(|volumes| {
        volumes.into_iter().map(|(name, source)| Volume { name, source }).collect()
    })
}

/// Containers of different names, and how many of them are no init containers.
fn containers(volumes: Vec<Name>) -> impl Strategy<Value = (Vec<ContainerSpec>, usize)> {
    let named = |(name, container)| ContainerSpec { name, ..container };
    let count = 1..4usize;
    (btree_map(name(), container(volumes), 1..4), count).prop_map(move |(containers, count)| {
        let mut containers: Vec<ContainerSpec> = containers.into_iter().map(named).collect();
        let count = count.min(containers.len());
        containers[0].sidecar = false;
        containers[count..].iter_mut().for_each(|each| each.sidecar = false);
        (containers, count)
    })
}

fn pod() -> impl Strategy<Value = PodSpec> {
    let restart = prop_oneof![
        Just(RestartPolicy::Always),
        Just(RestartPolicy::OnFailure),
        Just(RestartPolicy::Never)
    ];
    let userns = prop_oneof![Just(Userns::Host), Just(Userns::Auto)];
    let runtime = option::of(prop_oneof![path(), "[^\\x00/]{1,8}"]);
    (name(), network(), volumes(), restart, userns, runtime).prop_flat_map(
        |(name, network, volumes, restart, userns, oci_runtime)| {
            let names = volumes.iter().map(|volume| volume.name.clone()).collect();
            containers(names).prop_map(move |(mut containers, count)| PodSpec {
                name: name.clone(),
                init_containers: containers.split_off(count),
                containers,
                network: network.clone(),
                volumes: volumes.clone(),
                restart,
                userns,
                oci_runtime: oci_runtime.clone(),
            })
        },
    )
}

proptest! {
    #[test]
    fn any_spec_comes_back_from_a_term(pod in pod()) {
        prop_assert_eq!(PodSpec::from_term(&pod.to_term()), Ok(pod.clone()));
    }

    #[test]
    fn any_spec_comes_back_from_a_frame(pod in pod()) {
        let frame = encode(&pod.to_term());
        let term = decode(&frame).unwrap();
        prop_assert_eq!(PodSpec::from_term(&term), Ok(pod.clone()));
    }
}
