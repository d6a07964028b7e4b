//! Figures of very many users: how long an import takes, and how long a page of each kind of list.
//!
//! `cargo bench -p mezusphere-store --all-features --bench people` prints them for SQLite, and for the PostgreSQL that
//! `MEZU_TEST_POSTGRES` names, if it does; they are for people, nothing is checked here.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a program of its own that measures: it fails by a panic, prints, and reads the clock"
)]

#[allow(dead_code, reason = "tests use more of it")]
#[path = "../tests/support/postgres.rs"]
mod postgres;
#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use mezusphere_model::document::Status;
use mezusphere_model::id::UserId;
use mezusphere_store::StoreError;
use mezusphere_store::primary::role::RoleRow;
use mezusphere_store::primary::user::{self, IMPORTED_MAX, ImportedUser, UserQuery, UserRow};
use mezusphere_store::primary::{PageRequest, role};

use support::{Store, Tenant, name, user_row, write};

/// Pages asked for of each kind.
const PAGES: u32 = 300;

const FIRST: [&str; 8] = ["Anna", "Björn", "Carla", "Diego", "Emma", "Farid", "Greta", "Hannah"];
const LAST: [&str; 7] = ["Andersson", "Berg", "Costa", "Dahl", "Eriksson", "Fischer", "García"];

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    if !std::env::args().any(|arg| arg == "--bench") {
        return; // built and started by a run of all tests
    }
    println!("SQLite");
    all(Store::sqlite().await).await;
    if std::env::var_os("MEZU_TEST_POSTGRES").is_some()
        && let Some(database) = postgres::fresh().await
    {
        println!("PostgreSQL");
        all(Store::postgres(database.config()).await).await;
        database.remove().await;
    }
}

async fn all(db: Store) {
    let shop = db.tenant("shop").await;
    for called in ["member", "rare"] {
        let row = RoleRow {
            project: shop.project,
            name: name(called),
            description: String::new(),
            permissions: vec![],
            created_at: db.now(),
        };
        write(&db.primary, async |tx| role::insert(tx, &row).await).await.unwrap();
    }
    let users: Vec<_> = (0..IMPORTED_MAX).map(|n| person(&db, &shop, n)).collect();
    let refs: Vec<_> = users.iter().collect();
    let emails: Vec<_> = users.iter().map(|user| user.row.email.as_str()).collect();
    let begun = Instant::now();
    write(&db.primary, async |tx| {
        assert!(user::taken(tx, shop.directory, &emails).await?.is_empty());
        user::import(tx, shop.directory, shop.project, &refs).await
    })
    .await
    .unwrap();
    println!("  import of {IMPORTED_MAX} users with roles: {:.1} s", begun.elapsed().as_secs_f64());
    let role = |called: &str| Some((shop.project, name(called)));
    let text = |text: &str| UserQuery { text: text.to_owned(), ..UserQuery::default() };
    for (what, query) in [
        ("all", UserQuery::default()),
        ("suspended, one of 1000", UserQuery { status: Some(Status::Suspended), ..UserQuery::default() }),
        ("a role of everybody", UserQuery { role: role("member"), ..UserQuery::default() }),
        ("a role of one of 5000", UserQuery { role: role("rare"), ..UserQuery::default() }),
        ("search 'a'", text("a")),
        ("search 'anna'", text("anna")),
        ("search 'anna berg'", text("anna berg")),
        ("search user01234", text("user01234")),
        ("search nobody", text("zzz")),
        ("search 'a', rare role", UserQuery { role: role("rare"), ..text("a") }),
        ("search 'a', suspended", UserQuery { status: Some(Status::Suspended), ..text("a") }),
    ] {
        pages(&db, &shop, what, &query).await;
    }
}

fn person(db: &Store, shop: &Tenant, n: usize) -> ImportedUser {
    let id = UserId::random(&db.entropy);
    let mut row = UserRow {
        name: format!("{} {}", FIRST[n % FIRST.len()], LAST[n % LAST.len()]),
        ..user_row(id, shop.directory, &format!("user{n:06}@shop.example"), db.now())
    };
    if n.is_multiple_of(1000) {
        row.status = Status::Suspended;
    }
    let mut roles = vec![name("member")];
    if n.is_multiple_of(5000) {
        roles.push(name("rare"));
    }
    ImportedUser { row, roles, password: None }
}

/// Walks a list page by page, from its beginning again at its end, with what the list shows of each user.
async fn pages(db: &Store, shop: &Tenant, what: &str, query: &UserQuery) {
    let mut took: Vec<Duration> = Vec::new();
    let mut page = PageRequest { after: None, limit: 100 };
    let mut rows = 0;
    for _ in 0..PAGES {
        let begun = Instant::now();
        let part = db
            .primary
            .read(async |tx| {
                let part = user::search(tx, shop.directory, query, &page).await?;
                let ids: Vec<_> = part.rows.iter().map(|row| row.id).collect();
                user::standing(tx, shop.project, &ids).await?;
                Ok::<_, StoreError>(part)
            })
            .await
            .unwrap();
        took.push(begun.elapsed());
        rows += part.rows.len();
        page.after = part.next;
    }
    took.sort();
    let at = |share: usize| took[(took.len() - 1) * share / 100].as_secs_f64() * 1000.0;
    println!("  {what}: p50 {:.1} ms, p99 {:.1} ms, {} users a page", at(50), at(99), rows / took.len());
}
