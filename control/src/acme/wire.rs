//! The way to an authority: https, one request per connection, with a bound on time and size; and a note of what came
//! back, because the library keeps neither the status nor when to come again.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderMap, RETRY_AFTER, USER_AGENT};
use http::uri::{PathAndQuery, Scheme, Uri};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use mezusphere_model::{Clock, Timestamp};
use mezusphere_pki::acme::authority_client_config;
use mezusphere_pki::trust::certificates_from_pem;
use rustls_pki_types::ServerName;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::AcmeConfigError;

/// Largest answer, in octets: a chain of ten certificates with long keys, and room.
const ANSWER_LEN_MAX: usize = 256 * 1024;

/// For a connection to one of a host's addresses: some may lead nowhere, and an answer has a limit as a whole.
const CONNECT_MAX: Duration = Duration::from_secs(3);

/// How we introduce ourselves (RFC 8555 §6.1).
const AGENT: &str = concat!("mezusphere/", env!("CARGO_PKG_VERSION"));

/// The answer of a request.
pub(super) type Answer = Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>>;

/// Speaks https with authorities.
pub(super) struct Https {
    tls: TlsConnector,
}

impl Https {
    /// Trusts the system's authorities and those in `roots_pem`.
    pub(super) fn new(roots_pem: &[u8], clock: &Clock) -> Result<Self, AcmeConfigError> {
        let refused = |why: String| AcmeConfigError::Roots(why);
        let text = std::str::from_utf8(roots_pem).map_err(|_| refused("not PEM".to_owned()))?;
        let own = certificates_from_pem(text).map_err(|why| refused(why.to_string()))?;
        if own.is_empty() && !roots_pem.is_empty() {
            return Err(refused("no certificate in the file".to_owned()));
        }
        let system = rustls_native_certs::load_native_certs().certs;
        let (config, trusted) = authority_client_config(own.into_iter().chain(system), clock)
            .map_err(|why| refused(why.to_string()))?;
        if trusted == 0 {
            return Err(refused("neither the system nor --acme-ca-file has any".to_owned()));
        }
        Ok(Self { tls: TlsConnector::from(Arc::new(config)) })
    }
}

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    #[error("{0} is not an https address")]
    NotHttps(Uri),
    #[error("cannot connect to {host}: {why}")]
    Connect { host: String, why: io::Error },
    #[error("TLS with {host} failed: {why}")]
    Tls { host: String, why: io::Error },
    #[error("no answer from {host}: {why}")]
    Http { host: String, why: hyper::Error },
    #[error("the answer from {host} broke off or is longer than {ANSWER_LEN_MAX} octets")]
    Body { host: String },
    #[error("no answer within {} s", .0.as_secs())]
    TooSlow(Duration),
}

impl From<WireError> for Error {
    fn from(why: WireError) -> Self {
        Self::Other(Box::new(why))
    }
}

impl HttpClient for Https {
    fn request(&self, request: Request<BodyWrapper<Bytes>>) -> Answer {
        let tls = self.tls.clone();
        Box::pin(async move { Ok(exchange(&tls, request).await?) })
    }
}

async fn exchange(
    tls: &TlsConnector,
    mut request: Request<BodyWrapper<Bytes>>,
) -> Result<BytesResponse, WireError> {
    let uri = request.uri().clone();
    let not_https = || WireError::NotHttps(uri.clone());
    let authority = uri.authority().filter(|_| uri.scheme() == Some(&Scheme::HTTPS)).ok_or_else(not_https)?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(host.clone()).map_err(|_| not_https())?;
    let field = HeaderValue::from_str(authority.as_str()).map_err(|_| not_https())?;
    let target = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    *request.uri_mut() = target.parse().map_err(|_| not_https())?;
    request.headers_mut().insert(HOST, field);
    request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(AGENT));

    let port = authority.port_u16().unwrap_or(443);
    let tcp = match tokio::net::lookup_host((host.as_str(), port)).await {
        Ok(addresses) => first_of(addresses, CONNECT_MAX, TcpStream::connect).await,
        Err(why) => Err(why),
    };
    let tcp = tcp.map_err(|why| WireError::Connect { host: host.clone(), why })?;
    let stream = tls.connect(name, tcp).await.map_err(|why| WireError::Tls { host: host.clone(), why })?;
    let broken = |why| WireError::Http { host: host.clone(), why };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let answer = async {
        let (parts, body) = sender.send_request(request).await.map_err(broken)?.into_parts();
        let body = Limited::new(body, ANSWER_LEN_MAX).collect().await;
        let body = body.map_err(|_| WireError::Body { host: host.clone() })?.to_bytes();
        Ok(BytesResponse::from(Response::from_parts(parts, Full::new(body))))
    };
    // The connection works only while it is polled; what ends it is told by the answer, which may come after.
    let driven = async {
        if let Err(why) = connection.await {
            tracing::debug!(error = %why, "A connection to an authority broke");
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        answer = answer => answer,
        () = driven => Err(WireError::Body { host: host.clone() }),
    }
}

/// Connects to the first of a host's addresses that takes the connection within `limit`.
async fn first_of<T, F: Future<Output = io::Result<T>>>(
    addresses: impl Iterator<Item = SocketAddr>,
    limit: Duration,
    connect: impl Fn(SocketAddr) -> F,
) -> io::Result<T> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "it has no address");
    for address in addresses {
        match tokio::time::timeout(limit, connect(address)).await {
            Ok(Ok(connected)) => return Ok(connected),
            Ok(Err(why)) => last = why,
            Err(_) => {
                let text = format!("{address} does not answer within {} s", limit.as_secs());
                last = io::Error::new(io::ErrorKind::TimedOut, text);
            }
        }
    }
    Err(last)
}

