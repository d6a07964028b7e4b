//! What an edge reads is what was published, and nothing it cannot understand.

use std::time::Duration;

use mezusphere_model::bundle::SignedBundle;
use mezusphere_model::clock::ManualClock;
use mezusphere_model::document::{
    AcmeChallengeDoc, CertificateDoc, Document, DocumentKey, NodeAddress, Partition, PlatformDoc, TrustDoc,
};
use mezusphere_model::id::{ProjectId, SignInId};
use mezusphere_model::identity::Subject;
use mezusphere_model::route::READER;
use mezusphere_model::token::{CookieKey, Token};
use mezusphere_model::{Entropy, Host, Platform, document::Status};
use mezusphere_store::primary::user::UserChange;
use mezusphere_store::primary::{api_key, project, route, sign_in, site, user};
use mezusphere_store::replica::ReadError;
use serde_json::json;

use crate::made::Made;

use crate::support::{START, Store, write};
use crate::{copy_of, dir_of, level, open};

fn platform(store: &Store) -> PlatformDoc {
    PlatformDoc {
        platform: Platform::development(8443).unwrap(),
        cookie_keys: vec![CookieKey::random(&store.entropy)],
        assertion_jwks: json!({"keys": []}),
        controls: vec![NodeAddress { host: "control-1.example".to_owned(), port: 8444 }],
    }
}

fn trust() -> TrustDoc {
    TrustDoc {
        trust_domain: "mezu.localhost".to_owned(),
        roots_pem: vec!["root".to_owned()],
        denied: vec!["spiffe://mezu.localhost/edge/1".to_owned()],
        ..TrustDoc::default()
    }
}

fn challenge() -> AcmeChallengeDoc {
    AcmeChallengeDoc {
        host: Host::parse("shop.example").unwrap(),
        token: "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0".to_owned(),
        key_authorization: "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0.9jg46WB3rR".to_owned(),
        expires_at: START,
    }
}

fn certificate(name: &str, key: &str) -> CertificateDoc {
    CertificateDoc {
        names: vec![name.to_owned()],
        chain_pem: "chain".to_owned(),
        key_pem: key.to_owned(),
        not_after: START,
    }
}

