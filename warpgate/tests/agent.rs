//! The life of a warpgate: enrolling, connecting, reconnecting, renewing, draining, and each way to end.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails may panic")]

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mezusphere_model::id::EdgeId;
use mezusphere_model::route::AuthMode;
use mezusphere_pki::Role;
use support::agent::{Agent, Scene, state};
use support::edge::{Edge, Greeting, Order, head, read_answer};
use support::upstream::{self, OK};
use support::{Platform, refusal, route, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tunnel_proto::connect::refusal as codes;
use tunnel_proto::control::{RefusalCode, Refused};
use tunnel_proto::exchange::FailureCode;
use warpgate::exit::Exit;

const NO_UPSTREAM: [String; 0] = [];

#[tokio::test]
async fn a_first_run_tells_each_check_as_it_passes_and_ready_last() {
    let (address, _) = upstream::fixed(OK).await;
    let scene = Scene::with_upstream(address).await;
    let ready = scene.agent.event("ready").await;
    let names: Vec<_> =
        scene.agent.events().iter().map(|event| event["event"].as_str().unwrap().to_owned()).collect();
    let expected =
        ["started", "control", "key", "certificate", "network", "edge_connected", "routes", "ready"];
    assert_eq!(names, expected);
    assert_eq!(
        (ready["edges"].as_u64(), ready["edges_total"].as_u64(), ready["routes"].as_u64()),
        (Some(1), Some(1), Some(5))
    );
    let key = scene.agent.event("key").await;
    assert_eq!((key["project"].as_str(), key["hint"].as_str()), (Some("shop"), Some("a91c")));
    assert_eq!(scene.agent.event("control").await["transport"], "quic");
}

#[tokio::test]
async fn r25_the_key_shows_nowhere_but_for_its_last_four_characters() {
    let (address, _) = upstream::fixed(OK).await;
    let scene = Scene::with_upstream(address).await;
    let printed = scene.agent.events().iter().map(ToString::to_string).collect::<String>();
    let key = scene.platform.key(address);
    for secret in [key.reveal(), key.key.reveal(), key.key.secret.reveal()] {
        for part in secret.as_bytes().windows(12) {
            assert!(!printed.contains(std::str::from_utf8(part).unwrap()), "{printed}");
        }
    }
}

#[tokio::test]
async fn a_refusal_of_control_ends_the_program_with_its_own_code() {
    let rows = [
        (codes::KEY_UNKNOWN, Exit::KeyInvalid),
        (codes::KEY_SCOPE, Exit::KeyInvalid),
        (codes::KEY_REVOKED, Exit::KeyRevoked),
        (codes::KEY_EXPIRED, Exit::KeyRevoked),
        (codes::ENVIRONMENT_UNKNOWN, Exit::KeyInvalid),
        (codes::CLOCK_SKEW, Exit::ClockSkew),
        (codes::AGENT_TOO_OLD, Exit::TooOld),
    ];
    for (code, exit) in rows {
        let platform = Platform::new();
        *platform.twist.lock().unwrap() = Some(Box::new(move |_| Some(refusal(code))));
        let mut agent = Agent::start(&platform, &NO_UPSTREAM);
        assert_eq!(agent.exit().await, exit, "{code}");
        let error = agent.event("error").await;
        assert_eq!(error["code"], code);
        assert_eq!(error["message"], format!("Refused: {code}"));
        assert_eq!(
            (error["next"].as_str(), error["exit"].as_u64()),
            (Some("Ask."), Some(exit.code().into()))
        );
    }
}

#[tokio::test]
async fn control_that_is_away_is_asked_again_until_it_answers() {
    let (address, _) = upstream::fixed(OK).await;
    let platform = Platform::new();
    let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    *platform.twist.lock().unwrap() = Some(Box::new(move |_| {
        (count.fetch_add(1, Ordering::SeqCst) < 2).then(|| refusal(codes::CONTROL_AWAY))
    }));
    let scene = Scene::on(platform, address).await;
    assert!(asked.load(Ordering::SeqCst) >= 3);
    let failed = scene.agent.named("control_failed");
    assert_eq!(failed.len(), 1, "the second one is folded: {failed:?}");
    assert_eq!(failed[0]["code"], codes::CONTROL_AWAY);
}

#[tokio::test]
async fn nobody_at_the_connect_address_is_said_over_both_transports() {
    let platform = Platform::new();
    let mut agent = Agent::start_with(&platform, &NO_UPSTREAM, |config| {
        config.exit_on_failure = true;
        config.key.port = 9; // discard: nobody listens
    });
    assert_eq!(agent.exit().await, Exit::ControlUnreachable);
    let error = agent.event("error").await;
    assert_eq!(error["code"], "control.unreachable");
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains("over UDP: no answer") && message.contains("over TCP: connection refused"),
        "{message}"
    );
}

