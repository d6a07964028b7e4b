//! Tenants: what they own, what is unique, and that one never finds another's.

use mezusphere_model::document::Status;
use mezusphere_model::id::{DirectoryId, EnvironmentId, OrganizationId, ProjectId, RouteId, UserId};
use mezusphere_model::identity::Subject;
use mezusphere_model::rules::ProjectQuota;
use mezusphere_model::slug::Slug;
use mezusphere_model::{Host, Timestamp};
use mezusphere_store::WriteError;
use mezusphere_store::primary::environment::EnvironmentRow;
use mezusphere_store::primary::host::{HostKind, HostRow};
use mezusphere_store::primary::project::ProjectRow;
use mezusphere_store::primary::role::RoleRow;
use mezusphere_store::primary::user::UserChange;
use mezusphere_store::primary::{
    PageRequest, StoreError, Taken, api_key, directory, environment, hand_off, host, organization, password,
    project, quota, role, route, service_account, session, sign_in, site, user,
};

use crate::on_each;
use crate::support::{Store, Tenant, name, user_row, write};

const NOT_THERE: fn(&WriteError) -> bool = |why| matches!(why, WriteError::NotFound { .. });

#[tokio::test]
async fn what_is_written_reads_back() {
    on_each(async |db: Store| {
        let a = db.tenant("shop").await;
        let user = db.user(&a, "Ann@Example.org").await;
        let doc = db.route("/api/*");
        write(&db.primary, async |tx| route::insert(tx, a.project, a.environment, &doc).await).await.unwrap();
        db.primary
            .read(async |tx| {
                assert_eq!(organization::get(tx, a.organization).await?.unwrap().slug.as_str(), "shop");
                let slug = Slug::parse("shop").unwrap();
                assert_eq!(organization::find(tx, &slug).await?.unwrap().id, a.organization);
                assert_eq!(project::find(tx, &slug).await?.unwrap().directory, a.directory);
                assert_eq!(project::get(tx, a.project).await?.unwrap().organization, a.organization);
                let found = directory::get(tx, a.organization, a.directory).await?.unwrap();
                assert_eq!(found.project, Some(a.project));
                let production = Slug::parse("production").unwrap();
                assert_eq!(environment::find(tx, a.project, &production).await?.unwrap().id, a.environment);
                assert_eq!(host::find(tx, &a.host).await?.unwrap().environment, a.environment);
                let row = route::get(tx, a.project, doc.id).await?.unwrap();
                assert_eq!((row.doc, row.position, row.created_at), (doc.clone(), 0, db.now()));
                let row = user::find(tx, a.directory, "aNN@example.ORG").await?.unwrap();
                assert_eq!((row.id, row.email.as_str()), (user, "Ann@Example.org"));
                Ok::<_, StoreError>(())
            })
            .await
            .unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_name_in_use_is_a_conflict_that_says_what_is_taken() {
    on_each(async |db: Store| {
        let a = db.tenant("shop").await;
        let at = db.now();
        db.user(&a, "ann@example.org").await;
        let taken = async |work: WriteError, what: Taken| {
            assert_eq!(work, WriteError::Conflict { what });
        };
        let again = UserId::random(&db.entropy);
        let row = user_row(again, a.directory, "ANN@example.org", at);
        taken(write(&db.primary, async |tx| user::insert(tx, &row).await).await.unwrap_err(), Taken::Email)
            .await;

        let row = ProjectRow {
            id: ProjectId::random(&db.entropy),
            organization: a.organization,
            directory: a.directory,
            slug: Slug::parse("shop").unwrap(),
            name: "Shop".to_owned(),
            created_at: at,
        };
        // Its directory serves the other project alone.
        let why = write(&db.primary, async |tx| project::insert(tx, &row).await).await.unwrap_err();
        assert_eq!(why, WriteError::NotFound { what: "directory" });

        let row = EnvironmentRow {
            id: EnvironmentId::random(&db.entropy),
            project: a.project,
            slug: Slug::parse("production").unwrap(),
            site_revision: 0,
            created_at: at,
        };
        let why = write(&db.primary, async |tx| environment::insert(tx, &row).await).await.unwrap_err();
        taken(why, Taken::EnvironmentSlug).await;

        let b = db.tenant("blog").await;
        let row = HostRow {
            host: a.host.clone(),
            project: b.project,
            environment: b.environment,
            kind: HostKind::Custom,
            created_at: at,
        };
        let why = write(&db.primary, async |tx| host::insert(tx, &row).await).await.unwrap_err();
        taken(why, Taken::Host).await;

        let (first, second) = (db.route("/api/*"), db.route("/api/*"));
        let add = async |doc| {
            write(&db.primary, async |tx| route::insert(tx, a.project, a.environment, doc).await).await
        };
        add(&first).await.unwrap();
        taken(add(&second).await.unwrap_err(), Taken::RoutePath).await;
        let mut other = db.route("/api/*");
        other.methods = vec!["POST".to_owned(), "GET".to_owned()];
        add(&other).await.unwrap();
        let mut same = db.route("/api/*");
        same.methods = vec!["GET".to_owned(), "POST".to_owned()];
        taken(add(&same).await.unwrap_err(), Taken::RoutePath).await;

        let role = RoleRow {
            project: a.project,
            name: name("customer"),
            description: String::new(),
            permissions: Vec::new(),
            created_at: at,
        };
        write(&db.primary, async |tx| role::insert(tx, &role).await).await.unwrap();
        let why = write(&db.primary, async |tx| role::insert(tx, &role).await).await.unwrap_err();
        taken(why, Taken::RoleName).await;
    })
    .await;
}

#[tokio::test]
async fn a_failed_change_leaves_nothing_behind() {
    on_each(async |db: Store| {
        let a = db.tenant("shop").await;
        let id = UserId::random(&db.entropy);
        let row = user_row(id, a.directory, "ann@example.org", db.now());
        let gone = write(&db.primary, async |tx| {
            user::insert(tx, &row).await?;
            Err::<(), _>(WriteError::NotFound { what: "reason to go on" })
        })
        .await;
        assert!(gone.is_err());
        // Swallowing an error does not help: PostgreSQL could not commit either.
        let swallowed = write(&db.primary, async |tx| {
            user::insert(tx, &row).await?;
            assert!(user::insert(tx, &row).await.is_err());
            Ok(())
        })
        .await;
        assert!(swallowed.is_err());
        let found = db.primary.read(async |tx| user::get(tx, a.directory, id).await).await.unwrap();
        assert_eq!(found, None);
    })
    .await;
}

#[tokio::test]
async fn a_dropped_change_is_rolled_back_and_does_not_block_the_next() {
    on_each(async |db: Store| {
        let a = db.tenant("shop").await;
        let id = UserId::random(&db.entropy);
        let row = user_row(id, a.directory, "ann@example.org", db.now());
        let inside = tokio::sync::Notify::new();
        let abandoned = db.primary.write(async |tx| {
            user::insert(tx, &row).await?;
            inside.notify_one();
            std::future::pending::<()>().await;
            Ok::<_, WriteError>(())
        });
        tokio::select! {
            _ = abandoned => panic!("it waits for ever"),
            () = inside.notified() => {}
        }
        db.user(&a, "bob@example.org").await;
        let found = db.primary.read(async |tx| user::get(tx, a.directory, id).await).await.unwrap();
        assert_eq!(found, None);
    })
    .await;
}

#[tokio::test]
async fn lists_come_in_pages_that_join_without_gap_or_repetition() {
    on_each(async |db: Store| {
        let a = db.tenant("shop").await;
        for n in 0..25 {
            db.user(&a, &format!("User{n:02}@example.org")).await;
        }
        let mut seen = Vec::new();
        let mut page = PageRequest { after: None, limit: 10 };
        loop {
            let part = db.primary.read(async |tx| user::list(tx, a.directory, &page).await).await.unwrap();
            assert!(part.rows.len() <= 10);
            seen.extend(part.rows.into_iter().map(|row| row.email));
            match part.next {
                Some(next) => page.after = Some(next),
                None => break,
            }
        }
        let all: Vec<_> = (0..25).map(|n| format!("User{n:02}@example.org")).collect();
        assert_eq!(seen, all);
    })
    .await;
}

#[tokio::test]
async fn routes_keep_their_order_and_can_be_put_in_another() {
    on_each(async |db: Store| {
        let a = db.tenant("shop").await;
        let docs = [db.route("/a"), db.route("/b"), db.route("/c")];
        for doc in &docs {
            write(&db.primary, async |tx| route::insert(tx, a.project, a.environment, doc).await)
                .await
                .unwrap();
        }
        let order = async || -> Vec<RouteId> {
            let rows = db.primary.read(async |tx| route::list(tx, a.project, a.environment).await).await;
            rows.unwrap().into_iter().map(|row| row.doc.id).collect()
        };
        assert_eq!(order().await, docs.each_ref().map(|doc| doc.id));
        let [first, second, third] = docs.each_ref().map(|doc| doc.id);
        write(&db.primary, async |tx| route::reorder(tx, a.project, a.environment, &[third]).await)
            .await
            .unwrap();
        assert_eq!(order().await, [third, first, second]);
        write(&db.primary, async |tx| route::delete(tx, a.project, first).await).await.unwrap();
        let added = db.route("/d");
        write(&db.primary, async |tx| route::insert(tx, a.project, a.environment, &added).await)
            .await
            .unwrap();
        assert_eq!(order().await, [third, second, added.id]);
    })
    .await;
}

#[tokio::test]
async fn r22_a_row_of_another_tenant_is_not_found() {
    on_each(async |db: Store| {
        let (a, b) = (db.tenant("shop").await, db.tenant("blog").await);
        let user = db.user(&a, "ann@example.org").await;
        let (sign, _) = db.sign_in(&a, user).await;
        let (ses, _) = db.session(&a, user, sign).await;
        let (account, key) = db.key(&a, "ci").await;
        let doc = db.route("/api/*");
        let customer = name("customer");
        write(&db.primary, async |tx| {
            route::insert(tx, a.project, a.environment, &doc).await?;
            role::insert(
                tx,
                &RoleRow {
                    project: a.project,
                    name: customer.clone(),
                    description: String::new(),
                    permissions: Vec::new(),
                    created_at: tx.now(),
                },
            )
            .await
        })
        .await
        .unwrap();

        db.primary
            .read(async |tx| {
                assert_eq!(directory::get(tx, b.organization, a.directory).await?, None);
                assert_eq!(environment::get(tx, b.project, a.environment).await?, None);
                assert_eq!(route::get(tx, b.project, doc.id).await?, None);
                assert_eq!(route::list(tx, b.project, a.environment).await?, []);
                assert_eq!(host::list(tx, b.project, a.environment).await?, []);
                assert_eq!(site::load(tx, b.project, a.environment).await?, None);
                assert_eq!(user::get(tx, b.directory, user).await?, None);
                assert_eq!(user::find(tx, b.directory, "ann@example.org").await?, None);
                assert_eq!(password::get(tx, b.directory, user).await?, None);
                assert_eq!(sign_in::get(tx, b.directory, sign).await?, None);
                assert_eq!(session::get(tx, b.project, ses.id).await?, None);
                assert_eq!(service_account::get(tx, b.project, account).await?, None);
                assert_eq!(api_key::get(tx, b.project, key.id).await?, None);
                assert_eq!(api_key::list(tx, b.project, account).await?, []);
                assert_eq!(role::get(tx, b.project, &customer).await?, None);
                Ok::<_, StoreError>(())
            })
            .await
            .unwrap();

        let primary = &db.primary;
        let change = UserChange { status: Some(Status::Suspended), ..UserChange::default() };
        let order = [doc.id];
        let refused = [
            write(primary, async |tx| project::delete(tx, b.organization, a.project).await).await,
            write(primary, async |tx| project::rename(tx, b.organization, a.project, "x").await).await,
            write(primary, async |tx| environment::delete(tx, b.project, a.environment).await).await,
            write(primary, async |tx| route::update(tx, b.project, &doc).await).await,
            write(primary, async |tx| route::delete(tx, b.project, doc.id).await).await,
            write(primary, async |tx| route::reorder(tx, b.project, a.environment, &order).await).await,
            write(primary, async |tx| host::delete(tx, b.project, &a.host).await).await,
            write(primary, async |tx| site::publish(tx, b.project, a.environment).await.map(drop)).await,
            write(primary, async |tx| user::update(tx, b.directory, user, &change).await).await,
            write(primary, async |tx| user::invalidate_sessions(tx, b.directory, user).await).await,
            write(primary, async |tx| user::delete(tx, b.directory, user).await).await,
            write(primary, async |tx| sign_in::end(tx, b.directory, sign).await.map(drop)).await,
            write(primary, async |tx| session::end(tx, b.project, ses.id).await.map(drop)).await,
            write(primary, async |tx| api_key::revoke(tx, b.project, key.id).await).await,
            write(primary, async |tx| {
                service_account::set_status(tx, b.project, account, Status::Suspended).await
            })
            .await,
            write(primary, async |tx| service_account::delete(tx, b.project, account).await).await,
            write(primary, async |tx| role::delete(tx, b.project, &customer).await).await,
            write(primary, async |tx| role::grant(tx, b.project, Subject::User(user), &customer).await).await,
        ];
        for (at, result) in refused.iter().enumerate() {
            assert!(result.as_ref().is_err_and(NOT_THERE), "row {at}: {result:?}");
        }
        // All of it is still there.
        let left = primary.read(async |tx| session::get(tx, a.project, ses.id).await).await.unwrap();
        assert_eq!(left.unwrap().ended_at, None);
    })
    .await;
}

#[tokio::test]
async fn r22_nothing_can_be_linked_across_tenants() {
    on_each(async |db: Store| {
        let (a, b) = (db.tenant("shop").await, db.tenant("blog").await);
        let ann = db.user(&a, "ann@example.org").await;
        let (sign, _) = db.sign_in(&a, ann).await;
        let (account, _) = db.key(&a, "ci").await;
        let at = db.now();
        let primary = &db.primary;
        let mixed = |project: ProjectId, environment: EnvironmentId| HostRow {
            host: Host::parse("mixed.localhost").unwrap(),
            project,
            environment,
            kind: HostKind::Custom,
            created_at: at,
        };
        let host_row = mixed(b.project, a.environment);
        let (foreign_session, _) = db.session_doc(&b, ann, sign);
        let mut foreign_key = db.key_row(&b, account);
        foreign_key.project = b.project;
        let mut foreign_environment = db.key_row(&a, account);
        foreign_environment.environment = Some(b.environment);
        let hand_off_row = hand_off_row(&db, &b, sign, at);
        let mut wrong_host = hand_off_row.clone();
        wrong_host.project = a.project;
        wrong_host.environment = a.environment;
        let (mut sign_row, _) = db.sign_in_row(&b, ann);
        sign_row.directory = b.directory;
        let foreign_directory = ProjectRow {
            id: ProjectId::random(&db.entropy),
            organization: b.organization,
            directory: a.directory,
            slug: Slug::parse("other").unwrap(),
            name: String::new(),
            created_at: at,
        };
        let doc = db.route("/x");
        let refused = [
            write(primary, async |tx| host::insert(tx, &host_row).await).await,
            write(primary, async |tx| route::insert(tx, b.project, a.environment, &doc).await.map(drop))
                .await,
            write(primary, async |tx| session::insert(tx, &foreign_session).await).await,
            write(primary, async |tx| api_key::insert(tx, &foreign_key).await).await,
            write(primary, async |tx| api_key::insert(tx, &foreign_environment).await).await,
            write(primary, async |tx| hand_off::insert(tx, &hand_off_row).await).await,
            write(primary, async |tx| hand_off::insert(tx, &wrong_host).await).await,
            write(primary, async |tx| sign_in::insert(tx, &sign_row).await).await,
            write(primary, async |tx| project::insert(tx, &foreign_directory).await).await,
        ];
        for (at, result) in refused.iter().enumerate() {
            assert!(result.as_ref().is_err_and(NOT_THERE), "row {at}: {result:?}");
        }
    })
    .await;
}

fn hand_off_row(
    db: &Store,
    to: &Tenant,
    sign_in: mezusphere_model::id::SignInId,
    at: Timestamp,
) -> hand_off::HandOffRow {
    hand_off::HandOffRow {
        code_hash: mezusphere_model::token::Token::random(&db.entropy).hash(),
        sign_in,
        project: to.project,
        environment: to.environment,
        host: to.host.clone(),
        state_hash: "state".to_owned(),
        return_to: "/".to_owned(),
        created_at: at,
        expires_at: at.after(std::time::Duration::from_mins(1)),
    }
}

#[tokio::test]
async fn a_deleted_project_takes_all_it_owns_with_it() {
    on_each(async |db: Store| {
        let (a, b) = (db.tenant("shop").await, db.tenant("blog").await);
        let ann = db.user(&a, "ann@example.org").await;
        let (sign, _) = db.sign_in(&a, ann).await;
        let (ses, _) = db.session(&a, ann, sign).await;
        let (_, key) = db.key(&a, "ci").await;
        write(&db.primary, async |tx| project::delete(tx, a.organization, a.project).await).await.unwrap();
        db.primary
            .read(async |tx| {
                assert_eq!(project::get(tx, a.project).await?, None);
                assert_eq!(environment::get(tx, a.project, a.environment).await?, None);
                assert_eq!(host::find(tx, &a.host).await?, None);
                assert_eq!(directory::get(tx, a.organization, a.directory).await?, None);
                assert_eq!(user::get(tx, a.directory, ann).await?, None);
                assert_eq!(session::find(tx, &ses.token_hash).await?, None);
                assert_eq!(api_key::find(tx, key.id).await?, None);
                assert!(project::get(tx, b.project).await?.is_some());
                Ok::<_, StoreError>(())
            })
            .await
            .unwrap();
    })
    .await;
}

#[tokio::test]
async fn limits_are_kept_by_the_store_itself() {
    on_each(async |db: Store| {
        let a = db.tenant("shop").await;
        let add = async |n: usize| {
            let row = EnvironmentRow {
                id: EnvironmentId::random(&db.entropy),
                project: a.project,
                slug: Slug::parse(&format!("e{n}")).unwrap(),
                site_revision: 0,
                created_at: db.now(),
            };
            write(&db.primary, async |tx| environment::insert(tx, &row).await).await
        };
        for n in 1..environment::ENVIRONMENTS_MAX {
            add(n).await.unwrap();
        }
        let over = add(environment::ENVIRONMENTS_MAX).await;
        assert!(matches!(over, Err(WriteError::Store(StoreError::TooLarge(_)))), "{over:?}");
    })
    .await;
}

#[tokio::test]
async fn a_directory_must_name_a_project_that_exists_at_commit() {
    on_each(async |db: Store| {
        let row = directory::DirectoryRow {
            id: DirectoryId::random(&db.entropy),
            organization: db.tenant("shop").await.organization,
            project: Some(ProjectId::random(&db.entropy)),
            name: "nowhere".to_owned(),
            settings: directory::Settings::default(),
            created_at: db.now(),
        };
        let result = write(&db.primary, async |tx| directory::insert(tx, &row).await).await;
        assert!(result.is_err(), "{result:?}");
        let missing = OrganizationId::random(&db.entropy);
        let row = directory::DirectoryRow { organization: missing, project: None, ..row };
        let result = write(&db.primary, async |tx| directory::insert(tx, &row).await).await;
        assert_eq!(result, Err(WriteError::NotFound { what: "organization" }));
    })
    .await;
}

#[tokio::test]
async fn a_quota_is_published_with_every_site_of_its_project_and_ends_with_it() {
    on_each(async |db: Store| {
        let (a, b) = (db.tenant("shop").await, db.tenant("blog").await);
        let of = async |project| db.primary.read(async |tx| quota::get(tx, project).await).await.unwrap();
        assert_eq!(of(a.project).await, ProjectQuota::default());
        for per_second in [100, 50] {
            let wanted = ProjectQuota { requests_per_second: Some(per_second), exchanges: None };
            let site = write(&db.primary, async |tx| {
                tx.confine(a.organization, Some(a.project)).await?;
                quota::set(tx, a.project, &wanted).await?;
                site::publish(tx, a.project, a.environment).await
            })
            .await
            .unwrap();
            assert_eq!((site.quota, of(a.project).await), (wanted, wanted));
        }
        assert_eq!(of(b.project).await, ProjectQuota::default());
        let unknown = ProjectId::random(&db.entropy);
        let none = ProjectQuota::default();
        let why = write(&db.primary, async |tx| quota::set(tx, unknown, &none).await).await.unwrap_err();
        assert_eq!(why, WriteError::NotFound { what: "project" });
        write(&db.primary, async |tx| project::delete(tx, a.organization, a.project).await).await.unwrap();
        assert_eq!(of(a.project).await, ProjectQuota::default());
    })
    .await;
}
