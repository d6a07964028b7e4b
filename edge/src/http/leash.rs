//! Ends a response that its client does not take, when whoever sent it must end it.
//!
//! A body says that it is cut when it is asked for more; a client that does not read has nobody ask. So whoever may have to
//! end a response puts a [`Leash`] into its extensions, and each protocol looks at it while it waits for its client.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use ::http::Extensions;

/// Knows whether a response must end.
pub(crate) trait Hold: Send + 'static {
    /// Ready once it must. Otherwise the task is woken to ask again, at least as often as its holder wants to be asked.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}

/// Asks, for whoever writes a response, whether it must end. All clones are one.
#[derive(Clone)]
pub(crate) struct Leash(Arc<Mutex<dyn Hold>>);

impl Leash {
    /// Lets `hold` be asked.
    pub(crate) fn new(hold: impl Hold) -> Self {
        Self(Arc::new(Mutex::new(hold)))
    }

    /// The leash of a response, if it has one.
    pub(super) fn take(extensions: &mut Extensions) -> Option<Self> {
        extensions.remove()
    }

    /// Ready once the response must end: to be asked while its client does not take it.
    pub(super) fn poll_over(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).poll_over(cx)
    }
}

/// Whether a response on `leash` must end; one without never does.
pub(super) fn is_over(leash: Option<&Leash>, cx: &mut Context<'_>) -> bool {
    leash.is_some_and(|leash| leash.poll_over(cx).is_ready())
}

impl fmt::Debug for Leash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Leash")
    }
}
