//! What a split edge holds and may ask: everything on its disk and on its link is read here, and none of it is what
//! `docs/threat-model.md` says a taken edge must not have.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mezusphere_edge_link::client::{ClientParts, LinkClient};
use mezusphere_model::document::{NodeAddress, Partition, TrustDoc};
use mezusphere_model::id::EdgeId;
use mezusphere_model::seal::Seal as _;
use mezusphere_model::{Clock, Entropy};
use mezusphere_pki::seal::{MasterKey, Sealer};
use mezusphere_pki::{CurrentIdentity, CurrentTrust, NodeIdentity, NodeKey, Trust};
use mezusphere_store::feed::{BATCH_LEN_MAX, Cursor, FeedSource as _};
use mezusphere_tests::canary::{Canary, files, find};
use mezusphere_tests::client::browser::Browser;
use mezusphere_tests::cluster::Cluster;
use serde_json::Value;
use tokio::sync::watch;

fn sealer(data: &Path, entropy: &Entropy) -> Result<Sealer> {
    let key = MasterKey::parse(&std::fs::read(data.join("master.key"))?)?;
    Ok(Sealer::new(key, entropy.clone()))
}

/// Every secret of the installation that no edge may hold, opened with control's own master key.
async fn secrets(cluster: &Cluster, entropy: &Entropy) -> Result<Vec<Canary>> {
    let mut forbidden = Vec::new();
    let hashes = cluster.postgres.sql("mezusphere", "SELECT hash FROM passwords").await?;
    for hash in hashes.lines().filter(|line| !line.is_empty()) {
        let salt_and_hash = hash.rsplit('$').next().unwrap_or(hash);
        forbidden.push(Canary::text("a password hash", salt_and_hash));
    }
    anyhow::ensure!(!forbidden.is_empty(), "somebody has a password");
    let master = std::fs::read(cluster.control.data().join("master.key"))?;
    forbidden.extend(Canary::octets("control's master key", master.trim_ascii()));

    let opener = sealer(cluster.control.data(), entropy)?;
    let query = "SELECT name || ' ' || version || ' ' || encode(sealed, 'base64') FROM secrets WHERE name <> 'cookie'";
    let rows = cluster
        .postgres
        .sql("mezusphere", &format!("SELECT replace(q.t, E'\\n', '') FROM ({query}) AS q(t)"))
        .await?;
    for row in rows.lines() {
        let mut parts = row.splitn(3, ' ');
        let (name, version, sealed) = (parts.next(), parts.next(), parts.next());
        let (name, sealed) = (name.context("a name")?, STANDARD.decode(sealed.context("a value")?)?);
        let context = format!("secret/{name}/{}", version.context("a version")?);
        let found = opener.open(&context, &sealed).with_context(|| context.clone())?;
        // A certificate beside a key is no secret: only the key's own octets are looked for.
        let secret = match serde_json::from_slice::<Value>(&found) {
            Ok(kept) => match kept.get("key_pkcs8").and_then(Value::as_str) {
                Some(key) => STANDARD.decode(key)?,
                None => found,
            },
            Err(_) => found,
        };
        // The private scalar stands near the end of PKCS #8; any 24 octets of it give it away.
        let tail = secret.get(secret.len().saturating_sub(40)..).unwrap_or(&secret);
        forbidden.extend(Canary::octets(name, tail));
    }
    Ok(forbidden)
}

fn wall_clock() -> Clock {
    Clock::new(|| {
        #[expect(clippy::disallowed_methods, reason = "the real control node judges the real time")]
        std::time::SystemTime::now()
    })
}

pub(crate) fn randomness() -> Entropy {
    Entropy::new(|buffer| {
        #[expect(
            clippy::disallowed_methods,
            reason = "keys are sealed and links jittered as an edge does it"
        )]
        let drawn = aws_lc_rs::rand::fill(buffer);
        drawn.expect("the operating system gives randomness");
    })
}

