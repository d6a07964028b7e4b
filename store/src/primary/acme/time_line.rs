//! What happened to a certificate, for people: the newest entries of each.

use mezusphere_model::Timestamp;

use crate::primary::value::args;
use crate::primary::{ReadTx, StoreError, Tx, WriteError};

/// Entries kept of a certificate's time-line: several tries with all they went through.
pub const EVENTS_MAX: u64 = 50;

/// Longest text of an entry of the time-line, or of an error, in characters: room for an authority's explanation, and
/// for the end of what a hook printed.
pub const TEXT_LEN_MAX: usize = 1_000;

/// An entry of a certificate's time-line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRow {
    /// Its place, from 1.
    pub sequence: u64,
    /// When.
    pub at: Timestamp,
    /// What kind, one word.
    pub kind: String,
    /// What happened, one sentence.
    pub text: String,
}

/// Adds to a certificate's time-line; the oldest entry goes once there are [`EVENTS_MAX`].
///
/// # Errors
/// Not found: its host was removed meanwhile.
pub async fn add_event(tx: &mut Tx, name: &str, kind: &str, text: &str) -> Result<(), WriteError> {
    let now = tx.now();
    let newest = tx
        .row("SELECT COALESCE(MAX(sequence), 0) AS newest FROM acme_events WHERE name = $1", args![name])
        .await?;
    let sequence = newest.map(|row| row.get::<u64>("newest")).transpose()?.unwrap_or(0) + 1;
    let text: String = text.chars().take(TEXT_LEN_MAX).collect();
    tx.insert(
        "certificate",
        "INSERT INTO acme_events (name, sequence, at, kind, text) VALUES ($1, $2, $3, $4, $5)",
        args![name, sequence, now, kind, text],
    )
    .await?;
    tx.execute(
        "DELETE FROM acme_events WHERE name = $1 AND sequence <= $2",
        args![name, sequence.saturating_sub(EVENTS_MAX)],
    )
    .await?;
    Ok(())
}

/// A certificate's time-line, oldest first; at most [`EVENTS_MAX`].
pub async fn events(tx: &mut ReadTx, name: &str) -> Result<Vec<EventRow>, StoreError> {
    let rows = tx
        .rows("SELECT * FROM acme_events WHERE name = $1 ORDER BY sequence LIMIT $2", args![name, EVENTS_MAX])
        .await?;
    rows.iter()
        .map(|row| {
            Ok(EventRow {
                sequence: row.get("sequence")?,
                at: row.get("at")?,
                kind: row.get("kind")?,
                text: row.get("text")?,
            })
        })
        .collect()
}
