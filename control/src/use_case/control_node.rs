//! The control nodes of the installation.

use mezusphere_store::primary::node::{self as nodes, NodeId};

use super::edge::{address, node_state};
use crate::Shared;
use crate::api::types::{ControlNode, Page};
use crate::caller::{Caller, Permission};
use crate::problem::Refusal;

/// Every control node that was there lately. There are few, so they come in one page.
pub(crate) async fn list(shared: &Shared, caller: &Caller) -> Result<Page<ControlNode>, Refusal> {
    let _grant = caller.allow(Permission::InstallationRead)?;
    shared
        .primary
        .read(async |tx| {
            let now = tx.now();
            let mut items = Vec::new();
            for row in nodes::list(tx).await? {
                let NodeId::Control(id) = row.id else { continue };
                items.push(ControlNode {
                    id,
                    state: node_state(&row, now),
                    address: row.node.as_ref().map(|at| address(&at.host, at.port)).unwrap_or_default(),
                    name: row.name,
                    region: row.region,
                    version: row.version,
                    answering: id == shared.config.node.id,
                    seen_at: row.seen_at.to_string(),
                });
            }
            Ok(Page { items, next: None })
        })
        .await
}
