//! Reading a discovery document (OpenID Connect Discovery 1.0, section 3).

use countersign_domain::values::issuer_url::{InvalidUrl, IssuerUrl, KeySetUrl, LoopbackHttp};
use countersign_jose::json::{self, InvalidJson};
use serde_json::Value;
use url::Url;

/// Why a discovery document does not tell where the keys are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidDocument {
    #[error("the discovery document is refused: {0}")]
    Json(#[from] InvalidJson),
    /// `issuer` is not there or not a string.
    #[error("the discovery document names no issuer")]
    NoIssuer,
    /// Not byte for byte the issuer that was asked (SECURITY 15).
    #[error("the discovery document is of another issuer")]
    OtherIssuer,
    #[error("jwks_uri is absent or not a string")]
    NoKeySetUrl,
    #[error("jwks_uri is refused: it {0}")]
    KeySetUrl(#[from] InvalidUrl),
    /// Keys elsewhere must be pinned by an operator (SECURITY 40).
    #[error("jwks_uri is not on the issuer's host")]
    OtherHost,
}

/// Where the document of an issuer says its keys are.
pub(crate) fn key_set_url(
    document: &[u8],
    issuer: &IssuerUrl,
    loopback_http: LoopbackHttp,
) -> Result<KeySetUrl, InvalidDocument> {
    let members = json::parse_object(document)?;
    if members.get("issuer").and_then(Value::as_str).ok_or(InvalidDocument::NoIssuer)? != issuer.as_str() {
        return Err(InvalidDocument::OtherIssuer);
    }
    let url = members.get("jwks_uri").and_then(Value::as_str).ok_or(InvalidDocument::NoKeySetUrl)?;
    let url = KeySetUrl::parse_discovered(url, loopback_http)?;
    if origin(url.as_str()) != origin(issuer.as_str()) {
        return Err(InvalidDocument::OtherHost);
    }
    Ok(url)
}

/// Scheme, host and port: another port is another server, whoever runs it.
fn origin(url: &str) -> Option<url::Origin> {
    Url::parse(url).ok().map(|url| url.origin())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ISSUER: &str = "https://issuer.example/tenant";

    fn read(document: &str) -> Result<String, InvalidDocument> {
        let issuer = IssuerUrl::parse(ISSUER, LoopbackHttp::Refused).unwrap();
        key_set_url(document.as_bytes(), &issuer, LoopbackHttp::Refused).map(String::from)
    }

    fn with_url(url: &str) -> Result<String, InvalidDocument> {
        read(&serde_json::json!({"issuer": ISSUER, "jwks_uri": url}).to_string())
    }

    #[test]
    fn the_key_set_is_where_the_document_says() {
        for url in ["https://issuer.example/keys", "https://issuer.example/tenant/keys?v=1"] {
            assert_eq!(with_url(url), Ok(url.to_owned()));
        }
    }

    #[test]
    fn s40_the_host_is_compared_in_its_canonical_form() {
        for url in [
            "https://issuer.example:443/keys",
            "https://ISSUER.example/keys",
            "https://Issuer.Example:443/keys",
            "HTTPS://issuer.EXAMPLE/keys",
        ] {
            assert_eq!(with_url(url), Ok("https://issuer.example/keys".to_owned()), "{url}");
        }
        for url in ["https://OTHER.example:443/keys", "https://ISSUER.example:8443/keys", "https://issuer.example:80/keys"] {
            assert_eq!(with_url(url), Err(InvalidDocument::OtherHost), "{url}");
        }
    }

    #[test]
    fn s15_a_document_of_another_issuer_is_refused() {
        for issuer in ["https://issuer.example/tenant/", "https://issuer.example", "https://issuer.example/Tenant", ""] {
            let document = serde_json::json!({"issuer": issuer, "jwks_uri": "https://issuer.example/keys"}).to_string();
            assert_eq!(read(&document), Err(InvalidDocument::OtherIssuer), "{issuer}");
        }
        assert_eq!(read(r#"{"jwks_uri":"https://issuer.example/keys"}"#), Err(InvalidDocument::NoIssuer));
        assert_eq!(
            read(r#"{"issuer":["https://issuer.example/tenant"],"jwks_uri":"https://issuer.example/keys"}"#),
            Err(InvalidDocument::NoIssuer)
        );
    }

    #[test]
    fn s40_keys_on_another_host_are_refused() {
        for url in [
            "https://keys.example/keys",
            "https://issuer.example.evil.example/keys",
            "https://sub.issuer.example/keys",
            "https://issuer.example:8443/keys",
        ] {
            assert_eq!(with_url(url), Err(InvalidDocument::OtherHost), "{url}");
        }
    }

    #[test]
    fn s38_the_key_set_url_is_held_to_the_same_rules() {
        for (url, error) in [
            ("http://issuer.example/keys", InvalidUrl::NotHttps),
            ("http://127.0.0.1/keys", InvalidUrl::NotHttps),
            ("https://user@issuer.example/keys", InvalidUrl::UserInfo),
            ("https://issuer.example/keys#f", InvalidUrl::Fragment),
            ("https://issuer.example./keys", InvalidUrl::NotCanonical),
            ("https://ISSUER.example/a/../keys", InvalidUrl::NotCanonical),
            ("/keys", InvalidUrl::NotCanonical),
            ("file:///etc/passwd", InvalidUrl::NotCanonical),
        ] {
            assert_eq!(with_url(url), Err(InvalidDocument::KeySetUrl(error)), "{url}");
        }
    }

    #[test]
    fn s10_a_member_that_occurs_twice_refuses_the_document() {
        let document =
            format!(r#"{{"issuer":"{ISSUER}","jwks_uri":"https://issuer.example/a","jwks_uri":"https://issuer.example/b"}}"#);
        assert_eq!(read(&document), Err(InvalidDocument::Json(InvalidJson::DuplicateMember)));
    }

    #[test]
    fn s44_what_is_no_discovery_document_is_refused() {
        for document in ["", "null", "[]", "<html>", "{", r#""https://issuer.example/keys""#] {
            assert!(matches!(read(document), Err(InvalidDocument::Json(_))), "{document}");
        }
        assert_eq!(read(&format!(r#"{{"issuer":"{ISSUER}","jwks_uri":7}}"#)), Err(InvalidDocument::NoKeySetUrl));
    }
}
