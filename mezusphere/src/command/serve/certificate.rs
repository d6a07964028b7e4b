//! The flags of `mezusphere serve` for the certificates that strangers see.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::Args;
use mezusphere_control::{
    AcmeChallenge, AcmeConfig, AcmeConfigError, AcmeDirectory, AcmeExternalAccount, CertificateFiles,
    PublicCertificate,
};

use crate::failure::{Failure, Kind};

/// Longest file with a key or with authorities, in octets.
const FILE_LEN_MAX: u64 = 1024 * 1024;

/// Public certificates, for roles all and control.
#[derive(Debug, Args)]
#[command(next_help_heading = "Public certificates (roles all and control)")]
pub(super) struct CertificateFlags {
    /// Public certificate chain, PEM, leaf first; may be repeated. Without it and --acme the internal CA issues one.
    #[arg(long, value_name = "FILE", requires = "tls_key", conflicts_with = "acme")]
    tls_cert: Vec<PathBuf>,
    /// Private key of the public certificate, PEM; one for each --tls-cert, in the same order.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Vec<PathBuf>,
    #[command(flatten)]
    acme: AcmeFlags,
}

/// Certificates from a certificate authority.
#[derive(Debug, Args)]
struct AcmeFlags {
    /// Order public certificates here: letsencrypt, letsencrypt-staging, or the https URL of an ACME directory.
    #[arg(long, value_name = "AUTHORITY", requires = "acme_agree_tos")]
    acme: Option<AcmeDirectory>,
    /// Agree to the authority's terms of service.
    #[arg(long, requires = "acme")]
    acme_agree_tos: bool,
    /// E-mail address for the authority, to warn you at.
    #[arg(long, value_name = "EMAIL", requires = "acme")]
    acme_email: Option<String>,
    /// What the authority's own server is known by besides the system's authorities, PEM.
    #[arg(long, value_name = "FILE", requires = "acme")]
    acme_ca_file: Option<PathBuf>,
    /// Key id of the external account that the authority asks for.
    #[arg(long, value_name = "ID", requires_all = ["acme", "acme_eab_key_file"])]
    acme_eab_kid: Option<String>,
    /// File with the key of the external account, base64url as the authority handed it out.
    #[arg(long, value_name = "FILE", requires = "acme_eab_kid")]
    acme_eab_key_file: Option<PathBuf>,
    /// How to prove a name: tls-alpn-01 (port 443), http-01 (port 80, --http) or dns-01 (--acme-dns-hook); may be
    /// repeated, in the order to try. (default: tls-alpn-01, http-01)
    #[arg(long, value_name = "CHALLENGE", requires = "acme")]
    acme_challenge: Vec<AcmeChallenge>,
    /// Program that sets DNS records, called as: PROGRAM present|cleanup NAME VALUE.
    #[arg(long, value_name = "PROGRAM", requires = "acme")]
    acme_dns_hook: Option<PathBuf>,
    /// Order one wildcard certificate for all endpoints instead of one each; needs --acme-dns-hook.
    #[arg(long, requires = "acme_dns_hook")]
    acme_wildcard: bool,
}

impl CertificateFlags {
    /// Where public certificates come from.
    pub(super) fn source(self) -> Result<PublicCertificate, Failure> {
        if let Some(acme) = self.acme.config()? {
            return Ok(PublicCertificate::Acme(Box::new(acme)));
        }
        if self.tls_cert.len() != self.tls_key.len() {
            return Err(Failure::new(Kind::Usage, "each --tls-cert needs its --tls-key")
                .next("give both, in the same order"));
        }
        if self.tls_cert.is_empty() {
            return Ok(PublicCertificate::Internal);
        }
        let files = self.tls_cert.into_iter().zip(self.tls_key);
        let files = files.map(|(chain, key)| CertificateFiles { chain, key });
        Ok(PublicCertificate::Files(files.collect()))
    }
}

