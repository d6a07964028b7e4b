//! What a starting server says: the facts an operator needs, as lines for people or JSON lines for machines.

use std::io::{self, IsTerminal as _, Write};
use std::net::SocketAddr;

use serde_json::{Value, json};

/// Everything said at the start.
#[derive(Debug)]
pub(crate) struct Started<'a> {
    /// Which edge this is.
    pub(crate) edge: String,
    /// The data directory.
    pub(crate) data: String,
    /// Where clients and warpgates arrive.
    pub(crate) public: SocketAddr,
    /// Where plain HTTP is redirected.
    pub(crate) plain_http: Option<SocketAddr>,
    /// Origin of the console host.
    pub(crate) console: String,
    /// Origin of the login host.
    pub(crate) login: String,
    /// Where endpoints live: `*.example.com`.
    pub(crate) apps: String,
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
    writeln!(out, "mezusphere {}  edge {}", env!("CARGO_PKG_VERSION"), started.edge)?;
    writeln!(out, "✓ data       {}", started.data)?;
    writeln!(out, "✓ edge       {} (TCP and UDP)", started.public)?;
    if let Some(plain) = started.plain_http {
        writeln!(out, "✓ http       {plain}, redirects to https")?;
    }
    writeln!(out, "✓ console    {}", started.console)?;
    writeln!(out, "✓ login      {}", started.login)?;
    writeln!(out, "✓ endpoints  {}", started.apps)?;
    if let Some(roots) = &started.roots {
        writeln!(out, "  note: certificates are signed by this installation's own CA; clients that trust")?;
        writeln!(out, "        {roots} accept them")?;
    }
    if let Some(link) = started.first_sign_in {
        writeln!(out, "\nFirst sign-in of the operator (good once, for 30 minutes):\n  {link}")?;
    }
    writeln!(out, "\nReady.   next: mezusphere project create NAME   Ctrl+C drains (30 s), twice stops now")
}

fn line(started: &Started<'_>) -> Value {
    json!({
        "event": "ready",
        "version": env!("CARGO_PKG_VERSION"),
        "edge": started.edge,
        "data": started.data,
        "public": started.public.to_string(),
        "plain_http": started.plain_http.map(|at| at.to_string()),
        "console": started.console,
        "login": started.login,
        "endpoints": started.apps,
        "roots": started.roots,
        "first_sign_in": started.first_sign_in,
    })
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
