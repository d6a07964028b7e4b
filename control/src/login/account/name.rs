//! Changing what somebody is called: their name, and the one to show in its place.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Path;
use axum::response::Response;
use http::HeaderMap;
use mezusphere_identity::account;
use mezusphere_identity::flow::{FlowError, Refusal};
use mezusphere_store::WriteError;
use mezusphere_store::primary::Tx;
use mezusphere_store::primary::directory::DirectoryRow;
use mezusphere_store::primary::user::{self, UserChange, UserRow};

use super::{Mine, Sent, overview};
use crate::login::answer::{self, Failure};
use crate::login::form::Purpose;
use crate::login::told::{self, Beside, Form, Told};
use crate::login::{Login, State, Visit, Visitor, cookie};
use crate::page::ChangeName;

/// How long the page may stay open before it has to be sent once more.
const FORM_TTL: Duration = Duration::from_mins(30);

/// What somebody is called, as it is or as typed.
struct Names {
    name: String,
    display_name: String,
}

/// `GET /account/<directory>/name`.
pub(super) async fn show(
    login: State,
    Path(directory): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let Ok(mine) = login.mine_or_sign_in(&headers, &directory).await? else {
        return Ok(answer::see_other(&overview::sign_in(&directory)?));
    };
    let user = &mine.signed_in.user;
    let names = Names { name: user.name.clone(), display_name: user.display_name.clone() };
    Ok(login.name_form(&headers, &mine, names, None))
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
    let typed = Names { name: fields.take("name"), display_name: fields.take("display_name") };
    let done = async {
        if ends_at <= login.desk.clock.now() {
            return Err(Refusal::from(FlowError::Expired));
        }
        let name = account::check_name(&typed.name)?.to_owned();
        let display_name = account::check_display_name(&typed.display_name)?.to_owned();
        let change =
            UserChange { name: Some(name), display_name: Some(display_name), ..UserChange::default() };
        let (directory, user) = (&mine.tenant.row, &mine.signed_in.user);
        let write = login
            .desk
            .primary
            .write(async |tx| Ok::<_, Refusal>(login.rename(tx, directory, &visit, user, &change).await?));
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
    /// Changes what a user is called, at their own wish.
    pub(in crate::login) async fn rename(
        &self,
        tx: &mut Tx,
        directory: &DirectoryRow,
        visit: &Visit,
        user: &UserRow,
        change: &UserChange,
    ) -> Result<(), WriteError> {
        user::update(tx, directory.id, user.id, change).await?;
        let differs = |new: &Option<String>, old: &String| new.as_ref().is_some_and(|new| new != old);
        let mut changed = Vec::new();
        if differs(&change.name, &user.name) {
            changed.push("name");
        }
        if differs(&change.display_name, &user.display_name) {
            changed.push("display_name");
        }
        let detail = serde_json::json!({ "changed": changed });
        let id = user.id.to_string();
        self.audit(tx, directory, visit, id.clone(), "user.rename", id, detail);
        Ok(())
    }

    fn name_form(&self, headers: &HeaderMap, mine: &Mine, names: Names, beside: Option<Beside>) -> Response {
        let (browser, set) = cookie::form_or_new(headers, &self.desk.entropy);
        let ends_at = self.desk.clock.now().after(FORM_TTL);
        let form = self.account_form(Purpose::Name, &browser, mine, ends_at, ());
        let response = told::show(beside, None, |problem| ChangeName {
            chrome: mine.tenant.chrome(),
            base: mine.base(),
            name: names.name,
            display_name: names.display_name,
            form,
            problem,
        });
        answer::with_cookie(response, set)
    }
}
