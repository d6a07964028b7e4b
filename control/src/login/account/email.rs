//! Confirming the address, and changing it: both lead through a mail.

use axum::body::Body;
use axum::extract::Path;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use mezusphere_identity::flow::change_email::{self, ChangeEmail as Flow};
use mezusphere_identity::flow::{FlowError, LINK_TTL, Refusal, verify_email};

use super::{Mine, Sent, overview};
use crate::login::answer::{self, Failure};
use crate::login::form::Purpose;
use crate::login::told::{self, Beside, Form, Told};
use crate::login::{Login, State, Visitor, cookie};
use crate::page::{ChangeEmail, MailSent, MailSentKind, VerifyEmail};

/// `GET /account/<directory>/email`.
pub(super) async fn show(
    login: State,
    Path(directory): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    login.needs_mail()?;
    let Ok(mine) = login.mine_or_sign_in(&headers, &directory).await? else {
        return Ok(answer::see_other(&overview::sign_in(&directory)?));
    };
    Ok(login.email_form(&headers, &mine, String::new(), None))
}

/// `POST /account/<directory>/email`.
pub(super) async fn submit(
    login: State,
    Path(directory): Path<String>,
    Visitor(visit): Visitor,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    login.needs_mail()?;
    let sent: Sent<Flow> = login.sent(Purpose::Email, &headers, &directory, body).await?;
    let Sent { mine, what: mut flow, mut fields, .. } = sent;
    let (typed, password) = (fields.take("email").trim().to_owned(), fields.take("current"));
    let done = async {
        let asked = flow.ask(&login.desk, &visit, &mine.signed_in, &typed, password).await?;
        let write = login.desk.primary.write(async |tx| {
            let messages = change_email::send(tx, &mine.signed_in, &asked).await?;
            Ok::<_, Refusal>(login.mail(tx, &messages).await?)
        });
        write.await
    };
    match done.await {
        Ok(()) => Ok(mail_sent(&mine, typed)),
        Err(refusal) => match Form::Email.tell(refusal, mine.tenant.chrome().t, &mine.sign_in()) {
            Told::Form(beside) => Ok(login.email_form(&headers, &mine, typed, Some(beside))),
            Told::Page(failure) => Err(failure),
        },
    }
}

/// `GET /account/<directory>/verify`.
pub(super) async fn show_verify(
    login: State,
    Path(directory): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    login.needs_mail()?;
    let Ok(mine) = login.mine_or_sign_in(&headers, &directory).await? else {
        return Ok(answer::see_other(&overview::sign_in(&directory)?));
    };
    if mine.signed_in.user.email_verified_at.is_some() {
        return Ok(answer::see_other(&mine.base()));
    }
    Ok(login.verify_form(&headers, &mine, None))
}

/// `POST /account/<directory>/verify`.
pub(super) async fn verify(
    login: State,
    Path(directory): Path<String>,
    Visitor(visit): Visitor,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    login.needs_mail()?;
    let sent: Sent<()> = login.sent(Purpose::Verify, &headers, &directory, body).await?;
    let Sent { mine, ends_at, .. } = sent;
    let done = async {
        if ends_at <= login.desk.clock.now() {
            return Err(Refusal::from(FlowError::Expired));
        }
        let asked = verify_email::ask(&login.desk, &visit, &mine.signed_in)?;
        let write = login.desk.primary.write(async |tx| {
            let messages = verify_email::send(tx, &asked, None).await?;
            Ok::<_, Refusal>(login.mail(tx, &messages).await?)
        });
        write.await
    };
    match done.await {
        Ok(()) => Ok(mail_sent(&mine, mine.signed_in.user.email.clone())),
        // Confirmed in another tab meanwhile: the account page says so.
        Err(Refusal::Unchanged) => Ok(answer::see_other(&mine.base())),
        Err(refusal) => match Form::Button.tell(refusal, mine.tenant.chrome().t, &mine.sign_in()) {
            Told::Form(beside) => Ok(login.verify_form(&headers, &mine, Some(beside))),
            Told::Page(failure) => Err(failure),
        },
    }
}

fn mail_sent(mine: &Mine, email: String) -> Response {
    let page =
        MailSent { chrome: mine.tenant.chrome(), kind: MailSentKind::Address, email, back: mine.base() };
    answer::page(StatusCode::OK, &page, None)
}

impl Login {
    fn needs_mail(&self) -> Result<(), Failure> {
        if self.mail.is_available() { Ok(()) } else { Err(Failure::mail_off()) }
    }

    fn email_form(&self, headers: &HeaderMap, mine: &Mine, new: String, beside: Option<Beside>) -> Response {
        let (browser, set) = cookie::form_or_new(headers, &self.desk.entropy);
        let flow = Flow::begin(&self.desk.entropy, &mine.signed_in, self.desk.clock.now());
        let form = self.account_form(Purpose::Email, &browser, mine, flow.ends_at(), flow.clone());
        let response = told::show(beside, None, |problem| ChangeEmail {
            chrome: mine.tenant.chrome(),
            base: mine.base(),
            email: mine.signed_in.user.email.clone(),
            new,
            form,
            problem,
        });
        answer::with_cookie(response, set)
    }

    fn verify_form(&self, headers: &HeaderMap, mine: &Mine, beside: Option<Beside>) -> Response {
        let (browser, set) = cookie::form_or_new(headers, &self.desk.entropy);
        let ends_at = self.desk.clock.now().after(LINK_TTL);
        let form = self.account_form(Purpose::Verify, &browser, mine, ends_at, ());
        let response = told::show(beside, None, |problem| VerifyEmail {
            chrome: mine.tenant.chrome(),
            base: mine.base(),
            email: mine.signed_in.user.email.clone(),
            form,
            problem,
        });
        answer::with_cookie(response, set)
    }
}
