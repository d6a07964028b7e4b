//! Projects, their environments and hosts.

use mezusphere_model::id::{DirectoryId, EnvironmentId, OrganizationId, ProjectId};
use mezusphere_model::slug::Slug;
use serde::{Deserialize, Serialize};

use super::{CertificateSummary, Quota};

/// A project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Project {
    /// Its id.
    pub id: ProjectId,
    /// Its short name, unique in the installation because its endpoint carries it.
    pub slug: Slug,
    /// Its name for people.
    pub name: String,
    /// Its owner.
    pub organization: OrganizationId,
    /// Where its users live.
    pub directory: DirectoryId,
    /// What one edge gives to it; only who sees the whole installation changes it.
    #[serde(default)]
    pub quota: Quota,
    /// Since when.
    pub created_at: String,
    /// Its environments, each with its endpoint.
    pub environments: Vec<Environment>,
}

/// `POST /projects`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateProject {
    /// Its short name.
    pub slug: Slug,
    /// Its name for people; the slug if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its owner, by slug or id; the installation's own organization if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization: Option<String>,
    /// A shared directory of that organization, by name or id; one of its own if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
}

/// `PATCH /projects/{project}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateProject {
    /// Its new name for people.
    pub name: String,
}

/// An environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// Its id.
    pub id: EnvironmentId,
    /// Its short name within the project.
    pub slug: Slug,
    /// Public origin of its endpoint: `https://shop.example`.
    pub origin: String,
    /// Its endpoint and custom domains.
    pub hosts: Vec<String>,
    /// Who signs the assertions its upstreams get: their `iss`.
    #[serde(default)]
    pub issuer: String,
    /// Whom those are for: their `aud`.
    #[serde(default)]
    pub audience: String,
    /// Revision of its published routes.
    pub revision: u64,
    /// Since when.
    pub created_at: String,
}

/// `POST /projects/{project}/environments`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateEnvironment {
    /// Its short name within the project.
    pub slug: Slug,
}

/// A host of an environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Its name.
    pub host: String,
    /// The environment's own endpoint, which cannot be removed.
    pub endpoint: bool,
    /// Whether it is published.
    #[serde(default)]
    pub state: HostState,
    /// The certificate that clients see; none while it waits for its proof.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateSummary>,
    /// What proves it, while that is looked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<HostVerification>,
    /// What keeps it, while another project proves it too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contest: Option<HostContest>,
    /// Since when.
    pub created_at: String,
}

/// Whether a host is published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostState {
    /// It is.
    #[default]
    Published,
    /// It waits for the proof that it is the project's.
    Pending,
}

/// The DNS record that proves a host, and how looking for it goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostVerification {
    /// The record's name.
    pub record: String,
    /// Its type.
    pub kind: String,
    /// What it must say.
    pub value: String,
    /// How often it was looked for.
    pub attempts: u32,
    /// When it was looked for last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked_at: Option<String>,
    /// What was found instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When it is looked for next.
    pub next_at: String,
    /// When the claim is forgotten.
    pub until: String,
}

/// The DNS record that its project must show again to keep a host, because another project shows one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostContest {
    /// The record's name.
    pub record: String,
    /// Its type.
    pub kind: String,
    /// What it must say.
    pub value: String,
    /// Since when the other project shows one, and this one none.
    pub since: String,
    /// When the host is the other project's.
    pub until: String,
}

/// `POST …/hosts`: a custom domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddHost {
    /// Its name, without scheme and port.
    pub host: String,
}
