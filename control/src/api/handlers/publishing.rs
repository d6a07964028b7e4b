//! Projects, environments, hosts and routes.

use axum::Extension;
use axum::extract::{Path, State};

use super::{Asking, Control, Done, GONE, Gone, One, Three, Two, created, ok};
use crate::api::body::Body;
use crate::api::types as t;
use crate::use_case::{Paging, audit, environment, explain, host, project, route};

pub(in crate::api) async fn audit_of_project(
    State(s): Control,
    Extension(c): Asking,
    Path(project): One,
    paging: Paging,
) -> Done<t::Page<t::AuditEntry>> {
    audit::list_project(&s, &c, &project, paging).await.map(ok)
}

pub(in crate::api) async fn list_projects(
    State(s): Control,
    Extension(c): Asking,
    paging: Paging,
) -> Done<t::Page<t::Project>> {
    project::list(&s, &c, paging).await.map(ok)
}

pub(in crate::api) async fn create_project(
    State(s): Control,
    Extension(c): Asking,
    Body(request): Body<t::CreateProject>,
) -> Done<t::Project> {
    project::create(&s, &c, request).await.map(created)
}

pub(in crate::api) async fn show_project(
    State(s): Control,
    Extension(c): Asking,
    Path(name): One,
) -> Done<t::Project> {
    project::show(&s, &c, &name).await.map(ok)
}

pub(in crate::api) async fn update_project(
    State(s): Control,
    Extension(c): Asking,
    Path(name): One,
    Body(request): Body<t::UpdateProject>,
) -> Done<t::Project> {
    project::update(&s, &c, &name, request).await.map(ok)
}

pub(in crate::api) async fn set_quota(
    State(s): Control,
    Extension(c): Asking,
    Path(name): One,
    Body(request): Body<t::QuotaChanges>,
) -> Done<t::Project> {
    project::set_quota(&s, &c, &name, request).await.map(ok)
}

pub(in crate::api) async fn delete_project(State(s): Control, Extension(c): Asking, Path(name): One) -> Gone {
    project::delete(&s, &c, &name).await.map(|()| GONE)
}

pub(in crate::api) async fn list_environments(
    State(s): Control,
    Extension(c): Asking,
    Path(project): One,
) -> Done<t::Page<t::Environment>> {
    environment::list(&s, &c, &project).await.map(ok)
}

pub(in crate::api) async fn create_environment(
    State(s): Control,
    Extension(c): Asking,
    Path(project): One,
    Body(request): Body<t::CreateEnvironment>,
) -> Done<t::Environment> {
    environment::create(&s, &c, &project, request).await.map(created)
}

pub(in crate::api) async fn show_environment(
    State(s): Control,
    Extension(c): Asking,
    Path((project, name)): Two,
) -> Done<t::Environment> {
    environment::show(&s, &c, &project, &name).await.map(ok)
}

pub(in crate::api) async fn delete_environment(
    State(s): Control,
    Extension(c): Asking,
    Path((project, name)): Two,
) -> Gone {
    environment::delete(&s, &c, &project, &name).await.map(|()| GONE)
}

pub(in crate::api) async fn list_hosts(
    State(s): Control,
    Extension(c): Asking,
    Path((project, environment)): Two,
) -> Done<t::Page<t::Host>> {
    host::list(&s, &c, &project, &environment).await.map(ok)
}

pub(in crate::api) async fn add_host(
    State(s): Control,
    Extension(c): Asking,
    Path((project, environment)): Two,
    Body(request): Body<t::AddHost>,
) -> Done<t::Host> {
    host::add(&s, &c, &project, &environment, &request).await.map(created)
}

pub(in crate::api) async fn verify_host(
    State(s): Control,
    Extension(c): Asking,
    Path((project, environment, name)): Three,
) -> Done<t::Host> {
    host::verify(&s, &c, &project, &environment, &name).await.map(ok)
}

pub(in crate::api) async fn remove_host(
    State(s): Control,
    Extension(c): Asking,
    Path((project, environment, name)): Three,
) -> Gone {
    host::remove(&s, &c, &project, &environment, &name).await.map(|()| GONE)
}

pub(in crate::api) async fn list_routes(
    State(s): Control,
    Extension(c): Asking,
    Path((project, environment)): Two,
) -> Done<t::Page<t::Route>> {
    route::list(&s, &c, &project, &environment).await.map(ok)
}

pub(in crate::api) async fn add_route(
    State(s): Control,
    Extension(c): Asking,
    Path((project, environment)): Two,
    Body(request): Body<t::AddRoute>,
) -> Done<t::RouteAdded> {
    route::add(&s, &c, &project, &environment, &request).await.map(created)
}

pub(in crate::api) async fn order_routes(
    State(s): Control,
    Extension(c): Asking,
    Path((project, environment)): Two,
    Body(request): Body<t::OrderRoutes>,
) -> Done<t::Page<t::Route>> {
    route::order(&s, &c, &project, &environment, &request).await.map(ok)
}

pub(in crate::api) async fn explain_route(
    State(s): Control,
    Extension(c): Asking,
    Path((project, environment)): Two,
    Body(request): Body<t::ExplainRequest>,
) -> Done<t::Explained> {
    route::explain(&s, &c, &project, &environment, &request).await.map(ok)
}

pub(in crate::api) async fn explain_url(
    State(s): Control,
    Extension(c): Asking,
    Body(request): Body<t::ExplainUrl>,
) -> Done<t::ExplainedUrl> {
    explain::explain(&s, &c, &request).await.map(ok)
}

pub(in crate::api) async fn show_route(
    State(s): Control,
    Extension(c): Asking,
    Path((project, environment, name)): Three,
) -> Done<t::Route> {
    route::show(&s, &c, &project, &environment, &name).await.map(ok)
}

pub(in crate::api) async fn update_route(
    State(s): Control,
    Extension(c): Asking,
    Path((project, environment, name)): Three,
    Body(request): Body<t::UpdateRoute>,
) -> Done<t::RouteAdded> {
    route::update(&s, &c, &project, &environment, &name, &request).await.map(ok)
}

pub(in crate::api) async fn remove_route(
    State(s): Control,
    Extension(c): Asking,
    Path((project, environment, name)): Three,
) -> Done<t::RouteRemoved> {
    route::remove(&s, &c, &project, &environment, &name).await.map(ok)
}
