//! 1xx heads on their way from an upstream's connection to the exchange.

use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;
use tunnel_proto::exchange::ResponseHead;
use tunnel_proto::limits::INFORMATIONAL_MAX;

/// Informational heads that came and were not passed on yet.
#[derive(Default)]
pub(super) struct Informational {
    heads: Mutex<Heads>,
    more: Notify,
}

#[derive(Default)]
struct Heads {
    waiting: Vec<ResponseHead>,
    /// How many have come in all.
    count: u32,
}

/// More came than the tunnel carries: an upstream that never comes to the point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flood;

impl Informational {
    /// Resolves with what came since the last call, at least one. Cancel safe.
    pub(super) async fn next(&self) -> Result<Vec<ResponseHead>, Flood> {
        loop {
            let heads = self.take()?;
            if !heads.is_empty() {
                return Ok(heads);
            }
            self.more.notified().await;
        }
    }

    /// What came since the last call.
    pub(super) fn take(&self) -> Result<Vec<ResponseHead>, Flood> {
        let mut heads = self.heads.lock().unwrap_or_else(PoisonError::into_inner);
        if heads.count > INFORMATIONAL_MAX { Err(Flood) } else { Ok(std::mem::take(&mut heads.waiting)) }
    }

    pub(super) fn push(&self, head: ResponseHead) {
        let mut heads = self.heads.lock().unwrap_or_else(PoisonError::into_inner);
        heads.count = heads.count.saturating_add(1);
        if heads.count <= INFORMATIONAL_MAX {
            heads.waiting.push(head);
        }
        self.more.notify_one();
    }
}
