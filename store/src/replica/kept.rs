//! Small values an edge wants to know again after a restart, beside the feed: each sealed, each with an end.
//!
//! What is kept here is worth nothing to a decision: it can be lost at any time (a full queue, a database begun anew), and
//! whoever reads it judges it as if it had just come from outside.

use mezusphere_model::clock::Timestamp;
use mezusphere_model::seal::Seal;
use zeroize::Zeroizing;

use super::Replica;
use super::apply::Op;
use super::record;

/// Longest value, in octets: an assertion of many roles.
pub const KEPT_LEN_MAX: usize = 16 * 1024;

/// What the values are sealed for.
const SEALED_FOR: &str = "replica/kept";

/// Octets of the end in front of a sealed value.
const END_LEN: usize = 8;

/// Where a value is.
fn place(key: &[u8; 32]) -> Vec<u8> {
    [record::KEPT, key].concat()
}

/// When the value in a record ends; `None` for what cannot be read, which is over too.
pub(super) fn end(place: &[u8], value: &[u8]) -> Option<Timestamp> {
    let (end, _) = record::read(place, value).ok()?.split_first_chunk::<END_LEN>()?;
    Some(Timestamp::from_micros(i64::from_be_bytes(*end)))
}

/// The record of a value whose seal is of a key that is to go, sealed anew; `None` for all others, and for what cannot be
/// read.
pub(super) fn resealed(seal: &dyn Seal, place: &[u8], value: &[u8]) -> Option<Vec<u8>> {
    let (end, sealed) = record::read(place, value).ok()?.split_first_chunk::<END_LEN>()?;
    let value = seal.is_outdated(sealed).then(|| seal.open(SEALED_FOR, sealed).ok()).flatten()?;
    let mut payload = end.to_vec();
    payload.extend(seal.seal(SEALED_FOR, &Zeroizing::new(value)));
    Some(record::write(place, &payload))
}

impl Replica {
    /// Keeps a value of at most [`KEPT_LEN_MAX`] octets under `key` until `end`, on the writing thread, within a moment. Not
    /// kept if it is too long or the thread is busy.
    pub fn keep(&self, key: &[u8; 32], value: &[u8], end: Timestamp) {
        let Some(ops) = self.ops.as_ref().filter(|_| value.len() <= KEPT_LEN_MAX) else { return };
        let place = place(key);
        let mut payload = end.as_micros().to_be_bytes().to_vec();
        payload.extend(self.shared.seal.seal(SEALED_FOR, value));
        let record = record::write(&place, &payload);
        if ops.try_send(Op::Keep(place, record)).is_err() {
            tracing::debug!("The replica is busy; a value is not kept");
        }
    }

    /// The value kept under `key`, if its end has not come.
    pub fn kept(&self, key: &[u8; 32]) -> Option<Vec<u8>> {
        let place = place(key);
        let value = self.shared.disk.get(&place).ok()??;
        let payload = record::read(&place, &value).ok()?;
        let (end, sealed) = payload.split_first_chunk::<END_LEN>()?;
        let is_over = Timestamp::from_micros(i64::from_be_bytes(*end)) <= self.shared.clock.now();
        (!is_over).then(|| self.shared.seal.open(SEALED_FOR, sealed).ok()).flatten()
    }
}
