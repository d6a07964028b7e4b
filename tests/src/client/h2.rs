//! An HTTP/2 client over TLS, one connection, many requests at once.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Target;

/// One open connection. Clones send on the same connection.
#[derive(Clone, Debug)]
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
}

impl Connection {
    /// Connects and shakes hands; `tls` must offer `h2`.
    pub async fn open(target: &Target, tls: &Arc<rustls::ClientConfig>) -> anyhow::Result<Self> {
        let tcp = TcpStream::connect(target.address).await?;
        tcp.set_nodelay(true)?;
        let stream = TlsConnector::from(Arc::clone(tls)).connect(target.server_name()?, tcp).await?;
        let builder = http2::Builder::new(TokioExecutor::new());
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
        // Ends with the connection, which ends with the last sender.
        tokio::spawn(connection);
        Ok(Self { sender })
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
