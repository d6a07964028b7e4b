//! "Your account": what its owner changes, sees and ends.

use std::time::Duration;

use mezusphere_model::identity::Subject;
use mezusphere_store::primary::login_event::{self, LoginEvent};
use mezusphere_store::primary::{principal, user};

use super::browser::{Answer, Browser, TO_BLOG, TO_SHOP};
use super::world::{GOOD, World};
use crate::login::cookie;

const ADA: &str = "ada@shop.example";
const NEXT: &str = "violet otter on nine stilts";

fn base(world: &World) -> String {
    format!("/account/{}", world.shop.directory)
}

/// Opens a page of the account and sends its first form.
async fn send(browser: &mut Browser<'_>, path: &str, fields: &[(&str, &str)]) -> Answer {
    let form = browser.get(path).await.form();
    let fields: Vec<_> = fields.iter().copied().chain([("form", form.as_str())]).collect();
    browser.post(path, &fields).await
}

#[tokio::test]
async fn who_is_not_signed_in_is_led_to_sign_in_and_back() {
    let world = World::with_mail().await;
    let mut browser = Browser::new(&world);
    let base = base(&world);
    for page in ["", "/name", "/email", "/verify", "/password", "/sessions", "/history"] {
        let answer = browser.get(&format!("{base}{page}")).await;
        assert_eq!(answer.location(), format!("/sign-in?directory={}", world.shop.directory), "{page}");
    }
    let page = browser.get(&format!("/sign-in?directory={}", world.shop.directory)).await;
    assert_eq!(page.status, 200);
    let form = page.form();
    let entered = browser.post("/sign-in", &[("form", &form), ("email", ADA), ("password", GOOD)]).await;
    assert_eq!(entered.location(), base);
    assert!(browser.get(&base).await.body.contains(ADA));
    assert_eq!(browser.get("/account/nonsense").await.code(), "login.not_found");
    let other = format!("/account/{}", world.blog.directory);
    assert!(browser.get(&other).await.location().starts_with("/sign-in?directory="), "not the blog's");
}

#[tokio::test]
async fn a_name_is_changed_and_shown() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    browser.sign_in(TO_SHOP, ADA, GOOD).await.location();
    let path = format!("{}/name", base(&world));
    let bad = send(&mut browser, &path, &[("name", "two\nlines")]).await;
    assert_eq!(bad.status, 400);
    assert!(bad.body.contains("That name cannot be used"));
    let saved = send(&mut browser, &path, &[("name", " Zoë Ødegård 🦉 ")]).await;
    assert_eq!(saved.location(), format!("{}?saved=name", base(&world)));
    let place = saved.location().to_owned();
    let page = browser.get(&place).await;
    assert!(page.body.contains("Zoë Ødegård 🦉") && page.body.contains("Your name is changed"));
    assert_eq!(world.audited().await, ["sign_in.begin", "user.rename"]);
    let fields = [("name", "Zoë Ødegård 🦉"), ("display_name", "two\nlines")];
    let bad = send(&mut browser, &path, &fields).await;
    assert!(bad.status == 400 && bad.body.contains("<a href=\"#display_name\">"), "{}", bad.body);
    for (called, shown) in [(" Zo ", "Zo"), ("", "Zoë Ødegård 🦉")] {
        let fields = [("name", "Zoë Ødegård 🦉"), ("display_name", called)];
        send(&mut browser, &path, &fields).await.location();
        let page = browser.get(&base(&world)).await.body;
        assert!(page.contains("<dd>Zoë Ødegård 🦉</dd>"), "{page}");
        assert_eq!(page.contains("<dt>Display name</dt><dd>Zo</dd>"), !called.is_empty(), "{page}");
        let asked = browser.get(&path).await.body;
        assert_eq!(asked.contains("value=\"Zo\""), !called.is_empty(), "{asked}");
        let known = world.primary.read(async |tx| {
            let ada = user::find(tx, world.shop.directory, ADA).await?.unwrap();
            principal::load(tx, world.shop.project, Subject::User(ada.id)).await
        });
        assert_eq!(known.await.unwrap().unwrap().name, shown, "what workloads are told");
    }
    let huge = send(&mut browser, &path, &[("name", &"x".repeat(1024 * 1024))]).await;
    assert_eq!((huge.status, huge.code()), (400, "login.too_large"));
}

