//! Renewal and a change of roots in running processes.

use std::sync::Arc;
use std::time::Duration;

use mezusphere_pki::{
    CurrentIdentity, CurrentTrust, ExpectedRole, NodeIdentity, NodeKey, Peer, Trust, lifetime, tls,
    verify_peer,
};
use rustls::{AlertDescription, ClientConfig, ServerConfig};

use crate::world::{ALPN, EDGE, World, shake};

struct Pair {
    edge: CurrentIdentity,
    warpgate: CurrentIdentity,
    edge_trust: CurrentTrust,
    warpgate_trust: CurrentTrust,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

/// An edge and a warpgate with configurations made once.
fn pair(world: &World) -> Pair {
    let (edge, warpgate) = (world.identity(&world.edge()), world.identity(&world.warpgate()));
    let (edge_trust, warpgate_trust) = (world.current_trust(), world.current_trust());
    let clock = world.clock();
    let server = Arc::new(tls::tunnel_server_config(&edge, &edge_trust, &clock, ALPN).unwrap());
    let client = Arc::new(tls::tunnel_client_config(&warpgate, &warpgate_trust, EDGE, &clock, ALPN).unwrap());
    Pair { edge, warpgate, edge_trust, warpgate_trust, server, client }
}

fn both(old: &World, new: &World) -> Trust {
    let roots = vec![new.root.certificate().clone(), old.root.certificate().clone()];
    Trust::new(old.domain.clone(), roots, []).unwrap()
}

#[test]
fn r20_a_renewed_identity_is_shown_in_the_next_handshake_without_a_new_configuration() {
    let world = World::new();
    let pair = pair(&world);
    let first = shake(&pair.client, &pair.server);
    assert!(first.is_up());
    world.hand.advance(Duration::from_hours(12));
    pair.edge.replace(world.identity_for(&world.edge(), lifetime::LEAF_TTL));
    pair.warpgate.replace(world.identity_for(&world.warpgate(), lifetime::LEAF_TTL));
    let second = shake(&pair.client, &pair.server);
    assert!(second.is_up());

    let seen = |outcome: &crate::world::Outcome| {
        let edge = Peer::read(outcome.client_side.peer_certificates().unwrap()).unwrap();
        let warpgate = Peer::read(outcome.server_side.peer_certificates().unwrap()).unwrap();
        (edge, warpgate)
    };
    let ((edge_1, warpgate_1), (edge_2, warpgate_2)) = (seen(&first), seen(&second));
    assert_eq!((&edge_1.name, &warpgate_1.name), (&edge_2.name, &warpgate_2.name));
    for (first, second) in [(&edge_1, &edge_2), (&warpgate_1, &warpgate_2)] {
        assert_eq!(second.not_after.since(first.not_after), Duration::from_hours(12));
    }
    // What the server learnt is what the certificate says: nobody needs to ask the peer.
    assert_eq!(warpgate_2.name, world.warpgate());
}

#[test]
fn r20_without_renewal_the_same_configurations_refuse_once_the_leaf_has_ended() {
    let world = World::new();
    let pair = pair(&world);
    world.hand.advance(lifetime::LEAF_TTL + Duration::from_secs(1));
    assert!(!shake(&pair.client, &pair.server).is_up());
    pair.edge.replace(world.identity_for(&world.edge(), lifetime::LEAF_TTL));
    // The warpgate's own has ended too.
    let outcome = shake(&pair.client, &pair.server);
    assert_eq!(outcome.server_refused_with(), AlertDescription::CertificateExpired);
    pair.warpgate.replace(world.identity_for(&world.warpgate(), lifetime::LEAF_TTL));
    assert!(shake(&pair.client, &pair.server).is_up());
}

#[test]
fn r20_a_root_is_replaced_step_by_step_while_handshakes_go_on() {
    let old = World::new();
    let new = old.with_new_root();
    let pair = pair(&old);
    let up = || shake(&pair.client, &pair.server).is_up();
    assert!(up());
    // Announce: either side may learn of the new root first.
    pair.edge_trust.replace(both(&old, &new));
    assert!(up());
    pair.warpgate_trust.replace(both(&old, &new));
    assert!(up());
    // Sign: nodes renew under the new root one by one.
    pair.warpgate.replace(new.identity_for(&new.warpgate(), lifetime::LEAF_TTL));
    assert!(up());
    pair.edge.replace(new.identity_for(&new.edge(), lifetime::LEAF_TTL));
    assert!(up());
    // Retire.
    pair.edge_trust.replace(new.trust());
    assert!(up());
    pair.warpgate_trust.replace(new.trust());
    assert!(up());
    // Who slept through it all is refused.
    pair.warpgate.replace(old.identity_for(&old.warpgate(), lifetime::LEAF_TTL));
    let outcome = shake(&pair.client, &pair.server);
    assert_eq!(outcome.server_refused_with(), AlertDescription::UnknownCA);
}

#[test]
fn r20_a_change_of_roots_can_be_undone() {
    let old = World::new();
    let new = old.with_new_root();
    let pair = pair(&old);
    pair.edge_trust.replace(both(&old, &new));
    pair.warpgate_trust.replace(both(&old, &new));
    pair.edge.replace(new.identity_for(&new.edge(), lifetime::LEAF_TTL));
    assert!(shake(&pair.client, &pair.server).is_up());
    pair.edge.replace(old.identity_for(&old.edge(), lifetime::LEAF_TTL));
    pair.edge_trust.replace(old.trust());
    pair.warpgate_trust.replace(old.trust());
    assert!(shake(&pair.client, &pair.server).is_up());
}

#[test]
fn r20_two_issuing_cas_of_one_root_serve_at_once() {
    let world = World::new();
    let second = mezusphere_pki::Issuing::create(&world.root, world.now(), &world.entropy).unwrap();
    let key = NodeKey::generate().unwrap();
    let name = world.warpgate();
    let leaf = second.issue(&key.csr_der().unwrap(), &name, world.now(), lifetime::LEAF_TTL).unwrap();
    let by_second = NodeIdentity::new(leaf.chain, key).unwrap();
    let by_first = world.identity_for(&name, lifetime::LEAF_TTL);
    for identity in [by_first, by_second] {
        verify_peer(identity.chain(), &world.trust(), world.now(), ExpectedRole::AnyWarpgate).unwrap();
    }
}

#[test]
fn r20_a_live_peer_is_judged_anew_when_trust_changes() {
    let old = World::new();
    let new = old.with_new_root();
    let pair = pair(&old);
    let outcome = shake(&pair.client, &pair.server);
    let chain = outcome.server_side.peer_certificates().unwrap();
    verify_peer(chain, &old.trust(), old.now(), ExpectedRole::AnyWarpgate).unwrap();
    assert!(verify_peer(chain, &new.trust(), old.now(), ExpectedRole::AnyWarpgate).is_err());
}
