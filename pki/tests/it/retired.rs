//! CAs that were retired, keys whose issuing CA is made elsewhere, and lives by role.

use std::sync::Arc;
use std::time::Duration;

use mezusphere_model::document::TrustDoc;
use mezusphere_pki::authority::AuthorityError;
use mezusphere_pki::ceremony::{CeremonyError, request_from_pem};
use mezusphere_pki::seal::{MasterKey, Sealer};
use mezusphere_pki::trust::{RETIRED_MAX, digest_from_text, digest_text};
use mezusphere_pki::{
    ExpectedRole, Issuing, IssuingRequest, LeafTtls, NodeKey, Peer, PeerError, Trust, TrustError, lifetime,
    tls, verify_peer,
};
use proptest::prelude::{any, prop_assert_eq, proptest};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};
use rustls::AlertDescription;
use rustls::pki_types::CertificateDer;

use crate::world::{ALPN, BEGIN, EDGE, World, shake};

fn without(world: &World, retired: &Issuing) -> Trust {
    world.trust().with_retired([retired.digest()]).unwrap()
}

#[test]
fn r20_what_a_retired_ca_issued_is_refused_and_what_its_successor_issued_is_not() {
    let world = World::new();
    let next = Issuing::create(&world.root, BEGIN, &world.entropy).unwrap();
    let trust = without(&world, &world.issuing);
    for (name, expected) in [
        (world.warpgate(), ExpectedRole::AnyWarpgate),
        (world.edge(), ExpectedRole::Edge(EDGE)),
        (world.control(), ExpectedRole::AnyControl),
    ] {
        let old = world.identity_for(&name, lifetime::LEAF_TTL);
        let judged = verify_peer(old.chain(), &trust, BEGIN, expected);
        assert_eq!(judged, Err(PeerError::Retired(Box::new(name.clone()))));
        let words = judged.unwrap_err().to_string();
        assert!(words.contains("retired") && words.contains("by itself"), "{words}");
        let key = NodeKey::generate().unwrap();
        let leaf = next.issue(&key.csr_der().unwrap(), &name, BEGIN, lifetime::LEAF_TTL).unwrap();
        let peer = verify_peer(&leaf.chain, &trust, BEGIN, expected).unwrap();
        assert_eq!(peer.issuer, Some(next.digest()));
        assert_eq!(trust.refuses(&peer), None);
    }
}

#[test]
fn r20_in_handshakes_both_sides_refuse_what_a_retired_ca_issued() {
    let world = World::new();
    let (edge, warpgate) = (world.identity(&world.edge()), world.identity(&world.warpgate()));
    let clock = world.clock();
    let (good, strict) = (world.current_trust(), world.current_trust());
    strict.replace(without(&world, &world.issuing));
    let server = |trust| Arc::new(tls::tunnel_server_config(&edge, trust, &clock, ALPN).unwrap());
    let client = |trust| Arc::new(tls::tunnel_client_config(&warpgate, trust, EDGE, &clock, ALPN).unwrap());
    assert!(shake(&client(&good), &server(&good)).is_up());
    let refused = shake(&client(&good), &server(&strict));
    assert_eq!(refused.server_refused_with(), AlertDescription::UnknownCA);
    let refused = shake(&client(&strict), &server(&good));
    assert_eq!(refused.client_refused_with(), AlertDescription::UnknownCA);
}

#[test]
fn r20_a_live_peer_whose_ca_is_retired_is_let_go_and_evicted_ones_are_told_so() {
    let world = World::new();
    let identity = world.identity_for(&world.warpgate(), lifetime::LEAF_TTL);
    let peer = Peer::read(identity.chain()).unwrap();
    assert_eq!(peer.issuer, Some(world.issuing.digest()));
    assert_eq!(world.trust().refuses(&peer), None);
    let retired = without(&world, &world.issuing).refuses(&peer);
    assert_eq!(retired, Some(PeerError::Retired(Box::new(peer.name.clone()))));
    let roots = vec![world.root.certificate().clone()];
    let denied = Trust::new(world.domain.clone(), roots, [peer.name.to_string()]).unwrap();
    assert_eq!(denied.refuses(&peer), Some(PeerError::Denied(Box::new(peer.name.clone()))));
    // Known by its leaf alone, nothing is said about its CA.
    let alone = Peer::read(&identity.chain()[..1]).unwrap();
    assert_eq!((alone.issuer, without(&world, &world.issuing).refuses(&alone)), (None, None));
}

