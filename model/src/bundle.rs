//! The environment bundle: everything a warpgate trusts, signed by control, so that no edge's word is needed.
//!
//! A warpgate gets it at enrollment, from any edge by relay, and from the connect service by polling; the
//! highest valid revision wins. It runs [`crate::route`] and [`crate::policy`] on it a second time.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::document::RenewFrom;
use crate::host::Host;
use crate::id::{EdgeId, EnvironmentId};
use crate::route::SiteDoc;

/// Largest signed bundle, in octets.
pub const BUNDLE_LEN_MAX: usize = 1024 * 1024;

/// An edge a warpgate keeps a tunnel to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeAddress {
    /// Which edge; its certificate must name it.
    pub id: EdgeId,
    /// Where it is, for people: a place or a node name.
    pub name: String,
    /// Host name or address to dial.
    pub host: String,
    /// UDP and TCP port.
    pub port: u16,
}

/// What the signature covers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    /// Oldest reader that may use it.
    pub min_reader: u32,
    /// The environment's site with its routes; its revision is the bundle's.
    pub site: SiteDoc,
    /// When it was signed.
    pub issued_at: Timestamp,
    /// SPIFFE trust domain.
    pub trust_domain: String,
    /// Root certificates to trust, PEM, newest first.
    pub roots_pem: Vec<String>,
    /// Keys that sign assertions, as a JWK set.
    pub assertion_jwks: serde_json::Value,
    /// Edges to connect to.
    pub edges: Vec<EdgeAddress>,
    /// SPIFFE URIs of evicted nodes: no tunnel to or from them.
    pub denied: Vec<String>,
    /// Issuing CAs that were retired, as [`crate::document::TrustDoc::retired`] has them: no tunnel to a node that shows
    /// a certificate of one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retired: Vec<String>,
    /// Which CA the warpgate's certificate is to come from; `None` in bundles of older control nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renew_from: Option<RenewFrom>,
    /// Public origin of the environment's endpoint, for people: `https://shop.example`.
    pub origin: String,
    /// The login host, so that a warpgate refuses cookies an upstream sets for it.
    pub login_host: Host,
}

/// A bundle as it travels: a JWS whose header carries control's certificate chain (`x5c`, RFC 7515 §4.1.6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedBundle {
    /// Whose.
    pub environment: EnvironmentId,
    /// The bundle's revision; a hint until the signature was verified.
    pub revision: u64,
    /// The JWS, compact serialization (RFC 7515 §7.1).
    pub jws: String,
}
