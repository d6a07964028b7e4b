//! Who gets in: the certificate's role and what was negotiated decide, never the hello alone (R19).

use std::sync::Arc;
use std::time::Duration;

use mezusphere_edge_link::{ALPN_JOIN, ALPN_LINK, ALPN_SPLICE, proxy};
use mezusphere_model::id::ControlId;
use mezusphere_pki::tls::{connect_client_config, link_client_config};
use mezusphere_pki::{CurrentIdentity, CurrentTrust, Role};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::world::{Node, World, until, within};

pub(crate) type Raw = TlsStream<TcpStream>;

/// A dialler that says whatever it likes.
pub(crate) async fn dial(node: &Node, config: ClientConfig) -> std::io::Result<Raw> {
    let stream = TcpStream::connect(node.address).await.unwrap();
    let name = ServerName::try_from("control.mezu.internal").unwrap();
    within(TlsConnector::from(Arc::new(config)).connect(name, stream)).await
}

/// A dialler's configuration with this certificate.
pub(crate) fn with(world: &World, identity: &CurrentIdentity, alpn: &[&[u8]]) -> ClientConfig {
    let trust = CurrentTrust::new(world.trust(&[]));
    link_client_config(identity, &trust, &world.clock, alpn).unwrap()
}

/// Without a certificate.
fn without(world: &World, alpn: &[&[u8]]) -> ClientConfig {
    connect_client_config(world.root.fingerprint(), &world.clock, alpn).unwrap()
}

/// Whether a wake is answered on this connection.
async fn is_linked(stream: std::io::Result<Raw>) -> bool {
    let Ok(stream) = stream else { return false };
    let Ok((send, connection)) = h2::client::handshake(stream).await else { return false };
    let driver = tokio::spawn(connection);
    let Ok(mut send) = send.ready().await else { return false };
    let request = http::Request::post("https://control.mezu.internal/v1/feed/wake")
        .header("content-type", "application/json")
        .body(())
        .unwrap();
    let Ok((answer, _)) = send.send_request(request, true) else { return false };
    let answered = within(answer).await.is_ok_and(|answer| answer.status() == 200);
    driver.abort();
    answered
}

/// Whether a splice is taken on this connection.
async fn is_spliced(stream: std::io::Result<Raw>) -> bool {
    let Ok(mut stream) = stream else { return false };
    let header = proxy::encode("192.0.2.1:1".parse().unwrap(), "192.0.2.2:2".parse().unwrap());
    drop(stream.write_all(&header).await);
    drop(stream.flush().await);
    matches!(within(stream.read_u8()).await, Ok(b'1'))
}

#[tokio::test]
async fn r19_only_an_edge_of_this_installation_links_or_splices() {
    let world = World::new();
    let other = World::named("other.example");
    let node = world.control().await;
    let edge = world.current(Role::Edge(world.edge()));
    let rows = [
        ("a control node", world.current(Role::Control(ControlId::random(&world.entropy)))),
        ("a warpgate", world.current(world.warpgate())),
        ("another installation's edge", other.current(Role::Edge(other.edge()))),
    ];
    for (who, identity) in rows {
        assert!(!is_linked(dial(&node, with(&world, &identity, &[ALPN_LINK])).await).await, "{who}");
        assert!(!is_spliced(dial(&node, with(&world, &identity, &[ALPN_SPLICE])).await).await, "{who}");
    }
    assert!(!is_linked(dial(&node, without(&world, &[ALPN_LINK])).await).await, "no certificate");
    assert!(!is_spliced(dial(&node, without(&world, &[ALPN_SPLICE])).await).await, "no certificate");
    assert_eq!(node.fake.spliced.lock().unwrap().len(), 0);
    assert_eq!((node.port.counts().links, node.port.counts().splices), (0, 0));
    until(|| node.port.counts().handshakes_failed == 8).await;

    assert!(is_linked(dial(&node, with(&world, &edge, &[ALPN_LINK])).await).await, "an edge");
    assert!(is_spliced(dial(&node, with(&world, &edge, &[ALPN_SPLICE])).await).await, "an edge");
}

#[tokio::test]
async fn r19_a_hello_that_offers_joining_too_gets_nothing_but_joining() {
    let world = World::new();
    let node = world.control().await;
    let edge = world.current(Role::Edge(world.edge()));
    for config in [
        without(&world, &[ALPN_LINK, ALPN_JOIN]),
        without(&world, &[ALPN_SPLICE, ALPN_JOIN]),
        with(&world, &edge, &[ALPN_LINK, ALPN_JOIN]),
    ] {
        let stream = dial(&node, config).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(ALPN_JOIN));
        assert!(!is_linked(Ok(stream)).await);
    }
}

#[tokio::test]
async fn r19_no_protocol_or_an_unknown_one_opens_nothing() {
    let world = World::new();
    let node = world.control().await;
    let edge = world.current(Role::Edge(world.edge()));
    for alpn in [&[][..], &[b"h2".as_slice()], &[b"mezu-tunnel/1".as_slice()]] {
        let stream = dial(&node, with(&world, &edge, alpn)).await;
        assert!(!is_linked(stream).await, "{alpn:?}");
    }
    assert_eq!(node.port.counts().links, 0);
}

#[tokio::test]
async fn r20_a_certificate_that_has_ended_opens_nothing() {
    let world = World::new();
    let node = world.control().await;
    let identity = CurrentIdentity::new(world.identity(Role::Edge(world.edge()), Duration::from_mins(1)));
    let config = || with(&world, &identity, &[ALPN_LINK]);
    assert!(is_linked(dial(&node, config()).await).await);
    world.hand.advance(Duration::from_mins(2));
    assert!(!is_linked(dial(&node, config()).await).await, "it has ended");
}
