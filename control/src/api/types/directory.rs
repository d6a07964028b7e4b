//! Directories: where users live, what they allow and look like.

use mezusphere_model::id::{DirectoryId, OrganizationId};
use mezusphere_model::slug::Slug;
use serde::{Deserialize, Serialize};

use super::Change;

/// A directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directory {
    /// Its id.
    pub id: DirectoryId,
    /// Its name, unique in the organization.
    pub name: String,
    /// Whose.
    pub organization: OrganizationId,
    /// Whether any project of the organization may use it; else it is one project's.
    pub shared: bool,
    /// The projects that use it; of very many the first.
    pub projects: Vec<Slug>,
    /// How many users it has.
    pub users: u64,
    /// Who may add themselves.
    pub sign_up: SignUp,
    /// Domains of addresses that may, for [`SignUp::Domains`].
    pub domains: Vec<String>,
    /// A sign-in ends so many seconds after it began; `null`: as the installation says.
    pub session_absolute_s: Option<u32>,
    /// And after so many seconds unused; 0: never for idleness; `null`: as the installation says.
    pub session_idle_s: Option<u32>,
    /// Name on pages and in mails.
    pub brand_name: Option<String>,
    /// Colour of buttons and links, `#rrggbb`.
    pub colour: Option<String>,
    /// The logo, if there is one.
    pub logo: Option<LogoInfo>,
    /// Where users find help.
    pub support: Option<String>,
    /// Name beside the sender's address of mails.
    pub mail_from_name: Option<String>,
    /// Where answers to mails go.
    pub mail_reply_to: Option<String>,
    /// Since when.
    pub created_at: String,
}

/// Who may add themselves to a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignUp {
    /// Nobody: operators add users.
    Closed,
    /// Whoever was invited.
    Invitation,
    /// Whose address is of an allowed domain.
    Domains,
    /// Anybody with an address.
    Open,
}

/// Which logo a directory has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogoInfo {
    /// `image/png`, `image/webp` or `image/jpeg`.
    pub media_type: String,
    /// The beginning of its SHA-256, hexadecimal.
    pub digest: String,
}

/// `POST /organizations/{organization}/directories`: one that the organization's projects share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateDirectory {
    /// Its name, unique in the organization.
    pub name: Slug,
}

/// `PATCH …/directories/{directory}` and `PATCH /projects/{project}/directory`: what is left out stays, `null` clears.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectoryChanges {
    /// Who may add themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sign_up: Option<SignUp>,
    /// Domains of addresses that may, for [`SignUp::Domains`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domains: Option<Vec<String>>,
    /// A sign-in ends so many seconds after it began. Cleared: both limits are the installation's again.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    pub session_absolute_s: Change<u32>,
    /// And after so many seconds unused; 0: never for idleness. Cleared: both limits are the installation's again.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    pub session_idle_s: Change<u32>,
    /// Name on pages and in mails.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    pub brand_name: Change<String>,
    /// Colour of buttons and links, `#rrggbb`.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    pub colour: Change<String>,
    /// The logo: a PNG, WebP or JPEG picture, base64 with padding (RFC 4648 §4).
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    pub logo: Change<String>,
    /// Where users find help: an e-mail address or an `https` address.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    pub support: Change<String>,
    /// Name beside the sender's address of mails.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    pub mail_from_name: Change<String>,
    /// Where answers to mails go.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    pub mail_reply_to: Change<String>,
}

/// `PUT /projects/{project}/directory`: another directory for a project that nobody uses yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetDirectory {
    /// Name or id of a shared directory of the project's organization.
    pub directory: String,
}
