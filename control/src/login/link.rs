//! The pages behind links on which somebody chooses a password: the first sign-in, signing up, an invitation, recovery.
//! Showing one consumes nothing; a mail scanner may look.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::MethodRouter;
use http::{HeaderMap, StatusCode};
use mezusphere_identity::account;
use mezusphere_identity::desk::Visit;
use mezusphere_identity::factor::password::PasswordHash;
use mezusphere_identity::flow::first_sign_in::{self, CompleteError};
use mezusphere_identity::flow::invitation::{self, Step};
use mezusphere_identity::flow::{Authenticated, Onward, Refusal, recovery, sign_up};
use mezusphere_model::Timestamp;
use mezusphere_model::id::DirectoryId;
use mezusphere_model::token::Token;
use mezusphere_store::primary::project;
use mezusphere_store::primary::{ReadTx, Tx};
use serde::{Deserialize, Serialize};

use super::answer::{self, Failure};
use super::destination::{self, Asked, Further};
use super::form::{self, Fields, Purpose};
use super::tenant::Tenant;
use super::told::{self, Beside, Form, Told};
use super::{Login, State, Visitor, cookie};
use crate::page::{Choose, ChooseKind, ConfirmAddress, Confirms, Done, DoneKind, Way};

/// Which link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    First,
    SignUp,
    Invitation,
    Recover,
}

/// What the form is about: this link and no other.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
struct About {
    link: String,
}

/// A link that leads somewhere.
struct Open {
    directory: DirectoryId,
    email: String,
    /// What they are called, as far as it is known.
    name: String,
    /// The name that is shown, if it is another.
    display_name: String,
    onward: Option<Onward>,
    ends_at: Timestamp,
    kind: ChooseKind,
    /// An invitation to somebody who has an account: there is no password to choose.
    is_known: bool,
}

/// An open link with what its page needs.
struct Page {
    link: Link,
    token: Token,
    open: Open,
    tenant: Tenant,
    further: Option<Further>,
}

/// The pages of a link: `GET` shows, `POST` acts.
pub(super) fn pages(link: Link) -> MethodRouter<Arc<Login>> {
    axum::routing::get(async move |login: State, path: Path<String>, visitor: Visitor, headers: HeaderMap| {
        show(link, &login, path.0, visitor.0, &headers).await
    })
    .post(
        async move |login: State, path: Path<String>, visitor: Visitor, headers: HeaderMap, body: Body| {
            submit(link, &login, path.0, visitor.0, &headers, body).await
        },
    )
}

async fn show(
    link: Link,
    login: &Login,
    token: String,
    visit: Visit,
    headers: &HeaderMap,
) -> Result<Response, Failure> {
    let page = login.open_link(link, &token, &visit, headers).await?;
    Ok(login.link_form(headers, &page, None, None))
}

async fn submit(
    link: Link,
    login: &Login,
    token: String,
    visit: Visit,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let mut fields = Fields::read(headers, body).await?;
    let browser = cookie::form(headers).ok_or_else(Failure::no_cookies)?;
    // Before any work is spent on the password: strangers have no link.
    let page = login.open_link(link, &token, &visit, headers).await?;
    let form = login.form_key.read::<About>(Purpose::Link, &browser, fields.get("form"));
    let form = form.map_err(|_| Failure::form_stale())?;
    if form.about != About::of(&page.token) || form.ends_at <= login.desk.clock.now() {
        return Err(Failure::form_stale());
    }
    if page.open.is_known {
        return login.join(&page, &visit).await;
    }
    let name = if page.asks_name() { fields.take("name") } else { page.open.name.clone() };
    let typed = Some(name.as_str());
    if fields.get("password") != fields.get("repeat") {
        let t = page.tenant.chrome().t;
        return Ok(login.link_form(headers, &page, typed, Some(Form::differ(t))));
    }
    match login.choose(&page, &name, fields.take("password"), &visit, headers).await {
        Ok(response) => Ok(response),
        Err(refusal) => {
            let sign_in = Asked::Directory(page.open.directory).path("/sign-in");
            match Form::Choose.tell(refusal, page.tenant.chrome().t, &sign_in) {
                Told::Form(beside) => Ok(login.link_form(headers, &page, typed, Some(beside))),
                Told::Page(failure) => Err(failure),
            }
        }
    }
}

impl About {
    fn of(link: &Token) -> Self {
        Self { link: form::fingerprint(link) }
    }
}

