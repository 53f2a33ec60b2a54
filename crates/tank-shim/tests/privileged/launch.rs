//! A pod is launched, and how it ended is told.

use tank_shim::protocol::{Exit, FromShim, State, ToShim};
use tank_shim::record;

use crate::scene::scene;

#[test]
fn a_pod_prints_and_exits() {
    let scene = scene!("a_pod_prints_and_exits");
    assert_eq!(scene.output_of("echo hello"), "hello\n");
}

#[test]
fn exit_codes_and_signals_are_told() {
    let scene = scene!("exit_codes_and_signals_are_told");
    assert_eq!(scene.run(&scene.pod(&["/bin/true"])), Exit::Exited(0));
    assert_eq!(scene.run(&scene.script("exit 73")), Exit::Exited(73));
    // The first process of a namespace survives its own signals but for a fault.
    let (mut shim, _) = scene.launched(&scene.pod(&["/bin/sleep", "1000"]));
    shim.send(&ToShim::Kill);
    assert_eq!(shim.expect_exited().exit, Exit::Signaled(9));
}

#[test]
fn the_record_is_there_before_the_message() {
    let scene = scene!("the_record_is_there_before_the_message");
    let (mut shim, _) = scene.launched(&scene.script("exit 3"));
    let last_words = shim.receive();
    assert_eq!(record::read(&scene.run_dir()).unwrap().as_ref(), Some(&last_words));
    let FromShim::Exited(told) = last_words else { panic!("{last_words:?}") };
    assert!(!told.is_asked && told.launched_at_ms.unwrap() <= told.ended_at_ms, "{told:?}");
    assert_eq!((told.pod.as_str(), told.incarnation, told.exit), ("web", 7, Exit::Exited(3)));
    shim.expect_end();
}

#[test]
fn a_run_leaves_only_its_record() {
    let scene = scene!("a_run_leaves_only_its_record");
    scene.output_of("echo data > /file && mkdir -p /a/b && sync");
    let left: Vec<_> = std::fs::read_dir(scene.run_dir())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(left, ["exit"]);
    assert!(!scene.rootfs().join("file").exists(), "the root filesystem was written to");
}

#[test]
fn an_idle_shim_ends_with_its_first_connection() {
    let scene = scene!("an_idle_shim_ends_with_its_first_connection");
    let shim = scene.shim();
    assert_eq!(shim.hello.state, State::Idle);
    shim.stream.shutdown(std::net::Shutdown::Both).unwrap();
    shim.wait_for_end();
}
