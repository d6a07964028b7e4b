//! Which transport leads to an edge: QUIC if it can, TCP if QUIC is not proven to work in time.
//!
//! QUIC has a head start. It is shorter where UDP was silent lately, and ends at once where the network refuses UDP aloud.
//! The first that is proven wins. TCP is committed to when its TLS is up, and where the edge has answered over UDP not
//! before QUIC had some round trips to be proven: over a long way even what works takes its time. From then on only TCP
//! says Hello, since an edge keeps the newest tunnel of a warpgate, and two that greet in turn would push one another off.
//! What was learnt is kept for the next race ([`Path`]), and on TCP the way back to QUIC is tried now and then.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use mezusphere_model::Entropy;
use mezusphere_model::bundle::EdgeAddress;
use tokio::time::{Instant, sleep_until};

use super::connection::Connection;
use super::dial::{Caller, Proven, greet, prove};
use super::failure::Failure;
use super::http2::Http2;
use super::transport::Transport;
use super::{Shared, quic, tcp};
use crate::backoff::Backoff;
use crate::limits::{
    QUIC_ANSWERED_MAX, QUIC_DOUBTED_HEAD_START, QUIC_HEAD_START, QUIC_RETURN_BACKOFF, QUIC_ROUND_TRIPS,
};
use crate::resolve::resolve;

/// What was learnt of the ways to one edge.
pub(super) struct Path {
    udp: Udp,
    returns: Backoff,
    /// When QUIC is tried again beside a tunnel over TCP.
    return_at: Option<Instant>,
}

/// How UDP to an edge does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Udp {
    Untried,
    Works,
    /// It worked, and went silent.
    Doubted,
    /// TCP was needed.
    Dead,
}

impl Path {
    pub(super) fn new(entropy: &Entropy) -> Self {
        let returns = Backoff::new(QUIC_RETURN_BACKOFF, entropy.clone());
        Self { udp: Udp::Untried, returns, return_at: None }
    }

    /// How long QUIC is tried alone. `is_udp_silent`: other dials of this process got no answer over UDP.
    fn head_start(&self, is_udp_silent: bool) -> Duration {
        match self.udp {
            Udp::Untried if is_udp_silent => QUIC_DOUBTED_HEAD_START,
            Udp::Untried | Udp::Works => QUIC_HEAD_START,
            Udp::Doubted => QUIC_DOUBTED_HEAD_START,
            Udp::Dead => Duration::ZERO,
        }
    }

    /// A tunnel over this transport was proven.
    pub(super) fn works(&mut self, transport: Transport) {
        match transport {
            Transport::Quic => {
                self.udp = Udp::Works;
                self.returns.reset();
                self.return_at = None;
            }
            Transport::Tcp => {
                self.udp = Udp::Dead;
                self.plan_return();
            }
        }
    }

    /// A tunnel over QUIC went silent, or probes stopped to come back through it.
    pub(super) fn doubt_udp(&mut self) {
        if self.udp != Udp::Dead {
            self.udp = Udp::Doubted;
        }
    }

    /// QUIC was tried beside a tunnel over TCP, in vain.
    pub(super) fn plan_return(&mut self) {
        self.return_at = Some(Instant::now() + self.returns.long_wait());
    }

    /// The address is another one: nothing is known of it.
    pub(super) fn forget(&mut self) {
        self.udp = Udp::Untried;
        self.returns.reset();
        self.return_at = None;
    }

    /// When QUIC is to be tried beside a tunnel over TCP.
    pub(super) const fn return_at(&self) -> Option<Instant> {
        self.return_at
    }
}

/// One dial's view of [`Path`].
#[derive(Clone, Copy)]
pub(super) struct HeadStart(Duration);

impl HeadStart {
    pub(super) fn of(path: &Path, shared: &Shared) -> Self {
        Self(path.head_start(shared.network.is_udp_silent()))
    }
}

/// How long QUIC has to be proven, once the edge has answered its first packet after this long. That is a round trip, or more
/// where packets are lost.
fn time_to_prove(answered_after: Duration) -> Duration {
    answered_after.saturating_mul(QUIC_ROUND_TRIPS).clamp(QUIC_HEAD_START, QUIC_ANSWERED_MAX)
}

