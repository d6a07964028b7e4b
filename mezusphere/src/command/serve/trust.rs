//! The flags of `mezusphere serve` for keys at rest and the certificates between nodes.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use mezusphere_control::{AssertionRotation, RootElsewhere};
use mezusphere_pki::LeafTtls;

use crate::command::ca::pem;
use crate::command::seconds;
use crate::failure::Failure;
use crate::node::KeyFiles;

/// Keys at rest for every role, certificates of nodes for roles all and control.
#[derive(Debug, Args)]
#[command(next_help_heading = "Trust")]
pub(super) struct TrustFlags {
    /// File with the master key that seals keys at rest. Also `MEZUSPHERE_MASTER_KEY` or the systemd
    /// credential `mezusphere-master-key`. (default: master.key in the data directory, made at the first start)
    #[arg(long, value_name = "FILE")]
    master_key_file: Option<PathBuf>,
    /// File with a master key that is to go: what it sealed is opened, and sealed anew with the one in use. May be repeated;
    /// needed until `mezusphere key status` says that nothing is left.
    #[arg(long, value_name = "FILE")]
    old_master_key_file: Vec<PathBuf>,
    /// File with a master key that comes later: what other nodes seal with it already is opened. May be repeated.
    #[arg(long, value_name = "FILE")]
    next_master_key_file: Vec<PathBuf>,
    /// File with the certificate of a root whose key is kept elsewhere, for an installation that is to begin under it. The
    /// first start writes what that root is to sign, and ends: docs/operations/ca.md. Later starts need it no more.
    #[arg(long, value_name = "FILE")]
    ca_root: Option<PathBuf>,
    /// File with the certificate that this root made of the request: `mezusphere ca root sign`.
    #[arg(long, value_name = "FILE", requires = "ca_root")]
    ca_issuing: Option<PathBuf>,
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
    /// How long a key signs assertions before the next one does, 1h to 366d.
    #[arg(long, value_name = "SPAN", default_value = "30d", value_parser = seconds)]
    assertion_key_life: u64,
}

impl TrustFlags {
    /// Where master keys are read.
    pub(super) fn key_files(&self) -> KeyFiles {
        KeyFiles {
            master: self.master_key_file.clone(),
            old: self.old_master_key_file.clone(),
            next: self.next_master_key_file.clone(),
        }
    }

    /// The root of a new installation, if its key is kept elsewhere.
    pub(super) fn root_elsewhere(&self) -> Result<Option<RootElsewhere>, Failure> {
        let Some(root) = &self.ca_root else { return Ok(None) };
        let issuing_pem = self.ca_issuing.as_deref().map(pem).transpose()?;
        Ok(Some(RootElsewhere { root_pem: pem(root)?, issuing_pem }))
    }

    /// When the keys that sign assertions follow one another.
    pub(super) fn assertion_rotation(&self) -> AssertionRotation {
        AssertionRotation::every(Duration::from_secs(self.assertion_key_life))
    }

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
