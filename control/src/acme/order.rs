//! One try to get a certificate: the order is made or taken up again, the names are proved, the certificate is fetched and
//! looked at.
//!
//! ```text
//!  order URL kept? ──yes──▶ ask for it ──lost──┐
//!        │ no                   │ there        │
//!        ▼                      ▼              │
//!  budget, key, new order ◀─────┼──────────────┘
//!        │                      │
//!        ▼                      ▼
//!     pending ─prove─▶ ready ─request─▶ processing ─▶ valid ─▶ fetch, look at it
//! ```
//!
//! Every step that matters is written down before the next one, so that a node that dies, or another one, goes on from
//! there. What the result means is [`super::settle`]'s.

use instant_acme::{Account, CertificateIdentifier, Error, Identifier, NewOrder, Order, OrderStatus};
use mezusphere_model::Timestamp;
use mezusphere_pki::NodeKey;
use mezusphere_pki::acme::{Issued, certificate_request, check_issued};
use mezusphere_store::StoreError;
use mezusphere_store::primary::acme::{self, CertificateRow, CertificateState};
use mezusphere_store::primary::lease::Lease;
use mezusphere_store::primary::{ReadTx, setting};
use tokio::time::Instant;

use super::answer;
use super::budget::{Ask, Budget};
use super::engine::{Engine, Stopped, Trouble, fence};
use super::failure::{Failure, Fault, quoted};
use super::schedule;
use super::wire::{Watched, WireError};

/// Name of the setting that holds the budget.
pub(super) const BUDGET_SETTING: &str = "acme/budget";

/// How often one request is made at most while only its nonce is refused; the library makes three tries of each.
pub(super) const NONCE_TRIES_MAX: u32 = 6;

/// Makes a request again while only its nonce is refused: nothing was done then.
macro_rules! insist {
    ($request:expr) => {{
        let mut tries = 1;
        loop {
            match $request.await {
                Err(why)
                    if tries < $crate::acme::order::NONCE_TRIES_MAX
                        && $crate::acme::answer::is_bad_nonce(&why) =>
                {
                    tries += 1;
                }
                answer => break answer,
            }
        }
    }};
}
pub(super) use insist;

/// A try.
pub(super) struct Attempt<'a> {
    pub(super) engine: &'a Engine,
    pub(super) lease: &'a Lease,
    pub(super) row: CertificateRow,
    pub(super) wire: Watched,
    /// The authority does not know our account: the next try makes another.
    pub(super) is_account_lost: bool,
}

impl<'a> Attempt<'a> {
    /// A try for this certificate.
    pub(super) fn new(engine: &'a Engine, lease: &'a Lease, row: CertificateRow) -> Self {
        Self { engine, lease, row, wire: engine.wire(), is_account_lost: false }
    }

    /// Makes the try and writes down how it went.
    pub(super) async fn carry_out(mut self) -> Result<(), Stopped> {
        let limit = self.engine.pace.attempt;
        // Whatever the authority answers, and however slowly: the place is needed for others.
        let tried = tokio::time::timeout(limit, self.issue()).await.unwrap_or_else(|_| {
            let text = format!("the try did not come to an end within {} s", limit.as_secs());
            Err(Failure::new(Fault::Unreachable, text).into())
        });
        let settled = match tried {
            Ok(issued) => self.put_into_use(&issued).await,
            Err(Trouble::Failed(failure)) => self.note_failure(&failure).await,
            Err(Trouble::Stopped(why)) => Err(why),
        };
        // A try that could not be written down is taken up again, with its challenges.
        settled?;
        self.remove_records().await
    }

    /// Comes to a certificate that can be served with.
    async fn issue(&mut self) -> Result<Issued, Trouble> {
        if self.row.order_url.is_none() {
            self.look_at_budget().await?;
        }
        let account = self.engine.account(self.lease, &self.wire).await?;
        let (mut order, key) = self.order(&account).await?;
        self.bring_to_an_end(&account, &mut order, &key).await?;
        let chain = insist!(order.certificate()).map_err(|why| self.failure(&why))?;
        let chain = chain.ok_or_else(|| {
            Failure::new(Fault::Nonsense, "the order is valid and has no certificate").ends_order()
        })?;
        let own = self.engine.shared.known_ca().issuing.certificate().clone();
        let now = self.engine.shared.clock.now();
        let unusable = |why: String| Failure::new(Fault::Certificate, quoted(&why)).ends_order();
        let issued = check_issued(&chain, &key, &self.row.names, &[own], now);
        let issued = issued.map_err(|why| unusable(why.to_string()))?;
        if self.is_worse(&issued, now) {
            let text = format!("the new certificate ends {}, before the one in use", issued.not_after);
            return Err(unusable(text).into());
        }
        Ok(issued)
    }

