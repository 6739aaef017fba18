//! Compiles the protobuf files with `protox`, so that no `protoc` is needed.

use std::error::Error;
use std::path::{Path, PathBuf};

#[expect(clippy::disallowed_methods, reason = "the environment is how cargo speaks to a build script")]
fn main() -> Result<(), Box<dyn Error>> {
    // Read at run time: a target directory that moved with its checkout must not compile the files of another.
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let files = proto_files(&root)?;
    let descriptors = protox::compile(&files, [&root])?;
    // Read by `reflection`, so that grpcurl needs no files.
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), protox::prost::Message::encode_to_vec(&descriptors))?;
    tonic_prost_build::configure().bytes(".").skip_debug(SECRET_MESSAGES).compile_fds(descriptors)?;
    Ok(())
}

/// Messages that hold tokens: their `Debug` is written by hand in `redacted`.
const SECRET_MESSAGES: [&str; 6] = [
    "countersign.exchange.v1.ExchangeTokenRequest",
    "countersign.exchange.v1.ExchangeTokenResponse",
    "countersign.exchange.v1.ExplainExchangeRequest",
    "countersign.issuer.v1.IssueIdTokenResponse",
    "countersign.issuer.v1.SignedAccessToken",
    "countersign.issuer.v1.SignedAccessToken.result",
];

fn proto_files(folder: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(proto_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
