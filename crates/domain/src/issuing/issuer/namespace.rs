//! Which URLs issuers may have.

use std::fmt;

use crate::values::id::IssuerId;
use crate::values::issuer_url::{InvalidUrl, IssuerUrl, LoopbackHttp};

/// Where issuers may live: what the operator of the deployment decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerNamespace {
    /// Issuer URLs lie strictly below this one.
    pub base_url: IssuerUrl,
    /// Issuers may have host names of their own, one label before this host's.
    pub host_base: Option<HostBase>,
    /// The gateway's own URL: the `iss` of access tokens, never that of an issuer.
    pub gateway_url: IssuerUrl,
    /// Whether http to a loopback address will do.
    pub loopback_http: LoopbackHttp,
}

/// Where the issuers of a deployment are, for those who need to recognise them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerBases {
    /// The URL below which they are.
    pub base_url: IssuerUrl,
    /// The host that they can have a label of their own before.
    pub host_base: Option<HostBase>,
}

impl IssuerBases {
    /// Whether an issuer of the deployment can have this URL.
    pub fn contain(&self, url: &IssuerUrl) -> bool {
        let below = url.as_str().strip_prefix(self.base_url.as_str().trim_end_matches('/'));
        let is_below = below.and_then(|below| below.strip_prefix('/')).is_some_and(|below| !below.is_empty());
        let before = self.host_base.as_ref().and_then(|host_base| host_base.before(url.as_str().trim_end_matches('/')));
        is_below || before.is_some_and(is_label)
    }
}

/// The host before which issuers put a label of theirs, as `https://id.example.com`: a URL without a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostBase {
    scheme: Box<str>,
    /// Host, and port where it is not the scheme's own.
    authority: Box<str>,
}

/// Not a base of host names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHostBase {
    /// No acceptable URL at all.
    #[error(transparent)]
    Url(#[from] InvalidUrl),
    /// More than a host, or an address, which has no names below it.
    #[error("must be a URL of a host name, without a path")]
    NotAHost,
}

/// Why a URL cannot become that of an issuer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidIssuerUrl {
    /// No acceptable URL at all.
    #[error(transparent)]
    Url(#[from] InvalidUrl),
    /// Outside of what the operator assigned.
    #[error("must lie below {base_url}")]
    OutsideBase {
        /// What the operator assigned.
        base_url: IssuerUrl,
    },
    /// In front of the host base there is no single label of lower-case letters, digits and hyphens.
    #[error("must have one label of lower-case letters, digits and hyphens before {}, and nothing behind it", .0.authority)]
    HostNotPlain(HostBase),
    /// Something but letters, digits, `-`, `_`, `.`, `~` in the path below the base, an empty segment, or a leading dot.
    #[error(
        "must have path segments of letters, digits, `-`, `_`, `.` and `~` that do not begin with a dot, and no slash at the end"
    )]
    PathNotPlain,
    /// A segment that only a generated URL may have.
    #[error("must not have a path segment that begins with `is_`, which is kept for ids")]
    PathOfId,
    /// The URL of the gateway.
    #[error("is the URL of the gateway, which signs access tokens")]
    Gateway,
}

impl From<&IssuerNamespace> for IssuerBases {
    fn from(namespace: &IssuerNamespace) -> Self {
        Self { base_url: namespace.base_url.clone(), host_base: namespace.host_base.clone() }
    }
}

/// As the operator wrote it.
impl fmt::Display for HostBase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority)
    }
}

impl IssuerNamespace {
    /// The URL of an issuer for which none was chosen.
    pub fn generated(&self, id: &IssuerId) -> Result<IssuerUrl, InvalidIssuerUrl> {
        let text = format!("{}/{id}", self.base_url.as_str().trim_end_matches('/'));
        Ok(IssuerUrl::parse(&text, self.loopback_http)?)
    }

