//! The hosted sign-in pages.
