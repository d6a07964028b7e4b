//! API keys and connection keys: the credentials of a project's machines. A secret is shown once, at creation.
//!
//! A key never gives more than its maker holds, so that `keys:write` alone is no way to more permissions.

use std::time::Duration;

use mezusphere_identity::service_account::{self as keys, CreatedKey, NewKey};
use mezusphere_model::Timestamp;
use mezusphere_model::connection_key::ConnectionKey;
use mezusphere_model::id::{ApiKeyId, EnvironmentId};
use mezusphere_model::platform::{PRODUCTION, PlatformHost};
use mezusphere_model::slug::{Name, Slug};
use mezusphere_store::primary::api_key::{self, ApiKeyRow};
use mezusphere_store::primary::project::ProjectRow;
use mezusphere_store::primary::service_account::{self, ServiceAccountRow};
use mezusphere_store::primary::{PageRequest, ReadTx, Tx};

use super::{Paging, scope, service_account as accounts};
use crate::api::types::{ApiKey, ApiKeyState, CreateApiKey, CreatedApiKey, Page, RotateApiKey};
use crate::caller::{Caller, Grant, Permission};
use crate::problem::{self, Refusal};
use crate::{Shared, eviction};

/// Scope of a connection key: run a warpgate. Stands alone.
pub(crate) const CONNECT: &str = "connect";

/// Scope of a key that calls protected routes.
pub(crate) const REQUEST: &str = "request";

/// Account of keys that name none and do not connect a warpgate.
const DEFAULT_ACCOUNT: &str = "default";

/// Longest life that can be asked for, in seconds: ten years, as long as the root lives.
const EXPIRES_IN_S_MAX: u64 = 10 * 365 * 24 * 60 * 60;

pub(super) fn view(row: ApiKeyRow, account: &ServiceAccountRow, now: Timestamp) -> ApiKey {
    let state = match (row.revoked_at, row.expires_at) {
        (Some(_), _) => ApiKeyState::Revoked,
        (None, Some(end)) if end <= now => ApiKeyState::Expired,
        (None, _) => ApiKeyState::Live,
    };
    ApiKey {
        id: row.id,
        account: row.account,
        account_name: account.name.clone(),
        scopes: row.scopes,
        environment: row.environment,
        state,
        hint: row.hint,
        created_at: row.created_at.to_string(),
        expires_at: row.expires_at.map(|at| at.to_string()),
        last_used_at: row.last_used_at.map(|at| at.to_string()),
    }
}

/// A project's keys, account by account. A page holds the keys of as many accounts as its limit says.
pub(crate) async fn list(
    shared: &Shared,
    caller: &Caller,
    project: &str,
    paging: Paging,
) -> Result<Page<ApiKey>, Refusal> {
    let grant = caller.allow(Permission::KeysRead)?;
    shared
        .primary
        .read(async |tx| {
            let project = scope::project(tx, &grant, project).await?;
            let paged = service_account::list(tx, project.id, &PageRequest::from(paging)).await?;
            let now = tx.now();
            let mut items = Vec::new();
            for account in paged.rows {
                let rows = api_key::list(tx, project.id, account.id).await?;
                items.extend(rows.into_iter().map(|row| view(row, &account, now)));
            }
            Ok(Page { items, next: paged.next })
        })
        .await
}

/// One key.
pub(crate) async fn show(
    shared: &Shared,
    caller: &Caller,
    project: &str,
    key: &str,
) -> Result<ApiKey, Refusal> {
    let grant = caller.allow(Permission::KeysRead)?;
    shared
        .primary
        .read(async |tx| {
            let project = scope::project(tx, &grant, project).await?;
            let (row, account) = find(tx, &project, key).await?;
            Ok(view(row, &account, tx.now()))
        })
        .await
}

async fn find(
    tx: &mut ReadTx,
    project: &ProjectRow,
    key: &str,
) -> Result<(ApiKeyRow, ServiceAccountRow), Refusal> {
    let missing = || scope::not_found("API key", key);
    let id: ApiKeyId = key.parse().map_err(|_| missing())?;
    let row = api_key::get(tx, project.id, id).await?.ok_or_else(missing)?;
    let account = service_account::get(tx, project.id, row.account).await?.ok_or_else(missing)?;
    Ok((row, account))
}

