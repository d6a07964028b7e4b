//! A whole edge: started, fed, asked, and ended.

use std::io;
use std::sync::Arc;

use mezusphere_model::Host;
use mezusphere_model::document::{AcmeChallengeDoc, Document, Partition};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::ground::{ANY, Ground, ask};
use super::tls::alert;
use super::*;
use crate::config::PlatformHosts;
use crate::listen::edge::Edge;

#[tokio::test]
async fn an_edge_serves_every_protocol_on_one_port_and_ends_cleanly() {
    let ground = Ground::new(&[HOST, "login.mezu.localhost"]).await;
    let edge = ground.start(ANY.parse().unwrap()).unwrap();
    let answer = ground.get(&edge, HOST).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 404"), "a host nobody published: {answer}");
    let port = edge.local_addr().port();
    assert!(answer.contains(&format!("alt-svc: h3=\":{port}\"; ma=86400")), "{answer}");
    let answer = ground.get(&edge, "login.mezu.localhost").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "the platform's own host: {answer}");

    let mut endpoint = quinn::Endpoint::client(ANY.parse().unwrap()).unwrap();
    let tls = client_tls(&ground.trust, &[ALPN_H3]);
    let config = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(config)));
    let connection = endpoint.connect(edge.local_addr(), HOST).unwrap().await.unwrap();

    timeout(SOON, edge.drain(SOON)).await.expect("the edge did not end");
    assert!(timeout(SOON, connection.closed()).await.is_ok());
}