#[tokio::test]
async fn r19_a_platform_with_another_root_than_the_keys_is_not_told_anything() {
    let platform = Platform::new();
    let mut agent = Agent::start_with(&platform, &NO_UPSTREAM, |config| {
        config.exit_on_failure = true;
        config.key.root = [1; 32];
    });
    assert_eq!(agent.exit().await, Exit::ControlUnreachable);
    assert_eq!(agent.event("error").await["code"], "trust.edge_unknown_ca");
    assert_eq!(platform.enrolled.load(Ordering::SeqCst), 0, "the key was not sent");
}

#[tokio::test]
async fn a_clock_that_is_off_is_named() {
    // So far off that the certificate of the other side does not verify.
    for days in [-2_i64, 2] {
        let platform = Platform::new();
        let shown = mezusphere_model::clock::ManualClock::at(mezusphere_model::Timestamp::from_seconds(
            support::START.as_seconds() + days * 86_400,
        ));
        let mut agent = Agent::start_at(&platform, shown.clock(), &NO_UPSTREAM, |_| {});
        assert_eq!(agent.exit().await, Exit::ClockSkew, "{days} days");
        let error = agent.event("error").await;
        assert!(error["message"].as_str().unwrap().contains("clock says 2027-01-1"), "{error}");
    }
    // Off by less, but by more than certificates allow.
    let platform = Platform::new();
    platform.control_ahead_s.store(3630, Ordering::SeqCst);
    let mut agent = Agent::start(&platform, &NO_UPSTREAM);
    assert_eq!(agent.exit().await, Exit::ClockSkew);
    let error = agent.event("error").await;
    assert!(error["message"].as_str().unwrap().contains("60 min behind the control plane's"), "{error}");
    // Off by a little: told, and fine.
    let (address, _) = upstream::fixed(OK).await;
    let platform = Platform::new();
    platform.control_ahead_s.store(100, Ordering::SeqCst);
    let scene = Scene::on(platform, address).await;
    let skew = scene.agent.event("control").await["clock_skew_ms"].as_i64().unwrap();
    assert!((-101_000..=-99_000).contains(&skew), "{skew}");
}

#[tokio::test]
async fn connected_means_welcomed_by_the_very_edge_that_was_dialled() {
    // The certificate is another edge's.
    let platform = Platform::new();
    let edge = Edge::start_as(&platform, EdgeId::from_bits(5), EdgeId::from_bits(6));
    platform.edges.lock().unwrap().push(edge.entry());
    let mut agent = Agent::start_with(&platform, &NO_UPSTREAM, |config| config.exit_on_failure = true);
    assert_eq!(agent.exit().await, Exit::NoTransport);
    assert_eq!(agent.event("edge_failed").await["code"], "trust.edge_wrong_name");
    assert!(edge.hellos().is_empty(), "not a byte was said");

    // The certificate is right, the Welcome is another's.
    let platform = Platform::new();
    let edge = Edge::start(&platform);
    *edge.greeting.lock().unwrap() = Greeting::WelcomeAs(EdgeId::from_bits(6));
    let mut agent = Agent::start_with(&platform, &NO_UPSTREAM, |config| config.exit_on_failure = true);
    assert_eq!(agent.exit().await, Exit::NoTransport);
    assert_eq!(agent.event("edge_failed").await["code"], "tunnel.wrong_edge");
    assert!(agent.named("edge_connected").is_empty());
}

