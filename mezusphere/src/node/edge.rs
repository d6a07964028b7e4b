//! An edge in this process, whoever answers its questions: its replica, its certificate, its listeners.

use std::sync::Arc;
use std::time::Duration;

use mezusphere_control::Advertise;
use mezusphere_edge::{Edge, PlatformHosts};
use mezusphere_model::Platform;
use mezusphere_model::document::TrustDoc;
use mezusphere_model::id::EdgeId;
use mezusphere_model::link::{ABOUT_EVERY, AboutEdge, ControlLink};
use mezusphere_pki::{CurrentIdentity, CurrentTrust, NodeIdentity};
use mezusphere_store::Replica;
use mezusphere_store::feed::FeedSource;
use mezusphere_store::replica::Follower;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::base::Base;
use super::config::EdgePart;
use super::returning::Returning;
use super::{bridge, ends, identity};
use crate::failure::{Failure, Kind};

/// How long nothing may come for the edge's copy while it is completed, where control is in the same process. All of it takes
/// milliseconds, and a minute or two where a million sessions are fetched anew.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(30);

/// Told what an edge must still know after a restart without control.
pub(crate) trait Keeps: Send + Sync + 'static {
    /// A new certificate.
    fn identity(&self, identity: &NodeIdentity);

    /// New trust.
    fn trust(&self, trust: &TrustDoc);

    /// Whether control has told this edge better than this since, by another way than the feed.
    fn is_superseded(&self, trust: &TrustDoc) -> bool;
}

/// Keeps nothing: control is in the same process and issues anew at each start.
pub(crate) struct KeepsNothing;

impl Keeps for KeepsNothing {
    fn identity(&self, _: &NodeIdentity) {}

    fn trust(&self, _: &TrustDoc) {}

    fn is_superseded(&self, _: &TrustDoc) -> bool {
        false
    }
}

/// What an edge's certificate and trust are kept current with.
pub(crate) struct Upkeep {
    /// Its certificate.
    pub(crate) identity: CurrentIdentity,
    /// Whom it trusts.
    pub(crate) trust: CurrentTrust,
    /// Who certifies.
    pub(crate) link: Arc<dyn ControlLink>,
    /// Where the newest trust comes.
    pub(crate) replica: Arc<Replica>,
    /// What it keeps.
    pub(crate) keeps: Arc<dyn Keeps>,
    /// How it comes back when its certificate opens no link any more; `None` where control is in the same process.
    pub(crate) returning: Option<Arc<Returning>>,
}

impl Upkeep {
    /// Begins, before anything waits for control: a certificate ends, and a CA is retired, whether this edge serves or not.
    /// Ends with the node.
    pub(crate) fn start(self, base: &Base) -> JoinHandle<()> {
        let Self { identity, trust, link, replica, keeps, returning } = self;
        let (clock, entropy) = (base.clock.clone(), base.entropy.clone());
        let renewal =
            identity::Renewal { identity, link, replica: Arc::clone(&replica), returning, clock, entropy };
        let renewing = renewal.run(Arc::clone(&keeps));
        let trusting = identity::follow_trust(trust, replica, keeps);
        let stop = base.stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = renewing => {}
                () = trusting => {}
                () = stop.cancelled() => {}
            }
        })
    }
}

/// What an edge lives on.
pub(crate) struct Home {
    /// Which edge it is.
    pub(crate) id: EdgeId,
    /// The installation's hosts.
    pub(crate) platform: Platform,
    /// Whom it asks.
    pub(crate) link: Arc<dyn ControlLink>,
    /// Where platform hosts are served.
    pub(crate) hosts: PlatformHosts,
    /// Its replica, open and complete enough to serve from.
    pub(crate) replica: Arc<Replica>,
    /// What follows the feed into it.
    pub(crate) follower: Follower,
    /// Its certificate.
    pub(crate) identity: CurrentIdentity,
    /// What it shows to warpgates that enrol: the control node's in this process.
    pub(crate) enroll: Option<CurrentIdentity>,
    /// Whom it trusts.
    pub(crate) trust: CurrentTrust,
    /// Where warpgates dial it.
    pub(crate) advertise: Advertise,
    /// What keeps certificate and trust current.
    pub(crate) upkeep: JoinHandle<()>,
}

