//! A small internet of network namespaces: an edge's machine, a site behind NAT, and a router between them that can be
//! told to lose, delay, reorder, refuse and hold up what it forwards.
//!
//! ```text
//!  this process ──(never disturbed)── edge ══ router ══ site ──(never disturbed)── this process
//!   as client        198.18.x.128/30      198.18.x.0/30  198.19.x.0/30    198.19.x.128/30      as upstream
//! ```
//!
//! Real kernels, real sockets, real NAT; needs root, iproute2, nftables, iptables, conntrack and ethtool. The addresses
//! are of the block for benchmarks (RFC 2544), so nothing here can be mistaken for a real network.

mod ground;
mod proxy;
mod trouble;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::Context as _;
use tokio::process::Command;

use crate::program::Program;

pub use self::proxy::Proxy;
pub use self::trouble::{LongWire, Refusal, Wire};

/// Names every machine of the lab resolves, all to the edge.
pub const BASE: &str = "mezu.test";

/// Where published applications live.
pub const APPS: &str = "apps.test";

/// A machine of the lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Where the server runs.
    Edge,
    /// What stands between them.
    Router,
    /// Where the warpgate runs.
    Site,
}

impl Place {
    const ALL: [Self; 3] = [Self::Edge, Self::Router, Self::Site];

    const fn letter(self) -> char {
        match self {
            Self::Edge => 'e',
            Self::Router => 'r',
            Self::Site => 's',
        }
    }
}

/// Labs of this process, so that two at once do not share names.
static LABS: AtomicU8 = AtomicU8::new(0);

/// The lab. Everything of it is gone when it is dropped.
#[derive(Debug)]
pub struct Lab {
    /// First part of every name in it.
    name: String,
    /// Third octet of every address in it.
    net: u8,
}

impl Lab {
    /// Builds the three machines and the wires between them; the router translates the site's addresses.
    pub async fn build() -> anyhow::Result<Self> {
        let nth = LABS.fetch_add(1, Ordering::Relaxed);
        let process = std::process::id();
        let net = u8::try_from((process.wrapping_add(u32::from(nth) * 61)) % 250)?;
        let lab = Self { name: format!("mz{process}{}", char::from(b'a' + nth % 26)), net };
        // From here on dropping it cleans up.
        lab.lay_ground().await.context("a lab of network namespaces; they need root")?;
        Ok(lab)
    }

    /// Where this process reaches the edge, whatever the router does.
    pub fn edge(&self) -> IpAddr {
        Ipv4Addr::new(198, 18, self.net, 130).into()
    }

    /// Where the site sees the edge.
    pub fn edge_from_site(&self) -> IpAddr {
        Ipv4Addr::new(198, 18, self.net, 2).into()
    }

    /// Where this process can listen so that the site reaches it, whatever the router does.
    pub fn beside_site(&self) -> SocketAddr {
        SocketAddr::new(Ipv4Addr::new(198, 19, self.net, 129).into(), 0)
    }

    /// Where a proxy can listen at the edge's side of the router.
    pub fn beside_edge(&self) -> IpAddr {
        Ipv4Addr::new(198, 18, self.net, 129).into()
    }

    /// Starts one of the product's programs on a machine.
    pub fn start(
        &self,
        place: Place,
        name: &str,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> anyhow::Result<Program> {
        let namespace = self.namespace(place);
        Program::start_through(&["ip", "netns", "exec", &namespace], name, arguments, environment)
    }

    /// Runs a command on a machine; a failing one is an error with what it said.
    pub async fn run(&self, place: Place, words: &[&str]) -> anyhow::Result<String> {
        let namespace = self.namespace(place);
        let line: Vec<&str> =
            ["ip", "netns", "exec", &namespace].into_iter().chain(words.iter().copied()).collect();
        run(&line).await
    }

    fn namespace(&self, place: Place) -> String {
        format!("{}{}", self.name, place.letter())
    }

    /// What a machine has in place of `/etc`.
    fn etc(&self, place: Place) -> PathBuf {
        PathBuf::from("/etc/netns").join(self.namespace(place))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for place in Place::ALL {
            // What is not there needs no removing. Interfaces go with their namespaces.
            drop(std::process::Command::new("ip").args(["netns", "del", &self.namespace(place)]).output());
            drop(std::fs::remove_dir_all(self.etc(place)));
        }
    }
}

/// Runs a command to its end; a failing one is an error with what it said.
async fn run(words: &[&str]) -> anyhow::Result<String> {
    let [program, arguments @ ..] = words else { anyhow::bail!("no command") };
    let output = Command::new(program)
        .args(arguments)
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("{program} is missing"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{}: {}", words.join(" "), said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
