//! The flows as a JSON API: what its clients get, and what nobody gets by it.

use http::HeaderMap;
use mezusphere_model::Host;
use mezusphere_model::link::{ClientAddress, RedeemCode};
use mezusphere_model::token::Token;
use mezusphere_store::primary::mail;

use super::*;
use crate::{MailConfig, MailSender, MailWay};

pub(super) const ADA: &str = "ada@shop.example";
const LOGIN: &str = "login.mezu.localhost:8443";
pub(super) const SHOP: &str = "https://shop.localhost:8443";

fn with_mail() -> ControlConfig {
    let config = development();
    let sender = MailSender::of_platform(&config.platform.base).unwrap();
    ControlConfig { mail: Some(MailConfig::new(MailWay::Log, sender)), ..config }
}

/// An installation that sends mail, with two projects; Ada is a customer of the shop.
pub(super) async fn world() -> World {
    let world = World::with(with_mail()).await;
    world.project("shop").await;
    world.project("blog").await;
    let ada = json!({ "email": ADA, "name": "Ada Lovelace", "password": PASSWORD });
    world.post("/projects/shop/users", ada).await.ok();
    world
}

/// A client of the API: no cookies, no origin unless it says so.
pub(super) struct Client<'a> {
    world: &'a World,
    origin: Option<&'a str>,
    pub(super) token: Option<String>,
    state: Token,
}

impl<'a> Client<'a> {
    pub(super) fn new(world: &'a World) -> Self {
        Self { world, origin: None, token: None, state: Token::random(&world.entropy) }
    }

