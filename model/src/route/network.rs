//! Networks of clients, as a route lists them: addresses in CIDR notation (RFC 4632, RFC 4291 §2.3).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Most networks of one route.
pub const NETWORKS_MAX: usize = 64;

/// A network: an address with a prefix length, and no bit set behind it.
///
/// Made only by parsing, so whoever holds one may compare it. A network of IPv4 addresses written as IPv6 (`::ffff:10.0.0.0/104`)
/// is kept as the IPv4 network it is, as clients' addresses are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr(IpNet);

/// A text is not a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// Neither an address nor one with a prefix length.
    #[error("a network is written as 192.0.2.0/24, 2001:db8::/32, or one address")]
    Malformed,
    /// Bits are set behind the prefix: one of the two is not what was meant.
    #[error("the address has bits behind its prefix; the network it lies in is {0}")]
    HostBits(Cidr),
}

impl Cidr {
    /// Whether `address` lies in it. An IPv4 address written as IPv6 counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }

    /// Whether every address of it lies in `other`.
    pub fn is_within(&self, other: &Self) -> bool {
        other.0.contains(&self.0)
    }

    /// Whether together `networks` hold every IPv4 address, and every IPv6 address.
    pub fn cover(networks: &[Self]) -> (bool, bool) {
        let networks: Vec<IpNet> = networks.iter().map(|network| network.0).collect();
        let whole = IpNet::aggregate(&networks);
        let is_whole = |v4: bool| whole.iter().any(|net| net.prefix_len() == 0 && net.addr().is_ipv4() == v4);
        (is_whole(true), is_whole(false))
    }

    /// An IPv6 network of nothing but IPv4 addresses, as IPv4.
    fn folded(network: IpNet) -> IpNet {
        /// The bits before an IPv4 address in `::ffff:a.b.c.d` (RFC 4291 §2.5.5.2).
        const MAPPED: u8 = 96;
        let IpNet::V6(v6) = network else { return network };
        let folded = v6.addr().to_ipv4_mapped().filter(|_| v6.prefix_len() >= MAPPED);
        let v4 = folded.and_then(|address| Ipv4Net::new(address, v6.prefix_len() - MAPPED).ok());
        v4.map_or(network, IpNet::V4)
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        // Part by part: leading zeros, which some read as octal, are in no address.
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| CidrError::Malformed)?;
        let network = match length {
            None => IpNet::from(address),
            Some(length) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
                let length = length.parse().map_err(|_| CidrError::Malformed)?;
                IpNet::new(address, length).map_err(|_| CidrError::Malformed)?
            }
            Some(_) => return Err(CidrError::Malformed),
        };
        let network = Self::folded(network);
        if network.trunc() == network {
            Ok(Self(network))
        } else {
            Err(CidrError::HostBits(Self(network.trunc())))
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Cidr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_is_read_in_one_form_only() {
        for (text, shown) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("192.0.2.7", "192.0.2.7/32"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("2001:DB8:0::1", "2001:db8::1/128"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:192.0.2.7", "192.0.2.7/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
        ] {
            assert_eq!(cidr(text).to_string(), shown);
        }
        assert_eq!("10.0.0.1/8".parse::<Cidr>(), Err(CidrError::HostBits(cidr("10.0.0.0/8"))));
        assert_eq!("2001:db8::1/64".parse::<Cidr>(), Err(CidrError::HostBits(cidr("2001:db8::/64"))));
        for text in [
            "",
            "10.0.0.0/33",
            "10.0.0/8",
            "10.0.0.0/",
            "::/129",
            "host",
            "10.0.0.0 /8",
            "010.0.0.0/8",
            "10.0.0.0/+8",
        ] {
            assert_eq!(text.parse::<Cidr>(), Err(CidrError::Malformed), "{text}");
        }
    }

    #[test]
    fn an_ipv4_address_is_the_same_however_it_is_written() {
        let inside: [IpAddr; 2] = ["10.1.2.3".parse().unwrap(), "::ffff:10.1.2.3".parse().unwrap()];
        assert!(inside.iter().all(|address| cidr("10.0.0.0/8").contains(*address)));
        assert!(inside.iter().all(|address| cidr("::ffff:10.0.0.0/104").contains(*address)));
        assert!(inside.iter().all(|address| !cidr("::/0").contains(*address)), "no IPv6 network holds them");
        assert!(!cidr("0.0.0.0/0").contains("2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn networks_that_cover_everything_are_seen_even_in_pieces() {
        let cover = |texts: &[&str]| Cidr::cover(&texts.iter().map(|text| cidr(text)).collect::<Vec<_>>());
        assert_eq!(cover(&[]), (false, false));
        assert_eq!(cover(&["0.0.0.0/0"]), (true, false));
        assert_eq!(cover(&["::/1", "0.0.0.0/1", "128.0.0.0/1", "8000::/1"]), (true, true));
        assert_eq!(cover(&["0.0.0.0/1", "128.0.0.0/2", "192.0.0.0/3"]), (false, false));
    }
}
