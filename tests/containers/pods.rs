//! Pods of several containers: how they come to run, whose end is told, and what
//! a stop in the midst of it does.

use std::fs;

use super::*;

/// A container with a script, and what else its spec says.
pub(super) fn container(machine: &Machine, name: &str, script: &str, rest: &str) -> String {
    format!(
        "#{{name => <<\"{name}\">>, image => {{rootfs, <<\"{}\">>}}, \
         command => [<<\"/bin/sh\">>, <<\"-c\">>, <<\"{script}\">>]{rest}}}",
        machine.rootfs
    )
}

pub(super) fn pod_of(name: &str, rest: &str, inits: &[String], containers: &[String]) -> String {
    let (inits, containers) = (inits.join(", "), containers.join(", "));
    format!(
        "#{{name => <<\"{name}\">>{rest}, init_containers => [{inits}], \
         containers => [{containers}]}}"
    )
}

pub(super) fn last_exit(port: &mut Port, pod: &str) -> String {
    status(port, pod).get("last_exit").expect("an exit").to_string()
}

pub(super) fn text_of(port: &mut Port, pod: &str, key: &str) -> String {
    status(port, pod).get(key).and_then(Term::as_str).unwrap_or_default().to_owned()
}

const SERVES: &str = "mkdir /srv; echo it works > /srv/index.html; \
                      exec httpd -f -p 127.0.0.1:80 -h /srv";

#[test]
fn containers_of_a_pod_talk_over_loopback_and_the_pod_tells_whose_end_it_was() {
    let Some(machine) = Machine::new("two containers") else { return };
    let mut port = machine.port();
    let asks = "until wget -qO /dev/null http://127.0.0.1/; do :; done; exit 7";
    let containers =
        [container(&machine, "server", SERVES, ""), container(&machine, "client", asks, "")];
    port.ok("apply", &pod_of("web", ", restart => never", &[], &containers));
    eventually("the client has had its answer", || is_in(&mut port, "web", "terminal"));
    assert_eq!(last_exit(&mut port, "web"), "{exited,7}");
    assert_eq!(text_of(&mut port, "web", "last_exit_container"), "client");
    let reason = text_of(&mut port, "web", "reason");
    assert!(reason.starts_with("container client exited with status 7"), "{reason}");
    eventually("nothing is left of it", || !machine.run_dir("web").exists());
}

#[test]
fn each_container_has_its_pid_its_log_and_its_limits() {
    let Some(machine) = Machine::new("containers of their own") else { return };
    let mut port = machine.port();
    let says = |name: &str| format!("echo I am {name}; exec sleep 1000");
    let limited = |name: &str, pids: u32| {
        container(&machine, name, &says(name), &format!(", limits => #{{pids => {pids}}}"))
    };
    let spec = |pids| pod_of("web", "", &[], &[limited("one", 10), limited("two", pids)]);
    port.ok("apply", &spec(20));
    port.ok("sync", "nil");
    let pid = |port: &mut Port, name: &str| {
        let status = status(port, "web");
        let containers = status.get("containers").and_then(Term::as_map).expect("containers");
        let of = containers.iter().find(|(key, _)| key.as_str() == Some(name)).expect("it");
        let pid = of.1.get("host_pid").and_then(Term::as_i64).expect("a pid");
        i32::try_from(pid).expect("a pid")
    };
    let (one, two) = (pid(&mut port, "one"), pid(&mut port, "two"));
    assert_ne!(one, two);
    assert_eq!(host_pid(&mut port, "web"), one);
    let limits = || [one, two].map(|pid| cgroup_file(pid, "pids", "pids.max", "pids.max"));
    assert_eq!(limits(), ["10", "20"]);
    for name in ["one", "two"] {
        let log = machine.dir.path().join(format!("data/logs/web/{name}.log"));
        let says = format!("I am {name}");
        eventually("it is logged", || fs::read_to_string(&log).unwrap_or_default().contains(&says));
    }
    // One container's limit changes in place, for both.
    port.ok("apply", &spec(30));
    port.ok("sync", "nil");
    assert_eq!(limits(), ["10", "30"]);
    assert_eq!((pid(&mut port, "one"), pid(&mut port, "two")), (one, two));
}

