//! An installation: its CA, its control nodes on loopback, its edges. Time stands still until a test moves it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mezusphere_edge_link::client::{ClientParts, LinkClient, LinkState};
use mezusphere_edge_link::limits::{LinkLimits, NodeLimits};
use mezusphere_edge_link::server::{NodeParts, NodePort};
use mezusphere_model::clock::{Clock, ManualClock, Timestamp};
use mezusphere_model::document::NodeAddress;
use mezusphere_model::entropy::Entropy;
use mezusphere_model::id::{ControlId, EdgeId, EnvironmentId, ProjectId, WarpgateId};
use mezusphere_pki::{
    CurrentIdentity, CurrentTrust, Issuing, NodeIdentity, NodeKey, Role, Root, SpiffeName, Trust, TrustDomain,
};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::fake::{Fake, Inside};

/// No test waits longer for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct World {
    pub(crate) hand: ManualClock,
    pub(crate) clock: Clock,
    pub(crate) entropy: Entropy,
    pub(crate) root: Root,
    issuing: Issuing,
    domain: TrustDomain,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::named("mezu.example")
    }

    pub(crate) fn named(domain: &str) -> Self {
        let hand = ManualClock::at(Timestamp::from_seconds(1_800_000_000));
        let (clock, entropy) = (hand.clock(), Entropy::counting());
        let domain = TrustDomain::parse(domain).unwrap();
        let root = Root::create(&domain, clock.now(), &entropy).unwrap();
        let issuing = Issuing::create(&root, clock.now(), &entropy).unwrap();
        Self { hand, clock, entropy, root, issuing, domain }
    }

    pub(crate) fn name(&self, role: Role) -> SpiffeName {
        SpiffeName::new(self.domain.clone(), role)
    }

    /// A leaf for a key of its own.
    pub(crate) fn identity(&self, role: Role, ttl: Duration) -> NodeIdentity {
        self.identity_by(&self.issuing, role, ttl)
    }

    /// The same by this CA.
    pub(crate) fn identity_by(&self, issuing: &Issuing, role: Role, ttl: Duration) -> NodeIdentity {
        let key = NodeKey::generate().unwrap();
        let csr = key.csr_der().unwrap();
        let leaf = issuing.issue(&csr, &self.name(role), self.clock.now(), ttl).unwrap();
        NodeIdentity::new(leaf.chain, key).unwrap()
    }

    /// A chain for the key of a request, DER.
    pub(crate) fn certify(&self, csr_der: &[u8], role: Role, ttl: Duration) -> Vec<Vec<u8>> {
        let leaf = self.issuing.issue(csr_der, &self.name(role), self.clock.now(), ttl).unwrap();
        leaf.chain.iter().map(|der| der.to_vec()).collect()
    }

    pub(crate) fn current(&self, role: Role) -> CurrentIdentity {
        CurrentIdentity::new(self.identity(role, Duration::from_hours(24)))
    }

    pub(crate) fn trust(&self, denied: &[Role]) -> Trust {
        let denied = denied.iter().map(|role| self.name(*role).to_string());
        Trust::new(self.domain.clone(), vec![self.root.certificate().clone()], denied).unwrap()
    }

    pub(crate) fn current_trust(&self) -> CurrentTrust {
        CurrentTrust::new(self.trust(&[]))
    }

    /// What tells the CA that issues here from others.
    pub(crate) fn ca_digest(&self) -> [u8; 32] {
        self.issuing.digest()
    }

    pub(crate) fn domain(&self) -> &str {
        self.domain.as_str()
    }

    pub(crate) fn edge(&self) -> EdgeId {
        EdgeId::random(&self.entropy)
    }

    pub(crate) fn warpgate(&self) -> Role {
        Role::Warpgate {
            project: ProjectId::random(&self.entropy),
            environment: EnvironmentId::random(&self.entropy),
            id: WarpgateId::random(&self.entropy),
        }
    }

    /// A control node with usual limits.
    pub(crate) async fn control(&self) -> Node {
        self.control_with(NodeLimits::default()).await
    }

    pub(crate) async fn control_with(&self, limits: NodeLimits) -> Node {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.control_on(listener, limits)
    }

    /// The same whose certificates live so long.
    pub(crate) async fn control_living(&self, ttl: Duration) -> Node {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.control_as(listener, NodeLimits::default(), ttl)
    }

    pub(crate) fn control_on(&self, listener: TcpListener, limits: NodeLimits) -> Node {
        self.control_as(listener, limits, Duration::from_hours(24))
    }

    fn control_as(&self, listener: TcpListener, limits: NodeLimits, ttl: Duration) -> Node {
        let address = listener.local_addr().unwrap();
        let fake = Fake::new();
        let role = Role::Control(ControlId::random(&self.entropy));
        let identity = CurrentIdentity::new(self.identity(role, ttl));
        let trust = CurrentTrust::new(self.trust(&[]));
        let port = NodePort::new(NodeParts {
            identity: identity.clone(),
            trust: trust.clone(),
            clock: self.clock.clone(),
            edges: Arc::new(Inside(Arc::clone(&fake))),
            joins: Arc::new(Inside(Arc::clone(&fake))),
            splices: Arc::new(Inside(Arc::clone(&fake))),
            limits,
        });
        let port = Arc::new(port.unwrap());
        let stop = CancellationToken::new();
        let task = tokio::spawn({
            let (port, stop) = (Arc::clone(&port), stop.clone());
            async move { port.serve(listener, stop).await }
        });
        Node { port, fake, address, identity, trust, stop, task: Some(task) }
    }

    /// An edge of its own that knows these control nodes.
    pub(crate) fn link(&self, controls: &[NodeAddress]) -> Edge {
        self.link_with(controls, LinkLimits::default())
    }

    pub(crate) fn link_with(&self, controls: &[NodeAddress], limits: LinkLimits) -> Edge {
        let edge = self.edge();
        let identity = self.current(Role::Edge(edge));
        let (controls, known) = watch::channel(controls.to_vec());
        let trust = CurrentTrust::new(self.trust(&[]));
        let parts = ClientParts {
            edge,
            controls: known,
            identity: identity.clone(),
            trust,
            clock: self.clock.clone(),
            entropy: self.entropy.clone(),
        };
        Edge { id: edge, identity, controls, link: LinkClient::start_with(parts, limits).unwrap() }
    }
}

