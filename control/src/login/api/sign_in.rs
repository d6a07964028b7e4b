//! Signing in and out, proving it again, and going on to another application.

use mezusphere_identity::flow::login::{Login as Flow, Step};
use mezusphere_identity::flow::sign_up;
use mezusphere_identity::flow::step_up::{self, Demand, StepUp};
use mezusphere_identity::session;
use mezusphere_store::primary::sign_in;
use serde::{Deserialize, Serialize};

use super::super::destination::AppAddress;
use super::body::{Answer, Json, ok};
use super::origin::Page;
use super::problem;
use super::token::{self, Bearer};
use super::{App, Done, HandOffAnswer, SignedInAnswer, State};

/// A sign-in under way, as its client keeps it.
#[derive(Serialize, Deserialize)]
struct Sealed {
    flow: Flow,
    app: AppAddress,
}

/// What a sign-in waits for.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Next {
    /// A proof.
    Prove {
        next: &'static str,
        /// By one of these.
        methods: Vec<&'static str>,
        /// To be sent back with it.
        flow: String,
        flow_ends_at: String,
        /// What the application is called.
        #[serde(skip_serializing_if = "Option::is_none")]
        app: Option<String>,
        /// Whether strangers may sign up.
        #[serde(skip_serializing_if = "Option::is_none")]
        sign_up: Option<bool>,
        /// Whether a forgotten password can be recovered by mail.
        #[serde(skip_serializing_if = "Option::is_none")]
        recovery: Option<bool>,
    },
    /// Nothing.
    Done(Box<SignedInAnswer>),
}

