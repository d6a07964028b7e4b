//! What the CA certifies, and what it does not.

use std::time::Duration;

use mezusphere_model::{Entropy, Timestamp};
use mezusphere_pki::authority::{AuthorityError, CSR_LEN_MAX, CsrError, IssueError};
use mezusphere_pki::identity::IdentityError;
use mezusphere_pki::seal::{MasterKey, Sealer};
use mezusphere_pki::{
    ExpectedRole, Issuing, NodeIdentity, NodeKey, Root, SpiffeName, TrustDomain, lifetime, verify_peer,
};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType,
};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::world::{BEGIN, World};

fn issue(world: &World, csr: &[u8], name: &SpiffeName) -> Result<Vec<u8>, IssueError> {
    let leaf = world.issuing.issue(csr, name, BEGIN, lifetime::LEAF_TTL)?;
    Ok(leaf.chain[0].as_ref().to_vec())
}

#[test]
fn r19_a_leaf_has_exactly_the_uses_of_its_role() {
    let world = World::new();
    let csr = NodeKey::generate().unwrap().csr_der().unwrap();
    let rows = [
        (world.edge(), true, Some("edge.mezu.internal")),
        (world.control(), true, Some("control.mezu.internal")),
        (world.warpgate(), false, None),
    ];
    for (name, serves, dns) in rows {
        let der = issue(&world, &csr, &name).unwrap();
        let (_, leaf) = X509Certificate::from_der(&der).unwrap();
        let eku = leaf.extended_key_usage().unwrap().unwrap().value;
        assert_eq!((eku.client_auth, eku.server_auth, eku.any), (true, serves, false), "{name}");
        assert!(eku.other.is_empty() && !eku.code_signing && !eku.ocsp_signing);
        let constraints = leaf.basic_constraints().unwrap().unwrap();
        assert!(!constraints.value.ca && constraints.critical, "{name}");
        let usage = leaf.key_usage().unwrap().unwrap();
        assert!(usage.critical && usage.value.flags == 1, "digitalSignature only: {}", usage.value);
        assert!(leaf.name_constraints().unwrap().is_none());
        let names = &leaf.subject_alternative_name().unwrap().unwrap().value.general_names;
        let uri = name.to_string();
        let expected: Vec<GeneralName<'_>> =
            std::iter::once(GeneralName::URI(&uri)).chain(dns.map(GeneralName::DNSName)).collect();
        assert_eq!(*names, expected);
    }
}

#[test]
fn r19_cas_are_cas_with_bounded_depth_and_nothing_else() {
    let world = World::new();
    for (ca, depth) in [(world.root.certificate(), 5), (world.issuing.certificate(), 0)] {
        let (_, ca) = X509Certificate::from_der(ca).unwrap();
        let constraints = ca.basic_constraints().unwrap().unwrap();
        assert!(constraints.critical && constraints.value.ca);
        assert_eq!(constraints.value.path_len_constraint, Some(depth));
        let usage = ca.key_usage().unwrap().unwrap();
        assert!(usage.critical && usage.value.key_cert_sign() && !usage.value.digital_signature());
        assert!(ca.name_constraints().unwrap().is_none());
        assert!(ca.extended_key_usage().unwrap().is_none());
    }
}

#[test]
fn r20_what_a_request_asks_for_beside_its_key_is_ignored() {
    let world = World::new();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["edge.mezu.internal".to_owned()]).unwrap();
    let somebody_else = world.edge().to_string();
    params.subject_alt_names.push(SanType::URI(Ia5String::try_from(somebody_else.as_str()).unwrap()));
    params.distinguished_name.push(rcgen::DnType::CommonName, "root");
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::Any];
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let csr = params.serialize_request(&key).unwrap();

    let der = issue(&world, csr.der(), &world.warpgate()).unwrap();
    let (_, leaf) = X509Certificate::from_der(&der).unwrap();
    let names = &leaf.subject_alternative_name().unwrap().unwrap().value.general_names;
    assert_eq!(*names, [GeneralName::URI(&world.warpgate().to_string())]);
    assert!(!leaf.subject().to_string().contains("root"));
    assert!(!leaf.basic_constraints().unwrap().unwrap().value.ca);
    let eku = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(!eku.server_auth && !eku.any);
    assert_eq!(leaf.public_key().subject_public_key.data.as_ref(), key.public_key_raw());
}

