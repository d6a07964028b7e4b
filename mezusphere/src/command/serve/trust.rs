//! The flags of `mezusphere serve` for keys at rest and the certificates between nodes.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use mezusphere_pki::LeafTtls;

use crate::command::seconds;

/// Keys at rest for every role, certificates of nodes for roles all and control.
#[derive(Debug, Args)]
#[command(next_help_heading = "Trust")]
pub(super) struct TrustFlags {
    /// File with the master key that seals keys at rest. Also `MEZUSPHERE_MASTER_KEY` or the systemd
    /// credential `mezusphere-master-key`. (default: master.key in the data directory, made at the first start)
    #[arg(long, value_name = "FILE")]
    pub(super) master_key_file: Option<PathBuf>,
    /// Life of internal certificates, 1m to 24h.
    #[arg(long, value_name = "SPAN", default_value = "24h", value_parser = seconds)]
    leaf_ttl: u64,
    /// Life of edges' certificates. (default: --leaf-ttl)
    #[arg(long, value_name = "SPAN", value_parser = seconds)]
    leaf_ttl_edge: Option<u64>,
    /// Life of control nodes' certificates, and of what signs bundles. (default: --leaf-ttl)
    #[arg(long, value_name = "SPAN", value_parser = seconds)]
    leaf_ttl_control: Option<u64>,
    /// Life of warpgates' certificates. (default: --leaf-ttl)
    #[arg(long, value_name = "SPAN", value_parser = seconds)]
    leaf_ttl_warpgate: Option<u64>,
}

impl TrustFlags {
    /// Life of internal certificates by role.
    pub(super) fn leaf_ttl(&self) -> LeafTtls {
        let own = |ttl: Option<u64>| Duration::from_secs(ttl.unwrap_or(self.leaf_ttl));
        LeafTtls {
            edge: own(self.leaf_ttl_edge),
            control: own(self.leaf_ttl_control),
            warpgate: own(self.leaf_ttl_warpgate),
        }
    }
}
