//! What the router can be told to do to the packets between edge and site.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::{Lab, Place};

/// How UDP is blocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Silently.
    Drop,
    /// With an ICMP message.
    Reject,
}

/// A long wire between edge and site.
#[derive(Clone, Copy, Debug)]
pub struct Wire {
    /// One way, in milliseconds.
    pub delay_ms: u32,
    /// At most so much more, drawn for each packet, in milliseconds: packets overtake one another.
    pub jitter_ms: u32,
    /// Of a hundred packets.
    pub loss_percent: u32,
}

/// A long wire that is in place; ends when dropped, together with what is on it.
#[derive(Debug)]
pub struct LongWire {
    _program: Child,
}

impl Lab {
    /// Blocks UDP between edge and site.
    pub async fn block_udp(&self, how: Refusal) -> anyhow::Result<()> {
        let target = match how {
            Refusal::Drop => "DROP",
            Refusal::Reject => "REJECT",
        };
        self.router(&format!("iptables -A FORWARD -p udp -j {target}")).await?;
        Ok(())
    }

    /// Lets nothing through at all, silently.
    pub async fn partition(&self) -> anyhow::Result<()> {
        self.router("iptables -A FORWARD -j DROP").await?;
        Ok(())
    }

    /// Lets no IP packet of this size or more through, and tells nobody.
    pub async fn mtu_hole(&self, octets: u32) -> anyhow::Result<()> {
        self.router(&format!("iptables -A FORWARD -m length --length {octets}:65535 -j DROP")).await?;
        Ok(())
    }

    /// Loses so many of a hundred packets, each by chance.
    pub async fn lose(&self, percent: u32) -> anyhow::Result<()> {
        self.keep_all().await?;
        self.router("nft add table inet loss").await?;
        let chain =
            ["nft", "add", "chain", "inet", "loss", "forward", "{ type filter hook forward priority 0; }"];
        self.run(Place::Router, &chain).await?;
        let rule = format!("nft add rule inet loss forward numgen random mod 100 < {percent} drop");
        self.router(&rule).await?;
        Ok(())
    }

    /// Loses nothing any more.
    pub async fn keep_all(&self) -> anyhow::Result<()> {
        if self.router("nft list tables").await?.contains("loss") {
            self.router("nft delete table inet loss").await?;
        }
        Ok(())
    }

    /// Forwards all again that a filter of this lab held back.
    pub async fn heal(&self) -> anyhow::Result<()> {
        self.keep_all().await?;
        self.router("iptables -F FORWARD").await?;
        Ok(())
    }

    /// Forgets every address translation: the next packet of each connection comes from another port.
    pub async fn rebind(&self) -> anyhow::Result<()> {
        self.router("conntrack -F").await?;
        Ok(())
    }

    /// Makes the link between edge and site so slow, both ways, with a queue of 400 ms.
    pub async fn narrow(&self, kbit_per_s: u32) -> anyhow::Result<()> {
        for interface in ["re", "rs"] {
            let shape = format!("rate {kbit_per_s}kbit burst 16kb latency 400ms");
            self.router(&format!("tc qdisc replace dev {interface} root tbf {shape}")).await?;
        }
        Ok(())
    }

    /// Makes it as fast as the machine again.
    pub async fn widen(&self) -> anyhow::Result<()> {
        for interface in ["re", "rs"] {
            self.router(&format!("tc qdisc del dev {interface} root")).await?;
        }
        Ok(())
    }

    /// Puts a long wire between edge and site until the answer is dropped and [`Lab::shorten`] is called.
    pub async fn lengthen(&self, wire: Wire) -> anyhow::Result<LongWire> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("net/wire.py");
        let numbers = [wire.delay_ms, wire.jitter_ms, wire.loss_percent].map(|number| number.to_string());
        let mut program = Command::new("ip")
            .args(["netns", "exec", &self.namespace(Place::Router), "python3"])
            .arg(script)
            .args(&numbers)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let said = program.stdout.take().context("piped")?;
        let mut lines = BufReader::new(said).lines();
        let ready = tokio::time::timeout(Duration::from_secs(10), lines.next_line()).await??;
        anyhow::ensure!(ready.as_deref() == Some("ready"), "the wire is not there: {ready:?}");
        self.router("sysctl -qw net.ipv4.conf.wire0.rp_filter=0").await?;
        self.router("ip route replace default dev wire0 table 100").await?;
        // What goes on the wire towards the edge is translated when it comes off it.
        self.router("iptables -t raw -A PREROUTING -i rs -j NOTRACK").await?;
        for interface in ["re", "rs"] {
            self.router(&format!("ip rule add iif {interface} lookup 100")).await?;
        }
        Ok(LongWire { _program: program })
    }

    /// Takes the long wire out; packets on it are lost.
    pub async fn shorten(&self, wire: LongWire) -> anyhow::Result<()> {
        for interface in ["re", "rs"] {
            self.router(&format!("ip rule del iif {interface} lookup 100")).await?;
        }
        self.router("iptables -t raw -D PREROUTING -i rs -j NOTRACK").await?;
        drop(wire);
        Ok(())
    }
}
