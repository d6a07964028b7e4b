//! What is brought in line in the background: sign-ins that may last longer than their directory now allows, and users
//! that a node of an older version added.
//!
//! Both are looked for by reading and mended in small transactions, so that nobody waits for them; two control nodes
//! that do it at once do each other no harm.

use mezusphere_model::id::DirectoryId;
use mezusphere_store::WriteError;
use mezusphere_store::primary::directory::SessionLimits;
use mezusphere_store::primary::directory::limits::{self, SHORTENED_MAX};
use mezusphere_store::primary::{PageRequest, user};

use crate::Shared;

impl Shared {
    /// Brings sign-ins and the index of users in line.
    pub(crate) async fn look_after_people(&self) -> Result<(), WriteError> {
        if self.primary.read(async |tx| user::must_mend(tx).await).await? {
            while self.primary.write(async |tx| user::mend(tx).await).await? > 0 {}
        }
        let mut page = PageRequest::first();
        loop {
            let limited = self.primary.read(async |tx| limits::limited(tx, &page).await).await?;
            for row in limited.rows {
                if let Some(limits) = row.settings.sessions {
                    self.bring_in_line(row.id, limits).await?;
                }
            }
            let Some(next) = limited.next else { return Ok(()) };
            page = PageRequest::after(next);
        }
    }

    async fn bring_in_line(&self, directory: DirectoryId, limits: SessionLimits) -> Result<(), WriteError> {
        let mut after = None;
        let mut shortened = 0;
        loop {
            let (found, next) =
                self.primary.read(async |tx| limits::over(tx, directory, limits, after).await).await?;
            for batch in found.chunks(SHORTENED_MAX) {
                self.primary.write(async |tx| limits::shorten(tx, directory, limits, batch).await).await?;
                shortened += batch.len();
            }
            if next.is_none() {
                break;
            }
            after = next;
        }
        if shortened > 0 {
            tracing::info!(%directory, sign_ins = shortened, "Sign-ins shortened to the directory's limits");
        }
        Ok(())
    }
}
