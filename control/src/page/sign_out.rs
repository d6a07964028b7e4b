//! The pages of signing out: the question, and that it is done.

use askama::Template;

use super::Chrome;
use super::text::fill;

/// Asks before signing out, because a link must not do it (R16).
#[derive(Template)]
#[template(path = "sign_out.html")]
pub(crate) struct SignOut {
    pub(crate) chrome: Chrome,
    /// Who is signed in: one address, or several.
    pub(crate) who: String,
    /// The form token of signing out in this browser.
    pub(crate) here: String,
    /// The form token of signing out everywhere.
    pub(crate) everywhere: String,
}

impl SignOut {
    fn text(&self) -> String {
        fill(self.chrome.t.sign_out.text, &self.who)
    }
}

/// Nobody is signed in any more.
#[derive(Template)]
#[template(path = "signed_out.html")]
pub(crate) struct SignedOut {
    pub(crate) chrome: Chrome,
    /// On every device, not only in this browser.
    pub(crate) everywhere: bool,
    /// Where to sign in again; `None`: by opening an application.
    pub(crate) sign_in: Option<String>,
}

impl SignedOut {
    const fn text(&self) -> &'static str {
        let t = &self.chrome.t.sign_out;
        if self.everywhere { t.done_everywhere } else { t.done_text }
    }
}

#[cfg(test)]
mod sample {
    use super::super::Page;
    use super::super::samples::{ADA, FORM, plain};
    use super::*;

    impl Page for SignOut {
        fn sample() -> Vec<(&'static str, Self)> {
            let page = |who: &str| Self {
                chrome: plain(),
                who: who.to_owned(),
                here: FORM.to_owned(),
                everywhere: FORM.to_owned(),
            };
            vec![("sign-out", page(ADA)), ("sign-out-two", page("ada@shop.example, operator@mezu.localhost"))]
        }
    }

    impl Page for SignedOut {
        fn sample() -> Vec<(&'static str, Self)> {
            let page = |everywhere, sign_in: Option<&str>| Self {
                chrome: plain(),
                everywhere,
                sign_in: sign_in.map(str::to_owned),
            };
            vec![
                ("signed-out", page(false, None)),
                ("signed-out-installation", page(false, Some("/sign-in"))),
                ("signed-out-everywhere", page(true, None)),
            ]
        }
    }
}
