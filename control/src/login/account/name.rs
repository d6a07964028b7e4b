//! Changing the name to show.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Path;
use axum::response::Response;
use http::HeaderMap;
use mezusphere_identity::account;
use mezusphere_identity::flow::{FlowError, Refusal};
use mezusphere_store::primary::user::{self, UserChange};

use super::{Mine, Sent, overview};
use crate::login::answer::{self, Failure};
use crate::login::form::Purpose;
use crate::login::told::{self, Beside, Form, Told};
use crate::login::{Login, State, Visitor, cookie};
use crate::page::ChangeName;

/// How long the page may stay open before it has to be sent once more.
const FORM_TTL: Duration = Duration::from_mins(30);

/// `GET /account/<directory>/name`.
pub(super) async fn show(
    login: State,
    Path(directory): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let Ok(mine) = login.mine_or_sign_in(&headers, &directory).await? else {
        return Ok(answer::see_other(&overview::sign_in(&directory)?));
    };
    let name = mine.signed_in.user.name.clone();
    Ok(login.name_form(&headers, &mine, name, None))
}

/// `POST /account/<directory>/name`.
pub(super) async fn submit(
    login: State,
    Path(directory): Path<String>,
    Visitor(visit): Visitor,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let sent: Sent<()> = login.sent(Purpose::Name, &headers, &directory, body).await?;
    let Sent { mine, ends_at, mut fields, .. } = sent;
    let typed = fields.take("name");
    let done = async {
        if ends_at <= login.desk.clock.now() {
            return Err(Refusal::from(FlowError::Expired));
        }
        let change =
            UserChange { name: Some(account::check_name(&typed)?.to_owned()), ..UserChange::default() };
        let (directory, id) = (&mine.tenant.row, mine.signed_in.user.id);
        let write = login.desk.primary.write(async |tx| {
            user::update(tx, directory.id, id, &change).await?;
            let detail = serde_json::json!({ "changed": ["name"] });
            login.audit(tx, directory, &visit, id.to_string(), "user.rename", id.to_string(), detail);
            Ok::<_, Refusal>(())
        });
        write.await
    };
    match done.await {
        Ok(()) => Ok(answer::see_other(&format!("{}?saved=name", mine.base()))),
        Err(refusal) => match Form::Name.tell(refusal, mine.tenant.chrome().t, &mine.sign_in()) {
            Told::Form(beside) => Ok(login.name_form(&headers, &mine, typed, Some(beside))),
            Told::Page(failure) => Err(failure),
        },
    }
}

impl Login {
    fn name_form(&self, headers: &HeaderMap, mine: &Mine, name: String, beside: Option<Beside>) -> Response {
        let (browser, set) = cookie::form_or_new(headers, &self.desk.entropy);
        let ends_at = self.desk.clock.now().after(FORM_TTL);
        let form = self.account_form(Purpose::Name, &browser, mine, ends_at, ());
        let response = told::show(beside, None, |problem| ChangeName {
            chrome: mine.tenant.chrome(),
            base: mine.base(),
            name,
            form,
            problem,
        });
        answer::with_cookie(response, set)
    }
}
