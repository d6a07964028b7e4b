//! One question and its answer: over QUIC, or over TCP and TLS if UDP gets no answer.

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use mezusphere_model::Clock;
use mezusphere_model::connection_key::ConnectionKey;
use mezusphere_pki::alert::alert_of_quic_error;
use mezusphere_pki::tls::connect_client_config;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ConnectionError, VarInt};
use rustls::{AlertDescription, ClientConfig};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tunnel_proto::codes::CloseCode;
use tunnel_proto::connect::Decoder;

use super::failure::ConnectFailure;
use crate::limits::{DIAL_STAGGER, ENROLL_EXCHANGE_MAX, ENROLL_QUIC_SILENCE_MAX, READ_LEN};
use crate::resolve::resolve;
use crate::tunnel::Network;

/// How the connect service was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// QUIC over UDP.
    Quic,
    /// TLS over TCP, because UDP got no answer.
    Tcp,
}

impl Transport {
    /// `quic` or `tcp`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::Tcp => "tcp",
        }
    }
}

/// Why one way gave no answer.
enum Missed {
    /// Nobody answered; another way may do better.
    Silent(String),
    /// Somebody answered, and that settles it.
    Failed(ConnectFailure),
}

/// Sends the framed question and reads the answer's JSON.
pub(super) async fn ask(
    network: &Network,
    key: &ConnectionKey,
    clock: &Clock,
    question: &[u8],
) -> Result<(Vec<u8>, Transport), ConnectFailure> {
    let tls = connect_client_config(key.root, clock, &[tunnel_proto::CONNECT_ALPN])
        .map_err(|why| ConnectFailure::fault(why.to_string()))?;
    let addresses = resolve(key.host.as_str(), key.port)
        .await
        .map_err(|why| ConnectFailure::unreachable(why.to_string()))?;
    let over_udp = match over_quic(network, &addresses, key, clock, &tls, question).await {
        Ok(answer) => return Ok((answer, Transport::Quic)),
        Err(Missed::Failed(failure)) => return Err(failure),
        Err(Missed::Silent(why)) => why,
    };
    match over_tcp(&addresses, key, clock, tls, question).await {
        Ok(answer) => Ok((answer, Transport::Tcp)),
        Err(Missed::Failed(failure)) => Err(failure),
        Err(Missed::Silent(over_tcp)) => Err(ConnectFailure::unreachable(format!(
            "{}:{} does not answer; over UDP: {over_udp}; over TCP: {over_tcp}",
            key.host, key.port
        ))),
    }
}

async fn over_quic(
    network: &Network,
    addresses: &[SocketAddr],
    key: &ConnectionKey,
    clock: &Clock,
    tls: &ClientConfig,
    question: &[u8],
) -> Result<Vec<u8>, Missed> {
    let fault = |why: String| Missed::Failed(ConnectFailure::fault(why));
    let crypto = QuicClientConfig::try_from(tls.clone()).map_err(|why| fault(why.to_string()))?;
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    let mut attempts: FuturesUnordered<_> = (0_u32..)
        .zip(addresses)
        .map(|(nth, address)| {
            let config = config.clone();
            async move {
                sleep(DIAL_STAGGER.saturating_mul(nth)).await;
                let connecting = network.endpoint.connect_with(config, *address, key.host.as_str());
                connecting
                    .map_err(|why| Missed::Silent(why.to_string()))?
                    .await
                    .map_err(|why| quic_missed(&why, clock))
            }
        })
        .collect();
    let dialling = async {
        let mut told = Missed::Silent("no answer".to_owned());
        while let Some(attempt) = attempts.next().await {
            match attempt {
                Ok(connection) => return Ok(connection),
                Err(missed) if matches!(told, Missed::Silent(_)) => told = missed,
                Err(_) => {}
            }
            if matches!(told, Missed::Failed(_)) {
                break; // somebody answered; the other addresses are the same service
            }
        }
        Err(told)
    };
    let connection = timeout(ENROLL_QUIC_SILENCE_MAX, dialling)
        .await
        .unwrap_or_else(|_| Err(Missed::Silent("no answer".to_owned())))?;
    let exchange = async {
        let (mut send, mut receive) = connection.open_bi().await?;
        send.write_all(question).await?;
        drop(send.finish());
        let mut decoder = Decoder::new();
        while let Some(chunk) = receive.read_chunk(READ_LEN, true).await? {
            decoder.push(&chunk.bytes)?;
        }
        Ok::<_, Broken>(decoder.finish()?)
    };
    let answer = match timeout(ENROLL_EXCHANGE_MAX, exchange).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(Broken(why))) => Err(match connection.close_reason() {
            // With TLS 1.3 a refusal may come after the handshake.
            Some(reason) => quic_missed(&reason, clock),
            None => Missed::Failed(ConnectFailure::unreachable(why)),
        }),
        Err(_) => Err(Missed::Failed(slow())),
    };
    connection.close(VarInt::from_u32(CloseCode::Done.number()), b"");
    answer
}

