//! Signed texts: JWS compact serialization (RFC 7515 §7.1) with ES256 (RFC 7518 §3.4) and nothing else.
//!
//! The reader decides algorithm, type and key; a header can only agree or be refused. There is no way to
//! ask for "whatever the header says", and an unverified payload is never handed out.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD as BASE64URL};
use serde::{Deserialize, Serialize};

use crate::limits::{CERTIFICATE_LEN_MAX, X5C_MAX};

/// The only algorithm.
const ALG: &str = "ES256";

/// Longest protected header, in octets of base64url: a full certificate chain fits.
const HEADER_LEN_MAX: usize = 2 * X5C_MAX * CERTIFICATE_LEN_MAX;

/// Why a signed text is not believed. Asking again with the same text changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwsError {
    /// Not three parts of base64url with a JSON header, or cut off.
    #[error("the signed text is malformed or cut off")]
    Malformed,
    /// Signed with another algorithm, or with none.
    #[error("the signed text uses another algorithm than ES256")]
    WrongAlgorithm,
    /// Meant for another purpose.
    #[error("the signed text has another purpose")]
    WrongType,
    /// Signed with a key that is not one of those given.
    #[error("the signed text names a key that is not known here")]
    UnknownKey,
    /// The signature is not the key's.
    #[error("the signature does not verify")]
    BadSignature,
}

/// A text could not be signed: the key or the system's randomness failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the text could not be signed")]
pub struct SignError;

/// Not a P-256 key in the form asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a P-256 key in the form expected")]
pub struct KeyError;

/// A P-256 public key.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PublicKey([u8; POINT_LEN]);

/// An uncompressed point: `04 | x | y` (SEC 1 §2.3.3).
const POINT_LEN: usize = 65;

/// What stands in front of the point in a `SubjectPublicKeyInfo` of a P-256 key (RFC 5480 §2).
const SPKI_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

impl PublicKey {
    /// The key with this uncompressed point: what a certificate's `subjectPublicKey` holds.
    pub fn from_point(point: &[u8]) -> Result<Self, KeyError> {
        match <[u8; POINT_LEN]>::try_from(point) {
            Ok(point) if point.starts_with(&[4]) => Ok(Self(point)),
            _ => Err(KeyError),
        }
    }

    /// The key in this `SubjectPublicKeyInfo`, DER.
    pub fn from_spki_der(spki: &[u8]) -> Result<Self, KeyError> {
        Self::from_point(spki.strip_prefix(&SPKI_PREFIX).ok_or(KeyError)?)
    }

    /// The uncompressed point.
    pub fn as_point(&self) -> &[u8] {
        &self.0
    }

    fn coordinates(&self) -> (&[u8], &[u8]) {
        self.0.get(1..).unwrap_or_default().split_at_checked(32).unwrap_or_default()
    }

    fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), JwsError> {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &self.0)
            .verify(message, signature)
            .map_err(|_| JwsError::BadSignature)
    }
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicKey({})", BASE64URL.encode(self.coordinates().0))
    }
}

/// A public key with its name, as JWK (RFC 7517).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "JwkText", into = "JwkText")]
pub struct Jwk {
    /// What a signed text calls it.
    pub kid: String,
    /// The key.
    pub key: PublicKey,
}

impl Jwk {
    /// A key named by its thumbprint (RFC 7638).
    pub fn new(key: PublicKey) -> Self {
        let (x, y) = key.coordinates();
        let members = format!(
            r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#,
            BASE64URL.encode(x),
            BASE64URL.encode(y)
        );
        Self { kid: BASE64URL.encode(digest(&SHA256, members.as_bytes())), key }
    }

    /// The keys of a JWK set (RFC 7517 §5). Members of other kinds are skipped, so that a newer control may add some.
    pub fn read_set(set: &serde_json::Value) -> Vec<Self> {
        let keys =
            set.get("keys").and_then(serde_json::Value::as_array).map(Vec::as_slice).unwrap_or_default();
        keys.iter().filter_map(|key| Self::deserialize(key).ok()).collect()
    }

    /// A JWK set.
    pub fn write_set(keys: &[Self]) -> serde_json::Value {
        serde_json::json!({ "keys": keys })
    }
}

