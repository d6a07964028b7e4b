//! Environments of a project: each with its endpoint, its routes and its warpgates.

use mezusphere_model::id::EnvironmentId;
use mezusphere_model::platform::PRODUCTION;
use mezusphere_model::slug::{Slug, SlugError};
use mezusphere_store::primary::environment::{self, EnvironmentRow};
use mezusphere_store::primary::host::{self, HostKind, HostRow};
use mezusphere_store::primary::project::ProjectRow;
use mezusphere_store::primary::{ReadTx, Tx};
use tunnel_proto::assertion::Audience;

use super::scope;
use crate::api::types::{CreateEnvironment, Environment, Page};
use crate::caller::{Caller, Grant, Permission};
use crate::certificate;
use crate::problem::{self, Refusal};
use crate::{Shared, eviction};

/// The rule for short names, as a next step.
pub(crate) const SLUG_RULE: &str =
    "use 1 to 40 of a-z, 0-9 and -, no hyphen at the ends and no two in a row, not starting with xn";

/// A slug that cannot be one.
pub(crate) fn bad_slug(why: SlugError) -> Refusal {
    let next = match why {
        SlugError::Reserved => format!(
            "choose a name that does not start with xn and is none of these: {}",
            mezusphere_model::slug::RESERVED.join(", ")
        ),
        SlugError::Length | SlugError::Character | SlugError::Hyphen => SLUG_RULE.to_owned(),
    };
    Refusal::new(&problem::NAME_INVALID, why.to_string()).with_next(next)
}

/// An environment as it is shown.
pub(crate) async fn view(
    tx: &mut ReadTx,
    shared: &Shared,
    project: &ProjectRow,
    row: EnvironmentRow,
) -> Result<Environment, Refusal> {
    let hosts = host::list(tx, project.id, row.id).await?;
    let endpoint = hosts.first().map(|row| shared.config.platform.origin(&row.host));
    Ok(Environment {
        id: row.id,
        slug: row.slug,
        origin: endpoint.unwrap_or_default(),
        hosts: hosts.into_iter().map(|row| row.host.to_string()).collect(),
        issuer: shared.issuer(),
        audience: Audience { project: project.id, environment: row.id }.to_string(),
        revision: row.site_revision,
        created_at: row.created_at.to_string(),
    })
}

/// A project's environments, by slug. There are few, so they come in one page.
pub(crate) async fn list(
    shared: &Shared,
    caller: &Caller,
    project: &str,
) -> Result<Page<Environment>, Refusal> {
    let grant = caller.allow(Permission::ProjectsRead)?;
    shared
        .primary
        .read(async |tx| {
            let project = scope::project(tx, &grant, project).await?;
            let mut items = Vec::new();
            for row in environment::list(tx, project.id).await? {
                items.push(view(tx, shared, &project, row).await?);
            }
            Ok(Page { items, next: None })
        })
        .await
}

/// One environment.
pub(crate) async fn show(
    shared: &Shared,
    caller: &Caller,
    project: &str,
    name: &str,
) -> Result<Environment, Refusal> {
    let grant = caller.allow(Permission::ProjectsRead)?;
    shared
        .primary
        .read(async |tx| {
            let project = scope::project(tx, &grant, project).await?;
            let row = scope::environment(tx, &project, name).await?;
            view(tx, shared, &project, row).await
        })
        .await
}

/// Creates one with its endpoint.
pub(crate) async fn create(
    shared: &Shared,
    caller: &Caller,
    project: &str,
    request: CreateEnvironment,
) -> Result<Environment, Refusal> {
    let grant = caller.allow(Permission::EnvironmentsWrite)?;
    shared
        .primary
        .write(async |tx| {
            let project = scope::project(tx, &grant, project).await?;
            let row = insert(tx, shared, &grant, &project, request.slug).await?;
            view(tx, shared, &project, row).await
        })
        .await
}

/// Adds an environment with its endpoint, the endpoint's certificate, and its first, empty site.
pub(crate) async fn insert(
    tx: &mut Tx,
    shared: &Shared,
    grant: &Grant,
    project: &ProjectRow,
    slug: Slug,
) -> Result<EnvironmentRow, Refusal> {
    let endpoint = shared.config.platform.endpoint(&project.slug, &slug).map_err(|_| {
        Refusal::new(&problem::NAME_INVALID, "project and environment together make too long a host name")
            .with_next("choose a shorter environment name")
    })?;
    let mut row = EnvironmentRow {
        id: EnvironmentId::random(&shared.entropy),
        project: project.id,
        slug,
        site_revision: 0,
        created_at: tx.now(),
    };
    environment::insert(tx, &row).await?;
    host::insert(
        tx,
        &HostRow {
            host: endpoint.clone(),
            project: project.id,
            environment: row.id,
            kind: HostKind::Endpoint,
            created_at: tx.now(),
        },
    )
    .await?;
    certificate::add_host(tx, shared, project.id, &endpoint).await?;
    row.site_revision = shared.publish_site(tx, project.id, row.id).await?;
    let detail = serde_json::json!({ "slug": row.slug, "endpoint": endpoint });
    scope::audit(tx, grant, project, "environment.create", &row.id, detail);
    Ok(row)
}

/// Removes one with its hosts, routes and warpgates, whose tunnels end.
pub(crate) async fn delete(
    shared: &Shared,
    caller: &Caller,
    project: &str,
    name: &str,
) -> Result<(), Refusal> {
    let grant = caller.allow(Permission::EnvironmentsWrite)?;
    shared
        .primary
        .write(async |tx| {
            let project = scope::project(tx, &grant, project).await?;
            let row = scope::environment(tx, &project, name).await?;
            if row.slug.as_str() == PRODUCTION {
                let detail = "a project keeps its production environment";
                return Err(Refusal::new(&problem::IN_USE, detail).with_next("delete the project instead"));
            }
            for host in host::list(tx, project.id, row.id).await? {
                certificate::remove_host(tx, project.id, &host.host)?;
            }
            let enrolled = eviction::warpgates(tx, project.id, Some(row.id), |_| true).await?;
            environment::delete(tx, project.id, row.id).await?;
            shared.evict(tx, &enrolled).await?;
            let detail = serde_json::json!({ "slug": row.slug });
            scope::audit(tx, &grant, &project, "environment.delete", &row.id, detail);
            Ok(())
        })
        .await
}
