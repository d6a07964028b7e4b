//! The UDP port's socket: every packet comes up in a buffer of its own ([`mezusphere_udp`]).

pub(super) use mezusphere_udp::Packets;
