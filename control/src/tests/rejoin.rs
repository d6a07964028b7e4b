//! An edge that comes back by the key of the certificate it had.

use std::net::SocketAddr;
use std::time::Duration;

use mezusphere_edge_link::join::{JoinRefused, JoinReply, RejoinRequest};
use mezusphere_model::id::EdgeId;
use mezusphere_model::link::LinkError;
use mezusphere_pki::{ExpectedRole, NodeIdentity, NodeKey, Role, SpiffeName, Trust, possession, verify_peer};

use super::edges::{about, clustered, edge};
use super::*;

const FROM: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 9)), 4433);

/// The next certificate of an edge that is in, got over its link.
async fn certified(world: &World, edge: EdgeId) -> NodeIdentity {
    let key = NodeKey::generate().unwrap();
    let chain = world.control.link(edge).certify(key.csr_der().unwrap()).await.unwrap();
    NodeIdentity::new(chain.into_iter().map(Into::into).collect(), key).unwrap()
}

/// By our own CA, and never noted: what a thief of the CA's key makes.
fn by_a_thief(world: &World, edge: EdgeId) -> NodeIdentity {
    let ca = world.control.shared.known_ca();
    let name = SpiffeName::new(ca.issuing.trust_domain().clone(), Role::Edge(edge));
    let (key, now) = (NodeKey::generate().unwrap(), world.hand.clock().now());
    let leaf = ca.issuing.issue(&key.csr_der().unwrap(), &name, now, Duration::from_hours(1)).unwrap();
    NodeIdentity::new(leaf.chain, key).unwrap()
}

/// The edge opens a link with this.
async fn enter(world: &World, edge: EdgeId, with: &NodeIdentity) -> Result<(), LinkError> {
    world.control.admit_link(edge, &with.chain()[0]).await
}

fn request(world: &World, was: &NodeIdentity, key: &NodeKey) -> RejoinRequest {
    let csr_der = key.csr_der().unwrap();
    RejoinRequest {
        leaf_der: was.chain()[0].to_vec(),
        proof: possession::prove(was, &csr_der).unwrap(),
        csr_der,
        about: about("eu-1.example"),
        edge_time: world.hand.clock().now(),
    }
}

async fn rejoin(world: &World, was: &NodeIdentity) -> Result<(JoinReply, NodeKey), JoinRefused> {
    let key = NodeKey::generate().unwrap();
    world.control.rejoin(request(world, was, &key), FROM).await.map(|reply| (reply, key))
}

#[tokio::test]
async fn r20_an_edge_whose_certificate_ended_while_it_was_off_is_itself_again_and_it_is_audited() {
    let world = World::with(clustered()).await;
    let id = edge(&world, "eu-1").await;
    let was = certified(&world, id).await;
    world.advance(20 * 24 * 3600);
    world.control.shared.renew_identity().await.unwrap();
    let (reply, key) = rejoin(&world, &was).await.unwrap();
    assert_eq!((reply.edge, reply.name.as_str()), (id, "eu-1"));
    let chain = reply.chain_der.into_iter().map(Into::into).collect();
    let fresh = NodeIdentity::new(chain, key).expect("for the new key");
    let trust = Trust::from_doc(&reply.trust).unwrap();
    verify_peer(fresh.chain(), &trust, world.hand.clock().now(), ExpectedRole::Edge(id)).unwrap();
    let audit = world.get("/audit?limit=1").await.ok();
    assert_eq!(
        (&audit["items"][0]["action"], &audit["items"][0]["target"]),
        (&json!("edge.rejoin"), &json!(id))
    );
}

