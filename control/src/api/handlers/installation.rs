//! The installation, organizations, operators and the audit log.

use axum::Extension;
use axum::extract::{Path, State};

use super::{Asking, Control, Done, GONE, Gone, One, Two, created, ok};
use crate::api::body::Body;
use crate::api::types as t;
use crate::use_case::{Paging, audit, directory, installation, operator, organization};

pub(in crate::api) async fn whoami(State(s): Control, Extension(c): Asking) -> Done<t::WhoAmI> {
    installation::whoami(&s, &c).await.map(ok)
}

pub(in crate::api) async fn installation(State(s): Control, Extension(c): Asking) -> Done<t::Installation> {
    installation::show(&s, &c).map(ok)
}

pub(in crate::api) async fn list_organizations(
    State(s): Control,
    Extension(c): Asking,
    paging: Paging,
) -> Done<t::Page<t::Organization>> {
    organization::list(&s, &c, paging).await.map(ok)
}

pub(in crate::api) async fn create_organization(
    State(s): Control,
    Extension(c): Asking,
    Body(request): Body<t::CreateOrganization>,
) -> Done<t::Organization> {
    organization::create(&s, &c, request).await.map(created)
}

pub(in crate::api) async fn show_organization(
    State(s): Control,
    Extension(c): Asking,
    Path(name): One,
) -> Done<t::Organization> {
    organization::show(&s, &c, &name).await.map(ok)
}

pub(in crate::api) async fn audit(
    State(s): Control,
    Extension(c): Asking,
    paging: Paging,
) -> Done<t::Page<t::AuditEntry>> {
    audit::list(&s, &c, None, paging).await.map(ok)
}

pub(in crate::api) async fn audit_of_organization(
    State(s): Control,
    Extension(c): Asking,
    Path(name): One,
    paging: Paging,
) -> Done<t::Page<t::AuditEntry>> {
    audit::list(&s, &c, Some(&name), paging).await.map(ok)
}

pub(in crate::api) async fn list_operators(
    State(s): Control,
    Extension(c): Asking,
) -> Done<t::Page<t::Operator>> {
    operator::list(&s, &c).await.map(ok)
}

pub(in crate::api) async fn operator_link(
    State(s): Control,
    Extension(c): Asking,
    Path(name): One,
) -> Done<t::SignInLink> {
    operator::sign_in_link(&s, &c, &name).await.map(created)
}

pub(in crate::api) async fn create_operator_key(
    State(s): Control,
    Extension(c): Asking,
    Body(request): Body<t::CreateOperatorKey>,
) -> Done<t::CreatedApiKey> {
    operator::create_key(&s, &c, request).await.map(created)
}

pub(in crate::api) async fn list_directories(
    State(s): Control,
    Extension(c): Asking,
    Path(organization): One,
    paging: Paging,
) -> Done<t::Page<t::Directory>> {
    directory::list(&s, &c, &organization, paging).await.map(ok)
}

pub(in crate::api) async fn create_directory(
    State(s): Control,
    Extension(c): Asking,
    Path(organization): One,
    Body(request): Body<t::CreateDirectory>,
) -> Done<t::Directory> {
    directory::create(&s, &c, &organization, request).await.map(created)
}

pub(in crate::api) async fn show_directory(
    State(s): Control,
    Extension(c): Asking,
    Path((organization, name)): Two,
) -> Done<t::Directory> {
    directory::show(&s, &c, &organization, &name).await.map(ok)
}

pub(in crate::api) async fn change_directory(
    State(s): Control,
    Extension(c): Asking,
    Path((organization, name)): Two,
    Body(changes): Body<t::DirectoryChanges>,
) -> Done<t::Directory> {
    directory::change(&s, &c, &organization, &name, changes).await.map(ok)
}

pub(in crate::api) async fn delete_directory(
    State(s): Control,
    Extension(c): Asking,
    Path((organization, name)): Two,
) -> Gone {
    directory::delete(&s, &c, &organization, &name).await.map(|()| GONE)
}
