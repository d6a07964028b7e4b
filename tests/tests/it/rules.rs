//! Rules, limits, affinity and quotas: each set by the command an operator types, and seen to act on real requests.

use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use mezusphere_tests::client::h1::Connection;
use mezusphere_tests::program::Program;
use mezusphere_tests::system::Node;
use mezusphere_tests::upstream::Upstream;
use serde_json::{Value, json};

/// How long a change may take to act; design says a second, and test machines are busy.
const ACTS_WITHIN: Duration = Duration::from_secs(20);

/// Between two looks whether it acts.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

struct Scene {
    node: Node,
    upstream: Upstream,
    key: String,
    _gate: Program,
}

impl Scene {
    async fn start() -> Result<Self> {
        let node = Node::start(&[]).await?;
        let upstream = Upstream::start().await?;
        let shop = node.seed_shop().await?;
        let gate = node.connect(&shop.connection_key, &upstream.url()).await?;
        node.tunnelled("shop.localhost").await?;
        Ok(Self { node, upstream, key: shop.connection_key, _gate: gate })
    }

    async fn route(&self, verb: &str, path: &str, flags: &[&str]) -> Result<Value> {
        self.node.admin(&[&["route", verb, "shop", path], flags].concat()).await
    }

    /// One request on a connection of its own.
    async fn ask(&self, request: http::request::Builder, body: &'static [u8]) -> Result<Response<Bytes>> {
        self.ask_at("shop.localhost", request, body).await
    }

    async fn ask_at(
        &self,
        host: &str,
        request: http::request::Builder,
        body: &'static [u8],
    ) -> Result<Response<Bytes>> {
        let target = self.node.target(host, "/")?;
        let request = request.header(header::HOST, &target.authority).body(Full::from(body))?;
        Connection::open(&target, &self.node.tls(b"http/1.1")?).await?.fetch(request).await
    }

    async fn get(&self, path: &str) -> Result<Response<Bytes>> {
        self.ask(Request::get(path), b"").await
    }