/// Creates a key and shows its secret, this once.
pub(crate) async fn create(
    shared: &Shared,
    caller: &Caller,
    project: &str,
    request: CreateApiKey,
) -> Result<CreatedApiKey, Refusal> {
    let grant = caller.allow(Permission::KeysWrite)?;
    let connects = check_scopes(caller, &request.scopes)?;
    if request.environment.is_some() && !connects {
        let detail = "environment: only a connection key (scope connect) is bound to one";
        return Err(Refusal::new(&problem::SCOPE_INVALID, detail));
    }
    let life = life(request.expires_in_s)?;
    shared
        .primary
        .write(async |tx| {
            let project = scope::project(tx, &grant, project).await?;
            if project.id != shared.installation.project {
                no_installation_scopes(&request.scopes)?;
            }
            let environment = match (connects, &request.environment) {
                (true, name) => {
                    Some(scope::environment(tx, &project, name.as_deref().unwrap_or(PRODUCTION)).await?)
                }
                (false, _) => None,
            };
            let account = if let Some(name) = &request.account {
                scope::service_account(tx, &project, name).await?
            } else {
                let name = default_account(environment.as_ref().map(|row| &row.slug))?;
                find_or_insert(tx, shared, &grant, &project, &name).await?
            };
            let new = NewKey {
                scopes: request.scopes,
                environment: environment.map(|row| row.id),
                expires_at: life.map(|life| tx.now().after(life)),
            };
            let made = keys::create_key(tx, &shared.entropy, project.id, account.id, new).await?;
            finish(tx, shared, &grant, &project, &account, made, "api_key.create").await
        })
        .await
}

/// The account a key belongs to that names none: one per environment for warpgates, so that two keys of the same
/// environment are the two of a rotation.
fn default_account(environment: Option<&Slug>) -> Result<Slug, Refusal> {
    let name = match environment {
        // The name of a long environment does not fit behind the prefix, and says enough by itself.
        Some(slug) => Slug::parse(&format!("{CONNECT}-{slug}")).or_else(|_| Slug::parse(slug.as_str())),
        None => Slug::parse(DEFAULT_ACCOUNT),
    };
    name.map_err(super::environment::bad_slug)
}

pub(super) async fn find_or_insert(
    tx: &mut Tx,
    shared: &Shared,
    grant: &Grant,
    project: &ProjectRow,
    name: &Slug,
) -> Result<ServiceAccountRow, Refusal> {
    match service_account::find(tx, project.id, name.as_str()).await? {
        Some(row) => Ok(row),
        None => accounts::insert(tx, shared, grant, project, name).await,
    }
}

/// How long a key is to live.
pub(super) fn life(seconds: Option<u64>) -> Result<Option<Duration>, Refusal> {
    match seconds {
        None => Ok(None),
        Some(seconds) if (1..=EXPIRES_IN_S_MAX).contains(&seconds) => Ok(Some(Duration::from_secs(seconds))),
        Some(_) => {
            let detail = format!("expires_in_s: 1 to {EXPIRES_IN_S_MAX} seconds");
            Err(Refusal::new(&problem::REQUEST_INVALID, detail))
        }
    }
}

/// Whether the scopes are known, go together, and the caller holds what they give. `true`: a connection key.
fn check_scopes(caller: &Caller, scopes: &[Name]) -> Result<bool, Refusal> {
    let connects = scopes.iter().any(|name| name.as_str() == CONNECT);
    if connects && scopes.len() > 1 {
        let detail = "scopes: connect stands alone";
        let next = "create a second key for the other scopes";
        return Err(Refusal::new(&problem::SCOPE_INVALID, detail).with_next(next));
    }
    for name in scopes.iter().filter(|name| !matches!(name.as_str(), CONNECT | REQUEST)) {
        let permission: Permission = name.as_str().parse().map_err(|_| {
            let detail = format!("scopes: {name} is not a scope");
            Refusal::new(&problem::SCOPE_INVALID, detail)
        })?;
        let _held = caller.allow(permission)?;
    }
    Ok(connects)
}

