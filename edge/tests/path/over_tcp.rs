//! What holds on a tunnel over QUIC holds on one over TCP.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ::http::{HeaderMap, HeaderName, HeaderValue, Method};
use bytes::Bytes;
use h2::Reason;
use http_body_util::BodyExt as _;
use mezusphere_edge::http::Protocol;
use mezusphere_model::id::WarpgateId;
use mezusphere_model::link::TunnelTransport;
use mezusphere_model::slug::Slug;
use mezusphere_pki::lifetime::LEAF_TTL;
use tokio::sync::{Notify, mpsc};
use tunnel_proto::codes::{CloseCode, FailureCode, ResetCode};
use tunnel_proto::control::{HealthState, RefusalCode, SessionEnd, UpstreamHealth, WarpgateEvent};
use tunnel_proto::exchange::{Encoder, Event, Failure};
use tunnel_proto::limits::EXCHANGES_MAX;

use crate::tcp_warpgate::{Answering, Exchange, Tell, Warpgate, connect, dial, start, start_answering};
use crate::world::{SOON, World, allowed, code, get, read, request};

async fn ok(exchange: Exchange) {
    exchange.respond(b"ok").await;
}

async fn until(what: &str, done: impl Fn() -> bool) {
    let waited = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(SOON, waited).await.is_ok(), "{what}");
}

#[tokio::test]
async fn a_request_goes_through_a_tunnel_over_tcp() {
    let world = World::new();
    let mut warpgate = connect(&world, 6, ok).await;
    for n in 1..=3 {
        assert_eq!(read(world.send(get("/public/x")).await).await.2, b"ok");
        assert_eq!(warpgate.seen(), n);
    }
    warpgate.tell.send(Tell::Probe(7)).unwrap();
    let done = warpgate.event(|event| matches!(event, WarpgateEvent::ProbeDone { .. })).await;
    assert!(matches!(done, WarpgateEvent::ProbeDone { nonce: 7, .. }));
}

#[tokio::test]
async fn bodies_and_trailers_go_both_ways_over_tcp_however_large() {
    const LEN: usize = 5 * 1024 * 1024;
    let world = World::new();
    let _warpgate = connect(&world, 6, |mut exchange: Exchange| async move {
        exchange.begin().await;
        let trailers = loop {
            match exchange.next().await.unwrap() {
                // The answer begins before the request has ended.
                Event::Data(data) => assert!(exchange.data(data).await),
                Event::Trailers(trailers) => break trailers,
                other => panic!("{other:?}"),
            }
        };
        let mut encoder = Encoder::new();
        encoder.trailers(&trailers).unwrap();
        exchange.write(encoder.take(), true).await;
    })
    .await;
    let body: Vec<u8> = (0..LEN).map(|n| u8::try_from(n % 251).unwrap()).collect();
    let mut trailers = HeaderMap::new();
    trailers.insert(HeaderName::from_static("x-sum"), HeaderValue::from_static("1"));
    let frames = body
        .chunks(60_000)
        .map(|piece| Ok(http_body::Frame::data(Bytes::copy_from_slice(piece))))
        .chain([Ok(http_body::Frame::trailers(trailers))])
        .collect::<Vec<Result<_, std::io::Error>>>();
    let upload = http_body_util::StreamBody::new(futures_util::stream::iter(frames));
    let upload = mezusphere_edge::http::Body::new(upload.map_err(Into::into));
    let answer = world.send(request(Method::POST, "https://shop.localhost/public/x", &[], upload)).await;
    let collected = tokio::time::timeout(SOON, answer.into_body().collect()).await.unwrap().unwrap();
    assert_eq!(collected.trailers().unwrap()["x-sum"], "1");
    assert!(collected.to_bytes() == body);
}

