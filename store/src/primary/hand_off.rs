//! Hand-off codes: from the login host to an app host, good once and briefly.

use mezusphere_model::id::{EnvironmentId, ProjectId, SignInId};
use mezusphere_model::token::TokenHash;
use mezusphere_model::{Host, Timestamp};

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

/// Adds a code.
pub async fn insert(tx: &mut Tx, row: &HandOffRow) -> Result<(), WriteError> {
    todo!()
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
    todo!()
}
