//! How a warpgate starts: enrolling, what it tells, what it keeps, and each way in which a start fails.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::support;
use crate::support::agent::{Agent, Scene, state};
use crate::support::edge::{Edge, head};
use crate::support::upstream::{self, OK};
use crate::support::{Platform, refusal, route, until};
use mezusphere_model::id::{EdgeId, WarpgateId};
use mezusphere_model::route::AuthMode;
use mezusphere_pki::Role;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tunnel_proto::connect::{Enrolled, Reply, refusal as codes};
use warpgate::exit::Exit;
use warpgate::state::{StateDir, StateError};

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
async fn r06_an_edge_that_changes_what_control_answers_is_caught() {
    type Change = fn(&Platform, &Platform, Enrolled) -> Enrolled;
    let changes: [(&str, Change); 4] = [
        ("another installation's certificate", |_, stranger, enrolled| Enrolled {
            chain_pem: stranger.leaf(stranger.warpgate_role()).chain_pem(),
            ..enrolled
        }),
        ("another instance's name", |_, _, enrolled| Enrolled {
            warpgate: WarpgateId::from_bits(5),
            ..enrolled
        }),
        ("a bundle of its own", |platform, _, enrolled| {
            let mut bundle = platform.bundle();
            bundle.site.routes = vec![route(1, "/*", AuthMode::Public)];
            let edge = platform.leaf(Role::Edge(EdgeId::from_bits(1)));
            Enrolled { bundle: Platform::sign(&bundle, &edge), ..enrolled }
        }),
        ("another root", |_, stranger, enrolled| Enrolled {
            roots_pem: vec![stranger.root.certificate_pem()],
            bundle: stranger.signed_bundle(),
            ..enrolled
        }),
    ];
    for (what, change) in changes {
        let (platform, stranger) = (Platform::new(), Platform::new());
        let control = Arc::clone(&platform);
        *platform.twist.lock().unwrap() =
            Some(Box::new(move |request| match control.control_answer(request) {
                Reply::Enrolled(enrolled) => {
                    Some(Reply::Enrolled(Box::new(change(&control, &stranger, *enrolled))))
                }
                other => Some(other),
            }));
        let mut agent = Agent::start_with(&platform, &NO_UPSTREAM, |config| config.exit_on_failure = true);
        assert_eq!(agent.exit().await, Exit::ControlUnreachable, "{what}");
        assert_eq!(agent.event("error").await["code"], "control.bad_answer", "{what}");
        assert!(agent.named("edge_connected").is_empty());
    }
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
        let text = error["message"].as_str().unwrap();
        let date = if days < 0 { "good only from 2027-01-" } else { "it ended at 2027-01-" };
        assert!(text.contains("clock says 2027-01-1") && text.contains(date), "{error}");
    }
    // Off by less, but by more than certificates allow.
    let platform = Platform::new();
    platform.control_ahead_s.store(3630, Ordering::SeqCst);
    let mut agent = Agent::start(&platform, &NO_UPSTREAM);
    assert_eq!(agent.exit().await, Exit::ClockSkew);
    let error = agent.event("error").await;
    let text = error["message"].as_str().unwrap();
    assert!(text.contains("60 min behind the control plane's"), "{error}");
    assert!(
        text.contains("here 2027-01-15T08:00:0") && text.contains("there 2027-01-15T09:00:30"),
        "{error}"
    );
    // Off by a little: told, and fine.
    let (address, _) = upstream::fixed(OK).await;
    let platform = Platform::new();
    platform.control_ahead_s.store(100, Ordering::SeqCst);
    let scene = Scene::on(platform, address).await;
    let skew = scene.agent.event("control").await["clock_skew_ms"].as_i64().unwrap();
    assert!((-101_000..=-99_000).contains(&skew), "{skew}");
}

#[tokio::test]
async fn a_kept_identity_is_used_again_while_control_is_away() {
    use std::os::unix::fs::PermissionsExt as _;
    let (address, _) = upstream::fixed(OK).await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("warpgate");
    // What signs bundles lives longer.
    let platform = Platform::with_ttl(Duration::from_hours(1));
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
    // While it runs the directory is its own: a copy of it would push it off its edges.
    assert!(matches!(StateDir::open(&path), Err(StateError::InUse(_))));
    second.kill().await;

    // A certificate that has ended is of no use, but who it named is known.
    *platform.twist.lock().unwrap() = None;
    platform.hand.advance(Duration::from_secs(3700));
    edge.identity.replace(platform.leaf(Role::Edge(edge.id)));
    let third = start();
    let note = third.event("note").await;
    let text = note["text"].as_str().unwrap();
    assert!(
        text.contains("ended at 2027-01-15T09:00:00Z") && text.contains("clock says 2027-01-15T09:01:40Z"),
        "both times: {text}"
    );
    edge.tunnel(3).await;
    assert_eq!(platform.enrolled.load(Ordering::SeqCst), 2);
    assert_eq!(edge.hellos()[2].instance, edge.hellos()[0].instance, "still itself");
    third.kill().await;

    // A key that others could read is nobody's own.
    let file = path.join("identity.json");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    let fourth = start();
    let note = fourth.event("note").await;
    assert!(note["text"].as_str().unwrap().contains("other users can read its key (mode 640)"), "{note}");
    edge.tunnel(4).await;
    assert_eq!(platform.enrolled.load(Ordering::SeqCst), 3);
    until("the new key is kept for itself", || mode(&file) == 0o600).await;
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
