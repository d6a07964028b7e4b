//! Principals: what can change about somebody while they are signed in, derived from rows and published.
//!
//! A user's principal is on a project's feed from their first session there until their last one is pruned;
//! a service account's from its first key until it is deleted.

use mezusphere_model::document::PrincipalDoc;
use mezusphere_model::id::ProjectId;
use mezusphere_model::identity::Subject;

use super::{ReadTx, StoreError, Tx, WriteError};

/// Somebody's principal in a project, as the rows say now. `None`: they cannot be in this project.
pub async fn load(
    tx: &mut ReadTx,
    project: ProjectId,
    subject: Subject,
) -> Result<Option<PrincipalDoc>, StoreError> {
    todo!()
}

/// Publishes somebody's principal in a project and returns it.
pub async fn publish(
    tx: &mut Tx,
    project: ProjectId,
    subject: Subject,
) -> Result<PrincipalDoc, WriteError> {
    todo!()
}
