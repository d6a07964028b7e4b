//! Control as a whole, over a real SQLite in a directory of its own and under a clock that stands still.
//!
//! Requests go through the routers without sockets. What edges would learn is read from the feed.

mod acme;
mod assertion_keys;
mod bad_input;
mod by_link_api;
mod certificates;
mod cluster;
mod coverage;
mod directories;
mod domains;
mod edges;
mod enroll;
mod explain;
mod feed;
mod objects;
mod opening;
mod people;
mod rejoin;
mod resealing;
mod root_elsewhere;
mod rotation;
mod rules;
mod session;
mod sign_in_api;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::{Method, Request, header};
use http_body_util::BodyExt as _;
use mezusphere_model::clock::ManualClock;
use mezusphere_model::document::{Document, Partition, TrustDoc};
use mezusphere_model::id::{ControlId, ProjectId};
use mezusphere_model::link::ControlLink;
use mezusphere_model::seal::Seal;
use mezusphere_model::{Entropy, Platform, Timestamp};
use mezusphere_pki::seal::{MasterKey, Sealer};
use mezusphere_store::Primary;
use mezusphere_store::feed::FeedSource as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::{Control, ControlConfig, CustomDomains, OpenError};

/// When every test begins.
const BEGIN: Timestamp = Timestamp::from_seconds(1_800_000_000);

/// A password that passes the rules.
const PASSWORD: &str = "correct gouda battery staple 42";

/// An installation and what it stands on.
struct World {
    control: Control,
    primary: Primary,
    hand: ManualClock,
    entropy: Entropy,
    dir: tempfile::TempDir,
}

/// What a request got.
#[derive(Debug)]
struct Got {
    status: u16,
    body: Value,
    headers: http::HeaderMap,
}

impl Got {
    /// The body of a success.
    #[track_caller]
    fn ok(self) -> Value {
        assert!((200..300).contains(&self.status), "{} {}", self.status, self.body);
        self.body
    }

    /// A text in the body.
    #[track_caller]
    fn text(&self, pointer: &str) -> &str {
        self.body
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_else(|| panic!("no {pointer} in {}", self.body))
    }

    /// Asserts a refusal with this status and code, which says what and what next.
    #[track_caller]
    fn refused(&self, status: u16, code: &str) -> &Self {
        assert_eq!((self.status, self.body["code"].as_str()), (status, Some(code)), "{}", self.body);
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/problem+json");
        assert_eq!(self.body["status"], status);
        assert_eq!(self.body["type"], "about:blank", "no address that leads nowhere");
        for field in ["title", "detail", "next"] {
            assert!(!self.text(&format!("/{field}")).is_empty(), "{field} of {}", self.body);
        }
        self
    }
}

/// Custom domains need no proof here; [`domains`] is about proofs.
fn development() -> ControlConfig {
    let config = ControlConfig::new(Platform::development(8443).unwrap(), ControlId::from_bits(1));
    ControlConfig { custom_domains: CustomDomains::Trusted, ..config }
}

/// Randomness that differs between worlds of one test, so that a key of one is never a key of another.
fn entropy() -> Entropy {
    #[expect(clippy::disallowed_methods, reason = "two worlds of one test must not draw the same ids")]
    Entropy::new(|buffer| aws_lc_rs::rand::fill(buffer).unwrap())
}

fn sealer(key: u8) -> Arc<dyn Seal> {
    Arc::new(Sealer::new(MasterKey::from_bytes([key; 32]), entropy()))
}

impl World {
    async fn new() -> Self {
        Self::with(development()).await
    }

