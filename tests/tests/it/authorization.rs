//! Who may use a route: claims, networks, strength and age of a sign-in, dry runs; each set by the command an operator types, and
//! seen from outside, down to what the workload gets.

use std::time::Duration;

use anyhow::{Context as _, Result};
use http::{Request, StatusCode, header};
use http_body_util::Full;
use mezusphere_tests::admin::Shop;
use mezusphere_tests::client::browser::{Arrived, Browser};
use mezusphere_tests::client::h1;
use mezusphere_tests::program::Program;
use mezusphere_tests::system::Node;
use mezusphere_tests::upstream::Upstream;
use serde_json::Value;

/// How long a change may take to act; design says a second, and test machines are busy.
const ACTS_WITHIN: Duration = Duration::from_secs(20);

/// The youngest a sign-in may be asked to be, and as much again for a busy machine.
const AGES_WITHIN: Duration = Duration::from_secs(90);

/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

struct Scene {
    node: Node,
    shop: Shop,
    upstream: Upstream,
    browser: Browser,
    _gate: Program,
}

impl Scene {
    /// A shop where Ada is signed in.
    async fn start() -> Result<Self> {
        let node = Node::start(&[]).await?;
        let upstream = Upstream::start().await?;
        let shop = node.seed_shop().await?;
        let gate = node.connect(&shop.connection_key, &upstream.url()).await?;
        node.tunnelled(&shop.host).await?;
        let mut browser = Browser::new(&node.roots());
        let account = format!("https://{}:{}/account/", shop.host, node.port);
        let arrived = browser.sign_in(&account, &shop.email, &shop.password).await?;
        anyhow::ensure!(arrived.status == StatusCode::OK, "{} {}", arrived.url, arrived.body);
        Ok(Self { node, shop, upstream, browser, _gate: gate })
    }

    fn url(&self, path: &str) -> String {
        format!("https://{}:{}{path}", self.shop.host, self.node.port)
    }

    async fn route(&self, verb: &str, path: &str, flags: &[&str]) -> Result<Value> {
        self.node.admin(&[&["route", verb, "shop", path], flags].concat()).await
    }

