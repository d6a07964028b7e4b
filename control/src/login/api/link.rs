//! What is asked for by an address and goes on behind a mailed link: signing up, a forgotten password, an invitation.
//!
//! What the first step answers does not depend on whether the address has an account (R13). A link's token comes in a body, never
//! in an address, so that no log has it.

use mezusphere_identity::flow::by_mail::{self, ByMail, Cause};
use mezusphere_identity::flow::{Onward, Refusal, invitation, recovery, sign_up};
use mezusphere_model::Timestamp;
use serde::{Deserialize, Serialize};

use super::super::Visitor;
use super::super::destination::AppAddress;
use super::body::{Answer, Inbox, Json, Link, inbox, ok};
use super::origin::Page;
use super::problem::{self, Told};
use super::{App, Done, Login, SignedInAnswer, State};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Address {
    /// A host of the application.
    host: String,
    email: String,
    /// Where the link leads on.
    #[serde(default)]
    return_to: Option<String>,
}

/// A host that is only named: nobody comes back by it, so its state is nobody's.
const NO_STATE: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

impl Address {
    fn read(self) -> Done<(AppAddress, String)> {
        let app = App { host: self.host, state_hash: NO_STATE.to_owned(), return_to: self.return_to };
        Ok((app.address()?, self.email))
    }
}

fn onward(app: &AppAddress) -> Onward {
    Onward { host: app.host.clone(), return_to: app.return_to.clone() }
}

impl Login {
    /// The directory of an application that mail can be sent for.
    async fn mailed(&self, page: &Page, app: &AppAddress) -> Done<super::Tenant> {
        if !self.mail.is_available() {
            return Err(problem::MAIL_OFF.told());
        }
        let found = self.desk.primary.read(async |tx| {
            let resolved = app.resolve(tx).await?.ok_or_else(|| problem::UNKNOWN_HOST.told())?;
            page.serves(resolved.directory)?;
            self.tenant(tx, resolved.directory).await
        });
        found.await
    }

    /// Takes an address and mails it, the same whether it has an account or not.
    async fn ask_by_mail(
        &self,
        cause: Cause,
        page: &Page,
        Visitor(visit): Visitor,
        address: Address,
    ) -> Done<Answer<Inbox>> {
        let (app, email) = address.read()?;
        let tenant = self.mailed(page, &app).await?;
        let mut flow = ByMail::begin(cause, &self.desk.entropy, &tenant.row, self.desk.clock.now())?;
        let asked = flow.ask(&self.desk, &visit, &tenant.row, &email)?;
        let sent = self.desk.primary.write(async |tx| {
            let messages = by_mail::send(tx, &asked, Some(&onward(&app))).await?;
            Ok::<_, Told>(self.mail(tx, &messages).await?)
        });
        sent.await?;
        Ok(inbox())
    }
}

/// `POST /sign-up`.
pub(super) async fn sign_up(
    login: State,
    page: Page,
    visit: Visitor,
    Json(address): Json<Address>,
) -> Done<Answer<Inbox>> {
    login.ask_by_mail(Cause::SignUp, &page, visit, address).await
}

/// `POST /recovery`.
pub(super) async fn recover(
    login: State,
    page: Page,
    visit: Visitor,
    Json(address): Json<Address>,
) -> Done<Answer<Inbox>> {
    login.ask_by_mail(Cause::Recovery, &page, visit, address).await
}

/// What a link leads to.
#[derive(Serialize)]
pub(super) struct LinkAnswer {
    /// `choose`: a name and a password, or a password; `join`: nothing but saying so.
    next: &'static str,
    email: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    ends_at: String,
    /// Who invited.
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    /// Where it leads on afterwards: the application's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    onward: Option<String>,
}

impl LinkAnswer {
    fn choose(login: &Login, email: &str, name: &str, ends_at: Timestamp, to: Option<&Onward>) -> Self {
        let onward = to.map(|to| format!("{}{}", login.platform.origin(&to.host), to.return_to));
        let (email, name) = (email.to_owned(), name.to_owned());
        Self { next: "choose", email, name, ends_at: ends_at.to_string(), by: None, onward }
    }
}

/// `POST /sign-up/link`: changes nothing.
pub(super) async fn show_sign_up(
    login: State,
    page: Page,
    visit: Visitor,
    Json(Link { link }): Json<Link>,
) -> Done<Answer<LinkAnswer>> {
    let (_, open) = login.desk.open(&visit.0, &link, sign_up::open).await?;
    page.serves(open.directory)?;
    let email = open.email.as_str();
    Ok(ok(LinkAnswer::choose(&login, email, "", open.ends_at, open.onward.as_ref())))
}

/// `POST /recovery/link`: changes nothing.
pub(super) async fn show_recovery(
    login: State,
    page: Page,
    visit: Visitor,
    Json(Link { link }): Json<Link>,
) -> Done<Answer<LinkAnswer>> {
    let (_, open) = login.desk.open(&visit.0, &link, recovery::open).await?;
    page.serves(open.user.directory)?;
    let user = &open.user;
    Ok(ok(LinkAnswer::choose(&login, &user.email, user.shown_name(), open.ends_at, open.onward.as_ref())))
}

