//! What control is told when it starts: where the installation lives, how long things last, and which
//! public certificate it serves with. Read by [`Control::open`](crate::Control::open), never changed after.

use std::path::PathBuf;
use std::time::Duration;

use mezusphere_model::Platform;

/// Shortest life of a leaf certificate. Below it, clock skew and renewal have no room; tests use exactly this.
pub const LEAF_TTL_MIN: Duration = Duration::from_mins(1);

/// Longest life of a leaf certificate (R20).
pub const LEAF_TTL_MAX: Duration = Duration::from_hours(24);

/// Life of an assertion (design §6): what a warpgate accepts from an edge cut off from control.
pub const ASSERTION_TTL: Duration = Duration::from_mins(30);

/// How control is set up.
#[derive(Clone, Debug)]
pub struct ControlConfig {
    /// The installation's hosts and public port, as clients see them.
    pub platform: Platform,
    /// SPIFFE trust domain of a new installation; `None`: the platform's base host. An installation keeps
    /// the one it was made with.
    pub trust_domain: Option<String>,
    /// The first operator's e-mail address; `None`: `operator@` and the base host.
    pub operator_email: Option<String>,
    /// Where warpgates dial the edge of this process.
    pub advertise: Advertise,
    /// Life of leaf certificates: [`LEAF_TTL_MIN`] to [`LEAF_TTL_MAX`].
    pub leaf_ttl: Duration,
    /// How long sessions of users last.
    pub session: SessionLimits,
    /// Where public certificates come from.
    pub public_certificate: PublicCertificate,
}

impl ControlConfig {
    /// The defaults for an installation at `platform`: public certificates from the internal CA, leaves of
    /// 24 h, warpgates dial `connect.` and the base host at the public port.
    pub fn new(platform: Platform) -> Self {
        let advertise = Advertise { host: format!("connect.{}", platform.base), port: platform.port };
        Self {
            platform,
            trust_domain: None,
            operator_email: None,
            advertise,
            leaf_ttl: LEAF_TTL_MAX,
            session: SessionLimits::default(),
            public_certificate: PublicCertificate::Internal,
        }
    }
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

/// Where the certificates that browsers see come from.
#[derive(Clone, Debug)]
pub enum PublicCertificate {
    /// The internal CA issues them, for development: browsers that do not trust its root will warn.
    Internal,
    /// PEM files, read at start.
    Files {
        /// The chain, leaf first.
        chain: PathBuf,
        /// The leaf's private key.
        key: PathBuf,
    },
}
