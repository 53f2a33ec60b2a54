//! What a container sees, told from inside.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use tank_shim::protocol::{Exit, Join, Network, Step, ToShim};

use crate::scene::{SHIM, path_string, scene, sealed};

/// The first process's `/proc/self/status` as text.
const STATUS: [&str; 2] = ["/bin/cat", "/proc/self/status"];

fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.strip_prefix(':')).unwrap().trim()
}

#[test]
fn the_workload_is_alone() {
    let scene = scene!("the_workload_is_alone");
    let facts = scene.output_of(
        "echo $$; hostname; ls -d /proc/[0-9]* | head -n 1;
         cut -d ' ' -f 6 /proc/1/stat; umask; ls /sys/class/net | grep -c -v '^lo$'; true",
    );
    let facts: Vec<_> = facts.lines().collect();
    let host_devices = fs::read_dir("/sys/class/net").unwrap().count();
    assert_eq!(facts[..5], ["1", "web", "/proc/1", "1", "0022"]);
    assert!(facts[5] == "0" || facts[5].parse::<usize>().unwrap() < host_devices);
}

#[test]
fn no_descriptor_is_left_open() {
    let scene = scene!("no_descriptor_is_left_open");
    // The last is that of the directory itself.
    let descriptors = scene.output_of_pod(&scene.pod(&["/bin/ls", "/proc/self/fd"]));
    assert_eq!(descriptors, "0\n1\n2\n3\n");
}

#[test]
fn a_name_that_can_be_resolved_is_no_part_of_it() {
    let scene = scene!("a_name_that_can_be_resolved_is_no_part_of_it");
    let mut pod = scene.script("exit 0");
    pod.hostname = "db-0.example".into();
    pod.containers[0].argv = vec!["hostname".into()];
    assert_eq!(scene.output_of_pod(&pod), "db-0.example\n");
}

#[test]
fn no_host_mount_is_seen() {
    let scene = scene!("no_host_mount_is_seen");
    let mounts = scene.output_of("cat /proc/self/mounts");
    let kinds: BTreeSet<_> = mounts.lines().map(|line| line.split(' ').nth(2).unwrap()).collect();
    let expected = ["devpts", "devtmpfs", "mqueue", "overlay", "proc", "sysfs", "tmpfs"];
    assert!(kinds.is_subset(&expected.into()), "{mounts}");
    assert!(!mounts.contains(&path_string(&scene.dir)), "{mounts}");
    for line in mounts.lines() {
        let path = line.split(' ').nth(1).unwrap();
        let is_known =
            path == "/" || ["/proc", "/sys", "/dev"].iter().any(|top| path.starts_with(top));
        assert!(is_known, "{line}");
    }
}

#[test]
fn loopback_is_up() {
    let scene = scene!("loopback_is_up");
    assert_eq!(scene.output_of("cat /sys/class/net/lo/flags"), "0x9\n");
    scene.output_of("ping -c 1 127.0.0.1");
}

#[test]
fn whoever_it_is_may_serve_any_port_and_ping_in_a_network_of_its_own() {
    let scene = scene!("whoever_it_is_may_serve_any_port_and_ping_in_a_network_of_its_own");
    let mut pod = scene.script(
        "ping -c 1 127.0.0.1 && { nc -l -p 80 -s 127.0.0.1 < /dev/null & } &&
         until nc 127.0.0.1 80 < /dev/null; do :; done; wait",
    );
    pod.containers[0].uid = 1000;
    pod.containers[0].gid = 1000;
    pod.containers[0].capabilities = 0;
    scene.output_of_pod(&pod);
}

#[test]
fn the_host_network_is_the_hosts() {
    let scene = scene!("the_host_network_is_the_hosts");
    let mut pod = scene.script("readlink /proc/self/ns/net; ! touch /sys/x || exit 1");
    pod.network = Network::Host;
    let host = fs::read_link("/proc/self/ns/net").unwrap();
    assert_eq!(scene.output_of_pod(&pod).trim(), path_string(&host));
}

#[test]
fn root_has_dockers_capabilities_and_no_way_to_more() {
    let scene = scene!("root_has_dockers_capabilities_and_no_way_to_more");
    let status = scene.output_of_pod(&scene.pod(&STATUS));
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(field(&status, set), "00000000a80425fb", "{set}");
    }
    assert_eq!(field(&status, "CapInh"), "0000000000000000");
    assert_eq!(field(&status, "CapAmb"), "0000000000000000");
    assert_eq!(field(&status, "NoNewPrivs"), "1");
    assert_eq!(field(&status, "Groups"), "");
}

#[test]
fn a_user_has_no_capabilities() {
    let scene = scene!("a_user_has_no_capabilities");
    let mut pod = scene.pod(&STATUS);
    (pod.containers[0].uid, pod.containers[0].gid) = (1000, 1001);
    let status = scene.output_of_pod(&pod);
    for set in ["CapPrm", "CapEff", "CapInh", "CapAmb"] {
        assert_eq!(field(&status, set), "0000000000000000", "{set}");
    }
    assert_eq!(field(&status, "CapBnd"), "00000000a80425fb");
    assert_eq!(field(&status, "Uid"), "1000\t1000\t1000\t1000");
    assert_eq!(field(&status, "Gid"), "1001\t1001\t1001\t1001");
    assert_eq!(field(&status, "Groups"), "");
}

