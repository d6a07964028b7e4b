//! Where the control socket of a running warpgate is, and where to look for those of others.

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use crate::limits::LOCAL_INSTANCES_MAX;

/// Environment variable that names the directory of control sockets, in place of the usual ones.
pub const VARIABLE: &str = "WARPGATE_RUNTIME_DIR";

/// Name of the socket in a state directory, where it is if there is no runtime directory.
const IN_STATE: &str = "local.sock";

/// Ending of a socket's name; in front of it stands the process id.
const ENDING: &str = "sock";

/// The directories of this user and this machine.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// Where a socket is made: the first of these that can be used.
    pub own: Vec<PathBuf>,
    /// Where sockets are looked for, these and the directories in them.
    pub all: Vec<PathBuf>,
}

impl Places {
    /// The usual places. `variable` reads the environment.
    pub fn find(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        if let Some(only) = variable(VARIABLE) {
            return Self { own: vec![only.clone().into()], all: vec![only.into()] };
        }
        let user = uid();
        let mut own = Vec::new();
        // systemd names several separated by colons (systemd.exec(5)).
        let managed = variable("RUNTIME_DIRECTORY");
        let managed = managed.as_ref().and_then(|all| all.to_str()).and_then(|all| all.split(':').next());
        own.extend(managed.map(PathBuf::from));
        own.extend(variable("XDG_RUNTIME_DIR").map(|directory| PathBuf::from(directory).join("warpgate")));
        if user == 0 {
            own.push("/run/warpgate".into());
        }
        own.push(std::env::temp_dir().join(format!("warpgate-{user}")));
        let mut all = own.clone();
        all.push("/run/warpgate".into());
        if user == 0 {
            let users = std::fs::read_dir("/run/user").into_iter().flatten().filter_map(Result::ok);
            all.extend(users.take(LOCAL_INSTANCES_MAX).map(|user| user.path().join("warpgate")));
        }
        let mut seen = std::collections::HashSet::new();
        all.retain(|directory| seen.insert(directory.clone()));
        Self { own, all }
    }

    /// Where this process makes its socket. The directory is there and no other user can change it.
    ///
    /// # Errors
    /// Why none of the places can be used; the last one's reason.
    pub fn socket(&self, state: Option<&Path>) -> io::Result<PathBuf> {
        let mut told = io::Error::from(io::ErrorKind::NotFound);
        for directory in &self.own {
            match prepare(directory) {
                Ok(()) => return Ok(directory.join(format!("{}.{ENDING}", std::process::id()))),
                Err(why) => told = why,
            }
        }
        state.map(|directory| directory.join(IN_STATE)).ok_or(told)
    }

    /// Sockets there are, whether anybody answers or not, and how many directories may not be looked into.
    pub fn sockets(&self, state: Option<&Path>) -> (Vec<PathBuf>, usize) {
        let (mut found, mut closed) = (Vec::new(), 0);
        let mut look = |directory: &Path, deeper: &mut Vec<PathBuf>| match std::fs::read_dir(directory) {
            Ok(entries) => {
                for entry in entries.filter_map(Result::ok).take(LOCAL_INSTANCES_MAX) {
                    let path = entry.path();
                    if path.extension().is_some_and(|ending| ending == ENDING) {
                        found.push(path);
                    } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                        deeper.push(path);
                    }
                }
            }
            Err(why) if why.kind() == io::ErrorKind::PermissionDenied => closed += 1,
            Err(_) => {}
        };
        let mut deeper = Vec::new();
        for directory in &self.all {
            look(directory, &mut deeper);
        }
        for directory in &deeper {
            look(directory, &mut Vec::new());
        }
        found.extend(state.map(|directory| directory.join(IN_STATE)).filter(|path| path.exists()));
        found.sort();
        found.truncate(LOCAL_INSTANCES_MAX);
        (found, closed)
    }
}

/// Makes `directory` if it is not there; another user's, or one others can write to, is not used.
fn prepare(directory: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let found = std::fs::symlink_metadata(directory)?;
    if !found.is_dir() || found.uid() != uid() || found.mode() & 0o022 != 0 {
        return Err(io::Error::from(io::ErrorKind::PermissionDenied));
    }
    let trial = directory.join(format!(".trial-{}", std::process::id()));
    std::fs::write(&trial, b"")?;
    std::fs::remove_file(&trial)
}

/// The effective user of this process: whose the files of this process are.
pub(super) fn uid() -> u32 {
    std::fs::metadata("/proc/self").map_or(u32::MAX, |metadata| metadata.uid())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn only(directory: &Path) -> Places {
        let directory = directory.to_owned();
        Places::find(move |name| (name == VARIABLE).then(|| directory.clone().into()))
    }

    #[test]
    fn a_runtime_directory_comes_before_the_state_directory() {
        let temporary = tempfile::tempdir().unwrap();
        let wanted = temporary.path().join("run");
        let socket = only(&wanted).socket(Some(Path::new("/state"))).unwrap();
        assert_eq!(socket, wanted.join(format!("{}.sock", std::process::id())));
        assert_eq!(std::fs::metadata(&wanted).unwrap().permissions().mode() & 0o777, 0o700);
        let managed =
            Places::find(|name| (name == "RUNTIME_DIRECTORY").then(|| "/run/warpgate/a:/run/b".into()));
        assert_eq!(managed.own[0], Path::new("/run/warpgate/a"));
    }

    #[test]
    fn a_directory_that_others_can_write_to_is_not_used() {
        let temporary = tempfile::tempdir().unwrap();
        std::fs::set_permissions(temporary.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let places = only(temporary.path());
        assert_eq!(places.socket(None).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(places.socket(Some(Path::new("/state"))).unwrap(), Path::new("/state/local.sock"));
    }

    #[test]
    fn sockets_are_found_in_the_places_and_one_level_below() {
        let temporary = tempfile::tempdir().unwrap();
        let state = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(temporary.path().join("shop")).unwrap();
        for name in ["1.sock", "shop/2.sock", "notes.txt"] {
            std::fs::write(temporary.path().join(name), "").unwrap();
        }
        std::fs::write(state.path().join(IN_STATE), "").unwrap();
        let (found, closed) = only(temporary.path()).sockets(Some(state.path()));
        let mut names: Vec<_> =
            found.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
        names.sort_unstable();
        assert_eq!((names, closed), (vec!["1.sock", "2.sock", "local.sock"], 0));
    }
}
