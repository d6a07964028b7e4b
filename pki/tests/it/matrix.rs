//! Every role shown where every role is expected.

use std::sync::Arc;

use mezusphere_pki::{ExpectedRole, NodeIdentity, PeerError, lifetime, tls, verify_peer};
use rustls::AlertDescription::{self, AccessDenied, BadCertificate, UnsupportedCertificate};
use rustls::{ClientConfig, ServerConfig};

use crate::world::{ALPN, EDGE, Outcome, Shown, World, believer, shake};

/// What a peer shows: three roles of this installation, and a public certificate from its own CA.
struct Rows {
    edge: Shown,
    control: Shown,
    warpgate: Shown,
    public: Shown,
}

impl Rows {
    fn of(world: &World) -> Self {
        let node = |name| Shown::of(&world.identity_for(&name, lifetime::LEAF_TTL));
        // A name of its own that looks as much like an edge's as a public certificate's can.
        let names = ["edge.mezu.example".to_owned()];
        let public = world.issuing.issue_public(&names, world.now(), lifetime::PUBLIC_TTL_MAX).unwrap();
        Self {
            edge: node(world.edge()),
            control: node(world.control()),
            warpgate: node(world.warpgate()),
            public: Shown::from_pem(&public.chain_pem, &public.key_pem),
        }
    }

