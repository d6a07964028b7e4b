//! Roles of a project and what they permit. The words are the project's own: routes ask for them, workloads read them.

use mezusphere_model::slug::Name;
use mezusphere_store::primary::project::ProjectRow;
use mezusphere_store::primary::role::{self, RoleRow};
use mezusphere_store::primary::{ReadTx, environment, route};

use super::scope;
use crate::Shared;
use crate::api::types::{Page, PutRole, Role};
use crate::caller::{Caller, Permission};
use crate::problem::{self, Refusal};

/// The rule for names of roles, as a next step.
const ROLE_RULE: &str = "choose a name of 1 to 64 letters, digits and . _ : / -";

/// Most routes named in a refusal; the rest are counted.
const ROUTES_TOLD_MAX: usize = 5;

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
        .map_err(|why| Refusal::new(&problem::NAME_INVALID, format!("role: {why}")).with_next(ROLE_RULE))?;
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

/// Removes a role and takes it from everybody. Refused while routes need it, unless `force`: they would let nobody in
/// by it any more.
pub(crate) async fn delete(
    shared: &Shared,
    caller: &Caller,
    project: &str,
    name: &str,
    force: bool,
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
            let needed = needed_by(tx, &project, &name).await?;
            if !needed.is_empty() && !force {
                let detail = format!("role {name} is needed by {}", some_of(&needed));
                return Err(Refusal::new(&problem::IN_USE, detail).with_next(
                    "change or remove these routes first, or delete it with --force (?force=true): \
                     then nobody enters them by it",
                ));
            }
            role::delete(tx, project.id, &name).await?;
            let detail = serde_json::json!({ "needed_by": needed });
            scope::audit(tx, &grant, &project, "role.delete", &name, detail);
            Ok(())
        })
        .await
}

/// Routes of the project that ask for this role: `/account/* (production)`.
async fn needed_by(tx: &mut ReadTx, project: &ProjectRow, role: &Name) -> Result<Vec<String>, Refusal> {
    let mut needed = Vec::new();
    for environment in environment::list(tx, project.id).await? {
        for row in route::list(tx, project.id, environment.id).await? {
            let require = &row.doc.require;
            if require.any_role.contains(role) || require.all_roles.contains(role) {
                needed.push(format!("{} ({})", row.doc.path, environment.slug));
            }
        }
    }
    Ok(needed)
}

/// The first few, and how many more there are.
fn some_of(routes: &[String]) -> String {
    let told = routes.iter().take(ROUTES_TOLD_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    match routes.len().saturating_sub(ROUTES_TOLD_MAX) {
        0 => told,
        more => format!("{told} and {more} more"),
    }
}
