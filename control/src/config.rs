//! What control is told when it starts: where the installation lives, how long things last, and which
//! public certificate it serves with. Read by [`Control::open`](crate::Control::open), never changed after.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use mezusphere_model::Platform;
use mezusphere_model::document::NodeAddress;
use mezusphere_model::id::{ControlId, EdgeId};
use mezusphere_pki::LeafTtls;

use crate::keys::AssertionRotation;
use crate::{AcmeConfig, MailConfig};

/// Shortest life of a leaf certificate. Below it, clock skew and renewal have no room; tests use exactly this.
pub const LEAF_TTL_MIN: Duration = Duration::from_mins(1);

/// Longest life of a leaf certificate (R20).
pub const LEAF_TTL_MAX: Duration = Duration::from_hours(24);

/// Life of an assertion (design §6): what a warpgate accepts from an edge cut off from control.
pub const ASSERTION_TTL: Duration = Duration::from_mins(30);

/// Region of a node that was given none.
const REGION: &str = "local";

/// How control is set up.
#[derive(Clone, Debug)]
pub struct ControlConfig {
    /// The installation's hosts and public port, as clients see them.
    pub platform: Platform,
    /// SPIFFE trust domain of a new installation; `None`: the platform's base host. An installation keeps
    /// the one it was made with.
    pub trust_domain: Option<String>,
    /// The root of a new installation, if its key is kept elsewhere; `None`: one is made. An installation keeps the one it was
    /// made with.
    pub root_elsewhere: Option<RootElsewhere>,
    /// The first operator's e-mail address; `None`: `operator@` and the base host.
    pub operator_email: Option<String>,
    /// This control node.
    pub node: NodeConfig,
    /// The edge in the same process; `None`: there is none, edges are processes of their own.
    pub edge: Option<LocalEdge>,
    /// Whether other edges can link to this node, and so copy what its feed publishes to edges. A key that covers
    /// both platform and application hosts is then refused: a split edge must not hold the key of `login.`.
    pub node_port_open: bool,
    /// Life of leaf certificates by role, each [`LEAF_TTL_MIN`] to [`LEAF_TTL_MAX`].
    pub leaf_ttl: LeafTtls,
    /// When the keys that sign assertions follow one another.
    pub assertion_rotation: AssertionRotation,
    /// How long sessions of users last.
    pub session: SessionLimits,
    /// Where public certificates come from.
    pub public_certificate: PublicCertificate,
    /// Whether projects must prove that a custom domain is theirs.
    pub custom_domains: CustomDomains,
    /// The DNS server that is asked for such proofs; `None`: the system's.
    pub dns_resolver: Option<SocketAddr>,
    /// How mail leaves; `None`: it does not, and what needs it is not offered.
    pub mail: Option<MailConfig>,
}

impl ControlConfig {
    /// The defaults for an installation at `platform`: one process with control and edge, no node port, public
    /// certificates from the internal CA, leaves of 24 h, warpgates dial `connect.` and the base host at the
    /// public port.
    pub fn new(platform: Platform, node: ControlId) -> Self {
        let advertise = Advertise { host: format!("connect.{}", platform.base), port: platform.port };
        Self {
            platform,
            trust_domain: None,
            root_elsewhere: None,
            operator_email: None,
            node: NodeConfig {
                id: node,
                name: "control-1".to_owned(),
                region: REGION.to_owned(),
                address: None,
            },
            edge: Some(LocalEdge {
                id: None,
                name: "edge-1".to_owned(),
                region: REGION.to_owned(),
                advertise,
            }),
            node_port_open: false,
            leaf_ttl: LeafTtls::default(),
            assertion_rotation: AssertionRotation::default(),
            session: SessionLimits::default(),
            public_certificate: PublicCertificate::Internal,
            custom_domains: CustomDomains::Verified,
            dns_resolver: None,
            mail: None,
        }
    }
}

/// A root whose key is never on a control node, for an installation that begins under it. Its trust domain becomes the
/// installation's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootElsewhere {
    /// The root's certificate, PEM.
    pub root_pem: String,
    /// The issuing CA's, which the root made of the request that the start without it gave, PEM.
    pub issuing_pem: Option<String>,
}

/// A control node, as the others know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// Its id: drawn once per data directory and kept there. Two processes with one id
    /// would both believe that they hold the leases.
    pub id: ControlId,
    /// Its name for people. If another node has it, a number is put behind.
    pub name: String,
    /// Where it stands, for people.
    pub region: String,
    /// Where edges reach its node port; `None`: it has none.
    pub address: Option<NodeAddress>,
}

/// The edge in the same process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalEdge {
    /// Its id; `None`: the installation's first edge, made with it. A process beside another one that holds an edge
    /// needs an id of its own.
    pub id: Option<EdgeId>,
    /// Its name for people. If another node has it, a number is put behind.
    pub name: String,
    /// Where it stands, for people.
    pub region: String,
    /// Where warpgates dial it.
    pub advertise: Advertise,
}

/// An address that warpgates can dial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertise {
    /// Host name or IP address.
    pub host: String,
    /// UDP and TCP port.
    pub port: u16,
}

/// How long a session on an app host lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// From sign-in on the app host to the end, whatever happens.
    pub absolute: Duration,
    /// Without a request; zero: never for idleness.
    pub idle: Duration,
}

impl Default for SessionLimits {
    /// 12 hours, and 2 hours without a request: a working day, and a long lunch.
    fn default() -> Self {
        Self { absolute: Duration::from_hours(12), idle: Duration::from_hours(2) }
    }
}

/// Who may publish under a custom domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CustomDomains {
    /// Whoever proves by a DNS record that it is theirs. Names under `localhost` need no proof: they lead nowhere else.
    Verified,
    /// Whoever asks first: for installations whose operators own all projects.
    Trusted,
}

/// Where the certificates that browsers see come from.
#[derive(Clone, Debug)]
pub enum PublicCertificate {
    /// The internal CA issues them, for development: browsers that do not trust its root will warn.
    Internal,
    /// PEM files, read at start; together they cover the platform's hosts. The internal CA issues for hosts that
    /// none of them covers.
    Files(Vec<CertificateFiles>),
    /// A certificate authority issues them, for each host when it gets its first route; the internal CA for names under
    /// `localhost`, which no authority certifies. A host without one yet is refused at the handshake.
    Acme(Box<AcmeConfig>),
}

/// A certificate in files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, leaf first, PEM.
    pub chain: PathBuf,
    /// The leaf's private key, PEM.
    pub key: PathBuf,
}
