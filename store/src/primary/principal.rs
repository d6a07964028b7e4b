//! Principals: what can change about somebody while they are signed in, derived from rows and published.
//!
//! A user's principal is on a project's feed from their first session there until their last one is pruned;
//! a service account's from its first key until it is deleted. While it is there, every change of what it says
//! publishes it anew, with a higher version.

use std::collections::BTreeMap;

use mezusphere_model::Timestamp;
use mezusphere_model::document::{Document, DocumentKey, Partition, PrincipalDoc};
use mezusphere_model::id::ProjectId;
use mezusphere_model::identity::Subject;
use mezusphere_model::slug::Name;

use super::value::{Row, args};
use super::{ReadTx, StoreError, Tx, WriteError, role, user};

/// Permissions of one principal: every permission of every role.
const PERMISSIONS_MAX: usize = role::ROLES_MAX * role::PERMISSIONS_MAX;

/// Somebody's principal in a project, as the rows say now. `None`: they cannot be in this project.
pub async fn load(
    tx: &mut ReadTx,
    project: ProjectId,
    subject: Subject,
) -> Result<Option<PrincipalDoc>, StoreError> {
    let row = match subject {
        Subject::User(user) => {
            tx.row(
                "SELECT u.* FROM users u JOIN projects p ON p.directory = u.directory
                 WHERE p.id = $1 AND u.id = $2",
                args![project, user],
            )
            .await?
        }
        Subject::ServiceAccount(account) => {
            tx.row("SELECT * FROM service_accounts WHERE project = $1 AND id = $2", args![project, account])
                .await?
        }
    };
    match row {
        Some(row) => {
            let roles = role::held_by(tx, project, subject).await?;
            let permissions = permissions(tx, project, subject).await?;
            document(project, subject, &row, roles, permissions).map(Some)
        }
        None => Ok(None),
    }
}

fn document(
    project: ProjectId,
    subject: Subject,
    row: &Row,
    mut roles: Vec<Name>,
    mut permissions: Vec<Name>,
) -> Result<PrincipalDoc, StoreError> {
    // The database's order is its collation's; the documents promise ours.
    roles.sort();
    permissions.sort();
    let (email, name, claims, sessions_valid_from) = match subject {
        Subject::User(_) => {
            let user = user::read(row)?;
            let name = user.shown_name().to_owned();
            (user.email, name, user.claims, user.sessions_valid_from)
        }
        Subject::ServiceAccount(_) => {
            (String::default(), row.get("name")?, BTreeMap::default(), Timestamp::default())
        }
    };
    Ok(PrincipalDoc {
        subject,
        project,
        status: row.get("status")?,
        email,
        name,
        roles,
        permissions,
        claims,
        version: row.get("version")?,
        sessions_valid_from,
    })
}

// CROSS JOIN, because SQLite then takes the tables in the order written: first the few roles somebody holds.
async fn permissions(tx: &mut ReadTx, project: ProjectId, subject: Subject) -> Result<Vec<Name>, StoreError> {
    let rows = match subject {
        Subject::User(user) => {
            tx.rows(
                "SELECT DISTINCT r.permission FROM user_roles g CROSS JOIN role_permissions r
                 WHERE g.project = $1 AND g.user_id = $2 AND r.project = g.project AND r.role = g.role
                 LIMIT $3",
                args![project, user, PERMISSIONS_MAX],
            )
            .await?
        }
        Subject::ServiceAccount(account) => {
            tx.rows(
                "SELECT DISTINCT r.permission FROM service_account_roles g CROSS JOIN role_permissions r
                 WHERE g.project = $1 AND g.account = $2 AND r.project = g.project AND r.role = g.role
                 LIMIT $3",
                args![project, account, PERMISSIONS_MAX],
            )
            .await?
        }
    };
    rows.iter().map(|row| row.get("permission")).collect()
}

/// Publishes somebody's principal in a project and returns it.
pub async fn publish(tx: &mut Tx, project: ProjectId, subject: Subject) -> Result<PrincipalDoc, WriteError> {
    let what = match subject {
        Subject::User(_) => "user",
        Subject::ServiceAccount(_) => "service account",
    };
    let doc = load(tx, project, subject).await?.ok_or(WriteError::NotFound { what })?;
    tx.publish(Partition::Project(project), &Document::Principal(doc.clone()))?;
    Ok(doc)
}

