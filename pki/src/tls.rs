//! rustls configurations for every connection between nodes, over QUIC and TCP alike.
//!
//! All are TLS 1.3 only, with our provider and our clock, without resumption or 0-RTT: a resumed handshake
//! would skip the certificate, and with it eviction. Identity and trust are read at each handshake.
//!
//! | function | who answers | who dials | judged |
//! |---|---|---|---|
//! | [`tunnel_server_config`], [`tunnel_client_config`] | edge | warpgate | both: a warpgate; this very edge |
//! | [`connect_server_config`], [`connect_client_config`] | control | whoever enrols or joins, without a certificate | the server: a control node, by the root's SHA-256 |
//! | the same, [`connect_again_client_config`] | control | a warpgate that holds a bundle | the same, and by the bundle's trust |
//! | the same, [`rejoin_client_config`] | control | an edge whose certificate opens no link any more | the server: a control node, by the edge's trust |
//! | [`link_server_config`], [`link_client_config`] | control | edge | both: an edge; a control node |
//!
//! Certificates for strangers are in [`crate::public`].

use std::sync::Arc;

use mezusphere_model::Clock;
use mezusphere_model::id::EdgeId;
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig, SignatureScheme};
use rustls_pki_types::CertificateDer;

use crate::identity::{CurrentIdentity, NodeIdentity};
use crate::peer::{CHAIN_LEN_MAX, ExpectedRole};
use crate::provider::{RustlsClock, provider};
use crate::trust::CurrentTrust;
use crate::verifier::{ClientJudge, DialTrust, ServerJudge};

/// A configuration could not be built: the cryptographic provider lacks what we need.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("TLS cannot be set up: {0}")]
pub struct TlsSetupError(#[from] pub rustls::Error);

/// How an edge answers tunnels: only a warpgate of this installation gets in.
pub fn tunnel_server_config(
    identity: &CurrentIdentity,
    trust: &CurrentTrust,
    clock: &Clock,
    alpn: &[&[u8]],
) -> Result<ServerConfig, TlsSetupError> {
    mutual_server(identity, trust, clock, alpn, ExpectedRole::AnyWarpgate)
}

/// How a warpgate dials the edge `expected`, and no other.
///
/// The server name given to `connect` is not judged; [`crate::EDGE_DNS_NAME`] fits. With TLS 1.3 the dialler is
/// done before the edge has judged its certificate, so it is connected only when the edge has spoken.
pub fn tunnel_client_config(
    identity: &CurrentIdentity,
    trust: &CurrentTrust,
    expected: EdgeId,
    clock: &Clock,
    alpn: &[&[u8]],
) -> Result<ClientConfig, TlsSetupError> {
    mutual_client(identity, trust, clock, alpn, ExpectedRole::Edge(expected))
}

/// How a check dials the edge `expected` without a certificate of its own: far enough to see that the edge is there and
/// is itself. The edge ends the connection when it asks for one.
pub fn tunnel_check_config(
    trust: &CurrentTrust,
    expected: EdgeId,
    clock: &Clock,
    alpn: &[&[u8]],
) -> Result<ClientConfig, TlsSetupError> {
    let trust = DialTrust::Current(trust.clone());
    nameless_client(ServerJudge { trust, expected: ExpectedRole::Edge(expected) }, clock, alpn)
}

/// How control answers edges.
pub fn link_server_config(
    identity: &CurrentIdentity,
    trust: &CurrentTrust,
    clock: &Clock,
    alpn: &[&[u8]],
) -> Result<ServerConfig, TlsSetupError> {
    mutual_server(identity, trust, clock, alpn, ExpectedRole::AnyEdge)
}

/// How an edge dials control.
pub fn link_client_config(
    identity: &CurrentIdentity,
    trust: &CurrentTrust,
    clock: &Clock,
    alpn: &[&[u8]],
) -> Result<ClientConfig, TlsSetupError> {
    mutual_client(identity, trust, clock, alpn, ExpectedRole::AnyControl)
}

/// How a control node answers whoever enrols or joins: shows leaf and issuing CA, the crosses and every root of now and
/// before, so that a connection key's pin can be checked however often the root has changed since; asks for no certificate, because who dials has none. `identity` is a control node's: no other is
/// believed.
pub fn connect_server_config(
    identity: &CurrentIdentity,
    trust: &CurrentTrust,
    clock: &Clock,
    alpn: &[&[u8]],
) -> Result<ServerConfig, TlsSetupError> {
    let resolver = WithRoots { identity: identity.clone(), trust: trust.clone() };
    let config = ServerConfig::builder_with_details(provider(), RustlsClock::shared(clock))
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(resolver));
    Ok(without_resumption(config, alpn))
}

