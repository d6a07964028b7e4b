//! The words of notices: what happened, what it means, and the way on.

/// Title, text and next step of each page that says why nothing else can be shown.
pub(crate) struct Notices {
    pub(crate) link_dead: Notice,
    pub(crate) link_taken: Notice,
    pub(crate) sign_up_closed: Notice,
    pub(crate) invitation_only: Notice,
    pub(crate) session_over: Notice,
    pub(crate) other_account: Notice,
    pub(crate) mail_off: Notice,
    pub(crate) inactive: Notice,
    pub(crate) throttled: Notice,
    pub(crate) unknown_host: Notice,
    pub(crate) bad_return: Notice,
    pub(crate) form_stale: Notice,
    pub(crate) cross_site: Notice,
    pub(crate) no_cookies: Notice,
    pub(crate) bad_request: Notice,
    pub(crate) too_large: Notice,
    pub(crate) not_found: Notice,
    pub(crate) wrong_method: Notice,
    pub(crate) busy: Notice,
    pub(crate) fault: Notice,
}

/// One such page.
pub(crate) struct Notice {
    pub(crate) title: &'static str,
    pub(crate) text: &'static str,
    pub(crate) next: &'static str,
}

/// English.
pub(super) const ENGLISH: Notices = Notices {
    link_dead: Notice {
        title: "This link no longer works",
        text: "It was used already, a newer one took its place, or it is too old.",
        next: "Open the newest mail, or ask for a new link where you asked for this one. If you have chosen a password already, sign in with it.",
    },
    link_taken: Notice {
        title: "This address has an account already",
        text: "The link is not needed any more.",
        next: "Sign in with your password. If you have forgotten it, ask for a new one on the sign-in page.",
    },
    sign_up_closed: Notice {
        title: "Nobody can sign up here",
        text: "Accounts are made by whoever runs this application.",
        next: "Ask them for an account.",
    },
    invitation_only: Notice {
        title: "An invitation is needed",
        text: "Accounts here are for people who were invited.",
        next: "Ask whoever runs this application for an invitation; it comes by mail.",
    },
    session_over: Notice {
        title: "You are not signed in any more",
        text: "Your sign-in has ended: its time was over, or it was ended from elsewhere.",
        next: "Nothing was changed. Sign in again to go on.",
    },
    other_account: Notice {
        title: "This page belongs to another account",
        text: "It was opened with one account, and this browser is signed in with another now.",
        next: "Nothing was changed. Open your account anew and do it there.",
    },
    mail_off: Notice {
        title: "Mail cannot be sent here",
        text: "What you want to do needs a link by mail, and this installation has no way to send one.",
        next: "Ask whoever runs this installation.",
    },
    inactive: Notice {
        title: "This account is not active",
        text: "It was suspended, or it is gone.",
        next: "Ask whoever manages your account to activate it.",
    },
    throttled: Notice {
        title: "Too many attempts",
        text: "There were many attempts from your network in a short time.",
        next: "Wait a minute, then try again. Nothing is locked.",
    },
    unknown_host: Notice {
        title: "Nothing to sign in to",
        text: "The address that sent you here does not belong to any application of this installation.",
        next: "Open the application itself and sign in from there.",
    },
    bad_return: Notice {
        title: "This sign-in link is not complete",
        text: "It does not say where to go after signing in, or says it in a way that is not safe to follow.",
        next: "Open the application itself and sign in from there.",
    },
    form_stale: Notice {
        title: "This page was open for too long",
        text: "For your safety a form can only be sent for a short while after it was opened.",
        next: "Nothing was changed. Go back, load the page again and send the form once more.",
    },
    cross_site: Notice {
        title: "This form came from another site",
        text: "Only pages of this host may send forms here.",
        next: "Nothing was changed. If you meant to do this, open the page yourself and try again.",
    },
    no_cookies: Notice {
        title: "Cookies are switched off",
        text: "Your browser did not return the cookie that this page set. Signing in needs it, and nothing else.",
        next: "Allow cookies for this site, then try again.",
    },
    bad_request: Notice {
        title: "This request cannot be read",
        text: "A part of it is missing, too long, or written twice.",
        next: "Go back and try again.",
    },
    too_large: Notice {
        title: "That is too much text",
        text: "A form on these pages is never that large.",
        next: "Go back and try again with less. A password has at most 128 characters.",
    },
    not_found: Notice {
        title: "There is no such page",
        text: "The address may be mistyped or out of date.",
        next: "Check the address, or go to your account.",
    },
    wrong_method: Notice {
        title: "This page cannot be used that way",
        text: "It exists, but not for this kind of request.",
        next: "Open it in a browser.",
    },
    busy: Notice {
        title: "Not possible at the moment",
        text: "Too many people are signing in right now, or the service is being restored.",
        next: "Nothing was lost. Try again in a moment.",
    },
    fault: Notice {
        title: "Something went wrong here",
        text: "It is not your doing, and it has been written to the log.",
        next: "Try again in a moment. If it stays, tell whoever runs this installation.",
    },
};
