//! One node: control, an edge, or both in this process, put together by role and taken apart in order.
//!
//! ```text
//! config    what a node is told          base    what every node has
//! control   control, its admin socket and its node port ([`port`])
//! edge      an edge, whoever answers its questions; [`joined`] is what a split one keeps on disk
//! ```
//!
//! Control and the admin socket run on the main runtime; the edge brings its own threads, one per core. What they
//! say to each other goes through [`bridge`], whether control is in this process or behind the edge link.

mod announce;
pub(crate) mod base;
mod bridge;
mod config;
mod control;
mod data;
mod edge;
mod ends;
mod identity;
mod joined;
mod keys;
mod migrate;
mod port;
mod remembered;
mod returning;
mod roots;
mod socket;
mod split;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use mezusphere_model::platform::{Platform, PlatformHost};
use mezusphere_telemetry::{LogConfig, log};

pub(crate) use config::{ControlPart, EdgePart, KeyFiles, NodeConfig, NodePortPart, Role, Store};

use crate::failure::{Failure, Kind};
use base::Base;
use control::ControlSide;
use edge::EdgeSide;

/// How long requests that run may take to finish after a signal.
pub(crate) const DRAIN_GRACE: Duration = Duration::from_secs(30);

/// Threads of the main runtime: the store and the admin API need little, and the cores belong to the edge.
const CONTROL_THREADS: usize = 2;

/// Whether a node could start as it is told, as far as that shows before anything of it is made.
pub(crate) fn check(config: &NodeConfig) -> Result<(), Failure> {
    match &config.role {
        Role::All(part, _) | Role::Control(part) => control::check(part),
        Role::Edge(..) => Ok(()),
    }
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
    let base = Base::open(&config).await?;
    let keeping = tokio::spawn(keys::keep(Arc::clone(&base.keys), base.stop.clone()));
    let ended = play(&base, config.role, &signals).await;
    base.stop.cancel();
    // A task that panicked has said so in the log.
    drop(keeping.await);
    if let Ok(code) = &ended {
        // Whoever read along may be gone by now; the end is the same.
        drop(announce::stopped(*code == ends::at_once(), base.json));
    }
    ended
}

async fn play(base: &Base, role: Role, signals: &ends::Signals) -> Result<ExitCode, Failure> {
    match role {
        Role::All(control, edge) => both(base, *control, edge, signals).await,
        Role::Control(control) => control_alone(base, *control, signals).await,
        Role::Edge(edge, token) => split::serve(base, edge, token, signals).await,
    }
}

async fn both(
    base: &Base,
    control: ControlPart,
    part: EdgePart,
    signals: &ends::Signals,
) -> Result<ExitCode, Failure> {
    let mut control = ControlSide::open(base, control, Some(&part)).await?;
    let edge = EdgeSide::start(base, &part, control.home().await?)?;
    until_signal(base, Some(announce::Edge::of(&edge)), control.announced(), signals).await?;
    tokio::select! {
        () = edge.end(DRAIN_GRACE, &base.stop) => {}
        () = signals.second() => return Ok(ends::at_once()),
    }
    tokio::select! {
        () = control.stop_serving() => {}
        () = signals.second() => return Ok(ends::at_once()),
    }
    control.close().await;
    Ok(ExitCode::SUCCESS)
}

async fn control_alone(base: &Base, part: ControlPart, signals: &ends::Signals) -> Result<ExitCode, Failure> {
    let mut control = ControlSide::open(base, part, None).await?;
    until_signal(base, None, control.announced(), signals).await?;
    base.stop.cancel();
    tokio::select! {
        () = control.stop_serving() => {}
        () = signals.second() => return Ok(ends::at_once()),
    }
    control.close().await;
    Ok(ExitCode::SUCCESS)
}

/// Says what has started, and serves until the first signal; then says that it drains.
async fn until_signal(
    base: &Base,
    edge: Option<announce::Edge>,
    control: announce::Control<'_>,
    signals: &ends::Signals,
) -> Result<(), Failure> {
    let data = base.data.path().display().to_string();
    announce::started(&announce::Started { edge, control: Some(control), data }, base.json)?;
    base.ready.set(true);
    signals.first().await;
    base.ready.set(false);
    Ok(announce::draining(base.json)?)
}

fn origin(platform: &Platform, which: PlatformHost) -> String {
    platform.host(which).map_or_else(|why| why.to_string(), |host| platform.origin(&host))
}
