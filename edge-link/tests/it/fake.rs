//! A control node's inside: answers every question with what a test can recognize, and writes down who asked what.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use mezusphere_edge_link::SpliceStream;
use mezusphere_edge_link::join::{JoinRefused, JoinReply, JoinRequest, RejoinRequest};
use mezusphere_edge_link::server::{Edges, Joins, Splices};
use mezusphere_model::clock::Timestamp;
use mezusphere_model::document::{DocumentKey, Partition, PrincipalDoc, Status};
use mezusphere_model::host::Host;
use mezusphere_model::id::{EdgeId, EnvironmentId, ProjectId, SessionId, SignInId, UserId};
use mezusphere_model::identity::{Assurance, Method, Subject};
use mezusphere_model::link::{
    AboutEdge, Activity, Answer, ControlLink, Credential, DenialCount, FoundSession, IssuedAssertion,
    LinkError, RedeemCode, Redeemed, TunnelReport,
};
use mezusphere_model::session::SessionDoc;
use mezusphere_model::token::Token;
use mezusphere_store::feed::{
    AppliedReport, Bell, Changes, Cursor, Digest, Entry, Epoch, FeedError, FeedSource, Filed, Head,
    SnapshotPage, Wake,
};
use serde_json::value::RawValue;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Semaphore;

pub(crate) const EPOCH: Epoch = Epoch(u128::MAX - 7);

/// How questions are answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mood {
    #[default]
    Good,
    /// Not before the test lets one through.
    Slow,
    Away,
    Refusing,
    Panicking,
}

type JoinAnswer = Box<dyn Fn(JoinRequest) -> Result<JoinReply, JoinRefused> + Send>;
type RejoinAnswer = Box<dyn Fn(RejoinRequest) -> Result<JoinReply, JoinRefused> + Send>;

/// What stands behind a node port.
pub(crate) struct Fake {
    asked: Mutex<Vec<(EdgeId, String)>>,
    pub(crate) mood: Mutex<Mood>,
    /// One permit lets one slow question through.
    pub(crate) gate: Semaphore,
    pub(crate) waiting: AtomicUsize,
    pub(crate) partitions: Mutex<BTreeMap<Partition, Vec<Entry>>>,
    pub(crate) bell: Bell,
    pub(crate) applied: Mutex<Vec<AppliedReport>>,
    pub(crate) batches: AtomicUsize,
    pub(crate) join: Mutex<Option<JoinAnswer>>,
    pub(crate) rejoin: Mutex<Option<RejoinAnswer>>,
    pub(crate) spliced: Mutex<Vec<SocketAddr>>,
    /// Certificates with which no edge is let in.
    pub(crate) unlisted: Mutex<Vec<Vec<u8>>>,
}

impl Fake {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            asked: Mutex::default(),
            mood: Mutex::default(),
            gate: Semaphore::new(0),
            waiting: AtomicUsize::new(0),
            partitions: Mutex::default(),
            bell: Bell::new(),
            applied: Mutex::default(),
            batches: AtomicUsize::new(0),
            join: Mutex::default(),
            rejoin: Mutex::default(),
            spliced: Mutex::default(),
            unlisted: Mutex::default(),
        })
    }

    pub(crate) fn asked(&self) -> Vec<(EdgeId, String)> {
        self.asked.lock().unwrap().clone()
    }

    pub(crate) fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    pub(crate) fn partitions(&self) -> MutexGuard<'_, BTreeMap<Partition, Vec<Entry>>> {
        self.partitions.lock().unwrap()
    }

    /// Publishes a document, whose body is kept to the letter, and rings.
    pub(crate) fn publish(&self, partition: Partition, key: &str, body: Option<&str>) {
        let mut partitions = self.partitions();
        let entries = partitions.entry(partition).or_default();
        let (revision, before) =
            entries.last().map_or((1, Digest::EMPTY), |last| (last.revision + 1, last.digest));
        let key = DocumentKey::from_text(key);
        let digest = before.then(revision, &key, body);
        let body = body.map(|body| RawValue::from_string(body.to_owned()).unwrap());
        entries.push(Entry { revision, key, body, digest });
        drop(partitions);
        self.bell.ring([partition].into());
    }

    async fn answer<T>(&self, edge: EdgeId, asked: String, answer: T) -> Result<T, LinkError> {
        self.asked.lock().unwrap().push((edge, asked));
        let mood = *self.mood.lock().unwrap();
        match mood {
            Mood::Good => Ok(answer),
            Mood::Slow => {
                self.waiting.fetch_add(1, Ordering::SeqCst);
                self.gate.acquire().await.unwrap().forget();
                self.waiting.fetch_sub(1, Ordering::SeqCst);
                Ok(answer)
            }
            Mood::Away => Err(LinkError::Away),
            Mood::Refusing => Err(LinkError::Refused("the code was used already".to_owned())),
            Mood::Panicking => panic!("a fault of control"),
        }
    }
}

