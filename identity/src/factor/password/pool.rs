//! Hashes and verifies passwords on threads of its own, so that Argon2 never holds up a runtime and a flood
//! of sign-ins cannot take more memory than threads × 19 MiB.
//!
//! Unknown accounts are verified against a decoy of the same cost: whoever measures learns nothing (R13).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::{fmt, io};

use argon2::password_hash::phc::{self, Output, ParamsString, Salt};
use argon2::password_hash::{self, PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use mezusphere_model::Entropy;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::{Password, PasswordHash, Weakness, rules};

/// Memory of one hash, in KiB: 19 MiB, with [`PASSES`] and [`LANES`] the OWASP minimum for Argon2id.
pub const MEMORY_KIB: u32 = 19 * 1024;
/// Passes over that memory.
pub const PASSES: u32 = 2;
/// Lanes computed side by side; one, because a sign-in gets one thread.
pub const LANES: u32 = 1;
const OUTPUT_LEN: usize = 32;
const SALT_LEN: usize = 16;

/// Jobs that wait for a thread. One takes about 25 ms, so the last of 64 waits under two seconds on one
/// thread; a longer queue would only make people wait for an answer they have stopped waiting for.
pub const QUEUE_LEN_MAX: usize = 64;

/// How much a pool may use.
#[derive(Clone, Copy, Debug)]
pub struct PoolLimits {
    /// Threads; each takes up to 19 MiB while it works.
    pub threads: usize,
    /// Jobs that wait.
    pub queue_len_max: usize,
}

impl PoolLimits {
    /// One thread less than the machine has cores, so that traffic keeps one; at least one thread.
    pub fn for_cores(cores: usize) -> Self {
        Self { threads: cores.saturating_sub(1).max(1), queue_len_max: QUEUE_LEN_MAX }
    }
}

/// The installation's own secret in every hash: a stolen database alone cannot be guessed against.
#[derive(Clone)]
pub struct Pepper(Zeroizing<[u8; 32]>);

impl Pepper {
    /// A pepper with these bytes, as unsealed from the store.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// A new pepper.
    pub fn random(entropy: &Entropy) -> Self {
        Self::from_bytes(entropy.bytes())
    }

    /// Its bytes, to be sealed.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pepper(…)")
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the password.
    Right,
    /// It is the password, but the hash is of older settings: hash it again and store that.
    RightButOutdated,
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

impl PasswordPool {
    /// Starts the threads.
    ///
    /// # Errors
    /// What the operating system says when it refuses a thread.
    pub fn start(pepper: Pepper, limits: PoolLimits, entropy: &Entropy) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            work: Condvar::new(),
            queue_len_max: limits.queue_len_max,
            hasher: Hasher::new(pepper, entropy).map_err(io::Error::other)?,
            entropy: entropy.clone(),
            verifications: AtomicU64::new(0),
        });
        let mut workers = Workers { shared: Arc::clone(&shared), threads: Vec::with_capacity(limits.threads) };
        for n in 0..limits.threads.max(1) {
            let shared = Arc::clone(&shared);
            let thread = std::thread::Builder::new().name(format!("password-{n}"));
            workers.threads.push(thread.spawn(move || shared.run())?);
        }
        Ok(Self { workers: Arc::new(workers) })
    }

    /// Checks `password` against the stored hash, or against the decoy if there is none: the work is the same.
    ///
    /// Waits for its turn in the queue. Cancel safe: a job whose caller went away is skipped.
    pub async fn verify(&self, password: Password, stored: Option<PasswordHash>) -> Result<Verdict, PoolError> {
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
    fn submit(&self, job: Job) -> Result<(), PoolError> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.closed {
            return Err(PoolError::Stopped);
        }
        if queue.jobs.len() >= self.queue_len_max {
            return Err(PoolError::Busy);
        }
        queue.jobs.push_back(job);
        drop(queue);
        self.work.notify_one();
        Ok(())
    }

    fn run(&self) {
        while let Some(job) = self.next() {
            // A panic ends the one job, whose caller then hears `Stopped`; the thread goes on.
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.work_on(job)));
            if done.is_err() {
                tracing::error!("A password job ended by a panic");
            }
        }
    }

    fn next(&self) -> Option<Job> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                return Some(job);
            }
            if queue.closed {
                return None;
            }
            queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn work_on(&self, job: Job) {
        // A caller that stopped waiting makes `send` fail, and nobody is left to tell.
        match job {
            Job::Verify { reply, .. } if reply.is_closed() => {}
            Job::Set { reply, .. } if reply.is_closed() => {}
            Job::Verify { password, stored, reply } => {
                self.verifications.fetch_add(1, Ordering::Relaxed);
                drop(reply.send(self.hasher.verify(&password, stored.as_ref())));
            }
            Job::Set { password, about, reply } => {
                let outcome = rules::check(&password, &about).map_err(SetError::from).and_then(|()| {
                    self.hasher.hash(&password, self.entropy.bytes()).map_err(|error| {
                        tracing::error!(%error, "Hashing a password failed");
                        SetError::Pool(PoolError::Stopped)
                    })
                });
                drop(reply.send(outcome));
            }
        }
    }
}

/// Argon2id with this installation's settings and pepper.
struct Hasher {
    pepper: Pepper,
    params: Params,
    decoy: phc::PasswordHash,
}

impl Hasher {
    fn new(pepper: Pepper, entropy: &Entropy) -> Result<Self, password_hash::Error> {
        let params = Params::new(MEMORY_KIB, PASSES, LANES, Some(OUTPUT_LEN))?;
        // An output nobody computed: no password leads to it, and trying one costs what a real one costs.
        let decoy = phc::PasswordHash {
            algorithm: Algorithm::Argon2id.ident(),
            version: Some(Version::V0x13.into()),
            params: ParamsString::try_from(&params)?,
            salt: Some(Salt::new(&entropy.bytes::<SALT_LEN>())?),
            hash: Some(Output::new(&entropy.bytes::<OUTPUT_LEN>())?),
        };
        Ok(Self { pepper, params, decoy })
    }

    fn argon2(&self) -> Result<Argon2<'_>, argon2::Error> {
        Argon2::new_with_secret(
            self.pepper.as_bytes(),
            Algorithm::Argon2id,
            Version::V0x13,
            self.params.clone(),
        )
    }

    fn hash(&self, password: &Password, salt: [u8; SALT_LEN]) -> Result<PasswordHash, password_hash::Error> {
        let hash = self.argon2()?.hash_password_with_salt(password.as_str().as_bytes(), &salt)?;
        Ok(PasswordHash(hash.to_string()))
    }

    fn verify(&self, password: &Password, stored: Option<&PasswordHash>) -> Verdict {
        let parsed = stored.and_then(|stored| match phc::PasswordHash::new(stored.as_str()) {
            Ok(parsed) => Some(parsed),
            Err(error) => {
                tracing::error!(%error, "A stored password hash cannot be read");
                None
            }
        });
        let against = parsed.as_ref().unwrap_or(&self.decoy);
        let right = self
            .argon2()
            .map_err(password_hash::Error::from)
            .and_then(|argon2| argon2.verify_password(password.as_str().as_bytes(), against));
        match (right, &parsed) {
            (Ok(()), Some(parsed)) if parsed.params == self.decoy.params => Verdict::Right,
            (Ok(()), Some(_)) => Verdict::RightButOutdated,
            _ => Verdict::Wrong,
        }
    }
}
