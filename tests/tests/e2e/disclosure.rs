//! No program repeats a secret that was passed in the place of something else (SECURITY 81).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

const JWT: &str = "eyJhbGciOiJSUzI1NiIsImtpZCI6IjEifQ.eyJzdWIiOiJvcmc6YSJ9.c2lnbmF0dXJlLW9mLXRoZS10b2tlbg";
const KEY: &str = "q1Z8v0x5m3Jt7b2Kc9Rf4Ws6Yd1Gh8Lp0Nq5Tv2Xz3B=";
const PASSWORD: &str = "correct-horse-battery";

const SERVICES: [&str; 3] = ["issuer-service", "trust-service", "exchange-gateway"];

/// Every setting of every service, without the prefix.
const SETTINGS: &[&str] = &[
    "PUBLIC_URL",
    "ISSUER_BASE_URL",
    "ISSUER_HOST_BASE_URL",
    "LISTEN__PUBLIC",
    "LISTEN__INTERNAL",
    "LISTEN__PRIVATE",
    "LISTEN__REFLECTION",
    "LISTEN__PROXIES",
    "LISTEN__CONNECTIONS",
    "LISTEN__CONNECTIONS_PER_PEER",
    "EXCHANGE_CALLERS",
    "QUOTAS__ISSUERS",
    "QUOTAS__ISSUERS_CREATED_PER_DAY",
    "QUOTAS__WORKSPACES",
    "QUOTAS__TRUSTED_ISSUERS",
    "QUOTAS__TRUST_RELATIONSHIPS",
    "QUOTAS__KEY_MATERIAL_CHARACTERS",
    "DATABASE__URL",
    "DATABASE__URL_FILE",
    "REDIS__URL",
    "REDIS__URL_FILE",
    "ISSUER_SERVICE__URL",
    "ISSUER_SERVICE__SERVER_NAME",
    "TRUST_SERVICE__URL",
    "TRUST_SERVICE__SERVER_NAME",
    "INTERNAL_TLS__CA_FILE",
    "INTERNAL_TLS__CERT_FILE",
    "INTERNAL_TLS__KEY_FILE",
    "INTERNAL_TLS__ALLOWED_PEERS",
    "ACCESS_TOKEN_CALLERS",
    "DEPLOYMENT_SECRET_FILE",
    "KEY_ENCRYPTION_KEY_FILE",
    "OTHER_KEY_ENCRYPTION_KEY_FILES",
    "PKCS11__MODULE",
    "PKCS11__TOKEN_LABEL",
    "PKCS11__PIN_FILE",
    "PKCS11__KEY_ENCRYPTION_KEY_LABEL",
    "PKCS11__KEEPS_ACCESS_TOKEN_KEYS",
    "EXPORT__URL",
    "EXPORT__OPTIONS_FILE",
    "BOOTSTRAP_TOKEN_FILE",
    "ISSUER_NETWORKS",
    "EGRESS_PROXY__URL",
    "EGRESS_PROXY__URL_FILE",
    "STRICT_LINT",
    "KEY_SET_MAX_AGE_SECONDS",
    "STALENESS_LIMIT_SECONDS",
    "ALLOW_LOOPBACK_HTTP",
    "TELEMETRY__LOG_FORMAT",
    "TELEMETRY__LOG_FILTER",
    "TELEMETRY__OTLP_ENDPOINT",
    "UNKNOWN",
    "LISTEN",
];

/// What is passed, and what of it is the secret.
fn canaries() -> Vec<(OsString, Vec<u8>)> {
    let mut not_utf8 = format!("{KEY}{PASSWORD}").into_bytes();
    not_utf8.push(0xff);
    vec![
        (JWT.into(), JWT.into()),
        (KEY.into(), KEY.into()),
        (format!("Bearer {PASSWORD}").into(), PASSWORD.into()),
        (format!("https://user:{PASSWORD}@host/path?password={PASSWORD}").into(), PASSWORD.into()),
        (JWT.replace('.', "\n.").into(), JWT.into()),
        (JWT.replace('.', "%2E").into(), JWT.into()),
        (format!("-----BEGIN PRIVATE KEY-----\n{KEY}").into(), KEY.into()),
        (OsString::from_vec(not_utf8), format!("{KEY}{PASSWORD}").into()),
    ]
}

/// Runs a program to its end, and checks what it prints for twelve characters of the secret.
fn check(command: &mut Command, secret: &[u8]) -> String {
    let output = command.output().unwrap();
    let printed = [output.stdout, output.stderr].concat();
    let leaks = secret.windows(12).find(|run| printed.windows(12).any(|part| part == *run));
    let printed = String::from_utf8_lossy(&printed).into_owned();
    assert_eq!(leaks.map(String::from_utf8_lossy), None, "{command:?}:\n{printed}");
    printed
}

fn program(name: &str) -> Command {
    let mut command = Command::new(countersign_tests::program(name));
    command.env_clear().env("HOME", "/nonexistent");
    command
}

