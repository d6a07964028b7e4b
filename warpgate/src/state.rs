//! What survives a restart, if a state directory is given: certificate, key and the last bundle, mode 0600.
//!
//! With it a warpgate reconnects while control is away, and stays the same instance, also when its certificate has ended
//! meanwhile. Without it everything is in memory only. One process at a time uses a directory: two would push one another
//! off every edge.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use mezusphere_model::bundle::SignedBundle;
use mezusphere_model::id::{EnvironmentId, WarpgateId};
use mezusphere_model::{Clock, Timestamp};
use mezusphere_pki::{NodeIdentity, NodeKey, Role, Trust, TrustDomain};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::bundle::{Bundles, Rejected};
use crate::key::reason;

const FILE: &str = "identity.json";

/// Locked by the process that uses the directory, for as long as it runs.
const LOCK: &str = "lock";

/// Form of the file; another one is ignored and written anew.
const VERSION: u32 = 1;

/// Largest file that is read, in octets: a bundle of 1 MiB with room.
const FILE_LEN_MAX: u64 = 2 * 1024 * 1024;

/// A directory for what survives a restart. Ours until the last clone is dropped.
#[derive(Clone, Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: Arc<File>,
}

/// What was kept.
pub struct Kept {
    /// Who this warpgate is.
    pub instance: WarpgateId,
    /// The certificate with its key.
    pub identity: NodeIdentity,
    environment: EnvironmentId,
    bundle: SignedBundle,
    /// The trust the bundle was verified with.
    trust: Trust,
    /// When it was verified.
    verified_at: Timestamp,
}

impl Kept {
    /// The bundle that was in force, and the trust that goes with it.
    ///
    /// # Errors
    /// It cannot be used by this version, or is damaged.
    pub fn bundles(&self, clock: Clock) -> Result<Bundles, Rejected> {
        Bundles::start(self.bundle.clone(), &self.trust, self.environment, self.verified_at, clock)
    }
}

/// What is found at the start.
pub enum Found {
    /// Nothing was kept.
    Nothing,
    /// All that is needed to connect.
    Kept(Box<Kept>),
    /// The same, but the certificate has ended: only a new one is of use.
    Ended(Box<Kept>),
}

/// Why a state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It cannot be made, or nothing can be written there.
    #[error("the state directory {} cannot be used: {}", .0.display(), reason(.1))]
    Unusable(PathBuf, #[source] io::Error),
    /// Another process has the identity that is kept there.
    #[error("the state directory {} is used by another warpgate that runs", .0.display())]
    InUse(PathBuf),
    /// Others could put a key of theirs in place of ours.
    #[error("the state directory {} can be changed by other users", .0.display())]
    Exposed(PathBuf),
}

#[derive(Serialize, Deserialize)]
struct Contents {
    version: u32,
    environment: EnvironmentId,
    instance: WarpgateId,
    chain_pem: String,
    key_pkcs8: String,
    trust_domain: String,
    /// DER in base64.
    roots: Vec<String>,
    bundle: SignedBundle,
    verified_at: Timestamp,
}

