//! The job that works at certificates that are due, on whichever control node holds its lease.
//!
//! Several orders run beside each other, each cut off with the lease. A node that takes over goes on from what is written
//! down, and cleans up what its predecessor left open.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use mezusphere_store::StoreError;
use mezusphere_store::primary::acme;
use mezusphere_store::primary::lease::{self, Lease};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::engine::{Engine, Stopped};
use super::open;
use crate::Shared;
use crate::config::PublicCertificate;
use crate::lease::Job;

/// Certificates worked at beside each other: a DNS hook may take minutes, and must not hold up a renewal. Beside them one
/// at most whose challenges are taken back.
const AT_ONCE: usize = 4;

/// Between two looks at what is due. One look reads one row.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// From the bell to the look: the change that rang it has to be committed first. If it is not, the next look finds it.
const BELL_TO_LOOK: Duration = Duration::from_millis(20);

/// Between two renewals of the lease while something is worked at, which may take longer than a lease is good.
const HOLD_EVERY: Duration = Duration::from_secs(8);

/// A certificate whose work could not be written down is left alone so long: the disk may be full.
const PAUSE: Duration = Duration::from_mins(1);

/// Between two looks for challenges that somebody left open.
const SWEEP_EVERY: Duration = Duration::from_mins(10);

/// How long work may go on when the node stops. It can be cut off anywhere.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// Works until `cancel`. Ends at once where certificates come from elsewhere.
pub(crate) async fn run(shared: Arc<Shared>, cancel: CancellationToken) {
    let PublicCertificate::Acme(config) = &shared.config.public_certificate else { return };
    let engine = match Engine::new(&shared, config) {
        Ok(engine) => Arc::new(engine),
        Err(why) => {
            tracing::error!(error = %why, "Certificates cannot be ordered");
            return;
        }
    };
    tracing::info!(authority = engine.directory(), "Public certificates are ordered");
    Worker::new(engine).run(cancel).await;
}

/// The job's state on this node.
pub(crate) struct Worker {
    engine: Arc<Engine>,
    /// The lease, if this node holds it.
    lease: Option<Lease>,
    hold_at: Instant,
    /// When to look for challenges that somebody left open.
    sweep_at: Instant,
    /// What is worked at, and the names of it.
    tasks: JoinSet<Result<(), Stopped>>,
    names: HashMap<Id, String>,
    /// The one of them that takes challenges back.
    sweep: Option<AbortHandle>,
    /// Certificates left alone until then.
    paused: HashMap<String, Instant>,
}

