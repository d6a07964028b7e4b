//! Which decoded values are still true: one flag per document, raised when the document changes.
//!
//! Whoever decodes documents takes their flags *first* and reads afterwards. A change after the read raises a flag
//! that is already held; a change before it is what was read. So a value whose flags are all down is
//! current, whatever the order in which threads ran.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dashmap::DashMap;
use mezusphere_model::document::{DocumentKey, Partition};
use mezusphere_model::id::{ApiKeyId, ProjectId, SignInId};
use mezusphere_model::identity::Subject;
use mezusphere_model::token::TokenHash;

/// Most flags at once: three for each of the 65 536 callers remembered, and room for those being decoded.
const FLAGS_MAX: usize = 4 * 65_536;

/// A document that decoded values depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Watched {
    /// A session.
    Session(TokenHash),
    /// An API key.
    ApiKey(ApiKeyId),
    /// A principal.
    Principal(ProjectId, Subject),
    /// The end of a sign-in.
    SignIn(ProjectId, SignInId),
}

impl Watched {
    /// What a document's place on the feed stands for; `None` for kinds that are not watched here.
    pub(crate) fn filed(partition: Partition, key: &DocumentKey) -> Option<Self> {
        let (kind, id) = key.as_str().split_once('/')?;
        match (kind, partition) {
            ("session", _) => token_hash(id).map(Self::Session),
            ("api-key", _) => id.parse().ok().map(Self::ApiKey),
            ("principal", Partition::Project(project)) => {
                id.parse().ok().map(|subject| Self::Principal(project, subject))
            }
            ("revocation", Partition::Project(project)) => {
                id.parse().ok().map(|sign_in| Self::SignIn(project, sign_in))
            }
            _ => None,
        }
    }
}

fn token_hash(text: &str) -> Option<TokenHash> {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).ok()?;
    bytes.try_into().ok().map(TokenHash::from_bytes)
}

/// Whether a document has changed since this flag was taken.
#[derive(Debug, Default)]
pub(crate) struct Flag(AtomicBool);

impl Flag {
    /// Whether it has.
    pub(crate) fn is_raised(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    fn raise(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// The flags of all documents that something depends on.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    flags: DashMap<Watched, Arc<Flag>>,
}

impl Watches {
    /// The flag of a document. Take it before the document is read.
    ///
    /// Beyond [`FLAGS_MAX`] the flag is born raised: what depends on it is read anew each time, never wrongly kept.
    pub(crate) fn watch(&self, what: Watched) -> Arc<Flag> {
        if let Some(flag) = self.flags.get(&what) {
            return Arc::clone(&flag);
        }
        if self.flags.len() >= FLAGS_MAX {
            return Arc::new(Flag(AtomicBool::new(true)));
        }
        Arc::clone(&self.flags.entry(what).or_default())
    }

    /// A document has changed.
    pub(crate) fn changed(&self, what: &Watched) {
        if let Some((_, flag)) = self.flags.remove(what) {
            flag.raise();
        }
    }

    /// Anything may have changed.
    pub(crate) fn all_changed(&self) {
        self.flags.retain(|_, flag| {
            flag.raise();
            false
        });
    }

    /// Forgets flags that nothing depends on any more.
    pub(crate) fn sweep(&self) {
        // A flag is handed out under its shard's lock, so a count of one cannot grow meanwhile.
        self.flags.retain(|_, flag| Arc::strong_count(flag) > 1);
    }

    /// How many there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.flags.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mezusphere_model::id::UserId;

    fn principal(n: u128) -> Watched {
        Watched::Principal(ProjectId::from_bits(1), Subject::User(UserId::from_bits(n)))
    }

    #[test]
    fn a_change_raises_the_flags_taken_before_it_and_none_taken_after() {
        let watches = Watches::default();
        let (before, other) = (watches.watch(principal(1)), watches.watch(principal(2)));
        watches.changed(&principal(1));
        assert!(before.is_raised());
        assert!(!other.is_raised());
        assert!(!watches.watch(principal(1)).is_raised());
        watches.all_changed();
        assert!(other.is_raised());
    }

    #[test]
    fn flags_that_nobody_holds_are_forgotten() {
        let watches = Watches::default();
        let held = watches.watch(principal(1));
        drop(watches.watch(principal(2)));
        watches.sweep();
        assert_eq!(watches.len(), 1);
        assert!(!held.is_raised());
    }

    #[test]
    fn a_documents_place_on_the_feed_is_understood() {
        let project = ProjectId::from_bits(9);
        let (in_project, hash) = (Partition::Project(project), TokenHash::from_bytes([7; 32]));
        let subject = Subject::User(UserId::from_bits(3));
        let sign_in = SignInId::from_bits(4);
        let rows = [
            (DocumentKey::session(&hash), Some(Watched::Session(hash))),
            (DocumentKey::api_key(ApiKeyId::from_bits(5)), Some(Watched::ApiKey(ApiKeyId::from_bits(5)))),
            (DocumentKey::principal(subject), Some(Watched::Principal(project, subject))),
            (DocumentKey::revocation(sign_in), Some(Watched::SignIn(project, sign_in))),
            (DocumentKey::platform(), None),
        ];
        for (key, watched) in rows {
            assert_eq!(Watched::filed(in_project, &key), watched, "{key:?}");
        }
    }
}
