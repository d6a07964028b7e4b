//! What a starting server says: the facts an operator needs, as lines for people or JSON lines for machines.

use std::io::{self, IsTerminal as _, Write};
use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

use super::edge::EdgeSide;
use crate::hint::Hints;

/// Everything said at the start.
#[derive(Debug)]
pub(crate) struct Started<'a> {
    /// The edge of this process.
    pub(crate) edge: Option<Edge>,
    /// The control node of this process.
    pub(crate) control: Option<Control<'a>>,
    /// The data directory.
    pub(crate) data: String,
}

/// What is said of an edge.
#[derive(Debug)]
pub(crate) struct Edge {
    /// Which one.
    id: String,
    /// Where clients and warpgates arrive.
    public: SocketAddr,
    /// Where plain HTTP is redirected.
    plain_http: Option<SocketAddr>,
    /// Where endpoints live: `https://PROJECT.example.com:8443`.
    apps: String,
}

impl Edge {
    /// What is said of this one.
    pub(crate) fn of(side: &EdgeSide) -> Self {
        Self {
            id: side.id().to_string(),
            public: side.listeners().local_addr(),
            plain_http: side.listeners().plain_http_addr(),
            // The origin carries the port clients need.
            apps: side.platform().origin(&side.platform().apps).replacen("https://", "https://PROJECT.", 1),
        }
    }
}

/// What is said of a control node.
#[derive(Debug)]
pub(crate) struct Control<'a> {
    /// Origin of the console host.
    pub(crate) console: String,
    /// Origin of the login host.
    pub(crate) login: String,
    /// Where the state is: a path, or a database without its password.
    pub(crate) store: String,
    /// Where other nodes arrive.
    pub(crate) node_port: Option<SocketAddr>,
    /// The file with the root certificate, where the internal CA issues public certificates.
    pub(crate) roots: Option<String>,
    /// The operator's one-time sign-in link, on the first start.
    pub(crate) first_sign_in: Option<&'a str>,
}

/// Says it. `json`: a JSON line even on a terminal.
pub(crate) fn started(started: &Started<'_>, json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json || !out.is_terminal() {
        return writeln!(out, "{}", line(started));
    }
    let version = env!("CARGO_PKG_VERSION");
    match &started.edge {
        Some(edge) => writeln!(out, "mezusphere {version}  edge {}", edge.id)?,
        None => writeln!(out, "mezusphere {version}  control")?,
    }
    writeln!(out, "✓ data       {}", started.data)?;
    if let Some(edge) = &started.edge {
        writeln!(out, "✓ edge       {} (TCP and UDP)", edge.public)?;
        if let Some(plain) = edge.plain_http {
            writeln!(out, "✓ http       {plain}, redirects to https")?;
        }
    }
    if let Some(control) = &started.control {
        writeln!(out, "✓ store      {}", control.store)?;
        if let Some(port) = control.node_port {
            writeln!(out, "✓ node port  {port} (TCP, for edges)")?;
        }
        writeln!(out, "✓ console    {}", control.console)?;
        writeln!(out, "✓ login      {}", control.login)?;
    }
    if let Some(edge) = &started.edge {
        writeln!(out, "✓ endpoints  {}", edge.apps)?;
    }
    if let Some(roots) = started.control.as_ref().and_then(|control| control.roots.as_ref()) {
        writeln!(out, "  note: certificates are signed by this installation's own CA; clients that trust")?;
        writeln!(out, "        {roots} accept them")?;
    }
    if let Some(link) = started.control.as_ref().and_then(|control| control.first_sign_in) {
        writeln!(out, "\nFirst sign-in of the operator (good once, for 30 minutes):\n  {link}")?;
    }
    let hints = Hints::of_data(Path::new(&started.data));
    let next = match (&started.control, &started.edge) {
        (Some(_), None) => hints.complete("mezusphere edge invite NAME"),
        (Some(_), Some(_)) => hints.complete("mezusphere project create NAME"),
        // Asked there, not with this node's data directory.
        (None, _) => "point DNS here, or ask a control node: mezusphere edge list".to_owned(),
    };
    writeln!(out, "\nReady.   next: {next}   Ctrl+C drains (30 s), twice stops now")
}

fn line(started: &Started<'_>) -> Value {
    let (edge, control) = (started.edge.as_ref(), started.control.as_ref());
    json!({
        "event": "ready",
        "version": env!("CARGO_PKG_VERSION"),
        "edge": edge.map(|edge| &edge.id),
        "data": started.data,
        "public": edge.map(|edge| edge.public.to_string()),
        "plain_http": edge.and_then(|edge| edge.plain_http).map(|at| at.to_string()),
        "endpoints": edge.map(|edge| &edge.apps),
        "store": control.map(|control| &control.store),
        "node_port": control.and_then(|control| control.node_port).map(|at| at.to_string()),
        "console": control.map(|control| &control.console),
        "login": control.map(|control| &control.login),
        "roots": control.and_then(|control| control.roots.as_ref()),
        "first_sign_in": control.and_then(|control| control.first_sign_in),
    })
}

/// Says that an edge waits for control, which it has never heard from.
pub(crate) fn waiting(why: &str, json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json || !out.is_terminal() {
        writeln!(out, "{}", json!({"event": "waiting", "for": "control", "message": why}))
    } else {
        writeln!(out, "Waiting for control: {why}")
    }
}

/// Says that the server drains.
pub(crate) fn draining(json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json || !out.is_terminal() {
        writeln!(out, "{}", json!({"event": "draining", "grace_s": super::DRAIN_GRACE.as_secs()}))
    } else {
        writeln!(
            out,
            "Draining: no new connections; {} s for those that run. Ctrl+C stops now.",
            super::DRAIN_GRACE.as_secs()
        )
    }
}

/// Says that the server has stopped; `at_once`: after a second signal, without waiting for what ran.
pub(crate) fn stopped(at_once: bool, json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json || !out.is_terminal() {
        let event = if at_once { "interrupted" } else { "stopped" };
        writeln!(out, "{}", json!({ "event": event }))
    } else {
        writeln!(out, "{}", if at_once { "Stopped at once." } else { "Stopped." })
    }
}
