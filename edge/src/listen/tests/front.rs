//! The front of a control node: the same as a port for clients of the platform's hosts, and nothing to anybody else.

use std::pin::pin;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::h1::{send, statuses};
use super::h2;
use super::tls::alert;
use super::*;

const CLIENT: &str = "192.0.2.7:4711";

/// A front by itself, and what it is asked with.
struct Bare {
    trust: TestTrust,
    upstream: Arc<Upstream>,
    front: PlatformFront,
}

impl Bare {
    fn new(limits: Limits, names: &[&str]) -> Self {
        let trust = TestTrust::new(&now());
        let upstream = Arc::new(Upstream::default());
        let front = front(&trust, &upstream, limits, names);
        Self { trust, upstream, front }
    }

    /// A stream that `client` came on.
    fn stream(&self, client: &str) -> DuplexStream {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let (front, client) = (self.front.clone(), client.parse().unwrap());
        tokio::spawn(async move { front.serve(far, client).await });
        near
    }

    async fn connect(
        &self,
        client: &str,
        name: &'static str,
        alpn: &[u8],
    ) -> std::io::Result<TlsStream<DuplexStream>> {
        let tls = TlsConnector::from(Arc::new(client_tls(&self.trust, &[alpn])));
        tls.connect(ServerName::try_from(name).unwrap(), self.stream(client)).await
    }

