//! The same answers over h1, h2 and h3.

use anyhow::Result;
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mezusphere_tests::client::{h1, h3};
use mezusphere_tests::system::Node;
use mezusphere_tests::upstream::Upstream;

#[tokio::test(flavor = "multi_thread")]
async fn a_public_route_answers_alike_on_every_protocol() -> Result<()> {
    let node = Node::start(&[]).await?;
    let upstream = Upstream::start().await?;
    let shop = node.seed_shop().await?;
    let _gate = node.connect(&shop.connection_key, &upstream.url()).await?;
    let target = node.target(&shop.host, "/bytes/200")?;
    let absolute = format!("https://{}{}", target.authority, target.path);

    let mut one = h1::Connection::open(&target, &node.tls(b"http/1.1")?).await?;
    let request = Request::get(&target.path).header("host", &target.authority).body(Full::default())?;
    let first = one.fetch(request).await?;
    assert_eq!((first.status(), first.body().len()), (StatusCode::OK, 200));
    let advertised =
        first.headers().get("alt-svc").map(|value| value.to_str().map(str::to_owned)).transpose()?;
    assert!(
        advertised.is_some_and(|value| value.contains(&format!("h3=\":{}\"", node.port))),
        "h3 is advertised"
    );

    let tcp = tokio::net::TcpStream::connect(target.address).await?;
    let stream =
        tokio_rustls::TlsConnector::from(node.tls(b"h2")?).connect(target.server_name()?, tcp).await?;
    let (mut two, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let response = two.send_request(Request::get(&absolute).body(Full::<Bytes>::default())?).await?;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.into_body().collect().await?.to_bytes().len(), 200);

    let mut three = h3::Connection::open(&target, &node.tls(b"h3")?).await?;
    let third = three.fetch(Request::get(&absolute).body(())?).await?;
    assert_eq!((third.status(), third.body().len()), (StatusCode::OK, 200));

    // No session: an API client is told so in the same words on each.
    let closed = node.target(&shop.host, "/account/x")?;
    let request =
        Request::get(&closed.path).header("host", &closed.authority).header("accept", "application/json");
    let first = one.fetch(request.body(Full::default())?).await?;
    let third =
        three.fetch(Request::get(format!("https://{}/account/x", closed.authority)).body(())?).await?;
    for response in [&first, &third] {
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        let problem: serde_json::Value = serde_json::from_slice(response.body())?;
        assert!(problem["login_url"].as_str().is_some_and(|url| url.contains("/sign-in?")), "{problem}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_leads_to_https() -> Result<()> {
    let node = Node::start(&[]).await?;
    let shop = node.seed_shop().await?;
    let tcp = tokio::net::TcpStream::connect(("127.0.0.1", node.plain_port)).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tcp)).await?;
    tokio::spawn(connection);
    let request = Request::get("/a?b=c").header("host", &shop.host).body(Full::<Bytes>::default())?;
    let response = sender.send_request(request).await?;
    assert!(response.status().is_redirection(), "{}", response.status());
    assert_eq!(response.headers()["location"], format!("https://{}:{}/a?b=c", shop.host, node.port).as_str());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_body_streams_both_ways_without_being_held() -> Result<()> {
    const SIZE: usize = 64 * 1024 * 1024;
    let node = Node::start(&[]).await?;
    let upstream = Upstream::start().await?;
    let shop = node.seed_shop().await?;
    let gate = node.connect(&shop.connection_key, &upstream.url()).await?;
    let before = (peak_kib(node.server.pid()?)?, peak_kib(gate.pid()?)?);

    let target = node.target(&shop.host, &format!("/bytes/{SIZE}"))?;
    let mut one = h1::Connection::open(&target, &node.tls(b"http/1.1")?).await?;
    let request = Request::get(&target.path).header("host", &target.authority).body(Full::default())?;
    let mut body = one.send(request).await?.into_body();
    let mut received = 0;
    while let Some(frame) = body.frame().await {
        received += frame?.data_ref().map_or(0, Bytes::len);
    }
    assert_eq!(received, SIZE);

    let upload = Request::post("/upload").header("host", &target.authority);
    let answer = one.fetch(upload.body(Full::new(Bytes::from(vec![b'u'; SIZE])))?).await?;
    let told: serde_json::Value = serde_json::from_slice(answer.body())?;
    assert_eq!(told["received"], SIZE);

    let after = (peak_kib(node.server.pid()?)?, peak_kib(gate.pid()?)?);
    let (server, gate) = (after.0 - before.0, after.1 - before.1);
    assert!(server < 16 * 1024 && gate < 16 * 1024, "server +{server} KiB, warpgate +{gate} KiB");
    Ok(())
}

/// The most memory a process ever held, in KiB.
fn peak_kib(pid: u32) -> Result<usize> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.and_then(|number| number.parse().ok()).ok_or_else(|| anyhow::anyhow!("no VmHWM"))
}
