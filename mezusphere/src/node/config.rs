//! What a node is told: its role, and what each role needs to know. Made by `serve`, never changed after.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use mezusphere_control::{
    Advertise, AssertionRotation, CustomDomains, MailConfig, PublicCertificate, RootElsewhere,
};
use mezusphere_model::Platform;
use mezusphere_model::document::NodeAddress;
use mezusphere_model::join_token::JoinToken;
use mezusphere_pki::LeafTtls;
use mezusphere_store::primary::PostgresConfig;
use mezusphere_telemetry::LogFormat;

/// Everything a node is told.
#[derive(Debug)]
pub(crate) struct NodeConfig {
    /// The data directory.
    pub(crate) data: PathBuf,
    /// Where master keys are read.
    pub(crate) key_files: KeyFiles,
    /// What people call this node.
    pub(crate) name: String,
    /// Where it stands, for people.
    pub(crate) region: String,
    /// Private address for health and metrics.
    pub(crate) health: Option<SocketAddr>,
    /// What to log.
    pub(crate) log: String,
    /// How; `None`: as standard error likes it.
    pub(crate) log_format: Option<LogFormat>,
    /// Say everything as JSON lines.
    pub(crate) json: bool,
    /// What it does.
    pub(crate) role: Role,
}

/// Files with master keys.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyFiles {
    /// The one in use; `None`: wherever else it is found.
    pub(crate) master: Option<PathBuf>,
    /// Those that are to go.
    pub(crate) old: Vec<PathBuf>,
    /// Those that other nodes seal with already.
    pub(crate) next: Vec<PathBuf>,
}

/// What a node does.
#[derive(Debug)]
pub(crate) enum Role {
    /// Control and an edge in this process.
    All(Box<ControlPart>, EdgePart),
    /// Control alone.
    Control(Box<ControlPart>),
    /// An edge alone; the token lets it in at its first start.
    Edge(EdgePart, Option<JoinToken>),
}

/// What control needs to know.
#[derive(Debug)]
pub(crate) struct ControlPart {
    /// The installation's hosts and public port.
    pub(crate) platform: Platform,
    /// The root of a new installation, if its key is kept elsewhere.
    pub(crate) root_elsewhere: Option<RootElsewhere>,
    /// The first operator's e-mail address; `None`: `operator@` and the base host.
    pub(crate) operator: Option<String>,
    /// Life of leaf certificates by role.
    pub(crate) leaf_ttl: LeafTtls,
    /// When the keys that sign assertions follow one another.
    pub(crate) assertion_rotation: AssertionRotation,
    /// Where public certificates come from.
    pub(crate) certificate: PublicCertificate,
    /// Whether projects must prove that a custom domain is theirs.
    pub(crate) custom_domains: CustomDomains,
    /// The DNS server that is asked for such proofs; `None`: the machine's.
    pub(crate) dns_resolver: Option<SocketAddr>,
    /// Where its state is kept.
    pub(crate) store: Store,
    /// Where other nodes arrive; `None`: nowhere.
    pub(crate) node_port: Option<NodePortPart>,
    /// How mail leaves; `None`: it does not.
    pub(crate) mail: Option<MailConfig>,
}

/// Where the state is kept.
#[derive(Debug)]
pub(crate) enum Store {
    /// In the data directory.
    Sqlite,
    /// In a PostgreSQL database.
    Postgres(PostgresConfig),
}

/// Where other nodes arrive.
#[derive(Clone, Debug)]
pub(crate) struct NodePortPart {
    /// Address to listen on.
    pub(crate) listen: SocketAddr,
    /// Where other nodes dial.
    pub(crate) advertise: NodeAddress,
}

/// What an edge needs to know.
#[derive(Debug)]
pub(crate) struct EdgePart {
    /// Public address, TCP and UDP.
    pub(crate) listen: SocketAddr,
    /// Where plain HTTP is redirected.
    pub(crate) plain_http: Option<SocketAddr>,
    /// Threads that serve connections.
    pub(crate) workers: NonZeroUsize,
    /// Where warpgates dial; `None`: `connect.` and the base host, at the public port.
    pub(crate) advertise: Option<Advertise>,
}
