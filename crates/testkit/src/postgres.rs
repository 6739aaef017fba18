//! Private PostgreSQL servers.
//!
//! A server costs a second, a database a few hundredths: tests of one process share a server ([`Postgres::shared`]) and have a
//! database each. Tests that kill the server start their own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::folder::Folder;
use crate::ports;
use crate::process::{Process, Program, accepts, find, is_root};

const START_LIMIT: Duration = Duration::from_mins(1);
const USER: &str = "countersign";

/// A PostgreSQL server of its own, on a loopback port, in a temporary directory. Nothing it holds survives it, and it does not
/// wait for the disk.
#[derive(Debug)]
pub struct Postgres {
    // Ends before its folder does.
    process: Option<Process>,
    program: Program,
    port: u16,
    databases: AtomicU32,
    _folder: Folder,
}

impl Postgres {
    /// The server that the tests of this process share.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// Starts a server.
    pub fn start() -> Self {
        let unprivileged = Unprivileged::find();
        let folder = Folder::new("postgres");
        let directory = folder.path();
        if let Some(user) = &unprivileged {
            std::os::unix::fs::chown(directory, Some(user.uid), Some(user.gid)).expect("cannot give the directory away");
        }
        let data = directory.join("data").display().to_string();
        let initdb = binary("initdb").display().to_string();
        let arguments = ["-D", &data, "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"];
        let command = as_user(unprivileged.as_ref(), std::iter::once(initdb.as_str()).chain(arguments));
        let output = Command::new(&command[0]).args(&command[1..]).current_dir(directory).output().expect("cannot run initdb");
        assert!(output.status.success(), "initdb failed: {}", String::from_utf8_lossy(&output.stderr));

        for _ in 0..5 {
            let port = ports::free();
            let settings = [
                format!("port={port}"),
                "listen_addresses=127.0.0.1".to_owned(),
                "unix_socket_directories=".to_owned(),
                "max_connections=300".to_owned(),
                "shared_buffers=32MB".to_owned(),
                // Safe against the end of the process, which tests cause, though not against the end of the machine. A commit
                // must outlive a kill, so `synchronous_commit` stays on.
                "fsync=off".to_owned(),
                "full_page_writes=off".to_owned(),
            ];
            let postgres = binary("postgres").display().to_string();
            let arguments = settings.iter().flat_map(|setting| ["-c", setting.as_str()]);
            let program = Program {
                command: as_user(unprivileged.as_ref(), [postgres.as_str(), "-D", data.as_str()].into_iter().chain(arguments)),
                environment: BTreeMap::new(),
                directory: directory.to_owned(),
                log: directory.join("log"),
                // SIGQUIT: stop at once and take the child processes along.
                last_signal: "QUIT",
            };
            if let Some(process) = run(&program, port) {
                return Self { process: Some(process), program, port, databases: AtomicU32::new(0), _folder: folder };
            }
        }
        panic!("PostgreSQL does not start:\n{}", std::fs::read_to_string(directory.join("log")).unwrap_or_default());
    }

    /// A new, empty database, as a URL.
    pub fn database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.execute("postgres", &format!("CREATE DATABASE {name}"));
        self.url(&name)
    }

    /// The URL of a database, existing or not.
    pub fn url(&self, database: &str) -> String {
        url(self.port, database)
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on every role but that of the tests needs its password.
    pub fn require_passwords(&self) {
        let rules = format!("host all {USER} 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n");
        std::fs::write(self.program.directory.join("data/pg_hba.conf"), rules).expect("can write pg_hba.conf");
        self.execute("postgres", "SELECT pg_reload_conf()");
    }

    /// The superuser.
    pub const fn superuser() -> &'static str {
        USER
    }

    /// Runs SQL and returns what it printed: one row a line, columns separated by `|`.
    pub fn execute(&self, database: &str, sql: &str) -> String {
        let output = Command::new(binary("psql"))
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", &self.url(database), "-c", sql])
            .output()
            .expect("cannot run psql");
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// Every row of every table in these schemas, as text, for tests of what must not be there.
    pub fn contents(&self, database: &str, schemas: &str) -> String {
        let tables =
            self.execute(database, &format!("SELECT schemaname, tablename FROM pg_tables WHERE schemaname LIKE '{schemas}'"));
        let tables = tables.lines().filter_map(|table| table.split_once('|'));
        tables.map(|(schema, table)| self.execute(database, &format!("SELECT t::text FROM \"{schema}\".\"{table}\" t"))).collect()
    }

    /// Kills the server at once, as a crash would.
    pub fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.signal(Signal::QUIT);
            process.signal_family(Signal::CONT);
            process.wait_for_end(START_LIMIT);
        }
    }

    /// Starts it again after [`kill`](Self::kill), on the same port with the same data.
    pub fn restart(&mut self) {
        self.kill();
        self.process = run(&self.program, self.port);
        assert!(self.process.is_some(), "PostgreSQL does not start again:\n{}", log(&self.program));
    }

    /// Freezes it: connections stay open, nothing is answered.
    pub fn pause(&self) {
        if let Some(process) = &self.process {
            process.signal_family(Signal::STOP);
        }
    }

    /// Wakes it up after [`pause`](Self::pause).
    pub fn resume(&self) {
        if let Some(process) = &self.process {
            process.signal_family(Signal::CONT);
        }
    }
}

