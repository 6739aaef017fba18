//! Which addresses may be dialled.
//!
//! A stranger who registers an issuer, or who answers for its name, must not be able to make us talk to our own network. So the
//! check is on the address that is dialled, after seeing through the forms in which one address can be written as another
//! (SECURITY 39).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use countersign_domain::values::issuer_url::LoopbackHttp;

use crate::network::Network;

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

/// Whether the address, in whatever form, is one of the public internet.
pub(crate) fn is_public_address(address: IpAddr) -> bool {
    let address = canonical(address);
    !is_never_dialled(address) && is_public(address)
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
    LOOPBACK.iter().any(|network| network.contains(address))
}

/// What no operator can allow: addresses that mean "this host" or "this link", and where clouds serve credentials.
fn is_never_dialled(address: IpAddr) -> bool {
    NEVER_DIALLED.iter().any(|network| network.contains(address))
}

const NEVER_DIALLED: [Network; 17] = [
    // This host, link-local, multicast, broadcast.
    Network::v4([0, 0, 0, 0], 8),
    Network::v4([169, 254, 0, 0], 16),
    Network::v4([224, 0, 0, 0], 4),
    Network::v4([255, 255, 255, 255], 32),
    Network::v6(0xfe80, 0, 10),
    Network::v6(0xff00, 0, 8),
    // Metadata: Azure's host agent, Alibaba Cloud and Oracle Cloud, AWS, Google Cloud; the others are link-local.
    Network::v4([168, 63, 129, 16], 32),
    Network::v4([100, 100, 100, 200], 32),
    Network::v4([192, 0, 0, 192], 32),
    Network::v6_host(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    Network::v6_host(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    // Forms of IPv4 addresses that nobody needs any more: IPv4-compatible, with the unspecified address, 6to4, Teredo, and NAT64 for
    // local use.
    Network::v6(0, 0, 96),
    Network::v6(0x2002, 0, 16),
    Network::v6(0x2001, 0, 32),
    Network { first: IpAddr::V6(Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0)), prefix_bits: 48 },
    // Forms that `canonical` has seen through by then: IPv4-mapped, and NAT64's well-known prefix.
    IPV4_MAPPED,
    NAT64,
];

const IPV4_MAPPED: Network = Network { first: IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0)), prefix_bits: 96 };
const NAT64: Network = Network { first: IpAddr::V6(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0)), prefix_bits: 96 };

/// Whether the address is one of the public internet, by IANA's registries of special-purpose addresses.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !SPECIAL_V4.iter().any(|network| network.contains(IpAddr::V4(v4))),
        IpAddr::V6(v6) => GLOBAL_UNICAST.contains(address) && !SPECIAL_V6.iter().any(|network| network.contains(IpAddr::V6(v6))),
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

/// Only this is allocated to global unicast.
const GLOBAL_UNICAST: Network = Network::v6(0x2000, 0, 3);

const LOOPBACK: [Network; 2] = [Network::v4([127, 0, 0, 0], 8), Network::v6_host(Ipv6Addr::LOCALHOST)];

const SPECIAL_V6: [Network; 4] = [
    // IETF protocol assignments, Teredo, ORCHID.
    Network::v6(0x2001, 0, 23),
    // Documentation.
    Network::v6(0x2001, 0xdb8, 32),
    Network::v6(0x3fff, 0, 20),
    // 6to4.
    Network::v6(0x2002, 0, 16),
];

/// A network whose addresses are never dialled, so that allowing it has no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cannot allow {network}: {}", self.reason())]
pub struct NoEffect {
    network: Network,
}

impl NoEffect {
    fn reason(&self) -> &'static str {
        if [IPV4_MAPPED, NAT64].iter().any(|form| form.contains(self.network.first)) {
            "IPv4 addresses in this form are judged as IPv4 addresses; write the IPv4 network, and only a private one"
        } else {
            "loopback, link-local, multicast, broadcast and metadata addresses are never dialled; remove it"
        }
    }
}

