//! Private keys of certificates: the key of an order under way apart from the one in use, so that a failed order never
//! touches a working certificate.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::primary::secret::open;
use crate::primary::value::args;
use crate::primary::{ReadTx, StoreError, Tx, WriteError};

/// Chain and key, opened.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificatePem {
    /// The chain, leaf first.
    pub chain_pem: String,
    /// The private key, PKCS #8.
    pub key_pem: String,
}

impl std::fmt::Debug for CertificatePem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CertificatePem")
    }
}

/// An order's key opens only as that of its own certificate.
pub(in crate::primary) fn order_key_context(name: &str) -> String {
    format!("acme/{name}/order-key")
}

/// A certificate's key opens only as its own.
pub(in crate::primary) fn certificate_context(name: &str) -> String {
    format!("acme/{name}/certificate")
}

/// Notes an order with the private key (PKCS #8) its certificate will be for; one before it is forgotten.
///
/// # Errors
/// Not found: its host was removed meanwhile.
pub async fn begin_order(tx: &mut Tx, name: &str, url: &str, key: &[u8]) -> Result<(), WriteError> {
    let sealed = tx.seal.seal(&order_key_context(name), key);
    tx.change(
        "certificate",
        "UPDATE acme_certificates SET order_url = $2, sealed_order_key = $3 WHERE name = $1",
        args![name, url, sealed],
    )
    .await
}

/// Forgets the order under way with its key; nothing happens if there is none.
pub async fn end_order(tx: &mut Tx, name: &str) -> Result<(), StoreError> {
    tx.execute(
        "UPDATE acme_certificates SET order_url = NULL, sealed_order_key = NULL WHERE name = $1",
        args![name],
    )
    .await
    .map(drop)
}

/// The private key of the order under way, PKCS #8.
///
/// # Errors
/// [`StoreError::Damaged`] if it cannot be opened.
pub async fn order_key(tx: &mut ReadTx, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
    let row = tx.row("SELECT sealed_order_key FROM acme_certificates WHERE name = $1", args![name]).await?;
    let Some(sealed) = row.map_or(Ok(None), |row| row.opt::<Vec<u8>>("sealed_order_key"))? else {
        return Ok(None);
    };
    open(&*tx.seal, &order_key_context(name), &sealed).map(|key| Some(Zeroizing::new(key)))
}

/// Puts a certificate into use.
///
/// # Errors
/// Not found: its host was removed meanwhile.
pub async fn put_certificate(tx: &mut Tx, name: &str, pem: &CertificatePem) -> Result<(), WriteError> {
    let text = serde_json::to_vec(pem).map_err(|why| StoreError::Damaged(why.to_string()))?;
    let text = Zeroizing::new(text);
    let sealed = tx.seal.seal(&certificate_context(name), &text);
    tx.change(
        "certificate",
        "UPDATE acme_certificates SET sealed_certificate = $2 WHERE name = $1",
        args![name, sealed],
    )
    .await
}

/// The certificate in use, with its key.
///
/// # Errors
/// [`StoreError::Damaged`] if it cannot be opened.
pub async fn certificate(tx: &mut ReadTx, name: &str) -> Result<Option<CertificatePem>, StoreError> {
    let row = tx.row("SELECT sealed_certificate FROM acme_certificates WHERE name = $1", args![name]).await?;
    let Some(sealed) = row.map_or(Ok(None), |row| row.opt::<Vec<u8>>("sealed_certificate"))? else {
        return Ok(None);
    };
    let text = Zeroizing::new(open(&*tx.seal, &certificate_context(name), &sealed)?);
    serde_json::from_slice(&text).map(Some).map_err(|why| StoreError::Damaged(why.to_string()))
}
