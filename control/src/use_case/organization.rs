//! Organizations: who owns projects.

use mezusphere_model::id::OrganizationId;
use mezusphere_store::primary::PageRequest;
use mezusphere_store::primary::audit::AuditEntry;
use mezusphere_store::primary::organization::{self, OrganizationRow};

use super::environment::bad_slug;
use super::{Paging, scope};
use crate::Shared;
use crate::api::types::{CreateOrganization, Organization, Page};
use crate::caller::{Caller, Permission, Reach};
use crate::problem::Refusal;

fn view(row: OrganizationRow) -> Organization {
    Organization { id: row.id, slug: row.slug, name: row.name, created_at: row.created_at.to_string() }
}

/// Organizations the caller reaches, by slug.
pub(crate) async fn list(
    shared: &Shared,
    caller: &Caller,
    paging: Paging,
) -> Result<Page<Organization>, Refusal> {
    let grant = caller.allow(Permission::ProjectsRead)?;
    let paged = shared
        .primary
        .read(async |tx| match grant.reach() {
            Reach::Installation => organization::list(tx, &PageRequest::from(paging)).await,
            Reach::Project(own, _) => {
                let rows = organization::get(tx, own).await?.into_iter().collect();
                Ok(mezusphere_store::primary::Paged { rows, next: None })
            }
        })
        .await?;
    Ok(Page { items: paged.rows.into_iter().map(view).collect(), next: paged.next })
}

/// One organization.
pub(crate) async fn show(shared: &Shared, caller: &Caller, name: &str) -> Result<Organization, Refusal> {
    let grant = caller.allow(Permission::ProjectsRead)?;
    shared.primary.read(async |tx| scope::organization(tx, &grant, name).await.map(view)).await
}

/// Creates one.
pub(crate) async fn create(
    shared: &Shared,
    caller: &Caller,
    request: CreateOrganization,
) -> Result<Organization, Refusal> {
    let grant = caller.allow(Permission::InstallationWrite)?;
    request.slug.check_free().map_err(bad_slug)?;
    let name = match &request.name {
        Some(name) => mezusphere_identity::account::check_name(name)?.to_owned(),
        None => request.slug.to_string(),
    };
    shared
        .primary
        .write(async |tx| {
            let row = OrganizationRow {
                id: OrganizationId::random(&shared.entropy),
                slug: request.slug,
                name,
                created_at: tx.now(),
            };
            organization::insert(tx, &row).await?;
            tx.audit(AuditEntry {
                organization: row.id,
                project: None,
                actor: grant.actor().to_owned(),
                action: "organization.create".to_owned(),
                target: row.id.to_string(),
                address: grant.address().map(|address| address.to_string()),
                detail: serde_json::json!({ "slug": row.slug }),
            });
            Ok(view(row))
        })
        .await
}
