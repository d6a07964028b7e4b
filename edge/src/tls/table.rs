//! Finds the certificate for a name: an exact name before a wildcard.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use mezusphere_model::Timestamp;
use mezusphere_model::document::CertificateDoc;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tracing::warn;

use super::CertificateNames;
use super::names::parent;

/// Every public certificate this edge holds, by the names it answers for. Immutable; a change makes a new one.
#[derive(Clone, Debug, Default)]
pub struct CertificateTable {
    exact: HashMap<Box<str>, Entry>,
    /// By what follows `*.`.
    wildcard: HashMap<Box<str>, Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    /// `None` only in tables that tests make to ask about names.
    key: Option<Arc<CertifiedKey>>,
    names: Arc<CertificateNames>,
    not_after: Timestamp,
}

impl CertificateTable {
    /// The table of `documents`. One that cannot be used is logged and left out, and the names it would have
    /// answered for keep the certificate they have in `last_good` (R24).
    pub fn build(documents: &[CertificateDoc], last_good: &Self) -> Self {
        let mut table = Self::default();
        for document in documents {
            let names = Arc::new(CertificateNames::new(&document.names));
            match certified_key(document) {
                Ok(key) => {
                    table.add(&Entry { key: Some(Arc::new(key)), names, not_after: document.not_after });
                }
                Err(reason) => {
                    let first = document.names.first().map_or("", String::as_str);
                    warn!(certificate = first, reason, "A public certificate cannot be used");
                    table.keep(&names, last_good);
                }
            }
        }
        table
    }

    /// A table that knows names and holds no keys, to ask it what it covers.
    #[cfg(test)]
    pub(crate) fn covering(names: &[&str]) -> Self {
        let mut table = Self::default();
        let names = Arc::new(CertificateNames::new(names));
        table.add(&Entry { key: None, names, not_after: Timestamp::default() });
        table
    }

    /// Whether some certificate answers for `host`, which is lower-case.
    pub fn covers(&self, host: &str) -> bool {
        self.find(host).is_some()
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

    /// Adds an entry under each of its names; of two for one name the one that ends later stays.
    fn add(&mut self, entry: &Entry) {
        for name in entry.names.iter() {
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
    }

    fn keep(&mut self, names: &CertificateNames, from: &Self) {
        for name in names.iter() {
            let entry = match name.strip_prefix("*.") {
                Some(parent) => from.wildcard.get(parent),
                None => from.exact.get(name),
            };
            if let Some(entry) = entry {
                self.add(entry);
            }
        }
    }
}

/// Reads a certificate document; the text says what is wrong with it and holds nothing of the key.
fn certified_key(document: &CertificateDoc) -> Result<CertifiedKey, &'static str> {
    let chain = CertificateDer::pem_slice_iter(document.chain_pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| "the chain is not PEM")?;
    if chain.is_empty() {
        return Err("the chain is empty");
    }
    let key = PrivateKeyDer::from_pem_slice(document.key_pem.as_bytes()).map_err(|_| "the key is not PEM")?;
    let key = any_supported_type(&key).map_err(|_| "the key is of no supported type")?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(certified),
        Err(_) => Err("the key is not the certificate's"),
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
    pub fn replace(&self, documents: &[CertificateDoc]) {
        let table = CertificateTable::build(documents, &self.0.load());
        self.0.store(Arc::new(table));
    }
}

impl ResolvesServerCert for PublicCertificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name()?.trim_end_matches('.').to_ascii_lowercase();
        self.table().find(&name)?.key.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(names: &[&str], not_after: i64) -> CertificateDoc {
        let key = rcgen::KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let certificate =
            rcgen::CertificateParams::new(names.clone()).unwrap().self_signed(&key).unwrap();
        CertificateDoc {
            names,
            chain_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            not_after: Timestamp::from_seconds(not_after),
        }
    }

    fn leaf(table: &CertificateTable, host: &str) -> Option<CertificateDer<'static>> {
        table.find(host)?.key.as_ref()?.cert.first().cloned()
    }

    #[test]
    fn an_exact_name_wins_over_a_wildcard() {
        let (wild, exact) = (document(&["*.localhost"], 9), document(&["shop.localhost"], 1));
        let table = CertificateTable::build(&[wild, exact.clone()], &CertificateTable::default());
        let expected = CertificateDer::from_pem_slice(exact.chain_pem.as_bytes()).unwrap();
        assert_eq!(leaf(&table, "shop.localhost"), Some(expected));
        assert!(leaf(&table, "blog.localhost").is_some());
        assert_eq!(leaf(&table, "a.blog.localhost"), None);
        assert_eq!(leaf(&table, "localhost"), None);
    }

    #[test]
    fn of_two_certificates_for_a_name_the_later_end_wins() {
        let (old, new) = (document(&["a.example"], 1), document(&["a.example"], 2));
        let expected = CertificateDer::from_pem_slice(new.chain_pem.as_bytes()).unwrap();
        for documents in [[old.clone(), new.clone()], [new.clone(), old]] {
            let table = CertificateTable::build(&documents, &CertificateTable::default());
            assert_eq!(leaf(&table, "a.example").as_ref(), Some(&expected));
        }
    }

    #[test]
    fn r24_a_broken_document_leaves_the_last_good_certificate_in_place() {
        let good = document(&["a.example"], 1);
        let before = CertificateTable::build(std::slice::from_ref(&good), &CertificateTable::default());
        let mut wrong_key = document(&["a.example"], 2);
        wrong_key.key_pem = document(&["b.example"], 2).key_pem;
        let mut no_pem = document(&["a.example"], 2);
        no_pem.chain_pem = "not PEM".to_owned();
        for broken in [wrong_key, no_pem] {
            let after = CertificateTable::build(&[broken], &before);
            assert_eq!(leaf(&after, "a.example"), leaf(&before, "a.example"));
        }
    }
}
