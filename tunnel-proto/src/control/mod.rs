//! The control stream.
mod message;
pub use message::*;
