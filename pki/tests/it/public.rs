//! What strangers meet.

use std::sync::Arc;
use std::time::Duration;

use mezusphere_model::{Host, Timestamp};
use mezusphere_pki::PublicCertificate;
use mezusphere_pki::authority::{IssueError, IssuedPublic};
use mezusphere_pki::lifetime::{PUBLIC_TTL_MAX, SKEW_MAX};
use mezusphere_pki::public::{PublicCertificateError, PublicTls, TICKET_KEY_LIFE, covers};
use rcgen::{CertificateParams, KeyPair};
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs};
use rustls::version::{TLS12, TLS13};
use rustls::{
    CipherSuite, ClientConfig, HandshakeKind, NamedGroup, ProtocolVersion, RootCertStore, ServerConfig,
    SupportedCipherSuite, SupportedProtocolVersion,
};

use crate::world::{BEGIN, World, shake_as};

const PROTOCOLS: &[&[u8]] = &[b"h2", b"http/1.1"];

fn issued(world: &World, names: &[&str]) -> IssuedPublic {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    world.issuing.issue_public(&names, BEGIN, PUBLIC_TTL_MAX).unwrap()
}

fn host(name: &str) -> Host {
    Host::parse(name).unwrap()
}

fn certificate(world: &World) -> Arc<PublicCertificate> {
    let issued = issued(world, &["shop.example", "*.shop.example"]);
    Arc::new(PublicCertificate::from_pem(&issued.chain_pem, &issued.key_pem, BEGIN).unwrap())
}

fn public_tls(world: &World) -> PublicTls {
    PublicTls::new(&world.clock(), &world.entropy, PROTOCOLS).unwrap()
}

fn server(world: &World) -> Arc<ServerConfig> {
    public_tls(world).showing(&certificate(world), &[])
}

/// A browser that was told to trust the root, with its clock right.
fn browser(world: &World, versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
    browser_with(world, versions, aws_lc_rs::default_provider())
}