/// `POST /invitation/link`: changes nothing.
pub(super) async fn show_invitation(
    login: State,
    page: Page,
    visit: Visitor,
    Json(Link { link }): Json<Link>,
) -> Done<Answer<LinkAnswer>> {
    let (_, open) = login.desk.open(&visit.0, &link, invitation::open).await?;
    page.serves(open.directory)?;
    let next = match open.next_step {
        invitation::Step::Choose => "choose",
        invitation::Step::Join => "join",
    };
    let email = open.email.as_str();
    let told = LinkAnswer::choose(&login, email, &open.name, open.ends_at, open.onward.as_ref());
    Ok(ok(LinkAnswer { next, by: Some(open.by), ..told }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Choose {
    link: String,
    name: String,
    password: String,
    #[serde(default)]
    app: Option<App>,
}

/// `POST /sign-up/complete`: makes the account and signs in.
pub(super) async fn complete_sign_up(
    login: State,
    page: Page,
    visit: Visitor,
    Json(Choose { link, name, password, app }): Json<Choose>,
) -> Done<Answer<SignedInAnswer>> {
    let app = app.map(App::address).transpose()?;
    let visit = visit.0;
    // Before any work is spent on the password: strangers have no link.
    let (token, open) = login.desk.open(&visit, &link, sign_up::open).await?;
    page.serves(open.directory)?;
    let tenant = login.desk.primary.read(async |tx| login.tenant(tx, open.directory).await).await?;
    let known = Login::known_of(open.email.as_str(), &[&name], &tenant);
    let hash = login.desk.new_password(password, known).await?;
    let done = login.desk.primary.write(async |tx| {
        let done = sign_up::complete(tx, &token, &name, hash).await?;
        let (actor, target) = (done.user.id.to_string(), done.user.id.to_string());
        let detail = serde_json::json!({ "by": "sign-up" });
        login.audit(tx, &tenant.row, &visit, actor, "user.create", target, detail);
        login.signed_in(tx, &tenant.row, &done.who, &visit, app.as_ref()).await
    });
    Ok(ok(done.await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Recover {
    link: String,
    password: String,
}

/// `POST /recovery/complete`: sets the password. Every sign-in has ended, and none begins (R17).
pub(super) async fn complete_recovery(
    login: State,
    page: Page,
    visit: Visitor,
    Json(Recover { link, password }): Json<Recover>,
) -> Done<http::StatusCode> {
    let visit = visit.0;
    let (token, open) = login.desk.open(&visit, &link, recovery::open).await?;
    page.serves(open.user.directory)?;
    let tenant = login.desk.primary.read(async |tx| login.tenant(tx, open.user.directory).await).await?;
    let known = Login::known_of(&open.user.email, &[&open.user.name, &open.user.display_name], &tenant);
    let hash = login.desk.new_password(password, known).await?;
    let done = login.desk.primary.write(async |tx| {
        let done = recovery::complete(tx, &token, hash, &visit.place()).await?;
        let (actor, target) = (done.user.id.to_string(), done.user.id.to_string());
        let detail = serde_json::json!({ "by": "recovery" });
        login.audit(tx, &tenant.row, &visit, actor, "password.set", target, detail);
        login.mail(tx, &done.messages).await?;
        Ok::<_, Told>(http::StatusCode::NO_CONTENT)
    });
    done.await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Accept {
    link: String,
    /// Both for who has no account yet, neither for who has.
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    password: Option<String>,
    #[serde(default)]
    app: Option<App>,
}

/// What became of an invitation.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Accepted {
    /// A new account, signed in.
    SignedIn(Box<SignedInAnswer>),
    /// An account that was there has the roles now; a link in a mail is no password.
    Joined {
        /// What is next.
        next: &'static str,
    },
}

/// `POST /invitation/complete`.
pub(super) async fn complete_invitation(
    login: State,
    page: Page,
    visit: Visitor,
    Json(Accept { link, name, password, app }): Json<Accept>,
) -> Done<Answer<Accepted>> {
    let app = app.map(App::address).transpose()?;
    let visit = visit.0;
    let (token, open) = login.desk.open(&visit, &link, invitation::open).await?;
    page.serves(open.directory)?;
    let tenant = login.desk.primary.read(async |tx| login.tenant(tx, open.directory).await).await?;
    if open.next_step == invitation::Step::Join {
        let done = login.desk.primary.write(async |tx| {
            let done = invitation::join(tx, &token).await?;
            let (actor, target) = (done.user.id.to_string(), done.user.id.to_string());
            let detail = serde_json::json!({ "by": open.by });
            login.audit(tx, &tenant.row, &visit, actor, "invitation.accept", target, detail);
            Ok::<_, Told>(Accepted::Joined { next: "sign_in" })
        });
        return Ok(ok(done.await?));
    }
    let (Some(name), Some(password)) = (name, password) else { return Err(Refusal::Incomplete.into()) };
    let known = Login::known_of(open.email.as_str(), &[&name], &tenant);
    let hash = login.desk.new_password(password, known).await?;
    let done = login.desk.primary.write(async |tx| {
        let done = invitation::accept(tx, &token, &name, hash).await?;
        let (actor, target) = (done.user.id.to_string(), done.user.id.to_string());
        let detail = serde_json::json!({ "by": open.by });
        login.audit(tx, &tenant.row, &visit, actor, "invitation.accept", target, detail);
        login.signed_in(tx, &tenant.row, &done.who, &visit, app.as_ref()).await
    });
    Ok(ok(Accepted::SignedIn(Box::new(done.await?))))
}
