//! Ways to the connect service: which addresses, over QUIC or TCP, and what is remembered for the next time.
//!
//! UDP may be blocked on the way, and an edge that only passes the service's bytes on to control does so over TCP
//! alone. The service's name may lead nowhere while edges are known: they pass its bytes on as well, so the
//! warpgate's certificate is renewed all the same. Whoever answers has to prove that it belongs to the installation.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join_all;
use mezusphere_model::Clock;
use mezusphere_model::bundle::EdgeAddress;
use mezusphere_model::connection_key::ConnectionKey;
use mezusphere_pki::tls::{TlsSetupError, connect_again_client_config, connect_client_config};
use rustls::ClientConfig;
use tokio::time::Instant;

use super::failure::ConnectFailure;
use super::{Known, quic, tcp};
use crate::limits::{ADDRESSES_MAX, DETOURS_MAX};
use crate::resolve::resolve;
use crate::tunnel::{Network, Proxy, Transport};

/// Why one way gave no answer.
pub(super) enum Missed {
    /// Nobody answered; another way may do better.
    Silent(String),
    /// Somebody answered who does not speak the connect protocol over this transport (TLS alert 120).
    NotSpoken(ConnectFailure),
    /// Somebody answered, and it went wrong.
    Failed(ConnectFailure),
}

impl Missed {
    /// The one of two that tells a person more.
    pub(super) fn or(self, other: Self) -> Self {
        let weight = |missed: &Self| match missed {
            Self::Silent(_) => 0,
            Self::NotSpoken(_) => 1,
            Self::Failed(_) => 2,
        };
        if weight(&other) > weight(&self) { other } else { self }
    }

    fn words(&self) -> &str {
        match self {
            Self::Silent(why) => why,
            Self::NotSpoken(failure) | Self::Failed(failure) => &failure.message,
        }
    }
}

/// What every way needs.
pub(super) struct Question<'a> {
    pub(super) network: &'a Network,
    pub(super) clock: &'a Clock,
    /// What the server name says: an edge chooses by it whom the bytes are for.
    pub(super) host: &'a str,
    /// The proxy to use for TCP.
    pub(super) proxy: Option<&'a Proxy>,
    pub(super) tls: ClientConfig,
    /// The framed message.
    pub(super) message: &'a [u8],
}

/// How the service of `key` is dialled by who has this knowledge: whoever answers is control by the key's root, and by the
/// trust that is held.
pub(crate) fn tls(key: &ConnectionKey, known: &Known, clock: &Clock) -> Result<ClientConfig, TlsSetupError> {
    let alpn = [tunnel_proto::CONNECT_ALPN];
    match &known.trust {
        Some(trust) => connect_again_client_config(key.root, trust, clock, &alpn),
        None => connect_client_config(key.root, clock, &alpn),
    }
}

/// Where the service may be.
pub(super) struct Places {
    /// Addresses, in the order to try them.
    pub(super) addresses: Vec<SocketAddr>,
    /// The same as `host:port`, as a proxy is to be told them.
    pub(super) authorities: Vec<String>,
}

/// The ways, and which transport worked last.
pub(super) struct Ways {
    network: Network,
    clock: Clock,
    tcp_first: AtomicBool,
}

impl Ways {
    pub(super) fn new(network: Network, clock: Clock) -> Self {
        Self { network, clock, tcp_first: AtomicBool::new(false) }
    }

