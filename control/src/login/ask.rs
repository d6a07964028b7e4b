//! The pages that ask for an address and send a link to it: signing up, and a forgotten password. What they answer
//! does not depend on whether the address has an account (R13).

use axum::body::Body;
use axum::extract::RawQuery;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use mezusphere_identity::flow::Refusal;
use mezusphere_identity::flow::recovery::{self, Recovery};
use mezusphere_identity::flow::sign_up::{self, SignUp};
use mezusphere_store::primary::directory::SignUp as Policy;
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
struct About<F> {
    flow: F,
    to: Asked,
}

/// `GET /sign-up`.
pub(super) async fn sign_up_page(
    login: State,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let target = login.asked_target(query.as_deref()).await?;
    login.sign_up_form(&headers, &target, String::new(), None)
}

/// `POST /sign-up`.
pub(super) async fn sign_up(
    login: State,
    Visitor(visit): Visitor,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let mut fields = Fields::read(&headers, body).await?;
    let browser = cookie::form(&headers).ok_or_else(Failure::no_cookies)?;
    let form = login.form_key.read::<About<SignUp>>(Purpose::SignUp, &browser, fields.get("form"));
    let About { mut flow, to } = form.map_err(|_| Failure::form_stale())?.about;
    let target = login.mailed_target(to).await?;
    let email = fields.take("email").trim().to_owned();
    let done = async {
        let asked = flow.ask(&login.desk, &visit, &target.tenant.row, &email)?;
        login
            .desk
            .primary
            .write(async |tx| {
                let messages = sign_up::send(tx, &asked, target.asked.onward().as_ref()).await?;
                login.mail(tx, &messages).await
            })
            .await
            .map_err(Refusal::from)
    };
    match done.await {
        Ok(()) => Ok(sent(&target, MailSentKind::SignUp, email, "/sign-up")),
        Err(refusal) => match Form::Address.tell(refusal, target.chrome().t, &target.sign_in()) {
            Told::Form(beside) => login.sign_up_form(&headers, &target, email, Some(beside)),
            Told::Page(failure) => Err(failure),
        },
    }
}

/// `GET /recover`.
pub(super) async fn recover_page(
    login: State,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let target = login.asked_target(query.as_deref()).await?;
    Ok(login.recover_form(&headers, &target, String::new(), None))
}

/// `POST /recover`.
pub(super) async fn recover(
    login: State,
    Visitor(visit): Visitor,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let mut fields = Fields::read(&headers, body).await?;
    let browser = cookie::form(&headers).ok_or_else(Failure::no_cookies)?;
    let form = login.form_key.read::<About<Recovery>>(Purpose::Recover, &browser, fields.get("form"));
    let About { mut flow, to } = form.map_err(|_| Failure::form_stale())?.about;
    let target = login.mailed_target(to).await?;
    let email = fields.take("email").trim().to_owned();
    let done = async {
        let asked = flow.ask(&login.desk, &visit, &email)?;
        login
            .desk
            .primary
            .write(async |tx| {
                let messages = recovery::send(tx, &asked, target.asked.onward().as_ref()).await?;
                login.mail(tx, &messages).await
            })
            .await
            .map_err(Refusal::from)
    };
    match done.await {
        Ok(()) => Ok(sent(&target, MailSentKind::Recover, email, "/recover")),
        Err(refusal) => match Form::Address.tell(refusal, target.chrome().t, &target.sign_in()) {
            Told::Form(beside) => Ok(login.recover_form(&headers, &target, email, Some(beside))),
            Told::Page(failure) => Err(failure),
        },
    }
}

/// "Check your mail", whatever there is to send.
fn sent(target: &Target, kind: MailSentKind, email: String, page: &str) -> Response {
    let page = MailSent { chrome: target.chrome(), kind, email, back: target.asked.path(page) };
    answer::page(StatusCode::OK, &page, None)
}

impl Login {
    async fn asked_target(&self, query: Option<&str>) -> Result<Target, Failure> {
        let (asked, _) = target::read(query)?;
        self.mailed_target(asked).await
    }

    /// Where a flow leads that needs mail.
    async fn mailed_target(&self, asked: Asked) -> Result<Target, Failure> {
        if !self.mail.is_available() {
            return Err(Failure::mail_off());
        }
        self.desk.primary.read(async |tx| self.target(tx, asked).await).await?
    }

    fn sign_up_form(
        &self,
        headers: &HeaderMap,
        target: &Target,
        email: String,
        beside: Option<Beside>,
    ) -> Result<Response, Failure> {
        let flow = SignUp::begin(&self.desk.entropy, &target.tenant.row, self.desk.clock.now());
        let flow = flow.map_err(|_| match target.tenant.row.settings.sign_up {
            Policy::Invitation => Failure::invitation_only(),
            _ => Failure::sign_up_closed(),
        })?;
        let (browser, set) = cookie::form_or_new(headers, &self.desk.entropy);
        let ends_at = flow.ends_at();
        let about = About { flow, to: target.asked.clone() };
        let form = self.form_key.write(Purpose::SignUp, &browser, ends_at, &about);
        Ok(answer::with_cookie(ask(AskMailKind::SignUp, target, email, form, beside), set))
    }

    fn recover_form(
        &self,
        headers: &HeaderMap,
        target: &Target,
        email: String,
        beside: Option<Beside>,
    ) -> Response {
        let flow = Recovery::begin(&self.desk.entropy, target.directory(), self.desk.clock.now());
        let (browser, set) = cookie::form_or_new(headers, &self.desk.entropy);
        let ends_at = flow.ends_at();
        let about = About { flow, to: target.asked.clone() };
        let form = self.form_key.write(Purpose::Recover, &browser, ends_at, &about);
        answer::with_cookie(ask(AskMailKind::Recover, target, email, form, beside), set)
    }
}

fn ask(kind: AskMailKind, target: &Target, email: String, form: String, beside: Option<Beside>) -> Response {
    told::show(beside, None, |problem| AskMail {
        chrome: target.chrome(),
        kind,
        app: target.leads_to(),
        email,
        form,
        problem,
        sign_in: target.sign_in(),
    })
}
