//! Exclusive ownership of a directory by one process, by a lock file that names its holder.
//!
//! The lock is the operating system's (`flock`): it ends with the process, however that ends. The process id
//! in the file is only for the message a second process prints.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

/// A directory that this process owns until the value is dropped.
#[derive(Debug)]
pub(crate) struct DirLock {
    /// Closing it gives the lock back.
    _file: File,
}

/// Why a directory cannot be owned.
#[derive(Debug)]
pub(crate) enum DirLockError {
    /// Another process owns it; this one, if it said so.
    Held(Option<u32>),
    /// The directory or the lock file cannot be made or written.
    Io(io::Error),
}

impl From<io::Error> for DirLockError {
    fn from(why: io::Error) -> Self {
        Self::Io(why)
    }
}

impl DirLock {
    /// Makes `dir` (only for its owner, 0700) if missing, and takes `<dir>/<name>`.
    pub(crate) fn take(dir: &Path, name: &str) -> Result<Self, DirLockError> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(dir.join(name))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(DirLockError::Held(holder(&mut file))),
            Err(TryLockError::Error(why)) => return Err(why.into()),
        }
        // A full disk takes nothing from the ownership, only from what a second process is told.
        if let Err(why) = write_holder(&mut file) {
            tracing::debug!(%why, "The lock file does not name this process");
        }
        Ok(Self { _file: file })
    }
}

fn write_holder(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    Read::take(file, 16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_owner_is_told_who_holds_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let first = DirLock::take(dir.path(), "lock").unwrap();
        let second = DirLock::take(dir.path(), "lock");
        assert!(matches!(second, Err(DirLockError::Held(Some(pid))) if pid == std::process::id()));
        drop(first);
        assert!(DirLock::take(dir.path(), "lock").is_ok());
    }

    #[test]
    fn a_directory_that_cannot_be_made_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(matches!(DirLock::take(&file.join("data"), "lock"), Err(DirLockError::Io(_))));
    }
}
