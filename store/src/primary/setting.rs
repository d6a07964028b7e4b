//! Settings of the installation: a JSON value per name.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{ReadTx, StoreError, Tx};

/// Sets a setting.
pub async fn put<T: Serialize + Sync>(tx: &mut Tx, name: &str, value: &T) -> Result<(), StoreError> {
    todo!()
}

/// A setting's value.
///
/// # Errors
/// [`StoreError::Damaged`] if it is there but not a `T`.
pub async fn get<T: DeserializeOwned>(tx: &mut ReadTx, name: &str) -> Result<Option<T>, StoreError> {
    todo!()
}
