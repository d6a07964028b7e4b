//! Read-your-writes across edges: who signs in at one is served at the next, and who was sent away is not let in again,
//! whatever overtakes what. Forged cookies cost control nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ::http::header::SET_COOKIE;
use ::http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use mezusphere_edge::http::{Body, Protocol};
use mezusphere_edge::request::{Server, ServerParts};
use mezusphere_edge::view::{View, ViewLimits};
use mezusphere_edge::{Fair, FairLimits};
use mezusphere_model::Platform;
use mezusphere_model::document::{Document, DocumentKey, Partition, PrincipalDoc, RevocationDoc};
use mezusphere_model::id::SignInId;
use mezusphere_model::link::{FoundSession, Redeemed};
use mezusphere_model::session::SessionDoc;
use mezusphere_model::token::{CookieKey, SessionCookie, Token};
use mezusphere_telemetry::Metrics;
use tokio::sync::Semaphore;

use crate::documents::FakeDocuments;
use crate::warpgate::Exchange;
use crate::world::{
    BEGIN, PROJECT, SHOP, SIGN_IN, SOON, USER, World, code, connection, full, get_as, name, read, request,
};

/// The revision at which the sessions of these tests are born; far ahead of any replica here.
const BORN_AT: u64 = 1000;

/// One more edge of the same installation, with a replica of its own. Warpgates are connected to the first only, so it
/// borrows their tunnels.
struct OtherEdge {
    documents: Arc<FakeDocuments>,
    server: Server,
}

impl OtherEdge {
    /// One more edge, whose replica has come as far as this one's.
    fn beside(world: &World) -> Self {
        let documents = Arc::new(world.documents.copy());
        let (link, clock) = (Arc::clone(&world.link), world.hand.clock());
        let limits = ViewLimits::default();
        let view = View::open(Arc::clone(&documents) as _, Arc::clone(&link) as _, clock.clone(), limits);
        let metrics = Metrics::new("other");
        let server = Server::new(ServerParts {
            hosts: Platform::development(8443).unwrap(),
            view: Arc::clone(&view),
            tunnels: Arc::clone(&world.tunnels),
            link,
            platform: None,
            fair: Arc::new(Fair::new(&FairLimits::default(), clock.clone(), &metrics)),
            clock,
            entropy: world.entropy.clone(),
            metrics,
        });
        tokio::spawn(view.follow());
        Self { documents, server }
    }

    async fn send(&self, request: Request<Body>) -> Response<Body> {
        let info = connection(Protocol::H2);
        tokio::time::timeout(SOON, self.server.handle(request, &info)).await.unwrap()
    }
}

async fn ok(exchange: Exchange) {
    exchange.respond(200, &[], b"secret").await;
}

/// A session that control knows and no feed has brought.
fn unknown(world: &World) -> (SessionDoc, PrincipalDoc, String) {
    let (session, principal, token) = world.session(PROJECT, SHOP, &["customer"]);
    world.known_to_control(&session, &principal);
    let cookie = world.cookie(&token, BORN_AT);
    (session, principal, cookie)
}

/// The feed brings the session, as the transaction that made it was.
fn bring(documents: &FakeDocuments, session: &SessionDoc, principal: &PrincipalDoc) {
    let partition = Partition::Project(PROJECT);
    documents.publish(partition, Document::Principal(principal.clone()));
    documents.publish(partition, Document::Session(session.clone()));
    documents.set_revision(BORN_AT);
}

/// The feed brings the end of the sign-in, with all its sessions.
fn end(documents: &FakeDocuments, session: &SessionDoc) {
    let (sign_in, partition) = (session.sign_in, Partition::Project(PROJECT));
    let revocation =
        RevocationDoc { sign_in, user: USER, at: BEGIN, forget_at: BEGIN.after(Duration::from_hours(12)) };
    documents.set_revision(BORN_AT + 1);
    documents.publish(partition, Document::Revocation(revocation));
    documents.retract(partition, DocumentKey::session(&session.token_hash));
}

