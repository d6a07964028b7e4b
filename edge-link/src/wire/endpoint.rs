//! The endpoints of the link, and what each allows: how long, how often, how large.

use std::time::Duration;

use crate::limits::{
    ANSWER_LEN_MAX, BATCH_LEN_MAX, CONNECT_QUESTION_LEN_MAX, HEADS_LEN_MAX, LinkLimits, QUESTION_LEN_MAX,
    REPORT_LEN_MAX, TUNNELS_LEN_MAX,
};

/// An endpoint, as both ends see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Heads,
    Snapshot,
    Changes,
    Applied,
    Wake,
    Find,
    Redeem,
    SignOut,
    Activity,
    Assertion,
    Denials,
    Tunnel,
    Tunnels,
    Certify,
    About,
    Connect,
}

impl Endpoint {
    pub(crate) const ALL: [Self; 16] = [
        Self::Heads,
        Self::Snapshot,
        Self::Changes,
        Self::Applied,
        Self::Wake,
        Self::Find,
        Self::Redeem,
        Self::SignOut,
        Self::Activity,
        Self::Assertion,
        Self::Denials,
        Self::Tunnel,
        Self::Tunnels,
        Self::Certify,
        Self::About,
        Self::Connect,
    ];

    pub(crate) const fn path(self) -> &'static str {
        match self {
            Self::Heads => "/v1/feed/heads",
            Self::Snapshot => "/v1/feed/snapshot",
            Self::Changes => "/v1/feed/changes",
            Self::Applied => "/v1/feed/applied",
            Self::Wake => "/v1/feed/wake",
            Self::Find => "/v1/session/find",
            Self::Redeem => "/v1/session/redeem",
            Self::SignOut => "/v1/session/sign-out",
            Self::Activity => "/v1/session/activity",
            Self::Assertion => "/v1/assertion",
            Self::Denials => "/v1/denials",
            Self::Tunnel => "/v1/tunnel",
            Self::Tunnels => "/v1/tunnels",
            Self::Certify => "/v1/node/certify",
            Self::About => "/v1/node/about",
            Self::Connect => "/v1/connect",
        }
    }

    pub(crate) fn of_path(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|endpoint| endpoint.path() == path)
    }

    /// Whether another control node may be asked after one may have read the question: whether asking twice is asking once.
    pub(crate) const fn may_repeat(self) -> bool {
        !matches!(self, Self::Redeem | Self::Denials | Self::Connect | Self::Certify)
    }

    /// Answers that hold a batch of documents; each link has memory for one at a time.
    pub(crate) const fn is_batch(self) -> bool {
        matches!(self, Self::Heads | Self::Snapshot | Self::Changes)
    }

    /// Whether the question may travel deflated.
    pub(crate) const fn deflates_question(self) -> bool {
        matches!(self, Self::Applied | Self::Activity | Self::Denials | Self::Tunnels)
    }

    /// Longest question, in octets, inflated. What is small by nature gets little, because many are read at once.
    pub(crate) const fn question_len_max(self) -> usize {
        match self {
            Self::Connect => CONNECT_QUESTION_LEN_MAX,
            Self::Tunnels => TUNNELS_LEN_MAX,
            Self::Applied | Self::Activity | Self::Denials => REPORT_LEN_MAX,
            _ => QUESTION_LEN_MAX,
        }
    }

    /// Whether the question may be so long that few are read at once.
    pub(crate) const fn is_long_question(self) -> bool {
        self.question_len_max() > QUESTION_LEN_MAX
    }

    /// Longest answer, in octets, inflated.
    pub(crate) const fn answer_len_max(self) -> usize {
        match self {
            Self::Heads => HEADS_LEN_MAX,
            Self::Snapshot | Self::Changes => BATCH_LEN_MAX,
            _ => ANSWER_LEN_MAX,
        }
    }

    /// How long an edge waits for the answer.
    pub(crate) const fn wait(self, limits: &LinkLimits) -> Duration {
        match self {
            Self::Heads | Self::Snapshot | Self::Changes | Self::Certify | Self::Connect | Self::Tunnels => {
                limits.batch
            }
            _ => limits.question,
        }
    }
}
