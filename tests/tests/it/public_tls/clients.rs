//! openssl and curl: what they may speak, how they are refused, whether they resume.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};
use http::StatusCode;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::timeout;

use super::{APPS, BASE, Scene};

/// No client takes longer.
const RUNS_WITHIN: Duration = Duration::from_secs(30);

/// Runs a program with this input; whether it succeeded, and all it said.
async fn run(mut command: Command, input: &str) -> Result<(bool, String)> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
    let mut stdin = child.stdin.take().context("piped")?;
    // Fails where the program has ended without reading it.
    drop(stdin.write_all(input.as_bytes()).await);
    drop(stdin);
    let output = timeout(RUNS_WITHIN, child.wait_with_output()).await.context("a client does not end")??;
    let said =
        [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    Ok((output.status.success(), said))
}

/// `openssl s_client` with a request, at this name (none without one).
async fn s_client(scene: &Scene, name: Option<&str>, more: &[&str]) -> Result<(bool, String)> {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-ign_eof", "-connect", &format!("127.0.0.1:{}", scene.node.port)]);
    command.arg("-CAfile").arg(scene.node.roots()).arg("-verify_return_error");
    match name {
        Some(name) => command.args(["-servername", name, "-verify_hostname", name]),
        None => command.arg("-noservername"),
    };
    command.args(more);
    let host = name.unwrap_or("nobody");
    run(command, &format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn r19_openssl_meets_tls_1_2_and_1_3_with_forward_secrecy_and_nothing_older_or_weaker() -> Result<()> {
    let scene = Scene::start().await?;
    let name = Some(scene.host.as_str());
    let served = [
        (&["-tls1_3"][..], "TLSv1.3, Cipher is TLS_AES_128_GCM_SHA256"),
        (&["-tls1_3", "-groups", "X25519"], "Server Temp Key: X25519"),
        (&["-tls1_2"], "Cipher is ECDHE-ECDSA-AES128-GCM-SHA256"),
        (&["-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"], "ECDHE-ECDSA-CHACHA20-POLY1305"),
        (&["-tls1_2", "-alpn", "h2,http/1.1"], "ALPN protocol: h2"),
    ];
    for (more, expected) in served {
        let (_, said) = s_client(&scene, name, more).await?;
        assert!(said.contains(expected), "{more:?}: {said}");
        assert!(said.contains("Verify return code: 0 (ok)"), "{more:?}: {said}");
    }
    // What OpenSSL of today offers only when it is forced to.
    let anything = "ALL:COMPLEMENTOFALL:@SECLEVEL=0";
    let refused = [
        (&["-tls1_1", "-cipher", anything][..], "alert handshake failure"),
        (&["-tls1", "-cipher", anything], "alert handshake failure"),
        (&["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256"], "alert handshake failure"),
        (&["-tls1_2", "-cipher", "AES128-GCM-SHA256"], "alert handshake failure"),
        (&["-alpn", "spdy/3"], "alert no application protocol"),
    ];
    for (more, expected) in refused {
        let (is_up, said) = s_client(&scene, name, more).await?;
        assert!(!is_up && said.contains(expected), "{more:?}: {said}");
    }
    for nobody in [None, Some("other.example"), Some("a.shop.apps.test")] {
        let (is_up, said) = s_client(&scene, nobody, &[]).await?;
        assert!(!is_up && said.contains("unrecognized name"), "{nobody:?}: {said}");
        assert!(!said.contains("BEGIN CERTIFICATE"), "{nobody:?} was shown one: {said}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn openssl_resumes_in_both_versions_and_at_its_own_name_alone() -> Result<()> {
    let scene = Scene::start().await?;
    let folder = tempfile::tempdir()?;
    let console = format!("console.{BASE}");
    for version in ["-tls1_2", "-tls1_3"] {
        let kept = folder.path().join(version);
        let kept = kept.to_str().context("a path in UTF-8")?;
        let (_, first) = s_client(&scene, Some(&scene.host), &[version, "-sess_out", kept]).await?;
        assert!(first.contains("New, TLSv1."), "{first}");
        let (_, again) = s_client(&scene, Some(&scene.host), &[version, "-sess_in", kept]).await?;
        assert!(again.contains("Reused, TLSv1."), "{again}");
        let (_, elsewhere) = s_client(&scene, Some(&console), &[version, "-sess_in", kept]).await?;
        assert!(elsewhere.contains("New, TLSv1."), "{elsewhere}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn r19_curl_trusts_the_chain_and_by_address_meets_a_plain_refusal() -> Result<()> {
    let scene = Scene::start().await?;
    let port = scene.node.port;
    let curl = |url: String, host: &str| {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--output", "/dev/null", "--write-out", "%{http_code}"]);
        command.arg("--cacert").arg(scene.node.roots());
        command.args(["--resolve", &format!("{host}:{port}:127.0.0.1"), &url]);
        command
    };
    for host in [scene.host.as_str(), "login.mezu.test", "console.mezu.test"] {
        let (is_up, said) = run(curl(format!("https://{host}:{port}/"), host), "").await?;
        assert!(is_up, "{host}: {said}");
    }
    for url in [format!("https://127.0.0.1:{port}/"), format!("https://other.example:{port}/")] {
        let (is_up, said) = run(curl(url.clone(), "other.example"), "").await?;
        assert!(!is_up && said.contains("unrecognized name"), "{url}: {said}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_says_that_the_host_is_for_https_alone() -> Result<()> {
    let scene = Scene::start().await?;
    let year = Some("max-age=31536000".to_owned());
    let rows = [
        // Nobody is behind it, nobody is signed in, there is no such page, there is no such host under the certificate.
        (scene.host.as_str(), "/", StatusCode::SERVICE_UNAVAILABLE),
        (scene.host.as_str(), "/account/", StatusCode::UNAUTHORIZED),
        (scene.host.as_str(), "/.mezu/nothing", StatusCode::NOT_FOUND),
        ("nobody.apps.test", "/", StatusCode::NOT_FOUND),
        ("login.mezu.test", "/nothing", StatusCode::NOT_FOUND),
    ];
    for (host, path, status) in rows {
        assert_eq!(scene.get(host, path).await?, (status, year.clone()), "{host}{path}");
    }
    assert!(rows.iter().any(|(host, ..)| host.ends_with(APPS)));
    Ok(())
}
