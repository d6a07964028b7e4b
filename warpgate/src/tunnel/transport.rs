//! What carries a tunnel, or a question to the connect service.

/// What carries the octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// QUIC over UDP.
    Quic,
    /// TLS over TCP, because UDP gets no answer or leads nowhere.
    Tcp,
}

impl Transport {
    /// `quic` or `tcp`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::Tcp => "tcp",
        }
    }
}
