//! What a whole edge stands on in a test: authorities, a feed that the test writes, a replica on disk.

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
use crate::config::{EdgeConfig, EdgeParts, PlatformHosts, StartError};
use crate::listen::edge::Edge;

/// Publishes documents; each change is a new life of the feed.
pub(super) struct Published {
    now: Mutex<(u128, Vec<(Partition, Document)>)>,
    bell: Bell,
}

impl Published {
    /// Publishes in the platform's partition.
    pub(super) fn publish(&self, documents: Vec<Document>) {
        self.publish_in(documents.into_iter().map(|document| (Partition::Platform, document)).collect());
    }

    pub(super) fn publish_in(&self, documents: Vec<(Partition, Document)>) {
        let mut now = self.now.lock().unwrap();
        *now = (now.0 + 1, documents);
        drop(now);
        self.bell.ring(self.partitions().into_iter().collect());
    }

    fn partitions(&self) -> Vec<Partition> {
        let mut partitions = vec![Partition::Platform];
        partitions.extend(self.now.lock().unwrap().1.iter().map(|(partition, _)| *partition));
        partitions.sort_unstable();
        partitions.dedup();
        partitions
    }

    fn cursor(&self) -> Cursor {
        Cursor { epoch: Epoch(self.now.lock().unwrap().0), revision: 1, digest: Digest([7; 32]) }
    }
}

impl FeedSource for Published {
    fn heads(&self) -> Answer<'_, Result<Vec<Head>, FeedError>> {
        let head = |partition| Head { partition, cursor: self.cursor() };
        let heads = self.partitions().into_iter().map(head).collect();
        Box::pin(async { Ok(heads) })
    }

    fn snapshot(
        &self,
        partition: Partition,
        _: Option<DocumentKey>,
        _: usize,
    ) -> Answer<'_, Result<SnapshotPage, FeedError>> {
        Box::pin(async move {
            let documents = self.now.lock().unwrap().1.clone();
            let filed = |(_, document): &(Partition, Document)| {
                let body = serde_json::value::to_raw_value(document).unwrap();
                Filed { key: document.key(), body }
            };
            let here = documents.iter().filter(|(filed, _)| *filed == partition);
            let mut documents: Vec<_> = here.map(filed).collect();
            documents.sort_by(|one, other| one.key.cmp(&other.key));
            Ok(SnapshotPage { cursor: self.cursor(), documents, more: false })
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
pub(super) struct Ground {
    pub(super) trust: TestTrust,
    replica: Arc<Replica>,
    pub(super) source: Arc<Published>,
    _follower: mezusphere_store::replica::Follower,
    _dir: tempfile::TempDir,
}

impl Ground {
    pub(super) async fn new(names: &[&str]) -> Self {
        let trust = TestTrust::new(&now());
        let dir = tempfile::tempdir().unwrap();
        let replica = Arc::new(Replica::open(dir.path(), now(), Arc::new(Open)).unwrap());
        let documents = vec![(Partition::Platform, Document::Certificate(trust.public(names)))];
        let source = Arc::new(Published { now: Mutex::new((1, documents)), bell: Bell::new() });
        let follower = replica.follow(Arc::clone(&source) as _, "edge".to_owned(), Entropy::counting());
        timeout(SOON, follower.caught_up()).await.expect("the replica did not catch up");
        Self { trust, replica, source, _follower: follower, _dir: dir }
    }

    pub(super) fn start(&self, public: SocketAddr) -> Result<Edge, StartError> {
        let platform = tower::service_fn(|request: Request<Body>| async move {
            let mut response = Response::new(no_body());
            response.headers_mut().insert("x-host", request.uri().host().unwrap_or("-").parse().unwrap());
            Ok::<_, std::convert::Infallible>(response)
        });
        self.start_with(public, PlatformHosts::Service(PlatformService::new(platform)))
    }

    pub(super) fn start_with(&self, public: SocketAddr, platform: PlatformHosts) -> Result<Edge, StartError> {
        let id = EdgeId::from_bits(1);
        let control = || CurrentIdentity::new(self.trust.identity(Role::Control(ControlId::from_bits(1))));
        let enroll = matches!(platform, PlatformHosts::Service(_)).then(control);
        let config = EdgeConfig {
            id,
            region: "test".to_owned(),
            public,
            plain_http: Some("127.0.0.1:0".parse().unwrap()),
            workers: NonZeroUsize::new(2).unwrap(),
            platform: Platform::development(0).unwrap(),
            reset_key: [7; 32],
            limits: Limits::default(),
        };
        Edge::start(
            config,
            EdgeParts {
                replica: Arc::clone(&self.replica),
                identity: CurrentIdentity::new(self.trust.identity(Role::Edge(id))),
                enroll,
                trust: self.trust.current(),
                link: Arc::new(EchoLink),
                platform,
                clock: now(),
                entropy: Entropy::counting(),
                metrics: Metrics::new("test"),
            },
        )
    }

    /// The status line and fields of an answer to a GET over TLS for `host`.
    pub(super) async fn get(&self, edge: &Edge, host: &str) -> io::Result<String> {
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

pub(super) const ANY: &str = "127.0.0.1:0";

/// What is answered to a request in the clear until the connection ends.
pub(super) async fn ask(plain: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(plain).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(SOON, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer
}
