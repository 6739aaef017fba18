//! How relying parties and our own verifier judge an issuer's documents.
//!
//! A party that is not known to accept something counts as refusing it (SECURITY 86); what cannot be seen from here is listed as not
//! checked. [`keys`] judges the keys one by one.

mod keys;

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use super::RelyingParty;
use crate::values::signature_algorithm::SignatureAlgorithm;

/// AWS gives up on the keys after so long.
const AWS_LIMIT: Duration = Duration::from_secs(5);
/// So long is near enough to be told.
const SLOW: Duration = Duration::from_secs(2);
/// More than that, others do not read.
const MAX_BYTES: usize = 100 * 1024;
/// The most keys that AWS reads of one kind.
const MAX_KEYS: usize = 100;
/// Longer than that nobody should keep keys that may have to be withdrawn.
const LONG_MAX_AGE: u64 = 24 * 3600;

/// What was seen of an issuer.
#[derive(Debug, Clone)]
pub struct SeenIssuer {
    /// As it was asked for.
    pub issuer_url: String,
    /// Whether its documents are where the internet reaches them.
    pub is_public: bool,
    /// `<issuer>/.well-known/openid-configuration`, or why it could not be had.
    pub discovery: Result<Document, String>,
    /// What its `jwks_uri` leads to; `None` when it names none.
    pub key_set: Option<Result<Document, String>>,
    /// How our own verifier judges the key set; it knows the cryptography, this crate does not.
    pub verdict: OwnVerdict,
    /// Whether its certificate was verified by authorities that the caller named, and not by those of the system.
    pub has_private_authority: bool,
}

/// How our own verifier judges a key set.
#[derive(Debug, Clone, Default)]
pub struct OwnVerdict {
    /// Why the whole set is refused.
    pub problem: Option<String>,
    /// Of each key in the order of the document, why it cannot be used; `None` when it can.
    pub keys: Vec<Option<String>>,
}

/// A document as it was answered.
#[derive(Debug, Clone)]
pub struct Document {
    /// The status.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Cache-Control`.
    pub cache_control: Option<String>,
    /// Whether it has an `ETag`.
    pub has_etag: bool,
    /// Its length, decompressed.
    pub bytes: usize,
    /// What it holds; `None` when it is no JSON object.
    pub json: Option<Value>,
    /// How long it took.
    pub elapsed: Duration,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at: a URL part, a field, a header.
    pub what: &'static str,
    /// The parties that refuse the issuer for it, or are not known to accept it. Empty: advice.
    pub refused_by: BTreeSet<RelyingParty>,
    /// Whether our own verifier refuses the issuer for it.
    pub refused_by_us: bool,
    /// What is wrong, and what to do.
    pub detail: String,
}

/// What was found, those that refuse first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// One by one.
    pub findings: Vec<Finding>,
    /// The algorithms of its usable keys.
    pub algorithms: BTreeSet<SignatureAlgorithm>,
    /// What was not looked at, so that nothing above says anything about it.
    pub not_checked: Vec<&'static str>,
}

/// What no look at the documents from here can show.
const NOT_CHECKED: [&str; 4] = [
    "whether each relying party reaches the issuer from its own network",
    "whether the issuer signs with the published keys, and which of them",
    "subjects, audiences, lifetimes and claims of its tokens",
    "the set-up at the relying parties; `countersign setup` prints it",
];

impl Diagnosis {
    /// Whether a relying party would verify tokens of the issuer.
    pub fn is_accepted_by(&self, party: RelyingParty) -> bool {
        !self.findings.iter().any(|finding| finding.refused_by.contains(&party))
    }

    /// Whether our own verifier would.
    pub fn is_accepted_by_us(&self) -> bool {
        !self.findings.iter().any(|finding| finding.refused_by_us)
    }

    /// What every party refuses, we refuse too.
    fn refuse(&mut self, by: impl IntoIterator<Item = RelyingParty>, what: &'static str, detail: impl Into<String>) {
        let refused_by: BTreeSet<RelyingParty> = by.into_iter().collect();
        let refused_by_us = refused_by.len() == RelyingParty::ALL.len();
        self.findings.push(Finding { what, refused_by, refused_by_us, detail: detail.into() });
    }

    fn advise(&mut self, what: &'static str, detail: impl Into<String>) {
        self.refuse([], what, detail);
    }
}

