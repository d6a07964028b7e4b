//! A running warpgate, asked by the commands of another process: status, routes, logs.

#![allow(
    clippy::disallowed_methods,
    reason = "one thread that waits for another process is no pool to bound"
)]

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::support;
use crate::support::agent::{Agent, state};
use crate::support::edge::{Edge, head};
use crate::support::upstream::{self, OK};
use crate::support::{Platform, until};
use serde_json::Value;
use warpgate::config::{Shown, Source};

fn command(places: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_warpgate"));
    command.env("WARPGATE_RUNTIME_DIR", places).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs the program beside the warpgate under test, which is in this process.
async fn run(places: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = command(places, arguments);
    let output: Output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let utf8 = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), utf8(&output.stdout), utf8(&output.stderr))
}

async fn json(places: &Path, arguments: &[&str]) -> Value {
    let (_, out, err) = run(places, arguments).await;
    serde_json::from_str(&out).unwrap_or_else(|why| panic!("{why}: {out}{err}"))
}

#[tokio::test]
async fn status_routes_and_logs_of_a_running_warpgate() {
    let places = tempfile::tempdir().unwrap();
    let places = places.path();
    let (address, _) = upstream::fixed(OK).await;
    let platform = Platform::new();
    let edge = Edge::start(&platform);
    let agent = Agent::start_with(&platform, &[address.to_string()], |config| {
        config.socket = Some(places.join("1.sock"));
        config.key_source = "/etc/key".to_owned();
        let masked = "http://…@proxy:3128".to_owned();
        config.settings = vec![Shown { name: "proxy".to_owned(), value: masked, source: Source::File }];
    });
    agent.event("ready").await;
    let tunnel = edge.tunnel(1).await;
    assert_eq!(tunnel.get(&head("GET", "/", 1)).await.status.unwrap(), 200);

    let status = json(places, &["status", "--output", "json"]).await;
    assert_eq!((status["phase"].as_str(), status["revision"].as_u64()), (Some("ready"), Some(1)));
    assert_eq!(status["edges"][0]["state"], "proven");
    assert_eq!(status["edges"][0]["transport"], "quic");
    assert!(status["edges"][0]["round_trip_us"].as_u64().is_some(), "{status}");
    assert_eq!(status["upstreams"][0]["target"], format!("http://{address}"));
    assert_eq!(
        (status["exchanges"]["total"].as_u64(), status["exchanges"]["failed"].as_u64()),
        (Some(1), Some(0))
    );
    assert_eq!(status["key"]["hint"], "a91c");
    assert_eq!(
        (status["key"]["project"].as_str(), status["settings"][0]["source"].as_str()),
        (Some("shop"), Some("file"))
    );

    let (code, text, _) = run(places, &["status"]).await;
    assert_eq!(code, 0);
    for words in [
        "ready, up ",
        "…a91c",
        "project shop",
        "Edges (1 of 1)",
        "1 since the start",
        "(file)",
        "http://…@proxy",
    ] {
        assert!(text.contains(words), "{words} is missing: {text}");
    }
    let routes = json(places, &["routes", "--output", "json"]).await;
    assert_eq!(routes["routes"].as_array().unwrap().len(), 5);
    assert_eq!(routes["routes"][0]["state"]["status"], 200);
    let (_, text, _) = run(places, &["routes"]).await;
    assert!(text.contains("https://shop.localhost:8443/*") && text.contains("up: 200"), "{text}");

    let (_, lines, _) = run(places, &["logs", "--output", "json"]).await;
    let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(first["event"], "started");
    let (_, last, _) = run(places, &["logs", "-n", "1"]).await;
    assert!(last.lines().count() <= 2 && last.contains("Ready: 1 of 1 edge"), "{last}");
    for printed in [&lines, &last, &text] {
        assert!(!printed.contains("mzw_"), "{printed}");
    }
}

