//! Eviction and revocation: what edges say is asked of control, and only control's word is final.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::support;
use crate::support::agent::{Agent, Scene};
use crate::support::edge::{Edge, Greeting, head};
use crate::support::upstream::{self, OK};
use crate::support::{Platform, refusal};
use mezusphere_model::id::WarpgateId;
use tokio::time::Instant;
use tunnel_proto::codes::CloseCode;
use tunnel_proto::connect::{Enroll, Reply, Request, refusal as codes};
use tunnel_proto::control::{RefusalCode, Refused};
use warpgate::exit::Exit;

const NO_UPSTREAM: [String; 0] = [];

fn evicted() -> Greeting {
    Greeting::Refuse(Refused {
        code: RefusalCode::KeyRevoked,
        message: "the warpgate's certificate was revoked".to_owned(),
        retry_after_ms: None,
        do_not_retry: true,
    })
}

/// The edge takes this warpgate for evicted from now on.
fn evict(edge: &Edge) {
    *edge.greeting.lock().unwrap() = evicted();
    for tunnel in edge.tunnels() {
        tunnel.connection.close(quinn::VarInt::from_u32(CloseCode::Evicted.number()), b"evicted");
    }
}

#[tokio::test]
async fn r20_an_evicted_warpgate_asks_control_and_ends_on_its_word_without_a_storm() {
    let (address, _) = upstream::fixed(OK).await;
    let mut scene = Scene::with_upstream(address).await;
    *scene.platform.twist.lock().unwrap() =
        Some(Box::new(|request| matches!(request, Request::Enroll(_)).then(|| refusal("warpgate.evicted"))));
    evict(&scene.edge);
    let start = Instant::now();
    assert_eq!(scene.agent.exit().await, Exit::KeyRevoked);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(scene.agent.event("edge_failed").await["code"], "tunnel.evicted");
    let error = scene.agent.event("error").await;
    assert_eq!((error["code"].as_str(), error["exit"].as_u64()), (Some("warpgate.evicted"), Some(11)));
    assert_eq!(error["next"], "Ask.", "control's own next step");
    assert!(scene.edge.hellos().len() <= 2, "no storm: {}", scene.edge.hellos().len());
}

#[tokio::test]
async fn a_warpgate_whose_old_name_was_evicted_goes_on_under_the_one_control_gives_it() {
    let (address, _) = upstream::fixed(OK).await;
    let platform = Platform::new();
    let other = Edge::start(&platform);
    let scene = Scene::on(Arc::clone(&platform), address).await;
    other.tunnel(1).await;
    let renamed = WarpgateId::from_bits(0xdef);
    let (control, greetings) =
        (Arc::clone(&platform), [&scene.edge, &other].map(|edge| Arc::clone(&edge.greeting)));
    *platform.twist.lock().unwrap() = Some(Box::new(move |request| match request {
        Request::Enroll(enroll) => {
            assert!(enroll.instance.is_some(), "it says who it was");
            for greeting in &greetings {
                *greeting.lock().unwrap() = Greeting::Welcome;
            }
            let enroll = Enroll { instance: Some(renamed), ..enroll.clone() };
            Some(control.control_answer(&Request::Enroll(enroll)))
        }
        Request::Bundle(_) | Request::Check(_) => None,
    }));
    evict(&scene.edge);
    evict(&other);
    for edge in [&scene.edge, &other] {
        let tunnel = edge.tunnel(2).await;
        assert_eq!(tunnel.get(&head("GET", "/", 1)).await.status.unwrap(), 200);
        assert_eq!(edge.hellos().last().unwrap().instance, renamed);
    }
    let notes = scene.agent.named("note");
    assert!(notes.iter().any(|note| note["text"].as_str().unwrap().contains("another name")), "{notes:?}");
}

#[tokio::test]
async fn an_edge_that_lies_about_an_eviction_costs_one_question_to_control() {
    let (address, _) = upstream::fixed(OK).await;
    let platform = Platform::new();
    let liar = Edge::start(&platform);
    let scene = Scene::on(Arc::clone(&platform), address).await;
    liar.tunnel(1).await;
    evict(&liar);
    scene.agent.event("renewed").await;
    assert_eq!(platform.enrolled.load(Ordering::SeqCst), 2);
    // Asked again with the new certificate, it lies again.
    support::until("it lies again", || liar.hellos().len() == 2).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(platform.enrolled.load(Ordering::SeqCst), 2, "control is left in peace for a while");
    assert_eq!(liar.hellos().len(), 2);
    let newest = scene.edge.tunnels().pop().unwrap();
    assert_eq!(newest.get(&head("GET", "/", 1)).await.status.unwrap(), 200);
    assert!(!scene.agent.task.is_finished());
}

#[tokio::test]
async fn what_goes_wrong_on_the_way_to_control_ends_no_warpgate_that_was_up() {
    let (address, _) = upstream::fixed(OK).await;
    let scene = Scene::with_upstream(address).await;
    evict(&scene.edge);
    // A certificate that looks as if this machine's clock were wrong: final at a start, not here.
    scene.platform.hand.advance(Duration::from_hours(25));
    let failed = scene.agent.event("control_failed").await;
    assert_eq!(failed["code"], "trust.edge_certificate_expired");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!scene.agent.task.is_finished());
}

#[tokio::test]
async fn with_exit_on_failure_controls_answer_is_waited_for_when_edges_doubt_the_key() {
    let platform = Platform::new();
    let edge = Edge::start(&platform);
    *edge.greeting.lock().unwrap() = evicted();
    let first = std::sync::atomic::AtomicBool::new(true);
    *platform.twist.lock().unwrap() = Some(Box::new(move |request| -> Option<Reply> {
        let enrolls = matches!(request, Request::Enroll(_)) && first.swap(false, Ordering::SeqCst);
        (!enrolls).then(|| refusal(codes::KEY_REVOKED))
    }));
    let mut agent = Agent::start_with(&platform, &NO_UPSTREAM, |config| config.exit_on_failure = true);
    assert_eq!(agent.exit().await, Exit::KeyRevoked);
    assert_eq!(agent.event("error").await["code"], codes::KEY_REVOKED);
}
