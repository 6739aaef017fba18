//! Private Redis servers, one per test: a start takes hundredths of a second. Some stand alone; [`sentinel`] has a primary with a
//! replica, [`cluster`] three primaries, which take seconds and are therefore shared where a test does them no harm.

pub mod cluster;
pub mod sentinel;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::folder::Folder;
use crate::ports;
use crate::process::{Process, Program, accepts, find};

const START_LIMIT: Duration = Duration::from_secs(30);

/// A Redis server of its own on a loopback port, which writes nothing to disk: what it holds is gone when it is killed.
#[derive(Debug)]
pub struct Redis {
    // Ends before its folder does.
    process: Option<Process>,
    program: Program,
    port: u16,
    _folder: Folder,
}

impl Redis {
    /// Starts a server.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with more options, for example `["--maxmemory", "2mb"]`.
    pub fn start_with(options: &[&str]) -> Self {
        Self::start_program(|port, folder| program(port, folder, options))
    }

    fn start_program(program: impl Fn(u16, &Path) -> Program) -> Self {
        let folder = Folder::new("redis");
        for _ in 0..5 {
            let port = ports::free();
            let program = program(port, folder.path());
            if let Some(process) = run(&program, port) {
                return Self { process: Some(process), program, port, _folder: folder };
            }
        }
        panic!("Redis does not start:\n{}", std::fs::read_to_string(folder.path().join("log")).unwrap_or_default());
    }

    /// The URL of a server that was never started: connections are refused.
    pub fn never_started() -> String {
        format!("redis://127.0.0.1:{}", ports::free())
    }

    /// Where it listens, as a URL.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Kills it at once. What it held is gone.
    pub fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill();
        }
    }

    /// Starts it again, empty, on the same port.
    pub fn restart(&mut self) {
        self.kill();
        self.process = run(&self.program, self.port);
        assert!(self.process.is_some(), "Redis does not start again");
    }

    /// Freezes it: connections stay open, nothing is answered.
    pub fn pause(&self) {
        if let Some(process) = &self.process {
            process.signal(Signal::STOP);
        }
    }

    /// Wakes it up after [`pause`](Self::pause).
    pub fn resume(&self) {
        if let Some(process) = &self.process {
            process.signal(Signal::CONT);
        }
    }

    /// Forgets every key.
    pub fn flush(&self) {
        assert_eq!(self.command("FLUSHALL"), "+OK");
    }

    /// How many keys it holds.
    pub fn key_count(&self) -> usize {
        self.command("DBSIZE").trim_start_matches(':').parse().expect("DBSIZE answers a number")
    }

    /// Sends one command as a line of words and returns the first line of the answer.
    pub fn command(&self, line: &str) -> String {
        self.try_command(line).expect("Redis answers")
    }

    /// Like [`command`](Self::command), but `None` when the connection breaks, as it does when the server becomes a replica.
    pub fn try_command(&self, line: &str) -> Option<String> {
        try_command(self.port, line).ok()
    }

    /// Sends one command as a line of words and returns its answer, which is a text.
    pub fn text(&self, line: &str) -> String {
        self.bulk(&format!("{line}\r\n"))
    }

    /// Every key with its value as far as that is a string, one pair a line, for tests of what must not be there.
    pub fn contents(&self) -> String {
        const SCRIPT: &str = "local all = '' \
             for _, key in ipairs(redis.call('KEYS', '*')) do \
               local value = redis.pcall('GET', key) \
               all = all .. key .. '=' .. (type(value) == 'string' and value or '') .. '\\n' \
             end \
             return all";
        self.bulk(&format!("*3\r\n$4\r\nEVAL\r\n${}\r\n{SCRIPT}\r\n$1\r\n0\r\n", SCRIPT.len()))
    }

    fn bulk(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("Redis is there");
        stream.write_all(request.as_bytes()).expect("can ask Redis");
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        reader.read_line(&mut head).expect("Redis answers");
        let length = head.trim_end().strip_prefix('$').and_then(|length| length.parse().ok());
        let mut contents = vec![0; length.unwrap_or_else(|| panic!("Redis refused: {head}"))];
        reader.read_exact(&mut contents).expect("Redis answers in full");
        String::from_utf8_lossy(&contents).into_owned()
    }
}

fn program(port: u16, directory: &Path, options: &[&str]) -> Program {
    let server = find("redis-server", []).display().to_string();
    let port = port.to_string();
    let fixed = [&server, "--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--daemonize", "no"];
    program_of(fixed.into_iter().chain(options.iter().copied()), directory)
}

fn program_of<'a>(command: impl IntoIterator<Item = &'a str>, directory: &Path) -> Program {
    Program {
        command: command.into_iter().map(str::to_owned).collect(),
        environment: BTreeMap::new(),
        directory: directory.to_owned(),
        log: directory.join("log"),
        last_signal: "KILL",
    }
}

/// Starts the process and waits until it answers; `None` when it ended instead.
fn run(program: &Program, port: u16) -> Option<Process> {
    let process = Process::start(program);
    let start = Instant::now();
    // A server whose users need passwords answers too.
    let answers = || try_command(port, "PING").is_ok_and(|answer| answer == "+PONG" || answer.starts_with("-NOAUTH"));
    while !(accepts(port) && answers()) {
        if !process.is_running() {
            return None;
        }
        assert!(start.elapsed() < START_LIMIT, "Redis is not ready after {START_LIMIT:?}:\n{}", process.log());
        std::thread::sleep(Duration::from_millis(5));
    }
    Some(process)
}

fn try_command(port: u16, line: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(START_LIMIT))?;
    stream.write_all(format!("{line}\r\n").as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    Ok(answer.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restarted_server_has_forgotten_everything() {
        let mut server = Redis::start();
        assert_eq!(server.command("SET mark 7"), "+OK");
        assert_eq!(server.key_count(), 1);
        assert_eq!(server.contents(), "mark=7\n");
        server.restart();
        assert_eq!(server.key_count(), 0);
        server.command("SET mark 7");
        server.flush();
        assert_eq!(server.key_count(), 0);
    }

    #[test]
    fn a_paused_server_keeps_connections_and_answers_later() {
        let server = Redis::start();
        server.pause();
        let mut stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
        stream.write_all(b"PING\r\n").unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let mut reader = BufReader::new(stream);
        assert!(reader.read_line(&mut String::new()).is_err());
        server.resume();
        reader.get_ref().set_read_timeout(Some(START_LIMIT)).unwrap();
        let mut answer = String::new();
        reader.read_line(&mut answer).unwrap();
        assert_eq!(answer, "+PONG\r\n");
    }
}
