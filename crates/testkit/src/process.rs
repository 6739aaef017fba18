//! Server processes that never outlive the test that started them.
//!
//! Each server is the child of a small shell that reads from a pipe. When this process ends, in whatever way, the kernel closes
//! the pipe, the shell sees its end, stops the server. A destructor alone would not do: statics are
//! never dropped, and a test runner may be killed.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Runs the server in the background, tells its process id, waits for the end of standard input, then stops the server.
///
/// `$1` is the signal, `$2` the log; the rest is the command.
const SUPERVISOR: &str = r#"
signal=$1; log=$2; shift 2
"$@" </dev/null >>"$log" 2>&1 &
server=$!
echo "$server"
exec >/dev/null 2>&1
read -r end
kill "-$signal" "$server"; kill -CONT "$server"
wait "$server"
"#;

/// What to run.
#[derive(Debug, Clone)]
pub struct Program {
    /// The executable and its arguments.
    pub command: Vec<String>,
    /// The whole environment of the process, but for `PATH`, which it inherits.
    pub environment: BTreeMap<String, String>,
    /// Where it runs.
    pub directory: PathBuf,
    /// Where its standard output and error are appended.
    pub log: PathBuf,
    /// The signal that ends it when it is dropped.
    pub last_signal: &'static str,
}

/// A running server. Dropping it stops the server.
#[derive(Debug)]
pub struct Process {
    supervisor: Child,
    server: Pid,
    log: PathBuf,
}

impl Process {
    /// Starts the program. It may not be ready yet.
    pub fn start(program: &Program) -> Self {
        let mut supervisor = Command::new("/bin/sh")
            .args(["-c", SUPERVISOR, "supervisor", program.last_signal])
            .arg(&program.log)
            .args(&program.command)
            .env_clear()
            .env("PATH", search_path())
            .envs(&program.environment)
            .current_dir(&program.directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // Ctrl-C on the terminal is for the tests; the server ends when they do.
            .process_group(0)
            .spawn()
            .expect("cannot start a shell");
        let mut line = String::new();
        BufReader::new(supervisor.stdout.take().expect("piped above")).read_line(&mut line).expect("cannot read from the shell");
        let server = line.trim().parse().ok().and_then(Pid::from_raw).expect("the shell tells the server's process id");
        Self { supervisor, server, log: program.log.clone() }
    }

    /// Whether the server is still there.
    pub fn is_running(&self) -> bool {
        // One that ended and was not waited for yet still has an id; its state tells.
        stat(self.server).is_some_and(|(state, _)| state != "Z")
    }

    /// How much memory the server has resident, in bytes (`VmRSS` of `/proc/<id>/status`).
    pub fn resident_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.server.as_raw_nonzero())).unwrap_or_default();
        let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok());
        kilobytes.unwrap_or(0_u64) * 1024
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        // A server that is gone already is what most signals want.
        let _ = kill_process(self.server, signal);
    }

    /// Waits until the server has ended.
    pub fn wait_for_end(&self, limit: Duration) {
        let start = Instant::now();
        while self.is_running() {
            assert!(start.elapsed() < limit, "still running after {limit:?}:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Kills it at once.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
        self.wait_for_end(Duration::from_secs(10));
    }

    /// Sends a signal to the server and to the processes it started itself.
    pub fn signal_family(&self, signal: Signal) {
        self.signal(signal);
        for child in self.children() {
            let _ = kill_process(child, signal);
        }
    }

    fn children(&self) -> Vec<Pid> {
        let parent = self.server.as_raw_nonzero().to_string();
        let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        processes
            .filter_map(|process| Pid::from_raw(process.file_name().to_str()?.parse().ok()?))
            .filter(|process| stat(*process).is_some_and(|(_, parent_of_process)| parent_of_process == parent))
            .collect()
    }

    /// Everything it wrote so far.
    pub fn log(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.supervisor.stdin.take());
        let _ = self.supervisor.wait();
    }
}

/// State and parent of a process, as `/proc` shows them.
fn stat(process: Pid) -> Option<(String, String)> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())).ok()?;
    // The second field is the program's name in parentheses, which may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.to_owned(), fields.next()?.to_owned()))
}

/// Whether somebody accepts connections there.
pub fn accepts(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

/// The path of a server's executable: on `PATH`, or below one of the directories.
pub(crate) fn find(name: &str, directories: impl IntoIterator<Item = PathBuf>) -> PathBuf {
    std::env::split_paths(&search_path())
        .chain(directories)
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
        .unwrap_or_else(|| panic!("`{name}` is not installed, so this test cannot run: `./tests/run` installs what tests need"))
}

/// Where programs are.
#[expect(clippy::disallowed_methods, reason = "the one variable that finding a program needs")]
pub fn search_path() -> OsString {
    std::env::var_os("PATH").unwrap_or_default()
}

/// Whether this process runs as root, which some servers refuse.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "./tests/run")]
    fn a_missing_server_names_the_command_that_installs_it() {
        find("no-such-server", []);
    }

    #[test]
    fn a_dropped_process_is_gone() {
        let directory = crate::folder::Folder::new("process");
        let program = Program {
            command: ["sleep", "1000"].map(str::to_owned).into(),
            environment: BTreeMap::new(),
            directory: directory.path().to_owned(),
            log: directory.path().join("log"),
            last_signal: "KILL",
        };
        let process = Process::start(&program);
        let server = process.server;
        assert!(process.is_running());
        drop(process);
        assert!(stat(server).is_none());
    }
}
