//! The pages behind links that need but a button: an address is confirmed, or becomes the account's.

use axum::body::Body;
use axum::extract::Path;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use mezusphere_identity::desk::Visit;
use mezusphere_identity::flow::{Refusal, change_email, verify_email};
use mezusphere_model::Timestamp;
use mezusphere_model::token::Token;
use mezusphere_store::primary::ReadTx;
use mezusphere_store::primary::user::UserRow;
use serde::{Deserialize, Serialize};

use super::answer::{self, Failure};
use super::destination::{self, Further};
use super::form::{self, Fields, Purpose};
use super::tenant::Tenant;
use super::{Login, State, Visitor, cookie, told};
use crate::page::{ConfirmAddress, Confirms, Done, DoneKind, Way};

/// What the form is about: this link and no other.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
struct About {
    link: String,
}

/// An open link.
struct Page {
    what: Confirms,
    token: Token,
    user: UserRow,
    /// The address it is about.
    email: String,
    ends_at: Timestamp,
    tenant: Tenant,
    further: Option<Further>,
}

/// `GET /verify/<token>`.
pub(super) async fn show_verify(
    login: State,
    Path(token): Path<String>,
    Visitor(visit): Visitor,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let page = login.open_address(Confirms::Address, &token, &visit, &headers).await?;
    Ok(login.address_form(&headers, &page))
}

/// `POST /verify/<token>`.
pub(super) async fn verify(
    login: State,
    Path(token): Path<String>,
    Visitor(visit): Visitor,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let page = login.sent_address(Confirms::Address, &token, &visit, &headers, body).await?;
    let done = login.desk.primary.write(async |tx| {
        let open = verify_email::complete(tx, &page.token).await?;
        let user = open.user.id.to_string();
        let detail = serde_json::Value::Null;
        login.audit(tx, &page.tenant.row, &visit, user.clone(), "email.verify", user, detail);
        Ok::<_, Refusal>(())
    });
    done.await.map_err(|refusal| told::failure(refusal, "/account"))?;
    Ok(login.address_done(&page, DoneKind::Verified))
}

/// `GET /change-email/<token>`.
pub(super) async fn show_change(
    login: State,
    Path(token): Path<String>,
    Visitor(visit): Visitor,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let page = login.open_address(Confirms::NewAddress, &token, &visit, &headers).await?;
    Ok(login.address_form(&headers, &page))
}

/// `POST /change-email/<token>`.
pub(super) async fn change(
    login: State,
    Path(token): Path<String>,
    Visitor(visit): Visitor,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let page = login.sent_address(Confirms::NewAddress, &token, &visit, &headers, body).await?;
    let done = login.desk.primary.write(async |tx| {
        let changed = change_email::complete(tx, &page.token, &visit.place()).await?;
        let user = changed.user.id.to_string();
        let detail = serde_json::Value::Null;
        login.audit(tx, &page.tenant.row, &visit, user.clone(), "email.change", user, detail);
        login.mail(tx, &changed.messages).await?;
        Ok::<_, Refusal>(())
    });
    done.await.map_err(|refusal| told::failure(refusal, "/account"))?;
    Ok(login.address_done(&page, DoneKind::AddressChanged))
}

impl About {
    fn of(link: &Token) -> Self {
        Self { link: form::fingerprint(link) }
    }
}

async fn open(
    what: Confirms,
    tx: &mut ReadTx,
    token: &Token,
) -> Result<(UserRow, String, Timestamp, Tenant, Option<Further>), Refusal> {
    let (user, email, ends_at, onward) = if what == Confirms::NewAddress {
        let open = change_email::open(tx, token).await?;
        (open.user, open.new.as_str().to_owned(), open.ends_at, None)
    } else {
        let open = verify_email::open(tx, token).await?;
        let email = open.user.email.clone();
        (open.user, email, open.ends_at, open.onward)
    };
    let tenant = Tenant::find(tx, user.directory).await?.ok_or(Refusal::LinkDead)?;
    let further = destination::onward(tx, onward.as_ref(), user.directory).await?;
    Ok((user, email, ends_at, tenant, further))
}

impl Login {
    async fn open_address(
        &self,
        what: Confirms,
        text: &str,
        visit: &Visit,
        headers: &HeaderMap,
    ) -> Result<Page, Failure> {
        match self.desk.open(visit, text, async |tx, token| open(what, tx, token).await).await {
            Ok((token, (user, email, ends_at, tenant, further))) => {
                Ok(Page { what, token, user, email, ends_at, tenant, further })
            }
            Err(Refusal::LinkDead) if !cookie::sign_ins(headers).is_empty() => {
                Err(Failure::link_dead().with_way(Way::Account))
            }
            Err(refusal) => Err(told::failure(refusal, "/account")),
        }
    }

    /// The link behind a form that was sent.
    async fn sent_address(
        &self,
        what: Confirms,
        text: &str,
        visit: &Visit,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Page, Failure> {
        let fields = Fields::read(headers, body).await?;
        let browser = cookie::form(headers).ok_or_else(Failure::no_cookies)?;
        let page = self.open_address(what, text, visit, headers).await?;
        let form = self.form_key.read::<About>(Purpose::Link, &browser, fields.get("form"));
        let form = form.map_err(|_| Failure::form_stale())?;
        if form.about != About::of(&page.token) || form.ends_at <= self.desk.clock.now() {
            return Err(Failure::form_stale());
        }
        Ok(page)
    }

    fn address_form(&self, headers: &HeaderMap, page: &Page) -> Response {
        let (browser, set) = cookie::form_or_new(headers, &self.desk.entropy);
        let path = if page.what == Confirms::NewAddress { "/change-email" } else { "/verify" };
        let shown = ConfirmAddress {
            chrome: page.tenant.chrome(),
            what: page.what,
            email: page.email.clone(),
            whose: page.tenant.name.clone(),
            action: format!("{path}/{}", page.token.reveal()),
            form: self.form_key.write(Purpose::Link, &browser, page.ends_at, &About::of(&page.token)),
        };
        answer::with_cookie(answer::page(StatusCode::OK, &shown, None), set)
    }

    fn address_done(&self, page: &Page, kind: DoneKind) -> Response {
        let done = Done {
            chrome: page.tenant.chrome(),
            kind,
            email: page.email.clone(),
            next: self.further(page.further.as_ref(), page.user.directory),
            app: page.further.as_ref().map(|further| further.name.clone()),
        };
        answer::page(StatusCode::OK, &done, None)
    }
}
