//! Finds the certificate for a name: an exact name before a wildcard.
//!
//! What there is changes with documents and with time: one may begin later than its document comes, and one that has ended
//! gives way to a wildcard that has not. So a table says when it is to be built again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use mezusphere_model::Timestamp;
use mezusphere_model::document::CertificateDoc;
use mezusphere_pki::PublicCertificate;
use mezusphere_pki::public::PublicCertificateError;
use tracing::warn;

use super::CertificateNames;
use super::names::parent;

/// Every public certificate this edge holds, by the names it answers for. Immutable; a change makes a new one.
#[derive(Clone, Debug, Default)]
pub struct CertificateTable {
    exact: HashMap<Box<str>, Entry>,
    /// By what follows `*.`.
    wildcard: HashMap<Box<str>, Entry>,
    /// When a certificate begins or has ended, so that the same documents make another table.
    turns_at: Option<Timestamp>,
}

/// A certificate is valid to the end of its last second, so it has ended one step of our clock later.
const TICK: Duration = Duration::from_micros(1);

#[derive(Clone, Debug)]
struct Entry {
    /// `None` only in tables that tests make to ask about names.
    certificate: Option<Arc<PublicCertificate>>,
    names: Arc<CertificateNames>,
    not_after: Timestamp,
}

impl CertificateTable {
    /// The table of `documents`. One that cannot be used is logged and left out, and the names it would have
    /// answered for keep the certificate they have in `last_good` (R24), unless that has ended and another has not.
    pub fn build(documents: &[CertificateDoc], last_good: &Self, now: Timestamp) -> Self {
        let mut table = Self::default();
        let mut unusable = Vec::new();
        for document in documents {
            match PublicCertificate::from_pem(&document.chain_pem, &document.key_pem, now) {
                Ok(certificate) => {
                    table.turns_at_or_before(certificate.not_after().after(TICK));
                    table.add(&Entry {
                        names: Arc::new(CertificateNames::new(certificate.names())),
                        not_after: certificate.not_after(),
                        certificate: Some(Arc::new(certificate)),
                    });
                }
                Err(reason) => {
                    let first = document.names.first().map_or("", String::as_str);
                    warn!(certificate = first, %reason, "A public certificate cannot be used");
                    if let PublicCertificateError::NotYetValid { not_before, .. } = reason {
                        table.turns_at_or_before(not_before);
                    }
                    unusable.push(CertificateNames::new(&document.names));
                }
            }
        }
        for names in unusable {
            table.keep(&names, last_good, now);
        }
        table
    }

    /// Whether the documents it was built from make another table by now.
    pub fn is_outdated(&self, now: Timestamp) -> bool {
        self.turns_at.is_some_and(|at| at <= now)
    }

    fn turns_at_or_before(&mut self, at: Timestamp) {
        self.turns_at = Some(self.turns_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// A table that knows names and holds no keys, to ask it what it covers.
    #[cfg(test)]
    pub(crate) fn covering(names: &[&str]) -> Self {
        let mut table = Self::default();
        let names = Arc::new(CertificateNames::new(names));
        table.add(&Entry { certificate: None, names, not_after: Timestamp::default() });
        table
    }

    /// Whether some certificate answers for `host`, which is lower-case.
    pub fn covers(&self, host: &str) -> bool {
        self.find(host).is_some()
    }

    /// The certificate that answers for `host`.
    pub fn certificate(&self, host: &str) -> Option<&Arc<PublicCertificate>> {
        self.find(host)?.certificate.as_ref()
    }

    /// The names of the certificate that answers for `host`.
    pub fn names(&self, host: &str) -> Option<&Arc<CertificateNames>> {
        self.find(host).map(|entry| &entry.names)
    }

    /// How many names are known.
    pub fn len(&self) -> usize {
        self.exact.len() + self.wildcard.len()
    }

    /// Whether there is no certificate at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn find(&self, host: &str) -> Option<&Entry> {
        self.exact.get(host).or_else(|| self.wildcard.get(parent(host)?))
    }

    /// Adds an entry under each of its names.
    fn add(&mut self, entry: &Entry) {
        for name in entry.names.iter() {
            self.put(name, entry);
        }
    }

    /// Adds an entry under a name; of two for one name the one that ends later stays.
    fn put(&mut self, name: &str, entry: &Entry) {
        let (map, name) = match name.strip_prefix("*.") {
            Some(parent) => (&mut self.wildcard, parent),
            None => (&mut self.exact, name),
        };
        match map.get_mut(name) {
            Some(there) if there.not_after >= entry.not_after => {}
            Some(there) => *there = entry.clone(),
            None => {
                map.insert(name.into(), entry.clone());
            }
        }
    }

    fn keep(&mut self, names: &CertificateNames, from: &Self, now: Timestamp) {
        for name in names.iter() {
            let (entry, is_covered) = match name.strip_prefix("*.") {
                Some(parent) => (from.wildcard.get(parent), self.wildcard.contains_key(parent)),
                None => (from.exact.get(name), self.covers(name)),
            };
            let Some(entry) = entry else { continue };
            let has_ended = entry.not_after < now;
            if !has_ended {
                self.turns_at_or_before(entry.not_after.after(TICK));
            }
            if !has_ended || !is_covered {
                self.put(name, entry);
            }
        }
    }
}

/// The certificates in use, for TLS handshakes and for the decision that precedes them. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct PublicCertificates(Arc<ArcSwap<CertificateTable>>);

impl PublicCertificates {
    /// The table in use.
    pub fn table(&self) -> arc_swap::Guard<Arc<CertificateTable>> {
        self.0.load()
    }

