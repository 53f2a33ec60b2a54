//! A bundle's configuration for what a pod's spec asks for, made as docker makes
//! its own and never from what Tank makes of the spec. `docker.json` is docker's
//! default without the files that it binds over some in `/etc`, which it makes itself.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tank::core::spec::capability_names;
use tank_seccomp::{Circumstances, Machine, Profile};

/// The configuration of a container with these arguments, as docker has it by
/// default and changed by `change`.
pub(crate) fn config(arguments: &[&str], cgroup: &str, change: impl Fn(&mut Value)) -> Value {
    let mut config: Value = serde_json::from_str(include_str!("docker.json")).expect("JSON");
    config["process"]["args"] = json!(arguments);
    config["linux"]["cgroupsPath"] = json!(format!("/{cgroup}"));
    config["linux"]["seccomp"] = json!("default");
    change(&mut config);
    let user = config["process"]["user"]["uid"].clone();
    let capabilities = &mut config["process"]["capabilities"];
    let bounding = capabilities["bounding"].clone();
    // To whom is not root docker gives none, only the bounds.
    let in_force = if user == json!(0) { bounding.clone() } else { json!([]) };
    capabilities["effective"] = in_force.clone();
    capabilities["permitted"] = in_force;
    if config["linux"]["seccomp"] == json!("default") {
        config["linux"]["seccomp"] = seccomp(&bounding);
    }
    config
}

/// Docker's default profile, for the runtime to make a program of.
fn seccomp(capabilities: &Value) -> Value {
    let names: BTreeSet<&str> =
        capabilities.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let machine = Machine::native().expect("a machine with seccomp programs");
    let circumstances = Circumstances { machine, kernel: (5, 10), capabilities: &names };
    let mut profile = Profile::default().resolved(&circumstances);
    // Docker serves it, where the kernel does.
    profile.architectures.push("SCMP_ARCH_X32".into());
    serde_json::to_value(&profile).expect("JSON")
}

/// Adds to a list in the configuration.
pub(crate) fn push(list: &mut Value, value: Value) {
    list.as_array_mut().expect("a list").push(value);
}

/// Keeps of a list what is wanted.
pub(crate) fn retain(list: &mut Value, is_wanted: impl Fn(&Value) -> bool) {
    list.as_array_mut().expect("a list").retain(is_wanted);
}

/// What `docker run --privileged` changes, but for the host's devices, which it
/// adds to `/dev`.
pub(crate) fn privileged(config: &mut Value) {
    let status = std::fs::read_to_string("/proc/self/status").expect("a file of the kernel's");
    let bounds = status.lines().find_map(|line| line.strip_prefix("CapBnd:")).expect("a field");
    let bounds = u64::from_str_radix(bounds.trim(), 16).expect("hexadecimal");
    config["process"]["capabilities"]["bounding"] =
        json!(capability_names(bounds).collect::<Vec<_>>());
    let linux = config["linux"].as_object_mut().expect("an object");
    for name in ["seccomp", "maskedPaths", "readonlyPaths"] {
        linux.remove(name);
    }
    linux["resources"]["devices"] = json!([{"allow": true, "access": "rwm"}]);
    for mount in config["mounts"].as_array_mut().expect("a list") {
        let is_kernels = mount["type"] == json!("sysfs") || mount["type"] == json!("cgroup");
        if is_kernels {
            retain(&mut mount["options"], |option| *option != json!("ro"));
        }
    }
}
