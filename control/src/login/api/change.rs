//! Changes of what an account is signed in with: its password, its address, whether the address is verified.

use mezusphere_identity::flow::change_email::{self, ChangeEmail};
use mezusphere_identity::flow::change_password::{self, ChangePassword};
use mezusphere_identity::flow::verify_email;
use serde::{Deserialize, Serialize};

use super::super::Visitor;
use super::body::{Answer, Inbox, Json, Link, inbox, ok};
use super::origin::Page;
use super::problem::{self, Told};
use super::token::Bearer;
use super::{App, Done, Login, SignedInAnswer, State};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewPassword {
    current: String,
    password: String,
    /// The host the client has a session on: that session ends with all others, and a code for a new one comes back.
    #[serde(default)]
    app: Option<App>,
}

/// `POST /account/password`: every sign-in ends, and one begins for this client.
pub(super) async fn password(
    login: State,
    page: Page,
    bearer: Bearer,
    visit: Visitor,
    Json(NewPassword { current, password, app }): Json<NewPassword>,
) -> Done<Answer<SignedInAnswer>> {
    let app = app.map(App::address).transpose()?;
    let visit = visit.0;
    let (held, tenant) = login.held(&bearer, &page).await?;
    let flow = ChangePassword::begin(&login.desk.entropy, &held, login.desk.clock.now());
    let known = Login::known_of(&held.user.email, &[&held.user.name, &held.user.display_name], &tenant);
    let chosen = flow.choose(&login.desk, &visit, &held, (current, password), known).await;
    let chosen = chosen.map_err(|why| Told::from(why).for_signed_in())?;
    let done = login.desk.primary.write(async |tx| {
        let changed = change_password::complete(tx, &held, &chosen, &visit.place()).await?;
        let (actor, target) = (changed.user.id.to_string(), changed.user.id.to_string());
        let detail = serde_json::json!({ "by": "change" });
        login.audit(tx, &tenant.row, &visit, actor, "password.set", target, detail);
        login.mail(tx, &changed.messages).await?;
        login.signed_in(tx, &tenant.row, &chosen.who, &visit, app.as_ref()).await
    });
    Ok(ok(done.await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewEmail {
    email: String,
    password: String,
}

/// `POST /change-email`: the same answer whether the new address has an account or not.
pub(super) async fn email(
    login: State,
    page: Page,
    bearer: Bearer,
    visit: Visitor,
    Json(NewEmail { email, password }): Json<NewEmail>,
) -> Done<Answer<Inbox>> {
    if !login.mail.is_available() {
        return Err(problem::MAIL_OFF.told());
    }
    let visit = visit.0;
    let (held, _) = login.held(&bearer, &page).await?;
    let mut flow = ChangeEmail::begin(&login.desk.entropy, &held, login.desk.clock.now());
    let asked = flow.ask(&login.desk, &visit, &held, &email, password).await;
    let asked = asked.map_err(|why| Told::from(why).for_signed_in())?;
    let sent = login.desk.primary.write(async |tx| {
        let messages = change_email::send(tx, &held, &asked).await?;
        Ok::<_, Told>(login.mail(tx, &messages).await?)
    });
    sent.await?;
    Ok(inbox())
}

/// An address, as it is now.
#[derive(Serialize)]
pub(super) struct EmailAnswer {
    email: String,
}

/// `POST /change-email/complete`.
pub(super) async fn complete_email(
    login: State,
    page: Page,
    visit: Visitor,
    Json(Link { link }): Json<Link>,
) -> Done<Answer<EmailAnswer>> {
    let visit = visit.0;
    let (token, open) = login.desk.open(&visit, &link, change_email::open).await?;
    page.serves(open.user.directory)?;
    let done = login.desk.primary.write(async |tx| {
        let changed = change_email::complete(tx, &token, &visit.place()).await?;
        let tenant = login.tenant(tx, changed.user.directory).await?;
        let (actor, target) = (changed.user.id.to_string(), changed.user.id.to_string());
        login.audit(tx, &tenant.row, &visit, actor, "email.change", target, serde_json::json!({}));
        login.mail(tx, &changed.messages).await?;
        Ok::<_, Told>(EmailAnswer { email: changed.user.email })
    });
    Ok(ok(done.await?))
}

/// `POST /verify-email`.
pub(super) async fn verify(login: State, page: Page, bearer: Bearer, visit: Visitor) -> Done<Answer<Inbox>> {
    if !login.mail.is_available() {
        return Err(problem::MAIL_OFF.told());
    }
    let visit = visit.0;
    let (held, _) = login.held(&bearer, &page).await?;
    let asked = verify_email::ask(&login.desk, &visit, &held)?;
    let sent = login.desk.primary.write(async |tx| {
        let messages = verify_email::send(tx, &asked, None).await?;
        Ok::<_, Told>(login.mail(tx, &messages).await?)
    });
    sent.await?;
    Ok(inbox())
}

/// `POST /verify-email/complete`.
pub(super) async fn complete_verify(
    login: State,
    page: Page,
    visit: Visitor,
    Json(Link { link }): Json<Link>,
) -> Done<Answer<EmailAnswer>> {
    let (token, open) = login.desk.open(&visit.0, &link, verify_email::open).await?;
    page.serves(open.user.directory)?;
    let done = login.desk.primary.write(async |tx| {
        let verified = verify_email::complete(tx, &token).await?;
        Ok::<_, Told>(EmailAnswer { email: verified.user.email })
    });
    Ok(ok(done.await?))
}
