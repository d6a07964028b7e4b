//! The account itself: all of it on one page.

use axum::extract::{Path, RawQuery};
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use mezusphere_identity::session::{self, Signed};
use mezusphere_identity::sign_in as lifecycle;
use mezusphere_model::token::Token;
use mezusphere_store::StoreError;

use super::Mine;
use crate::login::answer::{self, Failure};
use crate::login::destination::Asked;
use crate::login::tenant::Tenant;
use crate::login::{Login, State, cookie};
use crate::page::{Account, Accounts, App, Card, Chrome, Moment, Saved};

/// `GET /`.
pub(super) async fn root() -> Response {
    answer::see_other("/account")
}

/// `GET /account`: the account, or the choice among several.
pub(super) async fn all(login: State, headers: HeaderMap) -> Result<Response, Failure> {
    let held = cookie::sign_ins(&headers);
    let found = login.desk.primary.read(async |tx| {
        let mut found = Vec::new();
        for token in &held {
            let Some(signed_in) = lifecycle::resolve(tx, token).await? else { continue };
            let tenant = Tenant::find(tx, signed_in.sign_in.directory).await?;
            found.extend(tenant.map(|tenant| Mine { signed_in, tenant, held: held.clone() }));
        }
        Ok::<_, StoreError>(found)
    });
    let mut found = found.await?;
    if found.len() == 1
        && let Some(mine) = found.pop()
    {
        return login.overview(&headers, &mine, None).await;
    }
    if found.is_empty() {
        return Ok(answer::see_other("/sign-in"));
    }
    let (browser, set) = cookie::form_or_new(&headers, &login.desk.entropy);
    let cards = found.iter().map(|mine| (login.card(mine, &browser), mine.base())).collect();
    let page = Accounts { chrome: Chrome::english(), cards };
    Ok(answer::with_cookie(answer::page(StatusCode::OK, &page, None), set))
}

/// `GET /account/<directory>`.
pub(super) async fn one(
    login: State,
    Path(directory): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let Ok(mine) = login.mine_or_sign_in(&headers, &directory).await? else {
        return Ok(answer::see_other(&sign_in(&directory)?));
    };
    let saved = match query.as_deref() {
        Some("saved=name") => Some(Saved::Name),
        Some("saved=password") => Some(Saved::Password),
        _ => None,
    };
    login.overview(&headers, &mine, saved).await
}

/// Where to sign in to a directory.
pub(super) fn sign_in(directory: &str) -> Result<String, Failure> {
    let directory = directory.parse().map_err(|_| Failure::not_found())?;
    Ok(Asked::Directory(directory).path("/sign-in"))
}

/// That nobody is signed in: a page is shown to whoever signs in.
pub(super) struct NobodySignedIn;

impl Login {
    /// Who is signed in, for a page that is merely opened: whoever is not, is sent to sign in.
    pub(super) async fn mine_or_sign_in(
        &self,
        headers: &HeaderMap,
        directory: &str,
    ) -> Result<Result<Mine, NobodySignedIn>, Failure> {
        match self.mine(headers, directory).await {
            Ok(mine) => Ok(Ok(mine)),
            Err(failure) if failure.is_session_over() => Ok(Err(NobodySignedIn)),
            Err(failure) => Err(failure),
        }
    }

    async fn overview(
        &self,
        headers: &HeaderMap,
        mine: &Mine,
        saved: Option<Saved>,
    ) -> Result<Response, Failure> {
        let (browser, set) = cookie::form_or_new(headers, &self.desk.entropy);
        let current = Some(mine.signed_in.sign_in.id);
        let list = self.desk.primary.read(async |tx| session::list(tx, &mine.signed_in.user, current).await);
        let signed: Vec<Signed> = list.await?;
        let apps = signed.iter().filter(|signed| signed.is_current).flat_map(|signed| &signed.apps);
        let apps = apps.map(|row| App {
            origin: self.platform.origin(&row.doc.host),
            host: row.doc.host.to_string(),
            until: Moment(row.doc.expires_at),
        });
        let page = Account {
            chrome: mine.tenant.chrome(),
            card: self.card(mine, &browser),
            base: mine.base(),
            name: mine.signed_in.user.name.clone(),
            is_verified: mine.signed_in.user.email_verified_at.is_some(),
            mail: self.mail.is_available(),
            browsers: signed.len(),
            apps: apps.collect(),
            saved,
            others: mine.held.len() > 1,
        };
        Ok(answer::with_cookie(answer::page(StatusCode::OK, &page, None), set))
    }

    fn card(&self, mine: &Mine, browser: &Token) -> Card {
        let row = &mine.signed_in.sign_in;
        Card {
            name: mine.signed_in.user.shown_name().to_owned(),
            email: mine.signed_in.user.email.clone(),
            directory: mine.tenant.name.clone(),
            since: Moment(row.authenticated_at),
            until: Moment(row.expires_at),
            form: self.sign_out_form(browser, Some(row.id), false),
        }
    }
}
