//! A replica with a million sessions: how long it takes to fill from a feed, to open, to look somebody up, and what it
//! holds in memory and on the disk.
//!
//! `cargo bench -p mezusphere-store --features replica --bench sessions` does all of it, each part in a process of its own,
//! so that what one holds is not counted for another. A number after `--` asks for another count. For people: nothing is
//! checked here.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    reason = "a program of its own that measures: it fails by a panic, prints, and reads the clock"
)]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use mezusphere_model::clock::ManualClock;
use mezusphere_model::document::{Document, DocumentKey, Partition, PrincipalDoc, Status};
use mezusphere_model::id::{ProjectId, SessionId, SignInId, UserId};
use mezusphere_model::identity::{Assurance, Method, Subject};
use mezusphere_model::link::Answer;
use mezusphere_model::seal::{Seal, UnsealError};
use mezusphere_model::session::SessionDoc;
use mezusphere_model::slug::Name;
use mezusphere_model::token::TokenHash;
use mezusphere_model::{Entropy, Host, Timestamp};
use mezusphere_store::Replica;
use mezusphere_store::feed::{
    AppliedReport, Bell, Changes, Cursor, Digest, Epoch, FeedError, FeedSource, Filed, Head, SnapshotPage,
    Wake,
};
use serde_json::value::RawValue;

const PROJECT: ProjectId = ProjectId::from_bits(7);

/// How many sessions, each with a principal of its own.
const COUNT: u64 = 1_000_000;

const NOW: Timestamp = Timestamp::from_seconds(1_795_219_200);

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if !words.iter().any(|word| word == "--bench") {
        return; // built and started by a run of all tests
    }
    let words: Vec<&str> = words.iter().map(String::as_str).filter(|word| !word.starts_with("--")).collect();
    let count = words.last().and_then(|word| word.parse().ok()).unwrap_or(COUNT);
    match words.as_slice() {
        ["fill", dir, ..] => fill(Path::new(dir), count),
        ["open", dir, ..] => open(Path::new(dir), count),
        _ => {
            let dir = tempfile::tempdir().unwrap();
            for part in ["fill", "open", "open"] {
                let own = std::env::current_exe().unwrap();
                let place = dir.path().to_str().unwrap();
                let status =
                    Command::new(own).args(["--bench", part, place, &count.to_string()]).status().unwrap();
                assert!(status.success(), "{part}");
            }
        }
    }
}

/// Nothing here is secret.
struct Plain;

impl Seal for Plain {
    fn seal(&self, _: &str, secret: &[u8]) -> Vec<u8> {
        secret.to_vec()
    }

    fn open(&self, _: &str, sealed: &[u8]) -> Result<Vec<u8>, UnsealError> {
        Ok(sealed.to_vec())
    }
}

fn opened(dir: &Path) -> Replica {
    Replica::open(dir, ManualClock::at(NOW).clock(), Arc::new(Plain)).unwrap()
}

/// Random enough to be scattered, and the same each time.
fn scattered(n: u64, what: u8) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes
        .copy_from_slice(digest::digest(&digest::SHA256, &[&n.to_be_bytes()[..], &[what]].concat()).as_ref());
    bytes
}

fn bits(n: u64, what: u8) -> u128 {
    u128::from_be_bytes(*scattered(n, what).first_chunk().unwrap())
}

fn user(n: u64) -> UserId {
    UserId::from_bits(bits(n, 1))
}

fn token(n: u64) -> TokenHash {
    TokenHash::from_bytes(scattered(n, 2))
}

fn session(n: u64) -> SessionDoc {
    SessionDoc {
        id: SessionId::from_bits(bits(n, 3)),
        token_hash: token(n),
        sign_in: SignInId::from_bits(bits(n, 4)),
        user: user(n),
        project: PROJECT,
        host: Host::parse("shop.apps.example").unwrap(),
        methods: vec![Method::Password],
        assurance: Assurance::Aal1,
        authenticated_at: NOW,
        issued_at: NOW,
        expires_at: NOW.after(Duration::from_hours(12)),
        idle_s_max: 3600,
        seen_at: NOW,
    }
}

fn principal(n: u64) -> PrincipalDoc {
    PrincipalDoc {
        subject: Subject::User(user(n)),
        project: PROJECT,
        status: Status::Active,
        email: format!("somebody.{n}@example.com"),
        name: format!("Some Body {n}"),
        roles: vec![Name::parse("customer").unwrap()],
        permissions: vec![Name::parse("orders:read").unwrap(), Name::parse("orders:write").unwrap()],
        claims: std::collections::BTreeMap::new(),
        version: 1,
        sessions_valid_from: Timestamp::default(),
    }
}

/// A feed of one project in which nothing changes.
struct Source {
    /// Keys in order, each with the number it is made of.
    documents: Vec<(DocumentKey, u64)>,
    bell: Bell,
}

impl Source {
    fn of(count: u64) -> Self {
        let sessions = (0..count).map(|n| (DocumentKey::session(&token(n)), n));
        let principals = (0..count).map(|n| (DocumentKey::principal(Subject::User(user(n))), n));
        let mut documents: Vec<_> = sessions.chain(principals).collect();
        documents.sort_unstable();
        Self { documents, bell: Bell::new() }
    }

