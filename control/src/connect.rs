//! The connect service: gives a warpgate that holds a connection key its certificate and its bundle.
//!
//! The answer is never an error but a reply: what is refused says why, with a stable code and a next step.

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use mezusphere_identity::service_account::{self as keys, KeyRefusal, VerifiedKey};
use mezusphere_model::Timestamp;
use mezusphere_model::bundle::SignedBundle;
use mezusphere_model::id::{EnvironmentId, WarpgateId};
use mezusphere_model::token::ApiKeyToken;
use mezusphere_pki::authority::IssueError;
use mezusphere_store::primary::audit::AuditEntry;
use mezusphere_store::primary::environment::{self, EnvironmentRow};
use mezusphere_store::primary::project::{self, ProjectRow};
use mezusphere_store::primary::warpgate::{self, WarpgateRow};
use mezusphere_store::primary::{ReadTx, Tx, api_key, site};
use mezusphere_store::{StoreError, WriteError};
use tunnel_proto::connect::{
    BundleQuery, Check, Checked, Enroll, Enrolled, Refusal, Reply, Request, refusal,
};

use crate::Shared;
use crate::config::LEAF_TTL_MIN;
use crate::digest::{hex, sha256};
use crate::eviction::{self, Eviction};
use crate::leaf::note_issued;
use crate::use_case::api_key::CONNECT;

/// Longest name of a machine or an agent that is kept, in characters; a DNS name has at most 253.
const WORDS_LEN_MAX: usize = 253;

/// How stale `last used` of a key may be before it is written again: a bundle poll is no reason for a write.
const USED_GRANULARITY: Duration = Duration::from_mins(1);

/// What an agent's version starts with.
const AGENT: &str = "warpgate/";

/// Oldest agent that can still enrol: its major and minor version.
const AGENT_MIN: (u64, u64) = (0, 1);

