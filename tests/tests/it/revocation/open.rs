//! Streams of every kind that stay open until somebody ends them, and when they did.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use mezusphere_tests::client::ws::WebSocket;
use mezusphere_tests::client::{Target, h1, h2 as http2, h3};
use mezusphere_tests::workload::{End, Workload};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use super::World;

/// What an endless download would be long: more than any buffer on the way.
const ENDLESS: u64 = 4_000_000_000;

/// Between two pieces of an upload: it never stands still for long.
const PIECE_EVERY: Duration = Duration::from_millis(50);

/// Between two looks at the workload's log.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// What is said in both directions of a conversation.
const MESSAGE: &[u8] = b"message";

/// Longer than any end may take.
const GIVE_UP_AFTER: Duration = Duration::from_secs(20);

/// How a stream ended, as whoever looked at it saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// It broke off.
    Cut,
    /// A WebSocket's close frame with this code, and a clean end.
    Closed(u16),
    /// An answer with this status.
    Answered(u16),
}

/// An open stream.
pub(super) struct Open {
    /// For people: what, and at which edge.
    pub(super) name: String,
    task: JoinHandle<Result<(Instant, Ended)>>,
}

impl Open {
    fn spawn(name: &str, edge: usize, ended: impl Future<Output = Result<Ended>> + Send + 'static) -> Self {
        let task = tokio::spawn(async move {
            let ended = ended.await?;
            Ok((Instant::now(), ended))
        });
        Self { name: format!("{name} at edge {edge}"), task }
    }

    /// Waits for its end: how, and how long after `since`.
    pub(super) async fn ended(self, since: Instant) -> Result<(Duration, Ended)> {
        let waited = tokio::time::timeout(GIVE_UP_AFTER, self.task).await;
        let (at, ended) =
            waited.with_context(|| format!("{} is still open", self.name))??.with_context(|| self.name)?;
        Ok((at.saturating_duration_since(since), ended))
    }
}

/// One stream of each kind at `edge`, as the holder of `cookie`; all of them have begun.
pub(super) async fn every_kind(world: &World, edge: usize, cookie: &str, run: usize) -> Result<Vec<Open>> {
    let at = Place { world, edge, cookie, tag: format!("{run}-{edge}") };
    Ok(vec![
        at.h1_events().await?,
        at.h2_events().await?,
        at.h3_events().await?,
        at.h1_stalled().await?,
        at.h2_stalled().await?,
        at.h3_stalled().await?,
        at.h1_upload().await?,
        at.h2_conversation().await?,
        at.h1_websocket().await?,
        at.h2_websocket().await?,
        at.h1_websocket_stalled().await?,
    ])
}

struct Place<'w> {
    world: &'w World,
    edge: usize,
    cookie: &'w str,
    tag: String,
}

