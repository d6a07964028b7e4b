//! Hashes and verifies passwords on threads of its own, so that Argon2 never holds up a runtime and a flood
//! of sign-ins cannot take more memory than threads × 19 MiB.
//!
//! Unknown accounts are verified against a decoy of the same cost: whoever measures learns nothing (R13).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{fmt, io};

use mezusphere_model::Entropy;
use tokio::sync::oneshot;

use super::hasher::{HashError, Hasher, Memory, Peppers};
use super::{Password, PasswordHash, Weakness, priority, rules};

/// Jobs that wait for a thread. One takes about 25 ms, so the last of 64 waits under two seconds on one
/// thread; a longer queue would only make people wait for an answer they have stopped waiting for.
pub const QUEUE_LEN_MAX: usize = 64;

/// When to come again while the queue is full: it empties within two seconds, and people who come back together would
/// fill it again.
pub const PASSWORD_BUSY_RETRY_AFTER: Duration = Duration::from_secs(5);

/// Most threads: together they take 152 MiB and verify about 300 passwords per second, more than the throttle
/// lets strangers ask for.
pub const THREADS_MAX: usize = 8;

/// How much a pool may use.
#[derive(Clone, Copy, Debug)]
pub struct PoolLimits {
    /// Threads; each takes up to 19 MiB while it works.
    pub threads: usize,
    /// Jobs that wait.
    pub queue_len_max: usize,
}

impl PoolLimits {
    /// One thread less than the machine has cores, so that traffic keeps one; at least one thread, at most
    /// [`THREADS_MAX`].
    pub fn for_cores(cores: usize) -> Self {
        Self { threads: cores.saturating_sub(1).clamp(1, THREADS_MAX), queue_len_max: QUEUE_LEN_MAX }
    }
}

/// Why the pool did not do a job. Nothing was decided; the same request may be made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// The queue is full.
    #[error("too many sign-ins at once")]
    Busy,
    /// The pool is stopping, or this job failed.
    #[error("the password threads have stopped")]
    Stopped,
}

/// Why a new password was not hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// The rules do not take it.
    #[error(transparent)]
    Weak(#[from] Weakness),
    /// Nothing was decided.
    #[error(transparent)]
    Pool(#[from] PoolError),
}

/// What a verification found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the password.
    Right {
        /// The hash was made with older settings or an older pepper: store this one instead.
        replacement: Option<PasswordHash>,
    },
    /// It is not, or there is no such account.
    Wrong,
}

/// The threads that hash. Cheap to clone; dropping the last clone ends and joins them.
#[derive(Clone)]
pub struct PasswordPool {
    workers: Arc<Workers>,
}

struct Workers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    queue: Mutex<Queue>,
    work: Condvar,
    queue_len_max: usize,
    hasher: Hasher,
    entropy: Entropy,
    /// Argon2 computations for verification so far; the same for known and unknown accounts.
    verifications: AtomicU64,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    closed: bool,
}

enum Job {
    Verify { password: Password, stored: Option<PasswordHash>, reply: oneshot::Sender<Verdict> },
    Set { password: Password, about: Vec<String>, reply: oneshot::Sender<Result<PasswordHash, SetError>> },
}

impl Job {
    /// Whether nobody waits for it any more.
    fn is_abandoned(&self) -> bool {
        match self {
            Self::Verify { reply, .. } => reply.is_closed(),
            Self::Set { reply, .. } => reply.is_closed(),
        }
    }
}

impl PasswordPool {
    /// Starts the threads.
    ///
    /// # Errors
    /// What the operating system says when it refuses a thread.
    pub fn start(peppers: Peppers, limits: PoolLimits, entropy: &Entropy) -> io::Result<Self> {
        let shared = Arc::new(Shared::new(peppers, limits, entropy).map_err(io::Error::other)?);
        let mut workers =
            Workers { shared: Arc::clone(&shared), threads: Vec::with_capacity(limits.threads) };
        for n in 0..limits.threads.max(1) {
            let shared = Arc::clone(&shared);
            let thread = std::thread::Builder::new().name(format!("password-{n}"));
            workers.threads.push(thread.spawn(move || {
                priority::give_way();
                shared.run();
            })?);
        }
        Ok(Self { workers: Arc::new(workers) })
    }

    /// Checks `password` against the stored hash, or against the decoy if there is none: the work is the same.
    ///
    /// Waits for its turn in the queue. Cancel safe: a job whose caller went away is skipped.
    pub async fn verify(
        &self,
        password: Password,
        stored: Option<PasswordHash>,
    ) -> Result<Verdict, PoolError> {
        let (reply, answer) = oneshot::channel();
        self.workers.shared.submit(Job::Verify { password, stored, reply })?;
        answer.await.map_err(|_| PoolError::Stopped)
    }

