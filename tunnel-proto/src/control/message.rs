//! The messages of the control stream, and what each side may say.

use mezusphere_model::bundle::SignedBundle;
use mezusphere_model::id::{EdgeId, WarpgateId};
use mezusphere_model::slug::Slug;

use crate::codes::CloseCode;
pub use crate::codes::RefusalCode;
use crate::limits::{EXCHANGES_FIRST, EXCHANGES_MAX};

/// The versions this code speaks.
pub const VERSIONS: VersionRange = VersionRange { min: 1, max: 1 };

/// Protocol versions, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionRange {
    /// The oldest.
    pub min: u16,
    /// The newest.
    pub max: u16,
}

impl VersionRange {
    /// The newest version both ranges hold.
    pub fn choose(self, other: Self) -> Option<u16> {
        let newest = self.max.min(other.max);
        (newest >= self.min && newest >= other.min).then_some(newest)
    }
}

/// Warpgate → edge, first: who I am and what I can reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Versions it speaks.
    pub versions: VersionRange,
    /// Its own version, for people: `warpgate/0.1.0`.
    pub agent: String,
    /// The running instance; its certificate must name the same.
    pub instance: WarpgateId,
    /// Which of its connections to this edge, from 0.
    pub index: u32,
    /// How many it keeps to this edge.
    pub count: u32,
    /// Names of the upstreams it can reach.
    pub upstreams: Vec<Slug>,
    /// Revision of the bundle it holds; 0: none.
    pub bundle_revision: u64,
    /// Bits for optional parts of the protocol; none are given out yet, unknown ones are ignored.
    pub features: u64,
}

/// What an edge grants a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// Exchanges at once to be ready for at first.
    pub exchanges_first: u32,
    /// Exchanges at once the edge may grow to.
    pub exchanges_max: u32,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self { exchanges_first: EXCHANGES_FIRST, exchanges_max: EXCHANGES_MAX }
    }
}

/// Edge → warpgate: the tunnel is up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The version chosen from both ranges.
    pub version: u16,
    /// The edge; its certificate must name the same.
    pub edge: EdgeId,
    /// Where it is, for people.
    pub region: String,
    /// What it grants.
    pub limits: SessionLimits,
    /// Features in force: those of the Hello that the edge has too.
    pub features: u64,
}

/// Edge → warpgate: there will be no tunnel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Refused {
    /// Why.
    pub code: RefusalCode,
    /// For people.
    pub message: String,
    /// When to come back at the earliest, in milliseconds from now.
    pub retry_after_ms: Option<u64>,
    /// Whether coming back is useless until a person did something.
    pub do_not_retry: bool,
}

/// What a warpgate's own checks say of an upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HealthState {
    /// Nothing yet; also what a state that a reader does not know reads as.
    #[default]
    Unknown,
    /// It answers as it should.
    Good,
    /// It does not: an exchange for it is better taken elsewhere.
    Bad,
}

impl HealthState {
    /// The number on the wire.
    pub const fn number(self) -> u8 {
        match self {
            Self::Unknown => 0,
            Self::Good => 1,
            Self::Bad => 2,
        }
    }

    /// The state with this number.
    pub const fn from_number(number: u64) -> Self {
        match number {
            1 => Self::Good,
            2 => Self::Bad,
            _ => Self::Unknown,
        }
    }

    /// Its stable name, for logs and pages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Good => "good",
            Self::Bad => "bad",
        }
    }
}

/// Warpgate → edge: how an upstream does, told when it changes. A hint for choosing a warpgate, no permission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamHealth {
    /// Which; one it has declared.
    pub upstream: Slug,
    /// How it does.
    pub state: HealthState,
    /// Why: the name of a [`FailureCode`](crate::codes::FailureCode), `check_failed`, or nothing. Cut at
    /// [`HEALTH_REASON_LEN_MAX`](crate::limits::HEALTH_REASON_LEN_MAX).
    pub reason: String,
}

/// A message of the control stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Warpgate → edge, first and once.
    Hello(Hello),
    /// Edge → warpgate, the first answer, once.
    Welcome(Welcome),
    /// Edge → warpgate, in place of Welcome or later; the edge then closes.
    Refused(Refused),
    /// Either way: are you there?
    Ping {
        /// To be sent back.
        n: u64,
    },
    /// The answer.
    Pong {
        /// The ping's.
        n: u64,
    },
    /// Warpgate → edge: these upstreams can be reached as well.
    Offer {
        /// Their names.
        upstreams: Vec<Slug>,
    },
    /// Warpgate → edge: these cannot be reached any more.
    Withdraw {
        /// Their names.
        upstreams: Vec<Slug>,
    },
    /// Edge → warpgate: a newer bundle, signed by control.
    Bundle(SignedBundle),
    /// Either way: no new exchanges; those running may finish.
    Drain {
        /// For how long, in milliseconds.
        grace_ms: u64,
    },
    /// Warpgate → edge: the assertion sent as this slot was verified and is remembered.
    PrincipalKnown {
        /// Which.
        slot: u64,
    },
    /// Warpgate → edge: open an exchange with a Probe, so that the way back is proven to work.
    ProbeRequest {
        /// To be put in the Probe.
        nonce: u64,
    },
    /// Edge → warpgate: the `ProbeReply` came.
    ProbeDone {
        /// The request's.
        nonce: u64,
        /// Time between Probe and `ProbeReply`, in microseconds.
        rtt_us: u64,
    },
    /// Warpgate → edge: how an upstream does.
    UpstreamHealth(UpstreamHealth),
    /// Either way, last, where the transport has no such word of its own: why the tunnel is closed.
    Close {
        /// The code that `CONNECTION_CLOSE` would carry.
        code: CloseCode,
    },
}
