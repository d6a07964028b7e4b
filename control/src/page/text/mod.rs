//! Every word on the hosted pages and in mails, in one place: another language is another [`Texts`].
//!
//! `{}` stands for the one value a sentence holds. Calm, short, exact, with a next step. One file for what
//! people meet together.

mod account;
mod by_mail;
mod form;
mod mail;
mod notice;
mod place;
mod sign_in;

pub(crate) use account::Account;
pub(crate) use by_mail::ByMail;
pub(crate) use form::{Fields, Problems, Said};
pub(crate) use mail::{Mail, Mails};
pub(crate) use notice::{Notice, Notices};
pub(crate) use place::Places;
pub(crate) use sign_in::{SignIn, SignOut};

/// The words of one language.
pub(crate) struct Texts {
    /// BCP 47 tag, for the page's `lang`.
    pub(crate) lang: &'static str,
    pub(crate) product: &'static str,
    pub(crate) months: [&'static str; 12],
    /// In front of a page's title when something has to be corrected.
    pub(crate) title_problem: &'static str,
    pub(crate) fact_code: &'static str,
    pub(crate) fact_request: &'static str,

    pub(crate) field: Fields,
    pub(crate) problem: Problems,
    pub(crate) sign_in: SignIn,
    pub(crate) sign_out: SignOut,
    pub(crate) by_mail: ByMail,
    pub(crate) account: Account,
    pub(crate) place: Places,
    pub(crate) notice: Notices,
    pub(crate) mail: Mails,
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
    fact_code: "Code",
    fact_request: "Request",

    field: form::FIELDS,
    problem: form::PROBLEMS,
    sign_in: sign_in::SIGN_IN,
    sign_out: sign_in::SIGN_OUT,
    by_mail: by_mail::ENGLISH,
    account: account::ENGLISH,
    place: place::ENGLISH,
    notice: notice::ENGLISH,
    mail: mail::ENGLISH,
};
