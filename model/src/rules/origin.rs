//! Web origins (RFC 6454), as browsers write them into `origin`.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::authority;

/// An origin, `scheme://host[:port]`, exactly as a browser sends it; or `*`, every origin.
///
/// Made only by [`Origin::parse`], so whoever holds one may compare bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin(String);

/// A text is not an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "an origin is scheme://host or scheme://host:port, in lower case, with nothing after it and no usual port"
)]
pub struct OriginError;

impl Origin {
    /// Reads an origin in the one form that browsers send: lower case, no slash at the end, no port that goes without saying.
    pub fn parse(text: &str) -> Result<Self, OriginError> {
        if text == "*" {
            return Ok(Self(text.to_owned()));
        }
        let (scheme, authority) = text.split_once("://").ok_or(OriginError)?;
        // Applications have schemes of their own (`capacitor://localhost`).
        let is_scheme = scheme.starts_with(|first: char| first.is_ascii_lowercase())
            && scheme.len() <= 32
            && scheme.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b));
        let usual = match scheme {
            "http" => ":80",
            "https" => ":443",
            _ => "://", // no authority ends so
        };
        let good = is_scheme && authority::is_authority(authority) && !authority.ends_with(usual);
        if good { Ok(Self(text.to_owned())) } else { Err(OriginError) }
    }

    /// Whether it stands for every origin.
    pub fn is_any(&self) -> bool {
        self.0 == "*"
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        Self::parse(text)
    }
}

impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Origin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
