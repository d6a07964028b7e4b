//! Waking the other nodes: LISTEN and NOTIFY. A hint only: polling is the truth.
//!
//! Each node tells the others after a commit, not in it (a NOTIFY inside would make all commits of the server queue),
//! and at most every [`TELL_EVERY`]. One connection listens, connects anew with back-off for ever, and wakes its node at most
//! every [`WAKE_EVERY`], however many come: a storm costs one wake, that says that anything may have changed.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mezusphere_model::Entropy;
use mezusphere_model::document::Partition;
use sqlx::Executor as _;
use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::pool::Pool;
use crate::feed::Bell;

/// The channel.
const CHANNEL: &str = "mezusphere_feed";

/// What happened within so long is told in one message.
const TELL_EVERY: Duration = Duration::from_millis(20);

/// What comes within so long wakes once.
const WAKE_EVERY: Duration = Duration::from_millis(50);

/// Partitions named in one message or one wake; more are "anything". With ids of 30 octets a message stays far
/// below PostgreSQL's 8000.
const NAMED_MAX: usize = 100;

/// The first wait before listening anew, and the longest; in between it doubles, with full jitter.
const BACK_OFF_MIN: Duration = Duration::from_millis(100);
const BACK_OFF_MAX: Duration = Duration::from_secs(5);

/// A listener that says nothing so long is asked whether its connection still lives.
const QUIET_MAX: Duration = Duration::from_secs(30);

/// How long a living connection takes to answer.
const ALIVE_WITHIN: Duration = Duration::from_secs(5);

/// Stands for "anything may have changed".
const ANYTHING: &str = "*";

/// Tells other nodes, and hears them. Dropping it ends both tasks.
pub(in crate::primary) struct CrossBell {
    outbox: Arc<Outbox>,
    tasks: [JoinHandle<()>; 2],
}

/// What other nodes have not been told yet.
#[derive(Default)]
struct Outbox {
    changed: Mutex<BTreeSet<Partition>>,
    filled: Notify,
}

impl CrossBell {
    /// Starts telling and listening on the current runtime.
    pub(in crate::primary) fn start(pool: &Arc<Pool>, bell: Bell, entropy: &Entropy) -> Self {
        let outbox = Arc::new(Outbox::default());
        let own = format!("{:016x}", u64::from_be_bytes(entropy.bytes()));
        let telling = tell(Arc::clone(&outbox), Arc::clone(pool), own.clone());
        let hearing = hear(Arc::clone(pool), bell, own, entropy.clone());
        Self { outbox, tasks: [tokio::spawn(telling), tokio::spawn(hearing)] }
    }

    /// Has the others told soon.
    pub(in crate::primary) fn tell(&self, changed: &[Partition]) {
        let mut waiting = self.outbox.changed.lock().unwrap_or_else(PoisonError::into_inner);
        // One more than can be named says "anything"; more need not be kept.
        for partition in changed {
            if waiting.len() <= NAMED_MAX {
                waiting.insert(*partition);
            }
        }
        drop(waiting);
        self.outbox.filled.notify_one();
    }
}