#[tokio::test]
async fn an_edge_that_says_do_not_retry_is_left_alone_until_something_changes() {
    let platform = Platform::new();
    let edge = Edge::start(&platform);
    let refused = |do_not_retry| Refused {
        code: RefusalCode::Quota,
        message: "as many warpgates as it may".to_owned(),
        retry_after_ms: None,
        do_not_retry,
    };
    *edge.greeting.lock().unwrap() = Greeting::Refuse(refused(true));
    let other = Edge::start(&platform);
    let agent = Agent::start(&platform, &NO_UPSTREAM);
    let failed = agent.event("edge_failed").await;
    assert_eq!((failed["code"].as_str(), failed["retry_ms"].is_null()), (Some("tunnel.quota"), true));
    assert_eq!(failed["message"], "as many warpgates as it may");
    let tunnel = other.tunnel(1).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(edge.hellos().len(), 1);
    *edge.greeting.lock().unwrap() = Greeting::Welcome;
    tunnel.order(Order::Bundle(platform.publish(|site| site.routes.clear()))).await;
    edge.tunnel(1).await;
}

#[tokio::test]
async fn an_edge_that_dies_is_dialled_again_when_it_is_back() {
    let (address, _) = upstream::fixed(OK).await;
    let scene = Scene::with_upstream(address).await;
    scene.edge.vanish();
    scene.agent.event("edge_failed").await;
    // The port is free once the endpoint has let go of its socket.
    let (id, port) = (scene.edge.id, scene.edge.address.port());
    drop((scene.edge, scene.tunnel));
    tokio::time::sleep(Duration::from_millis(300)).await;
    let back = Edge::start_on(&scene.platform, id, id, port);
    let start = tokio::time::Instant::now();
    let tunnel = back.tunnel(1).await;
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
    assert_eq!(tunnel.get(&head("GET", "/", 1)).await.status.unwrap(), 200);
}

#[tokio::test]
async fn r20_an_evicted_edge_loses_its_tunnel_at_once() {
    let (address, _) = upstream::fixed(OK).await;
    let platform = Platform::new();
    let other = Edge::start(&platform);
    let scene = Scene::on(Arc::clone(&platform), address).await;
    let good = other.tunnel(1).await;
    let name = scene.edge.identity.get().name().to_string();
    platform.denied.lock().unwrap().push(name);
    platform.edges.lock().unwrap().retain(|edge| edge.id != scene.edge.id);
    good.order(Order::Bundle(platform.publish(|_| {}))).await;
    let closed = tokio::time::timeout(Duration::from_secs(5), scene.tunnel.connection.closed()).await;
    assert!(closed.is_ok(), "closed within five seconds");
    assert_eq!(good.get(&head("GET", "/", 1)).await.failure.map(|failure| failure.code), None);
}

#[tokio::test]
async fn a_new_bundle_brings_new_edges_and_lets_old_ones_go() {
    let (address, _) = upstream::fixed(OK).await;
    let scene = Scene::with_upstream(address).await;
    let second = Edge::start(&scene.platform);
    scene.tunnel.order(Order::Bundle(scene.platform.publish(|_| {}))).await;
    let tunnel = second.tunnel(1).await;
    assert_eq!(tunnel.get(&head("GET", "/", 1)).await.status.unwrap(), 200);
    scene.platform.edges.lock().unwrap().retain(|edge| edge.id == second.id);
    tunnel.order(Order::Bundle(scene.platform.publish(|_| {}))).await;
    until("the old edge is told", || *scene.tunnel.draining.lock().unwrap()).await;
    until("and left", || scene.tunnel.connection.close_reason().is_some()).await;
    scene.agent.event("edge_left").await;
}

