//! Certificates the internal CA issued: who got which, until when.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use mezusphere_model::Timestamp;
use mezusphere_model::id::ProjectId;

use super::value::{Row, args};
use super::{PageRequest, Paged, ReadTx, StoreError, Tx, WriteError};

/// An issued certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedRow {
    /// SHA-256 of the certificate (DER).
    pub fingerprint: [u8; 32],
    /// The SPIFFE URI in it, or the first DNS name of a public one.
    pub name: String,
    /// The tenant, if it was issued to a warpgate.
    pub project: Option<ProjectId>,
    /// From when it is good.
    pub not_before: Timestamp,
    /// Until when.
    pub not_after: Timestamp,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// By which CA: SHA-256 of the CA's public key. `None`: noted by a version that did not say.
    pub issuer: Option<[u8; 32]>,
}

/// Most certificates listed of one name; with leaves of a day renewed at half-life, about a month.
pub const ISSUED_LISTED_MAX: usize = 100;

/// Most nodes that [`held`] and [`first_of`] tell of at a time: some hundred KiB. Who needs all goes on behind the last.
pub const HELD_AT_ONCE: usize = 1000;

fn read(row: &Row) -> Result<IssuedRow, StoreError> {
    Ok(IssuedRow {
        fingerprint: row.get("fingerprint")?,
        name: row.get("name")?,
        project: row.opt("project")?,
        not_before: row.get("not_before")?,
        not_after: row.get("not_after")?,
        issued_at: row.get("issued_at")?,
        issuer: row.opt("issuer")?,
    })
}

/// The place of a row in the list of all: time of issue, then fingerprint.
fn place(row: &IssuedRow) -> String {
    format!("{}.{}", row.issued_at.as_micros(), BASE64URL.encode(row.fingerprint))
}

fn read_place(text: &str) -> Option<(Timestamp, Vec<u8>)> {
    let (at, fingerprint) = text.split_once('.')?;
    Some((Timestamp::from_micros(at.parse().ok()?), BASE64URL.decode(fingerprint).ok()?))
}

/// Notes a certificate.
pub async fn insert(tx: &mut Tx, row: &IssuedRow) -> Result<(), WriteError> {
    tx.insert(
        "project",
        "INSERT INTO issued_certificates (fingerprint, name, project, not_before, not_after, issued_at, issuer)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        args![
            row.fingerprint,
            row.name.as_str(),
            row.project,
            row.not_before,
            row.not_after,
            row.issued_at,
            row.issuer
        ],
    )
    .await
    .map(drop)
}

/// Certificates issued for a name, newest first; at most [`ISSUED_LISTED_MAX`].
pub async fn list_of(tx: &mut ReadTx, name: &str) -> Result<Vec<IssuedRow>, StoreError> {
    let rows = tx
        .rows(
            "SELECT * FROM issued_certificates WHERE name = $1 ORDER BY issued_at DESC, fingerprint LIMIT $2",
            args![name, ISSUED_LISTED_MAX],
        )
        .await?;
    rows.iter().map(read).collect()
}

/// Whether the holder of this certificate has opened a link with it; `None`: nobody of this name was issued it.
pub async fn is_seen(
    tx: &mut ReadTx,
    name: &str,
    fingerprint: &[u8; 32],
) -> Result<Option<bool>, StoreError> {
    let row = tx
        .row(
            "SELECT seen_at FROM issued_certificates WHERE fingerprint = $1 AND name = $2",
            args![*fingerprint, name],
        )
        .await?;
    row.map(|row| Ok(row.opt::<Timestamp>("seen_at")?.is_some())).transpose()
}

/// Notes that the holder of this certificate has opened a link with it.
pub async fn seen(tx: &mut Tx, fingerprint: &[u8; 32]) -> Result<(), StoreError> {
    let now = tx.now();
    tx.execute(
        "UPDATE issued_certificates SET seen_at = COALESCE(seen_at, $2) WHERE fingerprint = $1",
        args![*fingerprint, now],
    )
    .await
    .map(drop)
}

