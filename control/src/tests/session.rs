//! Hand-offs, sessions and assertions: what an edge asks of control for a client.

use mezusphere_model::Host;
use mezusphere_model::document::Status;
use mezusphere_model::id::{DirectoryId, EnvironmentId, SignInId, UserId};
use mezusphere_model::identity::{Assurance, Method as Factor, Subject};
use mezusphere_model::link::{Activity, Credential, DenialCount, LinkError, RedeemCode, Redeemed};
use mezusphere_model::token::Token;
use mezusphere_store::primary::hand_off::{self, HandOffRow};
use mezusphere_store::primary::project;
use mezusphere_store::primary::sign_in::{self as sign_ins, SignInRow};
use tunnel_proto::assertion::{Audience, verify};
use tunnel_proto::jws::Jwk;

use super::*;

const STATE: &str = "state-hash";

/// A user who is signed in at the login host, and where they want to go.
pub(super) struct Client {
    project: ProjectId,
    environment: EnvironmentId,
    user: UserId,
    sign_in: SignInId,
    host: Host,
}

pub(super) async fn client(world: &World, slug: &str) -> Client {
    let made = world.post("/projects", json!({ "slug": slug })).await.ok();
    let front = format!("/projects/{slug}");
    let role = json!({ "permissions": ["orders:read"] });
    world.local(Method::PUT, &format!("{front}/roles/customer"), Some(role)).await.ok();
    let user = json!({ "email": "ada@shop.example", "name": "Ada Lovelace", "roles": ["customer"] });
    let user = world.post(&format!("{front}/users"), user).await.ok();
    let id = |value: &Value| value.as_str().unwrap().to_owned();
    let client = Client {
        project: id(&made["id"]).parse().unwrap(),
        environment: id(&made["environments"][0]["id"]).parse().unwrap(),
        user: id(&user["id"]).parse().unwrap(),
        sign_in: SignInId::random(&world.entropy),
        host: Host::parse(&format!("{slug}.localhost")).unwrap(),
    };
    let now = world.hand.clock().now();
    world
        .primary
        .write(async |tx| {
            let directory = project::get(tx, client.project).await?.unwrap().directory;
            let row =
                SignInRow { id: client.sign_in, ..sign_in(&world.entropy, directory, client.user, now) };
            sign_ins::insert(tx, &row).await
        })
        .await
        .unwrap();
    client
}

/// A sign-in of a user, for half a day and without an idle limit; not stored yet.
pub(super) fn sign_in(entropy: &Entropy, directory: DirectoryId, user: UserId, now: Timestamp) -> SignInRow {
    SignInRow {
        id: SignInId::random(entropy),
        token_hash: Token::random(entropy).hash(),
        directory,
        user,
        methods: vec![Factor::Password],
        assurance: Assurance::Aal1,
        authenticated_at: now,
        created_at: now,
        expires_at: now.after(Duration::from_hours(12)),
        idle_s_max: 0,
        seen_at: now,
        address: "203.0.113.7".to_owned(),
        agent: "test".to_owned(),
        ended_at: None,
    }
}

async fn code(world: &World, client: &Client) -> String {
    let code = Token::random(&world.entropy);
    let now = world.hand.clock().now();
    let row = HandOffRow {
        code_hash: code.hash(),
        sign_in: client.sign_in,
        project: client.project,
        environment: client.environment,
        host: client.host.clone(),
        state_hash: STATE.to_owned(),
        return_to: "/orders?page=2".to_owned(),
        created_at: now,
        expires_at: now.after(Duration::from_mins(1)),
    };
    world.primary.write(async |tx| hand_off::insert(tx, &row).await).await.unwrap();
    code.reveal()
}

async fn redeem(world: &World, client: &Client, code: &str) -> Result<Redeemed, LinkError> {
    let host = client.host.clone();
    let ask = RedeemCode { code: code.to_owned(), host, state_hash: STATE.to_owned(), replaces: None };
    world.link().redeem(ask).await
}

/// A session of the client on its host.
pub(super) async fn session(world: &World, client: &Client) -> Redeemed {
    redeem(world, client, &code(world, client).await).await.unwrap()
}

