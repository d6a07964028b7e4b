//! Signing out: a GET asks, a POST ends the sign-in with every session of it, here or on all devices.

use std::time::Duration;

use axum::body::Body;
use axum::extract::RawQuery;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use mezusphere_identity::desk::Visit;
use mezusphere_identity::session;
use mezusphere_identity::sign_in as lifecycle;
use mezusphere_identity::sign_in::SignedIn;
use mezusphere_model::Host;
use mezusphere_model::id::SignInId;
use mezusphere_model::token::Token;
use mezusphere_store::primary::Tx;
use mezusphere_store::{StoreError, WriteError};
use serde::{Deserialize, Serialize};

use super::answer::{self, Failure};
use super::form::{Fields, Purpose};
use super::tenant::Tenant;
use super::{Login, State, Visitor, cookie};
use crate::page::{Chrome, SignOut, SignedOut};

/// How long a sign-out button works after its page was loaded: an account page may stay open all day.
const FORM_TTL: Duration = Duration::from_hours(24);

/// Field of the last page when the sign-in that ended was an operator's: they can sign in again here.
const AT_HOME: &str = "again";

/// Field of the last page with the application that was used last, as a token of ours: nobody else says where that page
/// leads.
const APP: &str = "app=";

/// Field of the last page after signing out on all devices.
const EVERYWHERE: &str = "everywhere";

/// What a sign-out button ends.
#[derive(Serialize, Deserialize)]
struct About {
    /// This sign-in; `None`: all that the browser holds.
    only: Option<SignInId>,
    /// And those of the same accounts on other devices.
    everywhere: bool,
}

/// `GET /sign-out`.
pub(super) async fn show(login: State, headers: HeaderMap) -> Result<Response, Failure> {
    let held = cookie::sign_ins(&headers);
    let emails = login.desk.primary.read(async |tx| {
        let mut emails = Vec::new();
        for token in &held {
            emails.extend(lifecycle::resolve(tx, token).await?.map(|found| found.user.email));
        }
        Ok::<_, StoreError>(emails)
    });
    let emails = emails.await?;
    if emails.is_empty() {
        return Ok(answer::see_other("/signed-out"));
    }
    let (browser, set) = cookie::form_or_new(&headers, &login.desk.entropy);
    let page = SignOut {
        chrome: Chrome::english(),
        who: emails.join(", "),
        here: login.sign_out_form(&browser, None, false),
        everywhere: login.sign_out_form(&browser, None, true),
    };
    Ok(answer::with_cookie(answer::page(StatusCode::OK, &page, None), set))
}

/// `POST /sign-out`.
pub(super) async fn submit(
    login: State,
    Visitor(visit): Visitor,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let fields = Fields::read(&headers, body).await?;
    let browser = cookie::form(&headers).ok_or_else(Failure::no_cookies)?;
    let form = login.form_key.read::<About>(Purpose::SignOut, &browser, fields.get("form"));
    let form = form.map_err(|_| Failure::form_stale())?;
    if form.ends_at <= login.desk.clock.now() {
        return Err(Failure::form_stale());
    }
    let About { only, everywhere } = form.about;
    let held = cookie::sign_ins(&headers);
    let ended = login.desk.primary.write(async |tx| {
        let (mut left, mut at_home, mut app) = (Vec::new(), false, None);
        for token in held {
            // What is no longer good needs no end.
            let Some(found) = lifecycle::resolve(tx, &token).await? else { continue };
            if only.is_some_and(|only| only != found.sign_in.id) {
                left.push(token);
                continue;
            }
            at_home |= found.sign_in.directory == login.home.1;
            app = app.or(session::last_app(tx, &found).await?);
            login.end(tx, &found, everywhere, &visit).await?;
        }
        Ok::<_, WriteError>((left, at_home, app))
    });
    let (left, at_home, app): (Vec<Token>, bool, Option<Host>) = ended.await?;
    let next = if left.is_empty() {
        let app = app.map(|app| login.app_token(&browser, &app));
        let fields = [
            everywhere.then(|| EVERYWHERE.to_owned()),
            (at_home && !everywhere).then(|| AT_HOME.to_owned()),
            app.filter(|_| !at_home).map(|token| format!("{APP}{token}")),
        ];
        let fields: Vec<String> = fields.into_iter().flatten().collect();
        format!("/signed-out{}{}", if fields.is_empty() { "" } else { "?" }, fields.join("&"))
    } else {
        "/account".to_owned()
    };
    Ok(answer::with_cookie(answer::see_other(&next), cookie::set_sign_ins(&left)))
}

/// `GET /signed-out`.
pub(super) async fn done(login: State, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let query = query.unwrap_or_default();
    let has = |wanted| query.split('&').any(|field| field == wanted);
    let token = query.split('&').find_map(|field| field.strip_prefix(APP));
    let app = token.and_then(|token| login.app_of(&cookie::form(&headers)?, token));
    let page = SignedOut {
        chrome: Chrome::english(),
        everywhere: has(EVERYWHERE),
        sign_in: app.or_else(|| has(AT_HOME).then(|| "/sign-in".to_owned())),
    };
    answer::page(StatusCode::OK, &page, None)
}

impl Login {
    /// The token of a sign-out button.
    pub(super) fn sign_out_form(&self, browser: &Token, only: Option<SignInId>, everywhere: bool) -> String {
        let ends_at = self.desk.clock.now().after(FORM_TTL);
        self.form_key.write(Purpose::SignOut, browser, ends_at, &About { only, everywhere })
    }

    /// Tells this browser's last page which application was used last.
    fn app_token(&self, browser: &Token, app: &Host) -> String {
        let ends_at = self.desk.clock.now().after(FORM_TTL);
        self.form_key.write(Purpose::SignedOut, browser, ends_at, app)
    }

    /// Where the application is that the token tells.
    fn app_of(&self, browser: &Token, token: &str) -> Option<String> {
        let opened = self.form_key.read::<Host>(Purpose::SignedOut, browser, token).ok()?;
        let is_recent = opened.ends_at > self.desk.clock.now();
        is_recent.then(|| format!("{}/", self.platform.origin(&opened.about)))
    }

    /// Ends a sign-in, or all of its user, and writes it down.
    async fn end(
        &self,
        tx: &mut Tx,
        found: &SignedIn,
        everywhere: bool,
        visit: &Visit,
    ) -> Result<(), WriteError> {
        let SignedIn { sign_in, user } = found;
        if everywhere {
            session::end_all(tx, user, Some(sign_in.id), &visit.place()).await?;
        } else {
            session::end_one(tx, user, sign_in.id, Some(sign_in.id), &visit.place()).await?;
        }
        let Some(tenant) = Tenant::find(tx, sign_in.directory).await? else { return Ok(()) };
        let detail = serde_json::json!({ "by": "sign-out", "everywhere": everywhere });
        let (actor, target) = (user.id.to_string(), sign_in.id.to_string());
        self.audit(tx, &tenant.row, visit, actor, "sign_in.end", target, detail);
        Ok(())
    }
}
