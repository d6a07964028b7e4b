//! A control node that answers nonsense: an error each time, never a panic, never memory without end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use mezusphere_edge_link::ALPN_LINK;
use mezusphere_edge_link::limits::{BATCH_LEN_MAX, HEADS_LEN_MAX, LinkLimits};
use mezusphere_model::document::{NodeAddress, Partition};
use mezusphere_model::id::{ControlId, ProjectId};
use mezusphere_model::link::{ControlLink, LinkError};
use mezusphere_model::token::Token;
use mezusphere_pki::tls::link_server_config;
use mezusphere_pki::{CurrentTrust, Role};
use mezusphere_store::feed::{FeedError, FeedSource};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::round_trip::about;
use crate::world::{Edge, World, node_address, within};

/// What is answered to everything but the wake.
#[derive(Clone)]
struct Nonsense {
    status: u16,
    kind: &'static str,
    encoding: &'static str,
    body: Bytes,
    /// Say it again and again.
    for_ever: bool,
}

impl Nonsense {
    fn json(body: &str) -> Self {
        let body = Bytes::copy_from_slice(body.as_bytes());
        Self { status: 200, kind: "application/json", encoding: "", body, for_ever: false }
    }
}

/// A control node by its certificate, which answers the wake as it should and everything else so.
async fn control(world: &World, nonsense: Nonsense) -> (NodeAddress, Arc<AtomicU64>) {
    let identity = world.current(Role::Control(ControlId::random(&world.entropy)));
    let trust = CurrentTrust::new(world.trust(&[]));
    let config = link_server_config(&identity, &trust, &world.clock, &[ALPN_LINK]).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = node_address(listener.local_addr().unwrap());
    let sent = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&sent);
    tokio::spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, nonsense, count) = (acceptor.clone(), nonsense.clone(), Arc::clone(&count));
            connections.spawn(async move {
                let stream = acceptor.accept(stream).await.unwrap();
                let mut connection = h2::server::handshake(stream).await.unwrap();
                let mut answers = JoinSet::new();
                while let Some(Ok((request, respond))) = connection.accept().await {
                    let (nonsense, count) = (nonsense.clone(), Arc::clone(&count));
                    answers.spawn(answer(request.uri().path().to_owned(), respond, nonsense, count));
                }
            });
        }
    });
    (at, sent)
}

async fn answer(
    path: String,
    mut respond: h2::server::SendResponse<Bytes>,
    nonsense: Nonsense,
    count: Arc<AtomicU64>,
) {
    let head = |status: u16, kind: &str, encoding: &str| {
        let head = http::Response::builder().status(status).header("content-type", kind);
        head.header("content-encoding", encoding).body(()).unwrap()
    };
    if path == "/v1/feed/wake" {
        let mut stream = respond.send_response(head(200, "application/json", ""), false).unwrap();
        stream.send_data(Bytes::from_static(b"{}\n"), false).unwrap();
        return std::future::pending().await;
    }
    let head = head(nonsense.status, nonsense.kind, nonsense.encoding);
    let Ok(mut stream) = respond.send_response(head, false) else { return };
    loop {
        let mut body = nonsense.body.clone();
        while !body.is_empty() {
            stream.reserve_capacity(body.len().min(16 * 1024));
            let Some(Ok(room)) = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await else { return };
            let part = body.split_to(room.min(body.len()));
            count.fetch_add(part.len() as u64, Ordering::Relaxed);
            if stream.send_data(part, false).is_err() {
                return;
            }
        }
        if !nonsense.for_ever {
            drop(stream.send_data(Bytes::new(), true));
            return;
        }
    }
}

async fn linked(world: &World, nonsense: Nonsense) -> (Edge, Arc<AtomicU64>) {
    let (at, sent) = control(world, nonsense).await;
    let edge = world.link(&[at]);
    edge.connected().await;
    (edge, sent)
}

