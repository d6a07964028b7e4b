//! The pages that ask for an address and send a link to it: signing up, and a forgotten password. What they answer
//! does not depend on whether the address has an account (R13).

use axum::body::Body;
use axum::extract::RawQuery;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use mezusphere_identity::flow::Refusal;
use mezusphere_identity::flow::by_mail::{self, ByMail, Cause};
use serde::{Deserialize, Serialize};

use super::answer::{self, Failure};
use super::destination::Asked;
use super::form::{Fields, Purpose};
use super::target::{self, Target};
use super::told::{self, Beside, Form, Told};
use super::{Login, State, Visitor, cookie};
use crate::page::{AskMail, AskMailKind, MailSent, MailSentKind};

/// What a form is about: the flow, and where it leads in the end.
#[derive(Serialize, Deserialize)]
struct About {
    flow: ByMail,
    to: Asked,
}

/// A page of this kind.
struct Kind {
    purpose: Purpose,
    ask: AskMailKind,
    sent: MailSentKind,
    path: &'static str,
}

impl Kind {
    const fn of(cause: Cause) -> Self {
        match cause {
            Cause::SignUp => Self {
                purpose: Purpose::SignUp,
                ask: AskMailKind::SignUp,
                sent: MailSentKind::SignUp,
                path: "/sign-up",
            },
            Cause::Recovery => Self {
                purpose: Purpose::Recover,
                ask: AskMailKind::Recover,
                sent: MailSentKind::Recover,
                path: "/recover",
            },
        }
    }
}

/// `GET /sign-up`.
pub(super) async fn sign_up_page(
    login: State,
    query: RawQuery,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    login.ask_page(Cause::SignUp, query, &headers).await
}

/// `POST /sign-up`.
pub(super) async fn sign_up(
    login: State,
    visit: Visitor,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    login.ask(Cause::SignUp, visit, &headers, body).await
}

/// `GET /recover`.
pub(super) async fn recover_page(
    login: State,
    query: RawQuery,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    login.ask_page(Cause::Recovery, query, &headers).await
}

/// `POST /recover`.
pub(super) async fn recover(
    login: State,
    visit: Visitor,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    login.ask(Cause::Recovery, visit, &headers, body).await
}

impl Login {
    async fn ask_page(
        &self,
        cause: Cause,
        RawQuery(query): RawQuery,
        headers: &HeaderMap,
    ) -> Result<Response, Failure> {
        let (asked, _) = target::read(query.as_deref())?;
        let target = self.mailed_target(asked).await?;
        self.ask_form(cause, headers, &target, String::new(), None)
    }

    async fn ask(
        &self,
        cause: Cause,
        Visitor(visit): Visitor,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Response, Failure> {
        let kind = Kind::of(cause);
        let mut fields = Fields::read(headers, body).await?;
        let browser = cookie::form(headers).ok_or_else(Failure::no_cookies)?;
        let form = self.form_key.read::<About>(kind.purpose, &browser, fields.get("form"));
        let About { mut flow, to } = form.map_err(|_| Failure::form_stale())?.about;
        let target = self.mailed_target(to).await?;
        let email = fields.take("email").trim().to_owned();
        let done = async {
            let asked = flow.ask(&self.desk, &visit, &target.tenant.row, &email)?;
            let sent = self.desk.primary.write(async |tx| {
                let messages = by_mail::send(tx, &asked, target.asked.onward().as_ref()).await?;
                self.mail(tx, &messages).await
            });
            sent.await.map_err(Refusal::from)
        };
        match done.await {
            Ok(()) => Ok(sent(&target, &kind, email)),
            Err(refusal) => match Form::Address.tell(refusal, target.chrome().t, &target.sign_in()) {
                Told::Form(beside) => self.ask_form(cause, headers, &target, email, Some(beside)),
                Told::Page(failure) => Err(failure),
            },
        }
    }

    /// Where a flow leads that needs mail.
    async fn mailed_target(&self, asked: Asked) -> Result<Target, Failure> {
        if !self.mail.is_available() {
            return Err(Failure::mail_off());
        }
        self.desk.primary.read(async |tx| self.target(tx, asked).await).await?
    }

    fn ask_form(
        &self,
        cause: Cause,
        headers: &HeaderMap,
        target: &Target,
        email: String,
        beside: Option<Beside>,
    ) -> Result<Response, Failure> {
        let kind = Kind::of(cause);
        let flow = ByMail::begin(cause, &self.desk.entropy, &target.tenant.row, self.desk.clock.now());
        let flow = flow.map_err(|refusal| told::failure(refusal, &target.sign_in()))?;
        let (browser, set) = cookie::form_or_new(headers, &self.desk.entropy);
        let ends_at = flow.ends_at();
        let about = About { flow, to: target.asked.clone() };
        let form = self.form_key.write(kind.purpose, &browser, ends_at, &about);
        let page = told::show(beside, None, |problem| AskMail {
            chrome: target.chrome(),
            kind: kind.ask,
            app: target.leads_to(),
            email,
            form,
            problem,
            sign_in: target.sign_in(),
        });
        Ok(answer::with_cookie(page, set))
    }
}

/// "Check your mail", whatever there is to send.
fn sent(target: &Target, kind: &Kind, email: String) -> Response {
    let back = target.asked.path(kind.path);
    let page = MailSent { chrome: target.chrome(), kind: kind.sent, email, back };
    answer::page(StatusCode::OK, &page, None)
}
