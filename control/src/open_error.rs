//! Why control does not start: each case with what is wrong and whose hand it needs.

use std::path::PathBuf;
use std::time::Duration;

use mezusphere_model::host::HostError;
use mezusphere_model::id::EdgeId;
use mezusphere_model::span_text;
use mezusphere_pki::authority::{AuthorityError, IssueError};
use mezusphere_pki::name::NameError;
use mezusphere_pki::public::PublicCertificateError;
use mezusphere_store::{StoreError, WriteError};

use crate::config::{LEAF_TTL_MAX, LEAF_TTL_MIN};
use crate::keys::assertion::{LIFE_MAX, LIFE_MIN};

/// Why control does not start. Nothing was lost; after the cause is mended, the same start works.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The life of leaf certificates is out of bounds.
    #[error("leaf certificates live from {} to {}, not {}", span_text(LEAF_TTL_MIN), span_text(LEAF_TTL_MAX), span_text(*.0))]
    LeafTtl(Duration),
    /// The life of the keys that sign assertions is out of bounds.
    #[error("keys that sign assertions live from {} to {}, not {}", span_text(LIFE_MIN), span_text(LIFE_MAX), span_text(*.0))]
    AssertionLife(Duration),
    /// The trust domain cannot be used.
    #[error("{0:?} cannot be the trust domain: {1}")]
    TrustDomain(String, NameError),
    /// The operator's address is none.
    #[error("{0:?} is not an e-mail address for the operator")]
    OperatorEmail(String),
    /// A host name of the platform cannot be formed.
    #[error("a platform host cannot be formed: {0}")]
    Host(#[from] HostError),
    /// A certificate file cannot be read.
    #[error("cannot read the {what} {}: {source}", path.display())]
    CertificateFile {
        /// What it should hold: the certificate, or its key.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The certificate files cannot be served with.
    #[error("cannot serve with {} and {}: {why}", chain.display(), key.display())]
    Certificate {
        /// The chain's file.
        chain: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What is wrong.
        why: PublicCertificateError,
    },
    /// The certificate files lack a platform host, so nobody could sign in.
    #[error(
        "{files} does not name {missing}; console., login. and connect. of the platform domain are needed, or a wildcard for them"
    )]
    CertificateNames {
        /// The chains' files.
        files: String,
        /// The first host that is not covered.
        missing: String,
    },
    /// The sealed keys cannot be opened.
    #[error("the installation's keys cannot be opened with this master key: {0}")]
    MasterKey(String),
    /// A key file covers both what only control may hold and what every edge holds.
    #[error("the certificate in {} is for {platform} and for {application} alike; an edge that is a process of its own must not hold the key of the platform's hosts; use one certificate for console., login. and connect., and another one for applications", chain.display())]
    CertificateShared {
        /// The chain's file.
        chain: PathBuf,
        /// The platform host it covers.
        platform: String,
        /// The application name it covers.
        application: String,
    },
    /// Another process holds the edge that this one was to hold.
    #[error(
        "the edge {0} of this installation runs in another process now; this one needs an edge with an id of its own, or none"
    )]
    EdgeTaken(EdgeId),
    /// The installation is to begin under a root whose key is kept elsewhere, and that has not signed its issuing CA yet.
    #[error("the root that is kept elsewhere has not signed this installation's issuing CA yet")]
    Unsigned {
        /// What it is to sign, PEM.
        csr_pem: String,
    },
    /// The root that is kept elsewhere, or what it signed, is not to begin with.
    #[error("the installation cannot begin under this root: {0}")]
    RootElsewhere(String),
    /// A key that the first start made is gone.
    #[error("the installation's key {0} is missing from the database")]
    KeyMissing(&'static str),
    /// A key can be opened but not used.
    #[error("the installation's key {0} is damaged")]
    KeyDamaged(&'static str),
    /// A key cannot be made.
    #[error("a key could not be made: {0}")]
    KeyMaking(String),
    /// The CA cannot be made or opened.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The CA does not issue.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// The installation's own roots cannot be trusted.
    #[error("the installation's root certificates cannot be used: {0}")]
    Trust(#[from] mezusphere_pki::TrustError),
    /// The threads that hash passwords cannot be started.
    #[error("the password threads cannot be started: {0}")]
    Threads(std::io::Error),
    /// What the mail server is known by cannot be read.
    #[error("the authorities of the mail server cannot be used: {0}")]
    Mail(String),
    /// The certificate authority cannot be spoken to as it is configured.
    #[error(transparent)]
    Acme(#[from] crate::AcmeConfigError),
    /// The bundle of an environment cannot be signed.
    #[error("an environment's bundle cannot be signed: {0}")]
    Bundle(#[from] tunnel_proto::bundle::MintError),
    /// The database refuses a change.
    #[error("the database refuses a change: {0}")]
    Write(WriteError),
    /// The database does not work.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<WriteError> for OpenError {
    fn from(why: WriteError) -> Self {
        match why {
            WriteError::Store(why) => Self::Store(why),
            why => Self::Write(why),
        }
    }
}
