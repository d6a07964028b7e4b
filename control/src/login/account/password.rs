//! Changing the password: the current one proves who asks, every other browser is signed out.

use axum::body::Body;
use axum::extract::Path;
use axum::response::Response;
use http::HeaderMap;
use mezusphere_identity::desk::Visit;
use mezusphere_identity::flow::Refusal;
use mezusphere_identity::flow::change_password::{self, ChangePassword as Flow};
use mezusphere_model::token::Token;

use super::{Mine, Sent, overview};
use crate::login::answer::{self, Failure};
use crate::login::form::Purpose;
use crate::login::told::{self, Beside, Form, Told};
use crate::login::{Login, State, Visitor, cookie};
use crate::page::ChangePassword;

/// `GET /account/<directory>/password`.
pub(super) async fn show(
    login: State,
    Path(directory): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let Ok(mine) = login.mine_or_sign_in(&headers, &directory).await? else {
        return Ok(answer::see_other(&overview::sign_in(&directory)?));
    };
    Ok(login.password_form(&headers, &mine, None))
}

/// `POST /account/<directory>/password`.
pub(super) async fn submit(
    login: State,
    Path(directory): Path<String>,
    Visitor(visit): Visitor,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let sent: Sent<Flow> = login.sent(Purpose::Password, &headers, &directory, body).await?;
    let Sent { mine, what: flow, mut fields, .. } = sent;
    if fields.get("password") != fields.get("repeat") {
        let beside = Form::differ(mine.tenant.chrome().t);
        return Ok(login.password_form(&headers, &mine, Some(beside)));
    }
    let (current, new) = (fields.take("current"), fields.take("password"));
    match login.change_password(&mine, &flow, current, new, &visit).await {
        Ok(tokens) => {
            let response = answer::see_other(&format!("{}?saved=password", mine.base()));
            Ok(answer::with_cookie(response, cookie::set_sign_ins(&tokens)))
        }
        Err(refusal) => match Form::Password.tell(refusal, mine.tenant.chrome().t, &mine.sign_in()) {
            Told::Form(beside) => Ok(login.password_form(&headers, &mine, Some(beside))),
            Told::Page(failure) => Err(failure),
        },
    }
}

impl Login {
    fn password_form(&self, headers: &HeaderMap, mine: &Mine, beside: Option<Beside>) -> Response {
        let (browser, set) = cookie::form_or_new(headers, &self.desk.entropy);
        let flow = Flow::begin(&self.desk.entropy, &mine.signed_in, self.desk.clock.now());
        let form = self.account_form(Purpose::Password, &browser, mine, flow.ends_at(), flow.clone());
        let response = told::show(beside, None, |problem| ChangePassword {
            chrome: mine.tenant.chrome(),
            base: mine.base(),
            email: mine.signed_in.user.email.clone(),
            form,
            problem,
        });
        answer::with_cookie(response, set)
    }

    /// Sets the password and begins a sign-in for this browser anew; returns the tokens it holds from now on.
    async fn change_password(
        &self,
        mine: &Mine,
        flow: &Flow,
        current: String,
        new: String,
        visit: &Visit,
    ) -> Result<Vec<Token>, Refusal> {
        let user = &mine.signed_in.user;
        let product = mine.tenant.chrome().t.product.to_owned();
        let names = [user.name.clone(), user.display_name.clone()];
        let about =
            [user.email.clone(), mine.tenant.name.clone(), product].into_iter().chain(names).collect();
        let chosen = flow.choose(&self.desk, visit, &mine.signed_in, (current, new), about).await?;
        let directory = &mine.tenant.row;
        let write = self.desk.primary.write(async |tx| {
            let changed = change_password::complete(tx, &mine.signed_in, &chosen, &visit.place()).await?;
            let id = changed.user.id.to_string();
            let detail = serde_json::json!({ "by": "account" });
            self.audit(tx, directory, visit, id.clone(), "password.set", id, detail);
            self.mail(tx, &changed.messages).await?;
            Ok::<_, Refusal>(self.welcome(tx, directory, &chosen.who, visit, &mine.held).await?.tokens)
        });
        write.await
    }
}
