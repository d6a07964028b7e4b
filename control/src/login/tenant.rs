//! Whose a directory is: a sign-in names its directory only, and the login host serves all of them.

use mezusphere_model::id::DirectoryId;
use mezusphere_store::StoreError;
use mezusphere_store::primary::directory::DirectoryRow;
use mezusphere_store::primary::project::ProjectRow;
use mezusphere_store::primary::session::{self, SessionRow};
use mezusphere_store::primary::sign_in::SignInRow;
use mezusphere_store::primary::{PageRequest, ReadTx, directory, organization, project};

/// The directory of a sign-in or link somebody holds; the row says which organization it belongs to.
pub(super) async fn directory(tx: &mut ReadTx, id: DirectoryId) -> Result<Option<DirectoryRow>, StoreError> {
    let mut page = PageRequest::first();
    loop {
        let organizations = organization::list(tx, &page).await?;
        for organization in organizations.rows {
            if let Some(row) = directory::get(tx, organization.id, id).await? {
                return Ok(Some(row));
            }
        }
        let Some(next) = organizations.next else { return Ok(None) };
        page = PageRequest::after(next);
    }
}

/// Whose accounts a directory holds, for people: its project's name as that project has it now.
pub(super) async fn name(tx: &mut ReadTx, directory: &DirectoryRow) -> Result<String, StoreError> {
    let project = match directory.project {
        Some(id) => project::get(tx, id).await?,
        None => None,
    };
    Ok(project.map_or_else(|| directory.name.clone(), |project| project.name))
}

/// The sessions of a sign-in that have not ended, in the projects its directory serves.
pub(super) async fn sessions(
    tx: &mut ReadTx,
    directory: &DirectoryRow,
    sign_in: &SignInRow,
) -> Result<Vec<SessionRow>, StoreError> {
    let projects = project::list(tx, directory.organization, &PageRequest::first()).await?.rows;
    let mut found = Vec::new();
    for ProjectRow { id, .. } in projects.into_iter().filter(|row| row.directory == directory.id) {
        let sessions = session::list(tx, id, sign_in.user, &PageRequest::first()).await?.rows;
        found.extend(sessions.into_iter().filter(|row| row.doc.sign_in == sign_in.id));
    }
    found.sort_by(|a, b| a.doc.host.cmp(&b.doc.host));
    Ok(found)
}
