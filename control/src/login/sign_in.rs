//! The sign-in page: shows the form, takes the answer, sends people on.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::RawQuery;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use mezusphere_identity::flow::Refusal;
use mezusphere_identity::flow::login::{Login as Flow, Step};
use mezusphere_identity::flow::step_up::Demand;
use mezusphere_identity::flow::{Authenticated, sign_up};
use mezusphere_identity::sign_in::SignedIn;
use mezusphere_model::id::FlowId;
use mezusphere_store::StoreError;
use mezusphere_store::primary::sign_in::SignInRow;
use serde::{Deserialize, Serialize};

use super::answer::{self, Failure};
use super::destination::Asked;
use super::form::{Fields, Purpose};
use super::target::{self, Target};
use super::told::{self, Beside, Form, Told};
use super::wish::{Prompt, Wish};
use super::{Login, State, Visitor, cookie};
use crate::page::{ChooseAccount, SignIn, TooWeak};

/// What a sign-in form is about.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct About {
    flow: FlowId,
    to: Asked,
    demand: Demand,
}

/// `GET /sign-in`.
pub(super) async fn show(
    login: State,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let (asked, wish) = target::read(query.as_deref())?;
    let held = cookie::sign_ins(&headers);
    let found = login.desk.primary.read(async |tx| {
        let target = match login.target(tx, asked).await? {
            Ok(target) => target,
            Err(failure) => return Ok(Err(failure)),
        };
        let current = login.current(tx, &held, target.directory()).await?;
        Ok::<_, StoreError>(Ok((target, current)))
    });
    let (target, current) = found.await??;
    let Some((current, _)) = current.filter(|_| wish.prompt != Some(Prompt::Login)) else {
        return Ok(login.sign_in_form(&headers, &target, wish.demand, String::new(), None));
    };
    if wish.prompt == Some(Prompt::SelectAccount) {
        return Ok(choose_account(&target, wish, &current));
    }
    // No account has a second factor yet; entering the password again would lead round in a circle.
    if current.sign_in.assurance < wish.demand.assurance {
        return login.too_weak(&target, wish, &current);
    }
    if !wish.demand.is_met(&current.sign_in, login.desk.clock.now()) {
        return Ok(login.confirm_form(&headers, &target, wish.demand, &current, None));
    }
    login.go_on(&target, &current.sign_in).await
}

/// `POST /sign-in`.
pub(super) async fn submit(
    login: State,
    Visitor(visit): Visitor,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let mut fields = Fields::read(&headers, body).await?;
    let browser = cookie::form(&headers).ok_or_else(Failure::no_cookies)?;
    let form = login.form_key.read::<About>(Purpose::SignIn, &browser, fields.get("form"));
    let form = form.map_err(|_| Failure::form_stale())?;
    let About { flow, to, demand } = form.about;
    let target = login.desk.primary.read(async |tx| login.target(tx, to).await).await??;
    let mut flow = Flow::resume(flow, target.directory(), form.ends_at);
    let (email, password) = (fields.take("email").trim().to_owned(), fields.take("password"));
    let step = flow.password(&login.desk, &visit, &email, password).await;
    let done = match step {
        Ok(Step::SignedIn(who)) => login.enter(&target, demand, &who, &visit, &headers).await,
        // No flow asks for a second factor yet; one that does is shown anew.
        Ok(Step::Prove(_)) => Err(Refusal::Expired),
        Err(refusal) => Err(refusal),
    };
    match done {
        Ok(response) => Ok(response),
        Err(refusal) => match Form::SignIn.tell(refusal, target.chrome().t, &target.sign_in()) {
            Told::Form(beside) => Ok(login.sign_in_form(&headers, &target, demand, email, Some(beside))),
            Told::Page(failure) => Err(failure),
        },
    }
}

impl Login {
    /// The form, new or with what went wrong.
    fn sign_in_form(
        &self,
        headers: &HeaderMap,
        target: &Target,
        demand: Demand,
        email: String,
        beside: Option<Beside>,
    ) -> Response {
        let (browser, set) = cookie::form_or_new(headers, &self.desk.entropy);
        let flow = Flow::begin(&self.desk.entropy, target.directory(), self.desk.clock.now());
        let about = About { flow: flow.id(), to: target.asked.clone(), demand };
        let mail = self.mail.is_available();
        let sign_up = mail && sign_up::is_offered(&target.tenant.row.settings.sign_up);
        let origin = self.origin_of(target);
        let response = told::show(beside, origin.as_deref(), |problem| SignIn {
            chrome: target.chrome(),
            app: target.leads_to(),
            email,
            form: self.form_key.write(Purpose::SignIn, &browser, flow.ends_at(), &about),
            problem,
            sign_up: sign_up.then(|| target.asked.path("/sign-up")),
            recover: mail.then(|| target.asked.path("/recover")),
        });
        answer::with_cookie(response, set)
    }

    /// Says that a second factor is asked for, with a way back. Without an application nothing asks for it.
    fn too_weak(&self, target: &Target, wish: Wish, current: &SignedIn) -> Result<Response, Failure> {
        let (Some(app), Some(origin)) = (target.leads_to(), self.origin_of(target)) else {
            return Err(Failure::bad_return());
        };
        let page = TooWeak {
            chrome: target.chrome(),
            app,
            back: format!("{origin}/"),
            email: current.user.email.clone(),
            another: target.asked.sign_in(Wish { prompt: Some(Prompt::Login), ..wish }),
        };
        Ok(answer::page(StatusCode::FORBIDDEN, &page, None))
    }

    /// Begins the sign-in and sends the browser where it wanted to go.
    async fn enter(
        &self,
        target: &Target,
        demand: Demand,
        who: &Authenticated,
        visit: &mezusphere_identity::desk::Visit,
        headers: &HeaderMap,
    ) -> Result<Response, Refusal> {
        let held = cookie::sign_ins(headers);
        let done = self.desk.primary.write(async |tx| {
            let welcome = self.welcome(tx, &target.tenant.row, who, visit, &held).await?;
            // Too weak for where it leads: the sign-in page says so.
            let location = if welcome.row.assurance < demand.assurance {
                target.asked.sign_in(Wish { demand, prompt: None })
            } else {
                self.location(tx, target, &welcome.row).await?
            };
            Ok::<_, Refusal>((welcome.tokens, location))
        });
        let (tokens, location) = done.await?;
        Ok(answer::with_cookie(answer::see_other(&location), cookie::set_sign_ins(&tokens)))
    }

    /// Sends a browser on that is signed in already.
    pub(super) async fn go_on(
        self: &Arc<Self>,
        target: &Target,
        row: &SignInRow,
    ) -> Result<Response, Failure> {
        let location = self.desk.primary.write(async |tx| self.location(tx, target, row).await).await?;
        Ok(answer::see_other(&location))
    }
}

/// Which account to go on with.
fn choose_account(target: &Target, wish: Wish, current: &SignedIn) -> Response {
    let way = |prompt| target.asked.sign_in(Wish { prompt, ..wish });
    let page = ChooseAccount {
        chrome: target.chrome(),
        app: target.leads_to(),
        name: current.user.shown_name().to_owned(),
        email: current.user.email.clone(),
        go_on: way(None),
        another: way(Some(Prompt::Login)),
    };
    answer::page(StatusCode::OK, &page, None)
}
