//! Joining: the root is checked before anything is sent, the key stays, and each refusal keeps its words.

use std::sync::Arc;
use std::time::Duration;

use mezusphere_edge_link::ALPN_JOIN;
use mezusphere_edge_link::join::{JoinError, JoinRefused, JoinReply, JoinRequest, join, refusal};
use mezusphere_edge_link::limits::NodeLimits;
use mezusphere_model::document::{NodeAddress, TrustDoc};
use mezusphere_model::id::{ControlId, EdgeId, JoinId};
use mezusphere_model::join_token::JoinToken;
use mezusphere_model::token::Token;
use mezusphere_pki::tls::{connect_server_config, link_client_config};
use mezusphere_pki::{CurrentIdentity, CurrentTrust, ExpectedRole, Role, verify_peer};
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::round_trip::about;
use crate::world::{Node, World, node_address, within};

fn token(world: &World, controls: &[NodeAddress]) -> JoinToken {
    JoinToken {
        id: JoinId::random(&world.entropy),
        secret: Token::random(&world.entropy),
        root: world.root.fingerprint(),
        controls: controls.to_vec(),
    }
}

fn trust_doc(world: &World) -> TrustDoc {
    TrustDoc {
        trust_domain: world.domain().to_owned(),
        roots_pem: vec![world.root.certificate_pem()],
        denied: vec!["spiffe://mezu.example/edge/x".to_owned()],
        ..TrustDoc::default()
    }
}

/// What a control node answers that lets everybody in.
fn reply(world: &World, node: &Node, edge: EdgeId, request: &JoinRequest) -> JoinReply {
    JoinReply {
        edge,
        name: "edge-1".to_owned(),
        chain_der: world.certify(&request.csr_der, Role::Edge(edge), Duration::from_hours(24)),
        trust: trust_doc(world),
        controls: vec![node.at()],
        control_time: request.edge_time.after(Duration::from_secs(3)),
    }
}

#[tokio::test]
async fn r20_a_new_edge_makes_its_key_and_gets_all_it_needs_to_link() {
    let world = Arc::new(World::new());
    let node = Arc::new(world.control().await);
    let (edge, token) = (world.edge(), token(&world, &[node.at()]));
    let (asked, seen) = oneshot::channel();
    let asked = std::sync::Mutex::new(Some(asked));
    let (answering, at) = (Arc::clone(&world), Arc::clone(&node));
    *node.fake.join.lock().unwrap() = Some(Box::new(move |request| {
        let answer = reply(&answering, &at, edge, &request);
        asked.lock().unwrap().take().unwrap().send(request).unwrap();
        Ok(answer)
    }));
    let joined = within(join(&token, about(), &world.clock)).await.unwrap();
    let request = seen.await.unwrap();
    assert_eq!((request.id, &request.secret, &request.about), (token.id, &token.secret, &about()));
    assert_eq!(request.edge_time, world.clock.now());
    assert_eq!((joined.edge, joined.name.as_str()), (edge, "edge-1"));
    assert_eq!((joined.trust, joined.controls.clone()), (trust_doc(&world), vec![node.at()]));
    assert_eq!(joined.clock_ahead_micros, 3_000_000);
    // What it got is what gets it in.
    let identity = CurrentIdentity::new(joined.identity);
    let trust = CurrentTrust::new(world.trust(&[]));
    verify_peer(identity.get().chain(), &trust.get(), world.clock.now(), ExpectedRole::Edge(edge)).unwrap();
    link_client_config(&identity, &trust, &world.clock, &[b"x"]).unwrap();
    assert!(!node.fake.asked().iter().any(|_| true), "joining asks nothing of the link");
}

/// A listener with this TLS that tells what it was sent.
pub(crate) async fn listening(config: ServerConfig) -> (NodeAddress, oneshot::Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = node_address(listener.local_addr().unwrap());
    let (tell, told) = oneshot::channel();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut sent = Vec::new();
        if let Ok(mut stream) = TlsAcceptor::from(Arc::new(config)).accept(stream).await {
            drop(stream.read_to_end(&mut sent).await);
        }
        drop(tell.send(sent));
    });
    (at, told)
}

#[tokio::test]
async fn r19_a_joining_edge_sends_nothing_to_another_edge_or_to_another_installation() {
    let world = World::new();
    let other = World::named("mezu.example");
    let foreign = other.current(Role::Control(ControlId::random(&other.entropy)));
    let edge = world.current(Role::Edge(world.edge()));
    let rows = [
        ("another installation of the same name", &other, foreign, ALPN_JOIN, "edge.control_untrusted"),
        ("an edge that plays control", &world, edge, ALPN_JOIN, "edge.not_control"),
    ];
    for (who, of, identity, alpn, code) in rows {
        let trust = CurrentTrust::new(of.trust(&[]));
        let config = connect_server_config(&identity, &trust, &of.clock, &[alpn]).unwrap();
        let (at, told) = listening(config).await;
        let refused = within(join(&token(&world, &[at]), about(), &world.clock)).await.unwrap_err();
        assert!(matches!(refused, JoinError::Unreached(_)), "{who}: {refused:?}");
        assert_eq!(refused.code(), code, "{who}: {refused}");
        assert_eq!(within(told).await.unwrap(), b"", "{who}");
    }
}

