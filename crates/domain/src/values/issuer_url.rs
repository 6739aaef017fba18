//! Issuer URLs: exact names that happen to be URLs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use url::{Host, Url};

/// The most bytes of a URL.
const MAX_BYTES: usize = 512;

/// Why a text is not an acceptable issuer or key set URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUrl {
    /// More than 512 bytes.
    #[error("must be at most 512 bytes long")]
    TooLong,
    /// Not a URL, or one that a URL parser would silently rewrite.
    #[error("must be a canonical URL: lower-case host, no default port, no trailing dot, nothing to repair")]
    NotCanonical,
    /// Neither https nor, where development allows it, http to a loopback address.
    #[error("must begin with https://")]
    NotHttps,
    /// User name or password.
    #[error("must not hold a user name or password")]
    UserInfo,
    /// A query.
    #[error("must not hold a query")]
    Query,
    /// A fragment.
    #[error("must not hold a fragment")]
    Fragment,
}

/// Whether `http://` to a loopback host is an acceptable URL. Only development allows it (SECURITY 38).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoopbackHttp {
    /// https only.
    #[default]
    Refused,
    /// `http://localhost`, `http://127.0.0.0/8` and `http://[::1]` too.
    Allowed,
}

/// The exact `iss` of an issuer. Compared byte for byte; a trailing slash is part of the name.
///
/// Holding one says that the text is a canonical URL; whether http is acceptable was decided when it was made by
/// [`IssuerUrl::parse`]. Reading a stored one back does not decide again.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IssuerUrl(Box<str>);

/// Where a key set is read. Like an [`IssuerUrl`], but may have a query.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeySetUrl(Box<str>);

impl IssuerUrl {
    /// Checks an issuer URL that an operator wrote.
    pub fn parse(text: &str, loopback_http: LoopbackHttp) -> Result<Self, InvalidUrl> {
        let url = canonical(text, loopback_http)?;
        if url.query().is_some() {
            return Err(InvalidUrl::Query);
        }
        Ok(Self(text.into()))
    }

    /// The URL as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where OpenID Connect Discovery 1.0, section 4, puts the discovery document: the issuer, less a trailing slash, and the
    /// well-known path.
    pub fn discovery_url(&self) -> String {
        format!("{}/.well-known/openid-configuration", self.0.trim_end_matches('/'))
    }
}

impl KeySetUrl {
    /// Checks the `jwks_uri` of a discovery document, which no operator can correct.
    ///
    /// Unlike in a URL that an operator writes, scheme and host can have any case and the default port can be explicit (RFC 3986,
    /// sections 6.2.2.1 and 6.2.3): the result has them in their canonical form. Nothing else is repaired.
    pub fn parse_discovered(text: &str, loopback_http: LoopbackHttp) -> Result<Self, InvalidUrl> {
        if text.len() > MAX_BYTES {
            return Err(InvalidUrl::TooLong);
        }
        Self::parse(&with_canonical_origin(text), loopback_http)
    }

    /// Checks a key set URL that an operator wrote.
    pub fn parse(text: &str, loopback_http: LoopbackHttp) -> Result<Self, InvalidUrl> {
        canonical(text, loopback_http)?;
        Ok(Self(text.into()))
    }

