//! What goes by a mailed link: signing up, recovery, invitations, confirming an address.

use std::time::Duration;

use mezusphere_identity::account::Email;
use mezusphere_identity::flow::Refusal;
use mezusphere_identity::flow::invitation::{self, Invite};
use mezusphere_store::primary::directory::SignUp;
use mezusphere_store::primary::user;
use mezusphere_store::{StoreError, WriteError};

use super::browser::{Answer, Browser, STATE, TO_SHOP};
use super::world::{GOOD, World};
use crate::login::cookie;

const ADA: &str = "ada@shop.example";
const NEW: &str = "grace@navy.example";
const NEXT: &str = "violet otter on nine stilts";

/// The query of [`TO_SHOP`] at another page.
fn at(page: &str) -> String {
    TO_SHOP.replace("/sign-in", page)
}

/// Asks a page to send a link.
async fn ask(browser: &mut Browser<'_>, page: &str, email: &str) -> Answer {
    let form = browser.get(&at(page)).await.form();
    browser.post(page, &[("form", &form), ("email", email)]).await
}

/// Uses a link on which a name and a password are chosen.
async fn choose(browser: &mut Browser<'_>, path: &str, name: &str, password: &str) -> Answer {
    let form = browser.get(path).await.form();
    let fields = [("form", form.as_str()), ("name", name), ("password", password), ("repeat", password)];
    browser.post(path, &fields).await
}

/// A world in which the shop takes sign-ups.
async fn open() -> World {
    let world = World::with_mail().await;
    world.settings(world.shop.directory, |settings| settings.sign_up = SignUp::Open).await;
    world
}

#[tokio::test]
async fn a_stranger_signs_up_by_a_link_and_arrives_where_they_wanted_to_go() {
    let world = open().await;
    let mut browser = Browser::new(&world);
    let page = browser.get(TO_SHOP).await;
    assert!(page.body.contains("href=\"/sign-up?host=shop.localhost&#38;return_to="), "{}", page.body);
    let sent = ask(&mut browser, "/sign-up", NEW).await;
    assert_eq!(sent.status, 200);
    assert!(sent.body.contains("Check your mail") && sent.body.contains(NEW), "{}", sent.body);
    let link = world.link("sign_up").await;
    // The mail is read in another browser.
    let mut phone = Browser::new(&world);
    for _ in 0..3 {
        let page = phone.get(&link).await;
        assert_eq!(page.status, 200, "looking consumes nothing");
        assert!(page.body.contains("autocomplete=\"name\"") && page.body.contains(NEW), "{}", page.body);
    }
    let entered = choose(&mut phone, &link, "Grace Hopper", NEXT).await;
    assert_eq!(entered.location(), "https://shop.localhost:8443/orders?tab=2");
    assert_eq!(phone.get(TO_SHOP).await.status, 303, "signed in: the application gets its hand-off at once");
    assert_eq!(world.audited().await, ["user.create", "sign_in.begin"]);
    let found = world.primary.read(async |tx| user::find(tx, world.shop.directory, NEW).await);
    let user: Result<_, StoreError> = found.await;
    let user = user.unwrap().unwrap();
    assert_eq!(user.name, "Grace Hopper");
    assert!(user.email_verified_at.is_some());
    let again = phone.get(&link).await;
    assert_eq!((again.status, again.code()), (410, "login.link_dead"));
    assert!(again.body.contains("href=\"/account\""), "who sent a form twice is signed in: {}", again.body);
}

#[tokio::test]
async fn r13_signing_up_and_recovery_answer_alike_whether_the_account_exists() {
    let world = open().await;
    for (page, known, unknown) in [("/sign-up", ADA, NEW), ("/recover", ADA, NEW)] {
        let mut answers = Vec::new();
        for email in [known, unknown] {
            let answer = ask(&mut Browser::new(&world), page, email).await;
            let headers: Vec<_> =
                answer.headers.iter().filter(|(name, _)| *name != "content-length").collect();
            answers.push((answer.status, format!("{headers:?}"), answer.body.replace(email, "EMAIL")));
        }
        assert_eq!(answers[0].0, 200);
        assert_eq!(answers[0], answers[1], "{page}");
        assert_eq!(world.mails().await.len(), 2, "{page}: each queues one mail");
    }
    assert!(world.audited().await.is_empty(), "strangers write nothing into the audit log");
}