#[test]
fn r20_a_request_altered_in_what_was_signed_is_refused_and_no_other_key_is_ever_certified() {
    let world = World::new();
    let key = NodeKey::generate().unwrap();
    let csr = key.csr_der().unwrap();
    let own = |der: &[u8]| X509Certificate::from_der(der).unwrap().1.public_key().raw.to_vec();
    let certified = own(&issue(&world, &csr, &world.warpgate()).unwrap());
    let (_, parsed) = X509CertificationRequest::from_der(&csr).unwrap();
    let signed_len = parsed.certification_request_info.raw.len();
    let signed_from =
        csr.windows(signed_len).position(|window| window == parsed.certification_request_info.raw);
    let signed = signed_from.unwrap()..signed_from.unwrap() + signed_len;
    for at in 0..csr.len() {
        for bit in 0..8 {
            let mut altered = csr.clone();
            altered[at] ^= 1 << bit;
            match issue(&world, &altered, &world.warpgate()) {
                Err(IssueError::Csr(_)) => {}
                Err(other) => panic!("octet {at}, bit {bit}: {other}"),
                // The outermost tags are not signed, and the parser reads some of them leniently.
                Ok(leaf) => {
                    assert!(!signed.contains(&at), "octet {at}, bit {bit}");
                    assert_eq!(own(&leaf), certified, "octet {at}, bit {bit}");
                }
            }
        }
        assert!(issue(&world, &csr[..at], &world.warpgate()).is_err(), "cut to {at}");
    }
    let mut longer = csr;
    longer.push(0);
    assert_eq!(issue(&world, &longer, &world.warpgate()), Err(IssueError::Csr(CsrError::Malformed)));
}

#[test]
fn r20_a_request_for_a_key_its_sender_does_not_hold_is_refused() {
    let world = World::new();
    let (mine, theirs) = (NodeKey::generate().unwrap(), NodeKey::generate().unwrap());
    let (my_csr, their_csr) = (mine.csr_der().unwrap(), theirs.csr_der().unwrap());
    // Their public key under my signature: both are uncompressed points of 65 octets that begin with 4.
    let point = |csr: &[u8]| {
        let (_, csr) = X509CertificationRequest::from_der(csr).unwrap();
        csr.certification_request_info.subject_pki.subject_public_key.data.to_vec()
    };
    let (my_point, their_point) = (point(&my_csr), point(&their_csr));
    let at = my_csr.windows(my_point.len()).position(|window| window == my_point).unwrap();
    let mut stolen = my_csr;
    stolen[at..at + their_point.len()].copy_from_slice(&their_point);
    assert_eq!(issue(&world, &stolen, &world.warpgate()), Err(IssueError::Csr(CsrError::Proof)));
}

#[test]
fn r20_only_p256_keys_are_certified_and_only_short_requests_read() {
    let world = World::new();
    for algorithm in [&rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let csr = CertificateParams::default().serialize_request(&key).unwrap();
        assert_eq!(issue(&world, csr.der(), &world.edge()), Err(IssueError::Csr(CsrError::Algorithm)));
    }
    let long = vec![0x30; CSR_LEN_MAX + 1];
    assert_eq!(issue(&world, &long, &world.edge()), Err(IssueError::Csr(CsrError::TooLong)));
    assert_eq!(issue(&world, b"", &world.edge()), Err(IssueError::Csr(CsrError::Malformed)));
}

#[test]
fn r20_a_leaf_lives_from_a_minute_to_a_day_and_is_dated_back() {
    let world = World::new();
    let csr = NodeKey::generate().unwrap().csr_der().unwrap();
    let with_ttl = |ttl| world.issuing.issue(&csr, &world.edge(), BEGIN, ttl);
    for ttl in [Duration::ZERO, Duration::from_secs(59), lifetime::LEAF_TTL_MAX + Duration::from_secs(1)] {
        assert!(matches!(with_ttl(ttl), Err(IssueError::Ttl { asked, .. }) if asked == ttl));
    }
    for (ttl, back) in
        [(lifetime::LEAF_TTL_MIN, 15), (Duration::from_mins(20), 300), (lifetime::LEAF_TTL, 300)]
    {
        let leaf = with_ttl(ttl).unwrap();
        assert_eq!(leaf.not_before, BEGIN.before(Duration::from_secs(back)));
        assert_eq!(leaf.not_after, BEGIN.after(ttl));
        // And the certificate says so too.
        let key = NodeKey::generate().unwrap();
        let leaf = world.issuing.issue(&key.csr_der().unwrap(), &world.edge(), BEGIN, ttl).unwrap();
        let identity = NodeIdentity::from_pem(&leaf.chain_pem(), key).unwrap();
        assert_eq!((identity.not_before(), identity.not_after()), (leaf.not_before, leaf.not_after));
        let renew = identity.renew_at(&world.entropy).since(BEGIN);
        assert!(renew >= ttl * 45 / 100 && renew <= ttl * 55 / 100, "{renew:?} of {ttl:?}");
    }
}

