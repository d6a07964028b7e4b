//! When an authority wants a certificate renewed (ARI, RFC 9773): it may have to revoke many, or want its load spread.

use std::time::Duration;

use instant_acme::Error;
use mezusphere_model::Timestamp;
use mezusphere_store::primary::acme::{
    self, CertificateFacts, CertificateRow, CertificateState, RenewalWindow,
};
use mezusphere_store::primary::lease::Lease;

use super::engine::{Engine, Stopped, Trouble, fence};
use super::order::renewal_name;
use super::schedule::{Life, ask_again_at, is_sensible, renew_at};
use super::settle::next_of;

/// Asked again after so long when there was no usable answer, or no word of when (RFC 9773 §4.3.3).
const ASK_AFTER: Duration = Duration::from_hours(6);

/// What the authority says.
enum Wish {
    /// Renew it within this window, and ask again then.
    Window(RenewalWindow, Duration),
    /// It has no such service.
    Unsupported,
    /// It cannot be asked now.
    Unknown,
}

impl Engine {
    /// Asks the authority when it wants a certificate renewed, and keeps to it. A failure changes nothing.
    pub(super) async fn ask_for_window(&self, lease: &Lease, row: &CertificateRow) -> Result<(), Stopped> {
        let Some(facts) = &row.certificate else { return Ok(()) };
        let is_due = facts.ask_again_at.is_some_and(|at| at <= self.shared.clock.now());
        let wish = if is_due { self.wish(lease, facts).await? } else { Wish::Unknown };
        let written = self.shared.primary.write(async |tx| {
            fence(tx, lease).await?;
            let Some(mut row) = acme::get(tx, &row.name).await? else { return Ok(()) };
            let now = tx.now();
            let Some(facts) = &mut row.certificate else { return Ok(()) };
            let told = self.keep_to(facts, &wish, is_due, now);
            row.next_at = next_of(facts);
            row.state = CertificateState::Valid;
            acme::update(tx, &row).await?;
            if let Some(told) = told {
                acme::add_event(tx, &row.name, "window", &told).await?;
            }
            Ok::<_, Stopped>(())
        });
        written.await
    }

    async fn wish(&self, lease: &Lease, facts: &CertificateFacts) -> Result<Wish, Stopped> {
        let Some(name) = facts.renewal_id.as_deref().and_then(renewal_name) else {
            return Ok(Wish::Unsupported);
        };
        let wire = self.wire();
        let account = match self.account(lease, &wire).await {
            Ok(account) => account,
            Err(Trouble::Failed(why)) => {
                tracing::debug!(why = why.text, "The authority cannot be asked for renewal windows");
                return Ok(Wish::Unknown);
            }
            Err(Trouble::Stopped(why)) => return Err(why),
        };
        Ok(match account.renewal_info(&name).await {
            Ok((info, wait)) => {
                let micros = |at: time::OffsetDateTime| {
                    Timestamp::from_micros(
                        i64::try_from(at.unix_timestamp_nanos() / 1000).unwrap_or(i64::MAX),
                    )
                };
                let window = RenewalWindow {
                    start: micros(info.suggested_window.start),
                    end: micros(info.suggested_window.end),
                    explanation: info.explanation_url,
                };
                // As the clock here tells it: the library asks the machine's.
                Wish::Window(window, wire.seen().wait.unwrap_or(wait))
            }
            Err(Error::Unsupported(_)) => Wish::Unsupported,
            Err(why) => {
                tracing::debug!(error = %why, "The authority gives no renewal window");
                Wish::Unknown
            }
        })
    }

    /// Changes when a certificate is renewed as the authority wishes; says so if that is news.
    fn keep_to(
        &self,
        facts: &mut CertificateFacts,
        wish: &Wish,
        was_asked: bool,
        now: Timestamp,
    ) -> Option<String> {
        match wish {
            Wish::Unsupported => {
                facts.ask_again_at = None;
                None
            }
            Wish::Unknown => {
                if was_asked {
                    facts.ask_again_at = Some(now.after(ASK_AFTER));
                }
                None
            }
            Wish::Window(window, wait) => {
                facts.ask_again_at = Some(ask_again_at(*wait, now));
                if facts.window.as_ref() == Some(window) {
                    return None;
                }
                let sensible = is_sensible(window, facts.not_after);
                let life = Life {
                    not_before: facts.not_before,
                    not_after: facts.not_after,
                    issued_at: facts.issued_at,
                };
                facts.renew_at = renew_at(life, Some(window), &self.shared.entropy);
                facts.window = Some(window.clone());
                Some(if sensible {
                    format!("The authority wants it renewed from {} to {}", window.start, window.end)
                } else {
                    format!(
                        "The authority's renewal window makes no sense: {} to {}",
                        window.start, window.end
                    )
                })
            }
        }
    }
}
