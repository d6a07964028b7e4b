//! The dry run of an enrollment: what control would say to this key, without a certificate or an entry being made.

use std::time::Duration;

use mezusphere_model::bundle::SignedBundle;
use mezusphere_pki::Trust;
use mezusphere_pki::trust::certificates_from_pem;
use tokio::time::Instant;
use tunnel_proto::connect::{Check, Reply, Request};

use super::{ConnectFailure, ConnectService, Known, Transport, skew_ms};

/// What an enrollment would find.
pub struct DryRun {
    /// The environment's bundle; not verified yet.
    pub bundle: SignedBundle,
    /// Trust in the key's root alone: what the bundle is judged by.
    pub pinned: Trust,
    /// Name of the key's service account.
    pub account: String,
    /// The project's slug.
    pub project: String,
    /// The environment's slug.
    pub environment: String,
    /// How long a certificate would be valid.
    pub certificate: Duration,
    /// How the service was reached.
    pub transport: Transport,
    /// How long it took.
    pub took: Duration,
    /// This machine's clock minus control's, in milliseconds; or that it is too far off for a certificate.
    pub clock: Result<i64, ConnectFailure>,
}

impl ConnectService {
    /// Asks control what an enrollment with this key would find.
    ///
    /// # Errors
    /// As an enrollment: no way there, or control's refusal.
    pub async fn dry_run(&self, known: &Known) -> Result<DryRun, ConnectFailure> {
        let request = Request::Check(Check {
            key: self.key.key.clone(),
            environment: self.key.environment,
            agent: crate::AGENT.to_owned(),
        });
        let (asked_at, start) = (self.clock.now(), Instant::now());
        let (reply, transport) = self.ask(&request, known).await?;
        let took = start.elapsed();
        let checked = match reply {
            Reply::Checked(checked) => *checked,
            Reply::Refused(refusal) => return Err(ConnectFailure::refused(&refusal)),
            Reply::Enrolled(_) | Reply::Bundle { .. } => {
                return Err(ConnectFailure::bad_answer("it answered another question"));
            }
        };
        let mut candidates = Vec::new();
        for pem in &checked.roots_pem {
            let roots =
                certificates_from_pem(pem).map_err(|why| ConnectFailure::bad_answer(&why.to_string()))?;
            candidates.extend(roots);
        }
        let pinned = Trust::from_pin(&self.key.root, &candidates)
            .map_err(|why| ConnectFailure::bad_answer(&why.to_string()))?;
        let certificate = Duration::from_secs(checked.certificate_s);
        Ok(DryRun {
            bundle: checked.bundle,
            pinned,
            account: checked.account,
            project: checked.project.to_string(),
            environment: checked.environment.to_string(),
            certificate,
            transport,
            took,
            clock: skew_ms(asked_at.after(took / 2), checked.control_time, certificate),
        })
    }
}
