//! An edge that speaks the tunnel over TCP: HTTP/2 with the roles turned round, as `tunnel_proto` describes it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::client::SendRequest;
use mezusphere_model::id::EdgeId;
use mezusphere_pki::tls::tunnel_server_config;
use mezusphere_pki::{CurrentIdentity, CurrentTrust};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;
use tunnel_proto::codes::{CloseCode, ResetCode};
use tunnel_proto::control::{EdgeEvent, EdgeSession, SessionLimits};
use tunnel_proto::exchange::{Decoder, Encoder, Event, RequestHead};

use super::edge::{Answer, Order};
use super::{Platform, edge};

/// The TCP side of an edge.
pub struct TcpEdge {
    pub address: SocketAddr,
    tunnels: Arc<Mutex<Vec<Arc<TcpTunnel>>>>,
    accepted: Arc<Mutex<usize>>,
    _accepting: AbortOnDropHandle<()>,
}

/// A tunnel over TCP, from the edge's side.
pub struct TcpTunnel {
    requests: SendRequest<Bytes>,
    orders: mpsc::Sender<Order>,
    pub draining: Arc<Mutex<bool>>,
    /// Why the session ended.
    pub closed: Arc<Mutex<Option<String>>>,
    /// The TCP connection is gone.
    pub gone: watch::Receiver<bool>,
}

impl TcpEdge {
    /// Listens beside `edge`'s UDP port, or at another address that leads there.
    pub fn beside(platform: &Arc<Platform>, edge: &edge::Edge, at: SocketAddr) -> Self {
        Self::trusting(platform, &platform.trust(), edge, at)
    }

    /// The same with trust of its own.
    pub fn trusting(
        platform: &Arc<Platform>,
        trust: &CurrentTrust,
        edge: &edge::Edge,
        at: SocketAddr,
    ) -> Self {
        let identity: &CurrentIdentity = &edge.identity;
        let tls = tunnel_server_config(identity, trust, &platform.clock(), &[tunnel_proto::ALPN]);
        let acceptor = TlsAcceptor::from(Arc::new(tls.unwrap()));
        let listener = std::net::TcpListener::bind(at).unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let tunnels: Arc<Mutex<Vec<Arc<TcpTunnel>>>> = Arc::default();
        let accepted: Arc<Mutex<usize>> = Arc::default();
        let id = edge.id;
        let (kept, counted) = (Arc::clone(&tunnels), Arc::clone(&accepted));
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                *counted.lock().unwrap() += 1;
                let (acceptor, tunnels) = (acceptor.clone(), Arc::clone(&kept));
                tokio::spawn(serve(acceptor, stream, id, tunnels));
            }
        });
        Self { address: at, tunnels, accepted, _accepting: AbortOnDropHandle::new(accepting) }
    }

    /// TCP connections that came.
    pub fn accepted(&self) -> usize {
        *self.accepted.lock().unwrap()
    }

    pub fn tunnels(&self) -> Vec<Arc<TcpTunnel>> {
        self.tunnels.lock().unwrap().clone()
    }

    /// The newest tunnel, once there are `count`.
    pub async fn tunnel(&self, count: usize) -> Arc<TcpTunnel> {
        super::until("a tunnel over TCP", || self.tunnels().len() >= count).await;
        Arc::clone(&self.tunnels()[count - 1])
    }
}

async fn serve(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    id: EdgeId,
    tunnels: Arc<Mutex<Vec<Arc<TcpTunnel>>>>,
) -> Option<()> {
    let tls = acceptor.accept(stream).await.ok()?;
    let mut builder = h2::client::Builder::new();
    builder
        .initial_window_size(1024 * 1024)
        .initial_connection_window_size(1024 * 1024 * 1024)
        .enable_push(false);
    let (requests, connection) = builder.handshake::<_, Bytes>(tls).await.ok()?;
    let (ending, gone) = watch::channel(false);
    let _driver = AbortOnDropHandle::new(tokio::spawn(async move {
        connection.await.ok();
        ending.send_replace(true);
    }));
    let (mut send, mut receive) = open(&requests, "/control").await?;
    let (orders_in, mut orders) = mpsc::channel(16);
    let (probes_in, mut probes) = mpsc::channel::<(u64, Duration)>(16);
    let (draining, closed) = (Arc::default(), Arc::default());
    let tunnel =
        Arc::new(TcpTunnel { requests: requests.clone(), orders: orders_in, draining, closed, gone });
    let mut session = EdgeSession::new(Instant::now().into_std());
    loop {
        while let Some(event) = session.poll_event() {
            match event {
                EdgeEvent::Hello(_) => {
                    session.welcome(id, "test", SessionLimits::default());
                    tunnels.lock().unwrap().push(Arc::clone(&tunnel));
                }
                EdgeEvent::Draining { .. } => *tunnel.draining.lock().unwrap() = true,
                EdgeEvent::ProbeRequested { nonce } => {
                    let (requests, done) = (requests.clone(), probes_in.clone());
                    tokio::spawn(async move {
                        let start = Instant::now();
                        let mut encoder = Encoder::new();
                        encoder.probe(nonce);
                        if exchange(&requests, vec![encoder.take()]).await.complete {
                            done.send((nonce, start.elapsed())).await.ok();
                        }
                    });
                }
                EdgeEvent::Ended(end) => {
                    *tunnel.closed.lock().unwrap() = Some(end.to_string());
                    if let Some(bytes) = session.poll_transmit() {
                        send.send_data(bytes, true).ok();
                    }
                    // Gives what was written a chance to arrive before the connection goes.
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    return None;
                }
                EdgeEvent::PrincipalKnown { .. }
                | EdgeEvent::Offered(_)
                | EdgeEvent::Withdrawn(_)
                | EdgeEvent::UpstreamHealth(_) => {}
            }
        }
        while let Some(bytes) = session.poll_transmit() {
            send.send_data(bytes, false).ok()?;
        }
        let due =
            session.poll_timeout().map_or_else(|| Instant::now() + Duration::from_mins(1), Instant::from_std);
        tokio::select! {
            read = receive.data() => match read {
                Some(Ok(bytes)) => {
                    receive.flow_control().release_capacity(bytes.len()).unwrap();
                    session.handle_bytes(Instant::now().into_std(), bytes);
                }
                Some(Err(_)) | None => session.handle_end_of_stream(),
            },
            Some(order) = orders.recv() => match order {
                Order::Bundle(bundle) => session.send_bundle(bundle),
                Order::Drain(grace) => session.drain(Instant::now().into_std(), grace),
                Order::Refuse(refused) => session.refuse(refused),
                Order::GiveWay => session.close(CloseCode::Replaced),
                Order::Mute | Order::NoProbes => std::future::pending().await,
            },
            Some((nonce, rtt)) = probes.recv() => session.probe_done(nonce, rtt),
            () = tokio::time::sleep_until(due) => {
                // An edge takes a warpgate for alive as long as anything comes from it; this one never loses patience.
                session.handle_alive(Instant::now().into_std());
                session.handle_timeout(Instant::now().into_std());
            }
        }
    }
}

