//! Real TCP servers as upstreams, honest and malicious.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What an upstream saw.
#[derive(Clone, Default)]
pub struct Seen {
    requests: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
}

impl Seen {
    /// Request heads, as they came.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Connections that are open now.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}

/// A connection of an upstream, with the request head read.
pub struct Conversation {
    pub stream: TcpStream,
    pub head: String,
    /// Requests on this connection before this one.
    pub before: usize,
    pub rest: Vec<u8>,
}

/// Starts an upstream that reads request heads and leaves the rest to `serve`, which says whether to go on.
pub async fn start<F, Fut>(serve: F) -> (SocketAddr, Seen)
where
    F: Fn(Conversation) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Option<TcpStream>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (seen, serve) = (Seen::default(), Arc::new(serve));
    let told = seen.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (seen, serve) = (told.clone(), Arc::clone(&serve));
            seen.connections.fetch_add(1, Ordering::SeqCst);
            seen.open.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let mut next = Some(stream);
                let mut before = 0;
                while let Some(mut stream) = next.take() {
                    let Some((head, rest)) = read_head(&mut stream).await else { break };
                    seen.requests.lock().unwrap().push(head.clone());
                    next = serve(Conversation { stream, head, before, rest }).await;
                    before += 1;
                }
                seen.open.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
    (address, seen)
}

/// An upstream that gives the same answer to every request without a body.
pub async fn fixed(answer: impl Into<Vec<u8>>) -> (SocketAddr, Seen) {
    let answer = answer.into();
    start(move |mut conversation| {
        let answer = answer.clone();
        async move {
            conversation.stream.write_all(&answer).await.ok()?;
            Some(conversation.stream)
        }
    })
    .await
}

pub const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

/// The value of every line of the request head with this name.
pub fn values<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    let lines = head.split("\r\n").skip(1);
    let fields = lines.filter_map(|line| line.split_once(':'));
    fields.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
}

/// Reads until `len` octets of body are there.
pub async fn read_exactly(conversation: &mut Conversation, len: usize) -> Vec<u8> {
    let mut body = std::mem::take(&mut conversation.rest);
    let mut buffer = vec![0; 65536];
    while body.len() < len {
        let octets = conversation.stream.read(&mut buffer).await.unwrap();
        assert_ne!(octets, 0, "the body broke off");
        body.extend_from_slice(&buffer[..octets]);
    }
    body
}

/// Reads until this text was read.
pub async fn read_until(conversation: &mut Conversation, end: &str) -> Vec<u8> {
    let mut body = std::mem::take(&mut conversation.rest);
    let mut buffer = vec![0; 65536];
    while !body.ends_with(end.as_bytes()) {
        let octets = conversation.stream.read(&mut buffer).await.unwrap();
        assert_ne!(octets, 0, "the body broke off");
        body.extend_from_slice(&buffer[..octets]);
    }
    body
}

async fn read_head(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 65536];
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            return Some((String::from_utf8(bytes).unwrap(), rest));
        }
        let octets = stream.read(&mut buffer).await.ok()?;
        if octets == 0 {
            return None;
        }
        bytes.extend_from_slice(&buffer[..octets]);
    }
}

/// Answers at once, except `GET /slow`, which it answers once `released` fires.
pub async fn waiting(released: tokio::sync::oneshot::Receiver<()>) -> SocketAddr {
    let released = Mutex::new(Some(released));
    let (address, _) = start(move |mut conversation| {
        let wait =
            if conversation.head.starts_with("GET /slow") { released.lock().unwrap().take() } else { None };
        async move {
            if let Some(wait) = wait {
                wait.await.ok()?;
            }
            conversation.stream.write_all(OK.as_bytes()).await.ok()?;
            Some(conversation.stream)
        }
    })
    .await;
    address
}
