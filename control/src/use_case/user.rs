//! Users of a project's directory: the people who sign in to what the project publishes.

use std::collections::{BTreeMap, BTreeSet};

use mezusphere_identity::account::{self, Email, NewUser};
use mezusphere_identity::factor::password::{Password, PasswordHash, PasswordTooLong};
use mezusphere_identity::flow::first_sign_in;
use mezusphere_model::document::Status;
use mezusphere_model::identity::Subject;
use mezusphere_model::slug::Name;
use mezusphere_store::primary::project::ProjectRow;
use mezusphere_store::primary::user::{self, UserRow};
use mezusphere_store::primary::{PageRequest, ReadTx, Tx, password, role};

use super::{Paging, scope};
use crate::Shared;
use crate::api::types::{CreateUser, Page, SetPassword, SetRoles, SignInLink, User, UserStatus};
use crate::caller::{Caller, Permission};
use crate::first_start::link_url;
use crate::problem::{self, Refusal};
use crate::publish::PublishError;

async fn view(tx: &mut ReadTx, project: &ProjectRow, row: UserRow) -> Result<User, Refusal> {
    let has_password = password::get(tx, row.directory, row.id).await?.is_some();
    let roles = role::held_by(tx, project.id, Subject::User(row.id)).await?;
    Ok(User {
        id: row.id,
        email: row.email,
        name: row.name,
        status: match row.status {
            Status::Active => UserStatus::Active,
            Status::Suspended => UserStatus::Suspended,
            Status::Deactivated => UserStatus::Deactivated,
        },
        has_password,
        roles,
        created_at: row.created_at.to_string(),
    })
}

/// Users by e-mail address.
pub(crate) async fn list(
    shared: &Shared,
    caller: &Caller,
    project: &str,
    paging: Paging,
) -> Result<Page<User>, Refusal> {
    let grant = caller.allow(Permission::UsersRead)?;
    shared
        .primary
        .read(async |tx| {
            let project = scope::people(tx, &grant, project).await?;
            let paged = user::list(tx, project.directory, &PageRequest::from(paging)).await?;
            let mut items = Vec::with_capacity(paged.rows.len());
            for row in paged.rows {
                items.push(view(tx, &project, row).await?);
            }
            Ok(Page { items, next: paged.next })
        })
        .await
}

/// One user, by id or e-mail address.
pub(crate) async fn show(
    shared: &Shared,
    caller: &Caller,
    project: &str,
    name: &str,
) -> Result<User, Refusal> {
    let grant = caller.allow(Permission::UsersRead)?;
    shared
        .primary
        .read(async |tx| {
            let project = scope::people(tx, &grant, project).await?;
            let row = scope::user(tx, &project, name).await?;
            view(tx, &project, row).await
        })
        .await
}

/// Creates a user.
pub(crate) async fn create(
    shared: &Shared,
    caller: &Caller,
    project: &str,
    request: CreateUser,
) -> Result<User, Refusal> {
    let grant = caller.allow(Permission::UsersWrite)?;
    let email = Email::parse(&request.email)?;
    let name = request.name.unwrap_or_default();
    if !name.is_empty() {
        account::check_name(&name)?;
    }
    // Looked at before the expensive hash: a caller who reaches no such project makes no work.
    shared.primary.read(async |tx| scope::people(tx, &grant, project).await).await?;
    let password = match request.password {
        Some(typed) => Some(hash(shared, typed, vec![email.as_str().to_owned(), name.clone()]).await?),
        None => None,
    };
    shared
        .primary
        .write(async |tx| {
            let project = scope::people(tx, &grant, project).await?;
            let claims = BTreeMap::new();
            let new = NewUser { directory: project.directory, email, name, claims, password };
            let now = tx.now();
            let row = account::create(tx, &shared.entropy, now, new).await?;
            give_roles(tx, &project, Subject::User(row.id), &request.roles).await?;
            let detail = serde_json::json!({ "email": row.email, "roles": request.roles });
            scope::audit(tx, &grant, &project, "user.create", &row.id, detail);
            view(tx, &project, row).await
        })
        .await
}

async fn hash(shared: &Shared, typed: String, about: Vec<String>) -> Result<PasswordHash, Refusal> {
    let typed = Password::new(typed)
        .map_err(|why: PasswordTooLong| Refusal::new(&problem::PASSWORD_REJECTED, why.to_string()))?;
    Ok(shared.passwords.set(typed, about).await?)
}

