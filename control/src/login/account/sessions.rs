//! The browsers somebody is signed in with, and signing them out.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, RawQuery};
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use mezusphere_identity::session::{self, Signed};
use mezusphere_model::id::SignInId;
use mezusphere_store::WriteError;
use serde::{Deserialize, Serialize};

use super::{Sent, overview};
use crate::login::answer::{self, Failure};
use crate::login::form::Purpose;
use crate::login::{State, Visitor, cookie};
use crate::page::{Ended, Moment, SessionCard, Sessions};

/// How long a button works after its page was loaded: nothing is typed here, so nothing is lost by being long.
const FORM_TTL: Duration = Duration::from_hours(12);

/// What a button signs out.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Ends {
    One(SignInId),
    Others,
}

/// `GET /account/<directory>/sessions`.
pub(super) async fn show(
    login: State,
    Path(directory): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let Ok(mine) = login.mine_or_sign_in(&headers, &directory).await? else {
        return Ok(answer::see_other(&overview::sign_in(&directory)?));
    };
    let (browser, set) = cookie::form_or_new(&headers, &login.desk.entropy);
    let current = Some(mine.signed_in.sign_in.id);
    let list = login.desk.primary.read(async |tx| session::list(tx, &mine.signed_in.user, current).await);
    let signed: Vec<Signed> = list.await?;
    let ends_at = login.desk.clock.now().after(FORM_TTL);
    let form = |ends| login.account_form(Purpose::Sessions, &browser, &mine, ends_at, ends);
    let card = |signed: &Signed| SessionCard {
        agent: signed.sign_in.agent.clone(),
        address: signed.sign_in.address.clone(),
        since: Moment(signed.sign_in.authenticated_at),
        seen: Moment(session::last_seen(signed)),
        until: Moment(signed.sign_in.expires_at),
        form: (!signed.is_current).then(|| form(Ends::One(signed.sign_in.id))),
    };
    let page = Sessions {
        chrome: mine.tenant.chrome(),
        base: mine.base(),
        cards: signed.iter().map(card).collect(),
        others: signed.iter().any(|signed| !signed.is_current).then(|| form(Ends::Others)),
        ended: match query.as_deref() {
            Some("ended=one") => Some(Ended::One),
            Some("ended=others") => Some(Ended::Others),
            _ => None,
        },
    };
    Ok(answer::with_cookie(answer::page(StatusCode::OK, &page, None), set))
}

/// `POST /account/<directory>/sessions`.
pub(super) async fn submit(
    login: State,
    Path(directory): Path<String>,
    Visitor(visit): Visitor,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let sent: Sent<Ends> = login.sent(Purpose::Sessions, &headers, &directory, body).await?;
    let Sent { mine, what, ends_at, .. } = sent;
    if ends_at <= login.desk.clock.now() {
        return Err(Failure::form_stale());
    }
    let (user, row) = (&mine.signed_in.user, &mine.tenant.row);
    let done = login.desk.primary.write(async |tx| {
        let (target, action, ended) = match what {
            Ends::One(id) => {
                let by = Some(mine.signed_in.sign_in.id);
                let ended = session::end_one(tx, user, id, by, &visit.place()).await?;
                (id.to_string(), "sign_in.end", u32::from(ended))
            }
            Ends::Others => {
                let keep = mine.signed_in.sign_in.id;
                let ended = session::end_others(tx, user, keep, &visit.place()).await?;
                (user.id.to_string(), "sign_in.end_others", ended)
            }
        };
        let detail = serde_json::json!({ "by": "account", "ended": ended });
        login.audit(tx, row, &visit, user.id.to_string(), action, target, detail);
        Ok::<_, WriteError>(())
    });
    match done.await {
        // What is gone needs no end.
        Ok(()) | Err(WriteError::NotFound { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let ended = match what {
        Ends::One(_) => "one",
        Ends::Others => "others",
    };
    Ok(answer::see_other(&format!("{}/sessions?ended={ended}", mine.base())))
}