    /// Sends the framed `message` and reads the answer's JSON: to the service's own name, else through the edges that are known.
    ///
    /// # Errors
    /// What went wrong at the service's own name.
    pub(super) async fn ask(
        &self,
        key: &ConnectionKey,
        message: &[u8],
        known: &Known,
    ) -> Result<(Vec<u8>, Transport), ConnectFailure> {
        let tls = tls(key, known, &self.clock).map_err(|why| ConnectFailure::fault(why.to_string()))?;
        let edges = &known.edges;
        let host = key.host.as_str();
        let proxy = self.network.proxy.for_host(host, key.port);
        let question = Question { network: &self.network, clock: &self.clock, host, proxy, tls, message };
        let authority = format!("{host}:{}", key.port);
        let failure = match resolve(host, key.port).await {
            // The proxy may know the name.
            Err(why) if proxy.is_none() => ConnectFailure::unreachable(why.to_string()),
            resolved => {
                let at =
                    Places { addresses: resolved.unwrap_or_default(), authorities: vec![authority.clone()] };
                match self.ask_at(&question, &at).await {
                    Ok(answer) => return Ok(answer),
                    Err(unanswered) => unanswered.failure(&authority),
                }
            }
        };
        let authorities = edges.iter().take(DETOURS_MAX).map(|edge| format!("{}:{}", edge.host, edge.port));
        let detours = Places { addresses: addresses_of(edges).await, authorities: authorities.collect() };
        if detours.addresses.is_empty() && (proxy.is_none() || detours.authorities.is_empty()) {
            return Err(failure);
        }
        self.ask_at(&question, &detours).await.map_err(|_| failure.after_detours(edges.len()))
    }

    /// Tries both transports at these addresses, the one that worked last first.
    async fn ask_at(&self, question: &Question<'_>, at: &Places) -> Result<(Vec<u8>, Transport), Unanswered> {
        if self.tcp_first.load(Ordering::Relaxed) {
            return match tcp::ask(question, at).await {
                Ok(answer) => Ok((answer, Transport::Tcp)),
                Err(over_tcp) => match self.ask_over_quic(question, &at.addresses).await {
                    Ok(answer) => {
                        self.tcp_first.store(false, Ordering::Relaxed);
                        Ok((answer, Transport::Quic))
                    }
                    Err(over_udp) => Err(Unanswered { over_udp, over_tcp: Some(over_tcp) }),
                },
            };
        }
        match self.ask_over_quic(question, &at.addresses).await {
            Ok(answer) => Ok((answer, Transport::Quic)),
            Err(over_udp @ Missed::Failed(_)) => Err(Unanswered { over_udp, over_tcp: None }),
            Err(over_udp) => match tcp::ask(question, at).await {
                Ok(answer) => {
                    self.tcp_first.store(true, Ordering::Relaxed);
                    Ok((answer, Transport::Tcp))
                }
                Err(over_tcp) => Err(Unanswered { over_udp, over_tcp: Some(over_tcp) }),
            },
        }
    }
}

impl Ways {
    /// What is learnt of UDP here shortens the first dial of an edge.
    async fn ask_over_quic(
        &self,
        question: &Question<'_>,
        addresses: &[SocketAddr],
    ) -> Result<Vec<u8>, Missed> {
        if addresses.is_empty() {
            return Err(Missed::Silent("its name does not resolve here".to_owned()));
        }
        let answer = quic::ask(question, addresses).await;
        match &answer {
            Err(Missed::Silent(_)) => self.network.unheard(),
            Ok(_) | Err(_) => self.network.heard(Instant::now()),
        }
        answer
    }
}

/// Neither transport brought an answer.
struct Unanswered {
    over_udp: Missed,
    /// `None`: not tried.
    over_tcp: Option<Missed>,
}

impl Unanswered {
    fn failure(self, address: &str) -> ConnectFailure {
        match (self.over_udp, self.over_tcp) {
            (_, Some(Missed::Failed(failure)))
            | (Missed::Failed(failure), _)
            | (Missed::NotSpoken(failure), None | Some(Missed::NotSpoken(_))) => failure,
            (over_udp, over_tcp) => ConnectFailure::unreachable(format!(
                "{address} does not answer; over UDP: {}; over TCP: {}",
                over_udp.words(),
                over_tcp.as_ref().map_or("not tried", Missed::words),
            )),
        }
    }
}

/// Where these edges listen, as far as their names resolve.
async fn addresses_of(edges: &[EdgeAddress]) -> Vec<SocketAddr> {
    let resolving = edges.iter().take(DETOURS_MAX).map(|edge| resolve(&edge.host, edge.port));
    let mut addresses: Vec<_> =
        join_all(resolving).await.into_iter().filter_map(Result::ok).flatten().collect();
    let mut seen = std::collections::HashSet::new();
    addresses.retain(|address| seen.insert(*address));
    addresses.truncate(ADDRESSES_MAX);
    addresses
}
