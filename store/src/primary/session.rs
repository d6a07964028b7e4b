//! Sessions: a signed-in client on one app host.

use mezusphere_model::Timestamp;
use mezusphere_model::id::{ProjectId, SessionId, SignInId, UserId};
use mezusphere_model::link::Activity;
use mezusphere_model::session::SessionDoc;
use mezusphere_model::token::TokenHash;

use super::{PageRequest, Paged, ReadTx, StoreError, Tx, WriteError};

/// A session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRow {
    /// The session as published, with the newest reported `seen_at`.
    pub doc: SessionDoc,
    /// When it was ended, if it was.
    pub ended_at: Option<Timestamp>,
}

/// Adds a session. Publishes it, and its user's principal in the project.
///
/// # Errors
/// Not found: the sign-in, if it has ended or is another user's.
pub async fn insert(tx: &mut Tx, doc: &SessionDoc) -> Result<(), WriteError> {
    todo!()
}

/// The session whose token hashes to this, ended ones too: for a caller who presents the token.
pub async fn find(tx: &mut ReadTx, token: &TokenHash) -> Result<Option<SessionRow>, StoreError> {
    todo!()
}

/// A project's session.
pub async fn get(
    tx: &mut ReadTx,
    project: ProjectId,
    id: SessionId,
) -> Result<Option<SessionRow>, StoreError> {
    todo!()
}

/// A user's sessions in a project that have not ended, by id, which is the key of a page.
pub async fn list(
    tx: &mut ReadTx,
    project: ProjectId,
    user: UserId,
    page: &PageRequest,
) -> Result<Paged<SessionRow>, StoreError> {
    todo!()
}

/// The sign-in a session of the project belongs to.
pub async fn sign_in_of(
    tx: &mut ReadTx,
    project: ProjectId,
    id: SessionId,
) -> Result<Option<SignInId>, StoreError> {
    todo!()
}

/// Notes when sessions and their sign-ins were last used; unknown ones and older times change nothing.
///
/// Publishes a session anew when a quarter of its idle limit has passed since it was last published, so that
/// other edges learn of it in time.
pub async fn seen(tx: &mut Tx, batch: &[Activity]) -> Result<(), StoreError> {
    todo!()
}

/// Ends one session; `false`: it had ended before. Retracts its document.
pub async fn end(tx: &mut Tx, project: ProjectId, id: SessionId) -> Result<bool, WriteError> {
    todo!()
}
