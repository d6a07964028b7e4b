//! The admin socket: the admin API for whoever may open a file in the data directory.

use std::convert::Infallible;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::failure::{Failure, Kind};

/// How long a caller may take to send a request head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Most callers at once; more wait.
const CALLERS_MAX: usize = 64;

/// A bound admin socket; its file is removed when it is dropped.
pub(crate) struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl AdminSocket {
    /// Binds `path` for its owner alone. The caller holds the data directory's lock, so a file that is there is
    /// left from a process that was killed.
    pub(crate) fn bind(path: PathBuf) -> Result<Self, Failure> {
        let cannot = |why: &dyn std::fmt::Display| {
            Failure::new(Kind::Files, format!("cannot listen on {}: {why}", path.display()))
                .next("a socket's path has at most 107 characters; choose a shorter --data")
        };
        match fs::remove_file(&path) {
            Err(why) if why.kind() != std::io::ErrorKind::NotFound => return Err(cannot(&why)),
            Ok(()) | Err(_) => {}
        }
        // The directory is its owner's alone (0700), so nobody connects before the mode is set.
        let listener = UnixListener::bind(&path).map_err(|why| cannot(&why))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(|why| cannot(&why))?;
        Ok(Self { listener, path })
    }

    /// Serves `api` until `stop`.
    pub(crate) async fn serve<S, B>(self, api: S, stop: CancellationToken)
    where
        S: tower::Service<
                http::Request<hyper::body::Incoming>,
                Response = http::Response<B>,
                Error = Infallible,
            > + Clone
            + Send
            + 'static,
        S::Future: Send,
        B: hyper::body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let callers = Arc::new(Semaphore::new(CALLERS_MAX));
        loop {
            let Ok(place) = Arc::clone(&callers).acquire_owned().await else { return };
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = stop.cancelled() => return,
            };
            let Ok((stream, _)) = accepted else {
                // Out of file descriptors: wait until some are free again.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let (api, stop) = (api.clone(), stop.clone());
            // Ends with its caller, or with the server.
            tokio::spawn(async move {
                tokio::select! {
                    () = converse(stream, api) => {}
                    () = stop.cancelled() => {}
                }
                drop(place);
            });
        }
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        // It may be gone already, with the directory.
        drop(fs::remove_file(&self.path));
    }
}

async fn converse<S, B>(stream: UnixStream, api: S)
where
    S: tower::Service<http::Request<hyper::body::Incoming>, Response = http::Response<B>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
    B: hyper::body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    // A connection that breaks concerns its caller only.
    drop(server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(api)).await);
}
