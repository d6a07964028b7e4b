//! Shows certificates at the real ports of running nodes, says what an honest node would say first, and tells how it was met.
//!
//! Stock rustls and quinn, which believe whoever answers: what is judged is the other side.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use mezusphere_edge_link::{ALPN_JOIN, ALPN_LINK, ALPN_SPLICE, proxy};
use mezusphere_model::id::WarpgateId;
use mezusphere_pki::alert::alert_of_quic_error;
use mezusphere_pki::{CONTROL_DNS_NAME, EDGE_DNS_NAME};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, ConnectionError, Endpoint, RecvStream, SendStream};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tunnel_proto::codes::CloseCode;
use tunnel_proto::control::{Decoder, Encoder, Hello, Message, VERSIONS};

use super::forge::Shown;

/// How long a node may take to answer or refuse.
const ANSWERS_WITHIN: Duration = Duration::from_secs(15);

/// Octets of the length before a message of a join.
const LENGTH_LEN: usize = 4;

/// How long an exchange that was chosen for a tunnel may take to come over loopback.
const SOON: Duration = Duration::from_millis(300);

/// What an HTTP/2 client says first: the preface and empty SETTINGS (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";

/// How a node met whoever knocked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Met {
    /// It let them in: these are its first octets.
    In(Vec<u8>),
    /// It refused them with this TLS alert.
    Alert(u8),
    /// It ended the tunnel with this reason.
    Closed(CloseCode),
}

impl Met {
    pub(super) fn is_in(&self) -> bool {
        matches!(self, Self::In(_))
    }
}

/// A port, and what is spoken there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Port {
    /// An edge's, for warpgates.
    Tunnel,
    /// The same over TCP.
    TunnelOverTcp,
    /// A control node's, for edges.
    Link,
    /// The same, for their clients.
    Splice,
    /// The same, for whoever joins.
    Join,
    /// An edge's, for the public.
    Public,
}

/// Where the ports are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    pub(super) edge: SocketAddr,
    pub(super) control: SocketAddr,
}

impl Ports {
    /// Knocks at `port` with `shown`. `instance`: whom a Hello names.
    pub(super) async fn knock(&self, port: Port, shown: Option<&Shown>, instance: WarpgateId) -> Result<Met> {
        let client = ("192.0.2.1:4711".parse()?, "192.0.2.2:443".parse()?);
        let (to, name, alpn, says): (_, &str, &[u8], Vec<u8>) = match port {
            Port::Tunnel => return Ok(self.tunnel(shown, instance).await?.leave().await),
            // There the edge is the HTTP/2 client, and speaks first.
            Port::TunnelOverTcp => (self.edge, EDGE_DNS_NAME, tunnel_proto::ALPN, Vec::new()),
            Port::Link => (self.control, CONTROL_DNS_NAME, ALPN_LINK, PREFACE.to_vec()),
            Port::Splice => (self.control, CONTROL_DNS_NAME, ALPN_SPLICE, proxy::encode(client.0, client.1)),
            Port::Join => (self.control, CONTROL_DNS_NAME, ALPN_JOIN, framed(b"{}")),
            Port::Public => {
                let host = format!("shop.localhost:{}", self.edge.port());
                let get = format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
                (self.edge, "shop.localhost", &b"http/1.1"[..], get.into_bytes())
            }
        };
        let tcp = TcpStream::connect(to).await?;
        let connector = TlsConnector::from(Arc::new(config(shown, alpn)?));
        let name = ServerName::try_from(name.to_owned())?;
        let knocking = async {
            let mut stream = connector.connect(name, tcp).await?;
            stream.write_all(&says).await?;
            stream.flush().await?;
            let mut first = vec![0; 4096];
            let mut count = stream.read(&mut first).await?;
            // The length of what follows may come alone.
            if port == Port::Join && count > 0 && count <= LENGTH_LEN {
                count += stream.read(&mut first[count..]).await?;
            }
            first.truncate(count);
            std::io::Result::Ok(first)
        };
        match timeout(ANSWERS_WITHIN, knocking).await.with_context(|| format!("{port:?} is silent"))? {
            Ok(first) if first.is_empty() => bail!("{port:?} ended without a word"),
            Ok(first) => Ok(Met::In(first)),
            Err(why) => match why.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                Some(rustls::Error::AlertReceived(alert)) => Ok(Met::Alert(u8::from(*alert))),
                _ => bail!("{port:?} broke: {why}"),
            },
        }
    }

    /// Dials the edge and says Hello.
    pub(super) async fn tunnel(&self, shown: Option<&Shown>, instance: WarpgateId) -> Result<Dialled> {
        let endpoint = Endpoint::client(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let tls = config(shown, tunnel_proto::ALPN)?;
        let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
        let knocking = async {
            let connection = match endpoint.connect_with(config, self.edge, EDGE_DNS_NAME)?.await {
                Ok(connection) => connection,
                Err(why) => return anyhow::Ok((met(&why)?, None)),
            };
            let hello = async {
                let (mut send, mut receive) = connection.open_bi().await?;
                send.write_all(&greeting(instance)?).await?;
                let mut decoder = Decoder::from_edge();
                loop {
                    match decoder.poll()? {
                        Some(Message::Welcome(_)) => return anyhow::Ok((send, receive)),
                        Some(_) => {}
                        None => match receive.read_chunk(4096, true).await? {
                            Some(chunk) => decoder.push(chunk.bytes),
                            None => bail!("the control stream ended"),
                        },
                    }
                }
            };
            match hello.await {
                Ok(control) => Ok((Met::In(b"Welcome".to_vec()), Some((connection.clone(), control)))),
                // The connection's own end says why.
                Err(_) => Ok((met(&connection.closed().await)?, None)),
            }
        };
        let knocked = timeout(ANSWERS_WITHIN, knocking).await.context("the tunnel's port is silent")?;
        let (met, open) = knocked?;
        let exchange = open.as_ref().map(|(connection, _)| {
            let connection = connection.clone();
            // Ends with the connection.
            tokio::spawn(async move { connection.accept_bi().await.is_ok() })
        });
        Ok(Dialled { met, endpoint, exchange, _open: open })
    }
}

