//! Public certificates from files, watched: whoever renews them puts the new ones in the old ones' place. Each is looked at for
//! itself: one that cannot be used keeps none of the others from being renewed. What is in them is [`read`]'s.

mod read;

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use mezusphere_model::Timestamp;
use tokio_util::sync::CancellationToken;

use self::read::{Filed, covers_platform, load_pair};
use crate::certificate::{PublicCertificates, ensure_platform};
use crate::config::{CertificateFiles, ControlConfig};
use crate::{OpenError, Shared};

/// Between two looks at the files: a renewal is no hurry, and a look is a few system calls.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Looks in a row that must fail before it is told: between a new chain and its new key a moment may pass.
const FAILURES_TOLD: u32 = 2;

/// Certificates from files, each as it was when it could be used last.
pub(crate) struct WatchedFiles {
    watched: Mutex<Watched>,
    docs: ArcSwap<Vec<Filed>>,
}

/// What the last look found.
struct Watched {
    pairs: Vec<Pair>,
    /// What is in use is not published yet.
    is_new: bool,
}

/// A chain with its key. What is wrong with one pair changes nothing about the others.
struct Pair {
    files: CertificateFiles,
    /// How chain and key looked from outside.
    stamps: [Option<Stamp>; 2],
    /// What is in use of it; `None`: it could not be used since the start.
    filed: Option<Filed>,
    /// Looks in a row that failed.
    failures: u32,
    trouble: Option<Trouble>,
}

/// A file from outside: another one is another inode, a changed one has another time or length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl From<Metadata> for Stamp {
    fn from(of: Metadata) -> Self {
        Self {
            device: of.dev(),
            inode: of.ino(),
            len: of.len(),
            modified: (of.mtime(), of.mtime_nsec()),
            changed: (of.ctime(), of.ctime_nsec()),
        }
    }
}

/// Why the files of now are not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// Since when.
    pub(crate) since: Timestamp,
    /// What is wrong, one sentence.
    pub(crate) what: String,
}

impl Trouble {
    /// Its stable code.
    pub(crate) const CODE: &'static str = "certificate.files";
    /// What to do.
    pub(crate) const NEXT: &'static str = "put a matching chain and key in place; they are looked at every 10 s, or now: mezusphere certificate retry";
}

impl WatchedFiles {
    /// Reads the files at the start, when there is nothing to fall back on: what cannot be used is left out, unless the platform's
    /// hosts need it.
    pub(crate) fn load(
        config: &ControlConfig,
        files: &[CertificateFiles],
        now: Timestamp,
    ) -> Result<Self, OpenError> {
        let mut failed = None;
        let mut pairs = Vec::with_capacity(files.len());
        for files in files {
            // Before they are read: what changes meanwhile is seen by the next look.
            let stamps = stamps(files);
            let mut pair = Pair { files: files.clone(), stamps, filed: None, failures: 0, trouble: None };
            match load_pair(config, files, now) {
                Ok(found) => pair.filed = Some(found),
                Err(why) => {
                    pair.failures = FAILURES_TOLD;
                    pair.trouble = Some(Trouble { since: now, what: format!("{why}; it is not used") });
                    failed.get_or_insert(why);
                }
            }
            pairs.push(pair);
        }
        let docs: Vec<Filed> = pairs.iter().filter_map(|pair| pair.filed.clone()).collect();
        if let Err(uncovered) = covers_platform(config, files, &docs.iter().collect::<Vec<_>>()) {
            return Err(failed.unwrap_or(uncovered));
        }
        for trouble in pairs.iter().filter_map(|pair| pair.trouble.as_ref()) {
            tracing::error!(error = %trouble.what, "A certificate file cannot be used; the others are");
        }
        let watched = Mutex::new(Watched { pairs, is_new: false });
        Ok(Self { watched, docs: ArcSwap::from_pointee(docs) })
    }

    /// The certificates in use, with where each is published.
    pub(crate) fn docs(&self) -> Arc<Vec<Filed>> {
        self.docs.load_full()
    }

