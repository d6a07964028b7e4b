//! An edge that does what a test says.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use mezusphere_model::bundle::{EdgeAddress, SignedBundle};
use mezusphere_model::id::{EdgeId, RequestId, RouteId};
use mezusphere_pki::tls::tunnel_server_config;
use mezusphere_pki::{CurrentIdentity, Role};
use quinn::VarInt;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tunnel_proto::codes::{CloseCode, ResetCode};
use tunnel_proto::control::{EdgeEvent, EdgeSession, Hello, Refused, SessionLimits};
use tunnel_proto::exchange::{
    Decoder, Encoder, Event, Failure, IdentityRef, RequestHead, ResponseHead, Scheme,
};

use super::{HOST, Platform, server};

/// What the edge does when a warpgate says Hello.
#[derive(Clone)]
pub enum Greeting {
    Welcome,
    Refuse(Refused),
    WelcomeAs(EdgeId),
}

pub struct Edge {
    pub id: EdgeId,
    pub address: SocketAddr,
    pub identity: CurrentIdentity,
    pub greeting: Arc<Mutex<Greeting>>,
    endpoint: quinn::Endpoint,
    tunnels: Arc<Mutex<Vec<Arc<Tunnel>>>>,
    hellos: Arc<Mutex<Vec<Hello>>>,
    refused: Arc<AtomicUsize>,
}

/// A tunnel, from the edge's side.
pub struct Tunnel {
    pub connection: quinn::Connection,
    pub known: Arc<Mutex<Vec<u64>>>,
    pub draining: Arc<Mutex<bool>>,
    /// How long the warpgate said that what runs may take, once it drains.
    pub grace: Arc<Mutex<Option<Duration>>>,
    pub closed: Arc<Mutex<Option<String>>>,
    orders: mpsc::Sender<Order>,
}

pub enum Order {
    Bundle(SignedBundle),
    Drain(Duration),
    Refuse(Refused),
    /// Ends the control stream, then closes the connection because a newer one took its place.
    GiveWay,
    /// Reads and writes nothing more on the control stream.
    Mute,
    /// Sends no probe any more, however often it is asked to.
    NoProbes,
}

/// What came back on an exchange.
#[derive(Debug, Default)]
pub struct Answer {
    pub informational: Vec<ResponseHead>,
    pub status: Option<StatusCode>,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub trailers: Option<HeaderMap>,
    pub failure: Option<Failure>,
    pub reset: Option<ResetCode>,
    /// The message was whole.
    pub complete: bool,
    /// How many pieces the transport handed over.
    pub reads: usize,
}

impl Answer {
    /// Adds one event.
    pub fn take(&mut self, event: Event) {
        match event {
            Event::Informational(head) => self.informational.push(head),
            Event::Response { head, .. } => {
                self.status = Some(head.status);
                self.headers = head.headers;
            }
            Event::Data(piece) => self.body.extend_from_slice(&piece),
            Event::Trailers(trailers) => self.trailers = Some(trailers),
            Event::Failure(failure) => self.failure = Some(failure),
            Event::End | Event::ProbeReply { .. } | Event::Raw => {}
            Event::Request { .. } | Event::Probe { .. } => panic!("not a warpgate's"),
        }
    }
}

impl Edge {
    pub fn start(platform: &Arc<Platform>) -> Self {
        let id = EdgeId::random(&platform.entropy);
        let edge = Self::start_as(platform, id, id);
        platform.edges.lock().unwrap().push(edge.entry());
        edge
    }

    /// An edge whose certificate says `certified`.
    pub fn start_as(platform: &Arc<Platform>, id: EdgeId, certified: EdgeId) -> Self {
        Self::start_on(platform, id, certified, 0)
    }

