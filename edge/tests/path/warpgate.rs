//! A warpgate for tests, on a real QUIC connection: keeps the control stream, verifies assertions, writes down every request
//! it gets, and answers as it is told to, rudely if need be.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use ::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use bytes::Bytes;
use mezusphere_model::Clock;
use mezusphere_model::id::WarpgateId;
use mezusphere_model::slug::Slug;
use quinn::{RecvStream, SendStream, VarInt};
use tokio::sync::{mpsc, watch};
use tunnel_proto::assertion::{self, Audience, Claims};
use tunnel_proto::codes::{FailureCode, ResetCode};
use tunnel_proto::control::{Hello, SessionEnd, VERSIONS, WarpgateEvent, WarpgateSession};
use tunnel_proto::exchange::{Decoder, Encoder, Event, Failure, IdentityRef, RequestHead, ResponseHead};
use tunnel_proto::jws::Jwk;
use tunnel_proto::principals::Known;

use crate::world::{ENVIRONMENT, PROJECT};

/// Requests written down; a measurement sends more than anybody reads.
const LOG_LEN_MAX: usize = 10_000;

/// What reached the upstream.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) head: RequestHead,
    pub(crate) claims: Option<Claims>,
}

type Handler = dyn Fn(Exchange) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync;

pub(crate) struct Warpgate {
    pub(crate) connection: quinn::Connection,
    pub(crate) log: Arc<Mutex<Vec<Seen>>>,
    pub(crate) tell: mpsc::UnboundedSender<Tell>,
    events: watch::Receiver<Vec<WarpgateEvent>>,
    principals: Arc<Mutex<Known<Claims>>>,
    tasks: tokio::task::JoinSet<()>,
}

/// What the control stream is to say.
pub(crate) enum Tell {
    Known(u64),
    Probe(u64),
    Withdraw(Slug),
    Drain,
}

impl Warpgate {
    pub(crate) fn start<F>(
        connection: quinn::Connection,
        id: WarpgateId,
        keys: Vec<Jwk>,
        clock: Clock,
        handler: impl Fn(Exchange) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let handler: Arc<Handler> = Arc::new(move |exchange| Box::pin(handler(exchange)));
        let hello = Hello {
            versions: VERSIONS,
            agent: "warpgate/test".to_owned(),
            instance: id,
            index: 0,
            count: 1,
            upstreams: vec![Slug::parse("default").unwrap()],
            bundle_revision: 0,
            features: 0,
        };
        let (tell, told) = mpsc::unbounded_channel();
        let (sender, events) = watch::channel(Vec::new());
        let log: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let principals = Arc::new(Mutex::new(Known::new()));
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(control(connection.clone(), hello, told, sender));
        let shared = Shared {
            log: Arc::clone(&log),
            principals: Arc::clone(&principals),
            tell: tell.clone(),
            keys,
            clock,
        };
        tasks.spawn(serve(connection.clone(), shared, handler));
        Self { connection, log, tell, events, principals, tasks }
    }

    /// Waits for an event of the control stream.
    pub(crate) async fn event(&mut self, wanted: impl Fn(&WarpgateEvent) -> bool) -> WarpgateEvent {
        let events = self.events.wait_for(|events| events.iter().any(&wanted)).await.unwrap();
        events.iter().find(|event| wanted(event)).unwrap().clone()
    }

    pub(crate) async fn welcomed(mut self) -> Self {
        self.event(|event| matches!(event, WarpgateEvent::Welcomed(_))).await;
        self
    }

    pub(crate) async fn ended(&mut self) -> SessionEnd {
        match self.event(|event| matches!(event, WarpgateEvent::Ended(_))).await {
            WarpgateEvent::Ended(end) => end,
            _ => unreachable!(),
        }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.log.lock().unwrap().clone()
    }

    /// Forgets who is who, as a warpgate short of memory would.
    pub(crate) fn forget_everybody(&self) {
        *self.principals.lock().unwrap() = Known::new();
    }

    pub(crate) fn vanish(mut self) {
        self.tasks.abort_all();
        self.connection.close(VarInt::from_u32(0), b"gone");
    }
}