    pub(super) fn app(&self, host: &str) -> Value {
        use base64::Engine as _;
        let hash = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(self.state.hash().as_bytes());
        json!({ "host": host, "state_hash": hash })
    }

    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Got {
        let mut request = request(method, path, body);
        let headers: &mut HeaderMap = request.headers_mut();
        headers.insert(header::HOST, LOGIN.parse().unwrap());
        if let Some(origin) = self.origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        if let Some(token) = &self.token {
            headers.insert(header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
        }
        request.extensions_mut().insert(ClientAddress("192.0.2.7:50000".parse().unwrap()));
        let request = request.map(|body| body.map_err(|why| Box::new(why) as crate::BoxError).boxed_unsync());
        let response = self.world.control.platform_service().oneshot(request).await.unwrap();
        let got = read(response.map(Body::new)).await;
        assert!(!got.headers.contains_key(header::SET_COOKIE), "no cookie is ever set here");
        assert!(!got.headers.contains_key("access-control-allow-credentials"), "and none is asked for");
        assert_eq!(got.headers[header::CACHE_CONTROL], "no-store");
        got
    }

    pub(super) async fn post(&self, path: &str, body: Value) -> Got {
        self.ask(Method::POST, path, Some(body)).await
    }

    pub(super) async fn get(&self, path: &str) -> Got {
        self.ask(Method::GET, path, None).await
    }

    /// Signs in for a host, and keeps the token.
    pub(super) async fn sign_in(&mut self, host: &str, email: &str, password: &str) -> Got {
        let begun = self.post("/sign-in", self.app(host)).await.ok();
        let proof = json!({ "flow": begun["flow"], "email": email, "password": password });
        let got = self.post("/sign-in/password", proof).await;
        self.token = got.body["token"].as_str().map(str::to_owned).or(self.token.take());
        got
    }

    /// What the edge of a host makes of a code.
    pub(super) async fn redeem(&self, code: &Value, host: &str) -> bool {
        let hash = self.app(host)["state_hash"].as_str().unwrap().to_owned();
        let ask = RedeemCode {
            code: code.as_str().unwrap().to_owned(),
            host: Host::parse(host).unwrap(),
            state_hash: hash,
            replaces: None,
        };
        self.world.link().redeem(ask).await.is_ok()
    }
}

/// The token of the newest mailed link.
pub(super) async fn mailed(world: &World, kind: &str) -> String {
    let claimed = world.primary.write(async |tx| mail::claim(tx, 1, 100).await);
    let claimed: Result<_, mezusphere_store::StoreError> = claimed.await;
    let letters = claimed.unwrap();
    let letter = letters.iter().rev().find(|letter| letter.row.kind == kind);
    let letter = letter.unwrap_or_else(|| panic!("no mail of kind {kind}"));
    let body: Value = serde_json::from_slice(&letter.body).unwrap();
    body["path"].as_str().unwrap().rsplit('/').next().unwrap().to_owned()
}

#[track_caller]
pub(super) fn refused(got: &Got, status: u16, code: &str) {
    assert_eq!((got.status, got.body["code"].as_str()), (status, Some(code)), "{}", got.body);
    assert_eq!(got.headers[header::CONTENT_TYPE], "application/problem+json");
    assert_eq!(got.body["type"], "about:blank", "no address that leads nowhere");
    for field in ["title", "next"] {
        assert!(!got.text(&format!("/{field}")).is_empty(), "{field}");
    }
}

#[tokio::test]
async fn a_password_gives_a_code_for_the_application_and_a_token_for_the_account() {
    let world = world().await;
    let mut client = Client::new(&world);
    let begun = client.post("/sign-in", client.app("shop.localhost")).await.ok();
    assert_eq!((&begun["next"], &begun["methods"]), (&json!("prove"), &json!(["pwd"])));
    assert_eq!((&begun["sign_up"], &begun["recovery"]), (&json!(false), &json!(true)), "closed by default");
    let done = client.sign_in("shop.localhost", ADA, PASSWORD).await.ok();
    assert_eq!((&done["next"], &done["account"]["email"]), (&json!("done"), &json!(ADA)));
    assert_eq!(done["hand_off"]["session_url"], format!("{SHOP}/.mezu/session"));
    let code = &done["hand_off"]["code"];
    let stranger = Client::new(&world);
    assert!(!stranger.redeem(code, "shop.localhost").await, "bound to its client's secret");
    let done = client.sign_in("shop.localhost", ADA, PASSWORD).await.ok();
    let code = &done["hand_off"]["code"];
    assert!(!client.redeem(code, "blog.localhost").await, "bound to its host");
    let done = client.sign_in("shop.localhost", ADA, PASSWORD).await.ok();
    let code = &done["hand_off"]["code"];
    assert!(client.redeem(code, "shop.localhost").await);
    assert!(!client.redeem(code, "shop.localhost").await, "and good once");
    let account = client.get("/account").await.ok();
    assert_eq!((&account["email"], &account["methods"]), (&json!(ADA), &json!(["pwd"])));
}

#[tokio::test]
async fn r13_a_wrong_password_and_an_unknown_account_get_the_same_answer() {
    let world = world().await;
    let mut client = Client::new(&world);
    let known = client.sign_in("shop.localhost", ADA, "not the password at all").await;
    let unknown = client.sign_in("shop.localhost", "nobody@shop.example", "not the password at all").await;
    refused(&known, 401, "login.wrong");
    assert_eq!((known.body, known.status), (unknown.body, unknown.status));
    let other = client.sign_in("blog.localhost", ADA, PASSWORD).await;
    refused(&other, 401, "login.wrong");
    let asks = |email: &str| json!({ "host": "shop.localhost", "email": email });
    let (known, unknown) = (
        client.post("/recovery", asks(ADA)).await,
        client.post("/recovery", asks("nobody@shop.example")).await,
    );
    assert_eq!((known.status, &known.body), (202, &json!({ "next": "inbox" })));
    assert_eq!((known.status, known.body, known.headers), (unknown.status, unknown.body, unknown.headers));
}

#[tokio::test]
async fn r15_attempts_are_throttled_and_say_when_to_come_back() {
    let world = world().await;
    let mut client = Client::new(&world);
    let mut last = None;
    for _ in 0..40 {
        let got = client.sign_in("shop.localhost", ADA, "not the password at all").await;
        if got.status == 429 {
            last = Some(got);
            break;
        }
    }
    let got = last.expect("guessing has an end");
    refused(&got, 429, "login.throttled");
    assert!(got.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() > 0);
}

#[tokio::test]
async fn r16_only_pages_of_the_directorys_own_applications_may_ask() {
    let world = world().await;
    let mut client = Client::new(&world);
    let flow = client.post("/sign-in", client.app("shop.localhost")).await.ok()["flow"].clone();
    client.sign_in("shop.localhost", ADA, PASSWORD).await.ok();
    for origin in [
        "https://evil.example",
        "null",
        "https://shop.localhost",
        "http://shop.localhost:8443",
        "https://shop.localhost:8443.evil.example",
        "https://shop.localhost:8443/",
        "https://SHOP.localhost:8443",
        "https://console.mezu.localhost:8443",
        "https://unknown.localhost:8443",
    ] {
        client.origin = Some(origin);
        let got = client.ask(Method::OPTIONS, "/sign-in", None).await;
        refused(&got, 403, "login.cross_site");
        assert!(!got.headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN), "{origin}");
        refused(&client.get("/account").await, 403, "login.cross_site");
    }
    // A page of another project, whose accounts are others.
    client.origin = Some("https://blog.localhost:8443");
    let proof = json!({ "flow": flow, "email": ADA, "password": PASSWORD });
    for got in [
        client.post("/sign-in", client.app("shop.localhost")).await,
        client.post("/sign-in/password", proof).await,
        client.get("/account").await,
        client.get("/account/sign-ins").await,
        client.ask(Method::DELETE, "/sign-in", None).await,
        client.post("/hand-off", client.app("blog.localhost")).await,
        client.post("/recovery", json!({ "host": "shop.localhost", "email": ADA })).await,
    ] {
        refused(&got, 403, "login.cross_site");
    }
    client.origin = Some(SHOP);
    let preflight = client.ask(Method::OPTIONS, "/account", None).await;
    assert_eq!(preflight.status, 204);
    assert_eq!(preflight.headers[header::ACCESS_CONTROL_ALLOW_ORIGIN], SHOP);
    assert_eq!(preflight.headers[header::ACCESS_CONTROL_ALLOW_HEADERS], "authorization, content-type");
    let account = client.get("/account").await;
    assert_eq!(
        (account.status, &account.headers[header::ACCESS_CONTROL_ALLOW_ORIGIN]),
        (200, &SHOP.parse().unwrap())
    );
    assert_eq!(account.headers[header::VARY], "origin");
}

