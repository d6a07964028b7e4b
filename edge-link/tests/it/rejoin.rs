//! Coming back: an edge whose certificate has ended proves the key of it, to control alone.

use std::sync::Arc;
use std::time::Duration;

use mezusphere_edge_link::ALPN_REJOIN;
use mezusphere_edge_link::join::{JoinError, JoinRefused, JoinReply, refusal, rejoin};
use mezusphere_model::document::TrustDoc;
use mezusphere_model::id::{ControlId, EdgeId};
use mezusphere_pki::tls::connect_server_config;
use mezusphere_pki::{CurrentTrust, Issuing, NodeIdentity, Role, Root, Trust, possession};
use tokio::sync::oneshot;

use crate::join::listening;
use crate::round_trip::about;
use crate::world::{Node, World, within};

/// An edge's certificate that has ended by now.
fn ended(world: &World, edge: EdgeId) -> NodeIdentity {
    let identity = world.identity(Role::Edge(edge), Duration::from_mins(1));
    world.hand.advance(Duration::from_hours(3));
    identity
}

fn reply(world: &World, node: &Node, edge: EdgeId, csr_der: &[u8]) -> JoinReply {
    JoinReply {
        edge,
        name: "edge-1".to_owned(),
        chain_der: world.certify(csr_der, Role::Edge(edge), Duration::from_hours(24)),
        trust: TrustDoc {
            trust_domain: world.domain().to_owned(),
            roots_pem: vec![world.root.certificate_pem()],
            ..TrustDoc::default()
        },
        controls: vec![node.at()],
        control_time: world.clock.now(),
    }
}

#[tokio::test]
async fn r20_an_edge_whose_certificate_has_ended_comes_back_by_its_key_and_as_itself() {
    let world = Arc::new(World::new());
    let edge = world.edge();
    let was = ended(&world, edge);
    let node = Arc::new(world.control().await);
    let (asked, seen) = oneshot::channel();
    let asked = std::sync::Mutex::new(Some(asked));
    let (answering, at) = (Arc::clone(&world), Arc::clone(&node));
    *node.fake.rejoin.lock().unwrap() = Some(Box::new(move |request| {
        let answer = reply(&answering, &at, edge, &request.csr_der);
        asked.lock().unwrap().take().unwrap().send(request).unwrap();
        Ok(answer)
    }));
    let back =
        within(rejoin(&was, &world.current_trust(), &[node.at()], about(), &world.clock)).await.unwrap();
    let request = seen.await.unwrap();
    assert_eq!(request.leaf_der, was.chain()[0].to_vec());
    assert!(possession::is_proven(&request.leaf_der, &request.csr_der, &request.proof));
    assert_eq!((back.edge, back.identity.name()), (edge, was.name()));
    assert_ne!(back.identity.key().pkcs8_der(), was.key().pkcs8_der(), "with a new key");
    assert!(back.identity.not_after() > world.clock.now());
}

#[tokio::test]
async fn r19_an_edge_that_comes_back_tells_its_certificate_to_control_alone() {
    let world = World::new();
    let was = ended(&world, world.edge());
    let other = world.current(Role::Edge(world.edge()));
    let trust = CurrentTrust::new(world.trust(&[]));
    let config = connect_server_config(&other, &trust, &world.clock, &[ALPN_REJOIN]).unwrap();
    let (at, told) = listening(config).await;
    let refused = within(rejoin(&was, &trust, &[at], about(), &world.clock)).await.unwrap_err();
    assert_eq!(refused.code(), "edge.not_control", "{refused}");
    assert_eq!(within(told).await.unwrap(), b"");
}

