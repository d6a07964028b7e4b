//! Chains that a peer made itself, or that were never meant for what they are shown for.

use std::sync::Arc;
use std::time::Duration;

use mezusphere_model::Timestamp;
use mezusphere_pki::peer::CHAIN_LEN_MAX;
use mezusphere_pki::trust::root_fingerprint;
use mezusphere_pki::{
    CONTROL_DNS_NAME, CurrentTrust, EDGE_DNS_NAME, ExpectedRole, NodeIdentity, NodeKey, PeerError, Trust,
    lifetime, tls, verify_peer,
};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::AlertDescription;
use rustls::pki_types::CertificateDer;

use crate::world::{ALPN, BEGIN, EDGE, Shown, World, believer, shake};

/// A leaf as an issuing CA would make it, open to change.
fn leaf_params(uris: &[String]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let at = |at: Timestamp| time::OffsetDateTime::from_unix_timestamp(at.as_seconds()).unwrap();
    params.not_before = at(BEGIN.before(Duration::from_mins(5)));
    params.not_after = at(BEGIN.after(lifetime::LEAF_TTL));
    params.subject_alt_names =
        uris.iter().map(|uri| SanType::URI(Ia5String::try_from(uri.as_str()).unwrap())).collect();
    for dns in [EDGE_DNS_NAME, CONTROL_DNS_NAME] {
        params.subject_alt_names.push(SanType::DnsName(Ia5String::try_from(dns).unwrap()));
    }
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    params
}

fn ca_params() -> CertificateParams {
    let mut params = leaf_params(&[]);
    params.subject_alt_names.clear();
    params.extended_key_usages.clear();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.distinguished_name.push(rcgen::DnType::CommonName, "Mezusphere issuing");
    params
}

/// Shown to a tunnel's server as a warpgate and to a tunnel's client as the edge; both must refuse with `alert`.
fn refused_both_ways(world: &World, as_warpgate: &Shown, as_edge: &Shown, alert: AlertDescription) {
    let (trust, clock) = (world.current_trust(), world.clock());
    let server = tls::tunnel_server_config(&world.identity(&world.edge()), &trust, &clock, ALPN).unwrap();
    let outcome = shake(&Arc::new(believer::client(as_warpgate.clone())), &Arc::new(server));
    assert_eq!(outcome.server_refused_with(), alert, "dialling: {:?}", outcome.server);
    let warpgate = world.identity(&world.warpgate());
    let client = tls::tunnel_client_config(&warpgate, &trust, EDGE, &clock, ALPN).unwrap();
    let outcome = shake(&Arc::new(client), &Arc::new(believer::server(as_edge.clone())));
    assert_eq!(outcome.client_refused_with(), alert, "answering: {:?}", outcome.client);
}

