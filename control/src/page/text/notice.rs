//! The words of notices: what happened, what it means, and the way on.

/// Title, text and next step of each page that says why nothing else can be shown.
pub(crate) struct Notices {
    pub(crate) link_dead: Notice,
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
        text: "It was already used, or it is older than 30 minutes.",
        next: "Ask whoever sent it to you for a new one. If you have chosen a password already, sign in with it.",
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
