//! The table of endpoints: method, path, the permission its use case asks for, and its handler.

use std::sync::Arc;

use axum::Router;
use axum::handler::Handler;
use axum::routing::{MethodFilter, on};
use http::Method;

use super::handlers as h;
use crate::Shared;
use crate::caller::Permission::{
    self, AuditRead, EnvironmentsWrite, InstallationRead, InstallationWrite, KeysRead, KeysWrite,
    ProjectsRead, ProjectsWrite, RolesWrite, RoutesRead, RoutesWrite, UsersRead, UsersWrite, WarpgatesRead,
    WarpgatesWrite,
};

/// One endpoint, as the authorization test sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// The method.
    pub(crate) method: &'static Method,
    /// The path below the prefix, with `{placeholders}`.
    pub(crate) path: &'static str,
    /// What the use case asks for; `None`: any authenticated caller.
    pub(crate) permission: Option<Permission>,
}

/// The router as far as it is built, and what is in it.
pub(super) struct Endpoints {
    router: Router<Arc<Shared>>,
    table: Vec<Endpoint>,
}

impl Endpoints {
    fn add<H, T>(
        mut self,
        method: &'static Method,
        path: &'static str,
        permission: impl Into<Option<Permission>>,
        handler: H,
    ) -> Self
    where
        H: Handler<T, Arc<Shared>>,
        T: 'static,
    {
        let filter = MethodFilter::try_from(method.clone()).unwrap_or(MethodFilter::GET);
        self.router = self.router.route(path, on(filter, handler));
        self.table.push(Endpoint { method, path, permission: permission.into() });
        self
    }
}

/// The router of every endpoint.
pub(super) fn router() -> Router<Arc<Shared>> {
    all().router
}

/// Every endpoint.
#[cfg(test)]
pub(crate) fn table() -> Vec<Endpoint> {
    all().table
}

fn all() -> Endpoints {
    let none = Endpoints { router: Router::new(), table: Vec::new() };
    machines(people(publishing(nodes(installation(none)))))
}

const GET: &Method = &Method::GET;
const POST: &Method = &Method::POST;
const PUT: &Method = &Method::PUT;
const PATCH: &Method = &Method::PATCH;
const DELETE: &Method = &Method::DELETE;

fn installation(endpoints: Endpoints) -> Endpoints {
    const DIRECTORIES: &str = "/organizations/{organization}/directories";
    const DIRECTORY: &str = "/organizations/{organization}/directories/{directory}";
    endpoints
        .add(GET, "/whoami", None, h::whoami)
        .add(GET, "/installation", InstallationRead, h::installation)
        .add(GET, "/organizations", ProjectsRead, h::list_organizations)
        .add(POST, "/organizations", InstallationWrite, h::create_organization)
        .add(GET, "/organizations/{organization}", ProjectsRead, h::show_organization)
        .add(GET, "/organizations/{organization}/audit", AuditRead, h::audit_of_organization)
        .add(GET, DIRECTORIES, InstallationRead, h::list_directories)
        .add(POST, DIRECTORIES, InstallationWrite, h::create_directory)
        .add(GET, DIRECTORY, InstallationRead, h::show_directory)
        .add(PATCH, DIRECTORY, InstallationWrite, h::change_directory)
        .add(DELETE, DIRECTORY, InstallationWrite, h::delete_directory)
        .add(GET, "/audit", AuditRead, h::audit)
        .add(GET, "/operators", InstallationRead, h::list_operators)
        .add(POST, "/operators/{operator}/sign-in-link", InstallationWrite, h::operator_link)
        .add(POST, "/operator-keys", InstallationWrite, h::create_operator_key)
}

