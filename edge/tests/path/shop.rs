//! What is published in the tests' world, who may use it, and how it is asked for.

use ::http::header::COOKIE;
use ::http::{HeaderMap, Method, Request, Response, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use mezusphere_edge::http::Body;
use mezusphere_model::document::{PrincipalDoc, Status};
use mezusphere_model::id::{DirectoryId, OrganizationId, ProjectId, RouteId};
use mezusphere_model::identity::{Assurance, Identity, Method as SignInMethod, Subject};
use mezusphere_model::route::{AuthMode, PathMatch, RouteDoc, RouteTimeouts, SiteDoc};
use mezusphere_model::rules::ProjectQuota;
use mezusphere_model::slug::{Name, Slug};
use mezusphere_model::{Host, Timestamp};

use crate::world::{ACCOUNT, BLOG, ENVIRONMENT, OTHER_ENVIRONMENT, OTHER_PROJECT, PROJECT, SHOP, SOON};

pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

pub(crate) fn principal(subject: Subject, project: ProjectId, roles: &[&str]) -> PrincipalDoc {
    PrincipalDoc {
        subject,
        project,
        status: Status::Active,
        email: if matches!(subject, Subject::User(_)) {
            "zoe@shop.example".to_owned()
        } else {
            String::new()
        },
        name: "Zoë".to_owned(),
        roles: roles.iter().map(|role| name(role)).collect(),
        permissions: Vec::new(),
        claims: std::collections::BTreeMap::default(),
        version: 1,
        sessions_valid_from: Timestamp::default(),
    }
}

pub(crate) fn identity_of_key(now: Timestamp) -> Identity {
    Identity {
        subject: Subject::ServiceAccount(ACCOUNT),
        session: None,
        email: String::new(),
        name: "Zoë".to_owned(),
        roles: vec![name("customer")],
        permissions: vec![name("request")],
        methods: vec![SignInMethod::ApiKey],
        assurance: Assurance::Aal1,
        authenticated_at: now,
        claims: std::collections::BTreeMap::default(),
    }
}

pub(crate) fn route(n: u128, path: &str, auth: AuthMode) -> RouteDoc {
    let path = PathMatch::parse(path).unwrap();
    RouteDoc::new(RouteId::from_bits(n), path, auth, Slug::parse("default").unwrap())
}

pub(crate) fn shop() -> SiteDoc {
    let mut customers = route(3, "/customer/*", AuthMode::Required);
    customers.require.any_role = vec![name("customer")];
    let mut hasty = route(4, "/hasty/*", AuthMode::Public);
    hasty.timeouts = RouteTimeouts { connect_ms: 200, head_ms: 200, idle_ms: 200, total_ms: 0 };
    let mut chatty = route(8, "/chatty/*", AuthMode::Public);
    chatty.timeouts.idle_ms = 1500;
    let mut brief = route(7, "/brief/*", AuthMode::Public);
    // As short as a head may be: the whole counts from the request's first octet, so it is over first.
    (brief.timeouts.head_ms, brief.timeouts.total_ms) = (300, 300);
    let mut elsewhere = route(5, "/elsewhere/*", AuthMode::Public);
    elsewhere.upstream = Slug::parse("other").unwrap();
    SiteDoc {
        min_reader: 1,
        organization: OrganizationId::from_bits(3),
        project: PROJECT,
        environment: ENVIRONMENT,
        project_slug: Slug::parse("shop").unwrap(),
        environment_slug: Slug::parse("production").unwrap(),
        display_name: "The Secret Shop".to_owned(),
        directory: DirectoryId::from_bits(7),
        hosts: vec![Host::parse(SHOP).unwrap()],
        routes: vec![
            route(1, "/*", AuthMode::Required),
            route(2, "/public/*", AuthMode::Public),
            customers,
            hasty,
            elsewhere,
            route(6, "/optional/*", AuthMode::Optional),
            brief,
            chatty,
        ],
        revision: 9,
        quota: ProjectQuota::default(),
    }
}

pub(crate) fn blog() -> SiteDoc {
    SiteDoc {
        project: OTHER_PROJECT,
        environment: OTHER_ENVIRONMENT,
        project_slug: Slug::parse("blog").unwrap(),
        hosts: vec![Host::parse(BLOG).unwrap()],
        routes: vec![route(11, "/*", AuthMode::Required)],
        ..shop()
    }
}

pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Body::new(Full::new(bytes.into()).map_err(|never| match never {}))
}

pub(crate) fn empty() -> Body {
    full(Bytes::new())
}

/// A request for the shop.
pub(crate) fn get(path: &str) -> Request<Body> {
    request(Method::GET, path, &[], empty())
}

pub(crate) fn get_as(path: &str, cookie: &str) -> Request<Body> {
    request(Method::GET, path, &[(COOKIE.as_str(), cookie)], empty())
}

pub(crate) fn request(method: Method, path: &str, fields: &[(&str, &str)], body: Body) -> Request<Body> {
    let target = if path.starts_with('/') { format!("https://{SHOP}:8443{path}") } else { path.to_owned() };
    let mut request = Request::builder().method(method).uri(target);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(body).unwrap()
}

/// Status, headers and the whole body of a response.
pub(crate) async fn read(response: Response<Body>) -> (StatusCode, HeaderMap, Vec<u8>) {
    let (parts, body) = response.into_parts();
    let body = tokio::time::timeout(SOON, body.collect()).await.unwrap().unwrap();
    (parts.status, parts.headers, body.to_bytes().to_vec())
}

/// The stable code in a problem document.
pub(crate) async fn code(response: Response<Body>) -> (u16, String) {
    let (status, _, body) = read(response).await;
    let document: serde_json::Value = serde_json::from_slice(&body).unwrap();
    (status.as_u16(), document["code"].as_str().unwrap().to_owned())
}
