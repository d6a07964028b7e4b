//! What an authority is asked to certify for the whole installation. Hosts' own certificates, and all of ordering, are
//! [`crate::acme`]'s.

use mezusphere_model::document::Partition;
use mezusphere_model::{Host, Platform};
use mezusphere_pki::public::covers;
use mezusphere_store::StoreError;
use mezusphere_store::primary::ReadTx;

use super::own;
use crate::AcmeConfig;
use crate::acme::wanted;

/// Says among names that an authority certifies them.
pub(super) const MARK: &str = "(ordered)";

/// Who issues a certificate of the whole installation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Issuer {
    /// The internal CA.
    Internal,
    /// The authority.
    Authority,
}

/// What the whole installation needs where an authority certifies: the platform's hosts, and the wildcard for endpoints if
/// it was asked for. Names under `localhost` are the internal CA's.
pub(super) fn names(config: &AcmeConfig, platform: &Platform) -> Vec<(Partition, Vec<String>, Issuer)> {
    let of = |local: bool| if local { Issuer::Internal } else { Issuer::Authority };
    let by_us = own::names(platform).into_iter().filter_map(|(partition, names)| match partition {
        Partition::Control => Some((partition, names, of(wanted::is_local(platform.base.as_str())))),
        _ => wanted::is_local(platform.apps.as_str()).then_some((partition, names, Issuer::Internal)),
    });
    let wildcard = wanted::wildcard(config, platform);
    by_us.chain(wildcard.map(|name| (Partition::Platform, vec![name], Issuer::Authority))).collect()
}

/// Whether a certificate of the whole installation serves the host by now; one of the internal CA always does.
pub(super) async fn is_covered_now(
    tx: &mut ReadTx,
    config: &AcmeConfig,
    platform: &Platform,
    host: &Host,
) -> Result<bool, StoreError> {
    for (_, covering, issuer) in names(config, platform) {
        if covers(&covering, host) {
            let name = covering.first().map_or("", String::as_str);
            return Ok(issuer == Issuer::Internal || wanted::in_use(tx, name).await?.is_some());
        }
    }
    Ok(false)
}
