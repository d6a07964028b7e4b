//! How fast the end of a session, of an account, of a permission is the end of everything it was good for: at two edges, for
//! requests and for streams that are open (R12).
//!
//! `MEZU_FULL` makes a hundred runs and holds their 99th percentile to 2 s; otherwise there is one of each kind, held to
//! the 5 s that none may ever take.

mod open;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use http::{Request, StatusCode, header};
use http_body_util::Full;
use mezusphere_tests::admin::Shop;
use mezusphere_tests::client::browser::Browser;
use mezusphere_tests::client::h1;
use mezusphere_tests::cluster::Cluster;
use mezusphere_tests::program::Program;
use mezusphere_tests::stats::Latencies;
use mezusphere_tests::system::connect;
use mezusphere_tests::workload::Workload;
use serde_json::Value;

use self::open::Ended;

const EDGES: usize = 2;

/// Between two requests of a probe.
const PROBE_EVERY: Duration = Duration::from_millis(50);

/// No end may ever take longer (R12).
const WITHIN_MAX: Duration = Duration::from_secs(5);

/// And 99 of 100 no longer than this.
const WITHIN_P99: Duration = Duration::from_secs(2);

/// Runs of each kind with `MEZU_FULL`: a hundred in all.
const RUNS_FULL: usize = 20;

/// What ends it all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    SignOut,
    PasswordChange,
    Suspension,
    RoleRemoval,
    PolicyChange,
}

const KINDS: [Kind; 5] =
    [Kind::SignOut, Kind::PasswordChange, Kind::Suspension, Kind::RoleRemoval, Kind::PolicyChange];

struct World {
    cluster: Cluster,
    workload: Arc<Workload>,
    shop: Shop,
    _gate: Program,
}

impl World {
    async fn start() -> Result<Self> {
        let cluster = Cluster::start(EDGES, &[]).await?;
        let workload = Arc::new(Workload::start().await?);
        let shop = cluster.admin().seed_shop().await?;
        let admin = cluster.admin();
        admin.run(&["role", "set", "shop", "staff"]).await?;
        let live = ["--auth", "required", "--role", "customer", "--strip-prefix", "/live"];
        admin.run(&[&["route", "add", "shop", "/live/*"], &live[..]].concat()).await?;
        cluster.routes(&shop.host, "/live/told").await?;
        let gate = connect(&shop.connection_key, &workload.h1()).await?;
        let world = Self { cluster, workload, shop, _gate: gate };
        for edge in 0..EDGES {
            let target = world.cluster.target(edge, &world.shop.host, "/told")?;
            let ok = |status| status == StatusCode::OK;
            h1::until(&target, &world.cluster.tls(b"http/1.1")?, ok).await?;
        }
        Ok(world)
    }

    /// Somebody's browser, signed in through the first edge, and the cookie that is good on every edge.
    async fn sign_in(&self, email: &str, password: &str) -> Result<(Browser, String)> {
        let mut browser = Browser::new(&self.cluster.roots());
        browser.resolve_to(self.cluster.edges[0].address);
        let arrived =
            browser.sign_in(&self.cluster.url(&self.shop.host, "/live/told"), email, password).await?;
        ensure!(arrived.status == StatusCode::OK, "{} {}", arrived.status, arrived.body);
        let cookies = browser.cookies(&self.shop.host);
        let session = cookies.get("__Host-mezu-session").context("a session cookie")?;
        Ok((browser, format!("__Host-mezu-session={session}")))
    }

