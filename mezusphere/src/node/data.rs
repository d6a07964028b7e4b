//! The data directory: what lies where, and the master key that seals its secrets.
//!
//! ```text
//! <data>/               0700
//!   control/            the primary database
//!   replica/            the edge's copy; may be deleted, it is fetched anew
//!   master.key          0600, unless the key comes from elsewhere
//!   master.key.old      the one before, until nothing is left that it sealed
//!   ca.pem              the root certificates, for clients that should trust them
//!   issuing.csr         what a root kept elsewhere is to sign, before the first start under it
//!   admin.sock          0600, while the server runs
//! ```

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use mezusphere_model::Entropy;
use mezusphere_model::id::ControlId;
use mezusphere_pki::seal::MasterKey;

use super::config::KeyFiles;
use crate::failure::{Failure, Kind};

/// Name of a systemd credential that holds the master key (systemd.exec(5), `LoadCredential=`).
const CREDENTIAL: &str = "mezusphere-master-key";

/// Environment variable that holds the master key.
const VARIABLE: &str = "MEZUSPHERE_MASTER_KEY";

/// Name of the data directory's own master key.
const OWN_KEY: &str = "master.key";

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

    /// Where the request is written that a root kept elsewhere is to sign.
    pub(crate) fn issuing_request(&self) -> PathBuf {
        self.0.join("issuing.csr")
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
            Err(why) if why.kind() == io::ErrorKind::NotFound => {
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

    /// The master keys: the one in use from a file, the environment or a systemd credential; else the data directory's own,
    /// made at the first start, and made anew where the one before was put aside as `master.key.old`.
    pub(crate) fn master_keys(&self, files: &KeyFiles, entropy: &Entropy) -> Result<MasterKeys, Failure> {
        let read = |paths: &[PathBuf], flag| -> Result<Vec<_>, Failure> {
            paths.iter().map(|path| given_key(path, flag)).collect()
        };
        let given_old = read(&files.old, "--old-master-key-file")?;
        let coming = read(&files.next, "--next-master-key-file")?;
        let mut retired = given_old.clone();
        let set_aside = self.old_key();
        let is_set_aside = set_aside.exists();
        if is_set_aside {
            retired.push(read_key(&set_aside)?);
        }
        let (current, from) = match outside(files.master.as_deref())? {
            Some((key, from)) => (key, Some(from)),
            // An old key that is given may be any: it does not say that the one that is missing was put aside.
            None => (self.own_key(is_set_aside, entropy)?, None),
        };
        Ok(MasterKeys { current, from, retired, given_old: given_old.len(), coming })
    }

    fn own_key(&self, is_set_aside: bool, entropy: &Entropy) -> Result<MasterKey, Failure> {
        let own = self.0.join(OWN_KEY);
        if own.exists() {
            return read_key(&own);
        }
        if !is_set_aside && (self.control().exists() || self.membership().exists()) {
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

    fn old_key(&self) -> PathBuf {
        self.0.join(format!("{OWN_KEY}.old"))
    }

    /// Puts the data directory's own master key aside and makes another one. Cut short in between, the next start makes it.
    pub(crate) fn replace_own_key(&self, entropy: &Entropy) -> Result<MasterKey, Failure> {
        let (own, old) = (self.0.join(OWN_KEY), self.old_key());
        fs::rename(&own, &old).and_then(|()| sync(&self.0)).map_err(|why| cannot("rename", &own, &why))?;
        self.own_key(true, entropy)
    }

    /// Removes the key that was put aside: nothing is left that it sealed.
    pub(crate) fn forget_old_key(&self) -> Result<(), Failure> {
        let old = self.old_key();
        match fs::remove_file(&old) {
            Err(why) if why.kind() != io::ErrorKind::NotFound => Err(cannot("remove", &old, &why)),
            _ => sync(&self.0).map_err(|why| cannot("remove", &old, &why)),
        }
    }
}

/// The master keys of a node.
pub(crate) struct MasterKeys {
    /// The one in use.
    pub(crate) current: MasterKey,
    /// Where that one was given; `None`: it is the data directory's own.
    pub(crate) from: Option<String>,
    /// Those that are to go; the first of them were given.
    pub(crate) retired: Vec<MasterKey>,
    /// How many of those were given: they are forgotten when they are not given any more.
    pub(crate) given_old: usize,
    /// Those that come later.
    pub(crate) coming: Vec<MasterKey>,
}

/// A master key from outside the data directory, and where it was given.
fn outside(file: Option<&Path>) -> Result<Option<(MasterKey, String)>, Failure> {
    if let Some(file) = file {
        return Ok(Some((given_key(file, "--master-key-file")?, file.display().to_string())));
    }
    if let Ok(text) = std::env::var(VARIABLE) {
        return Ok(Some((parse_key(text.as_bytes(), VARIABLE)?, VARIABLE.to_owned())));
    }
    if let Some(dir) = std::env::var_os("CREDENTIALS_DIRECTORY") {
        let credential = Path::new(&dir).join(CREDENTIAL);
        if credential.exists() {
            return Ok(Some((read_key(&credential)?, format!("the systemd credential {CREDENTIAL}"))));
        }
    }
    Ok(None)
}

fn sync(dir: &Path) -> io::Result<()> {
    fs::File::open(dir)?.sync_all()
}

/// A key from a file that was named with `flag`.
fn given_key(path: &Path, flag: &str) -> Result<MasterKey, Failure> {
    let content = fs::read(path).map_err(|why| {
        Failure::new(Kind::Files, format!("cannot read the master key {}: {why}", path.display()))
            .next(format!("check {flag}"))
    })?;
    parse_key(&content, &path.display().to_string())
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
        path.parent().map_or(Ok(()), sync)
    };
    write().map_err(|why| cannot("write", path, &why))
}

fn cannot(verb: &str, path: &Path, why: &io::Error) -> Failure {
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

    fn keys(data: &DataDir, entropy: &Entropy) -> Result<MasterKeys, Failure> {
        data.master_keys(&KeyFiles::default(), entropy)
    }

    #[test]
    fn the_master_key_is_made_once_for_its_owner_alone() {
        let (_dir, data) = fresh();
        let entropy = Entropy::counting();
        let first = keys(&data, &entropy).unwrap();
        assert!(first.from.is_none() && first.retired.is_empty());
        assert_eq!(keys(&data, &entropy).unwrap().current.id(), first.current.id());
        let mode = fs::metadata(data.path().join("master.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_lost_master_key_is_never_replaced_under_sealed_data() {
        let (_dir, data) = fresh();
        let entropy = Entropy::counting();
        keys(&data, &entropy).unwrap();
        fs::create_dir(data.control()).unwrap();
        fs::remove_file(data.path().join("master.key")).unwrap();
        assert_eq!(keys(&data, &entropy).err().unwrap().kind, Kind::Files);
        // Nor by naming some old key: this one sealed nothing of what is there.
        let other = data.path().join("other.key");
        fs::write(&other, MasterKey::generate(&entropy).reveal().as_bytes()).unwrap();
        let files = KeyFiles { old: vec![other], ..KeyFiles::default() };
        assert_eq!(data.master_keys(&files, &entropy).err().unwrap().kind, Kind::Files);
        assert!(!data.path().join("master.key").exists(), "none is made");
    }

    #[test]
    fn r20_an_own_key_that_is_replaced_opens_until_it_is_forgotten_also_after_a_kill_in_between() {
        let (_dir, data) = fresh();
        let entropy = Entropy::counting();
        let first = keys(&data, &entropy).unwrap().current.id();
        fs::create_dir(data.control()).unwrap();
        let second = data.replace_own_key(&entropy).unwrap().id();
        let found = keys(&data, &entropy).unwrap();
        assert_eq!((found.current.id(), found.retired[0].id(), found.given_old), (second, first, 0));
        assert_ne!(first, second);
        for name in ["master.key", "master.key.old"] {
            let mode = fs::metadata(data.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        data.forget_old_key().unwrap();
        data.forget_old_key().unwrap();
        assert!(keys(&data, &entropy).unwrap().retired.is_empty());

        // Killed after the old one was put aside, before there was a new one.
        fs::rename(data.path().join("master.key"), data.path().join("master.key.old")).unwrap();
        let found = keys(&data, &entropy).unwrap();
        assert_eq!(found.retired[0].id(), second);
        assert_ne!(found.current.id(), second);
    }

    #[test]
    fn keys_from_files_are_told_apart_by_what_they_are_for() {
        let (dir, data) = fresh();
        let entropy = Entropy::counting();
        let file = |name: &str| {
            let (path, key) = (dir.path().join(name), MasterKey::generate(&entropy));
            fs::write(&path, key.reveal().as_bytes()).unwrap();
            (path, key.id())
        };
        let ((master, now), (old, before), (next, later)) = (file("now"), file("before"), file("later"));
        let files = KeyFiles { master: Some(master.clone()), old: vec![old], next: vec![next] };
        let found = data.master_keys(&files, &entropy).unwrap();
        assert_eq!(found.current.id(), now);
        assert_eq!(found.from, Some(master.display().to_string()));
        assert_eq!((found.retired[0].id(), found.given_old, found.coming[0].id()), (before, 1, later));
        let missing = KeyFiles { master: Some(dir.path().join("none")), ..KeyFiles::default() };
        let told = data.master_keys(&missing, &entropy).err().unwrap();
        assert_eq!((told.kind, told.next.as_deref()), (Kind::Files, Some("check --master-key-file")));
        assert!(!data.path().join("master.key").exists(), "none is made");
    }
}
