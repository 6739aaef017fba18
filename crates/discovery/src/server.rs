//! Where a URL leads.

use std::net::IpAddr;

use http::Uri;
use rustls::pki_types::ServerName;
use url::{Host, Url};

/// What must be known of a server to speak with it.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    /// Scheme, host and, in any case, port.
    pub(crate) origin: Uri,
    /// Whom its certificate must name.
    pub(crate) name: ServerName<'static>,
    /// Whether it is spoken to without TLS.
    pub(crate) is_plain: bool,
}

/// The URL's host can be that of no server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the url leads to no server")]
pub(crate) struct NoServer;

impl TryFrom<&Url> for Server {
    type Error = NoServer;

    fn try_from(url: &Url) -> Result<Self, NoServer> {
        let name = match url.host().ok_or(NoServer)? {
            Host::Ipv4(address) => IpAddr::V4(address).into(),
            Host::Ipv6(address) => IpAddr::V6(address).into(),
            Host::Domain(name) => ServerName::try_from(name.to_owned()).map_err(|_| NoServer)?,
        };
        let (host, port) = (url.host_str().ok_or(NoServer)?, url.port_or_known_default().ok_or(NoServer)?);
        let origin = format!("{}://{host}:{port}", url.scheme()).parse().map_err(|_| NoServer)?;
        Ok(Self { origin, name, is_plain: url.scheme() == "http" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(url: &str) -> Result<Server, NoServer> {
        Server::try_from(&Url::parse(url).unwrap())
    }

    #[test]
    fn a_url_leads_to_a_port_and_a_name() {
        for (url, origin, name, is_plain) in [
            ("https://issuer.example/a?b", "https://issuer.example:443/", "issuer.example", false),
            ("https://issuer.example:8443", "https://issuer.example:8443/", "issuer.example", false),
            ("https://user:password@issuer.example", "https://issuer.example:443/", "issuer.example", false),
            ("https://_issuer.example", "https://_issuer.example:443/", "_issuer.example", false),
            ("http://localhost/keys", "http://localhost:80/", "localhost", true),
            ("http://127.0.0.1:1234", "http://127.0.0.1:1234/", "127.0.0.1", true),
            ("https://[2001:db8::1]/keys", "https://[2001:db8::1]:443/", "2001:db8::1", false),
        ] {
            let server = server(url).unwrap();
            assert_eq!((server.origin.to_string().as_str(), server.name.to_str().as_ref()), (origin, name));
            assert_eq!(server.is_plain, is_plain, "{url}");
        }
    }

    #[test]
    fn what_no_certificate_can_name_is_no_server() {
        for url in ["https://a..b", "https://-.example", "data:,", "unknown://host"] {
            assert_eq!(server(url).map(|_| ()), Err(NoServer), "{url}");
        }
    }
}