#[tokio::test]
async fn r12_a_new_password_signs_out_every_other_browser_and_keeps_this_one() {
    let world = World::with_mail().await;
    let (mut laptop, mut phone) = (Browser::new(&world), Browser::new(&world));
    laptop.sign_in(TO_SHOP, ADA, GOOD).await.location();
    laptop.sign_in(TO_BLOG, "ada@blog.example", GOOD).await.location();
    phone.sign_in(TO_SHOP, ADA, GOOD).await.location();
    let held = laptop.cookies[cookie::SIGN_IN].clone();
    let path = format!("{}/password", base(&world));
    for (current, new, repeat, status, says) in [
        ("wrong", NEXT, NEXT, 401, "That is not your password"),
        (GOOD, "short", "short", 400, "too short"),
        (GOOD, NEXT, "other", 400, "not the same"),
        ("", NEXT, NEXT, 400, "Enter your password"),
        (GOOD, GOOD, GOOD, 400, "<a href=\"#password\">That is your password already."),
        ("wrong", "wrong", "wrong", 401, "That is not your password"),
    ] {
        let fields = [("current", current), ("password", new), ("repeat", repeat)];
        let answer = send(&mut laptop, &path, &fields).await;
        assert_eq!(answer.status, status, "{says}");
        assert!(answer.body.contains(says) && !answer.body.contains(NEXT), "{says}: {}", answer.body);
    }
    world.mails().await;
    world.hand.advance(Duration::from_secs(1));
    let fields = [("current", GOOD), ("password", NEXT), ("repeat", NEXT)];
    let saved = send(&mut laptop, &path, &fields).await;
    assert_eq!(saved.location(), format!("{}?saved=password", base(&world)));
    assert_ne!(laptop.cookies[cookie::SIGN_IN], held, "a new token (R11)");
    assert_eq!(laptop.get(TO_SHOP).await.status, 303);
    assert_eq!(laptop.get(TO_BLOG).await.status, 303, "another directory's sign-in is left alone");
    assert_eq!(phone.get(TO_SHOP).await.status, 200, "the form");
    let told: Vec<_> = world.mails().await.into_iter().map(|mail| mail.kind).collect();
    assert!(told.contains(&"password_changed".to_owned()), "{told:?}");
    let mut old = Browser::new(&world);
    old.cookies.insert(cookie::SIGN_IN.to_owned(), held);
    assert_eq!(old.get(TO_SHOP).await.status, 200, "the old token opens nothing");
}

#[tokio::test]
async fn an_address_is_changed_by_a_link_to_the_new_one() {
    let world = World::with_mail().await;
    let mut browser = Browser::new(&world);
    browser.sign_in(TO_SHOP, ADA, GOOD).await.location();
    let path = format!("{}/email", base(&world));
    for (email, current, status, says) in [
        ("ada@new.example", "wrong", 401, "That is not your password"),
        ("nonsense", GOOD, 400, "not an e-mail address"),
        (ADA, GOOD, 400, "That is your address already"),
        ("ada@new.example", "", 400, "<a href=\"#current\">Enter your password."),
        ("", "", 400, "<a href=\"#email\">That is not an e-mail address."),
    ] {
        let answer = send(&mut browser, &path, &[("email", email), ("current", current)]).await;
        assert_eq!(answer.status, status, "{says}");
        assert!(answer.body.contains(says) && answer.body.contains(&format!("value=\"{email}\"")), "{says}");
    }
    let sent = send(&mut browser, &path, &[("email", "ada@new.example"), ("current", GOOD)]).await;
    assert!(sent.status == 200 && sent.body.contains("Check your mail"), "{}", sent.body);
    assert!(browser.get(&base(&world)).await.body.contains(ADA), "nothing is changed yet");
    let link = world.link("change_email").await;
    // Opened where nobody is signed in: the link is enough, and the button is needed.
    let mut phone = Browser::new(&world);
    let page = phone.get(&link).await;
    assert!(page.body.contains("ada@new.example") && page.body.contains("Use this address"));
    let form = page.form();
    let done = phone.post(&link, &[("form", &form)]).await;
    assert!(done.status == 200 && done.body.contains("Your address is changed"), "{}", done.body);
    assert_eq!(phone.post(&link, &[("form", &form)]).await.code(), "login.link_dead");
    let account = browser.get(&base(&world)).await.body;
    assert!(account.contains("ada@new.example") && account.contains("Confirmed"), "{account}");
    let told: Vec<_> = world.mails().await.into_iter().map(|mail| (mail.kind, mail.to)).collect();
    assert_eq!(told, [("email_changed".to_owned(), ADA.to_owned())], "the old address hears of it");
}

