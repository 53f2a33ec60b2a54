//! Pods with users of their own: who is who inside and on the host, what belongs
//! to whom, and what root inside can do to the host.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode};
use tank_shim::protocol::{
    Exit, Failure, FromShim, Join, Launch, Mount, Network, Role, Step, ToShim, UserNamespace,
    Volume, VolumeSource,
};

use crate::scene::{Scene, Shim, eventually, host_pid, path_string, scene};

/// What is 0 inside.
const FIRST: u32 = 0x7000_0000;

const IDS: UserNamespace = UserNamespace { first_id: FIRST, count: 65_536 };

/// The same pod with users of its own.
fn mapped(pod: Launch) -> Launch {
    Launch { user_namespace: Some(IDS), ..pod }
}

/// A script in one.
fn script(scene: &Scene, script: &str) -> Launch {
    mapped(scene.script(script))
}

/// The same pod as one that is denied nothing that its namespaces give.
fn with_all_rights(mut pod: Launch) -> Launch {
    let container = &mut pod.containers[0];
    (container.capabilities, container.privileged, container.seccomp) = (u64::MAX, true, None);
    pod
}

fn mount(pod: &mut Launch, name: &str, source: VolumeSource, read_only: bool) {
    pod.volumes.push(Volume { name: name.into(), source });
    let (volume, path) = (name.into(), format!("/{name}"));
    pod.containers[0].mounts.push(Mount { volume, path, read_only });
}

fn owner(path: &Path) -> (u32, u32) {
    let of = fs::symlink_metadata(path).unwrap();
    (of.uid(), of.gid())
}