    /// The same on this port.
    pub fn start_on(platform: &Arc<Platform>, id: EdgeId, certified: EdgeId, port: u16) -> Self {
        let identity = CurrentIdentity::new(platform.leaf(Role::Edge(certified)));
        let tls =
            tunnel_server_config(&identity, &platform.trust(), &platform.clock(), &[tunnel_proto::ALPN])
                .unwrap();
        let endpoint = server(tls, port);
        let edge = Self {
            id,
            address: endpoint.local_addr().unwrap(),
            identity,
            greeting: Arc::new(Mutex::new(Greeting::Welcome)),
            endpoint,
            tunnels: Arc::default(),
            hellos: Arc::default(),
            refused: Arc::default(),
        };
        let (endpoint, tunnels) = (edge.endpoint.clone(), Arc::clone(&edge.tunnels));
        let (hellos, greeting) = (Arc::clone(&edge.hellos), Arc::clone(&edge.greeting));
        let refused = Arc::clone(&edge.refused);
        tokio::spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                let (tunnels, hellos) = (Arc::clone(&tunnels), Arc::clone(&hellos));
                let (greeting, refused) = (greeting.lock().unwrap().clone(), Arc::clone(&refused));
                tokio::spawn(async move {
                    let Ok(connection) = incoming.await else {
                        refused.fetch_add(1, Ordering::SeqCst);
                        return;
                    };
                    drive(connection, id, greeting, tunnels, hellos).await;
                });
            }
        });
        edge
    }

    pub fn entry(&self) -> EdgeAddress {
        EdgeAddress {
            id: self.id,
            name: "local".into(),
            host: "edge.localhost".into(),
            port: self.address.port(),
        }
    }

    pub fn hellos(&self) -> Vec<Hello> {
        self.hellos.lock().unwrap().clone()
    }

    /// Connections that got no further than the handshake.
    pub fn refused(&self) -> usize {
        self.refused.load(Ordering::SeqCst)
    }

    /// Tunnels that were welcomed, oldest first.
    pub fn tunnels(&self) -> Vec<Arc<Tunnel>> {
        self.tunnels.lock().unwrap().clone()
    }

    /// The newest tunnel, once there are `count`.
    pub async fn tunnel(&self, count: usize) -> Arc<Tunnel> {
        super::until("a tunnel", || self.tunnels().len() >= count).await;
        Arc::clone(&self.tunnels()[count - 1])
    }

    /// Dies without a word.
    pub fn vanish(&self) {
        for tunnel in self.tunnels() {
            tunnel.connection.close(VarInt::from_u32(0), b"");
        }
        self.endpoint.close(VarInt::from_u32(0), b"");
    }
}

async fn drive(
    connection: quinn::Connection,
    id: EdgeId,
    greeting: Greeting,
    tunnels: Arc<Mutex<Vec<Arc<Tunnel>>>>,
    hellos: Arc<Mutex<Vec<Hello>>>,
) {
    let Ok((mut send, mut receive)) = connection.accept_bi().await else { return };
    let mut session = EdgeSession::new(Instant::now().into_std());
    let mut probing = true;
    let (orders_in, mut orders) = mpsc::channel(16);
    let (probes_in, mut probes) = mpsc::channel::<(u64, Duration)>(16);
    let tunnel = Arc::new(Tunnel {
        connection: connection.clone(),
        known: Arc::default(),
        draining: Arc::default(),
        grace: Arc::default(),
        closed: Arc::default(),
        orders: orders_in,
    });
    loop {
        while let Some(event) = session.poll_event() {
            match event {
                EdgeEvent::Hello(hello) => {
                    hellos.lock().unwrap().push(hello);
                    match &greeting {
                        Greeting::Welcome => {
                            session.welcome(id, "test", SessionLimits::default());
                            tunnels.lock().unwrap().push(Arc::clone(&tunnel));
                        }
                        Greeting::WelcomeAs(other) => {
                            session.welcome(*other, "test", SessionLimits::default());
                        }
                        Greeting::Refuse(refused) => session.refuse(refused.clone()),
                    }
                }
                EdgeEvent::PrincipalKnown { slot } => tunnel.known.lock().unwrap().push(slot),
                EdgeEvent::Draining { until } => {
                    let grace = until.saturating_duration_since(Instant::now().into_std());
                    *tunnel.grace.lock().unwrap() = Some(grace);
                    *tunnel.draining.lock().unwrap() = true;
                }
                EdgeEvent::ProbeRequested { .. } if !probing => {}
                EdgeEvent::ProbeRequested { nonce } => {
                    let (connection, done) = (connection.clone(), probes_in.clone());
                    tokio::spawn(async move {
                        let start = Instant::now();
                        let mut encoder = Encoder::new();
                        encoder.probe(nonce);
                        let answer = raw_exchange(&connection, encoder.take()).await;
                        if answer.complete {
                            done.send((nonce, start.elapsed())).await.ok();
                        }
                    });
                }
                EdgeEvent::Ended(end) => {
                    while let Some(bytes) = session.poll_transmit() {
                        drop(send.write_all(&bytes).await);
                    }
                    drop(send.finish());
                    // Gives what was written a chance to arrive before the connection goes.
                    drop(tokio::time::timeout(Duration::from_millis(200), send.stopped()).await);
                    *tunnel.closed.lock().unwrap() = Some(end.to_string());
                    // What the warpgate closed it with must stay to be seen.
                    if connection.close_reason().is_none() {
                        connection.close(VarInt::from_u32(end.close_code().number()), b"");
                    }
                    return;
                }
                EdgeEvent::Offered(_) | EdgeEvent::Withdrawn(_) | EdgeEvent::UpstreamHealth(_) => {}
            }
        }
        while let Some(bytes) = session.poll_transmit() {
            if send.write_all(&bytes).await.is_err() {
                break;
            }
        }
        let due =
            session.poll_timeout().map_or_else(|| Instant::now() + Duration::from_mins(1), Instant::from_std);
        tokio::select! {
            read = receive.read_chunk(65536, true) => match read {
                Ok(Some(chunk)) => session.handle_bytes(Instant::now().into_std(), chunk.bytes),
                Ok(None) | Err(_) => session.handle_end_of_stream(),
            },
            Some(order) = orders.recv() => match order {
                Order::Bundle(bundle) => session.send_bundle(bundle),
                Order::Drain(grace) => session.drain(Instant::now().into_std(), grace),
                Order::Refuse(refused) => session.refuse(refused),
                Order::GiveWay => {
                    drop(send.finish());
                    drop(tokio::time::timeout(Duration::from_millis(200), send.stopped()).await);
                    connection.close(VarInt::from_u32(CloseCode::Replaced.number()), b"replaced");
                    return;
                }
                Order::NoProbes => probing = false,
                Order::Mute => {
                    connection.closed().await;
                    return;
                }
            },
            Some((nonce, rtt)) = probes.recv() => session.probe_done(nonce, rtt),
            () = tokio::time::sleep_until(due) => session.handle_timeout(Instant::now().into_std()),
        }
    }
}

