//! The node port of a control node: what edges ask is control's to answer, and clients of platform hosts that edges
//! pass on are served by the edge crate's front.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mezusphere_control::Control;
use mezusphere_edge::tls::PublicCertificates;
use mezusphere_edge::{FrontParts, Limits, PlatformFront};
use mezusphere_edge_link::SpliceStream;
use mezusphere_edge_link::join::{JoinRefused, JoinReply, JoinRequest, RejoinRequest};
use mezusphere_edge_link::limits::NodeLimits;
use mezusphere_edge_link::server::{Edges, Joins, NodeParts, NodePort, Splices};
use mezusphere_model::document::{CertificateDoc, Document, Partition};
use mezusphere_model::id::EdgeId;
use mezusphere_model::link::{Answer, ControlLink, LinkError};
use mezusphere_model::{Clock, Platform};
use mezusphere_store::feed::{BATCH_LEN_MAX, FeedError, FeedSource, Woken};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::base::Base;
use super::bridge;
use super::config::NodePortPart;
use crate::failure::{Failure, Kind};

/// Between two looks at the platform's certificates; a wake is only a hint.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// A node port that is served.
pub(crate) struct PortSide {
    at: SocketAddr,
    front: Arc<PlatformFront>,
    serving: JoinHandle<()>,
    certificates: JoinHandle<()>,
}

impl PortSide {
    /// Listens, and serves until the node stops.
    pub(crate) async fn open(
        base: &Base,
        told: &NodePortPart,
        platform: &Platform,
        control: &Arc<Control>,
    ) -> Result<Self, Failure> {
        let listener = TcpListener::bind(told.listen).await.map_err(|why| {
            Failure::new(Kind::Listen, format!("cannot listen on TCP {}: {why}", told.listen))
                .next("stop what listens there, or choose another address with --node-listen")
        })?;
        let at = listener.local_addr()?;
        let unexpected = |why: String| Failure::new(Kind::Unexpected, why);
        let feed = control.feed();

        let certificates = PublicCertificates::default();
        load(&*feed, &certificates, &base.clock).await.map_err(|why| unexpected(why.to_string()))?;
        let following =
            follow(Arc::clone(&feed), certificates.clone(), base.clock.clone(), base.stop.clone());

        let runtime = tokio::runtime::Handle::current();
        let front = PlatformFront::new(FrontParts {
            certificates,
            platform: platform.clone(),
            service: bridge::service(control.platform_service(), runtime),
            // Only connect messages are asked through it, and those are no edge's.
            link: control.link(EdgeId::from_bits(0)),
            identity: control.node_identity(),
            trust: control.node_trust(),
            clock: base.clock.clone(),
            entropy: base.entropy.clone(),
            metrics: base.metrics.clone(),
            limits: Limits::default(),
        });
        let front = Arc::new(front.map_err(|why| unexpected(why.to_string()))?);
        let port = NodePort::new(NodeParts {
            identity: control.node_identity(),
            trust: control.node_trust(),
            clock: base.clock.clone(),
            edges: Arc::new(Answers(Arc::clone(control))),
            joins: Arc::new(Answers(Arc::clone(control))),
            splices: Arc::new(Fronted(Arc::clone(&front))),
            limits: NodeLimits::default(),
        })
        .map_err(|why| unexpected(why.to_string()))?;
        let port = Arc::new(port);
        count(base, &port);
        let stop = base.stop.clone();
        let serving = tokio::spawn(async move { port.serve(listener, stop).await });
        Ok(Self { at, front, serving, certificates: tokio::spawn(following) })
    }

    /// Where it listens.
    pub(crate) fn at(&self) -> SocketAddr {
        self.at
    }

    /// Lets what runs finish within `grace`. The node's stop must have been called.
    pub(crate) async fn close(self, grace: Duration) {
        self.front.drain(grace).await;
        for task in [self.serving, self.certificates] {
            // A task that panicked has said so in the log.
            drop(task.await);
        }
    }
}

fn count(base: &Base, port: &Arc<NodePort>) {
    let whole = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let (links, splices) = (Arc::clone(port), Arc::clone(port));
    base.metrics
        .gauge_from("node_links", "Edges' links to this control node", move || whole(links.counts().links));
    base.metrics.gauge_from("node_splices", "Clients of platform hosts that edges pass on", move || {
        whole(splices.counts().splices)
    });
}

/// Gives each edge its own view of control.
struct Answers(Arc<Control>);

impl Edges for Answers {
    fn admit<'a>(&'a self, edge: EdgeId, leaf: &'a [u8]) -> Answer<'a, Result<(), LinkError>> {
        Box::pin(self.0.admit_link(edge, leaf))
    }

    fn link(&self, edge: EdgeId) -> Arc<dyn ControlLink> {
        self.0.link(edge)
    }

    fn feed(&self, _: EdgeId) -> Arc<dyn FeedSource> {
        // What no edge may have is hidden by the port.
        self.0.feed()
    }
}

impl Joins for Answers {
    fn join(&self, request: JoinRequest, from: SocketAddr) -> Answer<'_, Result<JoinReply, JoinRefused>> {
        Box::pin(self.0.join(request, from))
    }

    fn rejoin(&self, request: RejoinRequest, from: SocketAddr) -> Answer<'_, Result<JoinReply, JoinRefused>> {
        Box::pin(self.0.rejoin(request, from))
    }
}

struct Fronted(Arc<PlatformFront>);

impl Splices for Fronted {
    fn spliced(&self, stream: SpliceStream, client: SocketAddr) -> Answer<'static, ()> {
        let front = Arc::clone(&self.0);
        Box::pin(async move { front.serve(stream, client).await })
    }
}

/// Keeps the platform's certificates current until `stop`.
async fn follow(
    feed: Arc<dyn FeedSource>,
    certificates: PublicCertificates,
    clock: Clock,
    stop: CancellationToken,
) {
    let mut wake = feed.wake();
    loop {
        let hint = async {
            loop {
                match wake.woken().await {
                    Woken::Changed(changed) if !changed.contains(&Partition::Control) => {}
                    Woken::Changed(_) | Woken::Anything => return,
                    Woken::Closed => std::future::pending().await,
                }
            }
        };
        tokio::select! {
            () = hint => {}
            () = tokio::time::sleep(LOOK_AGAIN) => {}
            () = stop.cancelled() => return,
        }
        if let Err(error) = load(&*feed, &certificates, &clock).await {
            warn!(%error, "The platform's certificates could not be read; the last ones stay");
        }
    }
}

/// Reads the certificates that only control nodes may hold.
async fn load(
    feed: &dyn FeedSource,
    certificates: &PublicCertificates,
    clock: &Clock,
) -> Result<(), FeedError> {
    let mut found: Vec<CertificateDoc> = Vec::new();
    let mut after = None;
    loop {
        let page = feed.snapshot(Partition::Control, after, BATCH_LEN_MAX).await?;
        for filed in &page.documents {
            if let Ok(Document::Certificate(doc)) = serde_json::from_str(filed.body.get()) {
                found.push(doc);
            }
        }
        after = page.documents.last().map(|filed| filed.key.clone());
        if !page.more || after.is_none() {
            break;
        }
    }
    certificates.replace(&found, clock.now());
    Ok(())
}
