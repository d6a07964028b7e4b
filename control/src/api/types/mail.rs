//! Mails that wait or could not be sent, and trying whether mail works.

use mezusphere_model::id::MailId;
use serde::{Deserialize, Serialize};

/// A mail that was not handed to the mail server yet. What it says is shown to nobody: it holds links.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuedMail {
    /// Its id, also in its Message-ID.
    pub id: MailId,
    /// To whom.
    pub to: String,
    /// What it is for: `sign_up`, `recovery`, `invitation`….
    pub kind: String,
    /// Where it stands.
    pub state: QueuedMailState,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried next; of a failed one: when it was given up.
    pub next_at: String,
    /// When it is of no use any more.
    pub until: String,
    /// Why the last attempt failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When it was queued.
    pub created_at: String,
}

/// Where a mail stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QueuedMailState {
    /// It waits for its time.
    Queued,
    /// It is being sent.
    Sending,
    /// It was given up; it can be retried.
    Failed,
}

/// A request to send a mail that says that mail works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestMail {
    /// To whom.
    pub to: String,
}

/// A mail was handed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestedMail {
    /// To whom.
    pub to: String,
    /// From whom.
    pub from: String,
    /// Which mail server took it, or `the log`.
    pub by: String,
}
