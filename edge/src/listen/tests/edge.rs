//! A whole edge: started, fed, asked, and ended.

use std::io;
use std::sync::{Arc, Mutex};

use mezusphere_model::document::{Document, DocumentKey, Partition};
use mezusphere_model::seal::{Seal, UnsealError};
use mezusphere_store::Replica;
use mezusphere_store::feed::{
    AppliedReport, Bell, Changes, Cursor, Digest, Epoch, FeedError, FeedSource, Filed, Head, SnapshotPage,
    Wake,
};
use mezusphere_telemetry::Metrics;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::*;
use crate::config::{EdgeConfig, EdgeParts, StartError};
use crate::listen::edge::Edge;

/// Publishes one certificate in the platform's partition; each change is a new life of the feed.
struct OneCertificate {
    now: Mutex<(u128, CertificateDoc)>,
    bell: Bell,
}

impl OneCertificate {
    fn publish(&self, document: CertificateDoc) {
        let mut now = self.now.lock().unwrap();
        *now = (now.0 + 1, document);
        drop(now);
        self.bell.ring([Partition::Platform].into());
    }

    fn cursor(&self) -> Cursor {
        Cursor { epoch: Epoch(self.now.lock().unwrap().0), revision: 1, digest: Digest([7; 32]) }
    }
}

impl FeedSource for OneCertificate {
    fn heads(&self) -> Answer<'_, Result<Vec<Head>, FeedError>> {
        Box::pin(async { Ok(vec![Head { partition: Partition::Platform, cursor: self.cursor() }]) })
    }

    fn snapshot(
        &self,
        _: Partition,
        _: Option<DocumentKey>,
        _: usize,
    ) -> Answer<'_, Result<SnapshotPage, FeedError>> {
        Box::pin(async {
            let document = Document::Certificate(self.now.lock().unwrap().1.clone());
            let body = serde_json::value::to_raw_value(&document).unwrap();
            Ok(SnapshotPage {
                cursor: self.cursor(),
                documents: vec![Filed { key: document.key(), body }],
                more: false,
            })
        })
    }

    fn changes(&self, _: Partition, since: Cursor, _: usize) -> Answer<'_, Result<Changes, FeedError>> {
        let fits = since == self.cursor();
        Box::pin(async move {
            if fits {
                Ok(Changes::Entries { entries: Vec::new(), more: false })
            } else {
                Ok(Changes::StartOver)
            }
        })
    }

    fn applied(&self, _: Vec<AppliedReport>) -> Answer<'_, Result<(), FeedError>> {
        Box::pin(async { Ok(()) })
    }

    fn wake(&self) -> Wake {
        self.bell.listen()
    }
}

/// Seals nothing: what is sealed is the store's to prove.
struct Open;

impl Seal for Open {
    fn seal(&self, _: &str, secret: &[u8]) -> Vec<u8> {
        secret.to_vec()
    }

    fn open(&self, _: &str, sealed: &[u8]) -> Result<Vec<u8>, UnsealError> {
        Ok(sealed.to_vec())
    }
}

/// What an edge is started with, and what must outlive it.
struct Ground {
    trust: TestTrust,
    replica: Arc<Replica>,
    source: Arc<OneCertificate>,
    _follower: mezusphere_store::replica::Follower,
    _dir: tempfile::TempDir,
}

impl Ground {
    async fn new(names: &[&str]) -> Self {
        let trust = TestTrust::new(&now());
        let dir = tempfile::tempdir().unwrap();
        let replica = Arc::new(Replica::open(dir.path(), now(), Arc::new(Open)).unwrap());
        let source =
            Arc::new(OneCertificate { now: Mutex::new((1, trust.public(names))), bell: Bell::new() });
        let follower = replica.follow(Arc::clone(&source) as _, "edge".to_owned(), Entropy::counting());
        timeout(SOON, follower.caught_up()).await.expect("the replica did not catch up");
        Self { trust, replica, source, _follower: follower, _dir: dir }
    }

