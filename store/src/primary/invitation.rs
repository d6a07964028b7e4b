//! Invitations of edges: a join token lets exactly one edge in, within minutes.
//!
//! Only the hash of a token's secret is kept. What a joining edge is given (its leaf, its row in
//! [`super::node`]) is control's, in the same transaction.

use mezusphere_model::Timestamp;
use mezusphere_model::id::{EdgeId, JoinId};
use mezusphere_model::token::TokenHash;

use super::value::{Row, args};
use super::{PageRequest, Paged, ReadTx, StoreError, Tx, WriteError};

/// Most invitations that are open at a time: more are a mistake or a flood.
pub const OPEN_MAX: usize = 1000;

/// An invitation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvitationRow {
    /// Its id, in the token.
    pub id: JoinId,
    /// Name of the edge that will join.
    pub name: String,
    /// Where that stands, for people.
    pub region: String,
    /// SHA-256 of the token's secret.
    pub secret_hash: TokenHash,
    /// Who invited: a user's or service account's id, or `local`.
    pub created_by: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends unused.
    pub expires_at: Timestamp,
    /// When an edge joined with it, if one did.
    pub used_at: Option<Timestamp>,
    /// Which.
    pub used_by: Option<EdgeId>,
    /// When it was taken back, if it was.
    pub revoked_at: Option<Timestamp>,
}

/// What became of an attempt to join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It was good, and is spent now.
    Admitted(Box<InvitationRow>),
    /// There is no such invitation (never was, or long ago), or the secret is another one's. Which of these is not said,
    /// so that ids tell nothing.
    Unknown,
    /// This or another edge has joined with it.
    Used,
    /// Its time was over.
    Expired,
    /// It was taken back.
    Revoked,
}

fn read(row: &Row) -> Result<InvitationRow, StoreError> {
    Ok(InvitationRow {
        id: row.get("id")?,
        name: row.get("name")?,
        region: row.get("region")?,
        secret_hash: row.get("secret_hash")?,
        created_by: row.get("created_by")?,
        created_at: row.get("created_at")?,
        expires_at: row.get("expires_at")?,
        used_at: row.opt("used_at")?,
        used_by: row.opt("used_by")?,
        revoked_at: row.opt("revoked_at")?,
    })
}

/// Adds an invitation.
///
/// # Errors
/// [`StoreError::TooLarge`] past [`OPEN_MAX`] that are neither used, revoked nor expired.
pub async fn insert(tx: &mut Tx, row: &InvitationRow) -> Result<(), WriteError> {
    let now = tx.now();
    let count = tx
        .row(
            "SELECT COUNT(*) AS n FROM invitations
             WHERE used_at IS NULL AND revoked_at IS NULL AND expires_at > $1",
            args![now],
        )
        .await?;
    super::within(count, OPEN_MAX, "open invitations")?;
    tx.insert(
        "invitation",
        "INSERT INTO invitations (id, name, region, secret_hash, created_by, created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        args![
            row.id,
            row.name.as_str(),
            row.region.as_str(),
            &row.secret_hash,
            row.created_by.as_str(),
            row.created_at,
            row.expires_at
        ],
    )
    .await
    .map(drop)
}

/// The invitation with this id.
pub async fn get(tx: &mut ReadTx, id: JoinId) -> Result<Option<InvitationRow>, StoreError> {
    let row = tx.row("SELECT * FROM invitations WHERE id = $1", args![id]).await?;
    row.as_ref().map(read).transpose()
}

/// All that are remembered, by id, which is the key of a page: open, used, revoked and expired ones.
pub async fn list(tx: &mut ReadTx, page: &PageRequest) -> Result<Paged<InvitationRow>, StoreError> {
    let rows = tx
        .rows(
            "SELECT * FROM invitations WHERE id > $1 ORDER BY id LIMIT $2",
            args![page.start(), page.fetch()],
        )
        .await?;
    Ok(page.cut(rows.iter().map(read).collect::<Result<_, _>>()?, |row| row.id.to_string()))
}

/// Spends an invitation for `edge`: exactly one of any number of attempts gets [`Admission::Admitted`].
pub async fn admit(
    tx: &mut Tx,
    id: JoinId,
    secret: &TokenHash,
    edge: EdgeId,
) -> Result<Admission, StoreError> {
    let now = tx.now();
    let spent = tx
        .row(
            "UPDATE invitations SET used_at = $3, used_by = $4
             WHERE id = $1 AND secret_hash = $2 AND used_at IS NULL AND revoked_at IS NULL AND expires_at > $3
             RETURNING *",
            args![id, secret, now, edge],
        )
        .await?;
    if let Some(row) = spent {
        return Ok(Admission::Admitted(Box::new(read(&row)?)));
    }
    let known = get(tx, id).await?.filter(|row| row.secret_hash == *secret);
    Ok(match known {
        None => Admission::Unknown,
        Some(row) if row.used_at.is_some() => Admission::Used,
        Some(row) if row.revoked_at.is_some() => Admission::Revoked,
        Some(_) => Admission::Expired,
    })
}

/// Takes an invitation back; a second time changes nothing.
///
/// # Errors
/// Not found: the invitation, also if an edge has joined with it: evict that edge instead.
pub async fn revoke(tx: &mut Tx, id: JoinId) -> Result<(), WriteError> {
    let now = tx.now();
    tx.change(
        "open invitation",
        "UPDATE invitations SET revoked_at = COALESCE(revoked_at, $2) WHERE id = $1 AND used_at IS NULL",
        args![id, now],
    )
    .await
}
