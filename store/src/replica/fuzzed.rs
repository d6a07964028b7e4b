//! Drives what reads the replica's disk with any bytes: the whole of the fuzz target `replica_record`.

use mezusphere_model::Clock;
use mezusphere_model::document::{
    AcmeChallengeDoc, ApiKeyDoc, CertificateDoc, PlatformDoc, PrincipalDoc, RevocationDoc, TrustDoc,
};
use mezusphere_model::route::SiteDoc;
use mezusphere_model::seal::{Seal, UnsealError};
use mezusphere_model::session::SessionDoc;

use super::contact::Moment;
use super::read::decode;
use super::record::{self, Position};

/// Seals nothing, so that what is inside is reached.
struct Open;

impl Seal for Open {
    fn seal(&self, _: &str, secret: &[u8]) -> Vec<u8> {
        secret.to_vec()
    }

    fn open(&self, _: &str, sealed: &[u8]) -> Result<Vec<u8>, UnsealError> {
        Ok(sealed.to_vec())
    }
}

/// Reads `value` under `key` as each kind of record, as it is and as a payload whose check sum fits.
///
/// # Panics
/// If a reader does, or if what it read is not written as it was.
#[doc(hidden)]
pub fn check_record(key: &[u8], value: &[u8]) {
    check(key, value);
    check(key, &record::write(key, value));
    if let Some((_, document)) = record::parts_of_document_key(key)
        && let Ok(body) = std::str::from_utf8(value)
        && let record::Staged::New(staged) = record::stage(&Open, key, document.as_str(), body, None)
    {
        check(key, &staged);
        let same = record::stage(&Open, key, document.as_str(), body, Some(&staged));
        assert!(matches!(same, record::Staged::Same), "what was written is recognized");
    }
}

fn check(key: &[u8], value: &[u8]) {
    if let Some(partition) = record::partition_of_cursor_key(key) {
        assert_eq!(record::cursor_key(partition), key);
    }
    if let Ok(position) = Position::read(key, value) {
        assert_eq!(position.write(key), value);
    }
    if let Ok(partition) = record::read_index(key, value) {
        assert_eq!(record::write_index(key, partition), value);
    }
    let clock = Clock::new(|| std::time::UNIX_EPOCH);
    if let Ok(Some(moment)) = Moment::read(value, &clock) {
        assert!(Moment::read(&moment.write(&clock), &clock).is_ok());
    }
    let Some((partition, document)) = record::parts_of_document_key(key) else { return };
    assert_eq!(record::document_key(partition, document.as_str()), key);
    let read = record::read_document(&Open, key, document.as_str(), value, |body| {
        let read = [
            decode::<AcmeChallengeDoc>(&document, body).is_some(),
            decode::<ApiKeyDoc>(&document, body).is_some(),
            decode::<CertificateDoc>(&document, body).is_some(),
            decode::<PlatformDoc>(&document, body).is_some(),
            decode::<PrincipalDoc>(&document, body).is_some(),
            decode::<RevocationDoc>(&document, body).is_some(),
            decode::<SessionDoc>(&document, body).is_some(),
            decode::<SiteDoc>(&document, body).is_some(),
            decode::<TrustDoc>(&document, body).is_some(),
        ];
        read.contains(&true)
    });
    assert!(read.is_ok() || read == Err(record::BadRecord));
}
