//! Randomness, passed in, so that a test can hold it still and nothing draws a weak secret by accident.

use std::fmt;
use std::sync::Arc;

/// Fills buffers with random bytes. Cheap to clone.
///
/// A program's main makes it from the operating system's generator; a test from [`Entropy::counting`].
#[derive(Clone)]
pub struct Entropy(Arc<Fill>);

type Fill = dyn Fn(&mut [u8]) + Send + Sync;

impl Entropy {
    /// Randomness from `fill`, which must write every byte of the buffer it is given.
    pub fn new(fill: impl Fn(&mut [u8]) + Send + Sync + 'static) -> Self {
        Self(Arc::new(fill))
    }

    /// Distinct, predictable bytes for tests: never for a program.
    pub fn counting() -> Self {
        let next = std::sync::atomic::AtomicU64::new(1);
        Self::new(move |buffer| {
            for chunk in buffer.chunks_mut(8) {
                let n = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let bytes = n.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes();
                for (to, from) in chunk.iter_mut().zip(bytes) {
                    *to = from;
                }
            }
        })
    }

    /// `N` random bytes.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut buffer = [0; N];
        (self.0)(&mut buffer);
        buffer
    }

    /// A number drawn evenly from `0..below`; 0 if `below` is 0. For jitter and choices, never for secrets.
    pub fn below(&self, below: u64) -> u64 {
        // The bias of a remainder is under 2^-32 for the small ranges this serves.
        u64::from_be_bytes(self.bytes()).checked_rem(below).unwrap_or(0)
    }
}

impl fmt::Debug for Entropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entropy")
    }
}
