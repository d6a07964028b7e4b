//! Dialling: TCP, TLS, and whether a control node answers; and trying several, each a little after the one before.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use mezusphere_model::clock::{Clock, Timestamp};
use mezusphere_model::document::NodeAddress;
use mezusphere_pki::{CONTROL_DNS_NAME, Peer, Role};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::LinkProblem;

/// Connects to `control` for the protocol `alpn` and checks that a control node answers.
///
/// Nothing but the hello has been sent when this returns. The caller bounds the time.
pub(crate) async fn dial(
    config: &Arc<ClientConfig>,
    alpn: &[u8],
    control: &NodeAddress,
    clock: &Clock,
) -> Result<(TlsStream<TcpStream>, Peer), LinkProblem> {
    let io = |error| LinkProblem::from_io(&error, control.clone(), clock.now());
    let stream = TcpStream::connect((control.host.as_str(), control.port)).await.map_err(io)?;
    stream.set_nodelay(true).map_err(io)?;
    // The name is not judged; the SPIFFE name in the certificate is.
    let name = ServerName::try_from(CONTROL_DNS_NAME).map_err(|why| io(std::io::Error::other(why)))?;
    let shaken = |error| LinkProblem::in_handshake(&error, control.clone(), clock.now());
    let stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await.map_err(shaken)?;
    let session = stream.get_ref().1;
    let peer = Peer::read(session.peer_certificates().unwrap_or_default());
    match peer {
        Ok(peer) if matches!(peer.name.role, Role::Control(_)) && session.alpn_protocol() == Some(alpn) => {
            Ok((stream, peer))
        }
        _ => Err(LinkProblem::not_control(control.clone(), clock.now())),
    }
}

/// Tries `controls` in order, the next one when one has failed or has not answered for `stagger`; the first that
/// succeeds wins, and the others are dropped.
///
/// # Errors
/// What went wrong last, of what says most of our standing: that we were evicted, else that our certificate was refused, else
/// that we do not trust who answered. Whoever shuts the link out must not be hidden by another one that is only away.
pub(super) async fn race<'a, T, F>(
    controls: &'a [NodeAddress],
    stagger: Duration,
    now: Timestamp,
    attempt: impl Fn(&'a NodeAddress) -> F,
) -> Result<T, LinkProblem>
where
    F: Future<Output = Result<T, LinkProblem>>,
{
    let mut left = controls.iter();
    let mut attempts = FuturesUnordered::new();
    let mut problem = LinkProblem::no_control(now);
    loop {
        match left.next() {
            Some(control) => attempts.push(attempt(control)),
            None if attempts.is_empty() => return Err(problem),
            None => {}
        }
        let has_more = left.len() > 0;
        tokio::select! {
            Some(end) = attempts.next() => match end {
                Ok(won) => return Ok(won),
                Err(why) if why.weight() >= problem.weight() => problem = why,
                Err(_) => {}
            },
            () = sleep(stagger), if has_more => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::problem::{CERTIFICATE_EXPIRED, CERTIFICATE_REFUSED, CONTROL_UNTRUSTED, EVICTED};

    fn controls(count: u16) -> Vec<NodeAddress> {
        (0..count).map(|port| NodeAddress { host: "control.example".to_owned(), port }).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_control_node_delays_the_next_by_the_stagger_only() {
        let begun = tokio::time::Instant::now();
        let controls = controls(3);
        let won = race(&controls, Duration::from_millis(300), Timestamp::default(), |control| async move {
            if control.port < 2 {
                std::future::pending::<()>().await;
            }
            Ok(control.port)
        });
        assert_eq!(won.await, Ok(2));
        assert_eq!(begun.elapsed().as_millis(), 600);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_control_node_delays_the_next_by_nothing() {
        let begun = tokio::time::Instant::now();
        let controls = controls(3);
        let attempt = |control: &NodeAddress| {
            let control = control.clone();
            async move { Err::<(), _>(LinkProblem::silent(control, Timestamp::default())) }
        };
        let lost =
            race(&controls, Duration::from_millis(300), Timestamp::default(), attempt).await.unwrap_err();
        assert_eq!(lost.control.unwrap().port, 2);
        assert_eq!(begun.elapsed().as_millis(), 0);
        let none = race(&[], Duration::from_millis(300), Timestamp::default(), attempt).await.unwrap_err();
        assert_eq!(none.code, "edge.no_control");
    }

    #[tokio::test(start_paused = true)]
    async fn r20_that_a_certificate_is_refused_is_not_hidden_by_control_nodes_that_are_away() {
        let away = "edge.control_silent";
        let rows = [
            ([EVICTED, CERTIFICATE_REFUSED, away], EVICTED),
            ([CERTIFICATE_REFUSED, CONTROL_UNTRUSTED, away], CERTIFICATE_REFUSED),
            ([away, CERTIFICATE_EXPIRED, away], CERTIFICATE_EXPIRED),
            ([away, CONTROL_UNTRUSTED, away], CONTROL_UNTRUSTED),
            // Of two that weigh the same, the last.
            ([CERTIFICATE_EXPIRED, CERTIFICATE_REFUSED, away], CERTIFICATE_REFUSED),
        ];
        let controls = controls(3);
        for (codes, told) in rows {
            let attempt = |control: &NodeAddress| {
                let silent = LinkProblem::silent(control.clone(), Timestamp::default());
                let problem = LinkProblem { code: codes[usize::from(control.port)], ..silent };
                async move { Err::<(), _>(problem) }
            };
            let lost = race(&controls, Duration::from_millis(300), Timestamp::default(), attempt).await;
            assert_eq!(lost.unwrap_err().code, told);
        }
    }
}
