//! Keeping what this node has sealed in line with its master keys: sealing anew what an old one sealed, and changing the data
//! directory's own on request.
//!
//! ```text
//!  key rotate:  master.key ─▶ master.key.old, a new master.key ─▶ everything sealed anew ─▶ master.key.old removed
//! ```
//!
//! Killed anywhere, the next start opens with both and goes on. What the database holds control seals anew
//! ([`Control::reseal`]), the edge's copy does it itself; a split edge's own file is sealed anew when it is read.
//!
//! Answered on the admin socket alone: a master key is this machine's, and whoever may open the socket may read the data
//! directory anyway.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use mezusphere_control::{Control, Resealed};
use mezusphere_model::Entropy;
use mezusphere_pki::seal::{KeyId, Sealer};
use mezusphere_store::primary::node::{self as nodes, NodeId};
use mezusphere_store::{Primary, Replica, StoreError};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::config::Role;
use super::data::{DataDir, MasterKeys};
use crate::failure::{Failure, Kind};

/// Between two looks while something is left.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Between two looks when nothing is: other nodes may still seal with an old key.
const LOOK_LATER: Duration = Duration::from_mins(10);

/// The master keys of a node and what they sealed.
pub(crate) struct KeyKeeper {
    data: DataDir,
    sealer: Sealer,
    entropy: Entropy,
    /// Where the key in use was given; `None`: it is the data directory's own.
    from: Option<String>,
    /// How many old keys were given: they stay as long as they are.
    given_old: usize,
    has_control: bool,
    has_replica: bool,
    control: OnceLock<(Weak<Control>, Primary)>,
    replica: OnceLock<Weak<Replica>>,
    progress: Mutex<Progress>,
    wake: Notify,
}

/// How far sealing anew is.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// Values in the database that no key opens.
    lost: usize,
    /// Whether nothing is left anywhere of this node.
    is_over: bool,
}

/// Why the master key was not changed.
#[derive(Debug)]
enum NotReplaced {
    /// It is not the data directory's own.
    Outside(String),
    /// The one before is still there.
    Runs,
    /// So many other control nodes use it.
    Shared(usize),
    /// The new one could not be written.
    Files(Failure),
    /// The database cannot say whether others use it.
    Store(StoreError),
}

impl fmt::Display for NotReplaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outside(from) => write!(f, "this server's master key comes from {from}"),
            Self::Runs => f.write_str("the key before is still being replaced"),
            Self::Shared(others) => write!(f, "{others} other control nodes use the same master key"),
            Self::Files(failure) => f.write_str(&failure.what),
            Self::Store(why) => write!(f, "the database cannot say whether others use the same key: {why}"),
        }
    }
}

impl KeyKeeper {
    /// Of a node of this role.
    pub(crate) fn new(
        data: DataDir,
        keys: MasterKeys,
        role: &Role,
        entropy: Entropy,
    ) -> Result<Self, Failure> {
        let sealer = Sealer::new(keys.current, entropy.clone());
        let sealer = sealer.with_coming(&keys.coming).and_then(|sealer| sealer.with_retired(&keys.retired));
        let sealer = sealer.map_err(|why| {
            Failure::new(Kind::Usage, why).next("leave out those that mezusphere key status does not name")
        })?;
        Ok(Self {
            data,
            sealer,
            entropy,
            from: keys.from,
            given_old: keys.given_old,
            has_control: !matches!(role, Role::Edge(..)),
            has_replica: !matches!(role, Role::Control(_)),
            control: OnceLock::new(),
            replica: OnceLock::new(),
            progress: Mutex::new(Progress::default()),
            wake: Notify::new(),
        })
    }

    /// What seals.
    pub(crate) fn sealer(&self) -> &Sealer {
        &self.sealer
    }

    /// The control in this process, once it is open.
    pub(crate) fn hold_control(&self, control: &Arc<Control>, primary: &Primary) {
        // A process opens one.
        drop(self.control.set((Arc::downgrade(control), primary.clone())));
        self.wake.notify_one();
    }