#[tokio::test]
async fn r24_nonsense_of_every_kind_is_an_error() {
    let world = World::new();
    let html = Nonsense { kind: "text/html", ..Nonsense::json("{}") };
    let gzip = Nonsense { encoding: "gzip", ..Nonsense::json("{}") };
    let not_deflated = Nonsense { encoding: "deflate", ..Nonsense::json("{}") };
    let teapot = Nonsense { status: 418, ..Nonsense::json("{}") };
    let no_status = Nonsense { status: 500, ..Nonsense::json("<h1>Internal Server Error</h1>") };
    let deep = "[".repeat(100_000);
    let rows = [
        ("no JSON", Nonsense::json("hello")),
        ("other JSON", Nonsense::json("[1,2,3]")),
        ("nothing", Nonsense::json("")),
        ("half of it", Nonsense::json("{\"heads\":[{\"partition\":")),
        ("JSON that nests without end", Nonsense::json(&deep)),
        ("a page", html),
        ("another encoding", gzip),
        ("deflated, it says", not_deflated),
        ("another status", teapot),
        ("a page with a status", no_status),
    ];
    for (what, nonsense) in rows {
        let (edge, _) = linked(&world, nonsense).await;
        let heads = within(edge.link.heads()).await;
        assert!(matches!(&heads, Err(FeedError::Damaged(_))), "{what}: {heads:?}");
        let found = within(edge.link.find_session(Token::from_bytes([1; 32]))).await;
        assert_eq!(found, Err(LinkError::Away), "{what}");
        assert_eq!(edge.link.counts().nonsense, 2, "{what}");
    }
}

#[tokio::test]
async fn r23_a_body_without_end_ends_at_its_bound() {
    let world = World::new();
    let endless = Nonsense { for_ever: true, ..Nonsense::json(&" ".repeat(64 * 1024)) };
    let (edge, sent) = linked(&world, endless).await;
    let heads = within(edge.link.heads()).await;
    assert!(matches!(&heads, Err(FeedError::Damaged(why)) if why.contains("longer")), "{heads:?}");
    let sent = usize::try_from(sent.load(Ordering::Relaxed)).unwrap();
    assert!(sent < HEADS_LEN_MAX + 2 * 1024 * 1024, "{sent}: the bound and the windows");
}

#[tokio::test]
async fn r23_a_bomb_is_an_error() {
    let world = World::new();
    let mut bomb = ZlibEncoder::new(Vec::new(), Compression::best());
    let blank = vec![b' '; 1024 * 1024];
    for _ in 0..10 {
        std::io::Write::write_all(&mut bomb, &blank).unwrap();
    }
    let bomb = bomb.finish().unwrap();
    assert!(bomb.len() < BATCH_LEN_MAX / 10);
    let (edge, _) =
        linked(&world, Nonsense { encoding: "deflate", body: bomb.into(), ..Nonsense::json("") }).await;
    let partition = Partition::Project(ProjectId::from_bits(1));
    let page = within(edge.link.snapshot(partition, None, 10)).await;
    assert!(matches!(&page, Err(FeedError::Damaged(why)) if why.contains("longer")), "{page:?}");
}

#[tokio::test]
async fn a_control_node_that_keeps_answering_nonsense_is_left_for_another() {
    let world = World::new();
    let (at, _) = control(&world, Nonsense::json("hello")).await;
    let good = world.control().await;
    let limits = LinkLimits { question: Duration::from_secs(2), ..LinkLimits::default() };
    let edge = world.link_with(std::slice::from_ref(&at), limits);
    edge.connected().await;
    // Both listed: the edge stays where it is until that proves useless.
    edge.controls.send_replace(vec![at, good.at()]);
    let mut failed = 0;
    while within(edge.link.about(about())).await.is_err() {
        failed += 1;
        assert!(failed < 10, "the edge stays with a node that makes no sense");
    }
    assert_eq!(failed, 3);
    edge.connected_to(&good.at()).await;
}

#[tokio::test]
async fn a_control_node_whose_wake_falls_silent_is_left() {
    let world = World::new();
    // It answers PINGs and says nothing more after the first line.
    let (at, _) = control(&world, Nonsense::json("{}")).await;
    let good = world.control().await;
    let limits = LinkLimits { silence: Duration::from_millis(400), ..LinkLimits::default() };
    let edge = world.link_with(std::slice::from_ref(&at), limits);
    edge.connected().await;
    edge.controls.send_replace(vec![at, good.at()]);
    edge.connected_to(&good.at()).await;
    assert_eq!(edge.link.last_problem().unwrap().code, "edge.control_left");
}

#[tokio::test]
async fn the_only_control_node_is_kept_whatever_it_answers() {
    let world = World::new();
    let (edge, _) = linked(&world, Nonsense::json("hello")).await;
    for _ in 0..10 {
        assert_eq!(within(edge.link.about(about())).await, Err(LinkError::Away));
    }
    assert_eq!(edge.link.counts().connects, 1, "dialling again would change nothing");
}
