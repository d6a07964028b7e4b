//! "Your account": who this browser is signed in as, what they can change, where else they are signed in.
//!
//! ```text
//! GET /account                        the one account, or the choice among several
//! GET /account/<directory>            one of them
//!     …/name, /email, /verify, /password    a change each: GET shows the form, POST acts
//!     …/sessions                      browsers that are signed in; POST signs one or all others out
//!     …/history?before=               what happened, twenty at a time
//! ```
//!
//! A form carries the sign-in it was opened with: one that was left open while somebody else signed in changes nothing
//! of theirs.

mod email;
mod history;
mod name;
mod overview;
mod password;
mod sessions;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use http::HeaderMap;
use mezusphere_identity::sign_in::SignedIn;
use mezusphere_model::Timestamp;
use mezusphere_model::id::{DirectoryId, SignInId};
use mezusphere_model::token::Token;
use mezusphere_store::StoreError;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::answer::Failure;
use super::destination::Asked;
use super::form::{Fields, Purpose};
use super::tenant::Tenant;
use super::{Login, cookie};

pub(super) fn routes() -> Router<Arc<Login>> {
    Router::new()
        .route("/", get(overview::root))
        .route("/account", get(overview::all))
        .route("/account/{directory}", get(overview::one))
        .route("/account/{directory}/name", get(name::show).post(name::submit))
        .route("/account/{directory}/email", get(email::show).post(email::submit))
        .route("/account/{directory}/verify", get(email::show_verify).post(email::verify))
        .route("/account/{directory}/password", get(password::show).post(password::submit))
        .route("/account/{directory}/sessions", get(sessions::show).post(sessions::submit))
        .route("/account/{directory}/history", get(history::show))
}

/// Who is signed in to a directory with this browser.
struct Mine {
    signed_in: SignedIn,
    tenant: Tenant,
    /// All tokens the browser holds.
    held: Vec<Token>,
}

/// What a form of these pages is about.
#[derive(Serialize, Deserialize)]
struct About<W> {
    /// The sign-in it was opened with.
    sign_in: SignInId,
    what: W,
}

/// A form that was sent.
struct Sent<W> {
    mine: Mine,
    what: W,
    /// When the form ends; it may have ended.
    ends_at: Timestamp,
    fields: Fields,
}

impl Mine {
    /// The path of this account's pages.
    fn base(&self) -> String {
        format!("/account/{}", self.tenant.row.id)
    }

    /// Where to sign in to it.
    fn sign_in(&self) -> String {
        Asked::Directory(self.tenant.row.id).path("/sign-in")
    }
}

impl Login {
    /// Who is signed in to the directory a path names.
    ///
    /// # Errors
    /// That nobody is, with the way to sign in.
    async fn mine(&self, headers: &HeaderMap, directory: &str) -> Result<Mine, Failure> {
        let directory: DirectoryId = directory.parse().map_err(|_| Failure::not_found())?;
        let held = cookie::sign_ins(headers);
        let found = self.desk.primary.read(async |tx| {
            let Some((signed_in, _)) = self.current(tx, &held, directory).await? else { return Ok(None) };
            let tenant = Tenant::find(tx, directory).await?;
            Ok::<_, StoreError>(tenant.map(|tenant| (signed_in, tenant)))
        });
        let (signed_in, tenant) = found
            .await?
            .ok_or_else(|| Failure::session_over(Asked::Directory(directory).path("/sign-in")))?;
        Ok(Mine { signed_in, tenant, held })
    }

    /// Reads a form of these pages, of whoever is signed in.
    async fn sent<W: DeserializeOwned>(
        &self,
        purpose: Purpose,
        headers: &HeaderMap,
        directory: &str,
        body: Body,
    ) -> Result<Sent<W>, Failure> {
        let fields = Fields::read(headers, body).await?;
        let browser = cookie::form(headers).ok_or_else(Failure::no_cookies)?;
        let mine = self.mine(headers, directory).await?;
        let form = self.form_key.read::<About<W>>(purpose, &browser, fields.get("form"));
        let form = form.map_err(|_| Failure::form_stale())?;
        if form.about.sign_in != mine.signed_in.sign_in.id {
            return Err(Failure::other_account());
        }
        Ok(Sent { mine, what: form.about.what, ends_at: form.ends_at, fields })
    }

    /// The token of a form of these pages.
    fn account_form<W: Serialize>(
        &self,
        purpose: Purpose,
        browser: &Token,
        mine: &Mine,
        ends_at: Timestamp,
        what: W,
    ) -> String {
        let about = About { sign_in: mine.signed_in.sign_in.id, what };
        self.form_key.write(purpose, browser, ends_at, &about)
    }
}
