//! Sealing the copy anew once the master key was replaced: documents that hold keys, and values kept beside the feed.
//!
//! On the writing thread, in the same small batches as everything else. What is cut short is begun again: what is done is
//! not outdated any more.

use mezusphere_model::document::{DocumentKey, Partition};
use tokio::sync::oneshot;

use super::apply::{Op, STEP};
use super::disk::DiskError;
use super::stage::Staging;
use super::{Replica, Shared, kept, record};

/// Why the copy was not sealed anew as a whole. Trying again is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the replica is busy, or its disk fails")]
pub struct NotResealed;

impl Replica {
    /// Seals anew what was sealed with a key that is to go; it is on the disk when this returns. A partition that is being
    /// fetched anew is sealed with the key in use as it comes.
    pub async fn reseal(&self) -> Result<(), NotResealed> {
        let ops = self.ops.as_ref().ok_or(NotResealed)?;
        let (reply, done) = oneshot::channel();
        ops.try_send(Op::Reseal(reply)).map_err(|_| NotResealed)?;
        match done.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(NotResealed),
        }
    }
}

/// Documents first, then kept values.
pub(super) fn all(shared: &Shared) -> Result<(), DiskError> {
    for partition in shared.partitions() {
        documents(shared, partition)?;
    }
    kept_values(shared)
}

fn documents(shared: &Shared, partition: Partition) -> Result<(), DiskError> {
    let Some(mut position) = shared.position(partition) else { return Ok(()) };
    let prefix = record::document_key(partition, "");
    let mut outdated: Vec<DocumentKey> = Vec::new();
    shared.disk.scan(&prefix, &prefix, |place, value| {
        if record::is_outdated(&*shared.seal, &place, &value)
            && let Some((_, key)) = record::parts_of_document_key(&place)
        {
            outdated.push(key);
        }
        true
    })?;
    for step in outdated.chunks(STEP) {
        let mut batch = Staging::new(shared, partition);
        for key in step {
            match body(shared, partition, key)? {
                Some(body) => batch.stage(key, Some(&body), &mut position.content)?,
                // It is fetched anew, and sealed as it comes.
                None => shared.damaged_value(partition),
            }
        }
        batch.write_position(&position);
        batch.commit(Some(position))?;
    }
    Ok(())
}

/// A document's text; `None` if it cannot be read.
fn body(shared: &Shared, partition: Partition, key: &DocumentKey) -> Result<Option<String>, DiskError> {
    let place = record::document_key(partition, key.as_str());
    let Some(value) = shared.disk.get(&place)? else { return Ok(None) };
    let read = record::read_document(&*shared.seal, &place, key.as_str(), &value, <[u8]>::to_vec);
    Ok(read.ok().and_then(|text| String::from_utf8(text).ok()))
}

fn kept_values(shared: &Shared) -> Result<(), DiskError> {
    let mut from = record::KEPT.to_vec();
    loop {
        let (mut batch, mut seen, mut last) = (sled::Batch::default(), 0_usize, None);
        shared.disk.scan(record::KEPT, &from, |place, value| {
            seen += 1;
            if let Some(fresh) = kept::resealed(&*shared.seal, &place, &value) {
                batch.insert(place.as_ref(), fresh);
            }
            last = Some(place);
            seen < STEP
        })?;
        shared.disk.apply(batch)?;
        let Some(last) = last else { return Ok(()) };
        from = last.to_vec();
        from.push(0); // the first key after it
    }
}
