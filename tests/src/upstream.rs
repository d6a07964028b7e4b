//! A workload that keeps a log of every request that reached it: the judge of what got through.
//!
//! `/bytes/N` answers N octets, `/slow/MS` waits, everything else answers JSON with what it was told.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Method.
    pub method: String,
    /// Path and query, as sent.
    pub target: String,
    /// All headers, repeated ones too.
    pub headers: HeaderMap,
}

impl Seen {
    /// Every value of a header, as text.
    pub fn all(&self, name: &str) -> Vec<String> {
        let values = self.headers.get_all(name).iter();
        values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
    }
}

/// A running upstream. Stops when dropped.
#[derive(Debug)]
pub struct Upstream {
    /// Where it listens.
    pub address: SocketAddr,
    log: Arc<Mutex<Vec<Seen>>>,
    server: JoinHandle<()>,
}

impl Upstream {
    /// Starts one on a free loopback port.
    pub async fn start() -> anyhow::Result<Self> {
        Self::listen((Ipv4Addr::LOCALHOST, 0).into()).await
    }

    /// Starts one on this address.
    pub async fn listen(on: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(on).await?;
        let address = listener.local_addr()?;
        let log = Arc::new(Mutex::new(Vec::new()));
        let server = tokio::spawn(serve(listener, Arc::clone(&log)));
        Ok(Self { address, log, server })
    }

    /// Every request so far, but for a warpgate's own look whether anybody is here (`HEAD /`, once at its start).
    pub fn seen(&self) -> Vec<Seen> {
        let looks = |seen: &Seen| {
            seen.method == "HEAD" && seen.all("user-agent").iter().any(|a| a.starts_with("warpgate/"))
        };
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.iter().filter(|seen| !looks(seen)).cloned().collect()
    }

    /// Forgets every request so far.
    pub fn forget(&self) {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The requests for a path, whatever their query.
    pub fn seen_at(&self, path: &str) -> Vec<Seen> {
        let at = |seen: &Seen| seen.target.split('?').next() == Some(path);
        self.seen().into_iter().filter(at).collect()
    }

    /// `http://address`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, log: Arc<Mutex<Vec<Seen>>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let log = Arc::clone(&log);
        let answer = service_fn(move |request| answer(request, Arc::clone(&log)));
        // Ends with the connection.
        tokio::spawn(
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer),
        );
    }
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

async fn answer(
    request: Request<Incoming>,
    log: Arc<Mutex<Vec<Seen>>>,
) -> Result<Response<Body>, Infallible> {
    let seen = Seen {
        method: request.method().to_string(),
        target: request.uri().to_string(),
        headers: request.headers().clone(),
    };
    log.lock().unwrap_or_else(PoisonError::into_inner).push(seen.clone());
    let path = request.uri().path().to_owned();
    let received = count(request.into_body()).await;
    if let Some(count) = path.strip_prefix("/bytes/").and_then(|count| count.parse::<usize>().ok()) {
        return Ok(bytes(count));
    }
    if let Some(wait) = path.strip_prefix("/slow/").and_then(|wait| wait.parse().ok()) {
        tokio::time::sleep(Duration::from_millis(wait)).await;
    }
    let headers: serde_json::Map<String, serde_json::Value> =
        seen.headers.keys().map(|name| (name.to_string(), seen.all(name.as_str()).into())).collect();
    let told = serde_json::json!({
        "method": seen.method, "target": seen.target, "headers": headers, "received": received,
    });
    let mut response = Response::new(Full::new(Bytes::from(told.to_string())).boxed_unsync());
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, json);
    Ok(response)
}

/// Reads a body to its end, or to where it breaks, without keeping it.
async fn count(mut body: Incoming) -> usize {
    let mut count = 0;
    while let Some(Ok(frame)) = body.frame().await {
        count += frame.data_ref().map_or(0, Bytes::len);
    }
    count
}

fn bytes(count: usize) -> Response<Body> {
    const CHUNK: usize = 64 * 1024;
    let chunk = Bytes::from(vec![b'x'; CHUNK]);
    let sizes = std::iter::repeat_n(CHUNK, count / CHUNK)
        .chain((!count.is_multiple_of(CHUNK)).then_some(count % CHUNK));
    let frames = sizes.map(move |size| Ok(Frame::data(chunk.slice(..size))));
    let mut response = Response::new(StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync());
    response.headers_mut().insert(http::header::CONTENT_LENGTH, count.into());
    response
}
