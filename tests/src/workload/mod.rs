//! A workload that speaks every protocol a warpgate can be pointed at, behaves alike on all of them, and keeps a
//! log of what reached it: the judge of what got through, how whole, and how often.
//!
//! `behaviour` says what each path does. `call` is what a behaviour sees of an exchange; `h1` and `h2` make calls
//! from octets. The HTTP/1.1 side is written by hand, so that a proxy's faults do not cancel out against those of the
//! library it is built on.

mod behaviour;
mod call;
mod h1;
mod h2;
mod tls;
mod websocket;

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use aws_lc_rs::digest;
use bytes::Bytes;
use http::HeaderMap;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// One piece of a generated body; long enough that a body of gigabytes costs few calls.
const PIECE_LEN: usize = 64 * 1024;

/// Most exchanges that run on one connection at once, above what any warpgate asks for.
const STREAMS_MAX: u32 = 20_000;

/// What became of an exchange, as the workload saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It still runs.
    Running,
    /// Its request was read as far as the behaviour reads it, and its response was sent whole.
    Whole,
    /// The other side left before the response was whole.
    Cancelled,
    /// The request's body broke off.
    BodyCut,
    /// The workload broke off on purpose.
    CutHere,
}

/// One exchange as it arrived.
#[derive(Clone, Debug)]
pub struct Record {
    /// `h1`, `h2`.
    pub protocol: &'static str,
    /// Method; of an extended CONNECT the word `CONNECT`.
    pub method: String,
    /// Path and query, as sent.
    pub target: String,
    /// All headers, repeated ones too.
    pub headers: HeaderMap,
    /// Octets of the request's body that arrived.
    pub received: u64,
    /// What became of it.
    pub end: End,
    /// When it ended.
    pub ended_at: Option<Instant>,
}

impl Record {
    /// Every value of a header, as text.
    pub fn all(&self, name: &str) -> Vec<String> {
        let values = self.headers.get_all(name).iter();
        values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
    }
}

/// What all connections of a workload share.
#[derive(Debug)]
struct Shared {
    log: Mutex<Vec<Record>>,
    changed: watch::Sender<u64>,
    gates: Mutex<HashMap<String, watch::Sender<usize>>>,
    piece: Bytes,
}

impl Shared {
    fn new() -> Self {
        // No run of equal octets and no period that a lost or doubled packet could hide behind.
        let mut state = 0x9e37_79b9_u32;
        let piece = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        });
        Self {
            log: Mutex::default(),
            changed: watch::Sender::new(0),
            gates: Mutex::default(),
            piece: piece.take(PIECE_LEN).collect(),
        }
    }

    fn log(&self) -> MutexGuard<'_, Vec<Record>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A counter that behaviours and tests wait on by name.
    fn gate(&self, name: &str) -> watch::Sender<usize> {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        gates.entry(name.to_owned()).or_insert_with(|| watch::Sender::new(0)).clone()
    }

    fn begin(&self, record: Record) -> usize {
        let mut log = self.log();
        log.push(record);
        log.len() - 1
    }

    fn end(&self, index: usize, end: End, received: u64) {
        if let Some(record) = self.log().get_mut(index) {
            record.end = end;
            record.received = received;
            record.ended_at = Some(Instant::now());
        }
        self.changed.send_modify(|version| *version += 1);
    }

    /// The pieces of a generated body of `len` octets.
    fn pieces(&self, len: u64) -> impl Iterator<Item = Bytes> + Send + use<> {
        let piece = self.piece.clone();
        let mut left = len;
        std::iter::from_fn(move || {
            let now = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE_LEN);
            left -= now as u64;
            (now > 0).then(|| piece.slice(..now))
        })
    }
}

/// A running workload: four listeners, one behaviour. Stops when dropped.
#[derive(Debug)]
pub struct Workload {
    shared: Arc<Shared>,
    folder: TempDir,
    plain: SocketAddr,
    clear_h2: SocketAddr,
    tls: SocketAddr,
    listeners: Vec<JoinHandle<()>>,
}

impl Workload {
    /// Starts one on free loopback ports and a socket of its own.
    pub async fn start() -> anyhow::Result<Self> {
        let shared = Arc::new(Shared::new());
        let folder = tempfile::tempdir()?;
        let acceptor = tls::acceptor(folder.path())?;
        let (plain, clear_h2, secured) = (listen().await?, listen().await?, listen().await?);
        let local = UnixListener::bind(folder.path().join("socket"))?;
        let addresses = (plain.local_addr()?, clear_h2.local_addr()?, secured.local_addr()?);
        let listeners = vec![
            tokio::spawn(accept_tcp(plain, Arc::clone(&shared), |stream, shared| {
                h1::serve(Box::new(stream), shared)
            })),
            tokio::spawn(accept_tcp(clear_h2, Arc::clone(&shared), |stream, shared| {
                h2::serve(Box::new(stream), shared)
            })),
            tokio::spawn(accept_tcp(secured, Arc::clone(&shared), move |stream, shared| {
                tls::serve(acceptor.clone(), stream, shared)
            })),
            tokio::spawn(accept_unix(local, Arc::clone(&shared))),
        ];
        let (plain, clear_h2, tls) = addresses;
        Ok(Self { shared, folder, plain, clear_h2, tls, listeners })
    }

