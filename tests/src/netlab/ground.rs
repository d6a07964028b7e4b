//! The lab's machines and the wires between them.

use super::{APPS, BASE, Lab, Place, run};

impl Lab {
    /// Makes namespaces, wires, addresses, routes, names and the NAT.
    pub(super) async fn lay_ground(&self) -> anyhow::Result<()> {
        for place in Place::ALL {
            let namespace = self.namespace(place);
            run(&["ip", "netns", "add", &namespace]).await?;
            self.run(place, &["ip", "link", "set", "lo", "up"]).await?;
            let etc = self.etc(place);
            std::fs::create_dir_all(&etc)?;
            let hosts = format!(
                "127.0.0.1 localhost\n{} connect.{BASE} login.{BASE} console.{BASE} edge.{BASE} shop.{APPS}\n",
                self.edge_from_site()
            );
            std::fs::write(etc.join("hosts"), hosts)?;
        }
        let (edge, site) = (format!("198.18.{}", self.net), format!("198.19.{}", self.net));
        self.wire((Place::Edge, "e0", &format!("{edge}.2/30")), ("re", &format!("{edge}.1/30"))).await?;
        self.wire((Place::Site, "s0", &format!("{site}.2/30")), ("rs", &format!("{site}.1/30"))).await?;
        self.side_wire(Place::Edge, &format!("{edge}.129/30"), &format!("{edge}.130/30")).await?;
        self.side_wire(Place::Site, &format!("{site}.129/30"), &format!("{site}.130/30")).await?;
        self.run(Place::Edge, &["ip", "route", "add", "default", "via", &format!("{edge}.1")]).await?;
        self.run(Place::Site, &["ip", "route", "add", "default", "via", &format!("{site}.1")]).await?;
        for setting in ["ip_forward=1", "conf.all.rp_filter=0", "conf.default.rp_filter=0"] {
            self.run(Place::Router, &["sysctl", "-qw", &format!("net.ipv4.{setting}")]).await?;
        }
        for interface in ["re", "rs"] {
            let setting = format!("net.ipv4.conf.{interface}.rp_filter=0");
            self.run(Place::Router, &["sysctl", "-qw", &setting]).await?;
        }
        self.router("iptables -t nat -A POSTROUTING -o re -j MASQUERADE --random").await?;
        // What comes off the long wire towards the site was translated before it went on it.
        self.router(&format!("iptables -t raw -A PREROUTING -i wire0 -d {site}.2 -j NOTRACK")).await?;
        Ok(())
    }

    /// Runs a line of words on the router.
    pub(super) async fn router(&self, line: &str) -> anyhow::Result<String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        self.run(Place::Router, &words).await
    }

    /// A wire between a machine and the router.
    async fn wire(
        &self,
        (place, near, near_address): (Place, &str, &str),
        (far, far_address): (&str, &str),
    ) -> anyhow::Result<()> {
        let router = self.namespace(Place::Router);
        let namespace = self.namespace(place);
        let pair = ["ip", "link", "add", near, "netns", &namespace, "type", "veth", "peer", "name", far];
        run(&pair.into_iter().chain(["netns", &router]).collect::<Vec<_>>()).await?;
        for (place, interface, address) in [(place, near, near_address), (Place::Router, far, far_address)] {
            self.run(place, &["ip", "address", "add", address, "dev", interface]).await?;
            self.run(place, &["ip", "link", "set", interface, "up"]).await?;
            // One packet on the wire is one packet for the router's rules.
            let off = ["tso", "off", "gso", "off", "gro", "off", "tx-udp-segmentation", "off"];
            let words: Vec<&str> = ["ethtool", "-K", interface].into_iter().chain(off).collect();
            self.run(place, &words).await?;
        }
        Ok(())
    }

    /// A wire between this process's own network and a machine, which no trouble ever touches.
    async fn side_wire(&self, place: Place, ours: &str, theirs: &str) -> anyhow::Result<()> {
        let namespace = self.namespace(place);
        let name = format!("{}{}", self.name, place.letter());
        let pair = ["ip", "link", "add", &name, "type", "veth", "peer", "name", "side", "netns", &namespace];
        run(&pair).await?;
        run(&["ip", "address", "add", ours, "dev", &name]).await?;
        run(&["ip", "link", "set", &name, "up"]).await?;
        self.run(place, &["ip", "address", "add", theirs, "dev", "side"]).await?;
        self.run(place, &["ip", "link", "set", "side", "up"]).await?;
        Ok(())
    }
}
