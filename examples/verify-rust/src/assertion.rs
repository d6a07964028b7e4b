//! Verifying an assertion: the part to copy into a workload of your own.
//!
//! A workload that listens where only its warpgate can reach it may believe the `mezu-*` headers as they are. One that others
//! can reach as well verifies `mezu-assertion` instead: a JWS that control signed for one environment, for half an hour.
//!
//! The reader decides everything: one algorithm, one type, one issuer, one audience. The text can only agree or be refused.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use serde::Deserialize;

/// Longest assertion there is, in characters.
const LEN_MAX: usize = 8 * 1024;

/// How far a clock may be behind the one that signed, in seconds.
const SKEW_S_MAX: i64 = 60;

/// What the workload expects of every assertion.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    /// Who signs: the installation's trust domain, as `spiffe://…`.
    pub(crate) issuer: String,
    /// Whom it is for: `<project id>/<environment id>`.
    pub(crate) audience: String,
}

/// One public key of the key set, by its name.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) kid: String,
    /// `04 | x | y`.
    point: Vec<u8>,
}

/// Who sends the request.
#[derive(Debug, Deserialize)]
pub(crate) struct Claims {
    iss: String,
    aud: String,
    iat: i64,
    exp: i64,
    /// The account. Stays the same whatever else changes: keep this one beside your own data.
    pub(crate) sub: String,
    #[serde(default)]
    pub(crate) email: String,
    #[serde(default)]
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) roles: Vec<String>,
}

/// Why an assertion is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("malformed")]
    Malformed,
    #[error("wrong algorithm")]
    Algorithm,
    #[error("wrong type")]
    Type,
    #[error("unknown key")]
    UnknownKey,
    #[error("bad signature")]
    Signature,
    #[error("wrong issuer")]
    Issuer,
    #[error("wrong audience")]
    Audience,
    #[error("expired")]
    Expired,
    #[error("not valid yet")]
    NotYet,
}

/// The keys of a JWK set (RFC 7517); other kinds than ours are passed over.
pub(crate) fn keys(set: &serde_json::Value) -> Vec<Key> {
    let text = |key: &serde_json::Value, name: &str| {
        key.get(name).and_then(serde_json::Value::as_str).map(str::to_owned)
    };
    let coordinate = |key: &serde_json::Value, name| {
        BASE64URL.decode(text(key, name)?).ok().filter(|octets| octets.len() == 32)
    };
    let read = |key: &serde_json::Value| {
        let is_ours = text(key, "kty")? == "EC" && text(key, "crv")? == "P-256";
        let point = [vec![4], coordinate(key, "x")?, coordinate(key, "y")?].concat();
        is_ours.then_some(Key { kid: text(key, "kid")?, point })
    };
    set.get("keys").and_then(serde_json::Value::as_array).into_iter().flatten().filter_map(read).collect()
}

/// The key an assertion names. Nothing is believed yet: it only tells which key to look for.
pub(crate) fn kid(assertion: &str) -> Result<String, Refused> {
    #[derive(Deserialize)]
    struct Header {
        alg: String,
        typ: Option<String>,
        kid: Option<String>,
        crit: Option<serde_json::Value>,
    }
    if assertion.len() > LEN_MAX {
        return Err(Refused::Malformed);
    }
    let header: Header = part(assertion.split('.').next().unwrap_or_default())?;
    match header {
        Header { crit: Some(_), .. } => Err(Refused::Malformed),
        // Never "whatever the header says": `none` and HMAC with a public key live there.
        Header { alg, .. } if alg != "ES256" => Err(Refused::Algorithm),
        Header { typ, .. } if typ.as_deref() != Some("mezu-assertion+jwt") => Err(Refused::Type),
        Header { kid, .. } => kid.ok_or(Refused::UnknownKey),
    }
}

/// What the assertion says, if `key` signed it as expected and it is good at `now`, in seconds since 1970.
pub(crate) fn verify(assertion: &str, key: &Key, expected: &Expected, now: i64) -> Result<Claims, Refused> {
    if kid(assertion)? != key.kid {
        return Err(Refused::UnknownKey);
    }
    let (signed, signature) = assertion.rsplit_once('.').ok_or(Refused::Malformed)?;
    let (_, payload) = signed.split_once('.').ok_or(Refused::Malformed)?;
    let signature = BASE64URL.decode(signature).map_err(|_| Refused::Malformed)?;
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &key.point)
        .verify(signed.as_bytes(), &signature)
        .map_err(|_| Refused::Signature)?;
    let claims: Claims = part(payload)?;
    if claims.iss != expected.issuer {
        Err(Refused::Issuer)
    } else if claims.aud != expected.audience {
        Err(Refused::Audience)
    } else if claims.exp <= now {
        Err(Refused::Expired)
    } else if claims.iat > now.saturating_add(SKEW_S_MAX) {
        Err(Refused::NotYet)
    } else {
        Ok(claims)
    }
}

fn part<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, Refused> {
    let json = BASE64URL.decode(text).map_err(|_| Refused::Malformed)?;
    serde_json::from_slice(&json).map_err(|_| Refused::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(header: &str) -> String {
        format!("{}.e30.AAAA", BASE64URL.encode(header))
    }

    #[test]
    fn the_header_chooses_neither_algorithm_nor_type() {
        let rows = [
            (r#"{"alg":"none","typ":"mezu-assertion+jwt","kid":"k"}"#, Err(Refused::Algorithm)),
            (r#"{"alg":"HS256","typ":"mezu-assertion+jwt","kid":"k"}"#, Err(Refused::Algorithm)),
            (r#"{"alg":"es256","typ":"mezu-assertion+jwt","kid":"k"}"#, Err(Refused::Algorithm)),
            (r#"{"alg":"ES256","typ":"JWT","kid":"k"}"#, Err(Refused::Type)),
            (r#"{"alg":"ES256","kid":"k"}"#, Err(Refused::Type)),
            (r#"{"alg":"ES256","typ":"mezu-assertion+jwt"}"#, Err(Refused::UnknownKey)),
            (
                r#"{"alg":"ES256","typ":"mezu-assertion+jwt","kid":"k","crit":["b64"]}"#,
                Err(Refused::Malformed),
            ),
            (r#"{"alg":"ES256","typ":"mezu-assertion+jwt","kid":"k"}"#, Ok("k".to_owned())),
        ];
        for (header, wanted) in rows {
            assert_eq!(kid(&text(header)), wanted, "{header}");
        }
        for malformed in ["", ".", "e30", "!.e30.x", &"A".repeat(LEN_MAX + 1)] {
            assert_eq!(kid(malformed), Err(Refused::Malformed));
        }
    }

    #[test]
    fn keys_of_other_kinds_are_passed_over() {
        let x = BASE64URL.encode([7; 32]);
        let set = serde_json::json!({ "keys": [
            { "kty": "RSA", "kid": "a", "n": "AA", "e": "AQAB" },
            { "kty": "EC", "crv": "P-384", "kid": "b", "x": x, "y": x },
            { "kty": "EC", "crv": "P-256", "kid": "c", "x": "AAAA", "y": x },
            { "kty": "EC", "crv": "P-256", "kid": "d", "x": x, "y": x },
        ]});
        let found: Vec<String> = keys(&set).into_iter().map(|key| key.kid).collect();
        assert_eq!(found, ["d"]);
    }
}
