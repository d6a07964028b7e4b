//! The edge: where clients' connections end and warpgates' tunnels arrive.
//!
//! A first reading: [`listen`] (sockets; the ClientHello decides what a connection is), [`http`] (three
//! protocols become one kind of request), [`request`] (the typed request path of the design, stage by stage),
//! [`tunnel`] (connections from warpgates and exchanges on them), [`view`] (what the edge knows, decoded from
//! its replica), `fair` (who may use how much), [`page`] (the pages it answers with itself), [`tls`] (public certificates), [`front`] (what a control
//! node runs for the connections that split edges pass on to it).
//!
//! Does not reach the primary, holds no CA key, sees no password, and needs control for nothing that a request
//! with a known session does.

pub mod config;
pub(crate) mod fair;
pub mod front;
pub mod http;
pub mod listen;
pub mod page;
pub mod request;
pub mod tls;
pub mod tunnel;
pub mod view;

pub use config::{
    Duplex, EdgeConfig, EdgeParts, Limits, PlatformHosts, PlatformService, Splice, SpliceStream, StartError,
};
pub use fair::{Fair, FairLimits};
pub use front::{FrontParts, PlatformFront};
pub use listen::drain::Drain;
pub use listen::edge::Edge;
