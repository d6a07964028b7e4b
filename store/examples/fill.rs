//! Gives a node that does not run many sessions, each with a user of its own, as far as its edge knows: for the bench.
//! `fill DATA PROJECT HOST COUNT`: the node's data directory, and whose sessions they are.
//!
//! They are documents on the feed and nothing else, so nobody can sign in with them. Prints how many there are.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mezusphere_model::document::{Document, Partition, PrincipalDoc, Status};
use mezusphere_model::id::{ProjectId, SessionId, SignInId, UserId};
use mezusphere_model::identity::{Assurance, Method, Subject};
use mezusphere_model::seal::{Seal, UnsealError};
use mezusphere_model::session::SessionDoc;
use mezusphere_model::slug::Name;
use mezusphere_model::token::Token;
use mezusphere_model::{Clock, Entropy, Host, Timestamp};
use mezusphere_store::{Primary, StoreError};

/// Sessions in one transaction.
const STEP: usize = 1000;

/// No key is read or written here.
struct NoKeys;

impl Seal for NoKeys {
    fn seal(&self, _: &str, _: &[u8]) -> Vec<u8> {
        Vec::new()
    }

    fn open(&self, _: &str, _: &[u8]) -> Result<Vec<u8>, UnsealError> {
        Err(UnsealError)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [data, project, host, count] = words.as_slice() else {
        return Err("usage: fill DATA PROJECT HOST COUNT".into());
    };
    let (project, host): (ProjectId, _) = (project.parse()?, Host::parse(host)?);
    let count: usize = count.parse()?;
    let clock = Clock::new(|| {
        #[expect(clippy::disallowed_methods, reason = "sessions that are good now")]
        std::time::SystemTime::now()
    });
    let entropy = Entropy::new(|buffer| {
        #[expect(clippy::disallowed_methods, reason = "sessions that nobody holds the token of")]
        let drawn = aws_lc_rs::rand::fill(buffer);
        drawn.expect("the operating system gives randomness");
    });
    let control = Path::new(data).join("control");
    if !control.join("primary.db").exists() {
        return Err(format!("{data} is of no node with SQLite").into());
    }
    let primary = Primary::open_sqlite(&control, clock.clone(), entropy.clone(), Arc::new(NoKeys)).await?;
    let begun = Instant::now();
    for first in (0..count).step_by(STEP) {
        primary
            .write(async |tx| {
                for n in first..count.min(first + STEP) {
                    let (session, principal) = somebody(n, project, &host, &entropy, clock.now());
                    let partition = Partition::Project(project);
                    tx.publish(partition, &Document::Principal(principal))?;
                    tx.publish(partition, &Document::Session(session))?;
                }
                Ok::<_, StoreError>(())
            })
            .await?;
    }
    primary.close().await;
    writeln!(std::io::stdout(), "{} sessions in {:?}", count, begun.elapsed())?;
    Ok(())
}

fn somebody(
    n: usize,
    project: ProjectId,
    host: &Host,
    entropy: &Entropy,
    now: Timestamp,
) -> (SessionDoc, PrincipalDoc) {
    let user = UserId::random(entropy);
    let names = |texts: &[&str]| texts.iter().filter_map(|text| Name::parse(text).ok()).collect();
    let principal = PrincipalDoc {
        subject: Subject::User(user),
        project,
        status: Status::Active,
        email: format!("somebody.{n}@example.com"),
        name: format!("Some Body {n}"),
        roles: names(&["member"]),
        permissions: names(&["orders:read", "orders:write"]),
        claims: std::collections::BTreeMap::new(),
        version: 1,
        sessions_valid_from: Timestamp::default(),
    };
    let session = SessionDoc {
        id: SessionId::random(entropy),
        token_hash: Token::random(entropy).hash(),
        sign_in: SignInId::random(entropy),
        user,
        project,
        host: host.clone(),
        methods: vec![Method::Password],
        assurance: Assurance::Aal1,
        authenticated_at: now,
        issued_at: now,
        expires_at: now.after(Duration::from_hours(12)),
        idle_s_max: 7200,
        seen_at: now,
    };
    (session, principal)
}