#[tokio::test]
async fn who_signs_in_at_one_edge_is_served_at_the_next_before_the_feed_came() {
    let (world, warpgate) = World::with_warpgate(ok).await;
    let edges = [OtherEdge::beside(&world), OtherEdge::beside(&world)];
    let (session, principal, token) = world.session(PROJECT, SHOP, &["customer"]);
    world.known_to_control(&session, &principal);
    let found = FoundSession { session: session.clone(), principal: principal.clone() };
    let redeemed = Redeemed { token: token.reveal(), found, born_at: BORN_AT, return_to: "/".to_owned() };
    *world.link.redeems.lock().unwrap() = Some(redeemed);
    let state = format!("__Host-mezu-state={}", Token::random(&world.entropy).reveal());
    let answer = world.send(get_as("/.mezu/callback?code=abc", &state)).await;
    let set = answer.headers()[SET_COOKIE].to_str().unwrap().to_owned();
    let cookie = set.split_once(';').unwrap().0;
    assert_eq!(world.send(get_as("/customer/x", cookie)).await.status(), 200);
    for (asked, edge) in edges.iter().enumerate() {
        // Everything a page loads comes at once.
        let asks: Vec<_> = (0..30).map(|_| edge.send(get_as("/customer/x", cookie))).collect();
        for answer in futures_util::future::join_all(asks).await {
            assert_eq!(answer.status(), 200);
        }
        assert_eq!(world.link.looked_up.load(Ordering::SeqCst), asked + 1, "one question each");
    }
    assert_eq!(warpgate.seen().len(), 61);
    // Once the feed came, nobody is asked any more, for however long.
    bring(&edges[0].documents, &session, &principal);
    world.settle().await;
    world.link.away.store(true, Ordering::SeqCst);
    world.hand.advance(Duration::from_mins(5));
    assert_eq!(edges[0].send(get_as("/customer/x", cookie)).await.status(), 200);
    // The other one may not go on control's word of five minutes ago.
    assert_eq!(edges[1].send(get_as("/customer/x", cookie)).await.status(), 503);
}

#[tokio::test]
async fn r12_a_session_that_ended_is_not_brought_back_by_an_answer_that_was_on_its_way() {
    let (world, warpgate) = World::with_warpgate(ok).await;
    let (session, principal, cookie) = unknown(&world);
    for overtakes in ["the session and its end", "a snapshot without either", "the end of the sign-in alone"]
    {
        let edge = OtherEdge::beside(&world);
        let holds = Arc::new(Semaphore::new(0));
        *world.link.holds.lock().unwrap() = Some(Arc::clone(&holds));
        let asked = world.link.looked_up.load(Ordering::SeqCst);
        let overtaken = async {
            while world.link.looked_up.load(Ordering::SeqCst) == asked {
                tokio::task::yield_now().await;
            }
            match overtakes {
                "the session and its end" => {
                    bring(&edge.documents, &session, &principal);
                    end(&edge.documents, &session);
                }
                "a snapshot without either" => edge.documents.set_revision(BORN_AT + 1),
                _ => {
                    end(&edge.documents, &session);
                    // As if revisions said nothing.
                    edge.documents.set_revision(1);
                }
            }
            // The answer comes before anybody here was told of a change.
            holds.add_permits(1);
        };
        let (answer, ()) = tokio::join!(edge.send(get_as("/customer/x", &cookie)), overtaken);
        assert_eq!(answer.status(), 401, "{overtakes}");
        *world.link.holds.lock().unwrap() = None;
        world.settle().await;
        assert!(warpgate.seen().is_empty(), "{overtakes}");
    }
}

#[tokio::test]
async fn r12_a_sign_out_here_outlasts_a_feed_that_is_late() {
    let (world, warpgate) = World::with_warpgate(ok).await;
    let (session, principal, cookie) = unknown(&world);
    assert_eq!(world.send(get_as("/customer/x", &cookie)).await.status(), 200);
    let page = read(world.send(get_as("/.mezu/sign-out", &cookie)).await).await.2;
    let page = String::from_utf8(page).unwrap();
    let token = page.split("name=\"token\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    let fields = [
        ("cookie", cookie.as_str()),
        ("content-type", "application/x-www-form-urlencoded"),
        ("sec-fetch-site", "same-origin"),
    ];
    let form = format!("token={token}");
    let answer = world.send(request(Method::POST, "/.mezu/sign-out", &fields, full(form))).await;
    assert_eq!(answer.status(), 200);
    // The feed brings the session only now, and its end not for a long time.
    bring(&world.documents, &session, &principal);
    world.settle().await;
    for _ in 0..15 {
        assert_eq!(world.send(get_as("/customer/x", &cookie)).await.status(), 401);
        world.hand.advance(Duration::from_mins(1));
    }
    assert_eq!(warpgate.seen().len(), 1);
}