#[tokio::test]
async fn every_document_reads_back_as_it_was_published() {
    let db = Store::sqlite().await;
    let a = db.tenant("shop").await;
    let ann = db.user(&a, "ann@example.org").await;
    let (sign, _) = db.sign_in(&a, ann).await;
    let (session, token) = db.session(&a, ann, sign).await;
    let (account, key) = db.key(&a, "ci").await;
    let (platform, wildcard) = (platform(&db), certificate("*.localhost", "the key"));
    let (login, challenge) = (certificate("login.mezu.localhost", "another key"), challenge());
    let doc = db.route("/api/*");
    let p = Partition::Project(a.project);
    let (site, bundle) = write(&db.primary, async |tx| {
        tx.publish(Partition::Platform, &Document::Platform(platform.clone()))?;
        tx.publish(Partition::Platform, &Document::Trust(trust()))?;
        tx.publish(Partition::Platform, &Document::AcmeChallenge(challenge.clone()))?;
        tx.publish(Partition::Platform, &Document::Certificate(wildcard.clone()))?;
        tx.publish(Partition::Control, &Document::Certificate(login.clone()))?;
        route::insert(tx, a.project, a.environment, &doc).await?;
        let site = site::publish(tx, a.project, a.environment).await?;
        let bundle =
            SignedBundle { environment: a.environment, revision: site.revision, jws: "jws".to_owned() };
        site::publish_bundle(tx, a.project, &bundle).await?;
        Ok((site, bundle))
    })
    .await
    .unwrap();

    let copy = copy_of(&db).await;
    let replica = &copy.replica;
    assert_eq!(replica.session(&token.hash()), Ok(Some(session)));
    assert_eq!(replica.session(&Token::random(&db.entropy).hash()), Ok(None));
    let who = replica.principal(a.project, Subject::User(ann)).unwrap().unwrap();
    assert_eq!(who.email, "ann@example.org");
    assert!(replica.principal(a.project, Subject::ServiceAccount(account)).unwrap().is_some());
    assert_eq!(replica.api_key(key.id).unwrap().unwrap().secret_hash, key.secret_hash);
    assert_eq!(replica.revocation(a.project, sign), Ok(None));
    assert_eq!(replica.platform(), Ok(Some(platform)));
    assert_eq!(replica.trust(), Ok(Some(trust())));
    assert_eq!(replica.acme_challenge(&challenge.token), Ok(Some(challenge.clone())));
    assert_eq!(replica.acme_challenge("another"), Ok(None));
    assert_eq!(replica.acme_challenges(), Ok(vec![challenge]));
    let all = vec![(Partition::Platform, wildcard), (Partition::Control, login)];
    assert_eq!(replica.certificates(), Ok(all));
    assert_eq!(replica.sites(), Ok(vec![site.clone()]));
    assert_eq!(replica.site(a.project, a.environment), Ok(Some(site)));
    assert_eq!(replica.bundle(a.project, a.environment), Ok(Some(bundle)));
    assert!(replica.revision(p) > 0);
    assert_eq!(replica.age(), Some(Duration::ZERO));

    write(&db.primary, async |tx| {
        sign_in::end(tx, a.directory, sign).await?;
        api_key::revoke(tx, a.project, key.id).await
    })
    .await
    .unwrap();
    level(&db, replica, p).await;
    assert_eq!(replica.session(&token.hash()), Ok(None));
    assert_eq!(replica.revocation(a.project, sign).unwrap().unwrap().user, ann);
    assert_eq!(replica.api_key(key.id), Ok(None));

    write(&db.primary, async |tx| project::delete(tx, a.organization, a.project).await).await.unwrap();
    level(&db, replica, p).await;
    assert_eq!(replica.sites(), Ok(Vec::new()));
    assert_eq!(replica.principal(a.project, Subject::User(ann)), Ok(None));
}

#[tokio::test]
async fn r22_a_principal_of_another_project_is_not_found() {
    let db = Store::sqlite().await;
    let (a, b) = (db.tenant("shop").await, db.tenant("blog").await);
    let ann = db.user(&a, "ann@example.org").await;
    let (sign, _) = db.sign_in(&a, ann).await;
    db.session(&a, ann, sign).await;
    let copy = copy_of(&db).await;
    assert!(copy.replica.principal(a.project, Subject::User(ann)).unwrap().is_some());
    assert_eq!(copy.replica.principal(b.project, Subject::User(ann)), Ok(None));
    assert_eq!(copy.replica.site(b.project, a.environment), Ok(None));
}

#[tokio::test]
async fn a_restarted_edge_serves_from_its_copy_while_control_is_away() {
    let db = Store::sqlite().await;
    let a = db.tenant("shop").await;
    let ann = db.user(&a, "ann@example.org").await;
    let (sign, _) = db.sign_in(&a, ann).await;
    let (session, token) = db.session(&a, ann, sign).await;
    let p = Partition::Project(a.project);
    let copy = copy_of(&db).await;
    let revision = copy.replica.revision(p);
    copy.close().await;
    db.hand.advance(Duration::from_mins(10));
    let replica = open(&dir_of(&db), db.hand.clock());
    assert_eq!(replica.session(&token.hash()), Ok(Some(session)));
    assert_eq!(replica.revision(p), revision);
    assert_eq!(replica.age(), Some(Duration::from_mins(10)), "it knows how stale it is");
}

