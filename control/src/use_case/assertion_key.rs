//! The keys that sign assertions, as operators see them, and having the next one made now.

use mezusphere_store::primary::audit::AuditEntry;
use mezusphere_store::primary::secret::SecretState;
use serde_json::json;
use tunnel_proto::jws::SigningKey;

use crate::api::types::{AssertionKey, AssertionKeyState, AssertionKeys};
use crate::caller::{Caller, Permission};
use crate::installation::secret_name;
use crate::keys::run::{RotateError, Seen};
use crate::problem::{self, Refusal};
use crate::{OpenError, Shared};

impl From<RotateError> for Refusal {
    fn from(why: RotateError) -> Self {
        match why {
            RotateError::Runs => Self::new(&problem::EXISTS, why.to_string())
                .with_next("look at it with: mezusphere key status"),
            RotateError::TooMany(_) => Self::new(&problem::LIMIT, why.to_string())
                .with_next("wait until the oldest is over: mezusphere key status"),
            RotateError::Open(why) => why.into(),
        }
    }
}

/// The keys, newest first.
pub(crate) async fn list(shared: &Shared, caller: &Caller) -> Result<AssertionKeys, Refusal> {
    let _grant = caller.allow(Permission::InstallationRead)?;
    let seen = shared.primary.read(async |tx| Seen::load(tx).await).await?;
    view(shared, &seen).map_err(Refusal::from)
}

/// Has the next key made, which signs as soon as it is known everywhere.
pub(crate) async fn rotate(shared: &Shared, caller: &Caller) -> Result<AssertionKeys, Refusal> {
    let grant = caller.allow(Permission::InstallationWrite)?;
    let seen = shared
        .primary
        .write(async |tx| {
            shared.begin_key_rotation(tx).await?;
            tx.audit(AuditEntry {
                organization: shared.installation.organization,
                project: None,
                actor: grant.actor().to_owned(),
                action: "assertion_key.request".to_owned(),
                target: secret_name::ASSERTION.to_owned(),
                address: grant.address().map(|address| address.to_string()),
                detail: json!({}),
            });
            Ok::<_, RotateError>(Seen::load(tx).await?)
        })
        .await?;
    shared.keys_due.notify_one();
    view(shared, &seen).map_err(Refusal::from)
}

fn view(shared: &Shared, seen: &Seen) -> Result<AssertionKeys, OpenError> {
    let rotation = &shared.config.assertion_rotation;
    let mut keys = Vec::new();
    for (row, key) in seen.rows.iter().zip(seen.keys()) {
        let signing =
            SigningKey::from_pkcs8(&row.value).map_err(|_| OpenError::KeyDamaged(secret_name::ASSERTION))?;
        keys.push(AssertionKey {
            version: row.version,
            kid: signing.public().kid.clone(),
            state: match row.state {
                SecretState::Next => AssertionKeyState::Next,
                SecretState::Current => AssertionKeyState::Current,
                SecretState::Retiring => AssertionKeyState::Retiring,
            },
            since: key.since.to_string(),
            known: seen
                .kept
                .announced
                .as_ref()
                .filter(|announced| announced.version == row.version)
                .map(|announced| announced.at.to_string()),
        });
    }
    Ok(AssertionKeys {
        keys,
        by_hand: seen.kept.by_hand,
        life_s: rotation.life.as_secs(),
        overlap_s: rotation.overlap.as_secs(),
    })
}
