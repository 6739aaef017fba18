//! What must hold of every discovery document, as `countersign_jose::fuzzing` says it of other inputs.

#![expect(clippy::missing_panics_doc, reason = "panicking is how a target says that something does not hold")]

use countersign_domain::values::issuer_url::{IssuerUrl, LoopbackHttp};
use serde_json::Value;
use url::Url;

use crate::document::key_set_url;

/// The issuer whose documents are in the corpus.
const ISSUER: &str = "https://issuer.example/tenant";

/// A discovery document. Accepted where it says where the keys are.
pub fn document(bytes: &[u8]) -> bool {
    let Ok(issuer) = IssuerUrl::parse(ISSUER, LoopbackHttp::Refused) else { return false };
    let Ok(url) = key_set_url(bytes, &issuer, LoopbackHttp::Refused) else { return false };
    let members = serde_json::from_slice::<Value>(bytes).unwrap_or_default();
    assert_eq!(members["issuer"], ISSUER);
    // Its origin may be spelled in another way; nothing else is changed.
    let written = members["jwks_uri"].as_str().and_then(|written| Url::parse(written).ok());
    assert_eq!(written.as_ref().map(Url::as_str), Some(url.as_str()), "it is taken as it stands");
    let parsed = Url::parse(url.as_str());
    assert!(parsed.is_ok_and(|parsed| {
        parsed.scheme() == "https"
            && parsed.host_str() == Some("issuer.example")
            && parsed.port_or_known_default() == Some(443)
            && parsed.username().is_empty()
            && parsed.password().is_none()
            && parsed.fragment().is_none()
    }));
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s68_every_seed_is_judged_as_its_name_says() {
        assert_eq!(countersign_jose::fuzzing::check_corpus("document", document).unwrap(), [""; 0]);
    }
}
