//! Directories: their settings and logo, whom they serve, and limits that become shorter.

use std::time::Duration;

use mezusphere_model::document::{Document, DocumentKey, Partition};
use mezusphere_model::id::{DirectoryId, ProjectId};
use mezusphere_model::slug::Slug;
use mezusphere_store::WriteError;
use mezusphere_store::primary::directory::{
    self, Brand, DirectoryRow, LOGO_LEN_MAX, Logo, LogoType, SessionLimits, Settings, SignUp, limits,
};
use mezusphere_store::primary::project::{self, HeldBy, ProjectRow};
use mezusphere_store::primary::{PageRequest, StoreError, Taken, role, session, sign_in};

use crate::on_each;
use crate::support::{Store, Tenant, name, published, write};

fn settings() -> Settings {
    Settings {
        sign_up: SignUp::Domains(vec!["shop.example".to_owned()]),
        sessions: Some(SessionLimits { absolute_s: 3600, idle_s: 600 }),
        brand: Brand { name: Some("The Shop".to_owned()), ..Brand::default() },
        ..Settings::default()
    }
}

/// A directory that any project of the organization may use.
async fn shared(db: &Store, tenant: &Tenant, name: &str) -> DirectoryRow {
    let row = DirectoryRow {
        id: DirectoryId::random(&db.entropy),
        organization: tenant.organization,
        project: None,
        name: name.to_owned(),
        settings: settings(),
        created_at: db.now(),
    };
    write(&db.primary, async |tx| directory::insert(tx, &row).await).await.unwrap();
    row
}

#[tokio::test]
async fn a_directory_has_the_settings_it_was_given_and_is_found_by_its_id_alone() {
    on_each(async |db: Store| {
        let (a, b) = (db.tenant("shop").await, db.tenant("blog").await);
        let row = shared(&db, &a, "people").await;
        db.primary
            .read(async |tx| {
                assert_eq!(directory::by_id(tx, row.id).await?, Some(row.clone()));
                assert_eq!(directory::find(tx, a.organization, "people").await?, Some(row.clone()));
                assert_eq!(directory::find(tx, b.organization, "people").await?, None);
                let plain = directory::by_id(tx, a.directory).await?.unwrap();
                assert_eq!(plain.settings, Settings::default());
                let listed = directory::list(tx, a.organization, &PageRequest::first()).await?.rows;
                assert_eq!(listed, [row.clone(), plain]);
                Ok::<_, StoreError>(())
            })
            .await
            .unwrap();
        let open = Settings { sign_up: SignUp::Open, ..settings() };
        let foreign = write(&db.primary, async |tx| {
            directory::update_settings(tx, b.organization, row.id, &open).await
        })
        .await;
        assert_eq!(foreign, Err(WriteError::NotFound { what: "directory" }));
        write(&db.primary, async |tx| directory::update_settings(tx, a.organization, row.id, &open).await)
            .await
            .unwrap();
        let found = db.primary.read(async |tx| directory::by_id(tx, row.id).await).await.unwrap().unwrap();
        assert_eq!(found.settings, open);
        let twice = DirectoryRow { id: DirectoryId::random(&db.entropy), ..row };
        let taken = write(&db.primary, async |tx| directory::insert(tx, &twice).await).await;
        assert_eq!(taken, Err(WriteError::Conflict { what: Taken::DirectoryName }));
    })
    .await;
}

#[tokio::test]
async fn a_logo_is_kept_beside_the_settings_and_survives_their_change() {
    on_each(async |db: Store| {
        let (a, b) = (db.tenant("shop").await, db.tenant("blog").await);
        let logo = Logo { media_type: LogoType::Png, bytes: b"\x89PNG\r\n\x1a\nrest".to_vec() };
        let set = async |organization, logo: Option<&Logo>| {
            write(&db.primary, async |tx| directory::set_logo(tx, organization, a.directory, logo).await)
                .await
        };
        assert_eq!(set(b.organization, Some(&logo)).await, Err(WriteError::NotFound { what: "directory" }));
        set(a.organization, Some(&logo)).await.unwrap();
        write(&db.primary, async |tx| {
            directory::update_settings(tx, a.organization, a.directory, &settings()).await
        })
        .await
        .unwrap();
        let read = async || {
            db.primary
                .read(async |tx| {
                    let mark = directory::by_id(tx, a.directory).await?.unwrap().settings.brand.logo;
                    Ok::<_, StoreError>((mark, directory::logo(tx, a.directory).await?))
                })
                .await
                .unwrap()
        };
        let (mark, kept) = read().await;
        let mark = mark.unwrap();
        assert_eq!((mark.media_type, mark.digest.len()), (LogoType::Png, 32));
        assert_eq!(kept, Some(logo.clone()));
        let large = Logo { bytes: [&logo.bytes[..], &vec![0; LOGO_LEN_MAX]].concat(), ..logo };
        assert!(matches!(
            set(a.organization, Some(&large)).await,
            Err(WriteError::Store(StoreError::TooLarge(_)))
        ));
        set(a.organization, None).await.unwrap();
        assert_eq!(read().await, (None, None));
    })
    .await;
}

fn row(tenant: &Tenant, id: ProjectId, directory: DirectoryId, db: &Store, slug: &str) -> ProjectRow {
    let slug = Slug::parse(slug).unwrap();
    let (organization, created_at) = (tenant.organization, db.now());
    ProjectRow { id, organization, directory, name: slug.to_string(), slug, created_at }
}