fn nodes(endpoints: Endpoints) -> Endpoints {
    endpoints
        .add(GET, "/edges", InstallationRead, h::list_edges)
        .add(GET, "/edges/{edge}", InstallationRead, h::show_edge)
        .add(DELETE, "/edges/{edge}", InstallationWrite, h::evict_edge)
        .add(GET, "/edge-invitations", InstallationRead, h::list_invitations)
        .add(POST, "/edge-invitations", InstallationWrite, h::invite_edge)
        .add(DELETE, "/edge-invitations/{invitation}", InstallationWrite, h::uninvite_edge)
        .add(GET, "/controls", InstallationRead, h::list_controls)
        .add(GET, "/ca", InstallationRead, h::show_ca)
        .add(GET, "/ca/certificates", InstallationRead, h::list_issued)
        .add(POST, "/ca/rotation", InstallationWrite, h::rotate_ca)
        .add(DELETE, "/ca/rotation", InstallationWrite, h::abort_ca)
        .add(POST, "/ca/taint", InstallationWrite, h::taint_ca)
        .add(POST, "/ca/request", InstallationWrite, h::request_ca)
        .add(POST, "/ca/install", InstallationWrite, h::install_ca)
        .add(POST, "/ca/root-key", InstallationWrite, h::take_root_key)
        .add(DELETE, "/ca/root-key/{root}", InstallationWrite, h::forget_root_key)
        .add(GET, "/certificates", InstallationRead, h::list_certificates)
        .add(GET, "/certificates/{certificate}", InstallationRead, h::show_certificate)
        .add(GET, "/certificates/{certificate}/events", InstallationRead, h::certificate_events)
        .add(POST, "/certificates/{certificate}/retry", InstallationWrite, h::retry_certificate)
        .add(GET, "/assertion-keys", InstallationRead, h::list_assertion_keys)
        .add(POST, "/assertion-keys", InstallationWrite, h::rotate_assertion_key)
        .add(GET, "/mails", InstallationRead, h::list_mails)
        .add(POST, "/mails/{mail}/retry", InstallationWrite, h::retry_mail)
        .add(POST, "/mail-test", InstallationWrite, h::test_mail)
}

fn publishing(endpoints: Endpoints) -> Endpoints {
    const PROJECT: &str = "/projects/{project}";
    const ENVIRONMENT: &str = "/projects/{project}/environments/{environment}";
    const HOSTS: &str = "/projects/{project}/environments/{environment}/hosts";
    const ROUTES: &str = "/projects/{project}/environments/{environment}/routes";
    const ROUTE: &str = "/projects/{project}/environments/{environment}/routes/{route}";
    endpoints
        .add(POST, "/explain", RoutesRead, h::explain_url)
        .add(GET, "/projects", ProjectsRead, h::list_projects)
        .add(POST, "/projects", ProjectsWrite, h::create_project)
        .add(GET, PROJECT, ProjectsRead, h::show_project)
        .add(PATCH, PROJECT, ProjectsWrite, h::update_project)
        .add(DELETE, PROJECT, ProjectsWrite, h::delete_project)
        .add(PATCH, "/projects/{project}/quota", InstallationWrite, h::set_quota)
        .add(GET, "/projects/{project}/audit", AuditRead, h::audit_of_project)
        .add(GET, "/projects/{project}/environments", ProjectsRead, h::list_environments)
        .add(POST, "/projects/{project}/environments", EnvironmentsWrite, h::create_environment)
        .add(GET, ENVIRONMENT, ProjectsRead, h::show_environment)
        .add(DELETE, ENVIRONMENT, EnvironmentsWrite, h::delete_environment)
        .add(GET, HOSTS, ProjectsRead, h::list_hosts)
        .add(POST, HOSTS, EnvironmentsWrite, h::add_host)
        .add(
            DELETE,
            "/projects/{project}/environments/{environment}/hosts/{host}",
            EnvironmentsWrite,
            h::remove_host,
        )
        .add(
            POST,
            "/projects/{project}/environments/{environment}/hosts/{host}/verify",
            EnvironmentsWrite,
            h::verify_host,
        )
        .add(GET, ROUTES, RoutesRead, h::list_routes)
        .add(POST, ROUTES, RoutesWrite, h::add_route)
        .add(PUT, "/projects/{project}/environments/{environment}/route-order", RoutesWrite, h::order_routes)
        .add(POST, "/projects/{project}/environments/{environment}/explain", RoutesRead, h::explain_route)
        .add(GET, ROUTE, RoutesRead, h::show_route)
        .add(PATCH, ROUTE, RoutesWrite, h::update_route)
        .add(DELETE, ROUTE, RoutesWrite, h::remove_route)
}

