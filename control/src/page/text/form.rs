//! The words of forms: labels, hints, and what can be wrong with what somebody entered.

/// What is wrong, and what to do about it.
pub(crate) struct Said {
    pub(crate) what: &'static str,
    pub(crate) next: &'static str,
}

/// Labels and hints of fields.
pub(crate) struct Fields {
    pub(crate) email: &'static str,
    pub(crate) password: &'static str,
    pub(crate) current_password: &'static str,
    pub(crate) new_password: &'static str,
    pub(crate) new_password_hint: &'static str,
    pub(crate) repeat: &'static str,
    pub(crate) name: &'static str,
    pub(crate) name_hint: &'static str,
    pub(crate) display_name: &'static str,
    pub(crate) display_name_hint: &'static str,
    pub(crate) new_email: &'static str,
}

/// What can be wrong.
pub(crate) struct Problems {
    pub(crate) wrong: Said,
    pub(crate) wrong_password: Said,
    pub(crate) incomplete: Said,
    pub(crate) no_password: Said,
    pub(crate) throttled: &'static str,
    pub(crate) throttled_next_second: &'static str,
    pub(crate) throttled_next_seconds: &'static str,
    pub(crate) throttled_next_minutes: &'static str,
    pub(crate) stale: Said,
    pub(crate) stale_form: Said,
    pub(crate) busy: Said,
    pub(crate) inactive: Said,
    pub(crate) too_short: Said,
    pub(crate) too_long: Said,
    pub(crate) common: Said,
    pub(crate) same: Said,
    pub(crate) differ: Said,
    pub(crate) email: Said,
    pub(crate) email_domain: Said,
    pub(crate) email_same: Said,
    pub(crate) name: Said,
    pub(crate) display_name: Said,
}

/// English.
pub(super) const FIELDS: Fields = Fields {
    email: "E-mail address",
    password: "Password",
    current_password: "Current password",
    new_password: "New password",
    new_password_hint: "At least 15 characters. A few unrelated words work well, and spaces are fine.",
    repeat: "New password, once more",
    name: "Your name",
    name_hint: "As applications will show it. You can change it later.",
    display_name: "Display name (optional)",
    display_name_hint: "What others see of you. Empty: your name.",
    new_email: "New e-mail address",
};

/// English.
pub(super) const PROBLEMS: Problems = Problems {
    wrong: Said {
        what: "That e-mail address and password do not match.",
        next: "Check both and try again. Capital letters count in the password.",
    },
    wrong_password: Said { what: "That is not your password.", next: "Try again. Capital letters count." },
    incomplete: Said {
        what: "Enter your e-mail address and your password.",
        next: "Both are needed to sign you in.",
    },
    no_password: Said { what: "Enter your password.", next: "It is needed to be sure that it is you." },
    throttled: "Too many attempts.",
    throttled_next_second: "Wait a second, then try again. Nothing is locked.",
    throttled_next_seconds: "Wait {} seconds, then try again. Nothing is locked.",
    throttled_next_minutes: "Wait {} minutes, then try again. Nothing is locked.",
    stale: Said { what: "This page was open for too long.", next: "Enter your password once more." },
    stale_form: Said {
        what: "This page was open for too long.",
        next: "Check what you typed and send it once more.",
    },
    busy: Said {
        what: "Many people are signing in right now.",
        next: "Try again in a moment. Your password was not checked yet.",
    },
    inactive: Said {
        what: "This account is not active.",
        next: "Ask whoever manages your account to activate it.",
    },
    too_short: Said {
        what: "That password is too short.",
        next: "Use at least 15 characters; one more word is usually enough.",
    },
    too_long: Said { what: "That password is too long.", next: "Use at most 128 characters." },
    common: Said {
        what: "That password is too easy to guess.",
        next: "Avoid well-known phrases, repeated or neighbouring keys, and your own name. A few unrelated words work well.",
    },
    same: Said { what: "That is your password already.", next: "Choose another one, or go back." },
    differ: Said {
        what: "The two passwords are not the same.",
        next: "Type the new password in both fields.",
    },
    email: Said { what: "That is not an e-mail address.", next: "Write it like ada@shop.example." },
    email_domain: Said {
        what: "That address cannot be used here.",
        next: "Accounts are for certain organizations only. Use the address your organization gave you.",
    },
    email_same: Said { what: "That is your address already.", next: "Enter another one, or go back." },
    name: Said { what: "That name cannot be used.", next: "A name has 1 to 200 characters, on one line." },
    display_name: Said {
        what: "That display name cannot be used.",
        next: "It has up to 200 characters, on one line. Empty, your name is shown.",
    },
};
