//! Who gets in where: every role and every kind of wrong certificate, made with the installation's own CA keys, shown at the
//! ports of a running control node and a running edge (R19, R20).
//!
//! Each cell is the exact refusal; and nothing that was said with a refused certificate reached anybody.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use mezusphere_edge_link::client::{ClientParts, LinkClient, LinkState, NOT_LISTED};
use mezusphere_model::connection_key::ConnectionKey;
use mezusphere_model::document::NodeAddress;
use mezusphere_model::id::{ControlId, EdgeId, EnvironmentId, WarpgateId};
use mezusphere_model::link::ControlLink as _;
use mezusphere_model::{Clock, Entropy};
use mezusphere_pki::tls::connect_client_config;
use mezusphere_pki::{CurrentIdentity, CurrentTrust, NodeIdentity, NodeKey, Peer, Role, Trust};
use mezusphere_tests::admin::Shop;
use mezusphere_tests::client::h1;
use mezusphere_tests::cluster::Cluster;
use mezusphere_tests::upstream::Upstream;
use rcgen::string::Ia5String;
use rcgen::{CertificateParams, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tunnel_proto::connect::{Decoder, Enroll, Reply, Request, frame};

use super::forge::{Forge, Leaf, Shown, name};
use super::knock::{Met, Port, Ports};
use crate::split_edge::{randomness, taken_link};

const UNSUPPORTED: u8 = 43;
const BAD: u8 = 42;
const EXPIRED: u8 = 45;
const UNKNOWN: u8 = 46;
const UNKNOWN_CA: u8 = 48;
const ACCESS_DENIED: u8 = 49;
const DECRYPT_ERROR: u8 = 51;
const REQUIRED: u8 = 116;

/// Ports where a certificate decides, and whose.
const JUDGED: [Port; 4] = [Port::Tunnel, Port::TunnelOverTcp, Port::Link, Port::Splice];

/// A cluster with one edge of its own, the keys of its CAs, and names of its nodes.
struct Scene {
    cluster: Cluster,
    forge: Forge,
    ports: Ports,
    shop: Shop,
    upstream: Upstream,
    edge: EdgeId,
    instance: WarpgateId,
    key: ConnectionKey,
    project: String,
}

impl Scene {
    async fn set() -> Result<Self> {
        let cluster = Cluster::start(1, &[]).await?;
        let shop = cluster.admin().seed_shop().await?;
        cluster.routes(&shop.host, "/account/").await?;
        let forge = Forge::of(&cluster).await?;
        let control = cluster.control.words();
        let at = control.iter().position(|word| word == "--node-listen").context("a node port")?;
        let ports = Ports {
            edge: SocketAddr::new(cluster.edges[0].address, cluster.port),
            control: control[at + 1].parse()?,
        };
        let edges = cluster.admin().run(&["edge", "list"]).await?;
        let edge = edges.pointer("/0/id").and_then(Value::as_str).context("an edge")?.parse()?;
        let projects = cluster.admin().run(&["project", "list"]).await?;
        let project = projects.pointer("/0/id").and_then(Value::as_str).context("a project")?.to_owned();
        let key: ConnectionKey = shop.connection_key.parse()?;
        let upstream = Upstream::start().await?;
        let instance = WarpgateId::from_bits(0x7e57);
        Ok(Self { cluster, forge, ports, shop, upstream, edge, instance, key, project })
    }

    fn edge_name(&self) -> String {
        name(&format!("edge/{}", self.edge))
    }

    fn warpgate_name(&self, environment: EnvironmentId) -> String {
        name(&format!("project/{}/env/{environment}/warpgate/{}", self.project, self.instance))
    }

    /// The name of whom a port is for.
    fn wanted(&self, port: Port) -> String {
        match port {
            Port::Tunnel | Port::TunnelOverTcp => self.warpgate_name(self.key.environment),
            Port::Link | Port::Splice | Port::Join | Port::Public => self.edge_name(),
        }
    }

    async fn met(&self, port: Port, shown: Option<&Shown>) -> Result<Met> {
        self.ports.knock(port, shown, self.instance).await
    }

    /// All that a stranger could have changed.
    async fn state(&self) -> Result<Vec<Value>> {
        let admin = self.cluster.admin();
        let mut state = Vec::new();
        for words in [&["warpgate", "list", "shop"][..], &["edge", "invitations"]] {
            state.push(admin.run(words).await?);
        }
        // That somebody came with a certificate that control never issued is told, and changes nothing.
        let audit = admin.run(&["audit", "list"]).await?;
        let changed = audit.as_array().into_iter().flatten().filter(|entry| entry["action"] != NOT_LISTED);
        state.push(changed.cloned().collect());
        let edges = admin.run(&["edge", "list"]).await?;
        let names = edges.as_array().into_iter().flatten().filter_map(|edge| edge.get("id").cloned());
        state.push(names.collect());
        Ok(state)
    }
}

/// Notes what did not meet what it should have.
#[derive(Default)]
struct Cells(Vec<String>);

impl Cells {
    fn check(&mut self, who: &str, port: Port, met: &Result<Met>, wanted: Option<u8>) {
        let is_right = match (met, wanted) {
            (Ok(met), None) => met.is_in(),
            (Ok(met), Some(alert)) => *met == Met::Alert(alert),
            (Err(_), _) => false,
        };
        if !is_right {
            let wanted = wanted.map_or_else(|| "let in".to_owned(), |alert| format!("alert {alert}"));
            self.0.push(format!("{who} at {port:?}: {met:?}, not {wanted}"));
        }
    }

    fn judge(self) -> Result<()> {
        ensure!(self.0.is_empty(), "{}", self.0.join("\n"));
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r19_every_role_gets_in_at_its_own_port_alone_and_no_wrong_certificate_anywhere() -> Result<()> {
    let scene = Scene::set().await?;
    let before = scene.state().await?;
    let mut cells = Cells::default();
    each_role_everywhere(&scene, &mut cells).await?;
    each_fault_of_the_right_role(&scene, &mut cells).await?;
    ensure!(scene.upstream.seen().is_empty());
    ensure!(scene.state().await? == before, "{before:?} became {:?}", scene.state().await?);
    cells.judge()
}

async fn each_role_everywhere(scene: &Scene, cells: &mut Cells) -> Result<()> {
    let control = name(&format!("control/{}", ControlId::from_bits(7)));
    let warpgate = scene.warpgate_name(scene.key.environment);
    let public = Leaf { uris: Vec::new(), dns: vec!["shop.localhost"], dials: false, ..Leaf::of(&control) };
    let real = |leaf: &Leaf| scene.forge.real(leaf).map(Some);
    let denied = Some(ACCESS_DENIED);
    let rows = [
        ("nobody", None, [Some(REQUIRED); 4]),
        ("an edge", real(&Leaf::of(&scene.edge_name()))?, [denied, denied, None, None]),
        ("a control node", real(&Leaf::of(&control))?, [denied; 4]),
        ("a warpgate", real(&Leaf::of(&warpgate))?, [None, None, denied, denied]),
        ("a public certificate", real(&public)?, [Some(UNSUPPORTED); 4]),
    ];
    for (who, shown, wanted) in &rows {
        for (port, wanted) in JUDGED.into_iter().zip(wanted) {
            // A warpgate that is let in is told of; the others leave no trace.
            cells.check(who, port, &scene.met(port, shown.as_ref()).await, *wanted);
        }
        // Where no certificate is asked for, none opens or closes anything.
        let joined = scene.met(Port::Join, shown.as_ref()).await?;
        let Met::In(answer) = &joined else { anyhow::bail!("{who} at join: {joined:?}") };
        ensure!(String::from_utf8_lossy(answer).contains("join.malformed"), "{who} at join: {joined:?}");
        let served = scene.met(Port::Public, shown.as_ref()).await?;
        let Met::In(answer) = &served else { anyhow::bail!("{who} in public: {served:?}") };
        // Nobody is behind the route; an account's page asks for a sign-in whatever was shown.
        ensure!(answer.starts_with(b"HTTP/1.1 5"), "{who} in public: {}", String::from_utf8_lossy(answer));
    }
    Ok(())
}

async fn each_fault_of_the_right_role(scene: &Scene, cells: &mut Cells) -> Result<()> {
    for port in JUDGED {
        let wanted = scene.wanted(port);
        let right = Leaf::of(&wanted);
        let (forge, domain) = (&scene.forge, wanted.replace("mezu.localhost", "other.example"));
        let rows = [
            ("ended", forge.real(&Leaf { until_s: -5, ..right.clone() })?, EXPIRED),
            ("not begun", forge.real(&Leaf { from_s: 120, ..right.clone() })?, EXPIRED),
            ("of a CA made at home", Forge::self_made(&right)?, UNKNOWN_CA),
            ("of a namesake of the CA", forge.namesake(&right)?, DECRYPT_ERROR),
            ("of a CA below the issuing CA", forge.nested(&right)?, UNKNOWN),
            ("of a node's certificate", forge.by_a_leaf(&wanted, &right)?, UNKNOWN),
            ("of a CA that may not name it", forge.constrained(&right)?, UNKNOWN),
            (
                "of another installation",
                forge.real(&Leaf { uris: vec![domain], ..right.clone() })?,
                UNKNOWN_CA,
            ),
            ("without a name", forge.real(&Leaf { uris: Vec::new(), ..right.clone() })?, BAD),
            (
                "with two names",
                forge.real(&Leaf { uris: vec![wanted.clone(), scene.edge_name() + "x"], ..right.clone() })?,
                BAD,
            ),
            (
                "for servers alone",
                forge.real(&Leaf { dials: false, serves: true, ..right.clone() })?,
                UNSUPPORTED,
            ),
        ];
        for (what, shown, alert) in rows {
            cells.check(what, port, &scene.met(port, Some(&shown)).await, Some(alert));
        }
        // The forge is no reason to refuse: made as control makes it, it gets in.
        cells.check("right", port, &scene.met(port, Some(&forge.real(&right)?)).await, None);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn r19_r20_nobody_has_another_tenants_requests_or_another_nodes_name() -> Result<()> {
    let scene = Scene::set().await?;
    a_request_for_somebody_elses_name_brings_ones_own(&scene).await?;
    a_certificate_that_control_never_issued_opens_no_link(&scene).await?;
    a_warpgate_of_another_tenant_gets_nothing(&scene).await
}

async fn a_warpgate_of_another_tenant_gets_nothing(scene: &Scene) -> Result<()> {
    let admin = scene.cluster.admin();
    admin.run(&["project", "create", "blog"]).await?;
    admin.run(&["route", "add", "blog", "/*", "--auth", "public"]).await?;
    let made = admin.run(&["api-key", "create", "blog"]).await?;
    let blog: ConnectionKey = made.get("secret").and_then(Value::as_str).context("a key")?.parse()?;
    let target = scene.cluster.target(0, &scene.shop.host, "/")?;
    let tls = scene.cluster.tls(b"http/1.1")?;

    // The blog's own warpgate, and two that mix the tenants in their names, which control never gives: each is let in as
    // what it says it is, and the shop stays without a tunnel.
    let projects = admin.run(&["project", "list"]).await?;
    let is_blog = |project: &&Value| project.get("slug").is_some_and(|slug| slug == "blog");
    let theirs =
        projects.as_array().into_iter().flatten().find(is_blog).and_then(|blog| blog.get("id")?.as_str());
    let theirs = theirs.context("the blog's id")?;
    let mut tunnels = Vec::new();
    for (number, (project, environment)) in [
        (theirs, blog.environment),
        (scene.project.as_str(), blog.environment),
        (theirs, scene.key.environment),
    ]
    .into_iter()
    .enumerate()
    {
        let instance = WarpgateId::from_bits(0x1000 + u128::try_from(number)?);
        let uri = name(&format!("project/{project}/env/{environment}/warpgate/{instance}"));
        let shown = scene.forge.real(&Leaf::of(&uri))?;
        let dialled = scene.ports.tunnel(Some(&shown), instance).await?;
        ensure!(dialled.met.is_in(), "{uri}: {:?}", dialled.met);
        tunnels.push((uri, dialled));
    }
    h1::until(&target, &tls, |status| status == StatusCode::SERVICE_UNAVAILABLE).await?;
    for (uri, mut dialled) in tunnels {
        ensure!(!dialled.has_exchange().await, "a request of the shop came to {uri}");
        dialled.leave().await;
    }

    // Another instance than the certificate's is not believed.
    let right = scene.forge.real(&Leaf::of(&scene.wanted(Port::Tunnel)))?;
    let other = scene.ports.knock(Port::Tunnel, Some(&right), WarpgateId::from_bits(0xbad)).await?;
    ensure!(other == Met::Closed(tunnel_proto::codes::CloseCode::Refused), "{other:?}");

    // The blog's key enrols nobody for the shop.
    let foreign = Enroll { environment: scene.key.environment, ..scene.enroll(&blog, &csr(&[])?) };
    let Reply::Refused(refused) = scene.connect(&blog, Request::Enroll(foreign)).await? else {
        anyhow::bail!("the blog's key enrolled a warpgate of the shop");
    };
    ensure!(refused.code == "environment.unknown" || refused.code == "key.scope", "{refused:?}");
    Ok(())
}

/// A request that asks for these names.
fn csr(uris: &[String]) -> Result<Vec<u8>> {
    let mut params = CertificateParams::default();
    for uri in uris {
        params.subject_alt_names.push(SanType::URI(Ia5String::try_from(uri.as_str())?));
    }
    params.distinguished_name.push(rcgen::DnType::CommonName, "control");
    Ok(params.serialize_request(&KeyPair::generate()?)?.der().to_vec())
}

impl Scene {
    fn enroll(&self, key: &ConnectionKey, csr: &[u8]) -> Enroll {
        Enroll {
            key: key.key.clone(),
            environment: key.environment,
            csr_der: STANDARD.encode(csr),
            instance: Some(self.instance),
            agent: "warpgate/0.1.0".to_owned(),
            hostname: "rogue".to_owned(),
        }
    }

    /// Asks the connect service through the edge, as a warpgate does.
    async fn connect(&self, key: &ConnectionKey, request: Request) -> Result<Reply> {
        let tls = connect_client_config(key.root, &wall_clock(), &[tunnel_proto::CONNECT_ALPN])?;
        let tcp = TcpStream::connect(self.ports.edge).await?;
        let host = ServerName::try_from(key.host.to_string())?;
        let mut stream = TlsConnector::from(Arc::new(tls)).connect(host, tcp).await?;
        stream.write_all(&frame(&request.to_json()?)?).await?;
        stream.flush().await?;
        let mut answer = Decoder::new();
        let mut piece = vec![0; 64 * 1024];
        loop {
            let count = stream.read(&mut piece).await?;
            if count == 0 || answer.push(&piece[..count])? {
                return Ok(Reply::from_json(&answer.finish()?)?);
            }
        }
    }
}

fn wall_clock() -> Clock {
    Clock::new(|| {
        #[expect(clippy::disallowed_methods, reason = "the nodes judge by the real time")]
        std::time::SystemTime::now()
    })
}

/// At enrolment, and where an edge has its next key certified.
async fn a_request_for_somebody_elses_name_brings_ones_own(scene: &Scene) -> Result<()> {
    let wanted = [scene.edge_name(), name(&format!("control/{}", ControlId::from_bits(7)))];

    let asked = scene.enroll(&scene.key, &csr(&wanted)?);
    let reply = scene.connect(&scene.key, Request::Enroll(asked)).await?;
    let Reply::Enrolled(enrolled) = reply else { anyhow::bail!("{reply:?}") };
    let chain = mezusphere_pki::trust::certificates_from_pem(&enrolled.chain_pem)?;
    let named = Peer::read(&chain)?.name;
    ensure!(named.to_string() == scene.warpgate_name(scene.key.environment), "{named}");
    ensure!(!chain.iter().any(|der| contains(der, b"control")), "what was asked for is nowhere in it");

    // At the link of a real edge, by its certificate.
    let link = taken_link(scene.cluster.edges[0].member.data(), &randomness())?;
    link.connected().wait_for(LinkState::is_connected).await?;
    let chain: Vec<CertificateDer<'static>> =
        link.certify(csr(&wanted)?).await?.into_iter().map(CertificateDer::from).collect();
    let peer = Peer::read(&chain)?;
    ensure!(peer.name.role == Role::Edge(scene.edge), "{}", peer.name);
    Ok(())
}

/// Whoever has the CA's key can pass for an edge in the handshake, and gets no further.
async fn a_certificate_that_control_never_issued_opens_no_link(scene: &Scene) -> Result<()> {
    let shown = scene.forge.real(&Leaf::of(&scene.edge_name()))?;
    let rustls::pki_types::PrivateKeyDer::Pkcs8(key) = &shown.key else { anyhow::bail!("PKCS #8") };
    let key = NodeKey::from_pkcs8_der(key.secret_pkcs8_der())?;
    let roots = std::fs::read_to_string(scene.cluster.roots())?;
    let trust = Trust::from_pem("mezu.localhost", [roots.as_str()], [])?;
    let at = NodeAddress { host: scene.ports.control.ip().to_string(), port: scene.ports.control.port() };
    let (_keep, controls) = watch::channel(vec![at]);
    let link = LinkClient::start(ClientParts {
        edge: scene.edge,
        controls,
        identity: CurrentIdentity::new(NodeIdentity::new(shown.chain.clone(), key)?),
        trust: CurrentTrust::new(trust),
        clock: wall_clock(),
        entropy: Entropy::counting(),
    })?;
    let mut state = link.connected();
    state.wait_for(|state| matches!(state, LinkState::Away(why) if why.code == NOT_LISTED)).await?;
    ensure!(link.certify(csr(&[])?).await.is_err(), "it was given a certificate of control's own");
    let audit = scene.cluster.admin().run(&["audit", "list"]).await?;
    ensure!(audit.to_string().contains(NOT_LISTED), "{audit}");
    Ok(())
}

fn contains(octets: &[u8], part: &[u8]) -> bool {
    octets.windows(part.len()).any(|window| window == part)
}
