//! Who gets through TLS, and what the others are told.

use std::sync::Arc;

use mezusphere_pki::NodeIdentity;
use mezusphere_pki::tls::connect_client_config;
use mezusphere_pki::trust::root_fingerprint;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::h3::connect_quic;
use super::*;

/// Trusts every server, because the edge's internal chain is not for the public root store.
#[derive(Debug)]
struct Anyone;

impl rustls::client::danger::ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// A client that trusts anyone, offers `alpn` and shows `identity`.
pub(super) fn tls(alpn: &[&[u8]], identity: Option<&NodeIdentity>) -> rustls::ClientConfig {
    let builder =
        rustls::ClientConfig::builder().dangerous().with_custom_certificate_verifier(Arc::new(Anyone));
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(identity.key().pkcs8_der().to_vec()));
            builder.with_client_auth_cert(identity.chain().to_vec(), key).unwrap()
        }
    };
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    config
}

/// How a QUIC connection ends: the edge's closing code, or the TLS alert it was refused with. With TLS 1.3 a
/// client's handshake succeeds before its certificate was judged, so the end may come after.
pub(super) async fn quic_end(rig: &Rig, tls: rustls::ClientConfig, name: &str) -> Result<u64, u8> {
    let end = match connect_quic(rig, tls, name).await {
        Ok(connection) => timeout(SOON, connection.closed()).await.expect("neither served nor refused"),
        Err(error) => error,
    };
    match end {
        quinn::ConnectionError::ApplicationClosed(close) => Ok(close.error_code.into_inner()),
        quinn::ConnectionError::ConnectionClosed(close) => {
            let code = u64::from(close.error_code);
            Err(u8::try_from(code.checked_sub(0x100).unwrap_or_else(|| panic!("{close}"))).unwrap())
        }
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn r19_only_a_warpgate_of_this_installation_gets_a_tunnel() {
    type Row<'a> = (&'a [&'a [u8]], Option<&'a NodeIdentity>, Result<u64, u8>);
    let rig = Rig::start();
    let stranger = TestTrust::new(&now()).warpgate();
    let edge = rig.trust.identity(Role::Edge(EdgeId::from_bits(9)));
    let warpgate = rig.trust.warpgate();
    let tunnel: &[&[u8]] = &[tunnel_proto::ALPN];
    let both: &[&[u8]] = &[ALPN_H3, tunnel_proto::ALPN];
    let name = mezusphere_pki::EDGE_DNS_NAME;
    // The stand-in closes with the length of the chain it was shown.
    let rows: [Row<'_>; 6] = [
        (tunnel, Some(&warpgate), Ok(2)),
        (tunnel, None, Err(116)),                         // certificate_required
        (both, None, Err(116)),                           // offering h3 as well opens no other door
        (tunnel, Some(&stranger), Err(48)),               // unknown_ca
        (&[b"mezu-tunnel/2"], Some(&warpgate), Err(120)), // no_application_protocol
        (&[], Some(&warpgate), Err(120)),
    ];
    for (alpn, identity, expected) in rows {
        assert_eq!(
            quic_end(&rig, tls(alpn, identity), name).await,
            expected,
            "{alpn:?} {:?}",
            identity.is_some()
        );
    }
    let wrong_role = quic_end(&rig, tls(tunnel, Some(&edge)), name).await;
    assert!(
        matches!(wrong_role, Err(42..=49)),
        "a certificate of another role is a certificate error: {wrong_role:?}"
    );
    assert_eq!(rig.upstream.requests(), 0);
    rig.end().await;
}

/// How a tunnel's handshake over TCP ends: without a word, or with the alert it was refused with, which comes after the
/// client is done.
async fn tcp_tunnel_end(rig: &Rig, tls: rustls::ClientConfig) -> Result<(), u8> {
    let stream = TcpStream::connect(rig.address).await.unwrap();
    let name = ServerName::try_from(mezusphere_pki::EDGE_DNS_NAME).unwrap();
    let mut stream = TlsConnector::from(Arc::new(tls)).connect(name, stream).await.unwrap();
    let (_, session) = stream.get_ref();
    assert_eq!(session.alpn_protocol(), Some(tunnel_proto::ALPN));
    assert_eq!(session.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    let read = timeout(SOON, stream.read_to_end(&mut Vec::new())).await.expect("neither served nor refused");
    match read {
        // The stand-in's end, without a word of TLS's own.
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(()),
        Err(error) => Err(alert(&error)),
        Ok(_) => Ok(()),
    }
}

#[tokio::test]
async fn r19_only_a_warpgate_of_this_installation_gets_a_tunnel_over_tcp() {
    let rig = Rig::start();
    let stranger = TestTrust::new(&now()).warpgate();
    let edge = rig.trust.identity(Role::Edge(EdgeId::from_bits(9)));
    let warpgate = rig.trust.warpgate();
    let tunnel: &[&[u8]] = &[tunnel_proto::ALPN];
    let both: &[&[u8]] = &[ALPN_H2, tunnel_proto::ALPN];
    assert_eq!(tcp_tunnel_end(&rig, tls(tunnel, Some(&warpgate))).await, Ok(()));
    assert_eq!(tcp_tunnel_end(&rig, tls(tunnel, None)).await, Err(116));
    assert_eq!(
        tcp_tunnel_end(&rig, tls(both, None)).await,
        Err(116),
        "offering h2 as well opens no other door"
    );
    assert_eq!(tcp_tunnel_end(&rig, tls(tunnel, Some(&stranger))).await, Err(48));
    assert!(matches!(tcp_tunnel_end(&rig, tls(tunnel, Some(&edge))).await, Err(42..=49)));
    let mut old = rustls::ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS12])
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
        .with_no_client_auth();
    old.alpn_protocols = vec![tunnel_proto::ALPN.to_vec()];
    assert_eq!(tcp_alert(&rig, old, mezusphere_pki::EDGE_DNS_NAME).await, 70, "protocol_version");
    assert_eq!(rig.upstream.requests(), 0);
    rig.end().await;
}

#[tokio::test]
async fn r19_a_certificate_that_may_not_be_a_clients_is_unsupported() {
    let rig = Rig::start();
    // A public certificate of the same CA: for servers only (RFC 5280 §4.2.1.12).
    let document = rig.trust.public(&["shop.localhost"]);
    let chain: Vec<_> = mezusphere_pki::trust::certificates_from_pem(&document.chain_pem).unwrap();
    let key =
        <PrivateKeyDer<'_> as rustls::pki_types::pem::PemObject>::from_pem_slice(document.key_pem.as_bytes());
    let mut config = rustls::ClientConfig::builder()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
        .with_client_auth_cert(chain, key.unwrap())
        .unwrap();
    config.alpn_protocols = vec![tunnel_proto::ALPN.to_vec()];
    assert_eq!(quic_end(&rig, config, mezusphere_pki::EDGE_DNS_NAME).await, Err(43));
    rig.end().await;
}

#[tokio::test]
async fn r19_public_clients_are_never_asked_for_a_certificate() {
    let rig = Rig::start();
    let warpgate = rig.trust.warpgate();
    let connection = connect_quic(&rig, tls(&[ALPN_H3], Some(&warpgate)), HOST).await.unwrap();
    assert!(connection.close_reason().is_none());
    connection.close(quinn::VarInt::from_u32(0x100), b"");
    rig.end().await;
}

#[tokio::test]
async fn r03_a_name_without_a_certificate_is_refused_before_the_handshake() {
    let rig = Rig::start();
    for name in ["other.localhost", "a.shop.localhost", "127.0.0.1"] {
        assert_eq!(quic_end(&rig, tls(&[ALPN_H3], None), name).await, Err(112), "{name}");
        assert_eq!(tcp_alert(&rig, tls(&[ALPN_H2], None), name).await, 112, "{name}");
    }
    assert_eq!(quic_end(&rig, tls(&[b"h2"], None), HOST).await, Err(120));
    assert_eq!(tcp_alert(&rig, tls(&[b"mezu-tunnel/2"], None), HOST).await, 120);
    assert_eq!(tcp_alert(&rig, tls(&[b"spdy/3"], None), HOST).await, 120);
    rig.end().await;
}

/// The TLS alert that a handshake over TCP is refused with.
pub(super) async fn tcp_alert(rig: &Rig, tls: rustls::ClientConfig, name: &str) -> u8 {
    let stream = TcpStream::connect(rig.address).await.unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let error = TlsConnector::from(Arc::new(tls)).connect(name, stream).await.expect_err("refused");
    alert(&error)
}

/// The alert in a client's error.
pub(super) fn alert(error: &std::io::Error) -> u8 {
    match error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::AlertReceived(alert)) => u8::from(*alert),
        _ => panic!("{error}"),
    }
}

