//! Malicious upstreams and warpgates: the edge answers 502 or closes that tunnel, says why once, and nobody else
//! notices.
//!
//! An honest project stands beside the rogue's on the same edge; its client keeps asking all the while.

mod honest;
mod tunnel;
mod upstream;
