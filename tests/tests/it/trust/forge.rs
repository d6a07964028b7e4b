//! Certificates by the very CAs of an installation, whose keys are taken out of its database: right ones, and every kind of
//! wrong one.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mezusphere_model::Entropy;
use mezusphere_model::seal::Seal as _;
use mezusphere_pki::seal::{MasterKey, Sealer};
use mezusphere_tests::cluster::Cluster;
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, GeneralSubtree,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, SanType,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Where the CA's keys are kept, and how each was sealed before it was put there, in older versions.
const ISSUING: (&str, &str) = ("ca/issuing", "pki/issuing");
const ROOT: (&str, &str) = ("ca/root", "pki/root");

/// The trust domain of an installation that was told none.
const DOMAIN: &str = "mezu.localhost";

/// The name of a node of the installation.
pub(super) fn name(role: &str) -> String {
    format!("spiffe://{DOMAIN}/{role}")
}

/// What a node shows.
pub(super) struct Shown {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

impl Clone for Shown {
    fn clone(&self) -> Self {
        Self { chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

/// What is to be in a leaf.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    pub(super) uris: Vec<String>,
    pub(super) dns: Vec<&'static str>,
    /// Whether it may be a client's, and a server's.
    pub(super) dials: bool,
    pub(super) serves: bool,
    /// From when and until when, in seconds from now.
    pub(super) from_s: i64,
    pub(super) until_s: i64,
}

impl Leaf {
    /// As control issues it to a node of this name.
    pub(super) fn of(uri: &str) -> Self {
        let (dns, serves) = match uri {
            _ if uri.contains("/edge/") => (vec![mezusphere_pki::EDGE_DNS_NAME], true),
            _ if uri.contains("/control/") => (vec![mezusphere_pki::CONTROL_DNS_NAME], true),
            _ => (Vec::new(), false),
        };
        Self { uris: vec![uri.to_owned()], dns, dials: true, serves, from_s: -300, until_s: 3600 }
    }

    fn params(&self) -> Result<CertificateParams> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        (params.not_before, params.not_after) = (at(self.from_s)?, at(self.until_s)?);
        let ia5 = |text: &str| Ia5String::try_from(text);
        for uri in &self.uris {
            params.subject_alt_names.push(SanType::URI(ia5(uri)?));
        }
        for dns in &self.dns {
            params.subject_alt_names.push(SanType::DnsName(ia5(dns)?));
        }
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        if self.dials {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        }
        if self.serves {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        Ok(params)
    }
}

fn at(from_now_s: i64) -> Result<time::OffsetDateTime> {
    #[expect(clippy::disallowed_methods, reason = "the nodes judge by the real time")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let seconds = i64::try_from(now.as_secs())? + from_now_s;
    Ok(time::OffsetDateTime::from_unix_timestamp(seconds)?)
}

/// The keys of an installation's CAs.
pub(super) struct Forge {
    issuing: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    root: Issuer<'static, KeyPair>,
}

impl Forge {
    /// Takes them, as whoever has the database and the master key could.
    pub(super) async fn of(cluster: &Cluster) -> Result<Self> {
        let issuing = secret(cluster, ISSUING).await?;
        let root = secret(cluster, ROOT).await?;
        Ok(Self {
            issuing: CertificateDer::from_pem_slice(issuing.as_bytes())?,
            issuer: issuer(&issuing)?,
            root: issuer(&root)?,
        })
    }

    /// By the real issuing CA.
    pub(super) fn real(&self, leaf: &Leaf) -> Result<Shown> {
        signed(leaf, &self.issuer, vec![self.issuing.clone()])
    }

    /// By a CA that somebody made at home.
    pub(super) fn self_made(leaf: &Leaf) -> Result<Shown> {
        let (params, key) = (ca_params("Mezusphere issuing")?, KeyPair::generate()?);
        let ca = params.self_signed(&key)?;
        signed(leaf, &Issuer::new(params, key), vec![ca.der().clone()])
    }

    /// By one that bears the real one's name, and shows the real one's certificate.
    pub(super) fn namesake(&self, leaf: &Leaf) -> Result<Shown> {
        let issuer = Issuer::from_ca_cert_der(&self.issuing, KeyPair::generate()?)?;
        signed(leaf, &issuer, vec![self.issuing.clone()])
    }

    /// By a CA that the issuing CA certified, which it must not.
    pub(super) fn nested(&self, leaf: &Leaf) -> Result<Shown> {
        let (params, key) = (ca_params("Mezusphere nested")?, KeyPair::generate()?);
        let ca = params.signed_by(&key, &self.issuer)?;
        signed(leaf, &Issuer::new(params, key), vec![ca.der().clone(), self.issuing.clone()])
    }

    /// By a node's own certificate, as if it were a CA's.
    pub(super) fn by_a_leaf(&self, of: &str, leaf: &Leaf) -> Result<Shown> {
        let node = self.real(&Leaf::of(of))?;
        let own = node.chain.first().context("a leaf")?.clone();
        let issuer = Issuer::from_ca_cert_der(&own, KeyPair::try_from(&node.key)?)?;
        signed(leaf, &issuer, node.chain)
    }

    /// By a CA below the root that may name hosts of one domain only; the leaf names another.
    pub(super) fn constrained(&self, leaf: &Leaf) -> Result<Shown> {
        let (mut params, key) = (ca_params("Mezusphere constrained")?, KeyPair::generate()?);
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName("only.example".to_owned())],
            excluded_subtrees: Vec::new(),
        });
        let ca = params.signed_by(&key, &self.root)?;
        let mut leaf = leaf.clone();
        if leaf.dns.is_empty() {
            leaf.dns.push("elsewhere.example");
        }
        signed(&leaf, &Issuer::new(params, key), vec![ca.der().clone()])
    }
}

