//! Many users: finding them, adding many at once, and what happened to their accounts.

use std::collections::BTreeSet;
use std::time::Duration;

use mezusphere_model::document::Status;
use mezusphere_model::id::UserId;
use mezusphere_model::identity::Subject;
use mezusphere_store::WriteError;
use mezusphere_store::primary::login_event::{self, KEPT_MAX, LoginEvent};
use mezusphere_store::primary::password::{self, PasswordRow};
use mezusphere_store::primary::user::{self, ImportedUser, SCANNED_MAX, UserChange, UserQuery, UserRow};
use mezusphere_store::primary::{PageRequest, StoreError, Taken, role};

use crate::on_each;
use crate::support::{Store, Tenant, name, user_row, write};

async fn person(db: &Store, tenant: &Tenant, email: &str, called: &str) -> UserId {
    let id = UserId::random(&db.entropy);
    let row = UserRow { name: called.to_owned(), ..user_row(id, tenant.directory, email, db.now()) };
    write(&db.primary, async |tx| user::insert(tx, &row).await).await.unwrap();
    id
}

async fn define(db: &Store, tenant: &Tenant, called: &str) {
    let row = role::RoleRow {
        project: tenant.project,
        name: name(called),
        description: String::new(),
        permissions: vec![],
        created_at: db.now(),
    };
    write(&db.primary, async |tx| role::insert(tx, &row).await).await.unwrap();
}

fn text(text: &str) -> UserQuery {
    UserQuery { text: text.to_owned(), ..UserQuery::default() }
}

/// Every address a query finds, over pages of `limit`, and how many pages that took.
async fn pages(db: &Store, tenant: &Tenant, query: &UserQuery, limit: usize) -> (Vec<String>, usize) {
    let mut page = PageRequest { after: None, limit };
    let (mut found, mut count) = (Vec::new(), 0);
    loop {
        let part =
            db.primary.read(async |tx| user::search(tx, tenant.directory, query, &page).await).await.unwrap();
        assert!(part.rows.len() <= limit);
        found.extend(part.rows.into_iter().map(|row| row.email));
        count += 1;
        match part.next {
            Some(next) => page.after = Some(next),
            None => return (found, count),
        }
    }
}

async fn find(db: &Store, tenant: &Tenant, query: &UserQuery) -> BTreeSet<String> {
    let (found, _) = pages(db, tenant, query, 200).await;
    let set: BTreeSet<_> = found.iter().cloned().collect();
    assert_eq!(set.len(), found.len(), "nobody is listed twice: {found:?}");
    set
}

fn set<const N: usize>(emails: [&str; N]) -> BTreeSet<String> {
    emails.map(str::to_owned).into()
}

#[tokio::test]
async fn a_user_is_found_by_how_the_address_or_a_word_of_the_name_begins() {
    on_each(async |db: Store| {
        let (a, b) = (db.tenant("shop").await, db.tenant("blog").await);
        person(&db, &a, "ann@x.example", "Ann Annette Berg").await;
        person(&db, &a, "Bob@x.example", "Björn Ångström").await;
        let carl = person(&db, &a, "carl_1%@x.example", "Carl-Gustav O'Hara").await;
        person(&db, &b, "anna@x.example", "Anna Other").await;
        for (asked, found) in [
            ("ann", set(["ann@x.example"])),
            ("ANN be", set(["ann@x.example"])),
            ("berg ann annette", set(["ann@x.example"])),
            ("ann x", set([])),
            ("björn", set(["Bob@x.example"])),
            ("ÅNG", set(["Bob@x.example"])),
            ("bob@X", set(["Bob@x.example"])),
            ("gus", set(["carl_1%@x.example"])),
            ("hara", set(["carl_1%@x.example"])),
            ("carl_", set(["carl_1%@x.example"])),
            ("%", set([])),
            ("_", set([])),
            ("", set(["ann@x.example", "Bob@x.example", "carl_1%@x.example"])),
        ] {
            assert_eq!(find(&db, &a, &text(asked)).await, found, "{asked}");
        }
        // A change of name or address is found at once, and the old one no more.
        let change = UserChange {
            email: Some("zed@x.example".to_owned()),
            name: Some("Zed".to_owned()),
            ..UserChange::default()
        };
        write(&db.primary, async |tx| user::update(tx, a.directory, carl, &change).await).await.unwrap();
        assert_eq!(find(&db, &a, &text("gus")).await, set([]));
        assert_eq!(find(&db, &a, &text("zed")).await, set(["zed@x.example"]));
        for (called, found) in [("Ada Q. Lace", set(["zed@x.example"])), ("", set([]))] {
            let change = UserChange { display_name: Some(called.to_owned()), ..UserChange::default() };
            write(&db.primary, async |tx| user::update(tx, a.directory, carl, &change).await).await.unwrap();
            assert_eq!(find(&db, &a, &text("lace")).await, found, "{called:?}");
            assert_eq!(find(&db, &a, &text("zed")).await, set(["zed@x.example"]), "by the name all the same");
            let row =
                db.primary.read(async |tx| user::get(tx, a.directory, carl).await).await.unwrap().unwrap();
            assert_eq!((row.name.as_str(), row.display_name.as_str()), ("Zed", called));
            assert_eq!(row.shown_name(), if called.is_empty() { "Zed" } else { called });
        }
        write(&db.primary, async |tx| user::delete(tx, a.directory, carl).await).await.unwrap();
        assert_eq!(find(&db, &a, &text("zed")).await, set([]));
    })
    .await;
}

