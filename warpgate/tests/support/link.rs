//! A stretch of network between a warpgate and an edge that a test can cut: no octet passes, nobody is told.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::UdpSocket;
use tokio_util::task::AbortOnDropHandle;

pub struct Link {
    pub address: SocketAddr,
    cut: Arc<AtomicBool>,
    _forwarding: AbortOnDropHandle<()>,
}

impl Link {
    /// Passes datagrams on to `edge` and back.
    pub async fn to(edge: SocketAddr) -> Self {
        let front = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap());
        let address = front.local_addr().unwrap();
        let cut = Arc::new(AtomicBool::new(false));
        let is_cut = Arc::clone(&cut);
        let forwarding = tokio::spawn(async move {
            let mut behind: HashMap<SocketAddr, (Arc<UdpSocket>, AbortOnDropHandle<()>)> = HashMap::new();
            let mut buffer = vec![0; 65_536];
            while let Ok((octets, from)) = front.recv_from(&mut buffer).await {
                if is_cut.load(Ordering::SeqCst) {
                    continue;
                }
                if let Entry::Vacant(new) = behind.entry(from) {
                    let back = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap());
                    back.connect(edge).await.unwrap();
                    let returning =
                        returning(Arc::clone(&back), Arc::clone(&front), from, Arc::clone(&is_cut));
                    new.insert((back, AbortOnDropHandle::new(tokio::spawn(returning))));
                }
                behind[&from].0.send(&buffer[..octets]).await.ok();
            }
        });
        Self { address, cut, _forwarding: AbortOnDropHandle::new(forwarding) }
    }

    pub fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
    }

    pub fn heal(&self) {
        self.cut.store(false, Ordering::SeqCst);
    }
}

async fn returning(back: Arc<UdpSocket>, front: Arc<UdpSocket>, to: SocketAddr, is_cut: Arc<AtomicBool>) {
    let mut buffer = vec![0; 65_536];
    loop {
        // A refused port shows as an error of the socket; the link stays.
        if let Ok(octets) = back.recv(&mut buffer).await
            && !is_cut.load(Ordering::SeqCst)
        {
            front.send_to(&buffer[..octets], to).await.ok();
        }
    }
}
