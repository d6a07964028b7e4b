//! Users of a project's directory: the people who sign in to what the project publishes.
//!
//! Where they are signed in is in [`sessions`], stopping them in [`standing`]; asking them in is [`invitation`]'s, very many at
//! once are [`import`]'s.

mod claims;
pub(crate) mod import;
pub(crate) mod invitation;
pub(crate) mod sessions;
mod standing;

use std::collections::BTreeSet;

use mezusphere_identity::account::{self, Email, NewUser};
use mezusphere_identity::factor::password::{Password, PasswordHash, PasswordTooLong};
use mezusphere_identity::flow::first_sign_in;
use mezusphere_identity::sign_in::Place;
use mezusphere_model::document::Status;
use mezusphere_model::identity::Subject;
use mezusphere_model::slug::Name;
use mezusphere_store::primary::project::ProjectRow;
use mezusphere_store::primary::user::{self, Standing, UserChange, UserQuery, UserRow};
use mezusphere_store::primary::{PageRequest, ReadTx, Tx, role};

pub(crate) use self::standing::{activate, deactivate, delete, suspend};
use super::{Paging, scope};
use crate::Shared;
use crate::api::types::{
    CreateUser, Page, SetPassword, SetRoles, SignInLink, UpdateUser, User, UserListQuery, UserStatus,
};
use crate::caller::{Caller, Permission};
use crate::first_start::link_url;
use crate::problem::{self, Refusal};
use crate::publish::PublishError;

/// Longest search, in octets.
const SEARCH_LEN_MAX: usize = 200;

async fn view(tx: &mut ReadTx, project: &ProjectRow, row: UserRow) -> Result<User, Refusal> {
    let mut all = views(tx, project, vec![row]).await?;
    all.pop().ok_or_else(|| scope::not_found("user", ""))
}

async fn views(tx: &mut ReadTx, project: &ProjectRow, rows: Vec<UserRow>) -> Result<Vec<User>, Refusal> {
    let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
    let mut standing = user::standing(tx, project.id, &ids).await?;
    let view = |row: UserRow| {
        let Standing { roles, has_password } = standing.remove(&row.id).unwrap_or_default();
        User {
            id: row.id,
            email: row.email,
            name: row.name,
            display_name: row.display_name,
            status: match row.status {
                Status::Active => UserStatus::Active,
                Status::Suspended => UserStatus::Suspended,
                Status::Deactivated => UserStatus::Deactivated,
            },
            has_password,
            verified: row.email_verified_at.is_some(),
            claims: row.claims,
            roles,
            signed_in_at: row.signed_in_at.map(|at| at.to_string()),
            created_at: row.created_at.to_string(),
        }
    };
    Ok(rows.into_iter().map(view).collect())
}

fn status(asked: UserStatus) -> Status {
    match asked {
        UserStatus::Active => Status::Active,
        UserStatus::Suspended => Status::Suspended,
        UserStatus::Deactivated => Status::Deactivated,
    }
}