/// Makes `roles` all that somebody holds in the project.
pub(super) async fn give_roles(
    tx: &mut Tx,
    project: &ProjectRow,
    subject: Subject,
    roles: &[Name],
) -> Result<(), Refusal> {
    let held: BTreeSet<Name> = role::held_by(tx, project.id, subject).await?.into_iter().collect();
    let asked: BTreeSet<Name> = roles.iter().cloned().collect();
    for name in asked.difference(&held) {
        if role::get(tx, project.id, name).await?.is_none() {
            let detail = format!("there is no role {name} in this project");
            let next = format!("define it first with: mezusphere role set {} {name}", project.slug);
            return Err(Refusal::new(&problem::ROLE_UNKNOWN, detail).with_next(next));
        }
        role::grant(tx, project.id, subject, name).await?;
    }
    for name in held.difference(&asked) {
        role::revoke(tx, project.id, subject, name).await?;
    }
    Ok(())
}

/// Particulars of an entry that speaks of a user: ids say nothing once the user is gone.
fn who(row: &UserRow) -> serde_json::Value {
    serde_json::json!({ "email": row.email })
}

/// Makes a one-time link with which a user sets a password and signs in, so that nobody else has to choose it; older
/// ones stop working.
pub(crate) async fn sign_in_link(
    shared: &Shared,
    caller: &Caller,
    project: &str,
    name: &str,
) -> Result<SignInLink, Refusal> {
    let grant = caller.allow(Permission::UsersWrite)?;
    shared
        .primary
        .write(async |tx| {
            let project = scope::people(tx, &grant, project).await?;
            let row = scope::user(tx, &project, name).await?;
            scope::audit(tx, &grant, &project, "user.sign_in_link", &row.id, who(&row));
            link(tx, shared, &row).await
        })
        .await
}

/// A one-time link for a user.
pub(super) async fn link(tx: &mut Tx, shared: &Shared, row: &UserRow) -> Result<SignInLink, Refusal> {
    let now = tx.now();
    let token = first_sign_in::create_link(tx, &shared.entropy, row.directory, row.id, now).await?;
    let url = link_url(&shared.config, &first_sign_in::path(&token)).map_err(PublishError::from)?;
    Ok(SignInLink { url, expires_at: now.after(first_sign_in::LINK_TTL).to_string() })
}

/// Sets a user's password. Every sign-in and session of theirs ends (R12).
pub(crate) async fn set_password(
    shared: &Shared,
    caller: &Caller,
    project: &str,
    name: &str,
    request: SetPassword,
) -> Result<User, Refusal> {
    let grant = caller.allow(Permission::UsersWrite)?;
    let row = shared
        .primary
        .read(async |tx| {
            let project = scope::people(tx, &grant, project).await?;
            scope::user(tx, &project, name).await
        })
        .await?;
    let hash = hash(shared, request.password, vec![row.email.clone(), row.name.clone()]).await?;
    shared
        .primary
        .write(async |tx| {
            let project = scope::people(tx, &grant, project).await?;
            let row = scope::user(tx, &project, name).await?;
            account::set_password(tx, project.directory, row.id, hash).await?;
            scope::audit(tx, &grant, &project, "user.set_password", &row.id, who(&row));
            view(tx, &project, row).await
        })
        .await
}

/// Sets the roles a user holds in this project; edges act on it within seconds (R12).
pub(crate) async fn set_roles(
    shared: &Shared,
    caller: &Caller,
    project: &str,
    name: &str,
    request: &SetRoles,
) -> Result<User, Refusal> {
    let grant = caller.allow(Permission::UsersWrite)?;
    shared
        .primary
        .write(async |tx| {
            let project = scope::people(tx, &grant, project).await?;
            let row = scope::user(tx, &project, name).await?;
            give_roles(tx, &project, Subject::User(row.id), &request.roles).await?;
            let detail = serde_json::json!({ "email": row.email, "roles": request.roles });
            scope::audit(tx, &grant, &project, "user.set_roles", &row.id, detail);
            view(tx, &project, row).await
        })
        .await
}

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
            let project = scope::people(tx, &grant, project).await?;
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
            let project = scope::people(tx, &grant, project).await?;
            let row = scope::user(tx, &project, name).await?;
            user::delete(tx, project.directory, row.id).await?;
            scope::audit(tx, &grant, &project, "user.delete", &row.id, who(&row));
            Ok(())
        })
        .await
}
