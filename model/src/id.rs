//! Ids: 128 random bits with a prefix that says of what, so that one kind is never taken for another.
//!
//! Text form: the prefix, `_`, and 26 characters of lower-case Crockford base32: `prj_06h5w1v…`.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::entropy::Entropy;

/// Why a text is not an id of the kind asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an id of the form {prefix}_ and 26 characters")]
pub struct IdError {
    /// The prefix that was expected.
    pub prefix: &'static str,
}

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Characters of the random part: 26 × 5 bits hold 128.
const TEXT_LEN: usize = 26;

/// The digit each octet stands for. Every key and document holds several ids, so they are read without a search.
const DIGITS: [u8; 256] = digits();

/// What an octet that is no digit stands for.
const NO_DIGIT: u8 = 0xff;

#[expect(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler, which stops at an index out of range"
)]
const fn digits() -> [u8; 256] {
    let mut digits = [NO_DIGIT; 256];
    let mut digit = 0;
    while digit < ALPHABET.len() {
        #[expect(clippy::cast_possible_truncation, reason = "below 32")]
        let value = digit as u8;
        digits[ALPHABET[digit] as usize] = value;
        digit += 1;
    }
    digits
}

fn encode(mut value: u128, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut text = [b'0'; TEXT_LEN];
    for character in text.iter_mut().rev() {
        let digit = usize::try_from(value & 31).unwrap_or(0);
        *character = ALPHABET.get(digit).copied().unwrap_or(b'0');
        value >>= 5;
    }
    f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
}

fn decode(text: &str) -> Option<u128> {
    if text.len() != TEXT_LEN {
        return None;
    }
    let mut value: u128 = 0;
    for byte in text.bytes() {
        let digit = *DIGITS.get(usize::from(byte))?;
        if digit == NO_DIGIT || value >> 123 != 0 {
            return None; // not a digit, or more than 128 bits
        }
        value = (value << 5) | u128::from(digit);
    }
    Some(value)
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u128);

        impl $name {
            /// What its text form starts with.
            pub const PREFIX: &'static str = $prefix;

            /// A new id.
            pub fn random(entropy: &Entropy) -> Self {
                Self(u128::from_be_bytes(entropy.bytes()))
            }

            /// The id with these 128 bits; for wire formats.
            pub const fn from_bits(bits: u128) -> Self {
                Self(bits)
            }

            /// The 128 bits; for wire formats.
            pub const fn bits(self) -> u128 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!($prefix, "_"))?;
                encode(self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                text.strip_prefix(concat!($prefix, "_"))
                    .and_then(decode)
                    .map(Self)
                    .ok_or(IdError { prefix: $prefix })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(D::Error::custom)
            }
        }
    )*};
}

ids! {
    /// An organization: owns projects, and directories its projects share.
    OrganizationId = "org";
    /// A project: owns environments, service accounts and roles; the border between tenants.
    ProjectId = "prj";
    /// An environment of a project: where routes live and warpgates connect.
    EnvironmentId = "env";
    /// A route of an environment.
    RouteId = "rte";
    /// A directory: where end users live.
    DirectoryId = "dir";
    /// A person in a directory.
    UserId = "usr";
    /// A machine's account in a project.
    ServiceAccountId = "sva";
    /// A credential of a service account.
    ApiKeyId = "key";
    /// A sign-in at the login host; app sessions are its children.
    SignInId = "sgn";
    /// A session on one app host.
    SessionId = "ses";
    /// A running instance of a warpgate; its certificate names it.
    WarpgateId = "wgt";
    /// An edge node; its certificate names it.
    EdgeId = "edg";
    /// A control node; its certificate names it.
    ControlId = "ctl";
    /// One request on its way; in every log line and error page.
    RequestId = "req";
    /// An invitation for an edge to join; good once.
    JoinId = "inv";
    /// A flow: one run of a sign-in, sign-up, recovery….
    FlowId = "flw";
    /// A mail that waits to be sent.
    MailId = "mal";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_its_text_form() {
        let entropy = Entropy::counting();
        for _ in 0..100 {
            let id = ProjectId::random(&entropy);
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        let last = ProjectId::from_bits(u128::MAX);
        assert_eq!(last.to_string().parse(), Ok(last));
    }

    #[test]
    fn an_id_of_another_kind_is_refused() {
        let id = ProjectId::from_bits(7).to_string();
        assert_eq!(id.parse::<RouteId>(), Err(IdError { prefix: "rte" }));
        assert!("prj_short".parse::<ProjectId>().is_err());
        assert!("prj_zzzzzzzzzzzzzzzzzzzzzzzzzz".parse::<ProjectId>().is_err(), "over 128 bits");
    }
}