#[test]
fn init_containers_come_first_and_sidecars_before_and_after_the_others() {
    let Some(machine) = Machine::new("init containers") else { return };
    let mut port = machine.port();
    let mounts = ", mounts => [#{volume => <<\"data\">>, path => <<\"/data\">>}]";
    let note = |name: &str, then: &str| format!("echo {name} >> /data/order{then}");
    let leave = |name: &str| {
        let then = format!(
            "; trap 'sleep 0.1; echo {name} leaves >> /data/order; exit 0' TERM; \
             touch /data/{name}; sleep 1000 & wait"
        );
        note(name, &then)
    };
    let init = [
        container(&machine, "first", &note("first", ""), mounts),
        container(&machine, "second", &note("second", ""), mounts),
    ];
    let containers = [
        container(
            &machine,
            "main",
            &format!("until [ -e /data/side ]; do :; done; {}", leave("main")),
            mounts,
        ),
        container(&machine, "side", &leave("side"), &format!("{mounts}, sidecar => true")),
    ];
    let volumes = ", volumes => [#{name => <<\"data\">>}]";
    port.ok("apply", &pod_of("web", volumes, &init, &containers));
    port.ok("sync", "nil");
    let data = machine.dir.path().join("data/volumes/web/data");
    let order = || fs::read_to_string(data.join("order")).unwrap_or_default();
    eventually("all are there", || data.join("main").exists() && data.join("side").exists());
    assert_eq!(order(), "first\nsecond\nside\nmain\n");
    port.ok("delete", "<<\"web\">>");
    port.ok("sync", "nil");
    assert_eq!(order(), "first\nsecond\nside\nmain\nmain leaves\nside leaves\n");
}

#[test]
fn an_init_container_that_fails_is_a_failed_start() {
    let Some(machine) = Machine::new("failing init container") else { return };
    let mut port = machine.port();
    let init = [container(&machine, "migrate", "exit 3", "")];
    let main = [container(&machine, "main", "sleep 1000", "")];
    port.ok("apply", &pod_of("web", ", restart => never", &init, &main));
    eventually("it is over", || is_in(&mut port, "web", "terminal"));
    let status = status(&mut port, "web");
    let error = status.get("last_exit").and_then(Term::as_tuple).expect("an exit")[1].clone();
    assert_eq!(code(&error), "start_failed");
    assert_eq!(place(&error, "container"), "migrate");
    assert_eq!(message(&error), "container migrate exited with status 3 before the pod was there");
    eventually("nothing is left of it", || !machine.run_dir("web").exists());
}

#[test]
fn a_start_that_is_called_off_lets_an_init_container_end_in_order() {
    let Some(machine) = Machine::new("called off") else { return };
    let mut port = machine.port();
    let mounts = ", mounts => [#{volume => <<\"data\">>, path => <<\"/data\">>}]";
    let waits = "trap 'echo rolled back > /data/file; exit 0' TERM; touch /data/begun; \
                 sleep 1000 & wait";
    let init = [container(&machine, "migrate", waits, mounts)];
    let main = [container(&machine, "main", "touch /data/main; sleep 1000", mounts)];
    let volumes = ", volumes => [#{name => <<\"data\">>}]";
    port.ok("apply", &pod_of("web", volumes, &init, &main));
    let data = machine.dir.path().join("data/volumes/web/data");
    eventually("it has begun", || data.join("begun").exists());
    assert!(is_in(&mut port, "web", "starting"));
    port.ok("delete", "<<\"web\">>");
    port.ok("sync", "nil");
    assert_eq!(fs::read_to_string(data.join("file")).expect("it ended"), "rolled back\n");
    assert!(!data.join("main").exists());
    assert_eq!(port.ok("status", "nil"), Term::Map(Vec::new()));
}
