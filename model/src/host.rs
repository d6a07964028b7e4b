//! Public host names.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A public host name: lower-case ASCII, no port, no trailing dot (RFC 1123 §2.1).
///
/// Made only by [`Host::parse`], so whoever holds one may compare bytes. Addresses are not host names
/// here: a route is never published on a bare address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host(String);

/// Why a text is not a host name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Empty, or longer than 253 octets (RFC 1035 §2.3.4).
    #[error("a host name has 1 to 253 characters")]
    Length,
    /// A label is empty, longer than 63 octets, or starts or ends with `-`.
    #[error("each part of a host name has 1 to 63 characters and does not start or end with a hyphen")]
    Label,
    /// A character other than a letter, a digit, `-` and `.`.
    #[error("a host name holds letters, digits, hyphens and dots; write other scripts as xn-- (RFC 5891)")]
    Character,
    /// An IP address.
    #[error("an address is not a host name")]
    Address,
}

impl Host {
    /// Reads a host name without a port; one trailing dot is dropped and case is folded.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() || text.len() > 253 {
            return Err(HostError::Length);
        }
        if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.') {
            return Err(HostError::Character);
        }
        let label_ok =
            |label: &str| (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-');
        if !text.split('.').all(label_ok) {
            return Err(HostError::Label);
        }
        // Browsers read a last label of digits as an IPv4 address in some base (WHATWG URL §3.5).
        if text.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit())) {
            return Err(HostError::Address);
        }
        Ok(Self(text.to_ascii_lowercase()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this host lies below `parent`: `a.b.example` below `b.example`; a host is not below itself.
    pub fn is_below(&self, parent: &Host) -> bool {
        self.0.strip_suffix(&parent.0).is_some_and(|rest| rest.ends_with('.'))
    }

    /// `label.self`.
    pub fn child(&self, label: &str) -> Result<Self, HostError> {
        Self::parse(&format!("{label}.{}", self.0))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Host {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        Self::parse(text)
    }
}

impl std::borrow::Borrow<str> for Host {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Serialize for Host {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Host {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_compared_in_one_spelling() {
        assert_eq!(Host::parse("Shop.Example.").unwrap().as_str(), "shop.example");
    }

    #[test]
    fn what_is_not_a_host_name_is_refused() {
        let rows = [
            ("", HostError::Length),
            (".", HostError::Length),
            ("a..b", HostError::Label),
            ("-a.example", HostError::Label),
            ("a_b.example", HostError::Character),
            ("a.example:443", HostError::Character),
            ("a.example/x", HostError::Character),
            ("127.0.0.1", HostError::Address),
            ("a.0", HostError::Address),
        ];
        for (text, why) in rows {
            assert_eq!(Host::parse(text), Err(why), "{text:?}");
        }
    }

    #[test]
    fn below_means_whole_labels() {
        let parent = Host::parse("localhost").unwrap();
        assert!(Host::parse("shop.localhost").unwrap().is_below(&parent));
        assert!(!Host::parse("evillocalhost").unwrap().is_below(&parent));
        assert!(!parent.is_below(&parent));
    }
}
