//! Installs a warpgate as a systemd service and removes it again.
//!
//! ```text
//! unit      the texts: the unit, and the settings it starts with
//! ```
//!
//! Writes only what is not there or what it wrote itself, and says each step. The key goes into a file of root's, from
//! where systemd hands it to the service as a credential.

mod unit;

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

pub use unit::{MARK, Paths, Unit, settings};

/// What is to be installed.
pub struct Install {
    /// Below what: `/`, or the root of an image.
    pub root: PathBuf,
    /// The unit.
    pub unit: Unit,
    /// The connection key.
    pub key: Zeroizing<String>,
    /// What the file of settings says, if there is none yet.
    pub settings: String,
}

/// One thing that was done, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A file was written.
    Wrote(PathBuf, u32),
    /// A file stays as it is, because it was edited or is not ours.
    Kept(PathBuf),
    /// A file was removed.
    Removed(PathBuf),
}

/// Why a service cannot be installed or removed.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// A file of the same name is somebody else's.
    #[error("{} is there already, and was not written by warpgate", .0.display())]
    Foreign(PathBuf),
    /// The file system.
    #[error("{} cannot be changed: {}", .0.display(), crate::key::reason(.1))]
    Io(PathBuf, #[source] io::Error),
    /// The service would not see the program.
    #[error("the program is at {}, where a service cannot see it", .0.display())]
    Hidden(PathBuf),
    /// Not a name for a unit.
    #[error("{0:?} is not a name for a service; use letters, digits, `-` and `_`")]
    Name(String),
    /// There is nothing to remove.
    #[error("there is no service {0} that `warpgate service install` has written")]
    NotInstalled(String),
}

impl ServiceError {
    /// What to do.
    pub fn next(&self) -> String {
        match self {
            Self::Foreign(_) => "choose another name with --name, or move that file away".to_owned(),
            Self::Io(_, why) if why.kind() == io::ErrorKind::PermissionDenied => {
                "run this as root: sudo warpgate service …".to_owned()
            }
            Self::Io(..) => "look at that path, then try again".to_owned(),
            Self::Hidden(path) => {
                format!(
                    "put it where everybody may run it: sudo install -m 755 {} /usr/local/bin/",
                    path.display()
                )
            }
            Self::Name(_) => "for example: --name warpgate-shop".to_owned(),
            Self::NotInstalled(_) => "name the one that is meant with --name".to_owned(),
        }
    }
}

/// Checks the name of a service: it becomes part of paths and of the unit.
pub fn check_name(name: &str) -> Result<(), ServiceError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let starts = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if starts && name.len() <= 64 && name.chars().all(fits) {
        Ok(())
    } else {
        Err(ServiceError::Name(name.to_owned()))
    }
}

impl Install {
    /// Looks whether it can be installed, and says what would be written. Changes nothing.
    pub fn plan(&self) -> Result<Vec<Step>, ServiceError> {
        check_name(&self.unit.name)?;
        // ProtectHome and PrivateTmp of the unit.
        let hidden = ["/home", "/root", "/run/user", "/tmp", "/var/tmp"];
        if hidden.iter().any(|place| self.unit.program.starts_with(place)) {
            return Err(ServiceError::Hidden(self.unit.program.clone()));
        }
        let paths = self.paths();
        let unit = read(&paths.unit)?;
        if unit.as_ref().is_some_and(|text| !text.starts_with(MARK)) {
            return Err(ServiceError::Foreign(paths.unit));
        }
        // A key without a unit of ours beside it is somebody else's, unless it is the same.
        let key = read(&paths.key)?;
        if unit.is_none() && key.is_some_and(|key| key.trim() != self.key.trim()) {
            return Err(ServiceError::Foreign(paths.key));
        }
        // Settings are never overwritten: people edit them.
        let settings = match read(&paths.settings)? {
            Some(_) => Step::Kept(paths.settings),
            None => Step::Wrote(paths.settings, 0o644),
        };
        Ok(vec![Step::Wrote(paths.key, 0o600), settings, Step::Wrote(paths.unit, 0o644)])
    }

    /// Writes what [`Install::plan`] says.
    pub fn write(&self) -> Result<Vec<Step>, ServiceError> {
        let steps = self.plan()?;
        let paths = self.paths();
        for step in &steps {
            let Step::Wrote(path, mode) = step else { continue };
            let text = if *path == paths.key {
                Zeroizing::new(format!("{}\n", self.key.trim()))
            } else if *path == paths.unit {
                Zeroizing::new(self.unit.text())
            } else {
                Zeroizing::new(self.settings.clone())
            };
            write(path, text.as_bytes(), *mode).map_err(|why| ServiceError::Io(path.clone(), why))?;
        }
        Ok(steps)
    }

    /// Where its parts are.
    pub fn paths(&self) -> Paths {
        Paths::new(&self.root, &self.unit.name)
    }
}

/// What removing the service `name` below `root` would take away. Changes nothing.
pub fn plan_removal(
    root: &Path,
    name: &str,
    fresh_settings: impl Fn(&str) -> bool,
) -> Result<Vec<Step>, ServiceError> {
    check_name(name)?;
    let paths = Paths::new(root, name);
    match read(&paths.unit)? {
        Some(text) if text.starts_with(MARK) => {}
        Some(_) => return Err(ServiceError::Foreign(paths.unit)),
        None => return Err(ServiceError::NotInstalled(name.to_owned())),
    }
    let mut steps = vec![Step::Removed(paths.unit)];
    if read(&paths.key)?.is_some() {
        steps.push(Step::Removed(paths.key));
    }
    match read(&paths.settings)? {
        Some(text) if text.starts_with(MARK) && fresh_settings(&text) => {
            steps.push(Step::Removed(paths.settings));
        }
        Some(_) => steps.push(Step::Kept(paths.settings)),
        None => {}
    }
    Ok(steps)
}

