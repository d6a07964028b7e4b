//! Who has been in believes nobody by a pin alone: what it knows of the installation counts as well.

use std::sync::Arc;

use mezusphere_pki::trust::CROSSES_MAX;
use mezusphere_pki::{CurrentIdentity, CurrentTrust, Issuing, Root, Trust, lifetime, tls};
use rustls::{AlertDescription, ClientConfig, ServerConfig};

use crate::lineage::Line;
use crate::world::{ALPN, BEGIN, World, shake};

/// How the three kinds of dialler that show no certificate dial.
struct Diallers {
    first: Arc<ClientConfig>,
    again: Arc<ClientConfig>,
    rejoining: Arc<ClientConfig>,
}

fn diallers(world: &World, root: &Root, known: &CurrentTrust) -> Diallers {
    let (pin, clock) = (root.fingerprint(), world.clock());
    Diallers {
        first: Arc::new(tls::connect_client_config(pin, &clock, ALPN).unwrap()),
        again: Arc::new(tls::connect_again_client_config(pin, known, &clock, ALPN).unwrap()),
        rejoining: Arc::new(tls::rejoin_client_config(known, &clock, ALPN).unwrap()),
    }
}

/// A control node whose certificate is of `issuing`, and that shows what `trust` has.
fn control(world: &World, issuing: &Issuing, trust: Trust) -> Arc<ServerConfig> {
    let identity = CurrentIdentity::new(Line::identity(&world.control(), issuing));
    let trust = CurrentTrust::new(trust);
    Arc::new(tls::connect_server_config(&identity, &trust, &world.clock(), ALPN).unwrap())
}

fn knowing(world: &World, root: &Root) -> CurrentTrust {
    CurrentTrust::new(Trust::new(world.domain.clone(), vec![root.certificate().clone()], []).unwrap())
}

#[test]
fn r20_who_knows_that_a_ca_was_retired_tells_its_secret_to_none_of_its_nodes_whatever_the_pin() {
    let world = World::new();
    let known = world.current_trust();
    let dial = diallers(&world, &world.root, &known);
    // Its key got away: what a thief makes with it leads to the pinned root.
    let thief = control(&world, &world.issuing, world.trust());
    for client in [&dial.first, &dial.again, &dial.rejoining] {
        assert!(shake(client, &thief).is_up(), "nothing is known yet");
    }
    known.replace(world.trust().with_retired([world.issuing.digest()]).unwrap());
    assert!(shake(&dial.first, &thief).is_up(), "who has only a pin cannot know");
    for client in [&dial.again, &dial.rejoining] {
        assert_eq!(shake(client, &thief).client_refused_with(), AlertDescription::UnknownCA);
    }
    let next = Issuing::create(&world.root, BEGIN, &world.entropy).unwrap();
    let honest = control(&world, &next, world.trust());
    for client in [&dial.again, &dial.rejoining] {
        assert!(shake(client, &honest).is_up(), "its successor is believed");
    }
}

#[test]
fn r20_an_evicted_control_node_is_refused_by_who_knows_of_it_whatever_the_pin() {
    let world = World::new();
    let denied = [world.control().to_string()];
    let roots = vec![world.root.certificate().clone()];
    let known = CurrentTrust::new(Trust::new(world.domain.clone(), roots, denied).unwrap());
    let dial = diallers(&world, &world.root, &known);
    let evicted = control(&world, &world.issuing, world.trust());
    for client in [&dial.again, &dial.rejoining] {
        assert_eq!(shake(client, &evicted).client_refused_with(), AlertDescription::CertificateRevoked);
    }
}

#[test]
fn r20_who_was_away_while_roots_were_replaced_finds_control_by_the_oldest_pin_and_the_oldest_trust() {
    for replaced in 0..=CROSSES_MAX {
        let line = Line::of(replaced);
        let (oldest, newest) = (&line.roots[0], line.newest());
        let server = control(&line.world, &line.issuing(), line.trust());
        for (pin, trusted) in [(oldest, oldest), (newest, oldest), (oldest, newest)] {
            let dial = diallers(&line.world, pin, &knowing(&line.world, trusted));
            for client in [&dial.again, &dial.rejoining] {
                let outcome = shake(client, &server);
                assert!(outcome.is_up(), "{replaced} changes: {:?}", outcome.client);
            }
        }
    }
}

#[test]
fn r20_the_key_of_a_root_that_was_replaced_opens_no_door_to_who_knows_its_successor() {
    let line = Line::of(1);
    let thief = Issuing::create(&line.roots[0], BEGIN, &line.world.entropy).unwrap();
    let server = control(&line.world, &thief, line.trust());
    let dial = diallers(&line.world, &line.roots[0], &knowing(&line.world, line.newest()));
    assert!(shake(&dial.first, &server).is_up(), "the pin names that very root");
    for client in [&dial.again, &dial.rejoining] {
        assert_eq!(shake(client, &server).client_refused_with(), AlertDescription::UnknownCA);
    }
    // Nor the other way round: a key made since names the new root, and what was kept is older.
    let dial = diallers(&line.world, line.newest(), &knowing(&line.world, &line.roots[0]));
    assert_eq!(shake(&dial.again, &server).client_refused_with(), AlertDescription::UnknownCA);
}

#[test]
fn r19_an_edge_is_not_control_to_who_has_been_in_either() {
    let world = World::new();
    let dial = diallers(&world, &world.root, &world.current_trust());
    let edge = CurrentIdentity::new(world.identity_for(&world.edge(), lifetime::LEAF_TTL));
    let server = tls::connect_server_config(&edge, &world.current_trust(), &world.clock(), ALPN).unwrap();
    let server = Arc::new(server);
    for client in [&dial.again, &dial.rejoining] {
        assert_eq!(shake(client, &server).client_refused_with(), AlertDescription::AccessDenied);
    }
}
