//! Bad networks between a warpgate and its edge: what a user sees of them, and what the upstream's log says.

use std::collections::HashMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use http::{Request, StatusCode, header};
use http_body_util::Full;
use mezusphere_tests::admin::{Admin, Shop};
use mezusphere_tests::client::{self, Target, h1};
use mezusphere_tests::netlab::Proxy;
use mezusphere_tests::netlab::{APPS, BASE, Lab, Place, Refusal, Wire};
use mezusphere_tests::program::Program;
use mezusphere_tests::recorder::{Outcome, Recorder};
use mezusphere_tests::upstream::Upstream;
use std::sync::Arc;
use tempfile::TempDir;

/// The public port of the edge.
const PORT: u16 = 443;

/// How soon a warpgate without UDP is ready (design §10).
const WITHOUT_UDP_WITHIN: Duration = Duration::from_secs(10);

/// How soon a tunnel is back once the network is (design §10).
const BACK_WITHIN: Duration = Duration::from_secs(6);

/// How much later than the product's bounds a step of a test may come: it asks every 20 ms, on a busy machine.
const SLACK: Duration = Duration::from_secs(1);

/// A server at the edge's place, an upstream beside the site, and what a client needs.
struct World {
    lab: Lab,
    upstream: Upstream,
    shop: Shop,
    target: Target,
    tls: Arc<rustls::ClientConfig>,
    gate: Option<Program>,
    server: Program,
    _data: TempDir,
}

impl World {
    async fn start() -> Result<Self> {
        let lab = Lab::build().await?;
        let data = tempfile::tempdir()?;
        let directory = data.path().display().to_string();
        let listen = SocketAddr::from(([0, 0, 0, 0], PORT)).to_string();
        let advertise = format!("edge.{BASE}:{PORT}");
        let words =
            ["serve", "--json", "--data", &directory, "--listen", &listen, "--base", BASE, "--apps", APPS];
        let words: Vec<&str> = words.into_iter().chain(["--advertise", &advertise]).collect();
        let server = lab.start(Place::Edge, "mezusphere", &words, &[])?;
        server.event("ready").await?;
        let mut shop = Admin::of(data.path()).seed_shop().await?;
        shop.host = format!("shop.{APPS}");
        let upstream = Upstream::listen(lab.beside_site()).await?;
        let target = Target {
            authority: shop.host.clone(),
            host: shop.host.clone(),
            address: SocketAddr::new(lab.edge(), PORT),
            path: "/r".to_owned(),
        };
        let tls = Arc::new(client::tls(&data.path().join("ca.pem"), &[b"http/1.1"])?);
        h1::until(&target, &tls, |status| status != StatusCode::NOT_FOUND).await?;
        Ok(Self { lab, upstream, shop, target, tls, gate: None, server, _data: data })
    }

    /// Starts the warpgate and says how long it took until it was ready.
    async fn connect(&mut self, environment: &[(&str, &str)]) -> Result<Duration> {
        let url = self.upstream.url();
        let arguments = ["connect", "--output", "json", "--log", "warpgate=debug", "--upstream", &url];
        let mut variables = vec![("WARPGATE_KEY", self.shop.connection_key.as_str())];
        variables.extend_from_slice(environment);
        let began = Instant::now();
        let gate = self.lab.start(Place::Site, "warpgate", &arguments, &variables)?;
        gate.event("ready").await?;
        let took = began.elapsed();
        self.gate = Some(gate);
        Ok(took)
    }

    fn recorder(&self) -> Recorder {
        Recorder::start(vec![self.target.clone()], Arc::clone(&self.tls), String::new())
    }

    async fn get(&self, path: &str) -> Result<(StatusCode, usize)> {
        let mut connection = h1::Connection::open(&self.target, &self.tls).await?;
        let request = Request::get(path).header(header::HOST, &self.target.authority).body(Full::default())?;
        let response = connection.fetch(request).await?;
        Ok((response.status(), response.body().len()))
    }