#[test]
fn r20_a_decoy_in_the_name_of_the_retired_ca_hides_nothing() {
    let world = World::new();
    let identity = world.identity_for(&world.warpgate(), lifetime::LEAF_TTL);
    let (_, real) = x509_parser::parse_x509_certificate(world.issuing.certificate()).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    for attribute in real.subject().iter_attributes() {
        let oid: Vec<u64> = attribute.attr_type().iter().unwrap().collect();
        params.distinguished_name.push(DnType::from_oid(&oid), attribute.as_str().unwrap());
    }
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let decoy = params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone();
    let [leaf, issuing] = identity.chain() else { panic!("leaf and issuing CA") };
    let trust = without(&world, &world.issuing);
    let orders: [Vec<CertificateDer<'_>>; 3] = [
        vec![leaf.clone(), decoy.clone(), issuing.clone()],
        vec![leaf.clone(), issuing.clone(), decoy.clone()],
        vec![leaf.clone(), issuing.clone(), issuing.clone()],
    ];
    for chain in orders {
        let judged = verify_peer(&chain, &trust, BEGIN, ExpectedRole::AnyWarpgate);
        assert!(matches!(judged, Err(PeerError::Chain(_))), "{judged:?}");
    }
}

#[test]
fn retired_cas_come_with_documents_and_nonsense_is_refused_as_a_whole() {
    let world = World::new();
    let doc = |retired: Vec<String>| TrustDoc {
        trust_domain: world.domain.to_string(),
        roots_pem: vec![world.root.certificate_pem()],
        retired,
        ..TrustDoc::default()
    };
    let trust = Trust::from_doc(&doc(vec![digest_text(&world.issuing.digest())])).unwrap();
    assert!(trust.has_retired(&world.issuing.digest()));
    for nonsense in ["", "AAAA", "no base64!", &"A".repeat(44)] {
        assert_eq!(Trust::from_doc(&doc(vec![nonsense.to_owned()])).unwrap_err(), TrustError::Retired);
    }
    let many = (0..=RETIRED_MAX).map(|n| {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&n.to_be_bytes());
        digest_text(&digest)
    });
    let refused = Trust::from_doc(&doc(many.collect())).unwrap_err();
    assert_eq!(refused, TrustError::TooManyRetired(RETIRED_MAX + 1));
}

proptest! {
    #[test]
    fn a_digest_survives_its_text(digest in any::<[u8; 32]>()) {
        prop_assert_eq!(digest_from_text(&digest_text(&digest)), Ok(digest));
    }

    #[test]
    fn r24_no_text_makes_reading_a_digest_panic(text in ".*") {
        drop(digest_from_text(&text));
        drop(request_from_pem(&text));
    }

    #[test]
    fn r20_lives_by_role_are_all_within_bounds_or_the_first_outside_is_named(
        edge in 0_u64..200_000, control in 0_u64..200_000, warpgate in 0_u64..200_000,
    ) {
        let [edge, control, warpgate] = [edge, control, warpgate].map(Duration::from_secs);
        let ttls = LeafTtls { edge, control, warpgate };
        let bounds = lifetime::LEAF_TTL_MIN..=lifetime::LEAF_TTL_MAX;
        let outside = [edge, control, warpgate].into_iter().find(|ttl| !bounds.contains(ttl));
        prop_assert_eq!(ttls.out_of_bounds(), outside);
    }
}

#[test]
fn r20_each_role_has_its_own_life() {
    let world = World::new();
    let minutes = |n| Duration::from_mins(n);
    let ttls = LeafTtls { edge: minutes(1), control: minutes(2), warpgate: minutes(3) };
    for (name, life) in [(world.edge(), 1), (world.control(), 2), (world.warpgate(), 3)] {
        assert_eq!(ttls.of(&name.role), minutes(life), "{name}");
    }
    assert_eq!(LeafTtls::from(minutes(7)).of(&world.edge().role), minutes(7));
    assert_eq!(LeafTtls::default().warpgate, lifetime::LEAF_TTL);
}

#[test]
fn r20_an_issuing_ca_is_made_by_a_root_that_never_sees_its_key() {
    let world = World::new();
    let trust = world.trust();
    let request = IssuingRequest::create().unwrap();
    let csr = request_from_pem(&request.csr_pem().unwrap()).unwrap();
    let kept = request.secret_der().to_vec();
    let certificate = world.root.sign_request(&csr, BEGIN, &world.entropy).unwrap();
    // It survives a restart in between.
    let request = IssuingRequest::from_secret_der(&kept).unwrap();
    let issuing = request.install(certificate, &trust, BEGIN, &world.entropy).unwrap();
    let key = NodeKey::generate().unwrap();
    let leaf = issuing.issue(&key.csr_der().unwrap(), &world.edge(), BEGIN, lifetime::LEAF_TTL).unwrap();
    verify_peer(&leaf.chain, &trust, BEGIN, ExpectedRole::Edge(EDGE)).unwrap();
    assert_eq!(issuing.not_after(), BEGIN.after(lifetime::ISSUING_TTL));
    let again = Issuing::from_secret_pem(issuing.secret_pem().as_bytes(), &world.entropy).unwrap();
    assert_eq!(again.digest(), issuing.digest());
}