impl Worker {
    /// A worker that holds nothing yet.
    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        let now = Instant::now();
        Self {
            engine,
            lease: None,
            hold_at: now,
            sweep_at: now,
            tasks: JoinSet::new(),
            names: HashMap::new(),
            sweep: None,
            paused: HashMap::new(),
        }
    }

    /// Works until `cancel`.
    pub(crate) async fn run(mut self, cancel: CancellationToken) {
        let shared = Arc::clone(&self.engine.shared);
        let mut look_at = Instant::now();
        loop {
            tokio::select! {
                () = cancel.cancelled() => break,
                () = tokio::time::sleep_until(look_at) => {}
                () = shared.acme_due.notified() => {
                    look_at = look_at.min(Instant::now() + BELL_TO_LOOK);
                    continue;
                }
                Some(ended) = self.tasks.join_next_with_id() => self.ended(ended),
            }
            look_at = Instant::now() + LOOK_EVERY;
            if let Err(why) = self.look().await {
                tracing::warn!(error = %why, "Certificates that are due could not be looked at");
            }
        }
        self.stop().await;
    }

    /// Keeps the lease, and begins what is due.
    pub(crate) async fn look(&mut self) -> Result<(), StoreError> {
        let now = Instant::now();
        self.paused.retain(|_, until| *until > now);
        self.hold().await?;
        let due = self.due().await?;
        let left_open = self.left_open(&due).await?;
        if due.is_empty() && left_open.is_none() {
            return Ok(());
        }
        let Some(lease) = self.take().await? else { return Ok(()) };
        for name in due {
            let (engine, lease, work) = (Arc::clone(&self.engine), lease.clone(), name.clone());
            let task = self.tasks.spawn(async move { engine.work(&lease, &work).await });
            self.names.insert(task.id(), name);
        }
        if let Some(name) = left_open {
            let (engine, work) = (Arc::clone(&self.engine), name.clone());
            let task = self.tasks.spawn(async move { engine.take_back(&lease, &work).await });
            self.names.insert(task.id(), name);
            self.sweep = Some(task);
        }
        Ok(())
    }

    /// Names of certificates that are due and not worked at, as many as there is room for.
    async fn due(&self) -> Result<Vec<String>, StoreError> {
        let busy = self.tasks.len().saturating_sub(usize::from(self.sweep.is_some()));
        let room = AT_ONCE.saturating_sub(busy);
        if room == 0 {
            return Ok(Vec::new());
        }
        let limit = room + self.names.len() + self.paused.len();
        let rows = self.engine.shared.primary.read(async |tx| acme::due(tx, limit).await).await?;
        Ok(rows.into_iter().map(|row| row.name).filter(|name| self.is_free(name)).take(room).collect())
    }

    /// A certificate whose challenges somebody left open, if it is time to look for one: its host was removed, or a node
    /// died at the wrong moment. One that is due is not: who works at it takes back what there is.
    async fn left_open(&mut self, due: &[String]) -> Result<Option<String>, StoreError> {
        let now = Instant::now();
        if now < self.sweep_at || self.sweep.is_some() {
            return Ok(None);
        }
        let left = self.engine.shared.primary.read(async |tx| open::left(tx).await).await?;
        let next = left.into_iter().find(|name| self.is_free(name) && !due.contains(name));
        if next.is_none() {
            self.sweep_at = now + SWEEP_EVERY;
        }
        Ok(next)
    }

    /// Whether nobody works at it, and it is not to be left alone.
    fn is_free(&self, name: &String) -> bool {
        !self.names.values().any(|busy| busy == name) && !self.paused.contains_key(name)
    }

    /// Prolongs the lease while something is worked at; cuts the work off if it is lost.
    async fn hold(&mut self) -> Result<(), StoreError> {
        let Some(held) = self.lease.clone() else { return Ok(()) };
        if Instant::now() < self.hold_at || self.tasks.is_empty() {
            return Ok(());
        }
        let shared = &self.engine.shared;
        if shared.primary.write(async |tx| shared.keep_lease(tx, &held).await).await? {
            self.hold_at = Instant::now() + HOLD_EVERY;
        } else {
            tracing::warn!("Another control node orders certificates now");
            self.lease = None;
            self.tasks.abort_all();
        }
        Ok(())
    }

    /// Takes or prolongs the lease; `None`: another control node is at it.
    async fn take(&mut self) -> Result<Option<Lease>, StoreError> {
        let shared = &self.engine.shared;
        let taken = shared.primary.write(async |tx| shared.take_lease(tx, Job::Acme).await).await?;
        if let Some(taken) = &taken {
            if self.lease.as_ref().is_none_or(|known| known.token != taken.token) {
                tracing::debug!(token = taken.token, "This node orders certificates");
                self.sweep_at = Instant::now();
            }
            self.hold_at = Instant::now() + HOLD_EVERY;
        }
        self.lease.clone_from(&taken);
        Ok(taken)
    }

    fn ended(&mut self, ended: Result<(Id, Result<(), Stopped>), JoinError>) {
        let (id, result) = match ended {
            Ok((id, result)) => (id, result),
            Err(why) if why.is_cancelled() => (why.id(), Ok(())),
            Err(why) => {
                tracing::error!(error = %why, "Work at a certificate ended badly");
                let fault = StoreError::Damaged("a fault of ours".to_owned());
                (why.id(), Err(Stopped::Store(fault)))
            }
        };
        self.sweep.take_if(|sweep| sweep.id() == id);
        let Some(name) = self.names.remove(&id) else { return };
        match result {
            Ok(()) => {}
            Err(Stopped::Fenced) => self.lease = None,
            Err(Stopped::Gone) => tracing::info!(certificate = name, "A certificate is not wanted any more"),
            Err(Stopped::Store(why)) => {
                tracing::error!(
                    certificate = name,
                    error = %why,
                    "Work at a certificate could not be written down; what is in use stays, and the order goes on later"
                );
                self.paused.insert(name, Instant::now() + PAUSE);
            }
        }
    }

    /// Lets what is worked at end, for a moment, and gives the lease back.
    async fn stop(mut self) {
        // What is left open stays noted, and the next node takes it back.
        if let Some(sweep) = &self.sweep {
            sweep.abort();
        }
        let end = Instant::now() + STOP_GRACE;
        while let Ok(Some(ended)) = tokio::time::timeout_at(end, self.tasks.join_next_with_id()).await {
            self.ended(ended);
        }
        self.tasks.shutdown().await;
        let Some(lease) = self.lease.take() else { return };
        let released = self.engine.shared.primary.write(async |tx| lease::release(tx, &lease).await).await;
        if let Err(why) = released {
            tracing::debug!(error = %why, "The lease could not be given back; it ends by itself");
        }
    }
}
