//! An edge is let in only with a certificate that control has issued: a chain alone proves that somebody had the CA's key.

use http::StatusCode;
use mezusphere_edge_link::ALPN_LINK;
use mezusphere_edge_link::client::{LinkState, NOT_LISTED};
use mezusphere_model::link::ControlLink;
use mezusphere_pki::Role;

use crate::roles::{dial, with};
use crate::round_trip::about;
use crate::world::{World, within};

#[tokio::test]
async fn r20_an_edge_with_a_certificate_that_control_never_issued_is_not_let_in_and_hears_why() {
    let world = World::new();
    let node = world.control().await;
    let edge = world.link(&[]);
    node.fake.unlisted.lock().unwrap().push(edge.identity.get().chain()[0].to_vec());
    edge.controls.send_replace(vec![node.at()]);
    let state = edge.until(|state| matches!(state, LinkState::Away(why) if why.code == NOT_LISTED)).await;
    let LinkState::Away(why) = state else { panic!("{state:?}") };
    assert!(why.next.contains("backup"), "{why:?}");
    assert_eq!((node.fake.asked(), node.port.connected()), (Vec::new(), Vec::new()));
    // Asked anew for each connection, so that one with another certificate is let in.
    node.fake.unlisted.lock().unwrap().clear();
    edge.connected().await;
    assert_eq!(edge.link.about(about()).await, Ok(()));
}

#[tokio::test]
async fn r20_no_question_is_answered_before_the_edge_is_let_in() {
    let world = World::new();
    let node = world.control().await;
    let identity = world.current(Role::Edge(world.edge()));
    node.fake.unlisted.lock().unwrap().push(identity.get().chain()[0].to_vec());
    let stream = dial(&node, with(&world, &identity, &[ALPN_LINK])).await.unwrap();
    let (send, connection) = h2::client::handshake(stream).await.unwrap();
    let driver = tokio::spawn(connection);
    let mut send = send.ready().await.unwrap();
    for path in ["feed/heads", "feed/wake", "node/certify"] {
        let request = http::Request::post(format!("https://control.mezu.internal/v1/{path}"))
            .header("content-type", "application/json")
            .body(())
            .unwrap();
        send = within(send.ready()).await.unwrap();
        let (answer, mut stream) = send.send_request(request, false).unwrap();
        stream.send_data(bytes::Bytes::from_static(br#"{"csr_der":""}"#), true).unwrap();
        assert_eq!(within(answer).await.unwrap().status(), StatusCode::CONFLICT, "{path}");
    }
    assert_eq!((node.fake.asked(), node.port.counts().links), (Vec::new(), 0));
    driver.abort();
}
