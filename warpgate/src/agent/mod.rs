//! The running warpgate: gets an identity, keeps tunnels, tells when it is ready, renews, drains.
//!
//! ```text
//! start     identity and first bundle: from the state directory, or by enrollment until it works
//! upkeep    renewal of the certificate, polling for bundles, closing of idle connections
//! ready     when "Ready" may be said, and what is said with it
//! upstreams when requests no longer reach an upstream
//! reload    settings read again, on SIGHUP        gauges    what /metrics and /readyz show
//! ```

mod gauges;
mod ready;
mod reload;
mod start;
mod upkeep;
mod upstreams;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mezusphere_model::connection_key::ConnectionKey;
use mezusphere_model::{Clock, Entropy};
use mezusphere_pki::CurrentIdentity;
use mezusphere_telemetry::{Condition, Health, HealthListener, Metrics};
use quinn::VarInt;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::task::AbortOnDropHandle;
use tunnel_proto::codes::CloseCode;

use crate::bundle::Bundles;
use crate::config::Shown;
use crate::enroll::{ConnectFailure, ConnectService};
use crate::exchange::Gate;
use crate::exit::Exit;
use crate::limits::{DRAIN_GRACE, DRAIN_LATE_ARRIVALS, FORCED_FLUSH_MAX};
use crate::local::{Facts, Socket, View};
use crate::notify::Notify;
use crate::output::{Event, Reporter, RouteLine, UpstreamState};
use crate::routes;
use crate::state::StateDir;
use crate::tunnel::{self, Doubts, Network, ProxySettings, Shared, Status};
use crate::upstream::Upstreams;
use reload::Reloading;
pub use reload::{NO_LOG, Reload, Unusable};
use start::Started;
use upkeep::Upkeep;

/// What a warpgate is told when it starts.
pub struct Config {
    /// Where to connect, whom to trust, what for.
    pub key: ConnectionKey,
    /// The key's last four characters.
    pub key_hint: String,
    /// Where requests may go.
    pub upstreams: Upstreams,
    /// Where to keep certificate and key; `None`: in memory only.
    pub state: Option<StateDir>,
    /// Where to answer health checks; loopback only.
    pub health: Option<SocketAddr>,
    /// End instead of trying for ever, until the first tunnel is up.
    pub exit_on_failure: bool,
    /// This machine's name, for people.
    pub hostname: String,
    /// How TCP gets out of this network.
    pub proxy: ProxySettings,
    /// End if an upstream that a route leads to does not answer at the start.
    pub require_origin: bool,
    /// Where the key was found, for people.
    pub key_source: String,
    /// The settings as they are shown.
    pub settings: Vec<Shown>,
    /// Where the control socket is; `None`: there is none.
    pub socket: Option<PathBuf>,
    /// The service manager.
    pub notify: Notify,
    /// How settings are read again; `None`: they are not.
    pub reload: Option<Reload>,
}

impl Config {
    /// To serve these upstreams with this key, and nothing else asked for.
    pub fn new(key: ConnectionKey, key_hint: String, upstreams: Upstreams, hostname: String) -> Self {
        Self {
            key,
            key_hint,
            upstreams,
            hostname,
            state: None,
            health: None,
            exit_on_failure: false,
            proxy: ProxySettings::default(),
            require_origin: false,
            key_source: String::new(),
            settings: Vec::new(),
            socket: None,
            notify: Notify::default(),
            reload: None,
        }
    }
}

/// What the parts of an agent share.
struct Agent {
    config: Config,
    view: Arc<View>,
    clock: Clock,
    entropy: Entropy,
    reporter: Reporter,
    /// How many signals to stop have come.
    signals: watch::Receiver<u32>,
}

/// Runs a warpgate until it is signalled to stop, or cannot go on.
///
/// `signals` counts the signals to stop: the first drains, the second ends at once.
pub async fn run(
    config: Config,
    clock: Clock,
    entropy: Entropy,
    reporter: Reporter,
    signals: watch::Receiver<u32>,
) -> Exit {
    let view = Arc::new(view_of(&config, &clock, &reporter));
    let mut counted = signals.clone();
    let at_once = async {
        // Not the guard that it answers with: that would keep the count locked while the last word leaves.
        let came = counted.wait_for(|count| *count >= 2).await.is_ok();
        // Counted while it runs still.
        came.then(|| view.running())
    };
    let agent =
        Agent { config, view: Arc::clone(&view), clock, entropy, reporter: reporter.clone(), signals };
    let network = match agent.introduce() {
        Ok(network) => network,
        Err(exit) => return exit,
    };
    let endpoint = network.endpoint.clone();
    tokio::select! {
        biased;
        Some(cut) = at_once => {
            reporter.tell(Event::Interrupted { cut });
            say_goodbye(&endpoint, FORCED_FLUSH_MAX).await;
            Exit::Interrupted
        }
        exit = agent.run(network) => exit,
    }
}