#[tokio::test]
async fn r11_a_token_ends_with_its_time_its_sign_in_and_each_new_proof() {
    let world = world().await;
    let mut client = Client::new(&world);
    refused(&client.get("/account").await, 401, "login.token");
    client.sign_in("shop.localhost", ADA, PASSWORD).await.ok();
    let first = client.token.clone().unwrap();
    // Whatever is changed of it.
    for at in 0..first.len() {
        let mut altered = first.clone().into_bytes();
        altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
        client.token = Some(String::from_utf8(altered).unwrap());
        assert_eq!(client.get("/account").await.status, 401, "{at}");
    }
    client.token = Some(first.clone());
    // A step-up makes a new one.
    let wrong = client.post("/step-up", json!({ "password": "not the password at all" })).await;
    refused(&wrong, 403, "login.wrong_password");
    let raised =
        client.post("/step-up", json!({ "password": PASSWORD, "app": client.app("shop.localhost") })).await;
    let raised = raised.ok();
    assert!(client.redeem(&raised["hand_off"]["code"], "shop.localhost").await);
    refused(&client.get("/account").await, 401, "login.session_over");
    client.token = raised["token"].as_str().map(str::to_owned);
    assert_eq!(client.get("/account").await.status, 200);
    // Renewed while it is good, and not after.
    world.advance(14 * 60);
    let renewed = client.post("/token", json!({})).await.ok();
    world.advance(2 * 60);
    refused(&client.get("/account").await, 401, "login.token");
    client.token = renewed["token"].as_str().map(str::to_owned);
    assert_eq!(client.get("/account").await.status, 200);
    // Signing out ends it.
    assert_eq!(client.ask(Method::DELETE, "/sign-in", None).await.status, 204);
    refused(&client.get("/account").await, 401, "login.session_over");
}

