//! The words of mails: what happened, one thing to do, until when, and what to do if it was somebody else.

/// Mails.
pub(crate) struct Mails {
    pub(crate) hello: &'static str,
    pub(crate) hello_name: &'static str,
    pub(crate) link_ends: &'static str,
    /// Below a button, for whoever cannot use it.
    pub(crate) link_by_hand: &'static str,
    pub(crate) fact_when: &'static str,
    pub(crate) fact_browser: &'static str,
    pub(crate) fact_address: &'static str,
    pub(crate) help: &'static str,
    /// To whom, and where it was asked for.
    pub(crate) footer: &'static str,
    /// Where the directory names no address for answers.
    pub(crate) unanswered: &'static str,
    pub(crate) sign_up: Mail,
    pub(crate) already_registered: Mail,
    pub(crate) verify_email: Mail,
    pub(crate) recovery: Mail,
    /// The first place is who invites, the second what to.
    pub(crate) invitation: Mail,
    pub(crate) change_email: Mail,
    /// The second place is the new address.
    pub(crate) email_changed: Mail,
    pub(crate) password_changed: Mail,
    pub(crate) new_sign_in: Mail,
    pub(crate) test: Mail,
}

/// One kind of mail. The first `{}` of a sentence is what its directory is called.
pub(crate) struct Mail {
    pub(crate) subject: &'static str,
    pub(crate) lead: &'static str,
    /// On the button; empty: there is no link.
    pub(crate) action: &'static str,
    pub(crate) not_you: &'static str,
}

/// English.
pub(super) const ENGLISH: Mails = Mails {
    hello: "Hello,",
    hello_name: "Hello {},",
    link_ends: "The link works once, until {}.",
    link_by_hand: "Or copy this address into your browser:",
    fact_when: "When",
    fact_browser: "With",
    fact_address: "From",
    help: "Help: {}",
    footer: "Sent to {} by {}.",
    unanswered: "Nobody reads answers to this mail.",
    sign_up: Mail {
        subject: "Finish your account for {}",
        lead: "Somebody, probably you, entered this address to create an account for {}. Choose a name and a password to finish it.",
        action: "Finish the account",
        not_you: "If it was not you, do nothing: without the link there will be no account.",
    },
    already_registered: Mail {
        subject: "You have an account for {} already",
        lead: "Somebody, probably you, entered this address to create an account for {}. There is one already: sign in with this address. If you have forgotten the password, choose “Forgotten your password?” where you sign in.",
        action: "",
        not_you: "If it was not you, do nothing. Nobody was told that you have an account.",
    },
    verify_email: Mail {
        subject: "Confirm your address for {}",
        lead: "Confirm that this address belongs to your account for {}.",
        action: "Confirm the address",
        not_you: "If you have no such account, somebody entered your address by mistake. Do nothing, and it stays unconfirmed.",
    },
    recovery: Mail {
        subject: "Choose a new password for {}",
        lead: "Somebody, probably you, asked for a new password for your account for {}. Once you have chosen it, every device is signed out.",
        action: "Choose a password",
        not_you: "If it was not you, do nothing: your password stays as it is.",
    },
    invitation: Mail {
        subject: "You are invited to {}",
        lead: "{} invites you to {}. Accept, choose a name and a password, and you are in.",
        action: "Accept the invitation",
        not_you: "If you do not know what this is about, do nothing.",
    },
    change_email: Mail {
        subject: "Confirm your new address for {}",
        lead: "Somebody, probably you, wants to use this address to sign in to {}.",
        action: "Use this address",
        not_you: "If it was not you, do nothing: the account keeps its old address.",
    },
    email_changed: Mail {
        subject: "Your address for {} was changed",
        lead: "From now on you sign in to {} with {}. This address is not used any more.",
        action: "",
        not_you: "If it was not you, somebody else is using your account. Ask for help at once: whoever runs {} can give it back to you.",
    },
    password_changed: Mail {
        subject: "Your password for {} was changed",
        lead: "The password of your account for {} was changed, and other devices were signed out.",
        action: "",
        not_you: "If it was not you, go to where you sign in, choose “Forgotten your password?” and set a new one at once. That signs out whoever is in.",
    },
    new_sign_in: Mail {
        subject: "New sign-in to {}",
        lead: "Somebody signed in to your account for {} from a network or with a browser that is new for it.",
        action: "",
        not_you: "If it was you, there is nothing to do. If not, go to where you sign in, choose “Forgotten your password?” and set a new password at once. That signs out every device.",
    },
    test: Mail {
        subject: "Mail from {} works",
        lead: "An operator of {} wanted to see whether mail arrives. It does.",
        action: "",
        not_you: "There is nothing to do.",
    },
};
