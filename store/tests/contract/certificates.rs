//! Public certificates from an authority: wanted once, due in turn, with keys that open nowhere else and a time-line that
//! does not grow.

use std::time::Duration;

use mezusphere_model::Timestamp;
use mezusphere_store::primary::acme::{
    self, CertificateFacts, CertificatePem, CertificateState, EVENTS_MAX, LastError, NAMES_MAX,
    NewCertificate, TEXT_LEN_MAX,
};
use mezusphere_store::primary::{PageRequest, StoreError, WriteError, host};

use crate::on_each;
use crate::support::{Store, Tenant};

const CA: &str = "https://ca.example/directory";

fn of(tenant: &Tenant) -> NewCertificate {
    NewCertificate {
        names: vec![tenant.host.to_string()],
        owner: Some((tenant.project, tenant.host.clone())),
        directory: CA.to_owned(),
    }
}

fn own(name: &str) -> NewCertificate {
    NewCertificate { names: vec![name.to_owned()], owner: None, directory: CA.to_owned() }
}

fn facts(until: Timestamp) -> CertificateFacts {
    CertificateFacts {
        fingerprint: [7; 32],
        directory: CA.to_owned(),
        not_before: Timestamp::from_seconds(1),
        not_after: until,
        issued_at: Timestamp::from_seconds(2),
        renew_at: Timestamp::from_seconds(3),
        window: None,
        renewal_id: Some("aki.serial".to_owned()),
        ask_again_at: None,
    }
}

impl Store {
    async fn want(&self, new: &NewCertificate) -> Result<bool, WriteError> {
        self.primary.write(async |tx| acme::insert(tx, new).await).await
    }

    async fn due_certificates(&self) -> Vec<String> {
        let rows = self.primary.read(async |tx| acme::due(tx, 10).await).await.unwrap();
        rows.into_iter().map(|row| row.name).collect()
    }
}

#[tokio::test]
async fn a_certificate_is_wanted_once_and_goes_with_its_host() {
    on_each(async |db: Store| {
        let a = db.tenant("shop").await;
        assert_eq!(db.want(&of(&a)).await, Ok(true));
        assert_eq!(db.want(&of(&a)).await, Ok(false), "it stays as it is");
        let row = db.primary.read(async |tx| acme::of_project(tx, a.project).await).await.unwrap().remove(0);
        assert_eq!((row.state, row.attempts, row.next_at), (CertificateState::Waiting, 0, db.now()));
        let none = NewCertificate { names: Vec::new(), ..own("x") };
        let many = NewCertificate { names: vec!["a.example".to_owned(); NAMES_MAX + 1], ..own("x") };
        for bad in [none, many] {
            let why = db.want(&bad).await.unwrap_err();
            assert!(matches!(why, WriteError::Store(StoreError::TooLarge(_))), "{why}");
        }
        let stranger = mezusphere_model::Host::parse("nobody.example").unwrap();
        let homeless = NewCertificate { owner: Some((a.project, stranger)), ..own("nobody.example") };
        assert_eq!(db.want(&homeless).await, Err(WriteError::NotFound { what: "host" }));

        let name = a.host.to_string();
        db.primary.write(async |tx| acme::add_event(tx, &name, "order", "ordered").await).await.unwrap();
        db.primary.write(async |tx| host::delete(tx, a.project, &a.host).await).await.unwrap();
        let gone = async |tx: &mut _| {
            Ok::<_, StoreError>((acme::get(tx, &name).await?, acme::events(tx, &name).await?))
        };
        assert_eq!(db.primary.read(gone).await.unwrap(), (None, Vec::new()));
        let why = db.primary.write(async |tx| acme::update(tx, &row).await).await.unwrap_err();
        assert_eq!(why, WriteError::NotFound { what: "certificate" });
    })
    .await;
}

#[tokio::test]
async fn what_was_never_tried_comes_before_what_failed() {
    on_each(async |db: Store| {
        for name in ["a.example", "b.example", "c.example"] {
            db.want(&own(name)).await.unwrap();
        }
        let mut row = db.primary.read(async |tx| acme::get(tx, "a.example").await).await.unwrap().unwrap();
        row.attempts = 3;
        row.state = CertificateState::Failed;
        row.error = Some(LastError {
            at: db.now(),
            code: "acme.dns".to_owned(),
            text: "no address".to_owned(),
            hint: "add one".to_owned(),
        });
        row.certificate = Some(facts(db.now()));
        db.primary.write(async |tx| acme::update(tx, &row).await).await.unwrap();
        let again = db.primary.read(async |tx| acme::get(tx, "a.example").await).await.unwrap().unwrap();
        assert_eq!(again, row, "as it was written");
        assert_eq!(db.due_certificates().await, ["b.example", "c.example", "a.example"]);
        row.next_at = db.now().after(Duration::from_mins(5));
        db.primary.write(async |tx| acme::update(tx, &row).await).await.unwrap();
        assert_eq!(db.due_certificates().await, ["b.example", "c.example"]);
        db.primary.write(async |tx| acme::retry(tx, "a.example").await).await.unwrap();
        assert_eq!(db.due_certificates().await.len(), 3);
        let other = "https://other.example/directory";
        let moved = db.primary.write(async |tx| acme::move_to(tx, other).await).await.unwrap();
        let twice = db.primary.write(async |tx| acme::move_to(tx, other).await).await.unwrap();
        assert_eq!((moved, twice), (3, 0));
        let all = db.primary.read(async |tx| acme::list(tx, &PageRequest::first()).await).await.unwrap();
        assert!(all.rows.iter().all(|row| row.directory == other && row.attempts == 0));
    })
    .await;
}

