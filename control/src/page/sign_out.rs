//! The pages of signing out: the question, and that it is done.

use askama::Template;

use super::text::fill;
use super::{Chrome, Page};

/// Asks before signing out, because a link must not do it (R16).
#[derive(Template)]
#[template(path = "sign_out.html")]
pub(crate) struct SignOut {
    pub(crate) chrome: Chrome,
    /// Who is signed in: one address, or several.
    pub(crate) who: String,
    /// The form token.
    pub(crate) form: String,
}

impl SignOut {
    fn text(&self) -> String {
        fill(self.chrome.t.sign_out_text, &self.who)
    }
}

impl Page for SignOut {
    #[cfg(test)]
    fn sample() -> Vec<(&'static str, Self)> {
        let form = "eyJmbG93IjoiZmx3XzAxIn0.c2lnbmF0dXJl".to_owned();
        vec![("sign-out", Self { chrome: Chrome::english(), who: "ada@shop.example".to_owned(), form })]
    }
}

/// Nobody is signed in any more.
#[derive(Template)]
#[template(path = "signed_out.html")]
pub(crate) struct SignedOut {
    pub(crate) chrome: Chrome,
    /// Where to sign in again; `None`: by opening an application.
    pub(crate) sign_in: Option<&'static str>,
}

impl Page for SignedOut {
    #[cfg(test)]
    fn sample() -> Vec<(&'static str, Self)> {
        let page = |sign_in| Self { chrome: Chrome::english(), sign_in };
        vec![("signed-out", page(None)), ("signed-out-installation", page(Some("/sign-in")))]
    }
}