/// Publishes somebody's principal in a project unless it is published: what is there is always the newest.
pub(super) async fn publish_once(
    tx: &mut Tx,
    project: ProjectId,
    subject: Subject,
) -> Result<(), WriteError> {
    if !is_published(tx, project, subject).await? {
        publish(tx, project, subject).await?;
    }
    Ok(())
}

/// Something about somebody has changed that holds in every project.
pub(super) async fn changed(tx: &mut Tx, subject: Subject) -> Result<(), WriteError> {
    tx.need_whole_organization()?;
    raise(tx, subject).await?;
    let key = DocumentKey::principal(subject);
    let rows =
        tx.rows("SELECT partition FROM feed_entries WHERE key = $1 AND is_current = 1", args![&key]).await?;
    let mut partitions = tx.pending.partitions();
    for row in &rows {
        partitions.push(row.get("partition")?);
    }
    partitions.sort_unstable();
    partitions.dedup();
    for partition in partitions {
        if let Partition::Project(project) = partition {
            refresh(tx, project, vec![subject]).await?;
        }
    }
    Ok(())
}

/// Something about somebody has changed that holds in one project.
pub(super) async fn changed_in(tx: &mut Tx, project: ProjectId, subject: Subject) -> Result<(), WriteError> {
    raise(tx, subject).await?;
    refresh(tx, project, vec![subject]).await
}

/// Publishes anew, or retracts, those principals that are published in a project.
pub(super) async fn refresh(
    tx: &mut Tx,
    project: ProjectId,
    subjects: Vec<Subject>,
) -> Result<(), WriteError> {
    for subject in subjects {
        if !is_published(tx, project, subject).await? {
            continue;
        }
        let partition = Partition::Project(project);
        match load(tx, project, subject).await? {
            Some(doc) => tx.publish(partition, &Document::Principal(doc))?,
            None => tx.retract(partition, DocumentKey::principal(subject))?,
        }
    }
    Ok(())
}

/// Raises the version of everybody who holds a role, and tells whose principals may have to be published anew.
pub(super) async fn raise_holders(
    tx: &mut Tx,
    project: ProjectId,
    role: &Name,
) -> Result<Vec<Subject>, WriteError> {
    tx.execute(
        "UPDATE users SET version = version + 1
         WHERE id IN (SELECT user_id FROM user_roles WHERE project = $1 AND role = $2)",
        args![project, role],
    )
    .await?;
    tx.execute(
        "UPDATE service_accounts SET version = version + 1
         WHERE id IN (SELECT account FROM service_account_roles WHERE project = $1 AND role = $2)",
        args![project, role],
    )
    .await?;
    let partition = Partition::Project(project);
    let rows = tx
        .rows(
            "SELECT holder FROM (
                 SELECT user_id AS holder FROM user_roles WHERE project = $1 AND role = $2
                 UNION ALL
                 SELECT account AS holder FROM service_account_roles WHERE project = $1 AND role = $2
             ) AS holders
             JOIN feed_entries f ON f.partition = $3 AND f.key = 'principal/' || holder AND f.is_current = 1",
            args![project, role, partition],
        )
        .await?;
    let published = rows.iter().map(|row| row.get("holder")).collect::<Result<Vec<Subject>, _>>()?;
    let pending =
        tx.pending.keys(partition).filter_map(|key| key.as_str().strip_prefix("principal/")?.parse().ok());
    Ok(published.into_iter().chain(pending).collect())
}

async fn raise(tx: &mut Tx, subject: Subject) -> Result<(), StoreError> {
    match subject {
        Subject::User(user) => {
            tx.execute("UPDATE users SET version = version + 1 WHERE id = $1", args![user]).await?
        }
        Subject::ServiceAccount(account) => {
            tx.execute("UPDATE service_accounts SET version = version + 1 WHERE id = $1", args![account])
                .await?
        }
    };
    Ok(())
}

async fn is_published(tx: &mut Tx, project: ProjectId, subject: Subject) -> Result<bool, StoreError> {
    let (partition, key) = (Partition::Project(project), DocumentKey::principal(subject));
    if let Some(state) = tx.pending.state_of(partition, &key) {
        return Ok(state);
    }
    let row = tx
        .row(
            "SELECT 1 AS one FROM feed_entries
             WHERE partition = $1 AND key = $2 AND is_current = 1 AND body IS NOT NULL",
            args![partition, &key],
        )
        .await?;
    Ok(row.is_some())
}