impl Network {
    /// Refuses a network that holds addresses which are refused all the same, and none that allowing it opens. One whose addresses are
    /// all public is needless and harmless.
    ///
    /// # Errors
    /// Allowing the network has no effect.
    pub fn check_effect(&self) -> Result<(), NoEffect> {
        let rules = |allowed_networks| AddressRules { allowed_networks, loopback: LoopbackHttp::Refused };
        let (without, with) = (rules(Vec::new()), rules(vec![*self]));
        // What the rules say changes nowhere but at the ends of the networks that they name.
        let named = SPECIAL_V4.iter().chain(&SPECIAL_V6).chain(&NEVER_DIALLED).chain(&LOOPBACK).chain(&[GLOBAL_UNICAST]);
        let ends = named.flat_map(|network| [Some(network.first), network.behind()]).flatten();
        let samples: Vec<IpAddr> = std::iter::once(self.first).chain(ends.filter(|end| self.contains(*end))).collect();
        let opens = |address: &IpAddr| with.check(*address).is_ok() && without.check(*address).is_err();
        let is_refused = |address: &IpAddr| with.check(*address).is_err();
        // Addresses in a translated form lie in another network than they are written in.
        let is_translated =
            [IPV4_MAPPED, NAT64].iter().any(|form| form.contains(self.first) && form.prefix_bits <= self.prefix_bits);
        let has_no_effect = is_translated || !samples.iter().any(opens) && samples.iter().any(is_refused);
        if has_no_effect { Err(NoEffect { network: *self }) } else { Ok(()) }
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

    const LOOPBACK_FORMS: [&str; 5] = ["127.0.0.1", "127.255.0.1", "::1", "::ffff:127.0.0.1", "64:ff9b::127.0.0.1"];

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
        for address in NEVER.iter().chain(&LOOPBACK_FORMS).chain(&PRIVATE) {
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
        for address in NEVER.iter().chain(&LOOPBACK_FORMS) {
            assert!(!permitted(&everything, address), "{address}");
        }
        for address in PRIVATE {
            assert!(permitted(&everything, address), "{address}");
        }
    }

    #[test]
    fn s38_loopback_needs_the_development_switch() {
        let development = rules(&[], LoopbackHttp::Allowed);
        for address in LOOPBACK_FORMS {
            assert!(permitted(&development, address), "{address}");
        }
        for address in NEVER.iter().chain(&PRIVATE) {
            assert!(!permitted(&development, address), "{address}");
        }
    }

    #[test]
    fn s39_a_network_that_cannot_take_effect_is_refused() {
        for text in [
            "127.0.0.0/8",
            "127.0.0.1/32",
            "126.0.0.0/7",
            "::1/128",
            "::/96",
            "0.0.0.0/8",
            "0.0.0.0/32",
            "169.254.0.0/16",
            "169.254.169.254/32",
            "224.0.0.0/4",
            "239.1.2.0/24",
            "255.255.255.255/32",
            "168.63.129.16/32",
            "168.63.129.0/24",
            "100.100.100.200/32",
            "192.0.0.192/32",
            "fd00:ec2::254/128",
            "fd20:ce::254/128",
            "fe80::/10",
            "fe80::/64",
            "ff00::/8",
            "ff02::/16",
            "2002::/16",
            "2002:a00::/24",
            "2002::/15",
            "2001::/32",
            "64:ff9b:1::/48",
            "::ffff:127.0.0.0/104",
            "::ffff:10.0.0.0/104",
            "::ffff:0.0.0.0/96",
            "64:ff9b::/96",
            "64:ff9b::a00:0/104",
        ] {
            let refused = text.parse::<Network>().unwrap().check_effect().unwrap_err().to_string();
            assert!(refused.contains(&text.parse::<Network>().unwrap().to_string()), "{text}: {refused}");
        }
        for text in [
            "10.0.0.0/8",
            "10.1.2.3/32",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "192.168.0.0/15",
            "100.64.0.0/10",
            "100.100.100.0/24",
            "198.18.0.0/15",
            "240.0.0.0/4",
            "192.0.0.0/24",
            "10.0.0.0/7",
            "0.0.0.0/0",
            "fc00::/7",
            "fd00::/8",
            "fd12:3456::/32",
            "fec0::/10",
            "fe80::/9",
            "::/0",
            "2001:db8::/32",
            "8.8.8.0/24",
            "2606:4700::/32",
        ] {
            assert_eq!(text.parse::<Network>().unwrap().check_effect(), Ok(()), "{text}");
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
}
