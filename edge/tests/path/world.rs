//! An edge for tests without its listeners: the request path and the tunnels as they are, real QUIC between edge and warpgate,
//! a replica and a control that a test holds in its hands, and a clock that stands still.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ::http::header::HOST;
use ::http::{Request, Response};
use mezusphere_edge::http::{Body, ConnectionInfo, Protocol};
use mezusphere_edge::listen::drain::Drain;
use mezusphere_edge::request::{Server, ServerParts};
use mezusphere_edge::tls::CertificateNames;
use mezusphere_edge::tunnel::{Acceptor, AcceptorParts, Registry, TunnelLimits};
use mezusphere_edge::view::{View, ViewLimits};
use mezusphere_edge::{Fair, FairLimits};
use mezusphere_model::clock::ManualClock;
use mezusphere_model::document::{ApiKeyDoc, Document, Partition, PlatformDoc, PrincipalDoc, TrustDoc};
use mezusphere_model::id::{
    ApiKeyId, EdgeId, EnvironmentId, ProjectId, ServiceAccountId, SessionId, SignInId, UserId, WarpgateId,
};
use mezusphere_model::identity::{Assurance, Identity, Method as SignInMethod, Subject};
use mezusphere_model::link::FoundSession;
use mezusphere_model::route::SiteDoc;
use mezusphere_model::session::SessionDoc;
use mezusphere_model::token::{ApiKeyToken, CookieKey, SessionCookie, Token};
use mezusphere_model::{Entropy, Host, Platform, Timestamp};
use mezusphere_pki::lifetime::LEAF_TTL;
use mezusphere_pki::{
    CurrentIdentity, CurrentTrust, EDGE_DNS_NAME, Issuing, NodeIdentity, NodeKey, Role, Root, SpiffeName,
    Trust, TrustDomain, tls,
};
use mezusphere_telemetry::Metrics;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use tunnel_proto::jws::{Jwk, SigningKey};

use crate::documents::FakeDocuments;
use crate::link::FakeLink;
pub(crate) use crate::shop::{
    blog, code, empty, full, get, get_as, identity_of_key, name, principal, read, request, route, shop,
};
use crate::warpgate::{Exchange, Warpgate};

pub(crate) const BEGIN: Timestamp = Timestamp::from_seconds(1_800_000_000);
pub(crate) const PROJECT: ProjectId = ProjectId::from_bits(4);
pub(crate) const ENVIRONMENT: EnvironmentId = EnvironmentId::from_bits(5);
pub(crate) const OTHER_PROJECT: ProjectId = ProjectId::from_bits(14);
pub(crate) const OTHER_ENVIRONMENT: EnvironmentId = EnvironmentId::from_bits(15);
pub(crate) const USER: UserId = UserId::from_bits(20);
pub(crate) const ACCOUNT: ServiceAccountId = ServiceAccountId::from_bits(21);
pub(crate) const SIGN_IN: SignInId = SignInId::from_bits(22);
pub(crate) const SHOP: &str = "shop.localhost";
pub(crate) const BLOG: &str = "blog.localhost";
pub(crate) const EDGE: EdgeId = EdgeId::from_bits(1);

/// Longest a test waits for what must come.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// How long may be taken for what has to be done within `bound`: that, with `MEZU_FULL`; otherwise as long again, because a
/// busy machine has bad moments.
pub(crate) fn allowed(bound: Duration) -> Duration {
    if std::env::var_os("MEZU_FULL").is_some() { bound } else { bound * 2 }
}