#[tokio::test]
async fn sign_up_is_offered_where_it_is_allowed_and_mail_can_be_sent() {
    let offered = async |world: &World| Browser::new(world).get(TO_SHOP).await.body.contains("/sign-up?");
    let world = World::with_mail().await;
    let mut browser = Browser::new(&world);
    for (policy, is_offered, code) in [
        (SignUp::Closed, false, "login.sign_up_closed"),
        (SignUp::Invitation, false, "login.invitation_only"),
        (SignUp::Open, true, ""),
        (SignUp::Domains(vec!["navy.example".to_owned()]), true, ""),
    ] {
        world.settings(world.shop.directory, |settings| settings.sign_up = policy.clone()).await;
        assert_eq!(offered(&world).await, is_offered, "{policy:?}");
        let page = browser.get(&at("/sign-up")).await;
        assert_eq!((page.status == 200, page.code()), (is_offered, code), "{policy:?}");
    }
    let refused = ask(&mut browser, "/sign-up", "eve@evil.example").await;
    assert_eq!(refused.status, 400);
    assert!(
        refused.body.contains("value=\"eve@evil.example\"") && refused.body.contains("certain organizations")
    );
    assert_eq!(ask(&mut browser, "/sign-up", NEW).await.status, 200);
    let mute = World::new().await;
    mute.settings(mute.shop.directory, |settings| settings.sign_up = SignUp::Open).await;
    let page = Browser::new(&mute).get(TO_SHOP).await;
    assert!(!page.body.contains("/sign-up") && !page.body.contains("/recover"), "{}", page.body);
    for path in ["/sign-up", "/recover"] {
        let answer = Browser::new(&mute).get(&at(path)).await;
        assert_eq!((answer.status, answer.code()), (404, "login.mail_off"), "{path}");
    }
}

#[tokio::test]
async fn a_form_with_a_mistake_keeps_what_was_typed_and_never_the_password() {
    let world = open().await;
    let mut browser = Browser::new(&world);
    let bad = ask(&mut browser, "/sign-up", "grace").await;
    assert_eq!(bad.status, 400);
    assert!(bad.body.contains("value=\"grace\"") && bad.body.contains("not an e-mail address"));
    ask(&mut browser, "/sign-up", NEW).await;
    let link = world.link("sign_up").await;
    let name = "Žofie \u{1f989} O’Neill";
    for (name, password, says, kept) in [
        ("", NEXT, "That name cannot be used", "value=\"\""),
        (name, "shortish", "too short", "value=\"Žofie 🦉 O’Neill\""),
        (&"x".repeat(201), NEXT, "1 to 200 characters", "value=\"xxx"),
    ] {
        let answer = choose(&mut browser, &link, name, password).await;
        assert_eq!(answer.status, 400, "{name}");
        assert!(answer.body.contains(says) && answer.body.contains(kept), "{}", answer.body);
        assert!(!answer.body.contains(password));
    }
    choose(&mut browser, &link, name, NEXT).await.location();
    assert!(browser.get("/account").await.body.contains("Žofie 🦉 O’Neill"));
}

#[tokio::test]
async fn r17_recovery_ends_every_sign_in_tells_the_owner_and_signs_nobody_in() {
    let world = World::with_mail().await;
    let mut laptop = Browser::new(&world);
    laptop.sign_in(TO_SHOP, ADA, GOOD).await.location();
    let mut phone = Browser::new(&world);
    assert_eq!(ask(&mut phone, "/recover", ADA).await.status, 200);
    let link = world.link("recovery").await;
    let page = phone.get(&link).await;
    assert!(page.body.contains("signed out everywhere") && !page.body.contains("name=\"name\""));
    let form = page.form();
    let fields = [("form", form.as_str()), ("password", NEXT), ("repeat", NEXT)];
    let done = phone.post(&link, &fields).await;
    assert_eq!(done.status, 200);
    assert!(done.body.contains("Your password is changed"));
    assert!(done.body.contains("href=\"https://shop.localhost:8443/orders?tab=2\""), "{}", done.body);
    assert!(!phone.cookies.contains_key(cookie::SIGN_IN), "nobody is signed in by a mail alone");
    assert_eq!(laptop.get(TO_SHOP).await.status, 200, "the form: every sign-in has ended");
    let told: Vec<_> = world.mails().await.into_iter().map(|mail| (mail.kind, mail.to)).collect();
    assert_eq!(told, [("password_changed".to_owned(), ADA.to_owned())]);
    assert_eq!(laptop.sign_in(TO_SHOP, ADA, GOOD).await.status, 401);
    laptop.sign_in(TO_SHOP, ADA, NEXT).await.location();
    assert_eq!(phone.post(&link, &fields).await.code(), "login.link_dead", "once");
}

