//! Plain HTTP: answers certificate authorities that ask about a name (RFC 8555 §8.3), sends everybody else to https, and
//! does nothing more.

use std::convert::Infallible;
use std::future::{Future as _, poll_fn};
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use ::http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST, LOCATION};
use ::http::{HeaderValue, Method, Request, Response, StatusCode};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use mezusphere_model::{Clock, Host, Platform};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::crowd::Crowd;
use super::decide::Scope;
use super::drain::Drain;
use crate::tls::{CHALLENGE_PATH, Challenges, PublicCertificates, is_ours_alone};

/// Largest head, in octets: the least hyper allows. Whoever needs more may type https.
const HEAD_LEN_MAX: usize = 8 * 1024;

/// Most fields of a request.
const FIELDS_MAX: usize = 64;

/// From the connection, or the last answer, to a whole head.
const HEAD_MAX: Duration = Duration::from_secs(5);

/// Longest life of a connection.
const CONNECTION_MAX: Duration = Duration::from_secs(30);

/// Most connections at once, each of some 20 KiB. Each is answered at once or says nothing, so that whoever comes finds room:
/// an authority as well, whose question decides whether there is a certificate.
pub(super) const CONNECTIONS_MAX: usize = 2048;

/// Wait after the system had no resources for a connection.
const BACK_OFF: Duration = Duration::from_millis(200);

/// The plain-HTTP port.
pub(super) struct PlainPort {
    pub(super) certificates: PublicCertificates,
    pub(super) challenges: Challenges,
    pub(super) platform: Platform,
    pub(super) scope: Scope,
    pub(super) clock: Clock,
    /// The https port as clients see it.
    pub(super) port: u16,
    pub(super) connections: Arc<Crowd>,
    pub(super) drain: Drain,
}

impl PlainPort {
    /// Takes connections until draining begins.
    pub(super) async fn accept(self: Arc<Self>, listener: TcpListener) {
        let listener = match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return warn!(%error, "The plain-HTTP listener could not be used"),
        };
        let mut draining = self.drain.draining();
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut draining => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, client)) => self.take(stream, client),
                Err(error) => {
                    debug!(%error, "No plain-HTTP connection could be taken");
                    sleep(BACK_OFF).await;
                }
            }
        }
    }

    fn take(self: &Arc<Self>, stream: TcpStream, client: SocketAddr) {
        let port = Arc::clone(self);
        let (member, mut leave) = self.connections.join(client.ip(), 1);
        self.drain.spawn(async move {
            let served = timeout(CONNECTION_MAX, leave.unless(port.serve(stream))).await;
            debug!(is_ended = matches!(served, Ok(Some(()))), "A plain-HTTP connection ended");
            drop(member);
        });
    }

    async fn serve(&self, stream: TcpStream) {
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_MAX)
            .max_headers(FIELDS_MAX)
            .max_buf_size(HEAD_LEN_MAX)
            .serve_connection(
                TokioIo::new(stream),
                service_fn(|request: Request<Incoming>| {
                    std::future::ready(Ok::<_, Infallible>(self.answer(&request)))
                }),
            );
        let mut connection = pin!(connection);
        let mut draining = pin!(self.drain.draining());
        let mut is_told = false;
        let end = poll_fn(|cx| {
            if !is_told && draining.as_mut().poll(cx).is_ready() {
                is_told = true;
                connection.as_mut().graceful_shutdown();
            }
            connection.as_mut().poll(cx)
        });
        if let Err(error) = end.await {
            debug!(%error, "A plain-HTTP connection broke");
        }
    }

    fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let host = host(request);
        if let Some(host) = &host
            && let Some(answer) = self.challenge(host, request)
        {
            return answer;
        }
        let location = host
            .filter(|host| self.is_served(host) && !is_ours_alone(&self.platform, host, request.uri().path()))
            .and_then(|host| location(&host, self.port, request));
        let Some(location) = location else {
            return text(StatusCode::NOT_FOUND, "404 Not Found: no such host here\n");
        };
        // 301 is what old clients and crawlers know; 308 keeps the method and body of everything else.
        let status = match *request.method() {
            Method::GET | Method::HEAD => StatusCode::MOVED_PERMANENTLY,
            _ => StatusCode::PERMANENT_REDIRECT,
        };
        let mut response = text(status, "This is at https.\n");
        response.headers_mut().insert(LOCATION, location);
        response
    }
}

