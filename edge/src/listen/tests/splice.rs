//! A split edge: what it passes on, what it refuses, and that it opens nothing of it.

use std::io;

use mezusphere_pki::tls::connect_client_config;
use mezusphere_pki::trust::root_fingerprint;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use super::h1;
use super::h2;
use super::tls::{quic_end, tcp_alert};
use super::*;

/// No control node answers.
struct Away;

impl Splice for Away {
    fn open(&self, _: SocketAddr, _: SocketAddr) -> Answer<'_, io::Result<SpliceStream>> {
        Box::pin(async { Err(io::ErrorKind::ConnectionRefused.into()) })
    }
}

/// None refuses either.
struct Silent;

impl Splice for Silent {
    fn open(&self, _: SocketAddr, _: SocketAddr) -> Answer<'_, io::Result<SpliceStream>> {
        Box::pin(std::future::pending())
    }
}

/// A connection as control gets it: from where, to where, and its octets.
pub(super) type Passed = (SocketAddr, SocketAddr, DuplexStream);

/// Gives control's end of each way to the test.
pub(super) struct Shown(pub(super) mpsc::UnboundedSender<Passed>);

impl Splice for Shown {
    fn open(&self, client: SocketAddr, local: SocketAddr) -> Answer<'_, io::Result<SpliceStream>> {
        let (near, far) = tokio::io::duplex(16 * 1024);
        self.0.send((client, local, far)).unwrap();
        Box::pin(async { Ok(Box::new(near) as SpliceStream) })
    }
}

fn shown(limits: &Limits) -> (Rig, mpsc::UnboundedReceiver<Passed>) {
    let (sender, passed) = mpsc::unbounded_channel();
    (Rig::split(limits, Shown(sender)), passed)
}

/// The ClientHello of a browser that wants `name`.
fn hello(rig: &Rig, name: &'static str) -> Vec<u8> {
    let tls = Arc::new(client_tls(&rig.trust, &[ALPN_H2, ALPN_H1]));
    let mut client = rustls::ClientConnection::new(tls, ServerName::try_from(name).unwrap()).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}

#[tokio::test]
async fn control_gets_every_octet_of_the_client_in_order_and_knows_from_where() {
    let (rig, mut passed) = shown(&Limits::default());
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let hello = hello(&rig, LOGIN);
    let (last, rest) = hello.split_last().unwrap();
    // In pieces, and with more behind it than the hello.
    for piece in rest.chunks(100) {
        stream.write_all(piece).await.unwrap();
        stream.flush().await.unwrap();
    }
    stream.write_all(&[&[*last][..], b"and more"].concat()).await.unwrap();
    stream.shutdown().await.unwrap();
    let (client, local, mut control) = timeout(SOON, passed.recv()).await.unwrap().unwrap();
    assert_eq!((client, local), (stream.local_addr().unwrap(), rig.address));
    let mut octets = Vec::new();
    timeout(SOON, control.read_to_end(&mut octets)).await.unwrap().unwrap();
    assert!(octets == [&hello[..], b"and more"].concat(), "replayed as it came");
    // The client has said all; control has not.
    control.write_all(b"late").await.unwrap();
    control.shutdown().await.unwrap();
    let mut answer = String::new();
    timeout(SOON, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert_eq!(answer, "late", "and not one octet of the edge's own");
    rig.end().await;
}

#[tokio::test]
async fn r10_a_client_cannot_bring_a_proxy_header_of_its_own() {
    let (rig, mut passed) = shown(&Limits::default());
    let from = [&[192, 0, 2, 7, 127, 0, 0, 1][..], &4711_u16.to_be_bytes(), &443_u16.to_be_bytes()].concat();
    let header = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..], &from].concat();
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    stream.write_all(&[&header[..], &hello(&rig, LOGIN)].concat()).await.unwrap();
    let mut rest = Vec::new();
    // A reset is an end as well.
    drop(timeout(SOON, stream.read_to_end(&mut rest)).await.expect("it was kept"));
    assert!(rest.len() <= 7, "at most an alert: {rest:?}");
    assert!(passed.try_recv().is_err(), "nothing was passed on");
    rig.end().await;
}

