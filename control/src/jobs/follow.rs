//! Following what other control nodes change: whom to trust, within a second, what signs bundles, and the installation's
//! keys.
//!
//! The feed's bell only wakes; looking at the database is the truth.

use std::sync::Arc;
use std::time::Duration;

use mezusphere_model::document::Partition;
use mezusphere_store::StoreError;
use mezusphere_store::feed::{FeedSource as _, Wake, Woken};
use mezusphere_store::primary::setting;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::installation::Keys;
use crate::publish::TRUST_SETTING;
use crate::{OpenError, Shared};

/// Between two looks at whether there is a new trust document: an evicted edge's link must end within a second on every
/// control node, bell or not. One look reads one row.
const TRUST_EVERY: Duration = Duration::from_millis(500);

/// Between two looks at the keys, which change with a rotation: rarely, and with an overlap of days.
const KEYS_EVERY: Duration = Duration::from_secs(10);

/// Follows until `cancel`.
pub(super) async fn run(shared: Arc<Shared>, cancel: CancellationToken) {
    let mut wake = Some(shared.primary.wake());
    let mut ticks = tokio::time::interval(TRUST_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = Seen { trust: None, keys_at: Instant::now() + KEYS_EVERY };
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            _ = ticks.tick() => {}
            woken = platform(&mut wake) => match woken {
                // Another look at the keys too: whoever changed one has published something.
                Ok(()) => seen.keys_at = Instant::now(),
                Err(Gone) => wake = None,
            },
        }
        if let Err(why) = seen.look(&shared).await {
            tracing::warn!(error = %why, "Changes of other control nodes could not be looked for");
        }
    }
}

/// The bell is gone; the ticks stay.
struct Gone;

/// Waits until something that concerns the whole installation is published.
async fn platform(wake: &mut Option<Wake>) -> Result<(), Gone> {
    let Some(wake) = wake else { return std::future::pending().await };
    loop {
        match wake.woken().await {
            Woken::Changed(partitions) if !partitions.contains(&Partition::Platform) => {}
            Woken::Changed(_) | Woken::Anything => return Ok(()),
            Woken::Closed => return Err(Gone),
        }
    }
}

/// What was there at the last look.
struct Seen {
    /// Which trust document was published.
    trust: Option<String>,
    /// When to look at the keys.
    keys_at: Instant,
}

impl Seen {
    async fn look(&mut self, shared: &Shared) -> Result<(), OpenError> {
        let trust = shared
            .primary
            .read(async |tx| Ok::<_, StoreError>(setting::get::<String>(tx, TRUST_SETTING).await?))
            .await?;
        shared.refresh_signer().await?;
        shared.renew_if_other_ca().await?;
        let head = shared.announced().await?;
        if trust != self.trust {
            shared.refresh_trust().await?;
            self.trust = trust;
        }
        shared.report_applied(head).await?;
        if Instant::now() >= self.keys_at {
            self.keys_at = Instant::now() + KEYS_EVERY;
            shared.refresh_keys().await?;
        }
        Ok(())
    }
}

impl Shared {
    /// Reads the installation's keys and follows them. Peppers and the key of hosted forms stay as they were at the
    /// start: they change only while no control node runs.
    pub(crate) async fn refresh_keys(&self) -> Result<bool, OpenError> {
        let keys = self.primary.read(async |tx| Keys::load(tx).await).await?;
        if keys.digest == self.keys().digest {
            return Ok(false);
        }
        self.current_keys.store(Arc::new(keys));
        tracing::info!("The installation's keys were changed; the new ones are in use");
        self.drift.notify_one();
        Ok(true)
    }
}