/// Whether this certificate was issued to this name, and none that was issued after it has been seen: the answer that
/// brought a newer one may have been lost on its way, but what its holder has replaced is worth nothing.
pub async fn is_latest(tx: &mut ReadTx, name: &str, fingerprint: &[u8; 32]) -> Result<bool, StoreError> {
    let row = tx
        .row(
            "SELECT 1 AS one FROM issued_certificates AS shown
             WHERE fingerprint = $1 AND name = $2 AND NOT EXISTS (
                 SELECT 1 FROM issued_certificates AS newer
                 WHERE newer.name = shown.name AND newer.issued_at > shown.issued_at
                   AND newer.seen_at IS NOT NULL)",
            args![*fingerprint, name],
        )
        .await?;
    Ok(row.is_some())
}

/// The newest certificate of each node that has one which has not ended, in the order of names: the first
/// [`HELD_AT_ONCE`] behind the name `after`. Two of the same moment may both be there, unless one of them is the last.
pub async fn held(tx: &mut ReadTx, after: &str) -> Result<Vec<IssuedRow>, StoreError> {
    let now = tx.now();
    let rows = tx
        .rows(
            "SELECT * FROM issued_certificates AS held
             WHERE name > $1 AND not_after > $2 AND name LIKE 'spiffe://%' AND NOT EXISTS (
                 SELECT 1 FROM issued_certificates AS newer
                 WHERE newer.name = held.name AND newer.issued_at > held.issued_at)
             ORDER BY name LIMIT $3",
            args![after, now, HELD_AT_ONCE],
        )
        .await?;
    rows.iter().map(read).collect()
}

/// When each node got its first certificate of this CA since a moment: the first [`HELD_AT_ONCE`] behind the name `after`.
pub async fn first_of(
    tx: &mut ReadTx,
    issuer: &[u8; 32],
    since: Timestamp,
    after: &str,
) -> Result<BTreeMap<String, Timestamp>, StoreError> {
    let rows = tx
        .rows(
            "SELECT name, MIN(issued_at) AS first FROM issued_certificates
             WHERE issuer = $1 AND issued_at >= $2 AND name > $3 AND name LIKE 'spiffe://%'
             GROUP BY name ORDER BY name LIMIT $4",
            args![*issuer, since, after, HELD_AT_ONCE],
        )
        .await?;
    rows.iter().map(|row| Ok((row.get("name")?, row.get("first")?))).collect()
}

/// When the last certificate that this CA issued to a node ends; `None`: none is known.
pub async fn last_end(tx: &mut ReadTx, issuer: &[u8; 32]) -> Result<Option<Timestamp>, StoreError> {
    let row = tx
        .row(
            "SELECT MAX(not_after) AS last FROM issued_certificates WHERE issuer = $1 AND name LIKE 'spiffe://%'",
            args![*issuer],
        )
        .await?;
    Ok(row.map(|row| row.opt("last")).transpose()?.flatten())
}

/// All issued certificates, newest first; the key of a page is opaque. For operators of the installation.
pub async fn list(tx: &mut ReadTx, page: &PageRequest) -> Result<Paged<IssuedRow>, StoreError> {
    let start = page.after.as_deref().and_then(read_place);
    let (at, fingerprint) = start.unwrap_or((Timestamp::from_micros(i64::MAX), vec![0xff; 33]));
    let rows = tx
        .rows(
            "SELECT * FROM issued_certificates WHERE (issued_at, fingerprint) < ($1, $2)
             ORDER BY issued_at DESC, fingerprint DESC LIMIT $3",
            args![at, fingerprint, page.fetch()],
        )
        .await?;
    Ok(page.cut(rows.iter().map(read).collect::<Result<_, _>>()?, place))
}

/// The newest certificate of each host that was issued one of its own, in the order of names. For operators of the
/// installation.
pub async fn of_hosts(tx: &mut ReadTx, page: &PageRequest) -> Result<Paged<IssuedRow>, StoreError> {
    let now = tx.now();
    let rows = tx
        .rows(
            "SELECT * FROM issued_certificates AS held
             WHERE name > $1 AND not_after > $2 AND EXISTS (SELECT 1 FROM hosts WHERE hosts.host = held.name)
               AND NOT EXISTS (
                 SELECT 1 FROM issued_certificates AS newer WHERE newer.name = held.name
                   AND (newer.issued_at, newer.fingerprint) > (held.issued_at, held.fingerprint))
             ORDER BY name LIMIT $3",
            args![page.start(), now, page.fetch()],
        )
        .await?;
    Ok(page.cut(rows.iter().map(read).collect::<Result<_, _>>()?, |row: &IssuedRow| row.name.clone()))
}
