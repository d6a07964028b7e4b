//! Trust between nodes through its whole life: certificates that are renewed, end, are refused and taken back, under load and
//! while clocks move.
//!
//! `place` is an installation whose time a test moves; `forge` makes certificates by the installation's own CA, right ones
//! and wrong ones; `knock` shows them at the real ports.

mod absent;
mod first_root;
mod forge;
mod knock;
mod life;
mod place;
mod roles;
mod rotation;

/// Whether the long forms run.
fn is_full() -> bool {
    std::env::var_os("MEZU_FULL").is_some()
}
