//! The keys that sign assertions.

use axum::Extension;
use axum::extract::State;

use super::{Asking, Control, Done, ok};
use crate::api::types as t;
use crate::use_case::assertion_key;

pub(in crate::api) async fn list_assertion_keys(
    State(s): Control,
    Extension(c): Asking,
) -> Done<t::AssertionKeys> {
    assertion_key::list(&s, &c).await.map(ok)
}

pub(in crate::api) async fn rotate_assertion_key(
    State(s): Control,
    Extension(c): Asking,
) -> Done<t::AssertionKeys> {
    assertion_key::rotate(&s, &c).await.map(ok)
}