pub(crate) struct World {
    pub(crate) hand: ManualClock,
    pub(crate) documents: Arc<FakeDocuments>,
    pub(crate) link: Arc<FakeLink>,
    pub(crate) server: Server,
    pub(crate) tunnels: Arc<Registry>,
    pub(crate) drain: Drain,
    pub(crate) cookie_key: CookieKey,
    pub(crate) entropy: Entropy,
    pub(crate) metrics: Metrics,
    /// What the feed says of trust.
    pub(crate) trusted: TrustDoc,
    address: SocketAddr,
    /// Where tunnels over TCP are taken.
    pub(crate) tcp_address: SocketAddr,
    pub(crate) issuing: Issuing,
    pub(crate) domain: TrustDomain,
    pub(crate) trust: CurrentTrust,
    keys: Vec<Jwk>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::limited(ViewLimits::default(), TunnelLimits::default())
    }

    /// A world whose edge takes less at once than one that runs.
    pub(crate) fn fair(fair_limits: &FairLimits) -> Self {
        Self::bounded(ViewLimits::default(), TunnelLimits::default(), fair_limits)
    }

    /// A world with other bounds than those that run.
    pub(crate) fn limited(view_limits: ViewLimits, tunnel_limits: TunnelLimits) -> Self {
        Self::bounded(view_limits, tunnel_limits, &FairLimits::default())
    }

    fn bounded(view_limits: ViewLimits, tunnel_limits: TunnelLimits, fair_limits: &FairLimits) -> Self {
        let entropy = Entropy::counting();
        let hand = ManualClock::at(BEGIN);
        let clock = hand.clock();
        let domain = TrustDomain::parse("mezu.example").unwrap();
        let root = Root::create(&domain, BEGIN, &entropy).unwrap();
        let issuing = Issuing::create(&root, BEGIN, &entropy).unwrap();
        let trust =
            CurrentTrust::new(Trust::new(domain.clone(), vec![root.certificate().clone()], []).unwrap());
        let identity = CurrentIdentity::new(issue(&issuing, &domain, Role::Edge(EDGE), LEAF_TTL));
        let signing = SigningKey::from_pkcs8(NodeKey::generate().unwrap().pkcs8_der()).unwrap();
        let keys = vec![signing.public().clone()];
        let cookie_key = CookieKey::random(&entropy);
        let documents = Arc::new(FakeDocuments::new());
        let platform = PlatformDoc {
            platform: Platform::development(8443).unwrap(),
            cookie_keys: vec![cookie_key.clone()],
            assertion_jwks: Jwk::write_set(&keys),
            controls: Vec::new(),
        };
        documents.publish(Partition::Platform, Document::Platform(platform));
        let trusted = TrustDoc {
            trust_domain: "mezu.example".to_owned(),
            roots_pem: vec![root.certificate_pem()],
            ..TrustDoc::default()
        };
        documents.publish(Partition::Platform, Document::Trust(trusted.clone()));
        documents.publish(Partition::Project(PROJECT), Document::Site(Box::new(shop())));
        documents.publish(Partition::Project(OTHER_PROJECT), Document::Site(Box::new(blog())));
        let link = Arc::new(FakeLink::new(signing, clock.clone()));
        let view =
            View::open(Arc::clone(&documents) as _, Arc::clone(&link) as _, clock.clone(), view_limits);
        let (tunnels, drain) = (Arc::new(Registry::new()), Drain::new());
        let parts = AcceptorParts {
            edge: EDGE,
            region: "test".to_owned(),
            identity: identity.clone(),
            trust: trust.clone(),
            view: Arc::clone(&view),
            tunnels: Arc::clone(&tunnels),
            clock: clock.clone(),
            drain: drain.clone(),
        };
        let acceptor = Acceptor::limited(parts, tunnel_limits);
        let metrics = Metrics::new("test");
        let server = Server::new(ServerParts {
            hosts: Platform::development(8443).unwrap(),
            view: Arc::clone(&view),
            tunnels: Arc::clone(&tunnels),
            link: Arc::clone(&link) as _,
            platform: Some(tower::util::BoxCloneSyncService::new(tower::service_fn(platform_answer))),
            clock: clock.clone(),
            entropy: entropy.clone(),
            fair: Arc::new(Fair::new(fair_limits, clock.clone(), &metrics)),
            metrics: metrics.clone(),
        });
        tokio::spawn(view.follow());
        tokio::spawn(server.background());
        let config = tls::tunnel_server_config(&identity, &trust, &clock, &[tunnel_proto::ALPN]).unwrap();
        let tcp_address = crate::tcp_warpgate::listen(config.clone(), acceptor.clone());
        let config = QuicServerConfig::try_from(config).unwrap();
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(config));
        Arc::get_mut(&mut config.transport)
            .unwrap()
            .stream_receive_window(quinn::VarInt::from_u32(512 * 1024));
        let endpoint = quinn::Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let address = endpoint.local_addr().unwrap();
        tokio::spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    if let Ok(connection) = incoming.await {
                        acceptor.accept(connection).await;
                    }
                });
            }
        });
        Self {
            hand,
            documents,
            link,
            server,
            tunnels,
            drain,
            cookie_key,
            entropy,
            metrics,
            trusted,
            address,
            tcp_address,
            issuing,
            domain,
            trust,
            keys,
        }
    }

    /// A world with one warpgate, which answers with `handler`.
    pub(crate) async fn with_warpgate<F>(
        handler: impl Fn(Exchange) -> F + Send + Sync + 'static,
    ) -> (Self, Warpgate)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let world = Self::new();
        let warpgate = world.warpgate(6, handler).await;
        (world, warpgate)
    }

    /// One more warpgate of the shop.
    pub(crate) async fn warpgate<F>(
        &self,
        id: u128,
        handler: impl Fn(Exchange) -> F + Send + Sync + 'static,
    ) -> Warpgate
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.warpgate_for(id, LEAF_TTL, handler).await.welcomed().await
    }

    /// The same with a certificate that lives this long, and perhaps not welcome.
    pub(crate) async fn warpgate_for<F>(
        &self,
        id: u128,
        ttl: Duration,
        handler: impl Fn(Exchange) -> F + Send + Sync + 'static,
    ) -> Warpgate
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let connection = self.dial(WarpgateId::from_bits(id), ttl).await;
        self.start(connection, id, handler)
    }

    /// A warpgate on a connection it has dialled.
    pub(crate) fn start<F>(
        &self,
        connection: quinn::Connection,
        id: u128,
        handler: impl Fn(Exchange) -> F + Send + Sync + 'static,
    ) -> Warpgate
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let id = WarpgateId::from_bits(id);
        Warpgate::start(connection, id, self.keys.clone(), self.hand.clock(), handler)
    }

    /// A connection of a warpgate that has said nothing yet.
    pub(crate) async fn dial(&self, id: WarpgateId, ttl: Duration) -> quinn::Connection {
        self.dial_for(id, ttl, 1024).await
    }

    /// The same for this many exchanges at once.
    pub(crate) async fn dial_for(&self, id: WarpgateId, ttl: Duration, exchanges: u32) -> quinn::Connection {
        self.dial_as(Role::Warpgate { project: PROJECT, environment: ENVIRONMENT, id }, ttl, exchanges).await
    }

    /// A warpgate of the blog that answers with `handler`.
    pub(crate) async fn blogs_warpgate<F>(
        &self,
        id: u128,
        handler: impl Fn(Exchange) -> F + Send + Sync + 'static,
    ) -> Warpgate
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (project, environment) = (OTHER_PROJECT, OTHER_ENVIRONMENT);
        let role = Role::Warpgate { project, environment, id: WarpgateId::from_bits(id) };
        let connection = self.dial_as(role, LEAF_TTL, 1024).await;
        self.start(connection, id, handler).welcomed().await
    }

    async fn dial_as(&self, role: Role, ttl: Duration, exchanges: u32) -> quinn::Connection {
        let identity = CurrentIdentity::new(issue(&self.issuing, &self.domain, role, ttl));
        let clock = self.hand.clock();
        let config =
            tls::tunnel_client_config(&identity, &self.trust, EDGE, &clock, &[tunnel_proto::ALPN]).unwrap();
        let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(config).unwrap()));
        let mut transport = quinn::TransportConfig::default();
        transport.max_concurrent_bidi_streams(quinn::VarInt::from_u32(exchanges));
        transport.stream_receive_window(quinn::VarInt::from_u32(512 * 1024));
        config.transport_config(Arc::new(transport));
        let mut endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        endpoint.set_default_client_config(config);
        endpoint.connect(self.address, EDGE_DNS_NAME).unwrap().await.unwrap()
    }

    /// Somebody signed in on a host, with the text of their session cookie.
    pub(crate) fn sign_in(&self, roles: &[&str]) -> String {
        let (session, principal, token) = self.session(PROJECT, SHOP, roles);
        self.documents.publish(Partition::Project(session.project), Document::Principal(principal.clone()));
        self.documents.publish(Partition::Project(session.project), Document::Session(session.clone()));
        self.known_to_control(&session, &principal);
        self.cookie(&token, 1)
    }

    /// Lets control know a session.
    pub(crate) fn known_to_control(&self, session: &SessionDoc, principal: &PrincipalDoc) {
        let identity = Identity {
            subject: principal.subject,
            session: Some(session.id),
            email: principal.email.clone(),
            name: principal.name.clone(),
            roles: principal.roles.clone(),
            permissions: principal.permissions.clone(),
            methods: session.methods.clone(),
            assurance: session.assurance,
            authenticated_at: session.authenticated_at,
            claims: principal.claims.clone(),
        };
        let found = FoundSession { session: session.clone(), principal: principal.clone() };
        self.link.sessions.lock().unwrap().insert(session.token_hash, (found, identity));
    }

    /// A session that nobody knows of yet.
    pub(crate) fn session(
        &self,
        project: ProjectId,
        host: &str,
        roles: &[&str],
    ) -> (SessionDoc, PrincipalDoc, Token) {
        let token = Token::random(&self.entropy);
        let session = SessionDoc {
            id: SessionId::random(&self.entropy),
            token_hash: token.hash(),
            sign_in: SIGN_IN,
            user: USER,
            project,
            host: Host::parse(host).unwrap(),
            methods: vec![SignInMethod::Password],
            assurance: Assurance::Aal1,
            authenticated_at: BEGIN,
            issued_at: BEGIN,
            expires_at: BEGIN.after(Duration::from_hours(12)),
            idle_s_max: 3600,
            seen_at: BEGIN,
        };
        (session, principal(Subject::User(USER), project, roles), token)
    }

    pub(crate) fn cookie(&self, token: &Token, born_at: u64) -> String {
        let cookie = SessionCookie { token: token.clone(), born_at };
        format!("{}={}", SessionCookie::NAME, cookie.write(&self.cookie_key))
    }

    /// An API key of the shop's service account.
    pub(crate) fn api_key(&self, change: impl FnOnce(&mut ApiKeyDoc)) -> String {
        let key = ApiKeyToken { id: ApiKeyId::random(&self.entropy), secret: Token::random(&self.entropy) };
        let mut doc = ApiKeyDoc {
            id: key.id,
            secret_hash: key.secret.hash(),
            account: ACCOUNT,
            project: PROJECT,
            scopes: vec![name("request")],
            environment: None,
            expires_at: None,
        };
        change(&mut doc);
        let project = doc.project;
        let subject = Subject::ServiceAccount(ACCOUNT);
        let principal = principal(subject, project, &["customer"]);
        self.documents.publish(Partition::Project(project), Document::Principal(principal));
        self.documents.publish(Partition::Project(project), Document::ApiKey(doc));
        key.reveal()
    }

    /// Answers a request as the listeners would hand it over on HTTP/2, on a connection that was opened for the shop.
    pub(crate) async fn send(&self, request: Request<Body>) -> Response<Body> {
        self.send_on(request, Protocol::H2).await
    }

    pub(crate) async fn send_on(&self, request: Request<Body>, protocol: Protocol) -> Response<Body> {
        let info = connection(protocol);
        tokio::time::timeout(SOON, self.server.handle(request, &info)).await.unwrap()
    }

    /// Publishes the shop with a change, which is known when this returns.
    pub(crate) async fn publish(&self, change: impl FnOnce(&mut SiteDoc)) {
        self.publish_site(shop(), change).await;
    }

    /// The same for the blog.
    pub(crate) async fn publish_blog(&self, change: impl FnOnce(&mut SiteDoc)) {
        self.publish_site(blog(), change).await;
    }

    async fn publish_site(&self, mut site: SiteDoc, change: impl FnOnce(&mut SiteDoc)) {
        change(&mut site);
        site.min_reader = site.min_reader.max(if site.quota.is_empty() { 1 } else { 2 });
        site.revision += 1;
        self.documents.publish(Partition::Project(site.project), Document::Site(Box::new(site)));
        self.settle().await;
    }

    /// Changes what the feed says of trust.
    pub(crate) fn trust(&self, change: impl FnOnce(&mut TrustDoc)) {
        let mut trusted = self.trusted.clone();
        change(&mut trusted);
        self.documents.publish(Partition::Platform, Document::Trust(trusted));
    }

    /// A node's name.
    pub(crate) fn uri(&self, role: Role) -> String {
        SpiffeName::new(self.domain.clone(), role).to_string()
    }

    /// A warpgate's name.
    pub(crate) fn warpgate_uri(&self, id: u128) -> String {
        self.uri(Role::Warpgate { project: PROJECT, environment: ENVIRONMENT, id: WarpgateId::from_bits(id) })
    }

    /// Lets what was published take effect.
    pub(crate) async fn settle(&self) {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
}

pub(crate) fn connection(protocol: Protocol) -> ConnectionInfo {
    ConnectionInfo {
        client: "192.0.2.7:5555".parse().unwrap(),
        protocol,
        sni: Some(SHOP.into()),
        certificate: Arc::new(CertificateNames::new(["*.localhost", "*.mezu.localhost"])),
    }
}

async fn platform_answer(request: Request<Body>) -> Result<Response<Body>, std::convert::Infallible> {
    let client = request.extensions().get::<mezusphere_model::link::ClientAddress>().unwrap().0;
    let host = request.headers().get(HOST).unwrap().to_str().unwrap();
    let forwarded = request.headers().contains_key("x-forwarded-for");
    let told = format!("{} {host} {client} {forwarded}", request.uri());
    Ok(Response::new(full(told)))
}

pub(crate) fn issue(issuing: &Issuing, domain: &TrustDomain, role: Role, ttl: Duration) -> NodeIdentity {
    let key = NodeKey::generate().unwrap();
    let name = SpiffeName::new(domain.clone(), role);
    let leaf = issuing.issue(&key.csr_der().unwrap(), &name, BEGIN, ttl).unwrap();
    NodeIdentity::new(leaf.chain, key).unwrap()
}