/// A JWK as JSON has it.
#[derive(Clone, Serialize, Deserialize)]
struct JwkText {
    kty: String,
    crv: String,
    #[serde(rename = "use", default, skip_serializing_if = "Option::is_none")]
    usage: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    alg: Option<String>,
    kid: String,
    x: String,
    y: String,
}

impl From<Jwk> for JwkText {
    fn from(jwk: Jwk) -> Self {
        let (x, y) = jwk.key.coordinates();
        Self {
            kty: "EC".to_owned(),
            crv: "P-256".to_owned(),
            usage: Some("sig".to_owned()),
            alg: Some(ALG.to_owned()),
            x: BASE64URL.encode(x),
            y: BASE64URL.encode(y),
            kid: jwk.kid,
        }
    }
}

impl TryFrom<JwkText> for Jwk {
    type Error = KeyError;

    fn try_from(text: JwkText) -> Result<Self, KeyError> {
        let ours = text.kty == "EC"
            && text.crv == "P-256"
            && text.usage.is_none_or(|usage| usage == "sig")
            && text.alg.is_none_or(|alg| alg == ALG);
        if !ours {
            return Err(KeyError);
        }
        let mut point = vec![4];
        for coordinate in [text.x, text.y] {
            let octets: [u8; 32] =
                BASE64URL.decode(coordinate).map_err(|_| KeyError)?.try_into().map_err(|_| KeyError)?;
            point.extend(octets);
        }
        Ok(Self { kid: text.kid, key: PublicKey::from_point(&point)? })
    }
}

/// A P-256 key that signs, and the name others know it by.
pub struct SigningKey {
    pair: EcdsaKeyPair,
    public: Jwk,
}

impl SigningKey {
    /// Reads a PKCS #8 key (RFC 5208), DER; its name is its thumbprint.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der).map_err(|_| KeyError)?;
        Self::from_pair(pair)
    }

    /// Uses a key pair of ES256; its name is its thumbprint.
    pub fn from_pair(pair: EcdsaKeyPair) -> Result<Self, KeyError> {
        if pair.algorithm() != &ECDSA_P256_SHA256_FIXED_SIGNING {
            return Err(KeyError);
        }
        let public = Jwk::new(PublicKey::from_point(pair.public_key().as_ref())?);
        Ok(Self { pair, public })
    }

    /// What others verify with.
    pub fn public(&self) -> &Jwk {
        &self.public
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("kid", &self.public.kid).finish_non_exhaustive()
    }
}

/// The protected header. Members not named here are ignored, except `crit`, which forbids that.
#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
    typ: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kid: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    x5c: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    crit: Option<serde_json::Value>,
}

/// Signs `payload` for the purpose `typ`, naming the key.
pub fn sign(key: &SigningKey, typ: &str, payload: &[u8]) -> Result<String, SignError> {
    let kid = Some(key.public.kid.clone());
    sign_with(
        key,
        &Header { alg: ALG.to_owned(), typ: typ.to_owned(), kid, x5c: Vec::new(), crit: None },
        payload,
    )
}

/// Signs `payload` for the purpose `typ`, carrying the certificates (DER, the key's own first) that lead
/// to a root the reader trusts (RFC 7515 §4.1.6).
pub fn sign_with_chain<C: AsRef<[u8]>>(
    key: &SigningKey,
    typ: &str,
    chain: &[C],
    payload: &[u8],
) -> Result<String, SignError> {
    let fits =
        (1..=X5C_MAX).contains(&chain.len()) && chain.iter().all(|c| c.as_ref().len() <= CERTIFICATE_LEN_MAX);
    if !fits {
        return Err(SignError);
    }
    let x5c = chain.iter().map(|certificate| STANDARD.encode(certificate)).collect();
    sign_with(key, &Header { alg: ALG.to_owned(), typ: typ.to_owned(), kid: None, x5c, crit: None }, payload)
}

fn sign_with(key: &SigningKey, header: &Header, payload: &[u8]) -> Result<String, SignError> {
    let mut text = BASE64URL.encode(serde_json::to_vec(header).map_err(|_| SignError)?);
    text.push('.');
    BASE64URL.encode_string(payload, &mut text);
    let signature = key.pair.sign(&SystemRandom::new(), text.as_bytes()).map_err(|_| SignError)?;
    text.push('.');
    BASE64URL.encode_string(signature, &mut text);
    Ok(text)
}