    fn cursor(&self) -> Cursor {
        Cursor { epoch: Epoch(1), revision: self.documents.len() as u64, digest: Digest([1; 32]) }
    }
}

impl FeedSource for Source {
    fn heads(&self) -> Answer<'_, Result<Vec<Head>, FeedError>> {
        let head = Head { partition: Partition::Project(PROJECT), cursor: self.cursor() };
        Box::pin(async move { Ok(vec![head]) })
    }

    fn snapshot(
        &self,
        _: Partition,
        after: Option<DocumentKey>,
        limit: usize,
    ) -> Answer<'_, Result<SnapshotPage, FeedError>> {
        let begin = after.map_or(0, |after| self.documents.partition_point(|(key, _)| *key <= after));
        let part = self.documents.iter().skip(begin).take(limit);
        let documents: Vec<Filed> = part
            .map(|(key, n)| {
                let is_session = key.as_str().starts_with("session/");
                let document = if is_session {
                    Document::Session(session(*n))
                } else {
                    Document::Principal(principal(*n))
                };
                let body = RawValue::from_string(serde_json::to_string(&document).unwrap()).unwrap();
                Filed { key: key.clone(), body }
            })
            .collect();
        let more = begin + documents.len() < self.documents.len();
        let page = SnapshotPage { cursor: self.cursor(), documents, more };
        Box::pin(async move { Ok(page) })
    }

    fn changes(&self, _: Partition, _: Cursor, _: usize) -> Answer<'_, Result<Changes, FeedError>> {
        Box::pin(async { Ok(Changes::Entries { entries: Vec::new(), more: false }) })
    }

    fn applied(&self, _: Vec<AppliedReport>) -> Answer<'_, Result<(), FeedError>> {
        Box::pin(async { Ok(()) })
    }

    fn wake(&self) -> Wake {
        self.bell.listen()
    }
}

/// What an edge does when it joins.
fn fill(dir: &Path, count: u64) {
    let source = Arc::new(Source::of(count));
    let own = resident_kib("VmRSS");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (begun, cpu) = (Instant::now(), on_cpu());
    let replica = Arc::new(opened(dir));
    runtime.block_on(async {
        let follower = replica.follow(source, "edge".to_owned(), Entropy::counting());
        follower.caught_up().await;
        println!(
            "{count} sessions, each with a principal, fetched in {:.1?} ({:.1?} of a processor)",
            begun.elapsed(),
            on_cpu().saturating_sub(cpu)
        );
        follower.stop().await;
    });
    drop(replica);
    println!(
        "  and on the disk after {:.1?}: {} MiB; the copy's memory at most {} MiB",
        begun.elapsed(),
        disk_mib(dir),
        (resident_kib("VmHWM").saturating_sub(own)) / 1024
    );
}

/// What an edge does when it starts.
fn open(dir: &Path, count: u64) {
    let own = resident_kib("VmRSS");
    let (begun, cpu) = (Instant::now(), on_cpu());
    let replica = opened(dir);
    println!(
        "opened and checked in {:.1?} ({:.1?} of a processor)",
        begun.elapsed(),
        on_cpu().saturating_sub(cpu)
    );
    assert!(replica.revision(Partition::Project(PROJECT)) > 0, "it was believed");
    println!(
        "  memory {} MiB, at most {} MiB",
        (resident_kib("VmRSS") - own) / 1024,
        (resident_kib("VmHWM") - own) / 1024
    );
    let look_up = |n: u64| {
        let begun = Instant::now();
        let session = replica.session(&token(n)).unwrap().unwrap();
        assert!(replica.principal(PROJECT, Subject::User(session.user)).unwrap().is_some());
        begun.elapsed()
    };
    for (what, reach) in [("scattered over all", count), ("of 1000 that are in use", count.min(1000))] {
        let mut took: Vec<Duration> =
            (0..20_000_u64).map(|n| look_up(n.wrapping_mul(7919) % reach)).collect();
        took.sort_unstable();
        println!("  look-up, {what}: p50 {:.1?}, p99 {:.1?}", took[10_000], took[19_800]);
    }
    println!("  memory after that {} MiB", (resident_kib("VmRSS") - own) / 1024);
}

/// Time this process has spent on a processor: unlike a clock's it does not grow while others use the machine.
fn on_cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap();
    let main: u64 = text.split_whitespace().next().unwrap().parse().unwrap();
    let mut total = 0;
    for thread in std::fs::read_dir("/proc/self/task").unwrap() {
        let text = std::fs::read_to_string(thread.unwrap().path().join("schedstat")).unwrap_or_default();
        total += text.split_whitespace().next().map_or(0, |nanos| nanos.parse::<u64>().unwrap());
    }
    Duration::from_nanos(total.max(main))
}

fn resident_kib(what: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(what)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn disk_mib(dir: &Path) -> u64 {
    let mut total = 0;
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else {
                total += entry.metadata().unwrap().len();
            }
        }
    }
    total / 1024 / 1024
}
