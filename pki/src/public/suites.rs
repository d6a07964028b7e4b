//! In which order cipher suites are taken on public connections.
//!
//! Ours, AES-128 first: all that are offered are strong, and it costs both sides least. A client that names `ChaCha20` first has
//! no AES in hardware and is taken at its word.

use std::sync::{Arc, LazyLock};

use rustls::CipherSuite;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::cipher_suite as suite;

use crate::provider::provider;

/// The provider with our order of suites.
pub(super) fn ordered() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        let cipher_suites = vec![
            suite::TLS13_AES_128_GCM_SHA256,
            suite::TLS13_AES_256_GCM_SHA384,
            suite::TLS13_CHACHA20_POLY1305_SHA256,
            suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
            suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        ];
        Arc::new(CryptoProvider { cipher_suites, ..(*provider()).clone() })
    });
    Arc::clone(&PROVIDER)
}

/// Whether a client that offers these has no AES in hardware: it names `ChaCha20` before all others.
pub(super) fn is_chacha_first(offered: &[CipherSuite]) -> bool {
    // Browsers put a value in front that means nothing (RFC 8701).
    let first = offered.iter().find(|suite| !matches!(suite, CipherSuite::Unknown(_)));
    matches!(
        first,
        Some(
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
                | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
                | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_means_nothing_hides_no_preference() {
        let chacha = CipherSuite::TLS13_CHACHA20_POLY1305_SHA256;
        let aes = CipherSuite::TLS13_AES_256_GCM_SHA384;
        assert!(is_chacha_first(&[CipherSuite::Unknown(0x2a2a), chacha, aes]));
        assert!(!is_chacha_first(&[CipherSuite::Unknown(0x2a2a), aes, chacha]));
        assert!(!is_chacha_first(&[]));
    }
}