#[tokio::test]
async fn a_body_that_breaks_off_over_tcp_is_a_cut_and_never_a_clean_end() {
    let world = World::new();
    let head_came = Arc::new(Notify::new());
    let wait = Arc::clone(&head_came);
    let _warpgate = connect(&world, 6, move |mut exchange: Exchange| {
        let wait = Arc::clone(&wait);
        async move {
            exchange.begin().await;
            exchange.data(Bytes::from_static(b"half")).await;
            // Only once the head is there: a break that comes with it makes another answer.
            if exchange.target() != "/public/at-once" {
                wait.notified().await;
            }
            if exchange.target() == "/public/reset" {
                exchange.send.send_reset(Reason::from(ResetCode::UpstreamCut.http2()));
            } else {
                exchange.write(Bytes::new(), true).await;
            }
        }
    })
    .await;
    for target in ["/public/fin", "/public/reset"] {
        let answer = world.send(get(target)).await;
        head_came.notify_one();
        assert_eq!(answer.status(), 200);
        assert!(answer.into_body().collect().await.is_err(), "{target}");
    }
    let answer = world.send(get("/public/at-once")).await;
    let is_refused = answer.status() == 502;
    assert!(answer.into_body().collect().await.is_err() != is_refused, "broken, or refused, never whole");
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_its_upstream_over_tcp() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let world = World::new();
    let _warpgate = connect(&world, 6, move |mut exchange: Exchange| {
        let tell = tell.clone();
        async move {
            if exchange.target() == "/public/after" {
                exchange.begin().await;
                exchange.data(Bytes::from_static(b"first")).await;
            }
            tell.send(exchange.reset_by_edge().await).unwrap();
        }
    })
    .await;
    {
        let mut before = Box::pin(world.send(get("/public/before")));
        assert!(tokio::time::timeout(Duration::from_millis(100), &mut before).await.is_err());
    }
    assert_eq!(tokio::time::timeout(SOON, told.recv()).await.unwrap(), Some(ResetCode::ClientGone));
    let mut body = world.send(get("/public/after")).await.into_body();
    assert!(body.frame().await.unwrap().is_ok());
    drop(body);
    assert_eq!(tokio::time::timeout(SOON, told.recv()).await.unwrap(), Some(ResetCode::ClientGone));
}

#[tokio::test]
async fn what_a_tunnel_over_tcp_rejects_or_fails_is_sent_elsewhere_if_that_is_safe() {
    for target in ["/public/fail", "/public/reject"] {
        let world = World::new();
        let (failed, mut warpgates) = (Arc::new(AtomicBool::new(false)), Vec::new());
        for id in [6, 7] {
            let failed = Arc::clone(&failed);
            let handler = move |mut exchange: Exchange| {
                let failed = Arc::clone(&failed);
                async move {
                    if failed.swap(true, Ordering::SeqCst) {
                        exchange.respond(b"other").await;
                    } else if exchange.target() == "/public/fail" {
                        let mut encoder = Encoder::new();
                        let (code, detail) = (FailureCode::UpstreamRefused, String::new());
                        encoder.failure(&Failure { code, detail, started: false });
                        exchange.write(encoder.take(), true).await;
                    } else {
                        exchange.send.send_reset(Reason::REFUSED_STREAM);
                    }
                }
            };
            warpgates.push(connect(&world, id, handler).await);
        }
        let url = format!("https://shop.localhost{target}");
        let post = request(Method::POST, &url, &[], crate::world::empty());
        assert_eq!(read(world.send(post).await).await.2, b"other", "{target}");
        assert_eq!(warpgates.iter().map(Warpgate::seen).sum::<usize>(), 2);
    }
}

