//! Directories: what they allow and look like, and those that projects of an organization share.

mod setting;

use mezusphere_model::id::{DirectoryId, OrganizationId};
use mezusphere_store::primary::audit::AuditEntry;
use mezusphere_store::primary::directory::{self, DirectoryRow, Settings, SignUp as Policy};
use mezusphere_store::primary::{PageRequest, ReadTx, Tx};
use serde_json::Value;

use super::{Paging, scope};
use crate::Shared;
use crate::api::types::{Change, CreateDirectory, Directory, DirectoryChanges, LogoInfo, Page, SignUp};
use crate::caller::{Caller, Grant, Permission};
use crate::problem::{self, Refusal};

async fn view(tx: &mut ReadTx, row: DirectoryRow) -> Result<Directory, Refusal> {
    let users = directory::count_users(tx, row.id).await?;
    let served = directory::projects(tx, row.organization, row.id, &PageRequest::first()).await?;
    let Settings { sign_up, sessions, brand, mail } = row.settings;
    let (sign_up, domains) = match sign_up {
        Policy::Closed => (SignUp::Closed, vec![]),
        Policy::Invitation => (SignUp::Invitation, vec![]),
        Policy::Domains(domains) => (SignUp::Domains, domains),
        Policy::Open => (SignUp::Open, vec![]),
    };
    Ok(Directory {
        id: row.id,
        name: row.name,
        organization: row.organization,
        shared: row.project.is_none(),
        projects: served.rows.into_iter().map(|project| project.slug).collect(),
        users,
        sign_up,
        domains,
        session_absolute_s: sessions.map(|limits| limits.absolute_s),
        session_idle_s: sessions.map(|limits| limits.idle_s),
        brand_name: brand.name,
        colour: brand.colour,
        logo: brand
            .logo
            .map(|mark| LogoInfo { media_type: mark.media_type.as_str().to_owned(), digest: mark.digest }),
        support: brand.support,
        mail_from_name: mail.from_name,
        mail_reply_to: mail.reply_to,
        created_at: row.created_at.to_string(),
    })
}

/// An organization's directories, by name.
pub(crate) async fn list(
    shared: &Shared,
    caller: &Caller,
    organization: &str,
    paging: Paging,
) -> Result<Page<Directory>, Refusal> {
    let grant = caller.allow(Permission::InstallationRead)?;
    shared
        .primary
        .read(async |tx| {
            let owner = owner(tx, shared, &grant, organization).await?;
            let paged = directory::list(tx, owner, &PageRequest::from(paging)).await?;
            let mut items = Vec::with_capacity(paged.rows.len());
            for row in paged.rows {
                items.push(view(tx, row).await?);
            }
            Ok(Page { items, next: paged.next })
        })
        .await
}

/// One directory of an organization, by name or id.
pub(crate) async fn show(
    shared: &Shared,
    caller: &Caller,
    organization: &str,
    name: &str,
) -> Result<Directory, Refusal> {
    let grant = caller.allow(Permission::InstallationRead)?;
    shared
        .primary
        .read(async |tx| {
            let owner = owner(tx, shared, &grant, organization).await?;
            let row = scope::directory(tx, owner, name).await?;
            view(tx, row).await
        })
        .await
}

/// Where a project's users live.
pub(crate) async fn of_project(
    shared: &Shared,
    caller: &Caller,
    project: &str,
) -> Result<Directory, Refusal> {
    let grant = caller.allow(Permission::UsersRead)?;
    shared
        .primary
        .read(async |tx| {
            let row = scope::people(tx, &grant, project).await?;
            let found = directory::get(tx, row.organization, row.directory).await?;
            let mut seen = view(tx, found.ok_or_else(|| scope::not_found("directory", ""))?).await?;
            // Which other projects there are is not for who reaches this one alone.
            seen.projects
                .retain(|slug| *slug == row.slug || grant.reach() == crate::caller::Reach::Installation);
            Ok(seen)
        })
        .await
}

/// Creates one that the projects of an organization share.
pub(crate) async fn create(
    shared: &Shared,
    caller: &Caller,
    organization: &str,
    request: CreateDirectory,
) -> Result<Directory, Refusal> {
    let grant = caller.allow(Permission::InstallationWrite)?;
    shared
        .primary
        .write(async |tx| {
            let organization = owner(tx, shared, &grant, organization).await?;
            let row = DirectoryRow {
                id: DirectoryId::random(&shared.entropy),
                organization,
                project: None,
                name: request.name.to_string(),
                settings: Settings::default(),
                created_at: tx.now(),
            };
            directory::insert(tx, &row).await?;
            audit(tx, &grant, &row, "directory.create", serde_json::json!({ "name": row.name }));
            view(tx, row).await
        })
        .await
}

