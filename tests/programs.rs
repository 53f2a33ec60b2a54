//! Programs from Debian in pods: unmodified, under users of their own, with their
//! data on managed volumes. Each is asked through a client of its own, in its
//! pod's namespaces. Needs root, and what `scripts/rootfs` needs.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use erlang_term_format::Term;
use support::{Port, eventually, is_root};
use tempfile::TempDir;

/// The root file system with all of them, made when it is not there.
fn rootfs() -> &'static Path {
    static ROOTFS: OnceLock<PathBuf> = OnceLock::new();
    ROOTFS.get_or_init(|| {
        let build = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the build directory");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/rootfs");
        let mut command = Command::new(script);
        command.arg("programs").arg(build.join("rootfs")).stderr(Stdio::inherit());
        PathBuf::from(said(&command.output().expect("the script starts")))
    })
}

/// What a command that must have ended well has said.
fn said(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {error}", output.status);
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// A program in a pod, and the port program that keeps it running.
struct Program {
    dir: TempDir,
    port: Port,
    name: &'static str,
    spec: String,
    is_stopped: bool,
}

impl Program {
    /// Applies a pod and waits for its start. `fields` are the container's, but for its
    /// image. `None`, said aloud, when not root.
    fn start(name: &'static str, volumes: &str, fields: &str) -> Option<Self> {
        if !is_root(name) {
            return None;
        }
        let dir = tempfile::tempdir().expect("a directory");
        let path = |name: &str| dir.path().join(name).display().to_string();
        let port = Port::start(&["--data-dir", &path("data"), "--run-dir", &path("run")]);
        let spec = format!(
            "#{{name => <<\"{name}\">>, volumes => [{volumes}], containers => [#{{name => <<\"c\">>, \
             image => {{rootfs, <<\"{}\">>}}, {fields}}}]}}",
            rootfs().display()
        );
        let mut program = Self { dir, port, name, spec, is_stopped: false };
        program.port.ok("subscribe", "#{credits => 1000000}");
        program.port.ok("apply", &program.spec.clone());
        program.port.ok("sync", "nil");
        Some(program)
    }

    /// Stops the run by what is asked for, and waits for the next one.
    fn goes_on(&mut self, op: &str, args: &str) {
        let before = self.host_pid();
        self.port.ok(op, args);
        self.ends_well();
        self.port.ok("sync", "nil");
        assert_ne!(self.host_pid(), before, "{}", self.status());
    }

    fn restart(&mut self) {
        let name = self.name;
        self.goes_on("restart", &format!("<<\"{name}\">>"));
    }

    /// Another environment, which nothing but another run can have.
    fn change(&mut self) {
        let env = "containers => [#{env => #{<<\"CHANGED\">> => <<\"yes\">>}, ";
        let spec = self.spec.replace("containers => [#{", env);
        self.goes_on("apply", &spec);
        // The environment itself cannot be looked at: they write their titles over it.
        let generation = self.status().get("generation").and_then(Term::as_i64);
        assert_eq!(generation, Some(2));
    }

    /// Stops the pod, and the port program with it. Its log stays.
    fn stop(&mut self) {
        self.port.ask("shutdown", "#{pods => stop}");
        self.is_stopped = true;
        self.ends_well();
        assert_eq!(self.port.wait().code(), Some(0));
    }

    /// A program that has not stopped by itself within the grace ends by a signal.
    fn ends_well(&mut self) {
        let exit = loop {
            let frame = self.port.recv();
            let Some([_, _, notice]) = frame.as_tuple() else { continue };
            match notice.as_tuple() {
                Some([tag, _, _, exit]) if tag.is_atom("ended") => break exit.to_string(),
                _ => {}
            }
        };
        assert_eq!(exit, "{exited,0}", "{}", self.log());
    }

    fn status(&mut self) -> Term<'static> {
        let all = self.port.ok("status", "nil");
        all.as_map().and_then(<[_]>::first).expect("it is tracked").1.clone()
    }

    fn host_pid(&mut self) -> i32 {
        let status = self.status();
        let pid = status.get("host_pid").and_then(Term::as_i64);
        let pid = pid.unwrap_or_else(|| panic!("it does not run: {status}\n{}", self.log()));
        i32::try_from(pid).expect("a pid")
    }

    /// The name and the user of the first process.
    fn runs_as(&mut self) -> (String, u32) {
        let pid = self.host_pid();
        let of = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).expect("it lives");
        let status = of("status");
        let uid = status.lines().find_map(|line| line.strip_prefix("Uid:")).expect("a line");
        let uid = uid.split_whitespace().next().and_then(|uid| uid.parse().ok());
        (of("comm").trim_end().to_owned(), uid.expect("a number"))
    }

    /// Runs a client in some of the pod's namespaces.
    fn client(&mut self, namespaces: &[&str], command: &[&str]) -> Output {
        let mut client = Command::new("nsenter");
        client.args(["--target", &self.host_pid().to_string()]).args(namespaces);
        client.arg("--").args(command).output().expect("nsenter is part of util-linux")
    }

    /// Runs a client of the image's; `None` when it fails.
    fn try_asking(&mut self, command: &[&str]) -> Option<String> {
        let output = self.client(&["--mount", "--net"], command);
        output.status.success().then(|| said(&output))
    }

    /// Runs a client of the image's, which must end well.
    fn ask(&mut self, command: &[&str]) -> String {
        said(&self.client(&["--mount", "--net"], command))
    }

    /// What it has printed.
    fn log(&self) -> String {
        let path = self.dir.path().join("data/logs").join(self.name).join("c.log");
        fs::read_to_string(path).unwrap_or_default()
    }

    /// Where its volume is on the host.
    fn volume(&self, volume: &str) -> PathBuf {
        self.dir.path().join("data/volumes").join(self.name).join(volume)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Whatever a test did, its pod ends with it.
        if !self.is_stopped {
            let _ = self.port.call("shutdown", "#{pods => stop}");
        }
    }
}

