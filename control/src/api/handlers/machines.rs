//! Service accounts, API keys and warpgates.

use axum::Extension;
use axum::extract::{Path, State};

use super::{Asking, Control, Done, GONE, Gone, One, Two, created, ok};
use crate::api::body::Body;
use crate::api::types as t;
use crate::use_case::{Paging, api_key, service_account, warpgate};

pub(in crate::api) async fn list_service_accounts(
    State(s): Control,
    Extension(c): Asking,
    Path(project): One,
    paging: Paging,
) -> Done<t::Page<t::ServiceAccount>> {
    service_account::list(&s, &c, &project, paging).await.map(ok)
}

pub(in crate::api) async fn create_service_account(
    State(s): Control,
    Extension(c): Asking,
    Path(project): One,
    Body(request): Body<t::CreateServiceAccount>,
) -> Done<t::ServiceAccount> {
    service_account::create(&s, &c, &project, &request).await.map(created)
}

pub(in crate::api) async fn show_service_account(
    State(s): Control,
    Extension(c): Asking,
    Path((project, name)): Two,
) -> Done<t::ServiceAccount> {
    service_account::show(&s, &c, &project, &name).await.map(ok)
}

pub(in crate::api) async fn delete_service_account(
    State(s): Control,
    Extension(c): Asking,
    Path((project, name)): Two,
) -> Gone {
    service_account::delete(&s, &c, &project, &name).await.map(|()| GONE)
}

pub(in crate::api) async fn set_account_roles(
    State(s): Control,
    Extension(c): Asking,
    Path((project, name)): Two,
    Body(request): Body<t::SetRoles>,
) -> Done<t::ServiceAccount> {
    service_account::set_roles(&s, &c, &project, &name, &request).await.map(ok)
}

pub(in crate::api) async fn list_api_keys(
    State(s): Control,
    Extension(c): Asking,
    Path(project): One,
    paging: Paging,
) -> Done<t::Page<t::ApiKey>> {
    api_key::list(&s, &c, &project, paging).await.map(ok)
}

pub(in crate::api) async fn create_api_key(
    State(s): Control,
    Extension(c): Asking,
    Path(project): One,
    Body(request): Body<t::CreateApiKey>,
) -> Done<t::CreatedApiKey> {
    api_key::create(&s, &c, &project, request).await.map(created)
}

pub(in crate::api) async fn show_api_key(
    State(s): Control,
    Extension(c): Asking,
    Path((project, key)): Two,
) -> Done<t::ApiKey> {
    api_key::show(&s, &c, &project, &key).await.map(ok)
}

pub(in crate::api) async fn revoke_api_key(
    State(s): Control,
    Extension(c): Asking,
    Path((project, key)): Two,
) -> Gone {
    api_key::revoke(&s, &c, &project, &key).await.map(|()| GONE)
}

pub(in crate::api) async fn rotate_api_key(
    State(s): Control,
    Extension(c): Asking,
    Path((project, key)): Two,
    Body(request): Body<t::RotateApiKey>,
) -> Done<t::CreatedApiKey> {
    api_key::rotate(&s, &c, &project, &key, &request).await.map(created)
}

pub(in crate::api) async fn list_warpgates(
    State(s): Control,
    Extension(c): Asking,
    Path(project): One,
    paging: Paging,
) -> Done<t::Page<t::Warpgate>> {
    warpgate::list_all(&s, &c, &project, paging).await.map(ok)
}

pub(in crate::api) async fn list_environment_warpgates(
    State(s): Control,
    Extension(c): Asking,
    Path((project, environment)): Two,
    paging: Paging,
) -> Done<t::Page<t::Warpgate>> {
    warpgate::list(&s, &c, &project, &environment, paging).await.map(ok)
}

pub(in crate::api) async fn evict_warpgate(
    State(s): Control,
    Extension(c): Asking,
    Path((project, name)): Two,
) -> Gone {
    warpgate::evict(&s, &c, &project, &name).await.map(|()| GONE)
}
