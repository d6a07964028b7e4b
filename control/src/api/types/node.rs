//! Edges, invitations of edges, and control nodes.

use mezusphere_model::id::{ControlId, EdgeId, JoinId};
use serde::{Deserialize, Serialize};

/// How a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// It says that it is alive.
    Ready,
    /// It finishes what it has and takes nothing new.
    Draining,
    /// It was not heard of for 30 s.
    Away,
    /// It was shut out.
    Evicted,
}

/// An edge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edge {
    /// Its id.
    pub id: EdgeId,
    /// Its name, unique among nodes.
    pub name: String,
    /// Where it stands, for people.
    pub region: String,
    /// Where warpgates dial it; empty: it has not said so yet.
    pub address: String,
    /// Its version.
    pub version: String,
    /// How it does.
    pub state: NodeState,
    /// Whether its link is up.
    pub connected: bool,
    /// The control node its link is on, or was on last.
    pub control: Option<ControlId>,
    /// Changes on the feed that it has not applied yet; `null` for an evicted one.
    pub behind: Option<u64>,
    /// When it was last heard of.
    pub seen_at: String,
    /// Since when it is in.
    pub joined_at: String,
}

/// `POST /edge-invitations`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InviteEdge {
    /// What the edge will be called: short, lower-case, unique among nodes.
    pub name: String,
    /// Where it will stand, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Life of the invitation in seconds, at most a day; absent: 15 minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_s: Option<u64>,
}

/// What became of an invitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InvitationState {
    /// Good for one edge.
    Open,
    /// An edge has joined with it.
    Used,
    /// It was taken back.
    Revoked,
    /// Its time is over.
    Expired,
}

/// An invitation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeInvitation {
    /// Its id.
    pub id: JoinId,
    /// What the edge will be called.
    pub name: String,
    /// Where it will stand, for people.
    pub region: String,
    /// What became of it.
    pub state: InvitationState,
    /// Who invited.
    pub created_by: String,
    /// When.
    pub created_at: String,
    /// When it ends by itself.
    pub expires_at: String,
    /// The edge that joined with it.
    pub edge: Option<EdgeId>,
}

/// An invitation with its token, which is shown this once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvitedEdge {
    /// The join token. A secret until it is used.
    pub token: String,
    /// The invitation.
    #[serde(flatten)]
    pub invitation: EdgeInvitation,
}

/// A control node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlNode {
    /// Its id.
    pub id: ControlId,
    /// Its name, unique among nodes.
    pub name: String,
    /// Where it stands, for people.
    pub region: String,
    /// Its node port; empty: it has none.
    pub address: String,
    /// Its version.
    pub version: String,
    /// How it does.
    pub state: NodeState,
    /// Whether it is the one that answers this.
    pub answering: bool,
    /// When it was last heard of.
    pub seen_at: String,
}