#[tokio::test]
async fn logs_follow_what_comes_until_the_warpgate_ends() {
    let places = tempfile::tempdir().unwrap();
    let (address, _) = upstream::fixed(OK).await;
    let platform = Platform::new();
    let edge = Edge::start(&platform);
    let mut agent = Agent::start_with(&platform, &[address.to_string()], |config| {
        config.socket = Some(places.path().join("1.sock"));
    });
    agent.event("ready").await;
    let mut command = command(places.path(), &["logs", "--follow", "-n", "0", "--output", "json"]);
    let following = tokio::task::spawn_blocking(move || command.output());
    // Until it is connected there is nobody to tell; the warpgate's own counts do not show readers.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let changed = platform.publish(|site| site.routes.truncate(2));
    edge.tunnel(1).await.order(support::edge::Order::Bundle(changed)).await;
    agent.event("routes_changed").await;
    agent.signal();
    agent.exit().await;
    let output = following.await.unwrap().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let events: Vec<_> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["event"].as_str().unwrap().to_owned())
        .collect();
    assert!(
        events.contains(&"routes_changed".to_owned()) && events.contains(&"draining".to_owned()),
        "{text}"
    );
}

#[tokio::test]
async fn where_nothing_runs_it_is_said_and_a_dead_socket_is_nobody() {
    let places = tempfile::tempdir().unwrap();
    drop(std::os::unix::net::UnixListener::bind(places.path().join("77.sock")).unwrap());
    for verb in ["status", "routes", "logs"] {
        let (code, out, err) = run(places.path(), &[verb]).await;
        assert_eq!((code, out.as_str()), (3, ""), "{err}");
        assert!(err.contains("no running warpgate was found") && err.contains("next:"), "{err}");
    }
    // The next one that starts there cleans up.
    let platform = Platform::new();
    let agent = Agent::start_with(&platform, &["127.0.0.1:9".to_owned()], |config| {
        config.socket = Some(places.path().join("78.sock"));
    });
    agent.event("certificate").await;
    assert!(!places.path().join("77.sock").exists());
    let (code, out, _) = run(places.path(), &["status"]).await;
    assert_eq!(code, 4, "it runs, and no edge is connected: {out}");
    assert!(out.contains("no edge is connected"), "{out}");
    let (code, out, _) = run(places.path(), &["status", "--quiet"]).await;
    assert_eq!((code, out.as_str()), (4, ""));
}

#[tokio::test]
async fn of_several_warpgates_one_is_named() {
    let places = tempfile::tempdir().unwrap();
    let kept = tempfile::tempdir().unwrap();
    let platform = Platform::new();
    let _edge = Edge::start(&platform);
    let (address, _) = upstream::fixed(OK).await;
    let start = |name: &str, with_state: bool| {
        Agent::start_with(&platform, &[address.to_string()], |config| {
            config.socket = Some(places.path().join(name));
            config.state = with_state.then(|| state(kept.path()));
        })
    };
    let (first, second) = (start("1.sock", true), start("2.sock", false));
    first.event("certificate").await;
    second.event("certificate").await;
    let (code, _, err) = run(places.path(), &["status"]).await;
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("2 warpgates run") && err.contains("--instance"), "{err}");
    let directory = kept.path().to_str().unwrap();
    let status = json(places.path(), &["status", "--output", "json", "--state-dir", directory]).await;
    assert_eq!(status["state_dir"], directory);
    let (code, _, err) = run(places.path(), &["status", "--instance", "nobody"]).await;
    assert_eq!(code, 3, "{err}");
}

#[tokio::test]
async fn r23_the_control_socket_is_its_users_alone_and_bounds_what_it_reads() {
    use std::os::unix::fs::PermissionsExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let places = tempfile::tempdir().unwrap();
    let socket = places.path().join("1.sock");
    let platform = Platform::new();
    let mut agent = Agent::start_with(&platform, &["127.0.0.1:9".to_owned()], |config| {
        config.socket = Some(socket.clone());
    });
    until("the socket", || socket.exists()).await;
    agent.event("certificate").await;
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let ask = async |question: &[u8]| {
        let mut stream = tokio::net::UnixStream::connect(&socket).await.unwrap();
        // It may hang up before all of a long question is written.
        drop(stream.write_all(question).await);
        let mut answer = String::new();
        drop(stream.read_to_string(&mut answer).await);
        answer
    };
    assert!(ask(b"{\"ask\":\"stop\"}\n").await.starts_with("{\"refused\":"));
    assert!(ask(b"nonsense\n").await.starts_with("{\"refused\":"));
    let long = ask(&vec![b'a'; 1024 * 1024]).await;
    assert!(long.is_empty() || long.starts_with("{\"refused\":"), "{long}");
    agent.signal();
    agent.exit().await;
    assert!(!socket.exists(), "it is gone with its process");
}
