//! What a warpgate believes: assertions and bundles signed by control, and nothing that merely looks like them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use mezusphere_model::bundle::{Bundle, SignedBundle};
use mezusphere_model::id::{
    DirectoryId, EnvironmentId, OrganizationId, ProjectId, ServiceAccountId, SessionId, UserId,
};
use mezusphere_model::identity::{Assurance, Identity, Method, Subject};
use mezusphere_model::route::SiteDoc;
use mezusphere_model::rules::ProjectQuota;
use mezusphere_model::slug::{Name, Slug};
use mezusphere_model::{Host, Timestamp};
use serde_json::json;
use tunnel_proto::assertion::{self, AssertionError, Audience, Claims, MintError, TYP};
use tunnel_proto::bundle::{self, BundleError};
use tunnel_proto::jws::{self, Jwk, JwsError, PublicKey, SigningKey};
use tunnel_proto::limits::{ASSERTION_LEN_MAX, BUNDLE_LEN_MAX};

const AUDIENCE: Audience =
    Audience { project: ProjectId::from_bits(1), environment: EnvironmentId::from_bits(2) };

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

fn key() -> SigningKey {
    SigningKey::from_pair(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()).unwrap()
}

fn ada() -> Identity {
    Identity {
        subject: Subject::User(UserId::from_bits(3)),
        session: Some(SessionId::from_bits(4)),
        email: "ada@shop.example".to_owned(),
        name: "Ada, Countess of Lovelace".to_owned(),
        roles: vec![Name::parse("customer").unwrap()],
        permissions: vec![Name::parse("orders:read").unwrap()],
        methods: vec![Method::Password, Method::OneTimeCode],
        assurance: Assurance::Aal2,
        authenticated_at: Timestamp::from_seconds(1_799_999_000),
        claims: [("plan".to_owned(), json!("gold"))].into(),
    }
}

fn claims() -> Claims {
    Claims::from_identity(&ada(), "spiffe://mezu.internal", AUDIENCE, NOW)
}

fn verify(jws: &str, key: &SigningKey) -> Result<Claims, AssertionError> {
    assertion::verify(jws, &[key.public().clone()], AUDIENCE, NOW)
}

/// A compact JWS of these parts, signed with `key` whatever they say.
fn forge(key: &EcdsaKeyPair, header: &serde_json::Value, payload: &serde_json::Value) -> String {
    let signed =
        format!("{}.{}", BASE64URL.encode(header.to_string()), BASE64URL.encode(payload.to_string()));
    let signature = key.sign(&aws_lc_rs::rand::SystemRandom::new(), signed.as_bytes()).unwrap();
    format!("{signed}.{}", BASE64URL.encode(signature))
}

/// A key, and the same pair for forging with it.
fn both() -> (SigningKey, EcdsaKeyPair) {
    let der = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap().to_pkcs8v1().unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.as_ref()).unwrap();
    (SigningKey::from_pkcs8(der.as_ref()).unwrap(), pair)
}

#[test]
fn an_identity_survives_its_assertion() {
    let key = key();
    let read = verify(&assertion::sign(&key, &claims()).unwrap(), &key).unwrap();
    assert_eq!(read, claims());
    assert_eq!(read.identity(), ada());
    let machine = Identity {
        subject: Subject::ServiceAccount(ServiceAccountId::from_bits(5)),
        session: None,
        methods: vec![Method::ApiKey],
        ..ada()
    };
    let claims = Claims::from_identity(&machine, "spiffe://mezu.internal", AUDIENCE, NOW);
    assert_eq!(verify(&assertion::sign(&key, &claims).unwrap(), &key).unwrap().identity(), machine);
}

#[test]
fn an_assertion_reads_as_a_standard_jwt() {
    let key = key();
    let jws = assertion::sign(&key, &claims()).unwrap();
    let parts: Vec<&str> = jws.split('.').collect();
    let json =
        |part: &str| serde_json::from_slice::<serde_json::Value>(&BASE64URL.decode(part).unwrap()).unwrap();
    assert_eq!(json(parts[0]), json!({"alg": "ES256", "typ": TYP, "kid": key.public().kid}));
    assert_eq!(
        json(parts[1]),
        json!({
            "iss": "spiffe://mezu.internal",
            "aud": AUDIENCE.to_string(),
            "sub": UserId::from_bits(3),
            "sid": SessionId::from_bits(4),
            "email": "ada@shop.example",
            "name": "Ada, Countess of Lovelace",
            "roles": ["customer"],
            "permissions": ["orders:read"],
            "amr": ["pwd", "otp"],
            "acr": "aal2",
            "auth_time": 1_799_999_000,
            "iat": 1_800_000_000,
            "exp": 1_800_001_800,
            "claims": {"plan": "gold"},
        })
    );
    assert_eq!(BASE64URL.decode(parts[2]).unwrap().len(), 64, "r and s, not DER (RFC 7518 §3.4)");
}

