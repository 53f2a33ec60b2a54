//! Profiles, as docker and the OCI runtime specification write them in JSON:
//! the types, and what becomes of a profile on one machine with one set of
//! capabilities. Knows nothing of programs.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use crate::compile::Circumstances;

/// What a container's processes may ask of the kernel. `Profile::default()` is
/// docker's default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    /// What happens to a call that no rule is for.
    pub default_action: Action,
    /// The error, where that is to fail; `EPERM` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_errno_ret: Option<u32>,
    /// ABIs that are served beside the machine's own (OCI).
    #[serde(default, deserialize_with = "or_null", skip_serializing_if = "Vec::is_empty")]
    pub architectures: Vec<String>,
    /// ABIs that are served beside the machine's own (docker).
    #[serde(default, deserialize_with = "or_null", skip_serializing_if = "Vec::is_empty")]
    pub arch_map: Vec<SubArchitectures>,
    /// How the program is installed.
    #[serde(default, deserialize_with = "or_null", skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<Flag>,
    /// What happens to some calls.
    #[serde(default, deserialize_with = "or_null")]
    pub syscalls: Vec<Rule>,
}

/// An ABI and those that go with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SubArchitectures {
    /// A machine's own ABI.
    pub architecture: String,
    /// Those that it has beside it.
    #[serde(default, deserialize_with = "or_null")]
    pub sub_architectures: Vec<String>,
}

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Action {
    /// The process is killed.
    #[serde(rename = "SCMP_ACT_KILL_PROCESS")]
    KillProcess,
    /// The thread is killed.
    #[serde(rename = "SCMP_ACT_KILL_THREAD", alias = "SCMP_ACT_KILL")]
    KillThread,
    /// The process gets `SIGSYS`.
    #[serde(rename = "SCMP_ACT_TRAP")]
    Trap,
    /// The call fails.
    #[serde(rename = "SCMP_ACT_ERRNO")]
    Errno,
    /// A tracer is asked; without one the call fails.
    #[serde(rename = "SCMP_ACT_TRACE")]
    Trace,
    /// The call goes through.
    #[serde(rename = "SCMP_ACT_ALLOW")]
    Allow,
    /// The call goes through, and the kernel's log says so.
    #[serde(rename = "SCMP_ACT_LOG")]
    Log,
}

/// A flag of seccomp(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Flag {
    /// For all threads: there is one when the program is installed.
    #[serde(rename = "SECCOMP_FILTER_FLAG_TSYNC")]
    AllThreads,
    /// All that is not allowed is in the kernel's log.
    #[serde(rename = "SECCOMP_FILTER_FLAG_LOG")]
    Log,
    /// Speculation is not mitigated.
    #[serde(rename = "SECCOMP_FILTER_FLAG_SPEC_ALLOW")]
    AllowSpeculation,
}

/// What happens to some calls, given some arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// The calls. Names that a machine does not have mean nothing there.
    #[serde(default, deserialize_with = "or_null")]
    pub names: Vec<String>,
    /// One call, as old profiles write it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What happens.
    pub action: Action,
    /// The error, where that is to fail; `EPERM` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno_ret: Option<u32>,
    /// What the arguments must be. Those of several indices must all hold, of
    /// those with one index any.
    #[serde(default, deserialize_with = "or_null", skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<Argument>,
    /// The rule is there only when all of this is so (docker).
    #[serde(default, deserialize_with = "or_null", skip_serializing_if = "Condition::is_empty")]
    pub includes: Condition,
    /// The rule is not there when any of this is so (docker).
    #[serde(default, deserialize_with = "or_null", skip_serializing_if = "Condition::is_empty")]
    pub excludes: Condition,
}

/// What an argument must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Argument {
    /// Which, from 0 to 5.
    pub index: u8,
    /// What it is compared with; for [`Operator::MaskedEqual`] the mask.
    pub value: u64,
    /// What it is compared with for [`Operator::MaskedEqual`].
    #[serde(default)]
    pub value_two: u64,
    /// How.
    pub op: Operator,
}