    /// The edge's copy in this process, once it is open.
    pub(crate) fn hold_replica(&self, replica: &Arc<Replica>) {
        drop(self.replica.set(Arc::downgrade(replica)));
        self.wake.notify_one();
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn control(&self) -> Option<(Arc<Control>, &Primary)> {
        let (control, primary) = self.control.get()?;
        Some((control.upgrade()?, primary))
    }

    /// One pass over everything; says whether nothing is left.
    async fn pass(&self) -> bool {
        if self.has_control {
            let Some((control, _)) = self.control() else { return false };
            match control.reseal().await {
                Ok(Resealed { elsewhere: true, .. }) => return false,
                Ok(done) => {
                    if done.done > 0 {
                        info!(values = done.done, "Sealed anew with the master key in use");
                    }
                    self.progress().lost = done.lost;
                    if done.left > 0 || done.under_way {
                        return false;
                    }
                }
                Err(why) => {
                    warn!(error = %why, "What the old master key sealed could not be sealed anew; it is tried again");
                    return false;
                }
            }
        }
        if self.has_replica {
            let Some(replica) = self.replica.get().and_then(Weak::upgrade) else { return false };
            if let Err(why) = replica.reseal().await {
                warn!(error = %why, "The edge's copy could not be sealed anew; it is tried again");
                return false;
            }
        }
        true
    }

    /// Writes down how far it is. If nothing is left of what the `covered` keys sealed, an own one among them, which was put
    /// aside, goes; not one that was put aside since: what it sealed is still to be sealed anew.
    fn settle(&self, covered: &[KeyId], is_over: bool) {
        // Held until the key is gone: none is put aside meanwhile.
        let mut progress = self.progress();
        let retired = self.sealer.retired();
        progress.is_over = is_over && retired == covered;
        if !progress.is_over || retired.len() == self.given_old {
            return;
        }
        match self.data.forget_old_key() {
            Ok(()) if self.given_old == 0 => {
                self.sealer.forget_retired();
                info!(key = %self.sealer.current().id(), "The old master key is gone: nothing is left that it sealed");
            }
            Ok(()) => {}
            Err(failure) => error!(error = failure.what, "The old master key could not be removed"),
        }
    }

    /// Makes a new own key; what the one before sealed is sealed anew from then on.
    async fn replace(&self) -> Result<(), NotReplaced> {
        if let Some(from) = &self.from {
            return Err(NotReplaced::Outside(from.clone()));
        }
        if let Some((_, primary)) = self.control() {
            let others = primary.read(async |tx| nodes::list(tx).await).await.map_err(NotReplaced::Store)?;
            let controls =
                others.iter().filter(|row| matches!(row.id, NodeId::Control(_)) && row.denied_at.is_none());
            let others = controls.count().saturating_sub(1);
            if others > 0 {
                return Err(NotReplaced::Shared(others));
            }
        }
        // Held until the key is in use: of two that ask at once, one is told that the other was first.
        let mut progress = self.progress();
        if !self.sealer.retired().is_empty() {
            return Err(NotReplaced::Runs);
        }
        let new = self.data.replace_own_key(&self.entropy).map_err(NotReplaced::Files)?;
        self.sealer.replace(&new).map_err(|_| NotReplaced::Runs)?;
        *progress = Progress::default();
        drop(progress);
        info!(key = %new.id(), "A new master key is in use; what the old one sealed is sealed anew");
        self.wake.notify_one();
        Ok(())
    }

    async fn status(&self, check: bool) -> Result<Value, mezusphere_control::OpenError> {
        let control = self.control();
        let left = match &control {
            Some((control, _)) => control.unsealed_left().await?,
            None => 0,
        };
        let checked = match &control {
            Some((control, _)) if check => {
                let (opened, lost) = control.check_sealed().await?;
                Some(json!({ "opened": opened, "lost": lost }))
            }
            _ => None,
        };
        let retired: Vec<String> = self.sealer.retired().iter().map(ToString::to_string).collect();
        let progress = *self.progress();
        Ok(json!({
            "key": self.sealer.current().id().to_string(),
            "from": self.from,
            "old": retired,
            "left": left,
            "lost": progress.lost,
            "over": retired.is_empty() || (progress.is_over && left == 0),
            "checked": checked,
        }))
    }
}

/// Seals anew whenever there is something to, until `stop`.
pub(crate) async fn keep(keeper: Arc<KeyKeeper>, stop: CancellationToken) {
    loop {
        // Those of before the pass: one that is put aside while it runs is another pass's.
        let covered = keeper.sealer.retired();
        let is_over = covered.is_empty() || keeper.pass().await;
        keeper.settle(&covered, is_over);
        let wait = if is_over { LOOK_LATER } else { LOOK_AGAIN };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
            () = keeper.wake.notified() => {}
        }
    }
}

