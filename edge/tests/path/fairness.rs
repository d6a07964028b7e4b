//! Nobody starves another: floods of one project, readers that stand still, and the memory for both.
//!
//! Figures are compared with ones measured a moment before on the same machine, never with the clock on the wall.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ::http::{Method, Request, Response};
use bytes::Bytes;
use futures_util::future::join_all;
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt as _, StreamBody};
use mezusphere_edge::FairLimits;
use mezusphere_edge::http::{Body, BoxError, Protocol};
use mezusphere_model::route::AuthMode;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tunnel_proto::limits::STREAM_WINDOW;

use crate::warpgate::Exchange;
use crate::world::{SOON, World, code, connection, empty, get, read, request};

/// Whether the long variants are wanted.
fn is_full() -> bool {
    std::env::var_os("MEZU_FULL").is_some_and(|value| value == "1")
}

/// An upstream that thinks for a while.
async fn thoughtful(exchange: Exchange) {
    tokio::time::sleep(Duration::from_millis(100)).await;
    exchange.respond(200, &[("content-length", "2")], b"ok").await;
}

/// An upstream without an end. `sent` counts its pieces.
async fn endless(mut exchange: Exchange, sent: &AtomicUsize) {
    exchange.begin(200, &[]).await;
    let piece = Bytes::from(vec![b'x'; 16 * 1024]);
    while exchange.data(piece.clone()).await {
        sent.fetch_add(1, Ordering::Relaxed);
    }
}

async fn upstream(exchange: Exchange, sent: &AtomicUsize) {
    if exchange.head().target.starts_with("/public/endless") {
        endless(exchange, sent).await;
    } else {
        exchange.respond(200, &[("content-length", "2")], b"ok").await;
    }
}

fn blog() -> Request<Body> {
    request(Method::GET, "https://blog.localhost:8443/x", &[], empty())
}

/// The 99th percentile of how long `count` requests take, a few at a time; all of them must be answered.
async fn p99(world: &World, count: usize, ask: impl Fn() -> Request<Body>) -> Duration {
    let ask = &ask;
    let each = join_all((0..4).map(|_| async move {
        let mut taken = Vec::new();
        for _ in 0..count / 4 {
            let begun = Instant::now();
            let (status, headers, _) = read(world.send(ask()).await).await;
            taken.push(begun.elapsed());
            assert_eq!(status, 200, "{:?}", headers.get("mezu-error"));
        }
        taken
    }));
    let mut taken: Vec<_> = each.await.into_iter().flatten().collect();
    taken.sort_unstable();
    taken[taken.len() * 99 / 100]
}

/// Measures a p99 alone and beside something, until the second is within twice the first. A busy machine may spoil a round;
/// what harms others spoils every one.
async fn rounds(beside_what: &str, round: impl AsyncFn() -> (Duration, Duration)) {
    let mut seen = Vec::new();
    for _ in 0..5 {
        let (alone, beside) = round().await;
        if beside < alone * 2 {
            return;
        }
        seen.push((alone, beside));
    }
    panic!("beside {beside_what}: {seen:?}");
}