impl PlainPort {
    /// Whether the host is found at https: under a certificate here, or behind a splice.
    fn is_served(&self, host: &Host) -> bool {
        self.certificates.table().covers(host.as_str())
            || (self.scope == Scope::Sites && self.platform.which(host).is_some())
    }

    /// The answer to a challenge that is open for this very host. Whoever asks for another learns nothing new.
    fn challenge<B>(&self, host: &Host, request: &Request<B>) -> Option<Response<Full<Bytes>>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return None;
        }
        let token = request.uri().path().strip_prefix(CHALLENGE_PATH)?;
        let challenges = self.challenges.table();
        let proof = challenges.key_authorization(host, token, self.clock.now())?;
        let mut response = Response::new(Full::new(Bytes::copy_from_slice(proof.as_bytes())));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Some(response)
    }
}

/// The host asked for: one `Host` field, whose port is this listener's business alone.
fn host<B>(request: &Request<B>) -> Option<Host> {
    let mut fields = request.headers().get_all(HOST).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else { return None };
    let authority = field.to_str().ok()?;
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    Host::parse(host).ok()
}

/// The same path and query at https. The target goes as the client sent it: a `Uri` holds no octet that could end
/// the field.
fn location<B>(host: &Host, port: u16, request: &Request<B>) -> Option<HeaderValue> {
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    // `OPTIONS *` has no place to go to.
    let target = if target.starts_with('/') { target } else { "/" };
    let location = if port == 443 {
        format!("https://{host}{target}")
    } else {
        format!("https://{host}:{port}{target}")
    };
    HeaderValue::try_from(location).ok()
}

fn text(status: StatusCode, line: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(line.as_bytes())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use mezusphere_model::Timestamp;
    use mezusphere_model::clock::ManualClock;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpSocket;

    use super::*;

    /// A port where nothing is served, with room for two.
    fn start() -> (SocketAddr, Drain) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (address, drain) = (listener.local_addr().unwrap(), Drain::new());
        let port = PlainPort {
            certificates: PublicCertificates::default(),
            challenges: Challenges::default(),
            platform: Platform::development(8443).unwrap(),
            // Platform hosts are known, and lead to https.
            scope: Scope::Sites,
            clock: ManualClock::at(Timestamp::from_seconds(1)).clock(),
            port: 8443,
            connections: Crowd::new(2),
            drain: drain.clone(),
        };
        drain.spawn(Arc::new(port).accept(listener));
        (address, drain)
    }

    async fn ask(address: SocketAddr, host: &str, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn r23_silent_connections_keep_no_honest_client_out() {
        let (address, drain) = start();
        let mut silent = Vec::new();
        for last in [2, 2, 3, 3] {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(SocketAddr::from(([127, 0, 0, last], 0))).unwrap();
            silent.push(socket.connect(address).await.unwrap());
        }
        let begun = tokio::time::Instant::now();
        let answer = ask(address, "nobody.example", "/").await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
        assert!(begun.elapsed() < HEAD_MAX, "it had to wait until they had had their time");
        drain.close();
    }

    #[tokio::test]
    async fn what_authorities_ask_of_the_installations_names_goes_nowhere_else() {
        let (address, drain) = start();
        let host = "login.mezu.localhost";
        for (path, status) in [("/", "301"), ("/.well-known/acme-challenge/token", "404")] {
            let answer = ask(address, host, path).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {answer}");
        }
        drain.close();
    }

    #[test]
    fn the_same_path_and_query_of_the_same_host_at_https() {
        let rows: [(u16, &str, &str, Option<&str>); 7] = [
            (443, "shop.example", "/a/b?c=d", Some("https://shop.example/a/b?c=d")),
            (8443, "Shop.Example:8080", "/", Some("https://shop.example:8443/")),
            (443, "shop.example", "http://evil.example/x", Some("https://shop.example/x")),
            (443, "shop.example", "//evil.example", Some("https://shop.example//evil.example")),
            (443, "shop.example", "*", Some("https://shop.example/")),
            (443, "shop.example/@evil", "/", None),
            (443, "[::1]", "/", None),
        ];
        for (port, authority, target, expected) in rows {
            let request = Request::options(target).header(HOST, authority).body(()).unwrap();
            let location = host(&request).and_then(|host| location(&host, port, &request));
            assert_eq!(
                location.as_ref().map(|value| value.to_str().unwrap()),
                expected,
                "{authority} {target}"
            );
        }
        let two = Request::get("/").header(HOST, "a.example").header(HOST, "b.example").body(()).unwrap();
        assert_eq!(host(&two), None);
    }
}
