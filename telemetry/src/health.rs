//! The private listener: `/healthz` (the process answers), `/readyz` (it can do its work) and `/metrics`.
//!
//! Loopback only, and only for requests that name an address or `localhost`, so that no page in a browser on
//! the same machine can read it by pointing a name of its own here. Every wait and table has a bound.

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::metrics::{MEDIA_TYPE, Metrics};

/// Most connections at once: a scraper, an orchestrator and a person, several times over.
pub const CONNECTIONS_MAX: usize = 16;

/// Longest wait for a request head.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest life of a connection, so that idle ones do not hold places for ever.
pub const CONNECTION_AGE_MAX: Duration = Duration::from_mins(1);

/// Largest request head, in octets.
pub const HEAD_LEN_MAX: usize = 8 * 1024;

/// Wait after `accept` failed (out of descriptors), so that failing does not spin.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Whether the process can do its work: every condition holds. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Health {
    conditions: Arc<Mutex<Vec<Condition>>>,
    details: Arc<OnceLock<Details>>,
}

/// What is shown below the answer of `/readyz`.
struct Details(Box<dyn Fn() -> String + Send + Sync>);

/// One thing that must hold before the process can do its work. Cheap to clone; setting it is one store.
#[derive(Clone, Debug)]
pub struct Condition {
    name: &'static str,
    holds: Arc<AtomicBool>,
}

impl Health {
    /// No conditions yet: ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a condition that does not hold yet. `name` says what must hold: `feed connected`.
    pub fn condition(&self, name: &'static str) -> Condition {
        let condition = Condition { name, holds: Arc::new(AtomicBool::new(false)) };
        self.conditions.lock().unwrap_or_else(PoisonError::into_inner).push(condition.clone());
        condition
    }

    /// The conditions that do not hold.
    pub fn missing(&self) -> Vec<&'static str> {
        let conditions = self.conditions.lock().unwrap_or_else(PoisonError::into_inner);
        conditions.iter().filter(|condition| !condition.holds()).map(|condition| condition.name).collect()
    }

    /// Shows what `details` says below every answer of `/readyz`: lines that each end with a line end. It must return at
    /// once. Only the first call counts.
    pub fn explain(&self, details: impl Fn() -> String + Send + Sync + 'static) {
        drop(self.details.set(Details(Box::new(details))));
    }

    fn details(&self) -> String {
        self.details.get().map(|details| (details.0)()).unwrap_or_default()
    }
}

impl fmt::Debug for Details {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Details")
    }
}

impl Condition {
    /// Says whether it holds.
    pub fn set(&self, holds: bool) {
        self.holds.store(holds, Ordering::Relaxed);
    }

    /// Whether it holds.
    pub fn holds(&self) -> bool {
        self.holds.load(Ordering::Relaxed)
    }
}

/// Why the private listener does not listen.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// The address could be reached from outside.
    #[error("{0} is not a loopback address; health and metrics are private: use 127.0.0.1 or [::1]")]
    NotLoopback(SocketAddr),
    /// The address is taken or not this machine's.
    #[error("cannot listen on {0} for health and metrics: {1}")]
    Bind(SocketAddr, std::io::Error),
}

/// The private listener, bound.
#[derive(Debug)]
pub struct HealthListener {
    listener: TcpListener,
    local: SocketAddr,
}

