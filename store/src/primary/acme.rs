//! Public certificates from a certificate authority (ACME, RFC 8555): which are wanted, how far each order is, what is in
//! use, and what happened.
//!
//! A row is one set of names. Whoever orders is control's business: it holds a lease, and checks it in each transaction
//! that changes a row. What edges serve is published by control, in the same transaction. Private keys are in [`sealed`],
//! what happened in [`time_line`].

mod sealed;
mod time_line;

use mezusphere_model::id::ProjectId;
use mezusphere_model::{Host, Timestamp};
use serde::{Deserialize, Serialize};

use super::value::{Column, IntoValue, Row, Value, args, json, word};
use super::{PageRequest, Paged, ReadTx, StoreError, Tx, WriteError};

pub use self::sealed::{CertificatePem, begin_order, certificate, end_order, order_key, put_certificate};
pub(super) use self::sealed::{certificate_context, order_key_context};
pub use self::time_line::{EVENTS_MAX, EventRow, TEXT_LEN_MAX, add_event, events};

/// Most names of one certificate; what public authorities allow.
pub const NAMES_MAX: usize = 100;

/// Most certificates listed of one project.
pub const LISTED_OF_PROJECT_MAX: usize = 1_000;

/// Where a certificate stands. Whether one is in use meanwhile is another question: [`CertificateRow::certificate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateState {
    /// It has not been ordered yet.
    Waiting,
    /// An order is under way.
    Ordering,
    /// It is there, and nothing needs to be done before its renewal.
    Valid,
    /// The last try failed; another one follows.
    Failed,
}

word!(CertificateState { Waiting = "waiting", Ordering = "ordering", Valid = "valid", Failed = "failed" });

/// Why a try failed, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastError {
    /// When.
    pub at: Timestamp,
    /// A stable code, dotted words.
    pub code: String,
    /// One sentence; it may quote the authority.
    pub text: String,
    /// What to do.
    pub hint: String,
}

/// What is known of a certificate in use without opening it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateFacts {
    /// SHA-256 of the certificate (DER).
    pub fingerprint: [u8; 32],
    /// The directory of the authority that issued it.
    #[serde(default)]
    pub directory: String,
    /// From when it is good.
    pub not_before: Timestamp,
    /// Until when.
    pub not_after: Timestamp,
    /// When it came.
    pub issued_at: Timestamp,
    /// When it is renewed.
    pub renew_at: Timestamp,
    /// What the authority says of its renewal (RFC 9773), if it says anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<RenewalWindow>,
    /// How the authority knows it when asked about its renewal (RFC 9773 §4.1); none: it has no such name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewal_id: Option<String>,
    /// When the authority is asked about its renewal again; none: it has no such service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ask_again_at: Option<Timestamp>,
}

/// When an authority wants a certificate renewed (RFC 9773 §4.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewalWindow {
    /// From when.
    pub start: Timestamp,
    /// Until when.
    pub end: Timestamp,
    /// Where it explains why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explanation: Option<String>,
}

/// A certificate that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewCertificate {
    /// Its names, at least one; `*.` in front of one stands for any single label.
    pub names: Vec<String>,
    /// Whose; `None`: the installation's.
    pub owner: Option<(ProjectId, Host)>,
    /// The directory of the authority that is to issue it.
    pub directory: String,
}

/// A certificate, without any key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRow {
    /// The first of its names, under which it is filed.
    pub name: String,
    /// All its names.
    pub names: Vec<String>,
    /// Whose; `None`: the installation's.
    pub project: Option<ProjectId>,
    /// Where it stands.
    pub state: CertificateState,
    /// The directory of the authority that is asked.
    pub directory: String,
    /// The order under way.
    pub order_url: Option<String>,
    /// Failures in a row.
    pub attempts: u32,
    /// When something is done about it next.
    pub next_at: Timestamp,
    /// Why the last try failed.
    pub error: Option<LastError>,
    /// The certificate in use.
    pub certificate: Option<CertificateFacts>,
    /// Since when it is wanted.
    pub created_at: Timestamp,
}

fn read(row: &Row) -> Result<CertificateRow, StoreError> {
    let damaged = |why: serde_json::Error| StoreError::Damaged(why.to_string());
    let error: Option<String> = row.opt("error")?;
    let certificate: Option<String> = row.opt("certificate")?;
    Ok(CertificateRow {
        name: row.get("name")?,
        names: row.json("names")?,
        project: row.opt("project")?,
        state: row.get("state")?,
        directory: row.get("directory")?,
        order_url: row.opt("order_url")?,
        attempts: row.get("attempts")?,
        next_at: row.get("next_at")?,
        error: error.map(|text| serde_json::from_str(&text)).transpose().map_err(damaged)?,
        certificate: certificate.map(|text| serde_json::from_str(&text)).transpose().map_err(damaged)?,
        created_at: row.get("created_at")?,
    })
}

/// Wants a certificate, due now. `false`: one of this first name is wanted already, and stays as it is.
///
/// # Errors
/// Not found: the host. [`StoreError::TooLarge`] with no name, or more than [`NAMES_MAX`].
pub async fn insert(tx: &mut Tx, new: &NewCertificate) -> Result<bool, WriteError> {
    let Some(name) = new.names.first().filter(|_| new.names.len() <= NAMES_MAX) else {
        return Err(StoreError::TooLarge(format!("1 to {NAMES_MAX} names are allowed")).into());
    };
    let now = tx.now();
    let owner = new.owner.as_ref();
    let inserted = tx
        .insert(
            "host",
            "INSERT INTO acme_certificates
                 (name, names, host, project, state, directory, attempts, next_at, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, 0, $7, $7) ON CONFLICT (name) DO NOTHING",
            args![
                name.as_str(),
                json(&new.names)?,
                owner.map(|(_, host)| host),
                owner.map(|(project, _)| *project),
                CertificateState::Waiting,
                new.directory.as_str(),
                now
            ],
        )
        .await?;
    Ok(inserted > 0)
}

