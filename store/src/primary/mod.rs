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

pub mod api_key;
pub mod audit;
pub mod certificate;
pub mod directory;
pub mod environment;
mod error;
pub mod hand_off;
pub mod host;
pub mod lease;
pub mod node;
pub mod one_time_link;
mod open;
pub mod operator;
pub mod organization;
mod page;
pub mod password;
pub mod principal;
pub mod project;
pub mod prune;
pub mod role;
pub mod route;
pub mod secret;
pub mod service_account;
pub mod session;
pub mod setting;
pub mod sign_in;
pub mod site;
mod source;
mod tx;
pub mod user;
pub mod warpgate;

pub use error::{StoreError, Taken, WriteError};
pub use open::{OpenError, Primary};
pub use page::{PAGE_LEN_MAX, PageRequest, Paged};
pub use tx::{PUBLISH_MAX, Published, ReadTx, Tx};