/// The head of entries.
pub(crate) fn head(entries: &[Entry]) -> Cursor {
    let last = entries.last();
    let (revision, digest) = last.map_or((0, Digest::EMPTY), |last| (last.revision, last.digest));
    Cursor { epoch: EPOCH, revision, digest }
}

pub(crate) fn found() -> FoundSession {
    let (user, project) = (UserId::from_bits(1), ProjectId::from_bits(2));
    FoundSession {
        session: SessionDoc {
            id: SessionId::from_bits(3),
            token_hash: Token::from_bytes([4; 32]).hash(),
            sign_in: SignInId::from_bits(5),
            user,
            project,
            host: Host::parse("shop.example").unwrap(),
            methods: vec![Method::Password],
            assurance: Assurance::Aal2,
            authenticated_at: Timestamp::from_seconds(6),
            issued_at: Timestamp::from_seconds(7),
            expires_at: Timestamp::from_seconds(8),
            idle_s_max: 9,
            seen_at: Timestamp::from_seconds(10),
        },
        principal: PrincipalDoc {
            subject: Subject::User(user),
            project,
            status: Status::Active,
            email: "zoë@example.com".to_owned(),
            name: "Zoë \"Z\" O'Neil".to_owned(),
            roles: Vec::new(),
            permissions: Vec::new(),
            claims: [("team".to_owned(), serde_json::json!({"n": 1}))].into(),
            version: 11,
            sessions_valid_from: Timestamp::from_seconds(12),
        },
    }
}

pub(crate) fn redeemed() -> Redeemed {
    Redeemed { token: "token".to_owned(), found: found(), born_at: u64::MAX, return_to: "/a?b=ü".to_owned() }
}

pub(crate) fn assertion() -> IssuedAssertion {
    IssuedAssertion { jws: "a.b.c".to_owned(), expires_at: Timestamp::from_seconds(1), principal_version: 2 }
}

/// What a node port is given.
pub(crate) struct Inside(pub(crate) Arc<Fake>);

impl Edges for Inside {
    fn admit<'a>(&'a self, _: EdgeId, leaf: &'a [u8]) -> Answer<'a, Result<(), LinkError>> {
        let is_refused = self.0.unlisted.lock().unwrap().iter().any(|refused| refused == leaf);
        let answer =
            if is_refused { Err(LinkError::Refused("edge.not_listed: whose?".to_owned())) } else { Ok(()) };
        Box::pin(async { answer })
    }

    fn link(&self, edge: EdgeId) -> Arc<dyn ControlLink> {
        Arc::new(View { edge, fake: Arc::clone(&self.0) })
    }

    fn feed(&self, edge: EdgeId) -> Arc<dyn FeedSource> {
        Arc::new(View { edge, fake: Arc::clone(&self.0) })
    }
}

/// One edge's view.
struct View {
    edge: EdgeId,
    fake: Arc<Fake>,
}

impl ControlLink for View {
    fn certify(&self, csr_der: Vec<u8>) -> Answer<'_, Result<Vec<Vec<u8>>, LinkError>> {
        Box::pin(self.fake.answer(self.edge, format!("certify {csr_der:?}"), vec![vec![0xff, 0], vec![]]))
    }

    fn about(&self, about: AboutEdge) -> Answer<'_, Result<(), LinkError>> {
        Box::pin(self.fake.answer(self.edge, format!("{about:?}"), ()))
    }

    fn redeem(&self, code: RedeemCode) -> Answer<'_, Result<Redeemed, LinkError>> {
        Box::pin(self.fake.answer(self.edge, format!("{code:?}"), redeemed()))
    }

    fn find_session(&self, token: Token) -> Answer<'_, Result<Option<FoundSession>, LinkError>> {
        let is_known = token == Token::from_bytes([4; 32]);
        let answer = is_known.then(found);
        Box::pin(self.fake.answer(self.edge, format!("find {}", token.reveal()), answer))
    }

    fn assertion(
        &self,
        credential: Credential,
        environment: EnvironmentId,
    ) -> Answer<'_, Result<IssuedAssertion, LinkError>> {
        let credential = match credential {
            Credential::Session(token) => token.reveal(),
            Credential::ApiKey(key) => key.reveal(),
        };
        Box::pin(self.fake.answer(self.edge, format!("assertion {credential} {environment}"), assertion()))
    }

    fn sign_out(&self, token: Token) -> Answer<'_, Result<(), LinkError>> {
        Box::pin(self.fake.answer(self.edge, format!("sign out {}", token.reveal()), ()))
    }

    fn activity(&self, batch: Vec<Activity>) -> Answer<'_, Result<(), LinkError>> {
        Box::pin(self.fake.answer(self.edge, format!("{batch:?}"), ()))
    }

    fn denials(&self, batch: Vec<DenialCount>) -> Answer<'_, Result<(), LinkError>> {
        Box::pin(self.fake.answer(self.edge, format!("{batch:?}"), ()))
    }

    fn tunnel(&self, report: TunnelReport) -> Answer<'_, Result<(), LinkError>> {
        Box::pin(self.fake.answer(self.edge, format!("{report:?}"), ()))
    }

    fn tunnels(&self, held: Vec<TunnelReport>, at: Timestamp) -> Answer<'_, Result<(), LinkError>> {
        Box::pin(self.fake.answer(self.edge, format!("held {held:?} at {at}"), ()))
    }

    fn connect(&self, message: Vec<u8>, from: SocketAddr) -> Answer<'_, Result<Vec<u8>, LinkError>> {
        let back = message.iter().rev().copied().collect();
        Box::pin(self.fake.answer(self.edge, format!("connect {} from {from}", message.len()), back))
    }
}