impl Drop for CrossBell {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn tell(outbox: Arc<Outbox>, pool: Arc<Pool>, own: String) {
    loop {
        outbox.filled.notified().await;
        tokio::time::sleep(TELL_EVERY).await;
        let changed = std::mem::take(&mut *outbox.changed.lock().unwrap_or_else(PoisonError::into_inner));
        if changed.is_empty() {
            continue;
        }
        let message = format!("{own} {}", names(&changed));
        if let Err(why) = notify(&pool, &message).await {
            // They poll.
            tracing::debug!(why, "Other nodes could not be told of a change");
        }
    }
}

async fn notify(pool: &Arc<Pool>, message: &str) -> Result<(), String> {
    let mut lent = pool.acquire().await.map_err(|why| format!("{why:?}"))?;
    let told = sqlx::query("SELECT pg_notify($1, $2)").bind(CHANNEL).bind(message);
    let told = tokio::time::timeout(lent.answer_timeout(), told.execute(&mut lent.connection)).await;
    match told {
        Ok(Ok(_)) => {
            lent.give_back();
            Ok(())
        }
        Ok(Err(why)) => Err(why.to_string()),
        Err(_) => Err("no answer".to_owned()),
    }
}

fn names(changed: &BTreeSet<Partition>) -> String {
    if changed.len() > NAMED_MAX {
        return ANYTHING.to_owned();
    }
    changed.iter().map(Partition::to_string).collect::<Vec<_>>().join(",")
}

async fn hear(pool: Arc<Pool>, bell: Bell, own: String, entropy: Entropy) {
    let mut back_off = BACK_OFF_MIN;
    loop {
        let began = Instant::now();
        let why = listen(&pool, &bell, &own).await;
        tracing::debug!(%why, "Listening for changes ended; trying again");
        if began.elapsed() > BACK_OFF_MAX {
            back_off = BACK_OFF_MIN;
        }
        let wait = u64::try_from(back_off.as_millis()).unwrap_or(u64::MAX);
        tokio::time::sleep(Duration::from_millis(entropy.below(wait + 1))).await;
        back_off = (back_off * 2).min(BACK_OFF_MAX);
    }
}

/// Listens until the connection ends; says why.
async fn listen(pool: &Arc<Pool>, bell: &Bell, own: &str) -> sqlx::Error {
    let Some(options) = pool.favourite() else { return sqlx::Error::PoolClosed };
    let single = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(BACK_OFF_MAX)
        .max_lifetime(None)
        .idle_timeout(None)
        .connect_lazy_with(options);
    let begun = tokio::time::timeout(BACK_OFF_MAX, async {
        let mut listener = PgListener::connect_with(&single).await?;
        listener.eager_reconnect(false);
        listener.listen(CHANNEL).await?;
        Ok(listener)
    });
    let mut listener = match begun.await {
        Ok(Ok(listener)) => listener,
        Ok(Err(why)) => return why,
        Err(_) => return sqlx::Error::PoolTimedOut,
    };
    // Whatever was told before now was not heard.
    bell.ring_anything();
    loop {
        let first = match tokio::time::timeout(QUIET_MAX, listener.try_recv()).await {
            // Nothing for long: the connection may be dead without a word.
            Err(_) => match tokio::time::timeout(ALIVE_WITHIN, (&mut listener).execute("SELECT 1")).await {
                Ok(Ok(_)) => continue,
                Ok(Err(why)) => return why,
                Err(_) => return sqlx::Error::PoolTimedOut,
            },
            Ok(Ok(Some(first))) => first,
            Ok(Ok(None)) => return sqlx::Error::PoolClosed,
            Ok(Err(why)) => return why,
        };
        let mut heard = Heard::default();
        heard.add(first.payload(), own);
        let due = Instant::now() + WAKE_EVERY;
        let ended = loop {
            match tokio::time::timeout_at(due, listener.try_recv()).await {
                Err(_) => break None,
                Ok(Ok(Some(more))) => heard.add(more.payload(), own),
                Ok(Ok(None)) => break Some(sqlx::Error::PoolClosed),
                Ok(Err(why)) => break Some(why),
            }
        };
        heard.ring(bell);
        if let Some(why) = ended {
            return why;
        }
    }
}

/// What came within one wake.
#[derive(Default)]
struct Heard {
    changed: BTreeSet<Partition>,
    anything: bool,
}

impl Heard {
    fn add(&mut self, payload: &str, own: &str) {
        let Some((from, names)) = payload.split_once(' ') else {
            self.anything = true; // not one of ours: whoever may connect may send
            return;
        };
        if from == own || self.anything {
            return;
        }
        for name in names.split(',').take(NAMED_MAX + 1) {
            match name.parse() {
                Ok(partition) if self.changed.len() < NAMED_MAX => {
                    self.changed.insert(partition);
                }
                Ok(_) | Err(_) => self.anything = true,
            }
        }
    }

    fn ring(self, bell: &Bell) {
        if self.anything {
            bell.ring_anything();
        } else if !self.changed.is_empty() {
            bell.ring(self.changed.into_iter().collect());
        }
    }
}

#[cfg(test)]
mod tests {
    use mezusphere_model::id::ProjectId;

    use super::*;

    fn set(count: u128) -> BTreeSet<Partition> {
        (0..count).map(|n| Partition::Project(ProjectId::from_bits(n))).collect()
    }

    #[test]
    fn a_message_is_read_back_and_one_s_own_is_not_heard() {
        let mut heard = Heard::default();
        heard.add(&format!("a {}", names(&set(3))), "b");
        heard.add(&format!("b {}", names(&set(50))), "b");
        assert_eq!((heard.changed, heard.anything), (set(3), false));
    }

    #[test]
    fn too_much_and_nonsense_mean_anything() {
        for payload in
            [format!("a {}", names(&set(500))), "a x,y".to_owned(), String::new(), "hello".to_owned()]
        {
            let mut heard = Heard::default();
            heard.add(&payload, "b");
            assert!(heard.anything, "{payload}");
        }
        let mut heard = Heard::default();
        for n in 0..200 {
            heard.add(&format!("a {}", Partition::Project(ProjectId::from_bits(n))), "b");
        }
        assert!(heard.anything);
        assert!(heard.changed.len() <= NAMED_MAX);
    }

    #[test]
    fn the_longest_message_fits() {
        assert!(names(&set(NAMED_MAX as u128)).len() < 7000, "{}", names(&set(NAMED_MAX as u128)).len());
    }
}
