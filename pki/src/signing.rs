//! Keys that sign assertions: ES256 (ECDSA P-256 with SHA-256, RFC 7518 §3.4). The JWS format itself is
//! `tunnel-proto`'s.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use zeroize::Zeroizing;

use crate::key::KeyError;

/// A key that signs assertions, with the id verifiers know it by.
pub struct SigningKey {
    pair: EcdsaKeyPair,
    pkcs8: Zeroizing<Vec<u8>>,
    kid: String,
    x: String,
    y: String,
}

impl SigningKey {
    /// A new key, from the cryptographic library's own randomness.
    pub fn generate() -> Result<Self, KeyError> {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
            .map_err(|error| KeyError::Library(error.to_string()))?;
        Self::from_pkcs8_der(pkcs8.as_ref())
    }

    /// Reads what [`SigningKey::pkcs8_der`] gave.
    pub fn from_pkcs8_der(der: &[u8]) -> Result<Self, KeyError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der)
            .map_err(|_| KeyError::Malformed)?;
        // An uncompressed point: 4, then x and y of 32 octets each (SEC 1 §2.3.3).
        let point = pair.public_key().as_ref();
        let (x, y) = match point.split_first() {
            Some((4, coordinates)) if coordinates.len() == 64 => coordinates.split_at(32),
            _ => return Err(KeyError::Malformed),
        };
        let (x, y) = (BASE64URL.encode(x), BASE64URL.encode(y));
        // RFC 7638 §3: members in lexicographic order, no white space.
        let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        let kid = BASE64URL.encode(digest(&SHA256, canonical.as_bytes()));
        Ok(Self { pair, pkcs8: Zeroizing::new(der.to_vec()), kid, x, y })
    }

    /// The key as PKCS #8, to be sealed.
    pub fn pkcs8_der(&self) -> &[u8] {
        &self.pkcs8
    }

    /// The key as aws-lc-rs signs with it: fixed-length signatures, as JWS wants them (RFC 7518 §3.4).
    pub fn key_pair(&self) -> &EcdsaKeyPair {
        &self.pair
    }

    /// Its id: the JWK thumbprint (RFC 7638).
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The public key as a JWK (RFC 7517, RFC 7518 §6.2).
    pub fn public_jwk(&self) -> serde_json::Value {
        serde_json::json!({
            "kty": "EC", "crv": "P-256", "x": self.x, "y": self.y,
            "kid": self.kid, "alg": "ES256", "use": "sig",
        })
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.kid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    #[test]
    fn the_published_key_verifies_what_the_private_key_signed() {
        let key = SigningKey::generate().unwrap();
        let again = SigningKey::from_pkcs8_der(key.pkcs8_der()).unwrap();
        assert_eq!(key.public_jwk(), again.public_jwk());
        let signature = again.key_pair().sign(&SystemRandom::new(), b"claims").unwrap();
        let jwk = key.public_jwk();
        let mut point = vec![4];
        for member in ["x", "y"] {
            point.extend(BASE64URL.decode(jwk[member].as_str().unwrap()).unwrap());
        }
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
        assert!(public.verify(b"claims", signature.as_ref()).is_ok());
        assert!(public.verify(b"others", signature.as_ref()).is_err());
    }

    #[test]
    fn a_key_id_is_the_jwk_thumbprint_and_debug_shows_nothing_else() {
        let key = SigningKey::generate().unwrap();
        assert_eq!(BASE64URL.decode(key.kid()).unwrap().len(), 32);
        assert_eq!(format!("{key:?}"), format!("SigningKey({})", key.kid()));
    }
}
