//! The audit log: append-only, one hash chain per organization.
//!
//! An entry's hash is SHA-256 over the hash before it and the entry as canonical JSON (keys sorted, no spaces).
//! Entries are appended when the transaction commits, in the order of the [`super::Tx::audit`] calls.

use std::collections::BTreeMap;

use aws_lc_rs::digest;
use mezusphere_model::Timestamp;
use mezusphere_model::id::{OrganizationId, ProjectId};
use serde_json::{Value as Json, json};

use super::value::{Row, args};
use super::{PageRequest, Paged, ReadTx, StoreError, Tx};

/// Entries checked at a time.
const VERIFY_STEP: u64 = 500;

/// The hash before the first entry.
const NOTHING: [u8; 32] = [0; 32];

/// Something worth keeping. Never holds a secret.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditEntry {
    /// In whose log; the installation's own organization for what concerns all.
    pub organization: OrganizationId,
    /// In which project, if in one.
    pub project: Option<ProjectId>,
    /// Who: a user's, service account's or node's id, or `local` for the machine's own operator.
    pub actor: String,
    /// What they did: `project.create`, `api_key.revoke`, `sign_in`….
    pub action: String,
    /// To what: an id.
    pub target: String,
    /// From which address, if from one.
    pub address: Option<String>,
    /// More, as JSON.
    pub detail: Json,
}

/// An entry as kept.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditRow {
    /// What happened.
    pub entry: AuditEntry,
    /// Its number in the organization's log, from 1.
    pub sequence: u64,
    /// When.
    pub at: Timestamp,
    /// Hash over it and all before.
    pub hash: [u8; 32],
}

/// What checking a chain found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditVerdict {
    /// Every entry fits the one before.
    Intact {
        /// How many there are.
        entries: u64,
        /// Hash of the last; compare it with one noted elsewhere to know that the log was not rewritten whole.
        last: [u8; 32],
    },
    /// Something was altered, removed or put in.
    Broken {
        /// The first number that does not fit.
        sequence: u64,
    },
}

/// An organization's log, newest first; the key of a page is a number.
pub async fn list(
    tx: &mut ReadTx,
    organization: OrganizationId,
    page: &PageRequest,
) -> Result<Paged<AuditRow>, StoreError> {
    let before: i64 = page.after.as_deref().and_then(|key| key.parse().ok()).unwrap_or(i64::MAX);
    let rows = tx
        .rows(
            "SELECT * FROM audit_entries WHERE organization = $1 AND sequence < $2
             ORDER BY sequence DESC LIMIT $3",
            args![organization, before, page.fetch()],
        )
        .await?;
    Ok(page.cut(rows.iter().map(read).collect::<Result<_, _>>()?, |row| row.sequence.to_string()))
}

/// Checks an organization's whole chain, and that nothing was cut off its end.
pub async fn verify(tx: &mut ReadTx, organization: OrganizationId) -> Result<AuditVerdict, StoreError> {
    let (end, end_hash) = head(tx, organization).await?;
    let (mut sequence, mut last) = (0, NOTHING);
    loop {
        let rows = tx
            .rows(
                "SELECT * FROM audit_entries WHERE organization = $1 AND sequence > $2 ORDER BY sequence LIMIT $3",
                args![organization, sequence, VERIFY_STEP],
            )
            .await?;
        if rows.is_empty() {
            break;
        }
        for row in &rows {
            // A row that cannot be read back was not written by us.
            let fits = read(row).is_ok_and(|row| {
                row.sequence == sequence + 1 && row.hash == chain(&last, row.sequence, row.at, &row.entry)
            });
            sequence += 1;
            if !fits {
                return Ok(AuditVerdict::Broken { sequence });
            }
            last = row.get("hash")?;
        }
    }
    if (sequence, last) == (end, end_hash) {
        Ok(AuditVerdict::Intact { entries: sequence, last })
    } else {
        Ok(AuditVerdict::Broken { sequence: sequence + 1 })
    }
}

