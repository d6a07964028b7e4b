//! The flows as a JSON API, for single-page and mobile applications: `https://login.<platform>/api/v1`.
//!
//! ```text
//! POST   /sign-in                    begins; gives the flow and what it waits for
//! POST   /sign-in/password           an address and its password
//! DELETE /sign-in                    signs out here                                     token
//! POST   /sign-up                    mails a link to an address
//! POST   /sign-up/link, /complete    what a link leads to; a name and a password
//! POST   /recovery                   mails a link to an address
//! POST   /recovery/link, /complete   what a link leads to; a new password
//! POST   /invitation/link, /complete what a link leads to; a name and a password, or nothing
//! POST   /verify-email               mails a link to the account's address              token
//! POST   /verify-email/complete      the address is the account's
//! POST   /change-email               mails a link to a new address                      token
//! POST   /change-email/complete      the address is the new one
//! POST   /step-up                    the password again                                 token
//! POST   /token, /hand-off           a new token; a code for another host               token
//! GET    /account, PATCH /account    who is signed in; their name                       token
//! POST   /account/password           a new password                                     token
//! GET    /account/sign-ins           where they are signed in                           token
//! DELETE /account/sign-ins[/{id}]    everywhere else; there                             token
//! GET    /account/history            what happened to the account                       token
//! ```
//!
//! The same flow values, throttles and answers as the pages': `identity` has the logic, here is only JSON. No cookie is read or
//! set, so no request can be forged by a page of another site (R16); who is signed in is said by a [`token`] in `authorization`.
//! Pages of the directory's own applications may ask ([`origin`]), programs that are no browsers too.
//!
//! A sign-in ends in a **code** for one host, bound to a secret of the client's choice; the application's own host turns it into
//! the session cookie (`POST /.mezu/session`). So a session is presented as in a browser, whoever signed in.

mod account;
mod body;
mod change;
mod link;
mod origin;
mod problem;
mod sign_in;
mod token;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, post};
use mezusphere_identity::desk::Visit;
use mezusphere_identity::flow::Authenticated;
use mezusphere_identity::sign_in as lifecycle;
use mezusphere_identity::sign_in::Welcome;
use mezusphere_model::id::DirectoryId;
use mezusphere_store::StoreError;
use mezusphere_store::primary::directory::DirectoryRow;
use mezusphere_store::primary::sign_in::SignInRow;
use mezusphere_store::primary::user::UserRow;
use mezusphere_store::primary::{ReadTx, Tx};
use serde::{Deserialize, Serialize};

use self::problem::Told;
use super::destination::{AppAddress, Asked, Resolved};
use super::tenant::Tenant;
use super::{Login, answer};

/// Where it begins.
pub(super) const PREFIX: &str = "/api/v1";

type State = axum::extract::State<Arc<Login>>;
type Done<T> = Result<T, Told>;

/// The endpoints, below [`PREFIX`].
pub(super) fn router(login: &Arc<Login>) -> Router {
    Router::new()
        .route("/sign-in", post(sign_in::begin).delete(sign_in::end))
        .route("/sign-in/password", post(sign_in::password))
        .route("/sign-up", post(link::sign_up))
        .route("/sign-up/link", post(link::show_sign_up))
        .route("/sign-up/complete", post(link::complete_sign_up))
        .route("/recovery", post(link::recover))
        .route("/recovery/link", post(link::show_recovery))
        .route("/recovery/complete", post(link::complete_recovery))
        .route("/invitation/link", post(link::show_invitation))
        .route("/invitation/complete", post(link::complete_invitation))
        .route("/verify-email", post(change::verify))
        .route("/verify-email/complete", post(change::complete_verify))
        .route("/change-email", post(change::email))
        .route("/change-email/complete", post(change::complete_email))
        .route("/step-up", post(sign_in::step_up))
        .route("/token", post(sign_in::renew))
        .route("/hand-off", post(sign_in::hand_off))
        .route("/account", get(account::show).patch(account::rename))
        .route("/account/password", post(change::password))
        .route("/account/sign-ins", get(account::sign_ins).delete(account::end_others))
        .route("/account/sign-ins/{id}", delete(account::end_one))
        .route("/account/history", get(account::history))
        .fallback(async || problem::NOT_FOUND.told())
        .method_not_allowed_fallback(async || problem::METHOD.told())
        .layer(middleware::from_fn_with_state(Arc::clone(login), guard))
        .with_state(Arc::clone(login))
}

/// Lets pages of registered hosts ask, answers their preflights, and puts the security headers on every answer.
async fn guard(login: State, mut request: Request, next: Next) -> Response {
    let page = match login.page(request.headers()).await {
        Ok(page) => page,
        Err(told) => {
            let mut response = told.into_response();
            answer::secure(response.headers_mut());
            return response;
        }
    };
    let is_preflight = request.method() == http::Method::OPTIONS;
    request.extensions_mut().insert(page.clone());
    let mut response = if is_preflight { origin::preflight() } else { next.run(request).await };
    page.put(response.headers_mut());
    answer::secure(response.headers_mut());
    response
}

