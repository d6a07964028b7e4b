//! What happened with an account, twenty at a time.

use axum::extract::{Path, RawQuery};
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use mezusphere_store::primary::{PageRequest, login_event};

use super::overview;
use crate::login::State;
use crate::login::answer::{self, Failure};
use crate::page::{Event, History, Moment};

/// Events on one page.
const EVENTS_MAX: usize = 20;

/// Longest key of a page; ours have about 35 octets.
const KEY_LEN_MAX: usize = 64;

/// `GET /account/<directory>/history?before=<key>`.
pub(super) async fn show(
    login: State,
    Path(directory): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let Ok(mine) = login.mine_or_sign_in(&headers, &directory).await? else {
        return Ok(answer::see_other(&overview::sign_in(&directory)?));
    };
    let before = query.as_deref().and_then(|query| query.strip_prefix("before="));
    let is_key = |key: &&str| {
        key.len() <= KEY_LEN_MAX && key.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'.')
    };
    let before = before.filter(is_key).map(str::to_owned);
    let is_first = before.is_none();
    let page = PageRequest { after: before, limit: EVENTS_MAX };
    let user = &mine.signed_in.user;
    let list =
        login.desk.primary.read(async |tx| login_event::list(tx, user.directory, user.id, &page).await);
    let events = list.await?;
    let page = History {
        chrome: mine.tenant.chrome(),
        base: mine.base(),
        older: events.next.map(|key| format!("{}/history?before={key}", mine.base())),
        events: events
            .rows
            .into_iter()
            .map(|event| Event {
                outcome: event.outcome,
                at: Moment(event.at),
                address: event.address,
                agent: event.agent,
            })
            .collect(),
        is_first,
    };
    Ok(answer::page(StatusCode::OK, &page, None))
}
