//! Public certificates from files: read, checked, told apart by whose key it is, the platform's or the applications', and watched:
//! whoever renews them puts the new ones in the old ones' place.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use mezusphere_model::document::{CertificateDoc, Partition};
use mezusphere_model::platform::PlatformHost;
use mezusphere_model::{Platform, Timestamp};
use mezusphere_pki::PublicCertificate as Verified;
use mezusphere_pki::public::covers;
use tokio_util::sync::CancellationToken;

use crate::certificate::{PublicCertificates, ensure_platform};
use crate::config::{CertificateFiles, ControlConfig};
use crate::{OpenError, Shared};

/// Between two looks at the files: a renewal is no hurry, and a look is a few system calls.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Looks in a row that must fail before it is told: between a new chain and its new key a moment may pass.
const FAILURES_TOLD: u32 = 2;

/// What a certificate is and where it is published.
type Filed = (Partition, CertificateDoc);

/// Certificates from files, as they were when they could be used last.
pub(crate) struct WatchedFiles {
    files: Vec<CertificateFiles>,
    docs: ArcSwap<Vec<Filed>>,
    seen: Mutex<Seen>,
}

/// What the last look found.
#[derive(Debug, Default)]
struct Seen {
    /// How each file looked from outside.
    stamps: Vec<Option<Stamp>>,
    /// Looks in a row that failed.
    failures: u32,
    trouble: Option<Trouble>,
    /// What is in use is not published yet.
    is_new: bool,
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

/// Why the files of now are not used, while those before them are.
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
    /// Reads the files at the start, when there is nothing to fall back on.
    pub(crate) fn load(
        config: &ControlConfig,
        files: &[CertificateFiles],
        now: Timestamp,
    ) -> Result<Self, OpenError> {
        // Before they are read: what changes meanwhile is seen by the next look.
        let stamps = stamps(files);
        let docs = load_files(config, files, now)?;
        let seen = Seen { stamps, ..Seen::default() };
        Ok(Self { files: files.to_vec(), docs: ArcSwap::from_pointee(docs), seen: Mutex::new(seen) })
    }

    /// The certificates in use, with where each is published.
    pub(crate) fn docs(&self) -> Arc<Vec<Filed>> {
        self.docs.load_full()
    }

