//! What a client can send and what the workload must never see: the trust boundary, from outside.

use anyhow::Result;
use http::StatusCode;
use mezusphere_tests::admin::Shop;
use mezusphere_tests::client::browser::Browser;
use mezusphere_tests::client::{Target, h1, h3};
use mezusphere_tests::system::Node;
use mezusphere_tests::upstream::Upstream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A node with a shop, a warpgate and a recording upstream.
struct Scene {
    node: Node,
    shop: Shop,
    upstream: Upstream,
    _gate: mezusphere_tests::program::Program,
}

impl Scene {
    async fn set() -> Result<Self> {
        let node = Node::start(&[]).await?;
        let upstream = Upstream::start().await?;
        let shop = node.seed_shop().await?;
        let gate = node.connect(&shop.connection_key, &upstream.url()).await?;
        Ok(Self { node, shop, upstream, _gate: gate })
    }

    fn target(&self, path: &str) -> Result<Target> {
        self.node.target(&self.shop.host, path)
    }

    /// Sends raw octets on a fresh h1 connection and gives all that comes back until it is closed or still.
    async fn raw(&self, octets: &[u8]) -> Result<String> {
        let target = self.target("/")?;
        let tcp = tokio::net::TcpStream::connect(target.address).await?;
        let tls = tokio_rustls::TlsConnector::from(self.node.tls(b"http/1.1")?);
        let mut stream = tls.connect(target.server_name()?, tcp).await?;
        stream.write_all(octets).await?;
        let mut answer = Vec::new();
        // A server that keeps the connection open has said all it will say after a while.
        let reading = async {
            let mut chunk = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut chunk).await {
                answer.extend_from_slice(&chunk[..count]);
            }
        };
        drop(tokio::time::timeout(std::time::Duration::from_millis(700), reading).await);
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r04_the_workload_sees_one_identity_and_it_is_ours() -> Result<()> {
    let scene = Scene::set().await?;
    let mut browser = Browser::new(&scene.node.roots());
    let url = format!("https://{}:{}/account/", scene.shop.host, scene.node.port);
    browser.sign_in(&url, &scene.shop.email, &scene.shop.password).await?;
    let session = browser.cookies(&scene.shop.host);
    let cookie: Vec<String> = session.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let names = [
        "mezu-user-id",
        "Mezu-User-Id",
        "MEZU-USER-ID",
        "mezu_user_id",
        "Mezu_User-Id",
        "mezu-roles",
        "mezu_roles",
        "mezu-permissions",
        "mezu-assertion",
        "mezu_assertion",
        "mezu-session-id",
        "mezu-user-email",
        "mezu-admin",
        "mezu.user.id",
        "mezu-auth-method",
    ];
    for (path, cookie) in [("/public", String::new()), ("/account/forged", cookie.join("; "))] {
        for name in names {
            let target = scene.target(path)?;
            let mut connection = h1::Connection::open(&target, &scene.node.tls(b"http/1.1")?).await?;
            let request = http::Request::get(format!("{path}?{name}"))
                .header("host", &target.authority)
                .header("cookie", &cookie)
                .header(name, "usr_forged")
                .header(name, "usr_forged_twice")
                .header("connection", "mezu-user-id, mezu-assertion")
                .body(http_body_util::Full::default())?;
            assert_eq!(connection.fetch(request).await?.status(), StatusCode::OK, "{path} {name}");
        }
        for seen in scene.upstream.seen_at(path) {
            let all = format!("{:?}", seen.headers);
            assert!(!all.contains("forged"), "{path}: {all}");
            for ours in mezusphere_model::header::IDENTITY {
                assert_eq!(seen.all(ours).len(), 1, "{path}: {ours} in {all}");
            }
            let folded: Vec<&str> = seen.headers.keys().map(http::HeaderName::as_str).collect();
            let ours = folded.iter().filter(|name| mezusphere_model::header::is_reserved(name)).count();
            assert_eq!(ours, mezusphere_model::header::IDENTITY.len(), "{folded:?}");
        }
        assert_eq!(scene.upstream.seen_at(path).len(), names.len());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn r02_no_spelling_of_a_protected_path_reaches_the_workload_unsigned() -> Result<()> {
    let scene = Scene::set().await?;
    let spellings = [
        "/account",
        "/account/",
        "/account/x",
        "/%61ccount/x",
        "/account%2fx",
        "/x/../account/x",
        "/x/%2e%2e/account/x",
        "//account/x",
        "/account//x",
        "/./account/x",
        "/account/./x",
        "/account/../account/x",
        "/x%2f..%2faccount/x",
        "/account%2F",
        "/account%5cx",
        "/x/..%2faccount",
        "/%2e/account",
        "/account%00",
        "/account%0a",
        "/account;x/y",
        "/x/..;/account/y",
        "/%2561ccount/x",
        "/account%252fx",
        "/account/%c0%ae",
        "/account/%zz",
        "/account\\x",
    ];
    for spelling in spellings {
        let request =
            format!("GET {spelling} HTTP/1.1\r\nhost: {}:{}\r\n\r\n", scene.shop.host, scene.node.port);
        let answer = scene.raw(request.as_bytes()).await?;
        let status = answer.split(' ').nth(1).unwrap_or_default();
        assert!(["302", "400", "401", "404"].contains(&status), "{spelling}: {answer}");
    }
    assert!(scene.upstream.seen().is_empty(), "{:?}", scene.upstream.seen());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn r02_no_spelling_that_a_lenient_workload_takes_for_a_protected_path_reaches_it() -> Result<()> {
    let scene = Scene::set().await?;
    let target = scene.target("/")?;
    let mut two = h2(&target, scene.node.tls(b"h2")?).await?;
    let mut three = h3::Connection::open(&target, &scene.node.tls(b"h3")?).await?;
    let spellings = [
        "/ACCOUNT/x",
        "/Account",
        "/accounT/",
        "/%41ccount/x",
        "/%2541ccount",
        "/account.",
        "/account./x",
        "/account%2e",
        "/account%20",
        "/account%20/x",
        "/account%20.%20/x",
        "/account%c2%a0/x",
        "/account%09/x",
        "/account;a=b/x",
        "/account%3ba=b/x",
        "/ACCOUNT;a/x",
        "/account.;a/x",
        "//ACCOUNT/x",
        "/x/..%20/account",
        "/x%2f..%2fAccount/x",
        "/x/..%5cACCOUNT",
    ];
    // Harmless, so they go on as they were sent: no route asks more, however they are read.
    let harmless = ["/Reports/Q3.PDF", "/public./x", "/a%20/B;c", "/ACCOUNTS"];
    for (path, expected) in spellings
        .iter()
        .map(|path| (path, StatusCode::BAD_REQUEST))
        .chain(harmless.iter().map(|path| (path, StatusCode::OK)))
    {
        let mut one = h1::Connection::open(&target, &scene.node.tls(b"http/1.1")?).await?;
        let request = http::Request::get(*path).header("host", &target.authority);
        let first = one.fetch(request.body(http_body_util::Full::default())?).await?.status();
        let absolute = format!("https://{}{path}", target.authority);
        let request = http::Request::get(&absolute).body(http_body_util::Full::<bytes::Bytes>::default())?;
        let second = two.send_request(request).await?.status();
        let third = three.fetch(http::Request::get(&absolute).body(())?).await?.status();
        assert_eq!([first, second, third], [expected; 3], "{path}");
    }
    let seen: Vec<String> = scene.upstream.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(seen, harmless.map(|path| [path; 3]).concat());
    Ok(())
}

/// An h2 connection; it ends with its sender.
async fn h2(
    target: &Target,
    tls: std::sync::Arc<rustls::ClientConfig>,
) -> Result<hyper::client::conn::http2::SendRequest<http_body_util::Full<bytes::Bytes>>> {
    let tcp = tokio::net::TcpStream::connect(target.address).await?;
    let stream = tokio_rustls::TlsConnector::from(tls).connect(target.server_name()?, tcp).await?;
    let (executor, stream) = (hyper_util::rt::TokioExecutor::new(), hyper_util::rt::TokioIo::new(stream));
    let (sender, connection) = hyper::client::conn::http2::handshake(executor, stream).await?;
    tokio::spawn(connection);
    Ok(sender)
}

#[tokio::test(flavor = "multi_thread")]
async fn r03_an_authority_that_disagrees_is_refused_and_an_unknown_one_tells_nothing() -> Result<()> {
    let scene = Scene::set().await?;
    let port = scene.node.port;
    let rows = [
        (format!("GET / HTTP/1.1\r\nhost: other.example:{port}\r\n\r\n"), ["400", "421"]),
        (
            format!("GET / HTTP/1.1\r\nhost: shop.localhost:{port}\r\nhost: shop.localhost:{port}\r\n\r\n"),
            ["400", "400"],
        ),
        (
            format!("GET https://evil.localhost:{port}/ HTTP/1.1\r\nhost: shop.localhost:{port}\r\n\r\n"),
            ["400", "421"],
        ),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), ["400", "400"]),
        ("GET / HTTP/1.1\r\nhost: \r\n\r\n".to_owned(), ["400", "400"]),
    ];
    for (request, expected) in rows {
        let answer = scene.raw(request.as_bytes()).await?;
        let status = answer.split(' ').nth(1).unwrap_or_default();
        assert!(expected.contains(&status), "{request:?}: {answer}");
        assert!(!answer.contains("Shop"), "tenant data in {answer}");
    }
    assert!(scene.upstream.seen().is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn r07_a_smuggled_request_never_runs() -> Result<()> {
    let scene = Scene::set().await?;
    let host = format!("host: {}:{}\r\n", scene.shop.host, scene.node.port);
    let canary = format!("GET /canary HTTP/1.1\r\n{host}\r\n");
    let heads = [
        "content-length: 0\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 4\r\n",
        "content-length: 4\r\ncontent-length: 4\r\n",
        "content-length: 4\r\ncontent-length: 5\r\n",
        "transfer-encoding: gzip\r\n",
        "transfer-encoding: chunked, identity\r\n",
        "transfer-encoding : chunked\r\n",
        "content-length: +4\r\n",
        "content-length: 4, 4\r\n",
        "x: a\r\n b\r\n",
        "x: a\nb: c\r\n",
        "x: a\rb\r\n",
    ];
    for head in heads {
        let smuggled = format!("POST /first HTTP/1.1\r\n{host}{head}\r\n0\r\n\r\n{canary}");
        scene.raw(smuggled.as_bytes()).await?;
        assert!(scene.upstream.seen_at("/canary").is_empty(), "{head:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn r10_the_workload_is_told_the_real_address() -> Result<()> {
    let scene = Scene::set().await?;
    let target = scene.target("/address")?;
    let mut connection = h1::Connection::open(&target, &scene.node.tls(b"http/1.1")?).await?;
    let mut request = http::Request::get("/address").header("host", &target.authority);
    for name in [
        "x-forwarded-for",
        "x_forwarded_for",
        "forwarded",
        "x-real-ip",
        "x-forwarded-host",
        "x-forwarded-proto",
    ] {
        request = request.header(name, "for=203.0.113.9");
    }
    assert_eq!(
        connection.fetch(request.body(http_body_util::Full::default())?).await?.status(),
        StatusCode::OK
    );
    let seen = scene.upstream.seen_at("/address");
    assert!(!format!("{:?}", seen[0].headers).contains("203.0.113.9"), "{:?}", seen[0].headers);
    assert_eq!(seen[0].all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(seen[0].all("x-forwarded-proto"), ["https"]);
    assert_eq!(seen[0].all("x-forwarded-host"), [target.authority.as_str()]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn r11_a_session_of_one_host_is_no_session_on_another() -> Result<()> {
    let scene = Scene::set().await?;
    scene.node.admin(&["project", "create", "blog"]).await?;
    scene.node.admin(&["route", "add", "blog", "/*", "--auth", "required"]).await?;
    let key = scene.node.admin(&["api-key", "create", "blog"]).await?;
    let key = key["secret"].as_str().unwrap_or_default().to_owned();
    let other = Upstream::start().await?;
    let _gate = scene.node.connect(&key, &other.url()).await?;

    let mut browser = Browser::new(&scene.node.roots());
    let url = format!("https://{}:{}/account/", scene.shop.host, scene.node.port);
    browser.sign_in(&url, &scene.shop.email, &scene.shop.password).await?;
    let cookie = browser.cookies(&scene.shop.host)["__Host-mezu-session"].clone();
    browser.set_cookie("blog.localhost", "__Host-mezu-session", &cookie);
    let refused = browser.load(&format!("https://blog.localhost:{}/", scene.node.port)).await?;
    assert_eq!(refused.status, StatusCode::FOUND, "to sign in at its own directory");
    assert!(other.seen().is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn r25_a_one_time_link_leaves_no_trace_in_the_log() -> Result<()> {
    let node = Node::start(&[]).await?;
    let link = node.ready["first_sign_in"].as_str().unwrap_or_default().to_owned();
    let secret = link.rsplit('/').next().unwrap_or_default().to_owned();
    assert_eq!(secret.len(), 43, "{link}");
    let arrived = Browser::new(&node.roots()).navigate(&link).await?;
    assert_eq!(arrived.status, StatusCode::OK, "{}", arrived.body);
    assert!(arrived.body.contains("type=\"password\""), "{}", arrived.body);
    node.server
        .line("that somebody came", |line| line.contains("login.mezu.localhost") && line.contains("Request"))
        .await?;
    let told: Vec<String> = node.server.output().into_iter().filter(|line| line.contains(&secret)).collect();
    assert_eq!(told.len(), 1, "only the start itself shows the link: {told:#?}");
    Ok(())
}
