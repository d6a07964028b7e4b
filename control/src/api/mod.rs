//! The admin API: JSON over the use cases, for the admin CLI (unix socket), scripts (API key) and, later, the Console.

pub mod types;