    /// Ends the warpgate in order.
    async fn leave(&mut self) -> Result<()> {
        let mut gate = self.gate.take().context("it runs")?;
        gate.signal("TERM").await?;
        anyhow::ensure!(gate.exit_code().await? == 0, "{}", gate.output().join("\n"));
        Ok(())
    }

    /// Asks until an answer comes; how long that was after `since`.
    async fn answers_again(&self, since: Instant) -> Result<Duration> {
        h1::until(&Target { path: "/up".to_owned(), ..self.target.clone() }, &self.tls, |status| {
            status == StatusCode::OK
        })
        .await?;
        Ok(since.elapsed())
    }

    /// Sends requests one after another for a while, and judges them.
    async fn live_through(&self, what: &str, how_long: Duration) -> Result<Seen> {
        self.upstream.forget();
        let recorder = self.recorder();
        tokio::time::sleep(how_long).await;
        let outcomes = recorder.stop().await?;
        let seen = Seen::of(&outcomes);
        writeln!(std::io::stdout(), "{}", seen.row(what, &self.tunnels()))?;
        self.judge(&outcomes)?;
        Ok(seen)
    }

    /// The upstream's own log is the judge: what was answered arrived, and nothing arrived twice.
    fn judge(&self, outcomes: &[Outcome]) -> Result<()> {
        if outcomes.iter().any(|outcome| !outcome.is_good()) {
            // What both ends said of the tunnel, for whoever looks into it.
            let said = self.gate.iter().chain([&self.server]).flat_map(Program::output);
            for line in said.filter(|line| line.contains("unnel")) {
                writeln!(std::io::stdout(), "{line}")?;
            }
        }
        let mut arrived: HashMap<u64, usize> = HashMap::new();
        for seen in self.upstream.seen() {
            let Some(number) = seen.target.strip_prefix("/r/") else { continue };
            *arrived.entry(number.parse()?).or_default() += 1;
        }
        anyhow::ensure!(arrived.values().all(|times| *times == 1), "a POST arrived twice: {arrived:?}");
        for outcome in outcomes.iter().filter(|outcome| outcome.is_good()) {
            anyhow::ensure!(arrived.contains_key(&outcome.number), "answered, never arrived: {outcome:?}");
        }
        Ok(())
    }

