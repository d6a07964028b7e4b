//! The page of a first sign-in: choosing a password.

use askama::Template;

use super::text::fill;
use super::{Chrome, Page, Problem, problem};

/// A new password, twice.
#[derive(Template)]
#[template(path = "first_sign_in.html")]
pub(crate) struct FirstSignIn {
    pub(crate) chrome: Chrome,
    /// Whose first sign-in it is.
    pub(crate) email: String,
    /// The link's own path.
    pub(crate) action: String,
    /// The form token.
    pub(crate) form: String,
    pub(crate) problem: Option<Problem>,
}

impl FirstSignIn {
    fn intro(&self) -> String {
        fill(self.chrome.t.choose_intro, &self.email)
    }

    fn title(&self) -> String {
        problem::title(self.chrome.t, self.chrome.t.choose_title, self.problem.as_ref())
    }

    fn marks_fields(&self) -> bool {
        self.problem.as_ref().is_some_and(|problem| problem.in_fields)
    }
}

impl Page for FirstSignIn {
    #[cfg(test)]
    fn sample() -> Vec<(&'static str, Self)> {
        let page = |problem| Self {
            chrome: Chrome::english(),
            email: "operator@mezu.localhost".to_owned(),
            action: "/first-sign-in/dGhpcyBpcyBvbmx5IGEgc2FtcGxlIG9mIGEgbGluayB0b2tlbg".to_owned(),
            form: "eyJmbG93IjoiZmx3XzAxIn0.c2lnbmF0dXJl".to_owned(),
            problem,
        };
        let t = Chrome::english().t;
        vec![
            ("first-sign-in", page(None)),
            ("first-sign-in-common", page(Some(Problem::typed(t.common, t.common_next)))),
        ]
    }
}
