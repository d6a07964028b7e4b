//! A sample workload that believes nothing but the signed assertion: it answers who you are, or 401 and why not.
//!
//! For workloads that somebody else than their warpgate can reach. [`assertion`] is the part to copy.

mod assertion;
mod key_set;

use std::convert::Infallible;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use clap::Parser;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::TcpListener;

use crate::assertion::{Claims, Expected};
use crate::key_set::{KeySet, Source};

/// How long a client may take to send a request head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// A sample workload for Mezusphere: verifies the assertion of each request, and answers who sends it.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Address to listen on; port 0 picks a free one. The address is printed.
    #[arg(long, default_value = "127.0.0.1:3000")]
    listen: SocketAddr,
    /// Who signs: `mezusphere environment list PROJECT --json` shows it.
    #[arg(long)]
    issuer: String,
    /// Whom assertions must be for: `mezusphere environment list PROJECT --json` shows it.
    #[arg(long)]
    audience: String,
    /// Where the keys are: `https://shop.example/.mezu/jwks.json`, or a file.
    #[arg(long, value_name = "URL")]
    keys: String,
    /// Root certificates to trust when keys are fetched, PEM; the system's if left out.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

struct Verifier {
    expected: Expected,
    keys: KeySet,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let Args { listen, issuer, audience, keys, ca } = Args::parse();
    let source = if keys.starts_with("https://") {
        Source::Url(keys.parse()?, key_set::tls(ca.as_ref())?)
    } else {
        anyhow::ensure!(!keys.contains("://"), "{keys}: keys come over https, or from a file");
        Source::File(keys.into())
    };
    let verifier = Arc::new(Verifier { expected: Expected { issuer, audience }, keys: KeySet::new(source) });
    let listener = TcpListener::bind(listen).await?;
    writeln!(std::io::stdout(), "listening on http://{}", listener.local_addr()?)?;
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors: wait until some connection ends.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let verifier = Arc::clone(&verifier);
        tokio::spawn(async move {
            let mut server = hyper::server::conn::http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
            let answer = service_fn(|request| answer(&verifier, request));
            // A connection that breaks concerns its client only.
            drop(server.serve_connection(TokioIo::new(stream), answer).await);
        });
    }
}

async fn answer(
    verifier: &Verifier,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, told) = match verifier.caller(request.headers()).await {
        Ok(Ok(Claims { sub, email, name, roles, .. })) => {
            (StatusCode::OK, json!({ "account": sub, "email": email, "name": name, "roles": roles }))
        }
        Ok(Err(why)) => (StatusCode::UNAUTHORIZED, json!({ "error": why })),
        // Without keys nobody is believed.
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, json!({ "error": why.to_string() })),
    };
    let mut response = Response::new(Full::new(Bytes::from(told.to_string())));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

impl Verifier {
    /// Who sends a request with these headers, or why nobody is believed; an error if that cannot be known.
    async fn caller(&self, headers: &HeaderMap) -> anyhow::Result<Result<Claims, String>> {
        let mut all = headers.get_all("mezu-assertion").iter();
        let assertion = match (all.next(), all.next()) {
            (Some(one), None) => one.to_str().unwrap_or_default(),
            _ => "",
        };
        if assertion.is_empty() {
            return Ok(Err("nobody is signed in".to_owned()));
        }
        let kid = match assertion::kid(assertion) {
            Ok(kid) => kid,
            Err(why) => return Ok(Err(why.to_string())),
        };
        let Some(key) = self.keys.find(&kid).await? else { return Ok(Err("unknown key".to_owned())) };
        let verified = assertion::verify(assertion, &key, &self.expected, now());
        Ok(verified.map_err(|why| why.to_string()))
    }
}

/// Seconds since 1970.
fn now() -> i64 {
    #[expect(clippy::disallowed_methods, reason = "a workload of its own has the clock of its machine")]
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}
