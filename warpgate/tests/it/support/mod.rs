//! A platform for tests: a CA, a connect service, and edges that do what the test says, honest or not.
//!
//! Everything the warpgate meets here is real except the deciding: real QUIC, real certificates, real frames.

#![allow(dead_code, unreachable_pub, reason = "the library of the tests, of which the bench takes a part")]
#![allow(clippy::missing_panics_doc, clippy::missing_errors_doc, missing_docs, reason = "tests")]

pub mod agent;
pub mod edge;
pub mod link;
pub mod proxy;
pub mod server;
pub mod splice;
pub mod tcp;
pub mod upstream;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use mezusphere_model::bundle::{Bundle, EdgeAddress, SignedBundle};
use mezusphere_model::clock::ManualClock;
use mezusphere_model::connection_key::ConnectionKey;
use mezusphere_model::document::RenewFrom;
use mezusphere_model::id::{
    ApiKeyId, ControlId, DirectoryId, EnvironmentId, OrganizationId, ProjectId, RouteId, WarpgateId,
};
use mezusphere_model::identity::{Assurance, Identity, Method, Subject};
use mezusphere_model::route::{AuthMode, PathMatch, Requirement, RouteDoc, SiteDoc};
use mezusphere_model::rules::ProjectQuota;
use mezusphere_model::slug::{Name, Slug};
use mezusphere_model::token::{ApiKeyToken, Token};
use mezusphere_model::{Clock, Entropy, Host, Timestamp};
use mezusphere_pki::tls::connect_server_config;
use mezusphere_pki::trust::digest_text;
use mezusphere_pki::{
    CurrentIdentity, CurrentTrust, Issuing, NodeIdentity, NodeKey, Role, Root, SpiffeName, Trust, TrustDomain,
};
use quinn::crypto::rustls::QuicServerConfig;
use tunnel_proto::assertion::{self, Audience, Claims};
use tunnel_proto::connect::{Checked, Decoder, Enrolled, Refusal, Reply, Request, frame};
use tunnel_proto::jws::{Jwk, SigningKey};

pub const HOST: &str = "shop.localhost";
pub const START: Timestamp = Timestamp::from_seconds(1_800_000_000);

/// What the connect service does with a request; `None`: what control would do.
pub type Twist = Box<dyn Fn(&Request) -> Option<Reply> + Send + Sync>;

/// An installation with one environment.
pub struct Platform {
    pub hand: ManualClock,
    pub entropy: Entropy,
    pub root: Root,
    pub issuing: Issuing,
    /// The CA that certificates come from once there is another.
    pub newer: Mutex<Option<Arc<Issuing>>>,
    /// Retired CAs, and which one certificates are to come from, as bundles have them.
    pub retired: Mutex<Vec<String>>,
    pub renew_from: Mutex<Option<RenewFrom>>,
    pub ttl: Duration,
    pub assertion_key: SigningKey,
    pub audience: Audience,
    pub site: Mutex<SiteDoc>,
    pub edges: Mutex<Vec<EdgeAddress>>,
    pub denied: Mutex<Vec<String>>,
    pub twist: Mutex<Option<Twist>>,
    pub enrolled: AtomicUsize,
    pub polled: AtomicUsize,
    /// Added to what control's clock shows, in seconds.
    pub control_ahead_s: AtomicU64,
    /// Who answers at the connect services, each with its certificate.
    answering: Mutex<Vec<(Role, CurrentIdentity)>>,
    control: NodeIdentity,
    domain: TrustDomain,
}

pub fn route(id: u128, path: &str, auth: AuthMode) -> RouteDoc {
    let path = PathMatch::parse(path).unwrap();
    RouteDoc::new(RouteId::from_bits(id), path, auth, Slug::parse("default").unwrap())
}

pub fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

impl Platform {
    pub fn new() -> Arc<Self> {
        Self::with_ttl(Duration::from_hours(24))
    }