#[test]
fn a_user_may_open_its_own_output() {
    let scene = scene!("a_user_may_open_its_own_output");
    let mut pod = scene.script("echo again > /dev/stdout; echo wrong > /dev/stderr");
    (pod.containers[0].uid, pod.containers[0].gid) = (1000, 1000);
    assert_eq!(scene.output_of_pod(&pod), "again\n");
    assert_eq!(scene.logged("stderr"), "wrong\n");
}

#[test]
fn signals_are_as_new() {
    let scene = scene!("signals_are_as_new");
    // The virtual machine above ignores some of these.
    let binary = scene.dir.join("deaf");
    let script =
        format!("#!/bin/sh\ntrap '' HUP INT PIPE TERM CHLD USR1 FPE\nexec {SHIM} \"$@\"\n");
    fs::write(&binary, script).unwrap();
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
    let mut shim = scene.shim_of(&sealed(&binary));
    shim.send(&ToShim::Launch(Box::new(scene.pod(&STATUS))));
    shim.expect_launched();
    assert_eq!(shim.expect_exited().exit, Exit::Exited(0));
    let status = scene.logged("stdout");
    for mask in ["SigBlk", "SigIgn", "SigCgt"] {
        assert_eq!(field(&status, mask), "0000000000000000", "{mask}");
    }
}

#[test]
fn the_environment_is_what_was_given() {
    let scene = scene!("the_environment_is_what_was_given");
    let mut pod = scene.pod(&["/bin/cat", "/proc/self/environ"]);
    pod.containers[0].env = vec!["A=1".into(), "ÜMLAUT=grün".into(), "EMPTY=".into()];
    assert_eq!(scene.output_of_pod(&pod), "A=1\0ÜMLAUT=grün\0EMPTY=\0\n");
}

