//! What an edge is told at its start, and what it is given to work with.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use mezusphere_model::id::EdgeId;
use mezusphere_model::link::{Answer, ControlLink};
use mezusphere_model::{Clock, Entropy, Platform};
use mezusphere_pki::{CurrentIdentity, CurrentTrust};
use mezusphere_store::Replica;
use mezusphere_telemetry::Metrics;
use tokio::io::{AsyncRead, AsyncWrite};
use tower::util::BoxCloneSyncService;

use crate::fair::FairLimits;
use crate::http::Body;
use crate::view::ViewLimits;

/// Answers requests for the platform's own hosts (console, login, connect); control's, called in process.
///
/// Every request carries the extension [`mezusphere_model::link::ClientAddress`].
pub type PlatformService =
    BoxCloneSyncService<::http::Request<Body>, ::http::Response<Body>, std::convert::Infallible>;

/// Where the platform's own hosts are served.
#[derive(Clone)]
pub enum PlatformHosts {
    /// Here: control runs in this process, and the edge ends TLS for its hosts too.
    Service(PlatformService),
    /// At a control node: their connections, and those of warpgates that enrol, are passed on unopened. Such an edge
    /// holds none of their keys and sees no byte of what is said on them.
    Splice(Arc<dyn Splice>),
}

impl std::fmt::Debug for PlatformHosts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Service(_) => "Service",
            Self::Splice(_) => "Splice",
        })
    }
}

/// A stream of octets both ways: TCP, TLS, or a pipe in memory.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// The way to a control node for one client's connection: the client's octets go in, what the client is to get comes
/// out.
pub type SpliceStream = Box<dyn Duplex>;

/// Opens ways to control nodes for connections that a split edge does not open itself.
pub trait Splice: Send + Sync + 'static {
    /// A way for the connection of `client`, which arrived at `local`. Goes to another control node where one is away,
    /// and gives up when all are. The edge waits for at most [`Limits::splice_open`]; dropping the future gives up.
    fn open(&self, client: SocketAddr, local: SocketAddr) -> Answer<'_, io::Result<SpliceStream>>;
}

/// What an edge is told at its start. Nothing in it changes while it runs.
#[derive(Clone, Debug)]
pub struct EdgeConfig {
    /// Which edge this is; its certificate says the same.
    pub id: EdgeId,
    /// Where it stands, for people: shown to warpgates and in the Console.
    pub region: String,
    /// Where clients and warpgates arrive: TCP and UDP on the same port. Port 0 takes a free one.
    pub public: SocketAddr,
    /// Where plain HTTP is answered with a redirect to https; `None`: nowhere.
    pub plain_http: Option<SocketAddr>,
    /// Threads, each with its own runtime and its own TCP listener; one per core is best.
    pub workers: NonZeroUsize,
    /// The installation's hosts, and the port clients see.
    pub platform: Platform,
    /// Makes the tokens of stateless resets (RFC 9000 §10.3.2). Stays the same over restarts of an edge, so that peers of a
    /// process that was killed learn from the next one, at their next packet, that their connections are gone.
    pub reset_key: [u8; 32],
    /// Bounds on what one client may use.
    pub limits: Limits,
}

impl EdgeConfig {
    /// As many workers as the machine has cores.
    pub fn workers_for_this_machine() -> NonZeroUsize {
        std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
    }
}

