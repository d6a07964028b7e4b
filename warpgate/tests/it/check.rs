//! What `warpgate check` finds: a good way, and each thing that can be wrong with it, with its exit code.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::support;
use crate::support::edge::Edge;
use crate::support::upstream::{self, OK};
use crate::support::{Platform, refusal};
use mezusphere_model::clock::ManualClock;
use mezusphere_model::{Clock, Timestamp};
use tunnel_proto::connect::refusal as codes;
use warpgate::check::{Check, Report, Row, Verdict, run};
use warpgate::exit::Exit;
use warpgate::output::Style;
use warpgate::tunnel::{Network, ProxySettings};
use warpgate::upstream::Upstreams;

/// Checks against this platform with these upstreams, on a machine with this clock.
pub(crate) async fn check_at(
    platform: &Arc<Platform>,
    clock: Clock,
    upstreams: &[&str],
    change: impl FnOnce(&mut Check),
) -> Report {
    let connect = platform.connect_service();
    let declared = upstreams.iter().map(|text| text.parse().unwrap()).collect();
    let mut check = Check {
        key: platform.key(connect.local_addr().unwrap()),
        key_hint: "a91c".to_owned(),
        key_source: "--key-file".to_owned(),
        upstreams: Upstreams::new(declared).unwrap(),
        state_dir: None,
        network: Network::open().unwrap(),
        clock,
        hostname: "test".to_owned(),
    };
    change(&mut check);
    run(check).await
}

async fn check(platform: &Arc<Platform>, upstreams: &[&str]) -> Report {
    check_at(platform, platform.clock(), upstreams, |_| {}).await
}

fn row<'a>(report: &'a Report, check: &str) -> &'a Row {
    let found = report.rows.iter().find(|row| row.check.starts_with(check));
    found.unwrap_or_else(|| panic!("no row {check}: {}", report.text(Style::Plain, 80)))
}

#[tokio::test]
async fn a_good_way_passes_and_leaves_nothing_behind() {
    let (address, _) = upstream::fixed(OK).await;
    let platform = Platform::new();
    let edge = Edge::start(&platform);
    let (web, docs) = (format!("http://{address}"), format!("elsewhere=http://{address}"));
    let report = check(&platform, &[&web, &docs]).await;
    let text = report.text(Style::Plain, 80);
    assert_eq!(report.exit(), Exit::Done, "{text}");
    for name in [
        "dns",
        "udp ",
        "control plane",
        "clock",
        "key",
        "certificate",
        "upstream default",
        "upstream elsewhere",
    ] {
        assert_eq!(row(&report, name).verdict, Verdict::Pass, "{name}: {text}");
    }
    assert!(row(&report, "edge local").found.starts_with("quic "), "{text}");
    assert_eq!(row(&report, "key").found, "\"prod-web\" · project shop · environment production");
    assert!(row(&report, "upstream default").found.starts_with("answers 200 in "));
    assert_eq!(platform.enrolled.load(Ordering::SeqCst), 0, "nothing was made");
    assert!(edge.hellos().is_empty(), "no edge took it for a warpgate");
}

#[tokio::test]
async fn what_is_wrong_with_the_key_is_controls_word_and_ends_with_its_code() {
    for (code, exit, check_name) in [
        (codes::KEY_UNKNOWN, Exit::KeyInvalid, "key"),
        (codes::KEY_SCOPE, Exit::KeyInvalid, "key"),
        (codes::KEY_REVOKED, Exit::KeyRevoked, "key"),
        (codes::AGENT_TOO_OLD, Exit::TooOld, "version"),
    ] {
        let platform = Platform::new();
        *platform.twist.lock().unwrap() = Some(Box::new(move |_| Some(refusal(code))));
        let report = check(&platform, &["127.0.0.1:9"]).await;
        assert_eq!(report.exit(), exit, "{code}");
        let row = row(&report, check_name);
        assert_eq!(
            (row.verdict, row.code.as_deref(), row.advice.as_str()),
            (Verdict::Fail, Some(code), "Ask.")
        );
    }
}

#[tokio::test]
async fn a_platform_that_is_not_there_ends_with_twelve() {
    let platform = Platform::new();
    let report = check_at(&platform, platform.clock(), &["127.0.0.1:9"], |check| check.key.port = 9).await;
    assert_eq!(report.exit(), Exit::ControlUnreachable);
    assert_eq!(row(&report, "control plane").code.as_deref(), Some("control.unreachable"));
    assert_eq!(row(&report, "key").verdict, Verdict::Skip);
    let platform = Platform::new();
    let elsewhere = |check: &mut Check| {
        check.key.host = mezusphere_model::Host::parse("connect.nowhere.invalid").unwrap();
    };
    let report = check_at(&platform, platform.clock(), &["127.0.0.1:9"], elsewhere).await;
    assert_eq!((row(&report, "dns").verdict, report.exit()), (Verdict::Fail, Exit::ControlUnreachable));
}

