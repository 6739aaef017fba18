//! `countersign dev`, as a newcomer meets it: the real binary, and the commands that it prints pasted into a shell.

#![expect(clippy::unwrap_used, reason = "a test ends where something is missing")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

/// The binary, far from the configuration of whoever runs the tests.
fn countersign(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    isolate(&mut command, home);
    command
}

fn isolate(command: &mut Command, home: &Path) {
    for name in ["XDG_CONFIG_HOME", "XDG_STATE_HOME", "COUNTERSIGN_CLI_CONTEXT", "COUNTERSIGN_CLI_WORKSPACE"] {
        command.env_remove(name);
    }
    command.env("HOME", home);
}

const ANY_PORTS: [&str; 6] =
    ["--issuer-listen", "127.0.0.1:0", "--trust-listen", "127.0.0.1:0", "--gateway-listen", "127.0.0.1:0"];

/// The start of every JSON object in base64url: no token begins otherwise.
const TOKEN: &str = "eyJ";

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn shown(output: &Output) -> String {
    format!("{}\n--- stdout\n{}\n--- stderr\n{}", output.status, text(&output.stdout), text(&output.stderr))
}

#[test]
fn dev_exchanges_a_token_shows_the_claims_of_both_and_exits() {
    let home = tempfile::tempdir().unwrap();
    let output = countersign(home.path()).args(["dev", "--exit"]).args(ANY_PORTS).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", shown(&output));
    let told = text(&output.stdout);
    for claim in [
        r#""sub": "org:my-org:vault:deploy-vault""#,
        r#""scope": "deploy""#,
        r#""type": "vault""#,
        "SUBJECT_TOKEN_REPLAYED",
        "auth exchange-oidc-token",
        "curl ",
        "grpcurl ",
    ] {
        assert!(told.contains(claim), "{claim} is missing:\n{}", shown(&output));
    }
    assert!(!told.contains(TOKEN) && !text(&output.stderr).contains(TOKEN), "a token is shown:\n{}", shown(&output));
}

