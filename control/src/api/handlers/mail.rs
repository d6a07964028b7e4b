//! Mail.

use axum::Extension;
use axum::extract::{Path, State};

use super::{Asking, Control, Done, One, ok};
use crate::api::body::Body;
use crate::api::types as t;
use crate::use_case::{Paging, mail};

pub(in crate::api) async fn list_mails(
    State(s): Control,
    Extension(c): Asking,
    paging: Paging,
) -> Done<t::Page<t::QueuedMail>> {
    mail::list(&s, &c, paging).await.map(ok)
}

pub(in crate::api) async fn retry_mail(
    State(s): Control,
    Extension(c): Asking,
    Path(mail): One,
) -> Done<t::QueuedMail> {
    mail::retry(&s, &c, &mail).await.map(ok)
}

pub(in crate::api) async fn test_mail(
    State(s): Control,
    Extension(c): Asking,
    Body(request): Body<t::TestMail>,
) -> Done<t::TestedMail> {
    mail::test(&s, &c, request).await.map(ok)
}
