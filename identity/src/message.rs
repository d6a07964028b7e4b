//! What a flow wants said by mail, as a value: the words are control's, and so is the sending.
//!
//! A flow returns its messages beside its outcome; the caller puts each into the mail queue in the same
//! transaction, so that no mail speaks of a change that was not made, and no change goes unannounced.
//!
//! An address without an account gets no mail, yet costs as much as one that has an account (R13): its message
//! is a decoy, to be rendered, sealed and queued like any other, and thrown away where others are handed over.

use mezusphere_model::Timestamp;
use mezusphere_model::id::DirectoryId;
use mezusphere_model::token::Token;

use crate::account::Email;
use crate::sign_in::Place;

/// One mail to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Whose name and looks it carries.
    pub directory: DirectoryId,
    /// To whom.
    pub to: Email,
    /// What they are called; empty: not known yet.
    pub name: String,
    /// What it says.
    pub kind: MessageKind,
    /// There is nobody to send it to: do all the work but the sending.
    pub is_decoy: bool,
}

/// What a mail says. A token leads to the page of its link on the login host, never on a host a client named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// The link to finish signing up: `/sign-up/<token>`.
    SignUp {
        /// The link's token.
        token: Token,
    },
    /// Somebody tried to sign up with an address that has an account.
    AlreadyRegistered,
    /// The link to verify an address: `/verify/<token>`.
    VerifyEmail {
        /// The link's token.
        token: Token,
    },
    /// The link to choose a new password: `/recover/<token>`.
    Recovery {
        /// The link's token.
        token: Token,
    },
    /// An invitation: `/invitation/<token>`.
    Invitation {
        /// The link's token.
        token: Token,
        /// Who invites, as they are called.
        by: String,
        /// What to, as it is called.
        project: String,
    },
    /// The link to confirm a new address, sent to the new one: `/change-email/<token>`.
    ChangeEmail {
        /// The link's token.
        token: Token,
    },
    /// To the old address: the account's address is another one now.
    EmailChanged {
        /// The new address.
        new: Email,
    },
    /// The password was changed or reset.
    PasswordChanged {
        /// When.
        at: Timestamp,
        /// From where.
        place: Place,
    },
    /// Somebody signed in from a network or with a browser that is new for this account.
    NewSignIn {
        /// When.
        at: Timestamp,
        /// From where.
        place: Place,
    },
}

impl MessageKind {
    /// The path of the link on the login host, for kinds that carry one.
    pub fn path(&self) -> Option<String> {
        let (page, token) = match self {
            Self::SignUp { token } => ("sign-up", token),
            Self::VerifyEmail { token } => ("verify", token),
            Self::Recovery { token } => ("recover", token),
            Self::Invitation { token, .. } => ("invitation", token),
            Self::ChangeEmail { token } => ("change-email", token),
            Self::AlreadyRegistered
            | Self::EmailChanged { .. }
            | Self::PasswordChanged { .. }
            | Self::NewSignIn { .. } => return None,
        };
        Some(format!("/{page}/{}", token.reveal()))
    }
}

impl Message {
    /// A message to somebody who is there.
    pub(crate) fn new(directory: DirectoryId, to: Email, name: &str, kind: MessageKind) -> Self {
        Self { directory, to, name: name.to_owned(), kind, is_decoy: false }
    }

    /// The same, for nobody.
    pub(crate) fn into_decoy(self) -> Self {
        Self { is_decoy: true, ..self }
    }
}
