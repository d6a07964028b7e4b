//! Opening a splice: a connection of its own to a control node, the PROXY header, and the word that it was taken.

use std::io;
use std::net::SocketAddr;

use mezusphere_model::document::NodeAddress;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::dial::{dial, race};
use super::keeper::Shared;
use super::{LinkProblem, LinkState};
use crate::server::splice::TAKEN;
use crate::{ALPN_SPLICE, SpliceStream, proxy};

/// Why a client could not be passed on.
#[derive(Debug, thiserror::Error)]
pub enum SpliceError {
    /// As many as allowed are being opened.
    #[error("too many splices are being opened")]
    Busy,
    /// No control node took it.
    #[error("no control node took the client: {0}")]
    Away(LinkProblem),
}

impl From<SpliceError> for io::Error {
    fn from(why: SpliceError) -> Self {
        Self::new(io::ErrorKind::ConnectionRefused, why)
    }
}

impl Shared {
    pub(super) async fn splice(
        &self,
        client: SocketAddr,
        local: SocketAddr,
    ) -> Result<SpliceStream, SpliceError> {
        let Ok(_turn) = self.opening.try_acquire() else { return Err(SpliceError::Busy) };
        let current = match &*self.state.borrow() {
            LinkState::Connected { control, .. } => Some(control.clone()),
            LinkState::Connecting | LinkState::Away(_) => None,
        };
        let order = self.order(current.as_ref(), None);
        let header = proxy::encode(client, local);
        let opened =
            race(&order, self.limits.stagger, self.clock.now(), |control| self.hand_over(control, &header));
        let opened = timeout(self.limits.splice, opened).await;
        opened.unwrap_or_else(|_| Err(self.silent(order.first()))).map_err(SpliceError::Away)
    }

    fn silent(&self, control: Option<&NodeAddress>) -> LinkProblem {
        let now = self.clock.now();
        control
            .map_or_else(|| LinkProblem::no_control(now), |control| LinkProblem::silent(control.clone(), now))
    }

    async fn hand_over(&self, control: &NodeAddress, header: &[u8]) -> Result<SpliceStream, LinkProblem> {
        let handed = timeout(self.limits.connect, async {
            let (mut stream, _peer) = dial(&self.splice_tls, ALPN_SPLICE, control, &self.clock).await?;
            let io = |why: io::Error| LinkProblem::from_io(&why, control.clone(), self.clock.now());
            stream.write_all(header).await.map_err(io)?;
            stream.flush().await.map_err(io)?;
            match stream.read_u8().await.map_err(io)? {
                TAKEN => Ok(Box::new(stream) as SpliceStream),
                other => {
                    let what = format!("{other:#04x} in answer to a PROXY header");
                    Err(LinkProblem::nonsense(&what, control.clone(), self.clock.now()))
                }
            }
        });
        handed.await.unwrap_or_else(|_| Err(self.silent(Some(control))))
    }
}
