//! What an eviction does to tunnels, and a change of whom the installation trusts.

use std::time::Duration;

use http_body_util::BodyExt as _;
use mezusphere_pki::lifetime::LEAF_TTL;
use mezusphere_pki::trust::digest_text;
use mezusphere_pki::{Role, Root, TrustDomain};
use tokio::time::Instant;
use tunnel_proto::codes::CloseCode;
use tunnel_proto::control::{RefusalCode, Refused, SessionEnd};

use crate::tunnels::close_code;
use crate::warpgate::{Exchange, Warpgate};
use crate::world::{BEGIN, EDGE, SOON, World, code, get, read};

/// Evictions act within this (design §9).
const EVICTED_WITHIN: Duration = Duration::from_secs(5);

async fn ok(exchange: Exchange) {
    exchange.respond(200, &[], b"ok").await;
}

/// Answers one piece, then nothing.
async fn hang(mut exchange: Exchange) {
    exchange.begin(200, &[]).await;
    exchange.data(bytes::Bytes::from_static(b"one")).await;
    std::future::pending::<()>().await;
}

/// Why a warpgate was sent away, and how its connection ended.
async fn sent_away(warpgate: &mut Warpgate) -> (Refused, CloseCode) {
    let end = tokio::time::timeout(SOON, warpgate.ended()).await.unwrap();
    let SessionEnd::Refused(refused) = end else { panic!("{end}") };
    let closed = tokio::time::timeout(SOON, warpgate.connection.closed()).await.unwrap();
    (refused, close_code(&closed))
}

async fn no_tunnel(world: &World) {
    assert_eq!(code(world.send(get("/public/x")).await).await, (503, "edge.no_tunnel".to_owned()));
}

#[tokio::test]
async fn r20_an_evicted_warpgate_is_cut_off_at_once_and_told_not_to_return() {
    let (world, mut warpgate) = World::with_warpgate(hang).await;
    let mut body = world.send(get("/public/x")).await.into_body();
    assert!(body.frame().await.unwrap().is_ok());
    let begun = Instant::now();
    world.trust(|trusted| trusted.denied = vec![world.warpgate_uri(6)]);
    while !world.tunnels.is_empty() {
        tokio::task::yield_now().await;
    }
    let (refused, closed) = sent_away(&mut warpgate).await;
    assert_eq!((refused.code, refused.do_not_retry), (RefusalCode::KeyRevoked, true));
    assert_eq!(closed, CloseCode::Evicted);
    let cut = tokio::time::timeout(SOON, body.frame()).await.unwrap();
    assert!(cut.unwrap().is_err(), "what ran is cut");
    assert!(begun.elapsed() < EVICTED_WITHIN);
    // Only now: an edge that has just started waits for the tunnels it expects.
    no_tunnel(&world).await;
}

#[tokio::test]
async fn r20_an_evicted_warpgate_does_not_get_in_again_and_the_others_stay() {
    let world = World::new();
    let stays = world.warpgate(7, ok).await;
    world.trust(|trusted| trusted.denied = vec![world.warpgate_uri(6)]);
    world.settle().await;
    // The handshake still goes by the trust of a moment ago; the tunnel does not.
    let mut again = world.warpgate_for(6, LEAF_TTL, ok).await;
    let (refused, closed) = sent_away(&mut again).await;
    assert_eq!((refused.code, closed), (RefusalCode::KeyRevoked, CloseCode::Evicted));
    assert!(refused.message.contains("evicted"), "{}", refused.message);
    assert_eq!(read(world.send(get("/public/x")).await).await.2, b"ok");
    assert_eq!((stays.seen().len(), again.seen().len(), world.tunnels.len()), (1, 0, 1));
}

#[tokio::test]
async fn r20_a_tunnel_ends_when_the_root_behind_it_is_no_longer_trusted() {
    let (world, warpgate) = World::with_warpgate(ok).await;
    let domain = TrustDomain::parse("mezu.example").unwrap();
    let next = Root::create(&domain, BEGIN, &world.entropy).unwrap().certificate_pem();
    // One more root changes nothing for those who stand on the first.
    world.trust(|trusted| trusted.roots_pem.push(next.clone()));
    world.settle().await;
    assert_eq!(world.send(get("/public/x")).await.status(), 200);
    world.trust(|trusted| trusted.roots_pem = vec![next]);
    let closed = tokio::time::timeout(SOON, warpgate.connection.closed()).await.unwrap();
    assert_eq!(close_code(&closed), CloseCode::CertificateEnded, "a renewed certificate may do");
    no_tunnel(&world).await;
}

#[tokio::test]
async fn r20_a_tunnel_ends_when_the_ca_that_issued_its_certificate_is_retired() {
    let (world, warpgate) = World::with_warpgate(ok).await;
    world.trust(|trusted| trusted.retired = vec![digest_text(&[7; 32])]);
    world.settle().await;
    assert_eq!(world.send(get("/public/x")).await.status(), 200, "another CA is nobody's concern");
    let begun = Instant::now();
    world.trust(|trusted| trusted.retired = vec![digest_text(&world.issuing.digest())]);
    let closed = tokio::time::timeout(SOON, warpgate.connection.closed()).await.unwrap();
    assert_eq!(close_code(&closed), CloseCode::CertificateEnded, "one of another CA will do");
    assert!(begun.elapsed() < EVICTED_WITHIN);
    no_tunnel(&world).await;
}

#[tokio::test]
async fn r20_a_trust_document_that_cannot_be_used_changes_nothing() {
    let (world, mut warpgate) = World::with_warpgate(ok).await;
    world.trust(|trusted| trusted.roots_pem = vec!["no certificate".to_owned()]);
    world.documents.fail(&["trust"]);
    world.settle().await;
    assert_eq!(world.send(get("/public/x")).await.status(), 200);
    // And the next one that can be used acts, though its change was told while it could not be read.
    world.trust(|trusted| trusted.denied = vec![world.warpgate_uri(6)]);
    world.settle().await;
    assert_eq!(world.tunnels.len(), 1);
    world.documents.heal();
    assert_eq!(sent_away(&mut warpgate).await.1, CloseCode::Evicted);
}

#[tokio::test]
async fn r20_an_edge_that_learns_of_its_own_eviction_ends_its_tunnels() {
    let (world, mut warpgate) = World::with_warpgate(ok).await;
    let begun = Instant::now();
    world.trust(|trusted| trusted.denied = vec![world.uri(Role::Edge(EDGE))]);
    let (refused, closed) = sent_away(&mut warpgate).await;
    // The warpgate did nothing wrong: it is to go elsewhere, and will learn from its bundle whom to leave out.
    assert_eq!((refused.code, refused.do_not_retry), (RefusalCode::Draining, false));
    assert_eq!((closed, refused.retry_after_ms.is_some()), (CloseCode::Done, true));
    assert!(begun.elapsed() < EVICTED_WITHIN);
    let mut another = world.warpgate_for(7, LEAF_TTL, ok).await;
    assert_eq!(sent_away(&mut another).await.0.code, RefusalCode::Draining);
    no_tunnel(&world).await;
}
