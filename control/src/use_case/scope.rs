//! Finding tenants' objects by what a caller wrote, as far as the caller's grant reaches, and no further.
//!
//! What is out of reach and what does not exist give the same refusal (R22). Once the tenant is known the transaction is
//! confined to it: a second wall, behind the tenant's id in every query.

use mezusphere_model::id::OrganizationId;
use mezusphere_model::slug::Slug;
use mezusphere_store::primary::audit::AuditEntry;
use mezusphere_store::primary::directory::{self, DirectoryRow};
use mezusphere_store::primary::environment::EnvironmentRow;
use mezusphere_store::primary::organization::OrganizationRow;
use mezusphere_store::primary::project::ProjectRow;
use mezusphere_store::primary::service_account::ServiceAccountRow;
use mezusphere_store::primary::user::UserRow;
use mezusphere_store::primary::{ReadTx, Tx, environment, organization, project, service_account, user};
use serde_json::Value;

use crate::caller::{Grant, Reach};
use crate::problem::{self, Refusal};

/// Longest name that is repeated in a refusal.
const ECHO_LEN_MAX: usize = 80;

/// There is no such object, or none that the caller may know of.
pub(crate) fn not_found(kind: &str, name: &str) -> Refusal {
    // What came in a URL is repeated only if it cannot disturb a terminal or a log.
    let plain =
        !name.is_empty() && name.len() <= ECHO_LEN_MAX && name.bytes().all(|byte| byte.is_ascii_graphic());
    let detail =
        if plain { format!("there is no {kind} {name}") } else { format!("there is no such {kind}") };
    let refusal = Refusal::new(&problem::NOT_FOUND, detail);
    match list_command(kind) {
        Some(command) => refusal.with_next(format!("list what there is: mezusphere {command}")),
        None => refusal,
    }
}

/// The command that lists objects of this kind, where there is one.
fn list_command(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "organization" => "organization list",
        "project" => "project list",
        "environment" => "environment list PROJECT",
        "host" => "host list PROJECT",
        "route" => "route list PROJECT",
        "directory" => "directory list",
        "user" => "user list PROJECT",
        "user invitation" => "user invitations PROJECT",
        "session" => "user sessions PROJECT USER",
        "role" => "role list PROJECT",
        "service account" => "service-account list PROJECT",
        "API key" => "api-key list PROJECT",
        "warpgate" => "warpgate list PROJECT --all",
        "certificate" => "certificate list",
        "edge" => "edge list",
        "invitation" => "edge invitations",
        "operator" => "operator list",
        "mail" => "mail list",
        _ => return None,
    })
}

/// The organization of this slug or id.
pub(crate) async fn organization(
    tx: &mut ReadTx,
    grant: &Grant,
    name: &str,
) -> Result<OrganizationRow, Refusal> {
    let found = match (name.parse(), Slug::parse(name)) {
        (Ok(id), _) => organization::get(tx, id).await?,
        (Err(_), Ok(slug)) => organization::find(tx, &slug).await?,
        (Err(_), Err(_)) => None,
    };
    let reached = |row: &OrganizationRow| match grant.reach() {
        Reach::Installation => true,
        Reach::Project(own, _) => own == row.id,
    };
    found.filter(reached).ok_or_else(|| not_found("organization", name))
}

/// The organization's directory of this name or id.
pub(crate) async fn directory(
    tx: &mut ReadTx,
    organization: OrganizationId,
    name: &str,
) -> Result<DirectoryRow, Refusal> {
    let found = match name.parse() {
        Ok(id) => directory::get(tx, organization, id).await?,
        Err(_) => directory::find(tx, organization, name).await?,
    };
    found.ok_or_else(|| not_found("directory", name))
}

/// The same, if any project of the organization may use it.
pub(crate) async fn shared_directory(
    tx: &mut ReadTx,
    organization: OrganizationId,
    name: &str,
) -> Result<DirectoryRow, Refusal> {
    let found = directory(tx, organization, name).await?;
    if found.project.is_none() {
        return Ok(found);
    }
    let detail = format!("the directory {} serves one project alone", found.name);
    Err(Refusal::new(&problem::DIRECTORY_INVALID, detail)
        .with_next("make one that projects share: mezusphere directory create NAME"))
}

