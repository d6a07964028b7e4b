//! A warpgate for tests on a tunnel over TCP: keeps the control stream, counts the requests it gets, and answers as it is
//! told to, rudely if need be.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ::http::{HeaderMap, Method, Response, StatusCode};
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use mezusphere_edge::tunnel::Acceptor;
use mezusphere_model::id::WarpgateId;
use mezusphere_model::slug::Slug;
use mezusphere_pki::lifetime::LEAF_TTL;
use mezusphere_pki::{CurrentIdentity, EDGE_DNS_NAME, Role, tls};
use rustls_pki_types::ServerName;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tunnel_proto::codes::ResetCode;
use tunnel_proto::control::{Hello, SessionEnd, UpstreamHealth, VERSIONS, WarpgateEvent, WarpgateSession};
use tunnel_proto::exchange::{Decoder, Encoder, Event, RequestHead, ResponseHead};
use tunnel_proto::limits::{EXCHANGES_MAX, STREAM_WINDOW, TCP_WARPGATE_WINDOW};

use crate::world::{EDGE, ENVIRONMENT, PROJECT, SOON, World, issue};

/// Takes tunnels over TCP as an edge's port does once the handshake is through.
pub(crate) fn listen(config: rustls::ServerConfig, acceptor: Acceptor) -> SocketAddr {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let tls = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        let listener = TcpListener::from_std(listener).unwrap();
        while let Ok((stream, client)) = listener.accept().await {
            let (tls, acceptor) = (tls.clone(), acceptor.clone());
            tokio::spawn(async move {
                if let Ok(stream) = tls.accept(stream).await {
                    acceptor.accept_tcp(stream, client).await;
                }
            });
        }
    });
    address
}

type Handler = dyn Fn(Exchange) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync;

/// What a warpgate is to say on its control stream.
pub(crate) enum Tell {
    Probe(u64),
    Drain,
    Health(UpstreamHealth),
    /// Octets that are no message.
    Garbage,
}

pub(crate) struct Warpgate {
    pub(crate) tell: mpsc::UnboundedSender<Tell>,
    events: watch::Receiver<Vec<WarpgateEvent>>,
    seen: Arc<AtomicUsize>,
    pub(crate) tasks: tokio::task::JoinSet<()>,
}

impl Warpgate {
    pub(crate) async fn event(&mut self, wanted: impl Fn(&WarpgateEvent) -> bool) -> WarpgateEvent {
        let came = self.events.wait_for(|events| events.iter().any(&wanted));
        let events = tokio::time::timeout(SOON, came).await.unwrap().unwrap();
        events.iter().find(|event| wanted(event)).unwrap().clone()
    }

    pub(crate) async fn ended(&mut self) -> SessionEnd {
        match self.event(|event| matches!(event, WarpgateEvent::Ended(_))).await {
            WarpgateEvent::Ended(end) => end,
            _ => unreachable!(),
        }
    }

    pub(crate) fn seen(&self) -> usize {
        self.seen.load(Ordering::SeqCst)
    }
}

/// A connection that has said nothing yet.
pub(crate) async fn dial(world: &World, id: u128, ttl: Duration) -> TlsStream<TcpStream> {
    let role = Role::Warpgate { project: PROJECT, environment: ENVIRONMENT, id: WarpgateId::from_bits(id) };
    let identity = CurrentIdentity::new(issue(&world.issuing, &world.domain, role, ttl));
    let clock = world.hand.clock();
    let config =
        tls::tunnel_client_config(&identity, &world.trust, EDGE, &clock, &[tunnel_proto::ALPN]).unwrap();
    let stream = TcpStream::connect(world.tcp_address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let name = ServerName::try_from(EDGE_DNS_NAME).unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}

pub(crate) async fn connect<F>(
    world: &World,
    id: u128,
    handler: impl Fn(Exchange) -> F + Send + Sync + 'static,
) -> Warpgate
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut warpgate = start(dial(world, id, LEAF_TTL).await, id, handler).await;
    warpgate.event(|event| matches!(event, WarpgateEvent::Welcomed(_))).await;
    warpgate
}

pub(crate) async fn start<F>(
    stream: TlsStream<TcpStream>,
    id: u128,
    handler: impl Fn(Exchange) -> F + Send + Sync + 'static,
) -> Warpgate
where
    F: Future<Output = ()> + Send + 'static,
{
    start_answering(stream, id, Answering::Well, handler).await
}

/// How a warpgate answers the requests that its streams are.
#[derive(Clone, Copy)]
pub(crate) enum Answering {
    /// As it must.
    Well,
    /// With another status.
    WithStatus(u16),
    /// With interim responses without end.
    Informing,
}

impl Answering {
    fn answer(self, respond: &mut SendResponse<Bytes>) -> SendStream<Bytes> {
        let status = match self {
            Self::Well => 200,
            Self::WithStatus(status) => status,
            Self::Informing => {
                for _ in 0..1000 {
                    drop(respond.send_informational(Response::builder().status(103).body(()).unwrap()));
                }
                200
            }
        };
        respond.send_response(Response::builder().status(status).body(()).unwrap(), false).unwrap()
    }
}

