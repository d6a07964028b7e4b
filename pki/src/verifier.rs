//! The wrappers through which rustls asks us about a peer. Chain validation is webpki's; the name, the role
//! and the deny list are ours. Trust is read anew at each handshake.

use std::borrow::Cow;
use std::sync::Arc;

use mezusphere_model::Timestamp;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::certificate;
use crate::name::{CONTROL_DNS_NAME, EDGE_DNS_NAME};
use crate::peer::{CHAIN_LEN_MAX, ExpectedRole, Peer, PeerError};
use crate::provider::provider;
use crate::trust::{CurrentTrust, Trust};

impl Trust {
    /// Judges the certificate of a peer that dialled us.
    pub(crate) fn judge_client(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: Timestamp,
        expected: ExpectedRole,
    ) -> Result<Peer, PeerError> {
        check_len(others)?;
        self.clients
            .verify_client_cert(leaf, &self.with_crosses(others), certificate::unix_time(now))
            .map_err(|error| from_rustls(&error, leaf, now))?;
        self.judge_name(leaf, others, expected)
    }

    /// Judges the certificate of a peer we dialled.
    pub(crate) fn judge_server(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: Timestamp,
        expected: ExpectedRole,
    ) -> Result<Peer, PeerError> {
        check_len(others)?;
        match expected {
            ExpectedRole::AnyControl => self.judge_chain(leaf, others, now, expected, CONTROL_DNS_NAME),
            ExpectedRole::Edge(_) | ExpectedRole::AnyEdge | ExpectedRole::AnyWarpgate => {
                self.judge_chain(leaf, others, now, expected, EDGE_DNS_NAME)
            }
        }?;
        self.judge_name(leaf, others, expected)
    }

    /// What may stand between leaf and root: what was shown, and the crosses known here, so that who trusts an old root
    /// alone finds the way to the new one.
    fn with_crosses<'a>(&'a self, others: &'a [CertificateDer<'a>]) -> Cow<'a, [CertificateDer<'a>]> {
        if self.crosses().is_empty() {
            return Cow::Borrowed(others);
        }
        Cow::Owned(
            others.iter().chain(self.crosses()).map(|der| CertificateDer::from(der.as_ref())).collect(),
        )
    }

    /// Stock verification of a server under a fixed DNS name.
    fn judge_chain(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: Timestamp,
        expected: ExpectedRole,
        dns_name: &'static str,
    ) -> Result<(), PeerError> {
        let server_name = ServerName::try_from(dns_name).map_err(|_| PeerError::Malformed)?;
        let verified = self.servers.verify_server_cert(
            leaf,
            &self.with_crosses(others),
            &server_name,
            &[],
            certificate::unix_time(now),
        );
        match verified {
            Ok(_) => Ok(()),
            // The chain is good, the DNS name is of another role: the SPIFFE name says of which.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Err(match Peer::read(std::slice::from_ref(leaf)) {
                Ok(peer) => PeerError::Role { expected, found: Box::new(peer.name) },
                Err(error) => error,
            }),
            Err(error) => Err(from_rustls(&error, leaf, now)),
        }
    }

    fn judge_name(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        expected: ExpectedRole,
    ) -> Result<Peer, PeerError> {
        let peer = Peer::of(leaf, others)?;
        if peer.name.trust_domain != *self.domain() {
            return Err(PeerError::TrustDomain(peer.name.trust_domain));
        }
        if let Some(why) = self.refuses(&peer) {
            return Err(why);
        }
        if !expected.admits(&peer.name.role) {
            return Err(PeerError::Role { expected, found: Box::new(peer.name) });
        }
        Ok(peer)
    }
}

fn check_len(others: &[CertificateDer<'_>]) -> Result<(), PeerError> {
    let shown = others.len() + 1;
    if shown > CHAIN_LEN_MAX { Err(PeerError::ChainTooLong(shown)) } else { Ok(()) }
}

fn from_rustls(error: &Error, leaf: &CertificateDer<'_>, now: Timestamp) -> PeerError {
    let Error::InvalidCertificate(why) = error else {
        return PeerError::Chain(error.to_string());
    };
    match why {
        CertificateError::BadEncoding => PeerError::Malformed,
        CertificateError::UnknownIssuer => PeerError::UnknownIssuer,
        CertificateError::BadSignature => PeerError::Signature,
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            PeerError::Purpose
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            let not_after = match why {
                CertificateError::ExpiredContext { not_after, .. } => timestamp(*not_after),
                _ => certificate::facts(leaf).map_or(now, |facts| facts.not_after),
            };
            PeerError::Expired { not_after, now }
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            let not_before = match why {
                CertificateError::NotValidYetContext { not_before, .. } => timestamp(*not_before),
                _ => certificate::facts(leaf).map_or(now, |facts| facts.not_before),
            };
            PeerError::NotYetValid { not_before, now }
        }
        _ => PeerError::Chain(error.to_string()),
    }
}

