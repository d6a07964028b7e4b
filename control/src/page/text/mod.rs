//! Every word on the hosted pages, in one place: another language is another [`Texts`].
//!
//! `{}` stands for the one value a sentence holds. Calm, short, exact, with a next step.

mod notice;

pub(crate) use notice::{Notice, Notices};

/// The words of one language.
pub(crate) struct Texts {
    /// BCP 47 tag, for the page's `lang`.
    pub(crate) lang: &'static str,
    pub(crate) product: &'static str,
    pub(crate) months: [&'static str; 12],
    /// In front of a page's title when something has to be corrected.
    pub(crate) title_problem: &'static str,

    pub(crate) sign_in_to: &'static str,
    pub(crate) sign_in_installation: &'static str,
    pub(crate) email: &'static str,
    pub(crate) password: &'static str,
    pub(crate) sign_in: &'static str,
    pub(crate) forgotten: &'static str,
    pub(crate) forgotten_installation: &'static str,

    pub(crate) wrong: &'static str,
    pub(crate) wrong_next: &'static str,
    pub(crate) incomplete: &'static str,
    pub(crate) incomplete_next: &'static str,
    pub(crate) throttled: &'static str,
    pub(crate) throttled_next_seconds: &'static str,
    pub(crate) throttled_next_minutes: &'static str,
    pub(crate) stale: &'static str,
    pub(crate) stale_next: &'static str,
    pub(crate) busy: &'static str,
    pub(crate) busy_next: &'static str,
    pub(crate) inactive: &'static str,
    pub(crate) inactive_next: &'static str,

    pub(crate) choose_title: &'static str,
    pub(crate) choose_intro: &'static str,
    pub(crate) choose_password: &'static str,
    pub(crate) choose_hint: &'static str,
    pub(crate) choose_repeat: &'static str,
    pub(crate) choose_submit: &'static str,
    pub(crate) too_short: &'static str,
    pub(crate) too_short_next: &'static str,
    pub(crate) too_long: &'static str,
    pub(crate) too_long_next: &'static str,
    pub(crate) common: &'static str,
    pub(crate) common_next: &'static str,
    pub(crate) differ: &'static str,
    pub(crate) differ_next: &'static str,

    pub(crate) account_title: &'static str,
    pub(crate) account_email: &'static str,
    pub(crate) account_directory: &'static str,
    pub(crate) account_since: &'static str,
    pub(crate) account_until: &'static str,
    pub(crate) account_apps: &'static str,
    pub(crate) account_apps_none: &'static str,
    pub(crate) account_app_until: &'static str,
    pub(crate) sign_out: &'static str,

    pub(crate) sign_out_title: &'static str,
    pub(crate) sign_out_text: &'static str,
    pub(crate) sign_out_stay: &'static str,
    pub(crate) signed_out_title: &'static str,
    pub(crate) signed_out_text: &'static str,
    pub(crate) sign_in_again: &'static str,

    pub(crate) go_to_account: &'static str,
    pub(crate) fact_code: &'static str,
    pub(crate) fact_request: &'static str,

    pub(crate) notice: Notices,
}

/// Puts `value` where the pattern has `{}`.
pub(crate) fn fill(pattern: &str, value: &str) -> String {
    pattern.replacen("{}", value, 1)
}

/// English.
pub(crate) static ENGLISH: Texts = Texts {
    lang: "en",
    product: "Mezusphere",
    months: [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ],
    title_problem: "Error: {}",

    sign_in_to: "Sign in to {}",
    sign_in_installation: "Sign in",
    email: "E-mail address",
    password: "Password",
    sign_in: "Sign in",
    forgotten: "Forgotten your password? Ask whoever runs {} for a new one.",
    forgotten_installation: "Forgotten your password? Ask whoever runs this installation for a new one.",

    wrong: "That e-mail address and password do not match.",
    wrong_next: "Check both and try again. Capital letters count in the password.",
    incomplete: "Enter your e-mail address and your password.",
    incomplete_next: "Both are needed to sign you in.",
    throttled: "Too many attempts.",
    throttled_next_seconds: "Wait {} seconds, then try again. Nothing is locked.",
    throttled_next_minutes: "Wait {} minutes, then try again. Nothing is locked.",
    stale: "This page was open for too long.",
    stale_next: "Enter your password once more.",
    busy: "Many people are signing in right now.",
    busy_next: "Try again in a moment. Your password was not checked yet.",
    inactive: "This account is not active.",
    inactive_next: "Ask whoever manages your account to activate it.",

    choose_title: "Choose your password",
    choose_intro: "For {}. From now on you sign in with it; the link you came with works only once.",
    choose_password: "New password",
    choose_hint: "At least 15 characters. A few unrelated words work well, and spaces are fine.",
    choose_repeat: "New password, once more",
    choose_submit: "Save and sign in",
    too_short: "That password is too short.",
    too_short_next: "Use at least 15 characters; one more word is usually enough.",
    too_long: "That password is too long.",
    too_long_next: "Use at most 128 characters.",
    common: "That password is too easy to guess.",
    common_next: "Avoid well-known phrases, repeated or neighbouring keys, and your own name. A few unrelated words work well.",
    differ: "The two passwords are not the same.",
    differ_next: "Type the new password in both fields.",

    account_title: "Your account",
    account_email: "E-mail address",
    account_directory: "Account of",
    account_since: "Signed in",
    account_until: "Signed in until",
    account_apps: "Where you are signed in",
    account_apps_none: "Nowhere at the moment. Open an application to be signed in there.",
    account_app_until: "until {}",
    sign_out: "Sign out",

    sign_out_title: "Sign out?",
    sign_out_text: "You will be signed out as {} here and in every application you opened with this sign-in.",
    sign_out_stay: "Stay signed in",
    signed_out_title: "You are signed out",
    signed_out_text: "Here and in every application you had opened. On a shared computer, close the browser as well.",
    sign_in_again: "Sign in again",

    go_to_account: "Go to your account",
    fact_code: "Code",
    fact_request: "Request",

    notice: notice::ENGLISH,
};