/// The project of this slug or id. Confines the transaction to it.
pub(crate) async fn project(tx: &mut ReadTx, grant: &Grant, name: &str) -> Result<ProjectRow, Refusal> {
    let row = reached(tx, grant, name).await?;
    tx.confine(row.organization, Some(row.id)).await?;
    Ok(row)
}

/// The same for work on its users. Confines the transaction to its organization: a user's sessions and roles are in
/// every project of the directory.
pub(crate) async fn people(tx: &mut ReadTx, grant: &Grant, name: &str) -> Result<ProjectRow, Refusal> {
    let row = reached(tx, grant, name).await?;
    tx.confine(row.organization, None).await?;
    Ok(row)
}

/// The same for work on accounts, which concern every project their directory serves: a caller who reaches one project
/// alone may not touch them if others share the directory.
pub(crate) async fn accounts(tx: &mut ReadTx, grant: &Grant, name: &str) -> Result<ProjectRow, Refusal> {
    let row = people(tx, grant, name).await?;
    may_govern(tx, grant, &row).await?;
    Ok(row)
}

/// Whether the caller's reach covers all that the project's directory serves.
async fn may_govern(tx: &mut ReadTx, grant: &Grant, row: &ProjectRow) -> Result<DirectoryRow, Refusal> {
    let found = directory::get(tx, row.organization, row.directory).await?;
    let found = found.ok_or_else(|| not_found("directory", ""))?;
    if found.project.is_some() || grant.reach() == Reach::Installation {
        return Ok(found);
    }
    let detail = format!("{} shares its directory {} with other projects", row.slug, found.name);
    Err(Refusal::new(&problem::DIRECTORY_SHARED, detail))
}

/// The directory of a project, for a change of what it allows. Confines the transaction to the organization.
pub(crate) async fn governed_directory(
    tx: &mut ReadTx,
    grant: &Grant,
    project: &str,
) -> Result<DirectoryRow, Refusal> {
    let row = people(tx, grant, project).await?;
    may_govern(tx, grant, &row).await
}

async fn reached(tx: &mut ReadTx, grant: &Grant, name: &str) -> Result<ProjectRow, Refusal> {
    let found = match (name.parse(), Slug::parse(name)) {
        (Ok(id), _) => project::get(tx, id).await?,
        (Err(_), Ok(slug)) => project::find(tx, &slug).await?,
        (Err(_), Err(_)) => None,
    };
    found.filter(|row| grant.reaches(row.organization, row.id)).ok_or_else(|| not_found("project", name))
}

/// The project's environment of this slug or id.
pub(crate) async fn environment(
    tx: &mut ReadTx,
    project: &ProjectRow,
    name: &str,
) -> Result<EnvironmentRow, Refusal> {
    let found = match (name.parse(), Slug::parse(name)) {
        (Ok(id), _) => environment::get(tx, project.id, id).await?,
        (Err(_), Ok(slug)) => environment::find(tx, project.id, &slug).await?,
        (Err(_), Err(_)) => None,
    };
    found.ok_or_else(|| not_found("environment", name))
}

/// The user of the project's directory with this id or e-mail address.
pub(crate) async fn user(tx: &mut ReadTx, project: &ProjectRow, name: &str) -> Result<UserRow, Refusal> {
    let found = match name.parse() {
        Ok(id) => user::get(tx, project.directory, id).await?,
        Err(_) => user::find(tx, project.directory, name).await?,
    };
    found.ok_or_else(|| not_found("user", name))
}

/// The project's service account of this name or id.
pub(crate) async fn service_account(
    tx: &mut ReadTx,
    project: &ProjectRow,
    name: &str,
) -> Result<ServiceAccountRow, Refusal> {
    let found = match name.parse() {
        Ok(id) => service_account::get(tx, project.id, id).await?,
        Err(_) => service_account::find(tx, project.id, name).await?,
    };
    found.ok_or_else(|| not_found("service account", name))
}

/// Notes what the grant's holder did in a project.
pub(crate) fn audit(
    tx: &mut Tx,
    grant: &Grant,
    project: &ProjectRow,
    action: &str,
    target: &impl ToString,
    detail: Value,
) {
    tx.audit(AuditEntry {
        organization: project.organization,
        project: Some(project.id),
        actor: grant.actor().to_owned(),
        action: action.to_owned(),
        target: target.to_string(),
        address: grant.address().map(|address| address.to_string()),
        detail,
    });
}