    /// Waits until it has. The warpgate says so when it is proven, which is after the first answer through it.
    async fn makes_more_tunnels_than(&self, before: usize) -> Result<()> {
        let made = async {
            while self.tunnels().len() <= before {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(Duration::from_mins(1), made).await.context("no other tunnel came")
    }

    /// The tunnels that the warpgate said it made, as `transport` names.
    fn tunnels(&self) -> Vec<String> {
        let said = self.gate.as_ref().map(Program::output).unwrap_or_default();
        let parsed = said.iter().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let connected = parsed.filter(|line| line["event"] == "edge_connected");
        connected.map(|line| line["transport"].as_str().unwrap_or("?").to_owned()).collect()
    }
}

fn is_full() -> bool {
    std::env::var_os("MEZU_FULL").is_some()
}

/// How long one kind of trouble lasts.
fn spell() -> Duration {
    Duration::from_secs(if is_full() { 60 } else { 8 })
}

/// What a client saw: how many requests were answered, how many were not, the longest time without an answer.
#[derive(Debug)]
struct Seen {
    good: usize,
    bad: Vec<String>,
    longest_gap: Duration,
}

impl Seen {
    fn of(outcomes: &[Outcome]) -> Self {
        let good: Vec<Instant> = outcomes.iter().filter(|o| o.is_good()).map(|o| o.at).collect();
        let bad = outcomes.iter().filter(|o| !o.is_good());
        let bad = bad.map(|o| format!("{:?} {}", o.answer, o.fault.as_deref().unwrap_or_default())).collect();
        let longest_gap = good.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default();
        Self { good: good.len(), bad, longest_gap }
    }

    /// A row of the fault table, for whoever reads the output.
    fn row(&self, what: &str, tunnels: &[String]) -> String {
        format!(
            "| {what} | {} answered, {} failed | longest gap {} ms | {} |",
            self.good,
            self.bad.len(),
            self.longest_gap.as_millis(),
            tunnels.join(" → ")
        )
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nat_that_forgets_every_translation_costs_no_request() -> Result<()> {
    let mut world = World::start().await?;
    world.connect(&[]).await?;
    let recorder = world.recorder();
    let rounds = if is_full() { 20 } else { 4 };
    for _ in 0..rounds {
        tokio::time::sleep(Duration::from_secs(2)).await;
        world.lab.rebind().await?;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let outcomes = recorder.stop().await?;
    let seen = Seen::of(&outcomes);
    println!("{}", seen.row(&format!("NAT rebinding, {rounds} times"), &world.tunnels()));
    world.judge(&outcomes)?;
    anyhow::ensure!(seen.bad.is_empty(), "{:?}", seen.bad);
    anyhow::ensure!(world.tunnels() == ["quic"], "one connection for all of it: {:?}", world.tunnels());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn where_udp_is_blocked_requests_go_over_tcp_and_return_to_quic_later() -> Result<()> {
    let mut world = World::start().await?;
    for how in [Refusal::Drop, Refusal::Reject] {
        world.lab.block_udp(how).await?;
        let took = world.connect(&[]).await?;
        println!(
            "| UDP blocked at the start, {how:?} | ready after {} ms | {} |",
            took.as_millis(),
            world.tunnels().join(" → ")
        );
        anyhow::ensure!(took <= WITHOUT_UDP_WITHIN, "{how:?}: ready after {took:?}");
        anyhow::ensure!(world.tunnels() == ["tcp"], "{:?}", world.tunnels());
        anyhow::ensure!(world.get("/up").await?.0 == StatusCode::OK);
        // Back to QUIC once UDP works, without losing a request on the way.
        let recorder = world.recorder();
        world.lab.heal().await?;
        let gate = world.gate.as_ref().context("it runs")?;
        let is_quic = |line: &str| line.contains("\"edge_connected\"") && line.contains("\"quic\"");
        gate.line("a tunnel over QUIC", is_quic).await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let outcomes = recorder.stop().await?;
        let seen = Seen::of(&outcomes);
        println!("{}", seen.row("UDP works again", &world.tunnels()));
        world.judge(&outcomes)?;
        anyhow::ensure!(seen.bad.is_empty(), "{:?}", seen.bad);
        world.upstream.forget();
        world.leave().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn udp_blocked_in_mid_flight_falls_back_to_tcp() -> Result<()> {
    let mut world = World::start().await?;
    world.connect(&[]).await?;
    for how in [Refusal::Drop, Refusal::Reject] {
        anyhow::ensure!(world.tunnels().last().is_some_and(|last| last == "quic"), "{:?}", world.tunnels());
        let recorder = world.recorder();
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.lab.block_udp(how).await?;
        let blocked = Instant::now();
        let back = world.answers_again(blocked).await?;
        tokio::time::sleep(spell()).await;
        let outcomes = recorder.stop().await?;
        println!(
            "{}",
            Seen::of(&outcomes).row(
                &format!("UDP blocked in mid-flight, {how:?}, back after {} ms", back.as_millis()),
                &world.tunnels(),
            )
        );
        world.judge(&outcomes)?;
        anyhow::ensure!(back <= WITHOUT_UDP_WITHIN + BACK_WITHIN, "{how:?}: answers again after {back:?}");
        world.lab.heal().await?;
        world.makes_more_tunnels_than(world.tunnels().len()).await.context("it stays on TCP")?;
        world.upstream.forget();
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_is_back_soon_after_the_network_is() -> Result<()> {
    let mut world = World::start().await?;
    world.connect(&[]).await?;
    let away = Duration::from_secs(if is_full() { 60 } else { 12 });
    world.lab.partition().await?;
    let cut = Instant::now();
    // A request that is on its way when the network goes is told so; later ones fail at once.
    let (status, noticed) = loop {
        let (status, _) = world.get("/up").await?;
        if status != StatusCode::OK {
            break (status, cut.elapsed());
        }
    };
    let asked = Instant::now();
    let (again, _) = world.get("/up").await?;
    let fails_fast = asked.elapsed();
    tokio::time::sleep(away.saturating_sub(cut.elapsed())).await;
    world.lab.heal().await?;
    let back = world.answers_again(Instant::now()).await?;
    println!(
        "| partition of {} s | {status} after {} ms, then {again} in {} ms | back {} ms after heal | {} |",
        away.as_secs(),
        noticed.as_millis(),
        fails_fast.as_millis(),
        back.as_millis(),
        world.tunnels().join(" → ")
    );
    anyhow::ensure!(noticed <= BACK_WITHIN + SLACK, "noticed after {noticed:?}");
    anyhow::ensure!(status.is_server_error() && again.is_server_error());
    anyhow::ensure!(fails_fast <= SLACK, "a later request failed after {fails_fast:?} only");
    anyhow::ensure!(back <= BACK_WITHIN + SLACK, "back after {back:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lossy_crooked_link_carries_every_request() -> Result<()> {
    let mut world = World::start().await?;
    world.connect(&[]).await?;
    for percent in [1, 5, 20] {
        let wire = Wire { delay_ms: 10, jitter_ms: 20, loss_percent: percent };
        let long = world.lab.lengthen(wire).await?;
        let seen =
            world.live_through(&format!("{percent} % loss, 10–30 ms with reordering"), spell()).await?;
        world.lab.shorten(long).await?;
        anyhow::ensure!(seen.bad.is_empty(), "{:?}", seen.bad);
    }
    anyhow::ensure!(world.tunnels().len() == 1, "the tunnel stays: {:?}", world.tunnels());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_satellite_link_connects_and_carries_requests() -> Result<()> {
    let mut world = World::start().await?;
    let long = world.lab.lengthen(Wire { delay_ms: 375, jitter_ms: 0, loss_percent: 0 }).await?;
    let took = world.connect(&[]).await?;
    println!("| round trip 750 ms | ready after {} ms | {} |", took.as_millis(), world.tunnels().join(" → "));
    anyhow::ensure!(world.tunnels() == ["quic"], "QUIC works, it only takes its time: {:?}", world.tunnels());
    world.lab.shorten(long).await?;
    // Packets that overtake one another too.
    let long = world.lab.lengthen(Wire { delay_ms: 375, jitter_ms: 5, loss_percent: 0 }).await?;
    let seen = world.live_through("round trip 750 ms", spell()).await?;
    anyhow::ensure!(seen.bad.is_empty(), "{:?}", seen.bad);
    anyhow::ensure!(world.tunnels().len() == 1, "{:?}", world.tunnels());
    world.lab.shorten(long).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_survives_the_loss_of_a_third_of_its_packets() -> Result<()> {
    let mut world = World::start().await?;
    world.lab.lose(30).await?;
    let rounds = if is_full() { 10 } else { 3 };
    let mut longest = Duration::ZERO;
    for _ in 0..rounds {
        longest = longest.max(world.connect(&[]).await?);
        world.leave().await?;
    }
    println!("| 30 % loss of handshakes, {rounds} times | ready after {} ms at most |", longest.as_millis());
    anyhow::ensure!(longest <= Duration::from_secs(20), "ready after {longest:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn black_outs_and_a_hole_for_large_packets_lose_nothing() -> Result<()> {
    let mut world = World::start().await?;
    world.lab.mtu_hole(1280).await?;
    let took = world.connect(&[]).await?;
    let (status, octets) = world.get("/bytes/3000000").await?;
    anyhow::ensure!((status, octets) == (StatusCode::OK, 3_000_000), "{status} {octets}");
    println!(
        "| nothing of 1280 octets passes | ready after {} ms, 3 MB whole | {} |",
        took.as_millis(),
        world.tunnels().join(" → ")
    );
    world.lab.heal().await?;
    let recorder = world.recorder();
    let rounds = if is_full() { 12 } else { 3 };
    for _ in 0..rounds {
        world.lab.partition().await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        world.lab.heal().await?;
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    let outcomes = recorder.stop().await?;
    let seen = Seen::of(&outcomes);
    println!("{}", seen.row("black-outs, 2 s in 5", &world.tunnels()));
    world.judge(&outcomes)?;
    anyhow::ensure!(seen.bad.is_empty(), "{:?}", seen.bad);
    anyhow::ensure!(world.tunnels().len() == 1, "{:?}", world.tunnels());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bulk_transfer_on_a_narrow_link_does_not_hold_up_small_requests() -> Result<()> {
    beside_a_bulk_transfer(false).await
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_does_it_over_tcp() -> Result<()> {
    // Three quarters of a minute for what the short run shows over QUIC.
    if std::env::var_os("MEZU_FULL").is_none() {
        return Ok(());
    }
    beside_a_bulk_transfer(true).await
}

async fn beside_a_bulk_transfer(over_tcp: bool) -> Result<()> {
    let mut world = World::start().await?;
    if over_tcp {
        world.lab.block_udp(Refusal::Reject).await?;
    }
    world.connect(&[]).await?;
    let transport = if over_tcp { "tcp" } else { "quic" };
    anyhow::ensure!(world.tunnels() == [transport], "{:?}", world.tunnels());
    world.lab.narrow(1000).await?;
    let before = world.live_through("1 Mbit/s, idle", spell()).await?;
    let bulk = {
        let (target, tls) = (world.target.clone(), Arc::clone(&world.tls));
        tokio::spawn(async move {
            let mut connection = h1::Connection::open(&target, &tls).await?;
            let request = Request::get("/bytes/50000000").header(header::HOST, &target.authority);
            anyhow::Ok(connection.fetch(request.body(Full::default())?).await?.status())
        })
    };
    tokio::time::sleep(Duration::from_secs(2)).await;
    // Long enough for pings that are held up to end the tunnel.
    let during = world.live_through("1 Mbit/s, beside a bulk transfer", spell() * 3).await?;
    anyhow::ensure!(!bulk.is_finished(), "the bulk transfer ended too early to tell");
    bulk.abort();
    anyhow::ensure!(before.bad.is_empty() && during.bad.is_empty(), "{:?} {:?}", before.bad, during.bad);
    anyhow::ensure!(world.tunnels().len() == 1, "the tunnel stays: {:?}", world.tunnels());
    let bound = Duration::from_secs(if over_tcp { 5 } else { 2 });
    anyhow::ensure!(during.longest_gap <= bound, "a small request took {:?}", during.longest_gap);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn where_only_a_proxy_leads_out_the_tunnel_goes_through_it() -> Result<()> {
    let mut world = World::start().await?;
    let proxy = Proxy::start(SocketAddr::new(world.lab.beside_site().ip(), 0), world.target.address).await?;
    world.lab.partition().await?;
    let url = format!("http://ada:s3cret@{}", proxy.address);
    let took = world.connect(&[("HTTPS_PROXY", &url)]).await?;
    println!(
        "| only an HTTP proxy leads out | ready after {} ms | {} |",
        took.as_millis(),
        world.tunnels().join(" → ")
    );
    anyhow::ensure!(took <= WITHOUT_UDP_WITHIN, "{took:?}");
    anyhow::ensure!(world.get("/up").await?.0 == StatusCode::OK);
    let asked = proxy.asked();
    anyhow::ensure!(
        asked.iter().all(|ask| ask.starts_with("CONNECT ") && ask.contains("proxy-authorization: Basic ")),
        "{asked:?}"
    );
    let said = world.gate.as_ref().context("it runs")?.output().join("\n");
    anyhow::ensure!(!said.contains("s3cret"), "the proxy's password is in the output");
    Ok(())
}
