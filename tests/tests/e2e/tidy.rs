//! Rules of the source tree that no compiler checks: which crate may know which, and where files belong.

mod circles;
mod presets;
mod statements;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use serde_json::Value;

/// The crates of the workspace that each crate may use outside its tests. A new edge here deserves more review than the code
/// that wants it.
const EDGES: [(&str, &[&str]); 15] = [
    ("countersign-domain", &[]),
    ("countersign-jose", &["countersign-domain"]),
    ("countersign-proto", &["countersign-domain"]),
    ("countersign-cache", &["countersign-domain", "countersign-jose"]),
    ("countersign-store", &["countersign-domain"]),
    ("countersign-discovery", &["countersign-cache", "countersign-domain", "countersign-jose"]),
    ("countersign-runtime", &["countersign-domain", "countersign-jose", "countersign-proto"]),
    ("countersign-testkit", &["countersign-domain"]),
    ("countersign-pkcs11", &["countersign-jose"]),
    // `pkcs11` where its feature is on.
    ("issuer-service", SERVICE_THAT_SIGNS),
    // For checks of trusted issuers, and to read what is stored with them.
    ("trust-service", SERVICE_THAT_ASKS_ISSUERS),
    (
        "exchange-gateway",
        &[
            "countersign-cache",
            "countersign-discovery",
            "countersign-domain",
            "countersign-jose",
            "countersign-proto",
            "countersign-runtime",
        ],
    ),
    (
        "countersign-cli",
        &[
            "countersign-cache",
            "countersign-discovery",
            "countersign-domain",
            "countersign-jose",
            "countersign-proto",
            "countersign-runtime",
            "countersign-store",
            "exchange-gateway",
            "issuer-service",
            "trust-service",
        ],
    ),
    ("countersign-tests", &["countersign-domain", "countersign-proto", "countersign-testkit"]),
    ("countersign-benches", &["countersign-testkit", "countersign-tests"]),
];

const SERVICE_THAT_SIGNS: &[&str] = &[
    "countersign-domain",
    "countersign-jose",
    "countersign-pkcs11",
    "countersign-proto",
    "countersign-runtime",
    "countersign-store",
];

const SERVICE_THAT_ASKS_ISSUERS: &[&str] = &[
    "countersign-discovery",
    "countersign-domain",
    "countersign-jose",
    "countersign-proto",
    "countersign-runtime",
    "countersign-store",
];

/// What does I/O, waits, or belongs to a framework. Whoever is pure does not depend on it, not even through others.
const IMPURE: [&str; 14] = [
    "async-trait",
    "axum",
    "futures",
    "hyper",
    "prost",
    "rand",
    "redis",
    "reqwest",
    "rustls",
    "sea-orm",
    "sqlx",
    "tokio",
    "tonic",
    "tower",
];

/// Which crates may use these directly, outside their tests.
const RESERVED: [(&str, &[&str]); 9] = [
    ("sea-orm", &["countersign-store"]),
    ("sea-orm-migration", &["countersign-store"]),
    ("sqlx", &["countersign-store"]),
    ("redis", &["countersign-cache"]),
    // Loads a maker's library into the process.
    ("cryptoki", &["countersign-pkcs11"]),
    // Strangers are asked under the limits of `discovery`, which no ready-made client has.
    ("rustls-platform-verifier", &["countersign-discovery"]),
    ("reqwest", &["countersign-tests"]),
    // An oracle for tests and clients. Hostile input goes through `jose`.
    ("jsonwebtoken", &["countersign-cli", "countersign-tests"]),
    ("clap", &["countersign-cli", "countersign-runtime"]),
];

/// Never, not even through others: SECURITY 62, and what would need a system library to build.
const REFUSED: [&str; 5] = ["rsa", "openssl", "openssl-sys", "native-tls", "protobuf-src"];

