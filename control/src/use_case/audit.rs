//! The audit log, newest first. Nobody changes it: there is only reading.

use mezusphere_model::id::{OrganizationId, ProjectId};
use mezusphere_store::primary::audit::{self, AuditRow};
use mezusphere_store::primary::{PageRequest, ReadTx};

use super::{Paging, scope};
use crate::Shared;
use crate::api::types::{AuditEntry, Page};
use crate::caller::{Caller, Permission, Reach};
use crate::problem::{self, Refusal};

/// Entries of an organization's log read for one page of a project's, so that a project where nothing happens does
/// not make one request read the whole log; the page may then be short, and its cursor goes on.
const SCANNED_MAX: usize = 5_000;

/// Where the particulars of an entry say what people call its target, best first.
const NAMES: [&str; 7] = ["/email", "/path", "/after/path", "/slug", "/name", "/hostname", "/account"];

/// What people called the target when it happened; it may be gone by now.
fn target_name(detail: &serde_json::Value) -> Option<String> {
    NAMES.iter().find_map(|place| detail.pointer(place)?.as_str()).map(str::to_owned)
}

fn view(row: AuditRow) -> AuditEntry {
    AuditEntry {
        target_name: target_name(&row.entry.detail),
        sequence: row.sequence,
        at: row.at.to_string(),
        actor: row.entry.actor,
        action: row.entry.action,
        target: row.entry.target,
        detail: row.entry.detail,
        project: row.entry.project.map(|id| id.to_string()),
        address: row.entry.address,
    }
}

/// An organization's log; if none is named, the caller's own, which for an operator is the installation's.
pub(crate) async fn list(
    shared: &Shared,
    caller: &Caller,
    organization: Option<&str>,
    paging: Paging,
) -> Result<Page<AuditEntry>, Refusal> {
    let grant = caller.allow(Permission::AuditRead)?;
    check_cursor(&paging)?;
    shared
        .primary
        .read(async |tx| {
            let owner = match (organization, grant.reach()) {
                (Some(name), _) => scope::organization(tx, &grant, name).await?.id,
                (None, Reach::Installation) => shared.installation.organization,
                (None, Reach::Project(own, _)) => own,
            };
            match grant.reach() {
                Reach::Installation => {
                    let paged = audit::list(tx, owner, &PageRequest::from(paging)).await?;
                    Ok(Page { items: paged.rows.into_iter().map(view).collect(), next: paged.next })
                }
                // Other projects of the organization are none of this caller's business.
                Reach::Project(_, own) => of_project(tx, owner, own, paging).await,
            }
        })
        .await
}

/// A project's part of its organization's log.
pub(crate) async fn list_project(
    shared: &Shared,
    caller: &Caller,
    project: &str,
    paging: Paging,
) -> Result<Page<AuditEntry>, Refusal> {
    let grant = caller.allow(Permission::AuditRead)?;
    check_cursor(&paging)?;
    shared
        .primary
        .read(async |tx| {
            let project = scope::project(tx, &grant, project).await?;
            of_project(tx, project.organization, project.id, paging).await
        })
        .await
}

/// A cursor of the log is a number of an entry.
fn check_cursor(paging: &Paging) -> Result<(), Refusal> {
    match paging.after.as_deref().map(str::parse::<u64>) {
        None | Some(Ok(_)) => Ok(()),
        Some(Err(_)) => Err(problem::bad_cursor()),
    }
}

async fn of_project(
    tx: &mut ReadTx,
    organization: OrganizationId,
    project: ProjectId,
    paging: Paging,
) -> Result<Page<AuditEntry>, Refusal> {
    let limit = usize::try_from(paging.limit).unwrap_or(usize::MAX);
    let mut page = PageRequest { after: paging.after, ..PageRequest::first() };
    let (mut items, mut scanned) = (Vec::new(), 0);
    loop {
        let found = audit::list(tx, organization, &page).await?;
        for row in found.rows {
            scanned += 1;
            let sequence = row.sequence;
            if row.entry.project == Some(project) {
                items.push(view(row));
            }
            if items.len() >= limit || scanned >= SCANNED_MAX {
                return Ok(Page { items, next: Some(sequence.to_string()) });
            }
        }
        match found.next {
            Some(next) => page = PageRequest::after(next),
            None => return Ok(Page { items, next: None }),
        }
    }
}