    /// Ends the session; gives what undoes it.
    async fn end(&self, kind: Kind, browser: &mut Browser, password: &mut String) -> Result<Instant> {
        let (admin, email) = (self.cluster.admin(), self.shop.email.as_str());
        match kind {
            Kind::SignOut => {
                let form = self.cluster.url(&self.shop.host, "/.mezu/sign-out");
                let page = browser.navigate(&form).await?;
                let done = browser.submit(&page, &[]).await?;
                ensure!(done.status.is_success(), "{} {}", done.status, done.body);
            }
            Kind::PasswordChange => {
                let set = admin.run(&["user", "set-password", "shop", email]).await?;
                set.get("password").and_then(Value::as_str).context("a password")?.clone_into(password);
            }
            Kind::Suspension => drop(admin.run(&["user", "suspend", "shop", email]).await?),
            Kind::RoleRemoval => drop(admin.run(&["user", "set-roles", "shop", email]).await?),
            Kind::PolicyChange => {
                drop(admin.run(&["route", "set", "shop", "/live/*", "--role", "staff"]).await?);
            }
        }
        // The commands end after their commit, so this is a little less than the whole way.
        Ok(Instant::now())
    }

    async fn undo(&self, kind: Kind) -> Result<()> {
        let (admin, email) = (self.cluster.admin(), self.shop.email.as_str());
        match kind {
            Kind::SignOut | Kind::PasswordChange => {}
            Kind::Suspension => drop(admin.run(&["user", "activate", "shop", email]).await?),
            Kind::RoleRemoval => {
                drop(admin.run(&["user", "set-roles", "shop", email, "--role", "customer"]).await?);
            }
            Kind::PolicyChange => {
                drop(admin.run(&["route", "set", "shop", "/live/*", "--role", "customer"]).await?);
            }
        }
        Ok(())
    }

    /// Asks one edge every 50 ms, until it does not let the cookie's holder through any more; when that was.
    async fn probe(
        &self,
        edge: usize,
        cookie: String,
    ) -> Result<impl Future<Output = Result<Instant>> + use<>> {
        let target = self.cluster.target(edge, &self.shop.host, "/live/told")?;
        let tls = self.cluster.tls(b"http/1.1")?;
        let mut connection = h1::Connection::open(&target, &tls).await?;
        let asked = target.clone();
        let ask = move || {
            let request = Request::get(&asked.path).header(header::HOST, &asked.authority);
            request.header(header::COOKIE, &cookie).body(Full::default())
        };
        ensure!(connection.fetch(ask()?).await?.status() == StatusCode::OK, "edge {edge} knows the session");
        Ok(async move {
            loop {
                tokio::time::sleep(PROBE_EVERY).await;
                let answer = connection.fetch(ask()?).await;
                let at = Instant::now();
                match answer {
                    Ok(answer) if answer.status() == StatusCode::OK => {}
                    Ok(_) => return Ok(at),
                    // What was under way at that moment is cut, as all that is open; the next one is told.
                    Err(_) => {
                        connection = h1::Connection::open(&target, &tls).await?;
                        let status = connection.fetch(ask()?).await?.status();
                        ensure!(status != StatusCode::OK, "a request was cut, and the next one was not");
                        return Ok(at);
                    }
                }
            }
        })
    }
}