#[tokio::test]
async fn an_edge_that_stops_is_left_in_order_and_dialled_again() {
    let (release, released) = tokio::sync::oneshot::channel::<()>();
    let scene = Scene::with_upstream(waiting_upstream(released).await).await;
    let (_send, receive) = scene.tunnel.open(&head("GET", "/slow", 1), true).await;
    let running = tokio::spawn(read_answer(receive, |_| {}));
    scene.tunnel.order(Order::Drain(Duration::from_secs(20))).await;
    // A new tunnel is up while the old one still works.
    let second = scene.edge.tunnel(2).await;
    assert_eq!(second.get(&head("GET", "/", 1)).await.status.unwrap(), 200);
    release.send(()).unwrap();
    assert!(running.await.unwrap().complete, "what ran has finished");
    until("the old tunnel is closed", || scene.tunnel.connection.close_reason().is_some()).await;
}

#[tokio::test]
async fn a_signal_drains_what_runs_finishes_and_the_exit_is_zero() {
    let (release, released) = tokio::sync::oneshot::channel::<()>();
    let mut scene = Scene::with_upstream(waiting_upstream(released).await).await;
    let (_send, receive) = scene.tunnel.open(&head("GET", "/slow", 1), true).await;
    let running = tokio::spawn(read_answer(receive, |_| {}));
    tokio::time::sleep(Duration::from_millis(50)).await;
    scene.agent.signal();
    until("the edge hears of it", || *scene.tunnel.draining.lock().unwrap()).await;
    assert_eq!(scene.agent.event("draining").await["exchanges"], 1);
    assert!(!scene.agent.task.is_finished());
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let late = scene.tunnel.get(&head("GET", "/", 1)).await.failure.unwrap();
    assert_eq!((late.code, late.started), (FailureCode::Draining, false));
    release.send(()).unwrap();
    let answer = running.await.unwrap();
    assert!(answer.complete && answer.body == b"hello");
    assert_eq!(scene.agent.exit().await, Exit::Done);
    assert_eq!(scene.agent.event("stopped").await["cut"], 0);
}

#[tokio::test]
async fn with_nothing_running_a_signal_ends_it_quickly_and_a_second_one_at_once() {
    let (address, _) = upstream::fixed(OK).await;
    let mut scene = Scene::with_upstream(address).await;
    let start = tokio::time::Instant::now();
    scene.agent.signal();
    assert_eq!(scene.agent.exit().await, Exit::Done);
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());

    let (_release, released) = tokio::sync::oneshot::channel::<()>();
    let mut scene = Scene::with_upstream(waiting_upstream(released).await).await;
    let (_send, _receive) = scene.tunnel.open(&head("GET", "/slow", 1), true).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    scene.agent.signal();
    scene.agent.event("draining").await;
    scene.agent.signal();
    let start = tokio::time::Instant::now();
    assert_eq!(scene.agent.exit().await, Exit::Interrupted);
    assert!(start.elapsed() < Duration::from_millis(200));
}

#[tokio::test]
async fn a_signal_while_connecting_ends_it_with_zero() {
    let platform = Platform::new();
    let mut agent = Agent::start_with(&platform, &NO_UPSTREAM, |config| config.key.port = 9);
    tokio::time::sleep(Duration::from_millis(100)).await;
    agent.signal();
    assert_eq!(agent.exit().await, Exit::Done);
}

