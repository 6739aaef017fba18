//! `countersign dev`: what a newcomer types first.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

fn dev(folder: &Path) -> Output {
    let listen = ["--issuer-listen", "--trust-listen", "--gateway-listen"].map(|flag| [flag, "127.0.0.1:0"]);
    Command::new(countersign_tests::program("countersign"))
        .args(["dev", "--exit", "--state-dir"])
        .arg(folder.join("state"))
        .args(listen.concat())
        .env_clear()
        .env("HOME", folder)
        .output()
        .unwrap()
}

#[test]
fn dev_performs_an_exchange_and_ends_and_does_so_again_on_the_same_state() {
    let folder = tempfile::tempdir().unwrap();
    for round in 1..=2 {
        let output = dev(folder.path());
        let (stdout, stderr) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert!(output.status.success(), "round {round}: {stdout}\n{stderr}");
        for told in ["org:my-org:vault:deploy-vault", "countersign auth", "curl", "grpcurl"] {
            assert!(stdout.contains(told), "round {round}: `{told}` is not in\n{stdout}\n{stderr}");
        }
    }
    // Nothing that a stranger could read.
    let mode = std::fs::metadata(folder.path().join("state")).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "{mode:o}");
}