    /// What the front answers to h1 octets for the login host.
    async fn ask(&self, client: &str, octets: &str) -> String {
        let mut stream = self.connect(client, LOGIN, ALPN_H1).await.unwrap();
        stream.write_all(octets.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        timeout(SOON, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        String::from_utf8(answer).unwrap()
    }
}

#[tokio::test]
async fn r03_only_the_platforms_hosts_are_served_whatever_a_certificate_covers() {
    let bare = Bare::new(Limits::default(), &[LOGIN, HOST]);
    for (name, alpn, expected) in [
        (HOST, ALPN_H2, 112),
        ("console.mezu.localhost", ALPN_H2, 112),
        (LOGIN, tunnel_proto::ALPN, 120),
        (LOGIN, b"acme-tls/1", 120),
    ] {
        let error = bare.connect(CLIENT, name, alpn).await.expect_err("refused");
        assert_eq!(alert(&error), expected, "{name} {alpn:?}");
    }
    let tls = bare.connect(CLIENT, LOGIN, ALPN_H2).await.unwrap();
    let (client, connection) = ::h2::client::handshake(tls).await.unwrap();
    let driver = tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    for (host, status) in [(LOGIN, 200), (HOST, 404), ("blog.localhost", 421)] {
        let request = Request::get(format!("https://{host}/")).body(()).unwrap();
        assert_eq!(h2::fetch(&mut client, request).await.0, status, "{host}");
    }
    assert_eq!(bare.upstream.requests(), 1);
    driver.abort();
    bare.front.drain(SOON).await;
}

#[tokio::test]
async fn r03_every_place_that_names_a_host_must_name_the_same_one_behind_a_splice_too() {
    let rig = Rig::fronted();
    let rows = [
        (format!("GET / HTTP/1.1\r\nHost: {LOGIN}\r\n"), 200),
        (format!("GET https://{LOGIN}/ HTTP/1.1\r\nHost: {LOGIN}\r\n"), 200),
        (format!("GET https://{LOGIN}/ HTTP/1.1\r\nHost: {HOST}\r\n"), 400),
        (format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n"), 421),
        (format!("GET / HTTP/1.1\r\nHost: {LOGIN}\r\nHost: {LOGIN}\r\n"), 400),
        ("GET / HTTP/1.1\r\n".to_owned(), 400),
    ];
    for (request, status) in rows {
        let answers = send(&rig, format!("{request}Connection: close\r\n\r\n").as_bytes()).await;
        assert_eq!(statuses(&answers), [status], "{request}\n{answers}");
    }
    assert_eq!(rig.upstream.requests(), 2);
    rig.end().await;
}

#[tokio::test]
async fn r10_control_sees_the_client_and_not_the_edge_whatever_the_client_says() {
    let rig = Rig::fronted();
    let tls = TlsConnector::from(Arc::new(client_tls(&rig.trust, &[ALPN_H1])));
    let stream = TcpStream::connect(rig.address).await.unwrap();
    let own = stream.local_addr().unwrap();
    let mut stream = tls.connect(ServerName::try_from(LOGIN).unwrap(), stream).await.unwrap();
    let lies = "X-Forwarded-For: 203.0.113.9\r\nForwarded: for=203.0.113.9\r\nX-Real-IP: 203.0.113.9\r\n";
    let request = format!("GET /client HTTP/1.1\r\nHost: {LOGIN}\r\n{lies}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(SOON, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.ends_with(&format!("\r\n\r\n{own}")), "{answer}");
    rig.end().await;
}

#[tokio::test]
async fn r10_limits_use_the_address_that_came_with_the_stream() {
    let bare = Bare::new(Limits { connections_per_address: 1, ..Limits::default() }, &[LOGIN]);
    let _kept = bare.connect("192.0.2.7:1", LOGIN, ALPN_H1).await.unwrap();
    assert!(bare.connect("192.0.2.7:2", LOGIN, ALPN_H1).await.is_err(), "a second of one address");
    assert!(bare.connect("[::ffff:192.0.2.7]:3", LOGIN, ALPN_H1).await.is_err(), "spelled otherwise");
    let other = bare
        .ask("192.0.2.8:4", &format!("GET /client HTTP/1.1\r\nHost: {LOGIN}\r\nConnection: close\r\n\r\n"))
        .await;
    assert!(other.ends_with("192.0.2.8:4"), "{other}");
}

#[tokio::test]
async fn r23_a_stream_that_says_nothing_is_let_go() {
    let bare = Bare::new(short(), &[LOGIN]);
    for octets in [&b""[..], b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b"GET / HTTP/1.1\r\n\r\n"] {
        let mut stream = bare.stream(CLIENT);
        stream.write_all(octets).await.unwrap();
        let mut rest = Vec::new();
        // The front may be gone before the client has read its alert.
        let closed = timeout(SOON, stream.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "{octets:?} was kept");
        let is_told = octets.starts_with(b"GET") && rest.starts_with(b"HTTP/1.1 400 ");
        assert!(is_told || rest.len() <= 7, "at most an alert comes back, not {rest:?}");
    }
    assert_eq!(bare.upstream.requests(), 0);
}

#[tokio::test]
async fn r19_a_front_speaks_tls_1_2_and_1_3_and_nothing_older() {
    let bare = Bare::new(Limits::default(), &[LOGIN]);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut config = rustls::ClientConfig::builder_with_protocol_versions(&[version])
            .with_root_certificates(bare.trust.roots())
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN_H1.to_vec()];
        let tls = TlsConnector::from(Arc::new(config));
        let stream = tls.connect(ServerName::try_from(LOGIN).unwrap(), bare.stream(CLIENT)).await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(version.version));
    }
}

#[tokio::test]
async fn draining_finishes_what_runs_and_takes_nothing_new() {
    let bare = Bare::new(Limits::default(), &[LOGIN]);
    let tls = bare.connect(CLIENT, LOGIN, ALPN_H2).await.unwrap();
    let (client, connection) = ::h2::client::handshake(tls).await.unwrap();
    let driver = tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let request = Request::get(format!("https://{LOGIN}/wait")).body(()).unwrap();
    let (response, _) = client.send_request(request, true).unwrap();
    bare.upstream.until(|upstream| upstream.requests() == 1).await;
    let mut drained = pin!(bare.front.drain(SOON));
    assert!(
        timeout(Duration::from_millis(50), &mut drained).await.is_err(),
        "a request that runs is waited for"
    );
    assert!(bare.connect(CLIENT, LOGIN, ALPN_H1).await.is_err(), "nothing new is taken");
    bare.upstream.release.notify_one();
    timeout(SOON, drained).await.expect("the drain did not end");
    let body = timeout(SOON, response).await.unwrap().unwrap().into_body();
    assert_eq!(h2::read(body).await.unwrap().0, "waited");
    assert!(timeout(SOON, driver).await.is_ok(), "and the connection is over");
}

#[tokio::test]
async fn what_outlasts_the_grace_is_dropped() {
    let bare = Bare::new(Limits::default(), &[LOGIN]);
    let mut stream = bare.connect(CLIENT, LOGIN, ALPN_H1).await.unwrap();
    stream.write_all(format!("GET /wait HTTP/1.1\r\nHost: {LOGIN}\r\n\r\n").as_bytes()).await.unwrap();
    bare.upstream.until(|upstream| upstream.requests() == 1).await;
    timeout(SOON, bare.front.drain(Duration::from_millis(50))).await.expect("it was waited for");
    assert_eq!(bare.upstream.dropped.load(Ordering::SeqCst), 1, "and its request was given up");
}