/// Looks an issuer over.
pub fn examine(seen: &SeenIssuer) -> Diagnosis {
    let mut diagnosis = Diagnosis { findings: Vec::new(), algorithms: BTreeSet::new(), not_checked: NOT_CHECKED.to_vec() };
    issuer_url(&seen.issuer_url, &mut diagnosis);
    if !seen.is_public {
        let far = RelyingParty::ALL.into_iter().filter(|party| party.is_on_the_internet());
        let detail =
            "it is at a private address, which nobody on the internet reaches: publish its documents elsewhere, under its URL";
        diagnosis.refuse(far, "issuer URL", detail);
    }
    if seen.has_private_authority {
        let detail = "its certificate comes from a private authority, which Google Cloud and Azure do not trust";
        diagnosis.refuse([RelyingParty::Gcp, RelyingParty::Azure], "certificate", detail);
        let detail = "AWS needs its thumbprint, Vault `oidc_discovery_ca_pem`, Kubernetes `certificateAuthority` and a trusted issuer \
                      `--issuer-ca-file`, as its certificate comes from a private authority";
        diagnosis.advise("certificate", detail);
    }
    match &seen.discovery {
        Err(why) => diagnosis.refuse(RelyingParty::ALL, "discovery document", format!("it cannot be read: {why}")),
        Ok(document) => discovery(seen, document, &mut diagnosis),
    }
    match &seen.key_set {
        None => {}
        Some(Err(why)) => diagnosis.refuse(RelyingParty::ALL, "key set", format!("it cannot be read: {why}")),
        Some(Ok(document)) => key_set(document, &seen.verdict, &mut diagnosis),
    }
    // Stable, so that those of one kind stay in the order in which a relying party meets them.
    diagnosis.findings.sort_by_key(|finding| finding.refused_by.is_empty() && !finding.refused_by_us);
    diagnosis
}

fn issuer_url(url: &str, diagnosis: &mut Diagnosis) {
    if !url.starts_with("https://") {
        diagnosis.refuse(RelyingParty::ALL, "issuer URL", "it must begin with https://");
    }
    if url.contains(['?', '#']) {
        diagnosis.refuse(RelyingParty::ALL, "issuer URL", "it must have neither query nor fragment");
    }
    if super::has_port(url) {
        let detail = "AWS takes no port in the URL of a provider: serve the issuer on 443";
        diagnosis.refuse([RelyingParty::Aws], "issuer URL", detail);
    }
}

/// Whether the document is one, whatever it says.
fn is_readable(what: &'static str, document: &Document, diagnosis: &mut Diagnosis) -> bool {
    if document.status != 200 {
        let redirect = if (300..400).contains(&document.status) { ": nobody follows a redirect for keys" } else { "" };
        diagnosis.refuse(RelyingParty::ALL, what, format!("it is answered with status {}{redirect}", document.status));
        return false;
    }
    if document.json.is_none() {
        diagnosis.refuse(RelyingParty::ALL, what, "it is no JSON object, or names a member twice");
        return false;
    }
    if document.bytes > MAX_BYTES {
        let detail = format!("it has {} bytes: many verifiers, this system among them, read at most {MAX_BYTES}", document.bytes);
        diagnosis.advise(what, detail);
    }
    if document.elapsed >= AWS_LIMIT {
        let detail = format!("it takes {} ms; AWS gives up after 5 s", document.elapsed.as_millis());
        diagnosis.refuse([RelyingParty::Aws], what, detail);
    } else if document.elapsed >= SLOW {
        diagnosis.advise(what, format!("it takes {} ms; AWS gives up after 5 s", document.elapsed.as_millis()));
    }
    true
}

fn discovery(seen: &SeenIssuer, document: &Document, diagnosis: &mut Diagnosis) {
    if !is_readable("discovery document", document, diagnosis) {
        return;
    }
    let json = document.json.as_ref();
    let text = |field: &str| json.and_then(|json| json.get(field)).and_then(Value::as_str);
    match text("issuer") {
        Some(issuer) if issuer == seen.issuer_url => {}
        Some(issuer) => {
            let slash = if issuer.trim_end_matches('/') == seen.issuer_url.trim_end_matches('/') {
                ": a slash at the end counts"
            } else {
                ""
            };
            let detail = format!("`issuer` says `{issuer}`, not `{}`{slash}", seen.issuer_url);
            diagnosis.refuse(RelyingParty::ALL, "discovery document", detail);
        }
        None => diagnosis.refuse(RelyingParty::ALL, "discovery document", "`issuer` is missing"),
    }
    match text("jwks_uri") {
        Some(uri) if uri.starts_with("https://") => {}
        Some(_) => diagnosis.refuse(RelyingParty::ALL, "discovery document", "`jwks_uri` must begin with https://"),
        None => diagnosis.refuse(RelyingParty::ALL, "discovery document", "`jwks_uri` is missing"),
    }
    let lists = ["response_types_supported", "subject_types_supported", "id_token_signing_alg_values_supported"];
    for field in lists {
        let is_there = json.and_then(|json| json.get(field)).and_then(Value::as_array).is_some_and(|list| !list.is_empty());
        if !is_there {
            let detail = format!("`{field}` is missing: OpenID Connect Discovery demands it, and AWS and Google look for it");
            diagnosis.refuse([RelyingParty::Aws, RelyingParty::Gcp], "discovery document", detail);
        }
    }
    caching("discovery document", document, diagnosis);
}