    /// Why the files of now are not used for the certificate that is filed under this name. What never could be used has no
    /// certificate of its own to tell it with: the first one tells it.
    pub(crate) fn trouble_of(&self, filed_as: &str) -> Option<Trouble> {
        let watched = self.watched();
        let name = |pair: &Pair| pair.filed.as_ref().and_then(|(_, doc)| doc.names.first().cloned());
        let names: Vec<_> = watched.pairs.iter().map(name).collect();
        let is_first = names.iter().flatten().next().is_some_and(|first| first == filed_as);
        let tells = |name: &Option<String>| name.as_ref().map_or(is_first, |name| name == filed_as);
        let mut told = watched.pairs.iter().zip(&names).filter(|(_, name)| tells(name));
        told.find_map(|(pair, _)| pair.trouble.clone())
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks whether the files have changed, and takes into use what can be. Says whether what is in use waits to be published.
    fn look(&self, config: &ControlConfig, now: Timestamp) -> bool {
        let mut watched = self.watched();
        let files: Vec<_> = watched.pairs.iter().map(|pair| pair.files.clone()).collect();
        let mut in_use: Vec<_> = watched.pairs.iter().map(|pair| pair.filed.clone()).collect();
        let mut is_changed = false;
        for (at, pair) in watched.pairs.iter_mut().enumerate() {
            let stamps = stamps(&pair.files);
            if pair.stamps == stamps && pair.failures == 0 {
                continue;
            }
            pair.stamps = stamps;
            let found = load_pair(config, &pair.files, now).and_then(|new| {
                let others = in_use.iter().enumerate().filter(|(other, _)| *other != at);
                let all: Vec<_> = others.filter_map(|(_, other)| other.as_ref()).chain([&new]).collect();
                covers_platform(config, &files, &all)?;
                Ok(new)
            });
            match found {
                Ok(new) => {
                    is_changed |= pair.take(new);
                    if let Some(place) = in_use.get_mut(at) {
                        place.clone_from(&pair.filed);
                    }
                }
                Err(why) => pair.fail(&why, now),
            }
        }
        if is_changed {
            self.docs.store(Arc::new(in_use.into_iter().flatten().collect()));
            watched.is_new = true;
        }
        watched.is_new
    }

    fn published(&self) {
        self.watched().is_new = false;
    }
}

impl Pair {
    /// Says whether it is another one than before.
    fn take(&mut self, new: Filed) -> bool {
        let chain = self.files.chain.display();
        let is_another = self.filed.as_ref() != Some(&new);
        if is_another {
            tracing::info!(%chain, until = %new.1.not_after, "A new certificate was read from its files");
            self.filed = Some(new);
        } else if self.trouble.is_some() {
            tracing::info!(%chain, "A certificate file can be used again");
        }
        (self.failures, self.trouble) = (0, None);
        is_another
    }

    fn fail(&mut self, why: &OpenError, now: Timestamp) {
        self.failures = self.failures.saturating_add(1);
        if self.failures < FAILURES_TOLD {
            return;
        }
        let meanwhile =
            if self.filed.is_some() { "the certificate before is still used" } else { "it is not used" };
        let what = format!("{why}; {meanwhile}");
        if self.trouble.as_ref().is_none_or(|known| known.what != what) {
            tracing::error!(error = %why, "A certificate file cannot be used; {meanwhile}");
            self.trouble = Some(Trouble { since: now, what });
        }
    }
}

fn stamps(CertificateFiles { chain, key }: &CertificateFiles) -> [Option<Stamp>; 2] {
    [chain, key].map(|path| std::fs::metadata(path).ok().map(Stamp::from))
}

/// Looks until `cancel`, if there are files to look at.
pub(crate) async fn run(shared: Arc<Shared>, cancel: CancellationToken) {
    if !matches!(shared.certificates, PublicCertificates::Files(_)) {
        return;
    }
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        if let Err(why) = shared.look_at_files().await {
            tracing::error!(error = %why, "New certificates from files could not be published; they are tried again");
        }
    }
}

impl Shared {
    /// Reads certificate files again if they have changed, and publishes what is new in them.
    pub(crate) async fn look_at_files(&self) -> Result<(), OpenError> {
        let PublicCertificates::Files(files) = &self.certificates else { return Ok(()) };
        if !files.look(&self.config, self.clock.now()) {
            return Ok(());
        }
        // Every control node has files of its own, so there is no lease to wait for.
        self.primary.write(async |tx| ensure_platform(tx, self).await).await?;
        files.published();
        // Which hosts need a certificate of their own may have changed.
        self.drift.notify_one();
        Ok(())
    }
}