/// The same, and answers the requests that its streams are like this.
pub(crate) async fn start_answering<F>(
    stream: TlsStream<TcpStream>,
    id: u128,
    answering: Answering,
    handler: impl Fn(Exchange) -> F + Send + Sync + 'static,
) -> Warpgate
where
    F: Future<Output = ()> + Send + 'static,
{
    let handler: Arc<Handler> = Arc::new(move |exchange| Box::pin(handler(exchange)));
    let mut connection = h2::server::Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(TCP_WARPGATE_WINDOW)
        .max_concurrent_streams(EXCHANGES_MAX + 1)
        .handshake::<_, Bytes>(stream)
        .await
        .unwrap();
    let (tell, told) = mpsc::unbounded_channel();
    let (sender, events) = watch::channel(Vec::new());
    let seen = Arc::new(AtomicUsize::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    let (request, mut respond) = connection.accept().await.unwrap().unwrap();
    assert_eq!((request.method(), request.uri().path()), (&Method::POST, "/control"));
    let send = respond.send_response(Response::new(()), false).unwrap();
    let hello = Hello {
        versions: VERSIONS,
        agent: "warpgate/test".to_owned(),
        instance: WarpgateId::from_bits(id),
        index: 0,
        count: 1,
        upstreams: vec![Slug::parse("default").unwrap()],
        bundle_revision: 0,
        features: 0,
    };
    tasks.spawn(control(send, request.into_body(), hello, told, sender));
    let counted = Arc::clone(&seen);
    tasks.spawn(async move {
        let mut exchanges = tokio::task::JoinSet::new();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            assert_eq!(request.uri().path(), "/exchange");
            let send = answering.answer(&mut respond);
            let mut exchange =
                Exchange { send, recv: request.into_body(), decoder: Decoder::requests(), head: None };
            let (handler, counted) = (Arc::clone(&handler), Arc::clone(&counted));
            exchanges.spawn(async move {
                match exchange.next().await {
                    Some(Event::Request { head, .. }) => {
                        counted.fetch_add(1, Ordering::SeqCst);
                        exchange.head = Some(*head);
                        handler(exchange).await;
                    }
                    Some(Event::Probe { nonce }) => {
                        let mut encoder = Encoder::new();
                        encoder.probe_reply(nonce);
                        exchange.write(encoder.take(), true).await;
                    }
                    other => assert!(other.is_none(), "{other:?}"),
                }
            });
        }
    });
    Warpgate { tell, events, seen, tasks }
}

async fn control(
    mut send: SendStream<Bytes>,
    mut recv: RecvStream,
    hello: Hello,
    mut told: mpsc::UnboundedReceiver<Tell>,
    events: watch::Sender<Vec<WarpgateEvent>>,
) {
    let mut session = WarpgateSession::new(Instant::now(), hello);
    loop {
        while let Some(event) = session.poll_event() {
            events.send_modify(|all| all.push(event));
        }
        while let Some(bytes) = session.poll_transmit() {
            drop(send.send_data(bytes, false));
        }
        let Some(timeout) = session.poll_timeout() else {
            drop(send.send_data(Bytes::new(), true));
            return;
        };
        tokio::select! {
            read = recv.data() => match read {
                Some(Ok(chunk)) => {
                    recv.flow_control().release_capacity(chunk.len()).unwrap();
                    session.handle_bytes(Instant::now(), chunk);
                }
                _ => session.handle_end_of_stream(),
            },
            () = tokio::time::sleep_until(timeout.into()) => session.handle_timeout(Instant::now()),
            Some(tell) = told.recv() => match tell {
                Tell::Probe(nonce) => session.request_probe(nonce),
                Tell::Drain => session.drain(Instant::now(), Duration::from_secs(30)),
                Tell::Health(health) => session.upstream_health(health),
                Tell::Garbage => drop(send.send_data(Bytes::from_static(&[0x04, 1, 9]), false)),
            },
        }
    }
}

/// One exchange, in the hands of a test.
pub(crate) struct Exchange {
    pub(crate) send: SendStream<Bytes>,
    recv: RecvStream,
    decoder: Decoder,
    head: Option<RequestHead>,
}

impl Exchange {
    pub(crate) fn target(&self) -> &str {
        &self.head.as_ref().unwrap().target
    }

    pub(crate) async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.decoder.poll().unwrap() {
                return Some(event);
            }
            let chunk = self.recv.data().await?.ok()?;
            self.recv.flow_control().release_capacity(chunk.len()).unwrap();
            self.decoder.push(chunk);
        }
    }

    /// Writes as fast as the edge reads; `false` if it wants no more.
    pub(crate) async fn write(&mut self, mut bytes: Bytes, end: bool) -> bool {
        while !bytes.is_empty() {
            self.send.reserve_capacity(bytes.len());
            while self.send.capacity() == 0 {
                let Some(Ok(_)) = std::future::poll_fn(|cx| self.send.poll_capacity(cx)).await else {
                    return false;
                };
            }
            let piece = bytes.split_to(self.send.capacity().min(bytes.len()));
            if self.send.send_data(piece, false).is_err() {
                return false;
            }
        }
        !end || self.send.send_data(Bytes::new(), true).is_ok()
    }

    pub(crate) async fn begin(&mut self) {
        let mut encoder = Encoder::new();
        encoder.response(&head(200), false).unwrap();
        self.write(encoder.take(), false).await;
    }

    pub(crate) async fn data(&mut self, data: Bytes) -> bool {
        let mut encoder = Encoder::new();
        encoder.data_header(data.len());
        self.write(encoder.take(), false).await && self.write(data, false).await
    }

    pub(crate) async fn respond(mut self, body: &[u8]) {
        let mut encoder = Encoder::new();
        encoder.response(&head(200), false).unwrap();
        encoder.data(body);
        encoder.end();
        self.write(encoder.take(), true).await;
    }

    /// Waits until the edge has reset the stream, and says with what.
    pub(crate) async fn reset_by_edge(&mut self) -> ResetCode {
        let reason = std::future::poll_fn(|cx| self.send.poll_reset(cx)).await.unwrap();
        ResetCode::from_http2(reason.into())
    }
}

fn head(status: u16) -> ResponseHead {
    ResponseHead { status: StatusCode::from_u16(status).unwrap(), headers: HeaderMap::new() }
}