/// A tunnel that was dialled, and stays while this does.
pub(super) struct Dialled {
    pub(super) met: Met,
    endpoint: Endpoint,
    /// Says whether the edge has opened a stream for an exchange.
    exchange: Option<JoinHandle<bool>>,
    _open: Option<(Connection, (SendStream, RecvStream))>,
}

impl Dialled {
    /// Whether the edge has opened a stream for an exchange.
    pub(super) async fn has_exchange(&mut self) -> bool {
        match &mut self.exchange {
            Some(exchange) => matches!(timeout(SOON, exchange).await, Ok(Ok(true))),
            None => false,
        }
    }

    /// Ends it, so that the edge does not take it for a tunnel any longer.
    pub(super) async fn leave(self) -> Met {
        self.endpoint.close(quinn::VarInt::from_u32(CloseCode::Done.number()), b"");
        self.endpoint.wait_idle().await;
        self.met
    }
}

fn greeting(instance: WarpgateId) -> Result<Vec<u8>> {
    let mut encoder = Encoder::new();
    encoder.message(&Message::Hello(Hello {
        versions: VERSIONS,
        agent: "warpgate/0.1.0".to_owned(),
        instance,
        index: 0,
        count: 1,
        upstreams: vec![mezusphere_model::slug::Slug::parse("default")?],
        bundle_revision: 0,
        features: 0,
    }))?;
    Ok(encoder.take().to_vec())
}

fn met(why: &ConnectionError) -> Result<Met> {
    match why {
        ConnectionError::ConnectionClosed(close) => {
            let alert = alert_of_quic_error(close.error_code.into());
            alert.map(Met::Alert).with_context(|| format!("closed without an alert: {close}"))
        }
        ConnectionError::ApplicationClosed(close) => {
            Ok(Met::Closed(CloseCode::from_number(close.error_code.into_inner())))
        }
        other => bail!("it was not the edge that closed the tunnel: {other}"),
    }
}

/// `u32 length big-endian | message`.
fn framed(message: &[u8]) -> Vec<u8> {
    let len = u32::try_from(message.len()).unwrap_or(u32::MAX);
    [&len.to_be_bytes(), message].concat()
}

/// A client that shows this, and believes whoever answers.
fn config(shown: Option<&Shown>, alpn: &[u8]) -> Result<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody));
    let mut config = match shown {
        Some(shown) => builder.with_client_auth_cert(shown.chain.clone(), shown.key.clone_key())?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    Ok(config)
}

#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