#[test]
fn crates_know_only_the_crates_they_should() {
    let metadata = Metadata::read();
    let table: BTreeMap<&str, &[&str]> = EDGES.into_iter().collect();
    assert_eq!(metadata.members.keys().map(String::as_str).collect::<BTreeSet<_>>(), table.keys().copied().collect());
    for (member, allowed) in table {
        for used in metadata.direct(member).iter().filter(|used| metadata.members.contains_key(*used)) {
            assert!(allowed.contains(&used.as_str()), "{member} must not depend on {used}");
        }
    }
}

#[test]
fn a_service_never_depends_on_another_service() {
    let metadata = Metadata::read();
    let services = ["issuer-service", "trust-service", "exchange-gateway"];
    for service in services {
        let known = metadata.transitive(service);
        for other in services.into_iter().filter(|other| *other != service) {
            assert!(!known.contains(other), "{service} must know {other} by its proto alone");
        }
    }
}

#[test]
fn the_domain_and_jose_are_pure() {
    let metadata = Metadata::read();
    for (member, also) in [("countersign-domain", ["aws-lc-rs", "aws-lc-sys"].as_slice()), ("countersign-jose", &[])] {
        let known = metadata.transitive(member);
        for impure in IMPURE.iter().chain(also) {
            assert!(!known.contains(*impure), "{member} depends on {impure}");
        }
    }
}

#[test]
fn databases_caches_and_http_clients_stay_behind_their_crates() {
    let metadata = Metadata::read();
    for (reserved, owners) in RESERVED {
        for member in metadata.members.keys().filter(|member| !owners.contains(&member.as_str())) {
            assert!(!metadata.direct(member).contains(reserved), "{member} must not use {reserved}");
        }
    }
}

#[test]
fn s62_no_private_operation_can_be_done_by_the_rsa_crate() {
    let metadata = Metadata::read();
    for member in metadata.members.keys() {
        let known = metadata.transitive(member);
        for refused in REFUSED {
            assert!(!known.contains(refused), "{member} depends on {refused}");
        }
    }
}

#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    for manifest in Metadata::read().members.values() {
        let text = std::fs::read_to_string(manifest).unwrap();
        assert!(text.contains("[lints]\nworkspace = true"), "{}", manifest.display());
    }
}

#[test]
fn every_source_file_belongs_to_a_crate_and_is_a_module_of_it() {
    for file in source_files() {
        // `mod.rs` stands for the folder it is in.
        let module = if file.ends_with("mod.rs") { file.parent().unwrap().to_owned() } else { file.with_extension("") };
        let name = module.file_name().unwrap().to_str().unwrap();
        if matches!(name, "lib" | "main" | "build") {
            continue;
        }
        let folder = module.parent().unwrap();
        let is_program =
            (folder.ends_with("tests") || folder.ends_with("benches")) && folder.with_file_name("Cargo.toml").is_file();
        if is_program {
            continue;
        }
        // A module is declared by the root or `mod.rs` of its folder, or by the file that the folder is named after.
        let declared = |parent: PathBuf| {
            std::fs::read_to_string(parent)
                .is_ok_and(|text| text.lines().any(|line| line.trim_start().ends_with(&format!("mod {name};"))))
        };
        let mut parents = vec![folder.with_extension("rs")];
        parents.extend(["lib.rs", "main.rs", "mod.rs"].map(|root| folder.join(root)));
        assert!(parents.into_iter().any(declared), "{} is nobody's module", file.display());
    }
}

#[test]
fn lints_are_set_aside_by_expect_with_a_reason() {
    for file in source_files().into_iter().filter(|file| !file.ends_with("tidy.rs")) {
        let text = std::fs::read_to_string(&file).unwrap();
        for attribute in ["#[allow(", "#![allow("] {
            assert!(!text.contains(attribute), "{}: write `#[expect(…, reason = …)]`", file.display());
        }
        for place in text.match_indices("[expect(").map(|(place, _)| place) {
            let attribute = text[place..].split(")]").next().unwrap();
            assert!(attribute.contains("reason = "), "{}: an `expect` without a reason", file.display());
        }
    }
}

