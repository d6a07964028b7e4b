//! What scanners find: sslyze against Mozilla's intermediate configuration, testssl.sh against its own rules. In short:
//! protocols, ciphers, certificate, headers; with `MEZU_FULL` all that testssl.sh knows, which takes minutes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use tokio::process::Command;
use tokio::time::timeout;

use super::{BASE, Scene};

/// No scan takes longer, the whole of testssl.sh aside.
const SCANS_WITHIN: Duration = Duration::from_mins(2);

/// The whole of testssl.sh.
const FULL_SCANS_WITHIN: Duration = Duration::from_mins(15);

fn is_full() -> bool {
    std::env::var_os("MEZU_FULL").is_some()
}

/// The scanners' virtual environment: beside the build.
fn sslyze() -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let target = test.ancestors().nth(3).context("a test lies in target/<profile>/deps")?;
    let program = target.join("python-scanners/bin/sslyze");
    anyhow::ensure!(
        program.exists(),
        "{} is missing; run `. scripts/lib/install.sh; need_tls_scanners`",
        program.display()
    );
    Ok(program)
}

async fn run(mut command: Command, within: Duration) -> Result<(Option<i32>, String)> {
    command.stdin(std::process::Stdio::null()).kill_on_drop(true);
    let output = timeout(within, command.output()).await.context("a scan does not end")??;
    let said =
        [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    Ok((output.status.code(), said))
}

#[tokio::test(flavor = "multi_thread")]
async fn r19_sslyze_finds_what_mozilla_calls_intermediate_and_nothing_else() -> Result<()> {
    let scene = Scene::start().await?;
    for host in [scene.host.clone(), format!("login.{BASE}")] {
        let mut command = Command::new(sslyze()?);
        command.args(["--mozilla_config", "intermediate", "--certinfo_ca_file"]).arg(scene.node.roots());
        command.arg(format!("{host}:{}{{127.0.0.1}}", scene.node.port));
        let (code, said) = run(command, SCANS_WITHIN).await?;
        // Without a server it finds nothing wrong either.
        assert!(code == Some(0) && said.contains("OK - Compliant."), "{host}: {code:?} {said}");
        if !is_full() {
            break;
        }
    }
    Ok(())
}

/// A finding of testssl.sh.
#[derive(Debug, Deserialize)]
struct Finding {
    id: String,
    severity: String,
    #[serde(rename = "finding")]
    text: String,
}

/// What is not said of the edge: that this machine's openssl has no engine for GOST; that the internal CA, whose
/// certificates no stranger sees, tells of no place where revocation could be looked up; that `/` leads to another page; what
/// the scanner asks without a name, which is refused; and whether a client that leaves at once got a ticket first (that
/// sessions are resumed is shown with openssl).
const OF_OTHERS: [&str; 5] =
    ["engine_problem", "cert_revocation", "HTTP_status_code", "secure_renego", "sessionresumption_ticket"];

async fn testssl(scene: &Scene, host: &str, more: &[&str], within: Duration) -> Result<Vec<Finding>> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("findings.json");
    let mut command = Command::new("testssl");
    command.args(["--quiet", "--color", "0", "--warnings", "off", "--nodns", "none", "--ip", "127.0.0.1"]);
    command.arg("--add-ca").arg(scene.node.roots()).arg("--jsonfile").arg(&file).args(more);
    command.arg(format!("{host}:{}", scene.node.port));
    let (_, said) = run(command, within).await?;
    read(&file).with_context(|| said)
}

fn read(file: &Path) -> Result<Vec<Finding>> {
    Ok(serde_json::from_str(&std::fs::read_to_string(file)?)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn r19_testssl_finds_nothing_weak() -> Result<()> {
    let scene = Scene::start().await?;
    let short = ["--protocols", "--std", "--headers"];
    let (more, within): (&[&str], _) =
        if is_full() { (&[], FULL_SCANS_WITHIN) } else { (&short, SCANS_WITHIN) };
    // A host that answers by itself: nobody is behind the application's.
    let findings = testssl(&scene, &format!("login.{BASE}"), more, within).await?;
    let of = |id: &str| findings.iter().find(|found| found.id == id).map(|found| found.text.as_str());
    assert_eq!(of("TLS1_3"), Some("offered with final"), "{findings:#?}");
    let bad: Vec<_> = findings
        .iter()
        .filter(|found| !matches!(&*found.severity, "OK" | "INFO" | "DEBUG"))
        .filter(|found| !OF_OTHERS.contains(&&*found.id))
        .collect();
    assert!(bad.is_empty(), "{bad:#?}");
    Ok(())
}