/// `POST /sign-in`.
pub(super) async fn begin(login: State, page: Page, Json(app): Json<App>) -> Done<Answer<Next>> {
    let app = app.address()?;
    let found = login.desk.primary.read(async |tx| {
        let resolved = app.resolve(tx).await?.ok_or_else(|| problem::UNKNOWN_HOST.told())?;
        page.serves(resolved.directory)?;
        let tenant = login.tenant(tx, resolved.directory).await?;
        Ok::<_, problem::Told>((resolved, tenant))
    });
    let (resolved, tenant) = found.await?;
    let now = login.desk.clock.now();
    let flow = Flow::begin(&login.desk.entropy, resolved.directory, now);
    let ends_at = flow.ends_at();
    let sealed = token::seal_flow(&login.form_key, ends_at, &Sealed { flow, app });
    let has_mail = login.mail.is_available();
    Ok(ok(Next::Prove {
        next: "prove",
        methods: vec!["pwd"],
        flow: sealed,
        flow_ends_at: ends_at.to_string(),
        app: Some(resolved.name),
        sign_up: Some(has_mail && sign_up::is_offered(&tenant.row.settings.sign_up)),
        recovery: Some(has_mail),
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Proof {
    flow: String,
    email: String,
    password: String,
}

/// `POST /sign-in/password`.
pub(super) async fn password(
    login: State,
    page: Page,
    visit: super::super::Visitor,
    Json(Proof { flow, email, password }): Json<Proof>,
) -> Done<Answer<Next>> {
    let Sealed { mut flow, app } = token::open_flow(&login.form_key, &flow, login.desk.clock.now())?;
    page.serves(flow.directory())?;
    let visit = visit.0;
    let who = match flow.password(&login.desk, &visit, &email, password).await? {
        Step::SignedIn(who) => who,
        Step::Prove(methods) => {
            let ends_at = flow.ends_at();
            return Ok(ok(Next::Prove {
                next: "prove",
                methods: methods.iter().map(|method| method.as_str()).collect(),
                flow: token::seal_flow(&login.form_key, ends_at, &Sealed { flow, app }),
                flow_ends_at: ends_at.to_string(),
                app: None,
                sign_up: None,
                recovery: None,
            }));
        }
    };
    let directory = flow.directory();
    let done = login.desk.primary.write(async |tx| {
        let tenant = login.tenant(tx, directory).await?;
        login.signed_in(tx, &tenant.row, &who, &visit, Some(&app)).await
    });
    Ok(ok(Next::Done(Box::new(done.await?))))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Again {
    password: String,
    #[serde(default)]
    app: Option<App>,
}

/// `POST /step-up`: the sign-in is as new as this proof; the token before it is dead.
pub(super) async fn step_up(
    login: State,
    page: Page,
    bearer: Bearer,
    visit: super::super::Visitor,
    Json(Again { password, app }): Json<Again>,
) -> Done<Answer<SignedInAnswer>> {
    let app = app.map(App::address).transpose()?;
    let visit = visit.0;
    let held = login.desk.primary.read(async |tx| login.bearer(tx, &bearer).await).await?;
    page.serves(held.sign_in.directory)?;
    let mut flow = StepUp::begin(&login.desk.entropy, &held, Demand::default(), login.desk.clock.now());
    let step = flow.password(&login.desk, &visit, &held, password).await;
    let step = step.map_err(|why| problem::Told::from(why).for_signed_in())?;
    // One factor is all that is asked for here.
    let Step::SignedIn(who) = step else { return Err(problem::EXPIRED.told()) };
    let done = login.desk.primary.write(async |tx| {
        let raised = step_up::complete(tx, &held, &who, &visit.place()).await?;
        login.answer(tx, &raised.row, app.as_ref()).await
    });
    Ok(ok(done.await?))
}

#[derive(Serialize)]
pub(super) struct Renewed {
    token: String,
    token_ends_at: String,
}

/// `POST /token`: a new token while the one at hand is good. The sign-in counts as used.
pub(super) async fn renew(login: State, page: Page, bearer: Bearer) -> Done<Answer<Renewed>> {
    let done = login.desk.primary.write(async |tx| {
        let held = login.bearer(tx, &bearer).await?.sign_in;
        page.serves(held.directory)?;
        let now = tx.now();
        sign_in::seen(tx, held.directory, held.id, now).await?;
        Ok::<_, problem::Told>(token::seal(&login.form_key, &held, now))
    });
    let (token, ends_at) = done.await?;
    Ok(ok(Renewed { token, token_ends_at: ends_at.to_string() }))
}

/// `POST /hand-off`: a code for another host of the directory's projects, without asking for the password again.
pub(super) async fn hand_off(
    login: State,
    page: Page,
    bearer: Bearer,
    Json(app): Json<App>,
) -> Done<Answer<HandOffAnswer>> {
    let app = app.address()?;
    let done = login.desk.primary.write(async |tx| {
        let held = login.bearer(tx, &bearer).await?.sign_in;
        page.serves(held.directory)?;
        let resolved = login.app(tx, Some(&app), held.directory).await?;
        let resolved = resolved.ok_or_else(|| problem::UNKNOWN_HOST.told())?;
        login.code(tx, &held, &resolved).await
    });
    Ok(ok(done.await?))
}

/// `DELETE /sign-in`: ends the sign-in, with every session of it.
pub(super) async fn end(
    login: State,
    page: Page,
    bearer: Bearer,
    visit: super::super::Visitor,
) -> Done<http::StatusCode> {
    let visit = visit.0;
    login
        .desk
        .primary
        .write(async |tx| {
            let held = login.bearer(tx, &bearer).await?;
            page.serves(held.sign_in.directory)?;
            session::end_one(tx, &held.user, held.sign_in.id, Some(held.sign_in.id), &visit.place()).await?;
            let tenant = login.tenant(tx, held.sign_in.directory).await?;
            let (actor, target) = (held.user.id.to_string(), held.sign_in.id.to_string());
            let detail = serde_json::json!({ "by": "sign-out" });
            login.audit(tx, &tenant.row, &visit, actor, "sign_in.end", target, detail);
            Ok::<_, problem::Told>(http::StatusCode::NO_CONTENT)
        })
        .await
}