#[tokio::test]
async fn r20_an_evicted_warpgate_is_told_so_over_tcp_and_cut_off() {
    let world = World::new();
    let mut warpgate = connect(&world, 6, |mut exchange: Exchange| async move {
        exchange.begin().await;
        exchange.data(Bytes::from_static(b"one")).await;
        std::future::pending::<()>().await;
    })
    .await;
    let mut body = world.send(get("/public/x")).await.into_body();
    assert!(body.frame().await.unwrap().is_ok());
    world.trust(|trusted| trusted.denied = vec![world.warpgate_uri(6)]);
    let SessionEnd::Refused(refused) = warpgate.ended().await else { panic!() };
    assert_eq!((refused.code, refused.do_not_retry), (RefusalCode::KeyRevoked, true));
    let cut = tokio::time::timeout(Duration::from_secs(5), body.frame()).await.unwrap();
    assert!(cut.unwrap().is_err(), "what ran is cut");
    assert_eq!(code(world.send(get("/public/x")).await).await, (503, "edge.no_tunnel".to_owned()));
}

#[tokio::test]
async fn r20_a_tunnel_over_tcp_ends_with_its_certificate_and_says_why() {
    let world = World::new();
    let mut warpgate = start(dial(&world, 6, Duration::from_hours(1)).await, 6, ok).await;
    warpgate.event(|event| matches!(event, WarpgateEvent::Welcomed(_))).await;
    world.hand.advance(Duration::from_secs(59 * 60 + 40));
    // The feed speaks, so that the tunnel looks at the clock at once.
    world.trust(|trusted| trusted.denied = vec![world.warpgate_uri(9)]);
    warpgate.event(|event| matches!(event, WarpgateEvent::Draining { .. })).await;
    // Nothing runs, so the end comes at once, and says that a renewed certificate may do.
    assert!(matches!(warpgate.ended().await, SessionEnd::Closed(CloseCode::Done)));
    until("it is gone", || world.tunnels.is_empty()).await;
}

#[tokio::test]
async fn a_newer_connection_takes_the_place_of_one_over_tcp_whatever_carries_it() {
    let go = Arc::new(Notify::new());
    let wait = Arc::clone(&go);
    let world = World::new();
    let mut old = connect(&world, 6, move |exchange: Exchange| {
        let wait = Arc::clone(&wait);
        async move {
            wait.notified().await;
            exchange.respond(b"old").await;
        }
    })
    .await;
    let running = world.send(get("/public/x"));
    let replaced = async {
        until("it has begun", || old.seen() == 1).await;
        let new =
            world.warpgate(6, |exchange: crate::warpgate::Exchange| exchange.respond(200, &[], b"new")).await;
        assert_eq!(world.tunnels.len(), 1);
        assert_eq!(read(world.send(get("/public/x")).await).await.2, b"new");
        go.notify_one();
        new
    };
    let (answer, _new) = tokio::join!(running, replaced);
    assert_eq!(read(answer).await.2, b"old", "what ran on the old one finishes");
    assert!(matches!(old.ended().await, SessionEnd::Closed(CloseCode::Replaced)));
    // And back to TCP.
    let _tcp = connect(&world, 6, |exchange: Exchange| async move { exchange.respond(b"tcp").await }).await;
    assert_eq!(read(world.send(get("/public/x")).await).await.2, b"tcp");
}

#[tokio::test]
async fn an_edge_that_drains_finishes_what_runs_over_tcp_and_says_so() {
    let go = Arc::new(Notify::new());
    let wait = Arc::clone(&go);
    let world = World::new();
    let mut warpgate = connect(&world, 6, move |exchange: Exchange| {
        let wait = Arc::clone(&wait);
        async move {
            wait.notified().await;
            exchange.respond(b"done").await;
        }
    })
    .await;
    let running = world.send(get("/public/x"));
    let drained = async {
        until("it has begun", || warpgate.seen() == 1).await;
        world.drain.begin();
        warpgate.event(|event| matches!(event, WarpgateEvent::Draining { .. })).await;
        go.notify_one();
    };
    let (answer, ()) = tokio::join!(running, drained);
    assert_eq!(read(answer).await.2, b"done");
    assert!(matches!(warpgate.ended().await, SessionEnd::Closed(CloseCode::Done)));
}

