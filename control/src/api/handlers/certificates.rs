//! Public certificates.

use axum::Extension;
use axum::extract::{Path, State};

use super::{Asking, Control, Done, One, ok};
use crate::api::types as t;
use crate::use_case::{Paging, certificate};

pub(in crate::api) async fn list_certificates(
    State(s): Control,
    Extension(c): Asking,
    paging: Paging,
) -> Done<t::Page<t::Certificate>> {
    certificate::list(&s, &c, paging).await.map(ok)
}

pub(in crate::api) async fn show_certificate(
    State(s): Control,
    Extension(c): Asking,
    Path(name): One,
) -> Done<t::Certificate> {
    certificate::show(&s, &c, &name).await.map(ok)
}

pub(in crate::api) async fn certificate_events(
    State(s): Control,
    Extension(c): Asking,
    Path(name): One,
) -> Done<t::Page<t::CertificateEvent>> {
    certificate::events(&s, &c, &name).await.map(ok)
}

pub(in crate::api) async fn retry_certificate(
    State(s): Control,
    Extension(c): Asking,
    Path(name): One,
) -> Done<t::Certificate> {
    certificate::retry(&s, &c, &name).await.map(ok)
}
