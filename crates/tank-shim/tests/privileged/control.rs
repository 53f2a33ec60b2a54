//! Connections come, go, and say nonsense; the pod does not notice.

use std::io::Write;

use tank_shim::protocol::{Role, RunningContainer, RunningRun, State, ToShim};

use crate::scene::{Scene, Shim, scene};

fn sleeping(scene: &Scene) -> (Shim, i32) {
    scene.launched(&scene.pod(&["/bin/sleep", "1000"]))
}

fn is_running(shim: &Shim, host_pid: i32) -> bool {
    let containers = vec![RunningContainer { name: "app".into(), role: Role::Main, host_pid }];
    let State::Running(run) = &shim.hello.state else { return false };
    let expected = RunningRun { containers, pod: "web".into(), incarnation: 7, ..run.clone() };
    *run == expected
}

#[test]
fn a_new_connection_replaces_the_old() {
    let scene = scene!("a_new_connection_replaces_the_old");
    let (old, host_pid) = sleeping(&scene);
    let mut new = scene.connect();
    assert!(is_running(&new, host_pid));
    assert_eq!(new.hello.pid, old.hello.pid);
    new.send(&ToShim::Kill);
    new.expect_exited();
    let mut old = old;
    old.expect_end();
}

#[test]
fn a_lost_connection_changes_nothing() {
    let scene = scene!("a_lost_connection_changes_nothing");
    let (shim, host_pid) = sleeping(&scene);
    shim.stream.shutdown(std::net::Shutdown::Both).unwrap();
    let mut new = scene.connect();
    assert!(is_running(&new, host_pid));
    new.send(&ToShim::Kill);
    new.expect_exited();
}

#[test]
fn nonsense_costs_the_connection_only() {
    let scene = scene!("nonsense_costs_the_connection_only");
    let (first, host_pid) = sleeping(&scene);
    drop(first);
    let nonsense: [&[u8]; 5] = [
        &[0, 0, 0, 0],
        &[0, 0, 0, 3, 131, 97, 1],
        &[0xff, 0xff, 0xff, 0xff],
        &[0, 0, 0, 5, 131, 108, 0xff, 0xff, 0xff],
        b"GET / HTTP/1.1\r\n\r\n",
    ];
    for bytes in nonsense {
        let mut shim = scene.connect();
        assert!(is_running(&shim, host_pid));
        shim.stream.write_all(bytes).unwrap();
        shim.expect_close();
    }
    let mut shim = scene.connect();
    assert!(is_running(&shim, host_pid));
    shim.send(&ToShim::Kill);
    shim.expect_exited();
}

#[test]
fn a_frame_may_come_byte_by_byte() {
    let scene = scene!("a_frame_may_come_byte_by_byte");
    let (mut shim, _) = sleeping(&scene);
    for byte in tank_shim::frame::encode(&ToShim::Kill) {
        shim.stream.write_all(&[byte]).unwrap();
    }
    shim.expect_exited();
}

#[test]
fn a_second_launch_is_ignored() {
    let scene = scene!("a_second_launch_is_ignored");
    let (mut shim, _) = sleeping(&scene);
    shim.send(&ToShim::Launch(Box::new(scene.pod(&["/bin/false"]))));
    shim.send(&ToShim::Kill);
    shim.expect_exited();
}
