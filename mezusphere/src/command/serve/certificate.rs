//! The flags of `mezusphere serve` for the certificates that strangers see.

use std::path::PathBuf;

use clap::Args;
use mezusphere_control::CertificateFiles;

use crate::failure::{Failure, Kind};

/// Public certificates, for roles all and control.
#[derive(Debug, Args)]
#[command(next_help_heading = "Public certificates (roles all and control)")]
pub(super) struct CertificateFlags {
    /// Public certificate chain, PEM, leaf first; may be repeated. Without it the internal CA issues one.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Vec<PathBuf>,
    /// Private key of the public certificate, PEM; one for each --tls-cert, in the same order.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Vec<PathBuf>,
}

impl CertificateFlags {
    /// The files control reads them from.
    pub(super) fn files(self) -> Result<Vec<CertificateFiles>, Failure> {
        if self.tls_cert.len() != self.tls_key.len() {
            return Err(Failure::new(Kind::Usage, "each --tls-cert needs its --tls-key")
                .next("give both, in the same order"));
        }
        let files = self.tls_cert.into_iter().zip(self.tls_key);
        Ok(files.map(|(chain, key)| CertificateFiles { chain, key }).collect())
    }
}