/// The same, with suites of its own.
fn browser_with(
    world: &World,
    versions: &[&'static SupportedProtocolVersion],
    provider: CryptoProvider,
) -> Arc<ClientConfig> {
    #[derive(Debug)]
    struct At(Timestamp);
    impl rustls::time_provider::TimeProvider for At {
        fn current_time(&self) -> Option<rustls::pki_types::UnixTime> {
            let seconds = u64::try_from(self.0.as_seconds()).ok()?;
            Some(rustls::pki_types::UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
        }
    }
    let provider = Arc::new(provider);
    let mut roots = RootCertStore::empty();
    roots.add(world.root.certificate().clone()).unwrap();
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
    let mut config = ClientConfig::builder_with_details(provider, Arc::new(At(BEGIN)))
        .with_protocol_versions(versions)
        .unwrap()
        .with_webpki_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = PROTOCOLS.iter().map(|protocol| protocol.to_vec()).collect();
    Arc::new(config)
}

#[test]
fn r19_a_browser_that_trusts_the_root_meets_tls_1_3_with_the_post_quantum_group() {
    let world = World::new();
    let (browser, server) = (browser(&world, &[&TLS13, &TLS12]), server(&world));
    for name in ["shop.example", "www.shop.example"] {
        let outcome = shake_as(name, &browser, &server);
        assert!(outcome.is_up(), "{name}: {:?}", outcome.client);
        assert_eq!(outcome.client_side.protocol_version(), Some(ProtocolVersion::TLSv1_3));
        let group = outcome.client_side.negotiated_key_exchange_group().map(SupportedKxGroup::name);
        assert_eq!(group, Some(NamedGroup::X25519MLKEM768));
        assert_eq!(outcome.client_side.alpn_protocol(), Some(b"h2".as_slice()));
        assert!(outcome.server_side.peer_certificates().is_none());
    }
    for name in ["other.example", "a.b.shop.example"] {
        assert!(!shake_as(name, &browser, &server).is_up(), "{name}");
    }
}

#[test]
fn r19_an_older_browser_meets_tls_1_2_with_forward_secrecy_and_aead_only() {
    let world = World::new();
    let (old, server) = (browser(&world, &[&TLS12]), server(&world));
    let outcome = shake_as("shop.example", &old, &server);
    assert!(outcome.is_up(), "{:?}", outcome.client);
    assert_eq!(outcome.client_side.protocol_version(), Some(ProtocolVersion::TLSv1_2));

    for suite in &server.crypto_provider().cipher_suites {
        let suite = suite.suite();
        let name = format!("{suite:?}");
        let modern = name.starts_with("TLS13_");
        let ephemeral_aead = name.starts_with("TLS_ECDHE_")
            && (name.contains("_GCM_")
                || suite == CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
                || suite == CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256);
        assert!(modern || ephemeral_aead, "{name}");
    }
}

#[test]
fn a_browser_resumes_and_the_server_keeps_nothing_for_it() {
    let world = World::new();
    let server = server(&world);
    for versions in [&[&TLS13], &[&TLS12]] {
        let browser = browser(&world, versions);
        let kinds: Vec<_> = (0..3)
            .map(|_| shake_as("shop.example", &browser, &server).client_side.handshake_kind().unwrap())
            .collect();
        assert_ne!(kinds[0], HandshakeKind::Resumed);
        assert_eq!(kinds[1..], [HandshakeKind::Resumed; 2], "{versions:?}");
    }
    assert_eq!(server.max_early_data_size, 0);
    assert!(!server.session_storage.can_cache());
}

#[test]
fn r19_a_session_goes_on_only_where_it_began() {
    let world = World::new();
    let (tls, shop) = (public_tls(&world), certificate(&world));
    // The same names from the same authority: a renewal, or another owner's.
    let next = certificate(&world);
    let other_edge = public_tls(&world);
    for versions in [&[&TLS13], &[&TLS12]] {
        let browser = browser(&world, versions);
        let shake = |name: &str, server: &Arc<ServerConfig>| {
            let outcome = shake_as(name, &browser, server);
            assert!(outcome.is_up(), "{name}: {:?}", outcome.client);
            outcome.server_side.handshake_kind() == Some(HandshakeKind::Resumed)
        };
        let here = tls.showing(&shop, &[]);
        assert!(!shake("shop.example", &here));
        assert!(shake("shop.example", &here));
        assert!(shake("shop.example", &tls.showing(&shop, &[])), "made anew for the next connection");
        assert!(!shake("www.shop.example", &here), "another name of the same certificate");
        assert!(!shake("shop.example", &tls.showing(&next, &[])), "another certificate for the same name");
        assert!(!shake("shop.example", &here), "and back");
        assert!(!shake("shop.example", &other_edge.showing(&shop, &[])), "another edge, or another carrier");
    }
}

#[test]
fn suites_are_taken_in_our_order_but_for_clients_without_aes_in_hardware() {
    let world = World::new();
    let (tls, shop) = (public_tls(&world), certificate(&world));
    for versions in [&[&TLS13], &[&TLS12]] {
        let taken = |order: fn(&mut Vec<SupportedCipherSuite>)| {
            let mut provider = aws_lc_rs::default_provider();
            provider.cipher_suites.retain(|suite| versions.contains(&suite.version()));
            order(&mut provider.cipher_suites);
            let offered: Vec<_> = provider.cipher_suites.iter().map(SupportedCipherSuite::suite).collect();
            let browser = browser_with(&world, versions, provider);
            let outcome = shake_as("shop.example", &browser, &tls.showing(&shop, &offered));
            outcome.server_side.negotiated_cipher_suite().unwrap().suite().as_str().unwrap().to_owned()
        };
        assert!(taken(|_| ()).contains("AES_128_GCM"), "256 comes first at the client");
        assert!(taken(|suites| suites.reverse()).contains("CHACHA20"), "ChaCha20 comes first at the client");
    }
}

#[test]
fn a_session_goes_on_while_the_keys_of_tickets_turn_and_no_longer() {
    let world = World::new();
    let (tls, shop) = (public_tls(&world), certificate(&world));
    for versions in [&[&TLS13], &[&TLS12]] {
        let browser = browser(&world, versions);
        let shake = || {
            let outcome = shake_as("shop.example", &browser, &tls.showing(&shop, &[]));
            assert!(outcome.is_up(), "{:?}", outcome.client);
            outcome.server_side.handshake_kind() == Some(HandshakeKind::Resumed)
        };
        assert!(!shake());
        world.hand.advance(TICKET_KEY_LIFE);
        assert!(shake(), "by the key before");
        world.hand.advance(2 * TICKET_KEY_LIFE);
        assert!(!shake(), "no key is left");
    }
}

#[test]
fn r19_a_configuration_shows_its_certificate_to_nobody_who_asks_for_another_name() {
    let world = World::new();
    let browser = browser(&world, &[&TLS13, &TLS12]);
    let outcome = shake_as("other.example", &browser, &server(&world));
    assert!(!outcome.is_up());
    assert!(outcome.client_side.peer_certificates().is_none(), "it was not even shown");
}

#[test]
fn a_public_certificate_is_a_wildcard_for_one_label() {
    let world = World::new();
    let issued = issued(&world, &["Shop.example", "*.apps.example"]);
    let read = PublicCertificate::from_pem(&issued.chain_pem, &issued.key_pem, BEGIN).unwrap();
    assert_eq!(read.names(), ["shop.example", "*.apps.example"]);
    assert_eq!((read.not_before(), read.not_after()), (issued.not_before, issued.not_after));
    let rows = [
        ("shop.example", true),
        ("a.apps.example", true),
        ("A.APPS.example", true),
        ("apps.example", false),
        ("a.b.apps.example", false),
        ("www.shop.example", false),
        ("xapps.example", false),
        ("example", false),
    ];
    for (name, covered) in rows {
        assert_eq!(read.covers(&host(name)), covered, "{name}");
    }
    assert!(!covers(&["*".to_owned(), "*.".to_owned(), "a*.example".to_owned()], &host("ab.example")));
    assert!(!covers(&[], &host("ab.example")));
}

#[test]
fn names_that_no_public_certificate_may_have_are_refused() {
    let world = World::new();
    let ask = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        world.issuing.issue_public(&names, BEGIN, PUBLIC_TTL_MAX).map(|_| ())
    };
    for name in [
        "",
        "*",
        "*.*.example",
        "a.*.example",
        "127.0.0.1",
        "a_b.example",
        "edge.mezu.internal",
        "EDGE.MEZU.INTERNAL.",
        "*.mezu.internal",
        "mezu.internal",
        "spiffe://mezu.example/edge",
    ] {
        assert_eq!(ask(&["ok.example", name]), Err(IssueError::PublicName(name.to_owned())));
    }
    assert_eq!(ask(&[]), Err(IssueError::PublicNameCount(0)));
    assert_eq!(ask(&["a.example"; 101]), Err(IssueError::PublicNameCount(101)));
    let long = PUBLIC_TTL_MAX + Duration::from_secs(1);
    let refused = world.issuing.issue_public(&["a.example".to_owned()], BEGIN, long);
    assert!(matches!(refused, Err(IssueError::Ttl { .. })));
}

#[test]
fn files_that_are_not_a_usable_pair_are_told_apart() {
    use PublicCertificateError as E;
    let world = World::new();
    let (one, two) = (issued(&world, &["one.example"]), issued(&world, &["two.example"]));
    let read = |chain: &str, key: &str, now| PublicCertificate::from_pem(chain, key, now).map(|_| ());
    assert_eq!(read(&one.chain_pem, &one.key_pem, BEGIN), Ok(()));
    assert_eq!(read(&one.chain_pem, &two.key_pem, BEGIN), Err(E::NotAPair));
    assert_eq!(read(&one.key_pem, &one.chain_pem, BEGIN), Err(E::NoCertificate)); // swapped
    assert_eq!(read("", &one.key_pem, BEGIN), Err(E::NoCertificate));
    assert_eq!(read(&one.chain_pem, "", BEGIN), Err(E::NoKey));
    assert_eq!(read(&one.chain_pem, &one.chain_pem, BEGIN), Err(E::NoKey));
    let second = Duration::from_secs(1);
    let (late, early) = (one.not_after.after(second), one.not_before.before(SKEW_MAX + second));
    let (not_after, not_before) = (one.not_after, one.not_before);
    assert_eq!(read(&one.chain_pem, &one.key_pem, late), Err(E::Expired { not_after, now: late }));
    assert_eq!(read(&one.chain_pem, &one.key_pem, early), Err(E::NotYetValid { not_before, now: early }));
    assert_eq!(read(&one.chain_pem, &one.key_pem, early.after(second)), Ok(()), "clocks may disagree");
    let ca_first = format!("{}{}", world.root.certificate_pem(), one.chain_pem);
    assert_eq!(read(&ca_first, &one.key_pem, BEGIN), Err(E::CaFirst));
    let many = one.chain_pem.repeat(6);
    assert_eq!(read(&many, &one.key_pem, BEGIN), Err(E::ChainTooLong(12)));
    assert_eq!(read(&"x".repeat(257 * 1024), &one.key_pem, BEGIN), Err(E::TooLong));
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert_eq!(read(garbage, &one.key_pem, BEGIN), Err(E::NoCertificate));

    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = rcgen::IsCa::ExplicitNoCa;
    let nameless = params.self_signed(&key).unwrap();
    assert_eq!(read(&nameless.pem(), &key.serialize_pem(), BEGIN), Err(E::NoNames));
}

#[test]
fn keys_of_other_kinds_from_files_work_too() {
    for algorithm in [&rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519, &rcgen::PKCS_RSA_SHA256] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let cert =
            CertificateParams::new(vec!["files.example".to_owned()]).unwrap().self_signed(&key).unwrap();
        let read = PublicCertificate::from_pem(&cert.pem(), &key.serialize_pem(), BEGIN).unwrap();
        assert!(read.covers(&host("files.example")));
    }
}

#[test]
fn r25_an_issued_certificate_does_not_print_its_key() {
    let world = World::new();
    let issued = issued(&world, &["one.example"]);
    let read = PublicCertificate::from_pem(&issued.chain_pem, &issued.key_pem, BEGIN).unwrap();
    let key = issued.key_pem.lines().nth(1).unwrap();
    for text in [format!("{issued:?}"), format!("{read:?}")] {
        assert!(!text.contains(key), "{text}");
    }
}