#[tokio::test]
async fn an_address_is_confirmed_by_a_link() {
    let world = World::with_mail().await;
    let mut browser = Browser::new(&world);
    browser.sign_in(TO_SHOP, ADA, GOOD).await.location();
    assert!(browser.get(&base(&world)).await.body.contains("Confirm this address"));
    let path = format!("{}/verify", base(&world));
    let sent = send(&mut browser, &path, &[]).await;
    assert!(sent.status == 200 && sent.body.contains("Check your mail"));
    let link = world.link("verify_email").await;
    assert_eq!(browser.get(&link).await.status, 200);
    assert!(browser.get(&base(&world)).await.body.contains("Confirm this address"), "a GET does nothing");
    let done = send(&mut browser, &link, &[]).await;
    assert!(done.body.contains("The address is confirmed"), "{}", done.body);
    assert_eq!(browser.get(&path).await.location(), base(&world), "nothing is left to do");
    assert!(World::new().await.mails().await.is_empty());
}

#[tokio::test]
async fn r12_browsers_are_listed_in_words_and_signed_out_one_by_one_or_all() {
    let world = World::new().await;
    let mut laptop = Browser::new(&world);
    laptop.sign_in(TO_SHOP, ADA, GOOD).await.location();
    let mut others = Vec::new();
    for address in ["198.51.100.1", "2001:db8::7"] {
        let mut browser = if address.contains(':') {
            let mut browser = Browser::new(&world);
            browser.address = format!("[{address}]:50000").parse().unwrap();
            browser
        } else {
            Browser::new(&world).from(address)
        };
        world.hand.advance(Duration::from_mins(1));
        browser.sign_in(TO_SHOP, ADA, GOOD).await.location();
        others.push(browser);
    }
    let path = format!("{}/sessions", base(&world));
    let page = laptop.get(&path).await;
    for part in ["This browser", "From 192.0.2.7", "From 198.51.100.1", "From 2001:db8::7"] {
        assert!(page.body.contains(part), "{part}: {}", page.body);
    }
    let forms = page.forms();
    assert_eq!(forms.len(), 3, "two others, and all others");
    let one = laptop.post(&path, &[("form", &forms[0])]).await;
    assert_eq!(one.location(), format!("{path}?ended=one"));
    // The last used stands first: the one with the longer address.
    assert_eq!(others[1].get(TO_SHOP).await.status, 200, "the form");
    assert_eq!(others[0].get(TO_SHOP).await.status, 303);
    assert_eq!(laptop.post(&path, &[("form", &forms[0])]).await.status, 303, "sent twice is once");
    let all = laptop.post(&path, &[("form", &forms[2])]).await;
    assert_eq!(all.location(), format!("{path}?ended=others"));
    assert_eq!(others[0].get(TO_SHOP).await.status, 200);
    assert_eq!(laptop.get(TO_SHOP).await.status, 303, "this one stays");
    let page = laptop.get(&format!("{path}?ended=others")).await;
    assert!(page.body.contains("All other browsers are signed out") && page.forms().is_empty());
    let history = laptop.get(&format!("{}/history", base(&world))).await.body;
    assert_eq!(history.matches("A browser was signed out").count(), 2, "{history}");
}

#[tokio::test]
async fn signing_out_everywhere_ends_every_browser() {
    let world = World::new().await;
    let (mut laptop, mut phone) = (Browser::new(&world), Browser::new(&world));
    laptop.sign_in(TO_SHOP, ADA, GOOD).await.location();
    phone.sign_in(TO_SHOP, ADA, GOOD).await.location();
    let forms = laptop.get("/sign-out").await.forms();
    assert_eq!(forms.len(), 2, "here, and everywhere");
    let answer = laptop.post("/sign-out", &[("form", &forms[1])]).await;
    assert_eq!(answer.location(), "/signed-out?everywhere");
    assert!(laptop.get("/signed-out?everywhere").await.body.contains("On all your devices"));
    assert_eq!(phone.get(TO_SHOP).await.status, 200);
    // Here only, the other time round.
    laptop.sign_in(TO_SHOP, ADA, GOOD).await.location();
    phone.sign_in(TO_SHOP, ADA, GOOD).await.location();
    let form = laptop.get("/sign-out").await.form();
    assert_eq!(laptop.post("/sign-out", &[("form", &form)]).await.location(), "/signed-out");
    assert_eq!(phone.get(TO_SHOP).await.status, 303);
}

