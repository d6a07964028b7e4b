//! The audit log.

use serde::{Deserialize, Serialize};

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Its number within the organization's chain.
    pub sequence: u64,
    /// When.
    pub at: String,
    /// Who.
    pub actor: String,
    /// What was done: dotted words, `route.added`.
    pub action: String,
    /// To what: an id.
    pub target: String,
    /// What people call the target, where its id says nothing: an e-mail address, a path, a short name.
    #[serde(default)]
    pub target_name: Option<String>,
    /// Particulars, never secrets.
    pub detail: serde_json::Value,
    /// Of which project, if of one.
    pub project: Option<String>,
    /// From which address, if over the network.
    pub address: Option<String>,
}
