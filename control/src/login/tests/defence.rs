//! What holds for every page: where forms come from, the headers, the limits, and answers to nonsense.

use axum::body::Body;
use http::Method;

use super::browser::{Answer, Browser, REQUEST, TO_SHOP};
use super::world::{GOOD, ORIGIN, World};
use crate::login::cookie;
use crate::page::asset;

const ADA: &str = "ada@shop.example";

#[tokio::test]
async fn r16_a_form_from_elsewhere_does_nothing() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    browser.sign_in(TO_SHOP, ADA, GOOD).await.location();
    let sign_out = browser.get("/sign-out").await.form();
    let lies: [&[(&str, &str)]; 7] = [
        &[],
        &[("origin", "https://evil.example")],
        &[("origin", "null")],
        &[("origin", "https://shop.localhost:8443"), ("sec-fetch-site", "same-site")],
        &[("origin", ORIGIN), ("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
        &[("referer", "https://login.mezu.localhost:8443/sign-in")],
    ];
    for says in lies {
        browser.says = says.to_vec();
        for path in ["/sign-out", "/sign-in", "/first-sign-in/x", "/account", "/nowhere"] {
            let fields = [("form", sign_out.as_str()), ("email", ADA), ("password", GOOD)];
            let answer = browser.post(path, &fields).await;
            assert_eq!((answer.status, answer.code()), (403, "login.cross_site"), "{path} {says:?}");
        }
    }
    assert_eq!(browser.get("/account").await.status, 200, "still signed in");
    assert_eq!(world.pool.verifications(), 1, "only the real one");
}

#[tokio::test]
async fn r16_a_form_token_of_another_browser_or_page_does_nothing() {
    let world = World::new().await;
    let mut eve = Browser::new(&world);
    let hers = eve.get(TO_SHOP).await.form();
    let mut browser = Browser::new(&world);
    let own = browser.get(TO_SHOP).await.form();
    for form in ["", "x", "x.y", &hers, &own[1..]] {
        let answer = browser.post("/sign-in", &[("form", form), ("email", ADA), ("password", GOOD)]).await;
        assert_eq!((answer.status, answer.code()), (403, "login.form_stale"), "{form}");
    }
    browser.sign_in(TO_SHOP, ADA, GOOD).await.location();
    let answer = browser.post("/sign-out", &[("form", &own)]).await;
    assert_eq!(answer.code(), "login.form_stale", "a sign-in form does not sign out");
    assert_eq!(browser.get("/account").await.status, 200);
}

#[tokio::test]
async fn r18_every_answer_carries_the_security_headers() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    let mut answers = Vec::new();
    for path in
        ["/", "/sign-in", TO_SHOP, "/sign-in?host=x", "/sign-out", "/signed-out", "/account", "/nowhere"]
    {
        answers.push((path.to_owned(), browser.get(path).await));
    }
    answers.push(("wrong".to_owned(), browser.sign_in(TO_SHOP, ADA, "wrong").await));
    answers.push(("right".to_owned(), browser.sign_in(TO_SHOP, ADA, GOOD).await));
    answers.push(("account".to_owned(), browser.get("/account").await));
    answers.push(("post".to_owned(), browser.post("/account", &[]).await));
    for file in asset::ALL {
        answers.push((file.path().to_owned(), browser.get(file.path()).await));
    }
    for (what, answer) in answers {
        let exact = [
            ("strict-transport-security", "max-age=31536000"),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "same-origin"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
        ];
        for (name, value) in exact {
            assert_eq!(answer.header(name), value, "{what}");
        }
        let policy = answer.header("content-security-policy");
        for part in [
            "default-src 'none'",
            "style-src 'self'",
            "img-src 'self'",
            "form-action 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
        ] {
            assert!(policy.contains(part), "{what}: {policy}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains('*'), "{what}: {policy}");
        if !what.starts_with("/assets/") {
            assert_eq!(answer.header("cache-control"), "no-store", "{what}");
        }
    }
}

#[tokio::test]
async fn r18_a_form_may_lead_to_its_own_application_and_to_no_other() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    let policy = |answer: &Answer| {
        let policy = answer.header("content-security-policy");
        policy.split("; ").find(|part| part.starts_with("form-action")).unwrap().to_owned()
    };
    assert_eq!(policy(&browser.get(TO_SHOP).await), "form-action 'self' https://shop.localhost:8443");
    let wrong = browser.sign_in(TO_SHOP, ADA, "wrong").await;
    assert_eq!(policy(&wrong), "form-action 'self' https://shop.localhost:8443");
    assert_eq!(policy(&browser.get("/sign-in").await), "form-action 'self'");
    assert_eq!(policy(&browser.get("/nowhere").await), "form-action 'self'");
}

#[tokio::test]
async fn assets_may_be_kept_for_ever_under_a_name_of_their_content() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    let page = browser.get("/sign-in").await.body;
    for (file, kind) in asset::ALL.into_iter().zip(["text/css; charset=utf-8", "image/svg+xml"]) {
        assert!(page.contains(file.path()), "{}", file.path());
        let answer = browser.get(file.path()).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, kind));
        assert_eq!(answer.header("cache-control"), "public, max-age=31536000, immutable");
        assert_eq!(answer.body, file.body);
    }
    assert_eq!(browser.get("/assets/style.css").await.status, 404);
    assert_eq!(browser.get("/assets/../sign-in").await.status, 404);
}

