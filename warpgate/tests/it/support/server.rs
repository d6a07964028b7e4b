//! Upstreams that speak HTTP/2, TLS, or sit behind a socket in the file system.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener};
use tokio_rustls::TlsAcceptor;

/// A test CA and one server certificate of it.
pub struct Authority {
    pub pem: String,
    chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
    /// The pin of the server's public key.
    pub pin: String,
}

impl Authority {
    /// With a server certificate for these names and addresses.
    pub fn new(names: &[&str]) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let leaf = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
        let spki = rcgen::PublicKeyData::subject_public_key_info(&key);
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &spki);
        let pin = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, digest);
        Self {
            pem: issuer.pem(),
            chain: vec![leaf.der().clone()],
            key: key.serialize_der(),
            pin: format!("sha256//{pin}"),
        }
    }

    fn acceptor(&self, protocols: &[&str]) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), PrivatePkcs8KeyDer::from(self.key.clone()).into())
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// What upstreams of this kind note.
#[derive(Clone, Default)]
pub struct Noted {
    lines: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
    /// Refuse so many requests before one is answered.
    pub refuse: Arc<AtomicUsize>,
    /// Say goodbye after the next answer.
    pub goodbye: Arc<AtomicUsize>,
    /// Answer `/health` with this.
    pub health: Arc<AtomicUsize>,
}

impl Noted {
    pub fn note(&self, line: impl Into<String>) {
        self.lines.lock().unwrap().push(line.into());
    }

    /// Whether a line like this was noted.
    pub fn has(&self, line: &str) -> bool {
        self.lines.lock().unwrap().iter().any(|noted| noted == line)
    }

    pub fn count(&self, line: &str) -> usize {
        self.lines.lock().unwrap().iter().filter(|noted| *noted == line).count()
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// HTTP/2 without TLS; `switches`: it offers extended CONNECT.
pub async fn h2c(switches: bool) -> (SocketAddr, Noted) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, noted) = (listener.local_addr().unwrap(), Noted::default());
    let told = noted.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve_h2(stream, told.clone(), switches));
        }
    });
    (address, noted)
}

/// TLS with these protocols; what is agreed on is spoken.
pub async fn https(authority: &Authority, protocols: &[&str]) -> (SocketAddr, Noted) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, noted) = (listener.local_addr().unwrap(), Noted::default());
    let (acceptor, told) = (authority.acceptor(protocols), noted.clone());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, told) = (acceptor.clone(), told.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                    serve_h2(stream, told, false).await;
                } else {
                    serve_h1(stream, told).await;
                }
            });
        }
    });
    (address, noted)
}

/// HTTP/1.1 behind a socket in the file system.
pub fn unix() -> (tempfile::TempDir, PathBuf, Noted) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.sock");
    let (listener, noted) = (UnixListener::bind(&path).unwrap(), Noted::default());
    let told = noted.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve_h1(stream, told.clone()));
        }
    });
    (directory, path, noted)
}

/// Says this as soon as somebody connects, and nothing more.
pub async fn speaks_first(words: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                drop(stream.write_all(words.as_bytes()).await);
                let mut sink = [0; 1024];
                while stream.read(&mut sink).await.is_ok_and(|octets| octets > 0) {}
            });
        }
    });
    address
}