/// A user of the root file system's.
fn uid(user: &str) -> u32 {
    let accounts = fs::read_to_string(rootfs().join("etc/passwd")).expect("it is Debian");
    let entry = accounts.lines().find_map(|line| line.strip_prefix(&format!("{user}:x:")));
    let uid = entry.and_then(|rest| rest.split(':').next()).expect("it has this user");
    uid.parse().expect("a number")
}

#[test]
fn redis_saves_what_it_has_when_it_is_stopped_and_has_it_in_the_next_run() {
    let Some(mut redis) = Program::start(
        "redis",
        "#{name => <<\"data\">>}",
        "user => <<\"redis\">>, mounts => [#{volume => <<\"data\">>, path => <<\"/var/lib/redis\">>}],
         command => [<<\"redis-server\">>, <<\"/etc/redis/redis.conf\">>,
                     <<\"--daemonize\">>, <<\"no\">>, <<\"--logfile\">>, <<\"\">>]",
    ) else {
        return;
    };
    let is_up =
        |redis: &mut Program| redis.try_asking(&["redis-cli", "ping"]).as_deref() == Some("PONG");
    eventually("redis answers", || is_up(&mut redis));
    assert_eq!(redis.runs_as(), ("redis-server".to_owned(), uid("redis")));
    assert_eq!(redis.ask(&["redis-cli", "set", "greeting", "hello"]), "OK");
    redis.restart();
    eventually("redis answers", || is_up(&mut redis));
    assert_eq!(redis.ask(&["redis-cli", "get", "greeting"]), "hello");
    assert_eq!(redis.ask(&["redis-cli", "incr", "visits"]), "1");
    redis.change();
    eventually("redis answers", || is_up(&mut redis));
    assert_eq!(redis.ask(&["redis-cli", "mget", "greeting", "visits"]), "hello\n1");
    redis.stop();
    assert!(redis.volume("data").join("dump.rdb").exists());
    assert_eq!(redis.log().matches("Redis is now ready to exit, bye bye...").count(), 3);
}

#[test]
fn postgresql_makes_its_database_once_and_shuts_it_down_in_each_run() {
    // Its socket is where Debian's programs look for it.
    let Some(mut postgres) = Program::start(
        "postgres",
        "#{name => <<\"data\">>}, #{name => <<\"run\">>, source => tmpfs}",
        "user => <<\"postgres\">>,
         mounts => [#{volume => <<\"data\">>, path => <<\"/var/lib/postgresql\">>},
                    #{volume => <<\"run\">>, path => <<\"/var/run/postgresql\">>}],
         command => [<<\"/bin/sh\">>, <<\"-ec\">>,
                     <<\"export PATH=$(echo /usr/lib/postgresql/*/bin):$PATH
                         export PGDATA=/var/lib/postgresql/main
                         [ -e $PGDATA/PG_VERSION ] || initdb --auth=trust
                         exec postgres\">>]",
    ) else {
        return;
    };
    let sql = |sql: &'static str| ["psql", "-U", "postgres", "-qtAc", sql];
    let is_up = |postgres: &mut Program| postgres.try_asking(&sql("SELECT 1")).is_some();
    eventually("postgres answers", || is_up(&mut postgres));
    assert_eq!(postgres.runs_as(), ("postgres".to_owned(), uid("postgres")));
    postgres.ask(&sql("CREATE TABLE greetings (words text)"));
    postgres.ask(&sql("INSERT INTO greetings VALUES ('hello')"));
    postgres.restart();
    eventually("postgres answers", || is_up(&mut postgres));
    assert_eq!(postgres.ask(&sql("SELECT words FROM greetings")), "hello");
    postgres.ask(&sql("INSERT INTO greetings VALUES ('again')"));
    postgres.change();
    eventually("postgres answers", || is_up(&mut postgres));
    assert_eq!(postgres.ask(&sql("SELECT words FROM greetings")), "hello\nagain");
    postgres.stop();
    let log = postgres.log();
    let last = log.lines().last().unwrap_or_default();
    assert!(last.ends_with("LOG:  database system is shut down"), "{log}");
    assert_eq!(log.matches("database system is shut down").count(), 3, "{log}");
    assert!(!log.contains("not properly shut down"), "{log}");
}

/// What nginx needs that is not root: its own files where anybody may write.
const NGINX: &str = "
pid /tmp/nginx.pid;
error_log /dev/stderr notice;
events {}
http {
  client_body_temp_path /tmp/body;
  proxy_temp_path /tmp/proxy;
  fastcgi_temp_path /tmp/fastcgi;
  uwsgi_temp_path /tmp/uwsgi;
  scgi_temp_path /tmp/scgi;
  access_log /var/log/nginx/access.log;
  server { listen 80; root /var/www/html; }
}
";

#[test]
fn nginx_serves_from_a_volume_on_port_80_and_goes_on_with_its_log() {
    let config = tempfile::NamedTempFile::new().expect("a file");
    fs::write(&config, NGINX).expect("ours");
    let anybody = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    fs::set_permissions(&config, anybody).expect("ours");
    let Some(mut nginx) = Program::start(
        "nginx",
        &format!(
            "#{{name => <<\"pages\">>}}, #{{name => <<\"log\">>}},
             #{{name => <<\"config\">>, source => {{host, <<\"{}\">>}}}}",
            config.path().display()
        ),
        "user => <<\"www-data\">>,
         mounts => [#{volume => <<\"pages\">>, path => <<\"/var/www/html\">>},
                    #{volume => <<\"log\">>, path => <<\"/var/log/nginx\">>},
                    #{volume => <<\"config\">>, path => <<\"/etc/nginx/nginx.conf\">>, read_only => true}],
         command => [<<\"nginx\">>, <<\"-g\">>, <<\"daemon off;\">>]",
    ) else {
        return;
    };
    let get = |nginx: &mut Program, page: &str| {
        let url = format!("http://127.0.0.1/{page}");
        let output = nginx.client(&["--net"], &["/bin/busybox", "wget", "-qO-", &url]);
        output.status.success().then(|| said(&output))
    };
    // A new volume has what the image has there.
    eventually("nginx serves", || get(&mut nginx, "index.nginx-debian.html").is_some());
    assert_eq!(nginx.runs_as(), ("nginx".to_owned(), uid("www-data")));
    fs::write(nginx.volume("pages").join("page"), "hello").expect("ours");
    nginx.restart();
    eventually("nginx serves", || get(&mut nginx, "page").as_deref() == Some("hello"));
    let access_log = nginx.volume("log").join("access.log");
    let logged = || fs::read_to_string(&access_log).unwrap_or_default().matches("/page").count();
    eventually("the visit is logged", || logged() == 1);
    nginx.change();
    eventually("nginx serves", || get(&mut nginx, "page").as_deref() == Some("hello"));
    eventually("both visits are logged", || logged() == 2);
    nginx.stop();
}