impl AcmeFlags {
    fn config(self) -> Result<Option<AcmeConfig>, Failure> {
        let Some(directory) = self.acme else { return Ok(None) };
        let mut config = AcmeConfig::new(directory);
        config.terms_agreed = self.acme_agree_tos;
        config.contact = self.acme_email;
        config.wildcard = self.acme_wildcard;
        if let Some(file) = &self.acme_ca_file {
            config.roots_pem = read(file, "--acme-ca-file")?;
        }
        if let (Some(kid), Some(file)) = (&self.acme_eab_kid, &self.acme_eab_key_file) {
            let key = String::from_utf8(read(file, "--acme-eab-key-file")?);
            let account = key
                .map_err(|_| AcmeConfigError::ExternalKey)
                .and_then(|key| AcmeExternalAccount::parse(kid, &key));
            config.external_account = Some(account.map_err(refused)?);
        }
        if !self.acme_challenge.is_empty() {
            config.challenges = self.acme_challenge;
        } else if self.acme_dns_hook.is_some() {
            config.challenges.push(AcmeChallenge::Dns01);
        }
        config.dns_hook = self.acme_dns_hook;
        config.check().map_err(refused)?;
        Ok(Some(config))
    }
}

fn refused(why: AcmeConfigError) -> Failure {
    let next = match why {
        AcmeConfigError::NoHook => "give --acme-dns-hook PROGRAM",
        AcmeConfigError::ExternalKey => "check --acme-eab-kid and --acme-eab-key-file",
        _ => "mezusphere serve --help",
    };
    Failure::new(Kind::Usage, why).next(next)
}

fn read(path: &Path, flag: &str) -> Result<Vec<u8>, Failure> {
    let unreadable = |why: std::io::Error| {
        Failure::new(Kind::Files, format!("cannot read {}: {why}", path.display()))
            .next(format!("check {flag}"))
    };
    let mut content = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(FILE_LEN_MAX).read_to_end(&mut content).map_err(unreadable)?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        flags: CertificateFlags,
    }

    fn source(words: &str) -> Result<PublicCertificate, String> {
        let line = Line::try_parse_from(words.split_whitespace());
        line.map_err(|why| why.to_string())?.flags.source().map_err(|why| why.to_string())
    }

    #[test]
    fn an_authority_is_asked_only_by_who_agrees_to_its_terms() {
        assert!(matches!(source("serve"), Ok(PublicCertificate::Internal)));
        let Ok(PublicCertificate::Acme(config)) =
            source("serve --acme letsencrypt --acme-agree-tos --acme-email ada@shop.example")
        else {
            panic!("no authority");
        };
        assert_eq!(config.contact.as_deref(), Some("ada@shop.example"));
        assert_eq!(config.challenges, [AcmeChallenge::TlsAlpn01, AcmeChallenge::Http01]);
        for (words, told) in [
            ("serve --acme letsencrypt", "--acme-agree-tos"),
            ("serve --acme http://ca.example/dir --acme-agree-tos", "https URL"),
            ("serve --acme-email a@b.example", "--acme"),
            ("serve --acme letsencrypt --acme-agree-tos --acme-wildcard", "--acme-dns-hook"),
            ("serve --acme letsencrypt --acme-agree-tos --acme-challenge dns-01", "sets DNS records"),
            ("serve --acme letsencrypt --acme-agree-tos --tls-cert a --tls-key b", "cannot be used with"),
        ] {
            let why = source(words).unwrap_err();
            assert!(why.contains(told), "{words}: {why}");
        }
    }

    #[test]
    fn a_program_that_sets_records_makes_wildcards_possible() {
        let words = "serve --acme letsencrypt --acme-agree-tos --acme-dns-hook /bin/hook --acme-wildcard";
        let Ok(PublicCertificate::Acme(config)) = source(words) else { panic!("no authority") };
        assert!(config.wildcard && config.challenges.contains(&AcmeChallenge::Dns01));
    }
}