    /// Whether what was issued is nearer its end than what it would replace, and would have to be renewed at once. One
    /// that is only shorter is none the worse: the one in use may be about to be revoked.
    fn is_worse(&self, issued: &Issued, now: Timestamp) -> bool {
        let in_use = self.row.certificate.as_ref();
        in_use.is_some_and(|in_use| issued.not_after < in_use.not_after)
            && schedule::due_by_life(issued.not_before, issued.not_after) <= now
    }

    /// What an error of the library means.
    pub(super) fn failure(&mut self, why: &Error) -> Failure {
        self.is_account_lost |= answer::is_lost_account(why);
        answer::failure(why, self.wire.seen())
    }

    /// The order under way with its key, or a new one.
    async fn order(&mut self, account: &Account) -> Result<(Order, NodeKey), Trouble> {
        let name = self.row.name.clone();
        if let Some(url) = self.row.order_url.clone() {
            let key = self.engine.shared.primary.read(async |tx| acme::order_key(tx, &name).await).await?;
            let key = key.and_then(|key| NodeKey::from_pkcs8_der(&key).ok());
            let order = insist!(account.order(url.clone()));
            match (order, key) {
                (Ok(order), Some(key)) => {
                    self.note("resume", &format!("The order goes on: {url}")).await?;
                    return Ok((order, key));
                }
                (Err(why), _) if !answer::is_lost_order(&why, self.wire.seen()) => {
                    return Err(self.failure(&why).into());
                }
                _ => {
                    self.note("lost", "The authority knows nothing of the order any more; it is made anew")
                        .await?;
                }
            }
        }
        self.new_order(account).await
    }

    async fn new_order(&mut self, account: &Account) -> Result<(Order, NodeKey), Trouble> {
        self.spend().await?;
        let key = NodeKey::generate().map_err(|why| Failure::new(Fault::Store, why.to_string()))?;
        let names: Vec<_> = self.row.names.iter().cloned().map(Identifier::Dns).collect();
        let order = match self.replaced() {
            None => insist!(account.new_order(&NewOrder::new(&names))),
            Some(old) => {
                let replacing = NewOrder::new(&names).replaces(old);
                match insist!(account.new_order(&replacing)) {
                    // It cannot replace that one, whyever: then it is a new one.
                    Err(why) if self.is_about_replacing(&why) => {
                        insist!(account.new_order(&NewOrder::new(&names)))
                    }
                    answer => answer,
                }
            }
        };
        let order = order.map_err(|why| {
            let failure = self.failure(&why);
            match failure.fault {
                // No name was looked at yet.
                Fault::Validation => Failure { fault: Fault::Account, ..failure },
                _ => failure,
            }
        })?;
        self.row.state = CertificateState::Ordering;
        self.row.order_url = Some(order.url().to_owned());
        let (lease, row) = (self.lease, &self.row);
        let (url, pkcs8) = (order.url(), key.pkcs8_der());
        let written = self.engine.shared.primary.write(async |tx| {
            fence(tx, lease).await?;
            acme::begin_order(tx, &row.name, url, pkcs8).await?;
            acme::update(tx, row).await?;
            acme::add_event(tx, &row.name, "order", &format!("Ordered for {}: {url}", row.names.join(", ")))
                .await?;
            Ok::<_, Stopped>(())
        });
        written.await?;
        Ok((order, key))
    }

    /// Gives up before anybody is asked anything if there can be no order now.
    async fn look_at_budget(&self) -> Result<(), Trouble> {
        let primary = &self.engine.shared.primary;
        let allowed: Result<_, StoreError> = primary.read(async |tx| self.allowed(tx).await).await;
        allowed?.map(drop).map_err(Trouble::from)
    }

    /// Takes an order from the budget.
    async fn spend(&self) -> Result<(), Trouble> {
        let lease = self.lease;
        let spent = self.engine.shared.primary.write(async |tx| {
            fence(tx, lease).await?;
            let mut budget = match self.allowed(tx).await? {
                Ok(budget) => budget,
                Err(failure) => return Ok(Err(failure)),
            };
            let now = tx.now();
            budget.ordered(&Ask::of(&self.row, now), now);
            setting::put(tx, BUDGET_SETTING, &budget).await?;
            Ok::<_, Stopped>(Ok(()))
        });
        let spent: Result<(), Failure> = spent.await?;
        Ok(spent?)
    }