/// Changes settings of one directory of an organization.
pub(crate) async fn change(
    shared: &Shared,
    caller: &Caller,
    organization: &str,
    name: &str,
    changes: DirectoryChanges,
) -> Result<Directory, Refusal> {
    let grant = caller.allow(Permission::InstallationWrite)?;
    let directory = shared
        .primary
        .write(async |tx| {
            let owner = owner(tx, shared, &grant, organization).await?;
            let row = scope::directory(tx, owner, name).await?;
            apply(tx, shared, &grant, row, changes).await
        })
        .await?;
    shared.limits.notify_one();
    Ok(directory)
}

/// Changes settings of the directory a project uses.
pub(crate) async fn change_of_project(
    shared: &Shared,
    caller: &Caller,
    project: &str,
    changes: DirectoryChanges,
) -> Result<Directory, Refusal> {
    let grant = caller.allow(Permission::ProjectsWrite)?;
    let directory = shared
        .primary
        .write(async |tx| {
            let row = scope::governed_directory(tx, &grant, project).await?;
            apply(tx, shared, &grant, row, changes).await
        })
        .await?;
    shared.limits.notify_one();
    Ok(directory)
}

async fn apply(
    tx: &mut Tx,
    shared: &Shared,
    grant: &Grant,
    mut row: DirectoryRow,
    changes: DirectoryChanges,
) -> Result<Directory, Refusal> {
    let installation = shared.config.session;
    let (settings, logo) = setting::applied(&row.settings, changes, installation)?;
    if row.id == shared.installation.directory && settings.sign_up != Policy::Closed {
        let detail = "sign_up: the operators' own directory stays closed";
        return Err(Refusal::new(&problem::DIRECTORY_INVALID, detail)
            .with_next("add an operator on the server: mezusphere operator --help"));
    }
    directory::update_settings(tx, row.organization, row.id, &settings).await?;
    match logo {
        Change::Keep => {}
        Change::Clear => directory::set_logo(tx, row.organization, row.id, None).await?,
        Change::Set(logo) => directory::set_logo(tx, row.organization, row.id, Some(&logo)).await?,
    }
    let before = std::mem::take(&mut row.settings);
    let row = scope::directory(tx, row.organization, &row.id.to_string()).await?;
    let detail = serde_json::json!({
        "name": row.name, "changed": setting::differences(&before, &row.settings),
    });
    audit(tx, grant, &row, "directory.set", detail);
    view(tx, row).await
}

/// Removes one that no project uses, with its users.
pub(crate) async fn delete(
    shared: &Shared,
    caller: &Caller,
    organization: &str,
    name: &str,
) -> Result<(), Refusal> {
    let grant = caller.allow(Permission::InstallationWrite)?;
    shared
        .primary
        .write(async |tx| {
            let owner = owner(tx, shared, &grant, organization).await?;
            let row = scope::directory(tx, owner, name).await?;
            let served = directory::projects(tx, owner, row.id, &PageRequest::first()).await?;
            if let Some(project) = served.rows.first() {
                let detail = format!("the project {} uses the directory {}", project.slug, row.name);
                return Err(Refusal::new(&problem::IN_USE, detail)
                    .with_next("delete the projects that use it first, or keep it"));
            }
            directory::delete(tx, owner, row.id).await?;
            audit(tx, &grant, &row, "directory.delete", serde_json::json!({ "name": row.name }));
            Ok(())
        })
        .await
}

/// Stands for the installation's own organization where one is named; no slug is like it.
const OWN: &str = "-";

/// The organization of this slug or id. Confines the transaction to it.
async fn owner(
    tx: &mut ReadTx,
    shared: &Shared,
    grant: &Grant,
    name: &str,
) -> Result<OrganizationId, Refusal> {
    let id = match name {
        OWN => shared.installation.organization,
        name => scope::organization(tx, grant, name).await?.id,
    };
    tx.confine(id, None).await?;
    Ok(id)
}

fn audit(tx: &mut Tx, grant: &Grant, row: &DirectoryRow, action: &str, detail: Value) {
    tx.audit(AuditEntry {
        organization: row.organization,
        project: row.project,
        actor: grant.actor().to_owned(),
        action: action.to_owned(),
        target: row.id.to_string(),
        address: grant.address().map(|address| address.to_string()),
        detail,
    });
}