    /// Why the files of now are not used.
    pub(crate) fn trouble(&self) -> Option<Trouble> {
        self.seen().trouble.clone()
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks whether the files have changed, and takes them into use if they can be. Says whether what is in use waits to be
    /// published.
    fn look(&self, config: &ControlConfig, now: Timestamp) -> bool {
        let stamps = stamps(&self.files);
        let mut seen = self.seen();
        if seen.stamps == stamps && seen.failures == 0 {
            return seen.is_new;
        }
        match load_files(config, &self.files, now) {
            Ok(docs) => {
                if *self.docs.load_full() != docs {
                    let ends = docs.iter().map(|(_, doc)| doc.not_after).min().unwrap_or(now);
                    tracing::info!(until = %ends, "New certificates were read from the files");
                    self.docs.store(Arc::new(docs));
                    seen.is_new = true;
                } else if seen.trouble.is_some() {
                    tracing::info!("The certificate files can be used again");
                }
                (seen.failures, seen.trouble) = (0, None);
            }
            Err(why) => {
                seen.failures = seen.failures.saturating_add(1);
                if seen.failures >= FAILURES_TOLD {
                    let what = format!("{why}; the certificates before are still used");
                    if seen.trouble.as_ref().is_none_or(|known| known.what != what) {
                        tracing::error!(error = %why, "The certificate files cannot be used; those before are still used");
                        seen.trouble = Some(Trouble { since: now, what });
                    }
                }
            }
        }
        seen.stamps = stamps;
        seen.is_new
    }

    fn published(&self) {
        self.seen().is_new = false;
    }
}

fn stamps(files: &[CertificateFiles]) -> Vec<Option<Stamp>> {
    let paths = files.iter().flat_map(|file| [&file.chain, &file.key]);
    paths.map(|path| std::fs::metadata(path).ok().map(Stamp::from)).collect()
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

/// Reads the files; together they must be good for the platform's hosts. Says where each is published.
fn load_files(
    config: &ControlConfig,
    files: &[CertificateFiles],
    now: Timestamp,
) -> Result<Vec<Filed>, OpenError> {
    let mut docs = Vec::with_capacity(files.len());
    for CertificateFiles { chain, key } in files {
        let (chain_pem, key_pem) = (read(chain)?, read(key)?);
        let verified = Verified::from_pem(&chain_pem, &key_pem, now)
            .map_err(|why| OpenError::Certificate { chain: chain.clone(), key: key.clone(), why })?;
        let names = verified.names().to_vec();
        let partition = match platform_host(&config.platform, &names)? {
            None => Partition::Platform,
            Some(platform) => {
                if config.node_port_open
                    && let Some(application) =
                        names.iter().find(|name| is_application(&config.platform, name))
                {
                    let application = application.clone();
                    return Err(OpenError::CertificateShared { chain: chain.clone(), platform, application });
                }
                Partition::Control
            }
        };
        docs.push((partition, CertificateDoc { names, chain_pem, key_pem, not_after: verified.not_after() }));
    }
    for which in [PlatformHost::Console, PlatformHost::Login, PlatformHost::Connect] {
        let host = config.platform.host(which)?;
        if !docs.iter().any(|(_, doc)| covers(&doc.names, &host)) {
            let chains: Vec<_> = files.iter().map(|file| file.chain.display().to_string()).collect();
            let files = format!("the certificate in {}", chains.join(" and in "));
            return Err(OpenError::CertificateNames { files, missing: host.to_string() });
        }
    }
    Ok(docs)
}

fn read(path: &Path) -> Result<String, OpenError> {
    std::fs::read_to_string(path)
        .map_err(|source| OpenError::CertificateFile { path: path.to_owned(), source })
}

/// A platform host that these names cover.
fn platform_host(platform: &Platform, names: &[String]) -> Result<Option<String>, OpenError> {
    for which in [PlatformHost::Console, PlatformHost::Login, PlatformHost::Connect] {
        let host = platform.host(which)?;
        if covers(names, &host) {
            return Ok(Some(host.to_string()));
        }
    }
    Ok(None)
}

/// Whether a name in a certificate is for anything but the platform: an endpoint, or a domain of a customer's.
fn is_application(platform: &Platform, name: &str) -> bool {
    let below = |domain: &str| name.strip_suffix(domain).is_some_and(|front| front.ends_with('.'));
    let parent = name.strip_prefix("*.").unwrap_or(name);
    let hosts = [PlatformHost::Console, PlatformHost::Login, PlatformHost::Connect];
    if hosts.iter().any(|which| platform.host(*which).is_ok_and(|host| host.as_str() == name)) {
        return false;
    }
    let base = platform.base.as_str();
    let of_base = parent == base || below(base);
    let apps = platform.apps.as_str();
    let of_apps = name != apps && (parent == apps || below(apps));
    // One domain may lie within the other: the longer one is the one that is meant.
    match (of_base, of_apps) {
        (true, true) => apps.len() >= base.len(),
        (of_base, _) => !of_base,
    }
}

#[cfg(test)]
mod tests {
    use mezusphere_model::Host;

    use super::*;

    #[test]
    fn a_name_is_the_platforms_or_the_applications() {
        let rows = [
            ("mezu.example", "apps.example", "*.mezu.example", false),
            ("mezu.example", "apps.example", "mezu.example", false),
            ("mezu.example", "apps.example", "login.mezu.example", false),
            ("mezu.example", "apps.example", "*.apps.example", true),
            ("mezu.example", "apps.example", "www.shop.example", true),
            // The applications' domain within the platform's, and the other way round.
            ("example.com", "apps.example.com", "*.example.com", false),
            ("example.com", "apps.example.com", "*.apps.example.com", true),
            ("mezu.example.com", "example.com", "*.mezu.example.com", false),
            ("mezu.example.com", "example.com", "*.example.com", true),
            // One domain for both: its wildcard is good for endpoints and for the login host.
            ("example.com", "example.com", "*.example.com", true),
            ("example.com", "example.com", "login.example.com", false),
        ];
        for (base, apps, name, expected) in rows {
            let [base, apps] = [base, apps].map(|name| Host::parse(name).unwrap());
            let platform = Platform { base, apps, port: 443 };
            assert_eq!(is_application(&platform, name), expected, "{platform:?} {name}");
        }
    }
}
