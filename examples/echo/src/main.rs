//! A sample workload: answers every request with what it was told about the caller.
//!
//! It holds no sign-in code at all. Who is calling stands in the `mezu-*` headers, which only a warpgate
//! can set, because the workload listens on loopback. A browser gets a page, everything else gets JSON.

mod identity;
mod page;

use std::convert::Infallible;
use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use clap::Parser;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};

/// How long a client may take to send a request head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// A sample workload for Mezusphere: shows the identity it was given.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Address to listen on; port 0 picks a free one. The address is printed.
    #[arg(long, default_value = "127.0.0.1:3000")]
    listen: SocketAddr,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let listener = TcpListener::bind(args.listen).await.map_err(|why| {
        anyhow::anyhow!("cannot listen on {}: {why}; choose another with --listen", args.listen)
    })?;
    writeln!(std::io::stdout(), "listening on http://{}", listener.local_addr()?)?;
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors: wait until some connection ends.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        tokio::spawn(serve(stream));
    }
}

async fn serve(stream: TcpStream) {
    let mut server = hyper::server::conn::http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    // A connection that breaks concerns its client only.
    drop(server.serve_connection(TokioIo::new(stream), service_fn(answer)).await);
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let wants_page = accept.is_some_and(|accept| accept.contains("text/html"));
    let (body, content_type) = if wants_page {
        (page::html(request.method(), request.uri().path(), request.headers()), "text/html; charset=utf-8")
    } else {
        (json(&request), "application/json")
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    Ok(response)
}

fn json(request: &Request<Incoming>) -> String {
    let headers: serde_json::Map<String, serde_json::Value> = request
        .headers()
        .keys()
        .map(|name| {
            let all =
                request.headers().get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
            (name.to_string(), all.collect::<Vec<_>>().join("\n").into())
        })
        .collect();
    let told = serde_json::json!({
        "method": request.method().as_str(),
        "path": request.uri().to_string(),
        "headers": headers,
    });
    format!("{told:#}\n")
}
