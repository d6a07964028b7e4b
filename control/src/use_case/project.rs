//! Projects: tenants. A new one comes with its directory, and with the environment `production` and its endpoint.

use mezusphere_model::id::{DirectoryId, ProjectId};
use mezusphere_model::platform::PRODUCTION;
use mezusphere_model::rules::ProjectQuota;
use mezusphere_model::slug::Slug;
use mezusphere_store::primary::directory::{self, DirectoryRow};
use mezusphere_store::primary::project::{self, HeldBy, ProjectRow};
use mezusphere_store::primary::{
    PageRequest, Paged, ReadTx, Taken, WriteError, environment as environments, organization, quota,
};

use super::{Paging, environment, scope};
use crate::api::types::{CreateProject, Page, Project, Quota, QuotaChanges, SetDirectory, UpdateProject};
use crate::caller::{Caller, Permission, Reach};
use crate::problem::{self, Refusal};
use crate::{Shared, eviction};

async fn view(tx: &mut ReadTx, shared: &Shared, row: ProjectRow) -> Result<Project, Refusal> {
    let mut list = Vec::new();
    for found in environments::list(tx, row.id).await? {
        list.push(environment::view(tx, shared, &row, found).await?);
    }
    // Production first: it is the one people mean when they name none.
    list.sort_by_key(|environment| environment.slug.as_str() != PRODUCTION);
    Ok(Project {
        id: row.id,
        slug: row.slug,
        name: row.name,
        organization: row.organization,
        directory: row.directory,
        quota: quota_view(quota::get(tx, row.id).await?),
        created_at: row.created_at.to_string(),
        environments: list,
    })
}

/// Projects the caller reaches, by slug. The operators' own is left out: it publishes nothing.
pub(crate) async fn list(shared: &Shared, caller: &Caller, paging: Paging) -> Result<Page<Project>, Refusal> {
    let grant = caller.allow(Permission::ProjectsRead)?;
    shared
        .primary
        .read(async |tx| {
            let paged = match grant.reach() {
                Reach::Installation => project::list_all(tx, &PageRequest::from(paging)).await?,
                Reach::Project(_, own) => {
                    Paged { rows: project::get(tx, own).await?.into_iter().collect(), next: None }
                }
            };
            let mut items = Vec::new();
            for row in paged.rows {
                if row.id != shared.installation.project {
                    items.push(view(tx, shared, row).await?);
                }
            }
            Ok(Page { items, next: paged.next })
        })
        .await
}

/// One project.
pub(crate) async fn show(shared: &Shared, caller: &Caller, name: &str) -> Result<Project, Refusal> {
    let grant = caller.allow(Permission::ProjectsRead)?;
    shared
        .primary
        .read(async |tx| {
            let row = scope::project(tx, &grant, name).await?;
            view(tx, shared, row).await
        })
        .await
}

/// Creates one with directory, environment and endpoint. Only who reaches the whole installation can.
pub(crate) async fn create(
    shared: &Shared,
    caller: &Caller,
    request: CreateProject,
) -> Result<Project, Refusal> {
    let grant = caller.allow(Permission::ProjectsWrite)?;
    if grant.reach() != Reach::Installation {
        return Err(crate::caller::Forbidden { permission: Permission::InstallationWrite }.into());
    }
    request.slug.check_free().map_err(environment::bad_slug)?;
    let name = match &request.name {
        Some(name) => mezusphere_identity::account::check_name(name)?.to_owned(),
        None => request.slug.to_string(),
    };
    let production = Slug::parse(PRODUCTION).map_err(environment::bad_slug)?;
    shared
        .primary
        .write(async |tx| {
            let owner = match &request.organization {
                Some(name) => scope::organization(tx, &grant, name).await?,
                None => organization::get(tx, shared.installation.organization)
                    .await?
                    .ok_or_else(|| scope::not_found("organization", ""))?,
            };
            // Asked before its directory of the same name is added, so that the refusal speaks of the project.
            if project::find(tx, &request.slug).await?.is_some() {
                return Err(WriteError::Conflict { what: Taken::ProjectSlug }.into());
            }
            let now = tx.now();
            let shared_with = match &request.directory {
                Some(name) => Some(scope::shared_directory(tx, owner.id, name).await?),
                None => None,
            };
            let row = ProjectRow {
                id: ProjectId::random(&shared.entropy),
                organization: owner.id,
                directory: shared_with
                    .as_ref()
                    .map_or_else(|| DirectoryId::random(&shared.entropy), |directory| directory.id),
                slug: request.slug,
                name,
                created_at: now,
            };
            if shared_with.is_none() {
                directory::insert(
                    tx,
                    &DirectoryRow {
                        id: row.directory,
                        organization: owner.id,
                        project: Some(row.id),
                        name: row.slug.to_string(),
                        settings: directory::Settings::default(),
                        created_at: now,
                    },
                )
                .await?;
            }
            project::insert(tx, &row).await?;
            let detail = serde_json::json!({
                "slug": row.slug, "directory": shared_with.map(|directory| directory.name),
            });
            scope::audit(tx, &grant, &row, "project.create", &row.id, detail);
            environment::insert(tx, shared, &grant, &row, production).await?;
            view(tx, shared, row).await
        })
        .await
}