/// How a warpgate with nothing but a connection key dials the connect service, and a new edge the node port: the chain
/// must lead to the root with this SHA-256, and the leaf must be a control node's.
///
/// An edge's is refused: the secret said on this connection is for control alone, and an edge that passes the
/// connection on, taken over, would end it and read along.
///
/// Only for who knows nothing else: a pin cannot tell that a CA below its root was retired.
pub fn connect_client_config(
    root_sha256: [u8; 32],
    clock: &Clock,
    alpn: &[&[u8]],
) -> Result<ClientConfig, TlsSetupError> {
    let trust = DialTrust::Pinned { root: root_sha256, known: None };
    nameless_client(ServerJudge { trust, expected: ExpectedRole::AnyControl }, clock, alpn)
}

/// The same for a warpgate that has `known` trust from a bundle: who answers must also be good by that, so that neither an
/// evicted control node nor a CA or root that was replaced since the key was made can pose as control.
///
/// Both count: the key may be newer than the bundle as well.
pub fn connect_again_client_config(
    root_sha256: [u8; 32],
    known: &CurrentTrust,
    clock: &Clock,
    alpn: &[&[u8]],
) -> Result<ClientConfig, TlsSetupError> {
    let trust = DialTrust::Pinned { root: root_sha256, known: Some(known.clone()) };
    nameless_client(ServerJudge { trust, expected: ExpectedRole::AnyControl }, clock, alpn)
}

/// How an edge that was in dials control to come back: judged by the edge's trust, evicted nodes and retired CAs included,
/// without a certificate. A control node shows the crosses there, so that a root replaced meanwhile is found.
pub fn rejoin_client_config(
    trust: &CurrentTrust,
    clock: &Clock,
    alpn: &[&[u8]],
) -> Result<ClientConfig, TlsSetupError> {
    let trust = DialTrust::Current(trust.clone());
    nameless_client(ServerJudge { trust, expected: ExpectedRole::AnyControl }, clock, alpn)
}

/// A dialler that shows no certificate.
fn nameless_client(judge: ServerJudge, clock: &Clock, alpn: &[&[u8]]) -> Result<ClientConfig, TlsSetupError> {
    let config = ClientConfig::builder_with_details(provider(), RustlsClock::shared(clock))
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(judge))
        .with_no_client_auth();
    Ok(client_without_resumption(config, alpn))
}

fn mutual_server(
    identity: &CurrentIdentity,
    trust: &CurrentTrust,
    clock: &Clock,
    alpn: &[&[u8]],
    expected: ExpectedRole,
) -> Result<ServerConfig, TlsSetupError> {
    let judge = ClientJudge { trust: trust.clone(), expected };
    let config = ServerConfig::builder_with_details(provider(), RustlsClock::shared(clock))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(judge))
        .with_cert_resolver(Arc::new(identity.clone()));
    Ok(without_resumption(config, alpn))
}

fn mutual_client(
    identity: &CurrentIdentity,
    trust: &CurrentTrust,
    clock: &Clock,
    alpn: &[&[u8]],
    expected: ExpectedRole,
) -> Result<ClientConfig, TlsSetupError> {
    let judge = ServerJudge { trust: DialTrust::Current(trust.clone()), expected };
    let config = ClientConfig::builder_with_details(provider(), RustlsClock::shared(clock))
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(judge))
        .with_client_cert_resolver(Arc::new(identity.clone()));
    Ok(client_without_resumption(config, alpn))
}

fn without_resumption(mut config: ServerConfig, alpn: &[&[u8]]) -> ServerConfig {
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    config.alpn_protocols = owned(alpn);
    config
}

fn client_without_resumption(mut config: ClientConfig, alpn: &[&[u8]]) -> ClientConfig {
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config.alpn_protocols = owned(alpn);
    config
}

pub(crate) fn owned(alpn: &[&[u8]]) -> Vec<Vec<u8>> {
    alpn.iter().map(|protocol| protocol.to_vec()).collect()
}

impl ResolvesServerCert for CurrentIdentity {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(self.get().certified()))
    }
}

impl ResolvesClientCert for CurrentIdentity {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(self.get().certified()))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// The identity's chain with all behind it that a pin may name or be led by.
#[derive(Debug)]
struct WithRoots {
    identity: CurrentIdentity,
    trust: CurrentTrust,
}

impl WithRoots {
    /// Leaf and issuing CA, the crosses, then every root of now and before; each once.
    fn chain(&self, identity: &NodeIdentity) -> Vec<CertificateDer<'static>> {
        let trust = self.trust.get();
        let mut chain = identity.chain().to_vec();
        for der in trust.crosses().iter().chain(trust.roots()).chain(trust.former()) {
            if chain.len() < CHAIN_LEN_MAX && !chain.contains(der) {
                chain.push(der.clone());
            }
        }
        chain
    }
}

impl ResolvesServerCert for WithRoots {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let identity = self.identity.get();
        let key = Arc::clone(&identity.certified().key);
        Some(Arc::new(CertifiedKey::new(self.chain(&identity), key)))
    }
}