#[tokio::test]
async fn somebody_sees_where_they_are_signed_in_and_ends_it() {
    let world = world().await;
    let (mut phone, mut laptop) = (Client::new(&world), Client::new(&world));
    phone.sign_in("shop.localhost", ADA, PASSWORD).await.ok();
    world.advance(1);
    laptop.sign_in("shop.localhost", ADA, PASSWORD).await.ok();
    let list = laptop.get("/account/sign-ins").await.ok();
    let items = list["items"].as_array().unwrap();
    assert_eq!((items.len(), &items[0]["current"], &items[1]["current"]), (2, &json!(true), &json!(false)));
    let other = items[1]["id"].as_str().unwrap().to_owned();
    world.advance(1);
    assert_eq!(laptop.ask(Method::DELETE, &format!("/account/sign-ins/{other}"), None).await.status, 204);
    refused(&phone.get("/account").await, 401, "login.session_over");
    let told = laptop.get("/account/history").await.ok();
    assert_eq!(told["items"][0]["outcome"], "session_ended", "not by the browser it happened to");
    phone.sign_in("shop.localhost", ADA, PASSWORD).await.ok();
    let ended = phone.ask(Method::DELETE, "/account/sign-ins", None).await.ok();
    assert_eq!(ended, json!({ "ended": 1 }));
    refused(&laptop.get("/account").await, 401, "login.session_over");
    let history = phone.get("/account/history").await.ok();
    let outcomes: Vec<&str> =
        history["items"].as_array().unwrap().iter().map(|item| item["outcome"].as_str().unwrap()).collect();
    assert!(outcomes.contains(&"signed_in") && outcomes.contains(&"session_ended"), "{outcomes:?}");
    // R22: somebody else's is not found.
    let mut eve = Client::new(&world);
    let user = json!({ "email": "eve@shop.example", "name": "Eve", "password": PASSWORD });
    world.post("/projects/shop/users", user).await.ok();
    eve.sign_in("shop.localhost", "eve@shop.example", PASSWORD).await.ok();
    let own = phone.get("/account").await.ok()["sign_in"].as_str().unwrap().to_owned();
    let got = eve.ask(Method::DELETE, &format!("/account/sign-ins/{own}"), None).await;
    refused(&got, 404, "login.not_found");
    assert_eq!(phone.get("/account").await.status, 200);
}

#[tokio::test]
async fn a_forgotten_password_is_set_by_a_link_that_is_good_once_and_signs_nobody_in() {
    let world = world().await;
    let mut client = Client::new(&world);
    client.sign_in("shop.localhost", ADA, PASSWORD).await.ok();
    client.post("/recovery", json!({ "host": "shop.localhost", "email": ADA })).await.ok();
    let link = mailed(&world, "recovery").await;
    let open = client.post("/recovery/link", json!({ "link": link })).await.ok();
    assert_eq!((&open["next"], &open["email"]), (&json!("choose"), &json!(ADA)));
    assert_eq!(open["onward"], format!("{SHOP}/"));
    let weak = client.post("/recovery/complete", json!({ "link": link, "password": "short" })).await;
    refused(&weak, 400, "login.password_too_short");
    let new = "a quite different gouda battery";
    let set = json!({ "link": link, "password": new });
    let done = client.post("/recovery/complete", set.clone()).await;
    assert_eq!((done.status, &done.body), (204, &Value::Null), "r17: no sign-in comes of it");
    refused(&client.get("/account").await, 401, "login.session_over");
    refused(&client.post("/recovery/complete", set).await, 410, "login.link_dead");
    refused(&client.sign_in("shop.localhost", ADA, PASSWORD).await, 401, "login.wrong");
    client.sign_in("shop.localhost", ADA, new).await.ok();
}

#[tokio::test]
async fn a_new_password_ends_every_other_sign_in_and_keeps_this_client_going() {
    let world = world().await;
    let (mut phone, mut laptop) = (Client::new(&world), Client::new(&world));
    phone.sign_in("shop.localhost", ADA, PASSWORD).await.ok();
    laptop.sign_in("shop.localhost", ADA, PASSWORD).await.ok();
    let new = "a quite different gouda battery";
    let change =
        |current: &str| json!({ "current": current, "password": new, "app": phone.app("shop.localhost") });
    let wrong = phone.post("/account/password", change("not the password at all")).await;
    refused(&wrong, 403, "login.wrong_password");
    let same = json!({ "current": PASSWORD, "password": PASSWORD });
    refused(&phone.post("/account/password", same).await, 400, "login.password_same");
    let done = phone.post("/account/password", change(PASSWORD)).await.ok();
    refused(&phone.get("/account").await, 401, "login.session_over");
    phone.token = done["token"].as_str().map(str::to_owned);
    assert_eq!(phone.get("/account").await.status, 200);
    assert!(phone.redeem(&done["hand_off"]["code"], "shop.localhost").await);
    refused(&laptop.get("/account").await, 401, "login.session_over");
}