impl StateDir {
    /// Makes the directory if it is not there, and checks that a file can be written in it.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let unusable = |why| StateError::Unusable(path.to_owned(), why);
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(unusable)?;
        let mode = std::fs::metadata(path).map_err(unusable)?.permissions().mode();
        if mode & 0o022 != 0 {
            return Err(StateError::Exposed(path.to_owned()));
        }
        let trial = path.join(".trial");
        write_private(&trial, b"").map_err(unusable)?;
        std::fs::remove_file(&trial).map_err(unusable)?;
        let lock =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path.join(LOCK));
        let lock = lock.map_err(unusable)?;
        // A file system without locks is no reason to keep nothing.
        if let Err(TryLockError::WouldBlock) = lock.try_lock() {
            return Err(StateError::InUse(path.to_owned()));
        }
        Ok(Self { path: path.to_owned(), _lock: Arc::new(lock) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was kept for `environment`; `Err` says why it is left aside.
    pub fn load(&self, environment: EnvironmentId, now: Timestamp) -> Result<Found, String> {
        read(&self.path, environment, now)
    }

    /// Keeps this state in place of what was there: whole or not at all.
    pub fn save(
        &self,
        environment: EnvironmentId,
        identity: &NodeIdentity,
        bundle: &SignedBundle,
        trust: &Trust,
        verified_at: Timestamp,
    ) -> Result<(), StateError> {
        let Role::Warpgate { id: instance, .. } = identity.name().role else {
            return Ok(());
        };
        let file = Contents {
            version: VERSION,
            environment,
            instance,
            chain_pem: identity.chain_pem(),
            key_pkcs8: BASE64.encode(identity.key().pkcs8_der()),
            trust_domain: trust.domain().to_string(),
            roots: trust.roots().iter().map(|root| BASE64.encode(root)).collect(),
            bundle: bundle.clone(),
            verified_at,
        };
        let unusable = |why| StateError::Unusable(self.path.clone(), why);
        let text = Zeroizing::new(serde_json::to_vec(&file).map_err(|why| unusable(why.into()))?);
        drop(Zeroizing::new(file.key_pkcs8));
        let (temporary, place) = (self.path.join(".identity.new"), self.path.join(FILE));
        write_private(&temporary, &text).map_err(unusable)?;
        std::fs::rename(&temporary, &place).map_err(unusable)?;
        File::open(&self.path).and_then(|directory| directory.sync_all()).map_err(unusable)
    }
}

/// What is kept in `directory` for `environment`, whoever uses it now; `Err` says why it is left aside.
pub fn read(directory: &Path, environment: EnvironmentId, now: Timestamp) -> Result<Found, String> {
    use io::Read as _;
    let mut text = Zeroizing::new(String::new());
    let file = match File::open(directory.join(FILE)) {
        Ok(file) => file,
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(why) => return Err(reason(&why)),
    };
    // A key that others could read is not this warpgate's alone any more.
    let mode = file.metadata().map_err(|why| reason(&why))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(format!("other users can read its key (mode {:03o})", mode & 0o777));
    }
    file.take(FILE_LEN_MAX).read_to_string(&mut text).map_err(|why| reason(&why))?;
    let file: Contents =
        serde_json::from_str(&text).map_err(|_| "it is damaged or of another version".to_owned())?;
    if file.version != VERSION {
        return Err("it is of another version".to_owned());
    }
    if file.environment != environment {
        return Err("it is another environment's".to_owned());
    }
    let kept = Box::new(kept(file)?);
    Ok(if kept.identity.not_after() <= now { Found::Ended(kept) } else { Found::Kept(kept) })
}

fn kept(file: Contents) -> Result<Kept, String> {
    let damaged = |_| "it is damaged".to_owned();
    let text = Zeroizing::new(file.key_pkcs8);
    let key = Zeroizing::new(BASE64.decode(text.as_bytes()).map_err(damaged)?);
    let key = NodeKey::from_pkcs8_der(&key).map_err(|why| why.to_string())?;
    let identity = NodeIdentity::from_pem(&file.chain_pem, key).map_err(|why| why.to_string())?;
    let mut roots = Vec::new();
    for root in &file.roots {
        roots.push(CertificateDer::from(BASE64.decode(root).map_err(damaged)?));
    }
    let domain = TrustDomain::parse(&file.trust_domain).map_err(|why| why.to_string())?;
    let trust = Trust::new(domain, roots, []).map_err(|why| why.to_string())?;
    let Contents { instance, environment, bundle, verified_at, .. } = file;
    Ok(Kept { instance, identity, environment, bundle, trust, verified_at })
}

/// Writes a file that only its owner can read, and waits until the disk has it.
fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    // The mode above counts only for a new file.
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    file.write_all(bytes)?;
    file.sync_all()
}
