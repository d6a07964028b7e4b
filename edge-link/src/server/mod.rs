//! The node port of a control node: accepts, judges, and hands each connection to what it is for.
//!
//! The hello chooses one of two TLS configurations; what was negotiated and the certificate's role then decide. Every
//! connection is registered with whom it belongs to and until when (`live`), so that an evicted edge's are closed within a
//! second and none outlives its certificate. What is asked on a link is `link`'s, what is asked of whom `answer`'s.

mod accept;
mod admission;
mod answer;
mod join;
mod link;
mod live;
mod reply;
pub(crate) mod splice;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mezusphere_model::clock::{Clock, Timestamp};
use mezusphere_model::id::EdgeId;
use mezusphere_model::link::{Answer, ControlLink, LinkError};
use mezusphere_pki::tls::{TlsSetupError, connect_server_config, link_server_config};
use mezusphere_pki::{CurrentIdentity, CurrentTrust};
use mezusphere_store::feed::FeedSource;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::join::{JoinRefused, JoinReply, JoinRequest, RejoinRequest};
use crate::limits::NodeLimits;
use crate::{ALPN_JOIN, ALPN_LINK, ALPN_REJOIN, ALPN_SPLICE, SpliceStream};

use accept::Accept;
use admission::Admission;
use live::Register;

/// Gives each edge its own view of control. Called once per connection; the edge is the one in the certificate.
pub trait Edges: Send + Sync + 'static {
    /// Whether `edge` may open a link with this certificate (DER), which the handshake has judged. Asked once for each link,
    /// before anything of it is answered; dropped after [`NodeLimits::answer`].
    fn admit<'a>(&'a self, edge: EdgeId, leaf: &'a [u8]) -> Answer<'a, Result<(), LinkError>>;

    /// What `edge` may ask.
    fn link(&self, edge: EdgeId) -> Arc<dyn ControlLink>;

    /// What `edge` may follow. The control partition is hidden here, whatever the source holds.
    fn feed(&self, edge: EdgeId) -> Arc<dyn FeedSource>;
}

/// Decides who may become an edge.
pub trait Joins: Send + Sync + 'static {
    /// Judges a request from an unauthenticated peer at `from`. Dropped after [`NodeLimits::join`].
    fn join(&self, request: JoinRequest, from: SocketAddr) -> Answer<'_, Result<JoinReply, JoinRefused>>;

    /// Judges an edge that was in before and whose certificate opens no link any more. Dropped after the same time.
    fn rejoin(&self, request: RejoinRequest, from: SocketAddr) -> Answer<'_, Result<JoinReply, JoinRefused>>;
}

/// Serves clients of platform hosts whose connections edges passed on.
pub trait Splices: Send + Sync + 'static {
    /// Serves one: the client's TLS begins with the first octet of `stream`. `client` is where the client is, on
    /// the word of an authenticated edge. The future is dropped when the edge is evicted or the port has stopped.
    fn spliced(&self, stream: SpliceStream, client: SocketAddr) -> Answer<'static, ()>;
}

/// What a [`NodePort`] is made of.
pub struct NodeParts {
    /// This control node's certificate.
    pub identity: CurrentIdentity,
    /// Whom it trusts; evictions are read from here.
    pub trust: CurrentTrust,
    /// The time, for the ends of certificates.
    pub clock: Clock,
    /// What edges may ask.
    pub edges: Arc<dyn Edges>,
    /// Who may join.
    pub joins: Arc<dyn Joins>,
    /// Who serves spliced clients.
    pub splices: Arc<dyn Splices>,
    /// Its bounds.
    pub limits: NodeLimits,
}

/// An edge that is connected now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectedEdge {
    /// Which one.
    pub edge: EdgeId,
    /// From where its newest link dials.
    pub remote: SocketAddr,
    /// Since when it has been connected without a gap.
    pub since: Timestamp,
    /// Its links; two for a moment while its certificate is renewed.
    pub links: usize,
    /// Clients it splices.
    pub splices: usize,
}

/// What a node port has done since it started; for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeCounts {
    /// Connections now that are links.
    pub links: usize,
    /// Connections now that are splices.
    pub splices: usize,
    /// Connections turned away because there were too many.
    pub turned_away: u64,
    /// Handshakes that failed: no certificate, another role, evicted, no TLS at all.
    pub handshakes_failed: u64,
    /// Connections closed because their edge was evicted or their certificate ended.
    pub closed: u64,
    /// Links dropped because their edge stopped reading.
    pub stalled: u64,
    /// Questions answered `busy`.
    pub busy: u64,
}

/// The port where control answers nodes.
pub struct NodePort(Arc<Accept>);

impl NodePort {
    /// A port that is not listening yet.
    pub fn new(parts: NodeParts) -> Result<Self, TlsSetupError> {
        let NodeParts { identity, trust, clock, edges, joins, splices, limits } = parts;
        let mutual = link_server_config(&identity, &trust, &clock, &[ALPN_LINK, ALPN_SPLICE])?;
        let open = connect_server_config(&identity, &trust, &clock, &[ALPN_JOIN, ALPN_REJOIN])?;
        Ok(Self(Arc::new(Accept {
            mutual: Arc::new(mutual),
            open: Arc::new(open),
            identity,
            register: Register::new(trust, clock),
            admission: Admission::new(&limits),
            questions: Semaphore::new(limits.questions),
            joining: Semaphore::new(limits.joins),
            edges,
            joins,
            splices,
            limits,
            tally: accept::Tally::default(),
        })))
    }

    /// Serves `listener` until `stop`; then refuses new connections, tells edges to go elsewhere, lets open questions and
    /// splices end for at most [`NodeLimits::grace`], and returns. Dropping the future closes everything at once.
    pub async fn serve(&self, listener: TcpListener, stop: CancellationToken) {
        Arc::clone(&self.0).serve(listener, stop).await;
    }

    /// The edges connected now, in order of their ids.
    pub fn connected(&self) -> Vec<ConnectedEdge> {
        self.0.register.edges()
    }

    /// What it has done.
    pub fn counts(&self) -> NodeCounts {
        self.0.counts()
    }
}

/// First wait after the system had no file descriptor or memory for a connection; doubled up to [`BACK_OFF_MAX`].
const BACK_OFF_MIN: Duration = Duration::from_millis(20);
const BACK_OFF_MAX: Duration = Duration::from_secs(1);
