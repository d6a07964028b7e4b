//! What every handshake between nodes has in common: TLS 1.3, no resumption, one protocol.

use std::sync::Arc;

use mezusphere_pki::tls;
use rustls::crypto::aws_lc_rs;
use rustls::version::TLS12;
use rustls::{AlertDescription, ClientConfig, HandshakeKind, NamedGroup, ProtocolVersion, ServerConfig};

use crate::world::{ALPN, EDGE, Shown, World, believer, shake};

fn node_servers(world: &World) -> [ServerConfig; 3] {
    let (trust, clock) = (world.current_trust(), world.clock());
    let (edge, control) = (world.identity(&world.edge()), world.identity(&world.control()));
    [
        tls::tunnel_server_config(&edge, &trust, &clock, ALPN).unwrap(),
        tls::link_server_config(&control, &trust, &clock, ALPN).unwrap(),
        tls::connect_server_config(&control, &trust, &clock, ALPN).unwrap(),
    ]
}

fn node_clients(world: &World) -> [ClientConfig; 3] {
    let (trust, clock) = (world.current_trust(), world.clock());
    let (edge, warpgate) = (world.identity(&world.edge()), world.identity(&world.warpgate()));
    [
        tls::tunnel_client_config(&warpgate, &trust, EDGE, &clock, ALPN).unwrap(),
        tls::link_client_config(&edge, &trust, &clock, ALPN).unwrap(),
        tls::connect_client_config(world.root.fingerprint(), &clock, ALPN).unwrap(),
    ]
}

#[test]
fn r19_nodes_meet_over_tls_1_3_with_the_post_quantum_group() {
    let world = World::new();
    for (client, server) in node_clients(&world).into_iter().zip(node_servers(&world)) {
        let outcome = shake(&Arc::new(client), &Arc::new(server));
        assert!(outcome.is_up(), "{:?} {:?}", outcome.client, outcome.server);
        assert_eq!(outcome.client_side.protocol_version(), Some(ProtocolVersion::TLSv1_3));
        assert_eq!(outcome.server_side.alpn_protocol(), Some(ALPN[0]));
        let group = outcome.client_side.negotiated_key_exchange_group().unwrap().name();
        assert_eq!(group, NamedGroup::X25519MLKEM768);
    }
}

#[test]
fn r19_tls_1_2_is_refused_between_nodes() {
    let world = World::new();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let old_client = believer::client(Shown::of(&world.identity(&world.warpgate()).get()));
    let mut roots = rustls::RootCertStore::empty();
    roots.add(world.root.certificate().clone()).unwrap();
    let mut old = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    old.alpn_protocols.clone_from(&old_client.alpn_protocols);
    let old = Arc::new(old);
    for server in node_servers(&world) {
        let outcome = shake(&old, &Arc::new(server));
        assert_eq!(outcome.server_refused_with(), AlertDescription::ProtocolVersion);
    }
    let shown = Shown::of(&world.identity(&world.edge()).get());
    let mut old = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(shown.chain, shown.key)
        .unwrap();
    old.alpn_protocols.clone_from(&old_client.alpn_protocols);
    let old = Arc::new(old);
    for client in node_clients(&world) {
        assert!(!shake(&Arc::new(client), &old).is_up());
    }
}

#[test]
fn r20_a_second_handshake_is_full_so_that_eviction_cannot_be_skipped() {
    let world = World::new();
    // A peer that would resume if it could: one configuration, its session store kept.
    let eager = Arc::new(believer::client(Shown::of(&world.identity(&world.warpgate()).get())));
    let eager_edge = Arc::new(believer::client(Shown::of(&world.identity(&world.edge()).get())));
    let [tunnel, link, connect] = node_servers(&world).map(Arc::new);
    for (client, server) in [(&eager, &tunnel), (&eager_edge, &link), (&eager, &connect)] {
        for _ in 0..3 {
            let outcome = shake(client, server);
            assert!(outcome.is_up(), "{:?}", outcome.server);
            assert_ne!(outcome.server_side.handshake_kind(), Some(HandshakeKind::Resumed));
            assert_eq!(outcome.client_side.tls13_tickets_received(), 0);
        }
    }
    // And our own side does not resume at a server that offers it.
    let generous = Arc::new(believer::server(Shown::of(&world.identity(&world.edge()).get())));
    let [client, ..] = node_clients(&world).map(Arc::new);
    for _ in 0..3 {
        let outcome = shake(&client, &generous);
        assert!(outcome.is_up() && outcome.client_side.tls13_tickets_received() > 0);
        assert_ne!(outcome.client_side.handshake_kind(), Some(HandshakeKind::Resumed));
    }
}

#[test]
fn r19_no_early_data_is_offered_or_taken() {
    let world = World::new();
    for server in node_servers(&world) {
        assert_eq!(server.max_early_data_size, 0);
        assert_eq!(server.send_tls13_tickets, 0);
    }
    for client in node_clients(&world) {
        assert!(!client.enable_early_data);
    }
}

#[test]
fn a_peer_of_another_protocol_is_refused() {
    let world = World::new();
    for server in node_servers(&world) {
        let mut client = believer::client(Shown::of(&world.identity(&world.warpgate()).get()));
        client.alpn_protocols = vec![b"h2".to_vec()];
        let outcome = shake(&Arc::new(client), &Arc::new(server));
        assert_eq!(outcome.server_refused_with(), AlertDescription::NoApplicationProtocol);
    }
}

#[test]
fn the_connect_service_shows_its_root() {
    let world = World::new();
    let [_, _, connect] = node_servers(&world);
    let outcome = shake(&Arc::new(believer::nameless_client()), &Arc::new(connect));
    let shown = outcome.client_side.peer_certificates().unwrap();
    assert_eq!(shown.len(), 3);
    assert_eq!(shown[2], *world.root.certificate());
    assert_eq!(shown[1], *world.issuing.certificate());
}