fn key_set(document: &Document, verdict: &OwnVerdict, diagnosis: &mut Diagnosis) {
    if !is_readable("key set", document, diagnosis) {
        return;
    }
    let keys = document.json.as_ref().and_then(|json| json.get("keys")).and_then(Value::as_array);
    let Some(keys) = keys.filter(|keys| !keys.is_empty()) else {
        return diagnosis.refuse(RelyingParty::ALL, "key set", "it holds no keys");
    };
    if keys.iter().any(|key| ["d", "p", "q", "dp", "dq", "qi", "oth", "k"].iter().any(|member| key.get(*member).is_some())) {
        let detail = "A PRIVATE KEY IS PUBLISHED: whoever read it can sign; withdraw it, and everything that trusts it, now";
        diagnosis.refuse(RelyingParty::ALL, "key set", detail);
    }
    if keys.len() > MAX_KEYS {
        diagnosis.refuse([RelyingParty::Aws], "key set", format!("it holds {} keys; AWS reads at most {MAX_KEYS}", keys.len()));
    }
    if let Some(problem) = &verdict.problem {
        let detail = format!("this deployment refuses the whole set: {problem}");
        let what = "key set";
        diagnosis.findings.push(Finding { what, refused_by: BTreeSet::new(), refused_by_us: true, detail });
    }
    keys::judge(keys, verdict, diagnosis);
    caching("key set", document, diagnosis);
}