/// A link to control with all that the edge's disk gives.
pub(crate) fn taken_link(data: &Path, entropy: &Entropy) -> Result<Arc<LinkClient>> {
    let kept: Value = serde_json::from_slice(&std::fs::read(data.join("edge.json"))?)?;
    let text = |name: &str| kept.get(name).and_then(Value::as_str).context("a text");
    let key = sealer(data, entropy)?.open("edge.json/key", &STANDARD.decode(text("key_sealed")?)?)?;
    let identity = NodeIdentity::from_pem(text("chain_pem")?, NodeKey::from_pkcs8_der(&key)?)?;
    let trust: TrustDoc = serde_json::from_value(kept.get("trust").context("trust")?.clone())?;
    let controls: Vec<NodeAddress> =
        serde_json::from_value(kept.get("controls").context("controls")?.clone())?;
    let roots = trust.roots_pem.iter().map(String::as_str);
    let trust = Trust::from_pem(&trust.trust_domain, roots, trust.denied.iter().cloned())?;
    let (_keep, controls) = watch::channel(controls);
    let edge: EdgeId = text("edge")?.parse()?;
    Ok(LinkClient::start(ClientParts {
        edge,
        controls,
        identity: CurrentIdentity::new(identity),
        trust: CurrentTrust::new(trust),
        clock: wall_clock(),
        entropy: entropy.clone(),
    })?)
}

#[tokio::test(flavor = "multi_thread")]
async fn r20_a_taken_edge_holds_and_learns_nothing_it_must_not() -> Result<()> {
    let mut cluster = Cluster::start(1, &[]).await?;
    let shop = cluster.admin().seed_shop().await?;
    cluster.routes(&shop.host, "/account/").await?;
    // The password and the operator's pages pass through this edge.
    let mut browser = Browser::new(&cluster.roots());
    let page = browser.sign_in(&cluster.url(&shop.host, "/account/me"), &shop.email, &shop.password).await;
    drop(page); // nothing is behind the route; signing in is what matters
    anyhow::ensure!(
        browser.cookies(&shop.host).contains_key("__Host-mezu-session"),
        "signed in through the edge"
    );

    let entropy = randomness();
    let mut forbidden = secrets(&cluster, &entropy).await?;
    forbidden.push(Canary::text("a user's password", &shop.password));
    forbidden.push(Canary::text("a connection key", &shop.connection_key));
    forbidden.push(Canary::text("the database's address", &cluster.postgres.url()));
    let sign_in = browser.cookies("login.mezu.localhost");
    for value in sign_in.values() {
        forbidden.push(Canary::text("a cookie of the login host", value));
    }

    // Its link: everything it may ask for.
    let data = cluster.edges[0].member.data().to_owned();
    let link = taken_link(&data, &entropy)?;
    let mut state = link.connected();
    state.wait_for(mezusphere_edge_link::client::LinkState::is_connected).await?;
    let heads = link.heads().await?;
    let mut documents = 0;
    for head in &heads {
        assert_ne!(head.partition, Partition::Control);
        let mut after = None;
        loop {
            let page = link.snapshot(head.partition, after.clone(), BATCH_LEN_MAX).await?;
            for filed in &page.documents {
                documents += 1;
                find(&forbidden, filed.key.as_str(), filed.body.get().as_bytes())?;
                for host in ["console.", "login.", "connect."] {
                    let names = format!("\"{host}mezu.localhost\"");
                    let holds =
                        filed.key.as_str().starts_with("certificate/") && filed.body.get().contains(&names);
                    assert!(!holds, "{} is good for {host}", filed.key.as_str());
                }
            }
            after = page.documents.last().map(|filed| filed.key.clone());
            if !page.more {
                break;
            }
        }
        let start = Cursor { revision: 0, ..head.cursor };
        if let mezusphere_store::feed::Changes::Entries { entries, .. } =
            link.changes(head.partition, start, BATCH_LEN_MAX).await?
        {
            for entry in entries {
                let body = entry.body.as_ref().map_or("", |body| body.get());
                find(&forbidden, entry.key.as_str(), body.as_bytes())?;
            }
        }
    }
    assert!(documents > 5, "{documents} documents were read");
    assert!(link.snapshot(Partition::Control, None, 10).await.is_err());
    let nowhere = Cursor { revision: 0, ..heads[0].cursor };
    assert!(link.changes(Partition::Control, nowhere, 10).await.is_err());

    // Its disk, and all it said.
    cluster.edges[0].member.program()?.signal("STOP").await?;
    for (place, octets) in files(&data)? {
        find(&forbidden, &place, &octets)?;
    }
    let said = cluster.edges[0].member.program()?.output().join("\n");
    find(&forbidden, "its log", said.as_bytes())?;
    cluster.edges[0].member.kill().await?;
    Ok(())
}