#[test]
fn r20_a_certificate_that_does_not_fit_the_request_or_could_not_issue_is_not_installed() {
    let world = World::new();
    let trust = world.trust();
    let install = |certificate: CertificateDer<'static>, request: &[u8]| {
        let request = IssuingRequest::from_secret_der(request).unwrap();
        request.install(certificate, &trust, BEGIN, &world.entropy).map(drop)
    };
    let request = IssuingRequest::create().unwrap();
    let (key, csr) = (request.secret_der().to_vec(), request.csr_der().unwrap());
    let sign = |world: &World| world.root.sign_request(&csr, BEGIN, &world.entropy).unwrap();

    let other = IssuingRequest::create().unwrap();
    assert_eq!(install(sign(&world), other.secret_der()), Err(CeremonyError::OtherRequest));
    assert_eq!(install(world.issuing.certificate().clone(), &key), Err(CeremonyError::OtherRequest));
    let elsewhere = World::named("other.example");
    assert_eq!(install(sign(&elsewhere), &key), Err(CeremonyError::OtherDomain(world.domain.clone())));
    let stranger = World::new();
    let refused = install(sign(&stranger), &key).unwrap_err();
    assert_eq!(refused, CeremonyError::NotAccepted(PeerError::UnknownIssuer));
    let leaf = world.issuing.issue(&csr, &world.edge(), BEGIN, lifetime::LEAF_TTL).unwrap();
    let refused = install(leaf.chain[0].clone(), &key).unwrap_err();
    assert_eq!(refused, CeremonyError::Authority(AuthorityError::Malformed));
    // Of an issuing CA below an issuing CA nobody takes anything.
    let mut nested = ca(&world);
    nested.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let public = rcgen::SubjectPublicKeyInfo::from_der(&spki(&csr)).unwrap();
    let nested = nested.signed_by(&public, &world.forger()).unwrap().der().clone();
    assert!(matches!(install(nested, &key), Err(CeremonyError::NotAccepted(_))));
    let garbage = CertificateDer::from(b"no".to_vec());
    assert_eq!(install(garbage, &key), Err(CeremonyError::Authority(AuthorityError::Malformed)));
    assert_eq!(install(sign(&world), &key), Ok(()));

    let end = world.root.not_after();
    let late = world.root.sign_request(&csr, end, &world.entropy).unwrap_err();
    assert_eq!(late, CeremonyError::Ended(end));
    let mut altered = csr.clone();
    let last = altered.len() - 1;
    altered[last] ^= 1;
    assert!(matches!(world.root.sign_request(&altered, BEGIN, &world.entropy), Err(CeremonyError::Csr(_))));
}

/// A CA certificate of the world's trust domain, in the making.
fn ca(world: &World) -> CertificateParams {
    let mut params = CertificateParams::default();
    let uri = rcgen::string::Ia5String::try_from(world.domain.uri()).unwrap();
    params.subject_alt_names = vec![rcgen::SanType::URI(uri)];
    params
}

/// The public key of a request.
fn spki(csr: &[u8]) -> Vec<u8> {
    use x509_parser::prelude::FromDer as _;
    let (_, csr) = x509_parser::certification_request::X509CertificationRequest::from_der(csr).unwrap();
    csr.certification_request_info.subject_pki.raw.to_vec()
}

#[test]
fn r20_a_request_that_waits_in_a_file_is_sealed_and_shows_nothing() {
    let world = World::new();
    let seal = Sealer::new(MasterKey::generate(&world.entropy), world.entropy.clone());
    let request = IssuingRequest::create().unwrap();
    let sealed = request.sealed(&seal);
    assert!(!sealed.windows(16).any(|part| part == &request.secret_der()[..16]));
    assert_eq!(format!("{request:?}"), "IssuingRequest");
    let opened = IssuingRequest::open(&sealed, &seal).unwrap();
    assert_eq!(opened.secret_der(), request.secret_der());
    let other = Sealer::new(MasterKey::generate(&world.entropy), world.entropy.clone());
    assert_eq!(IssuingRequest::open(&sealed, &other).unwrap_err(), AuthorityError::Sealed);
    assert_eq!(Issuing::open(&sealed, &seal, &world.entropy).unwrap_err(), AuthorityError::Sealed);
}