#[test]
fn r06_only_es256_by_the_named_key_for_the_named_purpose_is_believed() {
    let (key, pair) = both();
    let kid = &key.public().kid;
    let payload = serde_json::to_value(claims()).unwrap();
    let good = json!({"alg": "ES256", "typ": TYP, "kid": kid});
    assert!(verify(&forge(&pair, &good, &payload), &key).is_ok(), "the forge itself works");
    let rows = [
        (json!({"alg": "none", "typ": TYP, "kid": kid}), JwsError::WrongAlgorithm),
        (json!({"alg": "HS256", "typ": TYP, "kid": kid}), JwsError::WrongAlgorithm),
        (json!({"alg": "es256", "typ": TYP, "kid": kid}), JwsError::WrongAlgorithm),
        (json!({"alg": ["ES256"], "typ": TYP, "kid": kid}), JwsError::Malformed),
        (json!({"typ": TYP, "kid": kid}), JwsError::Malformed),
        (json!({"alg": "ES256", "typ": "JWT", "kid": kid}), JwsError::WrongType),
        (json!({"alg": "ES256", "typ": bundle::TYP, "kid": kid}), JwsError::WrongType),
        (json!({"alg": "ES256", "kid": kid}), JwsError::Malformed),
        (json!({"alg": "ES256", "typ": TYP}), JwsError::UnknownKey),
        (json!({"alg": "ES256", "typ": TYP, "kid": "another"}), JwsError::UnknownKey),
        (json!({"alg": "ES256", "typ": TYP, "kid": kid, "crit": ["b64"], "b64": false}), JwsError::Malformed),
        (json!([1]), JwsError::Malformed),
    ];
    for (header, why) in rows {
        let jws = forge(&pair, &header, &payload);
        assert_eq!(verify(&jws, &key), Err(why.into()), "{header}");
    }
}

#[test]
fn r06_a_header_cannot_bring_its_own_key() {
    let (key, (own, pair)) = (key(), both());
    let payload = serde_json::to_value(claims()).unwrap();
    let jwk = serde_json::to_value(own.public()).unwrap();
    let named = json!({"alg": "ES256", "typ": TYP, "kid": key.public().kid, "jwk": jwk, "jku": "https://evil.example"});
    assert_eq!(verify(&forge(&pair, &named, &payload), &key), Err(JwsError::BadSignature.into()));
}

#[test]
fn r06_an_unsigned_or_foreign_signature_is_no_signature() {
    let (key, other) = (key(), key());
    let jws = assertion::sign(&key, &claims()).unwrap();
    let (signed, _) = jws.rsplit_once('.').unwrap();
    assert_eq!(verify(&format!("{signed}."), &key), Err(JwsError::BadSignature.into()));
    assert_eq!(
        verify(&format!("{signed}.{}", BASE64URL.encode([0; 64])), &key),
        Err(JwsError::BadSignature.into())
    );
    let foreign = assertion::sign(&other, &claims()).unwrap();
    let (_, foreign) = foreign.rsplit_once('.').unwrap();
    assert_eq!(verify(&format!("{signed}.{foreign}"), &key), Err(JwsError::BadSignature.into()));
}

#[test]
fn r06_an_assertion_cut_or_altered_anywhere_is_not_believed() {
    let key = key();
    let jws = assertion::sign(&key, &claims()).unwrap();
    for cut in 0..jws.len() {
        assert!(verify(&jws[..cut], &key).is_err(), "cut at {cut}");
    }
    for at in 0..jws.len() {
        let mut altered = jws.clone().into_bytes();
        altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
        assert!(verify(&String::from_utf8(altered).unwrap(), &key).is_err(), "altered at {at}");
    }
    for more in
        [format!("{jws}."), format!("{jws}.x"), format!(".{jws}"), format!("{jws} "), format!("{jws}=")]
    {
        assert!(verify(&more, &key).is_err(), "{}", &more[more.len() - 5..]);
    }
}

#[test]
fn r06_an_assertion_for_another_environment_is_not_believed() {
    let key = key();
    let jws = assertion::sign(&key, &claims()).unwrap();
    let keys = [key.public().clone()];
    for other in [
        Audience { project: ProjectId::from_bits(9), ..AUDIENCE },
        Audience { environment: EnvironmentId::from_bits(9), ..AUDIENCE },
    ] {
        assert_eq!(assertion::verify(&jws, &keys, other, NOW), Err(AssertionError::WrongAudience));
    }
}

