//! Another CA: the warpgate asks for a certificate of it by itself, and lets nobody in whose CA was retired.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::support::agent::{Agent, Scene};
use crate::support::edge::{Edge, Order, head};
use crate::support::tcp::TcpEdge;
use crate::support::upstream::{self, OK};
use crate::support::{Platform, until};
use mezusphere_model::document::RenewFrom;
use mezusphere_pki::Role;

/// As long as a bundle may take to act (R20).
const ACTS_WITHIN: Duration = Duration::from_secs(5);

#[tokio::test]
async fn r20_a_certificate_of_another_ca_is_fetched_at_once_and_no_request_is_lost() {
    let (address, _) = upstream::fixed(OK).await;
    let scene = Scene::with_upstream(address).await;
    let platform = Arc::clone(&scene.platform);
    let old = platform.ca();
    platform.change_ca();
    scene.edge.identity.replace(platform.leaf(Role::Edge(scene.edge.id)));
    *platform.renew_from.lock().unwrap() = Some(RenewFrom { issuer: platform.ca(), within_s: 0 });
    scene.tunnel.order(Order::Bundle(platform.publish(|_| {}))).await;
    while scene.edge.tunnels().len() < 2 {
        let newest = scene.edge.tunnels().pop().unwrap();
        let answer = newest.get(&head("GET", "/", 1)).await;
        assert_eq!(answer.status.map(|status| status.as_u16()), Some(200), "{answer:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    scene.agent.event("renewed").await;
    assert_eq!(platform.enrolled.load(Ordering::SeqCst), 2, "once, not for every look at the bundle");

    // The old CA is retired: what is left of it ends, and what came after stays.
    let newest = scene.edge.tunnel(2).await;
    *platform.retired.lock().unwrap() = vec![old];
    newest.order(Order::Bundle(platform.publish(|_| {}))).await;
    let closed = tokio::time::timeout(ACTS_WITHIN, scene.tunnel.connection.closed()).await;
    assert!(closed.is_ok(), "the tunnel made under the old CA is closed");
    assert_eq!(newest.get(&head("GET", "/", 1)).await.status.unwrap(), 200);
    assert_eq!(platform.enrolled.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn r20_an_edge_whose_ca_was_retired_is_left_at_once_and_not_believed_again() {
    let (address, _) = upstream::fixed(OK).await;
    let platform = Platform::new();
    let other = Edge::start(&platform);
    let scene = Scene::on(Arc::clone(&platform), address).await;
    other.tunnel(1).await;
    let old = platform.ca();
    platform.change_ca();
    other.identity.replace(platform.leaf(Role::Edge(other.id)));
    *platform.renew_from.lock().unwrap() = Some(RenewFrom { issuer: platform.ca(), within_s: 0 });
    *platform.retired.lock().unwrap() = vec![old];
    scene.tunnel.order(Order::Bundle(platform.publish(|_| {}))).await;
    let closed = tokio::time::timeout(ACTS_WITHIN, scene.tunnel.connection.closed()).await;
    assert!(closed.is_ok(), "its certificate is still the old CA's");
    let failed = scene.agent.event("edge_failed").await;
    assert_eq!(failed["code"], "tunnel.edge_untrusted", "{failed}");
    assert!(failed["message"].as_str().unwrap().contains("retired"), "{failed}");
    // The other one has renewed, and so has the warpgate.
    let second = other.tunnel(2).await;
    assert_eq!(second.get(&head("GET", "/", 1)).await.status.unwrap(), 200);
    until("the edge is dialled again, in vain", || {
        scene.agent.named("edge_failed").iter().any(|failed| failed["code"] == "trust.edge_unknown_ca")
    })
    .await;
    assert_eq!(scene.edge.hellos().len(), 1, "not a byte was said");
}

#[tokio::test]
async fn r20_an_edge_that_refuses_the_certificate_over_tcp_is_heard_out_and_control_is_asked() {
    let (address, _) = upstream::fixed(OK).await;
    let platform = Platform::new();
    let edge = Edge::start(&platform);
    let listener = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).unwrap();
    let at = listener.local_addr().unwrap();
    drop(listener);
    // It has heard before anybody else that the CA was retired.
    let trust = platform.trust();
    let own = platform.issuing.digest();
    trust.replace((*trust.get()).clone().with_retired([own]).unwrap());
    let _tcp = TcpEdge::trusting(&platform, &trust, &edge, at);
    platform.edges.lock().unwrap()[0].port = at.port();
    let agent = Agent::start(&platform, &[address.to_string()]);
    let failed = agent.event("edge_failed").await;
    assert_eq!(failed["code"], "trust.unknown_ca", "{failed}");
    until("control is asked for another certificate", || platform.enrolled.load(Ordering::SeqCst) >= 2).await;
}
