//! One node: control and an edge in this process, put together and taken apart in order.
//!
//! Control and the admin socket run on the main runtime; the edge brings its own threads, one per core. What
//! they say to each other goes through [`bridge`], the same port a split edge will use over the network.

mod announce;
mod bridge;
mod data;
mod edge;
mod ends;
mod socket;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mezusphere_control::{Control, ControlConfig, PublicCertificate};
use mezusphere_edge::Edge;
use mezusphere_model::Clock;
use mezusphere_model::platform::{Platform, PlatformHost};
use mezusphere_model::seal::Seal;
use mezusphere_pki::seal::Sealer;
use mezusphere_store::feed::FeedSource;
use mezusphere_store::{Primary, Replica};
use mezusphere_telemetry::{Health, HealthListener, LogConfig, LogFormat, Metrics, log};
use tokio_util::sync::CancellationToken;

use crate::failure::{Failure, Kind};
use data::DataDir;
use socket::AdminSocket;

/// How long requests that run may take to finish after a signal.
pub(crate) const DRAIN_GRACE: Duration = Duration::from_secs(30);

/// How long the edge's copy may take to be complete at the start; in one process it takes milliseconds.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(30);

/// Threads of the main runtime: the store and the admin API need little, and the cores belong to the edge.
const CONTROL_THREADS: usize = 2;

/// Everything a node is told.
#[derive(Debug)]
pub(crate) struct NodeConfig {
    /// The data directory.
    pub(crate) data: PathBuf,
    /// How control is set up.
    pub(crate) control: ControlConfig,
    /// Public address, TCP and UDP.
    pub(crate) listen: SocketAddr,
    /// Where plain HTTP is redirected.
    pub(crate) plain_http: Option<SocketAddr>,
    /// Where the master key is read.
    pub(crate) master_key_file: Option<PathBuf>,
    /// Threads of the edge.
    pub(crate) workers: NonZeroUsize,
    /// Where this node stands, for people.
    pub(crate) region: String,
    /// Private address for health and metrics.
    pub(crate) health: Option<SocketAddr>,
    /// What to log.
    pub(crate) log: String,
    /// How; `None`: as standard error likes it.
    pub(crate) log_format: Option<LogFormat>,
    /// Say everything as JSON lines.
    pub(crate) json: bool,
}

/// Runs a node until a signal ends it.
pub(crate) fn run(config: NodeConfig) -> Result<ExitCode, Failure> {
    let logging = LogConfig { filter: config.log.clone(), format: config.log_format.unwrap_or_default() };
    log::init(&logging).map_err(|why| Failure::new(Kind::Usage, why))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("control")
        .enable_all()
        .build()?;
    let ended = runtime.block_on(serve(config));
    // Whatever still blocks a thread here has had its time.
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended
}

async fn serve(config: NodeConfig) -> Result<ExitCode, Failure> {
    // Before anything else: a signal during a long start must end it too.
    let signals = ends::Signals::listen()?;
    let (clock, entropy) = (clock(), crate::entropy());
    let data = DataDir::open(config.data)?;
    let master = data.master_key(config.master_key_file.as_deref(), &entropy)?;
    let seal: Arc<dyn Seal> = Arc::new(Sealer::new(master, entropy.clone()));

    let primary = Primary::open_sqlite(&data.control(), clock.clone(), entropy.clone(), Arc::clone(&seal))
        .await
        .map_err(ends::primary)?;
    let own_ca = matches!(config.control.public_certificate, PublicCertificate::Internal);
    let platform = config.control.platform.clone();
    let control =
        Control::open(config.control, primary.clone(), Arc::clone(&seal), clock.clone(), entropy.clone());
    let control = Arc::new(control.await.map_err(ends::control)?);
    data::write_whole(&data.roots(), control.roots_pem().concat().as_bytes(), 0o644)?;

    let id = control.edge_id();
    let replica = Replica::open(&data.replica(), clock.clone(), seal).map_err(ends::replica)?;
    let replica = Arc::new(replica);
    let source: Arc<dyn FeedSource> = Arc::new(primary.clone());
    let follower = replica.follow(source, id.to_string(), entropy.clone());
    if tokio::time::timeout(CATCH_UP_TIMEOUT, follower.caught_up()).await.is_err() {
        return Err(Failure::new(Kind::Unexpected, "the edge's copy of the state is not complete")
            .next("look at the log above; deleting the replica folder fetches it anew"));
    }

    let stop = CancellationToken::new();
    let metrics = Metrics::new("mezusphere");
    let health = Health::new();
    let ready = health.condition("serving");
    let node =
        edge::Node { id, control: Arc::clone(&control), clock: clock.clone(), entropy: entropy.clone() };
    let identity = node.identity().await?;
    let trust = edge::trust(&replica)?;
    let keep = node.keep_current(identity.clone(), trust.clone(), Arc::clone(&replica), stop.clone());

    let runtime = tokio::runtime::Handle::current();
    let edge_config = mezusphere_edge::EdgeConfig {
        id,
        region: config.region,
        public: config.listen,
        plain_http: config.plain_http,
        workers: config.workers,
        platform: platform.clone(),
        limits: mezusphere_edge::Limits::default(),
    };
    let parts = mezusphere_edge::EdgeParts {
        replica: Arc::clone(&replica),
        identity,
        trust,
        link: Arc::new(bridge::Link::new(control.link(), runtime.clone())),
        platform: bridge::service(control.platform_service(), runtime),
        clock,
        entropy,
        metrics: metrics.clone(),
    };
    let edge = Edge::start(edge_config, parts).map_err(|why| ends::edge(&why))?;

    let socket = AdminSocket::bind(data.admin_socket())?;
    let admin = tokio::spawn(socket.serve(control.local_admin(), stop.clone()));
    let jobs = control.start_jobs();
    let private = match config.health {
        Some(address) => {
            let listener =
                HealthListener::bind(address).await.map_err(|why| Failure::new(Kind::Listen, why))?;
            Some(tokio::spawn(listener.serve(health, metrics)))
        }
        None => None,
    };

    announce::started(
        &announce::Started {
            edge: id.to_string(),
            data: data.path().display().to_string(),
            public: edge.local_addr(),
            plain_http: edge.plain_http_addr(),
            console: origin(&platform, PlatformHost::Console),
            login: origin(&platform, PlatformHost::Login),
            apps: format!("https://*.{}", platform.apps),
            roots: own_ca.then(|| data.roots().display().to_string()),
            first_sign_in: control.sign_in_link(),
        },
        config.json,
    )?;
    ready.set(true);

    signals.first().await;
    ready.set(false);
    announce::draining(config.json)?;
    tokio::select! {
        () = edge.drain(DRAIN_GRACE) => {}
        () = signals.second() => return Ok(ends::at_once()),
    }
    stop.cancel();
    jobs.stop().await;
    for task in [admin, keep] {
        // A task that panicked has said so in the log.
        drop(task.await);
    }
    if let Some(private) = private {
        private.abort();
    }
    follower.stop().await;
    primary.close().await;
    Ok(ExitCode::SUCCESS)
}

fn origin(platform: &Platform, which: PlatformHost) -> String {
    platform.host(which).map_or_else(|why| why.to_string(), |host| platform.origin(&host))
}

/// The wall clock, for everything below.
fn clock() -> Clock {
    Clock::new(|| {
        #[expect(clippy::disallowed_methods, reason = "the one place this program reads the wall clock")]
        SystemTime::now()
    })
}
