//! The replica, following a real primary.

#[path = "../support/mod.rs"]
mod support;