#[tokio::test]
async fn r19_another_installation_at_that_address_is_not_told_the_key() {
    let platform = Platform::new();
    let report =
        check_at(&platform, platform.clock(), &["127.0.0.1:9"], |check| check.key.root = [1; 32]).await;
    assert_eq!(row(&report, "udp ").code.as_deref(), Some("trust.edge_unknown_ca"));
    assert_eq!(report.exit(), Exit::ControlUnreachable);
    assert_eq!(platform.polled.load(Ordering::SeqCst), 0, "the key was not sent");
}

#[tokio::test]
async fn edges_nobody_reaches_end_with_thirteen_and_one_that_works_is_enough() {
    let platform = Platform::new();
    let (address, _) = upstream::fixed(OK).await;
    let (web, other) = (format!("http://{address}"), format!("elsewhere=http://{address}"));
    let gone = Edge::start(&platform);
    gone.vanish();
    let report = check(&platform, &[&web, &other]).await;
    assert_eq!(report.exit(), Exit::NoTransport, "{}", report.text(Style::Plain, 80));
    let _edge = Edge::start(&platform);
    let report = check(&platform, &[&web, &other]).await;
    assert_eq!(report.exit(), Exit::Done, "{}", report.text(Style::Plain, 80));
    let none = Platform::new();
    let report = check(&none, &[&web, &other]).await;
    assert_eq!((row(&report, "edges").verdict, report.exit()), (Verdict::Fail, Exit::NoTransport));
}

#[tokio::test]
async fn r19_an_edge_that_is_another_node_is_not_taken_for_it() {
    let platform = Platform::new();
    let (id, other) =
        (mezusphere_model::id::EdgeId::from_bits(1), mezusphere_model::id::EdgeId::from_bits(2));
    let edge = Edge::start_as(&platform, id, other);
    platform.edges.lock().unwrap().push(edge.entry());
    let report = check(&platform, &["127.0.0.1:9"]).await;
    assert_eq!(row(&report, "edge local").verdict, Verdict::Fail, "{}", report.text(Style::Plain, 80));
    assert_eq!(report.exit(), Exit::NoTransport);
}

#[tokio::test]
async fn a_wrong_clock_ends_with_fourteen() {
    let platform = Platform::new();
    let _edge = Edge::start(&platform);
    platform.control_ahead_s.store(3630, Ordering::SeqCst);
    let report = check(&platform, &["127.0.0.1:9"]).await;
    let clock = row(&report, "clock");
    assert_eq!((clock.verdict, report.exit()), (Verdict::Fail, Exit::ClockSkew));
    assert!(clock.found.contains("60 min behind") && clock.advice.contains("timedatectl"), "{}", clock.found);
    // So far off that no certificate verifies.
    let shown = ManualClock::at(Timestamp::from_seconds(support::START.as_seconds() + 3 * 86_400));
    let report = check_at(&Platform::new(), shown.clock(), &["127.0.0.1:9"], |_| {}).await;
    assert_eq!(row(&report, "control plane").exit, Exit::ClockSkew, "{}", report.text(Style::Plain, 80));
}

#[tokio::test]
async fn upstreams_are_looked_at_each_with_its_advice_and_end_with_fifteen() {
    let platform = Platform::new();
    let _edge = Edge::start(&platform);
    let closed = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("app.sock");
    let rows = [
        (format!("http://{closed}"), "start what listens there"),
        (format!("unix:{}", socket.display()), "start what listens on that socket"),
        ("http://nowhere.invalid".to_owned(), "correct the name"),
    ];
    for (upstream, advice) in rows {
        let report = check(&platform, &[&upstream]).await;
        assert_eq!(report.exit(), Exit::Origin, "{}", report.text(Style::Plain, 80));
        let row = row(&report, "upstream default");
        assert!(row.advice.contains(advice), "{upstream}: {}", row.advice);
        assert!(row.code.as_deref().unwrap().starts_with("upstream") || row.code.is_some());
        let undeclared = report.rows.iter().find(|row| row.check == "upstream elsewhere").unwrap();
        assert_eq!(undeclared.verdict, Verdict::Warn, "a route leads there and nobody declared it");
    }
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_named() {
    let platform = Platform::new();
    let _edge = Edge::start(&platform);
    let report = check_at(&platform, platform.clock(), &["127.0.0.1:9"], |check| {
        check.network.proxy = ProxySettings::find(Some("http://user:secret@127.0.0.1:9"), |_| None).unwrap();
    })
    .await;
    let proxy = row(&report, "proxy");
    assert_eq!((proxy.verdict, proxy.code.as_deref()), (Verdict::Fail, Some("proxy.unreachable")));
    assert!(!report.json().contains("secret"), "{}", report.json());
}
