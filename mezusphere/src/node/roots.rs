//! `ca.pem`: the roots of the installation's CA, for clients outside that should trust it. Written at the start, and again
//! whenever they change, whichever control node replaced one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::data::write_whole;
use crate::failure::Failure;

/// Before a write that failed is tried again: the disk may be full for a while, and clients go on with the file there is.
const AGAIN_AFTER: Duration = Duration::from_mins(1);

/// Writes what `roots` are now.
pub(crate) fn write(path: &Path, roots: &mut watch::Receiver<Vec<String>>) -> Result<(), Failure> {
    let text = roots.borrow_and_update().concat();
    write_whole(path, text.as_bytes(), 0o644)
}

/// Keeps the file as `roots` are, until `stop`.
pub(crate) async fn keep(path: PathBuf, mut roots: watch::Receiver<Vec<String>>, stop: CancellationToken) {
    let mut is_written = true;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            changed = roots.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(AGAIN_AFTER), if !is_written => {}
        }
        let written = write(&path, &mut roots);
        is_written = written.is_ok();
        match written {
            Ok(()) => {
                info!(path = %path.display(), "The roots that are trusted have changed, and the file for clients");
            }
            Err(failure) => {
                warn!(error = failure.what, "The file of roots for clients is older than they are");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_file_of_roots_is_written_anew_when_they_change() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        let (roots, mut seen) = watch::channel(vec!["one\n".to_owned()]);
        write(&path, &mut seen).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\n");
        let stop = CancellationToken::new();
        let keeping = tokio::spawn(keep(path.clone(), seen, stop.clone()));
        roots.send_replace(vec!["one\n".to_owned(), "two\n".to_owned()]);
        let written = async {
            while std::fs::read_to_string(&path).unwrap() != "one\ntwo\n" {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), written).await.unwrap();
        stop.cancel();
        keeping.await.unwrap();
    }
}
