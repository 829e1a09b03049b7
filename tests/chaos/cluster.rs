//! A PostgreSQL of the test's own, which it may restart.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::real::process::Process;
use crate::real::scene::fresh_dir;
use crate::town::wait;

/// It goes away with the value.
pub(crate) struct Cluster {
    programs: PathBuf,
    dir: PathBuf,
    port: u16,
    process: Option<Process>,
}

/// How PostgreSQL is told to stop.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shutdown {
    /// Connections are cut, transactions rolled back, everything is written.
    Fast,
    /// As a crash: at the next start the log is replayed.
    Immediate,
}

impl Cluster {
    /// `None` when the machine has no PostgreSQL, or the tests use somebody else's.
    pub(crate) fn start() -> Option<Self> {
        let programs = programs()?;
        let dir = fresh_dir();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut cluster = Self { programs, dir, port, process: None };
        let data = cluster.data();
        if is_root() {
            let owned = Command::new("chown").arg(OWNER).arg(&cluster.dir).status();
            assert!(owned.unwrap().success(), "chown");
        }
        let mut init = cluster.command("initdb");
        init.args(["-U", "recurd", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "-D"]).arg(data);
        let made = init.current_dir(&cluster.dir).stdin(Stdio::null()).output().unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        cluster.boot();
        Some(cluster)
    }

    pub(crate) fn server_url(&self) -> String {
        format!("postgres://recurd@127.0.0.1:{}/postgres", self.port)
    }

    /// As `pg_ctl restart` does.
    pub(crate) fn restart(&mut self, how: Shutdown) {
        let process = self.process.take().expect("it runs");
        process.signal(match how {
            Shutdown::Fast => "INT",
            Shutdown::Immediate => "QUIT",
        });
        process.end();
        self.boot();
    }

    fn boot(&mut self) {
        let mut command = self.command("postgres");
        let sockets = format!("unix_socket_directories={}", self.dir.display());
        command.args([
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            &sockets,
            "-p",
            &self.port.to_string(),
            "-D",
        ]);
        command.arg(self.data()).current_dir(&self.dir);
        self.process = Some(Process::start(command));
        let ready = self.programs.join("pg_isready");
        wait("PostgreSQL is ready", || {
            let port = self.port.to_string();
            let mut asked = Command::new(&ready);
            asked.args(["-q", "-h", "127.0.0.1", "-p", &port]).status().unwrap().success()
        });
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// PostgreSQL refuses to run as root; and it stops if this test dies without a chance to clean up.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "QUIT"]);
        if is_root() {
            command.args(["--reuid", OWNER, "--regid", OWNER, "--clear-groups"]);
        }
        command.arg("--").arg(self.programs.join(program));
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            process.signal("QUIT");
            process.end();
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Whom Debian's package makes.
const OWNER: &str = "postgres";

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    id.stdout.trim_ascii() == b"0"
}

/// The newest installation; Debian keeps its programs out of PATH.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let debians = versions.map(|version| version.path().join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let complete = |dir: &PathBuf| dir.join("initdb").exists() && dir.join("postgres").exists();
    let version = |dir: &PathBuf| dir.parent().and_then(Path::file_name)?.to_str()?.parse::<u32>().ok();
    debians.filter(complete).max_by_key(version).or_else(|| std::env::split_paths(&path).find(complete))
}
