//! What edges and warpgates are told: the platform document, and each environment's site with its signed bundle.
//!
//! Principals, sessions and API keys are published by the store's own functions, in the transaction that changes them.

use mezusphere_model::bundle::{Bundle, EdgeAddress};
use mezusphere_model::document::{Document, Partition};
use mezusphere_model::host::HostError;
use mezusphere_model::id::{EnvironmentId, ProjectId};
use mezusphere_model::platform::PlatformHost;
use mezusphere_model::route::{READER, SiteDoc};
use mezusphere_pki::{Role, SpiffeName};
use mezusphere_store::primary::node::{self, NodeId};
use mezusphere_store::primary::{ReadTx, Tx, setting, site};
use mezusphere_store::{StoreError, WriteError};
use tunnel_proto::bundle::MintError;

use crate::node::{hex, sha256};
use crate::{OpenError, Shared, eviction};

/// Name of the setting that says which platform document is published: SHA-256 of its JSON.
const PLATFORM_SETTING: &str = "published/platform";

/// Why something was not published. The transaction must be given up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishError {
    /// The bundle cannot be signed, or is too large.
    #[error(transparent)]
    Mint(#[from] MintError),
    /// A host of the platform cannot be formed.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The database did not take it.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl From<StoreError> for PublishError {
    fn from(why: StoreError) -> Self {
        Self::Write(why.into())
    }
}

impl From<PublishError> for OpenError {
    fn from(why: PublishError) -> Self {
        match why {
            PublishError::Mint(why) => Self::Bundle(why),
            PublishError::Host(why) => Self::Host(why),
            PublishError::Write(why) => why.into(),
        }
    }
}

/// The nodes of the installation, as bundles name them.
struct Nodes {
    edges: Vec<EdgeAddress>,
    denied: Vec<String>,
}

impl Shared {
    /// Raises an environment's revision and publishes its site and bundle; the last step of every change to its
    /// hosts and routes. Returns the new revision.
    pub(crate) async fn publish_site(
        &self,
        tx: &mut Tx,
        project: ProjectId,
        environment: EnvironmentId,
    ) -> Result<u64, PublishError> {
        let site = site::publish(tx, project, environment).await?;
        let revision = site.revision;
        let nodes = self.nodes(tx).await?;
        let bundle = self.bundle(site, nodes, tx.now())?;
        let signer = self.signer.load();
        let bundle = tunnel_proto::bundle::sign(&bundle, &signer.key, signer.identity.chain())?;
        site::publish_bundle(tx, project, &bundle).await?;
        Ok(revision)
    }

    fn bundle(
        &self,
        site: SiteDoc,
        nodes: Nodes,
        now: mezusphere_model::Timestamp,
    ) -> Result<Bundle, PublishError> {
        let platform = &self.config.platform;
        let endpoint = match site.hosts.first() {
            Some(endpoint) => endpoint.clone(),
            None => platform.endpoint(&site.project_slug, &site.environment_slug)?,
        };
        Ok(Bundle {
            min_reader: READER,
            issued_at: now,
            trust_domain: self.installation.trust_domain.clone(),
            roots_pem: self.keys.roots_pem.clone(),
            assertion_jwks: self.keys.assertion_jwks.clone(),
            edges: nodes.edges,
            denied: nodes.denied,
            origin: platform.origin(&endpoint),
            login_host: platform.host(PlatformHost::Login)?,
            site,
        })
    }

    async fn nodes(&self, tx: &mut ReadTx) -> Result<Nodes, StoreError> {
        let mut nodes = Nodes { edges: Vec::new(), denied: Vec::new() };
        for row in node::list(tx).await? {
            if row.denied_at.is_some() {
                nodes.denied.extend(self.node_name(row.id));
            } else if let NodeId::Edge(id) = row.id
                && !row.host.is_empty()
            {
                nodes.edges.push(EdgeAddress { id, name: row.name, host: row.host, port: row.port });
            }
        }
        Ok(nodes)
    }

    fn node_name(&self, id: NodeId) -> Option<String> {
        let role = match id {
            NodeId::Edge(id) => Role::Edge(id),
            NodeId::Control(id) => Role::Control(id),
        };
        let domain = self.installation.trust_domain().ok()?;
        Some(SpiffeName::new(domain, role).to_string())
    }

    /// Publishes the platform document if what is published is another one.
    pub(crate) async fn publish_platform(&self, tx: &mut Tx) -> Result<(), PublishError> {
        let mut denied = self.nodes(tx).await?.denied;
        denied.extend(eviction::denied(tx).await?);
        let doc = self.keys.platform_doc(&self.config.platform, &self.installation.trust_domain, denied);
        let digest = hex(&sha256(&json(&doc)?));
        if setting::get::<String>(tx, PLATFORM_SETTING).await?.as_ref() == Some(&digest) {
            return Ok(());
        }
        tx.publish(Partition::Platform, &Document::Platform(doc))?;
        setting::put(tx, PLATFORM_SETTING, &digest).await?;
        Ok(())
    }

    /// A digest of all that goes into every bundle and is not in its site: while it stays, bundles stay good.
    pub(crate) async fn bundle_context(&self, tx: &mut ReadTx) -> Result<String, PublishError> {
        let nodes = self.nodes(tx).await?;
        let edges: Vec<_> =
            nodes.edges.iter().map(|edge| (edge.id, &edge.name, &edge.host, edge.port)).collect();
        let context = serde_json::json!([
            self.signer.load().fingerprint,
            self.config.platform,
            self.installation.trust_domain,
            self.keys.roots_pem,
            self.keys.assertion_jwks,
            edges,
            nodes.denied,
        ]);
        Ok(hex(&sha256(&json(&context)?)))
    }
}

fn json(value: &impl serde::Serialize) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|why| StoreError::Damaged(why.to_string()))
}