/// A project's key administers that project at most.
fn no_installation_scopes(scopes: &[Name]) -> Result<(), Refusal> {
    let wide = |name: &&Name| name.as_str().parse().is_ok_and(Permission::is_installation_wide);
    match scopes.iter().find(wide) {
        None => Ok(()),
        Some(name) => {
            let detail = format!("scopes: {name} is for the installation, not for a project");
            let next = "create an operator's key with: mezusphere operator create-key NAME";
            Err(Refusal::new(&problem::SCOPE_INVALID, detail).with_next(next))
        }
    }
}

/// Makes a second live key with the same rights; the first stays until it is revoked.
pub(crate) async fn rotate(
    shared: &Shared,
    caller: &Caller,
    project: &str,
    key: &str,
    request: &RotateApiKey,
) -> Result<CreatedApiKey, Refusal> {
    let grant = caller.allow(Permission::KeysWrite)?;
    let life = life(request.expires_in_s)?;
    shared
        .primary
        .write(async |tx| {
            let project = scope::project(tx, &grant, project).await?;
            let (old, account) = find(tx, &project, key).await?;
            check_scopes(caller, &old.scopes)?;
            let made = match life {
                None => keys::rotate_key(tx, &shared.entropy, project.id, old.id).await?,
                Some(life) => {
                    if view(old.clone(), &account, tx.now()).state != ApiKeyState::Live {
                        return Err(keys::KeyError::NotLive.into());
                    }
                    let new = NewKey {
                        scopes: old.scopes,
                        environment: old.environment,
                        expires_at: Some(tx.now().after(life)),
                    };
                    keys::create_key(tx, &shared.entropy, project.id, account.id, new).await?
                }
            };
            finish(tx, shared, &grant, &project, &account, made, "api_key.rotate").await
        })
        .await
}

/// Notes a new key and writes its secret in the form its holder needs.
pub(super) async fn finish(
    tx: &mut Tx,
    shared: &Shared,
    grant: &Grant,
    project: &ProjectRow,
    account: &ServiceAccountRow,
    made: CreatedKey,
    action: &str,
) -> Result<CreatedApiKey, Refusal> {
    let detail = serde_json::json!({
        "account": account.name,
        "scopes": made.row.scopes,
        "environment": made.row.environment,
        "expires_at": made.row.expires_at.map(|at| at.to_string()),
    });
    scope::audit(tx, grant, project, action, &made.row.id, detail);
    let secret = match made.row.environment {
        Some(environment) => connection_key(shared, &made, environment)?,
        None => made.token.reveal(),
    };
    let hint = ConnectionKey::hint(&secret);
    if hint != made.row.hint {
        // A list must show what its holder and the warpgate see.
        api_key::set_hint(tx, project.id, made.row.id, hint).await?;
    }
    let mut key = view(made.row, account, tx.now());
    hint.clone_into(&mut key.hint);
    Ok(CreatedApiKey { key, secret })
}

fn connection_key(shared: &Shared, made: &CreatedKey, environment: EnvironmentId) -> Result<String, Refusal> {
    let platform = &shared.config.platform;
    let key = ConnectionKey {
        key: made.token.clone(),
        environment,
        root: shared.known_ca().root_sha256,
        host: platform.host(PlatformHost::Connect).map_err(crate::publish::PublishError::from)?,
        port: platform.port,
    };
    Ok(key.reveal())
}

/// Takes a key back: the API refuses it at once, edges within seconds, and the tunnels of warpgates that enrolled
/// with it end (R21).
pub(crate) async fn revoke(
    shared: &Shared,
    caller: &Caller,
    project: &str,
    key: &str,
) -> Result<(), Refusal> {
    let grant = caller.allow(Permission::KeysWrite)?;
    shared
        .primary
        .write(async |tx| {
            let project = scope::project(tx, &grant, project).await?;
            let (row, account) = find(tx, &project, key).await?;
            keys::revoke_key(tx, project.id, row.id).await?;
            let enrolled = eviction::warpgates(tx, project.id, None, |gate| gate.key == row.id).await?;
            shared.evict(tx, &enrolled).await?;
            scope::audit(
                tx,
                &grant,
                &project,
                "api_key.revoke",
                &row.id,
                serde_json::json!({ "account": account.name }),
            );
            Ok(())
        })
        .await
}