#[test]
fn r20_no_leaf_outlives_its_issuer() {
    let world = World::new();
    let csr = NodeKey::generate().unwrap().csr_der().unwrap();
    let end = world.issuing.not_after();
    assert_eq!(end, BEGIN.after(lifetime::ISSUING_TTL));
    let near = end.before(Duration::from_hours(1));
    let leaf = world.issuing.issue(&csr, &world.edge(), near, lifetime::LEAF_TTL).unwrap();
    assert_eq!(leaf.not_after, end);
    let late = end.before(Duration::from_secs(30));
    let refused = world.issuing.issue(&csr, &world.edge(), late, lifetime::LEAF_TTL);
    assert_eq!(refused.unwrap_err(), IssueError::IssuerEnds(end));
}

#[test]
fn serial_numbers_are_random_positive_and_of_full_length() {
    let world = World::new();
    let csr = NodeKey::generate().unwrap().csr_der().unwrap();
    let mut seen = std::collections::HashSet::new();
    for _ in 0..100 {
        let leaf = world.issuing.issue(&csr, &world.edge(), BEGIN, lifetime::LEAF_TTL).unwrap();
        let (_, parsed) = X509Certificate::from_der(&leaf.chain[0]).unwrap();
        let raw = parsed.raw_serial();
        assert_eq!(raw.len(), 20);
        assert_eq!(raw[0] & 0xc0, 0x40);
        assert_eq!(leaf.serial, raw.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat());
        assert!(seen.insert(leaf.serial));
    }
}

#[test]
fn a_ca_issues_for_its_own_trust_domain_only() {
    let world = World::new();
    let csr = NodeKey::generate().unwrap().csr_der().unwrap();
    let mut name = world.edge();
    name.trust_domain = TrustDomain::parse("other.example").unwrap();
    assert_eq!(issue(&world, &csr, &name), Err(IssueError::TrustDomain(world.domain.clone())));
}

#[test]
fn r20_a_ca_key_at_rest_is_sealed_and_opens_only_as_what_it_is() {
    let world = World::new();
    let seal = Sealer::new(MasterKey::generate(&world.entropy), world.entropy.clone());
    let (root, issuing) = (world.root.sealed(&seal), world.issuing.sealed(&seal));
    for sealed in [&root, &issuing] {
        assert!(!String::from_utf8_lossy(sealed).contains("PRIVATE"));
    }
    let opened = Root::open(&root, &seal).unwrap();
    assert_eq!(opened.fingerprint(), world.root.fingerprint());
    let opened = Issuing::open(&issuing, &seal, &Entropy::counting()).unwrap();
    let key = NodeKey::generate().unwrap();
    let leaf = opened.issue(&key.csr_der().unwrap(), &world.edge(), BEGIN, lifetime::LEAF_TTL).unwrap();
    verify_peer(&leaf.chain, &world.trust(), BEGIN, ExpectedRole::AnyEdge).unwrap();

    // One is not taken for the other, and another master key opens neither.
    assert_eq!(Root::open(&issuing, &seal).unwrap_err(), AuthorityError::Sealed);
    assert_eq!(Issuing::open(&root, &seal, &world.entropy).unwrap_err(), AuthorityError::Sealed);
    let other = Sealer::new(MasterKey::generate(&world.entropy), world.entropy.clone());
    assert_eq!(Root::open(&root, &other).unwrap_err(), AuthorityError::Sealed);
    let garbage = mezusphere_model::seal::Seal::seal(&seal, "pki/root", b"not a CA");
    assert_eq!(Root::open(&garbage, &seal).unwrap_err(), AuthorityError::Malformed);
}

#[test]
fn an_identity_needs_its_own_key_and_a_nodes_certificate() {
    let world = World::new();
    let key = NodeKey::generate().unwrap();
    let csr = key.csr_der().unwrap();
    let leaf = world.issuing.issue(&csr, &world.edge(), BEGIN, lifetime::LEAF_TTL).unwrap();
    let other = NodeKey::generate().unwrap();
    assert_eq!(NodeIdentity::new(leaf.chain.clone(), other).unwrap_err(), IdentityError::OtherKey);
    assert_eq!(
        NodeIdentity::from_pem("", NodeKey::generate().unwrap()).unwrap_err(),
        IdentityError::Malformed
    );
    let names = ["app.example".to_owned()];
    let public = world.issuing.issue_public(&names, BEGIN, lifetime::LEAF_TTL).unwrap();
    let refused = NodeIdentity::from_pem(&public.chain_pem, NodeKey::generate().unwrap()).unwrap_err();
    assert!(matches!(refused, IdentityError::Leaf(_)), "{refused}");
    let identity = NodeIdentity::new(leaf.chain, key).unwrap();
    assert_eq!(*identity.name(), world.edge());
    let again = NodeIdentity::from_pem(
        &identity.chain_pem(),
        NodeKey::from_pkcs8_der(identity.key().pkcs8_der()).unwrap(),
    );
    assert_eq!(again.unwrap().chain(), identity.chain());
    assert!(identity.not_after() > Timestamp::from_seconds(0));
}