    /// Checks the URL that somebody chose for a new issuer. Whether it was ever used is for the store to say.
    pub fn check(&self, text: &str) -> Result<IssuerUrl, InvalidIssuerUrl> {
        let url = IssuerUrl::parse(text, self.loopback_http)?;
        if text.trim_end_matches('/') == self.gateway_url.as_str().trim_end_matches('/') {
            return Err(InvalidIssuerUrl::Gateway);
        }
        if self.below_base(text).is_none()
            && let Some(host_base) = &self.host_base
            && let Some(label) = host_base.before(text)
        {
            let is_taken = [&self.base_url, &self.gateway_url].iter().any(|taken| authority(taken.as_str()) == authority(text));
            let is_plain = is_label(label) && !is_taken;
            return if is_plain { Ok(url) } else { Err(InvalidIssuerUrl::HostNotPlain(host_base.clone())) };
        }
        let below = self.below_base(text).ok_or_else(|| InvalidIssuerUrl::OutsideBase { base_url: self.base_url.clone() })?;
        let plain = |segment: &str| {
            !segment.is_empty()
                && !segment.starts_with('.')
                && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte))
        };
        if !below.split('/').all(plain) {
            return Err(InvalidIssuerUrl::PathNotPlain);
        }
        if below.split('/').any(|segment| segment.starts_with(IssuerId::PREFIX)) {
            return Err(InvalidIssuerUrl::PathOfId);
        }
        Ok(url)
    }

    /// What follows the base and a slash in a URL; `None` where the URL lies elsewhere.
    pub fn below_base<'a>(&self, url: &'a str) -> Option<&'a str> {
        url.strip_prefix(self.base_url.as_str().trim_end_matches('/'))?.strip_prefix('/')
    }

    /// The URL of the issuer that has this host name, as a request names it: `Host`, or `:authority`. Whether there is one is for
    /// others to say. `None`: no issuer could have it.
    pub fn at_host(&self, host: &str) -> Option<String> {
        let host_base = self.host_base.as_ref()?;
        let host = host.to_ascii_lowercase();
        // A client may write the port that goes without saying.
        let own_port = if &*host_base.scheme == "https" { ":443" } else { ":80" };
        let url = format!("{}://{}", host_base.scheme, host.strip_suffix(own_port).unwrap_or(&host));
        host_base.before(&url).is_some_and(is_label).then_some(url)
    }
}

impl HostBase {
    /// Reads what the operator wrote.
    ///
    /// # Errors
    /// See [`InvalidHostBase`].
    pub fn parse(text: &str, loopback_http: LoopbackHttp) -> Result<Self, InvalidHostBase> {
        let url = IssuerUrl::parse(text, loopback_http)?;
        let (scheme, authority) = url.as_str().trim_end_matches('/').split_once("://").ok_or(InvalidHostBase::NotAHost)?;
        let host = authority.split(':').next().unwrap_or_default();
        let is_address =
            authority.starts_with('[') || host.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
        if authority.contains('/') || is_address {
            return Err(InvalidHostBase::NotAHost);
        }
        Ok(Self { scheme: scheme.into(), authority: authority.into() })
    }

    /// What stands before this host in a URL; empty, which is no label, where a path follows. `None`: the URL has another host.
    fn before<'a>(&self, url: &'a str) -> Option<&'a str> {
        let rest = url.strip_prefix(&*self.scheme)?.strip_prefix("://")?;
        let authority = rest.split('/').next()?;
        let before = authority.strip_suffix(&*self.authority)?.strip_suffix('.')?;
        Some(if authority == rest { before } else { "" })
    }
}

/// Host, and port where it is not the scheme's own, of a canonical URL.
fn authority(url: &str) -> &str {
    url.split_once("://").map_or(url, |(_, rest)| rest).split('/').next().unwrap_or_default()
}