#[tokio::test]
async fn plain_http_leads_known_hosts_to_https_and_nobody_else_anywhere() {
    let ground = Ground::new(&[HOST]).await;
    let edge = ground.start(ANY.parse().unwrap()).unwrap();
    let port = edge.local_addr().port();
    let plain = edge.plain_http_addr().unwrap();
    let ask = async |request: String| ask(plain, &request).await;
    let get = ask(format!("GET /a?b=c HTTP/1.1\r\nHost: {HOST}:80\r\nConnection: close\r\n\r\n")).await;
    assert!(get.starts_with("HTTP/1.1 301"), "{get}");
    assert!(get.contains(&format!("location: https://{HOST}:{port}/a?b=c\r\n")), "{get}");
    let other =
        ask(format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"))
            .await;
    assert!(other.starts_with("HTTP/1.1 308"), "{other}");
    for unknown in ["Host: evil.example\r\n", "", "Host: shop.localhost\r\nHost: evil.example\r\n"] {
        let answer = ask(format!("GET / HTTP/1.1\r\n{unknown}Connection: close\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 404") && !answer.contains("location"), "{answer}");
    }
    edge.drain(SOON).await;
}

#[tokio::test]
async fn a_published_certificate_is_used_without_a_restart() {
    let ground = Ground::new(&["old.localhost"]).await;
    let edge = ground.start(ANY.parse().unwrap()).unwrap();
    assert!(ground.get(&edge, HOST).await.is_err());
    ground.source.publish(vec![Document::Certificate(ground.trust.public(&["old.localhost", HOST]))]);
    let served = async {
        while ground.get(&edge, HOST).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, served).await.expect("the new certificate was never used");
    edge.drain(SOON).await;
}

#[tokio::test]
async fn certificates_of_every_partition_are_shown() {
    let ground = Ground::new(&["*.apps.example"]).await;
    let certificate = |name: &str| Document::Certificate(ground.trust.public(&[name]));
    ground.source.publish_in(vec![
        (Partition::Control, certificate(LOGIN)),
        (Partition::Platform, certificate("*.apps.example")),
        (Partition::Project(ProjectId::from_bits(1)), certificate("shop.example")),
        (Partition::Project(ProjectId::from_bits(2)), certificate("blog.example")),
    ]);
    let edge = ground.start(ANY.parse().unwrap()).unwrap();
    for host in [LOGIN, "a.apps.example", "shop.example", "blog.example"] {
        let served = async {
            while ground.get(&edge, host).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        timeout(SOON, served).await.unwrap_or_else(|_| panic!("no certificate for {host}"));
    }
    edge.drain(SOON).await;
}

#[tokio::test]
async fn a_taken_port_is_one_clear_error_and_nothing_runs() {
    let ground = Ground::new(&[HOST]).await;
    let first = ground.start(ANY.parse().unwrap()).unwrap();
    let error = ground.start(first.local_addr()).map(|_| ()).unwrap_err();
    assert!(
        error.to_string().starts_with(&format!("cannot listen on TCP {}: ", first.local_addr())),
        "{error}"
    );
    first.drain(SOON).await;
}

/// A challenge that is open.
fn challenge(host: &str, token: &str) -> AcmeChallengeDoc {
    AcmeChallengeDoc {
        host: Host::parse(host).unwrap(),
        token: token.to_owned(),
        key_authorization: format!("{token}.thumbprint"),
        expires_at: now().now().after(Duration::from_mins(10)),
    }
}

#[tokio::test]
async fn a_split_edge_answers_authorities_over_http_and_tls_and_then_no_more() {
    let ground = Ground::new(&[HOST]).await;
    let certificate = Document::Certificate(ground.trust.public(&[HOST]));
    // For a host without a certificate yet, and for one of the platform.
    let asked = ["new.localhost", LOGIN];
    let challenges = asked.map(|host| Document::AcmeChallenge(challenge(host, &format!("token-of-{host}"))));
    ground.source.publish([&[certificate.clone()][..], &challenges].concat());
    let (sender, _passed) = tokio::sync::mpsc::unbounded_channel();
    let splice = PlatformHosts::Splice(Arc::new(splice::Shown(sender)));
    let edge = ground.start_with(ANY.parse().unwrap(), splice).unwrap();
    let plain = edge.plain_http_addr().unwrap();
    let get = async |method: &str, host: &str, token: &str| {
        let path = format!("/.well-known/acme-challenge/{token}");
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        ask(plain, &request).await
    };
    for host in asked {
        let token = format!("token-of-{host}");
        let proof = format!("{token}.thumbprint");
        let open = async {
            while !get("GET", host, &token).await.starts_with("HTTP/1.1 200") {
                tokio::task::yield_now().await;
            }
        };
        timeout(SOON, open).await.expect("the challenge never arrived");
        let answer = get("GET", &format!("{host}:80"), &token).await;
        assert!(answer.ends_with(&format!("\r\n\r\n{proof}")), "{answer}");
        let head = get("HEAD", host, &token).await;
        assert!(head.starts_with("HTTP/1.1 200") && !head.contains(&proof), "{head}");
        assert!(!get("POST", host, &token).await.contains(&proof));
        for (other, token) in [(HOST, token.as_str()), (host, "token-of-nobody"), (host, "")] {
            let answer = get("GET", other, token).await;
            assert!(!answer.starts_with("HTTP/1.1 200"), "{other} {token}: {answer}");
        }

        let mut stream = challenged(&edge, host).await.unwrap();
        let (_, session) = stream.get_ref();
        assert_eq!(session.alpn_protocol(), Some(&b"acme-tls/1"[..]));
        let leaf = session.peer_certificates().unwrap()[0].to_vec();
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, proof.as_bytes());
        let has = |part: &[u8]| leaf.windows(part.len()).any(|window| window == part);
        assert!(has(&[&[4, 32], digest.as_ref()].concat()) && has(host.as_bytes()), "{host}");
        // Nothing is said after the handshake; a request gets no answer.
        drop(stream.write_all(b"GET / HTTP/1.1\r\nHost: new.localhost\r\n\r\n").await);
        let mut rest = Vec::new();
        drop(timeout(SOON, stream.read_to_end(&mut rest)).await.expect("it was kept"));
        assert!(rest.is_empty(), "{rest:?}");
    }
    assert_eq!(alert(&challenged(&edge, HOST).await.unwrap_err()), 112, "nobody was asked about that name");

    ground.source.publish(vec![certificate]);
    let over = async {
        while challenged(&edge, "new.localhost").await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, over).await.expect("a challenge that is over was still answered");
    assert!(get("GET", "new.localhost", "token-of-new.localhost").await.starts_with("HTTP/1.1 404"));
    edge.drain(SOON).await;
}

/// Asks as an authority does: one protocol, and no trust in the certificate it is shown.
async fn challenged(edge: &Edge, name: &str) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let tls = TlsConnector::from(Arc::new(tls::tls(&[b"acme-tls/1"], None)));
    let stream = TcpStream::connect(edge.local_addr()).await?;
    tls.connect(ServerName::try_from(name.to_owned()).unwrap(), stream).await
}

