//! Short names people choose: of organizations, projects, environments, upstreams, roles and permissions.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest slug, in characters. Two of them and `--` fit one DNS label of 63 only below 30 each, so
/// an endpoint's label is checked again when it is made.
pub const SLUG_LEN_MAX: usize = 40;

/// Longest role or permission name, in characters.
pub const NAME_LEN_MAX: usize = 64;

/// Words that would collide with platform hosts or read as ours, as the name of an organization or project.
pub const RESERVED: [&str; 14] = [
    "admin",
    "api",
    "connect",
    "console",
    "edge",
    "help",
    "login",
    "mezu",
    "mezusphere",
    "platform",
    "status",
    "support",
    "warpgate",
    "www",
];

/// A name that can stand in a host name: `a-z`, `0-9` and single hyphens inside, at most 40 characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slug(String);

/// Why a text is not a slug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SlugError {
    /// Empty or longer than 40 characters.
    #[error("use 1 to 40 characters")]
    Length,
    /// Something else than `a-z`, `0-9` and `-`.
    #[error("use lower-case letters, digits and hyphens")]
    Character,
    /// Starts or ends with a hyphen, or has two in a row (`--` separates project and environment).
    #[error("put single hyphens between letters or digits, not at the ends and not two in a row")]
    Hyphen,
    /// A platform name where one may not stand ([`Slug::check_free`]), or one that starts with `xn`.
    #[error("this name is reserved by the platform")]
    Reserved,
}

impl Slug {
    /// Reads a slug. Case is not folded: what is stored is what was typed.
    pub fn parse(text: &str) -> Result<Self, SlugError> {
        if text.is_empty() || text.len() > SLUG_LEN_MAX {
            return Err(SlugError::Length);
        }
        if !text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
            return Err(SlugError::Character);
        }
        if text.starts_with('-') || text.ends_with('-') || text.contains("--") {
            return Err(SlugError::Hyphen);
        }
        if text.starts_with("xn") {
            return Err(SlugError::Reserved);
        }
        Ok(Self(text.to_owned()))
    }

    /// Whether it may name an organization or a project, whose name stands in host names: not if it is a word of the
    /// platform. An upstream may well be called `api`.
    pub fn check_free(&self) -> Result<(), SlugError> {
        if RESERVED.contains(&self.as_str()) { Err(SlugError::Reserved) } else { Ok(()) }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name of a role, a permission or a scope: `customer`, `orders:read`, `connect`.
///
/// Letters, digits and `. _ : / -`, at most 64 characters; never a comma, because lists of them travel in one header.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

/// Why a text is not a role or permission name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("use 1 to 64 letters, digits and . _ : / -")]
pub struct NameError;

impl Name {
    /// Reads a name; case matters.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let ok = (1..=NAME_LEN_MAX).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:/-".contains(&b));
        if ok { Ok(Self(text.to_owned())) } else { Err(NameError) }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! text_type {
    ($name:ident, $error:ty) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = $error;

            fn from_str(text: &str) -> Result<Self, $error> {
                Self::parse(text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
            }
        }
    };
}

text_type!(Slug, SlugError);
text_type!(Name, NameError);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slug_fits_a_host_name_and_cannot_pose_as_the_platform() {
        assert!(Slug::parse("shop-2").is_ok());
        let rows = [
            ("", SlugError::Length),
            ("Shop", SlugError::Character),
            ("a.b", SlugError::Character),
            ("-a", SlugError::Hyphen),
            ("a--b", SlugError::Hyphen),
            ("xn-a", SlugError::Reserved),
        ];
        for (text, why) in rows {
            assert_eq!(Slug::parse(text), Err(why), "{text:?}");
        }
        assert_eq!(Slug::parse("login").unwrap().check_free(), Err(SlugError::Reserved));
        assert_eq!(Slug::parse("shop").unwrap().check_free(), Ok(()));
    }

    #[test]
    fn a_name_never_holds_a_comma() {
        assert!(Name::parse("orders:read").is_ok());
        assert_eq!(Name::parse("a,b"), Err(NameError));
        assert_eq!(Name::parse(""), Err(NameError));
    }
}