/// Removes what [`plan_removal`] named.
pub fn remove(steps: &[Step]) -> Result<(), ServiceError> {
    for step in steps {
        if let Step::Removed(path) = step {
            std::fs::remove_file(path).map_err(|why| ServiceError::Io(path.clone(), why))?;
        }
    }
    Ok(())
}

/// Whether a file of settings is as `install` wrote it: nobody said anything in it but the upstreams.
pub fn is_untouched(name: &str, text: &str) -> bool {
    let upstream =
        text.lines().find(|line| line.starts_with("upstream = ") || line.starts_with("# upstream = "));
    let plain = settings(name, &[]);
    let same = |line: &&str| !line.starts_with("upstream = ") && !line.starts_with("# upstream = ");
    upstream.is_some() && text.lines().filter(same).eq(plain.lines().filter(same))
}

fn read(path: &Path) -> Result<Option<String>, ServiceError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(why) => Err(ServiceError::Io(path.to_owned(), why)),
    }
}

/// Writes a file whole or not at all; nobody can read a secret while it is written.
fn write(path: &Path, text: &[u8], mode: u32) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(directory)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = directory.join(name);
    // What a run before left would keep its mode.
    drop(std::fs::remove_file(&temporary));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(text)?;
    file.set_permissions(std::fs::Permissions::from_mode(mode))?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "mzw_example";

    fn install(root: &Path, key: &str) -> Install {
        Install {
            root: root.to_owned(),
            unit: Unit { name: "shop".into(), program: "/usr/local/bin/warpgate".into(), groups: Vec::new() },
            key: Zeroizing::new(key.to_owned()),
            settings: settings("shop", &["3000".to_owned()]),
        }
    }

    fn removal(root: &Path) -> Result<Vec<Step>, ServiceError> {
        plan_removal(root, "shop", |text| is_untouched("shop", text))
    }

    #[test]
    fn what_install_wrote_uninstall_removes_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let other = root.path().join("etc/warpgate/other.key");
        std::fs::create_dir_all(other.parent().unwrap()).unwrap();
        std::fs::write(&other, "theirs").unwrap();
        let paths = install(root.path(), KEY).paths();
        install(root.path(), KEY).write().unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&paths.key), mode(&paths.unit), mode(&paths.settings)), (0o600, 0o644, 0o644));
        assert_eq!(std::fs::read_to_string(&paths.key).unwrap(), "mzw_example\n");
        remove(&removal(root.path()).unwrap()).unwrap();
        assert!(!paths.unit.exists() && !paths.key.exists() && !paths.settings.exists());
        assert!(other.exists());
        assert!(matches!(removal(root.path()), Err(ServiceError::NotInstalled(_))));
    }

    #[test]
    fn a_dry_run_changes_nothing() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(install(root.path(), KEY).plan().unwrap().len(), 3);
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_foreign_file_is_never_overwritten_or_removed() {
        for foreign in ["etc/systemd/system/shop.service", "etc/warpgate/shop.key"] {
            let root = tempfile::tempdir().unwrap();
            let path = root.path().join(foreign);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "[Unit]\n").unwrap();
            assert!(matches!(install(root.path(), KEY).write(), Err(ServiceError::Foreign(_))), "{foreign}");
            assert!(removal(root.path()).is_err());
            assert_eq!(std::fs::read_to_string(&path).unwrap(), "[Unit]\n");
        }
    }

    #[test]
    fn installing_again_changes_the_key_and_keeps_edited_settings() {
        let root = tempfile::tempdir().unwrap();
        let paths = install(root.path(), KEY).paths();
        install(root.path(), KEY).write().unwrap();
        let edited = std::fs::read_to_string(&paths.settings).unwrap() + "log = \"info\"\n";
        std::fs::write(&paths.settings, &edited).unwrap();
        let steps = install(root.path(), "mzw_other").write().unwrap();
        assert!(steps.contains(&Step::Kept(paths.settings.clone())));
        assert_eq!(std::fs::read_to_string(&paths.key).unwrap(), "mzw_other\n");
        let steps = removal(root.path()).unwrap();
        assert!(steps.contains(&Step::Kept(paths.settings.clone())), "what a person wrote stays");
        remove(&steps).unwrap();
        assert_eq!(std::fs::read_to_string(&paths.settings).unwrap(), edited);
    }

    #[test]
    fn a_program_that_the_service_cannot_see_and_a_bad_name_are_refused() {
        let root = tempfile::tempdir().unwrap();
        for program in ["/home/ann/warpgate", "/root/bin/warpgate", "/tmp/warpgate"] {
            let mut install = install(root.path(), KEY);
            install.unit.program = program.into();
            assert!(matches!(install.plan(), Err(ServiceError::Hidden(_))), "{program}");
        }
        for name in ["", "../x", "a b", "-x", "a/b", "x.service", "é"] {
            assert!(matches!(check_name(name), Err(ServiceError::Name(_))), "{name}");
        }
        assert!(check_name("warpgate-shop_2").is_ok());
    }
}