#[tokio::test]
async fn r17_dead_foreign_and_mutilated_links_get_one_answer_and_change_nothing() {
    let world = open().await;
    let mut browser = Browser::new(&world);
    ask(&mut browser, "/sign-up", NEW).await;
    let sign_up = world.link("sign_up").await;
    ask(&mut browser, "/recover", ADA).await;
    let recover = world.link("recovery").await;
    let token = |path: &str| path.rsplit('/').next().unwrap().to_owned();
    let pages = ["/sign-up", "/recover", "/invitation", "/verify", "/change-email", "/first-sign-in"];
    let odd = [
        "A".repeat(43),
        "x".to_owned(),
        "%00".to_owned(),
        token(&sign_up)[1..].to_owned(),
        format!("{}A", token(&sign_up)),
        "é".to_owned(),
        "a".repeat(4000),
    ];
    for page in pages {
        let foreign = if page == "/sign-up" { token(&recover) } else { token(&sign_up) };
        for text in odd.iter().chain([&foreign]) {
            // Many wrong links are many attempts: a fresh network each.
            let mut stranger =
                Browser::new(&world).from(&format!("203.0.{}.9", page.len() * 7 % 250 + text.len() % 7));
            let answer = stranger.get(&format!("{page}/{text}")).await;
            assert!(matches!(answer.status, 410 | 429), "{page}/{text}: {}", answer.status);
            assert!(matches!(answer.code(), "login.link_dead" | "login.throttled"), "{page}");
        }
    }
    // Still good, both.
    assert_eq!(browser.get(&sign_up).await.status, 200);
    assert_eq!(browser.get(&recover).await.status, 200);
    world.hand.advance(Duration::from_mins(30));
    for link in [&sign_up, &recover] {
        let answer = browser.get(link).await;
        assert_eq!((answer.status, answer.code()), (410, "login.link_dead"), "{link}");
    }
}

#[tokio::test]
async fn r16_a_link_is_used_only_by_a_form_of_this_browser_and_this_link() {
    let world = open().await;
    let mut browser = Browser::new(&world);
    ask(&mut browser, "/recover", ADA).await;
    let recover = world.link("recovery").await;
    ask(&mut browser, "/sign-up", NEW).await;
    let sign_up = world.link("sign_up").await;
    let form = browser.get(&recover).await.form();
    let fields = [("form", form.as_str()), ("name", "Eve"), ("password", NEXT), ("repeat", NEXT)];
    assert_eq!(browser.post(&sign_up, &fields).await.code(), "login.form_stale", "another link's form");
    let mut eve = Browser::new(&world);
    eve.get(&sign_up).await;
    assert_eq!(eve.post(&recover, &fields).await.code(), "login.form_stale", "another browser's form");
    browser.cookies.clear();
    assert_eq!(browser.post(&recover, &fields).await.code(), "login.no_cookies");
    assert_eq!(browser.get(&recover).await.status, 200, "and the link is still good");
}

#[tokio::test]
async fn r15_asking_for_mails_is_slowed_and_says_so_beside_the_form() {
    let world = open().await;
    let mut browser = Browser::new(&world);
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(ask(&mut browser, "/recover", ADA).await.status);
    }
    assert_eq!(statuses, [200, 200, 200, 429]);
    let answer = ask(&mut browser, "/recover", ADA).await;
    assert!(answer.body.contains("Too many attempts") && answer.body.contains(ADA), "{}", answer.body);
    assert_ne!(answer.header("retry-after"), "");
}

