//! The pages of signing in: address and password, the password once more, and which account to go on with.

use askama::Template;

use super::field::Field;
use super::text::fill;
use super::{Chrome, Problem, problem};

/// Address and password; the answer to a failed attempt is the same page with a problem.
#[derive(Template)]
#[template(path = "sign_in.html")]
pub(crate) struct SignIn {
    pub(crate) chrome: Chrome,
    /// What is signed in to; `None`: the installation or a directory itself.
    pub(crate) app: Option<LeadsTo>,
    /// As typed before, to be corrected.
    pub(crate) email: String,
    /// The form token.
    pub(crate) form: String,
    pub(crate) problem: Option<Problem>,
    /// Where to sign up, if everybody may.
    pub(crate) sign_up: Option<String>,
    /// Where to get a new password, if mail can be sent.
    pub(crate) recover: Option<String>,
}

/// The application somebody signs in to.
#[derive(Clone)]
pub(crate) struct LeadsTo {
    /// The project's name for people.
    pub(crate) name: String,
    /// Where it is: a name can be anything, the host is what the browser will show.
    pub(crate) host: String,
}

impl SignIn {
    fn heading(&self) -> String {
        let t = self.chrome.t;
        let name = self.app.as_ref().map(|app| &app.name).or(self.chrome.brand.name.as_ref());
        name.map_or_else(|| t.sign_in.installation.to_owned(), |name| fill(t.sign_in.to, name))
    }

    /// Whom to ask where no mail can be sent.
    fn forgotten(&self) -> String {
        let t = self.chrome.t;
        self.app.as_ref().map_or_else(
            || t.sign_in.forgotten_ask_installation.to_owned(),
            |app| fill(t.sign_in.forgotten_ask, &app.name),
        )
    }

    fn title(&self) -> String {
        problem::title(self.chrome.t, &self.heading(), self.problem.as_ref())
    }

    fn email_field(&self) -> Field<'_> {
        Field::email(self.chrome.t, &self.email).with(self.problem.as_ref()).focus(self.email.is_empty())
    }

    fn password_field(&self) -> Field<'_> {
        Field::password(self.chrome.t).with(self.problem.as_ref()).focus(!self.email.is_empty())
    }
}

/// The password once more, for somebody who is signed in (RFC 9470): whose account it is, is settled.
#[derive(Template)]
#[template(path = "confirm.html")]
pub(crate) struct Confirm {
    pub(crate) chrome: Chrome,
    /// What asks for it.
    pub(crate) app: Option<LeadsTo>,
    /// Who is signed in.
    pub(crate) email: String,
    /// The form token.
    pub(crate) form: String,
    pub(crate) problem: Option<Problem>,
    /// Where to choose another account.
    pub(crate) another: String,
    /// Where to get a new password, if mail can be sent.
    pub(crate) recover: Option<String>,
}

impl Confirm {
    fn text(&self) -> String {
        let t = self.chrome.t;
        self.app.as_ref().map_or_else(
            || t.sign_in.confirm_text_installation.to_owned(),
            |app| fill(t.sign_in.confirm_text, &app.name),
        )
    }

    fn title(&self) -> String {
        problem::title(self.chrome.t, self.chrome.t.sign_in.confirm_title, self.problem.as_ref())
    }

    fn password_field(&self) -> Field<'_> {
        Field::password(self.chrome.t).with(self.problem.as_ref()).focus(true)
    }
}

/// Which account to go on with.
#[derive(Template)]
#[template(path = "choose_account.html")]
pub(crate) struct ChooseAccount {
    pub(crate) chrome: Chrome,
    /// Where the account leads.
    pub(crate) app: Option<LeadsTo>,
    /// Who is signed in.
    pub(crate) name: String,
    pub(crate) email: String,
    /// Where to go on as they are.
    pub(crate) go_on: String,
    /// Where to sign in as somebody else.
    pub(crate) another: String,
}

impl ChooseAccount {
    fn text(&self) -> String {
        let t = self.chrome.t;
        self.app.as_ref().map_or_else(
            || t.sign_in.choose_text_installation.to_owned(),
            |app| fill(t.sign_in.choose_text, &app.name),
        )
    }
}

