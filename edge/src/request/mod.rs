//! The request path, stage by stage.

mod authority;
mod cookie;
mod wants;

use std::future::Future;
use std::sync::Arc;

use ::http::{Request, Response};
use mezusphere_model::link::ControlLink;
use mezusphere_model::{Clock, Entropy, Platform};

use crate::config::PlatformService;
use crate::http::{Body, ConnectionInfo};
use crate::tunnel::Registry;
use crate::view::View;

/// What the request path works with.
pub struct ServerParts {
    /// The installation's hosts.
    pub hosts: Platform,
    /// What the edge knows.
    pub view: Arc<View>,
    /// The tunnels it holds.
    pub tunnels: Arc<Registry>,
    /// What it may ask of control.
    pub link: Arc<dyn ControlLink>,
    /// Who answers for the platform's own hosts.
    pub platform: PlatformService,
    /// Tells the time.
    pub clock: Clock,
    /// Draws randomness.
    pub entropy: Entropy,
    /// Where requests are counted.
    pub metrics: mezusphere_telemetry::Metrics,
}

/// Answers requests. Cheap to clone: each connection holds one.
#[derive(Clone)]
pub struct Server(Arc<ServerParts>);

impl Server {
    /// A server that works with `parts`. Registers its metrics, so make one only and clone it.
    pub fn new(parts: ServerParts) -> Self {
        Self(Arc::new(parts))
    }

    /// What must run beside the requests: denial reports. Never ends by itself; the owner runs it once, on any
    /// worker, and may drop it at any time.
    pub fn background(&self) -> impl Future<Output = ()> + Send + 'static {
        std::future::pending()
    }

    /// Answers one request of `connection`. Dropping the future gives the request up.
    pub async fn handle(&self, request: Request<Body>, connection: &ConnectionInfo) -> Response<Body> {
        let (_, _, _) = (request, connection, &self.0.clock);
        std::future::pending().await
    }
}
