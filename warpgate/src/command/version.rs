//! `warpgate version`.

use std::io::Write as _;

use clap::Args;
use warpgate::exit::Exit;

/// Print the version.
#[derive(Debug, Args)]
pub(super) struct Version {
    /// Print it as JSON.
    #[arg(long)]
    json: bool,
}

impl Version {
    pub(super) fn run(&self) -> Exit {
        let (version, os, arch) = (env!("CARGO_PKG_VERSION"), std::env::consts::OS, std::env::consts::ARCH);
        let protocol = String::from_utf8_lossy(tunnel_proto::ALPN);
        let line = if self.json {
            let fields = serde_json::json!({
                "name": "warpgate", "version": version, "os": os, "arch": arch, "protocol": protocol,
            });
            fields.to_string()
        } else {
            format!("warpgate {version}  {os}/{arch}  {protocol}")
        };
        match writeln!(std::io::stdout(), "{line}") {
            Ok(()) => Exit::Done,
            Err(_) => Exit::Failed,
        }
    }
}
