//! The sign-in page: shows the form, takes the answer, sends people on.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::RawQuery;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use mezusphere_identity::factor::password::{Password, PoolError, ProveError, prove};
use mezusphere_identity::flow::Authenticated;
use mezusphere_identity::flow::login::{Login as Flow, Step};
use mezusphere_identity::sign_in as lifecycle;
use mezusphere_identity::sign_in::SignedIn;
use mezusphere_identity::throttle::AccountKey;
use mezusphere_model::id::{DirectoryId, FlowId, OrganizationId};
use mezusphere_model::token::Token;
use mezusphere_store::primary::audit::AuditEntry;
use mezusphere_store::primary::sign_in::{self, SignInRow};
use mezusphere_store::primary::{ReadTx, Tx};
use mezusphere_store::{StoreError, WriteError};
use serde::{Deserialize, Serialize};

use super::answer::{self, Failure};
use super::destination::{AppAddress, Asked, Resolved};
use super::form::{Fields, Purpose};
use super::{Login, State, Visitor, cookie};
use crate::page::{Chrome, LeadsTo, Problem, SignIn};

/// Fields of a query; ours has three.
const QUERY_FIELDS_MAX: usize = 16;

/// What a sign-in form is about.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct About {
    flow: FlowId,
    app: Option<AppAddress>,
}

/// Where a sign-in leads, and whose accounts it is for.
struct Target {
    app: Option<(AppAddress, Resolved)>,
    organization: OrganizationId,
    directory: DirectoryId,
}

/// `GET /sign-in`.
pub(super) async fn show(
    login: State,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let query = query.unwrap_or_default();
    let fields: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes())
        .take(QUERY_FIELDS_MAX)
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect();
    let app = match Asked::read(&fields).map_err(|_| Failure::bad_return())? {
        Asked::Home => None,
        Asked::App(app) => Some(app),
    };
    let held = cookie::sign_ins(&headers);
    let found = login.primary.read(async |tx| {
        let Some(target) = login.target(tx, app).await? else { return Ok(None) };
        let current = login.current(tx, &held, target.directory).await?;
        Ok::<_, StoreError>(Some((target, current)))
    });
    let (target, current) = found.await?.ok_or_else(Failure::unknown_host)?;
    match current {
        Some(current) => login.go_on(&target, &current.sign_in).await,
        None => Ok(login.form(&headers, &target, String::new(), None)),
    }
}

/// `POST /sign-in`.
pub(super) async fn submit(
    login: State,
    visitor: Visitor,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let mut fields = Fields::read(&headers, body).await?;
    let browser = cookie::form(&headers).ok_or_else(Failure::no_cookies)?;
    let form = login.form_key.read::<About>(Purpose::SignIn, &browser, fields.get("form"));
    let form = form.map_err(|_| Failure::form_stale())?;
    let target = login.primary.read(async |tx| login.target(tx, form.about.app).await).await?;
    let target = target.ok_or_else(Failure::unknown_host)?;
    let flow = Flow::resume(form.about.flow, target.directory, form.ends_at);
    let (email, password) = (fields.take("email").trim().to_owned(), fields.take("password"));
    match login.attempt(flow, &visitor, &email, password).await? {
        Ok(who) => login.welcome(&target, &who, &visitor, &headers).await,
        Err(refusal) => Ok(login.form(&headers, &target, email, Some(refusal))),
    }
}

/// Why an attempt did not sign anybody in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    Stale,
    Incomplete,
    TooLong,
    Throttled(Duration),
    Wrong,
    Inactive,
    Busy,
}