#[tokio::test]
async fn a_page_left_open_asks_once_more_with_what_was_typed() {
    let world = open().await;
    let mut browser = Browser::new(&world);
    let form = browser.get(&at("/sign-up")).await.form();
    world.hand.advance(Duration::from_mins(31));
    let stale = browser.post("/sign-up", &[("form", &form), ("email", NEW)]).await;
    assert_eq!(stale.status, 403);
    assert!(stale.body.contains("open for too long") && stale.body.contains(&format!("value=\"{NEW}\"")));
    let form = stale.form();
    assert_eq!(browser.post("/sign-up", &[("form", &form), ("email", NEW)]).await.status, 200);
}

#[tokio::test]
async fn an_address_that_has_an_account_meanwhile_is_told_to_its_holder() {
    let world = open().await;
    let mut browser = Browser::new(&world);
    ask(&mut browser, "/sign-up", NEW).await;
    let link = world.link("sign_up").await;
    let page = browser.get(&link).await.form();
    world.user(world.shop.directory, NEW, Some(GOOD)).await;
    let fields = [("form", page.as_str()), ("name", "Grace"), ("password", NEXT), ("repeat", NEXT)];
    let answer = browser.post(&link, &fields).await;
    assert_eq!((answer.status, answer.code()), (409, "login.link_taken"));
}

/// Invites an address to the shop.
async fn invite(world: &World, email: &str) -> String {
    let invite = Invite {
        directory: world.shop.directory,
        email: Email::parse(email).unwrap(),
        name: "Grace".to_owned(),
        project: world.shop.project,
        roles: Vec::new(),
        by: "Ada <Lovelace>".to_owned(),
        onward: None,
    };
    let path = world.primary.write(async |tx| {
        let messages = invitation::invite(tx, &invite).await?;
        Ok::<_, Refusal>(messages[0].kind.path())
    });
    path.await.unwrap().unwrap()
}

#[tokio::test]
async fn an_invitation_names_who_invites_and_signs_in() {
    let world = World::with_mail().await;
    world.settings(world.shop.directory, |settings| settings.sign_up = SignUp::Invitation).await;
    let link = invite(&world, NEW).await;
    let mut browser = Browser::new(&world);
    let page = browser.get(&link).await;
    assert!(page.body.contains("You are invited to Shop"), "{}", page.body);
    assert!(page.body.contains("Ada &#60;Lovelace&#62; has invited you."), "{}", page.body);
    assert!(page.body.contains("value=\"Grace\""), "the name that is known");
    let entered = choose(&mut browser, &link, "Grace Hopper", NEXT).await;
    assert_eq!(entered.location(), format!("/account/{}", world.shop.directory));
    assert_eq!(world.audited().await, ["invitation.accept", "sign_in.begin"]);
    world.hand.advance(Duration::from_hours(1));
    assert_eq!(browser.get(&link).await.code(), "login.link_dead");
    // Who has an account accepts with a button and signs in as usual.
    let link = invite(&world, ADA).await;
    world.hand.advance(Duration::from_hours(6 * 24));
    let mut ada = Browser::new(&world);
    let page = ada.get(&link).await;
    assert!(!page.body.contains("type=\"password\""), "{}", page.body);
    let form = page.form();
    let joined = ada.post(&link, &[("form", &form)]).await;
    assert_eq!(joined.status, 200);
    assert_eq!(world.audited().await.last().map(String::as_str), Some("invitation.accept"));
    assert!(joined.body.contains("You are in") && !ada.cookies.contains_key(cookie::SIGN_IN));
}

#[tokio::test]
async fn r17_a_link_leads_on_only_to_hosts_of_its_directorys_projects() {
    let world = open().await;
    let mut browser = Browser::new(&world);
    // The blog has people of its own: its host is no place for the shop's.
    let query = format!("/sign-up?host=blog.localhost&return_to=%2F&state={STATE}");
    assert_eq!(browser.get(&query).await.code(), "login.sign_up_closed");
    ask(&mut browser, "/sign-up", NEW).await;
    let link = world.link("sign_up").await;
    let gone = world.primary.write(async |tx| {
        mezusphere_store::primary::host::delete(tx, world.shop.project, &world.shop.host).await
    });
    let gone: Result<_, WriteError> = gone.await;
    gone.unwrap();
    let entered = choose(&mut browser, &link, "Grace", NEXT).await;
    assert_eq!(entered.location(), format!("/account/{}", world.shop.directory), "the host is gone");
}