fn write(path: &Path, content: &str, id: u32, mode: u32) {
    fs::write(path, content).unwrap();
    chown(path, Some(id), Some(id)).unwrap();
    fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

/// The namespaces of a process, from outside.
fn namespace(pid: i32, name: &str) -> String {
    path_string(&fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap())
}

fn launch(scene: &Scene, pod: &Launch) -> (Shim, Vec<i32>) {
    let mut shim = scene.shim();
    shim.send(&ToShim::Launch(Box::new(pod.clone())));
    match shim.receive() {
        FromShim::Launched(launched) => {
            assert!(host_pid(&launched) > 0);
            (shim, launched.containers.iter().map(|each| each.host_pid).collect())
        }
        other => panic!("{other:?} instead of launched"),
    }
}

fn end(mut shim: Shim) {
    shim.send(&ToShim::Kill);
    shim.expect_exited();
}

#[test]
fn root_inside_is_somebody_else_on_the_host() {
    let scene = scene!("root_inside_is_somebody_else_on_the_host");
    let run = script(&scene, "id -u; id -g; id -G; cat /proc/self/uid_map; exec sleep 1000");
    let (shim, pid) = scene.launched(&run);
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    for field in ["Uid:", "Gid:"] {
        let ids = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        assert_eq!(ids.trim(), [FIRST; 4].map(|id| id.to_string()).join("\t"));
    }
    for map in ["uid_map", "gid_map"] {
        let map = fs::read_to_string(format!("/proc/{pid}/{map}")).unwrap();
        assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", "1879048192", "65536"]);
    }
    let shim_pid = shim.hello.pid;
    assert_eq!(namespace(shim_pid, "user"), namespace(std::process::id().cast_signed(), "user"));
    eventually("it has told", || scene.logged("stdout").contains("65536"));
    assert!(scene.logged("stdout").starts_with("0\n0\n0\n"), "{}", scene.logged("stdout"));
    end(shim);
}

#[test]
fn an_image_and_what_becomes_of_it_belong_to_the_pods_users() {
    let scene = scene!("an_image_and_what_becomes_of_it_belong_to_the_pods_users");
    let image = scene.rootfs();
    write(&image.join("www"), "the image's\n", 33, 0o600);
    write(&image.join("stranger"), "", 70_000, 0o600);
    fs::create_dir(image.join("etc")).unwrap();
    chown(image.join("etc"), Some(12), Some(34)).unwrap();
    let mut pod = script(
        &scene,
        "set -e
         stat -c '%u %g %n' / /bin /bin/busybox /www /stranger /etc /etc/hosts
         echo more >> /www; echo mine > /tmp; chown 33:33 /tmp; echo x > /etc/new
         exec sleep 1000",
    );
    pod.containers[0].etc = vec![("hosts".to_owned(), "the pod's\n".to_owned())];
    let (shim, _) = scene.launched(&pod);
    let upper = scene.run_dir().join("containers/app/upper");
    eventually("it has written", || upper.join("etc/new").exists());
    // What it has said before may come to the log later.
    eventually("that is in its log", || scene.logged("stdout").contains("/etc/hosts\n"));
    assert_eq!(
        scene.logged("stdout"),
        "0 0 /\n0 0 /bin\n0 0 /bin/busybox\n33 33 /www\n65534 65534 /stranger\n\
         12 34 /etc\n0 0 /etc/hosts\n"
    );
    let at = |id: u32| (FIRST + id, FIRST + id);
    assert_eq!(owner(&upper), at(0));
    assert_eq!(owner(&upper.join("www")), at(33));
    assert_eq!(owner(&upper.join("tmp")), at(33));
    assert_eq!(owner(&upper.join("etc/hosts")), at(0));
    assert_eq!(owner(&upper.join("etc/new")), at(0));
    assert_eq!(owner(&upper.join("etc")), (FIRST + 12, FIRST + 34));
    assert_eq!(fs::read_to_string(image.join("www")).unwrap(), "the image's\n");
    assert_eq!(owner(&image.join("www")), (33, 33));
    end(shim);
    assert!(!scene.run_dir().join("containers").exists());
}

#[test]
fn a_user_has_the_files_of_its_number_and_its_own_output() {
    let scene = scene!("a_user_has_the_files_of_its_number_and_its_own_output");
    write(&scene.rootfs().join("www"), "the image's\n", 33, 0o600);
    write(&scene.rootfs().join("roots"), "secret\n", 0, 0o600);
    let mut pod = script(
        &scene,
        "set -e; id -u; echo more >> /www; cat /www; ! cat /roots; echo again > /dev/stdout",
    );
    (pod.containers[0].uid, pod.containers[0].gid) = (33, 33);
    fs::set_permissions(scene.rootfs(), PermissionsExt::from_mode(0o755)).unwrap();
    assert_eq!(scene.output_of_pod(&pod), "33\nthe image's\nmore\nagain\n");
}

#[test]
fn a_directory_of_the_hosts_has_the_numbers_of_the_inside() {
    let scene = scene!("a_directory_of_the_hosts_has_the_numbers_of_the_inside");
    let data = scene.dir.join("data");
    fs::create_dir(&data).unwrap();
    write(&data.join("roots"), "root's\n", 0, 0o600);
    write(&data.join("www"), "33's\n", 33, 0o600);
    let source = VolumeSource::Path(path_string(&data));
    let run = "set -e; cat /data/roots /data/www; stat -c '%u' /data/roots /data/www
               echo x > /data/new; echo x > /data/given; chown 33:33 /data/given";
    let mut pod = script(&scene, run);
    mount(&mut pod, "data", source.clone(), false);
    assert_eq!(scene.output_of_pod(&pod), "root's\n33's\n0\n33\n");
    assert_eq!(owner(&data.join("new")), (0, 0));
    assert_eq!(owner(&data.join("given")), (33, 33));
    fs::remove_file(scene.log_path()).unwrap();
    // It is what it was to a pod without users of its own, and read-only where it is to be.
    let mut pod = Launch { user_namespace: None, ..script(&scene, "stat -c %u /data/given") };
    mount(&mut pod, "data", source.clone(), false);
    assert_eq!(scene.output_of_pod(&pod), "33\n");
    fs::remove_file(scene.log_path()).unwrap();
    let mut pod = script(&scene, "cat /data/new; ! echo y > /data/new && ! touch /data/newer");
    mount(&mut pod, "data", source, true);
    assert_eq!(scene.output_of_pod(&pod), "x\n");
}

#[test]
fn a_file_and_memory_are_the_pods_users_too() {
    let scene = scene!("a_file_and_memory_are_the_pods_users_too");
    let file = scene.dir.join("config");
    write(&file, "one\n", 33, 0o600);
    let run = "set -e; stat -c '%u %a' /config /memory; echo two > /config; echo x > /memory/x
               stat -c %u /memory/x";
    let mut pod = script(&scene, run);
    mount(&mut pod, "config", VolumeSource::Path(path_string(&file)), false);
    mount(&mut pod, "memory", VolumeSource::Tmpfs(4096), false);
    (pod.containers[0].uid, pod.containers[0].gid) = (33, 33);
    fs::set_permissions(scene.rootfs(), PermissionsExt::from_mode(0o755)).unwrap();
    assert_eq!(scene.output_of_pod(&pod), "33 600\n0 1777\n33\n");
    assert_eq!(fs::read_to_string(&file).unwrap(), "two\n");
}

#[test]
fn containers_of_one_pod_share_its_users_and_two_pods_do_not() {
    let scene = scene!("containers_of_one_pod_share_its_users_and_two_pods_do_not");
    let mut pod = script(&scene, "exec sleep 1000");
    let mut second = scene.container("second", &["/bin/sh", "-c", "hostname; exec sleep 1000"]);
    second.role = Role::Sidecar;
    pod.containers.push(second);
    let (shim, pids) = launch(&scene, &pod);
    let is_one = |name| namespace(pids[0], name) == namespace(pids[1], name);
    let shared: Vec<_> = ["user", "net", "ipc", "uts", "mnt", "pid", "cgroup"]
        .into_iter()
        .filter(|name| is_one(name))
        .collect();
    assert_eq!(shared, ["user", "net", "ipc", "uts"]);
    eventually("it has told", || scene.logged_by("second", "stdout") == "web\n");
    let ids = Some(UserNamespace { first_id: FIRST + 65_536, ..IDS });
    let other_scene = Scene::new("another pod").unwrap();
    let run = other_scene.script("exec sleep 1000");
    let (other, other_pid) = other_scene.launched(&Launch { user_namespace: ids, ..run });
    for name in ["user", "net", "ipc", "uts"] {
        assert_ne!(namespace(pids[0], name), namespace(other_pid, name));
    }
    end(other);
    end(shim);
}

#[test]
fn root_with_all_rights_rules_what_is_its_pods() {
    let scene = scene!("root_with_all_rights_rules_what_is_its_pods");
    let hostname = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let pod = with_all_rights(script(
        &scene,
        "set -e
         hostname mine; test \"$(hostname)\" = mine
         ip link set lo down; ip link set lo up
         echo 100 > /proc/sys/net/ipv4/ip_unprivileged_port_start
         mkdir /mnt; mount -t tmpfs none /mnt; mount -t proc none /mnt; umount -l /mnt
         mount -t mqueue none /mnt; umount /mnt
         chroot / true; unshare -n true
         echo done",
    ));
    assert_eq!(scene.output_of_pod(&pod), "done\n");
    assert_eq!(fs::read_to_string("/proc/sys/kernel/hostname").unwrap(), hostname);
}

#[test]
fn root_with_all_rights_can_do_nothing_to_the_host() {
    let scene = scene!("root_with_all_rights_can_do_nothing_to_the_host");
    let data = scene.dir.join("data");
    fs::create_dir(&data).unwrap();
    // A device of an image's, which anybody may open.
    let device = scene.rootfs().join("null");
    let number = rustix::fs::makedev(1, 3);
    let mode = Mode::from_raw_mode(0o666);
    rustix::fs::mknodat(CWD, &device, FileType::CharacterDevice, mode, number).unwrap();
    fs::set_permissions(&device, PermissionsExt::from_mode(0o666)).unwrap();
    let mut pod = with_all_rights(script(
        &scene,
        "set -e
         refused() { if \"$@\"; then echo \"not refused: $*\" >&2; exit 1; fi; }
         same() { cat $1 | tee $1 >/dev/null; }
         refused same /proc/sys/kernel/printk
         refused same /proc/sys/vm/swappiness
         refused same /sys/module/printk/parameters/time
         refused sh -c 'echo h > /proc/sysrq-trigger'
         date -s @$(date +%s) 2>&1 | grep -q 'not permitted'
         refused mknod /disk b 254 0
         refused mknod /dev/zero2 c 1 5
         refused renice -n -5 $$
         refused insmod /bin/busybox
         refused cat /null
         refused mount -o remount,bind,dev /
         refused cat /null
         refused mount -o remount,bind,rw /data
         refused touch /data/new
         refused head -c 1 /proc/kcore
         refused chown 65536 /data
         refused chown 70000 /bin
         echo done",
    ));
    mount(&mut pod, "data", VolumeSource::Path(path_string(&data)), true);
    assert_eq!(scene.output_of_pod(&pod), "done\n");
    assert_eq!(fs::read_dir(&data).unwrap().count(), 0);
}

#[test]
fn a_setuid_program_gives_nothing() {
    let scene = scene!("a_setuid_program_gives_nothing");
    let program = scene.rootfs().join("setuid/busybox");
    fs::create_dir(scene.rootfs().join("setuid")).unwrap();
    fs::copy("/bin/busybox", &program).unwrap();
    fs::set_permissions(&program, PermissionsExt::from_mode(0o4755)).unwrap();
    fs::set_permissions(scene.rootfs(), PermissionsExt::from_mode(0o755)).unwrap();
    let mut pod =
        mapped(scene.pod(&["/setuid/busybox", "sh", "-c", "id -u; grep CapEff /proc/self/status"]));
    (pod.containers[0].uid, pod.containers[0].gid) = (1000, 1000);
    assert_eq!(scene.output_of_pod(&pod), "1000\nCapEff:\t0000000000000000\n");
}

#[test]
fn the_hosts_network_can_be_seen_and_not_be_changed() {
    let scene = scene!("the_hosts_network_can_be_seen_and_not_be_changed");
    let mut pod = with_all_rights(script(
        &scene,
        "ls /sys/class/net; ip link set lo mtu $(cat /sys/class/net/lo/mtu) && exit 1; grep -c ' /sys/' /proc/self/mounts
         mount -o remount,rw /sys && exit 2; mount -o remount,bind,rw /sys && exit 3
         grep ' /sys ' /proc/self/mounts | cut -d ' ' -f 3,4 | cut -d , -f 1-4; exit 0",
    ));
    pod.network = Network::Host;
    let mut devices: Vec<String> = fs::read_dir("/sys/class/net")
        .unwrap()
        .map(|entry| path_string(entry.unwrap().file_name().as_ref()))
        .collect();
    devices.sort();
    let expected = format!("{}\n0\nsysfs ro,nosuid,nodev,noexec\n", devices.join("\n"));
    assert_eq!(scene.output_of_pod(&pod), expected);
}

#[test]
fn nothing_of_the_host_is_left_open_or_mounted() {
    let scene = scene!("nothing_of_the_host_is_left_open_or_mounted");
    let data = scene.dir.join("data");
    fs::create_dir(&data).unwrap();
    let mut pod = script(&scene, "ls /proc/self/fd; cat /proc/self/mounts; cat /proc/keys");
    mount(&mut pod, "data", VolumeSource::Path(path_string(&data)), false);
    let output = scene.output_of_pod(&pod);
    assert!(output.starts_with("0\n1\n2\n3\n"), "{output}");
    for line in output.lines().skip(4) {
        let path = line.split(' ').nth(1).unwrap();
        let tops = ["/proc", "/sys", "/dev", "/data"];
        assert!(path == "/" || tops.iter().any(|top| path.starts_with(top)), "{line}");
    }
    assert!(!output.contains(&path_string(&scene.run_dir())), "{output}");
}

#[test]
fn a_pod_is_stopped_and_limited_as_any_other() {
    let mut scene = scene!("a_pod_is_stopped_and_limited_as_any_other");
    let mut pod = script(
        &scene,
        "ulimit -n; set -- $(cat /proc/self/stat); echo ${19}; cat /proc/self/oom_score_adj
         cut -d : -f 2- /proc/self/cgroup | grep -E '^(pids|):'
         trap 'exit 5' TERM; echo ready; sleep 1000 & wait",
    );
    let container = &mut pod.containers[0];
    container.nofile = Some(4_321);
    container.nice = Some(-7);
    container.oom_score_adj = Some(123);
    container.cgroups = vec![
        scene.cgroup("memory", Join::Tasks, &[("memory.limit_in_bytes", "16777216")]),
        scene.cgroup("pids", Join::Procs, &[("pids.max", "5")]),
        scene.cgroup("unified", Join::Clone, &[]),
    ];
    let (mut shim, pid) = scene.launched(&pod);
    eventually("it is ready", || scene.logged("stdout").contains("ready"));
    for cgroup in &pod.containers[0].cgroups {
        let pids = fs::read_to_string(format!("{}/cgroup.procs", cgroup.path)).unwrap();
        assert!(pids.lines().any(|line| line == pid.to_string()), "{}", cgroup.path);
    }
    shim.stop();
    assert_eq!(shim.expect_exited().exit, Exit::Exited(5));
    assert_eq!(scene.logged("stdout"), "4321\n-7\n123\npids:/\n:/\nready\n");
    pod.containers[0].argv = ["/bin/tail", "/dev/zero"].map(str::to_owned).to_vec();
    assert_eq!(scene.run(&pod), Exit::OutOfMemory);
}

#[test]
fn an_init_a_terminal_and_a_pre_stop_are_the_pods_users() {
    let scene = scene!("an_init_a_terminal_and_a_pre_stop_are_the_pods_users");
    let mut pod = script(&scene, "stat -c %u $(tty); echo ready; exec sleep 1000");
    let container = &mut pod.containers[0];
    (container.init, container.tty) = (true, true);
    (container.uid, container.gid) = (33, 33);
    let before = "id -u; readlink /proc/self/ns/user; hostname; cat /sys/class/net/lo/flags";
    container.stop.pre_stop = ["/bin/sh", "-c", before].map(str::to_owned).to_vec();
    fs::set_permissions(scene.rootfs(), PermissionsExt::from_mode(0o755)).unwrap();
    let (mut shim, pid) = scene.launched(&pod);
    eventually("it is ready", || scene.logged("stdout").contains("ready"));
    let own = namespace(pid, "user");
    shim.stop();
    assert_eq!(shim.expect_exited().exit, Exit::Exited(143));
    let logged = scene.logged("stdout").replace('\r', "");
    assert_eq!(logged, format!("33\nready\n33\n{own}\nweb\n0x9\n"));
}

#[test]
fn whatever_fails_is_told_and_leaves_nothing() {
    let scene = scene!("whatever_fails_is_told_and_leaves_nothing");
    let fails = |change: &dyn Fn(&mut Launch)| -> (Step, String, i32) {
        let mut pod = script(&scene, "exit 0");
        change(&mut pod);
        let Failure { step, object, errno, .. } = scene.failure_of(&pod);
        assert_eq!(fs::read_dir(scene.run_dir()).unwrap().count(), 0);
        (step, object, errno)
    };
    let failed = |step, object: &str, errno| (step, object.to_owned(), errno);
    let unmappable = |pod: &mut Launch| {
        mount(pod, "data", VolumeSource::Path("/dev".into()), false);
    };
    let long = "x".repeat(65);
    assert_eq!(
        [
            fails(&|pod| pod.containers[0].uid = 65_536),
            fails(&|pod| pod.containers[0].groups = vec![1, 65_536]),
            fails(&|pod| pod.user_namespace = Some(UserNamespace { first_id: 0, ..IDS })),
            fails(&|pod| pod.user_namespace = Some(UserNamespace { count: 0, ..IDS })),
            fails(&|pod| pod.user_namespace = Some(UserNamespace { count: u32::MAX, ..IDS })),
            fails(&|pod| pod.hostname.clone_from(&long)),
            fails(&unmappable),
            fails(&|pod| pod.containers[0].rootfs = "/dev".into()),
            fails(&|pod| pod.containers[0].oom_score_adj = Some(1_001)),
            fails(&|pod| pod.containers[0].argv = vec!["/bin/none".into()]),
        ],
        [
            failed(Step::CheckContainer, "uid", libc::EINVAL),
            failed(Step::CheckContainer, "groups", libc::EINVAL),
            failed(Step::CheckContainer, "user_namespace", libc::EINVAL),
            failed(Step::CheckContainer, "user_namespace", libc::EINVAL),
            failed(Step::CheckContainer, "user_namespace", libc::EINVAL),
            failed(Step::SetHostname, &long, libc::EINVAL),
            failed(Step::MapVolume, "/dev", libc::EINVAL),
            failed(Step::MapRootfs, "/dev", libc::EINVAL),
            failed(Step::LimitProcess, "oom_score_adj", libc::EINVAL),
            failed(Step::Exec, "/bin/none", libc::ENOENT),
        ]
    );
}
