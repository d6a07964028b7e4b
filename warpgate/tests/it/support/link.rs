//! A stretch of network between a warpgate and an edge that a test spoils: cut, lossy, long, narrow, or with a NAT that
//! forgets. Nobody is told.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;

pub struct Link {
    pub address: SocketAddr,
    weather: Arc<Mutex<Weather>>,
    _forwarding: AbortOnDropHandle<()>,
}

/// What becomes of datagrams, in both directions alike.
#[derive(Clone, Copy, Default)]
pub struct Weather {
    /// None passes.
    pub is_cut: bool,
    /// So many of a thousand are lost.
    pub lost_per_mille: u64,
    /// How long one takes.
    pub delay: Duration,
    /// Longer ones are lost; 0: none is too long.
    pub len_max: usize,
    /// Octets in a second; 0: as many as come. What would wait longer than [`QUEUE_MAX`] is lost.
    pub rate: u64,
    /// Ways made before this are dead, as behind a NAT that has forgotten them.
    generation: u64,
    /// For the dice.
    seed: u64,
}

/// How long a datagram may wait on a narrow link.
const QUEUE_MAX: Duration = Duration::from_millis(200);

impl Link {
    /// Passes datagrams on to `edge` and back.
    pub async fn to(edge: SocketAddr) -> Self {
        let front = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap());
        let address = front.local_addr().unwrap();
        let weather = Arc::new(Mutex::new(Weather { seed: 1, ..Weather::default() }));
        let sky = Arc::clone(&weather);
        let forwarding = tokio::spawn(async move {
            let mut ways: HashMap<SocketAddr, Way> = HashMap::new();
            let mut buffer = vec![0; 65_536];
            let mut free = Instant::now();
            while let Ok((octets, from)) = front.recv_from(&mut buffer).await {
                if let Entry::Vacant(new) = ways.entry(from) {
                    let back = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap());
                    back.connect(edge).await.unwrap();
                    let generation = sky.lock().unwrap().generation;
                    let returning =
                        returning(Arc::clone(&back), Arc::clone(&front), from, Arc::clone(&sky), generation);
                    let returning = AbortOnDropHandle::new(tokio::spawn(returning));
                    new.insert(Way { back, generation, _returning: returning });
                }
                let way = &ways[&from];
                if let Some(at) = passes(&sky, octets, way.generation, &mut free) {
                    let (back, piece) = (Arc::clone(&way.back), buffer[..octets].to_vec());
                    later(at, async move { back.send(&piece).await.ok() }).await;
                }
            }
        });
        Self { address, weather, _forwarding: AbortOnDropHandle::new(forwarding) }
    }

    pub fn cut(&self) {
        self.change(|weather| weather.is_cut = true);
    }

    pub fn heal(&self) {
        self.change(|weather| weather.is_cut = false);
    }

    /// What came from a port until now is dropped from now on; other ports pass.
    pub fn forget(&self) {
        self.change(|weather| weather.generation += 1);
    }

    pub fn change(&self, change: impl FnOnce(&mut Weather)) {
        change(&mut self.weather.lock().unwrap());
    }
}

/// One port of a warpgate, and its way to the edge.
struct Way {
    back: Arc<UdpSocket>,
    generation: u64,
    _returning: AbortOnDropHandle<()>,
}

async fn returning(
    back: Arc<UdpSocket>,
    front: Arc<UdpSocket>,
    to: SocketAddr,
    sky: Arc<Mutex<Weather>>,
    generation: u64,
) {
    let mut buffer = vec![0; 65_536];
    let mut free = Instant::now();
    loop {
        // A refused port shows as an error of the socket; the link stays.
        if let Ok(octets) = back.recv(&mut buffer).await
            && let Some(at) = passes(&sky, octets, generation, &mut free)
        {
            let (front, piece) = (Arc::clone(&front), buffer[..octets].to_vec());
            later(at, async move { front.send_to(&piece, to).await.ok() }).await;
        }
    }
}

/// When a datagram arrives; `None`: never.
fn passes(sky: &Mutex<Weather>, octets: usize, generation: u64, free: &mut Instant) -> Option<Instant> {
    let mut weather = sky.lock().unwrap();
    weather.seed =
        weather.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    let is_lost = (weather.seed >> 33) % 1000 < weather.lost_per_mille;
    let is_too_long = weather.len_max > 0 && octets > weather.len_max;
    if weather.is_cut || is_lost || is_too_long || generation != weather.generation {
        return None;
    }
    let now = Instant::now();
    if weather.rate > 0 {
        let begin = now.max(*free);
        if begin.duration_since(now) > QUEUE_MAX {
            return None;
        }
        *free = begin + time_of(octets, weather.rate);
        return Some(*free + weather.delay);
    }
    Some(now + weather.delay)
}

/// How long so many octets take at `rate` octets a second.
fn time_of(octets: usize, rate: u64) -> Duration {
    Duration::from_secs(u64::try_from(octets).unwrap()) / u32::try_from(rate).unwrap()
}

/// Does it then; at once, if the time has come, so that nothing is reordered that need not be.
async fn later(at: Instant, sending: impl Future<Output = impl Send> + Send + 'static) {
    if at <= Instant::now() {
        sending.await;
    } else {
        // Ends by itself after one datagram.
        tokio::spawn(async move {
            sleep_until(at).await;
            sending.await;
        });
    }
}

/// A TCP connection's way to `edge`, through which no more than `rate` octets a second come in each direction.
pub struct NarrowTcp {
    pub address: SocketAddr,
    _accepting: AbortOnDropHandle<()>,
}

impl NarrowTcp {
    pub fn to(edge: SocketAddr, rate: u64) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        // Or the system would swallow minutes of a narrow link at once.
        socket.set_recv_buffer_size(16 * 1024).unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let listener = socket.listen(16).unwrap();
        let address = listener.local_addr().unwrap();
        let accepting = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(edge).await.unwrap();
                let (near_in, near_out) = near.into_split();
                let (far_in, far_out) = far.into_split();
                tokio::spawn(trickle(near_in, far_out, rate));
                tokio::spawn(trickle(far_in, near_out, rate));
            }
        });
        Self { address, _accepting: AbortOnDropHandle::new(accepting) }
    }
}

async fn trickle(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, rate: u64) -> Option<()> {
    let mut buffer = vec![0; 1500];
    let mut free = Instant::now();
    loop {
        let octets = from.read(&mut buffer).await.ok().filter(|octets| *octets > 0)?;
        free = free.max(Instant::now()) + time_of(octets, rate);
        sleep_until(free).await;
        to.write_all(buffer.get(..octets)?).await.ok()?;
    }
}