    /// Checks a new password against the rules and hashes it. `about` is what an attacker knows of its owner.
    ///
    /// The only way to a [`PasswordHash`] worth storing, so no password goes unchecked.
    pub async fn set(&self, password: Password, about: Vec<String>) -> Result<PasswordHash, SetError> {
        let (reply, answer) = oneshot::channel();
        self.workers.shared.submit(Job::Set { password, about, reply })?;
        answer.await.map_err(|_| PoolError::Stopped)?
    }

    /// Argon2 computations for verification since the start, for metrics.
    pub fn verifications(&self) -> u64 {
        self.workers.shared.verifications.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for PasswordPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PasswordPool").field("threads", &self.workers.threads.len()).finish_non_exhaustive()
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        {
            let mut queue = self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
            queue.closed = true;
            queue.jobs.clear();
        }
        self.shared.work.notify_all();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("A password thread ended by a panic");
            }
        }
    }
}

impl Shared {
    fn new(peppers: Peppers, limits: PoolLimits, entropy: &Entropy) -> Result<Self, HashError> {
        Ok(Self {
            queue: Mutex::default(),
            work: Condvar::new(),
            queue_len_max: limits.queue_len_max,
            hasher: Hasher::new(peppers, entropy)?,
            entropy: entropy.clone(),
            verifications: AtomicU64::new(0),
        })
    }

