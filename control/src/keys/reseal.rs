//! Sealing anew everything in the database that a master key sealed which is to go.
//!
//! One control node at a time is at it, in bounded transactions; cut short anywhere, the next one goes on. Which key is in
//! use and which is to go, [`Seal`](mezusphere_model::seal::Seal) says.

use mezusphere_pki::{Issuing, Root};
use mezusphere_store::primary::reseal::{self, Position, Step};
use mezusphere_store::primary::secret;
use zeroize::Zeroizing;

use crate::installation::secret_name;
use crate::lease::Job;
use crate::{OpenError, Shared};

/// How far sealing anew went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resealed {
    /// Values sealed anew by this call.
    pub done: usize,
    /// Values that no key at hand opens: they were lost before.
    pub lost: usize,
    /// Values of keys that are to go which are left, besides those that are lost.
    pub left: u64,
    /// A transaction that began before this call is still open, and may bring more of them.
    pub under_way: bool,
    /// Another control node is at it.
    pub elsewhere: bool,
}

impl Shared {
    /// Seals everything anew that is to be; nothing if no key is to go.
    pub(crate) async fn reseal(&self) -> Result<Resealed, OpenError> {
        let mut all = Resealed::default();
        let outdated = self.seal.outdated();
        if outdated.is_empty() {
            return Ok(all);
        }
        let began = self.primary.read(async |tx| reseal::moment(tx).await).await?;
        for outdated in outdated {
            if !self.unnest().await? {
                return Ok(Resealed { elsewhere: true, ..all });
            }
            let mut from = Some(Position::default());
            let mut lost = 0;
            while let Some(at) = from {
                let step = self.primary.write(async |tx| {
                    if self.take_lease(tx, Job::Reseal).await?.is_none() {
                        return Ok(None);
                    }
                    reseal::step(tx, &outdated, &at).await.map(Some)
                });
                let Some(Step { good, lost: unopened, next }) = step.await? else {
                    return Ok(Resealed { elsewhere: true, ..all });
                };
                all.done += good;
                lost += unopened;
                from = next;
            }
            // Asked before it is counted what is left: what ended in between is counted.
            let is_quiet = self.primary.read(async |tx| reseal::is_quiet_since(tx, began).await).await?;
            let left = self.primary.read(async |tx| reseal::left(tx, &outdated).await).await?;
            all.under_way |= !is_quiet;
            all.lost += lost;
            // Behind the last step others may have written with the old key.
            all.left += left.saturating_sub(u64::try_from(lost).unwrap_or(u64::MAX));
        }
        Ok(all)
    }

    /// How many values are left of keys that are to go.
    pub(crate) async fn unsealed_left(&self) -> Result<u64, OpenError> {
        let mut left = 0;
        for outdated in self.seal.outdated() {
            left += self.primary.read(async |tx| reseal::left(tx, &outdated).await).await?;
        }
        Ok(left)
    }

    /// Opens every sealed value; says how many open and how many do not.
    pub(crate) async fn check_sealed(&self) -> Result<(usize, usize), OpenError> {
        let (mut from, mut found) = (Some(Position::default()), (0, 0));
        while let Some(at) = from {
            let step = self.primary.read(async |tx| reseal::check(tx, &at).await).await?;
            found = (found.0 + step.good, found.1 + step.lost);
            from = step.next;
        }
        Ok(found)
    }

    /// Earlier versions sealed a CA's key once more inside its secret; from there no step of the database gets at it.
    /// `false`: another control node is at it.
    async fn unnest(&self) -> Result<bool, OpenError> {
        self.primary
            .write(async |tx| {
                if self.take_lease(tx, Job::Reseal).await?.is_none() {
                    return Ok(false);
                }
                for name in [secret_name::ROOT, secret_name::ISSUING] {
                    for row in secret::list(tx, name).await? {
                        if let Some(pem) = self.inner_pem(name, &row.value) {
                            secret::replace(tx, name, row.version, pem.as_bytes()).await?;
                        }
                    }
                }
                Ok::<_, OpenError>(true)
            })
            .await
    }

    /// What is sealed inside a CA's secret; `None`: nothing is.
    fn inner_pem(&self, name: &str, value: &[u8]) -> Option<Zeroizing<String>> {
        if name == secret_name::ROOT {
            Root::open(value, &*self.seal).ok().map(|root| root.secret_pem())
        } else {
            Issuing::open(value, &*self.seal, &self.entropy).ok().map(|issuing| issuing.secret_pem())
        }
    }
}