#[tokio::test]
async fn r03_a_split_edge_serves_no_platform_host_on_a_shared_connection() {
    let ground = Ground::new(&[HOST, LOGIN]).await;
    let (sender, _passed) = tokio::sync::mpsc::unbounded_channel();
    let splice = PlatformHosts::Splice(Arc::new(splice::Shown(sender)));
    let edge = ground.start_with(ANY.parse().unwrap(), splice).unwrap();
    let tls = TlsConnector::from(Arc::new(client_tls(&ground.trust, &[ALPN_H2])));
    let stream = TcpStream::connect(edge.local_addr()).await.unwrap();
    let stream = tls.connect(ServerName::try_from(HOST).unwrap(), stream).await.unwrap();
    let (client, connection) = ::h2::client::handshake(stream).await.unwrap();
    let driver = tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    // The certificate covers it, so that a browser may share the connection; the edge sends it away.
    for (host, status) in [(LOGIN, 421), (HOST, 404)] {
        let request = Request::get(format!("https://{host}/")).body(()).unwrap();
        assert_eq!(h2::fetch(&mut client, request).await.0, status, "{host}");
    }
    driver.abort();
    edge.drain(SOON).await;
}

#[tokio::test]
async fn plain_http_of_a_split_edge_leads_to_the_platforms_hosts_too() {
    let ground = Ground::new(&[HOST]).await;
    let (sender, _passed) = tokio::sync::mpsc::unbounded_channel();
    let splice = PlatformHosts::Splice(Arc::new(splice::Shown(sender)));
    let edge = ground.start_with(ANY.parse().unwrap(), splice).unwrap();
    let port = edge.local_addr().port();
    for (host, status) in [(LOGIN, "301"), (HOST, "301"), ("other.mezu.localhost", "404")] {
        let request = format!("GET /a HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = ask(edge.plain_http_addr().unwrap(), &request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{host}: {answer}");
        let leads = answer.contains(&format!("location: https://{host}:{port}/a\r\n"));
        assert_eq!(leads, status == "301", "{host}: {answer}");
    }
    edge.drain(SOON).await;
}

#[tokio::test]
async fn the_grace_bounds_what_was_passed_on() {
    let ground = Ground::new(&[HOST]).await;
    let (sender, mut passed) = tokio::sync::mpsc::unbounded_channel();
    let splice = PlatformHosts::Splice(Arc::new(splice::Shown(sender)));
    let edge = ground.start_with(ANY.parse().unwrap(), splice).unwrap();
    let tls = TlsConnector::from(Arc::new(client_tls(&ground.trust, &[ALPN_H2])));
    let stream = TcpStream::connect(edge.local_addr()).await.unwrap();
    // A client that waits for a server hello that never comes.
    let client = tokio::spawn(tls.connect(ServerName::try_from(LOGIN).unwrap(), stream));
    let (.., mut control) = timeout(SOON, passed.recv()).await.unwrap().unwrap();
    let grace = Duration::from_millis(300);
    let begun = Instant::now();
    timeout(SOON, edge.drain(grace)).await.expect("it was waited for beyond the grace");
    assert!(begun.elapsed() >= grace, "it was not given its grace: {:?}", begun.elapsed());
    assert!(client.await.unwrap().is_err());
    let mut octets = Vec::new();
    timeout(SOON, control.read_to_end(&mut octets)).await.expect("control was kept").unwrap();
}
