//! Every question of the port, over the wire and back; and that an edge speaks only for itself.

use std::net::SocketAddr;

use mezusphere_model::clock::Timestamp;
use mezusphere_model::host::Host;
use mezusphere_model::id::{ApiKeyId, EdgeId, EnvironmentId, ProjectId, RequestId, RouteId, SessionId};
use mezusphere_model::link::{
    ACTIVITY_BATCH_MAX, AboutEdge, Activity, CONNECT_MESSAGE_LEN_MAX, ControlLink, Credential, DenialCount,
    LinkError, RedeemCode, TUNNELS_HELD_MAX, TunnelReport,
};
use mezusphere_model::token::{ApiKeyToken, Token};

use crate::fake::{Mood, assertion, found, redeemed};
use crate::world::World;

fn client() -> SocketAddr {
    "[2001:db8::7]:4711".parse().unwrap()
}

pub(crate) fn about() -> AboutEdge {
    AboutEdge {
        version: "0.1.0".to_owned(),
        region: "Zürich".to_owned(),
        host: "edge-1.example".to_owned(),
        port: 443,
        draining: true,
    }
}

fn redeem_code() -> RedeemCode {
    RedeemCode {
        code: "code".to_owned(),
        host: Host::parse("shop.example").unwrap(),
        state_hash: "hash".to_owned(),
        replaces: Some(Token::from_bytes([9; 32]).hash()),
    }
}

pub(crate) fn activity(n: u128) -> Activity {
    Activity {
        session: SessionId::from_bits(n),
        project: ProjectId::from_bits(2),
        seen_at: Timestamp::from_micros(-3),
    }
}

fn denial() -> DenialCount {
    DenialCount {
        project: ProjectId::from_bits(1),
        route: RouteId::from_bits(2),
        reason: "roles".to_owned(),
        subject: Some("usr_x".to_owned()),
        count: u64::MAX,
        last: Timestamp::from_seconds(3),
        last_request: RequestId::from_bits(4),
    }
}

fn about_now() -> Timestamp {
    Timestamp::from_seconds(4)
}

fn report(edge: EdgeId) -> TunnelReport {
    TunnelReport {
        warpgate: "spiffe://mezu.example/x".to_owned(),
        environment: EnvironmentId::from_bits(1),
        edge,
        remote: client(),
        agent: "warpgate/0.1.0".to_owned(),
        upstreams: vec!["default".to_owned()],
        bad_upstreams: Vec::new(),
        transport: mezusphere_model::link::TunnelTransport::Quic,
        connected: true,
        at: Timestamp::from_seconds(2),
    }
}

#[tokio::test]
async fn every_question_and_answer_survives_the_wire() {
    let world = World::new();
    let control = world.control().await;
    let edge = world.link(&[control.at()]);
    let link = &edge.link;
    let environment = EnvironmentId::from_bits(77);
    let known = Token::from_bytes([4; 32]);
    let key = ApiKeyToken { id: ApiKeyId::from_bits(5), secret: Token::from_bytes([6; 32]) };

    assert_eq!(link.certify(vec![1, 2, 255]).await, Ok(vec![vec![0xff, 0], vec![]]));
    assert_eq!(link.about(about()).await, Ok(()));
    assert_eq!(
        format!("{:?}", link.redeem(redeem_code()).await),
        format!("{:?}", Ok::<_, LinkError>(redeemed()))
    );
    assert_eq!(link.find_session(known.clone()).await, Ok(Some(found())));
    assert_eq!(link.find_session(Token::from_bytes([5; 32])).await, Ok(None));
    assert_eq!(link.assertion(Credential::Session(known.clone()), environment).await, Ok(assertion()));
    assert_eq!(link.assertion(Credential::ApiKey(key.clone()), environment).await, Ok(assertion()));
    assert_eq!(link.sign_out(known.clone()).await, Ok(()));
    let batch: Vec<_> = (0..ACTIVITY_BATCH_MAX as u128).map(activity).collect();
    assert_eq!(link.activity(batch.clone()).await, Ok(()));
    assert_eq!(link.denials(vec![denial()]).await, Ok(()));
    assert_eq!(link.tunnel(report(edge.id)).await, Ok(()));
    let (held, at) = (vec![report(edge.id); TUNNELS_HELD_MAX], about_now());
    assert_eq!(link.tunnels(held.clone(), at).await, Ok(()));
    let mut message = vec![b'x'; CONNECT_MESSAGE_LEN_MAX];
    message[0] = 0xff;
    let back = link.connect(message.clone(), client()).await.unwrap();
    assert_eq!(back, message.into_iter().rev().collect::<Vec<u8>>());

    let asked: Vec<String> = control.fake.asked().into_iter().map(|(_, asked)| asked).collect();
    let expected = [
        "certify [1, 2, 255]".to_owned(),
        format!("{:?}", about()),
        format!("{:?}", redeem_code()),
        format!("find {}", known.reveal()),
        format!("find {}", Token::from_bytes([5; 32]).reveal()),
        format!("assertion {} {environment}", known.reveal()),
        format!("assertion {} {environment}", key.reveal()),
        format!("sign out {}", known.reveal()),
        format!("{batch:?}"),
        format!("{:?}", [denial()]),
        format!("{:?}", report(edge.id)),
        format!("held {held:?} at {at}"),
        format!("connect {CONNECT_MESSAGE_LEN_MAX} from {}", client()),
    ];
    assert_eq!(asked, expected);
    assert!(control.fake.asked().iter().all(|(who, _)| *who == edge.id));
    assert_eq!(link.counts().answered, expected.len() as u64);
}

#[tokio::test]
async fn a_refusal_and_an_absence_keep_their_meaning() {
    let world = World::new();
    let control = world.control().await;
    let edge = world.link(&[control.at()]);
    control.fake.set(Mood::Refusing);
    let words = LinkError::Refused("the code was used already".to_owned());
    assert_eq!(edge.link.redeem(redeem_code()).await.unwrap_err(), words);
    control.fake.set(Mood::Away);
    assert_eq!(edge.link.about(about()).await, Err(LinkError::Away));
    control.fake.set(Mood::Good);
    assert_eq!(edge.link.about(about()).await, Ok(()));
}

#[tokio::test]
async fn r22_an_edge_cannot_speak_for_another() {
    let world = World::new();
    let control = world.control().await;
    let (one, two) = (world.link(&[control.at()]), world.link(&[control.at()]));
    assert_eq!(one.link.tunnel(report(two.id)).await, Ok(()));
    assert_eq!(one.link.tunnels(vec![report(two.id)], about_now()).await, Ok(()));
    let asked = control.fake.asked();
    let held = format!("held {:?} at {}", [report(one.id)], about_now());
    let expected = [(one.id, format!("{:?}", report(one.id))), (one.id, held)];
    assert_eq!(asked, expected, "the report names who sent it");
}

#[tokio::test]
async fn a_batch_that_is_too_long_is_refused_before_control_sees_it() {
    let world = World::new();
    let control = world.control().await;
    let edge = world.link(&[control.at()]);
    let batch: Vec<_> = (0..=ACTIVITY_BATCH_MAX as u128).map(activity).collect();
    let refused = edge.link.activity(batch).await;
    assert!(matches!(&refused, Err(LinkError::Refused(_))), "{refused:?}");
    let long = vec![0; CONNECT_MESSAGE_LEN_MAX + 1];
    let refused = edge.link.connect(long, client()).await;
    assert!(matches!(&refused, Err(LinkError::Refused(_))), "{refused:?}");
    assert_eq!(control.fake.asked(), []);
    assert_eq!(edge.link.about(about()).await, Ok(()), "the link goes on");
}
