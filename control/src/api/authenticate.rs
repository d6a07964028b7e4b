//! Who calls the admin API: the holder of an API key, or the account that can open the admin socket.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, header};
use mezusphere_identity::service_account::{self as keys, KeyRefusal, VerifiedKey};
use mezusphere_model::link::ClientAddress;
use mezusphere_model::token::ApiKeyToken;
use mezusphere_store::StoreError;
use mezusphere_store::primary::{api_key, project};

use super::Door;
use crate::Shared;
use crate::caller::{Caller, Permission, Who};
use crate::problem::{self, Refusal};

/// How stale `last used` of a key may be before it is written again: most requests read only.
const USED_GRANULARITY: std::time::Duration = std::time::Duration::from_mins(1);

/// What the door-keeper needs.
#[derive(Clone)]
pub(super) struct Keeper {
    pub(super) shared: Arc<Shared>,
    pub(super) door: Door,
}

/// Puts the [`Caller`] into the request, or refuses it. Before a change it looks whether bundles are signed with something
/// newer than this node knows.
pub(super) async fn authenticate(
    State(keeper): State<Keeper>,
    mut request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let address = request.extensions().get::<ClientAddress>().map(|client| client.0.ip());
    let who = match keeper.door {
        Door::Local => Who::LocalOperator,
        Door::Console => by_key(&keeper.shared, request.headers()).await?,
    };
    if !request.method().is_safe() {
        keeper.shared.refresh_signer().await?;
    }
    request.extensions_mut().insert(Caller { who, address });
    Ok(next.run(request).await)
}

async fn by_key(shared: &Shared, headers: &HeaderMap) -> Result<Who, Refusal> {
    let presented = bearer(headers)?;
    let found = shared
        .primary
        .read(async |tx| match keys::verify(tx, &presented).await? {
            Err(refusal) => Ok::<_, StoreError>(Err(refusal)),
            Ok(key) => {
                let owner = project::get(tx, key.key.project).await?.map(|row| row.organization);
                Ok(owner.map(|owner| (key, owner, tx.now())).ok_or(KeyRefusal::Unknown))
            }
        })
        .await?;
    let (VerifiedKey { key, account }, organization, now) = found.map_err(refusal)?;
    let permissions: BTreeSet<Permission> =
        key.scopes.iter().filter_map(|scope| scope.as_str().parse().ok()).collect();
    if permissions.is_empty() {
        let detail = "this API key gives no permission of the admin API";
        return Err(Refusal::new(&problem::KEY_SCOPE, detail));
    }
    if key.last_used_at.is_none_or(|at| now.since(at) >= USED_GRANULARITY) {
        let noted = shared.primary.write(async |tx| api_key::used(tx, key.project, key.id, now).await).await;
        if let Err(why) = noted {
            // The request is worth more than the note; the next one tries again.
            tracing::warn!(key = %key.id, error = %why, "The use of a key could not be noted");
        }
    }
    if key.project == shared.installation.project {
        return Ok(Who::OperatorKey { key: key.id, account: account.id, permissions });
    }
    Ok(Who::ServiceAccount {
        key: key.id,
        account: account.id,
        organization,
        project: key.project,
        permissions,
    })
}

fn bearer(headers: &HeaderMap) -> Result<ApiKeyToken, Refusal> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (value, second) = (values.next(), values.next());
    if second.is_some() {
        return Err(Refusal::new(&problem::KEY_MALFORMED, "there is more than one Authorization header"));
    }
    let Some(value) = value else {
        return Err(Refusal::new(&problem::KEY_MISSING, "the request has no Authorization header"));
    };
    let malformed = |detail: String| Refusal::new(&problem::KEY_MALFORMED, detail);
    let text = value.to_str().map_err(|_| malformed("the Authorization header is not text".to_owned()))?;
    let token = match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
        _ => return Err(malformed("the Authorization header is not of the Bearer scheme".to_owned())),
    };
    if token.starts_with("mzw_") {
        let detail = "this is a connection key (mzw_), which only connects a warpgate".to_owned();
        return Err(malformed(detail));
    }
    token.parse().map_err(|why: mezusphere_model::token::ApiKeyError| malformed(why.to_string()))
}

fn refusal(why: KeyRefusal) -> Refusal {
    let code = match why {
        KeyRefusal::Unknown => &problem::KEY_UNKNOWN,
        KeyRefusal::Revoked(_) | KeyRefusal::Suspended => &problem::KEY_REVOKED,
        KeyRefusal::Expired(_) => &problem::KEY_EXPIRED,
    };
    Refusal::new(code, why.to_string())
}
