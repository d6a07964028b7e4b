//! The password once more: an application asks for a fresher sign-in than the browser has (RFC 9470). The account is
//! settled; the sign-in gets a new token and leads to the same place.

use axum::body::Body;
use axum::response::Response;
use http::HeaderMap;
use mezusphere_identity::desk::Visit;
use mezusphere_identity::flow::login::Step;
use mezusphere_identity::flow::step_up::{self, Demand, StepUp};
use mezusphere_identity::flow::{Authenticated, Refusal};
use mezusphere_identity::sign_in::SignedIn;
use mezusphere_model::token::Token;
use mezusphere_store::StoreError;
use serde::{Deserialize, Serialize};

use super::answer::{self, Failure};
use super::destination::Asked;
use super::form::{Fields, Purpose};
use super::target::Target;
use super::told::{self, Beside, Form, Told};
use super::wish::{Prompt, Wish};
use super::{Login, State, Visitor, cookie};
use crate::page::Confirm;

/// What the form is about.
#[derive(Serialize, Deserialize)]
struct About {
    flow: StepUp,
    to: Asked,
    demand: Demand,
}

/// `POST /confirm`.
pub(super) async fn submit(
    login: State,
    Visitor(visit): Visitor,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let mut fields = Fields::read(&headers, body).await?;
    let browser = cookie::form(&headers).ok_or_else(Failure::no_cookies)?;
    let form = login.form_key.read::<About>(Purpose::Confirm, &browser, fields.get("form"));
    let About { mut flow, to, demand } = form.map_err(|_| Failure::form_stale())?.about;
    let held = cookie::sign_ins(&headers);
    let found = login.desk.primary.read(async |tx| {
        let target = match login.target(tx, to).await? {
            Ok(target) => target,
            Err(failure) => return Ok(Err(failure)),
        };
        let current = login.current(tx, &held, target.directory()).await?;
        Ok::<_, StoreError>(Ok((target, current)))
    });
    let (target, current) = found.await??;
    let back = target.asked.sign_in(Wish { demand, prompt: None });
    let (current, token) = current.ok_or_else(|| Failure::session_over(back.clone()))?;
    let done = match flow.password(&login.desk, &visit, &current, fields.take("password")).await {
        Ok(Step::SignedIn(who)) => login.raise(&target, &current, &who, &visit, &held, &token).await,
        Ok(Step::Prove(_)) => Err(Refusal::Expired),
        Err(refusal) => Err(refusal),
    };
    match done {
        Ok(response) => Ok(response),
        Err(refusal) => match Form::Confirm.tell(refusal, target.chrome().t, &back) {
            Told::Form(beside) => Ok(login.confirm_form(&headers, &target, demand, &current, Some(beside))),
            Told::Page(failure) => Err(failure),
        },
    }
}

impl Login {
    /// The form, new or with what went wrong.
    pub(super) fn confirm_form(
        &self,
        headers: &HeaderMap,
        target: &Target,
        demand: Demand,
        current: &SignedIn,
        beside: Option<Beside>,
    ) -> Response {
        let (browser, set) = cookie::form_or_new(headers, &self.desk.entropy);
        // A second factor is asked for before this page, where there is none.
        let fresh = Demand { max_age_s: demand.max_age_s, ..Demand::default() };
        let flow = StepUp::begin(&self.desk.entropy, current, fresh, self.desk.clock.now());
        let ends_at = flow.login().ends_at();
        let about = About { flow, to: target.asked.clone(), demand };
        let leads_to = self.origin_of(target);
        let response = told::show(beside, leads_to.as_deref(), |problem| Confirm {
            chrome: target.chrome(),
            app: target.leads_to(),
            email: current.user.email.clone(),
            form: self.form_key.write(Purpose::Confirm, &browser, ends_at, &about),
            problem,
            another: target.asked.sign_in(Wish { demand, prompt: Some(Prompt::Login) }),
            recover: self.mail.is_available().then(|| target.asked.path("/recover")),
        });
        answer::with_cookie(response, set)
    }

    /// Raises the sign-in and goes on; its new token takes the place of the old one in the cookie.
    async fn raise(
        &self,
        target: &Target,
        current: &SignedIn,
        who: &Authenticated,
        visit: &Visit,
        held: &[Token],
        old: &Token,
    ) -> Result<Response, Refusal> {
        let done = self.desk.primary.write(async |tx| {
            let raised = step_up::complete(tx, current, who, &visit.place()).await?;
            let user = current.user.id.to_string();
            let detail = serde_json::json!({ "methods": raised.row.methods });
            let target_id = raised.row.id.to_string();
            self.audit(tx, &target.tenant.row, visit, user, "sign_in.step_up", target_id, detail);
            let location = self.location(tx, target, &raised.row).await?;
            Ok::<_, Refusal>((raised.token, location))
        });
        let (token, location) = done.await?;
        let others = held.iter().filter(|other| other.hash() != old.hash()).cloned();
        let tokens: Vec<Token> = std::iter::once(token).chain(others).collect();
        Ok(answer::with_cookie(answer::see_other(&location), cookie::set_sign_ins(&tokens)))
    }
}
