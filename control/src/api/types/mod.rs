//! The admin API's requests and responses, as types both ends share: the server reads requests and writes
//! responses, the admin CLI the other way round.
//!
//! Requests refuse unknown fields, so that a misspelt one is told and not ignored. Responses may gain fields:
//! a reader skips what it does not know. Times are RFC 3339 in UTC, ids and slugs as people type them.

mod access;
mod account;
mod assertion_key;
mod audit;
mod ca;
mod certificate;
mod change;
mod directory;
mod explain;
mod installation;
mod mail;
mod node;
mod project;
mod route;
mod rule;
mod user;
mod warpgate;

use serde::{Deserialize, Serialize};

pub use access::{IdentityChanges, RequireChanges, StepUpChanges};
pub use account::{
    ApiKey, ApiKeyState, CreateApiKey, CreateServiceAccount, CreatedApiKey, RotateApiKey, ServiceAccount,
};
pub use assertion_key::{AssertionKey, AssertionKeyState, AssertionKeys};
pub use audit::AuditEntry;
pub use ca::{
    CaEnded, CaHow, CaIssuing, CaMember, CaNext, CaPhase, CaRequest, CaRetired, CaRole, CaRoot, CaRotation,
    CaStatus, CaWhat, InstallCa, IssuedCertificate, RootKey, RotateCa,
};
pub use certificate::{
    Certificate, CertificateError, CertificateEvent, CertificateSource, CertificateState, CertificateSummary,
};
pub use change::Change;
pub use directory::{CreateDirectory, Directory, DirectoryChanges, LogoInfo, SetDirectory, SignUp};
pub use explain::{ExplainUrl, ExplainedCaller, ExplainedPlace, ExplainedUrl, ExplainedVerdict};
pub use installation::{
    CreateOperatorKey, CreateOrganization, Installation, Operator, Organization, SignInLink, WhoAmI,
};
pub use mail::{QueuedMail, QueuedMailState, TestMail, TestedMail};
pub use node::{ControlNode, Edge, EdgeInvitation, InvitationState, InviteEdge, InvitedEdge, NodeState};
pub use project::{
    AddHost, CreateEnvironment, CreateProject, Environment, Host, HostContest, HostState, HostVerification,
    Project, UpdateProject,
};
pub use route::{
    AddRoute, ExplainRequest, Explained, FollowingRoute, OrderRoutes, Place, Route, RouteAdded, RouteRemoved,
    Step, Timeouts, UpdateRoute, Verdict,
};
pub use rule::{
    Cors, CorsChanges, HeaderChanges, HeaderRule, LimitChanges, Limits, Maintenance, Quota, QuotaChanges,
    RateLimit, Redirect, Rewrite, RuleChanges, Rules,
};
pub use user::{
    Claims, CreateUser, ImportProblem, ImportQuery, ImportReport, InviteUser, LoginEvent, PutRole, Role,
    SetPassword, SetRoles, SignedOut, UpdateUser, User, UserInvitation, UserListQuery, UserSession,
    UserStatus,
};
pub use warpgate::{Tunnel, Warpgate};

/// Entries of one page if the request does not say.
pub const PAGE_LEN_DEFAULT: u32 = 100;

/// Most entries of one page.
pub const PAGE_LEN_MAX: u32 = 200;

/// Largest request body, in octets.
pub const REQUEST_LEN_MAX: usize = 256 * 1024;

/// Part of a list, and how to get the rest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page<T> {
    /// The entries.
    pub items: Vec<T>,
    /// What to give as `after` for the next page; `null` on the last one.
    pub next: Option<String>,
}

/// Query of a list request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PageQuery {
    /// Most entries to return: 1 to [`PAGE_LEN_MAX`], [`PAGE_LEN_DEFAULT`] if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Where the page before ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// A refusal (RFC 9457), of type `application/problem+json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Always `about:blank`: `code` tells one problem from another.
    #[serde(rename = "type")]
    pub kind: String,
    /// What kind of thing went wrong, the same for every case of the code.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// The stable code, dotted words: `control.not_found`.
    pub code: String,
    /// What went wrong this time.
    pub detail: String,
    /// What to do next.
    pub next: String,
}