#[tokio::test]
async fn r20_a_renewal_drops_no_request_and_the_old_tunnel_ends_before_its_certificate() {
    let (release, released) = tokio::sync::oneshot::channel::<()>();
    let address = waiting_upstream(released).await;
    let platform = Platform::with_ttl(Duration::from_mins(1));
    let scene = Scene::on(Arc::clone(&platform), address).await;
    let (_send, receive) = scene.tunnel.open(&head("GET", "/slow", 1), true).await;
    let running = tokio::spawn(read_answer(receive, |_| {}));
    // Past half-life; the edge has renewed its own certificate by then.
    platform.hand.advance(Duration::from_secs(34));
    scene.edge.identity.replace(platform.leaf(Role::Edge(scene.edge.id)));
    let mut served = 0;
    while scene.edge.tunnels().len() < 2 {
        let newest = scene.edge.tunnels().pop().unwrap();
        let answer = newest.get(&head("GET", "/", 1)).await;
        assert_eq!(answer.status.map(|status| status.as_u16()), Some(200), "{answer:?}");
        served += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(served > 10, "requests went on during the renewal");
    scene.agent.event("renewed").await;
    assert_eq!(platform.enrolled.load(Ordering::SeqCst), 2);
    let second = scene.edge.tunnel(2).await;
    until("the old tunnel drains", || *scene.tunnel.draining.lock().unwrap()).await;
    assert!(scene.tunnel.connection.close_reason().is_none(), "what runs on it goes on");
    assert_eq!(second.get(&head("GET", "/", 1)).await.status.unwrap(), 200);
    let connected = scene.agent.named("edge_connected");
    assert_eq!(connected.last().unwrap()["replaced"], true);
    assert_eq!(scene.edge.hellos()[0].instance, scene.edge.hellos()[1].instance, "the same instance");
    release.send(()).unwrap();
    assert!(running.await.unwrap().complete);
    until("then it ends", || scene.tunnel.connection.close_reason().is_some()).await;
}

#[tokio::test]
async fn r20_a_tunnel_does_not_outlive_the_certificate_it_was_made_with() {
    let (address, _) = upstream::fixed(OK).await;
    let platform = Platform::with_ttl(Duration::from_mins(1));
    let scene = Scene::on(Arc::clone(&platform), address).await;
    // Nobody renews anything: control is away, and the edge keeps its old certificate.
    *platform.twist.lock().unwrap() = Some(Box::new(|_| Some(refusal(codes::CONTROL_AWAY))));
    platform.hand.advance(Duration::from_secs(61));
    let closed = tokio::time::timeout(Duration::from_secs(5), scene.tunnel.connection.closed()).await;
    assert!(closed.is_ok(), "closed within five seconds");
    let failed = scene.agent.event("edge_failed").await;
    assert_eq!(failed["code"], "tunnel.certificate_ended");
}

#[tokio::test]
async fn a_kept_identity_is_used_again_while_control_is_away() {
    use std::os::unix::fs::PermissionsExt as _;
    let (address, _) = upstream::fixed(OK).await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("warpgate");
    let platform = Platform::new();
    let edge = Edge::start(&platform);
    let start =
        || Agent::start_with(&platform, &[address.to_string()], |config| config.state = Some(state(&path)));
    let mut first = start();
    edge.tunnel(1).await;
    first.event("ready").await;
    first.signal();
    first.exit().await;
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(&path.join("identity.json"))), (0o700, 0o600));

    *platform.twist.lock().unwrap() = Some(Box::new(|_| Some(refusal(codes::CONTROL_AWAY))));
    let second = start();
    let tunnel = edge.tunnel(2).await;
    assert_eq!(tunnel.get(&head("GET", "/", 1)).await.status.unwrap(), 200);
    assert_eq!(platform.enrolled.load(Ordering::SeqCst), 1, "no second enrollment");
    assert_eq!(edge.hellos()[0].instance, edge.hellos()[1].instance);
    until("control is asked for news", || platform.polled.load(Ordering::SeqCst) > 0).await;
    second.event("control_failed").await;
    drop(second);

    // A certificate that has ended is of no use.
    *platform.twist.lock().unwrap() = None;
    platform.hand.advance(Duration::from_secs(23 * 3600 + 3700));
    edge.identity.replace(platform.leaf(Role::Edge(edge.id)));
    let third = start();
    assert!(third.event("note").await["text"].as_str().unwrap().contains("its certificate has ended"));
}

#[tokio::test]
async fn news_come_by_polling_when_no_edge_brings_them() {
    let (address, _) = upstream::fixed(OK).await;
    let directory = tempfile::tempdir().unwrap();
    let platform = Platform::new();
    let edge = Edge::start(&platform);
    let start = || {
        Agent::start_with(&platform, &[address.to_string()], |config| {
            config.state = Some(state(directory.path()));
        })
    };
    let mut first = start();
    first.event("ready").await;
    first.signal();
    first.exit().await;
    platform.publish(|site| site.routes.push(route(6, "/new", AuthMode::Public)));
    let second = start();
    let changed = second.event("routes_changed").await;
    assert_eq!(changed["added"][0]["address"], "https://shop.localhost:8443/new");
    drop(edge);
}