#[test]
fn a_restart_finds_what_the_first_start_made() {
    let home = tempfile::tempdir().unwrap();
    let ports = [0, 1, 2].map(|_| countersign_testkit::ports::free());
    let start = || {
        let mut command = countersign(home.path());
        command.args(["dev", "--exit"]);
        for (flag, port) in ["--issuer-listen", "--trust-listen", "--gateway-listen"].into_iter().zip(ports) {
            command.args([flag, &format!("127.0.0.1:{port}")]);
        }
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", shown(&output));
        text(&output.stdout)
    };
    let ids = |told: &str| {
        let of_demo = told.split("\n\n").find(|part| part.starts_with("2. ")).unwrap();
        of_demo.lines().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    let (first, second) = (start(), start());
    assert!(first.contains("made now") && second.contains("as an earlier start made it"));
    assert_eq!(ids(&first), ids(&second));
}

#[test]
fn a_context_file_of_the_user_is_left_alone_and_dev_s_own_makes_flags_needless() {
    let home = tempfile::tempdir().unwrap();
    let run = || {
        let output = countersign(home.path()).args(["dev", "--exit"]).args(ANY_PORTS).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", shown(&output));
        text(&output.stdout)
    };
    let context = home.path().join(".config/countersign/context.toml");
    assert!(!run().contains("--context"));
    assert!(context.exists());
    std::fs::write(&context, "workspace = \"ws_mine\"\n").unwrap();
    assert!(run().contains("--context "));
    assert_eq!(std::fs::read_to_string(&context).unwrap(), "workspace = \"ws_mine\"\n");
}

#[test]
fn a_taken_port_is_a_clear_message_and_a_failure() {
    let home = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = countersign(home.path()).args(["dev", "--exit", "--issuer-listen", &address]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("--issuer-listen"), "{}", shown(&output));
    assert_eq!(text(&output.stdout), "");
}

/// A running `dev`, ended when dropped.
struct Dev {
    process: Child,
    _stdout: BufReader<ChildStdout>,
    told: String,
}

impl Dev {
    fn start(home: &Path, state: &Path) -> Self {
        let mut command = countersign(home);
        command.arg("dev").arg("--state-dir").arg(state).args(ANY_PORTS);
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        let mut told = String::new();
        while !told.contains("\ngrpcurl ") {
            let read = stdout.read_line(&mut told).unwrap();
            assert_ne!(read, 0, "ended early, having told:\n{told}");
        }
        Self { process, _stdout: stdout, told }
    }

    /// What stands below a comment that begins like this, up to the next blank line.
    fn commands(&self, comment: &str) -> &str {
        let (_, below) = self.told.split_once(&format!("\n# {comment}")).unwrap();
        let (_, commands) = below.split_once('\n').unwrap();
        commands.split("\n\n").next().unwrap()
    }

    fn terminate(&mut self) -> Option<i32> {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        self.process.wait().unwrap().code()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn paste(commands: &str, home: &Path) -> Output {
    let mut shell = Command::new("sh");
    isolate(&mut shell, home);
    let output = shell.args(["-ec", commands]).current_dir("/").output().unwrap();
    assert!(output.status.success(), "{commands}\n{}", shown(&output));
    output
}

fn is_installed(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

#[test]
fn the_printed_commands_work_when_pasted_into_another_shell() {
    let home = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut dev = Dev::start(home.path(), &folder.path().join("it's a state directory"));

    let exchanged = paste(dev.commands("with the CLI"), home.path());
    assert_eq!(text(&exchanged.stdout), "Demo\n", "{}", shown(&exchanged));
    let listed = paste(dev.commands("and to look around").lines().next().unwrap(), home.path());
    assert!(text(&listed.stdout).contains("org:my-org:vault:deploy-vault"), "{}", shown(&listed));
    // Nothing is written outside the state directory.
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);

    if is_installed("curl") {
        let answer: serde_json::Value = serde_json::from_slice(&paste(dev.commands("with curl"), home.path()).stdout).unwrap();
        assert_eq!(answer["token_type"], "Bearer");
        assert!(answer["access_token"].as_str().unwrap().starts_with(TOKEN));
    } else {
        eprintln!("NOT TESTED: curl is not installed");
    }
    if is_installed("grpcurl") {
        let answer: serde_json::Value = serde_json::from_slice(&paste(dev.commands("with grpcurl"), home.path()).stdout).unwrap();
        assert!(answer["accessToken"].as_str().unwrap().starts_with(TOKEN));
    } else {
        eprintln!("NOT TESTED: grpcurl is not installed");
    }
    assert_eq!(dev.terminate(), Some(0));
}

#[test]
fn a_relationship_that_is_refused_leaves_no_trusted_issuer_behind() {
    let home = tempfile::tempdir().unwrap();
    let state = home.path().join("state");
    let _dev = Dev::start(home.path(), &state);
    let run = |arguments: &[&str]| {
        countersign(home.path()).args(arguments).arg("--context").arg(state.join("context.toml")).output().unwrap()
    };
    let add = ["auth", "trust-relationships", "add", "--issuer", "https://idp.example.com", "--subject-match"];
    let refused = run(&[&add[..], &["*"]].concat());
    assert_eq!(refused.status.code(), Some(1), "{}", shown(&refused));
    for field in ["trust_relationship.subject_matches[0]", "trust_relationship.grants"] {
        assert!(text(&refused.stderr).contains(field), "{field} is not named\n{}", shown(&refused));
    }
    let is_registered = || text(&run(&["trusted-issuers", "list"]).stdout).contains("https://idp.example.com");
    assert!(!is_registered());
    let added = run(&[&add[..], &["org:*:vault:a", "--scope", "deploy"]].concat());
    assert!(text(&added.stdout).starts_with("tr_"), "{}", shown(&added));
    assert!(is_registered());
}

#[test]
fn s61_a_token_in_the_wrong_place_is_not_repeated() {
    let home = tempfile::tempdir().unwrap();
    let output = countersign(home.path()).args(["auth", "exchange-oidc-token", "eyJhbGciOiJSUzI1NiJ9.e30.AA"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", shown(&output));
    assert!(!text(&output.stderr).contains(TOKEN), "{}", shown(&output));
    assert!(text(&output.stderr).contains("--token-file"), "{}", shown(&output));
}
