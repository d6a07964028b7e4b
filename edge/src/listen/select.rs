//! One UDP port, three TLS configurations: QUIC sessions that wait for the ClientHello before they choose.
//!
//! quinn hands out a connection attempt before its ClientHello is read, so the choice is made below it: a
//! `Deferred` session keeps the CRYPTO octets until the hello is whole, decides, starts the real session of
//! the chosen configuration and replays. From then on it only passes calls on.

use std::any::Any;
use std::sync::Arc;

use mezusphere_model::Platform;
use mezusphere_pki::PublicCertificate;
use mezusphere_pki::public::PublicTls;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::crypto::{
    ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, ServerConfig, Session, UnsupportedVersion,
};
use quinn_proto::transport_parameters::TransportParameters;
use quinn_proto::{ConnectionId, Side, TransportError, TransportErrorCode};
use rustls::CipherSuite;
use tracing::debug;

use super::counters::Counters;
use super::decide::{Carrier, Destination, Refusal, Scope, Served, decide};
use super::hello;
use crate::tls::PublicCertificates;

/// The configurations behind the port, each with its own ALPN, certificate and verifier, and nothing of the others'.
pub struct QuicConfigs {
    /// For clients: one for each certificate.
    pub public: PublicTls,
    /// For warpgates.
    pub tunnel: Arc<QuicServerConfig>,
    /// For warpgates that enrol; `None` where a control node ends their TLS, which it does over TCP alone.
    pub connect: Option<Arc<QuicServerConfig>>,
}

/// A server configuration that decides by the ClientHello.
pub struct SelectingServerConfig {
    configs: QuicConfigs,
    certificates: PublicCertificates,
    platform: Platform,
    scope: Scope,
    counters: Arc<Counters>,
}

impl SelectingServerConfig {
    /// Chooses among `configs`; `certificates`, `platform` and `scope` say which names are served.
    pub fn new(
        configs: QuicConfigs,
        certificates: PublicCertificates,
        platform: Platform,
        scope: Scope,
        counters: Arc<Counters>,
    ) -> Self {
        Self { configs, certificates, platform, scope, counters }
    }

    fn choose(&self, hello: &hello::Hello) -> Result<Arc<QuicServerConfig>, TransportError> {
        let table = self.certificates.table();
        let served = Served {
            scope: self.scope,
            certificates: &table,
            platform: &self.platform,
            is_challenged: &|_| false,
        };
        let alpn = hello.alpn.iter().map(Vec::as_slice);
        let refusal = match decide(Carrier::Quic, hello.server_name.as_deref(), alpn, &served) {
            Destination::Site | Destination::Platform(_) => {
                match hello.server_name.as_deref().and_then(|name| table.certificate(name)) {
                    Some(certificate) => return self.showing(certificate, &hello.cipher_suites),
                    None => Refusal::UnknownServerName,
                }
            }
            Destination::Tunnel => return Ok(Arc::clone(&self.configs.tunnel)),
            Destination::Connect => match &self.configs.connect {
                Some(connect) => return Ok(Arc::clone(connect)),
                None => Refusal::NoProtocol,
            },
            // `decide` never says these on QUIC; a refusal is the safe answer if it did.
            Destination::Splice | Destination::Challenge(_) => Refusal::NoProtocol,
            Destination::Refuse(refusal) => refusal,
        };
        debug!(%refusal, "A QUIC handshake was refused");
        self.counters.refused(refusal);
        Err(alert(refusal.alert(), &refusal))
    }

    fn showing(
        &self,
        certificate: &Arc<PublicCertificate>,
        offered: &[CipherSuite],
    ) -> Result<Arc<QuicServerConfig>, TransportError> {
        let config = QuicServerConfig::try_from(self.configs.public.showing(certificate, offered));
        // The provider has the suite of QUIC's first packets, or the other configurations had not been made.
        config.map(Arc::new).map_err(|error| alert(INTERNAL_ERROR, &error))
    }
}

/// The alert of the same name (RFC 8446 §6.2).
const INTERNAL_ERROR: u8 = 80;

impl ServerConfig for SelectingServerConfig {
    // Initial keys and retry tags depend on the version only (RFC 9001 §5), so any configuration can make them.
    fn initial_keys(&self, version: u32, dst_cid: &ConnectionId) -> Result<Keys, UnsupportedVersion> {
        self.configs.tunnel.initial_keys(version, dst_cid)
    }

    fn retry_tag(&self, version: u32, orig_dst_cid: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.configs.tunnel.retry_tag(version, orig_dst_cid, packet)
    }

    fn start_session(self: Arc<Self>, version: u32, params: &TransportParameters) -> Box<dyn Session> {
        Box::new(Deferred { state: State::Waiting(Vec::new()), version, params: *params, config: self })
    }
}

/// A session that has not chosen yet, or the one it chose.
struct Deferred {
    state: State,
    version: u32,
    params: TransportParameters,
    config: Arc<SelectingServerConfig>,
}

enum State {
    /// CRYPTO octets so far: at most a hello and what came in the same packet.
    Waiting(Vec<u8>),
    Chosen(Box<dyn Session>),
}

impl Deferred {
    fn chosen(&self) -> Option<&dyn Session> {
        match &self.state {
            State::Waiting(_) => None,
            State::Chosen(session) => Some(&**session),
        }
    }
}

impl Session for Deferred {
    fn initial_keys(&self, dst_cid: &ConnectionId, side: Side) -> Keys {
        if let Some(session) = self.chosen() {
            return session.initial_keys(dst_cid, side);
        }
        let any = Arc::clone(&self.config.configs.tunnel);
        any.start_session(self.version, &self.params).initial_keys(dst_cid, side)
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        self.chosen()?.handshake_data()
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        self.chosen()?.peer_identity()
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        self.chosen()?.early_crypto()
    }

    fn early_data_accepted(&self) -> Option<bool> {
        self.chosen()?.early_data_accepted()
    }

    fn is_handshaking(&self) -> bool {
        self.chosen().is_none_or(Session::is_handshaking)
    }

    fn read_handshake(&mut self, buf: &[u8]) -> Result<bool, TransportError> {
        let crypto = match &mut self.state {
            State::Chosen(session) => return session.read_handshake(buf),
            State::Waiting(crypto) => crypto,
        };
        crypto.extend_from_slice(buf);
        let parsed = hello::parse(crypto).map_err(|error| alert(error.alert(), &error))?;
        let Some(hello) = parsed else { return Ok(false) };
        let config = self.config.choose(&hello)?;
        let mut session = config.start_session(self.version, &self.params);
        let has_data = session.read_handshake(crypto)?;
        self.state = State::Chosen(session);
        Ok(has_data)
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        self.chosen().map_or(Ok(None), Session::transport_parameters)
    }

    fn write_handshake(&mut self, buf: &mut Vec<u8>) -> Option<Keys> {
        match &mut self.state {
            State::Waiting(_) => None,
            State::Chosen(session) => session.write_handshake(buf),
        }
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        match &mut self.state {
            State::Waiting(_) => None,
            State::Chosen(session) => session.next_1rtt_keys(),
        }
    }

    /// Only clients receive retries.
    fn is_valid_retry(&self, _: &ConnectionId, _: &[u8], _: &[u8]) -> bool {
        false
    }

    fn export_keying_material(
        &self,
        output: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        self.chosen().ok_or(ExportKeyingMaterialError)?.export_keying_material(output, label, context)
    }
}

fn alert(code: u8, reason: &dyn std::fmt::Display) -> TransportError {
    TransportError { code: TransportErrorCode::crypto(code), frame: None, reason: reason.to_string() }
}
