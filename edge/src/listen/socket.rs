//! Opens the sockets of the public port.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::num::NonZeroUsize;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tracing::warn;

use crate::config::StartError;

/// Connections the kernel keeps ready for a worker that is busy.
const BACKLOG: i32 = 1024;

/// Size of the UDP socket's buffers, in octets: 30 ms of packets at 1 Gbit/s. With the usual 208 KiB a burst is lost.
const UDP_BUFFER_LEN: usize = 4 * 1024 * 1024;

/// How often a free port is tried for TCP and UDP at once, where any port will do.
const FREE_PORT_TRIES: usize = 16;

/// How long a TCP client may be silent before the kernel asks whether it is there, and between its questions.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// How often the kernel asks in vain.
const KEEPALIVE_PROBES: u32 = 3;

/// The public port's sockets: a TCP listener for each worker, all on one port, and one UDP socket.
pub(super) struct PublicSockets {
    pub(super) address: SocketAddr,
    pub(super) tcp: Vec<TcpListener>,
    pub(super) udp: UdpSocket,
}

impl PublicSockets {
    pub(super) fn open(address: SocketAddr, workers: NonZeroUsize) -> Result<Self, StartError> {
        let tries = if address.port() == 0 { FREE_PORT_TRIES } else { 1 };
        let mut opened = Self::open_once(address, workers);
        for _ in 1..tries {
            match &opened {
                Err(StartError::Listen { source, .. }) if source.kind() == io::ErrorKind::AddrInUse => {}
                _ => break,
            }
            opened = Self::open_once(address, workers);
        }
        opened
    }

    fn open_once(address: SocketAddr, workers: NonZeroUsize) -> Result<Self, StartError> {
        // A first look without SO_REUSEPORT: with it, a second edge of the same user would quietly take half of the
        // connections instead of hearing that the port is taken.
        let tcp_error = |source| StartError::Listen { protocol: "TCP", address, source };
        let probe = listen(address, false).map_err(tcp_error)?;
        let address = probe.local_addr().map_err(tcp_error)?;
        drop(probe);
        let udp_error = |source| StartError::Listen { protocol: "UDP", address, source };
        let udp = udp(address).map_err(udp_error)?;
        let tcp = (0..workers.get())
            .map(|_| listen(address, true))
            .collect::<io::Result<Vec<_>>>()
            .map_err(|source| StartError::Listen { protocol: "TCP", address, source })?;
        Ok(Self { address, tcp, udp })
    }
}

/// A TCP listener at `address`; `shares` the port with others that share it.
pub(super) fn listen(address: SocketAddr, shares: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // Connections of an earlier run that linger in TIME_WAIT do not keep the port.
    socket.set_reuse_address(true)?;
    if shares {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Readies an accepted connection: small writes leave at once, and a peer that is gone without a word is noticed.
pub(super) fn tune(stream: &tokio::net::TcpStream, unacknowledged_max: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive =
        TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE).with_retries(KEEPALIVE_PROBES);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(unacknowledged_max))?;
    #[cfg(not(target_os = "linux"))]
    let _ = unacknowledged_max;
    Ok(())
}

/// A peer's address in one spelling: on a socket for both families, an IPv4 peer shows as `::ffff:a.b.c.d`, and
/// networks in policies are written without that.
pub(super) fn canonical(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}

fn udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_recv_buffer_size(UDP_BUFFER_LEN)?;
    socket.set_send_buffer_size(UDP_BUFFER_LEN)?;
    // The kernel grants less without a word; what it reports is its own bookkeeping included.
    let granted = socket.recv_buffer_size()?.min(socket.send_buffer_size()?);
    if granted < UDP_BUFFER_LEN {
        warn!(
            granted_kib = granted / 1024,
            wanted_kib = UDP_BUFFER_LEN / 1024,
            "The UDP buffers are small, so QUIC will lose packets in bursts; next: sysctl -w \
             net.core.rmem_max={UDP_BUFFER_LEN} net.core.wmem_max={UDP_BUFFER_LEN}"
        );
    }
    socket.bind(&address.into())?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: NonZeroUsize = NonZeroUsize::new(2).unwrap();

    #[test]
    fn tcp_and_udp_share_a_free_port_and_every_worker_has_a_listener() {
        let sockets = PublicSockets::open("127.0.0.1:0".parse().unwrap(), TWO).unwrap();
        assert_ne!(sockets.address.port(), 0);
        assert_eq!(sockets.udp.local_addr().unwrap(), sockets.address);
        assert_eq!(sockets.tcp.len(), 2);
        assert!(sockets.tcp.iter().all(|tcp| tcp.local_addr().unwrap() == sockets.address));
    }

    #[test]
    fn r10_an_ipv4_client_has_one_address_whatever_the_socket() {
        let mapped: SocketAddr = "[::ffff:192.0.2.1]:9".parse().unwrap();
        assert_eq!(canonical(mapped), "192.0.2.1:9".parse().unwrap());
        let v6: SocketAddr = "[2001:db8::1]:9".parse().unwrap();
        assert_eq!(canonical(v6), v6);
    }

    #[test]
    fn a_taken_port_is_an_error_and_names_its_protocol() {
        let first = PublicSockets::open("127.0.0.1:0".parse().unwrap(), TWO).unwrap();
        let Err(StartError::Listen { protocol, address, .. }) = PublicSockets::open(first.address, TWO)
        else {
            panic!("a second edge took the port of the first");
        };
        assert_eq!((protocol, address), ("TCP", first.address));

        let udp_only = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = udp_only.local_addr().unwrap();
        let error = PublicSockets::open(address, TWO).map(|_| ()).unwrap_err();
        assert!(error.to_string().starts_with(&format!("cannot listen on UDP {address}")), "{error}");
    }
}
