//! QUIC connection ids that say where a connection lives.
//!
//! ```text
//!  octet 0     generation   which start of the edge on this machine: old and new process share the port while
//!                           one replaces the other, and packets find theirs
//!  octet 1     core         which worker's socket: a migrating client's packets find the worker of its connection
//!  octets 2–9  random       so that ids can neither be guessed nor linked to each other
//! ```
//!
//! A packet filter on the sockets of one port steers by the first two octets. While there is one UDP socket, both
//! are 0.

use std::time::Duration;

use mezusphere_model::Entropy;
use quinn::{ConnectionId, ConnectionIdGenerator};
use quinn_proto::InvalidCid;

/// Octets of a connection id.
pub const CID_LEN: usize = 10;

/// Where the connections of a socket live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Which start of the edge.
    pub generation: u8,
    /// Which worker.
    pub core: u8,
}

/// Makes connection ids for one place.
pub struct PlacedCids {
    place: Place,
    entropy: Entropy,
}

impl PlacedCids {
    /// Ids for connections at `place`.
    pub fn new(place: Place, entropy: Entropy) -> Self {
        Self { place, entropy }
    }
}

impl ConnectionIdGenerator for PlacedCids {
    fn generate_cid(&mut self) -> ConnectionId {
        let random: [u8; 8] = self.entropy.bytes();
        let mut id = [self.place.generation, self.place.core, 0, 0, 0, 0, 0, 0, 0, 0];
        for (to, from) in id.iter_mut().skip(2).zip(random) {
            *to = from;
        }
        ConnectionId::new(&id)
    }

    /// A packet for another place came here by mistake, or is made up: no stateless reset is spent on it.
    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        match &id[..] {
            [generation, core, ..] if *generation == self.place.generation && *core == self.place.core => {
                Ok(())
            }
            _ => Err(InvalidCid),
        }
    }

    fn cid_len(&self) -> usize {
        CID_LEN
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_says_its_place_and_never_repeats() {
        let place = Place { generation: 3, core: 1 };
        let mut cids = PlacedCids::new(place, Entropy::counting());
        let (first, second) = (cids.generate_cid(), cids.generate_cid());
        assert_eq!(first.len(), CID_LEN);
        assert_eq!(first[..2], [3, 1]);
        assert_ne!(first, second);
        assert!(cids.validate(&first).is_ok());
        let elsewhere = PlacedCids::new(Place { generation: 3, core: 0 }, Entropy::counting());
        assert!(elsewhere.validate(&first).is_err());
    }
}
