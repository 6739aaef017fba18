//! Which addresses may be dialled.
//!
//! A stranger who registers an issuer, or who answers for its name, must not be able to make us talk to our own network. So the
//! check is on the address that is dialled, after seeing through the forms in which one address can be written as another
//! (SECURITY 39).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use countersign_domain::issuer_url::LoopbackHttp;
use serde::Deserialize;

/// An address that may not be dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the address is not one of the public internet or of an allowed network")]
pub struct RefusedAddress;

/// The rules on addresses of one deployment.
#[derive(Debug, Clone, Default)]
pub struct AddressRules {
    /// Private networks in which issuers may live. They never open loopback, link-local, multicast or metadata addresses.
    pub allowed_networks: Vec<Network>,
    /// Whether loopback addresses may be dialled. Only development allows it.
    pub loopback: LoopbackHttp,
}

impl AddressRules {
    /// Refuses an address that may not be dialled.
    pub fn check(&self, address: IpAddr) -> Result<(), RefusedAddress> {
        let address = canonical(address);
        let permitted = if is_loopback(address) {
            self.loopback == LoopbackHttp::Allowed
        } else {
            !is_never_dialled(address)
                && (is_public(address) || self.allowed_networks.iter().any(|network| network.contains(address)))
        };
        if permitted { Ok(()) } else { Err(RefusedAddress) }
    }

    /// Refuses a set of addresses unless it has some and every one of them may be dialled: a name that also leads somewhere bad
    /// is bad.
    pub fn check_all<'a>(&self, addresses: impl IntoIterator<Item = &'a IpAddr>) -> Result<(), RefusedAddress> {
        let mut addresses = addresses.into_iter().peekable();
        if addresses.peek().is_none() {
            return Err(RefusedAddress);
        }
        addresses.try_for_each(|address| self.check(*address))
    }
}

/// The address that is reached in the end: IPv4 written as IPv6 in the forms that a router or a kernel translates.
fn canonical(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => match v6.segments() {
            // IPv4-mapped (RFC 4291, section 2.5.5.2) and NAT64's well-known prefix (RFC 6052, section 2.1).
            [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => IpAddr::V4(v4_of(high, low)),
            _ => address,
        },
    }
}

fn v4_of(high: u16, low: u16) -> Ipv4Addr {
    let [a, b] = high.to_be_bytes();
    let [c, d] = low.to_be_bytes();
    Ipv4Addr::new(a, b, c, d)
}

fn is_loopback(address: IpAddr) -> bool {
    address.is_loopback()
}

/// What no operator can allow: addresses that mean "this host" or "this link", and where clouds serve credentials.
fn is_never_dialled(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            v4.octets()[0] == 0 || v4.is_link_local() || v4.is_multicast() || v4.is_broadcast() || METADATA_V4.contains(&v4)
        }
        IpAddr::V6(v6) => {
            v6.is_unspecified()
                || v6.is_unicast_link_local()
                || v6.is_multicast()
                || METADATA_V6.contains(&v6)
                // Forms of IPv4 addresses that nobody needs any more: IPv4-compatible, 6to4, Teredo, and NAT64 for local use.
                || matches!(v6.segments(), [0, 0, 0, 0, 0, 0, _, _] | [0x2002, ..] | [0x2001, 0, ..] | [0x64, 0xff9b, 1, ..])
        }
    }
}

/// Azure's host agent and Alibaba Cloud's metadata; the others are link-local.
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192)];
/// AWS and Google Cloud.
const METADATA_V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)];

/// Whether the address is one of the public internet, by IANA's registries of special-purpose addresses.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !SPECIAL_V4.iter().any(|network| network.contains(IpAddr::V4(v4))),
        // Only 2000::/3 is allocated to global unicast.
        IpAddr::V6(v6) => {
            v6.segments()[0] & 0xe000 == 0x2000 && !SPECIAL_V6.iter().any(|network| network.contains(IpAddr::V6(v6)))
        }
    }
}

