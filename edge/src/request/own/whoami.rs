//! Who the caller is, for the application's own pages and programs, whatever route they are on.

use ::http::StatusCode;
use mezusphere_model::identity::Subject;
use mezusphere_model::platform::PlatformHost;
use mezusphere_model::route::Site;
use serde_json::json;

use super::super::ServerParts;
use super::super::authenticate::{self, Authenticated};
use super::super::inbound::Inbound;
use super::super::refusal::Refusal;
use super::super::respond::{self, Own};
use super::{SIGN_IN, SIGN_OUT, somebody};
use crate::view::caller::Holder;

/// `GET /.mezu/whoami`. To be read by pages of this host only: it says nothing to other origins (no CORS), whatever routes say.
pub(super) async fn tell(inbound: Inbound<'_>, site: &Site, parts: &ServerParts) -> Result<Own, Refusal> {
    let Inbound { ask, address, cookies, key, .. } = inbound;
    let authority = &address.authority;
    let somebody = match &key {
        Some(_) if parts.view.is_stale(site.doc.project) => return Err(Refusal::Stale),
        Some(key) => Some(authenticate::by_key(key, site, &authority.host, &parts.view, &parts.clock)?),
        None => somebody(ask, authority, &cookies, site, parts).await?,
    };
    let mut document = match somebody {
        None => json!({ "authenticated": false }),
        Some(somebody) => of(&somebody),
    };
    if let Some(fields) = document.as_object_mut() {
        let login = parts.hosts.host(PlatformHost::Login).map(|login| parts.hosts.origin(&login));
        fields.insert("login".to_owned(), login.unwrap_or_default().into());
        fields.insert("sign_in".to_owned(), SIGN_IN.into());
        fields.insert("sign_out".to_owned(), SIGN_OUT.into());
    }
    Ok(respond::json(StatusCode::OK, "application/json", document.to_string(), ask.asker()))
}

fn of(somebody: &Authenticated) -> serde_json::Value {
    let identity = &somebody.caller.identity;
    let kind = match identity.subject {
        Subject::User(_) => "user",
        Subject::ServiceAccount(_) => "service_account",
    };
    let session = match &somebody.caller.holder {
        Holder::Session(doc, _) => json!({
            "id": doc.id,
            "expires_at": doc.expires_at.to_string(),
            "idle_s_max": Some(doc.idle_s_max).filter(|idle| *idle != 0),
        }),
        Holder::ApiKey(..) => serde_json::Value::Null,
    };
    json!({
        "authenticated": true,
        "kind": kind,
        "account": identity.subject.to_string(),
        "name": identity.name,
        "email": identity.email,
        "roles": identity.roles,
        "permissions": identity.permissions,
        "methods": identity.methods,
        "acr": identity.assurance,
        "authenticated_at": identity.authenticated_at.to_string(),
        "session": session,
    })
}