    pub fn with_ttl(ttl: Duration) -> Arc<Self> {
        let entropy = Entropy::counting();
        let hand = ManualClock::at(START);
        let domain = TrustDomain::parse("mezu.test").unwrap();
        let root = Root::create(&domain, START, &entropy).unwrap();
        let issuing = Issuing::create(&root, START, &entropy).unwrap();
        let (project, environment) = (ProjectId::random(&entropy), EnvironmentId::random(&entropy));
        let site = SiteDoc {
            min_reader: 1,
            organization: OrganizationId::random(&entropy),
            project,
            environment,
            project_slug: Slug::parse("shop").unwrap(),
            environment_slug: Slug::parse("production").unwrap(),
            display_name: "Shop".to_owned(),
            directory: DirectoryId::random(&entropy),
            hosts: vec![Host::parse(HOST).unwrap()],
            routes: vec![
                route(1, "/*", AuthMode::Public),
                route(2, "/private/*", AuthMode::Required),
                RouteDoc {
                    require: Requirement { any_role: vec![name("customer")], ..Requirement::default() },
                    ..route(3, "/customers/*", AuthMode::Required)
                },
                RouteDoc {
                    upstream: Slug::parse("elsewhere").unwrap(),
                    ..route(4, "/elsewhere", AuthMode::Public)
                },
                route(5, "/maybe/*", AuthMode::Optional),
            ],
            revision: 1,
            quota: ProjectQuota::default(),
        };
        let control_id = ControlId::random(&entropy);
        // Control's own leaf outlives the test's clock games.
        let control = leaf(&issuing, &domain, Role::Control(control_id), START, Duration::from_hours(24));
        let assertion_key = SigningKey::from_pkcs8(NodeKey::generate().unwrap().pkcs8_der()).unwrap();
        Arc::new(Self {
            hand,
            entropy,
            root,
            issuing,
            newer: Mutex::new(None),
            retired: Mutex::new(Vec::new()),
            renew_from: Mutex::new(None),
            ttl,
            assertion_key,
            audience: Audience { project, environment },
            site: Mutex::new(site),
            edges: Mutex::new(Vec::new()),
            denied: Mutex::new(Vec::new()),
            twist: Mutex::new(None),
            enrolled: AtomicUsize::new(0),
            polled: AtomicUsize::new(0),
            control_ahead_s: AtomicU64::new(0),
            answering: Mutex::new(Vec::new()),
            control,
            domain,
        })
    }

    pub fn clock(&self) -> Clock {
        self.hand.clock()
    }

    pub fn now(&self) -> Timestamp {
        self.clock().now()
    }

    pub fn trust(&self) -> CurrentTrust {
        CurrentTrust::new(Trust::new(self.domain.clone(), vec![self.root.certificate().clone()], []).unwrap())
    }

    /// A certificate for `role` from now on.
    pub fn leaf(&self, role: Role) -> NodeIdentity {
        let newer = self.newer.lock().unwrap().clone();
        leaf(newer.as_deref().unwrap_or(&self.issuing), &self.domain, role, self.now(), self.ttl)
    }

    /// From now on certificates come from another CA, and the connect service shows one of it; nobody is told.
    pub fn change_ca(&self) {
        let newer = Issuing::create(&self.root, self.now(), &self.entropy).unwrap();
        *self.newer.lock().unwrap() = Some(Arc::new(newer));
        for (role, identity) in self.answering.lock().unwrap().iter() {
            identity.replace(self.leaf(*role));
        }
    }

    /// What documents call the CA of now.
    pub fn ca(&self) -> String {
        let newer = self.newer.lock().unwrap().clone();
        digest_text(&newer.as_deref().unwrap_or(&self.issuing).digest())
    }

    pub fn bundle(&self) -> Bundle {
        Bundle {
            min_reader: 1,
            site: self.site.lock().unwrap().clone(),
            issued_at: self.now(),
            trust_domain: self.domain.to_string(),
            roots_pem: vec![self.root.certificate_pem()],
            assertion_jwks: Jwk::write_set(&[self.assertion_key.public().clone()]),
            edges: self.edges.lock().unwrap().clone(),
            denied: self.denied.lock().unwrap().clone(),
            retired: self.retired.lock().unwrap().clone(),
            renew_from: self.renew_from.lock().unwrap().clone(),
            origin: format!("https://{HOST}:8443"),
            login_host: Host::parse("login.mezu.localhost").unwrap(),
        }
    }