/// Users of whom all that is asked is true; all by e-mail address if nothing is.
pub(crate) async fn list(
    shared: &Shared,
    caller: &Caller,
    project: &str,
    asked: UserListQuery,
    paging: Paging,
) -> Result<Page<User>, Refusal> {
    let grant = caller.allow(Permission::UsersRead)?;
    if asked.search.as_ref().is_some_and(|text| text.len() > SEARCH_LEN_MAX) {
        let detail = format!("search: at most {SEARCH_LEN_MAX} octets");
        return Err(Refusal::new(&problem::REQUEST_INVALID, detail));
    }
    shared
        .primary
        .read(async |tx| {
            let project = scope::people(tx, &grant, project).await?;
            let query = UserQuery {
                text: asked.search.unwrap_or_default(),
                status: asked.status.map(status),
                role: asked.role.map(|role| (project.id, role)),
            };
            let paged = user::search(tx, project.directory, &query, &PageRequest::from(paging)).await?;
            Ok(Page { items: views(tx, &project, paged.rows).await?, next: paged.next })
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
    let display_name = account::check_display_name(&request.display_name.unwrap_or_default())?.to_owned();
    let claims = request.claims;
    claims::check(&claims).map_err(|why| Refusal::new(&problem::CLAIMS_INVALID, why))?;
    // Looked at before the expensive hash: a caller who reaches no such project makes no work.
    shared.primary.read(async |tx| scope::accounts(tx, &grant, project).await).await?;
    let password = match request.password {
        Some(typed) => Some(
            hash(shared, typed, vec![email.as_str().to_owned(), name.clone(), display_name.clone()]).await?,
        ),
        None => None,
    };
    shared
        .primary
        .write(async |tx| {
            let project = scope::accounts(tx, &grant, project).await?;
            let new = NewUser { directory: project.directory, email, name, display_name, claims, password };
            let now = tx.now();
            let mut row = account::create(tx, &shared.entropy, now, new).await?;
            if request.verified {
                user::verify_email(tx, row.directory, row.id).await?;
                row.email_verified_at = Some(now);
            }
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
            return Err(role_unknown(project, name));
        }
        role::grant(tx, project.id, subject, name).await?;
    }
    for name in held.difference(&asked) {
        role::revoke(tx, project.id, subject, name).await?;
    }
    Ok(())
}

fn role_unknown(project: &ProjectRow, name: &Name) -> Refusal {
    let detail = format!("there is no role {name} in this project");
    let next = format!("define it first with: mezusphere role set {} {name}", project.slug);
    Refusal::new(&problem::ROLE_UNKNOWN, detail).with_next(next)
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
            let project = scope::accounts(tx, &grant, project).await?;
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

/// Sets a user's password, and tells them by mail. Every sign-in and session of theirs ends (R12).
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
            let project = scope::accounts(tx, &grant, project).await?;
            scope::user(tx, &project, name).await
        })
        .await?;
    let about = vec![row.email, row.name, row.display_name];
    let hash = hash(shared, request.password, about).await?;
    shared
        .primary
        .write(async |tx| {
            let project = scope::accounts(tx, &grant, project).await?;
            let row = scope::user(tx, &project, name).await?;
            let place = Place::of_operator(grant.address());
            for message in &account::set_password(tx, &row, hash, &place).await? {
                shared.mail.enqueue(tx, message).await?;
            }
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

/// Changes what a user is called, where they are reached, and what is known of them.
pub(crate) async fn update(
    shared: &Shared,
    caller: &Caller,
    project: &str,
    name: &str,
    request: UpdateUser,
) -> Result<User, Refusal> {
    let grant = caller.allow(Permission::UsersWrite)?;
    let email = request.email.as_deref().map(Email::parse).transpose()?;
    let new_name = request.name.as_deref().map(account::check_name).transpose()?.map(str::to_owned);
    let display_name = request.display_name.as_deref().map(account::check_display_name).transpose()?;
    if let Some(claims) = &request.claims {
        claims::check(claims).map_err(|why| Refusal::new(&problem::CLAIMS_INVALID, why))?;
    }
    let change = UserChange {
        email: email.map(|email| email.as_str().to_owned()),
        name: new_name,
        display_name: display_name.map(str::to_owned),
        status: None,
        claims: request.claims,
    };
    shared
        .primary
        .write(async |tx| {
            let project = scope::accounts(tx, &grant, project).await?;
            let before = scope::user(tx, &project, name).await?;
            if change != UserChange::default() {
                user::update(tx, project.directory, before.id, &change).await?;
            }
            match request.verified {
                Some(true) => user::verify_email(tx, project.directory, before.id).await?,
                Some(false) => user::unverify_email(tx, project.directory, before.id).await?,
                None => {}
            }
            let after = user::get(tx, project.directory, before.id).await?;
            let after = after.ok_or_else(|| scope::not_found("user", name))?;
            let mut detail = who(&before);
            if let Some(fields) = detail.as_object_mut() {
                let mut note = |field: &str, differs: bool, value: serde_json::Value| {
                    if differs {
                        fields.insert(field.to_owned(), value);
                    }
                };
                note("new_email", before.email != after.email, after.email.clone().into());
                note("name", before.name != after.name, after.name.clone().into());
                let shown = after.display_name.clone();
                note("display_name", before.display_name != shown, shown.into());
                let claims: Vec<&String> = after.claims.keys().collect();
                note("claims", before.claims != after.claims, serde_json::json!(claims));
                let verified = after.email_verified_at.is_some();
                note("verified", before.email_verified_at.is_some() != verified, verified.into());
            }
            scope::audit(tx, &grant, &project, "user.set", &before.id, detail);
            view(tx, &project, after).await
        })
        .await
}
