//! A certificate authority in this process (RFC 8555), and the mischief it can be told to do.
//!
//! It reads requests as the protocol has them, hands out nonces and takes each once, looks for the proofs where edges
//! would answer, and signs what it is asked to sign. Signatures of requests are not verified: the library makes them.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use mezusphere_model::clock::ManualClock;
use mezusphere_model::document::{Document, Partition};
use mezusphere_store::Primary;
use mezusphere_store::feed::FeedSource as _;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, IsCa, Issuer, KeyPair,
};
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

    fn directory(&self) -> Reply {
        self.count("directory");
        let mut directory = json!({
            "newNonce": "https://ca.example/nonce",
            "newAccount": "https://ca.example/account",
            "newOrder": "https://ca.example/order",
        });
        if self.state().window.is_some() {
            directory["renewalInfo"] = json!("https://ca.example/renewal");
        }
        Reply::json(200, &directory)
    }

    fn renewal(&self) -> Reply {
        self.count("renewal");
        let Some((start, end)) = self.state().window.clone() else { return Reply::problem(404, "malformed") };
        Reply::json(200, &json!({ "suggestedWindow": { "start": start, "end": end } }))
            .with("retry-after", "21600")
    }

    fn count(&self, endpoint: &'static str) {
        *self.state().asked.entry(endpoint).or_default() += 1;
    }

    async fn post(&self, path: &str, body: &[u8]) -> Reply {
        let jws: Value = serde_json::from_slice(body).unwrap();
        let part = |name: &str| {
            let text = jws[name].as_str().unwrap();
            (!text.is_empty())
                .then(|| serde_json::from_slice::<Value>(&BASE64URL.decode(text).unwrap()).unwrap())
        };
        let (protected, payload) = (part("protected").unwrap(), part("payload"));
        assert_eq!(protected["url"], format!("https://ca.example{path}"), "RFC 8555 §6.4");
        if !self.takes(protected["nonce"].as_str().unwrap()) {
            return Reply::problem(400, "badNonce");
        }
        if self.state().mischief.loses_accounts && path != "/account" {
            return Reply::problem(400, "accountDoesNotExist");
        }
        let steps: Vec<_> = path.trim_start_matches('/').split('/').collect();
        let number = |text: &str| text.parse::<usize>().unwrap();
        match steps.as_slice() {
            ["account"] => self.account(),
            ["order"] => self.new_order(&payload.unwrap()),
            ["order", id] => self.order(number(id), 200),
            ["authz", id, name] => self.authorization(number(id), name),
            ["chall", id, name, kind] => self.challenge(number(id), name, kind).await,
            ["finalize", id] => self.finalize(number(id), &payload.unwrap()),
            ["cert", id] => self.certificate(number(id)),
            _ => Reply::problem(404, "malformed"),
        }
    }

    /// Whether a nonce is good; each is good once.
    fn takes(&self, nonce: &str) -> bool {
        let mut state = self.state();
        let known = state.nonces.remove(nonce);
        known && (state.drawn.is_multiple_of(4) || !state.mischief.refuses_nonces)
    }

    fn account(&self) -> Reply {
        self.count("account");
        let mut state = self.state();
        state.accounts += 1;
        let url = format!("https://ca.example/account/{}", state.accounts);
        Reply::json(201, &json!({ "status": "valid" })).with("location", url)
    }

    fn new_order(&self, payload: &Value) -> Reply {
        self.count("order");
        if let Some(seconds) = self.state().mischief.limits {
            return Reply::problem(429, "rateLimited").with("retry-after", seconds.to_string());
        }
        let names: Vec<String> = payload["identifiers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|identifier| identifier["value"].as_str().unwrap().to_owned())
            .collect();
        let proofs = names.iter().map(|name| (name.clone(), "pending")).collect();
        let id = {
            let mut state = self.state();
            state.orders.push(Order { names, status: "pending", proofs, problem: None, chain: None });
            state.orders.len() - 1
        };
        let mut reply = self.order(id, 201);
        if let Some(replaced) = payload.get("replaces") {
            let mut body: Value = serde_json::from_str(&reply.body).unwrap();
            body["replaces"] = replaced.clone();
            reply.body = body.to_string();
        }
        reply.with("location", format!("https://ca.example/order/{id}"))
    }

    fn order(&self, id: usize, status: u16) -> Reply {
        let state = self.state();
        if state.mischief.loses_orders && status == 200 {
            return Reply::problem(404, "malformed");
        }
        let Some(order) = state.orders.get(id) else { return Reply::problem(404, "malformed") };
        let told = if state.mischief.dawdles { "processing" } else { order.status };
        let authorizations: Vec<_> =
            order.names.iter().map(|name| format!("https://ca.example/authz/{id}/{name}")).collect();
        let mut body = json!({
            "status": told,
            "identifiers": order.names.iter().map(|name| json!({ "type": "dns", "value": name })).collect::<Vec<_>>(),
            "authorizations": authorizations,
            "finalize": format!("https://ca.example/finalize/{id}"),
        });
        if order.chain.is_some() {
            body["certificate"] = json!(format!("https://ca.example/cert/{id}"));
        }
        Reply::json(status, &body)
    }

    fn authorization(&self, id: usize, name: &str) -> Reply {
        let state = self.state();
        let Some(order) = state.orders.get(id) else { return Reply::problem(404, "malformed") };
        let status = order.proofs.get(name).copied().unwrap();
        let bare = name.trim_start_matches("*.");
        let kinds: &[&str] = if bare == name { &["http-01", "tls-alpn-01", "dns-01"] } else { &["dns-01"] };
        let challenges: Vec<_> = kinds
            .iter()
            .map(|kind| {
                let mut challenge = json!({
                    "type": kind,
                    "url": format!("https://ca.example/chall/{id}/{name}/{kind}"),
                    "token": token(id, name, kind),
                    "status": status,
                });
                if let (Some(problem), "tls-alpn-01" | "http-01") = (&order.problem, *kind) {
                    challenge["error"] = problem.clone();
                }
                challenge
            })
            .collect();
        Reply::json(
            200,
            &json!({
                "identifier": { "type": "dns", "value": bare },
                "status": status,
                "wildcard": bare != name,
                "challenges": challenges,
            }),
        )
    }

    /// Looks for the proof where edges, or the DNS, would have it.
    async fn challenge(&self, id: usize, name: &str, kind: &str) -> Reply {
        self.count("challenge");
        let token = token(id, name, kind);
        let is_there = if kind == "dns-01" {
            let bare = name.trim_start_matches("*.");
            let wanted = format!("_acme-challenge.{bare}");
            self.state().records.iter().any(|(name, value)| *name == wanted && value.len() == 43)
        } else {
            let page = self.primary.snapshot(Partition::Platform, None, 1000).await.unwrap();
            page.documents.iter().any(|filed| {
                matches!(
                    serde_json::from_str(filed.body.get()).unwrap(),
                    Document::AcmeChallenge(doc) if doc.token == token && doc.host.as_str() == name
                        && doc.key_authorization.starts_with(&format!("{token}."))
                )
            })
        };
        let mut state = self.state();
        let problem = match state.mischief.finds {
            Some(kind) => Some(kind),
            None if is_there => None,
            None => Some("unauthorized"),
        };
        let Some(order) = state.orders.get_mut(id) else { return Reply::problem(404, "malformed") };
        if let Some(kind) = problem {
            order.status = "invalid";
            order.proofs.insert(name.to_owned(), "invalid");
            let kind = format!("urn:ietf:params:acme:error:{kind}");
            order.problem = Some(json!({ "type": kind, "detail": format!("{name} is not yours") }));
        } else {
            order.proofs.insert(name.to_owned(), "valid");
            if order.proofs.values().all(|status| *status == "valid") {
                order.status = "ready";
            }
        }
        let url = format!("https://ca.example/chall/{id}/{name}/{kind}");
        Reply::json(200, &json!({ "type": kind, "url": url, "token": token, "status": "processing" }))
    }

    fn finalize(&self, id: usize, payload: &Value) -> Reply {
        self.count("finalize");
        let request = BASE64URL.decode(payload["csr"].as_str().unwrap()).unwrap();
        let mut csr = CertificateSigningRequestParams::from_der(&request.into()).unwrap();
        let now = self.hand.clock().now();
        {
            let mut state = self.state();
            if state.orders.get(id).is_none_or(|order| order.status != "ready") {
                return Reply::problem(403, "orderNotReady");
            }
            let at = |at: Timestamp| time::OffsetDateTime::from_unix_timestamp(at.as_seconds()).unwrap();
            csr.params.not_before = at(now);
            csr.params.not_after = at(now.after(state.life));
            csr.params.use_authority_key_identifier_extension = true;
            csr.params.serial_number = Some(u64::try_from(id + 1).unwrap().into());
            let leaf = if state.mischief.swaps_keys {
                csr.params.signed_by(&KeyPair::generate().unwrap(), &*self.issuer).unwrap()
            } else {
                csr.signed_by(&self.issuer).unwrap()
            };
            let order = state.orders.get_mut(id).unwrap();
            order.chain = Some(leaf.pem() + &self.own_pem);
            order.status = "valid";
        }
        self.order(id, 200)
    }

    fn certificate(&self, id: usize) -> Reply {
        self.count("certificate");
        let state = self.state();
        match state.orders.get(id).and_then(|order| order.chain.clone()) {
            Some(chain) => Reply { status: 200, body: chain, headers: Vec::new() },
            None => Reply::problem(404, "malformed"),
        }
    }
}

fn token(id: usize, name: &str, kind: &str) -> String {
    format!("token-{id}-{}-{kind}", name.replace(['.', '*'], "_"))
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
