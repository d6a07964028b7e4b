//! The typed pages the login host shows.