    /// The URL as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The same URL with scheme and host in lower case and without the default port. What is no such URL stays as it is.
fn with_canonical_origin(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let scheme = scheme.to_ascii_lowercase();
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let authority = authority.to_ascii_lowercase();
    let port = match scheme.as_str() {
        "https" => ":443",
        "http" => ":80",
        _ => "",
    };
    // Behind another port it is no port.
    let is_host = |host: &&str| host.ends_with(']') || !host.contains(':');
    let host = authority.strip_suffix(port).filter(is_host).unwrap_or(&authority);
    format!("{scheme}://{host}{path}")
}

/// Accepts only what the `url` crate would leave as it is, since it repairs tabs, newlines, backslashes, upper case and default
/// ports silently.
fn canonical(text: &str, loopback_http: LoopbackHttp) -> Result<Url, InvalidUrl> {
    if text.len() > MAX_BYTES {
        return Err(InvalidUrl::TooLong);
    }
    let url = Url::parse(text).map_err(|_| InvalidUrl::NotCanonical)?;
    let host = url.host().ok_or(InvalidUrl::NotCanonical)?;
    match url.scheme() {
        "https" => {}
        "http" if loopback_http == LoopbackHttp::Allowed && is_loopback(&host) => {}
        _ => return Err(InvalidUrl::NotHttps),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(InvalidUrl::UserInfo);
    }
    if url.fragment().is_some() {
        return Err(InvalidUrl::Fragment);
    }
    if matches!(&host, Host::Domain(name) if name.ends_with('.') || name.is_empty()) {
        return Err(InvalidUrl::NotCanonical);
    }
    // The parser writes an empty path as `/`; `https://host` without it is the usual form of an issuer.
    let written = url.as_str();
    let unchanged = written == text || url.path() == "/" && written.strip_suffix('/') == Some(text);
    if unchanged { Ok(url) } else { Err(InvalidUrl::NotCanonical) }
}

fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => *name == "localhost",
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

macro_rules! url_text {
    ($name:ident) => {
        impl FromStr for $name {
            type Err = InvalidUrl;

            fn from_str(text: &str) -> Result<Self, InvalidUrl> {
                Self::parse(text, LoopbackHttp::Allowed)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidUrl;

            fn try_from(text: String) -> Result<Self, InvalidUrl> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(url: $name) -> String {
                url.0.into()
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

url_text!(IssuerUrl);
url_text!(KeySetUrl);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s38_issuers_of_the_field_are_accepted_as_written() {
        for text in [
            "https://cloud.rwx.com/mint",
            "https://cognito-identity.amazonaws.com",
            "https://sts.windows.net/00000000-0000-0000-0000-000000000000/",
            "https://8a1b.tokens.sts.global.api.aws",
            "https://oidc.circleci.com/org/11111111-1111-1111-1111-111111111111",
            "https://kubernetes.default.svc.cluster.local",
            "https://gitlab.example.com:8443",
        ] {
            assert_eq!(IssuerUrl::parse(text, LoopbackHttp::Refused).unwrap().as_str(), text);
        }
    }

    #[test]
    fn s38_what_a_url_parser_would_repair_is_refused() {
        for text in [
            "https://EXAMPLE.com",
            "https://example.com:443",
            "https://example.com.",
            "https://exa\tmple.com",
            "https://example.com\n",
            " https://example.com",
            "https:\\\\example.com",
            "https://example.com\\a",
            "https://example.com/a/../b",
            "https://ex%61mple.com",
            "https://0x7f.1",
            "https:example.com",
            "https://user@example.com",
            "https://user:pw@example.com",
            "https://@example.com",
            "https://example.com/?q",
            "https://example.com/#f",
            "http://example.com",
            "ftp://example.com",
            "example.com",
            "",
        ] {
            assert!(IssuerUrl::parse(text, LoopbackHttp::Allowed).is_err(), "{text:?}");
        }
    }

    #[test]
    fn s38_loopback_http_needs_the_development_switch() {
        for text in ["http://localhost:7401/rwx", "http://127.0.0.1:7401", "http://[::1]:7401/a"] {
            assert_eq!(IssuerUrl::parse(text, LoopbackHttp::Refused), Err(InvalidUrl::NotHttps));
            assert!(IssuerUrl::parse(text, LoopbackHttp::Allowed).is_ok(), "{text}");
        }
        assert_eq!(IssuerUrl::parse("http://10.0.0.1", LoopbackHttp::Allowed), Err(InvalidUrl::NotHttps));
    }

    #[test]
    fn s38_a_discovered_url_can_spell_its_origin_in_other_ways() {
        for (text, canonical) in [
            ("https://idp.example/keys", "https://idp.example/keys"),
            ("https://idp.example:443/x/keys", "https://idp.example/x/keys"),
            ("https://IDP.example/keys", "https://idp.example/keys"),
            ("HTTPS://Idp.Example:443/Keys?A=B", "https://idp.example/Keys?A=B"),
            ("https://IDP.example:443", "https://idp.example"),
            ("https://idp.example:8443/keys", "https://idp.example:8443/keys"),
            ("https://idp.example:4430/keys", "https://idp.example:4430/keys"),
            ("https://[2001:DB8::1]:443/keys", "https://[2001:db8::1]/keys"),
            ("http://LOCALHOST:80/keys", "http://localhost/keys"),
            ("http://127.0.0.1:7401/keys:80", "http://127.0.0.1:7401/keys:80"),
        ] {
            let read = KeySetUrl::parse_discovered(text, LoopbackHttp::Allowed).map(String::from);
            assert_eq!(read, Ok(canonical.to_owned()), "{text}");
        }
    }

    #[test]
    fn s38_nothing_else_of_a_discovered_url_is_repaired() {
        for (text, error) in [
            ("https://idp.example./keys", InvalidUrl::NotCanonical),
            ("https://idp.example:/keys", InvalidUrl::NotCanonical),
            ("https://idp.example:0443/keys", InvalidUrl::NotCanonical),
            ("https://idp.example:443:443/keys", InvalidUrl::NotCanonical),
            ("https://idp.example:8443:443/keys", InvalidUrl::NotCanonical),
            ("https://idp.exam\tple/keys", InvalidUrl::NotCanonical),
            ("https://idp.example/ke\nys", InvalidUrl::NotCanonical),
            (" https://idp.example/keys", InvalidUrl::NotCanonical),
            ("https:\\\\idp.example\\keys", InvalidUrl::NotCanonical),
            ("https://idp.example\\keys", InvalidUrl::NotCanonical),
            ("https://idp.example/a/../keys", InvalidUrl::NotCanonical),
            ("https://id%70.example/keys", InvalidUrl::NotCanonical),
            ("https://B\u{fc}cher.example/keys", InvalidUrl::NotCanonical),
            ("https://\u{212a}.example/keys", InvalidUrl::NotCanonical),
            ("https://0x7f.1:443/keys", InvalidUrl::NotCanonical),
            ("https:idp.example/keys", InvalidUrl::NotCanonical),
            ("https://IDP.example?a", InvalidUrl::NotCanonical),
            ("/keys", InvalidUrl::NotCanonical),
            ("://idp.example/keys", InvalidUrl::NotCanonical),
            ("https://USER@idp.example:443/keys", InvalidUrl::UserInfo),
            ("https://IDP.example:443/keys#f", InvalidUrl::Fragment),
            ("http://idp.example:80/keys", InvalidUrl::NotHttps),
            ("https://idp.example:80@evil.example/keys", InvalidUrl::UserInfo),
        ] {
            assert_eq!(KeySetUrl::parse_discovered(text, LoopbackHttp::Refused), Err(error), "{text:?}");
        }
        let long = |bytes: usize| format!("https://idp.example:443/{}", "k".repeat(bytes - 24));
        assert!(KeySetUrl::parse_discovered(&long(512), LoopbackHttp::Refused).is_ok());
        assert_eq!(KeySetUrl::parse_discovered(&long(513), LoopbackHttp::Refused), Err(InvalidUrl::TooLong));
        // What an operator writes is refused as before.
        for text in ["https://idp.example:443/keys", "https://IDP.example/keys", "HTTPS://idp.example/keys"] {
            assert_eq!(KeySetUrl::parse(text, LoopbackHttp::Refused), Err(InvalidUrl::NotCanonical), "{text}");
        }
    }

    #[test]
    fn s24_a_trailing_slash_is_part_of_the_name() {
        let with = IssuerUrl::parse("https://example.com/", LoopbackHttp::Refused).unwrap();
        let without = IssuerUrl::parse("https://example.com", LoopbackHttp::Refused).unwrap();
        assert_ne!(with, without);
        assert_eq!(with.discovery_url(), without.discovery_url());
    }
}