#[tokio::test]
async fn a_shared_directory_serves_projects_of_its_organization_only() {
    on_each(async |db: Store| {
        let (a, b) = (db.tenant("shop").await, db.tenant("blog").await);
        let people = shared(&db, &a, "people").await;
        let second = row(&a, ProjectId::random(&db.entropy), people.id, &db, "second");
        write(&db.primary, async |tx| project::insert(tx, &second).await).await.unwrap();
        let foreign = row(&b, ProjectId::random(&db.entropy), people.id, &db, "third");
        let refused = write(&db.primary, async |tx| project::insert(tx, &foreign).await).await;
        assert_eq!(refused, Err(WriteError::NotFound { what: "directory" }));
        // It is in use, so it stays; without a project it goes, and only for its owner.
        let delete = async |organization| {
            write(&db.primary, async |tx| directory::delete(tx, organization, people.id).await).await
        };
        let gone = Err(WriteError::NotFound { what: "directory" });
        assert_eq!(delete(a.organization).await, gone);
        write(&db.primary, async |tx| project::delete(tx, a.organization, second.id).await).await.unwrap();
        assert_eq!(delete(b.organization).await, gone);
        assert_eq!(delete(a.organization).await, Ok(()));
    })
    .await;
}

#[tokio::test]
async fn a_project_changes_its_directory_while_nobody_is_lost_by_it() {
    on_each(async |db: Store| {
        let (a, b) = (db.tenant("shop").await, db.tenant("blog").await);
        let people = shared(&db, &a, "people").await;
        let shop = row(&a, a.project, a.directory, &db, "shop");
        let held = async |row: &ProjectRow| {
            db.primary.read(async |tx| project::held_by(tx, row).await).await.unwrap()
        };
        assert_eq!(held(&shop).await, None);
        let ann = db.user(&a, "ann@example.org").await;
        assert_eq!(held(&shop).await, Some(HeldBy::Users));
        write(&db.primary, async |tx| {
            let keeper = role::RoleRow {
                project: a.project,
                name: name("keeper"),
                description: String::new(),
                permissions: vec![],
                created_at: tx.now(),
            };
            role::insert(tx, &keeper).await?;
            role::grant(tx, a.project, mezusphere_model::identity::Subject::User(ann), &name("keeper")).await
        })
        .await
        .unwrap();
        assert_eq!(held(&shop).await, Some(HeldBy::Roles));
        write(&db.primary, async |tx| {
            mezusphere_store::primary::user::delete(tx, a.directory, ann).await?;
            project::set_directory(tx, &shop, people.id).await
        })
        .await
        .unwrap();
        db.primary
            .read(async |tx| {
                assert_eq!(project::get(tx, a.project).await?.unwrap().directory, people.id);
                assert_eq!(directory::by_id(tx, a.directory).await?, None, "its own is gone");
                let served =
                    directory::projects(tx, a.organization, people.id, &PageRequest::first()).await?;
                assert_eq!(served.rows.iter().map(|row| row.id).collect::<Vec<_>>(), [a.project]);
                Ok::<_, StoreError>(())
            })
            .await
            .unwrap();
        let shop = ProjectRow { directory: people.id, ..shop };
        let refused =
            write(&db.primary, async |tx| project::set_directory(tx, &shop, b.directory).await).await;
        assert_eq!(refused, Err(WriteError::NotFound { what: "directory" }));
    })
    .await;
}

#[tokio::test]
async fn r12_shorter_limits_reach_those_who_signed_in_before_and_the_edges() {
    on_each(async |db: Store| {
        let a = db.tenant("shop").await;
        let ann = db.user(&a, "ann@example.org").await;
        let (sign, _) = db.sign_in(&a, ann).await; // a day, idle after an hour
        let (doc, _) = db.session(&a, ann, sign).await; // eight hours, idle after half of one
        let (ended, _) = db.sign_in(&a, ann).await;
        write(&db.primary, async |tx| sign_in::end(tx, a.directory, ended).await).await.unwrap();
        let look = async |limits| {
            db.primary.read(async |tx| limits::over(tx, a.directory, limits, None).await).await.unwrap()
        };
        let longer = SessionLimits { absolute_s: 7 * 24 * 3600, idle_s: 0 };
        assert_eq!(look(longer).await, (vec![], None), "longer limits change nobody's");
        let shorter = SessionLimits { absolute_s: 3600, idle_s: 600 };
        assert_eq!(look(shorter).await, (vec![sign], None));
        write(&db.primary, async |tx| limits::shorten(tx, a.directory, shorter, &[sign, ended]).await)
            .await
            .unwrap();
        assert_eq!(look(shorter).await, (vec![], None));
        let end = db.now().after(Duration::from_hours(1));
        let key = DocumentKey::session(&doc.token_hash);
        let Some(Document::Session(now)) = published(&db.primary, Partition::Project(a.project), &key).await
        else {
            panic!("the session is not published");
        };
        assert_eq!((now.expires_at, now.idle_s_max), (end, 600));
        db.primary
            .read(async |tx| {
                let kept = sign_in::get(tx, a.directory, sign).await?.unwrap();
                assert_eq!((kept.expires_at, kept.idle_s_max), (end, 600));
                assert_eq!(session::get(tx, a.project, doc.id).await?.unwrap().doc, now);
                Ok::<_, StoreError>(())
            })
            .await
            .unwrap();
    })
    .await;
}

#[tokio::test]
async fn only_directories_with_limits_of_their_own_are_looked_at() {
    on_each(async |db: Store| {
        let a = db.tenant("shop").await;
        let people = shared(&db, &a, "people").await;
        let plain = Settings { sessions: None, ..settings() };
        write(&db.primary, async |tx| {
            directory::update_settings(tx, a.organization, a.directory, &plain).await
        })
        .await
        .unwrap();
        let found =
            db.primary.read(async |tx| limits::limited(tx, &PageRequest::first()).await).await.unwrap();
        assert_eq!(found.rows.iter().map(|row| row.id).collect::<Vec<_>>(), [people.id]);
    })
    .await;
}
