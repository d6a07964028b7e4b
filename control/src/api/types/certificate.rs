//! Public certificates: what clients see, where it comes from, what happens to it next.

use serde::{Deserialize, Serialize};

/// A certificate that clients see, or that is wanted for them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Its first name, under which it is found.
    pub name: String,
    /// All its names.
    pub names: Vec<String>,
    /// Where it comes from.
    pub source: CertificateSource,
    /// The directory of the authority it is ordered from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
    /// Whose host it is for, a project's id; none: it is the installation's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Where it stands.
    pub state: CertificateState,
    /// When the one in use begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<String>,
    /// When the one in use ends; none: there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<String>,
    /// When it is renewed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renew_at: Option<String>,
    /// Tries in a row that failed.
    #[serde(default)]
    pub attempts: u32,
    /// When something is done about it next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_at: Option<String>,
    /// Why the last try failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<CertificateError>,
}

/// What a host's list says of its certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateSummary {
    /// Its first name; another host's if they share it.
    pub name: String,
    /// Where it comes from.
    pub source: CertificateSource,
    /// Where it stands.
    pub state: CertificateState,
    /// When the one in use ends; none: there is none, and clients are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<String>,
    /// When something is done about it next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_at: Option<String>,
    /// Why the last try failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<CertificateError>,
}

/// Where a certificate comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CertificateSource {
    /// Ordered from a certificate authority.
    Acme,
    /// Files that the operator keeps.
    Files,
    /// The installation's own CA, which no browser knows.
    Internal,
}

/// Where a certificate stands. Whether one is in use meanwhile, `not_after` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CertificateState {
    /// It was not ordered yet.
    Waiting,
    /// An order is under way.
    Ordering,
    /// It is there.
    Valid,
    /// The last try failed.
    Failed,
}

/// Why a try failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateError {
    /// When.
    pub at: String,
    /// A stable code, dotted words.
    pub code: String,
    /// One sentence.
    pub detail: String,
    /// What to do.
    pub next: String,
}

/// An entry of a certificate's time-line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateEvent {
    /// When.
    pub at: String,
    /// What kind, one word.
    pub kind: String,
    /// What happened, one sentence.
    pub text: String,
}
