//! Talks to the admin API: over the node's own socket, or over HTTPS with an operator's API key.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::command::segment;
use crate::failure::{Failure, Kind};

/// The media type of all bodies but files.
const JSON: &str = "application/json";

/// How long one request may take, connecting included.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How long one that copies the whole state may take.
const LONG_TIMEOUT: Duration = Duration::from_hours(1);

/// Largest answer read, in octets.
const ANSWER_LEN_MAX: usize = 16 * 1024 * 1024;

/// Where Debian and its kin keep the public root certificates.
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// How to reach the admin API.
#[derive(Clone, Debug)]
pub(crate) enum Reach {
    /// The socket in a node's data directory.
    Socket(PathBuf),
    /// The console host, from anywhere.
    Https {
        /// `https://console.…[:port]`.
        url: http::Uri,
        /// An operator's API key.
        key: String,
        /// Root certificates to trust, PEM; `None`: the system's.
        roots: Option<PathBuf>,
    },
}

/// A client of the admin API.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    reach: Reach,
}

impl Client {
    /// A client that connects anew for each request.
    pub(crate) fn new(reach: Reach) -> Self {
        Self { reach }
    }

    /// Asks for `path` below `/api/v1`.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.send(Method::GET, path, None).await
    }

    /// Sends `body` to `path`.
    pub(crate) async fn post(&self, path: &str, body: &impl Serialize) -> Result<Value, Failure> {
        self.send(Method::POST, path, Some(encode(body)?)).await
    }

    /// As [`Client::post`], for work that takes long.
    pub(crate) async fn post_long(&self, path: &str, body: &impl Serialize) -> Result<Value, Failure> {
        self.send_within(LONG_TIMEOUT, Method::POST, path, Some((JSON, encode(body)?))).await
    }

    /// Sends a file of this media type to `path`, for work that takes long.
    pub(crate) async fn post_file(
        &self,
        path: &str,
        kind: &'static str,
        file: Vec<u8>,
    ) -> Result<Value, Failure> {
        self.send_within(LONG_TIMEOUT, Method::POST, path, Some((kind, file))).await
    }

    /// Replaces what stands at `path`.
    pub(crate) async fn put(&self, path: &str, body: &impl Serialize) -> Result<Value, Failure> {
        self.send(Method::PUT, path, Some(encode(body)?)).await
    }

    /// Changes the named fields of what stands at `path`.
    pub(crate) async fn patch(&self, path: &str, body: &impl Serialize) -> Result<Value, Failure> {
        self.send(Method::PATCH, path, Some(encode(body)?)).await
    }

    /// Removes what stands at `path`.
    pub(crate) async fn delete(&self, path: &str) -> Result<Value, Failure> {
        self.send(Method::DELETE, path, None).await
    }

    /// Every item of a paged list.
    pub(crate) async fn list(&self, path: &str) -> Result<Vec<Value>, Failure> {
        Ok(self.list_most(path, usize::MAX).await?.0)
    }

    /// The first items of a paged list, at most so many, and whether there are more.
    pub(crate) async fn list_most(&self, path: &str, most: usize) -> Result<(Vec<Value>, bool), Failure> {
        let mut items = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = match &after {
                Some(cursor) => {
                    let joint = if path.contains('?') { '&' } else { '?' };
                    // A cursor may hold anything: an address, a word of a name.
                    self.get(&format!("{path}{joint}after={}", segment(cursor))).await?
                }
                None => self.get(path).await?,
            };
            if let Some(found) = page.get("items").and_then(Value::as_array) {
                items.extend(found.iter().cloned());
            }
            after = page.get("next").and_then(Value::as_str).map(str::to_owned);
            if after.is_none() || items.len() >= most {
                let is_more = after.is_some() || items.len() > most;
                items.truncate(most);
                return Ok((items, is_more));
            }
        }
    }

    async fn send(&self, method: Method, path: &str, body: Option<Vec<u8>>) -> Result<Value, Failure> {
        self.send_within(TIMEOUT, method, path, body.map(|body| (JSON, body))).await
    }

    async fn send_within(
        &self,
        limit: Duration,
        method: Method,
        path: &str,
        body: Option<(&'static str, Vec<u8>)>,
    ) -> Result<Value, Failure> {
        let exchange = self.exchange(method, path, body);
        let Ok(answer) = tokio::time::timeout(limit, exchange).await else {
            let what = format!("no answer within {} s", limit.as_secs());
            return Err(Failure::new(Kind::Unreachable, what)
                .next("look at the server's log; what was asked may have been done"));
        };
        let (status, body) = answer?;
        if status.is_success() {
            // Something was removed and there is nothing to show of it: an empty object, so that scripts may index it.
            return if body.is_empty() { Ok(Value::Object(Map::new())) } else { decode(&body) };
        }
        Err(refusal(status, &body))
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<(&'static str, Vec<u8>)>,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let mut request = Request::builder().method(method).uri(format!("/api/v1{path}"));
        if let Some((kind, _)) = &body {
            request = request.header(header::CONTENT_TYPE, *kind);
        }
        let body = Full::new(Bytes::from(body.map(|(_, body)| body).unwrap_or_default()));
        match &self.reach {
            Reach::Socket(socket) => {
                let stream = UnixStream::connect(socket).await.map_err(|why| no_socket(socket, &why))?;
                let request = request.header(header::HOST, "localhost").body(body).map_err(unexpected)?;
                ask(stream, request).await
            }
            Reach::Https { url, key, roots } => {
                let authority = url.authority().map(ToString::to_string).unwrap_or_default();
                let request = request
                    .header(header::HOST, authority)
                    .header(header::AUTHORIZATION, format!("Bearer {key}"))
                    .body(body)
                    .map_err(unexpected)?;
                ask(dial(url, roots.as_deref()).await?, request).await
            }
        }
    }
}

async fn ask(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Bytes), Failure> {
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(unreachable)?;
    // Ends with the sender, at the end of this function.
    let driver = tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(unreachable)?;
    let status = response.status();
    let body =
        Limited::new(response.into_body(), ANSWER_LEN_MAX).collect().await.map_err(unreachable)?.to_bytes();
    driver.abort();
    Ok((status, body))
}

async fn dial(
    url: &http::Uri,
    roots: Option<&Path>,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Failure> {
    let host = url.host().unwrap_or_default().to_owned();
    let port = url.port_u16().unwrap_or(443);
    let address =
        if host == "localhost" || host.ends_with(".localhost") { "127.0.0.1" } else { host.as_str() };
    let tcp = TcpStream::connect((address, port)).await.map_err(|why| {
        Failure::new(Kind::Unreachable, format!("cannot connect to {host}:{port}: {why}")).next("check --api")
    })?;
    let config = tls(roots.unwrap_or(Path::new(SYSTEM_ROOTS)))?;
    let name = ServerName::try_from(host).map_err(|why| Failure::new(Kind::Usage, why))?;
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await.map_err(|why| {
        Failure::new(Kind::Unreachable, format!("TLS failed: {why}"))
            .next("for an installation with its own CA, give its root with --ca")
    })
}

fn tls(roots: &Path) -> Result<rustls::ClientConfig, Failure> {
    let unreadable = |why: &dyn std::fmt::Display| {
        Failure::new(Kind::Files, format!("cannot read root certificates from {}: {why}", roots.display()))
            .next("give a PEM file with --ca")
    };
    let mut store = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(roots).map_err(|why| unreadable(&why))? {
        // A system's bundle may hold a certificate rustls does not take; the others still serve.
        let (Ok(()) | Err(_)) = store.add(certificate.map_err(|why| unreadable(&why))?);
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(unexpected)?
        .with_root_certificates(store)
        .with_no_client_auth())
}

/// Turns an `application/problem+json` answer (RFC 9457) into a failure.
fn refusal(status: StatusCode, body: &[u8]) -> Failure {
    let problem: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |name: &str| problem.get(name).and_then(Value::as_str).map(str::to_owned);
    let kind = match status {
        StatusCode::NOT_FOUND => Kind::NotFound,
        StatusCode::CONFLICT => Kind::Conflict,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Kind::Refused,
        StatusCode::SERVICE_UNAVAILABLE => Kind::Unreachable,
        status if status.is_client_error() => Kind::Invalid,
        _ => Kind::Unexpected,
    };
    let what =
        text("detail").or_else(|| text("title")).unwrap_or_else(|| format!("the server answered {status}"));
    Failure { kind, what, next: text("next"), code: text("code") }
}

fn no_socket(socket: &Path, why: &std::io::Error) -> Failure {
    let at = socket.display();
    match why.kind() {
        std::io::ErrorKind::PermissionDenied => Failure::new(Kind::Refused, format!("you may not use {at}"))
            .next("run as the user the server runs as, or use --api with an operator's API key"),
        std::io::ErrorKind::NotFound => Failure::new(Kind::Unreachable, format!("no server has made {at}"))
            .next("start it with `mezusphere serve`, or name its data directory with --data"),
        _ => Failure::new(Kind::Unreachable, format!("no server answers at {at}"))
            .next("start it with `mezusphere serve`"),
    }
}

fn encode(body: &impl Serialize) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(body).map_err(unexpected)
}

fn decode(body: &[u8]) -> Result<Value, Failure> {
    serde_json::from_slice(body).map_err(|why| {
        Failure::new(Kind::Unexpected, format!("the answer is not what this version expects: {why}"))
    })
}

fn unexpected(why: impl std::fmt::Display) -> Failure {
    Failure::new(Kind::Unexpected, why)
}

fn unreachable(why: impl std::fmt::Display) -> Failure {
    Failure::new(Kind::Unreachable, format!("the connection broke: {why}"))
}
