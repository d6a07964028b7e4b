//! Roots that follow one another: whoever knows an old one finds the way to the new one, and nobody else gets in by it.

use std::sync::Arc;

use mezusphere_model::id::ControlId;
use mezusphere_pki::ceremony::CeremonyError;
use mezusphere_pki::trust::{CROSSES_MAX, root_fingerprint};
use mezusphere_pki::{
    CurrentIdentity, CurrentTrust, ExpectedRole, Issuing, NodeIdentity, NodeKey, PeerError, Role, Root,
    SpiffeName, Trust, TrustError, lifetime, tls, verify_peer,
};
use rcgen::{CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::AlertDescription;
use rustls::pki_types::CertificateDer;

use crate::world::{ALPN, BEGIN, World, believer, shake};

/// An installation whose root was replaced some times: all roots, oldest first, and the crosses, newest first.
pub(crate) struct Line {
    pub(crate) world: World,
    pub(crate) roots: Vec<Root>,
    crosses: Vec<CertificateDer<'static>>,
}

impl Line {
    pub(crate) fn of(replaced: usize) -> Self {
        let world = World::new();
        let mut roots = vec![Root::create(&world.domain, BEGIN, &world.entropy).unwrap()];
        let mut crosses = Vec::new();
        for _ in 0..replaced {
            let new = Root::create(&world.domain, BEGIN, &world.entropy).unwrap();
            let old = roots.last().unwrap();
            crosses.insert(0, old.cross_sign(new.certificate(), BEGIN, &world.entropy).unwrap());
            roots.push(new);
        }
        Self { world, roots, crosses }
    }

    pub(crate) fn newest(&self) -> &Root {
        self.roots.last().unwrap()
    }

    /// Trust in the newest root, as control has it.
    pub(crate) fn trust(&self) -> Trust {
        let former = self.roots.iter().rev().skip(1).map(|root| root.certificate().clone()).collect();
        Trust::new(self.world.domain.clone(), vec![self.newest().certificate().clone()], [])
            .unwrap()
            .with_lineage(self.crosses.clone(), former)
    }

    pub(crate) fn identity(name: &SpiffeName, issuing: &Issuing) -> NodeIdentity {
        let key = NodeKey::generate().unwrap();
        let leaf = issuing.issue(&key.csr_der().unwrap(), name, BEGIN, lifetime::LEAF_TTL).unwrap();
        NodeIdentity::new(leaf.chain, key).unwrap()
    }

    pub(crate) fn issuing(&self) -> Issuing {
        Issuing::create(self.newest(), BEGIN, &self.world.entropy).unwrap()
    }
}

#[test]
fn r20_every_pin_of_a_kept_root_enrols_after_as_many_changes_as_are_kept() {
    for replaced in 0..=CROSSES_MAX {
        let line = Line::of(replaced);
        let identity = CurrentIdentity::new(Line::identity(&line.world.control(), &line.issuing()));
        let trust = CurrentTrust::new(line.trust());
        let clock = line.world.clock();
        let server = Arc::new(tls::connect_server_config(&identity, &trust, &clock, ALPN).unwrap());
        for (age, root) in line.roots.iter().rev().enumerate() {
            let client = tls::connect_client_config(root.fingerprint(), &clock, ALPN).unwrap();
            let outcome = shake(&Arc::new(client), &server);
            assert!(outcome.is_up(), "{replaced} changes, a pin {age} roots old: {:?}", outcome.client);
        }
        let stranger = World::new().root.fingerprint();
        let client = Arc::new(tls::connect_client_config(stranger, &clock, ALPN).unwrap());
        assert_eq!(shake(&client, &server).client_refused_with(), AlertDescription::UnknownCA);
    }
}

#[test]
fn r20_what_control_said_is_verified_by_an_old_pin_and_the_crosses_it_sent() {
    let line = Line::of(2);
    let identity = Line::identity(&line.world.control(), &line.issuing());
    let oldest = &line.roots[0];
    let mut said: Vec<_> = line.roots.iter().rev().map(|root| root.certificate().clone()).collect();
    let judged = |said: &[CertificateDer<'static>]| {
        let pinned = Trust::from_pin(&oldest.fingerprint(), said).unwrap();
        verify_peer(identity.chain(), &pinned, BEGIN, ExpectedRole::AnyControl)
    };
    assert_eq!(judged(&said), Err(PeerError::UnknownIssuer), "without them nothing leads there");
    said.extend(line.crosses.clone());
    assert!(judged(&said).is_ok());
    let unknown = Trust::from_pin(&[0; 32], &said);
    assert_eq!(unknown.unwrap_err(), TrustError::PinNotFound);
}

#[test]
fn r20_while_the_root_changes_a_peer_that_knows_the_old_one_alone_accepts_new_leaves() {
    let line = Line::of(1);
    let old = Trust::new(line.world.domain.clone(), vec![line.roots[0].certificate().clone()], []).unwrap();
    let name = line.world.warpgate();
    let plain = Line::identity(&name, &line.issuing());
    let judge =
        |identity: &NodeIdentity| verify_peer(identity.chain(), &old, BEGIN, ExpectedRole::AnyWarpgate);
    assert_eq!(judge(&plain), Err(PeerError::UnknownIssuer));
    let crossed = Line::identity(&name, &line.issuing().with_crosses(line.crosses.clone()));
    assert_eq!(crossed.chain().len(), 3);
    assert!(judge(&crossed).is_ok());
    verify_peer(crossed.chain(), &line.trust(), BEGIN, ExpectedRole::AnyWarpgate).unwrap();
}

#[test]
fn r19_a_cross_is_no_anchor_and_leads_only_forward() {
    let line = Line::of(1);
    // What the old root signs is nothing to whoever trusts the new one, whatever crosses are known or shown.
    let old_issuing = Issuing::create(&line.roots[0], BEGIN, &line.world.entropy).unwrap();
    let behind = Line::identity(&line.world.warpgate(), &old_issuing.with_crosses(line.crosses.clone()));
    let judged = verify_peer(behind.chain(), &line.trust(), BEGIN, ExpectedRole::AnyWarpgate);
    assert_eq!(judged, Err(PeerError::UnknownIssuer));
    // A cross alone is nothing to trust.
    let as_root = Trust::new(line.world.domain.clone(), vec![line.crosses[0].clone()], []);
    let own = Line::identity(&line.world.warpgate(), &line.issuing());
    if let Ok(trust) = as_root {
        // It has the new root's name and key, so that is what trusting it would mean; it is never put among the roots.
        verify_peer(own.chain(), &trust, BEGIN, ExpectedRole::AnyWarpgate).unwrap();
    }
    assert!(!line.trust().roots().contains(&line.crosses[0]));
}

#[test]
fn r19_a_cross_that_the_old_root_did_not_sign_leads_nowhere() {
    let line = Line::of(0);
    let stranger = World::new();
    let name = line.world.control();
    // A stranger's root, and a cross from it in the name of ours: ours never signed it.
    let (_, ours) = x509_parser::parse_x509_certificate(line.newest().certificate()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    for attribute in ours.subject().iter_attributes() {
        let oid: Vec<u64> = attribute.attr_type().iter().unwrap().collect();
        params.distinguished_name.push(DnType::from_oid(&oid), attribute.as_str().unwrap());
    }
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let forged_root = Issuer::from_params(&params, &key);
    let mut cross = CertificateParams::default();
    let (_, theirs) = x509_parser::parse_x509_certificate(stranger.root.certificate()).unwrap();
    cross.distinguished_name = rcgen::DistinguishedName::new();
    for attribute in theirs.subject().iter_attributes() {
        let oid: Vec<u64> = attribute.attr_type().iter().unwrap().collect();
        cross.distinguished_name.push(DnType::from_oid(&oid), attribute.as_str().unwrap());
    }
    cross.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let public = rcgen::SubjectPublicKeyInfo::from_der(theirs.public_key().raw).unwrap();
    let cross = cross.signed_by(&public, &forged_root).unwrap().der().clone();
    // The stranger's own nodes, dressed up as ours.
    let key = NodeKey::generate().unwrap();
    let mut name_there = name;
    name_there.trust_domain = stranger.domain.clone();
    let leaf =
        stranger.issuing.issue(&key.csr_der().unwrap(), &name_there, BEGIN, lifetime::LEAF_TTL).unwrap();
    let mut chain = leaf.chain;
    chain.extend([cross.clone(), line.newest().certificate().clone()]);
    let pinned = Trust::from_pin(&line.newest().fingerprint(), &chain).unwrap();
    let judged = verify_peer(&chain, &pinned, BEGIN, ExpectedRole::AnyControl);
    assert!(matches!(judged, Err(PeerError::Signature | PeerError::UnknownIssuer)), "{judged:?}");
    let lineage = line.trust().with_lineage(vec![cross], Vec::new());
    assert!(verify_peer(&chain, &lineage, BEGIN, ExpectedRole::AnyControl).is_err());
}

#[test]
fn r20_a_root_signs_only_another_root_of_the_same_installation_and_none_once_it_has_ended() {
    let world = World::new();
    let (old, entropy) = (&world.root, &world.entropy);
    let sign = |new: &CertificateDer<'_>, now| old.cross_sign(new, now, entropy).map(drop);
    let elsewhere = World::named("other.example");
    let domain = world.domain.clone();
    assert_eq!(sign(elsewhere.root.certificate(), BEGIN), Err(CeremonyError::OtherDomain(domain)));
    assert_eq!(sign(old.certificate(), BEGIN), Err(CeremonyError::Same));
    assert_eq!(sign(world.issuing.certificate(), BEGIN), Err(CeremonyError::NotARoot));
    let leaf = world.identity_for(&world.control(), lifetime::LEAF_TTL);
    assert_eq!(sign(&leaf.chain()[0], BEGIN), Err(CeremonyError::NotARoot));
    assert_eq!(sign(&CertificateDer::from(b"no".to_vec()), BEGIN), Err(CeremonyError::NotARoot));
    let new = world.with_new_root();
    let end = old.not_after();
    assert_eq!(sign(new.root.certificate(), end), Err(CeremonyError::Ended(end)));
    assert_eq!(sign(new.root.certificate(), BEGIN), Ok(()));
}

#[test]
fn r20_a_cross_ends_with_the_first_of_its_two_roots_and_may_have_fewer_cas_below_it() {
    let world = World::new();
    let later = BEGIN.after(lifetime::ROOT_TTL / 2);
    let new = Root::create(&world.domain, later, &world.entropy).unwrap();
    let cross = world.root.cross_sign(new.certificate(), later, &world.entropy).unwrap();
    let (_, cross) = x509_parser::parse_x509_certificate(&cross).unwrap();
    let (_, made) = x509_parser::parse_x509_certificate(new.certificate()).unwrap();
    let (_, old) = x509_parser::parse_x509_certificate(world.root.certificate()).unwrap();
    assert_eq!(cross.validity().not_after, old.validity().not_after);
    assert_eq!(cross.subject().as_raw(), made.subject().as_raw());
    assert_eq!(cross.issuer().as_raw(), old.subject().as_raw());
    assert_eq!(cross.public_key().raw, made.public_key().raw);
    let below = cross.basic_constraints().unwrap().unwrap();
    assert!(below.critical && below.value.ca);
    assert_eq!(below.value.path_len_constraint, Some(4));
    assert_ne!(cross.raw_serial(), made.raw_serial());
}

#[test]
fn whoever_enrols_is_shown_each_root_and_cross_once_and_no_more_than_a_peer_reads() {
    let line = Line::of(CROSSES_MAX + 3);
    let shown_by_issuing = line.issuing().with_crosses(line.crosses.clone());
    let identity = CurrentIdentity::new(Line::identity(&line.world.control(), &shown_by_issuing));
    let trust = CurrentTrust::new(line.trust());
    let server = tls::connect_server_config(&identity, &trust, &line.world.clock(), ALPN).unwrap();
    let outcome = shake(&Arc::new(believer::nameless_client()), &Arc::new(server));
    let shown = outcome.client_side.peer_certificates().unwrap();
    assert!(shown.len() <= mezusphere_pki::peer::CHAIN_LEN_MAX, "{}", shown.len());
    let mut once: Vec<_> = shown.iter().map(root_fingerprint).collect();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), shown.len());
    assert!(once.contains(&line.newest().fingerprint()));
}

#[test]
fn a_control_node_alone_is_believed_by_a_pin() {
    let line = Line::of(1);
    let trust = CurrentTrust::new(line.trust());
    let edge = CurrentIdentity::new(Line::identity(&line.world.edge(), &line.issuing()));
    let server = tls::connect_server_config(&edge, &trust, &line.world.clock(), ALPN).unwrap();
    let client = tls::connect_client_config(line.roots[0].fingerprint(), &line.world.clock(), ALPN).unwrap();
    let outcome = shake(&Arc::new(client), &Arc::new(server));
    assert_eq!(outcome.client_refused_with(), AlertDescription::AccessDenied);
    let other = SpiffeName::new(line.world.domain.clone(), Role::Control(ControlId::from_bits(9)));
    let control = CurrentIdentity::new(Line::identity(&other, &line.issuing()));
    let server = tls::connect_server_config(&control, &trust, &line.world.clock(), ALPN).unwrap();
    let client = tls::connect_client_config(line.roots[0].fingerprint(), &line.world.clock(), ALPN).unwrap();
    assert!(shake(&Arc::new(client), &Arc::new(server)).is_up());
}