#[track_caller]
fn refused<T: std::fmt::Debug>(got: Result<T, LinkError>, word: &str) {
    match got {
        Err(LinkError::Refused(why)) => assert!(why.starts_with(word), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_code_becomes_a_session_that_edges_learn_of_in_the_same_commit() {
    let world = World::new().await;
    let client = client(&world, "shop").await;
    let redeemed = session(&world, &client).await;
    assert_eq!(redeemed.return_to, "/orders?page=2");
    let doc = &redeemed.found.session;
    assert_eq!((doc.user, doc.project, &doc.host), (client.user, client.project, &client.host));
    assert_eq!(doc.token_hash, Token::parse(&redeemed.token).unwrap().hash());
    assert_eq!(doc.expires_at, BEGIN.after(Duration::from_hours(12)));
    assert_eq!(redeemed.found.principal.email, "ada@shop.example");
    let partition = Partition::Project(client.project);
    let documents = world.documents(partition).await;
    assert!(documents.contains(&Document::Session(doc.clone())));
    assert!(documents.contains(&Document::Principal(redeemed.found.principal.clone())));
    let heads = world.primary.heads().await.unwrap();
    let head = heads.iter().find(|head| head.partition == partition).unwrap();
    assert_eq!(redeemed.born_at, head.cursor.revision, "an edge at this revision knows the session");
}

#[tokio::test]
async fn r17_a_code_is_good_once() {
    let world = World::new().await;
    let client = client(&world, "shop").await;
    let code = code(&world, &client).await;
    let (first, second) = tokio::join!(redeem(&world, &client, &code), redeem(&world, &client, &code));
    assert!(first.is_ok() ^ second.is_ok(), "exactly one of two at once");
    refused(redeem(&world, &client, &code).await, "code.used");
    refused(redeem(&world, &client, &Token::random(&world.entropy).reveal()).await, "code.unknown");
    refused(redeem(&world, &client, "short").await, "code.unknown");
}

#[tokio::test]
async fn r17_a_code_ends_after_a_minute() {
    let world = World::new().await;
    let client = client(&world, "shop").await;
    let code = code(&world, &client).await;
    world.advance(60);
    refused(redeem(&world, &client, &code).await, "code.expired");
}

#[tokio::test]
async fn r11_a_code_is_bound_to_its_browser_and_its_host_and_a_wrong_try_spends_it() {
    let world = World::new().await;
    let client = client(&world, "shop").await;
    let link = world.link();
    let ask = |code: &str, host: &str, state: &str| RedeemCode {
        code: code.to_owned(),
        host: Host::parse(host).unwrap(),
        state_hash: state.to_owned(),
        replaces: None,
    };
    for (host, state) in [("shop.localhost", "other"), ("blog.localhost", STATE)] {
        let code = code(&world, &client).await;
        refused(link.redeem(ask(&code, host, state)).await, "code.mismatch");
        refused(redeem(&world, &client, &code).await, "code.used");
    }
}

#[tokio::test]
async fn r11_the_session_a_new_one_replaces_dies_with_its_birth() {
    let world = World::new().await;
    let client = client(&world, "shop").await;
    let old = session(&world, &client).await;
    let link = world.link();
    let replaces = Some(old.found.session.token_hash);
    let ask = RedeemCode {
        code: code(&world, &client).await,
        host: client.host.clone(),
        state_hash: STATE.to_owned(),
        replaces,
    };
    let new = link.redeem(ask).await.unwrap();
    let find =
        async |redeemed: &Redeemed| link.find_session(Token::parse(&redeemed.token).unwrap()).await.unwrap();
    assert!(find(&old).await.is_none());
    assert_eq!(find(&new).await, Some(new.found.clone()));
    assert!(
        !world
            .documents(Partition::Project(client.project))
            .await
            .contains(&Document::Session(old.found.session))
    );
}

#[tokio::test]
async fn r12_a_sign_out_ends_every_session_of_the_sign_in() {
    let world = World::new().await;
    let client = client(&world, "shop").await;
    let (one, two) = (session(&world, &client).await, session(&world, &client).await);
    let link = world.link();
    let code = code(&world, &client).await;
    link.sign_out(Token::parse(&one.token).unwrap()).await.unwrap();
    for redeemed in [&one, &two] {
        assert_eq!(link.find_session(Token::parse(&redeemed.token).unwrap()).await, Ok(None));
    }
    let documents = world.documents(Partition::Project(client.project)).await;
    assert!(documents.iter().all(|document| !matches!(document, Document::Session(_))));
    let revoked = documents.iter().any(
        |document| matches!(document, Document::Revocation(doc) if doc.sign_in == client.sign_in && doc.user == client.user),
    );
    assert!(revoked, "edges hear of it");
    refused(redeem(&world, &client, &code).await, "code.unknown"); // it went with its sign-in
    let audit = world.get("/projects/shop/audit?limit=1").await.ok();
    assert_eq!(audit["items"][0]["action"], "sign_in.end");
    let history =
        async || world.get("/projects/shop/users/ada@shop.example/history").await.ok()["items"].clone();
    let told = history().await;
    assert_eq!(
        (&told[0]["outcome"], &told[0]["agent"]),
        (&json!("signed_out"), &json!("test")),
        "its user reads it"
    );
    link.sign_out(Token::parse(&one.token).unwrap()).await.unwrap();
    link.sign_out(Token::random(&world.entropy)).await.unwrap();
    assert_eq!(history().await, told);
    let again = world.get("/projects/shop/audit?limit=1").await.ok();
    assert_eq!(again["items"][0]["sequence"], audit["items"][0]["sequence"], "a second time changes nothing");
}

#[tokio::test]
async fn r12_suspension_password_and_deletion_end_sessions() {
    let world = World::new().await;
    let link = world.link();
    let password = json!({ "password": PASSWORD });
    let rows = [
        ("one", Method::POST, "/suspend", Some(json!({}))),
        ("two", Method::PUT, "/password", Some(password)),
        ("three", Method::DELETE, "", None),
    ];
    for (slug, method, verb, body) in rows {
        let client = client(&world, slug).await;
        let redeemed = session(&world, &client).await;
        world.advance(1);
        world.local(method, &format!("/projects/{slug}/users/{}{verb}", client.user), body).await.ok();
        let token = Token::parse(&redeemed.token).unwrap();
        assert_eq!(link.find_session(token.clone()).await, Ok(None), "{slug}");
        let got = link.assertion(Credential::Session(token), client.environment).await;
        refused(got, "session.ended");
        let documents = world.documents(Partition::Project(client.project)).await;
        assert!(!documents.contains(&Document::Session(redeemed.found.session)), "{slug}");
        let active = documents
            .iter()
            .any(|document| matches!(document, Document::Principal(doc) if doc.status == Status::Active));
        assert_eq!(active, slug == "two", "{slug}");
    }
}

#[tokio::test]
async fn an_assertion_says_who_by_what_and_for_which_environment() {
    let world = World::new().await;
    let client = client(&world, "shop").await;
    let redeemed = session(&world, &client).await;
    let link = world.link();
    world.advance(60);
    let token = Token::parse(&redeemed.token).unwrap();
    let issued = link.assertion(Credential::Session(token), client.environment).await.unwrap();
    let now = world.hand.clock().now();
    assert_eq!(issued.expires_at, now.after(Duration::from_mins(30)));
    assert_eq!(issued.principal_version, redeemed.found.principal.version);
    let keys = Jwk::read_set(&world.control.shared.keys().assertion_jwks);
    let audience = Audience { project: client.project, environment: client.environment };
    let claims = verify(&issued.jws, &keys, audience, now).unwrap();
    assert_eq!(claims.iss, "spiffe://mezu.localhost");
    assert_eq!(claims.sub, Subject::User(client.user));
    assert_eq!(claims.sid, Some(redeemed.found.session.id));
    assert_eq!((claims.email.as_str(), claims.name.as_str()), ("ada@shop.example", "Ada Lovelace"));
    assert_eq!(
        json!([claims.roles, claims.permissions, claims.amr, claims.acr]),
        json!([["customer"], ["orders:read"], ["pwd"], "aal1"])
    );
    assert_eq!((claims.auth_time, claims.iat), (BEGIN.as_seconds(), now.as_seconds()));
}

#[tokio::test]
async fn r22_an_assertion_is_made_for_the_credentials_own_project_only() {
    let world = World::new().await;
    let (shop, blog) = (client(&world, "shop").await, client(&world, "blog").await);
    let redeemed = session(&world, &shop).await;
    let link = world.link();
    let token = Token::parse(&redeemed.token).unwrap();
    refused(link.assertion(Credential::Session(token), blog.environment).await, "environment.unknown");
    let key = world.key("shop", &["request"]).await.parse().unwrap();
    refused(link.assertion(Credential::ApiKey(key), blog.environment).await, "environment.unknown");
}

#[tokio::test]
async fn r21_a_machine_is_asserted_with_its_key_and_not_after_revocation() {
    let world = World::new().await;
    let shop = client(&world, "shop").await;
    world
        .post("/projects/shop/service-accounts", json!({ "name": "robot", "roles": ["customer"] }))
        .await
        .ok();
    let body = json!({ "account": "robot", "scopes": ["request"] });
    let made = world.post("/projects/shop/api-keys", body).await.ok();
    let link = world.link();
    let ask =
        async |text: &str| link.assertion(Credential::ApiKey(text.parse().unwrap()), shop.environment).await;
    let secret = made["secret"].as_str().unwrap();
    let issued = ask(secret).await.unwrap();
    let keys = Jwk::read_set(&world.control.shared.keys().assertion_jwks);
    let audience = Audience { project: shop.project, environment: shop.environment };
    let claims = verify(&issued.jws, &keys, audience, BEGIN).unwrap();
    assert_eq!(json!(claims.sub.to_string()), made["key"]["account"]);
    assert_eq!((claims.sid, json!([claims.roles, claims.amr])), (None, json!([["customer"], ["key"]])));
    refused(ask(&world.key("shop", &["routes:read"]).await).await, "key.scope");
    let id = made["key"]["id"].as_str().unwrap();
    world.delete(&format!("/projects/shop/api-keys/{id}")).await.ok();
    refused(ask(secret).await, "key.refused");
}

#[tokio::test]
async fn activity_is_noted_but_never_from_the_future() {
    let world = World::new().await;
    let client = client(&world, "shop").await;
    let redeemed = session(&world, &client).await;
    let link = world.link();
    let seen = async || {
        let found = link.find_session(Token::parse(&redeemed.token).unwrap()).await.unwrap();
        found.unwrap().session.seen_at
    };
    let report = |at: Timestamp| {
        vec![Activity { session: redeemed.found.session.id, project: client.project, seen_at: at }]
    };
    world.advance(100);
    link.activity(report(BEGIN.after(Duration::from_secs(90)))).await.unwrap();
    assert_eq!(seen().await, BEGIN.after(Duration::from_secs(90)));
    link.activity(report(BEGIN.after(Duration::from_mins(150)))).await.unwrap();
    assert_eq!(seen().await, BEGIN.after(Duration::from_secs(100)));
    let too_many = vec![report(BEGIN)[0].clone(); 1001];
    refused(link.activity(too_many).await, "batch.too_large");
}

#[tokio::test]
async fn r25_denials_are_one_audit_entry_each_however_often_they_came() {
    let world = World::new().await;
    let client = client(&world, "shop").await;
    let link = world.link();
    let denial = DenialCount {
        project: client.project,
        route: mezusphere_model::id::RouteId::random(&world.entropy),
        reason: "policy.missing_role".to_owned(),
        subject: Some(client.user.to_string()),
        count: 5_000,
        last: BEGIN,
        last_request: mezusphere_model::id::RequestId::random(&world.entropy),
    };
    let ghost = DenialCount { project: ProjectId::random(&world.entropy), ..denial.clone() };
    let forged = DenialCount {
        subject: Some("local".to_owned()),
        reason: "x\n\u{1b}[31m".repeat(100),
        ..denial.clone()
    };
    link.denials(vec![forged, denial.clone(), ghost]).await.unwrap();
    let two = world.get("/projects/shop/audit?limit=2").await.ok();
    assert_eq!(two["items"][1]["actor"], "anonymous", "an edge cannot write in an operator's name");
    assert_eq!(two["items"][1]["detail"]["reason"], "x31m".repeat(16));
    let audit = world.get("/projects/shop/audit?limit=1").await.ok();
    assert_eq!(audit["items"][0]["action"], "request.denied");
    assert_eq!(audit["items"][0]["detail"]["count"], 5_000);
    assert_eq!(audit["items"][0]["actor"], json!(client.user));
}

#[tokio::test]
async fn what_is_over_is_pruned() {
    let world = World::new().await;
    let client = client(&world, "shop").await;
    session(&world, &client).await;
    world.advance(13 * 3600);
    assert!(world.control.shared.prune().await.unwrap() > 0);
    let documents = world.documents(Partition::Project(client.project)).await;
    let left =
        documents.iter().any(|document| matches!(document, Document::Session(_) | Document::Principal(_)));
    assert!(!left, "{documents:?}");
}
