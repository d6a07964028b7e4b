//! What whole-system tests and the load driver are made of: clients of three protocols, a recording
//! upstream, and the product's programs as child processes.

pub mod admin;
pub mod canary;
pub mod client;
pub mod clients;
pub mod cluster;
pub mod mail_server;
pub mod matrix;
pub mod moved_clock;
pub mod netlab;
pub mod pebble;
pub mod postgres;
pub mod program;
pub mod recorder;
pub mod rogue;
pub mod stats;
pub mod system;
pub mod upstream;
pub mod workload;