fn quic_missed(error: &ConnectionError, clock: &Clock) -> Missed {
    let failure = match error {
        ConnectionError::TimedOut | ConnectionError::Reset => return Missed::Silent("no answer".to_owned()),
        ConnectionError::TransportError(error) => alert_of_quic_error(error.code.into())
            .map(|alert| ConnectFailure::alert(alert, true, clock.now())),
        ConnectionError::ConnectionClosed(close) => alert_of_quic_error(close.error_code.into())
            .map(|alert| ConnectFailure::alert(alert, false, clock.now())),
        _ => None,
    };
    Missed::Failed(
        failure.unwrap_or_else(|| ConnectFailure::unreachable(format!("the connection broke: {error}"))),
    )
}

async fn over_tcp(
    addresses: &[SocketAddr],
    key: &ConnectionKey,
    clock: &Clock,
    tls: ClientConfig,
    question: &[u8],
) -> Result<Vec<u8>, Missed> {
    let exchange = async {
        let mut last = "no address".to_owned();
        let mut connected = None;
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    connected = Some(stream);
                    break;
                }
                Err(why) => last = crate::key::reason(&why).to_lowercase(),
            }
        }
        let stream = connected.ok_or(Missed::Silent(last))?;
        let name = ServerName::try_from(key.host.to_string())
            .map_err(|why| Missed::Failed(ConnectFailure::fault(why.to_string())))?;
        let mut stream = TlsConnector::from(Arc::new(tls))
            .connect(name, stream)
            .await
            .map_err(|why| Missed::Failed(tls_failure(&why, clock)))?;
        let broken = |why: std::io::Error| Missed::Failed(tls_failure(&why, clock));
        let unreadable = |why: tunnel_proto::connect::ConnectError| {
            Missed::Failed(ConnectFailure::bad_answer(&why.to_string()))
        };
        if stream.get_ref().1.alpn_protocol() != Some(tunnel_proto::CONNECT_ALPN) {
            return Err(Missed::Failed(ConnectFailure::alert(NO_APPLICATION_PROTOCOL, true, clock.now())));
        }
        stream.write_all(question).await.map_err(broken)?;
        stream.flush().await.map_err(broken)?;
        let mut decoder = Decoder::new();
        let mut buffer = vec![0; READ_LEN];
        loop {
            let octets = stream.read(&mut buffer).await.map_err(broken)?;
            let piece = buffer.get(..octets).unwrap_or_default();
            if octets == 0 || decoder.push(piece).map_err(unreadable)? {
                return decoder.finish().map_err(unreadable);
            }
        }
    };
    timeout(ENROLL_EXCHANGE_MAX, exchange)
        .await
        .unwrap_or_else(|_| Err(Missed::Silent("no answer in time".to_owned())))
}

/// TLS alert 120 (RFC 7301 §3.2).
const NO_APPLICATION_PROTOCOL: u8 = 120;

fn tls_failure(error: &std::io::Error, clock: &Clock) -> ConnectFailure {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::AlertReceived(alert)) => {
            ConnectFailure::alert(u8::from(*alert), false, clock.now())
        }
        Some(rustls::Error::InvalidCertificate(why)) => {
            ConnectFailure::alert(u8::from(AlertDescription::from(why.clone())), true, clock.now())
        }
        _ => ConnectFailure::unreachable(format!("the connection broke: {error}")),
    }
}

fn slow() -> ConnectFailure {
    ConnectFailure::unreachable(format!("no answer within {} s", ENROLL_EXCHANGE_MAX.as_secs()))
}

/// What broke on the way, in words.
struct Broken(String);

impl<E: std::error::Error> From<E> for Broken {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}
