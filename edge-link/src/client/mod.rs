//! An edge's side of the link: one connection to one control node, kept while it answers, replaced when it does not.
//!
//! A task of its own (`keeper`) dials, fails over, hears the wake, and moves to a new connection when our certificate is
//! renewed or the node left the list; questions (`ask`) use whichever connection is current. All of it ends when the
//! [`LinkClient`] is dropped.

mod answers;
mod ask;
mod dial;
mod feed;
mod keeper;
mod line;
mod problem;
mod splice;
mod wake;

use std::net::SocketAddr;
use std::sync::Arc;

use mezusphere_model::clock::{Clock, Timestamp};
use mezusphere_model::document::NodeAddress;
use mezusphere_model::entropy::Entropy;
use mezusphere_model::id::EdgeId;
use mezusphere_pki::tls::TlsSetupError;
use mezusphere_pki::{CurrentIdentity, CurrentTrust};
use tokio::sync::watch;

use crate::SpliceStream;
use crate::limits::LinkLimits;

pub(crate) use dial::dial;
pub use problem::{
    CERTIFICATE_EXPIRED, CERTIFICATE_REFUSED, CONTROL_UNTRUSTED, EVICTED, LinkProblem, NOT_LISTED,
};
pub use splice::SpliceError;

/// What a [`LinkClient`] is made of.
pub struct ClientParts {
    /// Who we are, for reports; what control believes is the certificate.
    pub edge: EdgeId,
    /// Where control nodes are, in no order; a change takes effect at once. At most [`crate::limits::CONTROLS_MAX`] are tried.
    pub controls: watch::Receiver<Vec<NodeAddress>>,
    /// Our certificate; after a renewal a new connection is made with the new one.
    pub identity: CurrentIdentity,
    /// Whom we trust.
    pub trust: CurrentTrust,
    /// The time, for the ends of certificates.
    pub clock: Clock,
    /// For the order of control nodes and for jitter.
    pub entropy: Entropy,
}

/// How the link is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// No control node has answered yet, and not all have failed.
    Connecting,
    /// This one answers.
    Connected {
        /// Where it is.
        control: NodeAddress,
        /// Since when.
        since: Timestamp,
    },
    /// None answers; they are tried again and again.
    Away(LinkProblem),
}

impl LinkState {
    /// Whether a control node answers.
    pub fn is_connected(&self) -> bool {
        matches!(self, Self::Connected { .. })
    }
}

/// What a link has done since it started; for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounts {
    /// Connections made.
    pub connects: u64,
    /// Times all control nodes failed in one go.
    pub rounds_failed: u64,
    /// Questions answered, refusals among them.
    pub answered: u64,
    /// Questions that got no answer.
    pub unanswered: u64,
    /// Answers that made no sense.
    pub nonsense: u64,
}

/// The link, as a [`ControlLink`](mezusphere_model::link::ControlLink) and a
/// [`FeedSource`](mezusphere_store::feed::FeedSource). Dropping it ends its task and closes its connections.
pub struct LinkClient {
    shared: Arc<keeper::Shared>,
    /// Ends with us.
    _keeper: line::Owned,
}

impl LinkClient {
    /// Starts to connect, on the current tokio runtime.
    pub fn start(parts: ClientParts) -> Result<Arc<Self>, TlsSetupError> {
        Self::start_with(parts, LinkLimits::default())
    }

    /// The same with other bounds.
    pub fn start_with(parts: ClientParts, limits: LinkLimits) -> Result<Arc<Self>, TlsSetupError> {
        let shared = Arc::new(keeper::Shared::new(parts, limits)?);
        let task = tokio::spawn(keeper::keep(Arc::clone(&shared)));
        Ok(Arc::new(Self { shared, _keeper: line::Owned(task) }))
    }

    /// How the link is, now and whenever that changes.
    pub fn connected(&self) -> watch::Receiver<LinkState> {
        self.shared.state.subscribe()
    }

    /// What went wrong last, even if all is well now.
    pub fn last_problem(&self) -> Option<LinkProblem> {
        self.shared.last_problem()
    }

    /// What it has done.
    pub fn counts(&self) -> LinkCounts {
        self.shared.counts()
    }

    /// Opens a splice to a control node for a client of a platform host: `client` is where the client is, `local` what it
    /// connected to. The control node that answers our questions is tried first, then the others.
    ///
    /// The stream is returned once a control node has taken it; nothing of the client's was sent before. At most
    /// [`LinkLimits::splice`] (8 s). Cancel safe: dropping the future closes what was opened.
    pub async fn splice(&self, client: SocketAddr, local: SocketAddr) -> Result<SpliceStream, SpliceError> {
        self.shared.splice(client, local).await
    }
}