fn signed(leaf: &Leaf, issuer: &Issuer<'_, KeyPair>, others: Vec<CertificateDer<'static>>) -> Result<Shown> {
    let key = KeyPair::generate()?;
    let certificate = leaf.params()?.signed_by(&key, issuer)?;
    let chain = std::iter::once(certificate.der().clone()).chain(others).collect();
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(|why| anyhow::anyhow!("{why}"))?;
    Ok(Shown { chain, key })
}

fn ca_params(name: &str) -> Result<CertificateParams> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let day = i64::try_from(Duration::from_hours(24).as_secs())?;
    (params.not_before, params.not_after) = (at(-day)?, at(day)?);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    Ok(params)
}

fn issuer(pem: &str) -> Result<Issuer<'static, KeyPair>> {
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes())?;
    Ok(Issuer::from_ca_cert_pem(pem, KeyPair::try_from(&key)?)?)
}

/// A CA's certificate and key as PEM, opened with control's own master key.
async fn secret(cluster: &Cluster, (name, context): (&str, &str)) -> Result<String> {
    let entropy = Entropy::new(|buffer| {
        #[expect(
            clippy::disallowed_methods,
            reason = "nothing is sealed here; the sealer wants to be able to"
        )]
        let drawn = aws_lc_rs::rand::fill(buffer);
        drawn.expect("the operating system gives randomness");
    });
    let master = MasterKey::parse(&std::fs::read(cluster.control.data().join("master.key"))?)?;
    let sealer = Sealer::new(master, entropy);
    let query = format!(
        "SELECT version || ' ' || replace(encode(sealed, 'base64'), E'\\n', '') FROM secrets WHERE name = '{name}' \
         ORDER BY version DESC LIMIT 1"
    );
    let row = cluster.postgres.sql("mezusphere", &query).await?;
    let (version, value) = row.trim().split_once(' ').with_context(|| format!("{name} is kept"))?;
    let place = format!("secret/{name}/{version}");
    let opened = sealer.open(&place, &STANDARD.decode(value)?).with_context(|| place.clone())?;
    let pem = if opened.starts_with(b"-----BEGIN") { opened } else { sealer.open(context, &opened)? };
    let pem = String::from_utf8(pem)?;
    ensure!(pem.contains("PRIVATE KEY"), "{name} holds no key");
    Ok(pem)
}
