//! Flags of a route: how long its requests may take, how many there may be, how large, and whether they stay together.

use clap::Args;
use mezusphere_control::api::types::{Change, LimitChanges, Timeouts};
use mezusphere_model::rules::Rate;

use super::value::{milliseconds, milliseconds_or_none, octets};

/// How much a route may be asked.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
pub(super) struct LimitArgs {
    /// Largest request body: 512KiB, 10MiB, 1GiB; 0 for none at all.
    #[arg(long, value_name = "SIZE", value_parser = octets)]
    body_max: Option<u64>,
    /// How often it may be asked, for each edge: 600/min, 10/s:50 with 50 at once, 600/min@caller for each who is signed in, @route
    /// for all together. Without @ each address is counted.
    #[arg(long, value_name = "RATE")]
    rate: Option<Rate>,
    /// Keep requests of one session on one warpgate while that one is fit.
    #[arg(long)]
    pub(super) affinity: bool,
    /// Longest wait for a connection to the upstream, from 100ms to 1m; 5s if never said.
    #[arg(long, alias = "timeout-connect", value_name = "TIME", value_parser = milliseconds)]
    connect_timeout: Option<u32>,
    /// Longest wait for the upstream's response head, from 1s to 30m; 60s if never said. A bare number is in milliseconds.
    #[arg(long, alias = "timeout-head", value_name = "TIME", value_parser = milliseconds)]
    head_timeout: Option<u32>,
    /// Longest time without a byte in either direction, from 1s to 24h; 5m if never said.
    #[arg(long, alias = "timeout-idle", value_name = "TIME", value_parser = milliseconds)]
    idle_timeout: Option<u32>,
    /// Longest time from the request's first byte to the response's last, from 1s to 24h; none if never said.
    #[arg(long, alias = "timeout-total", value_name = "TIME|none", value_parser = milliseconds_or_none)]
    total_timeout: Option<u32>,
}

/// What of it can be taken back.
#[derive(Debug, Default, Args)]
pub(super) struct ClearLimits {
    /// Let bodies have any size again.
    #[arg(long, conflicts_with = "body_max")]
    no_body_max: bool,
    /// Count requests no more.
    #[arg(long, conflicts_with = "rate")]
    no_rate: bool,
    /// Let requests of one session go to any warpgate again.
    #[arg(long, conflicts_with = "affinity")]
    no_affinity: bool,
}

impl LimitArgs {
    pub(super) fn timeouts(&self) -> Timeouts {
        Timeouts {
            connect_ms: self.connect_timeout,
            head_ms: self.head_timeout,
            idle_ms: self.idle_timeout,
            total_ms: self.total_timeout,
        }
    }

    pub(super) fn changes(&self, clear: &ClearLimits) -> LimitChanges {
        LimitChanges {
            body_max: change(self.body_max, clear.no_body_max),
            rate: change(self.rate.map(Into::into), clear.no_rate),
        }
    }

    /// Whether requests stay together from now on, if that changes.
    pub(super) fn new_affinity(&self, clear: &ClearLimits) -> Option<bool> {
        (self.affinity || clear.no_affinity).then_some(self.affinity)
    }
}

/// What a flag and the one that takes it back say together; clap lets only one of them be given.
pub(super) fn change<T>(given: Option<T>, cleared: bool) -> Change<T> {
    match given {
        Some(value) => Change::Set(value),
        None if cleared => Change::Clear,
        None => Change::Keep,
    }
}