    /// What Ada's browser gets, without following redirects, once it is `wanted`.
    async fn until(&mut self, path: &str, wanted: u16, within: Duration) -> Result<Arrived> {
        let url = self.url(path);
        let mut last = String::new();
        let search = async {
            loop {
                let arrived = self.browser.load(&url).await?;
                if arrived.status.as_u16() == wanted {
                    return anyhow::Ok(arrived);
                }
                last = format!("{} {}", arrived.status, arrived.body);
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        match tokio::time::timeout(within, search).await {
            Ok(found) => found,
            Err(_) => anyhow::bail!("{path} was never {wanted}: {last}"),
        }
    }

    /// What a program gets, with Ada's cookies or as a stranger.
    async fn program(&self, path: &str, as_ada: bool) -> Result<http::Response<bytes::Bytes>> {
        let target = self.node.target(&self.shop.host, path)?;
        let mut request = Request::get(path)
            .header(header::HOST, &target.authority)
            .header(header::ACCEPT, "application/json");
        if as_ada {
            let cookies = self.browser.cookies(&self.shop.host);
            let pairs: Vec<String> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            request = request.header(header::COOKIE, pairs.join("; "));
        }
        let mut connection = h1::Connection::open(&target, &self.node.tls(b"http/1.1")?).await?;
        connection.fetch(request.body(Full::default())?).await
    }

    /// A program's refusal: its status, and a field of the problem document.
    async fn refusal(&self, path: &str, as_ada: bool, field: &str) -> Result<(u16, String)> {
        let answer = self.program(path, as_ada).await?;
        let problem: Value = serde_json::from_slice(answer.body())
            .with_context(|| String::from_utf8_lossy(answer.body()).into_owned())?;
        let word = problem.get(field).and_then(Value::as_str).unwrap_or_default();
        Ok((answer.status().as_u16(), word.to_owned()))
    }

    fn reached(&self, path: &str) -> usize {
        self.upstream.seen_at(path).len()
    }

    async fn explained(&self, path: &str, from: &str) -> Result<Value> {
        let user = self.shop.email.as_str();
        let told =
            self.node.admin(&["route", "explain", "shop", path, "--user", user, "--from", from]).await?;
        told.get("verdict").cloned().context("a verdict")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r01_a_claim_and_a_network_decide_who_reaches_the_workload() -> Result<()> {
    let mut scene = Scene::start().await?;
    scene.route("add", "/pro/*", &["--auth", "required", "--require-claim", "plan=pro,team"]).await?;
    let page = scene.until("/pro/ready", 403, ACTS_WITHIN).await?;
    for part in
        ["Your account may not use this page.", "ada@example.com", "Use another account", "then=sign-in"]
    {
        assert!(page.body.contains(part), "{part}: {}", page.body);
    }
    assert!(!page.body.contains("plan"), "which claim it is stays with the owner: {}", page.body);
    assert_eq!(scene.refusal("/pro/x", true, "reason").await?, (403, "claim".to_owned()));
    assert_eq!(scene.explained("/pro/x", "127.0.0.1").await?["code"], "claim");
    assert_eq!(scene.reached("/pro/x"), 0);
    scene.node.admin(&["user", "set", "shop", &scene.shop.email, "--claim", "plan=team"]).await?;
    scene.until("/pro/x", 200, ACTS_WITHIN).await?;
    assert_eq!(scene.reached("/pro/x"), 1);

    // The tests' clients are at 127.0.0.1.
    scene.route("add", "/office/*", &["--auth", "public", "--network", "192.0.2.0/24"]).await?;
    scene.until("/office/ready", 403, ACTS_WITHIN).await?;
    let stranger = scene.program("/office/x", false).await?;
    let said = String::from_utf8_lossy(stranger.body()).into_owned();
    assert_eq!(stranger.status(), StatusCode::FORBIDDEN, "{said}");
    assert!(!said.contains("network") && !said.contains("192.0.2"), "{said}");
    assert_eq!(scene.explained("/office/x", "192.0.2.9").await?["allowed"], true);
    assert_eq!(scene.explained("/office/x", "127.0.0.1").await?["code"], "network");
    assert_eq!(scene.reached("/office/x"), 0);
    let told = scene.route("set", "/office/*", &["--network", "0.0.0.0/0"]).await?;
    assert!(told["warnings"].to_string().contains("every IPv4 address"), "{told}");
    scene.until("/office/x", 200, ACTS_WITHIN).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn r01_a_dry_run_lets_in_whoever_is_signed_in_and_writes_down_the_rest() -> Result<()> {
    let mut scene = Scene::start().await?;
    let flags = ["--auth", "required", "--role", "customer", "--network", "192.0.2.0/24", "--dry-run-policy"];
    scene.route("add", "/dry/*", &flags).await?;
    // Before it is in force, the wider route answers, which is public.
    let in_force = async {
        while scene.program("/dry/ready", false).await?.status() != StatusCode::UNAUTHORIZED {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(ACTS_WITHIN, in_force).await.context("the route is in force")??;
    scene.until("/dry/x", 200, ACTS_WITHIN).await?;
    let (status, code) = scene.refusal("/dry/x", false, "code").await?;
    assert_eq!((status, code.as_str()), (401, "edge.sign_in_required"));
    assert_eq!(scene.reached("/dry/x"), 1);
    let verdict = scene.explained("/dry/x", "127.0.0.1").await?;
    assert_eq!((&verdict["allowed"], &verdict["code"]), (&true.into(), &"network".into()));
    let listed = scene.node.admin(&["route", "show", "shop", "/dry/*"]).await?;
    assert_eq!(listed["enforce"], false);
    let line = scene
        .node
        .server
        .line("what would be refused", |line| line.contains("\"would_deny\":\"network\""))
        .await?;
    assert!(line.contains("/dry/x"), "{line}");
    scene.route("set", "/dry/*", &["--enforce", "true"]).await?;
    scene.until("/dry/x", 403, ACTS_WITHIN).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn r12_an_old_or_weak_sign_in_is_asked_for_again_and_comes_back_to_the_same_place() -> Result<()> {
    // A minute of waiting until a sign-in is old; in the short run a browser shows the way, and edge and warpgate the decision.
    if std::env::var_os("MEZU_FULL").is_none() {
        return Ok(());
    }
    let mut scene = Scene::start().await?;
    let told = scene.route("add", "/strong/*", &["--auth", "required", "--acr", "aal2"]).await?;
    assert!(told["warnings"].to_string().contains("no second factor can be set up yet"), "{told}");
    let sent = scene.until("/strong/ready", 302, ACTS_WITHIN).await?;
    let to = sent.headers[header::LOCATION].to_str()?;
    assert!(to.contains("/sign-in?") && to.contains("acr=aal2"), "{to}");
    let answer = scene.program("/strong/x", true).await?;
    let challenge = answer.headers()[header::WWW_AUTHENTICATE].to_str()?;
    assert!(challenge.starts_with("Bearer error=\"insufficient_user_authentication\""), "{challenge}");
    assert!(challenge.contains("acr_values=\"aal2\""), "{challenge}");
    assert_eq!(scene.reached("/strong/x"), 0);

    scene.route("add", "/fresh/*", &["--auth", "required", "--max-auth-age", "60s"]).await?;
    // At first the sign-in is young enough; then it is not, while the session goes on.
    scene.until("/fresh/x", 200, ACTS_WITHIN).await?;
    scene.until("/fresh/x", 302, AGES_WITHIN).await?;
    let (status, code) = scene.refusal("/fresh/x", true, "code").await?;
    assert_eq!((status, code.as_str()), (401, "edge.step_up_required"));
    assert_eq!(scene.browser.load(&scene.url("/account/")).await?.status, StatusCode::OK);

    let wanted = scene.url("/fresh/x?page=2");
    let form = scene.browser.navigate(&wanted).await?;
    assert!(
        form.body.contains("type=\"password\"") && form.body.contains(&scene.shop.email),
        "{}",
        form.body
    );
    let back = scene.browser.submit(&form, &[("password", &scene.shop.password)]).await?;
    assert_eq!((back.status, back.url.as_str()), (StatusCode::OK, wanted.as_str()), "{:?}", back.way);
    Ok(())
}
