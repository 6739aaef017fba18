//! Who a connection or request comes from, as far as limits are concerned.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::HeaderMap;
use ipnet::IpNet;

/// The header in which proxies name the client, the nearest address last.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// The party that shares a limit: an IPv4 address, or the IPv6 network of 64 bits that one site has at its disposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Peer {
    V4(Ipv4Addr),
    /// The upper half of the address.
    V6(u64),
    /// A part of this process.
    InProcess,
}

impl From<IpAddr> for Peer {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self::V6([a, b, c, d].into_iter().fold(0, |upper, segment| upper << 16 | u64::from(segment)))
            }
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(address) => write!(f, "{address}"),
            Self::V6(upper) => write!(f, "{}/64", Ipv6Addr::from(u128::from(*upper) << 64)),
            Self::InProcess => f.write_str("in process"),
        }
    }
}

/// The proxies that the operator configured: their connections carry the requests of many clients, and what they say of a
/// client's address is believed. The header of any other peer has no effect (SECURITY 70).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Proxies(Vec<IpNet>);

impl Proxies {
    pub(crate) fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The peer whose connections an address counts among; `None` for a proxy, which has no share of its own.
    pub(crate) fn peer(&self, address: IpAddr) -> Option<Peer> {
        (!self.contain(address)).then(|| address.into())
    }

    /// The client of a request that came from a proxy: the nearest address that is not a proxy's. `None` when the proxy does
    /// not say, or says it in a form that cannot be read.
    pub(crate) fn client(&self, headers: &HeaderMap) -> Option<Peer> {
        let hops = headers.get_all(FORWARDED_FOR).iter().rev().map(|value| value.to_str().ok());
        for hop in hops {
            for text in hop?.rsplit(',') {
                let address: IpAddr = text.trim().parse().ok()?;
                if let Some(peer) = self.peer(address) {
                    return Some(peer);
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(address: &str) -> Peer {
        Peer::from(address.parse::<IpAddr>().unwrap())
    }

    fn proxies() -> Proxies {
        Proxies::new(["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().unwrap()).into())
    }

    #[test]
    fn s85_a_peer_is_an_address_or_a_site() {
        assert_eq!(peer("192.0.2.1"), peer("::ffff:192.0.2.1"));
        assert_ne!(peer("192.0.2.1"), peer("192.0.2.2"));
        assert_eq!(peer("2001:db8:1:2::1"), peer("2001:db8:1:2:ffff::9"));
        assert_ne!(peer("2001:db8:1:2::1"), peer("2001:db8:1:3::1"));
        assert_eq!(peer("2001:db8:1:2::1").to_string(), "2001:db8:1:2::/64");
        assert_eq!(peer("::ffff:192.0.2.1").to_string(), "192.0.2.1");
    }

    #[test]
    fn s70_only_what_a_configured_proxy_says_counts() {
        let proxies = proxies();
        assert_eq!(proxies.peer("10.1.2.3".parse().unwrap()), None);
        assert_eq!(proxies.peer("::ffff:10.1.2.3".parse().unwrap()), None);
        assert_eq!(proxies.peer("192.0.2.1".parse().unwrap()), Some(peer("192.0.2.1")));
        let check = |values: &[&str], expected: Option<&str>| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(FORWARDED_FOR, value.parse().unwrap());
            }
            assert_eq!(proxies.client(&headers), expected.map(peer), "{values:?}");
        };
        check(&[], None);
        check(&["192.0.2.1"], Some("192.0.2.1"));
        // The client invents what stands before the address that the proxy saw.
        check(&["198.51.100.9, 192.0.2.1"], Some("192.0.2.1"));
        check(&["198.51.100.9", "192.0.2.1"], Some("192.0.2.1"));
        check(&["192.0.2.1, 10.0.0.7"], Some("192.0.2.1"));
        check(&["192.0.2.1", "10.0.0.7, fd00::1"], Some("192.0.2.1"));
        check(&["2001:db8::5"], Some("2001:db8::"));
        check(&["192.0.2.1, unknown"], None);
        check(&["192.0.2.1, 10.0.0.7:443"], None);
        check(&["10.0.0.7"], None);
        check(&[""], None);
    }
}