#[test]
fn every_crate_says_what_it_is_for() {
    for file in source_files() {
        if matches!(file.file_name().and_then(|name| name.to_str()), Some("lib.rs" | "main.rs")) {
            let text = std::fs::read_to_string(&file).unwrap();
            assert!(text.starts_with("//! "), "{} opens with what it is for", file.display());
        }
    }
}

#[test]
fn the_documents_exist() {
    for document in DOCUMENTS {
        let text = std::fs::read_to_string(root().join(document)).unwrap_or_default();
        assert!(!text.trim().is_empty(), "{document} is missing");
    }
}

const DOCUMENTS: [&str; 8] = [
    "README.md",
    "ARCHITECTURE.md",
    "docs/SECURITY.md",
    "docs/SECURITY-TESTS.md",
    "LICENSE",
    "deny.toml",
    "proto/buf.yaml",
    "docker-compose.yml",
];

/// What `cargo metadata` says of the workspace.
struct Metadata {
    /// Name and manifest of each member.
    members: BTreeMap<String, PathBuf>,
    /// Names of packages by id.
    names: BTreeMap<String, String>,
    /// Ids of what each package uses outside its tests, by id.
    uses: BTreeMap<String, Vec<String>>,
}

impl Metadata {
    /// Read once: cargo takes a lock for it.
    fn read() -> &'static Self {
        static METADATA: LazyLock<Metadata> = LazyLock::new(Metadata::ask_cargo);
        &METADATA
    }

    fn ask_cargo() -> Self {
        // Of this platform alone: what only others need has never been downloaded here.
        let rustc = Command::new("rustc").arg("-vV").output().unwrap();
        let rustc = String::from_utf8(rustc.stdout).unwrap();
        let platform = rustc.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", platform])
            .current_dir(root())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let list = |value: &Value| value.as_array().unwrap().clone();

        let packages = list(&metadata["packages"]);
        let names = packages.iter().map(|package| (text(&package["id"]), text(&package["name"]))).collect();
        let member_ids: BTreeSet<String> = list(&metadata["workspace_members"]).iter().map(text).collect();
        let members = packages
            .iter()
            .filter(|package| member_ids.contains(package["id"].as_str().unwrap()))
            .map(|package| (text(&package["name"]), PathBuf::from(text(&package["manifest_path"]))))
            .collect();
        let uses = list(&metadata["resolve"]["nodes"])
            .iter()
            .map(|node| {
                let in_production = |used: &Value| list(&used["dep_kinds"]).iter().any(|kind| kind["kind"].is_null());
                let used = list(&node["deps"]);
                (text(&node["id"]), used.iter().filter(|used| in_production(used)).map(|used| text(&used["pkg"])).collect())
            })
            .collect();
        Self { members, names, uses }
    }

    fn id(&self, member: &str) -> &str {
        let manifest = self.members[member].parent().unwrap().display().to_string();
        self.names.keys().find(|id| self.names[*id] == member && id.contains(&manifest)).unwrap()
    }

    fn direct(&self, member: &str) -> BTreeSet<String> {
        self.uses[self.id(member)].iter().map(|id| self.names[id].clone()).collect()
    }

    fn transitive(&self, member: &str) -> BTreeSet<String> {
        let mut known = BTreeSet::new();
        let mut todo = vec![self.id(member)];
        while let Some(id) = todo.pop() {
            for used in &self.uses[id] {
                if known.insert(used.as_str()) {
                    todo.push(used);
                }
            }
        }
        known.into_iter().map(|id| self.names[id].clone()).collect()
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Every `.rs` file of the workspace's own crates.
fn source_files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut todo: Vec<PathBuf> = ["crates", "services", "tests"].map(|directory| root().join(directory)).into();
    while let Some(directory) = todo.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    assert!(files.len() > 20, "the search for source files is broken");
    files
}
