//! How values that are not JSON by nature are written in it: octets, digests, tokens, names.

use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use mezusphere_model::token::Token;
use mezusphere_store::feed::{Digest, Epoch};
use serde::{Deserialize, Deserializer, Serializer};

/// Whatever is written as text.
pub(crate) mod as_text {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer, T: std::fmt::Display>(
        value: &T,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub(crate) fn deserialize<'de, D, T>(from: D) -> Result<T, D::Error>
    where
        D: Deserializer<'de>,
        T: std::str::FromStr<Err: std::fmt::Display>,
    {
        std::borrow::Cow::<'de, str>::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

pub(super) mod epoch {
    use super::{Deserialize, Deserializer, Epoch, Serializer};
    use serde::de::Error as _;

    pub(crate) fn serialize<S: Serializer>(epoch: &Epoch, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{:032x}", epoch.0))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Epoch, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        u128::from_str_radix(&text, 16).map(Epoch).map_err(D::Error::custom)
    }
}

pub(super) mod digest {
    use base64::Engine as _;

    use super::{BASE64URL, Deserializer, Digest, Serializer};
    use serde::de::Error as _;

    pub(crate) fn serialize<S: Serializer>(digest: &Digest, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&BASE64URL.encode(digest.0))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Digest, D::Error> {
        let bytes = super::bytes::deserialize(from)?;
        bytes.try_into().map(Digest).map_err(|_| D::Error::custom("a digest has 32 bytes"))
    }
}

/// A token as text; on authenticated, encrypted connections only.
pub(crate) mod token {
    use super::{Deserialize, Deserializer, Serializer, Token};
    use serde::de::Error as _;

    pub(crate) fn serialize<S: Serializer>(token: &Token, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&token.reveal())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Token, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        Token::parse(&text).ok_or_else(|| D::Error::custom("not a token"))
    }
}

/// Octets as base64url.
pub(crate) mod bytes {
    use base64::Engine as _;

    use super::{BASE64URL, Deserialize, Deserializer, Serializer};
    use serde::de::Error as _;

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&BASE64URL.encode(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        BASE64URL.decode(text.as_bytes()).map_err(|_| D::Error::custom("not base64url"))
    }
}

/// A list of octets as base64url.
pub(crate) mod list_of_bytes {
    use base64::Engine as _;

    use super::{BASE64URL, Deserialize, Deserializer, Serializer};
    use serde::de::Error as _;

    pub(crate) fn serialize<S: Serializer>(list: &[Vec<u8>], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(list.iter().map(|bytes| BASE64URL.encode(bytes)))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Vec<u8>>, D::Error> {
        let list = Vec::<std::borrow::Cow<'de, str>>::deserialize(from)?;
        let decode = |text: &std::borrow::Cow<'_, str>| BASE64URL.decode(text.as_bytes());
        list.iter().map(decode).collect::<Result<_, _>>().map_err(|_| D::Error::custom("not base64url"))
    }
}
