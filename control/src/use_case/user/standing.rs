//! Stopping users, letting them act again, and deleting them.

use mezusphere_identity::account;
use mezusphere_model::document::Status;
use mezusphere_store::primary::user;

use super::{view, who};
use crate::Shared;
use crate::api::types::User;
use crate::caller::{Caller, Permission};
use crate::problem::Refusal;
use crate::use_case::scope;

/// Stops a user: every sign-in of theirs ends (R12).
pub(crate) async fn suspend(
    shared: &Shared,
    caller: &Caller,
    project: &str,
    name: &str,
) -> Result<User, Refusal> {
    set_status(shared, caller, project, name, Status::Suspended, "user.suspend").await
}

/// Lets a suspended user act again.
pub(crate) async fn activate(
    shared: &Shared,
    caller: &Caller,
    project: &str,
    name: &str,
) -> Result<User, Refusal> {
    set_status(shared, caller, project, name, Status::Active, "user.activate").await
}

/// Stops a user for good, and keeps what they were: every sign-in of theirs ends (R12).
pub(crate) async fn deactivate(
    shared: &Shared,
    caller: &Caller,
    project: &str,
    name: &str,
) -> Result<User, Refusal> {
    set_status(shared, caller, project, name, Status::Deactivated, "user.deactivate").await
}

async fn set_status(
    shared: &Shared,
    caller: &Caller,
    project: &str,
    name: &str,
    status: Status,
    action: &str,
) -> Result<User, Refusal> {
    let grant = caller.allow(Permission::UsersWrite)?;
    shared
        .primary
        .write(async |tx| {
            let project = scope::accounts(tx, &grant, project).await?;
            let mut row = scope::user(tx, &project, name).await?;
            account::set_status(tx, project.directory, row.id, status).await?;
            scope::audit(tx, &grant, &project, action, &row.id, who(&row));
            row.status = status;
            view(tx, &project, row).await
        })
        .await
}

/// Deletes a user with all sign-ins and sessions.
pub(crate) async fn delete(
    shared: &Shared,
    caller: &Caller,
    project: &str,
    name: &str,
) -> Result<(), Refusal> {
    let grant = caller.allow(Permission::UsersWrite)?;
    shared
        .primary
        .write(async |tx| {
            let project = scope::accounts(tx, &grant, project).await?;
            let row = scope::user(tx, &project, name).await?;
            user::delete(tx, project.directory, row.id).await?;
            scope::audit(tx, &grant, &project, "user.delete", &row.id, who(&row));
            Ok(())
        })
        .await
}