/// Answers every request with what it saw and the body it got.
pub async fn serve_h1<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, noted: Noted) {
    noted.connections.fetch_add(1, Ordering::SeqCst);
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 65536];
    loop {
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
            match stream.read(&mut buffer).await {
                Ok(octets) if octets > 0 => bytes.extend_from_slice(&buffer[..octets]),
                _ => return,
            }
            continue;
        };
        let rest = bytes.split_off(end + 4);
        let head = String::from_utf8(std::mem::replace(&mut bytes, rest)).unwrap();
        let value = |name| super::upstream::values(&head, name).first().copied().unwrap_or_default();
        let length: usize = value("content-length").parse().unwrap_or(0);
        while bytes.len() < length {
            let octets = stream.read(&mut buffer).await.unwrap();
            assert_ne!(octets, 0, "the body broke off");
            bytes.extend_from_slice(&buffer[..octets]);
        }
        let rest = bytes.split_off(length);
        let body = std::mem::replace(&mut bytes, rest);
        let first = head.lines().next().unwrap_or_default();
        noted.note(first);
        if value("upgrade") == "websocket" {
            let accept = websocket_accept(value("sec-websocket-key"));
            let answer = format!(
                "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                 sec-websocket-accept: {accept}\r\n\r\nhello"
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
            let (mut from, mut to) = tokio::io::split(stream);
            drop(tokio::io::copy(&mut from, &mut to).await);
            noted.note("websocket over");
            return;
        }
        let saw = format!("{first} | {} | {}", value("host"), value("te"));
        let answer = format!(
            "HTTP/1.1 200 OK\r\nx-saw: {saw}\r\nx-mail: [{}]\r\ncontent-length: {}\r\n\r\n",
            value("mezu-user-email"),
            if head.starts_with("HEAD") { 0 } else { body.len() }
        );
        stream.write_all(&[answer.as_bytes(), &body].concat()).await.unwrap();
    }
}

pub fn websocket_accept(key: &str) -> String {
    let joined = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, joined.as_bytes());
    base64::Engine::encode(&base64::engine::general_purpose::STANDARD, digest)
}

/// Speaks HTTP/2: each path is a behaviour.
pub async fn serve_h2<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    io: S,
    noted: Noted,
    switches: bool,
) {
    noted.connections.fetch_add(1, Ordering::SeqCst);
    let mut builder = h2::server::Builder::new();
    if switches {
        builder.enable_connect_protocol();
    }
    let Ok(mut connection) = builder.handshake::<_, Bytes>(io).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        if noted.goodbye.load(Ordering::SeqCst) > 0 {
            noted.goodbye.fetch_sub(1, Ordering::SeqCst);
            connection.graceful_shutdown();
        }
        tokio::spawn(answer(request, respond, noted.clone()));
    }
}

fn head(status: u16) -> Response<()> {
    Response::builder().status(status).body(()).unwrap()
}