#[tokio::test]
async fn what_ends_first_is_renewed_first_and_before_what_nobody_uses_yet() {
    on_each(async |db: Store| {
        let now = db.now();
        // A name, the project that it is of, and how many days its certificate is good for.
        let rows =
            [("new", true, None), ("late", true, Some(20)), ("soon", true, Some(3)), ("own", false, None)];
        for (name, is_of_project, days) in rows {
            let tenant = db.tenant(name).await;
            let new = if is_of_project { of(&tenant) } else { own(name) };
            db.want(&new).await.unwrap();
            let name = &new.names[0];
            let mut row = db.primary.read(async |tx| acme::get(tx, name).await).await.unwrap().unwrap();
            row.certificate = days.map(|days| facts(now.after(Duration::from_hours(days * 24))));
            row.attempts = u32::from(days.is_some());
            db.primary.write(async |tx| acme::update(tx, &row).await).await.unwrap();
        }
        let due = db.due_certificates().await;
        let due: Vec<_> = due.iter().map(|name| name.split('.').next().unwrap()).collect();
        assert_eq!(due, ["own", "soon", "late", "new"]);
    })
    .await;
}

#[tokio::test]
async fn a_certificate_that_is_good_is_renewed_now_if_somebody_says_so() {
    on_each(async |db: Store| {
        db.want(&own("a.example")).await.unwrap();
        let mut row = db.primary.read(async |tx| acme::get(tx, "a.example").await).await.unwrap().unwrap();
        let later = db.now().after(Duration::from_hours(60 * 24));
        row.certificate = Some(CertificateFacts { renew_at: later, ..facts(later) });
        row.next_at = later;
        db.primary.write(async |tx| acme::update(tx, &row).await).await.unwrap();
        assert_eq!(db.due_certificates().await, Vec::<String>::new());
        db.primary.write(async |tx| acme::retry(tx, "a.example").await).await.unwrap();
        let row = db.primary.read(async |tx| acme::get(tx, "a.example").await).await.unwrap().unwrap();
        assert_eq!((row.next_at, row.certificate.unwrap().renew_at), (db.now(), db.now()));
        let why = db.primary.write(async |tx| acme::retry(tx, "b.example").await).await.unwrap_err();
        assert_eq!(why, WriteError::NotFound { what: "certificate" });
    })
    .await;
}

#[tokio::test]
async fn r20_keys_of_orders_and_certificates_open_only_in_their_own_place() {
    on_each(async |db: Store| {
        for name in ["a.example", "b.example"] {
            db.want(&own(name)).await.unwrap();
            let pem = CertificatePem { chain_pem: "chain".to_owned(), key_pem: format!("key of {name}") };
            db.primary
                .write(async |tx| {
                    acme::begin_order(tx, name, "https://ca.example/order/1", b"order key").await?;
                    acme::put_certificate(tx, name, &pem).await
                })
                .await
                .unwrap();
            let kept = db.primary.read(async |tx| acme::certificate(tx, name).await).await.unwrap();
            assert_eq!(kept, Some(pem.clone()));
            assert_eq!(format!("{kept:?}"), "Some(CertificatePem)");
            let key = db.primary.read(async |tx| acme::order_key(tx, name).await).await.unwrap();
            assert_eq!(key.as_deref().map(Vec::as_slice), Some(&b"order key"[..]));
            db.primary.write(async |tx| acme::end_order(tx, name).await).await.unwrap();
            let key = db.primary.read(async |tx| acme::order_key(tx, name).await).await.unwrap();
            assert_eq!(key, None);
            let kept = db.primary.read(async |tx| acme::certificate(tx, name).await).await.unwrap();
            assert_eq!(kept, Some(pem), "an order that ends takes no certificate away");
        }
    })
    .await;
}

#[tokio::test]
async fn a_time_line_keeps_the_newest() {
    on_each(async |db: Store| {
        db.want(&own("a.example")).await.unwrap();
        for number in 1..=EVENTS_MAX + 3 {
            let text = format!("{number} {}", "ä".repeat(TEXT_LEN_MAX));
            db.primary
                .write(async |tx| acme::add_event(tx, "a.example", "failed", &text).await)
                .await
                .unwrap();
        }
        let events = db.primary.read(async |tx| acme::events(tx, "a.example").await).await.unwrap();
        assert_eq!(events.len() as u64, EVENTS_MAX);
        assert_eq!((events[0].sequence, events[0].text.chars().count()), (4, TEXT_LEN_MAX));
        assert_eq!(events.last().unwrap().sequence, EVENTS_MAX + 3);
    })
    .await;
}

#[tokio::test]
async fn r22_a_tenant_sees_its_own_certificates_alone() {
    on_each(async |db: Store| {
        let (a, b) = (db.tenant("shop").await, db.tenant("blog").await);
        db.want(&of(&a)).await.unwrap();
        db.want(&own("console.example")).await.unwrap();
        let seen = db.primary.read(async |tx| acme::of_project(tx, b.project).await).await.unwrap();
        assert_eq!(seen, []);
        let own = db.primary.read(async |tx| acme::of_installation(tx).await).await.unwrap();
        assert_eq!(own.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), ["console.example"]);
    })
    .await;
}