    /// Where a warpgate finds it by HTTP/1.1.
    pub fn h1(&self) -> String {
        format!("http://{}", self.plain)
    }

    /// Where a warpgate finds it by HTTP/2 without TLS.
    pub fn h2c(&self) -> String {
        format!("h2c://{}", self.clear_h2)
    }

    /// Where a warpgate finds it by HTTP/2, or HTTP/1.1, over TLS; the certificate is for `localhost`.
    pub fn https(&self) -> String {
        format!("https://localhost:{}", self.tls.port())
    }

    /// Where a warpgate finds it by HTTP/1.1 on a local socket.
    pub fn unix(&self) -> String {
        format!("unix:{}", self.folder.path().join("socket").display())
    }

    /// The CA that signed its certificate, PEM.
    pub fn ca(&self) -> PathBuf {
        tls::ca(self.folder.path())
    }

    /// Its certificate and key, PEM: another upstream of a test may use them.
    pub fn certificate(&self) -> (PathBuf, PathBuf) {
        tls::certificate(self.folder.path())
    }

    /// Every exchange whose path (without its query) is this.
    pub fn seen(&self, path: &str) -> Vec<Record> {
        let at = |record: &&Record| record.target.split('?').next() == Some(path);
        self.shared.log().iter().filter(at).cloned().collect()
    }

    /// Forgets the log.
    pub fn forget(&self) {
        self.shared.log().clear();
    }

    /// Lets what waits at this gate go on.
    pub fn release(&self, gate: &str) {
        self.shared.gate(gate).send_modify(|count| *count += 1);
    }

    /// Waits until an exchange at `path` has ended, and gives it.
    pub async fn ended(&self, path: &str, within: Duration) -> anyhow::Result<Record> {
        let mut changed = self.shared.changed.subscribe();
        let search = async {
            loop {
                changed.borrow_and_update();
                if let Some(record) = self.seen(path).into_iter().find(|record| record.end != End::Running) {
                    return anyhow::Ok(record);
                }
                changed.changed().await?;
            }
        };
        let found = tokio::time::timeout(within, search).await;
        found.with_context(|| format!("{path}: nothing ended in {within:?}; seen: {:?}", self.seen(path)))?
    }

    /// Waits until `count` exchanges at `path` have begun.
    pub async fn begun(&self, path: &str, count: usize, within: Duration) -> anyhow::Result<()> {
        const LOOK_AGAIN: Duration = Duration::from_millis(2);
        let search = async {
            while self.seen(path).len() < count {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        tokio::time::timeout(within, search)
            .await
            .with_context(|| format!("{path}: {} of {count} began in {within:?}", self.seen(path).len()))
    }

    /// SHA-256 of a generated body of this length, in hexadecimal.
    pub fn digest(&self, len: u64) -> String {
        let mut context = digest::Context::new(&digest::SHA256);
        self.shared.pieces(len).for_each(|piece| context.update(&piece));
        hex(context.finish().as_ref())
    }

    /// A generated body.
    pub fn body(&self, len: u64) -> Vec<u8> {
        self.shared.pieces(len).fold(Vec::new(), |mut body, piece| {
            body.extend_from_slice(&piece);
            body
        })
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        self.listeners.iter().for_each(JoinHandle::abort);
    }
}

/// Octets in both directions, whatever carries them.
trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

async fn listen() -> std::io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await
}

async fn accept_tcp<S, F>(listener: TcpListener, shared: Arc<Shared>, serve: S)
where
    S: Fn(tokio::net::TcpStream, Arc<Shared>) -> F,
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    // Connections end with the listener.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        if stream.set_nodelay(true).is_ok() {
            connections.spawn(serve(stream, Arc::clone(&shared)));
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn accept_unix(listener: UnixListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(h1::serve(Box::new(stream), Arc::clone(&shared)));
        while connections.try_join_next().is_some() {}
    }
}

/// Where TLS keeps what a test may need of it.
fn at(folder: &Path, name: &str) -> PathBuf {
    folder.join(name)
}

fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |text, octet| text + &format!("{octet:02x}"))
}
