//! What edges and warpgates are told: the platform and trust documents, and each environment's site with its signed
//! bundle.
//!
//! Principals, sessions and API keys are published by the store's own functions, in the transaction that changes them.

use mezusphere_model::bundle::{Bundle, EdgeAddress};
use mezusphere_model::document::{Document, Partition, TrustDoc};
use mezusphere_model::host::HostError;
use mezusphere_model::id::{EnvironmentId, ProjectId};
use mezusphere_model::platform::PlatformHost;
use mezusphere_model::route::SiteDoc;
use mezusphere_model::rules::Reader;
use mezusphere_pki::{Role, SpiffeName};
use mezusphere_store::primary::node::{self as nodes, NodeId};
use mezusphere_store::primary::{ReadTx, Tx, setting, site};
use mezusphere_store::{StoreError, WriteError};
use tunnel_proto::bundle::MintError;

use crate::ca::Ca;
use crate::config::LEAF_TTL_MAX;
use crate::digest::{hex, sha256};
use crate::node::row::controls;
use crate::{OpenError, Shared, eviction};

/// The oldest reader of a bundle as a whole. A route's own demand closes that route alone, so that an old warpgate goes on
/// with all others.
const BUNDLE_READER: u32 = 1;

/// Name of the setting that says which platform document is published: SHA-256 of its JSON.
const PLATFORM_SETTING: &str = "published/platform";

/// Name of the setting that says which trust document is published, likewise. Nodes look at it to notice a new one.
pub(crate) const TRUST_SETTING: &str = "published/trust";

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
        let ca = self.ca(tx).await?;
        let bundle = self.bundle(site, nodes, &ca, tx.now())?;
        let signer = self.signer(tx).await?;
        let bundle = tunnel_proto::bundle::sign(&bundle, &signer.key, signer.identity.chain())?;
        site::publish_bundle(tx, project, &bundle).await?;
        Ok(revision)
    }

    fn bundle(
        &self,
        site: SiteDoc,
        nodes: Nodes,
        ca: &Ca,
        now: mezusphere_model::Timestamp,
    ) -> Result<Bundle, PublishError> {
        let platform = &self.config.platform;
        let keys = self.keys();
        let endpoint = match site.hosts.first() {
            Some(endpoint) => endpoint.clone(),
            None => platform.endpoint(&site.project_slug, &site.environment_slug)?,
        };
        Ok(Bundle {
            min_reader: BUNDLE_READER,
            issued_at: now,
            trust_domain: self.installation.trust_domain.clone(),
            roots_pem: ca.state.roots.clone(),
            assertion_jwks: keys.assertion_jwks.clone(),
            edges: nodes.edges,
            denied: nodes.denied,
            retired: ca.retired(),
            renew_from: ca.gates_renew_from(),
            origin: platform.origin(&endpoint),
            login_host: platform.host(PlatformHost::Login)?,
            site: site.marked_for(Reader::Warpgate),
        })
    }

    async fn nodes(&self, tx: &mut ReadTx) -> Result<Nodes, StoreError> {
        let now = tx.now();
        let mut found = Nodes { edges: Vec::new(), denied: Vec::new() };
        for row in nodes::list(tx).await? {
            if let Some(at) = row.denied_at {
                // A name need not be refused any longer than its last certificate lives.
                if at.after(LEAF_TTL_MAX) > now {
                    found.denied.push(self.node_name(row.id).to_string());
                }
            } else if let NodeId::Edge(id) = row.id
                && !row.host.is_empty()
            {
                found.edges.push(EdgeAddress { id, name: row.name, host: row.host, port: row.port });
            }
        }
        Ok(found)
    }

    /// What a node's certificate calls it.
    pub(crate) fn node_name(&self, id: NodeId) -> SpiffeName {
        let role = match id {
            NodeId::Edge(id) => Role::Edge(id),
            NodeId::Control(id) => Role::Control(id),
        };
        SpiffeName::new(self.known_ca().issuing.trust_domain().clone(), role)
    }

    /// Whom every node trusts, and whom not any more.
    pub(crate) async fn trust_doc(&self, tx: &mut ReadTx) -> Result<TrustDoc, PublishError> {
        let mut denied = self.nodes(tx).await?.denied;
        denied.extend(eviction::denied(tx).await?);
        Ok(self.ca(tx).await?.trust_doc(&self.installation.trust_domain, denied))
    }

    /// Publishes the trust document if what is published is another one.
    pub(crate) async fn publish_trust(&self, tx: &mut Tx) -> Result<(), PublishError> {
        let doc = self.trust_doc(tx).await?;
        publish_new(tx, TRUST_SETTING, &Document::Trust(doc)).await
    }

    /// Publishes the platform document if what is published is another one.
    pub(crate) async fn publish_platform(&self, tx: &mut Tx) -> Result<(), PublishError> {
        let controls = controls(tx).await?;
        let doc = self.keys().platform_doc(&self.config.platform, controls);
        publish_new(tx, PLATFORM_SETTING, &Document::Platform(doc)).await
    }

    /// Whether the platform document that is published is the one of now.
    pub(crate) async fn is_platform_published(&self, tx: &mut ReadTx) -> Result<bool, PublishError> {
        let controls = controls(tx).await?;
        let doc = self.keys().platform_doc(&self.config.platform, controls);
        let digest = hex(&sha256(&json(&Document::Platform(doc))?));
        Ok(setting::get::<String>(tx, PLATFORM_SETTING).await?.as_ref() == Some(&digest))
    }

    /// A digest of all that goes into every bundle and is not in its site: while it stays, bundles stay good.
    pub(crate) async fn bundle_context(&self, tx: &mut ReadTx) -> Result<String, PublishError> {
        let nodes = self.nodes(tx).await?;
        let signer = self.signer(tx).await?;
        let (keys, ca) = (self.keys(), self.ca(tx).await?);
        let edges: Vec<_> =
            nodes.edges.iter().map(|edge| (edge.id, &edge.name, &edge.host, edge.port)).collect();
        let context = serde_json::json!([
            signer.fingerprint,
            self.config.platform,
            self.installation.trust_domain,
            ca.state.roots,
            ca.retired(),
            ca.gates_renew_from(),
            keys.assertion_jwks,
            edges,
            nodes.denied,
        ]);
        Ok(hex(&sha256(&json(&context)?)))
    }
}

async fn publish_new(tx: &mut Tx, setting: &str, document: &Document) -> Result<(), PublishError> {
    let digest = hex(&sha256(&json(document)?));
    if setting::get::<String>(tx, setting).await?.as_ref() != Some(&digest) {
        tx.publish(Partition::Platform, document)?;
        setting::put(tx, setting, &digest).await?;
    }
    Ok(())
}

fn json(value: &impl serde::Serialize) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|why| StoreError::Damaged(why.to_string()))
}