#[test]
fn r06_an_assertion_is_good_within_its_time_and_the_skew_of_clocks() {
    let key = key();
    let keys = [key.public().clone()];
    let jws = assertion::sign(&key, &claims()).unwrap();
    let when = |seconds: i64| {
        assertion::verify(&jws, &keys, AUDIENCE, Timestamp::from_seconds(NOW.as_seconds() + seconds))
    };
    assert!(when(0).is_ok());
    assert!(when(1799).is_ok());
    assert_eq!(when(1800), Err(AssertionError::Expired));
    assert!(when(-300).is_ok(), "our clock is five minutes behind control's");
    assert_eq!(when(-301), Err(AssertionError::NotYetValid));
    // One of a minute's life allows a quarter of it.
    let short = Claims::with_life(&ada(), "spiffe://mezu.internal", AUDIENCE, NOW, Duration::from_mins(1));
    let jws = assertion::sign(&key, &short).unwrap();
    let when = |seconds: i64| {
        assertion::verify(&jws, &keys, AUDIENCE, Timestamp::from_seconds(NOW.as_seconds() + seconds))
    };
    assert!(when(-15).is_ok());
    assert_eq!(when(-16), Err(AssertionError::NotYetValid));
    assert_eq!(when(60), Err(AssertionError::Expired));
}

#[test]
fn r06_signed_claims_that_make_no_sense_are_not_believed() {
    let (key, pair) = both();
    let header = json!({"alg": "ES256", "typ": TYP, "kid": key.public().kid});
    let good = serde_json::to_value(claims()).unwrap();
    let with = |name: &str, value: serde_json::Value| {
        let mut claims = good.clone();
        claims[name] = value;
        claims
    };
    let rows = [
        with("sub", json!("")),
        with("sub", json!("prj_00000000000000000000000001")),
        with("sub", json!(null)),
        with("roles", json!(["a,b"])),
        with("exp", json!("tomorrow")),
        with("exp", json!(1_800_000_000)),
        with("iat", json!(i64::MAX)),
        json!({}),
        json!("text"),
    ];
    for payload in rows {
        assert_eq!(verify(&forge(&pair, &header, &payload), &key), Err(AssertionError::Claims), "{payload}");
    }
    for time in [i64::MIN, i64::MAX] {
        assert!(
            verify(&forge(&pair, &header, &with("exp", json!(time))), &key).is_ok() == (time == i64::MAX)
        );
    }
}

#[test]
fn what_a_newer_control_adds_is_left_out_and_never_counts_as_stronger() {
    let (key, pair) = both();
    let header = json!({"alg": "ES256", "typ": TYP, "kid": key.public().kid, "new": 1});
    let mut payload = serde_json::to_value(claims()).unwrap();
    payload["amr"] = json!(["pwd", "telepathy"]);
    payload["acr"] = json!("aal9");
    payload["new"] = json!({});
    let identity = verify(&forge(&pair, &header, &payload), &key).unwrap().identity();
    assert_eq!(identity.methods, [Method::Password]);
    assert_eq!(identity.assurance, Assurance::Aal1);
}

#[test]
fn r23_an_assertion_too_long_for_a_header_is_neither_made_nor_read() {
    let key = key();
    let mut long = claims();
    long.name = "x".repeat(ASSERTION_LEN_MAX);
    assert_eq!(assertion::sign(&key, &long), Err(MintError::TooLong));
    let jws = jws::sign(&key, TYP, &serde_json::to_vec(&long).unwrap()).unwrap();
    assert_eq!(verify(&jws, &key), Err(AssertionError::TooLong));
}

#[test]
fn a_key_survives_its_jwk_and_is_named_by_its_thumbprint() {
    // RFC 7638 has no EC example; this is the P-256 key of RFC 7515 §A.3, its thumbprint computed elsewhere.
    let set = json!({"keys": [
        {"kty": "RSA", "kid": "old", "n": "x", "e": "AQAB"},
        {"kty": "EC", "crv": "P-256", "kid": "k1",
         "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"},
        {"kty": "EC", "crv": "P-384", "kid": "k2", "x": "AA", "y": "AA"},
        {"kty": "EC", "crv": "P-256", "kid": "k3", "use": "enc", "x": "AA", "y": "AA"},
        "nonsense",
    ]});
    let keys = Jwk::read_set(&set);
    assert_eq!(keys.iter().map(|key| key.kid.as_str()).collect::<Vec<_>>(), ["k1"], "others are skipped");
    assert_eq!(Jwk::new(keys[0].key.clone()).kid, "oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U");
    assert_eq!(Jwk::read_set(&Jwk::write_set(&keys)), keys);
    assert_eq!(Jwk::read_set(&json!({})), []);
    assert_eq!(Jwk::read_set(&json!(7)), []);
    let point = keys[0].key.as_point();
    assert_eq!(PublicKey::from_point(point).as_ref(), Ok(&keys[0].key));
    assert!(PublicKey::from_point(&point[1..]).is_err());
    assert!(PublicKey::from_spki_der(point).is_err());
}