/// How what is open may end.
fn may_end(kind: Kind, name: &str, ended: &Ended) -> bool {
    let code = match kind {
        Kind::SignOut | Kind::PasswordChange | Kind::Suspension => 4401,
        Kind::RoleRemoval | Kind::PolicyChange => 4403,
    };
    if name.contains("WebSocket") {
        *ended == Ended::Closed(code)
    } else if name.contains("upload") {
        matches!(ended, Ended::Answered(401 | 403) | Ended::Cut)
    } else {
        *ended == Ended::Cut
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r12_what_ends_a_session_ends_requests_and_open_streams_at_every_edge() -> Result<()> {
    let is_full = std::env::var_os("MEZU_FULL").is_some();
    let world = World::start().await?;
    let mut password = world.shop.password.clone();
    let mut took: BTreeMap<String, Latencies> = BTreeMap::new();
    let mut all = Latencies::default();
    for run in 0..if is_full { RUNS_FULL * KINDS.len() } else { KINDS.len() } {
        let kind = KINDS[run % KINDS.len()];
        let (mut browser, cookie) = world.sign_in(&world.shop.email, &password).await?;
        let (mut open, mut probes) = (Vec::new(), Vec::new());
        for edge in 0..EDGES {
            probes.push(tokio::spawn(world.probe(edge, cookie.clone()).await?));
            open.extend(open::every_kind(&world, edge, &cookie, run).await.context("to open")?);
        }
        let committed = world.end(kind, &mut browser, &mut password).await?;
        let mut note = |what: String, after: Duration| -> Result<()> {
            ensure!(after <= WITHIN_MAX, "{kind:?}: {what} ended after {after:?}");
            took.entry(what).or_default().add(after.as_micros());
            all.add(after.as_micros());
            Ok(())
        };
        for (edge, probe) in probes.into_iter().enumerate() {
            let at = tokio::time::timeout(Duration::from_secs(20), probe).await.context("a probe")???;
            note(format!("requests at edge {edge}"), at.saturating_duration_since(committed))?;
        }
        for stream in open {
            let name = stream.name.clone();
            let (after, ended) = stream.ended(committed).await?;
            ensure!(may_end(kind, &name, &ended), "{kind:?}: {name} ended as {ended:?}");
            note(name, after)?;
        }
        world.undo(kind).await?;
        world.workload.forget();
    }
    for (what, took) in &mut took {
        let (p50, p99) = (took.percentile(50.0) / 1000, took.percentile(99.0) / 1000);
        println!("{what}: p50 {p50} ms, p99 {p99} ms over {}", took.count());
    }
    let (p50, p99) = (all.percentile(50.0), all.percentile(99.0));
    println!("all: p50 {} ms, p99 {} ms over {}", p50 / 1000, p99 / 1000, all.count());
    let bound = WITHIN_P99.as_micros();
    ensure!(u128::from(p50) <= bound, "half of them take {p50} µs");
    ensure!(!is_full || u128::from(p99) <= bound, "p99 {p99} µs");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn r12_a_deleted_account_and_a_route_taken_away_leave_nothing_open() -> Result<()> {
    let world = World::start().await?;
    let admin = world.cluster.admin();
    let create = ["user", "create", "shop", "bob@example.com", "--name", "Bob", "--role", "customer"];
    let made = admin.run(&create).await?;
    let password = made.get("password").and_then(Value::as_str).context("a password")?.to_owned();
    for what in ["the account", "the route"] {
        let (email, password) = match what {
            "the account" => ("bob@example.com", password.as_str()),
            _ => (world.shop.email.as_str(), world.shop.password.as_str()),
        };
        let (_browser, cookie) = world.sign_in(email, password).await?;
        let mut open = Vec::new();
        for edge in 0..EDGES {
            open.extend(open::every_kind(&world, edge, &cookie, 0).await?);
        }
        if what == "the account" {
            admin.run(&["user", "delete", "shop", email]).await?;
        } else {
            admin.run(&["route", "remove", "shop", "/live/*"]).await?;
        }
        let committed = Instant::now();
        for stream in open {
            let name = stream.name.clone();
            let (after, ended) = stream.ended(committed).await?;
            println!("{what}: {name} ended after {after:?} as {ended:?}");
            ensure!(after <= WITHIN_MAX, "{what}: {name} ended after {after:?}");
        }
        world.workload.forget();
    }
    Ok(())
}

/// Every edge stops letting the cookie's holder through, because of `ends`.
async fn ends(world: &World, what: &str, cookie: &str, ends: impl Future<Output = Result<()>>) -> Result<()> {
    let mut probes = Vec::new();
    for edge in 0..EDGES {
        probes.push(world.probe(edge, cookie.to_owned()).await?);
    }
    ends.await?;
    for (edge, probe) in probes.into_iter().enumerate() {
        tokio::time::timeout(WITHIN_MAX, probe)
            .await
            .with_context(|| format!("{what}: edge {edge} goes on"))??;
    }
    Ok(())
}

/// One of a user's sign-ins, ended by its id, leaves the others; and a session ends when its browser gets another (R11).
async fn one_of_two(world: &World) -> Result<()> {
    let (admin, email) = (world.cluster.admin(), world.shop.email.as_str());
    let (_, lost) = world.sign_in(email, &world.shop.password).await?;
    let listed = admin.run(&["user", "sessions", "shop", email]).await?;
    let id = listed.pointer("/0/id").and_then(Value::as_str).context("its id")?.to_owned();
    let (mut browser, cookie) = world.sign_in(email, &world.shop.password).await?;
    let end = async { admin.run(&["user", "sign-out", "shop", email, "--session", &id]).await.map(drop) };
    ends(world, "ended by its id", &lost, end).await?;

    // The way to sign in is that of a stranger; the session is with the browser again when it comes back.
    let url = world.cluster.url(&world.shop.host, "/live/told");
    let (name, old) = cookie.split_once('=').context("a cookie")?;
    let replaced = async {
        browser.set_cookie(&world.shop.host, name, "nobodys");
        let way = browser.load(&url).await?;
        browser.set_cookie(&world.shop.host, name, old);
        let location = way.headers.get(header::LOCATION).context("the way to sign in")?.to_str()?;
        let back = browser.navigate(location).await?;
        ensure!(back.status == StatusCode::OK, "{} {}", back.status, back.body);
        Ok(())
    };
    ends(world, "replaced", &cookie, replaced).await?;
    let new = browser.cookies(&world.shop.host).remove(name).context("a session")?;
    ensure!(new != old, "a session is replaced by another");
    // It is good at each of them, and the sign-in it came of was never touched.
    for edge in 0..EDGES {
        drop(world.probe(edge, format!("{name}={new}")).await?);
    }
    Ok(())
}

/// Nothing is left of a sign-in that ended on one host, wherever else it was open.
#[tokio::test(flavor = "multi_thread")]
async fn r11_r12_what_ends_one_session_leaves_the_others_and_signing_out_leaves_none() -> Result<()> {
    let world = World::start().await?;
    one_of_two(&world).await?;
    let admin = world.cluster.admin();
    admin.run(&["environment", "create", "shop", "staging"]).await?;
    let staging = "shop--staging.localhost";
    let route = ["route", "add", "shop", "/told", "--environment", "staging", "--auth", "required"];
    admin.run(&[&route[..], &["--role", "customer"]].concat()).await?;
    world.cluster.routes(staging, "/told").await?;
    let (mut browser, cookie) = world.sign_in(&world.shop.email, &world.shop.password).await?;
    // Single sign-on: no form on the way. Without a warpgate there the answer is 503, behind the sign-in.
    browser.navigate(&world.cluster.url(staging, "/told")).await?;
    let other = browser.cookies(staging).remove("__Host-mezu-session").context("a session there too")?;
    let other = format!("__Host-mezu-session={other}");
    let mut open = Vec::new();
    for edge in 0..EDGES {
        open.extend(open::every_kind(&world, edge, &cookie, 0).await?);
    }
    let page = browser.navigate(&world.cluster.url(staging, "/.mezu/sign-out")).await?;
    browser.submit(&page, &[]).await?;
    let committed = Instant::now();
    for stream in open {
        let name = stream.name.clone();
        let (after, _) = stream.ended(committed).await?;
        ensure!(after <= WITHIN_MAX, "{name} ended after {after:?}");
    }
    for edge in 0..EDGES {
        for (host, path, cookie) in
            [(world.shop.host.as_str(), "/live/told", &cookie), (staging, "/told", &other)]
        {
            let target = world.cluster.target(edge, host, path)?;
            let mut connection = h1::Connection::open(&target, &world.cluster.tls(b"http/1.1")?).await?;
            let request = Request::get(&target.path)
                .header(header::HOST, &target.authority)
                .header(header::COOKIE, cookie)
                .body(Full::default())?;
            let status = connection.fetch(request).await?.status();
            ensure!(status == StatusCode::UNAUTHORIZED, "edge {edge}, {host}: {status}");
        }
    }
    Ok(())
}