fn view_of(config: &Config, clock: &Clock, reporter: &Reporter) -> View {
    let facts = Facts {
        hostname: config.hostname.clone(),
        control: format!("{}:{}", config.key.host, config.key.port),
        key_hint: config.key_hint.clone(),
        key_source: config.key_source.clone(),
        state_dir: config.state.as_ref().map(|state| state.path().to_owned()),
    };
    View::new(facts, config.settings.clone(), clock.clone(), reporter.journal().clone())
}

/// Closes every connection with a word, so that the edges end what runs at once; they would notice by silence otherwise.
async fn say_goodbye(endpoint: &quinn::Endpoint, flush_max: Duration) {
    endpoint.close(VarInt::from_u32(CloseCode::Done.number()), b"");
    drop(timeout(flush_max, endpoint.wait_idle()).await);
}

impl Agent {
    /// Says who starts, and opens the socket.
    fn introduce(&self) -> Result<Network, Exit> {
        self.reporter.tell(Event::Started {
            version: env!("CARGO_PKG_VERSION"),
            platform: format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
            host: self.config.hostname.clone(),
        });
        Network::open()
            .map(|network| Network { proxy: self.config.proxy.clone(), ..network })
            .map_err(|why| self.fail(Exit::Failed, "network.socket", &format!("no UDP socket: {why}"), ""))
    }

    async fn run(mut self, network: Network) -> Exit {
        let health = Health::new();
        let connected = health.condition("a tunnel to an edge that a probe came through");
        gauges::explain(&health, &self.view);
        // Each of these ends with this function.
        let _manager =
            AbortOnDropHandle::new(tokio::spawn(self.config.notify.clone().keep(Arc::clone(&self.view))));
        let _local = self.answer_locally();
        let metrics = Metrics::new("warpgate");
        let _health = match self.listen(health, metrics.clone()).await {
            Ok(listening) => listening,
            Err(exit) => return exit,
        };
        let service = ConnectService::new(
            network.clone(),
            self.config.key.clone(),
            self.clock.clone(),
            self.config.hostname.clone(),
        );
        let started = match start::start(&mut self, &service).await {
            Ok(started) => started,
            Err(exit) => return exit,
        };
        self.tell_network(&network);
        self.serve(started, network, service, &connected, &metrics).await
    }

    /// From the first bundle to the end.
    async fn serve(
        mut self,
        started: Started,
        network: Network,
        service: ConnectService,
        connected: &Condition,
        metrics: &Metrics,
    ) -> Exit {
        let Started { identity, bundles, enrolled } = started;
        let shared = self.share(identity, bundles, network);
        self.view.serving(Arc::clone(&shared));
        gauges::register(metrics, &shared);
        if self.config.require_origin
            && let Err(exit) = self.require_origin(&shared).await
        {
            return exit;
        }
        let (stop, stopped) = watch::channel(None);
        // Each of these ends with this function.
        let tunnels = tokio::spawn(tunnel::keep_all(Arc::clone(&shared), stopped));
        let mut tunnels = AbortOnDropHandle::new(tunnels);
        let upkeep = Upkeep::new(Arc::clone(&shared), service, self.config.state.clone(), enrolled);
        let mut upkeep = std::pin::pin!(upkeep.run());
        let announced = AtomicBool::new(false);
        let mut telling = std::pin::pin!(async {
            let told = ready::announce(&shared).await;
            announced.store(true, Ordering::Relaxed);
            ready::tell_edge_count(&shared, told).await
        });
        let mut troubles = std::pin::pin!(upstreams::keep_watch(&shared));
        let view = Arc::clone(&self.view);
        let mut gauges = std::pin::pin!(gauges::Each::new(metrics).follow(&shared, &view));
        let (notify, reporter) = (self.config.notify.clone(), self.reporter.clone());
        let reloading = Reloading {
            reload: self.config.reload.take(),
            shown: self.config.settings.clone(),
            shared: &shared,
            view: &view,
            notify: &notify,
            reporter: &reporter,
        };
        let mut reloading = std::pin::pin!(reloading.follow());
        let mut signals = self.signals.clone();
        let (mut status, mut doubts) = (shared.status.subscribe(), shared.doubts.changes());
        loop {
            tokio::select! {
                never = &mut telling => match never {},
                never = &mut troubles => match never {},
                never = &mut gauges => match never {},
                never = &mut reloading => match never {},
                failure = &mut upkeep => return self.fail_with(&failure),
                Ok(()) = status.changed() => {}
                Ok(()) = doubts.changed() => {}
                _ = signals.wait_for(|count| *count >= 1) => break,
            }
            let now = status.borrow_and_update().clone();
            connected.set(now.round_trip().is_some());
            // Where an edge doubts our key, control's answer says more than "none accepts us".
            let is_hopeless = now.all_failed() && !shared.doubts.is_unheard();
            if self.config.exit_on_failure && !announced.load(Ordering::Relaxed) && is_hopeless {
                return self.fail(
                    Exit::NoTransport,
                    "tunnel.none",
                    "no edge can be reached, or none accepts this warpgate",
                    "the lines above say why for each edge; without --exit-on-failure it is tried for ever",
                );
            }
        }
        connected.set(false);
        self.drain(&shared, &stop, &mut tunnels).await
    }