/// How an argument is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Operator {
    /// It is another.
    #[serde(rename = "SCMP_CMP_NE")]
    NotEqual,
    /// It is less.
    #[serde(rename = "SCMP_CMP_LT")]
    Less,
    /// It is less or the same.
    #[serde(rename = "SCMP_CMP_LE")]
    LessOrEqual,
    /// It is the same.
    #[serde(rename = "SCMP_CMP_EQ")]
    Equal,
    /// It is more or the same.
    #[serde(rename = "SCMP_CMP_GE")]
    GreaterOrEqual,
    /// It is more.
    #[serde(rename = "SCMP_CMP_GT")]
    Greater,
    /// It is the same where the mask has ones.
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    MaskedEqual,
}

/// When a rule is there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Capabilities, by the kernel's names.
    #[serde(default, deserialize_with = "or_null", skip_serializing_if = "Vec::is_empty")]
    pub caps: Vec<String>,
    /// Machines, by Go's names.
    #[serde(default, deserialize_with = "or_null", skip_serializing_if = "Vec::is_empty")]
    pub arches: Vec<String>,
    /// The oldest kernel, as `4.8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_kernel: Option<String>,
}

impl Condition {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Why a text is no profile: the field, and its rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ParseError {
    /// As `syscalls[3].args[0].op`; empty for the profile itself.
    pub field: String,
    /// The rule that is broken.
    pub rule: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field.as_str() {
            "" => f.write_str(&self.rule),
            field => write!(f, "{field}: {}", self.rule),
        }
    }
}

impl ParseError {
    fn new(field: String, rule: impl Into<String>) -> Self {
        Self { field, rule: rule.into() }
    }
}

/// The highest error number there is.
const ERRNO_MAX: u32 = 4095;

/// What a call takes at most.
const ARGUMENTS_MAX: u8 = 6;

impl Profile {
    /// The profile that a JSON text describes.
    ///
    /// # Errors
    /// The first field that breaks a rule.
    pub fn parse(json: &str) -> Result<Self, ParseError> {
        let mut reader = serde_json::Deserializer::from_str(json);
        let profile: Self = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
            let field = match error.path().to_string() {
                path if path == "." => String::new(),
                path => path,
            };
            ParseError::new(field, error.into_inner().to_string())
        })?;
        reader.end().map_err(|error| ParseError::new(String::new(), error.to_string()))?;
        profile.check()?;
        Ok(profile)
    }

    /// What the types alone do not say.
    fn check(&self) -> Result<(), ParseError> {
        if !self.architectures.is_empty() && !self.arch_map.is_empty() {
            let rule = "is there beside archMap, and only one of them may be";
            return Err(ParseError::new("architectures".into(), rule));
        }
        check_errno(self.default_errno_ret)
            .map_err(|rule| ParseError::new("defaultErrnoRet".into(), rule))?;
        for (at, rule) in self.syscalls.iter().enumerate() {
            rule.check().map_err(|error| {
                ParseError::new(format!("syscalls[{at}].{}", error.field), error.rule)
            })?;
        }
        Ok(())
    }

    /// The same for one machine and one container: with the rules that are there,
    /// without conditions, and with the ABIs that it has. That is what the OCI
    /// runtime specification has.
    ///
    /// # Errors
    /// A condition that cannot be understood.
    #[must_use]
    pub fn resolved(&self, circumstances: &Circumstances<'_>) -> Self {
        let native = circumstances.machine.abis()[0].name;
        let mapped = self.arch_map.iter().find(|map| map.architecture == native);
        let beside = mapped.map_or(&self.architectures, |map| &map.sub_architectures);
        let others = beside.iter().filter(|name| *name != native).cloned();
        let rules = self.syscalls.iter().filter(|rule| rule.is_there(circumstances));
        Self {
            architectures: [native.to_owned()].into_iter().chain(others).collect(),
            arch_map: Vec::new(),
            syscalls: rules.map(Rule::without_conditions).collect(),
            ..self.clone()
        }
    }
}