/// What the last answer was, beside what the library makes of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// Its status.
    pub(super) status: Option<StatusCode>,
    /// When to come again, from then.
    pub(super) wait: Option<Duration>,
}

/// A way to an authority with a bound on the time of an answer, and a note of the last one.
#[derive(Clone)]
pub(super) struct Watched {
    http: Arc<dyn HttpClient>,
    clock: Clock,
    limit: Duration,
    seen: Arc<Mutex<Seen>>,
}

impl Watched {
    /// Watches what goes over `http`; an answer, body and all, has `limit`.
    pub(super) fn new(http: Arc<dyn HttpClient>, clock: Clock, limit: Duration) -> Self {
        Self { http, clock, limit, seen: Arc::default() }
    }

    /// What the last answer was.
    pub(super) fn seen(&self) -> Seen {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As the library wants it.
    pub(super) fn boxed(&self) -> Box<dyn HttpClient> {
        Box::new(self.clone())
    }

    fn note(&self, seen: Seen) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = seen;
    }
}

impl HttpClient for Watched {
    fn request(&self, request: Request<BodyWrapper<Bytes>>) -> Answer {
        let this = self.clone();
        let answer = self.http.request(request);
        Box::pin(async move {
            this.note(Seen::default());
            // The body too: the library would wait for it for ever.
            let whole = async {
                let mut answer = answer.await?;
                let body = answer.body.into_bytes().await.map_err(Error::Other)?;
                Ok(BytesResponse { parts: answer.parts, body: Box::new(body) })
            };
            let answer: Result<BytesResponse, Error> = tokio::time::timeout(this.limit, whole)
                .await
                .unwrap_or_else(|_| Err(WireError::TooSlow(this.limit).into()));
            let mut answer = answer?;
            let wait =
                retry_after(&answer.parts.headers, this.clock.now()).map(|wait| wait.min(RETRY_AFTER_MAX));
            if let Some(wait) = wait {
                // The library adds what it reads to the time of day, and panics where that does not fit.
                answer.parts.headers.insert(RETRY_AFTER, HeaderValue::from(wait.as_secs()));
            }
            this.note(Seen { status: Some(answer.parts.status), wait });
            Ok(answer)
        })
    }
}

/// Longest wait that an authority is believed to ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_hours(24);

/// How long to wait, by `Retry-After` (RFC 9110 §10.2.3): seconds, or a date.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = OffsetDateTime::parse(text, &Rfc2822).ok()?;
    Some(Timestamp::from_seconds(at.unix_timestamp()).since(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_to_come_again_is_read_as_seconds_or_as_a_date() {
        let now = Timestamp::from_seconds(946_684_700); // 1999-12-31T23:58:20Z
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers, now).map(|wait| wait.as_secs())
        };
        assert_eq!(read("120"), Some(120));
        assert_eq!(read("Fri, 31 Dec 1999 23:59:59 GMT"), Some(99));
        assert_eq!(read("Fri, 31 Dec 1999 00:00:00 GMT"), Some(0), "one that has passed");
        for nonsense in ["", "soon", "-5", "99999999999999999999999999"] {
            assert_eq!(read(nonsense), None, "{nonsense}");
        }
    }

    #[tokio::test]
    async fn only_https_is_spoken() {
        let clock = mezusphere_model::clock::ManualClock::at(Timestamp::from_seconds(1_800_000_000)).clock();
        let (config, _) = authority_client_config([], &clock).unwrap();
        let https = Https { tls: TlsConnector::from(Arc::new(config)) };
        for uri in ["http://ca.example/dir", "/dir", "ftp://ca.example/"] {
            let request = Request::get(uri).body(BodyWrapper::default()).unwrap();
            let why = https.request(request).await.err().expect("a refusal").to_string();
            assert!(why.contains("is not an https address"), "{why}");
        }
    }

    /// Connects to a port that is there: the first swallows everything, the second refuses.
    async fn dial(address: SocketAddr) -> io::Result<u16> {
        match address.port() {
            1 => std::future::pending().await,
            2 => Err(io::ErrorKind::ConnectionRefused.into()),
            port => Ok(port),
        }
    }

    #[tokio::test]
    async fn an_address_that_swallows_what_is_sent_to_it_does_not_hold_up_the_next() {
        let first = async |ports: &[u16]| {
            let addresses: Vec<_> =
                ports.iter().map(|port| SocketAddr::from(([192, 0, 2, 1], *port))).collect();
            first_of(addresses.into_iter(), Duration::from_millis(20), dial).await
        };
        assert_eq!(first(&[1, 2, 3, 4]).await.unwrap(), 3);
        assert_eq!(first(&[1, 2]).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(first(&[2, 1]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(first(&[]).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn authorities_in_a_file_must_be_certificates() {
        let clock = mezusphere_model::clock::ManualClock::at(Timestamp::from_seconds(1_800_000_000)).clock();
        for bad in [&b"no PEM"[..], &[0xff, 0xfe]] {
            assert!(matches!(Https::new(bad, &clock), Err(AcmeConfigError::Roots(_))));
        }
    }
}
