//! How much a route or a project may be asked.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::RuleError;

/// Largest body limit of a route, in octets: a TiB; without a limit a body has any size.
pub const BODY_MAX_MAX: u64 = 1 << 40;

/// Highest rate, in requests a minute: 100 000 a second, more than one edge serves.
pub const PER_MINUTE_MAX: u32 = 6_000_000;

/// Largest burst, in requests.
pub const BURST_MAX: u32 = 1_000_000;

/// Highest quota of a project, in requests a second for one edge.
pub const PER_SECOND_MAX: u32 = 1_000_000;

/// Highest quota of a project, in exchanges at a time for one edge.
pub const EXCHANGES_MAX: u32 = 1_000_000;

/// How much a route may be asked; the default sets no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RouteLimits {
    /// Largest request body, in octets; 0: no body at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_max: Option<u64>,
    /// How often.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
}

/// How often something may happen: a bucket of `burst` that fills by `per_minute`. Each edge counts for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// Requests a minute, over time.
    pub per_minute: u32,
    /// Requests at once, after a quiet time.
    pub burst: u32,
    /// What is counted together.
    pub by: RateKey,
}

/// What a rate counts together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RateKey {
    /// Each client's address; before anybody is asked who they are.
    #[default]
    Address,
    /// Each signed-in user or machine; strangers by their address.
    Caller,
    /// The whole route.
    Route,
}

impl RateKey {
    /// Its word, as in the API and the CLI.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Caller => "caller",
            Self::Route => "route",
        }
    }
}

/// A text is not a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a rate is written as 600/min, 10/s or 6000/h (by the hour a multiple of 60), with :BURST and @address, @caller or @route after it if you wish"
)]
pub struct RateTextError;

impl FromStr for Rate {
    type Err = RateTextError;

    /// Reads `N/UNIT[:BURST][@KEY]`: `600/min`, `10/s:50@caller`. Without a burst it is a sixth of a minute's requests, at least 1.
    fn from_str(text: &str) -> Result<Self, RateTextError> {
        let (text, by) = match text.split_once('@') {
            None => (text, RateKey::default()),
            Some((text, "address")) => (text, RateKey::Address),
            Some((text, "caller")) => (text, RateKey::Caller),
            Some((text, "route")) => (text, RateKey::Route),
            Some(_) => return Err(RateTextError),
        };
        let number = |text: &str| text.parse::<u32>().map_err(|_| RateTextError);
        let (text, burst) = match text.split_once(':') {
            None => (text, None),
            Some((text, burst)) => (text, Some(number(burst)?)),
        };
        let (count, unit) = text.split_once('/').ok_or(RateTextError)?;
        let count = number(count)?;
        let per_minute = match unit {
            "s" | "sec" | "second" => count.checked_mul(60).ok_or(RateTextError)?,
            "min" | "minute" => count,
            // A rate below one a minute cannot be kept.
            "h" | "hour" if count.is_multiple_of(60) => count / 60,
            _ => return Err(RateTextError),
        };
        Ok(Self { per_minute, burst: burst.unwrap_or_else(|| (per_minute / 6).clamp(1, BURST_MAX)), by })
    }
}

impl fmt::Display for Rate {
    /// As it is read: `600/min:100@caller`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/min:{}@{}", self.per_minute, self.burst, self.by.as_str())
    }
}

impl RouteLimits {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether every limit is one.
    ///
    /// # Errors
    /// The first one out of bounds.
    pub fn check(&self) -> Result<(), RuleError> {
        if self.body_max.is_some_and(|octets| octets > BODY_MAX_MAX) {
            return Err(RuleError::BodyMax);
        }
        let good = |rate: Rate| {
            (1..=PER_MINUTE_MAX).contains(&rate.per_minute) && (1..=BURST_MAX).contains(&rate.burst)
        };
        if self.rate.is_none_or(good) { Ok(()) } else { Err(RuleError::Rate) }
    }

    /// The oldest reader that keeps these. They protect, so a reader that does not know them closes the route.
    pub fn reader(&self) -> u32 {
        if self.is_empty() { 1 } else { 2 }
    }
}

/// What one edge gives to all of a project's requests together, so that none starves another; the default sets no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProjectQuota {
    /// Requests a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<u32>,
    /// Exchanges at a time: requests that wait for their response or stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exchanges: Option<u32>,
}

impl ProjectQuota {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether both numbers are in bounds.
    ///
    /// # Errors
    /// [`RuleError::Quota`].
    pub fn check(&self) -> Result<(), RuleError> {
        let per_second = self.requests_per_second.is_none_or(|rate| (1..=PER_SECOND_MAX).contains(&rate));
        let exchanges = self.exchanges.is_none_or(|most| (1..=EXCHANGES_MAX).contains(&most));
        if per_second && exchanges { Ok(()) } else { Err(RuleError::Quota) }
    }
}
