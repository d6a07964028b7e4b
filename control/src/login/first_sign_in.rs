//! The page behind a one-time link: choosing a password. Showing it consumes nothing; a mail scanner may look.

use axum::body::Body;
use axum::extract::Path;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use mezusphere_identity::factor::password::{Password, PoolError, SetError, Weakness};
use mezusphere_identity::flow::first_sign_in::{self, CompleteError, FirstSignIn};
use mezusphere_model::token::Token;
use mezusphere_store::primary::audit::AuditEntry;
use serde::{Deserialize, Serialize};

use super::answer::{self, Failure};
use super::form::{self, Fields, Purpose};
use super::{Login, State, Visitor, cookie, tenant};
use crate::page::{self, Chrome, Problem};

/// What the form is about: this link and no other.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
struct About {
    link: String,
}

/// `GET /first-sign-in/<token>`.
pub(super) async fn show(
    login: State,
    Path(token): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let (token, open) = login.open_link(&token).await?;
    Ok(login.choose(&headers, &token, &open, None))
}

/// `POST /first-sign-in/<token>`.
pub(super) async fn submit(
    login: State,
    Path(token): Path<String>,
    visitor: Visitor,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let mut fields = Fields::read(&headers, body).await?;
    let browser = cookie::form(&headers).ok_or_else(Failure::no_cookies)?;
    // Before any work is spent on the password: strangers have no link.
    let (token, open) = login.open_link(&token).await?;
    let form = login.form_key.read::<About>(Purpose::FirstSignIn, &browser, fields.get("form"));
    let form = form.map_err(|_| Failure::form_stale())?;
    if form.about != About::of(&token) || form.ends_at <= login.clock.now() {
        return Err(Failure::form_stale());
    }
    let same = fields.get("password") == fields.get("repeat");
    let password = match Password::new(fields.take("password")) {
        Ok(password) if same => password,
        Ok(_) => return Ok(login.choose(&headers, &token, &open, Some(Refusal::Differ))),
        Err(_) => return Ok(login.choose(&headers, &token, &open, Some(Refusal::TooLong))),
    };
    let about = vec![open.email.clone(), open.name.clone(), Chrome::english().t.product.to_owned()];
    let hash = match login.passwords.set(password, about).await {
        Ok(hash) => hash,
        Err(error) => return Ok(login.choose(&headers, &token, &open, Some(error.into()))),
    };
    let held = cookie::sign_ins(&headers);
    let done = login.primary.write(async |tx| {
        let (open, who) = first_sign_in::complete(tx, &token, hash).await?;
        let Some(directory) = tenant::directory(tx, open.directory).await? else {
            return Err(CompleteError::Dead);
        };
        tx.audit(AuditEntry {
            organization: directory.organization,
            project: directory.project,
            actor: open.user.to_string(),
            action: "password.set".to_owned(),
            target: open.user.to_string(),
            address: Some(visitor.address.to_string()),
            detail: serde_json::json!({ "by": "first-sign-in" }),
        });
        let (_, tokens) =
            login.begin(tx, directory.organization, directory.id, &who, &visitor, &held).await?;
        Ok(tokens)
    });
    match done.await {
        Ok(tokens) => Ok(answer::with_cookie(answer::see_other("/account"), cookie::set_sign_ins(&tokens))),
        Err(CompleteError::Dead) => Err(Failure::link_dead()),
        Err(CompleteError::Write(error)) => Err(error.into()),
    }
}

/// Why a password was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    Differ,
    TooLong,
    TooShort,
    Common,
    Busy,
}

impl From<SetError> for Refusal {
    fn from(error: SetError) -> Self {
        match error {
            SetError::Weak(Weakness::TooShort) => Self::TooShort,
            SetError::Weak(Weakness::Common) => Self::Common,
            SetError::Pool(PoolError::Busy | PoolError::Stopped) => Self::Busy,
        }
    }
}

impl Refusal {
    fn problem(self, chrome: &Chrome) -> (StatusCode, Problem) {
        let t = chrome.t;
        let problem = match self {
            Self::Differ => Problem::typed(t.differ, t.differ_next),
            Self::TooLong => Problem::typed(t.too_long, t.too_long_next),
            Self::TooShort => Problem::typed(t.too_short, t.too_short_next),
            Self::Common => Problem::typed(t.common, t.common_next),
            Self::Busy => return (StatusCode::SERVICE_UNAVAILABLE, Problem::other(t.busy, t.busy_next)),
        };
        (StatusCode::BAD_REQUEST, problem)
    }
}

impl About {
    fn of(link: &Token) -> Self {
        Self { link: form::fingerprint(link) }
    }
}

impl Login {
    async fn open_link(&self, text: &str) -> Result<(Token, FirstSignIn), Failure> {
        let token = Token::parse(text).ok_or_else(Failure::link_dead)?;
        let open = self.primary.read(async |tx| first_sign_in::peek(tx, &token).await).await?;
        let open = open.ok_or_else(Failure::link_dead)?;
        Ok((token, open))
    }

    fn choose(
        &self,
        headers: &HeaderMap,
        token: &Token,
        open: &FirstSignIn,
        refusal: Option<Refusal>,
    ) -> Response {
        let (browser, set) = cookie::form_or_new(headers, &self.entropy);
        let chrome = Chrome::english();
        let (status, problem) = refusal.map(|refusal| refusal.problem(&chrome)).unzip();
        let page = page::FirstSignIn {
            chrome,
            email: open.email.clone(),
            action: first_sign_in::path(token),
            form: self.form_key.write(Purpose::FirstSignIn, &browser, open.ends_at, &About::of(token)),
            problem,
        };
        answer::with_cookie(answer::page(status.unwrap_or(StatusCode::OK), &page, None), set)
    }
}