#[tokio::test]
async fn keys_are_not_on_the_edges_disk_in_the_clear() {
    let db = Store::sqlite().await;
    let canary = "canary-5b1c-the-private-key";
    let platform = platform(&db);
    let cookie_key = serde_json::to_string(&platform.cookie_keys[0]).unwrap();
    db.primary
        .write(async |tx| {
            tx.publish(Partition::Platform, &Document::Certificate(certificate("*.localhost", canary)))?;
            tx.publish(Partition::Platform, &Document::Platform(platform.clone()))
        })
        .await
        .unwrap();
    copy_of(&db).await.close().await;
    let mut read = 0;
    let mut folders = vec![dir_of(&db)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = std::fs::read(&path).unwrap();
            read += bytes.len();
            for secret in [canary, cookie_key.trim_matches('"')] {
                let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
                assert!(!found, "{}", path.display());
            }
        }
    }
    assert!(read > 500, "the copy was written: {read} bytes");
}

#[tokio::test]
async fn r24_what_this_version_cannot_read_stays_closed_and_disturbs_nothing() {
    let db = Store::sqlite().await;
    let (a, b) = (db.tenant("shop").await, db.tenant("blog").await);
    let mut too_new = db.route("/new/*");
    too_new.min_reader = READER + 1;
    write(&db.primary, async |tx| {
        route::insert(tx, a.project, a.environment, &too_new).await?;
        site::publish(tx, a.project, a.environment).await?;
        let mut site = site::load(tx, b.project, b.environment).await?.unwrap();
        site.min_reader = READER + 1;
        tx.publish(Partition::Project(b.project), &Document::Site(Box::new(site)))?;
        Ok(())
    })
    .await
    .unwrap();
    let copy = copy_of(&db).await;
    let sites = copy.replica.sites().unwrap();
    assert_eq!(sites.len(), 1, "a site that needs a newer reader is not given");
    assert_eq!(sites[0].routes, [too_new], "a route is, and is closed by whoever decides on it");
    assert_eq!(copy.replica.site(b.project, b.environment), Ok(None));
    // A kind nobody knows yet is kept and ignored: the digests still fit.
    unknown_kind(&db, Partition::Project(a.project)).await;
    level(&db, &copy.replica, Partition::Project(a.project)).await;
    assert_eq!(copy.follower.followed().failures, 0);
    assert_eq!(copy.replica.sites().unwrap().len(), 1);
}