#[tokio::test]
async fn a_warpgate_that_drains_over_tcp_gets_no_new_request() {
    let world = World::new();
    let warpgate = connect(&world, 6, ok).await;
    warpgate.tell.send(Tell::Drain).unwrap();
    until("it is gone", || world.tunnels.is_empty()).await;
    assert_eq!(code(world.send(get("/public/x")).await).await, (503, "edge.no_tunnel".to_owned()));
}

#[tokio::test]
async fn a_tunnel_over_tcp_whose_warpgate_falls_silent_is_noticed_within_six_seconds() {
    let world = World::new();
    let stream = dial(&world, 6, LEAF_TTL).await;
    // One more handle of the socket, so that it stays open when nobody reads or writes it any more.
    let kept = socket2::SockRef::from(stream.get_ref().0).try_clone().unwrap();
    let mut warpgate = start(stream, 6, |_: Exchange| std::future::pending()).await;
    warpgate.event(|event| matches!(event, WarpgateEvent::Welcomed(_))).await;
    let running = async { code(world.send(get("/public/x")).await).await };
    let silenced = async {
        until("it has begun", || warpgate.seen() == 1).await;
        let begun = Instant::now();
        warpgate.tasks.abort_all();
        until("it is noticed", || world.tunnels.is_empty()).await;
        assert!(begun.elapsed() < allowed(Duration::from_secs(6)), "{:?}", begun.elapsed());
    };
    let (answer, ()) = tokio::join!(running, silenced);
    assert_eq!(answer, (502, "edge.tunnel_lost".to_owned()), "and what ran on it is told so");
    drop(kept);
}

#[tokio::test]
async fn r23_whoever_breaks_the_protocol_of_a_tunnel_over_tcp_loses_it_and_nobody_else() {
    let world = World::new();
    let mut bystander = connect(&world, 7, ok).await;
    // Octets that are no message on the control stream.
    let mut rogue = connect(&world, 6, ok).await;
    rogue.tell.send(Tell::Garbage).unwrap();
    assert!(matches!(rogue.ended().await, SessionEnd::Closed(CloseCode::Protocol)));
    until("it is gone", || world.tunnels.len() == 1).await;
    // Octets that are no HTTP/2.
    let mut stream = dial(&world, 6, LEAF_TTL).await;
    tokio::io::AsyncWriteExt::write_all(&mut stream, &[0xff; 4096]).await.unwrap();
    let mut rest = Vec::new();
    let read_out = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut rest);
    drop(tokio::time::timeout(SOON, read_out).await.expect("it is closed"));
    for _ in 0..5 {
        assert_eq!(read(world.send(get("/public/x")).await).await.2, b"ok");
    }
    bystander.tell.send(Tell::Probe(1)).unwrap();
    bystander.event(|event| matches!(event, WarpgateEvent::ProbeDone { .. })).await;
}

#[tokio::test]
async fn r23_a_stream_that_is_answered_as_none_should_be_fails_its_exchange_alone() {
    let world = World::new();
    let stream = dial(&world, 6, LEAF_TTL).await;
    let mut rogue = start_answering(stream, 6, Answering::WithStatus(404), ok).await;
    rogue.event(|event| matches!(event, WarpgateEvent::Welcomed(_))).await;
    let answer = code(world.send(get("/public/x")).await).await;
    assert!(answer.0 == 502, "{answer:?}");
    assert_eq!(world.tunnels.len(), 1, "the tunnel stays");
}

#[tokio::test]
async fn r23_a_flood_of_interim_responses_costs_a_warpgate_its_tunnel_and_nobody_else() {
    let world = World::new();
    let _bystander = connect(&world, 7, ok).await;
    let stream = dial(&world, 6, LEAF_TTL).await;
    let mut rogue = start_answering(stream, 6, Answering::Informing, ok).await;
    rogue.event(|event| matches!(event, WarpgateEvent::Welcomed(_))).await;
    assert_eq!(world.tunnels.len(), 2);
    // A probe is an exchange as well.
    rogue.tell.send(Tell::Probe(1)).unwrap();
    until("it is gone", || world.tunnels.len() == 1).await;
    for _ in 0..5 {
        assert_eq!(read(world.send(get("/public/x")).await).await.2, b"ok");
    }
}