#[tokio::test]
async fn text_status_and_role_must_all_hold() {
    on_each(async |db: Store| {
        let a = db.tenant("shop").await;
        define(&db, &a, "editor").await;
        for (email, called, edits, status) in [
            ("ann@x.example", "Ann", true, Status::Active),
            ("anna@x.example", "Anna", true, Status::Suspended),
            ("anton@x.example", "Anton", false, Status::Suspended),
            ("bob@x.example", "Bob", true, Status::Active),
        ] {
            let id = person(&db, &a, email, called).await;
            let change = UserChange { status: Some(status), ..UserChange::default() };
            write(&db.primary, async |tx| {
                user::update(tx, a.directory, id, &change).await?;
                if edits {
                    role::grant(tx, a.project, Subject::User(id), &name("editor")).await?;
                }
                Ok(())
            })
            .await
            .unwrap();
        }
        let role = Some((a.project, name("editor")));
        let (suspended, any) = (Some(Status::Suspended), None);
        for (text, status, role, found) in [
            ("", suspended, None, set(["anna@x.example", "anton@x.example"])),
            ("", any, role.clone(), set(["ann@x.example", "anna@x.example", "bob@x.example"])),
            ("", suspended, role.clone(), set(["anna@x.example"])),
            ("an", any, role.clone(), set(["ann@x.example", "anna@x.example"])),
            ("an", suspended, None, set(["anna@x.example", "anton@x.example"])),
            ("an", suspended, role, set(["anna@x.example"])),
            ("an", any, Some((a.project, name("ghost"))), set([])),
        ] {
            let query = UserQuery { text: text.to_owned(), status, role };
            assert_eq!(find(&db, &a, &query).await, found, "{query:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_page_looks_at_a_bounded_part_and_pages_join_without_gap_or_repetition() {
    on_each(async |db: Store| {
        let a = db.tenant("shop").await;
        let many = SCANNED_MAX + 50;
        let users: Vec<_> =
            (0..many).map(|n| imported(&db, &a, &format!("user{n:05}@x.example"), "Same Person")).collect();
        import(&db, &a, &users).await.unwrap();
        let (found, count) = pages(&db, &a, &text("same"), 200).await;
        assert_eq!((found.len(), found.into_iter().collect::<BTreeSet<_>>().len()), (many, many));
        assert_eq!(count, many.div_ceil(200));
        // Nobody is both: what is looked at is everybody of that name, and each page does its part.
        let suspended = UserQuery { status: Some(Status::Suspended), ..text("same") };
        let (found, count) = pages(&db, &a, &suspended, 200).await;
        assert_eq!((found.len(), count), (0, 2));
    })
    .await;
}

#[tokio::test]
async fn users_an_older_node_added_are_found_after_they_were_filed() {
    use sqlx::Connection as _;
    let db = Store::sqlite().await;
    let a = db.tenant("shop").await;
    person(&db, &a, "ann@x.example", "Ann").await;
    person(&db, &a, "old@x.example", "Olga Dahl").await;
    assert_eq!(db.primary.read(async |tx| user::must_mend(tx).await).await, Ok(false));
    // An older node knows nothing of words.
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(db.dir.path().join("primary.db"));
    let mut connection = sqlx::sqlite::SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::query("DELETE FROM user_words WHERE word <> 'ann' AND word <> 'ann@x.example'")
        .execute(&mut connection)
        .await
        .unwrap();
    assert_eq!(find(&db, &a, &text("dahl")).await, set([]));
    assert_eq!(db.primary.read(async |tx| user::must_mend(tx).await).await, Ok(true));
    assert_eq!(write(&db.primary, async |tx| user::mend(tx).await).await, Ok(1));
    assert_eq!(write(&db.primary, async |tx| user::mend(tx).await).await, Ok(0));
    assert_eq!(find(&db, &a, &text("dahl")).await, set(["old@x.example"]));
}

fn imported(db: &Store, tenant: &Tenant, email: &str, called: &str) -> ImportedUser {
    let id = UserId::random(&db.entropy);
    let row = UserRow { name: called.to_owned(), ..user_row(id, tenant.directory, email, db.now()) };
    ImportedUser { row, roles: vec![], password: None }
}

async fn import(db: &Store, tenant: &Tenant, users: &[ImportedUser]) -> Result<(), WriteError> {
    let users: Vec<_> = users.iter().collect();
    write(&db.primary, async |tx| user::import(tx, tenant.directory, tenant.project, &users).await).await
}

#[tokio::test]
async fn many_users_are_added_whole_with_roles_and_passwords() {
    on_each(async |db: Store| {
        let a = db.tenant("shop").await;
        define(&db, &a, "editor").await;
        let users: Vec<_> = (0..120)
            .map(|n| {
                let mut user = imported(&db, &a, &format!("User{n:03}@x.example"), "Any Body");
                user.row.display_name = if n % 3 == 0 { format!("Called{n}") } else { String::new() };
                user.roles = if n % 2 == 0 { vec![name("editor")] } else { vec![] };
                user.password = (n == 7).then(|| PasswordRow {
                    user: user.row.id,
                    hash: "$argon2id$…".to_owned(),
                    pepper_version: 0,
                    changed_at: db.now(),
                });
                user
            })
            .collect();
        import(&db, &a, &users).await.unwrap();
        assert_eq!(find(&db, &a, &text("called33")).await, set(["User033@x.example"]));
        db.primary
            .read(async |tx| {
                for (n, user) in users.iter().enumerate() {
                    assert_eq!(user::get(tx, a.directory, user.row.id).await?.as_ref(), Some(&user.row));
                    let held = role::held_by(tx, a.project, Subject::User(user.row.id)).await?;
                    assert_eq!(held, user.roles);
                    let password = password::get(tx, a.directory, user.row.id).await?;
                    assert_eq!(password.is_some(), n == 7);
                }
                let taken = user::taken(tx, a.directory, &["user003@X.example", "new@x.example"]).await?;
                assert_eq!(taken, ["user003@x.example"]);
                Ok::<_, StoreError>(())
            })
            .await
            .unwrap();
    })
    .await;
}

#[tokio::test]
async fn an_import_that_fails_anywhere_adds_nobody() {
    on_each(async |db: Store| {
        let (a, b) = (db.tenant("shop").await, db.tenant("blog").await);
        db.user(&a, "taken@x.example").await;
        let mut users: Vec<_> =
            (0..60).map(|n| imported(&db, &a, &format!("user{n}@x.example"), "Any Body")).collect();
        users.push(imported(&db, &a, "Taken@x.example", "Any Body"));
        let conflict = import(&db, &a, &users).await;
        assert_eq!(conflict, Err(WriteError::Conflict { what: Taken::Email }));
        users.pop();
        users[59].roles = vec![name("ghost")];
        assert_eq!(import(&db, &a, &users).await, Err(WriteError::NotFound { what: "role" }));
        let foreign =
            write(&db.primary, async |tx| user::import(tx, a.directory, b.project, &[&users[0]]).await).await;
        assert_eq!(foreign, Err(WriteError::NotFound { what: "project" }));
        assert_eq!(find(&db, &a, &text("")).await, set(["taken@x.example"]));
        assert_eq!(find(&db, &a, &text("any")).await, set([]));
    })
    .await;
}

fn event(tenant: &Tenant, user: UserId, db: &Store, outcome: &str) -> LoginEvent {
    LoginEvent {
        user,
        directory: tenant.directory,
        at: db.now(),
        outcome: outcome.to_owned(),
        method: "pwd".to_owned(),
        address: "192.0.2.1".to_owned(),
        agent: "Browser".to_owned(),
    }
}

#[tokio::test]
async fn r15_strangers_who_fail_do_not_push_out_what_else_a_history_tells() {
    on_each(async |db: Store| {
        let a = db.tenant("shop").await;
        let ann = db.user(&a, "ann@x.example").await;
        let mut events = vec![event(&a, ann, &db, "signed_in"), event(&a, ann, &db, "password_changed")];
        for _ in 0..KEPT_MAX + 5 {
            db.hand.advance(Duration::from_secs(1));
            events.push(event(&a, ann, &db, "wrong_password"));
        }
        write(&db.primary, async |tx| login_event::record_many(tx, &events).await).await.unwrap();
        let page = PageRequest::first();
        let list = db.primary.read(async |tx| login_event::list(tx, a.directory, ann, &page).await);
        let kept: Vec<String> = list.await.unwrap().rows.into_iter().map(|event| event.outcome).collect();
        let failures = kept.iter().filter(|outcome| *outcome == "wrong_password").count();
        assert_eq!((failures, kept.len()), (login_event::FAILURES_KEPT_MAX as usize, failures + 2));
    })
    .await;
}

#[tokio::test]
async fn of_a_users_history_the_newest_are_kept_and_listed_first() {
    on_each(async |db: Store| {
        let (a, b) = (db.tenant("shop").await, db.tenant("blog").await);
        let ann = db.user(&a, "ann@x.example").await;
        let bob = db.user(&a, "bob@x.example").await;
        let mut events = Vec::new();
        for n in 0..KEPT_MAX + 5 {
            db.hand.advance(Duration::from_secs(u64::from(n % 2))); // some at the same moment
            events.push(event(&a, ann, &db, &format!("outcome-{n:03}")));
        }
        events.push(event(&a, bob, &db, "signed_in"));
        events.push(event(&a, UserId::random(&db.entropy), &db, "of somebody who is gone"));
        events.push(event(&b, ann, &db, "of another directory"));
        let long = LoginEvent { agent: "ä".repeat(400), ..event(&a, bob, &db, &"x".repeat(40)) };
        events.push(long);
        write(&db.primary, async |tx| login_event::record_many(tx, &events).await).await.unwrap();
        let list = async |user, page: &PageRequest| {
            db.primary.read(async |tx| login_event::list(tx, a.directory, user, page).await).await.unwrap()
        };
        let mut page = PageRequest { after: None, limit: 30 };
        let mut seen = Vec::new();
        loop {
            let part = list(ann, &page).await;
            seen.extend(part.rows);
            match part.next {
                Some(next) => page.after = Some(next),
                None => break,
            }
        }
        assert_eq!(seen.len(), KEPT_MAX as usize);
        assert!(seen.is_sorted_by(|new, old| new.at >= old.at));
        assert_eq!(seen.iter().map(|event| &event.outcome).collect::<BTreeSet<_>>().len(), seen.len());
        assert!(seen.iter().all(|event| event.outcome.starts_with("outcome-")));
        let of_bob = list(bob, &PageRequest::first()).await.rows;
        assert_eq!(of_bob.len(), 2);
        assert!(of_bob.iter().all(|event| event.agent.len() <= 256 && event.outcome.len() <= 32));
        let foreign =
            db.primary.read(async |tx| login_event::list(tx, b.directory, ann, &PageRequest::first()).await);
        assert_eq!(foreign.await.unwrap().rows, []);
        write(&db.primary, async |tx| user::delete(tx, a.directory, bob).await).await.unwrap();
        assert_eq!(list(bob, &PageRequest::first()).await.rows, []);
    })
    .await;
}
