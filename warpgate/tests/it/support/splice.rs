//! The TCP side of an edge that passes enrollment on to control unopened: whoever connects meets control's TLS.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use mezusphere_pki::tls::connect_server_config;
use mezusphere_pki::{CurrentIdentity, NodeIdentity};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;
use tokio_util::task::AbortOnDropHandle;
use tunnel_proto::connect::{Decoder, Request, frame};

use super::Platform;

pub struct Splice {
    seen: Arc<Seen>,
    _accepting: AbortOnDropHandle<()>,
}

#[derive(Default)]
struct Seen {
    names: Mutex<Vec<String>>,
    questions: AtomicUsize,
    is_away: AtomicBool,
}

impl Splice {
    /// Listens on TCP at `address`; control shows `identity`.
    pub fn start(platform: &Arc<Platform>, address: SocketAddr, identity: NodeIdentity) -> Self {
        let trust = platform.trust();
        let alpn = [tunnel_proto::CONNECT_ALPN];
        let tls = connect_server_config(&CurrentIdentity::new(identity), &trust, &platform.clock(), &alpn);
        let tls = Arc::new(tls.unwrap());
        let listener = std::net::TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let seen = Arc::new(Seen::default());
        let (platform, accepted) = (Arc::clone(platform), Arc::clone(&seen));
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (platform, seen) = (Arc::clone(&platform), Arc::clone(&accepted));
                tokio::spawn(serve(platform, seen, Arc::clone(&tls), stream));
            }
        });
        Self { seen, _accepting: AbortOnDropHandle::new(accepting) }
    }

    /// Every control node is away: connections are closed after the hello.
    pub fn lose_control(&self) {
        self.seen.is_away.store(true, Ordering::SeqCst);
    }

    /// The server names that were asked for.
    pub fn names(&self) -> Vec<String> {
        self.seen.names.lock().unwrap().clone()
    }

    /// Messages that were read.
    pub fn questions(&self) -> usize {
        self.seen.questions.load(Ordering::SeqCst)
    }
}

async fn serve(
    platform: Arc<Platform>,
    seen: Arc<Seen>,
    tls: Arc<rustls::ServerConfig>,
    stream: TcpStream,
) -> Option<()> {
    let start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream).await.ok()?;
    let name = start.client_hello().server_name().unwrap_or_default().to_owned();
    seen.names.lock().unwrap().push(name);
    if seen.is_away.load(Ordering::SeqCst) {
        return None;
    }
    let mut stream = start.into_stream(tls).await.ok()?;
    let mut decoder = Decoder::new();
    let mut buffer = vec![0; 65_536];
    loop {
        let octets = stream.read(&mut buffer).await.ok().filter(|octets| *octets > 0)?;
        if decoder.push(&buffer[..octets]).unwrap() {
            break;
        }
    }
    seen.questions.fetch_add(1, Ordering::SeqCst);
    let reply = platform.answer(&Request::from_json(&decoder.finish().unwrap()).unwrap());
    stream.write_all(&frame(&reply.to_json().unwrap()).unwrap()).await.ok()?;
    stream.shutdown().await.ok()
}