impl Tunnel {
    pub async fn order(&self, order: Order) {
        self.orders.send(order).await.ok().unwrap();
    }

    /// A request without a body, and its whole answer.
    pub async fn get(&self, head: &RequestHead) -> Answer {
        let mut encoder = Encoder::new();
        encoder.request(head, true).unwrap();
        raw_exchange(&self.connection, encoder.take()).await
    }

    /// A request whose body goes out in these pieces, and its whole answer.
    pub async fn send(&self, head: &RequestHead, pieces: &[&[u8]]) -> Answer {
        let mut encoder = Encoder::new();
        encoder.request(head, false).unwrap();
        for piece in pieces {
            encoder.data(piece);
        }
        encoder.end();
        raw_exchange(&self.connection, encoder.take()).await
    }

    /// Opens a stream and sends the head, without an end; the rest is the test's.
    pub async fn open(&self, head: &RequestHead, end: bool) -> (quinn::SendStream, quinn::RecvStream) {
        let (mut send, receive) = self.connection.open_bi().await.unwrap();
        let mut encoder = Encoder::new();
        encoder.request(head, end).unwrap();
        send.write_all(&encoder.take()).await.unwrap();
        (send, receive)
    }
}

/// Sends these bytes on a new stream, ends it, and reads the answer.
pub async fn raw_exchange(connection: &quinn::Connection, bytes: Bytes) -> Answer {
    let Ok((mut send, receive)) = connection.open_bi().await else { return Answer::default() };
    let sending = async move {
        drop(send.write_all(&bytes).await);
        drop(send.finish());
        send
    };
    let (answer, _send) = tokio::join!(read_answer(receive, |_| {}), sending);
    answer
}

/// Reads an answer to its end; `seen` is told of each event as it comes.
pub async fn read_answer(mut receive: quinn::RecvStream, mut seen: impl FnMut(&Event)) -> Answer {
    let mut decoder = Decoder::responses();
    let mut answer = Answer::default();
    loop {
        while let Some(event) = decoder.poll().expect("a warpgate's frames decode") {
            seen(&event);
            answer.take(event);
        }
        match receive.read_chunk(65536, true).await {
            Ok(Some(chunk)) => {
                answer.reads += 1;
                decoder.push(chunk.bytes);
            }
            Ok(None) => {
                answer.complete = decoder.finish().is_ok();
                return answer;
            }
            Err(quinn::ReadError::Reset(code)) => {
                answer.reset = Some(ResetCode::from_number(code.into_inner()));
                return answer;
            }
            Err(_) => return answer,
        }
    }
}

/// A head as an honest edge writes it.
pub fn head(method: &str, target: &str, route: u128) -> RequestHead {
    RequestHead {
        request: RequestId::from_bits(1),
        route: RouteId::from_bits(route),
        revision: 1,
        client: IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9)),
        scheme: Scheme::Https,
        authority: format!("{HOST}:8443"),
        method: method.parse().unwrap(),
        target: target.to_owned(),
        headers: HeaderMap::new(),
        identity: IdentityRef::None,
        upgrade: None,
    }
}