/// The admin API with these verbs added.
pub(crate) fn with_local_admin(api: Router, keeper: Arc<KeyKeeper>) -> Router {
    let own = Router::new()
        .route("/api/v1/master-key", get(show))
        .route("/api/v1/master-key/check", post(check))
        .route("/api/v1/master-key/rotate", post(rotate))
        .with_state(keeper);
    api.merge(own)
}

async fn show(State(keeper): State<Arc<KeyKeeper>>) -> Response {
    told(&keeper, false).await
}

async fn check(State(keeper): State<Arc<KeyKeeper>>) -> Response {
    told(&keeper, true).await
}

async fn rotate(State(keeper): State<Arc<KeyKeeper>>) -> Response {
    if let Err(why) = keeper.replace().await {
        let (status, code, next) = advice(&why);
        return problem(status, code, &why.to_string(), next);
    }
    if let Some((control, _)) = keeper.control() {
        let key = keeper.sealer.current().id().to_string();
        if let Err(why) = control.audit_local("master_key.rotate", &key).await {
            warn!(error = %why, "The change of the master key could not be put into the audit log");
        }
    }
    told(&keeper, false).await
}

async fn told(keeper: &KeyKeeper, check: bool) -> Response {
    match keeper.status(check).await {
        Ok(status) => Json(status).into_response(),
        Err(why) => {
            warn!(error = %why, "The state of the master key could not be read");
            problem(
                StatusCode::SERVICE_UNAVAILABLE,
                "control.busy",
                "the database is not available now",
                "try again",
            )
        }
    }
}

fn advice(why: &NotReplaced) -> (StatusCode, &'static str, &'static str) {
    match why {
        NotReplaced::Outside(_) => (
            StatusCode::CONFLICT,
            "control.master_key_outside",
            "make a key with mezusphere key new --out FILE, and start the server with --master-key-file FILE and \
             --old-master-key-file and the one before: docs/operations/keys.md",
        ),
        NotReplaced::Runs => {
            (StatusCode::CONFLICT, "control.master_key_runs", "wait until it is done: mezusphere key status")
        }
        NotReplaced::Shared(_) => (
            StatusCode::CONFLICT,
            "control.master_key_shared",
            "give all of them the new key by --next-master-key-file first: docs/operations/keys.md",
        ),
        NotReplaced::Files(_) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "control.master_key_files",
            "see that the data directory can be written; nothing that is sealed was changed",
        ),
        NotReplaced::Store(_) => (StatusCode::SERVICE_UNAVAILABLE, "control.busy", "try again"),
    }
}

/// `application/problem+json` (RFC 9457), as the rest of the admin API answers.
fn problem(status: StatusCode, code: &str, detail: &str, next: &str) -> Response {
    let body = json!({
        "status": status.as_u16(),
        "code": code,
        "title": "The master key was not changed",
        "detail": detail,
        "next": next,
    });
    (status, [("content-type", "application/problem+json")], body.to_string()).into_response()
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;
    use crate::node::{EdgePart, KeyFiles};

    /// The keeper of an edge alone, with its own master key.
    fn keeper(dir: &tempfile::TempDir) -> KeyKeeper {
        let entropy = Entropy::counting();
        let data = DataDir::open(dir.path().join("data")).unwrap();
        let keys = data.master_keys(&KeyFiles::default(), &entropy).unwrap();
        let part = EdgePart {
            listen: ([127, 0, 0, 1], 0).into(),
            plain_http: None,
            workers: NonZeroUsize::MIN,
            advertise: None,
        };
        KeyKeeper::new(data, keys, &Role::Edge(part, None), entropy).unwrap()
    }

    #[tokio::test]
    async fn r20_a_key_put_aside_beside_a_pass_over_others_stays_until_a_pass_over_its_own_values() {
        let dir = tempfile::tempdir().unwrap();
        let keeper = keeper(&dir);
        let old = dir.path().join("data/master.key.old");
        // What a pass saw that found nothing to do; then the key is replaced before it is over.
        let covered = keeper.sealer.retired();
        keeper.replace().await.unwrap();
        keeper.settle(&covered, true);
        assert!(old.exists(), "the only key that opens what it sealed");
        assert!(!keeper.sealer.retired().is_empty() && !keeper.progress().is_over);

        let covered = keeper.sealer.retired();
        keeper.settle(&covered, false);
        assert!(old.exists(), "something is left");
        keeper.settle(&covered, true);
        assert!(!old.exists());
        assert!(keeper.sealer.retired().is_empty() && keeper.progress().is_over);
        keeper.replace().await.unwrap();
        assert!(old.exists(), "the next one may be put aside");
    }
}
