//! What whole-system tests and the load driver are made of: clients of three protocols, a recording
//! upstream, and the product's programs as child processes.

pub mod client;
pub mod program;
pub mod stats;
pub mod system;
pub mod upstream;