impl HealthListener {
    /// Listens on `address`, which must be loopback; port 0 picks one.
    pub async fn bind(address: SocketAddr) -> Result<Self, HealthError> {
        if !address.ip().is_loopback() {
            return Err(HealthError::NotLoopback(address));
        }
        let bound = |error| HealthError::Bind(address, error);
        let listener = TcpListener::bind(address).await.map_err(bound)?;
        let local = listener.local_addr().map_err(bound)?;
        Ok(Self { listener, local })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Answers until dropped; dropping the future ends every connection.
    pub async fn serve(self, health: Health, metrics: Metrics) {
        let mut connections = JoinSet::new();
        loop {
            // Beyond the limit newcomers wait in the kernel's queue.
            while connections.len() >= CONNECTIONS_MAX {
                connections.join_next().await;
            }
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        connections.spawn(serve_connection(stream, health.clone(), metrics.clone()));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "Private listener cannot accept");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, health: Health, metrics: Metrics) {
    let service = service_fn(move |request| {
        let response = answer(&request, &health, &metrics);
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_LEN_MAX)
        .serve_connection(TokioIo::new(stream), service);
    if let Ok(Err(error)) = tokio::time::timeout(CONNECTION_AGE_MAX, connection).await {
        tracing::debug!(%error, "Private connection failed");
    }
}

fn answer<B>(request: &Request<B>, health: &Health, metrics: &Metrics) -> Response<Full<Bytes>> {
    if !names_this_machine(request) {
        return text(StatusCode::MISDIRECTED_REQUEST, "ask for this listener by address or as localhost\n");
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/healthz" => text(StatusCode::OK, "ok\n"),
        "/readyz" => match health.missing() {
            missing if missing.is_empty() => text(StatusCode::OK, format!("ready\n{}", health.details())),
            missing => {
                let missing = format!("not ready: {}\n{}", missing.join(", "), health.details());
                text(StatusCode::SERVICE_UNAVAILABLE, missing)
            }
        },
        "/metrics" => {
            let mut response = text(StatusCode::OK, metrics.encode());
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
            response
        }
        _ => text(StatusCode::NOT_FOUND, "here are /healthz, /readyz and /metrics\n"),
    }
}

/// Whether the request's host is an address or `localhost`; a name could be a stranger's that resolves here.
fn names_this_machine<B>(request: &Request<B>) -> bool {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let Some(authority) = host.and_then(|host| host.parse::<http::uri::Authority>().ok()) else {
        return false;
    };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<std::net::IpAddr>().is_ok()
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    struct Running {
        address: SocketAddr,
        task: tokio::task::JoinHandle<()>,
    }

    async fn running(health: &Health, metrics: &Metrics) -> Running {
        let listener = HealthListener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr();
        Running { address, task: tokio::spawn(listener.serve(health.clone(), metrics.clone())) }
    }

    async fn ask(address: SocketAddr, head: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    async fn get(address: SocketAddr, path: &str) -> String {
        ask(address, &format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")).await
    }

    #[tokio::test]
    async fn ready_means_that_every_condition_holds() {
        let health = Health::new();
        let (feed, tunnel) = (health.condition("feed"), health.condition("tunnel"));
        let running = running(&health, &Metrics::new("t")).await;
        let text = get(running.address, "/readyz").await;
        assert!(text.starts_with("HTTP/1.1 503") && text.ends_with("not ready: feed, tunnel\n"), "{text}");
        feed.set(true);
        assert!(get(running.address, "/readyz").await.ends_with("not ready: tunnel\n"));
        assert!(get(running.address, "/healthz").await.starts_with("HTTP/1.1 200"));
        tunnel.set(true);
        assert!(get(running.address, "/readyz").await.starts_with("HTTP/1.1 200"));
        feed.set(false);
        assert!(get(running.address, "/readyz").await.ends_with("not ready: feed\n"));
        health.explain(|| "2 of 3 edges\n".to_owned());
        assert!(get(running.address, "/readyz").await.ends_with("not ready: feed\n2 of 3 edges\n"));
    }

    #[tokio::test]
    async fn metrics_are_shown_and_other_requests_refused() {
        let metrics = Metrics::new("t");
        metrics.counter("asked", "Asked").inc();
        let running = running(&Health::new(), &metrics).await;
        let text = get(running.address, "/metrics").await;
        assert!(text.contains("t_asked_total 1\n") && text.contains(MEDIA_TYPE), "{text}");
        assert!(get(running.address, "/").await.starts_with("HTTP/1.1 404"));
        let post =
            "POST /healthz HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        assert!(ask(running.address, post).await.starts_with("HTTP/1.1 405"));
    }

    #[tokio::test]
    async fn a_name_pointed_here_from_a_web_page_is_refused() {
        let running = running(&Health::new(), &Metrics::new("t")).await;
        for (host, status) in [
            ("evil.example", 421),
            ("evil.example:80", 421),
            ("localhost.evil.example", 421),
            ("", 421),
            ("localhost", 200),
            ("LOCALHOST:9000", 200),
            ("[::1]:9000", 200),
            ("127.0.0.1", 200),
        ] {
            let head = format!("GET /healthz HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
            let text = ask(running.address, &head).await;
            assert!(text.starts_with(&format!("HTTP/1.1 {status}")), "{host:?}: {text}");
        }
    }

    #[tokio::test]
    async fn only_loopback_is_listened_on() {
        for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:9000"] {
            let address = address.parse().unwrap();
            assert!(matches!(HealthListener::bind(address).await, Err(HealthError::NotLoopback(_))));
        }
    }

    #[tokio::test]
    async fn a_taken_port_is_said_so() {
        let first = HealthListener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let error = HealthListener::bind(first.local_addr()).await.unwrap_err().to_string();
        assert!(error.contains(&first.local_addr().to_string()), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn r23_a_client_that_never_finishes_its_head_is_let_go() {
        let running = running(&Health::new(), &Metrics::new("t")).await;
        let began = tokio::time::Instant::now();
        ask(running.address, "GET /healthz HTTP/1.1\r\nhost: loc").await;
        let waited = began.elapsed();
        assert!(waited >= HEAD_TIMEOUT && waited < HEAD_TIMEOUT * 2, "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn r23_idle_connections_beyond_the_limit_wait_and_do_not_lock_others_out_for_ever() {
        let running = running(&Health::new(), &Metrics::new("t")).await;
        let mut idle = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            idle.push(TcpStream::connect(running.address).await.unwrap());
        }
        assert!(get(running.address, "/healthz").await.starts_with("HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn the_owner_ends_it_and_its_connections() {
        let running = running(&Health::new(), &Metrics::new("t")).await;
        let mut idle = TcpStream::connect(running.address).await.unwrap();
        assert!(get(running.address, "/healthz").await.starts_with("HTTP/1.1 200"));
        running.task.abort();
        let mut rest = Vec::new();
        match idle.read_to_end(&mut rest).await {
            Ok(_) => assert!(rest.is_empty()),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
        assert!(TcpStream::connect(running.address).await.is_err());
    }
}