impl Rule {
    fn check(&self) -> Result<(), ParseError> {
        let broken = |field: &str, rule: String| Err(ParseError::new(field.to_owned(), rule));
        match (&self.name, self.names.is_empty()) {
            (None, true) => return broken("names", "names no call".into()),
            (Some(_), false) => {
                return broken("name", "is there beside names, and only one of them may be".into());
            }
            _ => {}
        }
        if let Err(rule) = check_errno(self.errno_ret) {
            return broken("errnoRet", rule);
        }
        for (at, argument) in self.args.iter().enumerate() {
            if argument.index >= ARGUMENTS_MAX {
                let rule = format!("{} is not a number from 0 to 5", argument.index);
                return broken(&format!("args[{at}].index"), rule);
            }
        }
        for (name, condition) in [("includes", &self.includes), ("excludes", &self.excludes)] {
            if let Some(version) = &condition.min_kernel
                && version_of(version).is_none()
            {
                let rule = format!("{version:?} is not a version like 4.8");
                return broken(&format!("{name}.minKernel"), rule);
            }
        }
        Ok(())
    }

    /// The calls that it is for.
    pub(crate) fn calls(&self) -> impl Iterator<Item = &str> {
        self.names.iter().chain(&self.name).map(String::as_str)
    }

    /// Of what it includes all must be so, and of what it excludes nothing.
    fn is_there(&self, circumstances: &Circumstances<'_>) -> bool {
        let Circumstances { machine, kernel, capabilities } = circumstances;
        let is_native = |arches: &[String]| arches.iter().any(|arch| arch == machine.go_name());
        let is_new = |version: &String| version_of(version).is_some_and(|min| *kernel >= min);
        let has = |capability: &String| capabilities.contains(capability.as_str());
        let (includes, excludes) = (&self.includes, &self.excludes);
        (includes.arches.is_empty() || is_native(&includes.arches))
            && includes.caps.iter().all(has)
            && includes.min_kernel.as_ref().is_none_or(is_new)
            && !is_native(&excludes.arches)
            && !excludes.caps.iter().any(has)
            && !excludes.min_kernel.as_ref().is_some_and(is_new)
    }

    fn without_conditions(&self) -> Self {
        let (includes, excludes) = (Condition::default(), Condition::default());
        let names = self.calls().map(str::to_owned).collect();
        Self { names, name: None, includes, excludes, ..self.clone() }
    }

    /// What the arguments must be: any of these, and of each all.
    pub(crate) fn alternatives(&self) -> Vec<Vec<Argument>> {
        let indices: BTreeSet<u8> = self.args.iter().map(|argument| argument.index).collect();
        if indices.len() == self.args.len() {
            return vec![self.args.clone()];
        }
        // As runc does, and so docker.
        self.args.iter().map(|argument| vec![*argument]).collect()
    }
}

fn check_errno(errno: Option<u32>) -> Result<(), String> {
    match errno {
        Some(errno) if errno > ERRNO_MAX => Err(format!("{errno} is not an error number")),
        _ => Ok(()),
    }
}

