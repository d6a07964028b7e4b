//! What each endpoint does: read the request, call its use case, write the answer.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use http::StatusCode;

use super::body::{Answer, Body};
use super::types as t;
use crate::Shared;
use crate::caller::Caller;
use crate::problem::Refusal;
use crate::use_case::{
    Paging, api_key, audit, environment, host, installation, operator, organization, project, role, route,
    service_account, user, warpgate,
};

type Control = State<Arc<Shared>>;
type Asking = Extension<Caller>;
type One = Path<String>;
type Two = Path<(String, String)>;
type Three = Path<(String, String, String)>;
type Done<T> = Result<Answer<T>, Refusal>;
/// Something was removed: there is nothing to show.
type Gone = Result<StatusCode, Refusal>;

fn ok<T>(value: T) -> Answer<T> {
    Answer(StatusCode::OK, value)
}

fn created<T>(value: T) -> Answer<T> {
    Answer(StatusCode::CREATED, value)
}

const GONE: StatusCode = StatusCode::NO_CONTENT;

pub(super) async fn whoami(State(s): Control, Extension(c): Asking) -> Done<t::WhoAmI> {
    installation::whoami(&s, &c).await.map(ok)
}

pub(super) async fn installation(State(s): Control, Extension(c): Asking) -> Done<t::Installation> {
    installation::show(&s, &c).map(ok)
}

pub(super) async fn list_organizations(
    State(s): Control,
    Extension(c): Asking,
    paging: Paging,
) -> Done<t::Page<t::Organization>> {
    organization::list(&s, &c, paging).await.map(ok)
}

pub(super) async fn create_organization(
    State(s): Control,
    Extension(c): Asking,
    Body(request): Body<t::CreateOrganization>,
) -> Done<t::Organization> {
    organization::create(&s, &c, request).await.map(created)
}

pub(super) async fn show_organization(
    State(s): Control,
    Extension(c): Asking,
    Path(name): One,
) -> Done<t::Organization> {
    organization::show(&s, &c, &name).await.map(ok)
}

pub(super) async fn audit(
    State(s): Control,
    Extension(c): Asking,
    paging: Paging,
) -> Done<t::Page<t::AuditEntry>> {
    audit::list(&s, &c, None, paging).await.map(ok)
}

pub(super) async fn audit_of_organization(
    State(s): Control,
    Extension(c): Asking,
    Path(name): One,
    paging: Paging,
) -> Done<t::Page<t::AuditEntry>> {
    audit::list(&s, &c, Some(&name), paging).await.map(ok)
}

pub(super) async fn audit_of_project(
    State(s): Control,
    Extension(c): Asking,
    Path(project): One,
    paging: Paging,
) -> Done<t::Page<t::AuditEntry>> {
    audit::list_project(&s, &c, &project, paging).await.map(ok)
}

pub(super) async fn list_operators(State(s): Control, Extension(c): Asking) -> Done<t::Page<t::Operator>> {
    operator::list(&s, &c).await.map(ok)
}

pub(super) async fn operator_link(
    State(s): Control,
    Extension(c): Asking,
    Path(name): One,
) -> Done<t::SignInLink> {
    operator::sign_in_link(&s, &c, &name).await.map(created)
}

pub(super) async fn create_operator_key(
    State(s): Control,
    Extension(c): Asking,
    Body(request): Body<t::CreateOperatorKey>,
) -> Done<t::CreatedApiKey> {
    operator::create_key(&s, &c, request).await.map(created)
}

pub(super) async fn list_projects(
    State(s): Control,
    Extension(c): Asking,
    paging: Paging,
) -> Done<t::Page<t::Project>> {
    project::list(&s, &c, paging).await.map(ok)
}

pub(super) async fn create_project(
    State(s): Control,
    Extension(c): Asking,
    Body(request): Body<t::CreateProject>,
) -> Done<t::Project> {
    project::create(&s, &c, request).await.map(created)
}

pub(super) async fn show_project(
    State(s): Control,
    Extension(c): Asking,
    Path(name): One,
) -> Done<t::Project> {
    project::show(&s, &c, &name).await.map(ok)
}

pub(super) async fn update_project(
    State(s): Control,
    Extension(c): Asking,
    Path(name): One,
    Body(request): Body<t::UpdateProject>,
) -> Done<t::Project> {
    project::update(&s, &c, &name, request).await.map(ok)
}

pub(super) async fn delete_project(State(s): Control, Extension(c): Asking, Path(name): One) -> Gone {
    project::delete(&s, &c, &name).await.map(|()| GONE)
}

pub(super) async fn directory(
    State(s): Control,
    Extension(c): Asking,
    Path(name): One,
) -> Done<t::Directory> {
    project::directory(&s, &c, &name).await.map(ok)
}