#[tokio::test]
async fn nonsense_gets_a_friendly_page() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    let answer = browser.get("/nowhere").await;
    assert_eq!((answer.status, answer.code()), (404, "login.not_found"));
    assert!(answer.body.contains(&format!("<dt>Request</dt><dd>{REQUEST}</dd>")), "{}", answer.body);
    // A way on that is right whether or not somebody is signed in.
    assert!(
        answer.body.contains("href=\"/account\"") && !answer.body.contains("/sign-in"),
        "{}",
        answer.body
    );
    let answer = browser.post("/account", &[]).await;
    assert_eq!((answer.status, answer.code()), (405, "login.wrong_method"));
    assert_eq!(answer.header("allow"), "GET,HEAD");
    let answer = browser.send(Method::DELETE, "/sign-in", &[("origin", ORIGIN)], Body::empty()).await;
    assert_eq!(answer.status, 405);
    browser.get("/sign-in").await;
    let json = [("origin", ORIGIN), ("content-type", "application/json")];
    let answer = browser.send(Method::POST, "/sign-in", &json, Body::from("{}")).await;
    assert_eq!((answer.status, answer.code()), (400, "login.bad_request"));
    let twice = browser.post_raw("/sign-in", "email=a&email=b".to_owned()).await;
    assert_eq!((twice.status, twice.code()), (400, "login.bad_request"));
    let many: Vec<String> = (0..100).map(|n| format!("f{n}=x")).collect();
    assert_eq!(browser.post_raw("/sign-in", many.join("&")).await.code(), "login.bad_request");
}

#[tokio::test]
async fn r14_a_body_without_a_length_is_cut_off_at_the_limit() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    browser.get("/sign-in").await;
    let chunk = || Ok::<_, std::io::Error>(bytes::Bytes::from(vec![b'x'; 16 * 1024]));
    let endless = Body::from_stream(futures_util::stream::repeat_with(chunk));
    let headers = [("origin", ORIGIN), ("content-type", "application/x-www-form-urlencoded")];
    let answer = browser.send(Method::POST, "/sign-in", &headers, endless).await;
    assert_eq!((answer.status, answer.code()), (400, "login.too_large"));
}

#[tokio::test]
async fn r11_cookies_of_every_answer_are_out_of_reach_of_scripts_and_siblings() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    let shown = browser.get(TO_SHOP).await;
    let entered = browser.sign_in(TO_SHOP, ADA, GOOD).await;
    let form = browser.get("/sign-out").await.form();
    let left = browser.post("/sign-out", &[("form", &form)]).await;
    for (answer, name) in [(shown, cookie::FORM), (entered, cookie::SIGN_IN), (left, cookie::SIGN_IN)] {
        let set = answer.header("set-cookie");
        assert!(set.starts_with(&format!("{name}=")), "{set}");
        assert!(set.contains("; Path=/; Secure; HttpOnly; SameSite=Lax") && !set.contains("Domain"), "{set}");
    }
}
