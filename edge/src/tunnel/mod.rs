//! Connections from warpgates: who may have one, what is said on its control stream, and choosing one for an exchange.
//!
//! [`Acceptor::accept`] serves one connection from its certificate to its end; [`registry`] holds those that were
//! welcomed; `standing` ends those that may not go on; `reports` tells control of them; [`connect`] relays the messages of warpgates that have no certificate yet. What travels on the other
//! streams is [`crate::request`]'s.

pub mod connect;
mod control;
mod expected;
mod fitness;
mod held;
mod liveness;
mod probe;
mod refusal;
mod registry;
mod reports;
mod standing;
mod stream;
mod tcp;
mod transport;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mezusphere_model::Clock;
use mezusphere_model::id::EdgeId;
use mezusphere_pki::{CurrentIdentity, CurrentTrust, ExpectedRole, Peer, PeerError, verify_peer};
use rustls_pki_types::CertificateDer;
use tokio_rustls::server::TlsStream;
use tokio_util::task::AbortOnDropHandle;
use tunnel_proto::codes::CloseCode;
use tunnel_proto::limits::{DRAIN_GRACE, HANDSHAKE_MAX};

use self::transport::Transport;
use crate::config::Duplex;
use crate::listen::drain::Drain;
use crate::view::View;

pub(crate) use self::held::{Chosen, Tunnel};
pub(crate) use self::registry::{Affinity, NoTunnel, Wanted};
pub use self::registry::{FINISHING_MAX, Registry, TUNNELS_MAX, TUNNELS_PER_ENVIRONMENT_MAX};
pub(crate) use self::stream::{RecvEnd, RecvHalf, SendEnd, SendHalf};

/// What an acceptor works with.
pub struct AcceptorParts {
    /// Which edge this is.
    pub edge: EdgeId,
    /// Where it stands, for people.
    pub region: String,
    /// What it shows to warpgates; a tunnel ends with the certificate it was made with.
    pub identity: CurrentIdentity,
    /// Whom it trusts.
    pub trust: CurrentTrust,
    /// What the edge knows.
    pub view: Arc<View>,
    /// Where tunnels are entered.
    pub tunnels: Arc<Registry>,
    /// Tells the time.
    pub clock: Clock,
    /// Tells tunnels to drain.
    pub drain: Drain,
}

/// Bounds on a tunnel's life. [`TunnelLimits::default`] is what runs; tests shorten the waits.
#[derive(Clone, Copy, Debug)]
pub struct TunnelLimits {
    /// How long exchanges may still run once this edge drains, and how long before the end of a certificate a warpgate is
    /// told of it, at most.
    pub drain_grace: Duration,
}

impl Default for TunnelLimits {
    fn default() -> Self {
        Self { drain_grace: DRAIN_GRACE }
    }
}

/// Takes connections that negotiated the tunnel's ALPN and hold a client certificate of the internal CA.
#[derive(Clone)]
pub struct Acceptor {
    parts: Arc<AcceptorParts>,
    limits: TunnelLimits,
}

impl Acceptor {
    /// An acceptor that works with `parts`.
    pub fn new(parts: AcceptorParts) -> Self {
        Self::limited(parts, TunnelLimits::default())
    }

    /// The same within other bounds.
    pub fn limited(parts: AcceptorParts, limits: TunnelLimits) -> Self {
        Self { parts: Arc::new(parts), limits }
    }

    /// Serves one warpgate's QUIC connection until it ends. The caller owns the future; dropping it closes the
    /// connection at the next chance, without a word.
    pub async fn accept(&self, connection: quinn::Connection) {
        let chain = connection
            .peer_identity()
            .and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok())
            .map(|chain| *chain);
        let transport = Transport::Quic(connection);
        let code = match self.judge(chain) {
            Ok((chain, peer)) => control::serve(&self.parts, self.limits, &transport, chain, &peer).await,
            Err(error) => {
                tracing::warn!(remote = %transport.remote_address(), %error, "A tunnel was refused");
                if matches!(error, PeerError::Denied(_)) { CloseCode::Evicted } else { CloseCode::Refused }
            }
        };
        transport.close(code);
    }

    /// The same for a TLS connection over TCP, whose other end is `remote`. Whom the handshake let in and is not wanted
    /// by now hears nothing: it is told when it dials again.
    pub async fn accept_tcp<T: Duplex + 'static>(&self, stream: TlsStream<T>, remote: SocketAddr) {
        let chain = stream.get_ref().1.peer_certificates();
        let chain = chain.map(|chain| chain.iter().map(|one| one.clone().into_owned()).collect());
        let (chain, peer) = match self.judge(chain) {
            Ok(peer) => peer,
            Err(error) => return tracing::warn!(%remote, %error, "A tunnel was refused"),
        };
        let begun = tokio::time::timeout(HANDSHAKE_MAX, tcp::begin(stream, remote)).await;
        let Ok(Ok((transport, driver))) = begun else {
            return tracing::debug!(%remote, "A tunnel over TCP did not begin");
        };
        let warpgate = peer.name.to_string();
        let driver = async move {
            if let Err(error) = driver.await
                && tcp::is_fault(&error)
            {
                tracing::warn!(warpgate, %remote, %error, "A warpgate broke the protocol of its tunnel");
            }
        };
        // A task of its own, so that what moves on the connection does not wake what is said about it.
        let driver = AbortOnDropHandle::new(tokio::spawn(driver));
        let transport = Transport::Tcp(transport);
        let code = control::serve(&self.parts, self.limits, &transport, chain, &peer).await;
        transport.close(code);
        // It has been told to end; dropping it here could hide why it ended by itself.
        drop(driver.await);
    }

    /// Who is at the other end. The handshake has judged the chain by the trust of its moment; this judges it by
    /// the trust of now and takes the name.
    fn judge(
        &self,
        chain: Option<Vec<CertificateDer<'static>>>,
    ) -> Result<(Vec<CertificateDer<'static>>, Peer), PeerError> {
        let chain = chain.ok_or(PeerError::NoCertificate)?;
        let (trust, now) = (self.parts.trust.get(), self.parts.clock.now());
        let peer = verify_peer(&chain, &trust, now, ExpectedRole::AnyWarpgate)?;
        Ok((chain, peer))
    }
}