#[tokio::test]
async fn r24_a_document_that_needs_a_newer_reader_is_an_error_and_never_as_if_it_were_not_there() {
    let (made, dir) = (std::sync::Arc::new(Made::new()), tempfile::tempdir().unwrap());
    let p = Partition::Project(ProjectId::from_bits(1));
    let newer = |document: &Document, key: DocumentKey, partition| {
        let mut body = serde_json::to_value(document).unwrap();
        body["min_reader"] = json!(READER + 1);
        made.file(partition, key, Some(serde_json::value::to_raw_value(&body).unwrap()));
    };
    let revoked = crate::made::revocation(1);
    newer(&revoked, revoked.key(), p);
    newer(&Document::Trust(trust()), DocumentKey::trust(), Partition::Platform);
    // One that this version can read says so too, or nothing.
    let mut body = serde_json::to_value(crate::made::revocation(2)).unwrap();
    body["min_reader"] = json!(READER);
    let body = serde_json::value::to_raw_value(&body).unwrap();
    made.file(p, crate::made::revocation(2).key(), Some(body));
    // A kind under another kind's key, and one whose insides are of another form.
    made.file(p, DocumentKey::revocation(SignInId::from_bits(3)), Some(raw(r#"{"kind":"gadget","doc":{}}"#)));
    made.file(
        p,
        DocumentKey::revocation(SignInId::from_bits(4)),
        Some(raw(r#"{"kind":"revocation","doc":[]}"#)),
    );

    let replica = open(dir.path(), ManualClock::at(START).clock());
    let follower = replica.follow(made, "edg_test".to_owned(), Entropy::counting());
    crate::within(follower.caught_up()).await;
    let read = |n| replica.revocation(ProjectId::from_bits(1), SignInId::from_bits(n));
    assert_eq!(read(1), Err(ReadError::TooNew), "\"not revoked\" would let somebody in");
    assert!(read(2).unwrap().is_some());
    assert_eq!(read(3), Err(ReadError::TooNew));
    assert_eq!(read(4), Err(ReadError::TooNew));
    assert_eq!(read(5), Ok(None));
    assert_eq!(replica.trust(), Err(ReadError::TooNew), "nobody denied would be too many trusted");
    assert_eq!(follower.status().fault, None, "it is no fault of the feed");
}

fn raw(text: &str) -> Box<serde_json::value::RawValue> {
    serde_json::value::RawValue::from_string(text.to_owned()).unwrap()
}

/// Puts an entry of a later version on the feed, behind this version's back.
async fn unknown_kind(db: &Store, partition: Partition) {
    use mezusphere_model::document::DocumentKey;
    use mezusphere_store::feed::{Changes, FeedSource as _};
    use sqlx::Connection as _;
    let head =
        db.primary.heads().await.unwrap().into_iter().find(|head| head.partition == partition).unwrap();
    let key = DocumentKey::from_text("gadget/1");
    let body = r#"{"kind":"gadget","doc":{"x":[1,2]}}"#;
    let revision = head.cursor.revision + 1;
    let digest = head.cursor.digest.then(revision, &key, Some(body));
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(db.dir.path().join("primary.db"));
    let mut connection = sqlx::sqlite::SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::query(
        "INSERT INTO feed_entries (partition, revision, key, body, digest, is_current) VALUES ($1, $2, $3, $4, $5, 1)",
    )
    .bind(partition.to_string())
    .bind(i64::try_from(revision).unwrap())
    .bind(key.as_str())
    .bind(body)
    .bind(digest.0.to_vec())
    .execute(&mut connection)
    .await
    .unwrap();
    sqlx::query("UPDATE feed_heads SET revision = $2, digest = $3 WHERE partition = $1")
        .bind(partition.to_string())
        .bind(i64::try_from(revision).unwrap())
        .bind(digest.0.to_vec())
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    let Changes::Entries { entries, .. } = db.primary.changes(partition, head.cursor, 10).await.unwrap()
    else {
        panic!("the entry does not fit")
    };
    assert_eq!(entries.len(), 1);
    // And something ordinary after it, which wakes the follower.
    db.primary
        .write(async |tx| tx.publish(partition, &Document::Certificate(certificate("x", "k"))))
        .await
        .unwrap();
}

#[tokio::test]
async fn r12_a_suspension_is_read_from_the_copy() {
    let db = Store::sqlite().await;
    let a = db.tenant("shop").await;
    let ann = db.user(&a, "ann@example.org").await;
    let (sign, _) = db.sign_in(&a, ann).await;
    db.session(&a, ann, sign).await;
    let copy = copy_of(&db).await;
    let change = UserChange { status: Some(Status::Suspended), ..UserChange::default() };
    write(&db.primary, async |tx| user::update(tx, a.directory, ann, &change).await).await.unwrap();
    level(&db, &copy.replica, Partition::Project(a.project)).await;
    let who = copy.replica.principal(a.project, Subject::User(ann)).unwrap().unwrap();
    assert_eq!((who.status, who.version), (Status::Suspended, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_listener_is_told_of_can_be_listed_at_once() {
    let db = Store::sqlite().await;
    let copy = copy_of(&db).await;
    let mut changes = copy.replica.subscribe();
    for n in 0..40_u128 {
        // A partition nobody has seen before comes as a snapshot, not as a change.
        let partition = Partition::Project(ProjectId::from_bits(1000 + n));
        let name = format!("shop-{n}.example");
        let doc = Document::Certificate(certificate(&name, "key"));
        db.primary.write(async |tx| tx.publish(partition, &doc)).await.unwrap();
        crate::within(changes.changed()).await;
        let listed = copy.replica.certificates().unwrap();
        assert!(listed.iter().any(|(at, doc)| *at == partition && doc.names == [name.clone()]), "{name}");
    }
}
