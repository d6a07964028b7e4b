//! Certificates from an authority, ordered, proven, renewed: the product against Debian's pebble, which refuses half of all
//! good nonces.

mod moved_clock;
mod ordered;
mod race;
mod restart;
mod scene;
mod wildcard;