/// A running control node.
pub(crate) struct Node {
    pub(crate) port: Arc<NodePort>,
    pub(crate) fake: Arc<Fake>,
    pub(crate) address: SocketAddr,
    pub(crate) identity: CurrentIdentity,
    pub(crate) trust: CurrentTrust,
    pub(crate) stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl Node {
    pub(crate) fn at(&self) -> NodeAddress {
        node_address(self.address)
    }

    /// Ends it without a word, as a kill does.
    pub(crate) async fn kill(mut self) {
        let task = self.task.take().unwrap();
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
    }

    /// Waits until it has stopped by itself.
    pub(crate) async fn stopped(&mut self) {
        within(self.task.as_mut().unwrap()).await.unwrap();
        self.task = None;
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// A running edge.
pub(crate) struct Edge {
    pub(crate) id: EdgeId,
    pub(crate) identity: CurrentIdentity,
    pub(crate) controls: watch::Sender<Vec<NodeAddress>>,
    pub(crate) link: Arc<LinkClient>,
}

impl Edge {
    /// Waits until its state is so.
    pub(crate) async fn until(&self, is_so: impl Fn(&LinkState) -> bool) -> LinkState {
        let mut state = self.link.connected();
        let state = within(state.wait_for(|state| is_so(state))).await;
        state.unwrap().clone()
    }

    pub(crate) async fn connected(&self) {
        self.until(LinkState::is_connected).await;
    }

    pub(crate) async fn connected_to(&self, at: &NodeAddress) {
        self.until(|state| matches!(state, LinkState::Connected { control, .. } if control == at)).await;
    }
}

pub(crate) fn node_address(address: SocketAddr) -> NodeAddress {
    NodeAddress { host: address.ip().to_string(), port: address.port() }
}

/// Bounds a wait that must end.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("it ends in time")
}

/// Waits until something is so.
pub(crate) async fn until(mut is_so: impl FnMut() -> bool) {
    within(async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