/// `4.8` as numbers.
fn version_of(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// What Go writes for an empty list is `null`.
fn or_null<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Machine;

    fn error(json: &str) -> String {
        Profile::parse(json).expect_err(json).to_string()
    }

    /// A profile with one rule.
    fn with_rule(rule: &str) -> String {
        format!(r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{rule}]}}"#)
    }

    #[test]
    fn an_error_names_the_field_and_its_rule() {
        let rule = |rule: &str| error(&with_rule(rule));
        for (found, field, what) in [
            (error("{}"), "", "missing field `defaultAction`"),
            (error("[]"), "", "invalid"),
            (error("{"), "", "EOF while parsing"),
            (error(r#"{"defaultAction": "SCMP_ACT_ALLOW"} {}"#), "", "trailing characters"),
            (error(r#"{"defaultAction": "ALLOW"}"#), "defaultAction", "unknown variant `ALLOW`"),
            (
                error(r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 4096}"#),
                "defaultErrnoRet",
                "4096 is not an error number",
            ),
            (
                error(r#"{"defaultAction": "SCMP_ACT_ERRNO", "flags": ["SECCOMP_X"]}"#),
                "flags[0]",
                "unknown variant `SECCOMP_X`",
            ),
            (
                error(
                    r#"{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86"],
                        "archMap": [{"architecture": "SCMP_ARCH_X86_64"}]}"#,
                ),
                "architectures",
                "is there beside archMap",
            ),
            (rule(r#"{"action": "SCMP_ACT_ALLOW"}"#), "syscalls[0].names", "names no call"),
            (
                rule(r#"{"name": "read", "names": ["write"], "action": "SCMP_ACT_ALLOW"}"#),
                "syscalls[0].name",
                "is there beside names",
            ),
            (
                rule(r#"{"names": ["read"], "action": "SCMP_ACT_NOTIFY"}"#),
                "syscalls[0].action",
                "unknown variant `SCMP_ACT_NOTIFY`",
            ),
            (
                rule(
                    r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW",
                        "args": [{"index": 0, "value": 1, "op": "EQ"}]}"#,
                ),
                "syscalls[0].args[0].op",
                "unknown variant `EQ`",
            ),
            (
                rule(
                    r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW",
                        "args": [{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]}"#,
                ),
                "syscalls[0].args[0].index",
                "6 is not a number from 0 to 5",
            ),
            (
                rule(
                    r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW",
                        "includes": {"minKernel": "new"}}"#,
                ),
                "syscalls[0].includes.minKernel",
                "is not a version",
            ),
        ] {
            let prefix = if field.is_empty() { String::new() } else { format!("{field}: ") };
            assert!(found.starts_with(&prefix) && found.contains(what), "{found}");
        }
    }

    #[test]
    fn what_go_writes_as_null_is_empty() {
        let json = with_rule(
            r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": null, "comment": "",
                "includes": {}, "excludes": null, "errnoRet": null}"#,
        );
        assert_eq!(Profile::parse(&json).unwrap().syscalls[0].args, []);
    }

    #[test]
    fn a_rule_is_there_when_all_that_it_includes_is_so_and_nothing_that_it_excludes() {
        let is_there = |conditions: &str| {
            let json = with_rule(&format!(
                r#"{{"names": ["read"], "action": "SCMP_ACT_ALLOW", {conditions}}}"#
            ));
            let capabilities = BTreeSet::from(["CAP_CHOWN", "CAP_KILL"]);
            let circumstances = Circumstances {
                machine: Machine::Aarch64,
                kernel: (5, 10),
                capabilities: &capabilities,
            };
            !Profile::parse(&json).unwrap().resolved(&circumstances).syscalls.is_empty()
        };
        assert!(is_there(
            r#""includes": {"caps": ["CAP_CHOWN", "CAP_KILL"], "arches": ["arm64"]}"#
        ));
        assert!(!is_there(r#""includes": {"caps": ["CAP_CHOWN", "CAP_BPF"]}"#));
        assert!(!is_there(r#""includes": {"arches": ["amd64"]}"#));
        assert!(is_there(r#""includes": {"minKernel": "5.10"}"#));
        assert!(is_there(r#""includes": {"minKernel": "4.19"}"#));
        assert!(!is_there(r#""includes": {"minKernel": "6.1"}"#));
        assert!(!is_there(r#""excludes": {"caps": ["CAP_BPF", "CAP_KILL"]}"#));
        assert!(!is_there(r#""excludes": {"arches": ["arm64"]}"#));
        assert!(is_there(r#""excludes": {"caps": ["CAP_BPF"], "minKernel": "6.1"}"#));
    }

    #[test]
    fn the_default_comes_back_from_its_text() {
        let json = serde_json::to_string(&Profile::default()).unwrap();
        assert_eq!(Profile::parse(&json), Ok(Profile::default()));
    }
}
