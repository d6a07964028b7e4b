//! Who is signed in, where, and what happened to their account.

use axum::extract::{Path, Query};
use http::StatusCode;
use mezusphere_identity::account::{check_display_name, check_name};
use mezusphere_identity::session::{self, Signed, last_seen};
use mezusphere_identity::sign_in::SignedIn;
use mezusphere_model::id::SignInId;
use mezusphere_store::StoreError;
use mezusphere_store::primary::user::UserChange;
use mezusphere_store::primary::{PageRequest, login_event};
use serde::{Deserialize, Serialize};

use super::super::Visitor;
use super::super::tenant::Tenant;
use super::body::{Answer, Json, ok};
use super::origin::Page;
use super::problem::{self, Told};
use super::token::Bearer;
use super::{AccountAnswer, Done, Login, State};

/// Most entries of one page of the history.
const HISTORY_PAGE_LEN: usize = 50;

impl Login {
    /// Who holds the token, and whose accounts theirs is among, if this page may ask.
    pub(super) async fn held(&self, bearer: &Bearer, page: &Page) -> Done<(SignedIn, Tenant)> {
        let found = self.desk.primary.read(async |tx| {
            let held = self.bearer(tx, bearer).await?;
            page.serves(held.sign_in.directory)?;
            let tenant = self.tenant(tx, held.sign_in.directory).await?;
            Ok::<_, Told>((held, tenant))
        });
        found.await
    }
}

/// The account of who is signed in.
#[derive(Serialize)]
pub(super) struct Shown {
    #[serde(flatten)]
    account: AccountAnswer,
    /// Whose accounts theirs is among.
    directory: String,
    sign_in: String,
    methods: Vec<&'static str>,
    acr: &'static str,
    authenticated_at: String,
    ends_at: String,
}

impl Shown {
    fn of(held: &SignedIn, tenant: &Tenant) -> Self {
        let SignedIn { sign_in, user } = held;
        Self {
            account: AccountAnswer::of(user),
            directory: tenant.name.clone(),
            sign_in: sign_in.id.to_string(),
            methods: sign_in.methods.iter().map(|method| method.as_str()).collect(),
            acr: sign_in.assurance.as_str(),
            authenticated_at: sign_in.authenticated_at.to_string(),
            ends_at: sign_in.expires_at.to_string(),
        }
    }
}

