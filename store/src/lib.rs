//! Where state lives: the primary database of a control node, the feed it publishes, and the copy an edge keeps.
//!
//! Feature `primary`: [`primary::Primary`], relational, on SQLite; all SQL of the product is in this crate.
//! Feature `replica`: [`replica::Replica`], the edge's sled copy of the feed; links no SQL.
//! Always: [`feed`], what both ends agree on.
//!
//! Knows nothing of HTTP, of permissions or of who asks: use cases in `control` and `identity` check first.

pub mod feed;
#[cfg(any(feature = "primary", feature = "replica"))]
mod lock;
#[cfg(feature = "primary")]
pub mod primary;
#[cfg(feature = "replica")]
pub mod replica;

#[cfg(feature = "primary")]
pub use primary::{Primary, StoreError, WriteError};
#[cfg(feature = "replica")]
pub use replica::Replica;