#[tokio::test]
async fn platform_hosts_are_served_behind_a_split_edge_and_never_opened_by_it() {
    let rig = Rig::fronted();
    let answers =
        h1::send(&rig, format!("GET / HTTP/1.1\r\nHost: {LOGIN}\r\nConnection: close\r\n\r\n").as_bytes())
            .await;
    assert!(answers.starts_with("HTTP/1.1 200") && answers.ends_with("hello"), "{answers}");
    assert!(!answers.contains("alt-svc"), "there is no HTTP/3 to tell of: {answers}");
    let (mut client, _driver) = h2::connect(&rig).await;
    let (status, headers, body) = h2::fetch(&mut client, rig.get("/")).await;
    assert_eq!((status.as_u16(), &body[..]), (200, &b"hello"[..]));
    assert!(!headers.contains_key("alt-svc"));
    assert_eq!((rig.counters.spliced.get(), rig.counters.h1.get(), rig.counters.h2.get()), (2, 0, 0));
    rig.end().await;
}

#[tokio::test]
async fn a_large_body_goes_through_a_splice() {
    let rig = Rig::fronted();
    let (mut client, _driver) = h2::connect(&rig).await;
    let (response, mut send) = client.send_request(rig.post("/echo"), false).unwrap();
    let mut left = Bytes::from(vec![b'x'; 1024 * 1024]);
    while !left.is_empty() {
        send.reserve_capacity(left.len());
        let capacity = std::future::poll_fn(|cx| send.poll_capacity(cx)).await.unwrap().unwrap();
        let part = left.split_to(capacity.min(left.len()));
        send.send_data(part, left.is_empty()).unwrap();
    }
    let (data, _) = h2::read(response.await.unwrap().into_body()).await.unwrap();
    assert_eq!(data.len(), 1024 * 1024);
    rig.end().await;
}

#[tokio::test]
async fn whoever_enrols_at_a_split_edge_reaches_a_control_node() {
    let rig = Rig::fronted();
    let pin = root_fingerprint(rig.trust.root.certificate());
    let config = connect_client_config(pin, &now(), &[tunnel_proto::CONNECT_ALPN]).unwrap();
    let stream = TcpStream::connect(rig.address).await.unwrap();
    let name = ServerName::try_from(mezusphere_pki::EDGE_DNS_NAME).unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    let leaf = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
    let name = b"spiffe://test.internal/control/";
    assert!(leaf.windows(name.len()).any(|part| part == name), "its own name, not the edge's");
    let message = [&9_u32.to_be_bytes()[..], b"{\"a\":\"b\"}"].concat();
    stream.write_all(&message).await.unwrap();
    let mut reply = vec![0; message.len()];
    timeout(SOON, stream.read_exact(&mut reply)).await.unwrap().unwrap();
    assert_eq!(reply, message);
    assert_eq!((rig.counters.spliced.get(), rig.counters.connect.get()), (1, 0));
    rig.end().await;
}

#[tokio::test]
async fn what_is_controls_is_refused_over_quic_so_that_clients_come_over_tcp() {
    let rig = Rig::fronted();
    let public = || client_tls(&rig.trust, &[ALPN_H3]);
    assert_eq!(quic_end(&rig, public(), LOGIN).await, Err(112), "though a certificate here covers it");
    let pin = root_fingerprint(rig.trust.root.certificate());
    let connect = connect_client_config(pin, &now(), &[tunnel_proto::CONNECT_ALPN]).unwrap();
    assert_eq!(quic_end(&rig, connect, mezusphere_pki::EDGE_DNS_NAME).await, Err(120));
    let site = h3::connect_quic(&rig, public(), HOST).await.unwrap();
    assert!(site.close_reason().is_none(), "applications are served as ever");
    assert_eq!(rig.upstream.requests(), 0);
    rig.end().await;
}