    fn share(&self, identity: CurrentIdentity, bundles: Arc<Bundles>, network: Network) -> Arc<Shared> {
        let gate =
            Gate::new(bundles, self.config.upstreams.clone(), self.clock.clone(), self.entropy.clone());
        Arc::new(Shared {
            gate: Arc::new(gate),
            network,
            identity,
            renewals: watch::Sender::new(0),
            clock: self.clock.clone(),
            entropy: self.entropy.clone(),
            reporter: self.reporter.clone(),
            status: watch::Sender::new(Status::default()),
            doubts: Doubts::default(),
        })
    }

    /// Lets what runs finish; a second signal ends it from outside.
    async fn drain(
        self,
        shared: &Shared,
        stop: &watch::Sender<Option<Duration>>,
        tunnels: &mut AbortOnDropHandle<()>,
    ) -> Exit {
        let running = &shared.gate.running;
        self.view.draining();
        self.reporter.tell(Event::Draining { exchanges: running.count(), grace_s: DRAIN_GRACE.as_secs() });
        running.start_draining();
        stop.send_replace(Some(DRAIN_GRACE));
        let deadline = Instant::now() + DRAIN_GRACE + DRAIN_LATE_ARRIVALS.1;
        let closing = async {
            sleep(DRAIN_LATE_ARRIVALS.1).await;
            shared.gate.close();
            std::future::pending::<()>().await;
        };
        let cut = tokio::select! {
            over = timeout_at(deadline, tunnels) => if over.is_ok() { 0 } else { running.count() },
            () = closing => 0,
        };
        say_goodbye(&shared.network.endpoint, DRAIN_LATE_ARRIVALS.1).await;
        self.reporter.tell(Event::Stopped { cut });
        Exit::Done
    }

    async fn listen(&self, health: Health, metrics: Metrics) -> Result<Option<AbortOnDropHandle<()>>, Exit> {
        let Some(address) = self.config.health else { return Ok(None) };
        match HealthListener::bind(address).await {
            Ok(listener) => Ok(Some(AbortOnDropHandle::new(tokio::spawn(listener.serve(health, metrics))))),
            Err(why) => Err(self.fail(
                Exit::Usage,
                "health.address",
                &why.to_string(),
                "choose another address or port for --health, or leave it out",
            )),
        }
    }

    /// Answers `warpgate status` and its like. Without, the warpgate works all the same.
    fn answer_locally(&self) -> Option<AbortOnDropHandle<()>> {
        let path = self.config.socket.as_deref()?;
        match Socket::bind(path) {
            Ok(socket) => Some(AbortOnDropHandle::new(tokio::spawn(socket.serve(Arc::clone(&self.view))))),
            Err(why) => {
                self.reporter.tell(Event::Note { text: why.to_string() });
                None
            }
        }
    }

    /// Asks every upstream that a route leads to, before the first edge is dialled.
    async fn require_origin(&self, shared: &Shared) -> Result<(), Exit> {
        let trusted = Arc::clone(&shared.gate.bundles.current());
        let lines = routes::probed(trusted, &shared.gate.declared()).await;
        let down = |line: &&RouteLine| {
            line.target.is_some() && matches!(line.state, Some(UpstreamState::Down { .. }))
        };
        let Some(line) = lines.iter().find(down) else { return Ok(()) };
        let target = line.target.as_deref().unwrap_or_default();
        let why = match &line.state {
            Some(UpstreamState::Down { why }) => why.as_str(),
            _ => "it does not answer",
        };
        Err(self.fail(
            Exit::Origin,
            "upstream.required",
            &format!("the upstream {} at {target} does not answer: {why}", line.upstream),
            "start what listens there first, or leave --require-origin out",
        ))
    }

    fn tell_network(&self, network: &Network) {
        self.reporter.tell(Event::Network {
            receive_buffer: network.receive_buffer,
            send_buffer: network.send_buffer,
            advice: network.advice(),
        });
    }

    fn fail_with(&self, failure: &ConnectFailure) -> Exit {
        self.fail(failure.exit, &failure.code, &failure.message, &failure.next)
    }

    fn fail(&self, exit: Exit, code: &str, message: &str, next: &str) -> Exit {
        self.reporter.tell(Event::Error {
            code: code.to_owned(),
            message: message.to_owned(),
            next: next.to_owned(),
            exit: exit.code(),
        });
        exit
    }
}
