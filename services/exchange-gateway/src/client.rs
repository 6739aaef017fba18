//! What the headers of a token request say about its client. The metadata of a gRPC call are headers too, so both wires share this.
//!
//! A header that names or authenticates the client, or asks for a token that is bound to a key, is obeyed or refused, never ignored
//! (SECURITY 79, 80). These are the headers that do so:
//!
//! | header | what becomes of it |
//! |---|---|
//! | `Authorization` | `Basic` with an id and an empty password names the client (RFC 6749, section 2.3.1); anything else is refused |
//! | `DPoP` | refused: proofs (RFC 9449) are not checked yet, and a bearer token is not what the client asked for |
//! | `Client-Cert`, `Client-Cert-Chain` | refused: a proxy reports the client's certificate (RFC 9440), and no client is known by one |
//! | `OAuth-Client-Attestation`, `OAuth-Client-Attestation-PoP` | refused: the client authenticates by an attestation |
//!
//! No public listener asks for a client certificate itself. `X-Forwarded-Client-Cert` is ignored, like every other forwarded
//! header (SECURITY 70): service meshes add it to each request, with the certificate of the sidecar in place of the client's.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, header};
use percent_encoding::percent_decode_str;

use crate::request::{Concern, RequestReader};

/// The field of violations in `Authorization`.
pub(crate) const AUTHORIZATION: &str = "Authorization";

/// Headers that are refused whatever they hold, an empty value included.
const UNSUPPORTED: [(&str, &str, Concern, &str); 5] = [
    (
        "dpop",
        "DPoP",
        Concern::Proof,
        "is not supported: proofs of possession are not checked yet, and the access token would not be bound to the proof's key",
    ),
    ("client-cert", "Client-Cert", Concern::Client, "is not supported: no client authenticates by a certificate"),
    ("client-cert-chain", "Client-Cert-Chain", Concern::Client, "is not supported: no client authenticates by a certificate"),
    (
        "oauth-client-attestation",
        "OAuth-Client-Attestation",
        Concern::Client,
        "is not supported: no client authenticates by an attestation",
    ),
    (
        "oauth-client-attestation-pop",
        "OAuth-Client-Attestation-PoP",
        Concern::Client,
        "is not supported: no client authenticates by an attestation",
    ),
];

/// Reads what the headers say about the client, and notes what is refused. Returns the client that `Authorization` names.
pub(crate) fn read_headers(headers: &HeaderMap, reader: &mut RequestReader<'_>) -> Option<String> {
    for (name, field, concern, description) in UNSUPPORTED {
        if headers.contains_key(name) {
            reader.violation(concern, field, description);
        }
    }
    match basic_user(headers) {
        Ok(user) => user,
        Err(description) => {
            reader.violation(Concern::Client, AUTHORIZATION, description);
            None
        }
    }
}

/// The client id in `Authorization: Basic`, decoded as RFC 6749, section 2.3.1, encodes it. `None` without the header.
fn basic_user(headers: &HeaderMap) -> Result<Option<String>, &'static str> {
    const UNREADABLE: &str = "must be `Basic` and the base64 of a client id and a colon (RFC 7617)";
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err("must not be given more than once");
    }
    let (scheme, credentials) = value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or(UNREADABLE)?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err("must use the scheme Basic: the subject token is the credential, and belongs in the body");
    }
    let decoded = STANDARD.decode(credentials.trim_matches(' ')).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let decoded = decoded.ok_or(UNREADABLE)?;
    let (user, password) = decoded.split_once(':').ok_or(UNREADABLE)?;
    if !password.is_empty() {
        return Err("must have an empty password, because no client has a secret");
    }
    let user = user.replace('+', " ");
    let user = percent_decode_str(&user).decode_utf8().map(Cow::into_owned).map_err(|_| UNREADABLE)?;
    Ok(Some(user))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn check(values: &[&str]) -> Result<Option<String>, &'static str> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        basic_user(&headers)
    }

    fn basic(credentials: &str) -> String {
        format!("Basic {}", STANDARD.encode(credentials))
    }

    #[test]
    fn s80_basic_with_an_empty_password_names_the_client() {
        assert_eq!(check(&[]), Ok(None));
        for (credentials, client) in
            [("tr_1:", "tr_1"), ("tr%5F1:", "tr_1"), ("a%3Ab:", "a:b"), ("a+b:", "a b"), ("a%2Bb:", "a+b"), (":", "")]
        {
            assert_eq!(check(&[&basic(credentials)]), Ok(Some(client.to_owned())), "{credentials}");
        }
        let encoded = STANDARD.encode("tr_1:");
        for scheme in ["basic", "BASIC", "Basic "] {
            assert_eq!(check(&[&format!("{scheme} {encoded}")]), Ok(Some("tr_1".to_owned())), "{scheme}");
        }
    }

    #[test]
    fn s80_every_other_authorization_is_refused() {
        let token = STANDARD.encode("tr_1:");
        for value in [
            "",
            "Basic",
            "Basic ",
            "Basic !",
            "Basic dHJfMTo",
            "Basic dHJfMTo=,",
            "Basic\tdHJfMTo=",
            &basic("tr_1"),
            &basic(""),
            &basic("tr_1:secret"),
            &basic("tr_1: "),
            &basic("tr_1::"),
            &basic("tr_1:%00"),
            &format!("Bearer {token}"),
            &format!("DPoP {token}"),
            &format!("Negotiate {token}"),
            &format!("Basic{token}"),
            &token,
            "\u{e9}",
            &format!("Basic {}", STANDARD.encode([b't', 0xff, b':'])),
            &basic("%ff:"),
        ] {
            assert!(check(&[value]).is_err(), "{value}");
        }
        assert!(check(&[&basic("tr_1:"), &basic("tr_1:")]).is_err(), "two headers, even equal ones");
    }
}
