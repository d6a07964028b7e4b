//! The installation itself, and who is asking.

use mezusphere_model::platform::PlatformHost;
use mezusphere_store::primary::project;

use crate::Shared;
use crate::api::types::{Installation, WhoAmI};
use crate::caller::{Caller, Permission, Who};
use crate::digest::hex;
use crate::problem::Refusal;

/// What the installation is.
pub(crate) fn show(shared: &Shared, caller: &Caller) -> Result<Installation, Refusal> {
    let _grant = caller.allow(Permission::InstallationRead)?;
    let platform = &shared.config.platform;
    Ok(Installation {
        base: platform.base.to_string(),
        apps: platform.apps.to_string(),
        port: platform.port,
        trust_domain: shared.installation.trust_domain.clone(),
        root_sha256: hex(&shared.known_ca().root_sha256),
        root_pem: shared.known_ca().state.roots.concat(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

/// Who the caller is. Needs no permission: everybody may know what they themselves may do.
pub(crate) async fn whoami(shared: &Shared, caller: &Caller) -> Result<WhoAmI, Refusal> {
    let project = match &caller.who {
        Who::LocalOperator | Who::OperatorKey { .. } => None,
        Who::ServiceAccount { project, .. } => {
            let row = shared.primary.read(async |tx| project::get(tx, *project).await).await?;
            row.map(|row| row.slug)
        }
    };
    Ok(WhoAmI {
        actor: caller.actor(),
        project,
        permissions: caller.permissions().into_iter().map(Permission::name).collect(),
    })
}

/// The login host's account page: where somebody goes who opens the console's address before signing in.
pub(crate) fn account_page(shared: &Shared) -> Result<String, Refusal> {
    let login =
        shared.config.platform.host(PlatformHost::Login).map_err(crate::publish::PublishError::from)?;
    Ok(format!("{}/account", shared.config.platform.origin(&login)))
}
