//! Handshakes that only look: does somebody answer over UDP or TCP there, and who.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use mezusphere_pki::alert::{Sentence, alert_of_quic_error, own_error_sentence, peer_error_sentence};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ConnectionError, Endpoint, VarInt};
use rustls::{AlertDescription, ClientConfig};
use rustls_pki_types::ServerName;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tunnel_proto::codes::CloseCode;

use crate::limits::{CHECK_STEP_MAX, ENROLL_QUIC_SILENCE_MAX};
use crate::tunnel::Proxy;
use crate::tunnel::proxied;
use crate::tunnel::tcp::connect_any;

/// TLS alert 120 (RFC 7301 §3.2): somebody answers who does not speak this protocol here.
const NO_APPLICATION_PROTOCOL: u8 = 120;

/// What a handshake came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// The right one answered.
    Right {
        /// How long the handshake took.
        took: Duration,
    },
    /// Somebody answered who does not speak this protocol over this transport: the way is open all the same.
    Open,
    /// Somebody answered, and it is not who it should be, or it went wrong.
    Wrong {
        /// A stable dotted word.
        code: String,
        /// A sentence.
        what: String,
        /// What to do.
        next: String,
    },
    /// Nobody answered.
    Silent(String),
}

impl Seen {
    /// Whether packets go there and come back.
    pub(super) const fn is_open(&self) -> bool {
        matches!(self, Self::Right { .. } | Self::Open)
    }

    fn alert(alert: u8, ours: bool) -> Self {
        if alert == NO_APPLICATION_PROTOCOL {
            return Self::Open;
        }
        let Sentence { code, what, next, .. } =
            if ours { own_error_sentence(alert) } else { peer_error_sentence(alert) };
        let what = what.trim_end_matches('.').to_owned();
        Self::Wrong { code: code.to_owned(), what, next: next.to_owned() }
    }

    /// The one that says more: an answer before silence, the right one before any other.
    fn or(self, other: Self) -> Self {
        let weight = |seen: &Self| match seen {
            Self::Silent(_) => 0,
            Self::Wrong { .. } => 1,
            Self::Open => 2,
            Self::Right { .. } => 3,
        };
        if weight(&other) > weight(&self) { other } else { self }
    }
}

/// A QUIC handshake with all of `addresses` at once.
pub(super) async fn quic(
    endpoint: &Endpoint,
    tls: &ClientConfig,
    addresses: &[SocketAddr],
    name: &str,
) -> Seen {
    let Ok(crypto) = QuicClientConfig::try_from(tls.clone()) else {
        return Seen::Silent("TLS cannot be set up here".to_owned());
    };
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    let start = Instant::now();
    let mut attempts: FuturesUnordered<_> = addresses
        .iter()
        .map(|address| {
            let connecting = endpoint.connect_with(config.clone(), *address, name);
            async move {
                match connecting {
                    Ok(connecting) => match connecting.await {
                        Ok(connection) => {
                            connection.close(VarInt::from_u32(CloseCode::Done.number()), b"");
                            Seen::Right { took: start.elapsed() }
                        }
                        Err(why) => of_quic(&why),
                    },
                    Err(why) => Seen::Silent(why.to_string()),
                }
            }
        })
        .collect();
    let mut seen = Seen::Silent(format!("no answer within {} s", ENROLL_QUIC_SILENCE_MAX.as_secs()));
    let looking = async {
        while let Some(one) = attempts.next().await {
            seen = std::mem::replace(&mut seen, Seen::Silent(String::new())).or(one);
            if seen.is_open() {
                return;
            }
        }
    };
    // What was seen until then counts.
    drop(timeout(ENROLL_QUIC_SILENCE_MAX, looking).await);
    seen
}

fn of_quic(error: &ConnectionError) -> Seen {
    let (alert, ours) = match error {
        ConnectionError::TransportError(error) => (alert_of_quic_error(error.code.into()), true),
        ConnectionError::ConnectionClosed(close) => (alert_of_quic_error(close.error_code.into()), false),
        ConnectionError::TimedOut => return Seen::Silent("no answer".to_owned()),
        _ => (None, false),
    };
    match alert {
        Some(alert) => Seen::alert(alert, ours),
        // Whatever it is, somebody sent it.
        None => Seen::Wrong {
            code: "tunnel.broken".to_owned(),
            what: format!("the connection broke: {error}"),
            next: "check what answers on that port".to_owned(),
        },
    }
}

/// A TLS handshake over TCP: at the first of `addresses` that takes a connection, or through `proxy`.
pub(super) async fn tcp(
    tls: &ClientConfig,
    addresses: &[SocketAddr],
    proxy: Option<(&Proxy, &str)>,
    name: &str,
) -> Seen {
    let start = Instant::now();
    let late = || Seen::Silent(format!("no answer within {} s", CHECK_STEP_MAX.as_secs()));
    let shaking = async {
        let stream = match proxy {
            Some((proxy, authority)) => match proxied::connect(proxy, authority).await {
                Ok((stream, _)) => stream,
                Err(why) => {
                    return Seen::Wrong {
                        code: why.code.to_owned(),
                        what: why.message,
                        next: why.next.to_owned(),
                    };
                }
            },
            None => match connect_any(addresses).await {
                Ok((stream, _)) => stream,
                Err(why) => return Seen::Silent(crate::key::reason(&why).to_lowercase()),
            },
        };
        let Ok(name) = ServerName::try_from(name.to_owned()) else {
            return Seen::Silent(format!("{name} is not a server name"));
        };
        match TlsConnector::from(Arc::new(tls.clone())).connect(name, stream).await {
            Ok(stream) if stream.get_ref().1.alpn_protocol().is_some() => {
                Seen::Right { took: start.elapsed() }
            }
            Ok(_) => Seen::Open,
            Err(why) => of_tls(&why),
        }
    };
    timeout(CHECK_STEP_MAX, shaking).await.unwrap_or_else(|_| late())
}

fn of_tls(error: &std::io::Error) -> Seen {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::AlertReceived(alert)) => Seen::alert(u8::from(*alert), false),
        Some(rustls::Error::InvalidCertificate(why)) => {
            Seen::alert(u8::from(AlertDescription::from(why.clone())), true)
        }
        _ => Seen::Wrong {
            code: "tunnel.no_tls".to_owned(),
            what: format!("what answers does not speak TLS: {error}"),
            next: "check that nothing on the way intercepts the connection".to_owned(),
        },
    }
}