#[tokio::test]
async fn history_tells_what_happened_twenty_at_a_time() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    browser.sign_in(TO_SHOP, ADA, GOOD).await.location();
    let write = world.primary.write(async |tx| {
        let ada = user::find(tx, world.shop.directory, ADA).await?.unwrap();
        let event = |age: u64| LoginEvent {
            user: ada.id,
            directory: ada.directory,
            at: tx.now().before(Duration::from_hours(age)),
            outcome: "signed_in".to_owned(),
            method: "pwd".to_owned(),
            address: "192.0.2.7".to_owned(),
            agent: String::new(),
        };
        let events: Vec<_> = (1..22).map(event).collect();
        login_event::record_many(tx, &events).await
    });
    write.await.unwrap();
    let path = format!("{}/history", base(&world));
    let page = browser.get(&path).await;
    assert_eq!(page.body.matches("<b>Signed in</b>").count(), 20, "{}", page.body);
    let older = page.body.split(&format!("href=\"{path}?before=")).nth(1).unwrap();
    let older = format!("{path}?before={}", older.split('"').next().unwrap());
    let rest = browser.get(&older).await;
    assert_eq!(rest.body.matches("<b>Signed in</b>").count(), 2, "{}", rest.body);
    assert!(rest.body.contains(&format!("href=\"{path}\"")), "the way back to the newest");
    for odd in [
        "?before=",
        "?before=x",
        "?before=%00",
        "?before=../..",
        "?x=y",
        &format!("?before={}", "9".repeat(400)),
    ] {
        assert_eq!(browser.get(&format!("{path}{odd}")).await.status, 200, "{odd}");
    }
}

#[tokio::test]
async fn r16_a_form_opened_with_one_sign_in_does_nothing_for_another() {
    let world = World::with_mail().await;
    world.user(world.shop.directory, "eve@shop.example", Some(GOOD)).await;
    let mut browser = Browser::new(&world);
    browser.sign_in(TO_SHOP, ADA, GOOD).await.location();
    let base = base(&world);
    let mut forms = Vec::new();
    for page in ["/name", "/email", "/verify", "/password"] {
        forms.push((format!("{base}{page}"), browser.get(&format!("{base}{page}")).await.form()));
    }
    // Another tab signs in as somebody else.
    let form = browser.get(&format!("{TO_SHOP}&prompt=login")).await.form();
    let fields = [("form", form.as_str()), ("email", "eve@shop.example"), ("password", GOOD)];
    browser.post("/sign-in", &fields).await.location();
    for (path, form) in &forms {
        let fields = [
            ("form", form.as_str()),
            ("name", "Eve"),
            ("email", "eve@new.example"),
            ("current", GOOD),
            ("password", NEXT),
            ("repeat", NEXT),
        ];
        let answer = browser.post(path, &fields).await;
        assert_eq!((answer.status, answer.code()), (403, "login.other_account"), "{path}");
        assert!(answer.body.contains("href=\"/account\""));
    }
    // A form of one page is worth nothing on another.
    let name = browser.get(&format!("{base}/name")).await.form();
    let answer = browser.post(&format!("{base}/sessions"), &[("form", &name)]).await;
    assert_eq!(answer.code(), "login.form_stale");
}

#[tokio::test]
async fn a_form_sent_after_the_sign_in_ended_says_so_and_leads_to_sign_in() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    browser.sign_in(TO_SHOP, ADA, GOOD).await.location();
    let path = format!("{}/name", base(&world));
    let form = browser.get(&path).await.form();
    world.hand.advance(Duration::from_hours(13));
    let answer = browser.post(&path, &[("form", &form), ("name", "Ada")]).await;
    assert_eq!((answer.status, answer.code()), (403, "login.session_over"));
    let sign_in = format!("href=\"/sign-in?directory={}\"", world.shop.directory);
    assert!(answer.body.contains(&sign_in), "{}", answer.body);
    browser.cookies.clear();
    let answer = browser.post(&path, &[("form", &form), ("name", "Ada")]).await;
    assert_eq!(answer.code(), "login.no_cookies");
}