const SPECIAL_V4: [Network; 15] = [
    Network::v4([0, 0, 0, 0], 8),
    Network::v4([10, 0, 0, 0], 8),
    Network::v4([100, 64, 0, 0], 10),
    Network::v4([127, 0, 0, 0], 8),
    Network::v4([169, 254, 0, 0], 16),
    Network::v4([172, 16, 0, 0], 12),
    Network::v4([192, 0, 0, 0], 24),
    Network::v4([192, 0, 2, 0], 24),
    Network::v4([192, 88, 99, 0], 24),
    Network::v4([192, 168, 0, 0], 16),
    Network::v4([198, 18, 0, 0], 15),
    Network::v4([198, 51, 100, 0], 24),
    Network::v4([203, 0, 113, 0], 24),
    Network::v4([224, 0, 0, 0], 4),
    Network::v4([240, 0, 0, 0], 4),
];

const SPECIAL_V6: [Network; 4] = [
    // IETF protocol assignments, Teredo, ORCHID.
    Network::v6(0x2001, 0, 23),
    // Documentation.
    Network::v6(0x2001, 0xdb8, 32),
    Network::v6(0x3fff, 0, 20),
    // 6to4.
    Network::v6(0x2002, 0, 16),
];

/// A range of addresses, written `10.0.0.0/8` or `fd12:3456::/32`.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Network {
    first: IpAddr,
    prefix_bits: u8,
}

/// Why a text is not a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidNetwork {
    /// Not an address, a slash and a number of bits.
    #[error("must be an address and a prefix length, like 10.0.0.0/8")]
    Malformed,
    /// Bits are set behind the prefix, so one of the two is a mistake.
    #[error("has bits set behind its prefix")]
    HostBits,
}

impl Network {
    const fn v4(octets: [u8; 4], prefix_bits: u8) -> Self {
        let [a, b, c, d] = octets;
        Self { first: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), prefix_bits }
    }

    const fn v6(first: u16, second: u16, prefix_bits: u8) -> Self {
        Self { first: IpAddr::V6(Ipv6Addr::new(first, second, 0, 0, 0, 0, 0, 0)), prefix_bits }
    }

    /// Whether the address lies in the range. An IPv4 range holds IPv4 addresses only.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.first, address) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                let shift = 32 - u32::from(self.prefix_bits);
                first.to_bits().checked_shr(shift) == address.to_bits().checked_shr(shift)
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                let shift = 128 - u32::from(self.prefix_bits);
                first.to_bits().checked_shr(shift) == address.to_bits().checked_shr(shift)
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let (first, bits) = text.split_once('/').ok_or(InvalidNetwork::Malformed)?;
        let first: IpAddr = first.parse().map_err(|_| InvalidNetwork::Malformed)?;
        let width = if first.is_ipv4() { 32 } else { 128 };
        let prefix_bits: u8 = bits.parse().ok().filter(|bits| *bits <= width).ok_or(InvalidNetwork::Malformed)?;
        let host_bits = u32::from(width - prefix_bits);
        let trailing_zeros = match first {
            IpAddr::V4(v4) => v4.to_bits().trailing_zeros(),
            IpAddr::V6(v6) => v6.to_bits().trailing_zeros(),
        };
        if trailing_zeros < host_bits { Err(InvalidNetwork::HostBits) } else { Ok(Self { first, prefix_bits }) }
    }
}

impl TryFrom<String> for Network {
    type Error = InvalidNetwork;

    fn try_from(text: String) -> Result<Self, InvalidNetwork> {
        text.parse()
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix_bits)
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(networks: &[&str], loopback: LoopbackHttp) -> AddressRules {
        AddressRules { allowed_networks: networks.iter().map(|network| network.parse().unwrap()).collect(), loopback }
    }

    fn permitted(rules: &AddressRules, address: &str) -> bool {
        rules.check(address.parse().unwrap()).is_ok()
    }

    const PUBLIC: [&str; 9] = [
        "1.1.1.1",
        "8.8.8.8",
        "100.63.255.255",
        "100.128.0.0",
        "172.32.0.1",
        "2606:4700:4700::1111",
        "2a00:1450:4001::200e",
        // What a DNS64 resolver answers for a public IPv4 address.
        "64:ff9b::8.8.8.8",
        "::ffff:8.8.8.8",
    ];