#[tokio::test]
async fn what_a_warpgate_says_of_an_upstream_decides_who_gets_its_requests() {
    let world = World::new();
    let sick = connect(&world, 6, ok).await;
    let well =
        world.warpgate(7, |exchange: crate::warpgate::Exchange| exchange.respond(200, &[], b"well")).await;
    let health = |state| UpstreamHealth {
        upstream: Slug::parse("default").unwrap(),
        state,
        reason: "check_failed".to_owned(),
    };
    sick.tell.send(Tell::Health(health(HealthState::Bad))).unwrap();
    let uri = world.warpgate_uri(6);
    let told = || world.link.listed.lock().unwrap().get(&uri).map(|report| report.bad_upstreams.clone());
    until("control hears of it", || told() == Some(vec!["default: check_failed".to_owned()])).await;
    let carried = world.link.listed.lock().unwrap()[&uri].transport;
    assert_eq!(carried, TunnelTransport::Tcp);
    for _ in 0..50 {
        assert_eq!(read(world.send(get("/public/x")).await).await.2, b"well");
    }
    drop(well);
    until("one is left", || world.tunnels.len() == 1).await;
    assert_eq!(read(world.send(get("/public/x")).await).await.2, b"ok", "there is no better one");
}

/// As many requests at once as one tunnel takes, all answered when the last has come.
async fn ten_thousand(world: &World, seen: impl Fn() -> usize, go: &Notify) {
    let count = usize::try_from(EXCHANGES_MAX).unwrap();
    let running = futures_util::future::join_all((0..count).map(|_| async {
        let info = crate::world::connection(Protocol::H2);
        let answer = world.server.handle(get("/public/x"), &info).await;
        (answer.status().as_u16(), answer.into_body().collect().await.unwrap().to_bytes().len())
    }));
    let released = async {
        while seen() < count {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        go.notify_waiters();
    };
    let both = async { tokio::join!(running, released) };
    let (answers, ()) = tokio::time::timeout(SOON * 6, both).await.expect("all come through");
    let wrong: Vec<_> = answers.iter().filter(|answer| **answer != (200, 2)).collect();
    assert!(wrong.is_empty(), "{} of them: {:?}", wrong.len(), wrong.first());
}

#[tokio::test]
async fn one_tunnel_over_tcp_carries_ten_thousand_exchanges_at_once() {
    let (go, world) = (Arc::new(Notify::new()), World::new());
    let wait = Arc::clone(&go);
    let warpgate = connect(&world, 6, move |exchange: Exchange| {
        let wait = Arc::clone(&wait);
        async move {
            wait.notified().await;
            exchange.respond(b"ok").await;
        }
    })
    .await;
    ten_thousand(&world, || warpgate.seen(), &go).await;
    go.notify_one();
    assert_eq!(read(world.send(get("/public/x")).await).await.0, 200, "and goes on");
}

#[tokio::test]
async fn one_tunnel_over_quic_carries_ten_thousand_exchanges_at_once() {
    let (go, world) = (Arc::new(Notify::new()), World::new());
    let wait = Arc::clone(&go);
    let connection = world.dial_for(WarpgateId::from_bits(6), LEAF_TTL, EXCHANGES_MAX).await;
    let handler = move |exchange: crate::warpgate::Exchange| {
        let wait = Arc::clone(&wait);
        async move {
            wait.notified().await;
            exchange.respond(200, &[], b"ok").await;
        }
    };
    let warpgate = world.start(connection, 6, handler).welcomed().await;
    ten_thousand(&world, || warpgate.log.lock().unwrap().len(), &go).await;
}
