//! A right password becomes a [`Proof`].

use mezusphere_model::document::Status;
use mezusphere_model::id::{DirectoryId, UserId};
use mezusphere_model::identity::Method;
use mezusphere_store::primary::{password, user};
use mezusphere_store::{Primary, StoreError, WriteError};

use super::{Password, PasswordHash, PasswordPool, PoolError, Verdict};
use crate::factor::Proof;

/// Why a password proved nothing.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    /// The password is wrong, or there is no such account, or it has no password: which one is told to nobody.
    #[error("the e-mail address and the password do not match")]
    Wrong,
    /// The password is right, but the account may not be used.
    #[error("the account is not active")]
    Inactive,
    /// Nothing was checked.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// Nothing was checked.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Asked for in place of a user who does not exist, so that both cases make the same queries.
const NOBODY: UserId = UserId::from_bits(0);

/// What became of a password.
#[derive(Debug)]
pub(crate) struct Judged {
    /// Whose account was tried, if the address has one: for its history, never for the answer.
    pub(crate) user: Option<UserId>,
    /// A proof, or [`ProveError::Wrong`] or [`ProveError::Inactive`].
    pub(crate) verdict: Result<Proof, ProveError>,
}

/// Checks the password of the user with this address in `directory`.
///
/// Makes the same queries and one Argon2 computation whether there is such a user or not (R13), and writes
/// nothing unless the password is right.
pub async fn prove(
    primary: &Primary,
    pool: &PasswordPool,
    directory: DirectoryId,
    email: &str,
    typed: Password,
) -> Result<Proof, ProveError> {
    judge(primary, pool, directory, email, typed).await?.verdict
}

/// As [`prove`], and tells whose account was tried.
///
/// # Errors
/// Nothing was judged.
pub(crate) async fn judge(
    primary: &Primary,
    pool: &PasswordPool,
    directory: DirectoryId,
    email: &str,
    typed: Password,
) -> Result<Judged, ProveError> {
    let (user, credential, now) = primary
        .read(async |tx| {
            let user = user::find(tx, directory, email.trim()).await?;
            let id = user.as_ref().map_or(NOBODY, |user| user.id);
            let credential = password::get(tx, directory, id).await?;
            Ok::<_, StoreError>((user, credential, tx.now()))
        })
        .await?;
    let stored = credential.map(|row| PasswordHash::from_stored(row.hash, row.pepper_version));
    let verdict = pool.verify(typed, stored.clone()).await?;
    let tried = user.as_ref().map(|user| user.id);
    let judged = |verdict| Ok(Judged { user: tried, verdict });
    let (Some(user), Verdict::Right { replacement }) = (user, verdict) else {
        return judged(Err(ProveError::Wrong));
    };
    if user.status != Status::Active {
        return judged(Err(ProveError::Inactive));
    }
    if let (Some(old), Some(new)) = (stored, replacement) {
        let row = new.into_row(user.id, now);
        let rehashed = primary.write(async |tx| password::rehash(tx, directory, old.phc(), &row).await).await;
        if let Err(error) = rehashed {
            // The old hash still works; the next sign-in tries again.
            tracing::warn!(user = %user.id, %error, "A password hash could not be renewed");
        }
    }
    judged(Ok(Proof::new(user.id, Method::Password, now)))
}

/// Sets a user's password, and ends every sign-in of theirs but `keep`: whoever knew the old one is out.
pub(crate) async fn set(
    tx: &mut mezusphere_store::primary::Tx,
    directory: DirectoryId,
    user: UserId,
    hash: PasswordHash,
) -> Result<(), WriteError> {
    let now = tx.now();
    password::put(tx, directory, &hash.into_row(user, now)).await?;
    user::invalidate_sessions(tx, directory, user).await?;
    mezusphere_store::primary::sign_in::end_all(tx, directory, user, None).await?;
    Ok(())
}