    fn all(&self) -> [(&'static str, &Shown); 4] {
        [
            ("edge", &self.edge),
            ("control", &self.control),
            ("warpgate", &self.warpgate),
            ("public", &self.public),
        ]
    }
}

/// `None`: gets in.
type Expected = [Option<AlertDescription>; 4];

fn check(
    rows: &Rows,
    column: &str,
    expected: Expected,
    run: impl Fn(&Shown) -> Outcome,
    alert: impl Fn(&Outcome) -> AlertDescription,
) {
    for ((row, shown), expected) in rows.all().into_iter().zip(expected) {
        let outcome = run(shown);
        match expected {
            None => assert!(outcome.is_up(), "{row} at {column}: {:?} {:?}", outcome.client, outcome.server),
            Some(expected) => assert_eq!(alert(&outcome), expected, "{row} at {column}"),
        }
    }
}

#[test]
fn r19_each_role_gets_in_only_where_it_is_expected_in_real_handshakes() {
    let world = World::new();
    let rows = Rows::of(&world);
    let (trust, clock) = (world.current_trust(), world.clock());

    let dials = |server: ServerConfig| {
        let server = Arc::new(server);
        move |shown: &Shown| shake(&Arc::new(believer::client(shown.clone())), &server)
    };
    let answers = |client: ClientConfig| {
        let client = Arc::new(client);
        move |shown: &Shown| shake(&client, &Arc::new(believer::server(shown.clone())))
    };
    let server_said = Outcome::server_refused_with;
    let client_said = Outcome::client_refused_with;

    let tunnel = tls::tunnel_server_config(&world.identity(&world.edge()), &trust, &clock, ALPN).unwrap();
    let expected = [Some(AccessDenied), Some(AccessDenied), None, Some(UnsupportedCertificate)];
    check(&rows, "tunnel, dialling", expected, dials(tunnel), server_said);

    let link = tls::link_server_config(&world.identity(&world.control()), &trust, &clock, ALPN).unwrap();
    let expected = [None, Some(AccessDenied), Some(AccessDenied), Some(UnsupportedCertificate)];
    check(&rows, "link, dialling", expected, dials(link), server_said);

    let warpgate = world.identity(&world.warpgate());
    let tunnel = tls::tunnel_client_config(&warpgate, &trust, EDGE, &clock, ALPN).unwrap();
    let expected = [None, Some(AccessDenied), Some(UnsupportedCertificate), Some(BadCertificate)];
    check(&rows, "tunnel, answering", expected, answers(tunnel), client_said);

    let link = tls::link_client_config(&world.identity(&world.edge()), &trust, &clock, ALPN).unwrap();
    let expected = [Some(AccessDenied), None, Some(UnsupportedCertificate), Some(BadCertificate)];
    check(&rows, "link, answering", expected, answers(link), client_said);

    let connect = tls::connect_client_config(world.root.fingerprint(), &clock, ALPN).unwrap();
    let expected = [Some(AccessDenied), None, Some(UnsupportedCertificate), Some(BadCertificate)];
    let root = world.root.certificate().clone();
    let answer = answers(connect);
    let with_root = |shown: &Shown| {
        let mut shown = shown.clone();
        shown.chain.push(root.clone());
        answer(&shown)
    };
    check(&rows, "connect, answering", expected, with_root, client_said);
}

#[test]
fn r19_each_role_is_judged_the_same_outside_a_handshake() {
    let world = World::new();
    let rows = Rows::of(&world);
    let trust = world.trust();
    let columns = [
        (ExpectedRole::AnyWarpgate, [false, false, true, false]),
        (ExpectedRole::Edge(EDGE), [true, false, false, false]),
        (ExpectedRole::AnyEdge, [true, false, false, false]),
        (ExpectedRole::AnyControl, [false, true, false, false]),
    ];
    for (expected, admitted) in columns {
        for ((row, shown), admitted) in rows.all().into_iter().zip(admitted) {
            let judged = verify_peer(&shown.chain, &trust, world.now(), expected);
            assert_eq!(judged.is_ok(), admitted, "{row} as {expected}: {judged:?}");
        }
    }
}

#[test]
fn r19_a_warpgate_takes_no_other_edge_for_the_one_it_dials() {
    let world = World::new();
    let (trust, clock) = (world.current_trust(), world.clock());
    let other = world.identity(&world.other_edge());
    let server = tls::tunnel_server_config(&other, &trust, &clock, ALPN).unwrap();
    let warpgate = world.identity(&world.warpgate());
    let client = tls::tunnel_client_config(&warpgate, &trust, EDGE, &clock, ALPN).unwrap();
    let outcome = shake(&Arc::new(client), &Arc::new(server));
    assert_eq!(outcome.client_refused_with(), AccessDenied);

    let judged = verify_peer(other.get().chain(), &trust.get(), world.now(), ExpectedRole::Edge(EDGE));
    let found = Box::new(world.other_edge());
    assert_eq!(judged, Err(PeerError::Role { expected: ExpectedRole::Edge(EDGE), found }));
}

#[test]
fn r19_a_node_without_a_certificate_is_refused() {
    let world = World::new();
    let (trust, clock) = (world.current_trust(), world.clock());
    let nameless = Arc::new(believer::nameless_client());
    for server in [
        tls::tunnel_server_config(&world.identity(&world.edge()), &trust, &clock, ALPN).unwrap(),
        tls::link_server_config(&world.identity(&world.control()), &trust, &clock, ALPN).unwrap(),
    ] {
        let outcome = shake(&nameless, &Arc::new(server));
        assert_eq!(outcome.server_refused_with(), AlertDescription::CertificateRequired);
    }
    // The connect service asks for none: whoever enrols has none.
    let connect =
        tls::connect_server_config(&world.identity(&world.control()), &trust, &clock, ALPN).unwrap();
    assert!(shake(&nameless, &Arc::new(connect)).is_up());
}

#[test]
fn r19_nodes_of_two_installations_refuse_each_other_both_ways() {
    let (ours, theirs) = (World::new(), World::named("other.example"));
    let namesake = World::new(); // the same trust domain, another root
    for stranger in [&theirs, &namesake] {
        let identity = ours.identity(&ours.edge());
        let server =
            tls::tunnel_server_config(&identity, &ours.current_trust(), &ours.clock(), ALPN).unwrap();
        let visitor = stranger.identity_for(&stranger.warpgate(), lifetime::LEAF_TTL);
        let outcome = shake(&Arc::new(believer::client(Shown::of(&visitor))), &Arc::new(server));
        assert_eq!(outcome.server_refused_with(), AlertDescription::UnknownCA);

        let warpgate = ours.identity(&ours.warpgate());
        let client =
            tls::tunnel_client_config(&warpgate, &ours.current_trust(), EDGE, &ours.clock(), ALPN).unwrap();
        let host: NodeIdentity = stranger.identity_for(&stranger.edge(), lifetime::LEAF_TTL);
        let outcome = shake(&Arc::new(client), &Arc::new(believer::server(Shown::of(&host))));
        assert_eq!(outcome.client_refused_with(), AlertDescription::UnknownCA);
    }
}
