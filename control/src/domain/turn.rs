//! Turns at the DNS while somebody waits: as many at once as a small resolver bears, and few of them one project's, so that nobody
//! waits for another one's silent name servers.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mezusphere_model::id::ProjectId;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::LOOKS_AT_ONCE;

/// Turns that one project takes at once.
const OF_PROJECT_MAX: usize = 2;

/// How long somebody waits for a turn; a look itself takes up to 12 s more.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// Why nobody looks now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoTurn {
    /// The project's own are taken.
    #[error("{OF_PROJECT_MAX} records of this project are being looked for already")]
    OfProject,
    /// All are taken, for longer than anybody waits.
    #[error("many other records are being looked for")]
    AtAll,
}

/// All turns there are.
pub(crate) struct Turns {
    free: Semaphore,
    taken: Mutex<BTreeMap<ProjectId, usize>>,
    wait: Duration,
}

/// A turn; dropping it gives it back.
pub(crate) struct Turn<'a> {
    _place: Place<'a>,
    _permit: SemaphorePermit<'a>,
}

/// One of the project's own.
struct Place<'a> {
    turns: &'a Turns,
    project: ProjectId,
}

impl Turns {
    /// As many as a small resolver bears.
    pub(crate) fn new() -> Self {
        Self::with(LOOKS_AT_ONCE, WAIT_MAX)
    }

    fn with(at_once: usize, wait: Duration) -> Self {
        Self { free: Semaphore::new(at_once), taken: Mutex::default(), wait }
    }

    /// A turn of the project's, after [`WAIT_MAX`] at the latest. Cancel safe.
    pub(crate) async fn take(&self, project: ProjectId) -> Result<Turn<'_>, NoTurn> {
        let place = self.place(project).ok_or(NoTurn::OfProject)?;
        match timeout(self.wait, self.free.acquire()).await {
            Ok(Ok(permit)) => Ok(Turn { _place: place, _permit: permit }),
            Ok(Err(_)) | Err(_) => Err(NoTurn::AtAll),
        }
    }

    fn place(&self, project: ProjectId) -> Option<Place<'_>> {
        let mut taken = self.taken();
        let of_project = taken.entry(project).or_default();
        if *of_project >= OF_PROJECT_MAX {
            return None;
        }
        *of_project += 1;
        Some(Place { turns: self, project })
    }

    fn taken(&self) -> std::sync::MutexGuard<'_, BTreeMap<ProjectId, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut taken = self.turns.taken();
        let left = taken.get(&self.project).copied().unwrap_or_default().saturating_sub(1);
        if left == 0 {
            taken.remove(&self.project);
        } else {
            taken.insert(self.project, left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn r23_a_project_takes_few_turns_and_nobody_waits_without_end() {
        let [shop, blog, third] = [1, 2, 3].map(ProjectId::from_bits);
        let turns = Turns::with(3, Duration::from_millis(20));
        let first = turns.take(shop).await.unwrap();
        let _second = turns.take(shop).await.unwrap();
        assert_eq!(turns.take(shop).await.err(), Some(NoTurn::OfProject));
        let _blogs = turns.take(blog).await.unwrap();
        assert_eq!(turns.take(third).await.err(), Some(NoTurn::AtAll));
        drop(first);
        drop(turns.take(third).await.unwrap());
        assert!(turns.take(shop).await.is_ok(), "given back");
        assert_eq!(turns.taken().len(), 2, "who waits for nothing is not remembered");
    }
}