#[tokio::test]
async fn an_address_is_changed_by_a_link_to_the_new_one() {
    let world = world().await;
    let mut client = Client::new(&world);
    client.sign_in("shop.localhost", ADA, PASSWORD).await.ok();
    let asked = json!({ "email": "ada@new.example", "password": PASSWORD });
    let sent = client.post("/change-email", asked).await;
    assert_eq!((sent.status, &sent.body), (202, &json!({ "next": "inbox" })));
    assert_eq!(client.get("/account").await.ok()["email"], ADA, "not yet");
    let link = mailed(&world, "change_email").await;
    let changed = Client::new(&world).post("/change-email/complete", json!({ "link": link })).await.ok();
    assert_eq!(changed["email"], "ada@new.example");
    assert_eq!(client.get("/account").await.ok()["email"], "ada@new.example");
    let named = client.ask(Method::PATCH, "/account", Some(json!({ "name": "Ada King" }))).await.ok();
    assert_eq!((&named["name"], &named["display_name"]), (&json!("Ada King"), &json!("")));
    let called = json!({ "display_name": "Countess" });
    let called = client.ask(Method::PATCH, "/account", Some(called)).await.ok();
    assert_eq!((&called["name"], &called["display_name"]), (&json!("Ada King"), &json!("Countess")));
    assert_eq!(client.get("/account").await.ok()["display_name"], "Countess");
    let bad = json!({ "display_name": "two\nlines" });
    refused(&client.ask(Method::PATCH, "/account", Some(bad)).await, 400, "login.name");
    refused(&client.ask(Method::PATCH, "/account", Some(json!({}))).await, 400, "login.incomplete");
    refused(&client.ask(Method::PATCH, "/account", Some(json!({ "name": "" }))).await, 400, "login.name");
}

#[tokio::test]
async fn what_is_no_request_of_ours_is_refused_at_once() {
    let world = world().await;
    let client = Client::new(&world);
    let app = client.app("shop.localhost");
    let with = |name: &str, value: Value| {
        let mut app = app.clone();
        app[name] = value;
        app
    };
    for (body, status, code) in [
        (json!({}), 400, "login.bad_request"),
        (json!([]), 400, "login.bad_request"),
        (with("more", json!(1)), 400, "login.bad_request"),
        (with("host", json!("shop.localhost:8443")), 400, "login.bad_return"),
        (with("host", json!("nothing.localhost")), 404, "login.unknown_host"),
        (with("state_hash", json!("short")), 400, "login.bad_return"),
        (with("return_to", json!("//evil.example")), 400, "login.bad_return"),
        (with("return_to", json!("x".repeat(1 << 20))), 400, "login.too_large"),
    ] {
        refused(&client.post("/sign-in", body).await, status, code);
    }
    for flow in [json!("x"), json!("x.y"), json!("")] {
        let proof = json!({ "flow": flow, "email": ADA, "password": PASSWORD });
        refused(&client.post("/sign-in/password", proof).await, 400, "login.bad_request");
    }
    let flow = client.post("/sign-in", app).await.ok()["flow"].clone();
    world.advance(31 * 60);
    let proof = json!({ "flow": flow, "email": ADA, "password": PASSWORD });
    refused(&client.post("/sign-in/password", proof).await, 403, "login.form_stale");
    refused(&client.get("/nothing").await, 404, "login.not_found");
    refused(&client.get("/recovery").await, 405, "login.wrong_method");
    refused(
        &client.post("/sign-up", json!({ "host": "shop.localhost", "email": "eve@evil.example" })).await,
        403,
        "login.sign_up_closed",
    );
    for path in ["/sign-up/link", "/recovery/link", "/invitation/link", "/change-email/complete"] {
        refused(&client.post(path, json!({ "link": "x" })).await, 410, "login.link_dead");
    }
}
