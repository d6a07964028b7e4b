//! What a control node runs on the connections that split edges pass on to it: the platform's own hosts, and warpgates
//! that enrol.
//!
//! The same door, the same protocols, the same limits and refusals as at an edge ([`crate::listen`], [`crate::http`]), but
//! no application, no tunnel, no QUIC. It listens nowhere: who brings the streams has proven to be an edge of this
//! installation, and says where each client is (R10). Keys of the platform's certificates are held here and at no edge.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mezusphere_model::link::ControlLink;
use mezusphere_model::{Clock, Entropy, Platform};
use mezusphere_pki::{CurrentIdentity, CurrentTrust};
use mezusphere_telemetry::Metrics;
use tracing::{info, warn};

use crate::config::{Duplex, Limits, PlatformService, StartError};
use crate::http::Service;
use crate::listen::admission::Admission;
use crate::listen::counters::Counters;
use crate::listen::crowd::Crowd;
use crate::listen::decide::Scope;
use crate::listen::door::{Door, DoorTls};
use crate::listen::drain::Drain;
use crate::listen::turns::Turns;
use crate::request::PlatformServer;
use crate::tls::{Challenges, PublicCertificates};

/// What a front is given to work with.
pub struct FrontParts {
    /// The installation's hosts.
    pub platform: Platform,
    /// The certificates of the platform's hosts. Whoever runs the front keeps them current with
    /// [`PublicCertificates::replace`]; names of others in them are never served.
    pub certificates: PublicCertificates,
    /// Who answers for the platform's hosts.
    pub service: PlatformService,
    /// Who answers messages of the connect protocol.
    pub link: Arc<dyn ControlLink>,
    /// What warpgates that enrol are shown: the control node's own.
    pub identity: CurrentIdentity,
    /// Whom the installation trusts: its root is shown to warpgates that enrol.
    pub trust: CurrentTrust,
    /// Tells the time.
    pub clock: Clock,
    /// Draws randomness.
    pub entropy: Entropy,
    /// Where requests and connections are counted, under names of their own (`front_…`); once per process.
    pub metrics: Metrics,
    /// Bounds on what one client may use, as at an edge.
    pub limits: Limits,
}

/// Serves connections of clients whose TLS ends here. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct PlatformFront(Arc<Inner>);

struct Inner {
    door: Door<PlatformServer>,
    drain: Drain,
}

impl PlatformFront {
    /// A front that works with `parts`.
    ///
    /// # Errors
    /// [`StartError::Tls`] if TLS cannot be set up.
    pub fn new(parts: FrontParts) -> Result<Self, StartError> {
        let FrontParts {
            platform,
            certificates,
            service,
            link,
            identity,
            trust,
            clock,
            entropy,
            metrics,
            limits,
        } = parts;
        let drain = Drain::new();
        let tls = DoorTls::new(Some(&identity), &trust, &clock, &entropy)?;
        let server = PlatformServer::new(platform.clone(), service, clock.clone(), entropy, &metrics);
        let door = Door {
            service: Arc::new(Service::new(server, limits.clone(), None, clock.clone(), drain.clone())),
            scope: Scope::Platform,
            link,
            certificates,
            challenges: Challenges::default(),
            platform,
            tls,
            tunnels: None,
            counters: Arc::new(Counters::of_front(&metrics)),
            clock,
            arriving: Crowd::new(limits.arriving),
            handshakes: Crowd::new(limits.handshakes),
            admission: Admission::new(&limits),
            turns: Turns::new(),
            limits,
        };
        Ok(Self(Arc::new(Inner { door, drain })))
    }

    /// Serves one connection of `client` until it ends: its TLS, then HTTP/1.1, HTTP/2 or one connect message.
    ///
    /// `client` is where limits, throttles and logs see the client; it must come from a peer that is an edge by its
    /// certificate. Returns at once, dropping the stream, once draining has begun.
    /// Dropping the future ends the connection.
    pub async fn serve(&self, stream: impl Duplex + 'static, client: SocketAddr) {
        let Inner { door, drain } = &*self.0;
        if drain.is_draining() {
            return;
        }
        let client = SocketAddr::new(client.ip().to_canonical(), client.port());
        drain
            .run(async {
                // Nothing comes back: what is not served here is refused.
                drop(door.serve(stream, client).await);
            })
            .await;
    }

    /// Ends the front: takes nothing new, tells clients, finishes what runs for up to `grace`, drops the rest.
    pub async fn drain(&self, grace: Duration) {
        let drain = &self.0.drain;
        info!(grace_s = grace.as_secs(), "Front draining");
        drain.begin();
        if tokio::time::timeout(grace, drain.finished()).await.is_err() {
            warn!("The grace is over; connections left are dropped");
        }
        drain.close();
        drain.finished().await;
    }
}

impl std::fmt::Debug for PlatformFront {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PlatformFront")
    }
}