/// `GET /account`.
pub(super) async fn show(login: State, page: Page, bearer: Bearer) -> Done<Answer<Shown>> {
    let (held, tenant) = login.held(&bearer, &page).await?;
    Ok(ok(Shown::of(&held, &tenant)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rename {
    #[serde(default)]
    name: Option<String>,
    /// Empty takes it away.
    #[serde(default)]
    display_name: Option<String>,
}

/// `PATCH /account`: what is left out stays.
pub(super) async fn rename(
    login: State,
    page: Page,
    bearer: Bearer,
    visit: Visitor,
    Json(asked): Json<Rename>,
) -> Done<Answer<Shown>> {
    let visit = visit.0;
    let bad = |_| problem::NAME.told();
    let name = asked.name.as_deref().map(check_name).transpose().map_err(bad)?;
    let display_name = asked.display_name.as_deref().map(check_display_name).transpose().map_err(bad)?;
    if name.is_none() && display_name.is_none() {
        return Err(problem::INCOMPLETE.told());
    }
    let (name, display_name) = (name.map(str::to_owned), display_name.map(str::to_owned));
    let (held, tenant) = login.held(&bearer, &page).await?;
    let change = UserChange { name, display_name, ..UserChange::default() };
    let changed = login
        .desk
        .primary
        .write(async |tx| Ok::<_, Told>(login.rename(tx, &tenant.row, &visit, &held.user, &change).await?));
    changed.await?;
    let SignedIn { sign_in, mut user } = held;
    user.name = change.name.unwrap_or(user.name);
    user.display_name = change.display_name.unwrap_or(user.display_name);
    Ok(ok(Shown::of(&SignedIn { sign_in, user }, &tenant)))
}

/// Where somebody is signed in.
#[derive(Serialize)]
pub(super) struct SignInAnswer {
    id: String,
    current: bool,
    address: String,
    agent: String,
    since: String,
    last_seen: String,
    ends_at: String,
    /// The hosts it has sessions on.
    hosts: Vec<String>,
}

impl SignInAnswer {
    fn of(signed: &Signed) -> Self {
        let row = &signed.sign_in;
        Self {
            id: row.id.to_string(),
            current: signed.is_current,
            address: row.address.clone(),
            agent: row.agent.clone(),
            since: row.created_at.to_string(),
            last_seen: last_seen(signed).to_string(),
            ends_at: row.expires_at.to_string(),
            hosts: signed.apps.iter().map(|app| app.doc.host.to_string()).collect(),
        }
    }
}

/// A list, whole or its first part.
#[derive(Serialize)]
pub(super) struct List<T> {
    items: Vec<T>,
    /// What to give as `after` for the next part; none on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// `GET /account/sign-ins`.
pub(super) async fn sign_ins(login: State, page: Page, bearer: Bearer) -> Done<Answer<List<SignInAnswer>>> {
    let (held, _) = login.held(&bearer, &page).await?;
    let found = login
        .desk
        .primary
        .read(async |tx| Ok::<_, StoreError>(session::list(tx, &held.user, Some(held.sign_in.id)).await?));
    Ok(ok(List { items: found.await?.iter().map(SignInAnswer::of).collect(), next: None }))
}

/// `DELETE /account/sign-ins/{id}`.
pub(super) async fn end_one(
    login: State,
    page: Page,
    bearer: Bearer,
    visit: Visitor,
    Path(id): Path<String>,
) -> Done<StatusCode> {
    let id: SignInId = id.parse().map_err(|_| problem::NOT_FOUND.told())?;
    let visit = visit.0;
    let (held, tenant) = login.held(&bearer, &page).await?;
    let done = login.desk.primary.write(async |tx| {
        session::end_one(tx, &held.user, id, Some(held.sign_in.id), &visit.place()).await?;
        let detail = serde_json::json!({ "by": "account" });
        let (actor, target) = (held.user.id.to_string(), id.to_string());
        login.audit(tx, &tenant.row, &visit, actor, "sign_in.end", target, detail);
        Ok::<_, Told>(StatusCode::NO_CONTENT)
    });
    done.await
}

/// How many sign-ins ended.
#[derive(Serialize)]
pub(super) struct Ended {
    ended: u32,
}

/// `DELETE /account/sign-ins`: all but the one that asks.
pub(super) async fn end_others(
    login: State,
    page: Page,
    bearer: Bearer,
    visit: Visitor,
) -> Done<Answer<Ended>> {
    let visit = visit.0;
    let (held, tenant) = login.held(&bearer, &page).await?;
    let done = login.desk.primary.write(async |tx| {
        let ended = session::end_others(tx, &held.user, held.sign_in.id, &visit.place()).await?;
        let detail = serde_json::json!({ "by": "account", "ended": ended });
        let (actor, target) = (held.user.id.to_string(), held.user.id.to_string());
        login.audit(tx, &tenant.row, &visit, actor, "sign_in.end_others", target, detail);
        Ok::<_, Told>(Ended { ended })
    });
    Ok(ok(done.await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct After {
    #[serde(default)]
    after: Option<String>,
}

/// Something that happened to the account.
#[derive(Serialize)]
pub(super) struct EventAnswer {
    at: String,
    outcome: String,
    method: String,
    address: String,
    agent: String,
}

/// `GET /account/history`, newest first.
pub(super) async fn history(
    login: State,
    page: Page,
    bearer: Bearer,
    after: Result<Query<After>, axum::extract::rejection::QueryRejection>,
) -> Done<Answer<List<EventAnswer>>> {
    let Query(After { after }) = after.map_err(|_| problem::BAD_REQUEST.told())?;
    let (held, _) = login.held(&bearer, &page).await?;
    let request = PageRequest { after, limit: HISTORY_PAGE_LEN };
    let (directory, user) = (held.user.directory, held.user.id);
    let found = login
        .desk
        .primary
        .read(async |tx| Ok::<_, StoreError>(login_event::list(tx, directory, user, &request).await?));
    let found = found.await?;
    let items = found.rows.into_iter().map(|event| EventAnswer {
        at: event.at.to_string(),
        outcome: event.outcome,
        method: event.method,
        address: event.address,
        agent: event.agent,
    });
    Ok(ok(List { items: items.collect(), next: found.next }))
}
