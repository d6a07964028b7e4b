//! A certificate authority in this process (RFC 8555), and the mischief it can be told to do.
//!
//! It reads requests as the protocol has them, hands out nonces and takes each once, looks for the proofs where edges
//! would answer, and signs what it is asked to sign. Signatures of requests are not verified: the library makes them.
//! What each endpoint answers is in [`endpoints`].

mod endpoints;

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use mezusphere_model::clock::ManualClock;
use mezusphere_store::Primary;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};

use super::super::*;

/// Its directory.
pub(super) const DIRECTORY: &str = "https://ca.example/directory";

/// What it does wrong.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fault of its own, and they go together")]
pub(super) struct Mischief {
    /// Nobody reaches it.
    pub(super) is_away: bool,
    /// It answers everything with a page.
    pub(super) page: Option<u16>,
    /// It takes so long for an answer.
    pub(super) delay: Duration,
    /// It refuses every nonce but each fourth.
    pub(super) refuses_nonces: bool,
    /// It knows nothing of orders made before.
    pub(super) loses_orders: bool,
    /// It knows no account.
    pub(super) loses_accounts: bool,
    /// It takes no orders, for so many seconds.
    pub(super) limits: Option<u64>,
    /// It does not find names ours, for this reason.
    pub(super) finds: Option<&'static str>,
    /// It issues for another key.
    pub(super) swaps_keys: bool,
    /// It names this too in what it issues.
    pub(super) adds: Option<&'static str>,
    /// It issues what was good for so long already.
    pub(super) stale: Duration,
    /// It asks for every proof of an order twice.
    pub(super) asks_twice: bool,
    /// It never gets done with an order.
    pub(super) dawdles: bool,
    /// After so many more requests it answers no more: whoever waits is cut off.
    pub(super) silent_after: Option<u32>,
}

struct Order {
    names: Vec<String>,
    status: &'static str,
    /// Which names were proved, or not.
    proofs: BTreeMap<String, &'static str>,
    problem: Option<Value>,
    chain: Option<String>,
}

struct State {
    mischief: Mischief,
    nonces: BTreeSet<String>,
    drawn: u64,
    orders: Vec<Order>,
    accounts: u32,
    /// How often each endpoint was asked.
    asked: BTreeMap<&'static str, u32>,
    window: Option<(String, String)>,
    life: Duration,
    /// TXT records, where a hook sets them.
    records: BTreeSet<(String, String)>,
}

/// The authority. Cheap to clone.
#[derive(Clone)]
pub(super) struct Authority {
    state: Arc<Mutex<State>>,
    silence: Arc<tokio::sync::Notify>,
    primary: Primary,
    hand: ManualClock,
    issuer: Arc<Issuer<'static, KeyPair>>,
    own_pem: Arc<str>,
}

/// An answer before it is one.
struct Reply {
    status: u16,
    body: String,
    headers: Vec<(&'static str, String)>,
}

impl Reply {
    fn json(status: u16, body: &Value) -> Self {
        Self { status, body: body.to_string(), headers: Vec::new() }
    }

    fn problem(status: u16, kind: &str) -> Self {
        let kind = format!("urn:ietf:params:acme:error:{kind}");
        Self::json(status, &json!({ "type": kind, "detail": "so says the authority", "status": status }))
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

impl Authority {
    /// An authority that sees what edges of this installation would answer.
    pub(super) fn new(world: &World) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "An authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let own_pem = params.self_signed(&key).unwrap().pem().into();
        let state = State {
            mischief: Mischief::default(),
            nonces: BTreeSet::new(),
            drawn: 0,
            orders: Vec::new(),
            accounts: 0,
            asked: BTreeMap::new(),
            window: None,
            life: Duration::from_hours(90 * 24),
            records: BTreeSet::new(),
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            silence: Arc::default(),
            primary: world.primary.clone(),
            hand: world.hand.clone(),
            issuer: Arc::new(Issuer::new(params, key)),
            own_pem,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Does this wrong from now on.
    pub(super) fn misbehave(&self, mischief: Mischief) {
        self.state().mischief = mischief;
    }

    /// Wants certificates renewed within this window.
    pub(super) fn wants_renewal(&self, from: Timestamp, to: Timestamp) {
        self.state().window = Some((from.to_string(), to.to_string()));
    }

    /// Waits until somebody is left without an answer.
    pub(super) async fn went_silent(&self) {
        self.silence.notified().await;
    }

    /// How many orders were made.
    pub(super) fn orders(&self) -> usize {
        self.state().orders.len()
    }

    /// How many accounts were made.
    pub(super) fn accounts(&self) -> u32 {
        self.state().accounts
    }

    /// How often an endpoint was asked.
    pub(super) fn asked(&self, endpoint: &str) -> u32 {
        self.state().asked.get(endpoint).copied().unwrap_or(0)
    }

    /// Sets or removes a TXT record.
    pub(super) fn set_record(&self, name: &str, value: &str, is_there: bool) {
        let record = (name.to_owned(), value.to_owned());
        let mut state = self.state();
        if is_there {
            state.records.insert(record)
        } else {
            state.records.remove(&record)
        };
    }

    /// TXT records that are set.
    pub(super) fn records(&self) -> Vec<(String, String)> {
        self.state().records.iter().cloned().collect()
    }

    async fn answer(&self, method: &str, path: &str, body: &[u8]) -> Result<Reply, Error> {
        let Some(mischief) = self.mischief_now() else {
            self.silence.notify_one();
            return pending().await;
        };
        if mischief.is_away {
            return Err(Error::Other("connection refused".into()));
        }
        tokio::time::sleep(mischief.delay).await;
        if let Some(status) = mischief.page {
            return Ok(Reply { status, body: "<html>It works!</html>".to_owned(), headers: Vec::new() });
        }
        let nonce = self.nonce();
        let reply = match (method, path) {
            ("GET", "/directory") => self.directory(),
            ("HEAD", "/nonce") => Reply::json(200, &Value::Null),
            ("GET", renewal) if renewal.starts_with("/renewal/") => self.renewal(),
            ("POST", path) => self.post(path, body).await,
            _ => Reply::problem(404, "malformed"),
        };
        Ok(reply.with("replay-nonce", nonce))
    }

    /// What it does wrong at this request; `None`: it answers no more.
    fn mischief_now(&self) -> Option<Mischief> {
        let mut state = self.state();
        if let Some(left) = &mut state.mischief.silent_after {
            *left = left.checked_sub(1)?;
        }
        Some(state.mischief.clone())
    }

    fn nonce(&self) -> String {
        let mut state = self.state();
        state.drawn += 1;
        let nonce = format!("nonce-{}", state.drawn);
        state.nonces.insert(nonce.clone());
        nonce
    }
}

impl HttpClient for Authority {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let this = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = match body.collect().await {
                Ok(body) => body.to_bytes(),
                Err(never) => match never {},
            };
            let reply = this.answer(parts.method.as_str(), parts.uri.path(), &body).await?;
            let mut response = Response::builder().status(reply.status);
            for (name, value) in reply.headers {
                response = response.header(name, value);
            }
            Ok(BytesResponse::from(response.body(Full::new(Bytes::from(reply.body))).unwrap()))
        })
    }
}