#[tokio::test]
async fn r12_a_sign_out_here_outlasts_an_answer_that_was_on_its_way() {
    let (world, warpgate) = World::with_warpgate(ok).await;
    let (_, _, cookie) = unknown(&world);
    let holds = Arc::new(Semaphore::new(0));
    *world.link.holds.lock().unwrap() = Some(Arc::clone(&holds));
    let signed_out = async {
        while world.link.looked_up.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let text = cookie.split_once('=').unwrap().1.split('.').next().unwrap();
        let form = format!("token={}", form_token(&Token::parse(text).unwrap()));
        let fields = [
            ("cookie", cookie.as_str()),
            ("content-type", "application/x-www-form-urlencoded"),
            ("sec-fetch-site", "same-origin"),
        ];
        let answer = world.send(request(Method::POST, "/.mezu/sign-out", &fields, full(form))).await;
        assert_eq!((answer.status().as_u16(), world.link.signed_out.lock().unwrap().len()), (200, 1));
        holds.add_permits(1);
    };
    let (answer, ()) = tokio::join!(world.send(get_as("/customer/x", &cookie)), signed_out);
    assert_eq!(answer.status(), 401);
    assert_eq!(world.send(get_as("/customer/x", &cookie)).await.status(), 401);
    assert!(warpgate.seen().is_empty());
}