#[test]
fn devices_work_and_others_cannot_be_made() {
    let scene = scene!("devices_work_and_others_cannot_be_made");
    scene.output_of(
        "set -e
         refused() { if \"$@\"; then echo \"not refused: $*\" >&2; exit 1; fi; }
         echo gone > /dev/null; test -z \"$(cat /dev/null)\"
         test \"$(head -c 3 /dev/zero | wc -c)\" = 3
         refused dd if=/dev/zero of=/dev/full bs=1 count=1
         test \"$(head -c 3 /dev/urandom | wc -c)\" = 3
         test \"$(head -c 3 /dev/random | wc -c)\" = 3
         echo shared > /dev/shm/file; test -d /dev/mqueue
         test \"$(echo piped | cat /dev/stdin)\" = piped
         exec 5<>/dev/ptmx; test -e /dev/pts/0
         for dir in / /dev /dev/shm; do
             mknod $dir/disk b 254 0; mknod $dir/zero2 c 1 5
             refused head -c 1 $dir/disk; refused head -c 1 $dir/zero2
         done",
    );
}

#[test]
fn the_hosts_device_nodes_stay_as_they_are() {
    let scene = scene!("the_hosts_device_nodes_stay_as_they_are");
    let node = |name: &str| fs::metadata(format!("/dev/{name}")).unwrap();
    let names = ["null", "zero", "full", "random", "urandom", "tty"];
    let before = names.map(|name| (node(name).mode(), node(name).uid()));
    scene.output_of(
        "refused() { if \"$@\"; then echo \"not refused: $*\" >&2; exit 1; fi; }
         for device in null zero full random urandom tty; do
             refused chmod 600 /dev/$device; refused chown 1 /dev/$device
             refused touch -t 200001010000 /dev/$device
         done",
    );
    assert_eq!(names.map(|name| (node(name).mode(), node(name).uid())), before);
}

#[test]
fn the_kernels_knobs_are_out_of_reach() {
    let scene = scene!("the_kernels_knobs_are_out_of_reach");
    scene.output_of(
        "for path in /proc/sys/kernel/hostname /proc/sysrq-trigger /sys/kernel/mm/x; do
             if echo x > $path; then echo \"$path is writable\"; exit 1; fi
         done
         test -z \"$(cat /proc/kcore)\" || exit 2
         test -z \"$(cat /proc/keys)\" || exit 3
         test -z \"$(ls /sys/firmware)\" || exit 4
         ! mount -o remount,rw /sys || exit 5
         ! umount /proc/kcore || exit 6",
    );
}

#[test]
fn cgroups_begin_at_the_containers() {
    let mut scene = scene!("cgroups_begin_at_the_containers");
    let mut pod = scene.script("grep -E ':(pids|):' /proc/self/cgroup");
    pod.containers[0].cgroups =
        vec![scene.cgroup("pids", Join::Tasks, &[]), scene.cgroup("unified", Join::Clone, &[])];
    let cgroups = scene.output_of_pod(&pod);
    assert_eq!(cgroups.lines().count(), 2);
    assert!(cgroups.lines().all(|line| line.ends_with(":/")), "{cgroups}");
}

#[test]
fn a_working_directory_is_made_inside_even_through_a_link() {
    let scene = scene!("a_working_directory_is_made_inside_even_through_a_link");
    let outside = scene.dir.join("outside");
    fs::create_dir(&outside).unwrap();
    symlink(&outside, scene.rootfs().join("link")).unwrap();
    symlink("/proc/self/fd", scene.rootfs().join("fds")).unwrap();
    let mut pod = scene.script("pwd -P");
    pod.containers[0].working_dir = "/deep/er".into();
    assert_eq!(scene.output_of_pod(&pod), "/deep/er\n");
    pod.containers[0].working_dir = "/link/new".into();
    scene.failure_of(&pod);
    for number in 0..20 {
        pod.containers[0].working_dir = format!("/fds/{number}/new");
        scene.failure_of(&pod);
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert!(!scene.rootfs().join("new").exists());
    assert!(!scene.run_dir().join("new").exists());
}

/// CVE-2019-19921, CVE-2023-27561 and CVE-2023-28642: what is mounted goes
/// elsewhere, and what is to be masked is not where it is looked for.
#[test]
fn a_mount_point_that_is_no_directory_is_refused() {
    let scene = scene!("a_mount_point_that_is_no_directory_is_refused");
    for (name, step) in
        [("proc", Step::MountProc), ("sys", Step::MountSys), ("dev", Step::MountDev)]
    {
        let path = scene.rootfs().join(name);
        let refused = |errno| {
            let failure = scene.failure_of(&scene.script("exit 0"));
            let found = (failure.step, failure.object, failure.errno);
            assert_eq!(found, (step, format!("/{name}"), errno));
            fs::remove_file(&path).unwrap();
        };
        for target in ["/bin", "/none", "/proc", "../../../.."] {
            symlink(target, &path).unwrap();
            refused(libc::ELOOP);
        }
        fs::write(&path, "").unwrap();
        refused(libc::ENOTDIR);
    }
}

#[test]
fn a_path_with_the_overlays_own_signs_is_a_path() {
    let scene = scene!("a_path_with_the_overlays_own_signs_is_a_path");
    let odd = scene.dir.join("a:b,c\\d,upperdir=e");
    fs::rename(scene.rootfs(), &odd).unwrap();
    let mut pod = scene.script("echo in");
    pod.containers[0].rootfs = path_string(&odd);
    assert_eq!(scene.output_of_pod(&pod), "in\n");
}

#[test]
fn the_root_directory_is_open_to_users() {
    let scene = scene!("the_root_directory_is_open_to_users");
    let mut pod = scene.script("ls / > /dev/null && stat -c %a /");
    pod.containers[0].uid = 1000;
    fs::set_permissions(scene.rootfs(), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(scene.output_of_pod(&pod), "755\n");
}

#[test]
fn files_of_etc_are_the_pods_whatever_an_image_has_there() {
    let scene = scene!("files_of_etc_are_the_pods_whatever_an_image_has_there");
    let (etc, host) = (scene.rootfs().join("etc"), scene.dir.join("host"));
    fs::create_dir_all(&etc).unwrap();
    fs::set_permissions(&etc, fs::Permissions::from_mode(0o711)).unwrap();
    std::os::unix::fs::chown(&etc, Some(12), Some(34)).unwrap();
    fs::write(etc.join("kept"), "the image's\n").unwrap();
    fs::write(etc.join("hosts"), "the image's\n").unwrap();
    fs::write(&host, "the host's\n").unwrap();
    symlink(&host, etc.join("resolv.conf")).unwrap();
    let mut pod = scene.script(
        "cat /etc/hosts /etc/resolv.conf /etc/kept; stat -c '%a %u %g' /etc /etc/hosts; \
         echo more >>/etc/resolv.conf",
    );
    pod.containers[0].etc =
        ["hosts", "resolv.conf"].map(|name| (name.to_owned(), "the pod's\n".to_owned())).into();
    assert_eq!(scene.run(&pod), Exit::Exited(0));
    assert_eq!(scene.logged("stdout"), "the pod's\nthe pod's\nthe image's\n711 12 34\n644 0 0\n");
    assert_eq!(fs::read_to_string(host).unwrap(), "the host's\n");
    assert_eq!(fs::read_to_string(etc.join("hosts")).unwrap(), "the image's\n");
}

#[test]
fn an_etc_that_is_a_link_is_left_alone() {
    let scene = scene!("an_etc_that_is_a_link_is_left_alone");
    let host = scene.dir.join("host");
    fs::create_dir(&host).unwrap();
    let _ = fs::remove_dir_all(scene.rootfs().join("etc"));
    symlink(&host, scene.rootfs().join("etc")).unwrap();
    let mut pod = scene.script("exit 0");
    pod.containers[0].etc = vec![("hosts".to_owned(), String::new())];
    assert_eq!(scene.run(&pod), Exit::Exited(0));
    assert_eq!(fs::read_dir(host).unwrap().count(), 0);
}