#[tokio::test]
async fn r20_an_edge_that_comes_back_believes_no_control_node_it_knows_to_be_out() {
    let world = World::new();
    let was = ended(&world, world.edge());
    let thief = world.current(Role::Control(ControlId::random(&world.entropy)));
    let Role::Control(id) = thief.get().name().role else { panic!("a control node") };
    let shown = world.current_trust();
    let retired = world.trust(&[]).with_retired([world.ca_digest()]).unwrap();
    for known in [retired, world.trust(&[Role::Control(id)])] {
        let config = connect_server_config(&thief, &shown, &world.clock, &[ALPN_REJOIN]).unwrap();
        let (at, told) = listening(config).await;
        let known = CurrentTrust::new(known);
        let refused = within(rejoin(&was, &known, &[at], about(), &world.clock)).await.unwrap_err();
        assert_eq!(refused.code(), "edge.control_untrusted", "{refused}");
        assert_eq!(within(told).await.unwrap(), b"");
    }
}

#[tokio::test]
async fn r20_an_edge_that_missed_a_new_root_finds_control_by_how_it_follows_from_the_old_one() {
    let world = Arc::new(World::new());
    let edge = world.edge();
    let was = ended(&world, edge);
    let node = Arc::new(world.control().await);
    let (domain, now) = (world.trust(&[]).domain().clone(), world.clock.now());
    let new = Root::create(&domain, now, &world.entropy).unwrap();
    let cross = world.root.cross_sign(new.certificate(), now, &world.entropy).unwrap();
    let issuing = Issuing::create(&new, now, &world.entropy).unwrap();
    let role = Role::Control(ControlId::random(&world.entropy));
    node.identity.replace(world.identity_by(&issuing, role, Duration::from_hours(24)));
    let (answering, at) = (Arc::clone(&world), Arc::clone(&node));
    *node.fake.rejoin.lock().unwrap() =
        Some(Box::new(move |request| Ok(reply(&answering, &at, edge, &request.csr_der))));
    let back =
        || async { within(rejoin(&was, &world.current_trust(), &[node.at()], about(), &world.clock)).await };

    let after = Trust::new(domain, vec![new.certificate().clone()], []).unwrap();
    node.trust.replace(after.clone());
    assert_eq!(back().await.unwrap_err().code(), "edge.control_untrusted", "nothing leads there");
    node.trust.replace(after.with_lineage(vec![cross], vec![world.root.certificate().clone()]));
    assert_eq!(back().await.unwrap().edge, edge);
}

#[tokio::test]
async fn a_root_that_was_trusted_before_leads_to_control_too() {
    let world = Arc::new(World::new());
    let edge = world.edge();
    let was = ended(&world, edge);
    let node = Arc::new(world.control().await);
    let (answering, at) = (Arc::clone(&world), Arc::clone(&node));
    *node.fake.rejoin.lock().unwrap() =
        Some(Box::new(move |request| Ok(reply(&answering, &at, edge, &request.csr_der))));
    let newer = World::new();
    let roots = vec![newer.root.certificate().clone(), world.root.certificate().clone()];
    let both = CurrentTrust::new(Trust::new(world.trust(&[]).domain().clone(), roots, []).unwrap());
    let back = within(rejoin(&was, &both, &[node.at()], about(), &world.clock)).await.unwrap();
    assert_eq!(back.edge, edge);
}

#[tokio::test]
async fn a_refusal_or_another_edges_certificate_brings_nobody_back() {
    let world = Arc::new(World::new());
    let edge = world.edge();
    let was = ended(&world, edge);
    let node = Arc::new(world.control().await);
    let back =
        || async { within(rejoin(&was, &world.current_trust(), &[node.at()], about(), &world.clock)).await };
    *node.fake.rejoin.lock().unwrap() =
        Some(Box::new(|_| Err(JoinRefused::new(refusal::EVICTED, "This edge was evicted.", "Ask."))));
    assert_eq!(back().await.unwrap_err().code(), "edge.evicted");
    let (answering, at) = (Arc::clone(&world), Arc::clone(&node));
    *node.fake.rejoin.lock().unwrap() =
        Some(Box::new(move |request| Ok(reply(&answering, &at, answering.edge(), &request.csr_der))));
    let refused = back().await.unwrap_err();
    assert!(matches!(&refused, JoinError::Reply(why) if why.contains("another edge")), "{refused:?}");
}