    pub fn signed_bundle(&self) -> SignedBundle {
        self.sign_as_control(&self.bundle())
    }

    pub fn sign_as_control(&self, bundle: &Bundle) -> SignedBundle {
        Self::sign(bundle, &self.control)
    }

    /// `bundle` signed by `signer`, whoever that is.
    pub fn sign(bundle: &Bundle, signer: &NodeIdentity) -> SignedBundle {
        let key = SigningKey::from_pkcs8(signer.key().pkcs8_der()).unwrap();
        tunnel_proto::bundle::sign(bundle, &key, signer.chain()).unwrap()
    }

    /// Changes the site and publishes it as the next revision.
    pub fn publish(&self, change: impl FnOnce(&mut SiteDoc)) -> SignedBundle {
        {
            let mut site = self.site.lock().unwrap();
            change(&mut site);
            site.revision += 1;
        }
        self.signed_bundle()
    }

    pub fn identity(roles: &[&str]) -> Identity {
        Identity {
            subject: Subject::User(mezusphere_model::id::UserId::from_bits(77)),
            session: Some(mezusphere_model::id::SessionId::from_bits(5)),
            email: "zoe@example.com".to_owned(),
            name: "Zoë".to_owned(),
            roles: roles.iter().map(|role| name(role)).collect(),
            permissions: vec![name("orders:read")],
            methods: vec![Method::Password],
            assurance: Assurance::Aal1,
            authenticated_at: START,
            claims: std::collections::BTreeMap::default(),
        }
    }

    pub fn claims(&self, roles: &[&str]) -> Claims {
        Claims::from_identity(&Self::identity(roles), &self.domain.uri(), self.audience, self.now())
    }

    pub fn assertion(&self, roles: &[&str]) -> bytes::Bytes {
        self.sign_claims(&self.claims(roles))
    }

    pub fn sign_claims(&self, claims: &Claims) -> bytes::Bytes {
        assertion::sign(&self.assertion_key, claims).unwrap().into()
    }

    pub fn key(&self, connect: SocketAddr) -> ConnectionKey {
        ConnectionKey {
            key: ApiKeyToken { id: ApiKeyId::from_bits(9), secret: Token::from_bytes([9; 32]) },
            environment: self.audience.environment,
            root: self.root.fingerprint(),
            host: Host::parse("connect.mezu.localhost").unwrap(),
            port: connect.port(),
        }
    }

    /// Starts the connect service over QUIC; it ends with the returned endpoint.
    pub fn connect_service(self: &Arc<Self>) -> quinn::Endpoint {
        self.connect_service_as(Role::Control(ControlId::from_bits(1)))
    }

    /// The same, where whoever answers shows a certificate for `role`.
    pub fn connect_service_as(self: &Arc<Self>, role: Role) -> quinn::Endpoint {
        let identity = CurrentIdentity::new(self.leaf(role));
        self.answering.lock().unwrap().push((role, identity.clone()));
        let tls =
            connect_server_config(&identity, &self.trust(), &self.clock(), &[tunnel_proto::CONNECT_ALPN])
                .unwrap();
        let endpoint = server(tls, 0);
        let (platform, accepting) = (Arc::clone(self), endpoint.clone());
        tokio::spawn(async move {
            while let Some(incoming) = accepting.accept().await {
                let platform = Arc::clone(&platform);
                tokio::spawn(async move {
                    let Ok(connection) = incoming.await else { return };
                    while let Ok((mut send, mut receive)) = connection.accept_bi().await {
                        let mut decoder = Decoder::new();
                        while let Ok(Some(chunk)) = receive.read_chunk(65536, true).await {
                            decoder.push(&chunk.bytes).unwrap();
                        }
                        let request = Request::from_json(&decoder.finish().unwrap()).unwrap();
                        let reply = platform.answer(&request);
                        send.write_all(&frame(&reply.to_json().unwrap()).unwrap()).await.unwrap();
                        send.finish().unwrap();
                    }
                });
            }
        });
        endpoint
    }