fn timestamp(at: UnixTime) -> Timestamp {
    Timestamp::from_seconds(i64::try_from(at.as_secs()).unwrap_or(i64::MAX))
}

/// The rustls error whose alert tells the peer what is wrong (RFC 8446 §6.2), and whose text tells us.
fn to_rustls(error: PeerError, now: UnixTime) -> Error {
    // At debug, because anybody can cause it by dialling.
    tracing::debug!(%error, "Peer refused");
    let seconds = |at: Timestamp| {
        UnixTime::since_unix_epoch(std::time::Duration::from_secs(
            u64::try_from(at.as_seconds()).unwrap_or(0),
        ))
    };
    let why = match error {
        PeerError::NoCertificate => return Error::NoCertificatesPresented,
        PeerError::ChainTooLong(_) | PeerError::Malformed | PeerError::NameCount(_) | PeerError::Name(_) => {
            CertificateError::BadEncoding
        }
        // As if its root were gone: the node's way out is the same, a new certificate.
        PeerError::UnknownIssuer | PeerError::TrustDomain(_) | PeerError::Retired(_) => {
            CertificateError::UnknownIssuer
        }
        PeerError::Expired { not_after, .. } => {
            CertificateError::ExpiredContext { time: now, not_after: seconds(not_after) }
        }
        PeerError::NotYetValid { not_before, .. } => {
            CertificateError::NotValidYetContext { time: now, not_before: seconds(not_before) }
        }
        PeerError::Purpose => CertificateError::InvalidPurpose,
        PeerError::Signature => CertificateError::BadSignature,
        PeerError::Denied(_) => CertificateError::Revoked,
        PeerError::Role { .. } => CertificateError::ApplicationVerificationFailure,
        PeerError::Chain(_) => CertificateError::Other(OtherError(Arc::new(error))),
    };
    Error::InvalidCertificate(why)
}

/// Judges peers that dial us.
#[derive(Debug)]
pub(crate) struct ClientJudge {
    pub(crate) trust: CurrentTrust,
    pub(crate) expected: ExpectedRole,
}

impl ClientCertVerifier for ClientJudge {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.trust
            .get()
            .judge_client(end_entity, intermediates, timestamp(now), self.expected)
            .map(|_| ClientCertVerified::assertion())
            .map_err(|error| to_rustls(error, now))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Where a dialler's trust comes from.
#[derive(Debug)]
pub(crate) enum DialTrust {
    /// What the node holds now.
    Current(CurrentTrust),
    /// One root, known only by its SHA-256, that the peer must show.
    Pinned {
        /// Its SHA-256.
        root: [u8; 32],
        /// What the node holds now, if it has been in before: the peer must be good by that as well.
        known: Option<CurrentTrust>,
    },
}

/// Judges peers we dial.
#[derive(Debug)]
pub(crate) struct ServerJudge {
    pub(crate) trust: DialTrust,
    pub(crate) expected: ExpectedRole,
}

impl ServerJudge {
    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Peer, PeerError> {
        match &self.trust {
            DialTrust::Current(trust) => {
                trust.get().judge_server(leaf, others, timestamp(now), self.expected)
            }
            DialTrust::Pinned { root, known } => {
                check_len(others)?;
                let shown: Vec<_> = others.iter().map(|der| der.clone().into_owned()).collect();
                let trust = Trust::from_pin(root, &shown).map_err(|_| PeerError::UnknownIssuer)?;
                let peer = trust.judge_server(leaf, others, timestamp(now), self.expected)?;
                match known {
                    // A pin knows nothing of what happened since: whose CA or root got away, who was evicted.
                    Some(known) => known.get().judge_server(leaf, others, timestamp(now), self.expected),
                    None => Ok(peer),
                }
            }
        }
    }
}

impl ServerCertVerifier for ServerJudge {
    // The server name is what was dialled; which node must answer is `expected`, and the DNS name that
    // stock verification checks is the fixed one of that role.
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.judge(end_entity, intermediates, now)
            .map(|_| ServerCertVerified::assertion())
            .map_err(|error| to_rustls(error, now))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
