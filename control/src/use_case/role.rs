//! Roles of a project and what they permit. The words are the project's own: routes ask for them, workloads read them.

use mezusphere_model::slug::Name;
use mezusphere_store::primary::role::{self, RoleRow};

use super::scope;
use crate::Shared;
use crate::api::types::{Page, PutRole, Role};
use crate::caller::{Caller, Permission};
use crate::problem::Refusal;

fn view(row: RoleRow) -> Role {
    Role { name: row.name, permissions: row.permissions, created_at: row.created_at.to_string() }
}

/// A project's roles by name. There are few, so they come in one page.
pub(crate) async fn list(shared: &Shared, caller: &Caller, project: &str) -> Result<Page<Role>, Refusal> {
    let grant = caller.allow(Permission::UsersRead)?;
    shared
        .primary
        .read(async |tx| {
            let project = scope::project(tx, &grant, project).await?;
            let rows = role::list(tx, project.id).await?;
            Ok(Page { items: rows.into_iter().map(view).collect(), next: None })
        })
        .await
}

/// One role.
pub(crate) async fn show(
    shared: &Shared,
    caller: &Caller,
    project: &str,
    name: &str,
) -> Result<Role, Refusal> {
    let grant = caller.allow(Permission::UsersRead)?;
    shared
        .primary
        .read(async |tx| {
            let project = scope::project(tx, &grant, project).await?;
            let name = Name::parse(name).map_err(|_| scope::not_found("role", name))?;
            let row = role::get(tx, project.id, &name).await?;
            row.map(view).ok_or_else(|| scope::not_found("role", name.as_str()))
        })
        .await
}

/// Creates a role, or replaces what it permits for everybody who holds it.
pub(crate) async fn put(
    shared: &Shared,
    caller: &Caller,
    project: &str,
    name: &str,
    request: PutRole,
) -> Result<Role, Refusal> {
    let grant = caller.allow(Permission::RolesWrite)?;
    let name = Name::parse(name)
        .map_err(|why| Refusal::new(&crate::problem::NAME_INVALID, format!("role: {why}")))?;
    let mut permissions = request.permissions;
    permissions.sort();
    permissions.dedup();
    shared
        .primary
        .write(async |tx| {
            let project = scope::project(tx, &grant, project).await?;
            let detail = serde_json::json!({ "permissions": permissions });
            let row = if let Some(mut row) = role::get(tx, project.id, &name).await? {
                role::update(tx, project.id, &name, &row.description, &permissions).await?;
                row.permissions = permissions;
                row
            } else {
                let description = String::new();
                let row =
                    RoleRow { project: project.id, name, description, permissions, created_at: tx.now() };
                role::insert(tx, &row).await?;
                row
            };
            scope::audit(tx, &grant, &project, "role.set", &row.name, detail);
            Ok(view(row))
        })
        .await
}

/// Removes a role and takes it from everybody.
pub(crate) async fn delete(
    shared: &Shared,
    caller: &Caller,
    project: &str,
    name: &str,
) -> Result<(), Refusal> {
    let grant = caller.allow(Permission::RolesWrite)?;
    shared
        .primary
        .write(async |tx| {
            let project = scope::project(tx, &grant, project).await?;
            let name = Name::parse(name).map_err(|_| scope::not_found("role", name))?;
            if role::get(tx, project.id, &name).await?.is_none() {
                return Err(scope::not_found("role", name.as_str()));
            }
            role::delete(tx, project.id, &name).await?;
            scope::audit(tx, &grant, &project, "role.delete", &name, serde_json::Value::Null);
            Ok(())
        })
        .await
}