async fn control(
    connection: quinn::Connection,
    hello: Hello,
    mut told: mpsc::UnboundedReceiver<Tell>,
    events: watch::Sender<Vec<WarpgateEvent>>,
) {
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    let mut session = WarpgateSession::new(Instant::now(), hello);
    loop {
        while let Some(event) = session.poll_event() {
            events.send_modify(|all| all.push(event));
        }
        while let Some(bytes) = session.poll_transmit() {
            if send.write_chunk(bytes).await.is_err() {
                session.handle_end_of_stream();
            }
        }
        let Some(timeout) = session.poll_timeout() else { return std::future::pending().await };
        tokio::select! {
            read = recv.read_chunk(usize::MAX, true) => match read {
                Ok(Some(chunk)) => session.handle_bytes(Instant::now(), chunk.bytes),
                _ => session.handle_end_of_stream(),
            },
            () = tokio::time::sleep_until(timeout.into()) => session.handle_timeout(Instant::now()),
            Some(tell) = told.recv() => match tell {
                Tell::Known(slot) => session.principal_known(slot),
                Tell::Probe(nonce) => session.request_probe(nonce),
                Tell::Withdraw(upstream) => session.withdraw(vec![upstream]),
                Tell::Drain => session.drain(Instant::now(), std::time::Duration::from_secs(30)),
            },
        }
    }
}

#[derive(Clone)]
struct Shared {
    log: Arc<Mutex<Vec<Seen>>>,
    principals: Arc<Mutex<Known<Claims>>>,
    tell: mpsc::UnboundedSender<Tell>,
    keys: Vec<Jwk>,
    clock: Clock,
}

async fn serve(connection: quinn::Connection, shared: Shared, handler: Arc<Handler>) {
    let mut exchanges = tokio::task::JoinSet::new();
    while let Ok((send, recv)) = connection.accept_bi().await {
        let (shared, handler) = (shared.clone(), Arc::clone(&handler));
        exchanges.spawn(async move {
            let mut exchange = Exchange::new(send, recv);
            match exchange.next().await {
                Some(Event::Request { head, end }) => {
                    exchange.whole = end;
                    let claims = match shared.identify(&head.identity) {
                        Ok(claims) => claims,
                        Err(code) => return exchange.fail(code, false).await,
                    };
                    shared.note(&head, claims);
                    exchange.head = Some(*head);
                    handler(exchange).await;
                }
                Some(Event::Probe { nonce }) => {
                    let mut encoder = Encoder::new();
                    encoder.probe_reply(nonce);
                    exchange.write(encoder.take()).await;
                    exchange.finish();
                }
                // Taken back before it was sent.
                None => {}
                other => panic!("an exchange began with {other:?}"),
            }
        });
    }
}

impl Shared {
    fn note(&self, head: &RequestHead, claims: Option<Claims>) {
        let mut log = self.log.lock().unwrap();
        if log.len() < LOG_LEN_MAX {
            log.push(Seen { head: head.clone(), claims });
        }
    }

    fn identify(&self, identity: &IdentityRef) -> Result<Option<Claims>, FailureCode> {
        match identity {
            IdentityRef::None => Ok(None),
            IdentityRef::Known(slot) => {
                let claims = self.principals.lock().unwrap().get(*slot).cloned();
                claims.map(Some).ok_or(FailureCode::UnknownPrincipal)
            }
            IdentityRef::Full { slot, assertion } => {
                let jws = std::str::from_utf8(assertion).unwrap();
                let audience = Audience { project: PROJECT, environment: ENVIRONMENT };
                let claims = assertion::verify(jws, &self.keys, audience, self.clock.now())
                    .map_err(|_| FailureCode::AssertionInvalid)?;
                if self.principals.lock().unwrap().remember(*slot, claims.clone()) {
                    drop(self.tell.send(Tell::Known(*slot)));
                }
                Ok(Some(claims))
            }
        }
    }
}

/// One exchange, in the hands of a test.
pub(crate) struct Exchange {
    pub(crate) send: SendStream,
    pub(crate) recv: RecvStream,
    decoder: Decoder,
    head: Option<RequestHead>,
    whole: bool,
}