#[tokio::test]
async fn r20_who_holds_another_key_or_another_certificate_does_not_come_back() {
    let world = World::with(clustered()).await;
    let id = edge(&world, "eu-1").await;
    let was = certified(&world, id).await;
    let key = NodeKey::generate().unwrap();
    let refused = |asked: Result<JoinReply, JoinRefused>, what: &str| {
        assert_eq!(asked.unwrap_err().code, "join.not_member", "{what}");
    };

    // The certificate is public; whoever saw it has not the key.
    let thief = certified(&world, edge(&world, "eu-2").await).await;
    let mut forged = request(&world, &thief, &key);
    forged.leaf_der = was.chain()[0].to_vec();
    refused(world.control.rejoin(forged, FROM).await, "another edge's key");

    // A request of somebody else under an honest proof.
    let mut swapped = request(&world, &was, &key);
    swapped.csr_der = NodeKey::generate().unwrap().csr_der().unwrap();
    refused(world.control.rejoin(swapped, FROM).await, "another request");

    let made = by_a_thief(&world, id);
    refused(world.control.rejoin(request(&world, &made, &key), FROM).await, "a leaf that is not in the list");

    let mut nonsense = request(&world, &was, &key);
    nonsense.leaf_der = b"nonsense".to_vec();
    refused(world.control.rejoin(nonsense, FROM).await, "no certificate");
    assert!(rejoin(&world, &was).await.is_ok(), "the honest one does");
}

#[tokio::test]
async fn r20_the_key_of_a_certificate_that_was_replaced_is_worth_nothing() {
    let world = World::with(clustered()).await;
    let id = edge(&world, "eu-1").await;
    let stolen = certified(&world, id).await;
    enter(&world, id, &stolen).await.unwrap();
    world.advance(12 * 3600);
    let newer = certified(&world, id).await;
    assert!(rejoin(&world, &stolen).await.is_ok(), "the newer one may have been lost on its way");
    enter(&world, id, &newer).await.unwrap();
    assert_eq!(rejoin(&world, &stolen).await.unwrap_err().code, "join.not_member");
    rejoin(&world, &newer).await.unwrap();
}

#[tokio::test]
async fn r20_no_number_of_lost_answers_shuts_an_edge_out() {
    let world = World::with(clustered()).await;
    let id = edge(&world, "eu-1").await;
    let was = certified(&world, id).await;
    enter(&world, id, &was).await.unwrap();
    for _ in 0..10 {
        world.advance(5);
        rejoin(&world, &was).await.unwrap();
    }
}

#[tokio::test]
async fn r20_a_thief_of_the_cas_key_becomes_no_edge_and_is_told_of() {
    let world = World::with(clustered()).await;
    let id = edge(&world, "eu-1").await;
    let (honest, thief) = (certified(&world, id).await, by_a_thief(&world, id));
    let refused = |entry: Result<(), LinkError>, word: &str| match entry {
        Err(LinkError::Refused(why)) => assert!(why.starts_with(word), "{why}"),
        other => panic!("{other:?}"),
    };
    for _ in 0..3 {
        refused(enter(&world, id, &thief).await, "edge.not_listed");
    }
    let other = edge(&world, "eu-2").await;
    refused(enter(&world, other, &honest).await, "edge.not_listed");
    refused(enter(&world, EdgeId::from_bits(7), &thief).await, "edge.unknown");
    enter(&world, id, &honest).await.unwrap();
    let told = async || {
        let audit = world.get("/audit").await.ok();
        let items = audit["items"].as_array().unwrap().clone();
        items.into_iter().filter(|item| item["action"] == "edge.not_listed").count()
    };
    assert_eq!(told().await, 2, "once of each edge, however often somebody tries");
    world.advance(11 * 60);
    refused(enter(&world, id, &thief).await, "edge.not_listed");
    assert_eq!(told().await, 3);
}

#[tokio::test]
async fn r20_an_evicted_edge_does_not_come_back_and_a_wrong_clock_is_named() {
    let world = World::with(clustered()).await;
    let id = edge(&world, "eu-1").await;
    let was = certified(&world, id).await;
    let key = NodeKey::generate().unwrap();
    let mut late = request(&world, &was, &key);
    late.edge_time = late.edge_time.after(Duration::from_hours(2));
    let why = world.control.rejoin(late, FROM).await.unwrap_err();
    assert_eq!(why.code, "join.clock");
    let (edge_time, control_time) =
        (world.hand.clock().now().after(Duration::from_hours(2)), world.hand.clock().now());
    assert!(why.message.contains(&edge_time.to_string()), "{}", why.message);
    assert!(why.message.contains(&control_time.to_string()), "{}", why.message);

    world.delete("/edges/eu-1").await.ok();
    let why = rejoin(&world, &was).await.unwrap_err();
    assert_eq!(why.code, "edge.evicted");
    assert!(why.next.contains("invite"), "{why:?}");
}
