//! Service accounts: machines of a project, and the API keys they present.
//!
//! A key is an id and a 256-bit secret; the secret is shown once and only its hash is kept. An account has at
//! most two live keys, so that one can be replaced without a gap: make the second ([`rotate_key`]), move the
//! machines over, revoke the first.

use mezusphere_model::document::Status;
use mezusphere_model::id::{ApiKeyId, EnvironmentId, ProjectId, ServiceAccountId};
use mezusphere_model::slug::Name;
use mezusphere_model::token::{ApiKeyToken, Token};
use mezusphere_model::{Entropy, Timestamp};
use mezusphere_store::primary::api_key::{self, ApiKeyRow};
use mezusphere_store::primary::service_account::{self, ServiceAccountRow};
use mezusphere_store::primary::{ReadTx, Tx};
use mezusphere_store::{StoreError, WriteError};
use subtle::ConstantTimeEq as _;

/// Live keys of one account: the one in use, and the one that replaces it.
pub const LIVE_KEYS_MAX: u32 = 2;

/// Scopes of one key.
pub const SCOPES_MAX: usize = 50;

/// A key to be made.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// What it may do; not empty.
    pub scopes: Vec<Name>,
    /// The only environment it connects to; `None`: any of the project's.
    pub environment: Option<EnvironmentId>,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
}

/// A key just made: the only moment its secret is known.
#[derive(Debug)]
pub struct CreatedKey {
    /// What is kept.
    pub row: ApiKeyRow,
    /// What its holder gets; not to be had again.
    pub token: ApiKeyToken,
}

/// Why a key was not made.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// There are two live keys already.
    #[error("this service account already has {LIVE_KEYS_MAX} live keys; revoke one first")]
    TooMany,
    /// It could do nothing, or too many things.
    #[error("a key has 1 to {SCOPES_MAX} scopes")]
    Scopes,
    /// It would be expired from the start.
    #[error("the key's end lies in the past")]
    Past,
    /// The key to be replaced is revoked or expired: make a new one instead.
    #[error("this key is no longer live, so it cannot be rotated; create a new one")]
    NotLive,
    /// The store refused.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl From<StoreError> for KeyError {
    fn from(error: StoreError) -> Self {
        Self::Write(error.into())
    }
}

/// Makes a key of an account of `project`.
pub async fn create_key(
    tx: &mut Tx,
    entropy: &Entropy,
    project: ProjectId,
    account: ServiceAccountId,
    new: NewKey,
) -> Result<CreatedKey, KeyError> {
    let now = tx.now();
    if service_account::get(tx, project, account).await?.is_none() {
        return Err(WriteError::NotFound { what: "service account" }.into());
    }
    if api_key::count_live(tx, project, account).await? >= LIVE_KEYS_MAX {
        return Err(KeyError::TooMany);
    }
    if new.expires_at.is_some_and(|end| end <= now) {
        return Err(KeyError::Past);
    }
    let mut scopes = new.scopes;
    scopes.sort_unstable();
    scopes.dedup();
    if !(1..=SCOPES_MAX).contains(&scopes.len()) {
        return Err(KeyError::Scopes);
    }
    let token = ApiKeyToken { id: ApiKeyId::random(entropy), secret: Token::random(entropy) };
    let row = ApiKeyRow {
        id: token.id,
        secret_hash: token.secret.hash(),
        project,
        account,
        environment: new.environment,
        scopes,
        hint: hint(&token),
        created_at: now,
        expires_at: new.expires_at,
        revoked_at: None,
        last_used_at: None,
    };
    api_key::insert(tx, &row).await?;
    Ok(CreatedKey { row, token })
}

/// Makes the key that replaces `old`: same account, scopes, environment, and as long a life. The old one stays
/// live until it is revoked.
pub async fn rotate_key(
    tx: &mut Tx,
    entropy: &Entropy,
    project: ProjectId,
    old: ApiKeyId,
) -> Result<CreatedKey, KeyError> {
    let now = tx.now();
    let old = api_key::get(tx, project, old).await?.ok_or(WriteError::NotFound { what: "API key" })?;
    if check(&old, now).is_err() {
        return Err(KeyError::NotLive);
    }
    let new = NewKey {
        scopes: old.scopes,
        environment: old.environment,
        expires_at: old.expires_at.map(|end| now.after(end.since(old.created_at))),
    };
    create_key(tx, entropy, project, old.account, new).await
}

/// Revokes a key of `project`; a second time changes nothing.
pub async fn revoke_key(tx: &mut Tx, project: ProjectId, id: ApiKeyId) -> Result<(), WriteError> {
    api_key::revoke(tx, project, id).await
}

/// A key that was presented and is good.
#[derive(Clone, Debug)]
pub struct VerifiedKey {
    /// The key; its project is the tenant of everything its holder does.
    pub key: ApiKeyRow,
    /// Whose it is.
    pub account: ServiceAccountRow,
}

/// Why a presented key is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyRefusal {
    /// There is no such key, or its secret is another: which one is told to nobody.
    #[error("this API key is not known here")]
    Unknown,
    /// It was revoked.
    #[error("this API key was revoked at {0}")]
    Revoked(Timestamp),
    /// Its time is over.
    #[error("this API key expired at {0}")]
    Expired(Timestamp),
    /// Its account may not act.
    #[error("the service account of this API key is suspended")]
    Suspended,
}

/// Looks a presented key up. Reasons beyond "unknown" are told only to whoever holds the secret.
pub async fn verify(
    tx: &mut ReadTx,
    presented: &ApiKeyToken,
) -> Result<Result<VerifiedKey, KeyRefusal>, StoreError> {
    let Some(key) = api_key::find(tx, presented.id).await? else { return Ok(Err(KeyRefusal::Unknown)) };
    let hash = presented.secret.hash();
    if !bool::from(hash.as_bytes().ct_eq(key.secret_hash.as_bytes())) {
        return Ok(Err(KeyRefusal::Unknown));
    }
    if let Err(refusal) = check(&key, tx.now()) {
        return Ok(Err(refusal));
    }
    match service_account::get(tx, key.project, key.account).await? {
        None => Ok(Err(KeyRefusal::Unknown)),
        Some(account) if account.status != Status::Active => Ok(Err(KeyRefusal::Suspended)),
        Some(account) => Ok(Ok(VerifiedKey { key, account })),
    }
}

fn check(key: &ApiKeyRow, now: Timestamp) -> Result<(), KeyRefusal> {
    if let Some(at) = key.revoked_at {
        return Err(KeyRefusal::Revoked(at));
    }
    match key.expires_at {
        Some(at) if at <= now => Err(KeyRefusal::Expired(at)),
        _ => Ok(()),
    }
}

/// The last four characters of the key's text, which is also what logs and tables show of it.
fn hint(token: &ApiKeyToken) -> String {
    let text = token.reveal();
    text.len().checked_sub(4).and_then(|from| text.get(from..)).unwrap_or_default().to_owned()
}
