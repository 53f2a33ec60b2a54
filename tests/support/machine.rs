//! A root file system with probes in it, and a program that runs them as pods.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use erlang_term_format::Term;
use tempfile::TempDir;

use super::{Port, eventually, is_root, rootfs};

/// A root file system with a probe in it, and a program to run it with.
pub(crate) struct Machine {
    dir: TempDir,
    /// The root file system.
    pub(crate) rootfs: PathBuf,
    /// The program.
    pub(crate) port: Port,
}

impl Machine {
    /// `None`, said aloud, when not root.
    pub(crate) fn new(test: &str) -> Option<Self> {
        Self::started_by(test, |_, args| Port::start(args))
    }

    /// The same with a program that is started in another way: in this directory,
    /// with these arguments.
    pub(crate) fn started_by(
        test: &str,
        start: impl FnOnce(&Path, &[&str]) -> Port,
    ) -> Option<Self> {
        if !is_root(test) {
            return None;
        }
        let dir = tempfile::tempdir().expect("a directory");
        // Other users go in, too.
        let mode = PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(dir.path(), mode).expect("ours");
        let rootfs = rootfs(dir.path());
        build_probe("probe", &rootfs.join("bin/probe"));
        let path = |name: &str| dir.path().join(name).display().to_string();
        let args = ["--data-dir", &path("data"), "--run-dir", &path("run")];
        let port = start(dir.path(), &args);
        Some(Self { dir, rootfs, port })
    }

    /// A path beside the root file system.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Applies a pod that runs a command once, and waits for its end.
    pub(crate) fn run(&mut self, command: &[&str], fields: &str) -> Term<'static> {
        self.start(command, fields, "");
        self.ended()
    }

    /// Applies a pod that runs a command once. The fields are the container's and
    /// the pod's further ones.
    pub(crate) fn start(&mut self, command: &[&str], fields: &str, pod_fields: &str) {
        let command: Vec<String> = command.iter().map(|word| format!("<<\"{word}\">>")).collect();
        let pod = format!(
            "#{{name => <<\"p\">>, restart => never, containers => [#{{name => <<\"c\">>, \
             image => {{rootfs, <<\"{}\">>}}, command => [{}]{fields}}}]{pod_fields}}}",
            self.rootfs.display(),
            command.join(", ")
        );
        self.port.ok("apply", &pod);
    }

    /// Waits for the pod's end; how its last run ended.
    pub(crate) fn ended(&mut self) -> Term<'static> {
        let mut status = Term::nil();
        eventually("the pod is over", || {
            status = self.status();
            status.get("status").is_some_and(|word| word.is_atom("terminal"))
        });
        status.get("last_exit").expect("it is over").clone()
    }

    /// The pod's status.
    pub(crate) fn status(&mut self) -> Term<'static> {
        let all = self.port.ok("status", "nil");
        let name = Term::binary("p".to_owned());
        let mut entries = all.as_map().into_iter().flatten();
        entries.find(|(key, _)| *key == name).expect("it is tracked").1.clone()
    }

    /// Runs a command that must end well; what it printed.
    pub(crate) fn output(&mut self, command: &[&str], fields: &str) -> Vec<String> {
        let exit = self.run(command, fields);
        let (stdout, stderr) = (self.printed("stdout"), self.printed("stderr"));
        assert_eq!(exit.to_string(), "{exited,0}", "{stdout:#?} {stderr:#?}");
        self.forget();
        stdout
    }

    /// The next run is one of its own, and so is its output.
    pub(crate) fn forget(&mut self) {
        self.port.ok("delete", "<<\"p\">>");
        self.port.ok("sync", "nil");
    }

    /// The whole lines that the pod has printed so far.
    pub(crate) fn printed(&self, stream: &str) -> Vec<String> {
        let log = std::fs::read_to_string(self.path("data/logs/p/c.log")).unwrap_or_default();
        let fields = log.lines().map(|line| line.splitn(4, ' ').collect::<Vec<_>>());
        let of_stream = fields.filter(|fields| fields.len() == 4 && fields[1] == stream);
        of_stream.map(|fields| fields[3].to_owned()).collect()
    }

    /// The error of a run that could not start.
    pub(crate) fn failure(&mut self, fields: &str) -> Term<'static> {
        let exit = self.run(&["/bin/true"], fields);
        let [tag, error] = exit.as_tuple().expect("an exit") else { panic!("{exit}") };
        assert!(tag.is_atom("error"), "{exit}");
        self.forget();
        error.clone()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.port.ok("shutdown", "#{pods => stop}");
    }
}

/// Compiles a probe, `tests/support/NAME.c`, for any root file system.
pub(crate) fn build_probe(name: &str, to: &Path) {
    let source = format!("{}/tests/support/{name}.c", env!("CARGO_MANIFEST_DIR"));
    let status = Command::new("cc").args(["-static", "-O1", "-o"]).arg(to).arg(source).status();
    assert!(status.expect("gcc is installed").success());
}
