//! Sites: an environment's hosts and routes as one published document, and the signed bundle beside it.

use mezusphere_model::bundle::SignedBundle;
use mezusphere_model::document::{Document, DocumentKey, Partition};
use mezusphere_model::id::{EnvironmentId, ProjectId};
use mezusphere_model::route::{RouteDoc, SiteDoc};

use super::value::args;
use super::{ReadTx, StoreError, Tx, WriteError, host, quota, route};

/// The oldest reader of a site as a whole. A route's own demand closes that route alone.
const SITE_READER: u32 = 1;

/// The environment's site as it stands, at its current revision.
pub async fn load(
    tx: &mut ReadTx,
    project: ProjectId,
    environment: EnvironmentId,
) -> Result<Option<SiteDoc>, StoreError> {
    let Some(row) = tx
        .row(
            "SELECT p.organization, p.directory, p.slug AS project_slug, p.name, e.slug, e.site_revision
             FROM environments e JOIN projects p ON p.id = e.project WHERE e.project = $1 AND e.id = $2",
            args![project, environment],
        )
        .await?
    else {
        return Ok(None);
    };
    let hosts = host::list(tx, project, environment).await?.into_iter().map(|row| row.host).collect();
    let routes: Vec<RouteDoc> =
        route::list(tx, project, environment).await?.into_iter().map(|row| row.doc).collect();
    Ok(Some(SiteDoc {
        min_reader: SITE_READER,
        organization: row.get("organization")?,
        project,
        environment,
        project_slug: row.get("project_slug")?,
        environment_slug: row.get("slug")?,
        display_name: row.get("name")?,
        directory: row.get("directory")?,
        hosts,
        routes,
        revision: row.get("site_revision")?,
        quota: quota::get(tx, project).await?,
    }))
}

/// Raises the environment's site revision by one and publishes the site; returns what was published, to be
/// signed as a bundle of the same revision.
pub async fn publish(
    tx: &mut Tx,
    project: ProjectId,
    environment: EnvironmentId,
) -> Result<SiteDoc, WriteError> {
    tx.change(
        "environment",
        "UPDATE environments SET site_revision = site_revision + 1 WHERE project = $1 AND id = $2",
        args![project, environment],
    )
    .await?;
    let site = load(tx, project, environment).await?.ok_or(WriteError::NotFound { what: "environment" })?;
    tx.publish(Partition::Project(project), &Document::Site(Box::new(site.clone())))?;
    Ok(site)
}

/// Publishes a signed bundle of one of the project's environments, and keeps it for [`bundle`].
pub async fn publish_bundle(
    tx: &mut Tx,
    project: ProjectId,
    bundle: &SignedBundle,
) -> Result<(), WriteError> {
    super::environment::get(tx, project, bundle.environment)
        .await?
        .ok_or(WriteError::NotFound { what: "environment" })?;
    Ok(tx.publish(Partition::Project(project), &Document::Bundle(bundle.clone()))?)
}

/// The environment's newest bundle, as published by transactions before this one.
pub async fn bundle(
    tx: &mut ReadTx,
    project: ProjectId,
    environment: EnvironmentId,
) -> Result<Option<SignedBundle>, StoreError> {
    let row = tx
        .row(
            "SELECT body FROM feed_entries
             WHERE partition = $1 AND key = $2 AND is_current = 1 AND body IS NOT NULL",
            args![Partition::Project(project), &DocumentKey::bundle(environment)],
        )
        .await?;
    match row.map(|row| row.json::<Document>("body")).transpose()? {
        None => Ok(None),
        Some(Document::Bundle(bundle)) => Ok(Some(bundle)),
        Some(_) => Err(StoreError::Damaged("a bundle's place holds another document".to_owned())),
    }
}