fn caching(what: &'static str, document: &Document, diagnosis: &mut Diagnosis) {
    let directives = document.cache_control.as_deref().unwrap_or_default().to_ascii_lowercase();
    let max_age = directives.split(',').find_map(|directive| directive.trim().strip_prefix("max-age=")?.parse::<u64>().ok());
    let detail = match max_age {
        _ if directives.contains("no-store") => "`no-store`: every verifier asks each time, and none when it is down",
        None => "no `max-age`: each verifier chooses by itself how long to keep it, so that a rotation waits for the slowest",
        Some(age) if age > LONG_MAX_AGE => "`max-age` is over a day: a key that must be withdrawn stays trusted for as long",
        Some(_) => return,
    };
    diagnosis.advise(what, detail);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const URL: &str = "https://id.example.com/a";

    fn document(json: Value) -> Document {
        Document {
            status: 200,
            content_type: Some("application/json".to_owned()),
            cache_control: Some("public, max-age=300".to_owned()),
            has_etag: true,
            bytes: json.to_string().len(),
            json: Some(json),
            elapsed: Duration::from_millis(80),
        }
    }

    fn good() -> SeenIssuer {
        SeenIssuer {
            issuer_url: URL.to_owned(),
            is_public: true,
            discovery: Ok(document(json!({
                "issuer": URL, "jwks_uri": format!("{URL}/jwks"), "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["RS256"],
            }))),
            key_set: Some(Ok(document(json!({"keys": [
                {"kty": "RSA", "kid": "1", "use": "sig", "alg": "RS256", "n": "wX", "e": "AQAB"},
                {"kty": "EC", "kid": "2", "crv": "P-384"},
            ]})))),
            verdict: OwnVerdict { problem: None, keys: vec![None, None] },
            has_private_authority: false,
        }
    }

    fn with(change: impl FnOnce(&mut SeenIssuer)) -> Diagnosis {
        let mut seen = good();
        change(&mut seen);
        examine(&seen)
    }

    fn discovery_field(field: &str, value: Value) -> Diagnosis {
        with(|seen| seen.discovery.as_mut().unwrap().json.as_mut().unwrap()[field] = value)
    }

    fn keys(keys: &Value) -> Diagnosis {
        with(|seen| {
            seen.verdict.keys = vec![None; keys.as_array().map_or(0, Vec::len)];
            seen.key_set = Some(Ok(document(json!({ "keys": keys }))));
        })
    }

    /// Who refuses, and the first reason.
    fn refused(diagnosis: &Diagnosis) -> (Vec<&'static str>, &str) {
        let refusing = RelyingParty::ALL.into_iter().filter(|party| !diagnosis.is_accepted_by(*party));
        (refusing.map(RelyingParty::as_str).collect(), diagnosis.findings.first().map_or("", |finding| &finding.detail))
    }

    #[test]
    fn an_issuer_as_it_should_be_has_nothing_to_be_told() {
        let diagnosis = examine(&good());
        assert_eq!(diagnosis.findings, []);
        assert_eq!(diagnosis.algorithms, BTreeSet::from([SignatureAlgorithm::Rs256, SignatureAlgorithm::Es384]));
    }

    #[test]
    fn each_fault_is_told_with_those_who_refuse_for_it() {
        const ALL: [&str; 5] = ["aws", "gcp", "azure", "vault", "kubernetes"];
        let es256 = json!([{"kty": "EC", "kid": "1", "crv": "P-256", "alg": "ES256"}]);
        let ed25519 = json!([{"kty": "OKP", "kid": "1", "crv": "Ed25519"}]);
        let rsa = |id: &str, n: &str| json!({"kty": "RSA", "kid": id, "alg": "RS256", "n": n, "e": "AQAB"});
        let slow = |seconds| with(move |seen| seen.discovery.as_mut().unwrap().elapsed = Duration::from_secs(seconds));
        let cases: [(Diagnosis, &[&str], &str); 16] = [
            (with(|seen| seen.issuer_url = "http://id.example.com/a".to_owned()), &ALL, "https://"),
            (with(|seen| seen.issuer_url = "https://id.example.com:8443/a".to_owned()), &ALL, "no port"),
            (with(|seen| seen.is_public = false), &["aws", "gcp", "azure"], "private address"),
            (with(|seen| seen.discovery = Err("no answer".to_owned())), &ALL, "no answer"),
            (with(|seen| seen.discovery.as_mut().unwrap().status = 302), &ALL, "redirect"),
            (with(|seen| seen.key_set.as_mut().unwrap().as_mut().unwrap().json = None), &ALL, "no JSON"),
            (discovery_field("issuer", json!(format!("{URL}/"))), &ALL, "slash at the end counts"),
            (discovery_field("jwks_uri", json!("http://id.example.com/jwks")), &ALL, "`jwks_uri` must"),
            (discovery_field("subject_types_supported", json!([])), &["aws", "gcp"], "subject_types_supported"),
            (slow(6), &["aws"], "gives up after 5 s"),
            (keys(&json!([])), &ALL, "no keys"),
            (keys(&es256), &["azure"], "Azure verifies RS256 only"),
            (keys(&ed25519), &["aws", "gcp", "azure", "kubernetes"], "verifies"),
            (keys(&json!([rsa("1", "wX"), rsa("1", "wY")])), &ALL, "one `kid`"),
            (keys(&json!([{"kty": "RSA", "alg": "RS256"}])), &["aws", "gcp", "azure"], "no `kid`"),
            (keys(&json!([{"kty": "RSA", "kid": "1", "alg": "RS256", "d": "x"}])), &ALL, "PRIVATE KEY"),
        ];
        for (diagnosis, parties, words) in &cases {
            let (refusing, first) = refused(diagnosis);
            assert_eq!(refusing, *parties, "{diagnosis:?}");
            assert!(first.contains(words), "{first}: {words}");
        }
    }

    #[test]
    fn what_could_be_better_refuses_nobody() {
        let header = |value: Option<&str>| {
            let value = value.map(str::to_owned);
            with(move |seen| seen.key_set.as_mut().unwrap().as_mut().unwrap().cache_control = value)
        };
        for (diagnosis, words) in [
            (header(None), "no `max-age`"),
            (header(Some("no-store")), "`no-store`"),
            (header(Some("public, max-age=604800")), "over a day"),
            (with(|seen| seen.discovery.as_mut().unwrap().elapsed = Duration::from_secs(3)), "3000 ms"),
        ] {
            let (refusing, first) = refused(&diagnosis);
            assert!(refusing.is_empty() && first.contains(words), "{first}: {words}");
        }
    }
}
