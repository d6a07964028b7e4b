//! What is kept of a message until it is sent: a form of its own, so that what older and newer nodes queue reads the same
//! whatever becomes of the flows' types. Kept sealed: it holds links that sign people in.

use std::time::Duration;

use mezusphere_identity::account::Email;
use mezusphere_identity::flow::{INVITATION_TTL, LINK_TTL};
use mezusphere_identity::message::{Message, MessageKind};
use mezusphere_identity::sign_in::Place;
use mezusphere_model::Timestamp;
use mezusphere_store::StoreError;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// How long sending is tried: what mail servers themselves do for is a few days, but a mail of this kind is stale after one.
pub(crate) const TRIED_FOR: Duration = Duration::from_hours(24);

/// One mail that waits.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Letter {
    /// To whom.
    pub(super) to: String,
    /// What they are called; empty: unknown.
    #[serde(default)]
    pub(super) name: String,
    /// What it says.
    pub(super) what: What,
    /// The path of its link on the login host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) path: Option<String>,
    /// When the link ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ends_at: Option<Timestamp>,
    /// There is nobody to send it to.
    #[serde(default)]
    pub(super) decoy: bool,
}

/// What a mail says.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum What {
    SignUp,
    AlreadyRegistered,
    VerifyEmail,
    Recovery,
    Invitation {
        by: String,
        project: String,
    },
    ChangeEmail,
    EmailChanged {
        new: String,
    },
    PasswordChanged {
        at: Timestamp,
        address: String,
        agent: String,
    },
    NewSignIn {
        at: Timestamp,
        address: String,
        agent: String,
    },
    /// An operator tries whether mail works.
    Test,
}

impl Letter {
    /// What has to be kept of `message`, queued at `now`.
    pub(super) fn of(message: &Message, now: Timestamp) -> Self {
        let place = |place: &Place| (place.address.clone(), place.agent.clone());
        let what = match &message.kind {
            MessageKind::SignUp { .. } => What::SignUp,
            MessageKind::AlreadyRegistered => What::AlreadyRegistered,
            MessageKind::VerifyEmail { .. } => What::VerifyEmail,
            MessageKind::Recovery { .. } => What::Recovery,
            MessageKind::Invitation { by, project, .. } => {
                What::Invitation { by: by.clone(), project: project.clone() }
            }
            MessageKind::ChangeEmail { .. } => What::ChangeEmail,
            MessageKind::EmailChanged { new } => What::EmailChanged { new: new.as_str().to_owned() },
            MessageKind::PasswordChanged { at, place: from } => {
                let (address, agent) = place(from);
                What::PasswordChanged { at: *at, address, agent }
            }
            MessageKind::NewSignIn { at, place: from } => {
                let (address, agent) = place(from);
                What::NewSignIn { at: *at, address, agent }
            }
        };
        let path = message.kind.path();
        let ttl = if matches!(what, What::Invitation { .. }) { INVITATION_TTL } else { LINK_TTL };
        Self {
            to: message.to.as_str().to_owned(),
            name: message.name.clone(),
            what,
            ends_at: path.is_some().then(|| now.after(ttl)),
            path,
            decoy: message.is_decoy,
        }
    }

    /// To see whether mail works.
    pub(super) fn test(to: &Email) -> Self {
        let (to, name) = (to.as_str().to_owned(), String::new());
        Self { to, name, what: What::Test, path: None, ends_at: None, decoy: false }
    }

    /// Its kind as one word, the same as in its kept form.
    pub(super) fn kind(&self) -> &'static str {
        match self.what {
            What::SignUp => "sign_up",
            What::AlreadyRegistered => "already_registered",
            What::VerifyEmail => "verify_email",
            What::Recovery => "recovery",
            What::Invitation { .. } => "invitation",
            What::ChangeEmail => "change_email",
            What::EmailChanged { .. } => "email_changed",
            What::PasswordChanged { .. } => "password_changed",
            What::NewSignIn { .. } => "new_sign_in",
            What::Test => "test",
        }
    }

    /// When it is of no use any more: after a day, or when its link has ended.
    pub(super) fn give_up_at(&self, now: Timestamp) -> Timestamp {
        let day = now.after(TRIED_FOR);
        self.ends_at.map_or(day, |end| end.min(day))
    }

    pub(super) fn to_bytes(&self) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        serde_json::to_vec(self)
            .map(Zeroizing::new)
            .map_err(|why| StoreError::Damaged(format!("a mail: {why}")))
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kept_form_names_its_kind_as_the_queue_does_and_reads_back() {
        for letter in super::super::render::samples() {
            let kept = letter.to_bytes().unwrap();
            let value: serde_json::Value = serde_json::from_slice(&kept).unwrap();
            assert_eq!(value["what"]["kind"], letter.kind());
            assert_eq!(Letter::from_bytes(&kept).unwrap(), letter);
        }
    }
}