    /// Uses `documents` for handshakes from now on; handshakes under way end as they began.
    pub fn replace(&self, documents: &[CertificateDoc], now: Timestamp) {
        let table = CertificateTable::build(documents, &self.0.load(), now);
        self.0.store(Arc::new(table));
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

    fn document(names: &[&str], days: i64) -> CertificateDoc {
        let key = rcgen::KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut certificate = rcgen::CertificateParams::new(names.clone()).unwrap();
        let now = time::OffsetDateTime::from_unix_timestamp(NOW.as_seconds()).unwrap();
        certificate.not_before = now - time::Duration::days(1);
        certificate.not_after = now + time::Duration::days(days);
        let not_after = Timestamp::from_seconds(certificate.not_after.unix_timestamp());
        let certificate = certificate.self_signed(&key).unwrap();
        CertificateDoc { names, chain_pem: certificate.pem(), key_pem: key.serialize_pem(), not_after }
    }

    fn build(documents: &[CertificateDoc]) -> CertificateTable {
        CertificateTable::build(documents, &CertificateTable::default(), NOW)
    }

    fn leaf(table: &CertificateTable, host: &str) -> Option<CertificateDer<'static>> {
        table.certificate(host)?.certified_key().cert.first().cloned()
    }

    fn own_leaf(document: &CertificateDoc) -> Option<CertificateDer<'static>> {
        CertificateDer::from_pem_slice(document.chain_pem.as_bytes()).ok()
    }

    #[test]
    fn an_exact_name_wins_over_a_wildcard() {
        let (wild, exact) = (document(&["*.localhost"], 9), document(&["shop.localhost"], 1));
        let table = build(&[wild.clone(), exact.clone()]);
        assert_eq!(leaf(&table, "shop.localhost"), own_leaf(&exact));
        assert_eq!(leaf(&table, "blog.localhost"), own_leaf(&wild));
        assert_eq!(leaf(&table, "a.blog.localhost"), None);
        assert_eq!(leaf(&table, "localhost"), None);
    }

    #[test]
    fn of_two_certificates_for_a_name_the_later_end_wins() {
        let (old, new) = (document(&["a.example"], 1), document(&["a.example"], 2));
        for documents in [[old.clone(), new.clone()], [new.clone(), old]] {
            assert_eq!(leaf(&build(&documents), "a.example"), own_leaf(&new));
        }
    }

    #[test]
    fn a_certificate_is_used_from_when_it_begins_and_the_one_before_until_then() {
        let (old, new) = (document(&["a.example"], 1), document(&["a.example"], 9));
        // Ten hours before it begins.
        let early = NOW.before(Duration::from_hours(34));
        let before = CertificateTable::default();
        let table = CertificateTable::build(std::slice::from_ref(&new), &before, early);
        assert!(table.is_empty() && !table.is_outdated(early));
        let begins = NOW.before(Duration::from_hours(24));
        assert!(!table.is_outdated(begins.before(Duration::from_secs(1))) && table.is_outdated(begins));

        let in_use = build(std::slice::from_ref(&old));
        let table = CertificateTable::build(std::slice::from_ref(&new), &in_use, early);
        assert_eq!(leaf(&table, "a.example"), own_leaf(&old));
        assert!(table.is_outdated(begins));
        let table = CertificateTable::build(std::slice::from_ref(&new), &table, begins);
        assert_eq!(leaf(&table, "a.example"), own_leaf(&new));
    }

    #[test]
    fn one_that_has_ended_gives_way_to_a_wildcard_and_stays_where_there_is_none() {
        let ends_first = document(&["shop.localhost", "shop.example"], 1);
        let wild = document(&["*.localhost"], 9);
        let documents = [ends_first.clone(), wild.clone()];
        let table = build(&documents);
        assert_eq!(leaf(&table, "shop.localhost"), own_leaf(&ends_first));
        let end = ends_first.not_after;
        assert!(!table.is_outdated(end));
        let after = end.after(Duration::from_secs(1));
        assert!(table.is_outdated(after));
        let table = CertificateTable::build(&documents, &table, after);
        assert_eq!(leaf(&table, "shop.localhost"), own_leaf(&wild));
        assert_eq!(leaf(&table, "shop.example"), own_leaf(&ends_first), "better than none");
        assert!(!table.is_outdated(after), "and it is not asked for again and again");
    }

    #[test]
    fn r24_a_broken_document_leaves_the_last_good_certificate_in_place() {
        let good = document(&["a.example"], 1);
        let before = build(std::slice::from_ref(&good));
        let mut wrong_key = document(&["a.example"], 2);
        wrong_key.key_pem = document(&["b.example"], 2).key_pem;
        let mut no_pem = document(&["a.example"], 2);
        no_pem.chain_pem = "not PEM".to_owned();
        for broken in [wrong_key, no_pem] {
            let after = CertificateTable::build(&[broken], &before, NOW);
            assert_eq!(leaf(&after, "a.example"), own_leaf(&good));
        }
        assert!(CertificateTable::build(&[], &before, NOW).is_empty(), "a retracted one goes");
    }
}