/// Changes its name for people.
pub(crate) async fn update(
    shared: &Shared,
    caller: &Caller,
    name: &str,
    request: UpdateProject,
) -> Result<Project, Refusal> {
    let grant = caller.allow(Permission::ProjectsWrite)?;
    let new = mezusphere_identity::account::check_name(&request.name)?;
    shared
        .primary
        .write(async |tx| {
            let mut row = scope::project(tx, &grant, name).await?;
            project::rename(tx, row.organization, row.id, new).await?;
            new.clone_into(&mut row.name);
            for environment in environments::list(tx, row.id).await? {
                shared.publish_site(tx, row.id, environment.id).await?;
            }
            scope::audit(tx, &grant, &row, "project.rename", &row.id, serde_json::json!({ "name": new }));
            view(tx, shared, row).await
        })
        .await
}

/// Changes what one edge gives to it. Only who sees the whole installation can: a quota guards tenants from each other.
pub(crate) async fn set_quota(
    shared: &Shared,
    caller: &Caller,
    name: &str,
    request: QuotaChanges,
) -> Result<Project, Refusal> {
    let grant = caller.allow(Permission::InstallationWrite)?;
    shared
        .primary
        .write(async |tx| {
            let row = scope::project(tx, &grant, name).await?;
            let before = quota::get(tx, row.id).await?;
            let after = ProjectQuota {
                requests_per_second: request.requests_per_second.applied(before.requests_per_second),
                exchanges: request.exchanges.applied(before.exchanges),
            };
            after.check().map_err(|why| Refusal::new(&problem::QUOTA_INVALID, why.to_string()))?;
            quota::set(tx, row.id, &after).await?;
            for environment in environments::list(tx, row.id).await? {
                shared.publish_site(tx, row.id, environment.id).await?;
            }
            let detail = serde_json::json!({
                "slug": row.slug, "before": quota_view(before), "after": quota_view(after),
            });
            scope::audit(tx, &grant, &row, "project.quota", &row.id, detail);
            view(tx, shared, row).await
        })
        .await
}

fn quota_view(quota: ProjectQuota) -> Quota {
    Quota { requests_per_second: quota.requests_per_second, exchanges: quota.exchanges }
}

/// Lets its users live in a shared directory of its organization, while nobody is lost by it.
pub(crate) async fn set_directory(
    shared: &Shared,
    caller: &Caller,
    name: &str,
    request: SetDirectory,
) -> Result<Project, Refusal> {
    let grant = caller.allow(Permission::InstallationWrite)?;
    shared
        .primary
        .write(async |tx| {
            let mut row = scope::people(tx, &grant, name).await?;
            let found = scope::shared_directory(tx, row.organization, &request.directory).await?;
            if found.id == row.directory {
                return view(tx, shared, row).await;
            }
            if let Some(held) = project::held_by(tx, &row).await? {
                return Err(is_held(&row, held));
            }
            project::set_directory(tx, &row, found.id).await?;
            row.directory = found.id;
            let detail = serde_json::json!({ "slug": row.slug, "directory": found.name });
            scope::audit(tx, &grant, &row, "project.set_directory", &row.id, detail);
            view(tx, shared, row).await
        })
        .await
}

fn is_held(row: &ProjectRow, held: HeldBy) -> Refusal {
    let slug = &row.slug;
    let (detail, next) = match held {
        HeldBy::Roles => (
            format!("users of its directory hold roles in {slug}"),
            format!("take the roles away first; mezusphere user list {slug} shows them"),
        ),
        HeldBy::Sessions => (
            format!("users of its directory are signed in to {slug}"),
            "sign them out first, or wait until their sessions have ended".to_owned(),
        ),
        HeldBy::Users => (
            format!("the directory of {slug} serves it alone and has users, who would be lost"),
            "import them into the other directory, and delete them here first".to_owned(),
        ),
    };
    Refusal::new(&problem::IN_USE, detail).with_next(next)
}

/// Removes it with all it owns. Tunnels of its warpgates end.
pub(crate) async fn delete(shared: &Shared, caller: &Caller, name: &str) -> Result<(), Refusal> {
    let grant = caller.allow(Permission::ProjectsWrite)?;
    shared
        .primary
        .write(async |tx| {
            let row = scope::project(tx, &grant, name).await?;
            if row.id == shared.installation.project {
                let detail = "the operators' own project cannot be deleted";
                return Err(
                    Refusal::new(&problem::IN_USE, detail).with_next("delete single operators instead")
                );
            }
            let enrolled = eviction::warpgates(tx, row.id, None, |_| true).await?;
            project::delete(tx, row.organization, row.id).await?;
            shared.evict(tx, &enrolled).await?;
            let detail = serde_json::json!({ "slug": row.slug });
            scope::audit(tx, &grant, &row, "project.delete", &row.id, detail);
            Ok(())
        })
        .await
}
