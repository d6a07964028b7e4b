//! Mails that wait: kept with the change that wants them, claimed by one holder at a time, none lost.

use std::time::Duration;

use mezusphere_model::Timestamp;
use mezusphere_model::id::{DirectoryId, MailId};
use mezusphere_store::primary::mail::{
    self, FAILED_MAX, MailState, NewMail, Queued, WAITING_OF_DIRECTORY_MAX,
};
use mezusphere_store::primary::{PageRequest, WriteError};

use crate::on_each;
use crate::support::Store;

const DAY: Duration = Duration::from_hours(24);

impl Store {
    async fn mail(&self, directory: DirectoryId, to: &str) -> MailId {
        let id = MailId::random(&self.entropy);
        assert_eq!(self.queue(directory, id, to).await, Ok(Queued::Yes));
        id
    }

    async fn queue(&self, directory: DirectoryId, id: MailId, to: &str) -> Result<Queued, WriteError> {
        let body = format!("link for {to}");
        let mail = NewMail {
            id,
            directory,
            recipient: to,
            kind: "recovery",
            body: body.as_bytes(),
            give_up_at: self.now().after(DAY),
        };
        self.primary.write(async |tx| mail::add(tx, &mail).await).await
    }

    async fn claim(&self, token: u64, limit: usize) -> Vec<(MailId, String)> {
        let claimed = self.primary.write(async |tx| mail::claim(tx, token, limit).await).await.unwrap();
        let text = |body: &[u8]| String::from_utf8(body.to_vec()).unwrap();
        claimed.iter().map(|mail| (mail.row.id, text(&mail.body))).collect()
    }

    async fn due(&self, token: u64) -> Option<Timestamp> {
        self.primary.read(async |tx| mail::next_due(tx, token).await).await.unwrap()
    }
}

#[tokio::test]
async fn a_mail_is_claimed_once_under_a_token_and_again_under_the_next_one() {
    on_each(async |db: Store| {
        let a = db.tenant("shop").await;
        let id = db.mail(a.directory, "ada@shop.example").await;
        assert_eq!(db.due(1).await, Some(db.now()));
        assert_eq!(db.claim(1, 10).await, [(id, "link for ada@shop.example".to_owned())]);
        assert_eq!((db.claim(1, 10).await.len(), db.due(1).await), (0, None));

        // The holder of token 1 died; its late word changes nothing any more.
        assert_eq!(db.claim(2, 10).await.len(), 1);
        assert!(!db.primary.write(async |tx| mail::sent(tx, id, 1).await).await.unwrap());
        let at = db.now().after(DAY);
        assert!(!db.primary.write(async |tx| mail::put_off(tx, id, 1, at, "late").await).await.unwrap());
        assert!(!db.primary.write(async |tx| mail::fail(tx, id, 1, "late").await).await.unwrap());

        assert!(db.primary.write(async |tx| mail::sent(tx, id, 2).await).await.unwrap());
        assert_eq!(db.primary.read(async |tx| mail::get(tx, id).await).await.unwrap(), None);
        assert_eq!(db.primary.read(async |tx| mail::counts(tx).await).await.unwrap(), (0, 0));
    })
    .await;
}

#[tokio::test]
async fn a_mail_comes_with_its_change_or_not_at_all() {
    on_each(async |db: Store| {
        let a = db.tenant("shop").await;
        let id = MailId::random(&db.entropy);
        let failed = db.primary.write(async |tx| {
            let mail = NewMail {
                id,
                directory: a.directory,
                recipient: "ada@shop.example",
                kind: "recovery",
                body: b"link",
                give_up_at: tx.now(),
            };
            mail::add(tx, &mail).await?;
            Err::<(), _>(WriteError::NotFound { what: "user" })
        });
        assert!(failed.await.is_err());
        assert_eq!(db.primary.read(async |tx| mail::get(tx, id).await).await.unwrap(), None);
        let nowhere = DirectoryId::random(&db.entropy);
        assert_eq!(
            db.queue(nowhere, id, "a@b.example").await,
            Err(WriteError::NotFound { what: "directory" })
        );
    })
    .await;
}

#[tokio::test]
async fn a_directory_with_many_mails_does_not_hold_up_another_nor_failures_what_is_new() {
    on_each(async |db: Store| {
        let (a, b) = (db.tenant("shop").await, db.tenant("blog").await);
        let mut of_a = Vec::new();
        for n in 0..5 {
            of_a.push(db.mail(a.directory, &format!("u{n}@shop.example")).await);
            db.hand.advance(Duration::from_millis(1));
        }
        let of_b = db.mail(b.directory, "ada@blog.example").await;
        let first: Vec<_> = db.claim(1, 2).await.into_iter().map(|(id, _)| id).collect();
        assert_eq!(first, [of_a[0], of_b]);

        // What failed before steps behind what was never tried.
        let now = db.now();
        assert!(db.primary.write(async |tx| mail::put_off(tx, of_a[0], 1, now, "busy").await).await.unwrap());
        let next: Vec<_> = db.claim(1, 5).await.into_iter().map(|(id, _)| id).collect();
        assert_eq!(next, [of_a[1], of_a[2], of_a[3], of_a[4], of_a[0]]);
    })
    .await;
}