    async fn with(config: ControlConfig) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let hand = ManualClock::at(BEGIN);
        let entropy = entropy();
        let (control, primary) = open(dir.path(), &hand, &entropy, config, 7).await.unwrap();
        Self { control, primary, hand, entropy, dir }
    }

    /// Ends the process, as far as a test can, and starts it again with `config`.
    async fn restart(self, config: ControlConfig) -> Self {
        let Self { control, primary, hand, entropy, dir } = self;
        drop(control);
        primary.close().await;
        drop(primary);
        let (control, primary) = open(dir.path(), &hand, &entropy, config, 7).await.unwrap();
        Self { control, primary, hand, entropy, dir }
    }

    /// A request of the local operator.
    async fn local(&self, method: Method, path: &str, body: Option<Value>) -> Got {
        send(self.control.local_admin(), request(method, path, body)).await
    }

    async fn get(&self, path: &str) -> Got {
        self.local(Method::GET, path, None).await
    }

    async fn post(&self, path: &str, body: Value) -> Got {
        self.local(Method::POST, path, Some(body)).await
    }

    async fn delete(&self, path: &str) -> Got {
        self.local(Method::DELETE, path, None).await
    }

    /// A request over the console host with an API key.
    async fn by_key(&self, key: &str, method: Method, path: &str, body: Option<Value>) -> Got {
        let mut request = request(method, path, body);
        request.headers_mut().insert(header::AUTHORIZATION, format!("Bearer {key}").parse().unwrap());
        self.console(request).await
    }

    /// A request to the console host as it is.
    async fn console(&self, mut request: Request<Body>) -> Got {
        request.headers_mut().insert(header::HOST, "console.mezu.localhost:8443".parse().unwrap());
        let request = request.map(|body| body.map_err(|why| Box::new(why) as crate::BoxError).boxed_unsync());
        let response = self.control.platform_service().oneshot(request).await.unwrap();
        read(response.map(Body::new)).await
    }

    /// What the edge in the same process asks.
    fn link(&self) -> Arc<dyn ControlLink> {
        self.control.link(self.control.edge_id().expect("an edge in the process"))
    }

    /// Whom every node trusts.
    async fn trust(&self) -> TrustDoc {
        let documents = self.documents(Partition::Platform).await.into_iter();
        let mut found = documents.filter_map(|document| match document {
            Document::Trust(doc) => Some(doc),
            _ => None,
        });
        found.next().expect("a trust document")
    }

    /// A project with its production environment.
    async fn project(&self, slug: &str) -> ProjectId {
        let made = self.post("/projects", json!({ "slug": slug })).await.ok();
        made["id"].as_str().unwrap().parse().unwrap()
    }

    /// A key of the project with these scopes.
    async fn key(&self, project: &str, scopes: &[&str]) -> String {
        let account = format!("robot-{}", self.entropy.below(u64::MAX));
        let accounts = format!("/projects/{project}/service-accounts");
        self.post(&accounts, json!({ "name": account })).await.ok();
        let body = json!({ "account": account, "scopes": scopes });
        let made = self.post(&format!("/projects/{project}/api-keys"), body).await.ok();
        made["secret"].as_str().unwrap().to_owned()
    }

    /// What edges know of a partition.
    async fn documents(&self, partition: Partition) -> Vec<Document> {
        let page = self.primary.snapshot(partition, None, 1000).await.unwrap();
        page.documents.iter().map(|filed| serde_json::from_str(filed.body.get()).unwrap()).collect()
    }

    fn advance(&self, seconds: u64) {
        self.hand.advance(Duration::from_secs(seconds));
    }
}

async fn open(
    dir: &std::path::Path,
    hand: &ManualClock,
    entropy: &Entropy,
    config: ControlConfig,
    master: u8,
) -> Result<(Control, Primary), OpenError> {
    let seal = sealer(master);
    let primary = Primary::open_sqlite(dir, hand.clock(), entropy.clone(), Arc::clone(&seal)).await.unwrap();
    let control = Control::open(config, primary.clone(), seal, hand.clock(), entropy.clone()).await?;
    Ok((control, primary))
}

fn request(method: Method, path: &str, body: Option<Value>) -> Request<Body> {
    let request = Request::builder().method(method).uri(format!("/api/v1{path}"));
    match body {
        None => request.body(Body::empty()).unwrap(),
        Some(body) => request
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body.to_string()))
            .unwrap(),
    }
}

async fn send(router: axum::Router, request: Request<Body>) -> Got {
    read(router.oneshot(request).await.unwrap()).await
}

async fn read(response: http::Response<Body>) -> Got {
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let body =
        if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap_or(Value::Null) };
    Got { status: parts.status.as_u16(), body, headers: parts.headers }
}
