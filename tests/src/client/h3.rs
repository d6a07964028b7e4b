//! An HTTP/3 client, one connection, many requests at once.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Context as _;
use bytes::{Buf as _, Bytes, BytesMut};
use h3::client::SendRequest;
use http::{Request, Response};
use quinn::crypto::rustls::QuicClientConfig;

use super::Target;

/// One open connection. Clones send on the same connection.
#[derive(Clone)]
pub struct Connection {
    sender: SendRequest<h3_quinn::OpenStreams, Bytes>,
    // Keeps the socket while requests run.
    _endpoint: quinn::Endpoint,
}

impl Connection {
    /// Connects and shakes hands; `tls` must offer `h3` alone.
    pub async fn open(target: &Target, tls: &Arc<rustls::ClientConfig>) -> anyhow::Result<Self> {
        let mut endpoint = quinn::Endpoint::client(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))?;
        let crypto = QuicClientConfig::try_from(Arc::clone(tls)).context("TLS 1.3 is needed")?;
        endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(crypto)));
        let connection = endpoint.connect(target.address, &target.host)?.await?;
        let (mut driver, sender) = h3::client::new(h3_quinn::Connection::new(connection)).await?;
        // Ends with the connection, which ends with the last sender.
        tokio::spawn(async move { driver.wait_idle().await });
        Ok(Self { sender, _endpoint: endpoint })
    }

    /// Sends a request without a body and gives the response's head with its body still coming.
    pub async fn send(&mut self, request: Request<()>) -> anyhow::Result<(Response<()>, Body)> {
        let mut stream = self.sender.send_request(request).await?;
        stream.finish().await?;
        Ok((stream.recv_response().await?, Body(stream)))
    }

    /// Sends a request without a body and reads the whole response.
    pub async fn fetch(&mut self, request: Request<()>) -> anyhow::Result<Response<Bytes>> {
        let mut stream = self.sender.send_request(request).await?;
        stream.finish().await?;
        let response = stream.recv_response().await?;
        let mut body = BytesMut::new();
        while let Some(mut chunk) = stream.recv_data().await? {
            body.extend_from_slice(&chunk.copy_to_bytes(chunk.remaining()));
        }
        Ok(response.map(|()| body.freeze()))
    }
}

/// A response's body on its way. Dropped, it is given up.
pub struct Body(h3::client::RequestStream<h3_quinn::BidiStream<Bytes>, Bytes>);

impl Body {
    /// The next piece; `None` at the end.
    pub async fn data(&mut self) -> anyhow::Result<Option<Bytes>> {
        Ok(self.0.recv_data().await?.map(|mut chunk| chunk.copy_to_bytes(chunk.remaining())))
    }
}