/// Leaves for the warpgate's and the edge's name, by `issuer`, with `others` behind them.
fn pair_by(
    world: &World,
    issuer: &Issuer<'_, KeyPair>,
    others: &[CertificateDer<'static>],
) -> (Shown, Shown) {
    let make = |uri: String| {
        let key = KeyPair::generate().unwrap();
        let leaf = leaf_params(&[uri]).signed_by(&key, issuer).unwrap();
        let chain = std::iter::once(leaf.der().clone()).chain(others.iter().cloned()).collect();
        Shown::forged(chain, &key)
    };
    (make(world.warpgate().to_string()), make(world.edge().to_string()))
}

#[test]
fn the_forger_makes_chains_that_would_be_good() {
    // Or the tests below would refuse for a reason of their own making.
    let world = World::new();
    let (warpgate, edge) = pair_by(&world, &world.forger(), &[world.issuing.certificate().clone()]);
    for (shown, expected) in [(warpgate, ExpectedRole::AnyWarpgate), (edge, ExpectedRole::Edge(EDGE))] {
        verify_peer(&shown.chain, &world.trust(), world.now(), expected).unwrap();
    }
}

#[test]
fn r19_a_self_made_ca_counts_for_nothing() {
    let world = World::new();
    let key = KeyPair::generate().unwrap();
    let params = ca_params();
    let ca = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    for others in [
        vec![ca.der().clone()],
        vec![ca.der().clone(), world.issuing.certificate().clone(), world.root.certificate().clone()],
    ] {
        let (warpgate, edge) = pair_by(&world, &issuer, &others);
        refused_both_ways(&world, &warpgate, &edge, AlertDescription::UnknownCA);
    }
}

#[test]
fn r19_a_self_made_ca_that_bears_the_real_ones_name_counts_for_nothing() {
    let world = World::new();
    let key = KeyPair::generate().unwrap();
    // The real issuing CA's name and key id, another key.
    let issuer = Issuer::from_ca_cert_der(world.issuing.certificate(), key).unwrap();
    let (warpgate, edge) = pair_by(&world, &issuer, &[world.issuing.certificate().clone()]);
    refused_both_ways(&world, &warpgate, &edge, AlertDescription::DecryptError);
}

#[test]
fn r19_an_issuing_ca_cannot_make_another_ca() {
    let world = World::new();
    let key = KeyPair::generate().unwrap();
    let params = ca_params();
    let nested = params.signed_by(&key, &world.forger()).unwrap();
    let issuer = Issuer::new(params, key);
    let others = [nested.der().clone(), world.issuing.certificate().clone()];
    let (warpgate, edge) = pair_by(&world, &issuer, &others);
    for (shown, expected) in [(&warpgate, ExpectedRole::AnyWarpgate), (&edge, ExpectedRole::Edge(EDGE))] {
        let judged = verify_peer(&shown.chain, &world.trust(), world.now(), expected);
        let Err(PeerError::Chain(why)) = judged else { panic!("{judged:?}") };
        assert!(why.contains("PathLen"), "{why}");
    }
    refused_both_ways(&world, &warpgate, &edge, AlertDescription::CertificateUnknown);
}

#[test]
fn r19_a_nodes_own_certificate_is_no_ca() {
    let world = World::new();
    let key = NodeKey::generate().unwrap();
    let name = world.warpgate();
    let leaf = world.issuing.issue(&key.csr_der().unwrap(), &name, BEGIN, lifetime::LEAF_TTL).unwrap();
    let signer = KeyPair::try_from(key.pkcs8_der()).unwrap();
    let issuer = Issuer::from_ca_cert_der(&leaf.chain[0], signer).unwrap();
    let (warpgate, edge) = pair_by(&world, &issuer, &leaf.chain);
    for (shown, expected) in [(&warpgate, ExpectedRole::AnyWarpgate), (&edge, ExpectedRole::Edge(EDGE))] {
        let judged = verify_peer(&shown.chain, &world.trust(), world.now(), expected);
        let Err(PeerError::Chain(why)) = judged else { panic!("{judged:?}") };
        assert!(why.contains("EndEntityUsedAsCa"), "{why}");
    }
    refused_both_ways(&world, &warpgate, &edge, AlertDescription::CertificateUnknown);
}

#[test]
fn r19_a_node_has_exactly_one_uri_name_and_it_is_one_of_ours() {
    let world = World::new();
    let (warpgate, edge) = (world.warpgate().to_string(), world.edge().to_string());
    let rows: [(Vec<String>, Vec<String>); 4] = [
        (vec![], vec![]),
        (vec![warpgate.clone(), edge.clone()], vec![edge.clone(), warpgate.clone()]),
        (vec![warpgate.clone(), warpgate.clone()], vec![edge.clone(), edge.clone()]),
        (vec![format!("{warpgate}/")], vec!["https://mezu.example/edge".to_owned()]),
    ];
    for (as_warpgate, as_edge) in rows {
        let make = |uris: &[String]| {
            let key = KeyPair::generate().unwrap();
            let leaf = leaf_params(uris).signed_by(&key, &world.forger()).unwrap();
            Shown::forged(vec![leaf.der().clone(), world.issuing.certificate().clone()], &key)
        };
        refused_both_ways(&world, &make(&as_warpgate), &make(&as_edge), AlertDescription::BadCertificate);
    }
}

#[test]
fn r19_a_name_of_another_trust_domain_is_refused_even_under_our_root() {
    let (world, other) = (World::new(), World::named("other.example"));
    let (warpgate, edge) = pair_by(&other, &world.forger(), &[world.issuing.certificate().clone()]);
    refused_both_ways(&world, &warpgate, &edge, AlertDescription::UnknownCA);
}

#[test]
fn r19_a_chain_longer_than_ours_are_is_refused() {
    let world = World::new();
    let mut chain = world.identity_for(&world.warpgate(), lifetime::LEAF_TTL).chain().to_vec();
    chain.extend(std::iter::repeat_n(world.root.certificate().clone(), CHAIN_LEN_MAX - 1));
    let judged = verify_peer(&chain, &world.trust(), world.now(), ExpectedRole::AnyWarpgate);
    assert_eq!(judged, Err(PeerError::ChainTooLong(CHAIN_LEN_MAX + 1)));
    assert_eq!(
        verify_peer(&[], &world.trust(), world.now(), ExpectedRole::AnyWarpgate),
        Err(PeerError::NoCertificate)
    );
}

#[test]
fn r24_no_bytes_in_a_chain_make_verification_panic_or_pass() {
    let world = World::new();
    let chain = world.identity_for(&world.warpgate(), lifetime::LEAF_TTL).chain().to_vec();
    let trust = world.trust();
    let leaf = chain[0].as_ref();
    let refused = |bytes: Vec<u8>| {
        let altered = [CertificateDer::from(bytes), chain[1].clone()];
        verify_peer(&altered, &trust, world.now(), ExpectedRole::AnyWarpgate).is_err()
    };
    for at in 0..leaf.len() {
        let mut altered = leaf.to_vec();
        altered[at] ^= 0x20;
        assert!(refused(altered), "octet {at} altered");
        assert!(refused(leaf[..at].to_vec()), "cut to {at}");
    }
}

#[test]
fn r20_a_certificate_that_ended_or_has_not_begun_is_refused_with_the_clock_named() {
    let world = World::new();
    let minute = lifetime::LEAF_TTL_MIN;
    let warpgate = Shown::of(&world.identity_for(&world.warpgate(), minute));
    let edge = Shown::of(&world.identity_for(&world.edge(), minute));
    let judge = |now| verify_peer(&warpgate.chain, &world.trust(), now, ExpectedRole::AnyWarpgate);

    // Exactly the skew allowance on either side of the moment of issue, and the last second, are good.
    for good in [BEGIN.before(minute / 4), BEGIN, BEGIN.after(minute)] {
        judge(good).unwrap();
    }
    let early = judge(BEGIN.before(minute / 4 + Duration::from_secs(1))).unwrap_err();
    assert!(matches!(early, PeerError::NotYetValid { .. }) && early.suspects_clock(), "{early:?}");
    assert!(early.to_string().contains("this machine's clock says"), "{early}");
    let late = judge(BEGIN.after(minute + Duration::from_hours(26))).unwrap_err();
    assert!(matches!(late, PeerError::Expired { .. }) && late.suspects_clock(), "{late:?}");
    let text = late.to_string();
    assert!(text.contains("ended 26 h ago") && text.contains("this machine's clock says"), "{text}");
    let much_later = judge(BEGIN.after(lifetime::CLOCK_SUSPECT_MAX * 2)).unwrap_err();
    assert!(!much_later.suspects_clock() && !much_later.to_string().contains("clock"), "{much_later}");

    // In handshakes: our own certificates are renewed, the peer's are not.
    let mut later = world;
    later.hand.advance(minute + Duration::from_secs(1));
    refused_both_ways(&later, &warpgate, &edge, AlertDescription::CertificateExpired);
    // Our clock runs 20 s behind, 5 s more than a minute's leaf allows for.
    later.hand = mezusphere_model::clock::ManualClock::at(BEGIN.before(Duration::from_secs(20)));
    refused_both_ways(&later, &warpgate, &edge, AlertDescription::CertificateExpired);
}

#[test]
fn r20_an_evicted_node_is_refused_both_ways_and_others_are_not() {
    let world = World::new();
    let (trust, clock) = (world.current_trust(), world.clock());
    let (edge, warpgate) = (world.identity(&world.edge()), world.identity(&world.warpgate()));
    let server = Arc::new(tls::tunnel_server_config(&edge, &trust, &clock, ALPN).unwrap());
    let client = Arc::new(tls::tunnel_client_config(&warpgate, &trust, EDGE, &clock, ALPN).unwrap());
    assert!(shake(&client, &server).is_up());

    let deny = |names: &[String]| {
        let roots = vec![world.root.certificate().clone()];
        Trust::new(world.domain.clone(), roots, names.iter().cloned()).unwrap()
    };
    trust.replace(deny(&[world.warpgate().to_string()]));
    assert!(trust.get().denies(&world.warpgate()) && !trust.get().denies(&world.edge()));
    let believer = Arc::new(believer::client(Shown::of(&warpgate.get())));
    assert_eq!(shake(&believer, &server).server_refused_with(), AlertDescription::CertificateRevoked);

    trust.replace(deny(&[world.edge().to_string()]));
    assert_eq!(shake(&client, &server).client_refused_with(), AlertDescription::CertificateRevoked);

    trust.replace(deny(&[world.other_edge().to_string()]));
    assert!(shake(&client, &server).is_up());
}

#[test]
fn r19_a_connection_keys_pin_is_met_only_by_a_chain_to_that_root() {
    let (world, other) = (World::new(), World::new());
    let clock = world.clock();
    let pin = world.root.fingerprint();
    assert_eq!(pin, root_fingerprint(world.root.certificate()));
    let client = Arc::new(tls::connect_client_config(pin, &clock, ALPN).unwrap());
    let dial = |server: rustls::ServerConfig| shake(&client, &Arc::new(server));
    let ours = world.identity(&world.control());
    let config = tls::connect_server_config(&ours, &world.current_trust(), &clock, ALPN).unwrap();
    assert!(dial(config).is_up());

    // Another installation, with its own root, and with ours laid beside its chain.
    let theirs = other.identity(&other.control());
    let config = tls::connect_server_config(&theirs, &other.current_trust(), &clock, ALPN).unwrap();
    assert_eq!(dial(config).client_refused_with(), AlertDescription::UnknownCA);
    let mut beside = Shown::of(&theirs.get());
    beside.chain.push(world.root.certificate().clone());
    assert_eq!(dial(believer::server(beside)).client_refused_with(), AlertDescription::UnknownCA);
    // Ours without the root: nothing shown meets the pin.
    let rootless = Shown::of(&ours.get());
    assert_eq!(dial(believer::server(rootless)).client_refused_with(), AlertDescription::UnknownCA);
}

#[test]
fn r19_an_edge_that_plays_control_is_refused_by_whoever_has_only_a_pin() {
    // Its chain leads to the pinned root like control's; all that differs is the name in it.
    let world = World::new();
    let clock = world.clock();
    let client = Arc::new(tls::connect_client_config(world.root.fingerprint(), &clock, ALPN).unwrap());
    let edge = world.identity(&world.edge());
    let config = tls::connect_server_config(&edge, &world.current_trust(), &clock, ALPN).unwrap();
    let outcome = shake(&client, &Arc::new(config));
    assert_eq!(outcome.client_refused_with(), AlertDescription::AccessDenied, "{:?}", outcome.client);

    // Nor does the DNS name of control beside an edge's own help: a forged leaf has both.
    let (_, both) = pair_by(&world, &world.forger(), &[world.issuing.certificate().clone()]);
    let mut shown = both;
    shown.chain.push(world.root.certificate().clone());
    let outcome = shake(&client, &Arc::new(believer::server(shown)));
    assert_eq!(outcome.client_refused_with(), AlertDescription::AccessDenied, "{:?}", outcome.client);
}

#[test]
fn r19_trust_from_a_pin_takes_no_root_but_the_pinned_one() {
    let (world, other) = (World::new(), World::named("other.example"));
    let offered = [other.root.certificate().clone(), world.root.certificate().clone()];
    let trust = Trust::from_pin(&world.root.fingerprint(), &offered).unwrap();
    assert_eq!(trust.roots(), [world.root.certificate().clone()]);
    assert_eq!(trust.domain(), &world.domain);
    assert!(Trust::from_pin(&[0; 32], &offered).is_err());
}

#[test]
fn trust_that_cannot_be_used_is_refused_whole() {
    use mezusphere_pki::TrustError;
    let (world, other) = (World::new(), World::named("other.example"));
    let trust = |roots| Trust::new(world.domain.clone(), roots, []).map(|_| ());
    let leaf: NodeIdentity = world.identity_for(&world.edge(), lifetime::LEAF_TTL);
    assert_eq!(trust(vec![]), Err(TrustError::NoRoots));
    assert_eq!(trust(vec![other.root.certificate().clone()]), Err(TrustError::OtherDomain(other.domain)));
    assert!(matches!(trust(vec![leaf.chain()[0].clone()]), Err(TrustError::Root(_))));
    assert!(matches!(trust(vec![CertificateDer::from(vec![0; 8])]), Err(TrustError::Root(_))));
    let many = vec![world.root.certificate().clone(); 9];
    assert_eq!(trust(many), Err(TrustError::TooManyRoots(9)));

    let good = CurrentTrust::new(world.trust());
    let pem = world.root.certificate_pem();
    good.replace(Trust::from_pem("mezu.example", [pem.as_str()], []).unwrap());
    assert_eq!(good.get().roots(), world.trust().roots());
}
