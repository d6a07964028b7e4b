//! Warpgates that enrolled, and their tunnels as edges report them.

use mezusphere_model::id::WarpgateId;
use mezusphere_model::slug::Slug;
use serde::{Deserialize, Serialize};

/// A warpgate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warpgate {
    /// Its id.
    pub id: WarpgateId,
    /// Its environment.
    pub environment: Slug,
    /// The machine it said it runs on.
    pub hostname: String,
    /// Its version.
    pub agent: String,
    /// Whether any edge holds a tunnel to it.
    pub connected: bool,
    /// Whether an operator evicted it.
    #[serde(default)]
    pub evicted: bool,
    /// Its tunnels.
    pub tunnels: Vec<Tunnel>,
    /// When it first enrolled.
    pub enrolled_at: String,
    /// When its certificate ends.
    pub certificate_until: String,
    /// Whether it has ended: the warpgate is gone, or has enrolled again under another id.
    #[serde(default)]
    pub ended: bool,
}

/// A tunnel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tunnel {
    /// At which edge.
    pub edge: String,
    /// From where it dials.
    pub remote: String,
    /// Upstream names it declared.
    pub upstreams: Vec<String>,
    /// Since when.
    pub connected_at: String,
}
