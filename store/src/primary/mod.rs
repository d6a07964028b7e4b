//! The primary: the relational database of a control node, and the feed it publishes.
//!
//! One function per query in the file of its object; every one that reads or writes what a tenant owns
//! takes that tenant's id, and another tenant's row is simply not found (R22). Queries take a [`ReadTx`],
//! changes a [`Tx`], which can be passed wherever a [`ReadTx`] is asked for:
//!
//! ```ignore
//! primary.write(async |tx| {
//!     project::insert(tx, &row).await?;
//!     tx.audit(entry);
//!     Ok::<_, CreateProjectError>(())
//! }).await
//! ```
//!
//! Changes that edges must know of publish their documents themselves, in the same transaction; where a
//! function does so, its documentation says what. Sites are the exception: [`site::publish`] is called once
//! after all changes to hosts and routes, because the signed bundle must carry the same revision.

pub mod acme;
pub mod api_key;
pub mod applied;
pub mod audit;
mod batch;
pub mod certificate;
mod commit;
mod dialect;
pub mod directory;
pub mod environment;
mod error;
pub mod hand_off;
pub mod host;
pub mod host_claim;
pub mod invitation;
pub mod lease;
pub mod login_event;
pub mod mail;
mod migrate;
pub mod node;
pub mod one_time_link;
mod open;
pub mod operator;
pub mod organization;
mod page;
pub mod password;
mod postgres;
pub mod principal;
pub mod project;
pub mod prune;
pub mod quota;
pub mod reseal;
pub mod role;
pub mod route;
pub mod secret;
pub mod service_account;
pub mod session;
pub mod setting;
pub mod sign_in;
pub mod site;
mod source;
mod transact;
mod transfer;
mod tx;
pub mod user;
mod value;
pub mod warpgate;

pub use commit::Published;
pub use error::{StoreError, Taken, WriteError};
pub use open::OpenError;
pub use page::{PAGE_LEN_MAX, PageRequest, Paged};
pub use postgres::{PostgresConfig, PostgresUrlError};
pub use transact::ATTEMPTS_MAX;
pub use transfer::{TransferError, TransferReport, TransferStep};
pub use tx::{PUBLISH_MAX, ReadTx, Tx};

/// The primary database of a control node. Cheap to clone; the last one dropped releases the data directory.
#[derive(Clone)]
pub struct Primary(std::sync::Arc<open::Shared>);

impl std::fmt::Debug for Primary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Primary")
    }
}

/// Refuses one more when a counting query says that there are enough.
fn within(count: Option<value::Row>, max: usize, what: &str) -> Result<(), StoreError> {
    let count: usize = count.map(|row| row.get("n")).transpose()?.unwrap_or(0);
    if count < max { Ok(()) } else { Err(StoreError::TooLarge(format!("{max} {what} are allowed"))) }
}