/// A primary's feed, kept in memory; hides nothing, because that is the port's work.
impl FeedSource for View {
    fn heads(&self) -> Answer<'_, Result<Vec<Head>, FeedError>> {
        Box::pin(async {
            let partitions = self.fake.partitions();
            Ok(partitions
                .iter()
                .map(|(at, entries)| Head { partition: *at, cursor: head(entries) })
                .collect())
        })
    }

    fn snapshot(
        &self,
        partition: Partition,
        after: Option<DocumentKey>,
        max: usize,
    ) -> Answer<'_, Result<SnapshotPage, FeedError>> {
        self.fake.batches.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            let partitions = self.fake.partitions();
            let entries =
                partitions.get(&partition).ok_or(FeedError::Damaged("no such partition".to_owned()))?;
            let mut current = BTreeMap::new();
            for entry in entries {
                current.insert(entry.key.clone(), entry.body.clone());
            }
            let all = current.into_iter().filter(|(key, _)| after.as_ref().is_none_or(|after| key > after));
            let mut documents: Vec<Filed> =
                all.filter_map(|(key, body)| Some(Filed { key, body: body? })).collect();
            let more = documents.len() > max;
            documents.truncate(max);
            Ok(SnapshotPage { cursor: head(entries), documents, more })
        })
    }

    fn changes(
        &self,
        partition: Partition,
        since: Cursor,
        max: usize,
    ) -> Answer<'_, Result<Changes, FeedError>> {
        Box::pin(async move {
            let partitions = self.fake.partitions();
            let entries =
                partitions.get(&partition).ok_or(FeedError::Damaged("no such partition".to_owned()))?;
            let fits = |at: &Entry| at.revision == since.revision && at.digest == since.digest;
            let fits = since.revision == 0 || entries.iter().any(fits);
            if since.epoch != EPOCH || !fits {
                return Ok(Changes::StartOver);
            }
            let mut newer: Vec<Entry> =
                entries.iter().filter(|entry| entry.revision > since.revision).cloned().collect();
            let more = newer.len() > max;
            newer.truncate(max);
            Ok(Changes::Entries { entries: newer, more })
        })
    }

    fn applied(&self, reports: Vec<AppliedReport>) -> Answer<'_, Result<(), FeedError>> {
        self.fake.applied.lock().unwrap().extend(reports);
        Box::pin(async { Ok(()) })
    }

    fn wake(&self) -> Wake {
        self.fake.bell.listen()
    }
}

impl Joins for Inside {
    fn join(&self, request: JoinRequest, _from: SocketAddr) -> Answer<'_, Result<JoinReply, JoinRefused>> {
        let answer = self.0.join.lock().unwrap().as_ref().expect("a test that joins")(request);
        Box::pin(async { answer })
    }

    fn rejoin(
        &self,
        request: RejoinRequest,
        _from: SocketAddr,
    ) -> Answer<'_, Result<JoinReply, JoinRefused>> {
        let answer = self.0.rejoin.lock().unwrap().as_ref().expect("a test that joins again")(request);
        Box::pin(async { answer })
    }
}

/// Echoes, in upper case, until the client has said all.
impl Splices for Inside {
    fn spliced(&self, mut stream: SpliceStream, client: SocketAddr) -> Answer<'static, ()> {
        self.0.spliced.lock().unwrap().push(client);
        Box::pin(async move {
            let mut buffer = [0; 1024];
            while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                let loud = buffer[..read].to_ascii_uppercase();
                if stream.write_all(&loud).await.is_err() || stream.flush().await.is_err() {
                    return;
                }
            }
            // What came is what was sent; the end is told, too.
            drop(stream.write_all(b"!").await);
            drop(stream.shutdown().await);
        })
    }
}
