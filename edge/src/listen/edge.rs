//! An edge: its ports, its threads, and how it ends.
//!
//! Each worker takes TCP connections on its own listener and keeps them; worker 0 also drives the UDP endpoint,
//! with every tunnel on it, and the plain-HTTP listener. One thread more keeps the edge's knowledge fresh, because
//! that reads the disk.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use super::drain::Drain;
use super::shared::{First, Shared};
use super::socket::{self, PublicSockets};
use super::worker::{End, Worker};
use crate::config::{EdgeConfig, EdgeParts, StartError};
use crate::tunnel::Registry;

/// A running edge. Dropping it closes everything at once; [`Edge::drain`] is the way to end it.
pub struct Edge {
    address: SocketAddr,
    plain: Option<SocketAddr>,
    drain: Drain,
    workers: Vec<Worker>,
    tunnels: Arc<Registry>,
}

impl Edge {
    /// Opens the ports and starts the threads.
    ///
    /// Returns when connections are being taken. Call it on any runtime or none: the edge has its own. Reads the
    /// replica's disk.
    ///
    /// # Errors
    /// [`StartError`]: a port is taken or forbidden, or TLS cannot be set up. Nothing runs then.
    pub fn start(config: EdgeConfig, parts: EdgeParts) -> Result<Self, StartError> {
        let sockets = PublicSockets::open(config.public, config.workers)?;
        let (plain, plain_address) = config.plain_http.map(open_plain).transpose()?.unzip();
        let (address, id) = (sockets.address, config.id);
        let public_port = if config.platform.port == 0 { address.port() } else { config.platform.port };
        let drain = Drain::new();
        let (shared, followed) = Shared::new(config, parts, public_port, drain.clone())?;
        // From here on an error drops the edge, which ends what was started.
        let mut edge = Self {
            address,
            plain: plain_address,
            drain,
            workers: Vec::with_capacity(sockets.tcp.len() + 1),
            tunnels: Arc::clone(&shared.tunnels),
        };
        edge.begin("edge-background".to_owned(), {
            let shared = Arc::clone(&shared);
            move || Ok(shared.follow(followed))
        })?;
        let mut first = Some(First { udp: sockets.udp, plain });
        for (index, listener) in sockets.tcp.into_iter().enumerate() {
            let (shared, first) = (Arc::clone(&shared), first.take());
            edge.begin(format!("edge-{index}"), move || shared.begin(listener, first))?;
        }
        // Nothing is said of plain HTTP where it is not spoken.
        info!(edge = %id, %address, plain_http = plain_address.map(tracing::field::display), "Edge started");
        Ok(edge)
    }

    fn begin(
        &mut self,
        name: String,
        begin: impl FnOnce() -> Result<End, StartError> + Send + 'static,
    ) -> Result<(), StartError> {
        self.workers.push(Worker::start(name, &self.drain, begin)?);
        Ok(())
    }

    /// Where clients and warpgates arrive.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Where plain HTTP is answered, if it is.
    pub fn plain_http_addr(&self) -> Option<SocketAddr> {
        self.plain
    }

    /// The tunnels held now.
    pub fn tunnels(&self) -> &Arc<Registry> {
        &self.tunnels
    }

    /// Ends the edge: takes nothing new, tells clients and warpgates, finishes what runs for up to `grace`, drops
    /// the rest, and ends the threads.
    pub async fn drain(mut self, grace: Duration) {
        info!(grace_s = grace.as_secs(), "Edge draining");
        self.drain.begin();
        if tokio::time::timeout(grace, self.drain.finished()).await.is_err() {
            warn!("The grace is over; connections left are dropped");
        }
        self.drain.close();
        for worker in self.workers.drain(..) {
            worker.join().await;
        }
        info!("Edge ended");
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.drain.close();
    }
}

fn open_plain(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    socket::listen(address, false)
        .and_then(|listener| listener.local_addr().map(|address| (listener, address)))
        .map_err(|source| StartError::Listen { protocol: "TCP", address, source })
}