async fn open(requests: &SendRequest<Bytes>, path: &str) -> Option<(h2::SendStream<Bytes>, RecvStream)> {
    let mut requests = requests.clone().ready().await.ok()?;
    let request = http::Request::post(format!("https://tunnel{path}")).body(()).unwrap();
    let (response, send) = requests.send_request(request, false).ok()?;
    let response = timeout(Duration::from_secs(10), response).await.ok()?.ok()?;
    assert_eq!(response.status(), 200);
    Some((send, response.into_body()))
}

impl TcpTunnel {
    pub async fn order(&self, order: Order) {
        self.orders.send(order).await.ok().unwrap();
    }

    /// A request without a body, and its whole answer.
    pub async fn get(&self, head: &RequestHead) -> Answer {
        let mut encoder = Encoder::new();
        encoder.request(head, true).unwrap();
        exchange(&self.requests, vec![encoder.take()]).await
    }

    /// A request whose body goes out in these pieces, and its whole answer.
    pub async fn send(&self, head: &RequestHead, pieces: &[&[u8]]) -> Answer {
        let mut encoder = Encoder::new();
        encoder.request(head, false).unwrap();
        let mut parts = vec![encoder.take()];
        for piece in pieces {
            encoder.data(piece);
            parts.push(encoder.take());
        }
        encoder.end();
        parts.push(encoder.take());
        exchange(&self.requests, parts).await
    }

    /// Opens a stream and sends the head, without an end; the rest is the test's.
    pub async fn open(&self, head: &RequestHead, end: bool) -> (h2::SendStream<Bytes>, RecvStream) {
        let (mut send, receive) = open(&self.requests, "/exchange").await.unwrap();
        let mut encoder = Encoder::new();
        encoder.request(head, end).unwrap();
        send.send_data(encoder.take(), end).unwrap();
        (send, receive)
    }

    /// Opens a stream where there is none of that name.
    pub async fn open_at(&self, path: &str) -> Result<u16, Option<ResetCode>> {
        let mut requests = self.requests.clone().ready().await.unwrap();
        let request = http::Request::post(format!("https://tunnel{path}")).body(()).unwrap();
        let (response, _send) = requests.send_request(request, false).unwrap();
        match response.await {
            Ok(response) => Ok(response.status().as_u16()),
            Err(error) => Err(error.reason().map(|reason| ResetCode::from_http2(reason.into()))),
        }
    }

    pub async fn is_gone(&self, within: Duration) -> bool {
        timeout(within, self.gone.clone().wait_for(|gone| *gone)).await.is_ok()
    }
}

/// Sends these pieces on a new stream, ends it, and reads the answer.
async fn exchange(requests: &SendRequest<Bytes>, pieces: Vec<Bytes>) -> Answer {
    let Some((mut send, receive)) = open(requests, "/exchange").await else { return Answer::default() };
    let last = pieces.len() - 1;
    for (nth, piece) in pieces.into_iter().enumerate() {
        if send.send_data(piece, nth == last).is_err() {
            break;
        }
    }
    let answer = read_answer(receive, |_| {}).await;
    drop(send);
    answer
}

/// Reads an answer to its end; `seen` is told of each event as it comes.
pub async fn read_answer(mut receive: RecvStream, mut seen: impl FnMut(&Event)) -> Answer {
    let mut decoder = Decoder::responses();
    let mut answer = Answer::default();
    loop {
        while let Some(event) = decoder.poll().expect("a warpgate's frames decode") {
            seen(&event);
            answer.take(event);
        }
        match receive.data().await {
            Some(Ok(bytes)) => {
                answer.reads += 1;
                receive.flow_control().release_capacity(bytes.len()).unwrap();
                decoder.push(bytes);
            }
            None => {
                answer.complete = decoder.finish().is_ok();
                return answer;
            }
            Some(Err(error)) => {
                let code = error.reason().filter(|_| error.is_reset());
                answer.reset = code.map(|reason| ResetCode::from_http2(reason.into()));
                // RFC 9113 §8.1: a whole answer stays whole when the rest of the request is not needed.
                answer.complete = answer.reset == Some(ResetCode::NotNeeded) && decoder.finish().is_ok();
                return answer;
            }
        }
    }
}
