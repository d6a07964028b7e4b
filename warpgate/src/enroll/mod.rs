//! The connect service: how a connection key becomes a certificate and a bundle, and how newer ones come.
//!
//! The root is pinned by its SHA-256 out of the key, so nothing is told before the other side has proved that
//! it belongs to the right installation; and to who has a bundle, nothing before it is good by that one's trust as well. The
//! key pair is made here and stays here; only a CSR leaves (R20).

mod dry;
mod failure;
mod quic;
mod tcp;
mod way;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use mezusphere_model::bundle::{EdgeAddress, SignedBundle};
use mezusphere_model::connection_key::ConnectionKey;
use mezusphere_model::id::WarpgateId;
use mezusphere_model::{Clock, Timestamp};
use mezusphere_pki::trust::certificates_from_pem;
use mezusphere_pki::{CurrentTrust, ExpectedRole, NodeIdentity, NodeKey, Role, Trust, verify_peer};
use tokio::time::Instant;
use tunnel_proto::connect::{BundleQuery, Enroll, Enrolled, Reply, Request};

pub use dry::DryRun;
pub use failure::ConnectFailure;

use crate::bundle::Bundles;
use crate::limits::CLOCK_SKEW_MAX;
use crate::state::Kept;
use crate::tunnel::{Network, Transport};
use way::Ways;
pub(crate) use way::tls;

/// TLS alert 120 (RFC 7301 §3.2): whoever answered does not speak the protocol that was asked for.
const NO_APPLICATION_PROTOCOL: u8 = 120;

/// The connect service a connection key names.
pub struct ConnectService {
    ways: Ways,
    key: ConnectionKey,
    clock: Clock,
    hostname: String,
}

/// What a warpgate knows of the installation beside its key.
#[derive(Clone, Default)]
pub struct Known {
    /// Where the service may be reached when its own name leads nowhere.
    pub edges: Vec<EdgeAddress>,
    /// Whom it trusts; `None`: nobody but the key's root, as there was no bundle yet.
    pub trust: Option<CurrentTrust>,
}

impl Known {
    /// What these bundles say now.
    pub fn of(bundles: &Bundles) -> Self {
        Self { edges: bundles.current().edges.clone(), trust: Some(bundles.trust().clone()) }
    }

    /// What was kept; nothing, if that cannot be used any more.
    pub fn kept(kept: &Kept, clock: &Clock) -> Self {
        kept.bundles(clock.clone()).map_or_else(|_| Self::default(), |bundles| Self::of(&bundles))
    }
}

/// Who asks for a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applicant {
    /// A warpgate that has no name yet.
    New,
    /// This one, for its next certificate.
    Renewing(WarpgateId),
    /// This one, whose certificate edges refuse: control may give it another name, or say why not.
    Refused(WarpgateId),
}

impl Applicant {
    fn known_as(self) -> Option<WarpgateId> {
        match self {
            Self::New => None,
            Self::Renewing(id) | Self::Refused(id) => Some(id),
        }
    }

    /// Whether the certificate may name this instance.
    fn may_become(self, given: WarpgateId) -> bool {
        match self {
            Self::Renewing(id) => id == given,
            Self::New | Self::Refused(_) => true,
        }
    }
}

/// What enrollment gave.
pub struct Enrollment {
    /// Our certificate with its key.
    pub identity: NodeIdentity,
    /// The environment's bundle; not verified yet.
    pub bundle: SignedBundle,
    /// Trust in the key's root alone: what the first bundle is judged by.
    pub pinned: Trust,
    /// Name of the key's service account.
    pub account: String,
    /// The project's slug.
    pub project: String,
    /// The environment's slug.
    pub environment: String,
    /// How the service was reached.
    pub transport: Transport,
    /// How long it took.
    pub took: Duration,
    /// This machine's clock minus control's, in milliseconds.
    pub clock_skew_ms: i64,
}

impl Enrollment {
    /// Checks that the certificate is one that `trust` stands behind: an edge relayed it.
    pub fn judge(&self, trust: &Trust, now: Timestamp) -> Result<(), ConnectFailure> {
        let judged = verify_peer(self.identity.chain(), trust, now, ExpectedRole::AnyWarpgate);
        judged.map(|_| ()).map_err(|why| ConnectFailure::bad_answer(&format!("our own certificate: {why}")))
    }
}

impl ConnectService {
    /// The service of `key`, dialled from `network`; `hostname` is told to control for people to read.
    pub fn new(network: Network, key: ConnectionKey, clock: Clock, hostname: String) -> Self {
        Self { ways: Ways::new(network, clock.clone()), key, clock, hostname }
    }

    /// Host and port, for people.
    pub fn address(&self) -> String {
        format!("{}:{}", self.key.host, self.key.port)
    }

    /// The key it was made for.
    pub fn key(&self) -> &ConnectionKey {
        &self.key
    }

