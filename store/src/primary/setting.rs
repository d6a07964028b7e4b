//! Settings of the installation: a JSON value per name.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::value::{args, json};
use super::{ReadTx, StoreError, Tx};

/// Sets a setting.
pub async fn put<T: Serialize + Sync>(tx: &mut Tx, name: &str, value: &T) -> Result<(), StoreError> {
    let now = tx.now();
    tx.execute(
        "INSERT INTO settings (name, value, updated_at) VALUES ($1, $2, $3)
         ON CONFLICT (name) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at",
        args![name, json(value)?, now],
    )
    .await
    .map(drop)
}

/// A setting's value.
///
/// # Errors
/// [`StoreError::Damaged`] if it is there but not a `T`.
pub async fn get<T: DeserializeOwned>(tx: &mut ReadTx, name: &str) -> Result<Option<T>, StoreError> {
    let row = tx.row("SELECT value FROM settings WHERE name = $1", args![name]).await?;
    row.map(|row| row.json("value")).transpose()
}
