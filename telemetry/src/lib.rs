//! What a program tells the people who run it: logs, metrics, and whether it is well.
//!
//! Owns the log format ([`log`]), the metrics registry ([`metrics`]), the private listener that answers
//! `/healthz`, `/readyz` and `/metrics` ([`health`]), and the wrapper that keeps secrets out of all of them
//! ([`Redacted`]). Knows nothing of the product: names and meanings are the caller's.

pub mod health;
pub mod log;
pub mod metrics;

mod encode;
mod format;
mod histogram;
mod redacted;

pub use health::{Condition, Health, HealthListener};
pub use histogram::Histogram;
pub use log::{LogConfig, LogFormat, LogLevel};
pub use metrics::{Counter, Family, Gauge, Metrics};
pub use redacted::Redacted;