impl Link {
    const fn path(self) -> &'static str {
        match self {
            Self::First => "/first-sign-in",
            Self::SignUp => "/sign-up",
            Self::Invitation => "/invitation",
            Self::Recover => "/recover",
        }
    }

    async fn open(self, tx: &mut ReadTx, token: &Token) -> Result<Open, Refusal> {
        Ok(match self {
            Self::First => {
                let open = first_sign_in::open(tx, token).await?;
                Open {
                    directory: open.directory,
                    email: open.email,
                    name: open.name,
                    display_name: open.display_name,
                    onward: None,
                    ends_at: open.ends_at,
                    kind: ChooseKind::First,
                    is_known: false,
                }
            }
            Self::SignUp => {
                let open = sign_up::open(tx, token).await?;
                Open {
                    directory: open.directory,
                    email: open.email.as_str().to_owned(),
                    name: String::new(),
                    display_name: String::new(),
                    onward: open.onward,
                    ends_at: open.ends_at,
                    kind: ChooseKind::SignUp,
                    is_known: false,
                }
            }
            Self::Invitation => {
                let open = invitation::open(tx, token).await?;
                let project = project::get(tx, open.project).await?.ok_or(Refusal::LinkDead)?.name;
                Open {
                    directory: open.directory,
                    email: open.email.as_str().to_owned(),
                    name: open.name,
                    display_name: String::new(),
                    onward: open.onward,
                    ends_at: open.ends_at,
                    kind: ChooseKind::Invitation { by: open.by, project },
                    is_known: matches!(open.next_step, Step::Join),
                }
            }
            Self::Recover => {
                let open = recovery::open(tx, token).await?;
                Open {
                    directory: open.user.directory,
                    email: open.user.email,
                    name: open.user.name,
                    display_name: open.user.display_name,
                    onward: open.onward,
                    ends_at: open.ends_at,
                    kind: ChooseKind::Recover,
                    is_known: false,
                }
            }
        })
    }
}

impl Page {
    const fn asks_name(&self) -> bool {
        matches!(self.link, Link::SignUp | Link::Invitation)
    }

    fn action(&self) -> String {
        format!("{}/{}", self.link.path(), self.token.reveal())
    }
}

impl Login {
    async fn open_link(
        &self,
        link: Link,
        text: &str,
        visit: &Visit,
        headers: &HeaderMap,
    ) -> Result<Page, Failure> {
        let opened = self.desk.open(visit, text, async |tx, token| {
            let open = link.open(tx, token).await?;
            let directory = open.directory;
            let tenant = Tenant::find(tx, directory).await?.ok_or(Refusal::LinkDead)?;
            let further = destination::onward(tx, open.onward.as_ref(), directory).await?;
            Ok((open, tenant, further))
        });
        match opened.await {
            Ok((token, (open, tenant, further))) => Ok(Page { link, token, open, tenant, further }),
            Err(Refusal::LinkDead) => Err(dead(link, headers)),
            Err(refusal) => Err(told::failure(refusal, "/account")),
        }
    }

    /// The form, new or with what went wrong; `name` is what was typed.
    fn link_form(
        &self,
        headers: &HeaderMap,
        page: &Page,
        name: Option<&str>,
        beside: Option<Beside>,
    ) -> Response {
        let (browser, set) = cookie::form_or_new(headers, &self.desk.entropy);
        let form = self.form_key.write(Purpose::Link, &browser, page.open.ends_at, &About::of(&page.token));
        let leads_to = page.further.as_ref().map(|further| self.platform.origin(&further.host));
        let Open { email, kind, .. } = &page.open;
        let response = match kind {
            ChooseKind::Invitation { project, .. } if page.open.is_known => {
                told::show(beside, None, |_| ConfirmAddress {
                    chrome: page.tenant.chrome(),
                    what: Confirms::Invitation,
                    email: email.clone(),
                    whose: project.clone(),
                    action: page.action(),
                    form,
                })
            }
            kind => told::show(beside, leads_to.as_deref(), |problem| Choose {
                chrome: page.tenant.chrome(),
                kind: kind.clone(),
                email: email.clone(),
                name: name.unwrap_or(&page.open.name).to_owned(),
                action: page.action(),
                form,
                problem,
            }),
        };
        answer::with_cookie(response, set)
    }