    /// Asks again and again until an answer is as it should be.
    async fn until(&self, path: &str, is: impl Fn(&Response<Bytes>) -> bool) -> Result<Response<Bytes>> {
        let search = async {
            loop {
                let answer = self.get(path).await?;
                if is(&answer) {
                    return anyhow::Ok(answer);
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        tokio::time::timeout(ACTS_WITHIN, search)
            .await
            .with_context(|| format!("nothing changed for {path}"))?
    }

    /// What the upstream was asked for at last.
    fn last(&self) -> Result<mezusphere_tests::upstream::Seen> {
        self.upstream.seen().pop().context("nothing reached the upstream")
    }
}

fn field<'r>(answer: &'r Response<Bytes>, name: &str) -> Option<&'r str> {
    answer.headers().get(name)?.to_str().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_a_host_and_headers_change_on_the_way_and_back_and_stop_when_cleared() -> Result<()> {
    let scene = Scene::start().await?;
    let flags = [
        "--auth",
        "public",
        "--strip-prefix",
        "/api",
        "--upstream-host",
        "app.internal:8080",
        "--set-request-header",
        "x-tenant=shop",
        "--remove-request-header",
        "referer",
        "--set-response-header",
        "x-frame-options=DENY",
        "--set-response-header",
        "content-type=text/x-told",
    ];
    scene.route("add", "/api/*", &flags).await?;
    scene.until("/api/ready", |answer| field(answer, "x-frame-options") == Some("DENY")).await?;

    let request =
        Request::get("/api/a%20b%2Fc?d=e").header("referer", "https://x.example/").header("x-tenant", "evil");
    let answer = scene.ask(request, b"").await?;
    assert_eq!((answer.status(), field(&answer, "content-type")), (StatusCode::OK, Some("text/x-told")));
    let seen = scene.last()?;
    assert_eq!(seen.target, "/a%20b%2Fc?d=e");
    assert_eq!(seen.all("host"), ["app.internal:8080"]);
    assert_eq!(seen.all("x-forwarded-host"), [format!("shop.localhost:{}", scene.node.port)]);
    assert_eq!(seen.all("x-tenant"), ["shop"]);
    assert_eq!(seen.all("referer"), [""; 0]);

    // A path that climbs would be another one below what takes the prefix's place.
    let before = scene.upstream.seen().len();
    for climbing in ["/api/../api/x", "/api/%2e%2e/api/x", "/api/x/..%2f"] {
        let answer = scene.get(climbing).await?;
        assert!(
            answer.status().is_client_error() || answer.status() == StatusCode::BAD_GATEWAY,
            "{climbing}: {answer:?}"
        );
    }
    assert_eq!(scene.upstream.seen().len(), before, "none of them reached the upstream");

    scene
        .route("set", "/api/*", &["--replace-prefix", "/api=/v2", "--keep-response-header", "content-type"])
        .await?;
    let answer = scene.until("/api/x", |answer| field(answer, "content-type") != Some("text/x-told")).await?;
    assert_eq!(field(&answer, "x-frame-options"), Some("DENY"), "what is not named stays");
    assert_eq!(scene.last()?.target, "/v2/x");

    let clear = ["--no-path-rule", "--no-upstream-host", "--no-request-headers", "--no-response-headers"];
    scene.route("set", "/api/*", &clear).await?;
    scene.until("/api/x", |answer| field(answer, "x-frame-options").is_none()).await?;
    let seen = scene.last()?;
    assert_eq!((seen.target.as_str(), seen.all("x-tenant")), ("/api/x", vec![]));
    assert_eq!(seen.all("host"), [format!("shop.localhost:{}", scene.node.port)]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_edge_answers_redirects_maintenance_and_preflights_by_itself() -> Result<()> {
    let scene = Scene::start().await?;
    let to = "https://new.example{path}{query}";
    scene.route("add", "/old/*", &["--auth", "public", "--redirect", to, "--redirect-status", "308"]).await?;
    scene.route("add", "/mine/*", &["--auth", "required", "--redirect", "/elsewhere"]).await?;
    scene
        .route(
            "add",
            "/closed",
            &["--auth", "required", "--maintenance", "Back at nine.", "--retry-after", "30m"],
        )
        .await?;
    let origin = "https://app.example";
    let cors =
        ["--auth", "required", "--cors-origin", origin, "--cors-method", "PUT", "--cors-credentials", "true"];
    scene.route("add", "/api/*", &cors).await?;

    let answer =
        scene.until("/old/a%20b?c=d", |answer| answer.status() == StatusCode::PERMANENT_REDIRECT).await?;
    assert_eq!(field(&answer, "location"), Some("https://new.example/old/a%20b?c=d"));
    let signs_in = scene.get("/mine/x").await?;
    assert!(!field(&signs_in, "location").unwrap_or_default().ends_with("/elsewhere"), "{signs_in:?}");

    let answer = scene.until("/closed", |answer| answer.status() == StatusCode::SERVICE_UNAVAILABLE).await?;
    assert_eq!(field(&answer, "retry-after"), Some("1800"));
    assert!(field(&answer, "mezu-error").unwrap_or_default().starts_with("edge.maintenance"), "{answer:?}");
    assert!(String::from_utf8_lossy(answer.body()).contains("Back at nine."), "{answer:?}");
    scene.route("set", "/closed", &["--no-maintenance"]).await?;
    scene.until("/closed", |answer| answer.status() != StatusCode::SERVICE_UNAVAILABLE).await?;

    let preflight = |from: &str| {
        let request = Request::builder().method(Method::OPTIONS).uri("/api/x").header("origin", from);
        request.header("access-control-request-method", "PUT")
    };
    let answer = scene.ask(preflight(origin), b"").await?;
    assert_eq!(answer.status(), StatusCode::NO_CONTENT, "{answer:?}");
    assert_eq!(field(&answer, "access-control-allow-origin"), Some(origin));
    assert_eq!(field(&answer, "access-control-allow-credentials"), Some("true"));
    assert!(field(&answer, "access-control-allow-methods").unwrap_or_default().contains("PUT"));
    let answer = scene.ask(preflight("https://app.example.evil.example"), b"").await?;
    assert_eq!(
        (answer.status(), field(&answer, "access-control-allow-origin")),
        (StatusCode::FORBIDDEN, None)
    );
    // A page of that origin may read that it must sign in.
    let answer = scene
        .ask(Request::get("/api/x").header("origin", origin).header("accept", "application/json"), b"")
        .await?;
    assert_eq!(
        (answer.status(), field(&answer, "access-control-allow-origin")),
        (StatusCode::UNAUTHORIZED, Some(origin))
    );
    for path in ["/old", "/mine", "/closed", "/api"] {
        let reached = scene.upstream.seen().into_iter().filter(|seen| seen.target.starts_with(path)).count();
        assert_eq!(reached, 0, "{path}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_and_rates_are_held_to_their_routes_limits() -> Result<()> {
    let scene = Scene::start().await?;
    scene.route("add", "/upload", &["--auth", "public", "--body-max", "1KiB"]).await?;
    scene.route("add", "/slow-down", &["--auth", "public", "--rate", "1/min:3"]).await?;
    scene.node.routes("shop.localhost", "/upload").await?;
    let post = async |body: &'static [u8]| {
        let answer = scene.ask(Request::post("/upload"), body).await?;
        anyhow::Ok((answer.status(), field(&answer, "mezu-error").unwrap_or_default().to_owned()))
    };
    let deadline = tokio::time::Instant::now() + ACTS_WITHIN;
    loop {
        let (status, error) = post(&[b'x'; 1025]).await?;
        if status == StatusCode::PAYLOAD_TOO_LARGE {
            assert!(error.starts_with("edge.body_too_large"), "{error}");
            break;
        }
        anyhow::ensure!(tokio::time::Instant::now() < deadline, "a long body still gets {status}");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    scene.upstream.forget();
    assert_eq!(post(&[b'x'; 1024]).await?.0, StatusCode::OK);
    assert_eq!(post(&[b'x'; 2000]).await?.0, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(scene.upstream.seen().len(), 1);

    let answer = scene.until("/slow-down", |answer| answer.status() == StatusCode::TOO_MANY_REQUESTS).await?;
    assert!(field(&answer, "mezu-error").unwrap_or_default().starts_with("edge.rate_limited"), "{answer:?}");
    let wait: u64 = field(&answer, "retry-after").context("it says when")?.parse()?;
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(scene.get("/other").await?.status(), StatusCode::OK, "other routes go on");
    scene.route("set", "/slow-down", &["--no-rate"]).await?;
    scene.until("/slow-down", |answer| answer.status() == StatusCode::OK).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_holds_one_project_back_and_no_other() -> Result<()> {
    let scene = Scene::start().await?;
    scene.node.admin(&["project", "create", "blog"]).await?;
    scene.node.admin(&["route", "add", "blog", "/*", "--auth", "public", "--redirect", "/here"]).await?;
    scene.node.routes("blog.localhost", "/x").await?;
    let quota = scene.node.admin(&["project", "quota", "shop", "--exchanges", "1"]).await?;
    assert_eq!(quota, json!({ "exchanges": 1 }));
    // While one request is on its way there is no room for a second, once the quota has come.
    let search = async {
        loop {
            let long = scene.get("/slow/1500");
            let meanwhile = async {
                tokio::time::sleep(Duration::from_millis(500)).await;
                (scene.get("/x").await, scene.ask_at("blog.localhost", Request::get("/x"), b"").await)
            };
            let (_, (answer, neighbour)) = tokio::join!(long, meanwhile);
            assert_eq!(neighbour?.status(), StatusCode::TEMPORARY_REDIRECT);
            let answer = answer?;
            if answer.status() == StatusCode::SERVICE_UNAVAILABLE {
                return anyhow::Ok(answer);
            }
        }
    };
    let answer = tokio::time::timeout(ACTS_WITHIN, search).await.context("the quota never acts")??;
    assert!(field(&answer, "mezu-error").unwrap_or_default().starts_with("edge.project_busy"), "{answer:?}");
    scene.node.admin(&["project", "quota", "shop", "--exchanges", "none"]).await?;
    assert_eq!(scene.node.admin(&["project", "quota", "shop"]).await?, json!({}));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn with_affinity_a_session_stays_on_one_warpgate() -> Result<()> {
    let scene = Scene::start().await?;
    let second = Upstream::start().await?;
    let _gate = scene.node.connect(&scene.key, &second.url()).await?;
    let spread = async |path: &str| {
        scene.upstream.forget();
        second.forget();
        for _ in 0..24 {
            assert_eq!(scene.get(path).await?.status(), StatusCode::OK);
        }
        anyhow::Ok([scene.upstream.seen_at(path).len(), second.seen_at(path).len()])
    };
    let [one, other] = spread("/anywhere").await?;
    assert!(one > 0 && other > 0, "{one} and {other}: without affinity both are asked");
    scene.route("add", "/stays", &["--auth", "public", "--affinity"]).await?;
    let search = async {
        loop {
            let [one, other] = spread("/stays").await?;
            if one == 0 || other == 0 {
                return anyhow::Ok(());
            }
        }
    };
    tokio::time::timeout(ACTS_WITHIN, search).await.context("requests still go to both")??;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_is_told_what_becomes_of_a_request_and_what_is_wrong_with_a_rule() -> Result<()> {
    let node = Node::start(&[]).await?;
    node.seed_shop().await?;
    node.admin(&[
        "route",
        "add",
        "shop",
        "/api/*",
        "--auth",
        "public",
        "--strip-prefix",
        "/api",
        "--affinity",
    ])
    .await?;
    let told = node.admin(&["route", "explain", "shop", "/api/orders?id=1"]).await?;
    let steps = told["steps"].as_array().context("steps")?;
    let whats: Vec<&str> = steps.iter().filter_map(|step| step["what"].as_str()).collect();
    assert_eq!(whats.last(), Some(&"ask upstream default for /orders?id=1"), "{whats:?}");
    let shown = node.admin(&["route", "show", "shop", "/api/*"]).await?;
    assert_eq!((&shown["rules"]["path"]["prefix"], &shown["affinity"]), (&json!("/api"), &json!(true)));
    for (flags, next) in [
        (&["--strip-prefix", "/other"][..], "a route of their own"),
        (&["--set-request-header", "mezu-user-id=root"], "choose another name"),
        (&["--redirect", "//evil.example"], "https://new.example"),
        (&["--cors-origin", "*", "--cors-credentials", "true"], "--cors-credentials false"),
    ] {
        let refused = node.try_admin(&[&["route", "set", "shop", "/api/*"], flags].concat()).await?;
        let said: Value = serde_json::from_slice(&refused.stderr)?;
        assert_eq!(
            (&said["error"]["code"], refused.status.code()),
            (&json!("route.rule"), Some(7)),
            "{said}"
        );
        assert!(said["error"]["next"].as_str().unwrap_or_default().contains(next), "{said}");
    }
    assert_eq!(node.admin(&["route", "show", "shop", "/api/*"]).await?, shown, "nothing was changed");
    Ok(())
}