/// An application's host that a client wants a session on.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct App {
    /// The host.
    host: String,
    /// SHA-256 of 32 random bytes that the client keeps, base64url.
    state_hash: String,
    /// Path there, told again by nobody but browsers that are sent back.
    #[serde(default)]
    return_to: Option<String>,
}

impl App {
    fn address(self) -> Done<AppAddress> {
        let fields = [
            ("host", self.host),
            ("return_to", self.return_to.unwrap_or_else(|| "/".to_owned())),
            ("state", self.state_hash),
        ];
        let fields: Vec<(String, String)> =
            fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        match Asked::read(&fields) {
            Ok(Asked::App(address)) => Ok(address),
            _ => Err(problem::BAD_RETURN.told()),
        }
    }
}

/// Somebody is signed in: what a client gets.
#[derive(Serialize)]
struct SignedInAnswer {
    next: &'static str,
    account: AccountAnswer,
    /// For `authorization: Bearer …` here; not a session of any application.
    token: String,
    token_ends_at: String,
    /// For the application's host, if one was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    hand_off: Option<HandOffAnswer>,
}

/// A code, and where it becomes a session.
#[derive(Serialize)]
struct HandOffAnswer {
    code: String,
    /// POST `{code, state}` here.
    session_url: String,
    ends_in_s: u64,
}

#[derive(Serialize)]
struct AccountAnswer {
    id: String,
    email: String,
    email_verified: bool,
    name: String,
    /// What they are called where a name is shown; empty: by their name.
    display_name: String,
}

impl AccountAnswer {
    fn of(user: &UserRow) -> Self {
        Self {
            id: user.id.to_string(),
            email: user.email.clone(),
            email_verified: user.email_verified_at.is_some(),
            name: user.name.clone(),
            display_name: user.display_name.clone(),
        }
    }
}

impl Login {
    /// The application's host, if it is one of `directory`'s projects.
    async fn app(
        &self,
        tx: &mut ReadTx,
        address: Option<&AppAddress>,
        directory: DirectoryId,
    ) -> Done<Option<Resolved>> {
        let Some(address) = address else { return Ok(None) };
        let found = address.resolve(tx).await?.filter(|resolved| resolved.directory == directory);
        found.map(Some).ok_or_else(|| problem::UNKNOWN_HOST.told())
    }

    /// Begins a sign-in for a client that holds no other, and hands it over to the application.
    async fn signed_in(
        &self,
        tx: &mut Tx,
        directory: &DirectoryRow,
        who: &Authenticated,
        visit: &Visit,
        app: Option<&AppAddress>,
    ) -> Done<SignedInAnswer> {
        let Welcome { row, .. } = self.welcome(tx, directory, who, visit, &[]).await?;
        self.answer(tx, &row, app).await
    }

    /// What the holder of a sign-in gets.
    async fn answer(&self, tx: &mut Tx, row: &SignInRow, app: Option<&AppAddress>) -> Done<SignedInAnswer> {
        let user = mezusphere_store::primary::user::get(tx, row.directory, row.user).await?;
        let user = user.ok_or_else(|| problem::SESSION_OVER.told())?;
        let hand_off = match self.app(tx, app, row.directory).await? {
            None => None,
            Some(resolved) => Some(self.code(tx, row, &resolved).await?),
        };
        let (token, ends_at) = token::seal(&self.form_key, row, tx.now());
        Ok(SignedInAnswer {
            next: "done",
            account: AccountAnswer::of(&user),
            token,
            token_ends_at: ends_at.to_string(),
            hand_off,
        })
    }

    async fn code(&self, tx: &mut Tx, row: &SignInRow, resolved: &Resolved) -> Done<HandOffAnswer> {
        let destination = &resolved.destination;
        let code = lifecycle::hand_off(tx, &self.desk.entropy, row, destination).await?;
        Ok(HandOffAnswer {
            code: code.reveal(),
            session_url: format!("{}/.mezu/session", self.platform.origin(&destination.host)),
            ends_in_s: lifecycle::HAND_OFF_TTL.as_secs(),
        })
    }

    /// The directory with what people are shown of it.
    async fn tenant(&self, tx: &mut ReadTx, id: DirectoryId) -> Done<Tenant> {
        let found: Result<Option<Tenant>, StoreError> = Tenant::find(tx, id).await;
        found?.ok_or_else(|| problem::UNKNOWN_HOST.told())
    }

    /// What an attacker knows of somebody: their password must be none of it.
    fn known_of(email: &str, names: &[&str], tenant: &Tenant) -> Vec<String> {
        [email, &tenant.name].iter().chain(names).map(|&text| text.to_owned()).collect()
    }
}
