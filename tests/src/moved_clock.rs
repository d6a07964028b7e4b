//! A clock that a test moves, for one program: libfaketime between it and the system.
//!
//! Only the wall clock moves. The monotonic clock stays, so that time-outs and pauses take as long as ever.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use tempfile::TempDir;

/// Where Debian keeps the library, by machine.
const PLACES: [&str; 2] = ["/usr/lib/x86_64-linux-gnu/faketime", "/usr/lib/aarch64-linux-gnu/faketime"];

/// The library for programs with threads.
const LIBRARY: &str = "libfaketimeMT.so.1";

/// A clock for programs started through [`MovedClock::way`].
#[derive(Debug)]
pub struct MovedClock {
    folder: TempDir,
    library: PathBuf,
}

impl MovedClock {
    /// A clock that is right for now.
    pub fn new() -> anyhow::Result<Self> {
        let library =
            PLACES.iter().map(|place| Path::new(place).join(LIBRARY)).find(|library| library.exists());
        let library = library.context("install the package faketime")?;
        let clock = Self { folder: tempfile::tempdir()?, library };
        clock.ahead(Duration::ZERO)?;
        Ok(clock)
    }

    /// Lets the clock go so far ahead of the real one, from now on.
    pub fn ahead(&self, by: Duration) -> anyhow::Result<()> {
        // In one step: a program that reads half a number would see some other time.
        let new = self.folder.path().join("new");
        std::fs::write(&new, format!("+{}s\n", by.as_secs()))?;
        Ok(std::fs::rename(new, self.file())?)
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("offset")
    }

    /// What starts a program under this clock.
    pub fn way(&self) -> Vec<String> {
        vec![
            "env".to_owned(),
            format!("LD_PRELOAD={}", self.library.display()),
            format!("FAKETIME_TIMESTAMP_FILE={}", self.file().display()),
            // The file is read again every second.
            "FAKETIME_CACHE_DURATION=1".to_owned(),
            "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
            "NO_FAKE_STAT=1".to_owned(),
        ]
    }
}