/// Bounds that hold for every client, whatever protocol it speaks (design §10, R23).
///
/// [`Limits::default`] is what runs; tests shorten the waits.
#[derive(Clone, Debug)]
pub struct Limits {
    /// From accept to a whole ClientHello.
    pub client_hello: Duration,
    /// From accept to the end of the TLS or QUIC handshake.
    pub handshake: Duration,
    /// From a connection being ready, or the previous exchange on it ending, to a whole request head on h1; from
    /// a stream's first octet to its whole head on h3.
    pub request_head: Duration,
    /// How long a body may stand still because the client neither sends nor reads.
    pub stall: Duration,
    /// How long a connection without a request in flight is kept.
    pub idle: Duration,
    /// Connections at once from their handshake on, TCP and QUIC each, over all workers.
    pub connections: usize,
    /// Connections at once from one client address (an IPv6 /64 counts as one, a /48 as four), TCP and QUIC each. From half
    /// of all on, an address may have no more than an eighth of those that are left.
    pub connections_per_address: usize,
    /// Octets that connections on TCP may hold whose handshake has not begun, over all workers. Where there is no room for
    /// a new one, the oldest of the address that holds most is let go.
    pub arriving: usize,
    /// Handshakes at once, TCP and QUIC each, over all workers. Each holds up to 40 KiB (a ClientHello of
    /// [`crate::listen::hello::HELLO_LEN_MAX`], the session, the flight), so 80 MiB at worst. Where there is no room for a
    /// new one, the oldest of the address that has most is let go.
    pub handshakes: usize,
    /// From the whole ClientHello of a connection that is passed on to control, to a control node that takes it.
    pub splice_open: Duration,
    /// How long nothing may move on a connection that is passed on. Longer than [`Limits::idle`], so that the end
    /// that knows what is said on it closes first.
    pub splice_idle: Duration,
    /// Connections passed on to control at once, over all workers; each holds two sockets and two buffers.
    pub splices: usize,
    /// The same for one client address.
    pub splices_per_address: usize,
    /// How old the edge's knowledge may be, and how long control may take for an answer.
    pub view: ViewLimits,
    /// What the whole edge, one project and one address may use at once.
    pub fair: FairLimits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            client_hello: Duration::from_secs(5),
            handshake: Duration::from_secs(10),
            request_head: Duration::from_secs(10),
            stall: Duration::from_secs(30),
            idle: Duration::from_secs(75),
            connections: 20_000,
            // Many people share an address (offices, carriers), so this stops a flood, not a crowd.
            connections_per_address: 1024,
            // 5461 connections with a ClientHello of today: more than come in the moment after a restart, and at 0.4 ms
            // each two cores are through with them before a client has given up.
            arriving: 64 * 1024 * 1024,
            // More than two cores begin in the time that a client at the other end of the world takes to answer.
            handshakes: 2048,
            splice_open: Duration::from_secs(5),
            splice_idle: Duration::from_mins(2),
            splices: 4096,
            splices_per_address: 256,
            view: ViewLimits::default(),
            fair: FairLimits::default(),
        }
    }
}

/// Most header fields of a request, the same on all protocols.
pub const REQUEST_FIELDS_MAX: usize = 100;

/// Most octets of a request's head: target and fields as sent on h1, the field section's size (RFC 9113 §6.5.2,
/// RFC 9114 §4.2.2) on h2 and h3.
pub const REQUEST_HEAD_LEN_MAX: usize = 32 * 1024;

/// Most octets of a request's head that is read on h2 and h3 to be answered with a refusal of our own. What is over that is
/// left to the codecs, which refuse in their own way.
pub(crate) const REQUEST_HEAD_READ_MAX: usize = 4 * REQUEST_HEAD_LEN_MAX;

/// Most octets of a request's target.
pub const REQUEST_TARGET_LEN_MAX: usize = 8 * 1024;

/// Most request streams at once on one client's connection, h2 and h3.
pub const PUBLIC_STREAMS_MAX: u32 = 100;

/// What an edge is given to work with.
pub struct EdgeParts {
    /// What it knows of the installation.
    pub replica: Arc<Replica>,
    /// What it shows to warpgates; renewed by whoever runs the edge.
    pub identity: CurrentIdentity,
    /// What warpgates that enrol are shown: a control node's certificate, because they believe no other. `None` where
    /// their connections are spliced, and such an edge has no TLS of its own for them.
    pub enroll: Option<CurrentIdentity>,
    /// Whom it trusts; kept current by whoever runs the edge.
    pub trust: CurrentTrust,
    /// What it may ask of control.
    pub link: Arc<dyn ControlLink>,
    /// Where the platform's own hosts are served.
    pub platform: PlatformHosts,
    /// Tells the time.
    pub clock: Clock,
    /// Draws randomness.
    pub entropy: Entropy,
    /// Where requests and connections are counted.
    pub metrics: Metrics,
}

/// Why an edge did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another program listens there, or the port needs a privilege.
    #[error("cannot listen on {protocol} {address}: {source}")]
    Listen {
        /// `TCP` or `UDP`.
        protocol: &'static str,
        /// Where.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// The TLS configuration could not be made.
    #[error("cannot make the {which} TLS configuration: {reason}")]
    Tls {
        /// `public`, `tunnel` or `connect`.
        which: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A worker's thread or runtime could not be made.
    #[error("cannot start a worker thread: {0}")]
    Worker(#[source] io::Error),
}

impl StartError {
    /// The TLS configuration `which` could not be made.
    pub(crate) fn tls(which: &'static str, reason: &dyn std::fmt::Display) -> Self {
        Self::Tls { which, reason: reason.to_string() }
    }
}