    fn submit(&self, job: Job) -> Result<(), PoolError> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.closed {
            return Err(PoolError::Stopped);
        }
        if queue.jobs.len() >= self.queue_len_max {
            // People who gave up must not keep others out.
            queue.jobs.retain(|job| !job.is_abandoned());
            if queue.jobs.len() >= self.queue_len_max {
                return Err(PoolError::Busy);
            }
        }
        queue.jobs.push_back(job);
        drop(queue);
        self.work.notify_one();
        Ok(())
    }

    fn run(&self) {
        let mut memory = Memory::default();
        while let Some(job) = self.next(&mut memory) {
            // A panic ends the one job, whose caller then hears `Stopped`; the thread goes on. What it leaves in the
            // memory is overwritten by the next job.
            let work = std::panic::AssertUnwindSafe(|| self.work_on(job, &mut memory));
            let done = std::panic::catch_unwind(work);
            if done.is_err() {
                tracing::error!("A password job ended by a panic");
            }
        }
    }

    /// The next job. Without one, gives the memory back and waits; `None`: the pool is closed.
    fn next(&self, memory: &mut Memory) -> Option<Job> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                return Some(job);
            }
            if queue.closed {
                return None;
            }
            memory.release();
            queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn work_on(&self, job: Job, memory: &mut Memory) {
        if job.is_abandoned() {
            return;
        }
        // A caller that stops waiting meanwhile makes `send` fail, and nobody is left to tell.
        match job {
            Job::Verify { password, stored, reply } => {
                self.verifications.fetch_add(1, Ordering::Relaxed);
                let salt = self.entropy.bytes();
                drop(reply.send(self.hasher.verify(&password, stored.as_ref(), salt, memory)));
            }
            Job::Set { password, about, reply } => {
                let outcome = rules::check(&password, &about).map_err(SetError::from).and_then(|()| {
                    self.hasher.hash(&password, self.entropy.bytes(), memory).map_err(|error| {
                        tracing::error!(%error, "Hashing a password failed");
                        SetError::Pool(PoolError::Stopped)
                    })
                });
                drop(reply.send(outcome));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(peppers: Peppers, limits: PoolLimits) -> PasswordPool {
        PasswordPool::start(peppers, limits, &Entropy::counting()).unwrap()
    }

    fn one_pepper() -> Peppers {
        Peppers::new(1, [7; 32])
    }

    fn typed(text: &str) -> Password {
        Password::new(text.to_owned()).unwrap()
    }

    const GOOD: &str = "plum koala nine rulers";

    #[tokio::test]
    async fn r14_a_hash_is_argon2id_at_nineteen_mebibytes() {
        let pool = pool(one_pepper(), PoolLimits::for_cores(1));
        let hash = pool.set(typed(GOOD), Vec::new()).await.unwrap();
        assert!(hash.phc().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", hash.phc());
        assert_eq!(hash.pepper_version(), 1);
        let right = Verdict::Right { replacement: None };
        assert_eq!(pool.verify(typed(GOOD), Some(hash.clone())).await, Ok(right));
        assert_eq!(pool.verify(typed("plum koala nine ruler"), Some(hash)).await, Ok(Verdict::Wrong));
    }

    #[tokio::test]
    async fn r14_a_hash_without_its_pepper_verifies_nothing() {
        let ours = pool(one_pepper(), PoolLimits::for_cores(1));
        let hash = ours.set(typed(GOOD), Vec::new()).await.unwrap();
        let theirs = pool(Peppers::new(1, [8; 32]), PoolLimits::for_cores(1));
        assert_eq!(theirs.verify(typed(GOOD), Some(hash)).await, Ok(Verdict::Wrong));
    }

    #[tokio::test]
    async fn a_hash_of_an_older_pepper_is_replaced_at_sign_in() {
        let old = pool(one_pepper(), PoolLimits::for_cores(1));
        let hash = old.set(typed(GOOD), Vec::new()).await.unwrap();
        let new = pool(Peppers::new(2, [8; 32]).with_older(1, [7; 32]), PoolLimits::for_cores(1));
        let Ok(Verdict::Right { replacement: Some(replacement) }) = new.verify(typed(GOOD), Some(hash)).await
        else {
            panic!("right, and to be replaced");
        };
        assert_eq!(replacement.pepper_version(), 2);
        let right = Verdict::Right { replacement: None };
        assert_eq!(new.verify(typed(GOOD), Some(replacement)).await, Ok(right));
    }

    #[tokio::test]
    async fn r14_a_weak_password_is_never_hashed() {
        let pool = pool(one_pepper(), PoolLimits::for_cores(1));
        let weak = |text: &str| pool.set(typed(text), vec!["ada@shop.example".to_owned()]);
        assert_eq!(weak("too short").await, Err(SetError::Weak(Weakness::TooShort)));
        assert_eq!(weak("passwordpassword").await, Err(SetError::Weak(Weakness::Common)));
    }

    #[tokio::test]
    async fn r13_an_unknown_account_costs_exactly_one_verification_like_a_known_one() {
        let pool = pool(one_pepper(), PoolLimits::for_cores(1));
        let hash = pool.set(typed(GOOD), Vec::new()).await.unwrap();
        let damaged = PasswordHash::from_stored("damaged".to_owned(), 1);
        for (n, stored) in (1..).zip([Some(hash.clone()), None, Some(damaged), Some(hash)]) {
            assert_eq!(pool.verify(typed("not it, not it, no"), stored).await, Ok(Verdict::Wrong));
            assert_eq!(pool.verifications(), n);
        }
    }

    /// The queue without its threads, so that a test decides when work is done.
    fn queue(queue_len_max: usize) -> Shared {
        Shared::new(one_pepper(), PoolLimits { threads: 1, queue_len_max }, &Entropy::counting()).unwrap()
    }

    fn job() -> (Job, oneshot::Receiver<Verdict>) {
        let (reply, answer) = oneshot::channel();
        (Job::Verify { password: typed(GOOD), stored: None, reply }, answer)
    }

    #[test]
    fn r14_a_full_queue_says_busy_at_once_until_there_is_room() {
        let shared = queue(2);
        let (first, mut first_answer) = job();
        let (second, _second_answer) = job();
        assert_eq!(shared.submit(first), Ok(()));
        assert_eq!(shared.submit(second), Ok(()));
        assert_eq!(shared.submit(job().0), Err(PoolError::Busy));
        let mut memory = Memory::default();
        shared.work_on(shared.next(&mut memory).unwrap(), &mut memory);
        assert_eq!(first_answer.try_recv(), Ok(Verdict::Wrong));
        assert_eq!(shared.submit(job().0), Ok(()));
    }

    #[test]
    fn people_who_gave_up_neither_cost_work_nor_keep_others_out() {
        let shared = queue(2);
        for _ in 0..2 {
            let (abandoned, answer) = job();
            shared.submit(abandoned).unwrap();
            drop(answer);
        }
        let (wanted, mut answer) = job();
        assert_eq!(shared.submit(wanted), Ok(()), "the abandoned ones made room");
        let mut memory = Memory::default();
        shared.work_on(shared.next(&mut memory).unwrap(), &mut memory);
        assert_eq!(answer.try_recv(), Ok(Verdict::Wrong));
        let (abandoned, answer) = job();
        drop(answer);
        shared.work_on(abandoned, &mut memory);
        assert_eq!(shared.verifications.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn dropping_the_pool_ends_its_threads_and_answers_who_waits() {
        let pool = pool(one_pepper(), PoolLimits::for_cores(1));
        let shared = Arc::downgrade(&pool.workers.shared);
        drop(pool);
        assert!(shared.upgrade().is_none(), "the threads held it");
    }
}
