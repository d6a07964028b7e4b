//! A new master key: everything that is sealed is sealed anew in steps, whatever happens in between.

use mezusphere_model::document::{CertificateDoc, Document, Partition};
use mezusphere_model::id::MailId;
use mezusphere_store::primary::acme::{CertificatePem, NewCertificate};
use mezusphere_store::primary::mail::NewMail;
use mezusphere_store::primary::reseal::{Position, STEP_MAX, Step};
use mezusphere_store::primary::secret::SecretState;
use mezusphere_store::primary::{StoreError, acme, mail, reseal, secret};

use crate::on_each;
use crate::support::{Store, Tenant, write};

/// Certificates on the feed, each published twice: more entries than fit into one step, old ones among them.
const CERTIFICATES: usize = 60;

/// Secrets, mails, entries of the feed, and two keys of one ACME certificate.
const SEALED: usize = 2 + 3 + 2 * CERTIFICATES + 2;

impl Store {
    /// Something in every column of sealed values.
    async fn fill(&self) -> Tenant {
        let tenant = self.tenant("shop").await;
        write(&self.primary, async |tx| {
            secret::add(tx, "assertion", SecretState::Current, b"assertion key").await?;
            secret::add(tx, "pepper", SecretState::Current, b"pepper").await?;
            Ok(())
        })
        .await
        .unwrap();
        for n in 0..3 {
            let id = MailId::random(&self.entropy);
            let (recipient, give_up_at) = (format!("{n}@shop.example"), self.now());
            let mail = NewMail {
                id,
                directory: tenant.directory,
                recipient: &recipient,
                kind: "recovery",
                body: b"a link",
                give_up_at,
            };
            self.primary.write(async |tx| mail::add(tx, &mail).await).await.unwrap();
        }
        for round in 0..2 {
            write(&self.primary, async |tx| {
                for n in 0..CERTIFICATES {
                    let doc = CertificateDoc {
                        names: vec![format!("{n}.localhost")],
                        chain_pem: String::new(),
                        key_pem: format!("key {round}"),
                        not_after: self.now(),
                    };
                    tx.publish(Partition::Platform, &Document::Certificate(doc))?;
                }
                Ok(())
            })
            .await
            .unwrap();
        }
        write(&self.primary, async |tx| {
            let names = vec!["shop.example".to_owned()];
            acme::insert(
                tx,
                &NewCertificate { names, owner: None, directory: "https://ca.example".to_owned() },
            )
            .await?;
            acme::begin_order(tx, "shop.example", "https://ca.example/order/1", b"order key").await?;
            let pem = CertificatePem { chain_pem: "chain".to_owned(), key_pem: "key".to_owned() };
            acme::put_certificate(tx, "shop.example", &pem).await
        })
        .await
        .unwrap();
        tenant
    }

    /// What opens and what does not, of everything that is sealed.
    async fn opened(&self) -> (usize, usize) {
        let (mut from, mut found) = (Some(Position::default()), (0, 0));
        while let Some(at) = from {
            let done = self.primary.read(async |tx| reseal::check(tx, &at).await).await.unwrap();
            found = (found.0 + done.good, found.1 + done.lost);
            from = done.next;
        }
        found
    }

    async fn step(&self, outdated: &[u8], at: &Position) -> Step {
        self.primary.write(async |tx| reseal::step(tx, outdated, at).await).await.unwrap()
    }

    /// All steps; says how many values were sealed anew and how many are lost.
    async fn reseal(&self, outdated: &[u8]) -> (usize, usize) {
        let (mut from, mut done) = (Some(Position::default()), (0, 0));
        while let Some(at) = from {
            let step = self.step(outdated, &at).await;
            assert!(step.good + step.lost <= STEP_MAX);
            done = (done.0 + step.good, done.1 + step.lost);
            from = step.next;
        }
        done
    }

    async fn left(&self, outdated: &[u8]) -> u64 {
        self.primary.read(async |tx| reseal::left(tx, outdated).await).await.unwrap()
    }
}

#[tokio::test]
async fn r20_after_sealing_anew_the_old_key_opens_nothing_and_the_new_one_everything() {
    on_each(async |db: Store| {
        db.fill().await;
        assert_eq!(db.opened().await, (SEALED, 0));
        db.ring.set(&[2, 1]);
        assert_eq!(db.left(&[1]).await, SEALED as u64);

        // Killed after two steps: what was done is done, and what was not is found.
        let first = db.step(&[1], &Position::default()).await;
        let second = db.step(&[1], &first.next.unwrap()).await;
        assert!(second.next.is_some());
        let done = first.good + second.good;
        assert_eq!(db.left(&[1]).await, (SEALED - done) as u64);
        assert_eq!(db.opened().await, (SEALED, 0), "half-way everything opens with the two keys");
        db.ring.set(&[1]);
        assert_eq!(db.opened().await, (SEALED - done, done), "what is done is not the old key's any more");

        db.ring.set(&[2, 1]);
        assert_eq!(db.reseal(&[1]).await, (SEALED - done, 0));
        assert_eq!((db.left(&[1]).await, db.left(&[2]).await), (0, SEALED as u64));
        db.ring.set(&[1]);
        assert_eq!(db.opened().await, (0, SEALED), "the old key opens nothing");
        db.ring.set(&[2]);
        assert_eq!(db.opened().await, (SEALED, 0), "the new one everything");
        let key = db.primary.read(async |tx| secret::current(tx, "assertion").await).await.unwrap().unwrap();
        assert_eq!(key.value.as_slice(), b"assertion key");
        let order = db.primary.read(async |tx| acme::order_key(tx, "shop.example").await).await.unwrap();
        assert_eq!(order.unwrap().as_slice(), b"order key");
        let mails = db.primary.write(async |tx| mail::claim(tx, 1, 10).await).await.unwrap();
        assert!(mails.len() == 3 && mails.iter().all(|mail| mail.body.as_slice() == b"a link"));
    })
    .await;
}

#[tokio::test]
async fn r20_what_no_key_opens_is_counted_and_holds_up_nothing() {
    on_each(async |db: Store| {
        db.fill().await;
        // A key that is gone for good.
        db.ring.set(&[7]);
        write(&db.primary, async |tx| secret::add(tx, "form", SecretState::Current, b"lost").await.map(drop))
            .await
            .unwrap();
        db.ring.set(&[2, 1]);
        assert_eq!(db.reseal(&[1]).await, (SEALED, 0));
        assert_eq!(db.reseal(&[7]).await, (0, 1));
        assert_eq!(db.opened().await, (SEALED, 1));
    })
    .await;
}

#[tokio::test]
async fn a_value_that_was_changed_in_between_is_not_put_back() {
    on_each(async |db: Store| {
        db.fill().await;
        db.ring.set(&[2, 1]);
        let steps = db
            .primary
            .write(async |tx| {
                secret::replace(tx, "pepper", 1, b"another form").await.map_err(|why| match why {
                    mezusphere_store::WriteError::Store(why) => why,
                    other => StoreError::Damaged(other.to_string()),
                })?;
                reseal::step(tx, &[1], &Position::default()).await
            })
            .await
            .unwrap();
        assert_eq!(steps.good, 1, "the other secret alone");
        let row = db.primary.read(async |tx| secret::current(tx, "pepper").await).await.unwrap().unwrap();
        assert_eq!((row.version, row.value.as_slice()), (1, b"another form".as_slice()));
    })
    .await;
}