impl Refusal {
    /// 401 for a wrong password, so that logs, scripts and browsers can tell a failed sign-in from a page that
    /// was merely shown; the same for unknown accounts (R13).
    fn status(self) -> StatusCode {
        match self {
            Self::Wrong => StatusCode::UNAUTHORIZED,
            Self::Stale | Self::Inactive => StatusCode::FORBIDDEN,
            Self::Incomplete | Self::TooLong => StatusCode::BAD_REQUEST,
            Self::Throttled(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn problem(self, chrome: &Chrome) -> Problem {
        let t = chrome.t;
        match self {
            Self::Stale => Problem::other(t.stale, t.stale_next),
            Self::Incomplete => Problem::typed(t.incomplete, t.incomplete_next),
            Self::TooLong => Problem::typed(t.too_long, t.too_long_next),
            Self::Throttled(retry_after) => Problem::throttled(t, retry_after),
            Self::Wrong => Problem::typed(t.wrong, t.wrong_next),
            Self::Inactive => Problem::other(t.inactive, t.inactive_next),
            Self::Busy => Problem::other(t.busy, t.busy_next),
        }
    }

    fn headers(self, headers: &mut HeaderMap) {
        match self {
            // A 401 names a challenge (RFC 9110 §15.5.2); browsers pass over one they do not know.
            Self::Wrong => {
                headers.insert(
                    header::WWW_AUTHENTICATE,
                    HeaderValue::from_static("Mezu-Form realm=\"sign-in\""),
                );
            }
            Self::Throttled(retry_after) => {
                headers.insert(header::RETRY_AFTER, retry_after.as_secs().into());
            }
            Self::Busy => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
            }
            Self::Stale | Self::Incomplete | Self::TooLong | Self::Inactive => {}
        }
    }
}

impl Login {
    /// Where `app` leads; `None`: nothing is published there.
    async fn target(&self, tx: &mut ReadTx, app: Option<AppAddress>) -> Result<Option<Target>, StoreError> {
        let (organization, directory) = self.home;
        let Some(app) = app else { return Ok(Some(Target { app: None, organization, directory })) };
        let Some(resolved) = app.resolve(tx).await? else { return Ok(None) };
        let (organization, directory) = (resolved.organization, resolved.directory);
        Ok(Some(Target { app: Some((app, resolved)), organization, directory }))
    }

    /// Who of those this browser holds sign-ins of is of `directory`.
    async fn current(
        &self,
        tx: &mut ReadTx,
        held: &[Token],
        directory: DirectoryId,
    ) -> Result<Option<SignedIn>, StoreError> {
        for token in held {
            if let Some(found) = lifecycle::resolve(tx, token).await?
                && found.sign_in.directory == directory
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The form, new or with what went wrong.
    fn form(
        &self,
        headers: &HeaderMap,
        target: &Target,
        email: String,
        refusal: Option<Refusal>,
    ) -> Response {
        let (browser, set) = cookie::form_or_new(headers, &self.entropy);
        let flow = Flow::begin(&self.entropy, target.directory, self.clock.now());
        let about = About { flow: flow.id(), app: target.app.as_ref().map(|(app, _)| app.clone()) };
        let chrome = Chrome::english();
        let page = SignIn {
            chrome,
            app: target
                .app
                .as_ref()
                .map(|(app, resolved)| LeadsTo { name: resolved.name.clone(), host: app.host.to_string() }),
            email,
            form: self.form_key.write(Purpose::SignIn, &browser, flow.ends_at(), &about),
            problem: refusal.map(|refusal| refusal.problem(&chrome)),
        };
        let leads_to = target.app.as_ref().map(|(app, _)| self.platform.origin(&app.host));
        let status = refusal.map_or(StatusCode::OK, Refusal::status);
        let mut response = answer::page(status, &page, leads_to.as_deref());
        if let Some(refusal) = refusal {
            refusal.headers(response.headers_mut());
        }
        answer::with_cookie(response, set)
    }

    /// Tries a password. Everything that costs work comes after the throttle.
    async fn attempt(
        &self,
        mut flow: Flow,
        visitor: &Visitor,
        email: &str,
        password: String,
    ) -> Result<Result<Authenticated, Refusal>, Failure> {
        if flow.check(self.clock.now()).is_err() {
            return Ok(Err(Refusal::Stale));
        }
        if email.is_empty() || password.is_empty() {
            return Ok(Err(Refusal::Incomplete));
        }
        let Ok(password) = Password::new(password) else { return Ok(Err(Refusal::TooLong)) };
        let attempt = match self.throttle.begin(AccountKey::of(flow.directory(), email), visitor.address) {
            Ok(attempt) => attempt,
            Err(throttled) => {
                tracing::info!(scope = ?throttled.scope, directory = %flow.directory(), "A sign-in was throttled");
                return Ok(Err(Refusal::Throttled(throttled.retry_after)));
            }
        };
        let proof = match prove(&self.primary, &self.passwords, flow.directory(), email, password).await {
            Ok(proof) => {
                self.throttle.succeeded(attempt);
                proof
            }
            // The attempt stays charged.
            Err(ProveError::Wrong) => return Ok(Err(Refusal::Wrong)),
            Err(error) => {
                self.throttle.not_judged(attempt);
                return match error {
                    ProveError::Store(error) => Err(error.into()),
                    ProveError::Pool(PoolError::Busy | PoolError::Stopped) => Ok(Err(Refusal::Busy)),
                    _ => Ok(Err(Refusal::Inactive)),
                };
            }
        };
        match flow.prove(proof, self.clock.now()) {
            Ok(Step::SignedIn(who)) => Ok(Ok(who)),
            // No flow asks for a second factor yet; one that ended while the password was checked is shown anew.
            Ok(Step::Prove(_)) | Err(_) => Ok(Err(Refusal::Stale)),
        }
    }

    /// Begins the sign-in and sends the browser where it wanted to go.
    async fn welcome(
        &self,
        target: &Target,
        who: &Authenticated,
        visitor: &Visitor,
        headers: &HeaderMap,
    ) -> Result<Response, Failure> {
        let held = cookie::sign_ins(headers);
        let done = self.primary.write(async |tx| {
            let (row, tokens) =
                self.begin(tx, target.organization, target.directory, who, visitor, &held).await?;
            let location = self.location(tx, target, &row).await?;
            Ok::<_, WriteError>((tokens, location))
        });
        let (tokens, location) = done.await?;
        Ok(answer::with_cookie(answer::see_other(&location), cookie::set_sign_ins(&tokens)))
    }

    /// Begins a sign-in and writes it down. The browser's earlier one in this directory ends, and its oldest one
    /// if it holds too many. Returns the tokens the browser holds from now on, newest first.
    pub(super) async fn begin(
        &self,
        tx: &mut Tx,
        organization: OrganizationId,
        directory: DirectoryId,
        who: &Authenticated,
        visitor: &Visitor,
        held: &[Token],
    ) -> Result<(SignInRow, Vec<Token>), WriteError> {
        let (mut replaced, mut kept) = (None, Vec::new());
        for token in held {
            match sign_in::find(tx, &token.hash()).await? {
                Some(row) if row.directory == directory => replaced = Some(token),
                Some(row) if kept.len() + 1 < cookie::SIGN_INS_MAX => kept.push((row, token)),
                Some(row) => drop(sign_in::end(tx, row.directory, row.id).await?),
                None => {}
            }
        }
        let place = visitor.place();
        let (row, token) =
            lifecycle::begin(tx, &self.entropy, directory, who, self.limits, &place, replaced).await?;
        tx.audit(AuditEntry {
            organization,
            project: None,
            actor: row.user.to_string(),
            action: "sign_in.begin".to_owned(),
            target: row.id.to_string(),
            address: Some(place.address),
            detail: serde_json::json!({ "directory": directory, "methods": row.methods }),
        });
        let tokens = std::iter::once(token).chain(kept.into_iter().map(|(_, token)| token.clone())).collect();
        Ok((row, tokens))
    }

    /// Where a signed-in browser goes: to the application with a hand-off code, or to its account.
    async fn location(&self, tx: &mut Tx, target: &Target, row: &SignInRow) -> Result<String, WriteError> {
        let Some((app, resolved)) = &target.app else { return Ok("/account".to_owned()) };
        let code = lifecycle::hand_off(tx, &self.entropy, row, &resolved.destination).await?;
        Ok(format!("{}/.mezu/callback?code={}", self.platform.origin(&app.host), code.reveal()))
    }

    /// Sends a browser on that is signed in already.
    async fn go_on(self: &Arc<Self>, target: &Target, row: &SignInRow) -> Result<Response, Failure> {
        let location = self.primary.write(async |tx| self.location(tx, target, row).await).await?;
        Ok(answer::see_other(&location))
    }
}