/// Why a warpgate is not served.
#[derive(Debug, thiserror::Error)]
enum ConnectRefused {
    #[error(transparent)]
    Key(#[from] KeyRefusal),
    #[error("this key does not connect warpgates")]
    NotAConnectionKey,
    #[error("this key connects another environment")]
    OtherEnvironment,
    #[error("there is no such environment in the key's project")]
    NoEnvironment,
    #[error("{0} is too old for this installation")]
    TooOld(String),
    #[error("the certificate request is not base64")]
    NotBase64,
    #[error(transparent)]
    Issue(#[from] IssueError),
    #[error("the warpgate id belongs to another environment")]
    ForeignInstance,
    #[error("this warpgate was evicted")]
    Evicted,
    #[error("the environment has no bundle yet")]
    NoBundle,
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl From<StoreError> for ConnectRefused {
    fn from(why: StoreError) -> Self {
        Self::Write(why.into())
    }
}

impl From<ConnectRefused> for Refusal {
    fn from(why: ConnectRefused) -> Self {
        const NEW_KEY: &str = "create a new key with: mezusphere api-key create PROJECT";
        let (code, next) = match &why {
            ConnectRefused::Key(KeyRefusal::Unknown) => (refusal::KEY_UNKNOWN, NEW_KEY),
            ConnectRefused::Key(KeyRefusal::Revoked(_)) => (refusal::KEY_REVOKED, NEW_KEY),
            ConnectRefused::Key(KeyRefusal::Expired(_)) => (refusal::KEY_EXPIRED, NEW_KEY),
            ConnectRefused::Key(KeyRefusal::Suspended) => {
                (refusal::KEY_REVOKED, "ask who runs the installation to let the service account act again")
            }
            ConnectRefused::NotAConnectionKey => (
                refusal::KEY_SCOPE,
                "create a connection key with: mezusphere api-key create PROJECT --scope connect",
            ),
            ConnectRefused::OtherEnvironment => {
                (refusal::KEY_SCOPE, "use the connection key that was made for this environment")
            }
            ConnectRefused::NoEnvironment => (
                refusal::ENVIRONMENT_UNKNOWN,
                "it may have been deleted; create a connection key for another one",
            ),
            ConnectRefused::TooOld(_) => {
                (refusal::AGENT_TOO_OLD, "install the warpgate that belongs to this installation")
            }
            ConnectRefused::NotBase64 | ConnectRefused::Issue(IssueError::Csr(_)) => {
                (refusal::CSR_INVALID, "install this warpgate again; its certificate request is malformed")
            }
            ConnectRefused::ForeignInstance => {
                (refusal::KEY_SCOPE, "remove this warpgate's state directory to enrol it anew")
            }
            ConnectRefused::Evicted => (
                refusal::WARPGATE_EVICTED,
                "ask who runs the installation; with a new connection key and an empty state directory this machine \
                 may enrol as another warpgate",
            ),
            ConnectRefused::NoBundle | ConnectRefused::Issue(_) | ConnectRefused::Write(_) => {
                tracing::error!(error = %why, "A warpgate could not be served");
                let message = "something broke in control".to_owned();
                let next = "try again; if it stays, look at the server's log".to_owned();
                return Self { code: refusal::INTERNAL.to_owned(), message, next };
            }
        };
        Self { code: code.to_owned(), message: why.to_string(), next: next.to_owned() }
    }
}

impl Shared {
    /// Answers one message of the connect protocol.
    pub(crate) async fn connect(&self, message: &[u8], from: SocketAddr) -> Reply {
        let request = match Request::from_json(message) {
            Ok(request) => request,
            Err(why) => {
                return Reply::Refused(Refusal {
                    code: refusal::REQUEST_MALFORMED.to_owned(),
                    message: why.to_string(),
                    next: "install the warpgate that belongs to this installation".to_owned(),
                });
            }
        };
        let answer = match request {
            Request::Enroll(ask) => self.enroll(ask, from).await.map(|done| Reply::Enrolled(Box::new(done))),
            Request::Bundle(ask) => self.newer_bundle(ask).await.map(|bundle| Reply::Bundle { bundle }),
            Request::Check(ask) => self.check(&ask).await.map(|found| Reply::Checked(Box::new(found))),
        };
        answer.unwrap_or_else(|why| {
            tracing::info!(from = %from.ip(), reason = %why, "A warpgate was refused");
            Reply::Refused(why.into())
        })
    }

    async fn enroll(&self, ask: Enroll, from: SocketAddr) -> Result<Enrolled, ConnectRefused> {
        let csr = BASE64.decode(&ask.csr_der).map_err(|_| ConnectRefused::NotBase64)?;
        check_agent(&ask.agent)?;
        self.primary
            .write(async |tx| {
                let (key, project, environment) = admit(tx, &ask.key, ask.environment).await?;
                let id = self.instance(tx, &key, &environment, ask.instance).await?;
                let known = warpgate::get(tx, project.id, id).await?;
                let name = self.warpgate_name(project.id, environment.id, id);
                let now = tx.now();
                let ca = self.ca(tx).await?;
                let leaf = ca.issuing.issue(&csr, &name, now, self.life(&key, now))?;
                note_issued(tx, &self.installation, &leaf, &name).await?;
                put(tx, &key, &environment, id, &ask, leaf.not_after).await?;
                api_key::used(tx, project.id, key.key.id, tx.now()).await?;
                tx.audit(AuditEntry {
                    organization: project.organization,
                    project: Some(project.id),
                    actor: key.key.id.to_string(),
                    action: if known.is_some() { "warpgate.renew" } else { "warpgate.enroll" }.to_owned(),
                    target: id.to_string(),
                    address: Some(from.ip().to_string()),
                    detail: serde_json::json!({
                        "environment": environment.slug,
                        "serial": leaf.serial,
                        "sha256": leaf.chain.first().map(|leaf| hex(&sha256(leaf))),
                        "until": leaf.not_after.to_string(),
                    }),
                });
                let bundle = site::bundle(tx, project.id, environment.id).await?;
                Ok(Enrolled {
                    chain_pem: leaf.chain_pem(),
                    roots_pem: ca.state.lineage(),
                    warpgate: id,
                    spiffe: name.to_string(),
                    not_after: leaf.not_after,
                    control_time: tx.now(),
                    bundle: bundle.ok_or(ConnectRefused::NoBundle)?,
                    account: key.account.name,
                    project: project.slug,
                    environment: environment.slug,
                })
            })
            .await
    }

    /// Which instance it is from now on: the one it was, unless edges refuse that name; a machine that enrols anew with
    /// another good key gets a new one, so that the certificate that was taken away stays worthless. With the key it was
    /// evicted under it is refused: an eviction is of the machine, not of its certificate.
    async fn instance(
        &self,
        tx: &mut ReadTx,
        key: &VerifiedKey,
        environment: &EnvironmentRow,
        asked: Option<WarpgateId>,
    ) -> Result<WarpgateId, ConnectRefused> {
        let Some(id) = asked else { return Ok(WarpgateId::random(&self.entropy)) };
        let name = self.warpgate_name(environment.project, environment.id, id).to_string();
        match eviction::of(tx, &name).await? {
            None => Ok(id),
            Some(Eviction::ByOperator(had)) if had == key.key.id => Err(ConnectRefused::Evicted),
            Some(_) => Ok(WarpgateId::random(&self.entropy)),
        }
    }

    /// Life of a leaf: as configured, but not beyond the key it was got with.
    fn life(&self, key: &VerifiedKey, now: Timestamp) -> Duration {
        let left = key.key.expires_at.map_or(Duration::MAX, |end| end.since(now));
        self.config.leaf_ttl.warpgate.min(left).max(LEAF_TTL_MIN)
    }

    /// What an enrollment with this key would find. Makes nothing.
    async fn check(&self, ask: &Check) -> Result<Checked, ConnectRefused> {
        check_agent(&ask.agent)?;
        self.primary
            .read(async |tx| {
                let (key, project, environment) = admit(tx, &ask.key, ask.environment).await?;
                let bundle = site::bundle(tx, project.id, environment.id).await?;
                Ok(Checked {
                    roots_pem: self.ca(tx).await?.state.lineage(),
                    control_time: tx.now(),
                    certificate_s: self.life(&key, tx.now()).as_secs(),
                    bundle: bundle.ok_or(ConnectRefused::NoBundle)?,
                    account: key.account.name,
                    project: project.slug,
                    environment: environment.slug,
                })
            })
            .await
    }

    async fn newer_bundle(&self, ask: BundleQuery) -> Result<Option<SignedBundle>, ConnectRefused> {
        let (key, bundle, now) = self
            .primary
            .read(async |tx| {
                let (key, project, environment) = admit(tx, &ask.key, ask.environment).await?;
                let bundle = site::bundle(tx, project.id, environment.id).await?;
                Ok::<_, ConnectRefused>((key, bundle, tx.now()))
            })
            .await?;
        let stale = key.key.last_used_at.is_none_or(|at| now.since(at) >= USED_GRANULARITY);
        if stale {
            let (project, id) = (key.key.project, key.key.id);
            self.primary.write(async |tx| api_key::used(tx, project, id, now).await).await?;
        }
        let bundle = bundle.ok_or(ConnectRefused::NoBundle)?;
        Ok((bundle.revision > ask.have_revision).then_some(bundle))
    }
}

/// Whether the key connects warpgates of this environment, and what it belongs to.
async fn admit(
    tx: &mut ReadTx,
    presented: &ApiKeyToken,
    environment: EnvironmentId,
) -> Result<(VerifiedKey, ProjectRow, EnvironmentRow), ConnectRefused> {
    let key = keys::verify(tx, presented).await??;
    if !key.key.scopes.iter().any(|scope| scope.as_str() == CONNECT) {
        return Err(ConnectRefused::NotAConnectionKey);
    }
    if key.key.environment.is_some_and(|own| own != environment) {
        return Err(ConnectRefused::OtherEnvironment);
    }
    let project = project::get(tx, key.key.project).await?.ok_or(ConnectRefused::NoEnvironment)?;
    let row = environment::get(tx, project.id, environment).await?;
    Ok((key, project, row.ok_or(ConnectRefused::NoEnvironment)?))
}

async fn put(
    tx: &mut Tx,
    key: &VerifiedKey,
    environment: &EnvironmentRow,
    id: WarpgateId,
    ask: &Enroll,
    not_after: Timestamp,
) -> Result<(), ConnectRefused> {
    let now = tx.now();
    let row = WarpgateRow {
        id,
        project: environment.project,
        environment: environment.id,
        account: key.account.id,
        key: key.key.id,
        hostname: words(&ask.hostname),
        agent: words(&ask.agent),
        created_at: now,
        enrolled_at: now,
        not_after,
    };
    warpgate::put(tx, &row).await.map_err(|why| match why {
        WriteError::Conflict { .. } => ConnectRefused::ForeignInstance,
        why => why.into(),
    })
}

/// What a stranger's machine says of itself, fit to be shown.
fn words(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(WORDS_LEN_MAX).collect()
}

fn check_agent(agent: &str) -> Result<(), ConnectRefused> {
    match agent.strip_prefix(AGENT) {
        Some(version) if is_older(version, AGENT_MIN) => Err(ConnectRefused::TooOld(words(agent))),
        _ => Ok(()),
    }
}

/// Whether a program's version is below the oldest that is served; one that cannot be read is taken for a newer form.
pub(crate) fn is_older(version: &str, oldest: (u64, u64)) -> bool {
    let mut parts = version.split('.').map(str::parse::<u64>);
    matches!((parts.next(), parts.next()), (Some(Ok(major)), Some(Ok(minor))) if (major, minor) < oldest)
}