fn bundle() -> Bundle {
    Bundle {
        min_reader: 1,
        site: SiteDoc {
            min_reader: 1,
            organization: OrganizationId::from_bits(1),
            project: ProjectId::from_bits(1),
            environment: EnvironmentId::from_bits(2),
            project_slug: Slug::parse("shop").unwrap(),
            environment_slug: Slug::parse("production").unwrap(),
            display_name: "Shop".to_owned(),
            directory: DirectoryId::from_bits(1),
            hosts: vec![Host::parse("shop.example").unwrap()],
            routes: vec![],
            revision: 7,
            quota: ProjectQuota::default(),
        },
        issued_at: NOW,
        trust_domain: "mezu.internal".to_owned(),
        roots_pem: vec![],
        assertion_jwks: json!({"keys": []}),
        edges: vec![],
        denied: vec![],
        retired: vec![],
        renew_from: None,
        origin: "https://shop.example".to_owned(),
        login_host: Host::parse("login.mezu.example").unwrap(),
    }
}

/// Stands for the chain check of `pki`: one certificate, `leaf`, which is control's.
fn trust(key: &SigningKey) -> impl Fn(&[Vec<u8>]) -> Result<PublicKey, &'static str> {
    let public = key.public().key.clone();
    move |chain| if *chain == [b"leaf".to_vec()] { Ok(public.clone()) } else { Err("not control") }
}

#[test]
fn r06_a_bundle_is_believed_only_from_control() {
    let (key, other) = (key(), key());
    let signed = bundle::sign(&bundle(), &key, &[b"leaf"]).unwrap();
    assert_eq!((signed.environment, signed.revision), (EnvironmentId::from_bits(2), 7));
    assert_eq!(bundle::open(&signed, trust(&key)), Ok(bundle()));
    assert_eq!(bundle::open(&signed, trust(&other)), Err(BundleError::Jws(JwsError::BadSignature)));
    let foreign = bundle::sign(&bundle(), &key, &[b"edge"]).unwrap();
    assert_eq!(bundle::open(&foreign, trust(&key)), Err(BundleError::Untrusted("not control")));
    // An assertion key is no bundle key, and an assertion is no bundle.
    let no_chain = jws::sign(&key, bundle::TYP, &serde_json::to_vec(&bundle()).unwrap()).unwrap();
    let unchained = SignedBundle { jws: no_chain, ..signed.clone() };
    assert_eq!(bundle::open(&unchained, trust(&key)), Err(BundleError::Jws(JwsError::UnknownKey)));
    let wrong_type = jws::sign_with_chain(&key, TYP, &[b"leaf"], b"{}").unwrap();
    let assertion = SignedBundle { jws: wrong_type, ..signed };
    assert_eq!(bundle::open(&assertion, trust(&key)), Err(BundleError::Jws(JwsError::WrongType)));
}

#[test]
fn r06_a_label_that_lies_about_a_bundle_is_noticed() {
    let key = key();
    let signed = bundle::sign(&bundle(), &key, &[b"leaf"]).unwrap();
    let newer = SignedBundle { revision: 8, ..signed.clone() };
    assert_eq!(bundle::open(&newer, trust(&key)), Err(BundleError::Mislabelled));
    let elsewhere = SignedBundle { environment: EnvironmentId::from_bits(9), ..signed };
    assert_eq!(bundle::open(&elsewhere, trust(&key)), Err(BundleError::Mislabelled));
}

#[test]
fn a_bundle_for_a_newer_reader_says_so_even_if_it_does_not_read() {
    let key = key();
    let newer = mezusphere_model::route::READER + 1;
    let payload = format!(r#"{{"min_reader":{newer},"site":"other"}}"#);
    let jws = jws::sign_with_chain(&key, bundle::TYP, &[b"leaf"], payload.as_bytes()).unwrap();
    let signed = SignedBundle { environment: EnvironmentId::from_bits(2), revision: 7, jws };
    assert_eq!(bundle::open(&signed, trust(&key)), Err(BundleError::TooNew(newer)));
}

#[test]
fn r23_a_bundle_too_long_is_neither_made_nor_read() {
    let key = key();
    let mut long = bundle();
    long.trust_domain = "x".repeat(BUNDLE_LEN_MAX);
    assert_eq!(bundle::sign(&long, &key, &[b"leaf"]), Err(bundle::MintError::TooLong));
    let signed = SignedBundle {
        environment: EnvironmentId::from_bits(2),
        revision: 7,
        jws: "x".repeat(BUNDLE_LEN_MAX + 1),
    };
    assert_eq!(bundle::open(&signed, trust(&key)), Err(BundleError::TooLong));
    let chain = vec![b"leaf"; 5];
    assert!(bundle::sign(&bundle(), &key, &chain).is_err(), "five certificates");
    assert!(bundle::sign(&bundle(), &key, &chain[..0]).is_err(), "none");
}