    /// Gets a certificate for a new key.
    pub async fn enroll(&self, applicant: Applicant, known: &Known) -> Result<Enrollment, ConnectFailure> {
        let node_key = NodeKey::generate().map_err(|why| ConnectFailure::fault(why.to_string()))?;
        let csr = node_key.csr_der().map_err(|why| ConnectFailure::fault(why.to_string()))?;
        let request = Request::Enroll(Enroll {
            key: self.key.key.clone(),
            environment: self.key.environment,
            csr_der: BASE64.encode(csr),
            instance: applicant.known_as(),
            agent: crate::AGENT.to_owned(),
            hostname: self.hostname.clone(),
        });
        let (asked_at, start) = (self.clock.now(), Instant::now());
        let (reply, transport) = self.ask(&request, known).await?;
        let took = start.elapsed();
        let enrolled = match reply {
            Reply::Enrolled(enrolled) => *enrolled,
            Reply::Refused(refusal) => return Err(ConnectFailure::refused(&refusal)),
            Reply::Bundle { .. } | Reply::Checked(_) => {
                return Err(ConnectFailure::bad_answer("it answered another question"));
            }
        };
        let identity = NodeIdentity::from_pem(&enrolled.chain_pem, node_key)
            .map_err(|why| ConnectFailure::bad_answer(&why.to_string()))?;
        let node = identity.name().role;
        if !self.is_ours(&node, enrolled.warpgate, applicant) {
            return Err(ConnectFailure::bad_answer("the certificate names another node"));
        }
        self.accept(enrolled, identity, transport, took, asked_at.after(took / 2))
    }

    /// The environment's bundle, if there is one newer than `have_revision`; not verified yet.
    pub async fn newer_bundle(
        &self,
        have_revision: u64,
        known: &Known,
    ) -> Result<Option<SignedBundle>, ConnectFailure> {
        let request = Request::Bundle(BundleQuery {
            key: self.key.key.clone(),
            environment: self.key.environment,
            have_revision,
        });
        match self.ask(&request, known).await?.0 {
            Reply::Bundle { bundle } => Ok(bundle),
            Reply::Refused(refusal) => Err(ConnectFailure::refused(&refusal)),
            Reply::Enrolled(_) | Reply::Checked(_) => {
                Err(ConnectFailure::bad_answer("it answered another question"))
            }
        }
    }

    async fn ask(&self, request: &Request, known: &Known) -> Result<(Reply, Transport), ConnectFailure> {
        let json = request.to_json().map_err(|why| ConnectFailure::fault(why.to_string()))?;
        let framed =
            tunnel_proto::connect::frame(&json).map_err(|why| ConnectFailure::fault(why.to_string()))?;
        let (answer, transport) = self.ways.ask(&self.key, &framed, known).await?;
        let reply = Reply::from_json(&answer).map_err(|why| ConnectFailure::bad_answer(&why.to_string()))?;
        Ok((reply, transport))
    }

    /// Whether a certificate names this warpgate: of the key's environment, and an instance it may be.
    fn is_ours(&self, node: &Role, given: WarpgateId, applicant: Applicant) -> bool {
        match node {
            Role::Warpgate { environment, id, .. } => {
                *environment == self.key.environment && *id == given && applicant.may_become(*id)
            }
            Role::Edge(_) | Role::Control(_) => false,
        }
    }

    /// Checks what control gave before it is used: an edge relayed it.
    fn accept(
        &self,
        enrolled: Enrolled,
        identity: NodeIdentity,
        transport: Transport,
        took: Duration,
        here: Timestamp,
    ) -> Result<Enrollment, ConnectFailure> {
        let bad = |why: String| ConnectFailure::bad_answer(&why);
        let life = identity.not_after().since(enrolled.control_time);
        let clock_skew_ms = skew_ms(here, enrolled.control_time, life)?;
        let mut candidates = Vec::new();
        for pem in &enrolled.roots_pem {
            candidates.extend(certificates_from_pem(pem).map_err(|why| bad(why.to_string()))?);
        }
        let pinned = Trust::from_pin(&self.key.root, &candidates).map_err(|why| bad(why.to_string()))?;
        Ok(Enrollment {
            identity,
            bundle: enrolled.bundle,
            pinned,
            account: enrolled.account,
            project: enrolled.project.to_string(),
            environment: enrolled.environment.to_string(),
            transport,
            took,
            clock_skew_ms,
        })
    }
}

/// How far the clock here is ahead of control's, in milliseconds, if a certificate of this life bears it.
fn skew_ms(here: Timestamp, control: Timestamp, life: Duration) -> Result<i64, ConnectFailure> {
    let skew_ms = (here.as_micros() - control.as_micros()) / 1000;
    let skew_max = CLOCK_SKEW_MAX.min(life / 4);
    if Duration::from_millis(skew_ms.unsigned_abs()) > skew_max {
        return Err(ConnectFailure::clock_skew(here, control, skew_max));
    }
    Ok(skew_ms)
}