pub(super) async fn list_environments(
    State(s): Control,
    Extension(c): Asking,
    Path(project): One,
) -> Done<t::Page<t::Environment>> {
    environment::list(&s, &c, &project).await.map(ok)
}

pub(super) async fn create_environment(
    State(s): Control,
    Extension(c): Asking,
    Path(project): One,
    Body(request): Body<t::CreateEnvironment>,
) -> Done<t::Environment> {
    environment::create(&s, &c, &project, request).await.map(created)
}

pub(super) async fn show_environment(
    State(s): Control,
    Extension(c): Asking,
    Path((project, name)): Two,
) -> Done<t::Environment> {
    environment::show(&s, &c, &project, &name).await.map(ok)
}

pub(super) async fn delete_environment(
    State(s): Control,
    Extension(c): Asking,
    Path((project, name)): Two,
) -> Gone {
    environment::delete(&s, &c, &project, &name).await.map(|()| GONE)
}

pub(super) async fn list_hosts(
    State(s): Control,
    Extension(c): Asking,
    Path((project, environment)): Two,
) -> Done<t::Page<t::Host>> {
    host::list(&s, &c, &project, &environment).await.map(ok)
}

pub(super) async fn add_host(
    State(s): Control,
    Extension(c): Asking,
    Path((project, environment)): Two,
    Body(request): Body<t::AddHost>,
) -> Done<t::Host> {
    host::add(&s, &c, &project, &environment, &request).await.map(created)
}

pub(super) async fn remove_host(
    State(s): Control,
    Extension(c): Asking,
    Path((project, environment, name)): Three,
) -> Gone {
    host::remove(&s, &c, &project, &environment, &name).await.map(|()| GONE)
}

pub(super) async fn list_routes(
    State(s): Control,
    Extension(c): Asking,
    Path((project, environment)): Two,
) -> Done<t::Page<t::Route>> {
    route::list(&s, &c, &project, &environment).await.map(ok)
}

pub(super) async fn add_route(
    State(s): Control,
    Extension(c): Asking,
    Path((project, environment)): Two,
    Body(request): Body<t::AddRoute>,
) -> Done<t::RouteAdded> {
    route::add(&s, &c, &project, &environment, &request).await.map(created)
}

pub(super) async fn order_routes(
    State(s): Control,
    Extension(c): Asking,
    Path((project, environment)): Two,
    Body(request): Body<t::OrderRoutes>,
) -> Done<t::Page<t::Route>> {
    route::order(&s, &c, &project, &environment, &request).await.map(ok)
}

pub(super) async fn show_route(
    State(s): Control,
    Extension(c): Asking,
    Path((project, environment, name)): Three,
) -> Done<t::Route> {
    route::show(&s, &c, &project, &environment, &name).await.map(ok)
}

pub(super) async fn update_route(
    State(s): Control,
    Extension(c): Asking,
    Path((project, environment, name)): Three,
    Body(request): Body<t::UpdateRoute>,
) -> Done<t::RouteAdded> {
    route::update(&s, &c, &project, &environment, &name, &request).await.map(ok)
}

pub(super) async fn remove_route(
    State(s): Control,
    Extension(c): Asking,
    Path((project, environment, name)): Three,
) -> Gone {
    route::remove(&s, &c, &project, &environment, &name).await.map(|()| GONE)
}

pub(super) async fn list_users(
    State(s): Control,
    Extension(c): Asking,
    Path(project): One,
    paging: Paging,
) -> Done<t::Page<t::User>> {
    user::list(&s, &c, &project, paging).await.map(ok)
}

pub(super) async fn create_user(
    State(s): Control,
    Extension(c): Asking,
    Path(project): One,
    Body(request): Body<t::CreateUser>,
) -> Done<t::User> {
    user::create(&s, &c, &project, request).await.map(created)
}

pub(super) async fn show_user(
    State(s): Control,
    Extension(c): Asking,
    Path((project, name)): Two,
) -> Done<t::User> {
    user::show(&s, &c, &project, &name).await.map(ok)
}

pub(super) async fn delete_user(State(s): Control, Extension(c): Asking, Path((project, name)): Two) -> Gone {
    user::delete(&s, &c, &project, &name).await.map(|()| GONE)
}

pub(super) async fn suspend_user(
    State(s): Control,
    Extension(c): Asking,
    Path((project, name)): Two,
) -> Done<t::User> {
    user::suspend(&s, &c, &project, &name).await.map(ok)
}

pub(super) async fn activate_user(
    State(s): Control,
    Extension(c): Asking,
    Path((project, name)): Two,
) -> Done<t::User> {
    user::activate(&s, &c, &project, &name).await.map(ok)
}