#[tokio::test]
async fn r19_old_tls_is_refused_and_1_2_is_served() {
    let rig = Rig::start();
    let mut config = rustls::ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS12])
        .with_root_certificates(rig.trust.roots())
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN_H1.to_vec()];
    let stream = TcpStream::connect(rig.address).await.unwrap();
    let mut stream = TlsConnector::from(Arc::new(config))
        .connect(ServerName::try_from(HOST).unwrap(), stream)
        .await
        .unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    rig.end().await;
}

#[tokio::test]
async fn whoever_enrols_sees_the_root_it_pinned_and_reaches_control() {
    let rig = Rig::start();
    let pin = root_fingerprint(rig.trust.root.certificate());
    let config = || connect_client_config(pin, &now(), &[tunnel_proto::CONNECT_ALPN]).unwrap();
    let message = [&9_u32.to_be_bytes()[..], b"{\"a\":\"b\"}"].concat();

    let connection = connect_quic(&rig, config(), mezusphere_pki::EDGE_DNS_NAME).await.unwrap();
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    send.write_all(&message).await.unwrap();
    let reply = timeout(SOON, recv.read_to_end(100)).await.unwrap().unwrap();
    assert_eq!(reply, message, "over QUIC");

    let stream = TcpStream::connect(rig.address).await.unwrap();
    let name = ServerName::try_from(mezusphere_pki::EDGE_DNS_NAME).unwrap();
    let mut stream = TlsConnector::from(Arc::new(config())).connect(name, stream).await.unwrap();
    stream.write_all(&message).await.unwrap();
    let mut reply = vec![0; message.len()];
    timeout(SOON, stream.read_exact(&mut reply)).await.unwrap().unwrap();
    assert_eq!(reply, message, "over TLS");

    let other = root_fingerprint(TestTrust::new(&now()).root.certificate());
    let wrong = connect_client_config(other, &now(), &[tunnel_proto::CONNECT_ALPN]).unwrap();
    assert!(connect_quic(&rig, wrong, mezusphere_pki::EDGE_DNS_NAME).await.is_err(), "another pin");
    rig.end().await;
}