/// Opens the replica and follows `feed` into it.
pub(crate) fn follow(
    base: &Base,
    id: EdgeId,
    feed: Arc<dyn FeedSource>,
) -> Result<(Arc<Replica>, Follower), Failure> {
    // An edge's id is drawn at random by its installation, so it names both.
    let owner = id.to_string();
    let replica = Replica::open_for(&owner, &base.data.replica(), base.clock.clone(), Arc::clone(&base.seal));
    let replica = Arc::new(replica.map_err(ends::replica)?);
    base.keys.hold_replica(&replica);
    let follower = replica.follow(feed, owner, base.entropy.clone());
    Ok((replica, follower))
}

/// Waits until the copy is complete, where control is in the same process.
pub(crate) async fn caught_up(follower: &Follower) -> Result<(), Failure> {
    let mut before = follower.followed();
    while tokio::time::timeout(CATCH_UP_TIMEOUT, follower.caught_up()).await.is_err() {
        let now = follower.followed();
        if (now.entries, now.documents) == (before.entries, before.documents) {
            return Err(Failure::new(Kind::Unexpected, "the edge's copy of the state is not complete")
                .next("look at the log above; deleting the replica folder fetches it anew"));
        }
        tracing::info!(documents = now.documents, changes = now.entries, "The edge's copy is being fetched");
        before = now;
    }
    Ok(())
}

/// A running edge.
pub(crate) struct EdgeSide {
    id: EdgeId,
    platform: Platform,
    edge: Edge,
    follower: Follower,
    draining: watch::Sender<bool>,
    upkeep: JoinHandle<()>,
    reports: JoinHandle<()>,
}

impl EdgeSide {
    /// Starts the listeners, and tells control how the edge is.
    pub(crate) fn start(base: &Base, part: &EdgePart, home: Home) -> Result<Self, Failure> {
        let config = mezusphere_edge::EdgeConfig {
            id: home.id,
            region: base.region.clone(),
            public: part.listen,
            plain_http: part.plain_http,
            workers: part.workers,
            platform: home.platform.clone(),
            // With the id, because edges may share a master key and must not make one another's tokens.
            reset_key: base.keys.sealer().current().derive(&format!("quic/stateless-reset/{}", home.id)),
            limits: mezusphere_edge::Limits::default(),
        };
        let runtime = tokio::runtime::Handle::current();
        let parts = mezusphere_edge::EdgeParts {
            replica: home.replica,
            identity: home.identity,
            enroll: home.enroll,
            trust: home.trust,
            link: Arc::new(bridge::Link::new(Arc::clone(&home.link), runtime)),
            platform: home.hosts,
            clock: base.clock.clone(),
            entropy: base.entropy.clone(),
            metrics: base.metrics.clone(),
        };
        let edge = Edge::start(config, parts).map_err(|why| ends::edge(&why))?;

        let about = AboutEdge {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            region: base.region.clone(),
            host: home.advertise.host,
            port: home.advertise.port,
            draining: false,
        };
        let (draining, drained) = watch::channel(false);
        let reports = tokio::spawn(report(home.link, about, drained, base.stop.clone()));
        Ok(Self {
            id: home.id,
            platform: home.platform,
            edge,
            follower: home.follower,
            draining,
            upkeep: home.upkeep,
            reports,
        })
    }

    /// Which edge it is.
    pub(crate) fn id(&self) -> EdgeId {
        self.id
    }

    /// The installation's hosts.
    pub(crate) fn platform(&self) -> &Platform {
        &self.platform
    }

    /// Its listeners.
    pub(crate) fn listeners(&self) -> &Edge {
        &self.edge
    }

    /// Takes nothing new, lets what runs finish within `grace`, then ends what runs beside the traffic by `stop`.
    pub(crate) async fn end(self, grace: Duration, stop: &CancellationToken) {
        self.draining.send_replace(true);
        self.edge.drain(grace).await;
        stop.cancel();
        for task in [self.upkeep, self.reports] {
            // A task that panicked has said so in the log.
            drop(task.await);
        }
        self.follower.stop().await;
    }
}

/// Tells control how the edge is, again and again, and at once when it drains.
async fn report(
    link: Arc<dyn ControlLink>,
    mut about: AboutEdge,
    mut draining: watch::Receiver<bool>,
    stop: CancellationToken,
) {
    loop {
        about.draining = *draining.borrow_and_update();
        if let Err(error) = link.about(about.clone()).await {
            tracing::debug!(%error, "Control did not hear how this edge is");
        }
        tokio::select! {
            () = tokio::time::sleep(ABOUT_EVERY) => {}
            Ok(()) = draining.changed() => {}
            () = stop.cancelled() => return,
        }
    }
}
