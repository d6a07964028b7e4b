//! The internal CA: looking at it, replacing it, taking that back, throwing it out, and having it signed by a root that is
//! kept elsewhere. What is shown is put together in [`show`].

mod show;

use std::time::Duration;

use mezusphere_store::primary::audit::AuditEntry;
use mezusphere_store::primary::certificate::{self, IssuedRow};
use mezusphere_store::primary::{PageRequest, Tx};
use serde_json::{Value, json};

use super::Paging;
use crate::api::types::{CaRequest, CaStatus, InstallCa, IssuedCertificate, Page, RootKey, RotateCa};
use crate::ca::machine::{MAX_WAIT, MAX_WAIT_HURRY};
use crate::ca::offline::{self, Bring, Brought, InstallError};
use crate::ca::root_here;
use crate::ca::run::RotationError;
use crate::ca::state::What;
use crate::caller::{Caller, Grant, Permission, Who};
use crate::digest::hex;
use crate::problem::{self, Refusal};
use crate::{OpenError, Shared};

/// Longest a phase may wait for nodes, in seconds: a rotation that takes longer than its CA has left helps nobody.
const WAIT_S_MAX: u64 = 30 * 24 * 60 * 60;

/// What the CA is, how far a rotation is, and who holds what.
pub(crate) async fn show(shared: &Shared, caller: &Caller) -> Result<CaStatus, Refusal> {
    let _grant = caller.allow(Permission::InstallationRead)?;
    show::status(shared).await
}

/// Certificates the internal CA issued, newest first.
pub(crate) async fn issued(
    shared: &Shared,
    caller: &Caller,
    paging: Paging,
) -> Result<Page<IssuedCertificate>, Refusal> {
    let _grant = caller.allow(Permission::InstallationRead)?;
    let view = |row: IssuedRow| IssuedCertificate {
        name: row.name,
        sha256: hex(&row.fingerprint),
        ca: row.issuer.map(|issuer| hex(&issuer)),
        issued_at: row.issued_at.to_string(),
        not_after: row.not_after.to_string(),
    };
    let page = PageRequest::from(paging);
    let found = shared.primary.read(async |tx| certificate::list(tx, &page).await).await?;
    Ok(Page { items: found.rows.into_iter().map(view).collect(), next: found.next })
}

/// Begins a rotation.
pub(crate) async fn rotate(
    shared: &Shared,
    caller: &Caller,
    request: &RotateCa,
) -> Result<CaStatus, Refusal> {
    let grant = caller.allow(Permission::InstallationWrite)?;
    let what = if request.root { What::Root } else { What::Issuing };
    let wait = wait(request.now, request.max_wait_s)?;
    shared
        .primary
        .write(async |tx| {
            shared.begin_rotation(tx, what, grant.actor(), request.now, wait).await?;
            audit(tx, shared, &grant, "ca.rotate", json!({ "what": what, "now": request.now }));
            Ok::<_, Refusal>(())
        })
        .await?;
    taken_up(shared).await
}

/// Takes the rotation back that runs.
pub(crate) async fn abort(shared: &Shared, caller: &Caller) -> Result<CaStatus, Refusal> {
    let grant = caller.allow(Permission::InstallationWrite)?;
    shared
        .primary
        .write(async |tx| {
            shared.abort_rotation(tx).await?;
            audit(tx, shared, &grant, "ca.abort", Value::Null);
            Ok::<_, Refusal>(())
        })
        .await?;
    taken_up(shared).await
}

/// Throws the issuing CA out, because its key is in other hands.
pub(crate) async fn taint(shared: &Shared, caller: &Caller) -> Result<CaStatus, Refusal> {
    let grant = caller.allow(Permission::InstallationWrite)?;
    shared
        .primary
        .write(async |tx| {
            // Another control node may have replaced it since this one looked.
            let refused = shared.ca(tx).await?.state.issuing.key_sha256.clone();
            shared.taint(tx, grant.actor(), None).await?;
            audit(tx, shared, &grant, "ca.taint", json!({ "refused": refused }));
            Ok::<_, Refusal>(())
        })
        .await?;
    taken_up(shared).await
}

/// What a root elsewhere is to sign.
pub(crate) async fn request(shared: &Shared, caller: &Caller) -> Result<CaRequest, Refusal> {
    let grant = caller.allow(Permission::InstallationWrite)?;
    shared
        .primary
        .write(async |tx| {
            let csr_pem = offline::request(tx).await?;
            audit(tx, shared, &grant, "ca.request", Value::Null);
            Ok(CaRequest { csr_pem })
        })
        .await
}

