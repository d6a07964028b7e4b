//! What every node has, whatever its role: a data directory, a sealer, time, randomness, logs, health and metrics.

use std::sync::Arc;
use std::time::SystemTime;

use mezusphere_model::seal::Seal;
use mezusphere_model::{Clock, Entropy};
use mezusphere_telemetry::{Condition, Health, HealthListener, Metrics};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::config::NodeConfig;
use super::data::DataDir;
use super::keys::KeyKeeper;
use crate::failure::{Failure, Kind};

/// What the parts of a node are built on.
pub(crate) struct Base {
    /// Where its files are.
    pub(crate) data: DataDir,
    /// Seals what is secret in them.
    pub(crate) seal: Arc<dyn Seal>,
    /// Tells the time.
    pub(crate) clock: Clock,
    /// Draws randomness.
    pub(crate) entropy: Entropy,
    /// What is counted.
    pub(crate) metrics: Metrics,
    /// Whether it serves.
    pub(crate) ready: Condition,
    /// Ends what runs beside the traffic.
    pub(crate) stop: CancellationToken,
    /// What people call it.
    pub(crate) name: String,
    /// Where it stands, for people.
    pub(crate) region: String,
    /// Say everything as JSON lines.
    pub(crate) json: bool,
    /// Keeps what is sealed in line with the master keys.
    pub(crate) keys: Arc<KeyKeeper>,
    private: Option<JoinHandle<()>>,
}

impl Base {
    /// Opens the data directory and the private listener.
    pub(crate) async fn open(config: &NodeConfig) -> Result<Self, Failure> {
        let (clock, entropy) = (clock(), crate::entropy());
        let data = DataDir::open(config.data.clone())?;
        let keys = data.master_keys(&config.key_files, &entropy)?;
        let keys = Arc::new(KeyKeeper::new(data.clone(), keys, &config.role, entropy.clone())?);
        let metrics = Metrics::new("mezusphere");
        let health = Health::new();
        let ready = health.condition("serving");
        let private = match config.health {
            Some(address) => {
                let listener =
                    HealthListener::bind(address).await.map_err(|why| Failure::new(Kind::Listen, why))?;
                Some(tokio::spawn(listener.serve(health, metrics.clone())))
            }
            None => None,
        };
        Ok(Self {
            data,
            seal: Arc::new(keys.sealer().clone()),
            clock,
            entropy,
            metrics,
            ready,
            stop: CancellationToken::new(),
            name: config.name.clone(),
            region: config.region.clone(),
            json: config.json,
            keys,
            private,
        })
    }
}

impl Drop for Base {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(private) = &self.private {
            private.abort();
        }
    }
}

/// The wall clock, for everything below.
pub(crate) fn clock() -> Clock {
    Clock::new(|| {
        #[expect(clippy::disallowed_methods, reason = "the one place this program reads the wall clock")]
        SystemTime::now()
    })
}