    const NEVER: [&str; 26] = [
        "0.0.0.0",
        "0.1.2.3",
        "::",
        "169.254.169.254",
        "169.254.170.2",
        "168.63.129.16",
        "100.100.100.200",
        "192.0.0.192",
        "fd00:ec2::254",
        "fd20:ce::254",
        "fe80::1",
        "224.0.0.1",
        "255.255.255.255",
        "ff02::1",
        "::169.254.169.254",
        "::10.0.0.1",
        "::ffff:169.254.169.254",
        "::ffff:0.0.0.0",
        "64:ff9b::169.254.169.254",
        "64:ff9b:1::1",
        "2002:7f00:1::",
        "2002:a9fe:a9fe::",
        "2002:0808:0808::",
        "2001:0:1::1",
        "::ffff:224.0.0.1",
        "::2",
    ];

    const LOOPBACK: [&str; 5] = ["127.0.0.1", "127.255.0.1", "::1", "::ffff:127.0.0.1", "64:ff9b::127.0.0.1"];

    const PRIVATE: [&str; 20] = [
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "100.64.0.1",
        "100.127.255.255",
        "192.0.2.1",
        "192.88.99.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "240.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::192.168.1.1",
        "fc00::1",
        "fd12:3456::1",
        "fec0::1",
        "2001:db8::1",
        "3fff::1",
        "100::1",
    ];

    #[test]
    fn s39_the_public_internet_may_be_dialled() {
        for address in PUBLIC {
            assert!(permitted(&AddressRules::default(), address), "{address}");
        }
    }

    #[test]
    fn s39_addresses_of_ours_are_refused_in_every_form() {
        for address in NEVER.iter().chain(&LOOPBACK).chain(&PRIVATE) {
            assert!(!permitted(&AddressRules::default(), address), "{address}");
        }
    }

    #[test]
    fn s39_operators_can_allow_named_private_networks() {
        let rules = rules(&["10.1.0.0/16", "fd12:3456::/32"], LoopbackHttp::Refused);
        for (address, expected) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("10.2.0.1", false),
            ("192.168.1.1", false),
            ("fd12:3456:1::1", true),
            ("fd12:3457::1", false),
        ] {
            assert_eq!(permitted(&rules, address), expected, "{address}");
        }
    }

    #[test]
    fn s39_no_allowed_network_opens_metadata_or_this_host() {
        let everything = rules(&["0.0.0.0/0", "::/0"], LoopbackHttp::Refused);
        for address in NEVER.iter().chain(&LOOPBACK) {
            assert!(!permitted(&everything, address), "{address}");
        }
        for address in PRIVATE {
            assert!(permitted(&everything, address), "{address}");
        }
    }

    #[test]
    fn s38_loopback_needs_the_development_switch() {
        let development = rules(&[], LoopbackHttp::Allowed);
        for address in LOOPBACK {
            assert!(permitted(&development, address), "{address}");
        }
        for address in NEVER.iter().chain(&PRIVATE) {
            assert!(!permitted(&development, address), "{address}");
        }
    }

    #[test]
    fn s39_one_bad_address_refuses_the_name() {
        let rules = AddressRules::default();
        let addresses = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>();
        assert!(rules.check_all(&addresses(&["1.1.1.1", "8.8.8.8"])).is_ok());
        assert!(rules.check_all(&addresses(&["1.1.1.1", "10.0.0.1"])).is_err());
        assert!(rules.check_all(&addresses(&["::ffff:127.0.0.1", "8.8.8.8"])).is_err());
        assert!(rules.check_all(&addresses(&[])).is_err());
    }

    #[test]
    fn networks_are_read_strictly_and_written_as_read() {
        for text in ["10.0.0.0/8", "0.0.0.0/0", "192.168.1.1/32", "fd00::/8", "::/0", "::1/128"] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), text);
        }
        for text in ["10.0.0.0", "10.0.0.0/33", "10.0.0.0/-1", "10.0/8", "fd00::/129", "", "/8", "a/8", "10.0.0.0/8/8"] {
            assert_eq!(text.parse::<Network>(), Err(InvalidNetwork::Malformed), "{text}");
        }
        assert_eq!("10.0.0.1/8".parse::<Network>(), Err(InvalidNetwork::HostBits));
        assert_eq!("fd00::1/64".parse::<Network>(), Err(InvalidNetwork::HostBits));
    }

    #[test]
    fn an_empty_prefix_holds_everything_of_its_family() {
        let all: Network = "0.0.0.0/0".parse().unwrap();
        assert!(all.contains("255.1.2.3".parse().unwrap()));
        assert!(!all.contains("::1".parse().unwrap()));
    }
}