/// Polls until `is` holds.
async fn until(what: &str, is: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < SOON, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn r23_a_flood_by_one_project_is_refused_and_leaves_anothers_p99_within_twice() {
    let world = Arc::new(World::fair(&FairLimits { exchanges: 64, ..FairLimits::default() }));
    let _shop = world.warpgate(6, thoughtful).await;
    let _blog = world.blogs_warpgate(16, thoughtful).await;
    world.publish_blog(|site| site.routes[0].auth = AuthMode::Public).await;
    let count = if is_full() { 2000 } else { 120 };
    rounds("a flood", async || {
        let quiet = p99(&world, count, blog).await;
        let flood = Flood::begin(&world);
        until("the flood", || flood.refused.load(Ordering::Relaxed) > 100).await;
        let flooded = p99(&world, count, blog).await;
        assert!(flood.answered.load(Ordering::Relaxed) > 100, "the flood has its share all the same");
        flood.end().await;
        (quiet.max(p99(&world, count, blog).await), flooded)
    })
    .await;
}

/// A hundred clients, each with an address of its own, that ask for more than the shop's share and never tire.
struct Flood {
    clients: JoinSet<()>,
    answered: Arc<AtomicUsize>,
    refused: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
}

impl Flood {
    fn begin(world: &Arc<World>) -> Self {
        let (answered, refused): (Arc<AtomicUsize>, Arc<AtomicUsize>) = Default::default();
        let mut flood =
            Self { clients: JoinSet::new(), answered, refused, is_over: Arc::new(AtomicBool::new(false)) };
        for n in 0..100 {
            let mut info = connection(Protocol::H2);
            info.client.set_ip([198, 51, 100, n].into());
            let (world, is_over) = (Arc::clone(world), Arc::clone(&flood.is_over));
            let (answered, refused) = (Arc::clone(&flood.answered), Arc::clone(&flood.refused));
            flood.clients.spawn(async move {
                while !is_over.load(Ordering::Relaxed) {
                    let response = world.server.handle(get("/public/x"), &info).await;
                    if response.status() == 200 {
                        answered.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    let why = response.headers()["mezu-error"].to_str().unwrap();
                    assert!(why.starts_with("edge.project_busy; hop=edge"), "{why}");
                    assert_eq!(response.headers()["retry-after"], "1");
                    // And asks again at once, whatever it was told.
                    refused.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        flood
    }

    async fn end(mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            ended.unwrap();
        }
    }
}

/// Begins to read an endless response, and stops.
async fn stall(world: &World) -> Response<Body> {
    let mut response = world.send(get("/public/endless")).await;
    assert_eq!(response.status(), 200);
    response.body_mut().frame().await.unwrap().unwrap();
    response
}

#[tokio::test]
async fn r23_two_hundred_readers_that_stand_still_leave_the_others_p99_unmoved() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    // The tests' clock stands still: what was spent of a rate does not come back.
    let world = World::fair(&FairLimits { project_requests_per_second: u32::MAX, ..FairLimits::default() });
    let _warpgate = world
        .warpgate(6, move |exchange| {
            let sent = Arc::clone(&counter);
            async move { upstream(exchange, &sent).await }
        })
        .await;
    world.settle().await;
    let count = if is_full() { 20_000 } else { 1000 };
    let small = || get("/public/x");
    rounds("200 readers that stand still", async || {
        let before = p99(&world, count, small).await;
        let mut stalled = Vec::new();
        for _ in 0..200 {
            stalled.push(stall(&world).await);
        }
        let held = || gauge(&world, "test_edge_bodies_held_octets");
        until("their windows are counted", || held() >= 200 * u64::from(STREAM_WINDOW)).await;
        // Until all their windows are full, nobody stands still.
        let mut before_that = 0;
        while before_that != sent.load(Ordering::Relaxed) {
            before_that = sent.load(Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        assert_eq!(gauge(&world, "test_edge_exchanges"), 200);
        let beside = p99(&world, count, small).await;
        drop(stalled);
        until("their places are given back", || gauge(&world, "test_edge_exchanges") == 0).await;
        until("nothing is held", || held() == 0).await;
        (before.max(p99(&world, count, small).await), beside)
    })
    .await;
}

fn gauge(world: &World, name: &str) -> u64 {
    let metrics = world.metrics.encode();
    let line = metrics.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn r23_beyond_the_budget_the_readers_that_stand_still_longest_are_cut_and_no_other() {
    let budget = 8 * u64::from(STREAM_WINDOW);
    let limits =
        FairLimits { bodies_held: budget, stalled: Duration::from_millis(200), ..FairLimits::default() };
    let world = World::fair(&limits);
    let ended = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&ended);
    let _warpgate = world
        .warpgate(6, move |exchange| {
            let ended = Arc::clone(&counter);
            async move {
                upstream(exchange, &AtomicUsize::new(0)).await;
                ended.fetch_add(1, Ordering::Relaxed);
            }
        })
        .await;
    let mut eager = world.send(get("/public/endless")).await;
    let mut first = stall(&world).await;
    let mut stalled = Vec::new();
    for _ in 0..15 {
        stalled.push(stall(&world).await);
    }
    let begun = Instant::now();
    // One that reads all the time, while the others stand still. Eight of the sixteen fit: how many more go depends on how
    // many stood still already when the ledger was looked through.
    while ended.load(Ordering::Relaxed) < 8 {
        assert!(begun.elapsed() < SOON, "the upstreams are told to stop");
        eager.body_mut().frame().await.unwrap().unwrap();
    }
    until("no more is held than may be", || gauge(&world, "test_edge_bodies_held_octets") <= budget).await;
    assert!(gauge(&world, "test_edge_bodies_shed_total") >= 8);
    assert!(first.body_mut().frame().await.unwrap().is_err(), "the oldest finds it broken, not whole");
    assert!(!first.body_mut().is_end_stream());
    let youngest = stalled.last_mut().unwrap();
    assert!(youngest.body_mut().frame().await.unwrap().is_ok(), "whoever stalled last is still there");
    assert_eq!(read(world.send(get("/public/x")).await).await.2, b"ok");
}

#[tokio::test]
async fn r23_beyond_the_budget_uploads_that_an_upstream_does_not_take_are_given_up_too() {
    let limits = FairLimits {
        bodies_held: 2 * 1024 * 1024,
        stalled: Duration::from_millis(200),
        ..FairLimits::default()
    };
    let world = Arc::new(World::fair(&limits));
    let (wake, woken) = watch::channel(false);
    let _warpgate = world
        .warpgate(6, move |mut exchange| {
            let mut woken = woken.clone();
            async move {
                woken.wait_for(|woken| *woken).await.unwrap();
                assert!(exchange.body().await.is_none(), "a body that was given up never looks whole");
            }
        })
        .await;
    world.settle().await;
    let mut uploads = JoinSet::new();
    let gone = Arc::new(AtomicUsize::new(0));
    for _ in 0..20 {
        let (world, held) = (Arc::clone(&world), Dropped(Arc::clone(&gone)));
        uploads.spawn(async move {
            let pieces = futures_util::stream::repeat_with(move || {
                let _held = &held;
                Ok::<_, BoxError>(Frame::data(Bytes::from_static(&[b'x'; 16 * 1024])))
            });
            let body = Body::new(StreamBody::new(pieces));
            code(world.send(request(Method::POST, "/public/x", &[], body)).await).await
        });
    }
    until("most bodies are let go of", || gone.load(Ordering::Relaxed) >= 14).await;
    assert_eq!(
        u64::try_from(gone.load(Ordering::Relaxed)).unwrap(),
        gauge(&world, "test_edge_bodies_shed_total")
    );
    wake.send(true).unwrap();
    let mut told = 0;
    while told < 14 {
        let answer = tokio::time::timeout(SOON, uploads.join_next()).await.unwrap().unwrap().unwrap();
        assert_eq!(answer, (503, "edge.overloaded".to_owned()));
        told += 1;
    }
}

/// Counts when it goes.
struct Dropped(Arc<AtomicUsize>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}