impl Place<'_> {
    fn target(&self, path: &str) -> Result<Target> {
        self.world.cluster.target(self.edge, &self.world.shop.host, &format!("/live{path}"))
    }

    fn tls(&self, alpn: &[u8]) -> Result<Arc<rustls::ClientConfig>> {
        self.world.cluster.tls(alpn)
    }

    /// A GET as HTTP/1.1 and as the others say it.
    fn get(&self, target: &Target, is_h1: bool) -> Result<Request<Full<Bytes>>> {
        let request = Request::get(if is_h1 { target.path.clone() } else { url(target) });
        let request = if is_h1 { request.header(header::HOST, &target.authority) } else { request };
        Ok(request.header(header::COOKIE, self.cookie).body(Full::default())?)
    }

    async fn h1_events(&self) -> Result<Open> {
        let target = self.target(&format!("/hang/h1-{}", self.tag))?;
        let mut connection = h1::Connection::open(&target, &self.tls(b"http/1.1")?).await?;
        let mut body = begun(connection.send(self.get(&target, true)?).await?)?;
        first(&mut body).await?;
        Ok(Open::spawn("events over HTTP/1.1", self.edge, async move {
            let _connection = connection;
            until_cut(body).await
        }))
    }

    async fn h2_events(&self) -> Result<Open> {
        let target = self.target(&format!("/hang/h2-{}", self.tag))?;
        let mut connection = http2::Connection::open(&target, &self.tls(b"h2")?).await?;
        let mut body = begun(connection.send(self.get(&target, false)?).await?)?;
        first(&mut body).await?;
        Ok(Open::spawn("events over HTTP/2", self.edge, async move {
            let _connection = connection;
            until_cut(body).await
        }))
    }

    async fn h3_body(&self, target: &Target) -> Result<(h3::Connection, h3::Body)> {
        let mut connection = h3::Connection::open(target, &self.tls(b"h3")?).await?;
        let request = Request::get(url(target)).header(header::COOKIE, self.cookie).body(())?;
        let (response, body) = connection.send(request).await?;
        ensure!(response.status() == StatusCode::OK, "{}: {}", target.path, response.status());
        Ok((connection, body))
    }

    async fn h3_events(&self) -> Result<Open> {
        let target = self.target(&format!("/hang/h3-{}", self.tag))?;
        let (connection, mut body) = self.h3_body(&target).await?;
        body.data().await?.context("a first event")?;
        Ok(Open::spawn("events over HTTP/3", self.edge, async move {
            let _connection = connection;
            match body.data().await {
                Err(_) => Ok(Ended::Cut),
                Ok(data) => bail!("no cut, but {data:?}"),
            }
        }))
    }

    /// Where a download of this protocol is asked for; told apart in the workload's log by its query.
    fn endless(&self, protocol: &str) -> Result<Target> {
        self.target(&format!("/bytes/{ENDLESS}?{protocol}-{}", self.tag))
    }

    /// Waits until the workload's exchange is over: its client reads nothing, and would see nothing.
    fn until_upstream_ends(&self, target: &Target) -> impl Future<Output = Result<()>> + Send + 'static {
        let workload = Arc::clone(&self.world.workload);
        let target = target.path.trim_start_matches("/live").to_owned();
        async move {
            while !is_over(&workload, &target) {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            Ok(())
        }
    }

    async fn h1_stalled(&self) -> Result<Open> {
        let target = self.endless("h1")?;
        let mut connection = h1::Connection::open(&target, &self.tls(b"http/1.1")?).await?;
        let body = begun(connection.send(self.get(&target, true)?).await?)?;
        let ended = self.until_upstream_ends(&target);
        Ok(Open::spawn("a stalled download over HTTP/1.1", self.edge, async move {
            let _held = (connection, body);
            ended.await.map(|()| Ended::Cut)
        }))
    }

    async fn h2_stalled(&self) -> Result<Open> {
        let target = self.endless("h2")?;
        let mut connection = http2::Connection::open(&target, &self.tls(b"h2")?).await?;
        let body = begun(connection.send(self.get(&target, false)?).await?)?;
        let ended = self.until_upstream_ends(&target);
        Ok(Open::spawn("a stalled download over HTTP/2", self.edge, async move {
            let _held = (connection, body);
            ended.await.map(|()| Ended::Cut)
        }))
    }

    async fn h3_stalled(&self) -> Result<Open> {
        let target = self.endless("h3")?;
        let held = self.h3_body(&target).await?;
        let ended = self.until_upstream_ends(&target);
        Ok(Open::spawn("a stalled download over HTTP/3", self.edge, async move {
            let _held = held;
            ended.await.map(|()| Ended::Cut)
        }))
    }

    /// An upload that goes on without a pause, and whose answer comes only at its end.
    async fn h1_upload(&self) -> Result<Open> {
        let target = self.target(&format!("/sink?{}", self.tag))?;
        let tcp = TcpStream::connect(target.address).await?;
        let connector = TlsConnector::from(self.tls(b"http/1.1")?);
        let stream = connector.connect(target.server_name()?, tcp).await?;
        let (mut read, mut write) = tokio::io::split(stream);
        let head = format!(
            "POST {} HTTP/1.1\r\nhost: {}\r\ncookie: {}\r\ncontent-length: {ENDLESS}\r\n\r\n",
            target.path, target.authority, self.cookie
        );
        write.write_all(head.as_bytes()).await?;
        self.world.workload.begun("/sink", 1, GIVE_UP_AFTER).await?;
        Ok(Open::spawn("an upload over HTTP/1.1", self.edge, async move {
            let talk = async {
                while write.write_all(&[b'x'; 1000]).await.is_ok() && write.flush().await.is_ok() {
                    tokio::time::sleep(PIECE_EVERY).await;
                }
                std::future::pending::<()>().await;
            };
            let listen = async {
                let mut status = [0; 12];
                match read.read_exact(&mut status).await {
                    Ok(_) => {
                        let text = String::from_utf8_lossy(&status).into_owned();
                        Ok(Ended::Answered(text.rsplit(' ').next().unwrap_or_default().parse()?))
                    }
                    Err(_) => Ok(Ended::Cut),
                }
            };
            tokio::select! {
                ended = listen => ended,
                () = talk => bail!("unreachable: an upload talks for ever"),
            }
        }))
    }

    /// An HTTP/2 connection that can say more than hyper's client.
    async fn raw_h2(&self, target: &Target) -> Result<h2::client::SendRequest<Bytes>> {
        let tcp = TcpStream::connect(target.address).await?;
        tcp.set_nodelay(true)?;
        let connector = TlsConnector::from(self.tls(b"h2")?);
        let stream = connector.connect(target.server_name()?, tcp).await?;
        let (sender, connection) = h2::client::handshake(stream).await?;
        // Ends with the connection, which ends with the last sender.
        tokio::spawn(connection);
        let mut sender = sender.ready().await?;
        // The settings that allow an extended CONNECT come with the first frames.
        while !sender.is_extended_connect_protocol_enabled() {
            tokio::time::sleep(LOOK_AGAIN).await;
            sender = sender.ready().await?;
        }
        Ok(sender)
    }

    /// As a gRPC stream in both directions: something was said both ways, and now both wait.
    async fn h2_conversation(&self) -> Result<Open> {
        let target = self.target("/echo")?;
        let mut sender = self.raw_h2(&target).await?;
        let request = Request::post(url(&target))
            .header(header::COOKIE, self.cookie)
            .header(header::CONTENT_TYPE, "application/grpc")
            .body(())?;
        let (response, mut up) = sender.send_request(request, false)?;
        up.send_data(Bytes::from_static(MESSAGE), false)?;
        let response = response.await?;
        ensure!(response.status() == StatusCode::OK, "{}", response.status());
        let mut down = response.into_body();
        let mut back = Vec::new();
        // However many frames it comes in; one may be empty.
        while back.len() < MESSAGE.len() {
            back.extend_from_slice(&down.data().await.context("it comes back")??);
        }
        ensure!(back == MESSAGE, "another message");
        Ok(Open::spawn("a conversation over HTTP/2", self.edge, async move {
            let _held = (sender, up);
            match down.data().await {
                Some(Err(_)) => Ok(Ended::Cut),
                other => bail!("no cut, but {other:?}"),
            }
        }))
    }

    async fn h1_websocket(&self) -> Result<Open> {
        let target = self.target("/ws")?;
        let cookie = format!("cookie: {}\r\n", self.cookie);
        let mut socket = WebSocket::open_with(&target, &self.tls(b"http/1.1")?, &cookie).await?;
        socket.echo(b"here").await?;
        Ok(Open::spawn("a WebSocket over HTTP/1.1", self.edge, async move {
            Ok(Ended::Closed(socket.closed().await?))
        }))
    }

    /// A WebSocket whose client says more and more, and takes nothing of what comes back: no last word either.
    async fn h1_websocket_stalled(&self) -> Result<Open> {
        let target = self.target("/ws")?;
        let cookie = format!("cookie: {}\r\n", self.cookie);
        let mut socket = WebSocket::open_with(&target, &self.tls(b"http/1.1")?, &cookie).await?;
        Ok(Open::spawn("a stalled conversation after a switch", self.edge, async move {
            socket.send_until_cut().await;
            Ok(Ended::Cut)
        }))
    }

    async fn h2_websocket(&self) -> Result<Open> {
        let target = self.target("/ws")?;
        let mut sender = self.raw_h2(&target).await?;
        let mut request = Request::builder()
            .method(Method::CONNECT)
            .uri(url(&target))
            .header(header::COOKIE, self.cookie)
            .header(header::ORIGIN, format!("https://{}", target.authority))
            .header("sec-websocket-version", "13")
            .body(())?;
        request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
        let (response, mut up) = sender.send_request(request, false)?;
        let response = response.await?;
        ensure!(response.status() == StatusCode::OK, "{}", response.status());
        let mut down = response.into_body();
        up.send_data(Bytes::from_static(b"\x82\x84\0\0\0\0here"), false)?;
        let back = down.data().await.context("it comes back")??;
        ensure!(back.ends_with(b"here"), "another message: {back:?}");
        Ok(Open::spawn("a WebSocket over HTTP/2", self.edge, async move {
            let _held = (sender, up);
            let said = down.data().await.context("a last word")??;
            let code = said.get(2..4).and_then(<[u8]>::first_chunk).context("a close frame")?;
            ensure!(said.first() == Some(&0x88), "no close frame: {said:?}");
            loop {
                match down.data().await {
                    None => break,
                    Some(Ok(more)) if more.is_empty() => {}
                    // The answer is whole; only what this client would still say is not wanted (RFC 9113 §8.1).
                    Some(Err(end)) if end.reason() == Some(h2::Reason::NO_ERROR) => break,
                    other => bail!("no end in order, but {other:?}"),
                }
            }
            Ok(Ended::Closed(u16::from_be_bytes(*code)))
        }))
    }
}

fn url(target: &Target) -> String {
    format!("https://{}{}", target.authority, target.path)
}

fn begun(response: http::Response<Incoming>) -> Result<Incoming> {
    ensure!(response.status() == StatusCode::OK, "{}", response.status());
    Ok(response.into_body())
}

async fn first(body: &mut Incoming) -> Result<()> {
    body.frame().await.context("a first event")??;
    Ok(())
}

async fn until_cut(mut body: Incoming) -> Result<Ended> {
    match body.frame().await {
        Some(Err(_)) => Ok(Ended::Cut),
        other => bail!("no cut, but {other:?}"),
    }
}

fn is_over(workload: &Workload, target: &str) -> bool {
    let path = target.split('?').next().unwrap_or_default();
    workload.seen(path).iter().any(|record| record.target == target && record.end != End::Running)
}