    fn start(&self, public: SocketAddr) -> Result<Edge, StartError> {
        let id = EdgeId::from_bits(1);
        let config = EdgeConfig {
            id,
            region: "test".to_owned(),
            public,
            plain_http: Some("127.0.0.1:0".parse().unwrap()),
            workers: NonZeroUsize::new(2).unwrap(),
            platform: Platform::development(0).unwrap(),
            limits: Limits::default(),
        };
        let platform = tower::service_fn(|request: Request<Body>| async move {
            let mut response = Response::new(no_body());
            response.headers_mut().insert("x-host", request.uri().host().unwrap_or("-").parse().unwrap());
            Ok::<_, std::convert::Infallible>(response)
        });
        Edge::start(
            config,
            EdgeParts {
                replica: Arc::clone(&self.replica),
                identity: CurrentIdentity::new(self.trust.identity(Role::Edge(id))),
                trust: self.trust.current(),
                link: Arc::new(EchoLink),
                platform: tower::util::BoxCloneSyncService::new(platform),
                clock: now(),
                entropy: Entropy::counting(),
                metrics: Metrics::new("test"),
            },
        )
    }

    /// The status line and fields of an answer to a GET over TLS for `host`.
    async fn get(&self, edge: &Edge, host: &str) -> io::Result<String> {
        let tls = TlsConnector::from(Arc::new(client_tls(&self.trust, &[ALPN_H1])));
        let stream = TcpStream::connect(edge.local_addr()).await?;
        let mut stream = tls.connect(ServerName::try_from(host.to_owned()).unwrap(), stream).await?;
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

const ANY: &str = "127.0.0.1:0";

#[tokio::test]
async fn an_edge_serves_every_protocol_on_one_port_and_ends_cleanly() {
    let ground = Ground::new(&[HOST, "login.mezu.localhost"]).await;
    let edge = ground.start(ANY.parse().unwrap()).unwrap();
    let answer = ground.get(&edge, HOST).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 404"), "a host nobody published: {answer}");
    let port = edge.local_addr().port();
    assert!(answer.contains(&format!("alt-svc: h3=\":{port}\"; ma=86400")), "{answer}");
    let answer = ground.get(&edge, "login.mezu.localhost").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "the platform's own host: {answer}");

    let mut endpoint = quinn::Endpoint::client(ANY.parse().unwrap()).unwrap();
    let tls = client_tls(&ground.trust, &[ALPN_H3]);
    let config = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(config)));
    let connection = endpoint.connect(edge.local_addr(), HOST).unwrap().await.unwrap();

    timeout(SOON, edge.drain(SOON)).await.expect("the edge did not end");
    assert!(timeout(SOON, connection.closed()).await.is_ok());
}

#[tokio::test]
async fn plain_http_leads_known_hosts_to_https_and_nobody_else_anywhere() {
    let ground = Ground::new(&[HOST]).await;
    let edge = ground.start(ANY.parse().unwrap()).unwrap();
    let port = edge.local_addr().port();
    let ask = async |request: String| {
        let mut stream = TcpStream::connect(edge.plain_http_addr().unwrap()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(SOON, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        answer
    };
    let get = ask(format!("GET /a?b=c HTTP/1.1\r\nHost: {HOST}:80\r\nConnection: close\r\n\r\n")).await;
    assert!(get.starts_with("HTTP/1.1 301"), "{get}");
    assert!(get.contains(&format!("location: https://{HOST}:{port}/a?b=c\r\n")), "{get}");
    let other =
        ask(format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"))
            .await;
    assert!(other.starts_with("HTTP/1.1 308"), "{other}");
    for unknown in ["Host: evil.example\r\n", "", "Host: shop.localhost\r\nHost: evil.example\r\n"] {
        let answer = ask(format!("GET / HTTP/1.1\r\n{unknown}Connection: close\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 404") && !answer.contains("location"), "{answer}");
    }
    edge.drain(SOON).await;
}

#[tokio::test]
async fn a_published_certificate_is_used_without_a_restart() {
    let ground = Ground::new(&["old.localhost"]).await;
    let edge = ground.start(ANY.parse().unwrap()).unwrap();
    assert!(ground.get(&edge, HOST).await.is_err());
    ground.source.publish(ground.trust.public(&["old.localhost", HOST]));
    let served = async {
        while ground.get(&edge, HOST).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, served).await.expect("the new certificate was never used");
    edge.drain(SOON).await;
}

#[tokio::test]
async fn a_taken_port_is_one_clear_error_and_nothing_runs() {
    let ground = Ground::new(&[HOST]).await;
    let first = ground.start(ANY.parse().unwrap()).unwrap();
    let error = ground.start(first.local_addr()).map(|_| ()).unwrap_err();
    assert!(
        error.to_string().starts_with(&format!("cannot listen on TCP {}: ", first.local_addr())),
        "{error}"
    );
    first.drain(SOON).await;
}
