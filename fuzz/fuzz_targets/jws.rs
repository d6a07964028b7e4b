//! Signed texts: no text panics, and none that the fuzzer can make is believed.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use mezusphere_model::Timestamp;
use mezusphere_model::bundle::SignedBundle;
use mezusphere_model::id::{EnvironmentId, ProjectId};
use tunnel_proto::assertion::{self, Audience, Claims};
use tunnel_proto::jws::{Jwk, PublicKey};
use tunnel_proto::{bundle, jws};

/// The public key of RFC 7515 §A.3, under an easy name.
static KEYS: LazyLock<Vec<Jwk>> = LazyLock::new(|| {
    let set = serde_json::json!({"keys": [{
        "kty": "EC", "crv": "P-256", "kid": "k",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    }]});
    Jwk::read_set(&set)
});

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let audience = Audience { project: ProjectId::from_bits(1), environment: EnvironmentId::from_bits(2) };
    assert!(assertion::verify(text, &KEYS, audience, Timestamp::from_seconds(1_800_000_000)).is_err());
    assert!(jws::verify(text, assertion::TYP, &KEYS).is_err());
    let signed = SignedBundle { environment: EnvironmentId::from_bits(2), revision: 1, jws: text.to_owned() };
    let trust = |_: &[Vec<u8>]| KEYS.first().map(|key| key.key.clone()).ok_or("no key");
    assert!(bundle::open(&signed, trust).is_err());
    let _spki = PublicKey::from_spki_der(data);
    if let Ok(json) = serde_json::from_slice(data) {
        let keys = Jwk::read_set(&json);
        assert_eq!(Jwk::read_set(&Jwk::write_set(&keys)), keys);
    }
    if let Ok(claims) = serde_json::from_slice::<Claims>(data) {
        let _identity = claims.identity();
    }
});