fn people(endpoints: Endpoints) -> Endpoints {
    const OWN: &str = "/projects/{project}/directory";
    const USERS: &str = "/projects/{project}/users";
    const USER: &str = "/projects/{project}/users/{user}";
    const SESSIONS: &str = "/projects/{project}/users/{user}/sessions";
    const INVITATIONS: &str = "/projects/{project}/invitations";
    const ROLE: &str = "/projects/{project}/roles/{role}";
    endpoints
        .add(GET, OWN, UsersRead, h::own_directory)
        .add(PATCH, OWN, ProjectsWrite, h::change_own_directory)
        .add(PUT, OWN, InstallationWrite, h::set_directory)
        .add(GET, USERS, UsersRead, h::list_users)
        .add(POST, USERS, UsersWrite, h::create_user)
        .add(GET, USER, UsersRead, h::show_user)
        .add(PATCH, USER, UsersWrite, h::update_user)
        .add(DELETE, USER, UsersWrite, h::delete_user)
        .add(POST, "/projects/{project}/user-imports", UsersWrite, h::import_users)
        .add(GET, INVITATIONS, UsersRead, h::list_user_invitations)
        .add(POST, INVITATIONS, UsersWrite, h::invite_user)
        .add(DELETE, "/projects/{project}/invitations/{invited}", UsersWrite, h::revoke_user_invitation)
        .add(GET, SESSIONS, UsersRead, h::list_user_sessions)
        .add(DELETE, SESSIONS, UsersWrite, h::end_user_sessions)
        .add(DELETE, "/projects/{project}/users/{user}/sessions/{session}", UsersWrite, h::end_user_session)
        .add(GET, "/projects/{project}/users/{user}/history", UsersRead, h::user_history)
        .add(POST, "/projects/{project}/users/{user}/suspend", UsersWrite, h::suspend_user)
        .add(POST, "/projects/{project}/users/{user}/activate", UsersWrite, h::activate_user)
        .add(POST, "/projects/{project}/users/{user}/deactivate", UsersWrite, h::deactivate_user)
        .add(POST, "/projects/{project}/users/{user}/sign-in-link", UsersWrite, h::user_link)
        .add(PUT, "/projects/{project}/users/{user}/password", UsersWrite, h::set_password)
        .add(PUT, "/projects/{project}/users/{user}/roles", UsersWrite, h::set_user_roles)
        .add(GET, "/projects/{project}/roles", UsersRead, h::list_roles)
        .add(GET, ROLE, UsersRead, h::show_role)
        .add(PUT, ROLE, RolesWrite, h::put_role)
        .add(DELETE, ROLE, RolesWrite, h::delete_role)
}

fn machines(endpoints: Endpoints) -> Endpoints {
    const ACCOUNTS: &str = "/projects/{project}/service-accounts";
    const ACCOUNT: &str = "/projects/{project}/service-accounts/{account}";
    const KEYS: &str = "/projects/{project}/api-keys";
    const KEY: &str = "/projects/{project}/api-keys/{key}";
    endpoints
        .add(GET, ACCOUNTS, KeysRead, h::list_service_accounts)
        .add(POST, ACCOUNTS, KeysWrite, h::create_service_account)
        .add(GET, ACCOUNT, KeysRead, h::show_service_account)
        .add(DELETE, ACCOUNT, KeysWrite, h::delete_service_account)
        .add(PUT, "/projects/{project}/service-accounts/{account}/roles", KeysWrite, h::set_account_roles)
        .add(GET, KEYS, KeysRead, h::list_api_keys)
        .add(POST, KEYS, KeysWrite, h::create_api_key)
        .add(GET, KEY, KeysRead, h::show_api_key)
        .add(DELETE, KEY, KeysWrite, h::revoke_api_key)
        .add(POST, "/projects/{project}/api-keys/{key}/rotate", KeysWrite, h::rotate_api_key)
        .add(GET, "/projects/{project}/warpgates", WarpgatesRead, h::list_warpgates)
        .add(DELETE, "/projects/{project}/warpgates/{warpgate}", WarpgatesWrite, h::evict_warpgate)
        .add(
            GET,
            "/projects/{project}/environments/{environment}/warpgates",
            WarpgatesRead,
            h::list_environment_warpgates,
        )
}
