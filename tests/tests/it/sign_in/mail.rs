//! Mail against a real mail server: every kind of TLS, servers that err, are slow, hang up or are not there, and a
//! control node killed in the middle.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use mezusphere_tests::admin::Admin;
use mezusphere_tests::mail_server::MailServer;
use mezusphere_tests::program::Program;
use mezusphere_tests::system::{Node, free_port};
use serde_json::{Value, json};

use super::api;

/// How long a test waits for what the queue does by itself.
const WITHIN: Duration = Duration::from_secs(40);

/// What became of a mail sent with `mezusphere mail test`: the mail as the server took it, or what the operator is told.
async fn tested(mails: &MailServer, url: &str, flags: &[&str], to: &str) -> Result<Result<Value, String>> {
    let data = tempfile::tempdir()?;
    let (place, port) = (data.path().display().to_string(), free_port()?);
    let (listen, advertise) = (format!("127.0.0.1:{port}"), format!("localhost:{port}"));
    let mut words = vec!["serve", "--json", "--role", "control", "--store", "sqlite", "--data", &place];
    words.extend(["--node-listen", &listen, "--node-advertise", &advertise, "--mail", url]);
    words.extend(["--mail-from", "Shop <no-reply@shop.example>"]);
    words.extend(flags);
    let server = Program::start("mezusphere", &words, &[])?;
    server.event("ready").await?;
    let output = Admin::of(data.path()).try_run(&["mail", "test", to]).await?;
    if output.status.success() {
        return Ok(Ok(mails.mail_to(to, 1).await?));
    }
    Ok(Err(String::from_utf8_lossy(&output.stderr).into_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_goes_out_as_the_url_says_or_not_at_all() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mails = MailServer::start(folder.path(), 0).await?;
    let password = folder.path().join("password");
    std::fs::write(&password, "canary-smtp-password\n")?;
    let wrong = folder.path().join("wrong");
    std::fs::write(&wrong, "not this one\n")?;
    let (ca, password, wrong) = (mails.ca(), password.as_path(), wrong.as_path());
    let text = |path: &Path| path.display().to_string();
    let (ca, password, wrong) = (text(&ca), text(password), text(wrong));
    let trusting = vec!["--mail-ca", ca.as_str()];
    let knowing = [trusting.clone(), vec!["--mail-password-file", &password]].concat();
    let guessing = [trusting.clone(), vec!["--mail-password-file", &wrong]].concat();
    let at = |start: &str, way: &str, end: &str| {
        Ok::<_, anyhow::Error>(format!("{start}:{}{end}", mails.port(way)?))
    };

    // Way of the server, URL, flags; then whether TLS and a password were used, or what the operator reads.
    let rows = [
        (at("smtp://127.0.0.1", "plain", "?tls=none")?, vec![], Ok((false, false))),
        (at("smtp://localhost", "starttls", "")?, trusting.clone(), Ok((true, false))),
        (at("smtp://localhost", "starttls", "?tls=opportunistic")?, trusting.clone(), Ok((true, false))),
        (at("smtp://127.0.0.1", "plain", "?tls=opportunistic")?, vec![], Ok((false, false))),
        (at("smtp://mezu@localhost", "demanding", "")?, knowing.clone(), Ok((true, true))),
        (at("smtps://mezu@localhost", "implicit", "")?, knowing, Ok((true, true))),
        (at("smtp://127.0.0.1", "plain", "")?, vec![], Err("offers no STARTTLS")),
        (at("smtp://mezu@localhost", "demanding", "")?, guessing, Err("does not take user and password")),
        (at("smtp://localhost", "demanding", "")?, trusting, Err("refuses us")),
        (at("smtps://localhost", "implicit", "")?, vec![], Err("certificate")),
        (format!("smtp://127.0.0.1:{}?tls=none", free_port()?), vec![], Err("cannot be reached")),
    ];
    for (n, (url, flags, expected)) in rows.iter().enumerate() {
        let to = format!("row-{n}@shop.example");
        let came = tested(&mails, url, flags, &to).await.with_context(|| url.clone())?;
        match (came, expected) {
            (Ok(mail), Ok((tls, auth))) => {
                assert_eq!((&mail["tls"], &mail["auth"]), (&json!(tls), &json!(auth)), "{url}");
                assert_eq!(mail["sender"], "no-reply@shop.example", "{url}");
            }
            (Err(said), Err(words)) => {
                assert!(said.contains(words), "{url}: {said}");
                assert!(said.contains("mail.failed") || said.contains("next:"), "{url}: {said}");
                assert!(!said.contains("not this one"), "r25: {said}");
            }
            (came, expected) => panic!("{url}: {came:?} instead of {expected:?}"),
        }
    }
    Ok(())
}

async fn invite(node: &Node, to: &str) -> Result<()> {
    api(node, "POST", "/projects/shop/invitations", &json!({ "email": to })).await.map(drop)
}

/// Waits until the queue looks as wanted.
async fn queue(node: &Node, what: &str, wanted: impl Fn(&[Value]) -> bool) -> Result<Vec<Value>> {
    let mut seen = Vec::new();
    let look = async {
        loop {
            let listed = node.admin(&["mail", "list"]).await?;
            seen = listed.as_array().cloned().unwrap_or_default();
            if wanted(&seen) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let looked: Result<Result<()>, _> = tokio::time::timeout(WITHIN, look).await;
    looked.with_context(|| format!("the queue never was: {what}; it holds {seen:#?}"))??;
    Ok(seen)
}

async fn shop(mail: &str) -> Result<Node> {
    let node = Node::start(&["--mail", mail, "--mail-from", "no-reply@shop.example"]).await?;
    node.admin(&["project", "create", "shop", "--name", "Shop"]).await?;
    api(&node, "PATCH", "/projects/shop/directory", &json!({ "sign_up": "invitation" })).await?;
    Ok(node)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_that_is_put_off_comes_later_and_one_that_is_refused_is_given_up_and_said() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mails = MailServer::start(folder.path(), 0).await?;
    let node = shop(&mails.url()?).await?;
    let later = ["later-1", "busy-1", "hangup-1"].map(|name| format!("{name}@shop.example"));
    let never = ["never", "content"].map(|name| format!("{name}@shop.example"));
    for to in later.iter().chain(&never).chain([&"slow@shop.example".to_owned()]) {
        invite(&node, to).await?;
    }
    let waiting = queue(&node, "three put off, two failed", |mails| {
        let count = |state: &str| {
            mails.iter().filter(|mail| mail["state"] == state && mail["error"].is_string()).count()
        };
        (count("queued"), count("failed"), mails.len()) == (3, 2, 5)
    });
    let waiting = waiting.await?;
    let of = |to: &str| waiting.iter().find(|mail| mail["to"] == to).context("listed");
    for (to, words) in
        [(&later[0], "greylisted"), (&later[1], "busy"), (&never[0], "no such user"), (&never[1], "spam")]
    {
        assert!(of(to)?["error"].as_str().context("why")?.contains(words), "{to}: {}", of(to)?);
    }
    let slow = mails.mail_to("slow@shop.example", 1).await?;
    assert_eq!(slow["links"].as_array().context("links")?.len(), 1, "{slow}");

    for to in &later {
        let id = of(to)?["id"].as_str().context("an id")?.to_owned();
        node.admin(&["mail", "retry", &id]).await?;
        mails.mail_to(to, 1).await?;
    }
    node.admin(&["mail", "retry", "--all"]).await?;
    queue(&node, "two given up again", |mails| {
        mails.len() == 2 && mails.iter().all(|mail| mail["state"] == "failed" && mail["attempts"] == 2)
    })
    .await?;
    let audit = node.admin(&["audit", "list"]).await?;
    let given_up =
        audit.as_array().context("a list")?.iter().filter(|entry| entry["action"] == "mail.give_up");
    assert_eq!(given_up.count(), 4, "twice each");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_mail_is_lost_to_a_kill_or_to_a_mail_server_that_is_away() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let port = free_port()?;
    let node = shop(&format!("smtp://127.0.0.1:{port}?tls=none")).await?;
    let all: Vec<String> = (0..12).map(|n| format!("user-{n}@shop.example")).collect();
    for to in &all {
        invite(&node, to).await?;
    }
    queue(&node, "tried in vain", |mails| mails.iter().any(|mail| mail["attempts"] != 0)).await?;
    let node = node.kill_and_restart().await?;
    let mails = MailServer::start(folder.path(), port).await?;
    for to in &all {
        mails.mail_to(to, 1).await.with_context(|| to.clone())?;
    }

    // Killed while mails are on their way: the server has taken none of them yet.
    invite(&node, "slow@shop.example").await?;
    queue(&node, "being sent", |mails| mails.iter().any(|mail| mail["state"] == "sending")).await?;
    let node = node.kill_and_restart().await?;
    mails.mail_to("slow@shop.example", 1).await?;

    // Taken, but not said so: it comes once more rather than not at all, under the same id.
    invite(&node, "lost-1@shop.example").await?;
    let first = mails.mail_to("lost-1@shop.example", 1).await?;
    let again = mails.mail_to("lost-1@shop.example", 2).await?;
    let id = |mail: &Value| {
        let headers = mail["headers"].as_array().cloned().unwrap_or_default();
        headers.into_iter().find(|field| field[0] == "Message-ID").map(|field| field[1].clone())
    };
    assert!(id(&first).is_some());
    assert_eq!(id(&first), id(&again));
    queue(&node, "empty", <[Value]>::is_empty).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_mail_server_mails_are_shown_in_the_log_or_not_made() -> Result<()> {
    let node = shop("log").await?;
    invite(&node, "ada@shop.example").await?;
    let link = |line: &str| line.contains("/invitation/") && line.contains("| https://login.");
    node.server.line("the link, on a line of its own", link).await?;

    let mute = Node::start(&[]).await?;
    let output = mute.try_admin(&["mail", "test", "ada@shop.example"]).await?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("mail.off"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn r25_no_password_of_a_mail_server_stands_on_a_command_line() -> Result<()> {
    let data = tempfile::tempdir()?;
    let place = data.path().display().to_string();
    let url = "smtp://mezu:canary-smtp-password@localhost:1";
    let words = ["serve", "--data", &place, "--mail", url];
    let (code, said) = mezusphere_tests::program::run("mezusphere", &words, &[]).await?;
    assert_ne!(code, 0);
    assert!(said.contains("--mail-password-file") && !said.contains("canary"), "{said}");
    Ok(())
}