/// The payload of `jws`, if one of `keys` signed it for the purpose `typ`.
pub fn verify(jws: &str, typ: &str, keys: &[Jwk]) -> Result<Vec<u8>, JwsError> {
    let parts = Parts::split(jws)?;
    let header = parts.header(typ)?;
    let kid = header.kid.ok_or(JwsError::UnknownKey)?;
    let key = keys.iter().find(|key| key.kid == kid).ok_or(JwsError::UnknownKey)?;
    parts.verify(&key.key)
}

/// The payload of `jws`, if it was signed for the purpose `typ` with the key that `trust` finds in the
/// certificates (DER) of its header. `trust` must verify the whole chain, purpose and names included.
///
/// # Errors
/// [`ChainError::Untrusted`] with what `trust` said.
pub fn verify_with_chain<E>(
    jws: &str,
    typ: &str,
    trust: impl FnOnce(&[Vec<u8>]) -> Result<PublicKey, E>,
) -> Result<Vec<u8>, ChainError<E>> {
    let parts = Parts::split(jws)?;
    let header = parts.header(typ)?;
    if !(1..=X5C_MAX).contains(&header.x5c.len()) {
        return Err(ChainError::Jws(JwsError::UnknownKey));
    }
    let decode = |text: &String| STANDARD.decode(text).ok().filter(|der| der.len() <= CERTIFICATE_LEN_MAX);
    let chain: Vec<Vec<u8>> =
        header.x5c.iter().map(decode).collect::<Option<_>>().ok_or(JwsError::Malformed)?;
    let key = trust(&chain).map_err(ChainError::Untrusted)?;
    Ok(parts.verify(&key)?)
}

/// Why a text with a certificate chain is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError<E> {
    /// The text itself.
    #[error(transparent)]
    Jws(#[from] JwsError),
    /// Its certificates.
    #[error("the signer's certificate is not trusted: {0}")]
    Untrusted(E),
}

struct Parts<'a> {
    /// What the signature covers: header and payload with the dot between them.
    signed: &'a str,
    header: &'a str,
    payload: &'a str,
    signature: &'a str,
}

impl<'a> Parts<'a> {
    fn split(jws: &'a str) -> Result<Self, JwsError> {
        let (signed, signature) = jws.rsplit_once('.').ok_or(JwsError::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(JwsError::Malformed)?;
        if payload.contains('.') || header.len() > HEADER_LEN_MAX {
            return Err(JwsError::Malformed);
        }
        Ok(Self { signed, header, payload, signature })
    }

    fn header(&self, typ: &str) -> Result<Header, JwsError> {
        let json = BASE64URL.decode(self.header).map_err(|_| JwsError::Malformed)?;
        let header: Header = serde_json::from_slice(&json).map_err(|_| JwsError::Malformed)?;
        if header.alg != ALG {
            return Err(JwsError::WrongAlgorithm);
        }
        if header.typ != typ {
            return Err(JwsError::WrongType);
        }
        // It lists members that must be understood, and we understand none that can be listed (RFC 7515 §4.1.11).
        if header.crit.is_some() { Err(JwsError::Malformed) } else { Ok(header) }
    }

    fn verify(&self, key: &PublicKey) -> Result<Vec<u8>, JwsError> {
        let signature = BASE64URL.decode(self.signature).map_err(|_| JwsError::Malformed)?;
        key.verify(self.signed.as_bytes(), &signature)?;
        BASE64URL.decode(self.payload).map_err(|_| JwsError::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_made_by_other_code_verifies() {
        // RFC 7515 §A.3.
        let jws = concat!(
            "eyJhbGciOiJFUzI1NiJ9.",
            "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.",
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        );
        let key: Jwk = serde_json::from_str(concat!(
            r#"{"kty":"EC","crv":"P-256","kid":"k","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","#,
            r#""y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#,
        ))
        .unwrap();
        let payload = Parts::split(jws).unwrap().verify(&key.key).unwrap();
        assert!(payload.starts_with(br#"{"iss":"joe","#));
        let other = jws.replace("DtEh", "DtEi");
        assert_eq!(Parts::split(&other).unwrap().verify(&key.key), Err(JwsError::BadSignature));
        // The header names no purpose, so it is none of ours.
        assert_eq!(verify(jws, "any", &[key]), Err(JwsError::Malformed));
    }
}
