//! One question to the connect service over TLS on TCP, and its answer.

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use mezusphere_model::Clock;
use rustls::AlertDescription;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tunnel_proto::connect::{ConnectError, Decoder};

use super::NO_APPLICATION_PROTOCOL;
use super::failure::ConnectFailure;
use super::way::{Missed, Places, Question};
use crate::limits::{DIAL_STAGGER, ENROLL_EXCHANGE_MAX, READ_LEN};
use crate::tunnel::{Proxy, proxied};
use crate::validity::NotNow;

/// Where TCP leads to the service.
enum Place<'a> {
    Direct(SocketAddr),
    /// Through this proxy, to this `host:port`.
    Proxied(&'a Proxy, &'a str),
}

/// Connects to all places, each a little after the one before, and asks the first that is ready; the
/// next only if that one breaks off, because an edge may have lost its way to control.
pub(super) async fn ask(question: &Question<'_>, at: &Places) -> Result<Vec<u8>, Missed> {
    let name = ServerName::try_from(question.host.to_owned())
        .map_err(|why| Missed::Failed(ConnectFailure::fault(why.to_string())))?;
    let connector = TlsConnector::from(Arc::new(question.tls.clone()));
    let places: Vec<Place<'_>> = match question.proxy {
        Some(proxy) => at.authorities.iter().map(|authority| Place::Proxied(proxy, authority)).collect(),
        None => at.addresses.iter().copied().map(Place::Direct).collect(),
    };
    let mut attempts: FuturesUnordered<_> = (0_u32..)
        .zip(places)
        .map(|(nth, place)| {
            let (connector, name) = (&connector, name.clone());
            async move {
                sleep(DIAL_STAGGER.saturating_mul(nth)).await;
                connect(connector, name, place, question.clock).await
            }
        })
        .collect();
    let mut told = Missed::Silent("no answer in time".to_owned());
    let asking = async {
        while let Some(attempt) = attempts.next().await {
            let answer = match attempt {
                Ok(stream) => converse(stream, question).await,
                Err(missed) => Err(missed),
            };
            match answer {
                Ok(answer) => return Some(answer),
                // Silence is what it began with; the first word of anybody tells more.
                Err(Missed::Silent(why)) if matches!(told, Missed::Silent(_)) => told = Missed::Silent(why),
                Err(missed) => told = std::mem::replace(&mut told, Missed::Silent(String::new())).or(missed),
            }
        }
        None
    };
    match timeout(ENROLL_EXCHANGE_MAX, asking).await {
        Ok(Some(answer)) => Ok(answer),
        Ok(None) | Err(_) => Err(told),
    }
}

async fn connect(
    connector: &TlsConnector,
    name: ServerName<'static>,
    place: Place<'_>,
    clock: &Clock,
) -> Result<TlsStream<TcpStream>, Missed> {
    let stream = match place {
        Place::Direct(address) => TcpStream::connect(address)
            .await
            .map_err(|why| Missed::Silent(crate::key::reason(&why).to_lowercase()))?,
        Place::Proxied(proxy, authority) => {
            let connected = proxied::connect(proxy, authority).await;
            connected.map_err(|why| Missed::Failed(ConnectFailure::of_proxy(why)))?.0
        }
    };
    let stream = connector.connect(name, stream).await.map_err(|why| missed(&why, clock))?;
    if stream.get_ref().1.alpn_protocol() == Some(tunnel_proto::CONNECT_ALPN) {
        Ok(stream)
    } else {
        Err(Missed::NotSpoken(ConnectFailure::alert(NO_APPLICATION_PROTOCOL, true, None, clock.now())))
    }
}

async fn converse(mut stream: TlsStream<TcpStream>, question: &Question<'_>) -> Result<Vec<u8>, Missed> {
    let broken = |why: std::io::Error| missed(&why, question.clock);
    let unreadable = |why: ConnectError| match why {
        ConnectError::Truncated => Missed::Silent("the connection ended before an answer".to_owned()),
        why => Missed::Failed(ConnectFailure::bad_answer(&why.to_string())),
    };
    stream.write_all(question.message).await.map_err(broken)?;
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
}

fn missed(error: &std::io::Error, clock: &Clock) -> Missed {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)) => {
            Missed::NotSpoken(ConnectFailure::alert(NO_APPLICATION_PROTOCOL, false, None, clock.now()))
        }
        Some(rustls::Error::AlertReceived(alert)) => {
            Missed::Failed(ConnectFailure::alert(u8::from(*alert), false, None, clock.now()))
        }
        Some(rustls::Error::InvalidCertificate(why)) => {
            let alert = u8::from(AlertDescription::from(why.clone()));
            Missed::Failed(ConnectFailure::alert(alert, true, NotNow::of(why), clock.now()))
        }
        _ => Missed::Silent(format!("the connection broke: {error}")),
    }
}
