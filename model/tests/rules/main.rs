//! Rules of routes: which can be carried out, what each comes to, and who closes a route that carries one.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod answers;
mod checks;
mod cors;
mod guards;
mod limits;
mod paths;
mod readers;
#[path = "../shop/mod.rs"]
mod shop;
