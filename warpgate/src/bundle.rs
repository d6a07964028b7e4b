//! The environment bundle: everything an exchange is decided on, verified to be control's word.
//!
//! Bundles come from enrollment, from edges by relay and from the connect service by polling; where one
//! came from says nothing. It is used if a control node of the trusted roots signed it, if it is for this
//! environment, and if its revision is the highest so far. The table of routes is built once and swapped whole.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use mezusphere_model::bundle::{Bundle, EdgeAddress, SignedBundle};
use mezusphere_model::document::RenewFrom;
use mezusphere_model::id::EnvironmentId;
use mezusphere_model::route::{PatternError, RouteDoc, Site};
use mezusphere_model::{Clock, Host, Timestamp};
use mezusphere_pki::{
    CurrentTrust, ExpectedRole, PeerError, Role, SpiffeName, Trust, TrustError, verify_peer,
};
use rustls_pki_types::CertificateDer;
use tokio::sync::watch;
use tunnel_proto::assertion::Audience;
use tunnel_proto::bundle::BundleError;
use tunnel_proto::jws::{Jwk, PublicKey};

use crate::limits::REVISION_WAIT_MAX;

/// Why a bundle is not used. What was in force stays in force.
#[derive(Debug, thiserror::Error)]
pub enum Rejected {
    /// Its signature or its form.
    #[error(transparent)]
    Unsigned(#[from] BundleError<SignerError>),
    /// For another environment.
    #[error("the bundle is for another environment, {0}")]
    OtherEnvironment(EnvironmentId),
    /// Older than the one in force.
    #[error("the bundle has revision {offered}, older than {current}")]
    Older {
        /// Its revision.
        offered: u64,
        /// The revision in force.
        current: u64,
    },
    /// A route's pattern does not compile here.
    #[error("a route of the bundle cannot be used: {0}")]
    Pattern(#[from] PatternError),
    /// Its roots or its trust domain.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

/// Why a bundle's signer is not believed.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// The certificate.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// Its key is of a kind that signs no bundle.
    #[error("the signer's key cannot be read")]
    Key,
}

/// A verified bundle, ready to decide with. Immutable.
#[derive(Debug)]
pub struct Trusted {
    /// Routes, compiled.
    pub site: Site,
    /// What verifies assertions.
    pub assertion_keys: Vec<Jwk>,
    /// Grows when [`Trusted::assertion_keys`] change, so that identities remembered before are verified anew.
    pub keys_generation: u64,
    /// Whom assertions must be for.
    pub audience: Audience,
    /// Edges to connect to: without those that were evicted.
    pub edges: Vec<EdgeAddress>,
    /// Public origin of the environment's endpoint, for people.
    pub origin: String,
    /// Host of [`Trusted::origin`].
    pub origin_host: Option<Host>,
    /// No upstream may set a cookie for it.
    pub login_host: Host,
    /// When it was signed.
    pub issued_at: Timestamp,
    /// Which CA this warpgate's certificate is to come from.
    pub renew_from: Option<RenewFrom>,
}

impl Trusted {
    /// Grows with every change of the environment.
    pub fn revision(&self) -> u64 {
        self.site.doc.revision
    }

    /// The routes, in the order they were written.
    pub fn routes(&self) -> &[RouteDoc] {
        &self.site.doc.routes
    }

    /// Whether the environment is published under `host`, which may be in any case.
    pub fn serves(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        self.site.doc.hosts.iter().any(|known| known.as_str().eq_ignore_ascii_case(host))
    }
}

/// What became of an offered bundle.
#[derive(Clone, Debug)]
pub enum Offered {
    /// It is in force now, in place of `before`.
    Taken {
        /// What was in force.
        before: Arc<Trusted>,
    },
    /// It is the one in force already.
    Known,
}

/// The bundle in force, and the trust that goes with it.
pub struct Bundles {
    environment: EnvironmentId,
    clock: Clock,
    trust: CurrentTrust,
    current: ArcSwap<Trusted>,
    /// As it came, to be kept.
    signed: ArcSwap<SignedBundle>,
    revision: watch::Sender<u64>,
}

impl Bundles {
    /// Starts with `signed`, judged by `pinned` trust at the time `at`; from then on by the bundle's own roots.
    pub fn start(
        signed: SignedBundle,
        pinned: &Trust,
        environment: EnvironmentId,
        at: Timestamp,
        clock: Clock,
    ) -> Result<Self, Rejected> {
        let bundle = open(&signed, pinned, at)?;
        if bundle.site.environment != environment {
            return Err(Rejected::OtherEnvironment(bundle.site.environment));
        }
        let trust = Trust::from_bundle(&bundle)?;
        let trusted = build(bundle, &trust, None)?;
        Ok(Self {
            environment,
            clock,
            trust: CurrentTrust::new(trust),
            revision: watch::Sender::new(trusted.revision()),
            current: ArcSwap::from_pointee(trusted),
            signed: ArcSwap::from_pointee(signed),
        })
    }

    /// Takes `signed` if it is newer and control signed it, whoever handed it over.
    ///
    /// # Errors
    /// [`Rejected`]; nothing has changed then.
    pub fn offer(&self, signed: SignedBundle) -> Result<Offered, Rejected> {
        let before = self.current.load_full();
        // The label is not signed. It only saves the work of verifying what cannot be newer.
        if signed.revision < before.revision() {
            return Err(Rejected::Older { offered: signed.revision, current: before.revision() });
        }
        if signed == **self.signed.load() {
            return Ok(Offered::Known);
        }
        let bundle = open(&signed, &self.trust.get(), self.clock.now())?;
        if bundle.site.environment != self.environment {
            return Err(Rejected::OtherEnvironment(bundle.site.environment));
        }
        if bundle.site.revision == before.revision() && bundle.issued_at <= before.issued_at {
            return Ok(Offered::Known); // the same content, signed earlier
        }
        let roots = Trust::from_bundle(&bundle)?;
        let newer = build(bundle, &roots, Some(&before))?;
        let revision = newer.revision();
        self.trust.replace(roots);
        self.current.store(Arc::new(newer));
        self.signed.store(Arc::new(signed));
        self.revision.send_replace(revision);
        Ok(Offered::Taken { before })
    }

    /// The bundle in force, for a short look. Do not hold it over an await.
    pub fn current(&self) -> Guard<Arc<Trusted>> {
        self.current.load()
    }

    /// The bundle in force, once its revision is at least `revision`; after [`REVISION_WAIT_MAX`] whatever there is.
    pub async fn at_least(&self, revision: u64) -> Arc<Trusted> {
        let mut changes = self.revision.subscribe();
        let reached = changes.wait_for(|newest| *newest >= revision);
        // Whether it came or not: the caller looks at the revision it got.
        drop(tokio::time::timeout(REVISION_WAIT_MAX, reached).await);
        self.current.load_full()
    }

    /// Wakes whenever a bundle is taken; holds its revision.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// The bundle as it came.
    pub fn signed(&self) -> Arc<SignedBundle> {
        self.signed.load_full()
    }

    /// Whom to trust, as the newest bundle says.
    pub fn trust(&self) -> &CurrentTrust {
        &self.trust
    }
}

fn open(signed: &SignedBundle, trust: &Trust, at: Timestamp) -> Result<Bundle, Rejected> {
    let judge = |chain: &[Vec<u8>]| -> Result<PublicKey, SignerError> {
        let chain: Vec<_> = chain.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
        verify_peer(&chain, trust, at, ExpectedRole::AnyControl)?;
        let leaf = chain.first().ok_or(SignerError::Key)?;
        let leaf = rustls::server::ParsedCertificate::try_from(leaf).map_err(|_| SignerError::Key)?;
        PublicKey::from_spki_der(&leaf.subject_public_key_info()).map_err(|_| SignerError::Key)
    };
    Ok(tunnel_proto::bundle::open(signed, judge)?)
}

fn build(mut bundle: Bundle, trust: &Trust, former: Option<&Trusted>) -> Result<Trusted, PatternError> {
    bundle.edges.retain(|edge| !trust.denies(&SpiffeName::new(trust.domain().clone(), Role::Edge(edge.id))));
    let assertion_keys = Jwk::read_set(&bundle.assertion_jwks);
    let keys_generation = match former {
        None => 0,
        Some(former) if former.assertion_keys == assertion_keys => former.keys_generation,
        Some(former) => former.keys_generation + 1,
    };
    let authority = bundle.origin.split_once("://").map_or(bundle.origin.as_str(), |(_, rest)| rest);
    let origin_host = authority.split(':').next().and_then(|host| Host::parse(host).ok());
    Ok(Trusted {
        audience: Audience { project: bundle.site.project, environment: bundle.site.environment },
        site: Site::build(bundle.site)?,
        assertion_keys,
        keys_generation,
        edges: bundle.edges,
        origin: bundle.origin,
        origin_host,
        login_host: bundle.login_host,
        issued_at: bundle.issued_at,
        renew_from: bundle.renew_from,
    })
}