#[test]
fn s81_no_service_repeats_the_value_of_a_variable_setting_or_argument() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.toml");
    for service in SERVICES {
        for (passed, secret) in canaries() {
            let variables = SETTINGS.iter().map(|setting| (format!("COUNTERSIGN_{setting}"), &passed));
            // All at once, as every problem is reported at once; and each for itself, as one can hide another.
            let printed = check(program(service).envs(variables.clone()), &secret);
            assert!(printed.contains("the configuration is not valid"), "{service}: {printed}");
            if passed == OsStr::new(JWT) || passed == OsStr::new(KEY) {
                for (name, value) in variables {
                    check(program(service).env(name, value), &secret);
                }
            }
            check(program(service).env("COUNTERSIGN_CONFIG", &passed), &secret);
            check(program(service).arg("--config").arg(&passed), &secret);
            check(program(service).arg(&passed), &secret);
            let flag = OsString::from_vec([b"--", passed.as_bytes()].concat());
            check(program(service).arg(flag), &secret);
            std::fs::write(&config, [b"public_url = ", passed.as_bytes()].concat()).unwrap();
            check(program(service).arg("--config").arg(&config), &secret);
            std::fs::write(&config, passed.as_bytes()).unwrap();
            check(program(service).arg("--config").arg(&config), &secret);
        }
    }
}

#[test]
fn s81_printed_settings_mask_what_looks_like_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    let private = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    };
    let secret = private("secret", KEY);
    let of_all = || {
        let mut command = program("issuer-service");
        command.arg("--print-config").env("COUNTERSIGN_PUBLIC_URL", "https://sts.example.com");
        command.env("COUNTERSIGN_ISSUER_BASE_URL", "https://id.example.com");
        for name in ["DEPLOYMENT_SECRET_FILE", "KEY_ENCRYPTION_KEY_FILE", "INTERNAL_TLS__KEY_FILE"] {
            command.env(format!("COUNTERSIGN_{name}"), &secret);
        }
        for name in ["INTERNAL_TLS__CA_FILE", "INTERNAL_TLS__CERT_FILE"] {
            command.env(format!("COUNTERSIGN_{name}"), "certificate.pem");
        }
        command
    };
    let printed = check(of_all().env("COUNTERSIGN_DATABASE__URL", format!("postgres://me:{PASSWORD}@db/x")), PASSWORD.as_bytes());
    assert!(printed.contains("url = \"<redacted>\"") && printed.contains("https://sts.example.com"), "{printed}");
    for name in ["ACCESS_TOKEN_CALLERS", "INTERNAL_TLS__ALLOWED_PEERS", "TELEMETRY__LOG_FILTER", "INTERNAL_TLS__CA_FILE"] {
        for canary in [JWT, KEY.trim_end_matches('=')] {
            let command = &mut of_all();
            command.env("COUNTERSIGN_DATABASE__URL", "sqlite::memory:").env(format!("COUNTERSIGN_{name}"), canary);
            check(command, canary.as_bytes());
        }
    }
}

#[test]
fn s81_the_command_line_repeats_no_variable_not_even_in_its_help() {
    let variables = [
        "COUNTERSIGN_CLI_CONTEXT",
        "COUNTERSIGN_CLI_ISSUER_ADDRESS",
        "COUNTERSIGN_CLI_TRUST_ADDRESS",
        "COUNTERSIGN_CLI_GATEWAY_ADDRESS",
        "COUNTERSIGN_CLI_CA_FILE",
        "COUNTERSIGN_CLI_CREDENTIAL_FILE",
        "COUNTERSIGN_CLI_WORKSPACE",
        "COUNTERSIGN_CLI_ISSUER_ID",
        "COUNTERSIGN_CLI_ALLOW_PLAINTEXT",
        "XDG_CONFIG_HOME",
        "XDG_STATE_HOME",
    ];
    let here = ["--trust-address", "https://127.0.0.1:1", "--issuer-address", "http://127.0.0.1:1"];
    for variable in variables {
        for (passed, secret) in canaries() {
            // A name of a file need not be UTF-8; those of folders are ignored unless they are absolute.
            for line in
                [&["--help"][..], &["auth", "issue-id-token", "--help"], &["workspaces", "list"], &["auth", "issue-id-token"]]
            {
                let printed = check(program("countersign").env(variable, &passed).args(line), &secret);
                assert!(!printed.is_empty());
                check(program("countersign").env(variable, &passed).args(line).args(here), &secret);
            }
        }
    }
    let shown =
        check(program("countersign").env("COUNTERSIGN_CLI_CREDENTIAL_FILE", JWT).args(["workspaces", "list"]), JWT.as_bytes());
    assert!(shown.contains("COUNTERSIGN_CLI_CREDENTIAL_FILE contains a token rather than a file name"), "{shown}");
}