/// Starts the process and waits until it answers; `None` when it ended instead.
fn run(program: &Program, port: u16) -> Option<Process> {
    let process = Process::start(program);
    let start = Instant::now();
    while !(accepts(port) && answers(port)) {
        if !process.is_running() {
            return None;
        }
        assert!(start.elapsed() < START_LIMIT, "PostgreSQL is not ready after {START_LIMIT:?}:\n{}", process.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    Some(process)
}

fn answers(port: u16) -> bool {
    Command::new(binary("psql"))
        .args(["-X", "-q", "-d", &url(port, "postgres"), "-c", "SELECT 1"])
        .output()
        .is_ok_and(|output| output.status.success())
}

fn url(port: u16, database: &str) -> String {
    format!("postgres://{USER}@127.0.0.1:{port}/{database}")
}

fn log(program: &Program) -> String {
    std::fs::read_to_string(&program.log).unwrap_or_default()
}

/// The user a server runs as when the tests run as root, which PostgreSQL refuses.
#[derive(Debug)]
struct Unprivileged {
    uid: u32,
    gid: u32,
}

impl Unprivileged {
    /// `None` when this process is not root.
    fn find() -> Option<Self> {
        is_root().then(|| {
            let mut users = ["postgres", "nobody"].into_iter();
            users.find_map(Self::named).expect("neither a user `postgres` nor `nobody` exists")
        })
    }

    fn named(name: &str) -> Option<Self> {
        let users = std::fs::read_to_string("/etc/passwd").ok()?;
        let mut fields = users.lines().find(|line| line.split(':').next() == Some(name))?.split(':').skip(2);
        Some(Self { uid: fields.next()?.parse().ok()?, gid: fields.next()?.parse().ok()? })
    }
}

/// The command as this user runs it.
fn as_user<'a>(user: Option<&Unprivileged>, command: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut whole = Vec::new();
    if let Some(Unprivileged { uid, gid }) = user {
        let setpriv = find("setpriv", [PathBuf::from("/usr/bin")]).display().to_string();
        whole.extend([setpriv, format!("--reuid={uid}"), format!("--regid={gid}"), "--clear-groups".to_owned(), "--".to_owned()]);
    }
    whole.extend(command.map(str::to_owned));
    whole
}

/// A program of the PostgreSQL server, which Debian keeps off `PATH`; the newest version there is.
fn binary(name: &str) -> PathBuf {
    let version = |directory: &PathBuf| directory.file_name()?.to_str()?.parse::<u32>().ok();
    let mut versions: Vec<PathBuf> = std::fs::read_dir(Path::new("/usr/lib/postgresql"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|directory| version(directory).is_some())
        .collect();
    versions.sort_by_key(version);
    find(name, versions.into_iter().rev().map(|directory| directory.join("bin")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_of_one_server_are_apart() {
        let server = Postgres::shared();
        let (one, two) = (server.database(), server.database());
        assert_ne!(one, two);
        let name = |url: &str| url.rsplit('/').next().unwrap().to_owned();
        server.execute(&name(&one), "CREATE TABLE marks (mark int)");
        assert_eq!(server.execute(&name(&two), "SELECT to_regclass('marks') IS NULL"), "t");
    }

    #[test]
    fn a_killed_server_comes_back_with_what_it_had() {
        let mut server = Postgres::start();
        let directory = server.program.directory.clone();
        server.execute("postgres", "CREATE TABLE marks (mark int); INSERT INTO marks VALUES (7)");
        server.pause();
        server.kill();
        assert!(!accepts(server.port()));
        server.restart();
        assert_eq!(server.execute("postgres", "SELECT mark FROM marks"), "7");
        drop(server);
        assert!(!directory.exists());
    }
}
