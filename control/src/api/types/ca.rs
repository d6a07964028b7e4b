//! The internal CA: what it is, how far a rotation is, and what changes it.

use serde::{Deserialize, Serialize};

/// `GET /ca`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaStatus {
    /// SPIFFE trust domain.
    pub trust_domain: String,
    /// Roots that are trusted: the first is what new connection keys and join tokens name.
    pub roots: Vec<CaRoot>,
    /// Whether the key of the root in use is kept here; else a root elsewhere signs.
    pub root_key: bool,
    /// The CA that certificates come from.
    pub issuing: CaIssuing,
    /// What the schedule replaces next, and from when; `null` while a rotation runs.
    pub next: Option<CaNext>,
    /// Whether a request waits for a root's signature.
    pub request: bool,
    /// CAs whose certificates are refused, newest first.
    pub retired: Vec<CaRetired>,
    /// The rotation that runs.
    pub rotation: Option<CaRotation>,
    /// How the last one ended.
    pub last: Option<CaEnded>,
    /// Who holds certificates: those that are waited for first; at most 500.
    pub members: Vec<CaMember>,
    /// How many there are.
    pub member_count: usize,
}

/// A root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaRoot {
    /// SHA-256 of the certificate, hexadecimal.
    pub sha256: String,
    /// When it ends.
    pub not_after: String,
}

/// The issuing CA.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaIssuing {
    /// SHA-256 of its public key, hexadecimal: what names it in every list here.
    pub key_sha256: String,
    /// When it was made.
    pub made_at: String,
    /// When it ends.
    pub not_after: String,
}

/// What comes next by schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaNext {
    /// What is replaced.
    pub what: CaWhat,
    /// From when.
    pub at: String,
}

/// A CA whose certificates are refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaRetired {
    /// SHA-256 of its public key, hexadecimal.
    pub key_sha256: String,
    /// When it was retired.
    pub at: String,
    /// Until when that is remembered: the end of its own certificate.
    pub until: String,
    /// Whether its key was in other hands.
    pub tainted: bool,
}

/// What is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaWhat {
    /// The issuing CA.
    Issuing,
    /// The root, and the issuing CA with it.
    Root,
}

/// Where a rotation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaPhase {
    /// The new CA is made and told of.
    Announce,
    /// Every node learns to trust it.
    Trust,
    /// It signs, and every node gets a new certificate.
    Sign,
    /// The old one goes.
    Retire,
}

/// A rotation that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaRotation {
    /// What is replaced.
    pub what: CaWhat,
    /// Where it stands.
    pub phase: CaPhase,
    /// Whether it is being taken back.
    pub undo: bool,
    /// Whether only nodes that are here are waited for.
    pub now: bool,
    /// Who started it; `schedule`: nobody.
    pub by: String,
    /// When.
    pub started_at: String,
    /// Since when it is in this phase.
    pub phase_at: String,
    /// How long this phase has waited, in seconds; time in which no control node ran does not count.
    pub waited_s: u64,
    /// How long it waits at most.
    pub max_wait_s: u64,
    /// SHA-256 of the public key of the CA that goes, hexadecimal.
    pub from: String,
    /// Of the one that comes; `null`: not made yet.
    pub to: Option<String>,
    /// How many members it waits for.
    pub waits_for: usize,
}

/// How a rotation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaHow {
    /// The new CA took over.
    Done,
    /// It was taken back.
    Aborted,
    /// The old one was thrown out at once.
    Tainted,
}

/// A rotation that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaEnded {
    /// What was replaced.
    pub what: CaWhat,
    /// How it ended.
    pub how: CaHow,
    /// When it was started.
    pub started_at: String,
    /// When it was over.
    pub at: String,
    /// Who started it.
    pub by: String,
    /// Members that were not waited for any longer.
    pub left_behind: usize,
}

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaRole {
    /// A control node.
    Control,
    /// What signs bundles, which all control nodes share.
    Bundles,
    /// An edge.
    Edge,
    /// A warpgate.
    Warpgate,
}

/// Whoever holds a certificate of the internal CA.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaMember {
    /// What operators call it.
    pub name: String,
    /// What it is.
    pub role: CaRole,
    /// SPIFFE URI in its certificate.
    pub spiffe: String,
    /// Whether it is heard of now.
    pub here: bool,
    /// SHA-256 of the public key of the CA its newest certificate is of, hexadecimal; `null`: not noted.
    pub ca: Option<String>,
    /// When that certificate ends; `null`: it has none that lives.
    pub until: Option<String>,
    /// The revision of the installation's documents it has applied; `null`: it follows no feed, or has not said.
    pub applied: Option<u64>,
    /// What the rotation waits for, in words; `null`: nothing.
    pub waits_for: Option<String>,
}

/// `POST /ca/rotation`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RotateCa {
    /// Replace the root too.
    #[serde(default)]
    pub root: bool,
    /// Wait only for nodes that are here, and end what is left of old connections soon.
    #[serde(default)]
    pub now: bool,
    /// How long each phase waits for nodes, in seconds; absent: a day, or ten minutes with `now`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_wait_s: Option<u64>,
}

/// `POST /ca/request`: what a root elsewhere is to sign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaRequest {
    /// PKCS #10, PEM.
    pub csr_pem: String,
}

/// `POST /ca/root-key`: the root with its key, to be kept elsewhere. **A secret.**
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootKey {
    /// SHA-256 of the root's certificate, hexadecimal.
    pub sha256: String,
    /// Certificate and key, PEM.
    pub secret_pem: String,
}

impl std::fmt::Debug for RootKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RootKey").field("sha256", &self.sha256).finish_non_exhaustive()
    }
}

/// `POST /ca/install`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstallCa {
    /// The issuing CA's certificate, as the root signed it, PEM.
    pub certificate_pem: String,
    /// The root that replaces the one in use, PEM, if one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_pem: Option<String>,
    /// That root as the one in use signed it, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cross_pem: Option<String>,
    /// The key of the CA in use is in other hands: take the new one at once and refuse the old one.
    #[serde(default)]
    pub taint: bool,
    /// As in `POST /ca/rotation`.
    #[serde(default)]
    pub now: bool,
    /// As in `POST /ca/rotation`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_wait_s: Option<u64>,
}

/// `GET /ca/certificates`: a certificate the internal CA issued.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuedCertificate {
    /// SPIFFE URI, or the first host of a public one.
    pub name: String,
    /// SHA-256 of the certificate, hexadecimal.
    pub sha256: String,
    /// SHA-256 of the public key of the CA that issued it, hexadecimal; `null`: not noted.
    pub ca: Option<String>,
    /// When it was issued.
    pub issued_at: String,
    /// When it ends.
    pub not_after: String,
}