/// Appends what a transaction has to say; called at its end.
pub(super) async fn append(tx: &mut Tx, entries: Vec<AuditEntry>) -> Result<(), StoreError> {
    let mut by_organization: BTreeMap<OrganizationId, Vec<AuditEntry>> = BTreeMap::new();
    for entry in entries {
        by_organization.entry(entry.organization).or_default().push(entry);
    }
    let at = tx.now();
    for (organization, entries) in by_organization {
        let (mut sequence, mut hash) = lock_head(tx, organization).await?;
        for entry in entries {
            sequence += 1;
            hash = chain(&hash, sequence, at, &entry);
            tx.execute(
                "INSERT INTO audit_entries (organization, sequence, at, project, actor, action, target, address,
                                            detail, hash)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
                args![
                    organization,
                    sequence,
                    at,
                    entry.project,
                    entry.actor.as_str(),
                    entry.action.as_str(),
                    entry.target.as_str(),
                    entry.address.as_deref(),
                    canonical(&entry.detail),
                    hash
                ],
            )
            .await?;
        }
        tx.execute(
            "UPDATE audit_heads SET sequence = $2, hash = $3 WHERE organization = $1",
            args![organization, sequence, hash],
        )
        .await?;
    }
    Ok(())
}

async fn lock_head(tx: &mut Tx, organization: OrganizationId) -> Result<(u64, [u8; 32]), StoreError> {
    tx.execute(
        "INSERT INTO audit_heads (organization, sequence, hash) VALUES ($1, 0, $2)
         ON CONFLICT (organization) DO UPDATE SET sequence = audit_heads.sequence",
        args![organization, NOTHING],
    )
    .await?;
    head(tx, organization).await
}

async fn head(tx: &mut ReadTx, organization: OrganizationId) -> Result<(u64, [u8; 32]), StoreError> {
    let row =
        tx.row("SELECT sequence, hash FROM audit_heads WHERE organization = $1", args![organization]).await?;
    match row {
        Some(row) => Ok((row.get("sequence")?, row.get("hash")?)),
        None => Ok((0, NOTHING)),
    }
}

fn read(row: &Row) -> Result<AuditRow, StoreError> {
    Ok(AuditRow {
        entry: AuditEntry {
            organization: row.get("organization")?,
            project: row.opt("project")?,
            actor: row.get("actor")?,
            action: row.get("action")?,
            target: row.get("target")?,
            address: row.opt("address")?,
            detail: row.json("detail")?,
        },
        sequence: row.get("sequence")?,
        at: row.get("at")?,
        hash: row.get("hash")?,
    })
}

fn chain(before: &[u8; 32], sequence: u64, at: Timestamp, entry: &AuditEntry) -> [u8; 32] {
    let text = canonical(&json!({
        "organization": entry.organization,
        "sequence": sequence,
        "at": at.as_micros(),
        "project": entry.project,
        "actor": entry.actor,
        "action": entry.action,
        "target": entry.target,
        "address": entry.address,
        "detail": entry.detail,
    }));
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(before);
    context.update(text.as_bytes());
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// JSON with sorted keys and no spaces, whatever order the map keeps.
fn canonical(value: &Json) -> String {
    match value {
        Json::Object(map) => {
            let sorted: BTreeMap<_, _> = map.iter().collect();
            let fields: Vec<_> = sorted
                .into_iter()
                .map(|(key, value)| format!("{}:{}", Json::from(key.as_str()), canonical(value)))
                .collect();
            format!("{{{}}}", fields.join(","))
        }
        Json::Array(items) => {
            let items: Vec<_> = items.iter().map(canonical).collect();
            format!("[{}]", items.join(","))
        }
        plain => plain.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_json_does_not_depend_on_the_order_of_keys() {
        let text = r#"{"b":[{"z":1,"a":"é\n"}],"a":null}"#;
        let value: Json = serde_json::from_str(text).unwrap();
        assert_eq!(canonical(&value), r#"{"a":null,"b":[{"a":"é\n","z":1}]}"#);
    }
}