#[tokio::test]
async fn r23_a_hello_that_does_not_end_is_timed_out_and_a_huge_one_is_refused() {
    let rig = Rig::with(&short());
    let huge = [&[0x16, 3, 1, 0x40, 0][..], &[1, 0xff, 0xff, 0xff], &[0; 0x3ffc]].concat();
    let rows: [(&str, &[u8]); 3] = [
        ("nothing", b""),
        ("part of a record", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"),
        ("a huge hello", &huge),
    ];
    for (what, octets) in rows {
        let mut stream = TcpStream::connect(rig.address).await.unwrap();
        stream.write_all(octets).await.unwrap();
        let mut rest = Vec::new();
        let closed = timeout(SOON, stream.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "{what} was kept");
        assert!(rest.len() <= 7, "{what}: at most an alert comes back, not {rest:?}");
    }
    // And a handshake that stops after the hello.
    let mut client = rustls::ClientConnection::new(
        Arc::new(client_tls(&rig.trust, &[ALPN_H1])),
        ServerName::try_from(HOST).unwrap(),
    )
    .unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    stream.write_all(&hello).await.unwrap();
    let mut rest = Vec::new();
    assert!(timeout(SOON, stream.read_to_end(&mut rest)).await.is_ok(), "a half handshake was kept");
    rig.end().await;
}

#[tokio::test]
async fn whoever_speaks_plain_http_to_the_tls_port_is_told_the_https_address() {
    let rig = Rig::start();
    for (request, told) in [
        (
            format!("GET /a?b HTTP/1.1\r\nHost: {HOST}:1\r\n\r\n"),
            format!("This port speaks HTTPS: https://{HOST}"),
        ),
        (
            "POST / HTTP/1.1\r\nContent-Length: 1000000\r\n\r\nabc".to_owned(),
            "This port speaks HTTPS.".to_owned(),
        ),
    ] {
        let mut stream = TcpStream::connect(rig.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(SOON, stream.read_to_string(&mut answer)).await.expect("closed").unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains(&told), "{answer}");
    }
    assert_eq!(rig.upstream.requests(), 0);
    rig.end().await;
}

#[tokio::test]
async fn r23_one_address_gets_no_more_connections_than_it_may() {
    let rig = Rig::with(&Limits { connections_per_address: 2, ..Limits::default() });
    let connect = || connect_quic(&rig, client_tls(&rig.trust, &[ALPN_H3]), HOST);
    let (first, _second) = (connect().await.unwrap(), connect().await.unwrap());
    let third = connect().await.unwrap();
    let end = timeout(SOON, third.closed()).await.unwrap();
    assert!(
        matches!(&end, quinn::ConnectionError::ApplicationClosed(close) if close.error_code.into_inner() == 0x107),
        "{end}"
    );
    first.close(quinn::VarInt::from_u32(0x100), b"");

    let tcp = async || {
        let tls = TlsConnector::from(Arc::new(client_tls(&rig.trust, &[ALPN_H1])));
        let stream = TcpStream::connect(rig.address).await.unwrap();
        tls.connect(ServerName::try_from(HOST).unwrap(), stream).await
    };
    let _kept = (tcp().await.unwrap(), tcp().await.unwrap());
    assert!(tcp().await.is_err());
    rig.end().await;
}

#[tokio::test]
async fn r23_under_pressure_a_client_proves_its_address_first() {
    // From the first handshake on: a quarter of three is none.
    let rig = Rig::with(&Limits { handshakes: 3, ..Limits::default() });
    let connection = connect_quic(&rig, client_tls(&rig.trust, &[ALPN_H3]), HOST).await.unwrap();
    assert!(connection.close_reason().is_none());
    assert_eq!(rig.counters.retried.get(), 1);
    rig.end().await;
}