#[expect(clippy::too_many_lines, reason = "a table of behaviours")]
async fn answer(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, noted: Noted) {
    let (parts, mut body) = request.into_parts();
    noted.note(format!("{} {}", parts.method, parts.uri.path()));
    let field = |name: &str| {
        let value = parts.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        value.unwrap_or_default()
    };
    if parts.method == Method::CONNECT {
        let protocol = parts.extensions.get::<h2::ext::Protocol>().unwrap();
        noted.note(format!("{} {}", protocol.as_str(), field("sec-websocket-version")));
        if parts.uri.path() == "/forbidden" {
            drop(respond.send_response(head(403), true));
            return;
        }
        let mut send = respond.send_response(head(200), false).unwrap();
        send.send_data(Bytes::from_static(b"hello"), false).unwrap();
        copy(&mut body, &mut send, true).await;
        noted.note("websocket over");
        return;
    }
    let refusals = noted.refuse.load(Ordering::SeqCst);
    if refusals > 0 && parts.method != Method::HEAD {
        noted.refuse.store(refusals - 1, Ordering::SeqCst);
        return respond.send_reset(Reason::REFUSED_STREAM);
    }
    match parts.uri.path() {
        "/health" => {
            let status = u16::try_from(noted.health.load(Ordering::SeqCst)).unwrap();
            drop(respond.send_response(head(if status == 0 { 200 } else { status }), true));
        }
        "/grpc" => {
            let mut send = respond.send_response(head(200), false).unwrap();
            let trailers = copy(&mut body, &mut send, false).await;
            let mut answer = HeaderMap::new();
            answer.insert("grpc-status", "0".parse().unwrap());
            answer.insert("mezu-x", "1".parse().unwrap());
            if let Some(sum) = trailers.as_ref().and_then(|trailers| trailers.get("x-sum")) {
                answer.insert("x-sum", sum.clone());
            }
            send.send_trailers(answer).unwrap();
        }
        "/trailers-only" => {
            let answer = Response::builder().header("grpc-status", "12").body(()).unwrap();
            respond.send_response(answer, true).unwrap();
        }
        "/interim" => {
            let hints = Response::builder().status(103).header("link", "</a.css>").body(()).unwrap();
            respond.send_informational(hints).unwrap();
            if field("expect") == "100-continue" {
                respond.send_informational(head(100)).unwrap();
            }
            let mut send = respond.send_response(head(200), false).unwrap();
            copy(&mut body, &mut send, true).await;
        }
        "/endless-interim" => loop {
            if respond.send_informational(head(103)).is_err() {
                return;
            }
            tokio::task::yield_now().await;
        },
        path if path.starts_with("/cut/") => {
            let reason = match path {
                "/cut/cancel" => Reason::CANCEL,
                "/cut/no-error" => Reason::NO_ERROR,
                _ => Reason::INTERNAL_ERROR,
            };
            let mut send = respond.send_response(head(200), false).unwrap();
            send.send_data(Bytes::from_static(b"half"), false).unwrap();
            // So that the half is on its way before the reset throws away what is not.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            send.send_reset(reason);
        }
        "/lies/longer" | "/lies/shorter" => {
            let length = if parts.uri.path() == "/lies/longer" { "9" } else { "2" };
            let answer = Response::builder().header("content-length", length).body(()).unwrap();
            let mut send = respond.send_response(answer, false).unwrap();
            drop(send.send_data(Bytes::from_static(b"hello"), true));
        }
        "/early" => {
            let answer = Response::builder().status(413).header("content-length", "3").body(()).unwrap();
            let mut send = respond.send_response(answer, false).unwrap();
            send.send_data(Bytes::from_static(b"big"), true).unwrap();
            drop(send);
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            respond.send_reset(Reason::NO_ERROR);
        }
        "/never" => {
            let reason = std::future::poll_fn(|context| respond.poll_reset(context)).await;
            noted.note(format!("reset {:?}", reason.unwrap()));
        }
        "/endless" => {
            let mut send = respond.send_response(head(200), false).unwrap();
            while send_all(&mut send, Bytes::from(vec![1; 65536])).await {}
        }
        _ => {
            let saw = format!(
                "{} {} | {} | {}",
                parts.method,
                parts.uri.path_and_query().unwrap(),
                parts.uri.authority().unwrap(),
                field("te")
            );
            let answer = Response::builder()
                .status(StatusCode::OK)
                .header("x-saw", saw)
                .header("x-mail", format!("[{}]", field("mezu-user-email")))
                .body(())
                .unwrap();
            let mut send = respond.send_response(answer, false).unwrap();
            copy(&mut body, &mut send, true).await;
        }
    }
}

/// Sends back what comes; gives the trailers.
async fn copy(body: &mut RecvStream, to: &mut SendStream<Bytes>, end: bool) -> Option<HeaderMap> {
    while let Some(Ok(piece)) = body.data().await {
        body.flow_control().release_capacity(piece.len()).unwrap();
        if !send_all(to, piece).await {
            return None;
        }
    }
    let trailers = body.trailers().await.ok().flatten();
    if end {
        drop(to.send_data(Bytes::new(), true));
    }
    trailers
}

async fn send_all(to: &mut SendStream<Bytes>, mut piece: Bytes) -> bool {
    while !piece.is_empty() {
        to.reserve_capacity(piece.len());
        match std::future::poll_fn(|context| to.poll_capacity(context)).await {
            Some(Ok(capacity)) => {
                if to.send_data(piece.split_to(capacity.min(piece.len())), false).is_err() {
                    return false;
                }
            }
            _ => return false,
        }
    }
    true
}
