//! Handlers over a real SQLite.