#[tokio::test]
async fn each_refusal_keeps_its_code_words_and_next_step() {
    let world = World::new();
    let node = world.control().await;
    let token = token(&world, &[node.at()]);
    for code in [
        refusal::UNKNOWN,
        refusal::USED,
        refusal::EXPIRED,
        refusal::CLOCK,
        refusal::TOO_OLD,
        refusal::OTHER_INSTALLATION,
        refusal::MALFORMED,
        "join.of_the_future",
    ] {
        let words = JoinRefused::new(code, format!("No: {code}."), "Do this next.");
        let answer = words.clone();
        *node.fake.join.lock().unwrap() = Some(Box::new(move |_| Err(answer.clone())));
        let refused = within(join(&token, about(), &world.clock)).await.unwrap_err();
        assert!(matches!(&refused, JoinError::Refused(found) if *found == words), "{refused:?}");
        assert_eq!((refused.code(), refused.next()), (code, "Do this next."));
    }
}

#[tokio::test]
async fn a_control_node_that_is_dead_or_busy_is_passed_over() {
    let world = Arc::new(World::new());
    let (busy, node) = (world.control().await, Arc::new(world.control().await));
    let dead = node_address(TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap());
    *busy.fake.join.lock().unwrap() =
        Some(Box::new(|_| Err(JoinRefused::new(refusal::BUSY, "Busy.", "Try again."))));
    let (edge, answering, at) = (world.edge(), Arc::clone(&world), Arc::clone(&node));
    *node.fake.join.lock().unwrap() =
        Some(Box::new(move |request| Ok(reply(&answering, &at, edge, &request))));
    let token = token(&world, &[dead.clone(), busy.at(), node.at()]);
    assert_eq!(within(join(&token, about(), &world.clock)).await.unwrap().edge, edge);
    let only = JoinToken { controls: vec![busy.at(), dead], ..token };
    let refused = within(join(&only, about(), &world.clock)).await.unwrap_err();
    assert_eq!(refused.code(), "edge.control_unreachable", "the last one");
}

#[tokio::test]
async fn a_reply_that_does_not_fit_together_is_not_taken() {
    type Spoil = fn(&World, &JoinRequest, JoinReply) -> JoinReply;
    let rows: [(&str, Spoil); 5] = [
        ("another edge's name", |world, _, reply| JoinReply { edge: world.edge(), ..reply }),
        ("a chain for another key", |world, _, reply| {
            let key = mezusphere_pki::NodeKey::generate().unwrap();
            let csr = key.csr_der().unwrap();
            let chain_der = world.certify(&csr, Role::Edge(reply.edge), Duration::from_hours(1));
            JoinReply { chain_der, ..reply }
        }),
        ("a control node's certificate", |world, request, reply| {
            let role = Role::Control(ControlId::random(&world.entropy));
            JoinReply { chain_der: world.certify(&request.csr_der, role, Duration::from_hours(1)), ..reply }
        }),
        ("other roots than the token's", |_, _, reply| {
            let other = World::named("mezu.example");
            JoinReply { trust: trust_doc(&other), ..reply }
        }),
        ("no chain", |_, _, reply| JoinReply { chain_der: Vec::new(), ..reply }),
    ];
    let world = Arc::new(World::new());
    let node = Arc::new(world.control().await);
    for (what, spoil) in rows {
        let (edge, answering, at) = (world.edge(), Arc::clone(&world), Arc::clone(&node));
        *node.fake.join.lock().unwrap() = Some(Box::new(move |request| {
            Ok(spoil(&answering, &request, reply(&answering, &at, edge, &request)))
        }));
        let refused = within(join(&token(&world, &[node.at()]), about(), &world.clock)).await;
        assert!(matches!(&refused, Err(JoinError::Reply(_))), "{what}: {refused:?}");
    }
}

#[tokio::test]
async fn r23_a_joiner_that_says_nothing_or_nonsense_is_closed() {
    let world = World::new();
    let node =
        world.control_with(NodeLimits { join: Duration::from_millis(300), ..NodeLimits::default() }).await;
    let dial = || async {
        let config =
            mezusphere_pki::tls::connect_client_config(world.root.fingerprint(), &world.clock, &[ALPN_JOIN]);
        crate::roles::dial(&node, config.unwrap()).await.unwrap()
    };
    for said in [&b""[..], &[0xff, 0xff, 0xff, 0xff], &[0, 0, 0, 100, b'{']] {
        let mut stream = dial().await;
        stream.write_all(said).await.unwrap();
        stream.flush().await.unwrap();
        let mut rest = Vec::new();
        drop(timeout(Duration::from_secs(3), stream.read_to_end(&mut rest)).await.expect("it is closed"));
        assert_eq!(rest, b"", "{said:?}");
    }
    let mut stream = dial().await;
    stream.write_all(&[0, 0, 0, 2, b'{', b'}']).await.unwrap();
    stream.flush().await.unwrap();
    let mut rest = Vec::new();
    within(stream.read_to_end(&mut rest)).await.unwrap();
    assert!(String::from_utf8_lossy(&rest).contains(refusal::MALFORMED), "{rest:?}");
}

#[tokio::test]
async fn an_answer_that_is_lost_is_told_as_such() {
    let world = World::new();
    let identity = world.current(Role::Control(ControlId::random(&world.entropy)));
    let trust = CurrentTrust::new(world.trust(&[]));
    let config = connect_server_config(&identity, &trust, &world.clock, &[ALPN_JOIN]).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = node_address(listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = TlsAcceptor::from(Arc::new(config)).accept(stream).await.unwrap();
        // Reads the request, then dies.
        drop(stream.read(&mut [0; 4096]).await);
    });
    let lost = within(join(&token(&world, &[at]), about(), &world.clock)).await.unwrap_err();
    assert_eq!(lost.code(), "join.no_answer", "{lost}");
    assert!(lost.next().contains("join token"));
}
