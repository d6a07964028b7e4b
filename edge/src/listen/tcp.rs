//! The TCP port: one listener per worker; each connection has its door, and for control's hosts at a split edge the way on.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::sleep;
use tracing::{debug, warn};

use super::door::Door;
use super::drain::Drain;
use super::socket;
use super::splice::Splicer;
use crate::http::Handle;

/// First wait after the system had no file descriptor or memory for a connection; doubled up to [`BACK_OFF_MAX`].
const BACK_OFF_MIN: Duration = Duration::from_millis(20);
const BACK_OFF_MAX: Duration = Duration::from_secs(1);

/// One worker's side of the TCP port, and what its connections are handed to.
pub(super) struct TcpPort<H> {
    pub(super) door: Door<H>,
    /// For what the door leaves unopened: there is one where the door's scope is a split edge's.
    pub(super) splicer: Option<Arc<Splicer>>,
    pub(super) drain: Drain,
}

impl<H: Handle> TcpPort<H> {
    /// Takes connections until draining begins.
    pub(super) async fn accept(self: Arc<Self>, listener: TcpListener) {
        let listener = match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return warn!(%error, "A listener could not be used"),
        };
        let mut draining = self.drain.draining();
        let mut back_off = BACK_OFF_MIN;
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut draining => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, client)) => {
                    back_off = BACK_OFF_MIN;
                    self.take(stream, socket::canonical(client));
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    // Out of descriptors or memory: nothing can be taken until some connection ends, and the first are those
                    // that have shown nothing.
                    self.door.arriving.thin();
                    warn!(%error, wait_ms = back_off.as_millis(), "No connection can be taken");
                    tokio::select! {
                        () = &mut draining => return,
                        () = sleep(back_off) => {}
                    }
                    back_off = (back_off * 2).min(BACK_OFF_MAX);
                }
            }
        }
    }

    fn take(self: &Arc<Self>, stream: TcpStream, client: SocketAddr) {
        let port = Arc::clone(self);
        self.drain.spawn(async move { port.serve(stream, client).await });
    }

    pub(super) async fn serve(&self, stream: TcpStream, client: SocketAddr) {
        if let Err(error) = socket::tune(&stream, self.door.limits.stall) {
            return debug!(%error, %client, "A connection could not be readied");
        }
        if let Some(unopened) = self.door.serve(stream, client).await
            && let Some(splicer) = &self.splicer
        {
            let local = unopened.stream.get_ref().local_addr();
            Box::pin(splicer.pass_on(unopened, client, local)).await;
        }
    }
}

/// Whether accepting failed because of the connection and not for want of resources.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}