    pub fn answer(&self, request: &Request) -> Reply {
        match request {
            Request::Enroll(_) => self.enrolled.fetch_add(1, Ordering::SeqCst),
            Request::Bundle(_) | Request::Check(_) => self.polled.fetch_add(1, Ordering::SeqCst),
        };
        let twisted = self.twist.lock().unwrap().as_ref().and_then(|twist| twist(request));
        twisted.unwrap_or_else(|| self.control_answer(request))
    }

    pub fn warpgate_role(&self) -> Role {
        let Audience { project, environment } = self.audience;
        Role::Warpgate { project, environment, id: WarpgateId::from_bits(0xabc) }
    }

    /// What control answers, if nothing is twisted.
    pub fn control_answer(&self, request: &Request) -> Reply {
        match request {
            Request::Enroll(enroll) => {
                let warpgate = enroll.instance.unwrap_or(WarpgateId::from_bits(0xabc));
                let Audience { project, environment } = self.audience;
                let name = SpiffeName::new(
                    self.domain.clone(),
                    Role::Warpgate { project, environment, id: warpgate },
                );
                let csr = BASE64.decode(&enroll.csr_der).unwrap();
                let newer = self.newer.lock().unwrap().clone();
                let issuing = newer.as_deref().unwrap_or(&self.issuing);
                let leaf = issuing.issue(&csr, &name, self.now(), self.ttl).unwrap();
                let ahead = Duration::from_secs(self.control_ahead_s.load(Ordering::SeqCst));
                Reply::Enrolled(Box::new(Enrolled {
                    chain_pem: leaf.chain_pem(),
                    roots_pem: vec![self.root.certificate_pem()],
                    warpgate,
                    spiffe: name.to_string(),
                    not_after: leaf.not_after,
                    control_time: self.now().after(ahead),
                    bundle: self.signed_bundle(),
                    account: "prod-web".to_owned(),
                    project: Slug::parse("shop").unwrap(),
                    environment: Slug::parse("production").unwrap(),
                }))
            }
            Request::Bundle(query) => {
                let newest = self.signed_bundle();
                Reply::Bundle { bundle: (newest.revision > query.have_revision).then_some(newest) }
            }
            Request::Check(_) => {
                let ahead = Duration::from_secs(self.control_ahead_s.load(Ordering::SeqCst));
                Reply::Checked(Box::new(Checked {
                    roots_pem: vec![self.root.certificate_pem()],
                    control_time: self.now().after(ahead),
                    certificate_s: self.ttl.as_secs(),
                    bundle: self.signed_bundle(),
                    account: "prod-web".to_owned(),
                    project: Slug::parse("shop").unwrap(),
                    environment: Slug::parse("production").unwrap(),
                }))
            }
        }
    }
}

pub fn refusal(code: &str) -> Reply {
    Reply::Refused(Refusal {
        code: code.to_owned(),
        message: format!("Refused: {code}."),
        next: "Ask.".to_owned(),
    })
}

fn leaf(issuing: &Issuing, domain: &TrustDomain, role: Role, now: Timestamp, ttl: Duration) -> NodeIdentity {
    let key = NodeKey::generate().unwrap();
    let name = SpiffeName::new(domain.clone(), role);
    let leaf = issuing.issue(&key.csr_der().unwrap(), &name, now, ttl).unwrap();
    NodeIdentity::new(leaf.chain, key).unwrap()
}

/// A QUIC server on a loopback port; 0 picks one.
pub fn server(tls: rustls::ServerConfig, port: u16) -> quinn::Endpoint {
    let crypto = QuicServerConfig::try_from(tls).unwrap();
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    let mut transport = quinn::TransportConfig::default();
    transport.max_idle_timeout(Some(Duration::from_secs(30).try_into().unwrap()));
    config.transport_config(Arc::new(transport));
    quinn::Endpoint::server(config, (Ipv4Addr::LOCALHOST, port).into()).unwrap()
}

/// How long may be taken for what has to be done within `bound`: that, with `MEZU_FULL`; otherwise as long again, because a
/// busy machine has bad moments.
pub fn allowed(bound: Duration) -> Duration {
    if std::env::var_os("MEZU_FULL").is_some() { bound } else { bound * 2 }
}

/// Waits for `done` to be true, at most ten seconds, looking every few milliseconds.
pub async fn until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never happened: {what}");
}