/// A label of a host name (RFC 1123, section 2.1) in lower case, and none that stands for other letters (RFC 5890, section 2.3.1).
fn is_label(text: &str) -> bool {
    let plain = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    let reserved = text.get(2..4) == Some("--");
    plain && !reserved && (1..=63).contains(&text.len()) && !text.starts_with('-') && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace(base: &str) -> IssuerNamespace {
        IssuerNamespace {
            base_url: base.parse().unwrap(),
            host_base: None,
            gateway_url: "https://id.example.com/gateway".parse().unwrap(),
            loopback_http: LoopbackHttp::Refused,
        }
    }

    #[test]
    fn an_issuer_of_the_deployment_is_recognised_by_its_url() {
        let namespace = with_hosts("https://id.example.com/issuers/");
        let bases = IssuerBases::from(&namespace);
        let host_base = bases.host_base.as_ref().unwrap().to_string();
        assert_eq!(HostBase::parse(&host_base, LoopbackHttp::Refused).ok(), bases.host_base);
        for (url, is_own) in [
            ("https://id.example.com/issuers/rwx", true),
            ("https://id.example.com/issuers/a/b/", true),
            ("https://id.example.com/issuers", false),
            ("https://id.example.com/issuers2/a", false),
            ("https://elsewhere.example/issuers/rwx", false),
        ] {
            assert_eq!(bases.contain(&url.parse().unwrap()), is_own, "{url}");
        }
        let label = host_base.replacen("://", "://team.", 1);
        assert!(bases.contain(&label.parse().unwrap()), "{label}");
        assert!(!bases.contain(&host_base.replacen("://", "://a.b.", 1).parse().unwrap()));
        assert!(!IssuerBases { host_base: None, ..bases }.contain(&label.parse().unwrap()));
    }

    #[test]
    fn s38_an_issuer_url_lies_below_the_base_in_plain_segments() {
        for base in ["https://id.example.com", "https://id.example.com/"] {
            let namespace = namespace(base);
            for good in ["https://id.example.com/rwx", "https://id.example.com/a/b-c_d.e~f", "https://id.example.com/A1"] {
                assert_eq!(namespace.check(good).unwrap().as_str(), good);
            }
            let outside = InvalidIssuerUrl::OutsideBase { base_url: base.parse().unwrap() };
            for bad in ["https://id.example.com.evil.net/a", "https://id.example.company/a", "https://other.example.com/a"] {
                assert_eq!(namespace.check(bad), Err(outside.clone()), "{bad}");
            }
            for bad in [
                "https://id.example.com/",
                "https://id.example.com/a/",
                "https://id.example.com//a",
                "https://id.example.com/a//b",
                "https://id.example.com/.well-known",
                "https://id.example.com/a/.well-known/jwks.json",
                "https://id.example.com/a%2fb",
                "https://id.example.com/a;b",
                "https://id.example.com/a:b",
                "https://id.example.com/%C3%A9",
            ] {
                assert_eq!(namespace.check(bad), Err(InvalidIssuerUrl::PathNotPlain), "{bad}");
            }
            for (bad, why) in [
                ("https://id.example.com/a?q", InvalidUrl::Query),
                ("https://id.example.com/a#f", InvalidUrl::Fragment),
                ("https://ID.example.com/a", InvalidUrl::NotCanonical),
                ("https://id.example.com:443/a", InvalidUrl::NotCanonical),
                ("https://id.example.com/a/../b", InvalidUrl::NotCanonical),
                ("http://id.example.com/a", InvalidUrl::NotHttps),
                ("https://u@id.example.com/a", InvalidUrl::UserInfo),
                ("", InvalidUrl::NotCanonical),
            ] {
                assert_eq!(namespace.check(bad), Err(InvalidIssuerUrl::Url(why)), "{bad}");
            }
        }
        assert!(namespace("https://id.example.com/issuers").check("https://id.example.com/issuers-of-mine/a").is_err());
    }

    #[test]
    fn the_gateways_own_url_is_reserved() {
        let namespace = namespace("https://id.example.com");
        for text in ["https://id.example.com/gateway", "https://id.example.com/gateway/"] {
            assert_eq!(namespace.check(text), Err(InvalidIssuerUrl::Gateway));
        }
    }

    #[test]
    fn a_generated_url_cannot_be_chosen() {
        let namespace = namespace("https://id.example.com/");
        let id = IssuerId::from_random([3; 16]);
        let generated = namespace.generated(&id).unwrap();
        assert_eq!(generated.as_str(), format!("https://id.example.com/{id}"));
        assert_eq!(namespace.check(generated.as_str()), Err(InvalidIssuerUrl::PathOfId));
    }

    fn with_hosts(base: &str) -> IssuerNamespace {
        let host_base = HostBase::parse("https://id.example.net", LoopbackHttp::Refused).unwrap();
        IssuerNamespace { host_base: Some(host_base), ..namespace(base) }
    }

    #[test]
    fn s38_an_issuer_may_have_a_host_name_of_its_own_where_the_operator_gives_some() {
        let namespace = with_hosts("https://a.id.example.net");
        for good in [
            "https://team.id.example.net",
            "https://x.id.example.net",
            "https://team-1.id.example.net",
            "https://a.id.example.net/b",
        ] {
            assert_eq!(namespace.check(good).unwrap_or_else(|error| panic!("{good} {error}")).as_str(), good);
        }
        for bad in [
            "https://a.id.example.net",
            "https://b.id.example.net/",
            "https://team.id.example.net/a",
            "https://a.b.id.example.net",
            "https://-a.id.example.net",
            "https://xn--a-ecp.id.example.net",
            "https://a_b.id.example.net",
            "https://.id.example.net",
        ] {
            assert!(namespace.check(bad).is_err(), "{bad}");
        }
        for bad in [
            "https://id.example.net",
            "https://team.id.example.net.evil.net",
            "https://teamid.example.net",
            "https://team.id.example.net:8443",
        ] {
            assert!(matches!(namespace.check(bad), Err(InvalidIssuerUrl::OutsideBase { .. })), "{bad}");
        }
        assert!(super::IssuerNamespace { host_base: None, ..namespace }.check("https://team.id.example.net").is_err());
    }

    #[test]
    fn s38_hosts_that_others_answer_at_are_no_issuer_s() {
        let mut namespace = with_hosts("https://a.id.example.net/issuers");
        namespace.gateway_url = "https://g.id.example.net/gateway".parse().unwrap();
        for taken in ["https://a.id.example.net", "https://g.id.example.net"] {
            assert!(matches!(namespace.check(taken), Err(InvalidIssuerUrl::HostNotPlain(_))), "{taken}");
        }
        assert!(namespace.check("https://b.id.example.net").is_ok());
    }

    #[test]
    fn a_request_names_the_issuer_by_its_host() {
        let namespace = with_hosts("https://id.example.com");
        for host in ["team.id.example.net", "TEAM.id.example.net", "team.id.example.net:443"] {
            assert_eq!(namespace.at_host(host).as_deref(), Some("https://team.id.example.net"), "{host}");
        }
        for host in [
            "id.example.net",
            "a.b.id.example.net",
            "team.id.example.net:8443",
            "team.id.example.net.",
            "evil.example",
            "",
            "team.id.example.net/a",
        ] {
            assert_eq!(namespace.at_host(host), None, "{host}");
        }
    }

    #[test]
    fn a_base_of_host_names_is_a_host_name_alone() {
        for bad in
            ["https://id.example.net/a", "https://192.0.2.1", "https://[2001:db8::1]", "http://id.example.net", "id.example.net"]
        {
            assert!(HostBase::parse(bad, LoopbackHttp::Refused).is_err(), "{bad}");
        }
        assert!(HostBase::parse("https://id.example.net:8443", LoopbackHttp::Refused).is_ok());
    }
}