pub(super) async fn set_password(
    State(s): Control,
    Extension(c): Asking,
    Path((project, name)): Two,
    Body(request): Body<t::SetPassword>,
) -> Done<t::User> {
    user::set_password(&s, &c, &project, &name, request).await.map(ok)
}

pub(super) async fn set_user_roles(
    State(s): Control,
    Extension(c): Asking,
    Path((project, name)): Two,
    Body(request): Body<t::SetRoles>,
) -> Done<t::User> {
    user::set_roles(&s, &c, &project, &name, &request).await.map(ok)
}

pub(super) async fn list_roles(
    State(s): Control,
    Extension(c): Asking,
    Path(project): One,
) -> Done<t::Page<t::Role>> {
    role::list(&s, &c, &project).await.map(ok)
}

pub(super) async fn show_role(
    State(s): Control,
    Extension(c): Asking,
    Path((project, name)): Two,
) -> Done<t::Role> {
    role::show(&s, &c, &project, &name).await.map(ok)
}

pub(super) async fn put_role(
    State(s): Control,
    Extension(c): Asking,
    Path((project, name)): Two,
    Body(request): Body<t::PutRole>,
) -> Done<t::Role> {
    role::put(&s, &c, &project, &name, request).await.map(ok)
}

pub(super) async fn delete_role(State(s): Control, Extension(c): Asking, Path((project, name)): Two) -> Gone {
    role::delete(&s, &c, &project, &name).await.map(|()| GONE)
}

pub(super) async fn list_service_accounts(
    State(s): Control,
    Extension(c): Asking,
    Path(project): One,
    paging: Paging,
) -> Done<t::Page<t::ServiceAccount>> {
    service_account::list(&s, &c, &project, paging).await.map(ok)
}

pub(super) async fn create_service_account(
    State(s): Control,
    Extension(c): Asking,
    Path(project): One,
    Body(request): Body<t::CreateServiceAccount>,
) -> Done<t::ServiceAccount> {
    service_account::create(&s, &c, &project, &request).await.map(created)
}

pub(super) async fn show_service_account(
    State(s): Control,
    Extension(c): Asking,
    Path((project, name)): Two,
) -> Done<t::ServiceAccount> {
    service_account::show(&s, &c, &project, &name).await.map(ok)
}

pub(super) async fn delete_service_account(
    State(s): Control,
    Extension(c): Asking,
    Path((project, name)): Two,
) -> Gone {
    service_account::delete(&s, &c, &project, &name).await.map(|()| GONE)
}

pub(super) async fn set_account_roles(
    State(s): Control,
    Extension(c): Asking,
    Path((project, name)): Two,
    Body(request): Body<t::SetRoles>,
) -> Done<t::ServiceAccount> {
    service_account::set_roles(&s, &c, &project, &name, &request).await.map(ok)
}

pub(super) async fn list_api_keys(
    State(s): Control,
    Extension(c): Asking,
    Path(project): One,
    paging: Paging,
) -> Done<t::Page<t::ApiKey>> {
    api_key::list(&s, &c, &project, paging).await.map(ok)
}

pub(super) async fn create_api_key(
    State(s): Control,
    Extension(c): Asking,
    Path(project): One,
    Body(request): Body<t::CreateApiKey>,
) -> Done<t::CreatedApiKey> {
    api_key::create(&s, &c, &project, request).await.map(created)
}

pub(super) async fn show_api_key(
    State(s): Control,
    Extension(c): Asking,
    Path((project, key)): Two,
) -> Done<t::ApiKey> {
    api_key::show(&s, &c, &project, &key).await.map(ok)
}

pub(super) async fn revoke_api_key(
    State(s): Control,
    Extension(c): Asking,
    Path((project, key)): Two,
) -> Gone {
    api_key::revoke(&s, &c, &project, &key).await.map(|()| GONE)
}

pub(super) async fn rotate_api_key(
    State(s): Control,
    Extension(c): Asking,
    Path((project, key)): Two,
    Body(request): Body<t::RotateApiKey>,
) -> Done<t::CreatedApiKey> {
    api_key::rotate(&s, &c, &project, &key, &request).await.map(created)
}

pub(super) async fn list_warpgates(
    State(s): Control,
    Extension(c): Asking,
    Path(project): One,
    paging: Paging,
) -> Done<t::Page<t::Warpgate>> {
    warpgate::list_all(&s, &c, &project, paging).await.map(ok)
}

pub(super) async fn list_environment_warpgates(
    State(s): Control,
    Extension(c): Asking,
    Path((project, environment)): Two,
    paging: Paging,
) -> Done<t::Page<t::Warpgate>> {
    warpgate::list(&s, &c, &project, &environment, paging).await.map(ok)
}
