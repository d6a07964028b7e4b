//! Login history: what happened to a user's account at the sign-in pages, for the user and the operator.
//!
//! Not the audit log: it is bounded per user ([`KEPT_MAX`]), goes with the user, and is written in batches some time
//! after what it tells of.

use std::collections::BTreeSet;

use mezusphere_model::id::{DirectoryId, UserId};
use mezusphere_model::{Timestamp, hex};

use super::value::{Row, args};
use super::{PageRequest, Paged, ReadTx, StoreError, Tx, WriteError};

/// Most events kept of one user: the newest.
pub const KEPT_MAX: u32 = 200;

/// Of those, most tries that failed: strangers can make them, and must not push out what else a history tells.
pub const FAILURES_KEPT_MAX: u32 = 100;

/// Longest [`LoginEvent::outcome`] and [`LoginEvent::method`], in octets; longer ones are cut.
pub const WORD_LEN_MAX: usize = 32;

/// Longest [`LoginEvent::address`], in octets: any IP address as text.
pub const ADDRESS_LEN_MAX: usize = 45;

/// Longest [`LoginEvent::agent`], in octets; a longer one is cut.
pub const AGENT_LEN_MAX: usize = 256;

/// Octets of randomness that tell events of one moment apart.
const ID_LEN: usize = 8;

/// Something that happened to a user's account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginEvent {
    /// Whose.
    pub user: UserId,
    /// Where they live.
    pub directory: DirectoryId,
    /// When.
    pub at: Timestamp,
    /// What: `signed_in`, `wrong_password`, `refused`, `signed_out`, `password_changed`, …
    pub outcome: String,
    /// By which method, as `amr` values joined by `+`; empty: none was asked for.
    pub method: String,
    /// From which address.
    pub address: String,
    /// With which browser, as it said.
    pub agent: String,
}

fn read(row: &Row) -> Result<(LoginEvent, String), StoreError> {
    let at: Timestamp = row.get("at")?;
    let event = LoginEvent {
        user: row.get("user_id")?,
        directory: row.get("directory")?,
        at,
        outcome: row.get("outcome")?,
        method: row.get("method")?,
        address: row.get("address")?,
        agent: row.get("agent")?,
    };
    let key = format!("{}.{}", at.as_micros(), row.get::<String>("id")?);
    Ok((event, key))
}

/// Adds events, and forgets a user's oldest past [`KEPT_MAX`] and [`FAILURES_KEPT_MAX`]. Events of users who are gone are dropped: they may have
/// been deleted since.
pub async fn record_many(tx: &mut Tx, events: &[LoginEvent]) -> Result<(), WriteError> {
    let mut users = BTreeSet::new();
    for event in events {
        let id: [u8; ID_LEN] = tx.entropy().bytes();
        let id = hex(&id);
        let added = tx
            .insert(
                "user",
                "INSERT INTO login_events (user_id, at, id, directory, outcome, method, address, agent)
                 SELECT id, $3, $4, directory, $5, $6, $7, $8 FROM users WHERE directory = $1 AND id = $2",
                args![
                    event.directory,
                    event.user,
                    event.at,
                    id,
                    cut(&event.outcome, WORD_LEN_MAX),
                    cut(&event.method, WORD_LEN_MAX),
                    cut(&event.address, ADDRESS_LEN_MAX),
                    cut(&event.agent, AGENT_LEN_MAX)
                ],
            )
            .await?;
        if added > 0 {
            users.insert(event.user);
        }
    }
    for user in users {
        tx.execute(
            "DELETE FROM login_events WHERE user_id = $1 AND outcome IN ('wrong_password', 'refused') AND (at, id) <= (
                 SELECT at, id FROM login_events WHERE user_id = $1 AND outcome IN ('wrong_password', 'refused')
                 ORDER BY at DESC, id DESC LIMIT 1 OFFSET $2)",
            args![user, FAILURES_KEPT_MAX],
        )
        .await?;
        tx.execute(
            "DELETE FROM login_events WHERE user_id = $1 AND (at, id) <= (
                 SELECT at, id FROM login_events WHERE user_id = $1 ORDER BY at DESC, id DESC LIMIT 1 OFFSET $2)",
            args![user, KEPT_MAX],
        )
        .await?;
    }
    Ok(())
}

/// A user's events, newest first; the key of a page is opaque.
pub async fn list(
    tx: &mut ReadTx,
    directory: DirectoryId,
    user: UserId,
    page: &PageRequest,
) -> Result<Paged<LoginEvent>, StoreError> {
    let (at, id) = before(page);
    let rows = tx
        .rows(
            "SELECT * FROM login_events
             WHERE directory = $1 AND user_id = $2 AND (at, id) < ($3, $4)
             ORDER BY at DESC, id DESC LIMIT $5",
            args![directory, user, at, id, page.fetch()],
        )
        .await?;
    let Paged { rows, next } =
        page.cut(rows.iter().map(read).collect::<Result<_, _>>()?, |row| row.1.clone());
    Ok(Paged { rows: rows.into_iter().map(|(event, _)| event).collect(), next })
}

/// The event a page begins after; one that does not read begins at the newest.
fn before(page: &PageRequest) -> (i64, &str) {
    page.after
        .as_deref()
        .and_then(|key| key.split_once('.'))
        .and_then(|(at, id)| Some((at.parse().ok()?, id)))
        .unwrap_or((i64::MAX, ""))
}

/// A text of at most so many octets, cut between characters.
fn cut(text: &str, len_max: usize) -> &str {
    text.get(..text.floor_char_boundary(len_max)).unwrap_or_default()
}
