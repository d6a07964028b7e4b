//! One question to the connect service over QUIC, and its answer.

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use mezusphere_model::Clock;
use mezusphere_pki::alert::alert_of_quic_error;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, ConnectionError, VarInt};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tunnel_proto::codes::CloseCode;
use tunnel_proto::connect::Decoder;

use super::NO_APPLICATION_PROTOCOL;
use super::failure::ConnectFailure;
use super::way::{Missed, Question};
use crate::limits::{
    DIAL_STAGGER, ENROLL_EXCHANGE_MAX, ENROLL_OTHERS_MAX, ENROLL_QUIC_SILENCE_MAX, READ_LEN,
};
use crate::validity::NotNow;

/// Asks at all of `addresses`, each a little after the one before, and takes the first that answers.
pub(super) async fn ask(question: &Question<'_>, addresses: &[SocketAddr]) -> Result<Vec<u8>, Missed> {
    let connection = connect(question, addresses).await?;
    let answer = match timeout(ENROLL_EXCHANGE_MAX, converse(&connection, question.message)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(Broken(why))) => Err(match connection.close_reason() {
            // With TLS 1.3 a refusal may come after the handshake.
            Some(reason) => missed(&reason, question.clock),
            None => Missed::Failed(ConnectFailure::unreachable(why)),
        }),
        Err(_) => Err(Missed::Failed(ConnectFailure::slow())),
    };
    connection.close(VarInt::from_u32(CloseCode::Done.number()), b"");
    answer
}

async fn connect(question: &Question<'_>, addresses: &[SocketAddr]) -> Result<Connection, Missed> {
    let crypto = QuicClientConfig::try_from(question.tls.clone())
        .map_err(|why| Missed::Failed(ConnectFailure::fault(why.to_string())))?;
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    let mut attempts: FuturesUnordered<_> = (0_u32..)
        .zip(addresses)
        .map(|(nth, address)| {
            let config = config.clone();
            async move {
                sleep(DIAL_STAGGER.saturating_mul(nth)).await;
                let connecting = question.network.endpoint.connect_with(config, *address, question.host);
                connecting
                    .map_err(|why| Missed::Silent(why.to_string()))?
                    .await
                    .map_err(|why| missed(&why, question.clock))
            }
        })
        .collect();
    let mut told = Missed::Silent("no answer".to_owned());
    let mut until = Instant::now() + ENROLL_QUIC_SILENCE_MAX;
    while let Ok(Some(attempt)) = timeout_at(until, attempts.next()).await {
        match attempt {
            Ok(connection) => return Ok(connection),
            // TCP is next, and most likely right; no need to hear the same from every address.
            Err(not_spoken @ Missed::NotSpoken(_)) => return Err(not_spoken),
            Err(missed) => {
                if matches!(missed, Missed::Failed(_)) {
                    until = until.min(Instant::now() + ENROLL_OTHERS_MAX);
                }
                told = told.or(missed);
            }
        }
    }
    Err(told)
}

async fn converse(connection: &Connection, message: &[u8]) -> Result<Vec<u8>, Broken> {
    let (mut send, mut receive) = connection.open_bi().await?;
    send.write_all(message).await?;
    drop(send.finish());
    let mut decoder = Decoder::new();
    while let Some(chunk) = receive.read_chunk(READ_LEN, true).await? {
        decoder.push(&chunk.bytes)?;
    }
    Ok(decoder.finish()?)
}

fn missed(error: &ConnectionError, clock: &Clock) -> Missed {
    let (alert, ours, not_now) = match error {
        ConnectionError::TimedOut | ConnectionError::Reset => return Missed::Silent("no answer".to_owned()),
        ConnectionError::TransportError(error) => {
            (alert_of_quic_error(error.code.into()), true, NotNow::of_text(&error.reason))
        }
        ConnectionError::ConnectionClosed(close) => {
            (alert_of_quic_error(close.error_code.into()), false, None)
        }
        _ => (None, false, None),
    };
    match alert {
        Some(NO_APPLICATION_PROTOCOL) => {
            Missed::NotSpoken(ConnectFailure::alert(NO_APPLICATION_PROTOCOL, ours, None, clock.now()))
        }
        Some(alert) => Missed::Failed(ConnectFailure::alert(alert, ours, not_now, clock.now())),
        None => Missed::Silent(format!("the connection broke: {error}")),
    }
}

/// What broke on the way, in words.
struct Broken(String);

impl<E: std::error::Error> From<E> for Broken {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}