/// The certificate of this first name.
pub async fn get(tx: &mut ReadTx, name: &str) -> Result<Option<CertificateRow>, StoreError> {
    let row = tx.row("SELECT * FROM acme_certificates WHERE name = $1", args![name]).await?;
    row.as_ref().map(read).transpose()
}

/// A project's certificates, by name; at most [`LISTED_OF_PROJECT_MAX`].
pub async fn of_project(tx: &mut ReadTx, project: ProjectId) -> Result<Vec<CertificateRow>, StoreError> {
    let rows = tx
        .rows(
            "SELECT * FROM acme_certificates WHERE project = $1 ORDER BY name LIMIT $2",
            args![project, LISTED_OF_PROJECT_MAX],
        )
        .await?;
    rows.iter().map(read).collect()
}

/// The installation's own certificates, by name; at most [`LISTED_OF_PROJECT_MAX`].
pub async fn of_installation(tx: &mut ReadTx) -> Result<Vec<CertificateRow>, StoreError> {
    let rows = tx
        .rows(
            "SELECT * FROM acme_certificates WHERE project IS NULL ORDER BY name LIMIT $1",
            args![LISTED_OF_PROJECT_MAX],
        )
        .await?;
    rows.iter().map(read).collect()
}

/// Makes due now what another authority than this one issued, or was to issue; says how many.
pub async fn move_to(tx: &mut Tx, directory: &str) -> Result<u64, StoreError> {
    let now = tx.now();
    tx.execute(
        "UPDATE acme_certificates SET next_at = $2, attempts = 0, directory = $1, order_url = NULL, sealed_order_key = NULL
         WHERE directory <> $1",
        args![directory, now],
    )
    .await
}

/// All certificates, by name. For operators of the installation.
pub async fn list(tx: &mut ReadTx, page: &PageRequest) -> Result<Paged<CertificateRow>, StoreError> {
    let rows = tx
        .rows(
            "SELECT * FROM acme_certificates WHERE name > $1 ORDER BY name LIMIT $2",
            args![page.start(), page.fetch()],
        )
        .await?;
    let rows = rows.iter().map(read).collect::<Result<_, _>>()?;
    Ok(page.cut(rows, |row: &CertificateRow| row.name.clone()))
}

/// Certificates that something is to be done about now: the installation's own, then those with a certificate in use, by
/// its end, then the others; those never tried before those that failed, the longest due first.
pub async fn due(tx: &mut ReadTx, limit: usize) -> Result<Vec<CertificateRow>, StoreError> {
    let now = tx.now();
    // What the version before wrote has no end here: it is taken for urgent.
    let rows = tx
        .rows(
            "SELECT * FROM acme_certificates WHERE next_at <= $1
             ORDER BY CASE WHEN project IS NULL THEN 0 WHEN certificate IS NULL THEN 2 ELSE 1 END,
                 COALESCE(ends_at, 0), CASE WHEN attempts = 0 THEN 0 ELSE 1 END, next_at, name LIMIT $2",
            args![now, limit],
        )
        .await?;
    rows.iter().map(read).collect()
}

/// When the next certificate is due; `None`: there is none.
pub async fn next_due(tx: &mut ReadTx) -> Result<Option<Timestamp>, StoreError> {
    let row = tx.row("SELECT MIN(next_at) AS due FROM acme_certificates", args![]).await?;
    row.map_or(Ok(None), |row| row.opt("due"))
}

/// Writes down how far a certificate is. Keys are not touched: [`begin_order`], [`end_order`] and [`put_certificate`] do.
///
/// # Errors
/// Not found: its host was removed meanwhile.
pub async fn update(tx: &mut Tx, row: &CertificateRow) -> Result<(), WriteError> {
    let error = row.error.as_ref().map(json).transpose()?;
    let certificate = row.certificate.as_ref().map(json).transpose()?;
    let ends_at = row.certificate.as_ref().map(|facts| facts.not_after);
    tx.change(
        "certificate",
        "UPDATE acme_certificates SET state = $2, directory = $3, attempts = $4, next_at = $5, error = $6,
             certificate = $7, ends_at = $8 WHERE name = $1",
        args![
            row.name.as_str(),
            row.state,
            row.directory.as_str(),
            row.attempts,
            row.next_at,
            error,
            certificate,
            ends_at
        ],
    )
    .await
}

/// Makes a certificate due now, whatever it waits for, and one that is good to be renewed: an operator does not want to
/// wait, or the key is not to be used any more.
///
/// # Errors
/// Not found: there is no such certificate.
pub async fn retry(tx: &mut Tx, name: &str) -> Result<(), WriteError> {
    let mut row = get(tx, name).await?.ok_or(WriteError::NotFound { what: "certificate" })?;
    row.next_at = tx.now();
    if let Some(facts) = &mut row.certificate {
        facts.renew_at = facts.renew_at.min(row.next_at);
    }
    update(tx, &row).await
}

/// Wants a certificate no more; nothing happens if it is not wanted. Its document on the feed is the caller's to retract.
pub async fn delete(tx: &mut Tx, name: &str) -> Result<(), StoreError> {
    tx.execute("DELETE FROM acme_certificates WHERE name = $1", args![name]).await.map(drop)
}
