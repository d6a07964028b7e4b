//! Operators: the people who administer the installation, and the keys their scripts use.

use mezusphere_identity::service_account::{self as keys, NewKey};
use mezusphere_model::slug::{Name, Slug};
use mezusphere_store::primary::operator::{self, Scope};
use mezusphere_store::primary::project::{self, ProjectRow};
use mezusphere_store::primary::{ReadTx, password, user};

use super::api_key::{find_or_insert, finish, life};
use super::environment::SLUG_RULE;
use super::scope;
use super::user::link as user_link;
use crate::Shared;
use crate::api::types::{CreateOperatorKey, CreatedApiKey, Operator, Page, SignInLink};
use crate::caller::{Caller, Permission};
use crate::problem::{self, Refusal};

/// Who has been granted the installation. There are few, so they come in one page.
pub(crate) async fn list(shared: &Shared, caller: &Caller) -> Result<Page<Operator>, Refusal> {
    let _grant = caller.allow(Permission::InstallationRead)?;
    let directory = shared.installation.directory;
    shared
        .primary
        .read(async |tx| {
            let mut items = Vec::new();
            for grant in operator::list(tx, Scope::Installation).await? {
                let Some(row) = user::get(tx, directory, grant.user).await? else { continue };
                items.push(Operator {
                    id: row.id,
                    name: row.shown_name().to_owned(),
                    email: row.email,
                    can_sign_in: password::get(tx, directory, row.id).await?.is_some(),
                    created_at: row.created_at.to_string(),
                });
            }
            Ok(Page { items, next: None })
        })
        .await
}

async fn own_project(tx: &mut ReadTx, shared: &Shared) -> Result<ProjectRow, Refusal> {
    let row = project::get(tx, shared.installation.project).await?;
    row.ok_or_else(|| scope::not_found("project", ""))
}

/// Makes a one-time link with which an operator sets a password and signs in; older ones stop working.
pub(crate) async fn sign_in_link(
    shared: &Shared,
    caller: &Caller,
    name: &str,
) -> Result<SignInLink, Refusal> {
    let grant = caller.allow(Permission::InstallationWrite)?;
    shared
        .primary
        .write(async |tx| {
            let project = own_project(tx, shared).await?;
            let row =
                scope::user(tx, &project, name).await.map_err(|_| scope::not_found("operator", name))?;
            scope::audit(
                tx,
                &grant,
                &project,
                "operator.sign_in_link",
                &row.id,
                serde_json::json!({ "email": row.email }),
            );
            user_link(tx, shared, &row).await
        })
        .await
}

/// Makes a key that administers the installation, as far as its permissions go.
pub(crate) async fn create_key(
    shared: &Shared,
    caller: &Caller,
    request: CreateOperatorKey,
) -> Result<CreatedApiKey, Refusal> {
    let grant = caller.allow(Permission::InstallationWrite)?;
    let account = Slug::parse(&request.name)
        .map_err(|why| Refusal::new(&problem::NAME_INVALID, format!("name: {why}")).with_next(SLUG_RULE))?;
    let scopes: Vec<Name> = match request.permissions {
        None => Permission::ALL.iter().copied().map(Permission::name).collect(),
        Some(names) => names,
    };
    for name in &scopes {
        let permission: Permission = name.as_str().parse().map_err(|_| {
            Refusal::new(&problem::SCOPE_INVALID, format!("permissions: {name} is not a permission"))
        })?;
        let _held = caller.allow(permission)?;
    }
    let life = life(request.expires_in_s)?;
    shared
        .primary
        .write(async |tx| {
            let project = own_project(tx, shared).await?;
            let account = find_or_insert(tx, shared, &grant, &project, &account).await?;
            let new = NewKey { scopes, environment: None, expires_at: life.map(|life| tx.now().after(life)) };
            let made = keys::create_key(tx, &shared.entropy, project.id, account.id, new).await?;
            finish(tx, shared, &grant, &project, &account, made, "operator_key.create").await
        })
        .await
}
