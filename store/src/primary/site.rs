//! Sites: an environment's hosts and routes as one published document, and the signed bundle beside it.

use mezusphere_model::bundle::SignedBundle;
use mezusphere_model::id::{EnvironmentId, ProjectId};
use mezusphere_model::route::SiteDoc;

use super::{ReadTx, StoreError, Tx, WriteError};

/// The environment's site as it stands, at its current revision.
pub async fn load(
    tx: &mut ReadTx,
    project: ProjectId,
    environment: EnvironmentId,
) -> Result<Option<SiteDoc>, StoreError> {
    todo!()
}

/// Raises the environment's site revision by one and publishes the site; returns what was published, to be
/// signed as a bundle of the same revision.
pub async fn publish(
    tx: &mut Tx,
    project: ProjectId,
    environment: EnvironmentId,
) -> Result<SiteDoc, WriteError> {
    todo!()
}

/// Publishes a signed bundle of one of the project's environments, and keeps it for [`bundle`].
pub async fn publish_bundle(
    tx: &mut Tx,
    project: ProjectId,
    bundle: &SignedBundle,
) -> Result<(), WriteError> {
    todo!()
}

/// The environment's newest published bundle.
pub async fn bundle(
    tx: &mut ReadTx,
    project: ProjectId,
    environment: EnvironmentId,
) -> Result<Option<SignedBundle>, StoreError> {
    todo!()
}