    /// Takes the link and the password, and goes on: signed in, but after a recovery (R17).
    async fn choose(
        &self,
        page: &Page,
        name: &str,
        password: String,
        visit: &Visit,
        headers: &HeaderMap,
    ) -> Result<Response, Refusal> {
        let name = if page.asks_name() { account::check_name(name)? } else { name };
        let product = page.tenant.chrome().t.product.to_owned();
        let names = [name.to_owned(), page.open.display_name.clone()];
        let about = [page.open.email.clone(), page.tenant.name.clone(), product];
        let about = about.into_iter().chain(names).collect();
        let hash = self.desk.new_password(password, about).await?;
        let held = cookie::sign_ins(headers);
        let directory = &page.tenant.row;
        let done = self.desk.primary.write(async |tx| {
            let Some(who) = self.take(tx, page, name, hash, visit).await? else { return Ok(None) };
            let welcome = self.welcome(tx, directory, &who, visit, &held).await?;
            Ok::<_, Refusal>(Some(welcome.tokens))
        });
        let Some(tokens) = done.await? else { return Ok(self.recovered(page)) };
        let location = self.further(page.further.as_ref(), directory.id);
        Ok(answer::with_cookie(answer::see_other(&location), cookie::set_sign_ins(&tokens)))
    }

    /// Completes the flow; returns who is signed in by it, if anybody is.
    async fn take(
        &self,
        tx: &mut Tx,
        page: &Page,
        name: &str,
        hash: PasswordHash,
        visit: &Visit,
    ) -> Result<Option<Authenticated>, Refusal> {
        let (user, action, by, who) = match page.link {
            Link::First => match first_sign_in::complete(tx, &page.token, hash).await {
                Ok((open, who)) => (open.user, "password.set", "first-sign-in", Some(who)),
                Err(CompleteError::Dead) => return Err(Refusal::LinkDead),
                Err(CompleteError::Write(error)) => return Err(error.into()),
            },
            Link::SignUp => {
                let done = sign_up::complete(tx, &page.token, name, hash).await?;
                (done.user.id, "user.create", "sign-up", Some(done.who))
            }
            Link::Invitation => {
                let done = invitation::accept(tx, &page.token, name, hash).await?;
                (done.user.id, "invitation.accept", "invitation", Some(done.who))
            }
            Link::Recover => {
                let done = recovery::complete(tx, &page.token, hash, &visit.place()).await?;
                self.mail(tx, &done.messages).await?;
                (done.user.id, "password.set", "recovery", None)
            }
        };
        let (actor, target) = (user.to_string(), user.to_string());
        let detail = serde_json::json!({ "by": by });
        self.audit(tx, &page.tenant.row, visit, actor, action, target, detail);
        Ok(who)
    }

    /// Nobody is signed in by a recovery: the mailbox alone is not enough to be somebody (R17).
    fn recovered(&self, page: &Page) -> Response {
        let directory = page.open.directory;
        let next = match &page.further {
            Some(_) => self.further(page.further.as_ref(), directory),
            None => Asked::Directory(directory).path("/sign-in"),
        };
        done(page, DoneKind::Recovered, next)
    }

    /// An invitation accepted by somebody who has an account: they sign in as usual.
    async fn join(&self, page: &Page, visit: &Visit) -> Result<Response, Failure> {
        let joined = self.desk.primary.write(async |tx| {
            let joined = invitation::join(tx, &page.token).await?;
            let (actor, target) = (joined.user.id.to_string(), joined.user.id.to_string());
            let detail = serde_json::json!({ "by": "invitation" });
            self.audit(tx, &page.tenant.row, visit, actor, "invitation.accept", target, detail);
            Ok::<_, Refusal>(())
        });
        joined.await.map_err(|refusal| told::failure(refusal, "/account"))?;
        let next = self.further(page.further.as_ref(), page.open.directory);
        Ok(done(page, DoneKind::Joined, next))
    }
}

/// Tells what is done, and where to go from here.
fn done(page: &Page, kind: DoneKind, next: String) -> Response {
    let page = Done {
        chrome: page.tenant.chrome(),
        kind,
        email: page.open.email.clone(),
        next,
        app: page.further.as_ref().map(|further| further.name.clone()),
    };
    answer::page(StatusCode::OK, &page, None)
}

/// A link that leads nowhere, with the way on: who sent a form twice is signed in by the first one.
fn dead(link: Link, headers: &HeaderMap) -> Failure {
    let failure = Failure::link_dead();
    if !cookie::sign_ins(headers).is_empty() {
        return failure.with_way(Way::Account);
    }
    match link {
        // Only there signing in at the installation itself is a way on.
        Link::First => failure.with_way(Way::SignIn("/sign-in".to_owned())),
        _ => failure,
    }
}
