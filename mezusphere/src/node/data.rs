//! The data directory: what lies where, and the master key that seals its secrets.
//!
//! ```text
//! <data>/               0700
//!   control/            the primary database
//!   replica/            the edge's copy; may be deleted, it is fetched anew
//!   master.key          0600, unless the key comes from elsewhere
//!   ca.pem              the root certificate, for clients that should trust it
//!   admin.sock          0600, while the server runs
//! ```

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use mezusphere_model::Entropy;
use mezusphere_model::id::ControlId;
use mezusphere_pki::seal::MasterKey;

use crate::failure::{Failure, Kind};

/// Name of a systemd credential that holds the master key (systemd.exec(5), `LoadCredential=`).
const CREDENTIAL: &str = "mezusphere-master-key";

/// Environment variable that holds the master key.
const VARIABLE: &str = "MEZUSPHERE_MASTER_KEY";

/// A server's data directory.
#[derive(Clone, Debug)]
pub(crate) struct DataDir(PathBuf);

impl DataDir {
    /// Makes the directory if it is missing, for its owner alone.
    pub(crate) fn open(path: PathBuf) -> Result<Self, Failure> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(|why| cannot("create", &path, &why))?;
        // One that was there may be open to others, and the master key and the admin socket lie in it.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700))
            .map_err(|why| cannot("close", &path, &why))?;
        Ok(Self(path))
    }

    /// Where the primary lives.
    pub(crate) fn control(&self) -> PathBuf {
        self.0.join("control")
    }

    /// Where the edge's replica lives.
    pub(crate) fn replica(&self) -> PathBuf {
        self.0.join("replica")
    }

    /// Where the root certificate is written for clients.
    pub(crate) fn roots(&self) -> PathBuf {
        self.0.join("ca.pem")
    }

    /// What a split edge keeps of its membership.
    pub(crate) fn membership(&self) -> PathBuf {
        self.0.join("edge.json")
    }

    /// The id of the control node with this data directory; drawn at its first start.
    pub(crate) fn control_id(&self, entropy: &Entropy) -> Result<ControlId, Failure> {
        let path = self.0.join("control.id");
        match fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().map_err(|_| {
                Failure::new(Kind::Files, format!("{} holds no control node's id", path.display()))
                    .next("restore it from a backup, or delete it: this node then counts as a new one")
            }),
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => {
                let id = ControlId::random(entropy);
                write_whole(&path, id.to_string().as_bytes(), 0o600)?;
                Ok(id)
            }
            Err(why) => Err(cannot("read", &path, &why)),
        }
    }

    /// Where admin commands connect.
    pub(crate) fn admin_socket(&self) -> PathBuf {
        self.0.join(crate::ADMIN_SOCKET)
    }

    /// Its path, for people.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The master key: from `file`, the environment or a systemd credential; else the data directory's own,
    /// made at the first start.
    pub(crate) fn master_key(&self, file: Option<&Path>, entropy: &Entropy) -> Result<MasterKey, Failure> {
        if let Some(file) = file {
            return read_key(file);
        }
        if let Ok(text) = std::env::var(VARIABLE) {
            return parse_key(text.as_bytes(), VARIABLE);
        }
        if let Some(dir) = std::env::var_os("CREDENTIALS_DIRECTORY") {
            let credential = Path::new(&dir).join(CREDENTIAL);
            if credential.exists() {
                return read_key(&credential);
            }
        }
        let own = self.0.join("master.key");
        if own.exists() {
            return read_key(&own);
        }
        if self.control().exists() || self.membership().exists() {
            // A new key could open nothing of what is there.
            return Err(Failure::new(
                Kind::Files,
                format!("{} is missing, and the data there is sealed", own.display()),
            )
            .next(format!(
                "restore it from a backup, or give the key with --master-key-file or {VARIABLE}"
            )));
        }
        let key = MasterKey::generate(entropy);
        write_whole(&own, key.reveal().as_bytes(), 0o600)?;
        Ok(key)
    }
}

fn read_key(path: &Path) -> Result<MasterKey, Failure> {
    let content = fs::read(path).map_err(|why| cannot("read", path, &why))?;
    parse_key(&content, &path.display().to_string())
}

fn parse_key(content: &[u8], from: &str) -> Result<MasterKey, Failure> {
    MasterKey::parse(content).map_err(|why| {
        Failure::new(Kind::Files, format!("{from} is no master key: {why}"))
            .next("give the key this data was sealed with; without it nothing there can be opened")
    })
}

/// Writes a file that is whole or absent, whatever happens: beside it first, then renamed.
pub(crate) fn write_whole(path: &Path, content: &[u8], mode: u32) -> Result<(), Failure> {
    let fresh = path.with_extension("new");
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&fresh)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&fresh, path)?;
        // The rename itself must survive a power loss.
        path.parent().map_or(Ok(()), |dir| fs::File::open(dir)?.sync_all())
    };
    write().map_err(|why| cannot("write", path, &why))
}

fn cannot(verb: &str, path: &Path, why: &std::io::Error) -> Failure {
    Failure::new(Kind::Files, format!("cannot {verb} {}: {why}", path.display()))
        .next("choose another directory with --data, or give this one to the user the server runs as")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> (tempfile::TempDir, DataDir) {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path().join("data")).unwrap();
        (dir, data)
    }

    #[test]
    fn the_master_key_is_made_once_for_its_owner_alone() {
        let (_dir, data) = fresh();
        let entropy = Entropy::counting();
        let first = data.master_key(None, &entropy).unwrap();
        assert_eq!(data.master_key(None, &entropy).unwrap().id(), first.id());
        let mode = fs::metadata(data.path().join("master.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_lost_master_key_is_never_replaced_under_sealed_data() {
        let (_dir, data) = fresh();
        let entropy = Entropy::counting();
        data.master_key(None, &entropy).unwrap();
        fs::create_dir(data.control()).unwrap();
        fs::remove_file(data.path().join("master.key")).unwrap();
        assert_eq!(data.master_key(None, &entropy).unwrap_err().kind, Kind::Files);
    }
}
