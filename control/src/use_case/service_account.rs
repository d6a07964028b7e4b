//! Service accounts: a project's machines.

use mezusphere_model::document::Status;
use mezusphere_model::id::ServiceAccountId;
use mezusphere_model::identity::Subject;
use mezusphere_model::slug::Slug;
use mezusphere_store::primary::project::ProjectRow;
use mezusphere_store::primary::service_account::{self, ServiceAccountRow};
use mezusphere_store::primary::{PageRequest, ReadTx, Tx, role};

use super::user::give_roles;
use super::{Paging, scope};
use crate::api::types::{CreateServiceAccount, Page, ServiceAccount, SetRoles};
use crate::caller::{Caller, Grant, Permission};
use crate::problem::Refusal;
use crate::{Shared, eviction};

async fn view(
    tx: &mut ReadTx,
    project: &ProjectRow,
    row: ServiceAccountRow,
) -> Result<ServiceAccount, Refusal> {
    let roles = role::held_by(tx, project.id, Subject::ServiceAccount(row.id)).await?;
    Ok(ServiceAccount { id: row.id, name: row.name, roles, created_at: row.created_at.to_string() })
}

/// A project's service accounts by name.
pub(crate) async fn list(
    shared: &Shared,
    caller: &Caller,
    project: &str,
    paging: Paging,
) -> Result<Page<ServiceAccount>, Refusal> {
    let grant = caller.allow(Permission::KeysRead)?;
    shared
        .primary
        .read(async |tx| {
            let project = scope::project(tx, &grant, project).await?;
            let paged = service_account::list(tx, project.id, &PageRequest::from(paging)).await?;
            let mut items = Vec::with_capacity(paged.rows.len());
            for row in paged.rows {
                items.push(view(tx, &project, row).await?);
            }
            Ok(Page { items, next: paged.next })
        })
        .await
}

/// One, by name or id.
pub(crate) async fn show(
    shared: &Shared,
    caller: &Caller,
    project: &str,
    name: &str,
) -> Result<ServiceAccount, Refusal> {
    let grant = caller.allow(Permission::KeysRead)?;
    shared
        .primary
        .read(async |tx| {
            let project = scope::project(tx, &grant, project).await?;
            let row = scope::service_account(tx, &project, name).await?;
            view(tx, &project, row).await
        })
        .await
}

/// Creates one.
pub(crate) async fn create(
    shared: &Shared,
    caller: &Caller,
    project: &str,
    request: &CreateServiceAccount,
) -> Result<ServiceAccount, Refusal> {
    let grant = caller.allow(Permission::KeysWrite)?;
    shared
        .primary
        .write(async |tx| {
            let project = scope::project(tx, &grant, project).await?;
            let row = insert(tx, shared, &grant, &project, &request.name).await?;
            give_roles(tx, &project, Subject::ServiceAccount(row.id), &request.roles).await?;
            view(tx, &project, row).await
        })
        .await
}

/// Adds an account and notes it.
pub(super) async fn insert(
    tx: &mut Tx,
    shared: &Shared,
    grant: &Grant,
    project: &ProjectRow,
    name: &Slug,
) -> Result<ServiceAccountRow, Refusal> {
    let row = ServiceAccountRow {
        id: ServiceAccountId::random(&shared.entropy),
        project: project.id,
        name: name.to_string(),
        description: String::new(),
        status: Status::Active,
        version: 1,
        created_at: tx.now(),
    };
    service_account::insert(tx, &row).await?;
    let detail = serde_json::json!({ "name": name });
    scope::audit(tx, grant, project, "service_account.create", &row.id, detail);
    Ok(row)
}

/// Sets the roles it holds in its project: what routes ask of it.
pub(crate) async fn set_roles(
    shared: &Shared,
    caller: &Caller,
    project: &str,
    name: &str,
    request: &SetRoles,
) -> Result<ServiceAccount, Refusal> {
    let grant = caller.allow(Permission::KeysWrite)?;
    shared
        .primary
        .write(async |tx| {
            let project = scope::project(tx, &grant, project).await?;
            let row = scope::service_account(tx, &project, name).await?;
            give_roles(tx, &project, Subject::ServiceAccount(row.id), &request.roles).await?;
            let detail = serde_json::json!({ "roles": request.roles });
            scope::audit(tx, &grant, &project, "service_account.set_roles", &row.id, detail);
            view(tx, &project, row).await
        })
        .await
}

/// Deletes it with its keys; tunnels of warpgates that enrolled with them end (R21).
pub(crate) async fn delete(
    shared: &Shared,
    caller: &Caller,
    project: &str,
    name: &str,
) -> Result<(), Refusal> {
    let grant = caller.allow(Permission::KeysWrite)?;
    shared
        .primary
        .write(async |tx| {
            let project = scope::project(tx, &grant, project).await?;
            let row = scope::service_account(tx, &project, name).await?;
            let enrolled = eviction::warpgates(tx, project.id, None, |gate| gate.account == row.id).await?;
            service_account::delete(tx, project.id, row.id).await?;
            shared.evict(tx, &enrolled).await?;
            let detail = serde_json::json!({ "name": row.name });
            scope::audit(tx, &grant, &project, "service_account.delete", &row.id, detail);
            Ok(())
        })
        .await
}
