//! What all cells share: a node, the workload, the gRPC service, and a project with a warpgate for each upstream protocol.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use mezusphere_tests::clients::{Place, Talk};
use mezusphere_tests::matrix::UPSTREAMS;
use mezusphere_tests::program::Program;
use mezusphere_tests::system::Node;
use mezusphere_tests::workload::Workload;

/// A warpgate, or why there is none.
type Gate = Result<Program, String>;

pub(super) struct Scene {
    node: Node,
    pub(super) workload: Workload,
    gates: BTreeMap<&'static str, Gate>,
    grpc_gates: BTreeMap<&'static str, Gate>,
    _grpc: Talk,
}

impl Scene {
    pub(super) async fn set() -> Result<Self> {
        let node = Node::start(&[]).await?;
        let workload = Workload::start().await?;
        let (certificate, key) = workload.certificate();
        let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
        let mut grpc = Talk::python("grpc_server.py", &["--certificate", &certificate, "--key", &key])?;
        let ports = grpc.next().await?.context("the gRPC service starts")?;

        let ca = workload.ca().display().to_string();
        let own = [
            ("http", workload.h1()),
            ("h2c", workload.h2c()),
            ("https", workload.https()),
            ("unix", workload.unix()),
        ];
        let mut gates = BTreeMap::new();
        for (scheme, url) in own {
            gates.insert(scheme, connect(&node, scheme, &url, &ca).await?);
        }
        let mut grpc_gates = BTreeMap::new();
        let served = [
            ("h2c", format!("h2c://127.0.0.1:{}", ports.plain)),
            ("https", format!("https://localhost:{}", ports.tls)),
        ];
        for (scheme, url) in served {
            grpc_gates.insert(scheme, connect(&node, &format!("grpc-{scheme}"), &url, &ca).await?);
        }
        ensure!(gates.values().any(Result::is_ok), "no warpgate connects: {gates:?}");
        Ok(Self { node, workload, gates, grpc_gates, _grpc: grpc })
    }

    /// Where clients find the workload behind this upstream protocol.
    pub(super) fn place(&self, scheme: &str) -> Place {
        Place { host: format!("{scheme}.localhost"), port: self.node.port, ca: self.node.roots() }
    }

    /// Whether a warpgate serves this upstream protocol.
    pub(super) fn gate(&self, scheme: &str) -> Result<(), &String> {
        self.gates.get(scheme).map_or(Ok(()), |gate| gate.as_ref().map(|_| ()))
    }

    /// Where clients find the gRPC service behind this upstream protocol, if it speaks it.
    pub(super) fn grpc(&self, scheme: &str) -> Option<Result<Place, String>> {
        let gate = self.grpc_gates.get(scheme)?;
        Some(gate.as_ref().map(|_| self.place(&format!("grpc-{scheme}"))).map_err(Clone::clone))
    }

    /// HTTP/3 has no extended CONNECT here, so it must not be advertised: a browser would try it.
    pub(super) async fn nothing_advertises_what_is_not_there(&self) -> Result<()> {
        let served =
            UPSTREAMS.iter().find(|(scheme, _)| self.gate(scheme).is_ok()).context("one is served")?.0;
        let arguments = ["--protocol", "h3", "--tag", "advertised", "not_advertised"];
        let mut talk = Talk::at(&self.place(served), "features.py", &arguments)?;
        let said = talk.next().await?.context("an answer")?;
        ensure!(said.ok, "{}", said.why);
        Ok(())
    }
}

/// Makes a project with one public route and connects a warpgate for it.
async fn connect(node: &Node, project: &str, upstream: &str, ca: &str) -> Result<Gate> {
    node.admin(&["project", "create", project]).await?;
    node.admin(&["route", "add", project, "/*", "--auth", "public"]).await?;
    let key = node.admin(&["api-key", "create", project]).await?;
    let key = key["secret"].as_str().context("a key is printed once")?.to_owned();
    let mut arguments = vec!["connect", "--output", "json", "--upstream", upstream];
    if upstream.starts_with("https:") {
        arguments.extend(["--upstream-ca", ca]);
    }
    let gate = Program::start("warpgate", &arguments, &[("WARPGATE_KEY", &key)])?;
    let host = format!("{project}.localhost");
    Ok(match gate.event("ready").await {
        Ok(_) => {
            node.routes(&host, "/told").await?;
            Ok(gate)
        }
        Err(why) => Err(format!("no warpgate: {}", why.to_string().lines().last().unwrap_or_default())),
    })
}
