//! What a workload is told of its callers in other proxies' words, and that no client can say it (R4).

use anyhow::Result;
use http::StatusCode;
use mezusphere_model::header::{REMOTE_USER, X_FORWARDED_USER};
use mezusphere_tests::client::browser::Browser;
use mezusphere_tests::client::h1;
use mezusphere_tests::system::Node;
use mezusphere_tests::upstream::Upstream;

#[tokio::test(flavor = "multi_thread")]
async fn r04_a_profile_says_who_it_is_and_no_client_can_on_any_route() -> Result<()> {
    let node = Node::start(&[]).await?;
    let shop = node.seed_shop().await?;
    let upstream = Upstream::start().await?;
    let profiles = ["--identity-profile", "remote-user", "--identity-profile", "x-forwarded-user"];
    let set = ["route", "set", "shop", "/account/*", "--forward-claim", "department"];
    node.admin(&[set.as_slice(), &profiles].concat()).await?;
    let _gate = node.connect(&shop.connection_key, &upstream.url()).await?;
    let mut browser = Browser::new(&node.roots());
    let account = format!("https://{}:{}/account/", shop.host, node.port);
    browser.sign_in(&account, &shop.email, &shop.password).await?;
    let cookie: Vec<String> =
        browser.cookies(&shop.host).iter().map(|(name, value)| format!("{name}={value}")).collect();
    let names: Vec<&str> = REMOTE_USER.into_iter().chain(X_FORWARDED_USER).collect();
    for (path, cookie) in [("/public", String::new()), ("/account/me", cookie.join("; "))] {
        let target = node.target(&shop.host, path)?;
        let mut connection = h1::Connection::open(&target, &node.tls(b"http/1.1")?).await?;
        let mut request = http::Request::get(path)
            .header("host", &target.authority)
            .header("cookie", &cookie)
            .header("connection", "remote-user, mezu-claim-department")
            .header("mezu-claim-department", "forged");
        for name in &names {
            request = request.header(*name, "forged").header(name.to_uppercase().replace('-', "_"), "forged");
        }
        let answer = connection.fetch(request.body(http_body_util::Full::default())?).await?;
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        let seen = upstream.seen_at(path).pop().expect("it came through");
        assert!(!format!("{:?}", seen.headers).contains("forged"), "{path}: {:?}", seen.headers);
        if path == "/public" {
            for name in names.iter().chain(&["mezu-claim-department"]) {
                assert!(seen.all(name).is_empty(), "{name}");
            }
            continue;
        }
        let rows = [
            ("remote-user", shop.email.as_str()),
            ("remote-email", &shop.email),
            ("remote-name", "Ada Lovelace"),
            ("remote-groups", "customer"),
            ("x-forwarded-user", &shop.user),
            ("x-forwarded-email", &shop.email),
            ("x-forwarded-preferred-username", &shop.email),
            ("x-forwarded-groups", "customer"),
            ("mezu-claim-department", ""),
        ];
        for (name, value) in rows {
            assert_eq!(seen.all(name), [value], "{name}");
        }
    }
    Ok(())
}
