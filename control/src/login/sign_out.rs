//! Signing out: a GET asks, a POST ends the sign-in with every session of it.

use std::time::Duration;

use axum::body::Body;
use axum::extract::RawQuery;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use mezusphere_identity::sign_in as lifecycle;
use mezusphere_model::id::SignInId;
use mezusphere_model::token::Token;
use mezusphere_store::primary::audit::AuditEntry;
use mezusphere_store::primary::sign_in;
use mezusphere_store::{StoreError, WriteError};
use serde::{Deserialize, Serialize};

use super::answer::{self, Failure};
use super::form::{Fields, Purpose};
use super::{Login, State, Visitor, cookie, tenant};
use crate::page::{Chrome, SignOut, SignedOut};

/// How long a sign-out button works after its page was loaded: an account page may stay open all day.
const FORM_TTL: Duration = Duration::from_hours(24);

/// Query of the last page when the sign-in that ended was an operator's: they can sign in again here.
const AT_HOME: &str = "again";

/// What a sign-out button ends.
#[derive(Serialize, Deserialize)]
struct About {
    /// This sign-in; `None`: all that the browser holds.
    only: Option<SignInId>,
}

/// `GET /sign-out`.
pub(super) async fn show(login: State, headers: HeaderMap) -> Result<Response, Failure> {
    let held = cookie::sign_ins(&headers);
    let emails = login.primary.read(async |tx| {
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
    let (browser, set) = cookie::form_or_new(&headers, &login.entropy);
    let form = login.sign_out_form(&browser, None);
    let page = SignOut { chrome: Chrome::english(), who: emails.join(", "), form };
    Ok(answer::with_cookie(answer::page(StatusCode::OK, &page, None), set))
}

/// `POST /sign-out`.
pub(super) async fn submit(
    login: State,
    visitor: Visitor,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let fields = Fields::read(&headers, body).await?;
    let browser = cookie::form(&headers).ok_or_else(Failure::no_cookies)?;
    let form = login.form_key.read::<About>(Purpose::SignOut, &browser, fields.get("form"));
    let form = form.map_err(|_| Failure::form_stale())?;
    if form.ends_at <= login.clock.now() {
        return Err(Failure::form_stale());
    }
    let held = cookie::sign_ins(&headers);
    let ended = login.primary.write(async |tx| {
        let (mut left, mut at_home) = (Vec::new(), false);
        for token in held {
            let Some(row) = sign_in::find(tx, &token.hash()).await? else { continue };
            if form.about.only.is_some_and(|only| only != row.id) {
                left.push(token);
                continue;
            }
            at_home |= row.directory == login.home.1;
            sign_in::end(tx, row.directory, row.id).await?;
            let Some(directory) = tenant::directory(tx, row.directory).await? else { continue };
            tx.audit(AuditEntry {
                organization: directory.organization,
                project: directory.project,
                actor: row.user.to_string(),
                action: "sign_in.end".to_owned(),
                target: row.id.to_string(),
                address: Some(visitor.address.to_string()),
                detail: serde_json::json!({ "by": "sign-out" }),
            });
        }
        Ok::<_, WriteError>((left, at_home))
    });
    let (left, at_home): (Vec<Token>, bool) = ended.await?;
    let next = match (left.is_empty(), at_home) {
        (false, _) => "/account".to_owned(),
        (true, true) => format!("/signed-out?{AT_HOME}"),
        (true, false) => "/signed-out".to_owned(),
    };
    Ok(answer::with_cookie(answer::see_other(&next), cookie::set_sign_ins(&left)))
}

/// `GET /signed-out`.
pub(super) async fn done(RawQuery(query): RawQuery) -> Response {
    let sign_in = (query.as_deref() == Some(AT_HOME)).then_some("/sign-in");
    answer::page(StatusCode::OK, &SignedOut { chrome: Chrome::english(), sign_in }, None)
}

impl Login {
    /// The token of a sign-out button.
    pub(super) fn sign_out_form(&self, browser: &Token, only: Option<SignInId>) -> String {
        let ends_at = self.clock.now().after(FORM_TTL);
        self.form_key.write(Purpose::SignOut, browser, ends_at, &About { only })
    }
}
