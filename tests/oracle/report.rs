//! What the probes say of a container, and what is seen of it from outside, as
//! keys and values that can be compared: what differs from run to run, or from
//! machine to machine, is put in words that do not.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::Pid;

use crate::list::{Difference, NONE};
use crate::support::machine::build_probe;

/// What is known of a container.
pub(crate) type Report = BTreeMap<String, String>;

/// The names of the host's own namespaces, and of its session keyring.
pub(crate) struct Host(Report);

impl Host {
    /// Asks.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("surroundings");
        build_probe("surroundings", &path);
        let output = Command::new(&path).arg("names").output().expect("it was made to be run");
        let lines = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
        Self(parse(lines))
    }

    /// The lines of the probes as a report.
    pub(crate) fn report(&self, lines: Vec<String>) -> Report {
        let mut report = Report::new();
        for (key, value) in parse(lines) {
            let is_name = key.starts_with("namespace ") || key == "session keyring";
            let is_number = value.bytes().any(|byte| byte.is_ascii_digit());
            let value = match (is_name, self.0.get(&key) == Some(&value)) {
                (true, true) => "the host's".to_owned(),
                // Else it is an error, which is one everywhere.
                (true, false) if is_number => "its own".to_owned(),
                _ => value,
            };
            report.insert(key, value);
        }
        fold_mounts(report)
    }
}

/// `key: value` on each line; a key that comes again has a number.
fn parse(lines: Vec<String>) -> Report {
    let mut report = Report::new();
    for line in lines {
        let Some((key, value)) = line.split_once(':') else { continue };
        let again = (2..).map(|count| format!("{key} ({count})"));
        let mut keys = [key.to_owned()].into_iter().chain(again);
        let key = keys.find(|key| !report.contains_key(key)).expect("there is no end of them");
        report.insert(key, value.trim().replace('\t', " "));
    }
    report
}

/// Docker's lists of paths in `/proc` and `/sys` that are hidden or protected. Which
/// of them there are is the machine's affair.
const KERNELS: [&str; 9] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/scsi",
    "/proc/sys",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// Where a case mounts what the host has.
const OF_HOST: [&str; 3] = ["/rw", "/ro", "/etc/file"];

/// How the kernel's own directories, the cgroups and what the host has are mounted,
/// whichever and of whatever kind these are.
fn fold_mounts(report: Report) -> Report {
    let mut folded = Report::new();
    let mut kinds: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (key, value) in report {
        match key.strip_prefix("mount ") {
            Some(path) if path.starts_with("/sys/fs/cgroup") => {
                let kind = value.split(' ').next().unwrap_or_default();
                let flags = value.split([' ', ';']).nth(1).unwrap_or_default();
                if kind.starts_with("cgroup") {
                    kinds.entry("the mounts of cgroups").or_default().insert(flags.to_owned());
                }
            }
            Some(path) if KERNELS.contains(&path) => {
                let kind = if value.starts_with("tmpfs") { "masked" } else { "protected" };
                folded.insert(format!("{kind} {path}"), "yes".to_owned());
                let name = if kind == "masked" { "the masks" } else { "the protected paths" };
                kinds.entry(name).or_default().insert(value);
            }
            Some(path) if OF_HOST.contains(&path) => {
                let flags = value.split([' ', ';']).nth(1).unwrap_or_default().split(',');
                let flags = Vec::from_iter(flags.filter(|flag| !flag.ends_with("atime")));
                folded.insert(key, flags.join(","));
            }
            _ => {
                folded.insert(key, value);
            }
        }
    }
    for (key, values) in kinds {
        folded.insert(key.to_owned(), Vec::from_iter(values).join(" and "));
    }
    folded
}

/// Limits as the kernel has them for a process, from the cgroups that it is in and
/// this process is not.
pub(crate) fn limits(pid: Pid) -> Report {
    let read = |pid: &str| fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it lives");
    let own = read("self");
    let of_process = read(&pid.as_raw_nonzero().to_string());
    let mut report = Report::new();
    for line in of_process.lines().filter(|line| !own.lines().any(|own| own == *line)) {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(names), Some(path)) = (fields.next(), fields.next()) else { continue };
        let Some(tree) = tree(names) else { continue };
        let dir = tree.join(path.trim_start_matches('/'));
        for (key, file, none) in LIMITS {
            let value = fs::read_to_string(dir.join(file)).unwrap_or_default();
            if !matches!(value.trim(), "" | "-1" | "max" | UNLIMITED) && value.trim() != none {
                report.insert(format!("limit of {key}"), value.trim().to_owned());
            }
        }
    }
    report
}

/// The most bytes that version 1 can count, which is no limit.
const UNLIMITED: &str = "9223372036854771712";

/// What is limited, the file of either version, and what it has without a limit
/// where that is a number.
const LIMITS: [(&str, &str, &str); 10] = [
    ("memory", "memory.limit_in_bytes", ""),
    ("memory", "memory.max", ""),
    ("memory and swap", "memory.memsw.limit_in_bytes", ""),
    ("swap", "memory.swap.max", ""),
    ("pids", "pids.max", ""),
    ("cpu quota", "cpu.cfs_quota_us", ""),
    ("cpu period", "cpu.cfs_period_us", "100000"),
    ("cpu", "cpu.max", "max 100000"),
    ("cpu shares", "cpu.shares", "1024"),
    ("cpu weight", "cpu.weight", "100"),
];

/// Where the cgroups of these controllers are; of version 2 without.
fn tree(names: &str) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("a file of the kernel's");
    mounts.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        let has_them = match fields[2] {
            "cgroup2" => names.is_empty(),
            "cgroup" => names.split(',').all(|name| fields[3].split(',').any(|each| each == name)),
            _ => false,
        };
        (has_them && !(fields[2] == "cgroup" && names.is_empty())).then(|| fields[1].into())
    })
}

/// What is other in their report than in ours.
pub(crate) fn differences(
    runtime: &'static str,
    ours: &Report,
    theirs: &Report,
) -> Vec<Difference> {
    let keys: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
    let value = |report: &Report, key: &String| {
        let value = report.get(key).map_or(NONE, |value| value.as_str());
        if value.is_empty() { "nothing" } else { value }.to_owned()
    };
    let difference = |key: &String| Difference {
        runtime,
        key: key.clone(),
        ours: value(ours, key),
        theirs: value(theirs, key),
    };
    keys.into_iter().map(difference).filter(|found| found.ours != found.theirs).collect()
}