impl Exchange {
    fn new(send: SendStream, recv: RecvStream) -> Self {
        Self { send, recv, decoder: Decoder::requests(), head: None, whole: false }
    }

    pub(crate) fn head(&self) -> &RequestHead {
        self.head.as_ref().unwrap()
    }

    /// The next event; `None` if the stream was reset or ended too early.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.decoder.poll().unwrap() {
                return Some(event);
            }
            let chunk = self.recv.read_chunk(usize::MAX, true).await.ok()??;
            self.decoder.push(chunk.bytes);
        }
    }

    /// The whole body and the trailers; `None` if it broke off.
    pub(crate) async fn body(&mut self) -> Option<(Vec<u8>, HeaderMap)> {
        let mut body = Vec::new();
        if self.whole {
            return Some((body, HeaderMap::new()));
        }
        loop {
            match self.next().await? {
                Event::Data(data) => body.extend_from_slice(&data),
                Event::Trailers(trailers) => return Some((body, trailers)),
                Event::End => return Some((body, HeaderMap::new())),
                other => panic!("a body with {other:?}"),
            }
        }
    }

    pub(crate) async fn write(&mut self, bytes: Bytes) -> bool {
        self.send.write_chunk(bytes).await.is_ok()
    }

    /// A whole response in one write.
    pub(crate) async fn respond(mut self, status: u16, fields: &[(&str, &str)], body: &[u8]) {
        let mut encoder = Encoder::new();
        encoder.response(&head(status, fields), body.is_empty()).unwrap();
        if !body.is_empty() {
            encoder.data(body);
            encoder.end();
        }
        self.write(encoder.take()).await;
        self.finish();
    }

    pub(crate) async fn begin(&mut self, status: u16, fields: &[(&str, &str)]) {
        let mut encoder = Encoder::new();
        encoder.response(&head(status, fields), false).unwrap();
        self.write(encoder.take()).await;
    }

    /// A head before the final one; `false` if the edge wants no more.
    pub(crate) async fn inform(&mut self, status: u16, fields: &[(&str, &str)]) -> bool {
        let mut encoder = Encoder::new();
        encoder.informational(&head(status, fields)).unwrap();
        self.write(encoder.take()).await
    }

    /// Switches protocols: from here on both sides speak raw.
    pub(crate) async fn switch(&mut self, fields: &[(&str, &str)]) {
        let mut encoder = Encoder::new();
        encoder.response(&head(101, fields), false).unwrap();
        encoder.raw();
        self.write(encoder.take()).await;
    }

    /// A piece of the body; `false` if the edge wants no more.
    pub(crate) async fn data(&mut self, data: Bytes) -> bool {
        let mut encoder = Encoder::new();
        encoder.data_header(data.len());
        self.write(encoder.take()).await && self.write(data).await
    }

    pub(crate) async fn end(mut self, trailers: Option<&[(&str, &str)]>) {
        let mut encoder = Encoder::new();
        match trailers {
            Some(fields) => encoder.trailers(&head(200, fields).headers).unwrap(),
            None => encoder.end(),
        }
        self.write(encoder.take()).await;
        self.finish();
    }

    pub(crate) async fn fail(mut self, code: FailureCode, started: bool) {
        let mut encoder = Encoder::new();
        encoder.failure(&Failure { code, detail: String::new(), started });
        self.write(encoder.take()).await;
        self.finish();
    }

    pub(crate) fn reset(mut self, code: ResetCode) {
        self.send.reset(VarInt::from_u32(code.number())).unwrap();
    }

    fn finish(&mut self) {
        drop(self.send.finish());
    }

    /// Waits until the edge wants no more of the response, and says why.
    pub(crate) async fn stopped(&self) -> ResetCode {
        let code = self.send.stopped().await.unwrap().unwrap();
        ResetCode::from_number(code.into_inner())
    }
}

pub(crate) fn head(status: u16, fields: &[(&str, &str)]) -> ResponseHead {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, HeaderValue::from_str(value).unwrap());
    }
    ResponseHead { status: StatusCode::from_u16(status).unwrap(), headers }
}
