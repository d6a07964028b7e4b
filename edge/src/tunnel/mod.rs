//! Connections from warpgates, and exchanges on them.

use std::sync::Arc;

use mezusphere_model::id::EdgeId;
use mezusphere_model::link::ControlLink;
use mezusphere_model::{Clock, Entropy};

use crate::listen::drain::Drain;
use crate::view::View;

pub mod connect;

/// The tunnels an edge holds, by environment.
#[derive(Default)]
pub struct Registry(());

impl Registry {
    /// No tunnels yet.
    pub fn new() -> Self {
        Self::default()
    }
}

/// What an acceptor works with.
pub struct AcceptorParts {
    /// Which edge this is.
    pub edge: EdgeId,
    /// Where it stands, for people.
    pub region: String,
    /// What the edge knows.
    pub view: Arc<View>,
    /// Where tunnels are entered.
    pub tunnels: Arc<Registry>,
    /// Where they are reported.
    pub link: Arc<dyn ControlLink>,
    /// Tells the time.
    pub clock: Clock,
    /// Draws randomness.
    pub entropy: Entropy,
    /// Tells tunnels to drain.
    pub drain: Drain,
}

/// Takes connections that negotiated the tunnel's ALPN and hold a client certificate of the internal CA.
#[derive(Clone)]
pub struct Acceptor(Arc<AcceptorParts>);

impl Acceptor {
    /// An acceptor that works with `parts`.
    pub fn new(parts: AcceptorParts) -> Self {
        Self(Arc::new(parts))
    }

    /// Serves one warpgate's connection until it ends. The caller owns the future; dropping it closes the
    /// connection.
    pub async fn accept(&self, connection: quinn::Connection) {
        let _ = &self.0.edge;
        connection.closed().await;
    }
}
