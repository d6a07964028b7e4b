//! The internal CA.

use axum::Extension;
use axum::extract::{Path, State};

use super::{Asking, Control, Done, GONE, Gone, One, ok};
use crate::api::body::Body;
use crate::api::types as t;
use crate::use_case::{Paging, ca};

pub(in crate::api) async fn show_ca(State(s): Control, Extension(c): Asking) -> Done<t::CaStatus> {
    ca::show(&s, &c).await.map(ok)
}

pub(in crate::api) async fn list_issued(
    State(s): Control,
    Extension(c): Asking,
    paging: Paging,
) -> Done<t::Page<t::IssuedCertificate>> {
    ca::issued(&s, &c, paging).await.map(ok)
}

pub(in crate::api) async fn rotate_ca(
    State(s): Control,
    Extension(c): Asking,
    Body(request): Body<t::RotateCa>,
) -> Done<t::CaStatus> {
    ca::rotate(&s, &c, &request).await.map(ok)
}

pub(in crate::api) async fn abort_ca(State(s): Control, Extension(c): Asking) -> Done<t::CaStatus> {
    ca::abort(&s, &c).await.map(ok)
}

pub(in crate::api) async fn taint_ca(State(s): Control, Extension(c): Asking) -> Done<t::CaStatus> {
    ca::taint(&s, &c).await.map(ok)
}

pub(in crate::api) async fn request_ca(State(s): Control, Extension(c): Asking) -> Done<t::CaRequest> {
    ca::request(&s, &c).await.map(ok)
}

pub(in crate::api) async fn install_ca(
    State(s): Control,
    Extension(c): Asking,
    Body(request): Body<t::InstallCa>,
) -> Done<t::CaStatus> {
    ca::install(&s, &c, &request).await.map(ok)
}

pub(in crate::api) async fn take_root_key(State(s): Control, Extension(c): Asking) -> Done<t::RootKey> {
    ca::take_root_key(&s, &c).await.map(ok)
}

pub(in crate::api) async fn forget_root_key(
    State(s): Control,
    Extension(c): Asking,
    Path(root): One,
) -> Gone {
    ca::forget_root_key(&s, &c, &root).await.map(|()| GONE)
}