#[tokio::test]
async fn a_stream_begun_ahead_of_the_feed_survives_what_the_feed_then_brings() {
    let (world, _warpgate) = World::with_warpgate(|mut exchange: Exchange| async move {
        exchange.begin(200, &[]).await;
        for _ in 0..30 {
            exchange.data(bytes::Bytes::from_static(b"event\n")).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        exchange.end(None).await;
    })
    .await;
    let (session, mut principal, cookie) = unknown(&world);
    let mut body = world.send(get_as("/customer/events", &cookie)).await.into_body();
    assert!(body.frame().await.unwrap().is_ok());
    // The principal comes a moment before the session does.
    principal.version += 1;
    world.documents.set_revision(BORN_AT - 2);
    world.documents.publish(Partition::Project(PROJECT), Document::Principal(principal.clone()));
    world.settle().await;
    for _ in 0..3 {
        assert!(tokio::time::timeout(SOON, body.frame()).await.unwrap().unwrap().is_ok());
    }
    bring(&world.documents, &session, &principal);
    world.settle().await;
    assert!(tokio::time::timeout(SOON, body.frame()).await.unwrap().unwrap().is_ok());
    // And it ends with the role that it needs.
    principal.roles = vec![name("visitor")];
    principal.version += 1;
    world.documents.publish(Partition::Project(PROJECT), Document::Principal(principal));
    let ended = async { while body.frame().await.unwrap().is_ok() {} };
    tokio::time::timeout(Duration::from_secs(2), ended).await.unwrap();
}

#[tokio::test]
async fn r23_ten_thousand_forged_cookies_cost_control_nothing() {
    let (world, warpgate) = World::with_warpgate(ok).await;
    let edges = [OtherEdge::beside(&world), OtherEdge::beside(&world)];
    let (_, _, real) = unknown(&world);
    let ours = CookieKey::random(&world.entropy);
    let forge = |n: u64| {
        let token = Token::random(&world.entropy);
        match n % 4 {
            // Signed with another key, as an edge of another installation would.
            0 => SessionCookie { token, born_at: u64::MAX - n }.write(&ours),
            // Authentic once, with another birth.
            1 => {
                world.cookie(&token, 1).split_once('=').unwrap().1.replace(".1.", &format!(".{}.", 9000 + n))
            }
            // Authentic, and so old that the feed would have brought it.
            2 => world.cookie(&token, 1).split_once('=').unwrap().1.to_owned(),
            // No signature at all.
            _ => format!("{}.{n}.", token.reveal()),
        }
    };
    let fields = [("content-type", "application/x-www-form-urlencoded"), ("sec-fetch-site", "same-origin")];
    for n in 0..10_000 {
        let cookie = format!("{}={}", SessionCookie::NAME, forge(n / 3));
        let edge = &edges[usize::try_from(n % 2).unwrap()];
        let status = match n % 3 {
            0 => edge.send(get_as("/customer/x", &cookie)).await.status(),
            1 => edge.send(get_as("/.mezu/whoami", &cookie)).await.status(),
            _ => {
                let fields = [fields[0], fields[1], ("cookie", cookie.as_str())];
                let post = request(Method::POST, "/.mezu/sign-out", &fields, full("token=guessed"));
                edge.send(post).await.status()
            }
        };
        let expected: &[u16] = match n % 3 {
            0 => &[401],
            1 => &[200],
            _ => &[200, 403],
        };
        assert!(expected.contains(&status.as_u16()), "{n}: {status}");
    }
    assert_eq!(world.link.questions(), 0);
    assert!(warpgate.seen().is_empty());
    // Whoever is real is still served: nothing of it used up anybody's budget.
    let answer = edges[0].send(get_as("/customer/x", &real)).await;
    assert_eq!((answer.status().as_u16(), world.link.looked_up.load(Ordering::SeqCst)), (200, 1));
}

#[tokio::test]
async fn r23_a_sign_out_with_a_session_nobody_had_is_no_question_to_control() {
    let world = World::new();
    let token = Token::random(&world.entropy);
    // Its form token can be worked out by whoever knows the session token, an invented one too.
    let cookie = format!("{}={}.7.AAAA", SessionCookie::NAME, token.reveal());
    let fields = [
        ("cookie", cookie.as_str()),
        ("content-type", "application/x-www-form-urlencoded"),
        ("sec-fetch-site", "same-origin"),
    ];
    let form = format!("token={}", form_token(&token));
    let answer = world.send(request(Method::POST, "/.mezu/sign-out", &fields, full(form.clone()))).await;
    assert_eq!((answer.status().as_u16(), world.link.questions()), (200, 0));
    // The same with a cookie of ours is one.
    let cookie = world.cookie(&token, 7);
    let fields = [("cookie", cookie.as_str()), fields[1], fields[2]];
    let answer = world.send(request(Method::POST, "/.mezu/sign-out", &fields, full(form))).await;
    assert_eq!((answer.status().as_u16(), world.link.questions()), (200, 1));
}

/// As the edge makes it.
fn form_token(token: &Token) -> String {
    use base64::Engine as _;
    let text = [b"mezu-sign-out-form/1".as_slice(), token.as_bytes()].concat();
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &text);
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(hash.as_ref())
}

#[tokio::test]
async fn r12_the_end_of_one_sign_in_leaves_another_of_the_same_person_alone() {
    let (world, _warpgate) = World::with_warpgate(ok).await;
    let edge = OtherEdge::beside(&world);
    let (ended, principal, first) = unknown(&world);
    let (mut other, _, token) = world.session(PROJECT, SHOP, &["customer"]);
    other.sign_in = SignInId::from_bits(23);
    world.known_to_control(&other, &principal);
    let second = world.cookie(&token, BORN_AT);
    assert_ne!(other.sign_in, SIGN_IN);
    bring(&edge.documents, &ended, &principal);
    bring(&edge.documents, &other, &principal);
    end(&edge.documents, &ended);
    world.settle().await;
    let refused = code(edge.send(get_as("/customer/x", &first)).await).await;
    assert_eq!(refused, (401, "edge.sign_in_required".to_owned()));
    assert_eq!(edge.send(get_as("/customer/x", &second)).await.status(), 200);
    assert_eq!(world.link.looked_up.load(Ordering::SeqCst), 0);
}
