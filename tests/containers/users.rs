//! Pods with users of their own: which they are, and what they find of the files of
//! others.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};

use super::*;

impl Machine {
    /// A pod with a managed volume, and users of its own or not.
    fn pod_of_users(&self, name: &str, userns: &str, script: &str) -> String {
        let mounts = ", mounts => [#{volume => <<\"data\">>, path => <<\"/data\">>}]";
        let rest = format!("userns => {userns}, volumes => [#{{name => <<\"data\">>}}], ");
        self.pod(name, script, mounts).replacen("#{", &format!("#{{{rest}"), 1)
    }
}

/// What is 0 in a process's user namespace.
fn root_of(pid: i32) -> u32 {
    let map = fs::read_to_string(format!("/proc/{pid}/uid_map")).expect("it lives");
    map.split_whitespace().nth(1).expect("a range").parse().expect("an id")
}

#[test]
fn each_pod_has_users_of_its_own_that_no_later_program_gives_to_another() {
    let Some(machine) = Machine::new("users of their own") else { return };
    let mut port = machine.port();
    let apply = |port: &mut Port, pod: &str| {
        port.ok("apply", &machine.pod_of_users(pod, "auto", "exec sleep 1000"));
        port.ok("sync", "nil");
        root_of(host_pid(port, pod))
    };
    let first: BTreeSet<u32> = ["one", "two"].map(|pod| apply(&mut port, pod)).into();
    assert_eq!(first.len(), 2);
    assert!(first.iter().all(|id| (0x7000_0000..0x7FFE_0000).contains(id)), "{first:?}");
    for id in &first {
        assert_eq!(id % 65_536, 0);
    }
    let one = root_of(host_pid(&mut port, "one"));
    let noted = fs::read_to_string(machine.run_dir("one").join("users")).expect("it is noted");
    assert_eq!(noted.trim(), one.to_string());
    port.kill();
    let mut port = machine.port();
    let third = apply(&mut port, "three");
    assert!(!first.contains(&third));
    port.ok("delete", "<<\"three\">>");
    port.ok("sync", "nil");
    assert!(!machine.run_dir("three").exists());
}

#[test]
fn a_volume_is_the_same_with_users_of_the_pods_own_and_without() {
    let Some(machine) = Machine::new("volume of users") else { return };
    let image = Path::new(&machine.rootfs).join("data");
    fs::create_dir(&image).expect("ours");
    fs::write(image.join("www"), "").expect("ours");
    chown(image.join("www"), Some(33), Some(33)).expect("ours");
    let script = "set -e; stat -c 'owner %u' /data/www; echo run >> /data/runs; \
                  echo run >> /data/www; chown 33:33 /data/runs; echo ready; exec sleep 1000";
    let volume = machine.dir.path().join("data/volumes/web/data");
    let runs = || fs::read_to_string(volume.join("runs")).map_or(0, |runs| runs.lines().count());
    let mut port = machine.port();
    for (count, userns) in [(1, "auto"), (2, "host"), (3, "auto")] {
        port.ok("apply", &machine.pod_of_users("web", userns, script));
        port.ok("sync", "nil");
        eventually("it has written", || {
            runs() == count && machine.logged("web").matches("ready").count() == count
        });
        assert_eq!(machine.logged("web").matches("owner 33").count(), count);
        let is_hosts = root_of(host_pid(&mut port, "web")) == 0;
        assert_eq!(is_hosts, userns == "host");
        for name in ["www", "runs"] {
            assert_eq!(fs::metadata(volume.join(name)).expect("ours").uid(), 33);
        }
        assert_eq!(fs::metadata(&volume).expect("ours").uid(), 0);
    }
}

#[test]
fn what_cannot_be_for_users_of_a_pods_own_is_told_by_field() {
    let Some(machine) = Machine::new("users that cannot be") else { return };
    let mut port = machine.port();
    let user = |user: &str| {
        machine.pod("user", "true", &format!(", user => <<\"{user}\">>")).replacen(
            "#{",
            "#{userns => auto, ",
            1,
        )
    };
    let volume = machine
        .pod_of_users("volume", "auto", "true")
        .replace("name => <<\"data\">>}", "name => <<\"data\">>, source => {host, <<\"/dev\">>}}");
    for (pod, spec, field, says) in [
        ("user", user("65536"), "containers[0].user", "65536"),
        ("user", user("1:70000"), "containers[0].user", "70000"),
        ("volume", volume, "volumes[0].source", "map the users of volume /dev: invalid argument"),
    ] {
        port.ok("apply", &spec);
        eventually("the start has failed", || is_in(&mut port, pod, "backing_off"));
        let status = status(&mut port, pod);
        let error = status.get("last_exit").and_then(Term::as_tuple).expect("an exit")[1].clone();
        assert_eq!(code(&error), "start_failed", "{error}");
        assert_eq!(place(&error, "field"), field, "{error}");
        assert!(message(&error).contains(says), "{error}");
        let is_advised = error.get("hint").is_some_and(|hint| !hint.is_nil());
        assert_eq!(is_advised, pod == "volume", "{error}");
        machine.assert_only_on_record(pod);
        port.ok("delete", &format!("<<\"{pod}\">>"));
    }
}
