//! Ranges of IP addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::Deserialize;

/// A range of addresses, written `10.0.0.0/8` or `fd12:3456::/32`.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Network {
    pub(crate) first: IpAddr,
    pub(crate) prefix_bits: u8,
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
    /// The network with these first octets.
    pub(crate) const fn v4(octets: [u8; 4], prefix_bits: u8) -> Self {
        let [a, b, c, d] = octets;
        Self { first: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), prefix_bits }
    }

    /// The network that begins with these two segments.
    pub(crate) const fn v6(first: u16, second: u16, prefix_bits: u8) -> Self {
        Self { first: IpAddr::V6(Ipv6Addr::new(first, second, 0, 0, 0, 0, 0, 0)), prefix_bits }
    }

    /// The network of one address.
    pub(crate) const fn v6_host(address: Ipv6Addr) -> Self {
        Self { first: IpAddr::V6(address), prefix_bits: 128 }
    }

    /// The address behind the last of the range; `None` where there is none.
    pub(crate) fn behind(&self) -> Option<IpAddr> {
        match self.first {
            IpAddr::V4(first) => {
                let size = 1_u32.checked_shl(32 - u32::from(self.prefix_bits))?;
                Some(Ipv4Addr::from_bits(first.to_bits().checked_add(size)?).into())
            }
            IpAddr::V6(first) => {
                let size = 1_u128.checked_shl(128 - u32::from(self.prefix_bits))?;
                Some(Ipv6Addr::from_bits(first.to_bits().checked_add(size)?).into())
            }
        }
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