#[tokio::test]
async fn a_mail_put_off_waits_for_its_time_and_a_failed_one_for_an_operator() {
    on_each(async |db: Store| {
        let a = db.tenant("shop").await;
        let id = db.mail(a.directory, "ada@shop.example").await;
        db.claim(1, 1).await;
        let later = db.now().after(Duration::from_secs(10));
        let long = "x".repeat(10_000);
        assert!(db.primary.write(async |tx| mail::put_off(tx, id, 1, later, &long).await).await.unwrap());
        let row = db.primary.read(async |tx| mail::get(tx, id).await).await.unwrap().unwrap();
        assert_eq!((row.state, row.attempts, row.next_at), (MailState::Queued, 1, later));
        assert!(row.error.unwrap().len() < 1000);
        assert_eq!((db.claim(1, 1).await.len(), db.due(1).await), (0, Some(later)));

        db.hand.advance(Duration::from_secs(10));
        assert_eq!(db.claim(1, 1).await.len(), 1);
        assert!(db.primary.write(async |tx| mail::fail(tx, id, 1, "no such user").await).await.unwrap());
        assert_eq!((db.claim(2, 1).await.len(), db.due(2).await), (0, None));
        assert_eq!(db.primary.read(async |tx| mail::counts(tx).await).await.unwrap(), (0, 1));

        let until = db.now().after(DAY);
        db.primary.write(async |tx| mail::retry(tx, id, until).await).await.unwrap();
        assert_eq!(db.claim(2, 1).await.len(), 1);
        // Somebody is at it: nothing to retry.
        let again = db.primary.write(async |tx| mail::retry(tx, id, until).await).await;
        assert!(matches!(again, Err(WriteError::NotFound { .. })));
    })
    .await;
}

#[tokio::test]
async fn mails_are_listed_in_pages_oldest_first() {
    on_each(async |db: Store| {
        let a = db.tenant("shop").await;
        let mut all = Vec::new();
        for n in 0..5 {
            all.push(db.mail(a.directory, &format!("u{n}@shop.example")).await);
            if n % 2 == 0 {
                db.hand.advance(Duration::from_secs(1)); // two of a moment, too
            }
        }
        db.claim(1, 1).await;
        db.primary.write(async |tx| mail::fail(tx, all[0], 1, "no").await).await.unwrap();
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = PageRequest { after, limit: 2 };
            let paged = db.primary.read(async |tx| mail::list(tx, None, &page).await).await.unwrap();
            seen.extend(paged.rows.iter().map(|row| row.id));
            after = paged.next;
            if after.is_none() {
                break;
            }
        }
        seen.sort();
        all.sort();
        assert_eq!(seen, all);
        let failed = Some(MailState::Failed);
        let page = PageRequest::first();
        let paged = db.primary.read(async |tx| mail::list(tx, failed, &page).await).await.unwrap();
        assert_eq!(paged.rows.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn the_queue_is_bounded_and_old_failures_are_forgotten() {
    on_each(async |db: Store| {
        let (a, b) = (db.tenant("shop").await, db.tenant("blog").await);
        let now = db.now();
        let many = db.primary.write(async |tx| {
            for n in 0..WAITING_OF_DIRECTORY_MAX {
                let id = MailId::random(tx.entropy());
                let to = format!("u{n}@shop.example");
                let (directory, body) = (a.directory, &b"link"[..]);
                let mail =
                    NewMail { id, directory, recipient: &to, kind: "invitation", body, give_up_at: now };
                assert_eq!(mail::add(tx, &mail).await?, Queued::Yes);
            }
            Ok::<_, WriteError>(())
        });
        many.await.unwrap();
        let id = MailId::random(&db.entropy);
        assert_eq!(db.queue(a.directory, id, "more@shop.example").await, Ok(Queued::Full));
        assert_eq!(db.queue(b.directory, id, "ada@blog.example").await, Ok(Queued::Yes));

        let claimed = db.primary.write(async |tx| mail::claim(tx, 1, FAILED_MAX + 5).await).await.unwrap();
        let fail = db.primary.write(async |tx| {
            for mail in &claimed {
                mail::fail(tx, mail.row.id, 1, "no").await?;
            }
            mail::forget_failed(tx).await
        });
        assert_eq!(fail.await.unwrap(), 5);
        assert_eq!(db.primary.read(async |tx| mail::counts(tx).await).await.unwrap().1, FAILED_MAX as u64);
        db.hand.advance(Duration::from_hours(8 * 24));
        db.primary.write(async |tx| mail::forget_failed(tx).await).await.unwrap();
        assert_eq!(db.primary.read(async |tx| mail::counts(tx).await).await.unwrap().1, 0);
    })
    .await;
}

#[tokio::test]
async fn r25_what_a_mail_says_is_sealed_and_opens_only_as_its_own() {
    use sqlx::Connection as _;
    let db = Store::sqlite().await;
    let a = db.tenant("shop").await;
    let one = db.mail(a.directory, "ada@shop.example").await;
    let two = db.mail(a.directory, "bob@shop.example").await;
    let file = std::fs::read(db.dir.path().join("primary.db-wal")).unwrap();
    assert!(!file.windows(8).any(|part| part == b"link for"), "the body is in the file");

    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(db.dir.path().join("primary.db"));
    let mut connection = sqlx::sqlite::SqliteConnection::connect_with(&options).await.unwrap();
    let swap = "UPDATE mails SET sealed = (SELECT sealed FROM mails WHERE recipient = 'bob@shop.example')
                WHERE recipient = 'ada@shop.example'";
    assert_eq!(sqlx::query(swap).execute(&mut connection).await.unwrap().rows_affected(), 1);
    connection.close().await.unwrap();
    assert_eq!(db.claim(1, 5).await, [(two, "link for bob@shop.example".to_owned())]);
    let row = db.primary.read(async |tx| mail::get(tx, one).await).await.unwrap().unwrap();
    assert_eq!(row.state, MailState::Failed, "opened with another's body");
}