    /// The budget, if it has an order for this certificate.
    async fn allowed(&self, tx: &mut ReadTx) -> Result<Result<Budget, Failure>, StoreError> {
        let now = tx.now();
        let budget = Budget::of(setting::get(tx, BUDGET_SETTING).await?, self.engine.directory(), now);
        let ask = Ask::of(&self.row, now);
        let (text, until) = if let Some(until) = budget.waits_until(&ask, now) {
            ("the name failed before it was removed and added again", until)
        } else if let Err(until) = budget.allows(&ask, now) {
            ("enough was asked of the authority within the hour", until)
        } else {
            return Ok(Ok(budget));
        };
        Ok(Err(Failure::new(Fault::Budget, text).after(Some(until.since(now)))))
    }

    /// The certificate that this order replaces, as the authority knows it.
    fn replaced(&self) -> Option<CertificateIdentifier<'static>> {
        let facts = self.row.certificate.as_ref()?;
        if facts.directory != self.engine.directory() {
            return None;
        }
        renewal_name(facts.renewal_id.as_deref()?)
    }

    fn is_about_replacing(&self, why: &Error) -> bool {
        match why {
            Error::Unsupported(_) => true,
            Error::Other(why) => {
                why.downcast_ref::<WireError>().is_none() && self.wire.seen().status.is_some()
            }
            Error::Api(_) => {
                let fault = answer::failure(why, self.wire.seen()).fault;
                !answer::is_lost_account(why)
                    && !matches!(fault, Fault::RateLimited | Fault::Unreachable | Fault::Account)
            }
            _ => false,
        }
    }

    /// Takes the order as far as its certificate.
    async fn bring_to_an_end(
        &mut self,
        account: &Account,
        order: &mut Order,
        key: &NodeKey,
    ) -> Result<(), Trouble> {
        let pace = self.engine.pace;
        let end = Instant::now() + pace.order;
        let (mut wait, mut is_proved, mut is_requested) = (pace.look_min, false, false);
        loop {
            let status = order.state().status;
            match status {
                OrderStatus::Valid => return Ok(()),
                OrderStatus::Invalid => return Err(self.why_invalid(order).await.into()),
                OrderStatus::Pending if !is_proved => {
                    self.prove(account, order).await?;
                    is_proved = true;
                }
                OrderStatus::Ready if !is_requested => {
                    self.request(order, key).await?;
                    is_requested = true;
                    continue;
                }
                OrderStatus::Pending | OrderStatus::Ready | OrderStatus::Processing => {}
            }
            // The authority says when it is worth looking, but not that nobody may look after this try's end.
            let wish = self.wire.seen().wait.unwrap_or_default();
            let pause = wait.max(wish);
            if pause > end.saturating_duration_since(Instant::now()) {
                let text =
                    format!("the authority is not done with the order within {} s", pace.order.as_secs());
                return Err(Failure::new(Fault::Unreachable, text).after(Some(wish)).into());
            }
            tokio::time::sleep(pause).await;
            wait = (wait * 2).min(pace.look_max);
            // In a block of its own, so that what it lends ends with it.
            insist!(async { order.refresh().await.map(drop) }).map_err(|why| self.failure(&why))?;
        }
    }

    async fn request(&mut self, order: &mut Order, key: &NodeKey) -> Result<(), Trouble> {
        let csr = certificate_request(key, &self.row.names)
            .map_err(|why| Failure::new(Fault::Certificate, why.to_string()).ends_order())?;
        match insist!(order.finalize_csr(&csr)) {
            Ok(()) => {
                self.note("request", "The names are proved; the certificate was requested").await?;
                Ok(())
            }
            Err(why) => {
                let failure = self.failure(&why);
                // What the authority does not like about the request, it will not like the next time.
                let is_final = !matches!(failure.fault, Fault::Unreachable | Fault::RateLimited);
                let failure = if is_final { failure.ends_order() } else { failure };
                Err(failure.into())
            }
        }
    }

    /// Adds to the time-line.
    pub(super) async fn note(&self, kind: &'static str, text: &str) -> Result<(), Stopped> {
        let (lease, name) = (self.lease, self.row.name.as_str());
        let written = self.engine.shared.primary.write(async |tx| {
            fence(tx, lease).await?;
            acme::add_event(tx, name, kind, text).await?;
            Ok(())
        });
        written.await
    }
}

/// A certificate as the authority knows it, from the text kept of it.
pub(super) fn renewal_name(text: &str) -> Option<CertificateIdentifier<'static>> {
    let (authority, serial) = text.split_once('.')?;
    Some(CertificateIdentifier {
        authority_key_identifier: authority.to_owned().into(),
        serial: serial.to_owned().into(),
    })
}
