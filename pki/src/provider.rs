//! The one cryptographic provider, passed to rustls explicitly: never the process-wide default, which
//! whichever crate comes first could set.

use std::sync::{Arc, LazyLock};

use mezusphere_model::Clock;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;

/// aws-lc-rs, with the hybrid post-quantum group first.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        Arc::new(CryptoProvider {
            // Written out, so that the order does not hang on a feature of another crate in the build.
            kx_groups: vec![
                aws_lc_rs::kx_group::X25519MLKEM768,
                aws_lc_rs::kx_group::X25519,
                aws_lc_rs::kx_group::SECP256R1,
                aws_lc_rs::kx_group::SECP384R1,
            ],
            ..aws_lc_rs::default_provider()
        })
    });
    Arc::clone(&PROVIDER)
}

/// Our clock, as rustls asks for it.
#[derive(Debug)]
pub(crate) struct RustlsClock(Clock);

impl RustlsClock {
    pub(crate) fn shared(clock: &Clock) -> Arc<dyn TimeProvider> {
        Arc::new(Self(clock.clone()))
    }
}

impl TimeProvider for RustlsClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(crate::certificate::unix_time(self.0.now()))
    }
}