#[tokio::test]
async fn while_no_control_node_answers_a_client_is_told_so_soon() {
    let limits = Limits { splice_open: Duration::from_millis(200), ..Limits::default() };
    for rig in [Rig::split(&limits, Away), Rig::split(&limits, Silent)] {
        let begun = Instant::now();
        for _ in 0..2 {
            assert_eq!(tcp_alert(&rig, client_tls(&rig.trust, &[ALPN_H2]), LOGIN).await, 80);
        }
        assert!(begun.elapsed() < limits.client_hello, "{:?}", begun.elapsed());
        assert_eq!((rig.counters.no_control.get(), rig.counters.spliced.get()), (2, 0));
        let stream = TcpStream::connect(rig.address).await.unwrap();
        let tls = TlsConnector::from(Arc::new(client_tls(&rig.trust, &[ALPN_H1])));
        let site = tls.connect(ServerName::try_from(HOST).unwrap(), stream).await;
        assert!(site.is_ok(), "applications are served as ever");
        rig.end().await;
    }
}

#[tokio::test]
async fn r23_one_address_gets_no_more_splices_than_it_may() {
    let limits = Limits { splices_per_address: 2, ..Limits::default() };
    let (rig, mut passed) = shown(&limits);
    let mut kept = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(rig.address).await.unwrap();
        stream.write_all(&hello(&rig, LOGIN)).await.unwrap();
        kept.push((timeout(SOON, passed.recv()).await.unwrap().unwrap(), stream));
    }
    assert_eq!(tcp_alert(&rig, client_tls(&rig.trust, &[ALPN_H2]), LOGIN).await, 80);
    drop(kept.pop());
    // The place is given back when the edge has seen the end.
    let again = async {
        loop {
            let mut stream = TcpStream::connect(rig.address).await.unwrap();
            stream.write_all(&hello(&rig, LOGIN)).await.unwrap();
            let mut octet = [0];
            tokio::select! {
                passed = passed.recv() => return passed,
                _ = stream.read(&mut octet) => {}
            }
        }
    };
    assert!(timeout(SOON, again).await.unwrap().is_some());
    rig.end().await;
}

#[tokio::test]
async fn r23_a_splice_on_which_nothing_moves_is_closed() {
    let (rig, mut passed) = shown(&Limits { splice_idle: Duration::from_millis(300), ..Limits::default() });
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    stream.write_all(&hello(&rig, LOGIN)).await.unwrap();
    let (_, _, mut control) = timeout(SOON, passed.recv()).await.unwrap().unwrap();
    let mut octets = Vec::new();
    timeout(SOON, control.read_to_end(&mut octets)).await.expect("control was kept").unwrap();
    let mut rest = Vec::new();
    timeout(SOON, stream.read_to_end(&mut rest)).await.expect("the client was kept").unwrap();
    rig.end().await;
}

#[tokio::test]
async fn what_was_passed_on_goes_on_while_the_edge_drains_and_is_cut_when_it_closes() {
    let (rig, mut passed) = shown(&Limits::default());
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    let hello = hello(&rig, LOGIN);
    stream.write_all(&hello).await.unwrap();
    let (_, _, mut control) = timeout(SOON, passed.recv()).await.unwrap().unwrap();
    let mut octets = vec![0; hello.len()];
    control.read_exact(&mut octets).await.unwrap();
    rig.drain.begin();
    control.write_all(b"answer").await.unwrap();
    let mut answer = [0; 6];
    timeout(SOON, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"answer");
    assert!(
        timeout(Duration::from_millis(100), rig.drain.finished()).await.is_err(),
        "it is waited for, as long as the grace lasts"
    );
    rig.end().await;
    assert_eq!(timeout(SOON, stream.read(&mut answer)).await.unwrap().unwrap_or_default(), 0);
    assert_eq!(timeout(SOON, control.read(&mut answer)).await.unwrap().unwrap(), 0);
}
