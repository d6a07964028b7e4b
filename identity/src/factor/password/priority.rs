//! The priority of the threads that hash.

/// By how much its threads give way: beside a busy thread of traffic, one gets a tenth of the core.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

/// Lowers the priority of this thread, so that a wave of sign-ins takes what traffic leaves.
///
/// `nice(2)` is of one thread on Linux, contrary to POSIX.
#[cfg(target_os = "linux")]
pub(super) fn give_way() {
    if let Err(error) = rustix::process::nice(NICE) {
        tracing::warn!(%error, "Password threads could not give way to traffic");
    }
}

/// Other systems' `nice` is of the whole process.
#[cfg(not(target_os = "linux"))]
pub(super) fn give_way() {}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use mezusphere_model::Entropy;

    use super::NICE;
    use crate::factor::password::{Password, PasswordPool, Peppers, PoolLimits, Verdict};

    fn typed() -> Password {
        Password::new("plum koala nine rulers".to_owned()).unwrap()
    }

    /// Which of this program's threads is at which priority, as the system says (proc(5)).
    fn priorities() -> Vec<(String, i32)> {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let stat = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("stat")).ok());
        let read = |stat: String| {
            let (name, fields) = stat.split_once('(')?.1.rsplit_once(')')?;
            Some((name.to_owned(), fields.split_whitespace().nth(16)?.parse().ok()?))
        };
        stat.filter_map(read).collect()
    }

    #[tokio::test]
    async fn threads_that_hash_give_way_and_no_others_do() {
        let limits = PoolLimits { threads: 2, queue_len_max: 4 };
        let pool = PasswordPool::start(Peppers::new(1, [7; 32]), limits, &Entropy::counting()).unwrap();
        // A thread that has answered has set its priority before.
        for _ in 0..8 {
            let both = tokio::join!(pool.verify(typed(), None), pool.verify(typed(), None));
            assert_eq!(both, (Ok(Verdict::Wrong), Ok(Verdict::Wrong)));
        }
        let ours = rustix::process::getpriority_process(None).unwrap();
        let (hashing, others): (Vec<_>, Vec<_>) =
            priorities().into_iter().partition(|(name, _)| name.starts_with("password-"));
        assert!(hashing.iter().any(|(_, nice)| *nice == (ours + NICE).min(19)), "{hashing:?}");
        assert!(others.iter().all(|(_, nice)| *nice == ours), "{others:?}");
    }
}
