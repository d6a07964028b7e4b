//! Mail: what flows want said, queued with the change they made and sent by whoever holds the lease.
//!
//! ```text
//!  flow ──Message──▶ Mail::enqueue (same transaction) ──▶ mails ──job──▶ looks + words ──▶ mail server
//!                                                          ▲               │ 4xx, no answer
//!                                                          └── later ◀─────┘ 5xx, too late ──▶ failed, audit line
//! ```
//!
//! Owns what is kept of a message until it is sent ([`letter`]), what a mail looks like ([`looks`], [`render`]; its words
//! are in `page::text`), the queue's job ([`queue`]), and the way out ([`config`], [`smtp`]). What is said to whom and
//! when is [`mezusphere_identity::message`]'s and its flows'.

mod config;
mod letter;
mod looks;
mod queue;
mod render;
mod smtp;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use mezusphere_identity::account::Email;
use mezusphere_identity::message::Message;
use mezusphere_model::id::MailId;
use mezusphere_model::{Platform, Timestamp};
use mezusphere_store::WriteError;
use mezusphere_store::primary::Tx;
use mezusphere_store::primary::mail::{self, NewMail, Queued};
use tokio::sync::Notify;

pub use config::{MailConfig, MailConfigError, MailFigures, MailSender, MailTls, MailWay, SmtpConfig};
use letter::Letter;
pub(crate) use letter::TRIED_FOR;
pub(crate) use looks::Looks;
pub(crate) use queue::run;
pub(crate) use smtp::SendError;
use smtp::Smtp;

use crate::page::mail::MailPage;

/// The way out of mails. Cheap to clone; there is one for an open control.
#[derive(Clone, Debug)]
pub(crate) struct Mail(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: Option<MailConfig>,
    /// The login host's origin, where every link leads.
    origin: String,
    /// The connection to the mail server, if there is one.
    smtp: Option<Smtp>,
    /// Rung when a mail was queued in this process.
    bell: Notify,
}

impl Mail {
    /// Mail as `config` says, for an installation whose login host has this origin; `None`: there is none.
    ///
    /// # Errors
    /// What is wrong with the authorities that the mail server's certificate should come from.
    pub(crate) fn new(
        config: Option<MailConfig>,
        platform: &Platform,
        origin: String,
    ) -> Result<Self, String> {
        let smtp = match config.as_ref().map(|config| &config.way) {
            Some(MailWay::Smtp(smtp)) => Some(Smtp::new(smtp.clone(), platform.base.to_string())?),
            Some(MailWay::Log) | None => None,
        };
        Ok(Self(Arc::new(Inner { config, origin, smtp, bell: Notify::new() })))
    }

    /// No mail at all.
    #[cfg(test)]
    pub(crate) fn none() -> Self {
        Self(Arc::new(Inner { config: None, origin: String::new(), smtp: None, bell: Notify::new() }))
    }

    /// Whether mail can be sent at all. Flows that need it are not offered otherwise.
    pub(crate) fn is_available(&self) -> bool {
        self.0.config.is_some()
    }

    /// Resolves when a mail was queued in this process, which may not be committed yet.
    async fn queued(&self) {
        self.0.bell.notified().await;
    }

    /// How mail is set up.
    pub(crate) fn config(&self) -> Option<&MailConfig> {
        self.0.config.as_ref()
    }

    /// Queues a mail in the transaction of the change it speaks of: both happen or neither.
    ///
    /// Without a way to send mail nothing is queued: what flows do besides stays done, and notes about changes are not
    /// worth refusing the change. Nor is a queue that is full; that is logged and counted, and the mail is dropped. A
    /// decoy is written like any other mail, so that it takes as long, and thrown away by the job.
    ///
    /// # Errors
    /// Not found: the directory.
    pub(crate) async fn enqueue(&self, tx: &mut Tx, message: &Message) -> Result<(), WriteError> {
        let Some(config) = &self.0.config else { return Ok(()) };
        let letter = Letter::of(message, tx.now());
        let id = MailId::random(tx.entropy());
        let mail = NewMail {
            id,
            directory: message.directory,
            recipient: message.to.as_str(),
            kind: letter.kind(),
            body: &letter.to_bytes()?,
            give_up_at: letter.give_up_at(tx.now()),
        };
        match mail::add(tx, &mail).await? {
            Queued::Yes => self.0.bell.notify_one(),
            Queued::Full => {
                config.figures.dropped.inc();
                tracing::error!(directory = %message.directory, kind = letter.kind(), "A mail was dropped: too many wait already");
            }
        }
        Ok(())
    }

    /// Sends one letter now, under the id it has in the queue, so that one sent twice is known by its id.
    async fn send(
        &self,
        id: MailId,
        letter: &Letter,
        looks: &Looks,
        now: Timestamp,
    ) -> Result<(), SendError> {
        let Some(config) = &self.0.config else {
            return Err(SendError::Setup("this node was given no mail server".to_owned()));
        };
        let page = render::page(letter, looks, &self.0.origin);
        match &self.0.smtp {
            None => {
                show(letter, &page);
                Ok(())
            }
            Some(smtp) => {
                let ready = render::ready(id, letter, looks, &page, &config.sender, now);
                smtp.send(&ready.map_err(SendError::Never)?).await
            }
        }
    }

    /// Sends a mail that says that mail works, now, past the queue. For operators.
    pub(crate) async fn send_test(
        &self,
        id: MailId,
        to: &Email,
        looks: &Looks,
        now: Timestamp,
    ) -> Result<(), SendError> {
        self.send(id, &Letter::test(to), looks, now).await
    }
}

/// Shows a mail in the log, a line to an entry, the link alone on one.
fn show(letter: &Letter, page: &MailPage) {
    tracing::info!(to = letter.to, subject = page.subject, "Mail, shown instead of sent:");
    for line in page.text().lines().filter(|line| !line.is_empty()) {
        tracing::info!("| {line}");
    }
}