/// Brings in what the root signed.
pub(crate) async fn install(
    shared: &Shared,
    caller: &Caller,
    request: &InstallCa,
) -> Result<CaStatus, Refusal> {
    let grant = caller.allow(Permission::InstallationWrite)?;
    let bring = if request.taint {
        Bring::Taint
    } else {
        Bring::Rotate { hurry: request.now, max_wait: wait(request.now, request.max_wait_s)? }
    };
    let brought = Brought {
        certificate_pem: request.certificate_pem.clone(),
        root: request.root_pem.clone().zip(request.cross_pem.clone()),
    };
    shared
        .primary
        .write(async |tx| {
            shared.install_ca(tx, &brought, grant.actor(), bring).await?;
            audit(tx, shared, &grant, "ca.install", json!({ "taint": request.taint }));
            Ok::<_, Refusal>(())
        })
        .await?;
    taken_up(shared).await
}

/// The root with its key, for a file elsewhere; nothing changes here. For whoever is on the server itself: the key does not
/// travel through the edge.
pub(crate) async fn take_root_key(shared: &Shared, caller: &Caller) -> Result<RootKey, Refusal> {
    let grant = caller.allow(Permission::InstallationWrite)?;
    if !matches!(caller.who, Who::LocalOperator) {
        return Err(Refusal::new(&problem::CA_LOCAL_ONLY, "the root's key is given out on the server alone"));
    }
    shared
        .primary
        .write(async |tx| {
            let Some(root) = root_here(tx, &*shared.seal).await? else {
                return Err(RotationError::Offline.into());
            };
            let sha256 = hex(&root.fingerprint());
            audit(tx, shared, &grant, "ca.root_taken", json!({ "root": sha256 }));
            Ok(RootKey { sha256, secret_pem: root.secret_pem().to_string() })
        })
        .await
}

/// Forgets the key of the root with this SHA-256, which is kept elsewhere now.
pub(crate) async fn forget_root_key(shared: &Shared, caller: &Caller, sha256: &str) -> Result<(), Refusal> {
    let grant = caller.allow(Permission::InstallationWrite)?;
    if !matches!(caller.who, Who::LocalOperator) {
        return Err(Refusal::new(
            &problem::CA_LOCAL_ONLY,
            "the root's key is taken away on the server alone",
        ));
    }
    shared
        .primary
        .write(async |tx| {
            shared.forget_root(tx, sha256).await?;
            audit(tx, shared, &grant, "ca.root_forgotten", json!({ "root": sha256 }));
            Ok(())
        })
        .await
}

fn wait(now: bool, seconds: Option<u64>) -> Result<Duration, Refusal> {
    match seconds {
        None if now => Ok(MAX_WAIT_HURRY),
        None => Ok(MAX_WAIT),
        Some(seconds @ 1..=WAIT_S_MAX) => Ok(Duration::from_secs(seconds)),
        Some(_) => {
            let detail = format!("max_wait_s: 1 to {WAIT_S_MAX} seconds");
            Err(Refusal::new(&problem::REQUEST_INVALID, detail).with_next("wait 1s to 30d"))
        }
    }
}

/// This node at once, the others as they hear of it; the job goes on with what there is to do.
async fn taken_up(shared: &Shared) -> Result<CaStatus, Refusal> {
    shared.follow_ca().await?;
    shared.rotation.notify_one();
    show::status(shared).await
}

fn audit(tx: &mut Tx, shared: &Shared, grant: &Grant, action: &str, detail: Value) {
    tx.audit(AuditEntry {
        organization: shared.installation.organization,
        project: None,
        actor: grant.actor().to_owned(),
        action: action.to_owned(),
        target: shared.installation.trust_domain.clone(),
        address: grant.address().map(|address| address.to_string()),
        detail,
    });
}

impl From<OpenError> for Refusal {
    fn from(why: OpenError) -> Self {
        match why {
            OpenError::Store(why) => why.into(),
            OpenError::Write(why) => why.into(),
            why => {
                tracing::error!(error = %why, "The CA cannot be worked with");
                Self::new(&problem::INTERNAL, "the CA cannot be worked with")
            }
        }
    }
}

impl From<RotationError> for Refusal {
    fn from(why: RotationError) -> Self {
        let code = match why {
            RotationError::Open(why) => return why.into(),
            RotationError::Offline => &problem::CA_ROOT_ELSEWHERE,
            RotationError::OtherRoot => &problem::NOT_FOUND,
            RotationError::Runs => &problem::CA_ROTATION_RUNS,
            RotationError::Full => &problem::CA_REFUSED_FULL,
            RotationError::None | RotationError::TooLate | RotationError::Undone => {
                &problem::CA_NOTHING_TO_ABORT
            }
        };
        Self::new(code, why.to_string())
    }
}

impl From<InstallError> for Refusal {
    fn from(why: InstallError) -> Self {
        match why {
            InstallError::Rotation(why) => why.into(),
            InstallError::NoRequest => Self::new(&problem::CA_NO_REQUEST, why.to_string()),
            InstallError::Count(_)
            | InstallError::Ceremony(_)
            | InstallError::Root(_)
            | InstallError::SameRoot => Self::new(&problem::CA_CERTIFICATE, why.to_string()),
        }
    }
}
