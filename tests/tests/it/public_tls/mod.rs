//! The TLS that strangers meet, seen from outside: by scanners that look for what is weak, by clients that share no code
//! with the product, and under a flood of handshakes.
//!
//! The installation has names of its own, not those under `localhost` that mean this machine.

mod chromium;
mod clients;
mod flood;
mod scanners;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Result;
use http::{Request, StatusCode, header};
use http_body_util::Full;
use mezusphere_tests::client::{self, Target, h1};
use mezusphere_tests::system::Node;

/// Parent of console., login. and connect.
const BASE: &str = "mezu.test";

/// Parent of the endpoints.
const APPS: &str = "apps.test";

/// An installation with an application that nobody is behind: what is looked at is the edge.
struct Scene {
    node: Node,
    host: String,
    tls: Arc<rustls::ClientConfig>,
}

impl Scene {
    async fn start() -> Result<Self> {
        let node = Node::start(&["--base", BASE, "--apps", APPS]).await?;
        node.console().seed_shop().await?;
        let tls = Arc::new(client::tls(&node.roots(), &[b"http/1.1"])?);
        let scene = Self { host: format!("shop.{APPS}"), node, tls };
        h1::until(&scene.target(&scene.host, "/account/"), &scene.tls, |status| {
            status != StatusCode::NOT_FOUND
        })
        .await?;
        Ok(scene)
    }

    fn target(&self, host: &str, path: &str) -> Target {
        Target {
            authority: format!("{host}:{}", self.node.port),
            host: host.to_owned(),
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, self.node.port)),
            path: path.to_owned(),
        }
    }

    /// Status and HSTS of the answer to a GET on a connection of its own.
    async fn get(&self, host: &str, path: &str) -> Result<(StatusCode, Option<String>)> {
        let target = self.target(host, path);
        let mut connection = h1::Connection::open(&target, &self.tls).await?;
        let request = Request::get(path).header(header::HOST, &target.authority).body(Full::default())?;
        let response = connection.fetch(request).await?;
        let hsts = response.headers().get(header::STRICT_TRANSPORT_SECURITY);
        let hsts = hsts.and_then(|value| value.to_str().ok()).map(str::to_owned);
        Ok((response.status(), hsts))
    }
}
