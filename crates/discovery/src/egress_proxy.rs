//! The proxy through which issuers are reached, where nothing may connect to the outside by itself.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use http::header::InvalidHeaderValue;
use percent_encoding::percent_decode_str;
use url::Url;

use crate::server::Server;

/// An HTTP proxy for every request to an issuer. Each goes through a tunnel of its own (`CONNECT`), TLS being with the issuer.
///
/// The proxy resolves names and dials, so it takes over the check of what may be dialled (SECURITY 39); hosts that are written as
/// addresses are still checked here. It comes from the settings alone, never from the environment (SECURITY 47). Its URL may hold
/// a password, so it is masked.
#[derive(Clone)]
pub struct EgressProxy {
    server: Server,
    credentials: Option<HeaderValue>,
}

/// Why a text is not the address of a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be http[s]://[user:password@]host[:port]")]
pub struct InvalidProxyUrl;

impl FromStr for EgressProxy {
    type Err = InvalidProxyUrl;

    fn from_str(text: &str) -> Result<Self, InvalidProxyUrl> {
        let url = Url::parse(text).map_err(|_| InvalidProxyUrl)?;
        let is_plain = matches!(url.scheme(), "http" | "https") && url.path() == "/" && url.query().is_none();
        if !is_plain || url.fragment().is_some() || url.host().is_none() {
            return Err(InvalidProxyUrl);
        }
        let server = Server::try_from(&url).map_err(|_| InvalidProxyUrl)?;
        let credentials = credentials(&url).map_err(|_| InvalidProxyUrl)?;
        Ok(Self { server, credentials })
    }
}

impl EgressProxy {
    /// Where it is, without credentials.
    pub(crate) fn address(&self) -> String {
        self.server.origin.to_string().trim_end_matches('/').to_owned()
    }

    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    /// What it is to be told in `Proxy-Authorization` (RFC 7617).
    pub(crate) fn credentials(&self) -> Option<&HeaderValue> {
        self.credentials.as_ref()
    }
}

fn credentials(url: &Url) -> Result<Option<HeaderValue>, InvalidHeaderValue> {
    if url.username().is_empty() && url.password().is_none() {
        return Ok(None);
    }
    let mut plain: Vec<u8> = percent_decode_str(url.username()).collect();
    plain.push(b':');
    plain.extend(percent_decode_str(url.password().unwrap_or_default()));
    let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(plain)))?;
    value.set_sensitive(true);
    Ok(Some(value))
}

impl fmt::Debug for EgressProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EgressProxy({})", self.address())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s61_the_password_of_a_proxy_is_not_printed() {
        let proxy: EgressProxy = "http://user:hunter2@proxy.example:3128".parse().unwrap();
        assert_eq!(format!("{proxy:?}"), "EgressProxy(http://proxy.example:3128)");
    }

    #[test]
    fn a_proxy_is_an_origin() {
        for text in ["http://proxy.example", "https://proxy.example:3128", "http://10.0.0.1:3128/"] {
            assert!(text.parse::<EgressProxy>().is_ok(), "{text}");
        }
        for text in ["", "proxy.example:3128", "socks5://proxy.example", "http://proxy.example/path", "http://a?b", "http://a#b"]
        {
            assert_eq!(text.parse::<EgressProxy>().map(|_| ()), Err(InvalidProxyUrl), "{text}");
        }
    }
}
