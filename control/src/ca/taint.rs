//! The compromise drill: the issuing CA's key is in other hands. A new CA issues at once, the old one is refused at once,
//! and every node asks for a new certificate by itself: with its connection key, or as the edge it was.

use mezusphere_pki::Issuing;
use mezusphere_pki::trust::RETIRED_MAX;
use mezusphere_store::primary::Tx;
use mezusphere_store::primary::secret::{self, SecretState};

use super::run::RotationError;
use super::state::{Ended, How, What};
use super::step::SPREAD_HURRY_S;
use super::{keep_issuing, root_here};
use crate::installation::secret_name;
use crate::{OpenError, Shared};

impl Shared {
    /// Throws the issuing CA out, in favour of `new` or of one made here.
    ///
    /// A rotation that runs is given up: the CA it was to bring was made beside the key that was taken, and is refused too.
    /// A new root it was to bring is forgotten.
    pub(crate) async fn taint(
        &self,
        tx: &mut Tx,
        by: &str,
        new: Option<Issuing>,
    ) -> Result<(), RotationError> {
        let mut state = self.ca_to_change(tx).await?;
        let now = tx.now();
        let new = if let Some(new) = new {
            new
        } else {
            let root = root_here(tx, &*self.seal).await?.ok_or(RotationError::Offline)?;
            Issuing::create(&root, now, &self.entropy).map_err(OpenError::from)?
        };
        if let Some(rotation) = state.rotation.take() {
            // Both of its CAs go, whichever of them signed.
            state.retire(&rotation.from, now, true);
            self.drop_rotation(tx, &mut state, &rotation, How::Tainted).await?;
        }
        let old = state.issuing.clone();
        state.retire(&old, now, true);
        if state.retired.len() > RETIRED_MAX {
            return Err(RotationError::Full);
        }
        state.issuing = keep_issuing(tx, &new, SecretState::Current).await?;
        state.spread_s = self.spread(SPREAD_HURRY_S);
        for row in secret::list(tx, secret_name::ISSUING).await.map_err(OpenError::from)? {
            if row.version != state.issuing.version {
                secret::delete(tx, secret_name::ISSUING, row.version).await.map_err(OpenError::from)?;
            }
        }
        state.last = Some(Ended {
            what: What::Issuing,
            how: How::Tainted,
            started_at: now,
            at: now,
            by: by.to_owned(),
            left_behind: 0,
        });
        self.put(tx, &mut state).await?;
        self.sign_bundles_anew(tx).await?;
        Ok(())
    }
}