#[tokio::test]
async fn r21_a_revoked_key_ends_a_running_warpgate_once_no_edge_serves_it() {
    let (address, _) = upstream::fixed(OK).await;
    let mut scene = Scene::with_upstream(address).await;
    *scene.platform.twist.lock().unwrap() = Some(Box::new(|_| Some(refusal(codes::KEY_REVOKED))));
    let refused = Refused {
        code: RefusalCode::KeyRevoked,
        message: "the key was revoked".to_owned(),
        retry_after_ms: None,
        do_not_retry: true,
    };
    *scene.edge.greeting.lock().unwrap() = Greeting::Refuse(refused.clone());
    scene.tunnel.order(Order::Refuse(refused)).await;
    let start = tokio::time::Instant::now();
    assert_eq!(scene.agent.exit().await, Exit::KeyRevoked);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(scene.agent.event("edge_failed").await["code"], "tunnel.key_revoked");
}

#[tokio::test]
async fn one_edges_word_does_not_stop_a_warpgate_that_is_served() {
    let (address, _) = upstream::fixed(OK).await;
    let scene = Scene::with_upstream(address).await;
    *scene.platform.twist.lock().unwrap() = Some(Box::new(|_| Some(refusal(codes::KEY_REVOKED))));
    scene.platform.hand.advance(Duration::from_hours(14)); // the renewal is due
    assert_eq!(scene.agent.event("control_failed").await["code"], codes::KEY_REVOKED);
    assert_eq!(scene.tunnel.get(&head("GET", "/", 1)).await.status.unwrap(), 200);
    assert!(!scene.agent.task.is_finished());
}

#[tokio::test]
async fn health_follows_the_tunnels() {
    let platform = Platform::new();
    let port = {
        let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        free.local_addr().unwrap().port()
    };
    let health = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let agent = Agent::start_with(&platform, &NO_UPSTREAM, |config| config.health = Some(health));
    agent.event("network").await;
    let ask = async |path: &str| {
        let mut stream = tokio::net::TcpStream::connect(health).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    assert!(ask("/healthz").await.starts_with("HTTP/1.1 200"));
    assert!(ask("/readyz").await.starts_with("HTTP/1.1 503"));
    // An edge appears; nobody relays the bundle, so a kept one is not enough: restart with it.
    drop(agent);
    let edge = Edge::start(&platform);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let agent = Agent::start_with(&platform, &NO_UPSTREAM, |config| config.health = Some(health));
    edge.tunnel(1).await;
    agent.event("ready").await;
    assert!(ask("/readyz").await.starts_with("HTTP/1.1 200"));
    let metrics = ask("/metrics").await;
    assert!(metrics.contains("warpgate_tunnels 1"), "{metrics}");
    drop(agent);

    let mut outside = Agent::start_with(&platform, &NO_UPSTREAM, |config| {
        config.health = Some(std::net::SocketAddr::from(([0, 0, 0, 0], 0)));
    });
    assert_eq!(outside.exit().await, Exit::Usage);
}

/// Answers at once, except `GET /slow`, which it answers once `released` fires.
async fn waiting_upstream(released: tokio::sync::oneshot::Receiver<()>) -> std::net::SocketAddr {
    let released = std::sync::Mutex::new(Some(released));
    let (address, _) = upstream::start(move |mut conversation| {
        let wait =
            if conversation.head.starts_with("GET /slow") { released.lock().unwrap().take() } else { None };
        async move {
            if let Some(wait) = wait {
                wait.await.ok()?;
            }
            conversation.stream.write_all(OK.as_bytes()).await.ok()?;
            Some(conversation.stream)
        }
    })
    .await;
    address
}
