//! The two documents of an issuer: its discovery document and its key set.

use std::io::Write as _;

use axum::body::Bytes;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_domain::values::issuer_url::IssuerUrl;
use countersign_domain::values::name::KeyId;
use countersign_jose::{PublicJwk, PublicJwkSet, hash};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;

/// Where the discovery document lies below the issuer (OpenID Connect Discovery 1.0, section 4).
pub(crate) const DISCOVERY_PATH: &str = "/.well-known/openid-configuration";
/// Where the key set lies below the issuer.
pub(crate) const KEY_SET_PATH: &str = "/.well-known/jwks.json";

/// A document as it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Document {
    pub(crate) bytes: Bytes,
    /// A strong validator (RFC 9110, section 8.8.3), with its quotation marks.
    pub(crate) etag: String,
    /// The same in gzip, which has a validator of its own; `None` when it would be no shorter.
    pub(crate) gzip: Option<Encoded>,
}

/// A document in another encoding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Encoded {
    pub(crate) bytes: Bytes,
    pub(crate) etag: String,
}

/// Both documents of an issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Documents {
    pub(crate) discovery: Document,
    pub(crate) key_set: Document,
    /// The keys in the set.
    pub(crate) key_ids: Vec<KeyId>,
}

/// What relying parties read of an issuer (OpenID Connect Discovery 1.0, section 3).
///
/// There is no authorization endpoint, as nobody logs in here; AWS, GCP, Azure, Vault and Kubernetes do without one. What would
/// be an empty list is left out, as section 4.2 demands.
#[derive(Debug, Serialize)]
struct Discovery<'a> {
    issuer: &'a IssuerUrl,
    jwks_uri: String,
    response_types_supported: [&'static str; 1],
    subject_types_supported: [&'static str; 1],
    id_token_signing_alg_values_supported: Vec<&'static str>,
    scopes_supported: [&'static str; 1],
    claims_supported: Vec<String>,
}

impl Documents {
    /// The documents of an issuer with these keys in its set, whose tokens may have these claims.
    pub(crate) fn new(issuer: &IssuerUrl, keys: Vec<PublicJwk>, claims: Vec<String>) -> Self {
        let mut algorithms: Vec<_> = keys.iter().map(|key| key.algorithm().as_str()).collect();
        algorithms.sort_unstable();
        algorithms.dedup();
        let discovery = Discovery {
            issuer,
            jwks_uri: format!("{}{KEY_SET_PATH}", issuer.as_str().trim_end_matches('/')),
            response_types_supported: ["id_token"],
            subject_types_supported: ["public"],
            id_token_signing_alg_values_supported: algorithms,
            scopes_supported: ["openid"],
            claims_supported: claims,
        };
        let key_ids = keys.iter().map(|key| key.key_id().clone()).collect();
        Self { discovery: Document::new(&discovery), key_set: Document::new(&PublicJwkSet { keys }), key_ids }
    }
}

impl Document {
    fn new(content: &impl Serialize) -> Self {
        // Structs of text always have a JSON form.
        let bytes = serde_json::to_vec(content).unwrap_or_default();
        let digest = URL_SAFE_NO_PAD.encode(hash::sha256(&[&bytes]));
        let gzip = gzipped(&bytes).filter(|shorter| shorter.len() < bytes.len());
        let gzip = gzip.map(|bytes| Encoded { bytes: bytes.into(), etag: format!("\"{digest}-gzip\"") });
        Self { bytes: bytes.into(), etag: format!("\"{digest}\""), gzip }
    }
}

fn gzipped(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).ok()?;
    encoder.finish().ok()
}

#[cfg(test)]
mod tests {
    use countersign_jose::{SignatureAlgorithm, Signer as _, SigningKey};

    use super::*;

    fn documents(algorithms: &[SignatureAlgorithm]) -> Documents {
        let keys = algorithms.iter().map(|&algorithm| SigningKey::generate(algorithm).unwrap().public_jwk().clone());
        Documents::new(&"https://id.example.com/rwx".parse().unwrap(), keys.collect(), vec!["sub".to_owned(), "team".to_owned()])
    }

    #[test]
    fn the_discovery_document_has_what_relying_parties_ask_for() {
        let documents = documents(&[SignatureAlgorithm::Es256, SignatureAlgorithm::EdDsa, SignatureAlgorithm::Es256]);
        let discovery: serde_json::Value = serde_json::from_slice(&documents.discovery.bytes).unwrap();
        assert_eq!(
            discovery,
            serde_json::json!({
                "issuer": "https://id.example.com/rwx",
                "jwks_uri": "https://id.example.com/rwx/.well-known/jwks.json",
                "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["ES256", "EdDSA"],
                "scopes_supported": ["openid"],
                "claims_supported": ["sub", "team"],
            })
        );
    }

    #[test]
    fn s60_an_etag_stands_for_exactly_these_bytes() {
        let key = |algorithm| SigningKey::generate(algorithm).unwrap().public_jwk().clone();
        let (one, other) = (key(SignatureAlgorithm::Es256), key(SignatureAlgorithm::Es256));
        let issuer = "https://id.example.com/rwx".parse().unwrap();
        let documents = |keys: &[&PublicJwk]| Documents::new(&issuer, keys.iter().map(|&key| key.clone()).collect(), Vec::new());
        assert_eq!(documents(&[&one]), documents(&[&one]));
        assert_eq!(documents(&[&one]).discovery, documents(&[&other]).discovery, "names no key");
        let mut etags: Vec<_> =
            [documents(&[&one]), documents(&[&other]), documents(&[&one, &other])].map(|both| both.key_set.etag).into();
        assert!(etags.iter().all(|etag| etag.len() == 45 && etag.starts_with('"') && etag.ends_with('"')), "{etags:?}");
        etags.dedup();
        assert_eq!(etags.len(), 3);
    }
}