/// Dials `edge` and takes the first transport that is proven.
///
/// # Errors
/// What the edge said, if it said anything; else what went wrong on the way, over UDP or both.
pub(super) async fn race(
    shared: &Arc<Shared>,
    edge: &EdgeAddress,
    head_start: HeadStart,
) -> Result<Proven, Failure> {
    let begun = Instant::now();
    let caller = Caller::now(shared)?;
    let is_proxied = shared.network.proxy.for_host(&edge.host, edge.port).is_some();
    let addresses = match resolve(&edge.host, edge.port).await {
        Ok(addresses) => addresses,
        // The proxy may know the name.
        Err(_) if is_proxied => Vec::new(),
        Err(why) => return Err(why.into()),
    };
    let answered_after: OnceLock<Duration> = OnceLock::new();
    let answered = |after| {
        answered_after.get_or_init(|| after);
    };
    // Until when UDP works as far as is known, and QUIC may still win.
    let quics_time = || answered_after.get().map(|after| begun + time_to_prove(*after));
    let mut over_quic = Box::pin(async {
        let connection = quic::open(shared, edge, &addresses, &answered).await?;
        let tunnel = greet(shared, edge, caller, Connection::Quic(connection)).await?;
        prove(tunnel, shared).await
    });
    let mut head_start_over = std::pin::pin!(async {
        let quietly = sleep_until(begun + head_start.0);
        tokio::select! {
            () = quietly => {}
            () = quic::refused(&addresses), if !addresses.is_empty() => {}
        }
        if answered_after.get().is_some() {
            // UDP works: whoever has answered gets the whole head start.
            sleep_until(begun + QUIC_HEAD_START).await;
        }
    });
    let mut dialling = std::pin::pin!(tcp::open(shared, edge, &addresses));
    let (mut is_tcp_due, mut opened) = (false, None);
    let (mut quic_failed, mut tcp_failed): (Option<Failure>, Option<Failure>) = (None, None);
    let tcp::Opened { stream, remote, chain } = loop {
        if let Some(opened) = opened.take_if(|_| quic_failed.is_some()) {
            break opened;
        }
        tokio::select! {
            proven = &mut over_quic, if quic_failed.is_none() => match proven {
                Ok(proven) => return Ok(proven),
                Err(failure) if failure.is_said_by_edge() => return Err(failure),
                Err(failure) => {
                    is_tcp_due = true;
                    quic_failed = Some(failure);
                }
            },
            () = &mut head_start_over, if !is_tcp_due => is_tcp_due = true,
            dialled = &mut dialling, if is_tcp_due && tcp_failed.is_none() && opened.is_none() => match dialled {
                Ok(dialled) => opened = Some(dialled),
                Err(failure) => tcp_failed = Some(failure),
            },
            () = sleep_until(quics_time().unwrap_or(begun)), if opened.is_some() => {
                if let Some(opened) = opened.take() {
                    break opened;
                }
            }
        }
        if let (Some(of_quic), Some(of_tcp)) = (&quic_failed, &tcp_failed) {
            return Err(Failure::of_both(edge, of_quic, of_tcp));
        }
    };
    // From here on only TCP may say Hello.
    drop(over_quic);
    let connection = Http2::start(stream, remote, chain).await?;
    let tunnel = greet(shared, edge, caller, Connection::Http2(connection)).await?;
    prove(tunnel, shared).await
}

/// Dials `edge` over QUIC alone, beside a tunnel over TCP.
pub(super) async fn over_quic(shared: &Arc<Shared>, edge: &EdgeAddress) -> Result<Proven, NotReturned> {
    let early = |failure| NotReturned { failure, greeted: false };
    let caller = Caller::now(shared).map_err(early)?;
    let addresses = resolve(&edge.host, edge.port).await.map_err(|why| early(why.into()))?;
    let connection = quic::open(shared, edge, &addresses, &|_| {}).await.map_err(early)?;
    let late = |failure| NotReturned { failure, greeted: true };
    let tunnel = greet(shared, edge, caller, Connection::Quic(connection)).await.map_err(late)?;
    prove(tunnel, shared).await.map_err(late)
}

/// The way back to QUIC was not found.
pub(super) struct NotReturned {
    pub(super) failure: Failure,
    /// The edge may have heard the Hello, and taken this tunnel for the one before it.
    pub(super) greeted: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_answered_quic_has_time_by_the_length_of_the_way() {
        let after = |ms| time_to_prove(Duration::from_millis(ms)).as_millis();
        assert_eq!(after(20), 3000, "never less than its head start");
        assert_eq!(after(750), 6000);
        assert_eq!(after(4000), 7000, "TCP's Hello and probe must fit into the ten seconds");
    }
}
