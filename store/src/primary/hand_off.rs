//! Hand-off codes: from the login host to an app host, good once and briefly.

use mezusphere_model::id::{EnvironmentId, ProjectId, SignInId};
use mezusphere_model::token::TokenHash;
use mezusphere_model::{Host, Timestamp};

use super::value::{Row, args};
use super::{StoreError, Tx, WriteError};

/// A hand-off code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandOffRow {
    /// SHA-256 of the code.
    pub code_hash: TokenHash,
    /// The sign-in the session will be a child of.
    pub sign_in: SignInId,
    /// The project it is good for.
    pub project: ProjectId,
    /// The environment.
    pub environment: EnvironmentId,
    /// The only host it may be redeemed on.
    pub host: Host,
    /// SHA-256 of the state cookie's secret, base64url; who redeems must show it.
    pub state_hash: String,
    /// Path and query where the user wanted to go.
    pub return_to: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends unused.
    pub expires_at: Timestamp,
}

/// What became of an attempt to redeem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redemption {
    /// Redeemed now, and never again.
    Redeemed(Box<HandOffRow>),
    /// There is no such code, or it was pruned.
    Unknown,
    /// It was redeemed before: somebody else may hold it. Its sign-in is named so that it can be looked at.
    Used(SignInId),
    /// Its time was over.
    Expired,
    /// It was made for another host or another browser. It is spent now.
    Mismatch,
}

fn read(row: &Row) -> Result<HandOffRow, StoreError> {
    Ok(HandOffRow {
        code_hash: row.get("code_hash")?,
        sign_in: row.get("sign_in")?,
        project: row.get("project")?,
        environment: row.get("environment")?,
        host: row.get("host")?,
        state_hash: row.get("state_hash")?,
        return_to: row.get("return_to")?,
        created_at: row.get("created_at")?,
        expires_at: row.get("expires_at")?,
    })
}

/// Adds a code.
///
/// # Errors
/// Not found: the sign-in, if it has ended or its user does not live in the project's directory; the host, if it is not
/// this environment's.
pub async fn insert(tx: &mut Tx, row: &HandOffRow) -> Result<(), WriteError> {
    let added = tx
        .insert(
            "sign-in",
            "INSERT INTO hand_offs (code_hash, sign_in, project, environment, host, state_hash, return_to,
                                    created_at, expires_at, used_at)
             SELECT $1, s.id, h.project, h.environment, h.host, $6, $7, $8, $9, NULL
             FROM sign_ins s JOIN projects p ON p.directory = s.directory JOIN hosts h ON h.project = p.id
             WHERE s.id = $2 AND s.ended_at IS NULL AND p.id = $3 AND h.environment = $4 AND h.host = $5",
            args![
                &row.code_hash,
                row.sign_in,
                row.project,
                row.environment,
                &row.host,
                row.state_hash.as_str(),
                row.return_to.as_str(),
                row.created_at,
                row.expires_at
            ],
        )
        .await?;
    if added == 0 { Err(WriteError::NotFound { what: "sign-in or host" }) } else { Ok(()) }
}

/// Redeems a code: exactly one of any number of attempts gets [`Redemption::Redeemed`].
///
/// A mismatch spends the code too, so commit the transaction whatever the outcome.
pub async fn redeem(
    tx: &mut Tx,
    code: &TokenHash,
    host: &Host,
    state_hash: &str,
) -> Result<Redemption, StoreError> {
    let now = tx.now();
    let spent = tx
        .row(
            "UPDATE hand_offs SET used_at = $2 WHERE code_hash = $1 AND used_at IS NULL RETURNING *",
            args![code, now],
        )
        .await?;
    let Some(spent) = spent else {
        let used = tx.row("SELECT sign_in FROM hand_offs WHERE code_hash = $1", args![code]).await?;
        return match used {
            Some(used) => Ok(Redemption::Used(used.get("sign_in")?)),
            None => Ok(Redemption::Unknown),
        };
    };
    let row = read(&spent)?;
    if row.expires_at <= now {
        Ok(Redemption::Expired)
    } else if row.host != *host || row.state_hash != state_hash {
        Ok(Redemption::Mismatch)
    } else {
        Ok(Redemption::Redeemed(Box::new(row)))
    }
}