/// A second factor is asked for, and the account has none.
#[derive(Template)]
#[template(path = "too_weak.html")]
pub(crate) struct TooWeak {
    pub(crate) chrome: Chrome,
    pub(crate) app: LeadsTo,
    /// The application's origin: the way back.
    pub(crate) back: String,
    /// Who is signed in.
    pub(crate) email: String,
    /// Where to choose another account.
    pub(crate) another: String,
}

impl TooWeak {
    fn text(&self) -> String {
        fill(self.chrome.t.sign_in.weak_text, &self.app.name)
    }

    fn next(&self) -> String {
        fill(self.chrome.t.sign_in.weak_next, &self.app.name)
    }

    fn back_label(&self) -> String {
        fill(self.chrome.t.sign_in.back_to, &self.app.name)
    }
}

#[cfg(test)]
mod sample {
    use std::time::Duration;

    use super::super::Page;
    use super::super::samples::{ADA, FORM, LONG, branded, plain, shop};
    use super::*;

    impl Page for SignIn {
        fn sample() -> Vec<(&'static str, Self)> {
            let page = |chrome: Chrome, app: Option<LeadsTo>, email: &str, problem| Self {
                chrome,
                app,
                email: email.to_owned(),
                form: FORM.to_owned(),
                problem,
                sign_up: Some("/sign-up".to_owned()),
                recover: Some("/recover".to_owned()),
            };
            let t = plain().t;
            let asked = |app| Self { sign_up: None, recover: None, ..page(plain(), app, "", None) };
            let long =
                LeadsTo { name: LONG.to_owned(), host: "a-project-whose-slug-is-long.localhost".to_owned() };
            let wrong = Problem::typed(&t.problem.wrong, &["email", "password"]);
            vec![
                ("sign-in", page(plain(), Some(shop()), "", None)),
                ("sign-in-closed", asked(Some(shop()))),
                ("sign-in-installation", asked(None)),
                ("sign-in-long-name", page(plain(), Some(long), "", None)),
                ("sign-in-branded", page(branded(), Some(shop()), "", None)),
                ("sign-in-branded-wrong", page(branded(), Some(shop()), ADA, Some(wrong.clone()))),
                ("sign-in-wrong", page(plain(), Some(shop()), ADA, Some(wrong))),
                (
                    "sign-in-throttled",
                    page(plain(), Some(shop()), ADA, Some(Problem::throttled(t, Duration::from_secs(30)))),
                ),
                ("sign-in-stale", page(plain(), Some(shop()), ADA, Some(Problem::other(&t.problem.stale)))),
            ]
        }
    }

    impl Page for Confirm {
        fn sample() -> Vec<(&'static str, Self)> {
            let page = |chrome, app, problem| Self {
                chrome,
                app,
                email: ADA.to_owned(),
                form: FORM.to_owned(),
                problem,
                another: "/sign-in?prompt=login".to_owned(),
                recover: Some("/recover".to_owned()),
            };
            let wrong = Problem::typed(&plain().t.problem.wrong_password, &["password"]);
            vec![
                ("confirm", page(plain(), Some(shop()), None)),
                ("confirm-wrong", page(branded(), Some(shop()), Some(wrong))),
                ("confirm-installation", page(plain(), None, None)),
            ]
        }
    }

    impl Page for ChooseAccount {
        fn sample() -> Vec<(&'static str, Self)> {
            let page = |chrome, app, name: &str| Self {
                chrome,
                app,
                name: name.to_owned(),
                email: ADA.to_owned(),
                go_on: "/sign-in".to_owned(),
                another: "/sign-in?prompt=login".to_owned(),
            };
            vec![
                ("choose-account", page(plain(), Some(shop()), "Ada Lovelace")),
                ("choose-account-long", page(branded(), None, LONG)),
            ]
        }
    }

    impl Page for TooWeak {
        fn sample() -> Vec<(&'static str, Self)> {
            let (app, back) = (shop(), "https://shop.localhost:8443/".to_owned());
            let another = "/sign-in?prompt=select_account".to_owned();
            vec![("too-weak", Self { chrome: plain(), app, back, email: ADA.to_owned(), another })]
        }
    }
}
