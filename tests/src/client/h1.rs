//! An HTTP/1.1 client over TLS, one connection.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Target;

/// How long a change may take to show; design §10 says a second, and test machines are busy.
const SHOWS_WITHIN: Duration = Duration::from_secs(20);

/// Between two looks whether it shows.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Asks for `target` on fresh connections until an answer has a status that `wanted` accepts.
pub async fn until(
    target: &Target,
    tls: &Arc<rustls::ClientConfig>,
    wanted: impl Fn(StatusCode) -> bool,
) -> anyhow::Result<()> {
    let ask = async || {
        let request =
            Request::get(&target.path).header(header::HOST, &target.authority).body(Full::default())?;
        anyhow::Ok(Connection::open(target, tls).await?.fetch(request).await?.status())
    };
    let mut last = String::new();
    let search = async {
        loop {
            match ask().await {
                Ok(status) if wanted(status) => return,
                Ok(status) => last = status.to_string(),
                Err(why) => last = format!("{why:#}"),
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    let shown = tokio::time::timeout(SHOWS_WITHIN, search).await;
    shown.with_context(|| format!("https://{}{} still answers: {last}", target.authority, target.path))
}

/// One open connection.
#[derive(Debug)]
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
}

impl Connection {
    /// Connects and shakes hands.
    pub async fn open(target: &Target, tls: &Arc<rustls::ClientConfig>) -> anyhow::Result<Self> {
        let tcp = TcpStream::connect(target.address).await?;
        tcp.set_nodelay(true)?;
        let stream = TlsConnector::from(Arc::clone(tls)).connect(target.server_name()?, tcp).await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // Ends with the connection, which ends with the sender.
        tokio::spawn(connection);
        Ok(Self { sender })
    }

    /// Whether a request can be sent on it; waits until the one before is done.
    pub async fn is_open(&mut self) -> bool {
        self.sender.ready().await.is_ok()
    }

    /// Sends a request and gives the response's head with its body still coming.
    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> anyhow::Result<Response<Incoming>> {
        self.sender.ready().await?;
        Ok(self.sender.send_request(request).await?)
    }

    /// Sends a request and reads the whole response.
    pub async fn fetch(&mut self, request: Request<Full<Bytes>>) -> anyhow::Result<Response<Bytes>> {
        let (head, body) = self.send(request).await?.into_parts();
        Ok(Response::from_parts(head, body.collect().await?.to_bytes()))
    }
}
