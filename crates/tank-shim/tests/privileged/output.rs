//! Output is whole, in order, and bounded.

use std::fs;

use rustix::mount::{MountFlags, UnmountFlags};
use tank_shim::protocol::Exit;

use crate::scene::{path_string, scene};

#[test]
fn all_output_is_in_the_file() {
    let scene = scene!("all_output_is_in_the_file");
    let expected: String = (1..=20_000).map(|n| format!("{n}\n")).collect();
    assert_eq!(scene.output_of("seq 1 20000"), expected);
}

#[test]
fn streams_are_told_apart() {
    let scene = scene!("streams_are_told_apart");
    assert_eq!(scene.output_of("echo out; echo err >&2; printf end"), "out\nend\n");
    assert_eq!(scene.logged("stderr"), "err\n");
}

#[test]
fn a_long_line_comes_in_parts() {
    let scene = scene!("a_long_line_comes_in_parts");
    let text = scene.output_of("head -c 50000 /dev/zero | tr '\\0' x; echo");
    assert_eq!(text, "x".repeat(50_000) + "\n");
    let log = fs::read_to_string(scene.log_path()).unwrap();
    let tags: Vec<_> = log.lines().map(|line| line.split(' ').nth(2).unwrap()).collect();
    assert_eq!(tags, ["P", "P", "P", "F"]);
}

#[test]
fn the_file_is_bounded_and_one_older_is_kept() {
    let scene = scene!("the_file_is_bounded_and_one_older_is_kept");
    let mut pod = scene.script("seq 1 100000");
    pod.containers[0].log.bytes_max = 100_000;
    assert_eq!(scene.run(&pod), Exit::Exited(0));
    let older = scene.dir.join("app.log.1");
    for path in [scene.log_path(), older.clone()] {
        assert!(fs::metadata(path).unwrap().len() <= 100_000);
    }
    let both = fs::read_to_string(older).unwrap() + &fs::read_to_string(scene.log_path()).unwrap();
    let numbers: Vec<u32> =
        both.lines().map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]));
    assert_eq!(numbers.last(), Some(&100_000));
}

#[test]
fn a_later_run_appends() {
    let scene = scene!("a_later_run_appends");
    scene.output_of("echo one");
    assert_eq!(scene.output_of("echo two"), "one\ntwo\n");
}

#[test]
fn a_full_disk_costs_lines_and_not_the_workload() {
    let scene = scene!("a_full_disk_costs_lines_and_not_the_workload");
    let small = scene.dir.join("small");
    fs::create_dir(&small).unwrap();
    rustix::mount::mount("tmpfs", &small, "tmpfs", MountFlags::empty(), Some(c"size=64k")).unwrap();
    let mut pod = scene.script("seq 1 10000; echo done >&2");
    pod.containers[0].log.path = path_string(&small.join("log"));
    let exit = scene.run(&pod);
    let log = fs::read_to_string(small.join("log")).unwrap();
    fs::remove_file(small.join("log")).unwrap();
    rustix::mount::unmount(&small, UnmountFlags::DETACH).unwrap();
    assert_eq!(exit, Exit::Exited(0));
    assert!(log.ends_with('\n') && log.lines().all(|line| line.contains("Z std")), "a torn line");
}
