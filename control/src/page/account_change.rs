//! The pages on which somebody changes their account: name, address, password.

use askama::Template;

use super::field::Field;
use super::text::fill;
use super::{Chrome, Problem, problem};

/// Another name.
#[derive(Template)]
#[template(path = "change_name.html")]
pub(crate) struct ChangeName {
    pub(crate) chrome: Chrome,
    /// The path of the account's pages.
    pub(crate) base: String,
    /// As it is, or as typed.
    pub(crate) name: String,
    pub(crate) display_name: String,
    pub(crate) form: String,
    pub(crate) problem: Option<Problem>,
}

impl ChangeName {
    fn title(&self) -> String {
        problem::title(self.chrome.t, self.chrome.t.account.change_name, self.problem.as_ref())
    }

    fn name_field(&self) -> Field<'_> {
        Field::own_name(self.chrome.t, &self.name)
            .with(self.problem.as_ref())
            .focus(!self.lies_in_display_name())
    }

    fn lies_in_display_name(&self) -> bool {
        self.problem.as_ref().is_some_and(|problem| problem.marks("display_name"))
    }

    fn display_name_field(&self) -> Field<'_> {
        let field = Field::display_name(self.chrome.t, &self.display_name);
        field.with(self.problem.as_ref()).focus(self.lies_in_display_name())
    }
}

/// Another address: the password proves who asks, a link to the new address that it is theirs.
#[derive(Template)]
#[template(path = "change_email.html")]
pub(crate) struct ChangeEmail {
    pub(crate) chrome: Chrome,
    /// The path of the account's pages.
    pub(crate) base: String,
    /// The address now.
    pub(crate) email: String,
    /// The new one, as typed.
    pub(crate) new: String,
    pub(crate) form: String,
    pub(crate) problem: Option<Problem>,
}

impl ChangeEmail {
    fn title(&self) -> String {
        problem::title(self.chrome.t, self.chrome.t.account.change_email, self.problem.as_ref())
    }

    /// In letters so large that "e-mail" would be broken at its hyphen: with one that is never broken at.
    fn heading(&self) -> String {
        self.chrome.t.account.change_email.replace('-', "\u{2011}")
    }

    fn email_field(&self) -> Field<'_> {
        Field::new_email(self.chrome.t, &self.new).with(self.problem.as_ref()).focus(self.new.is_empty())
    }

    fn password_field(&self) -> Field<'_> {
        let focus = !self.new.is_empty();
        Field::current_password(self.chrome.t).with(self.problem.as_ref()).focus(focus)
    }
}

/// Asks to send the link that verifies an address.
#[derive(Template)]
#[template(path = "ask_verify.html")]
pub(crate) struct VerifyEmail {
    pub(crate) chrome: Chrome,
    /// The path of the account's pages.
    pub(crate) base: String,
    pub(crate) email: String,
    pub(crate) form: String,
    pub(crate) problem: Option<Problem>,
}

impl VerifyEmail {
    fn title(&self) -> String {
        problem::title(self.chrome.t, self.chrome.t.account.verify, self.problem.as_ref())
    }

    fn text(&self) -> String {
        fill(self.chrome.t.account.verify_text, &self.email)
    }
}

/// Another password.
#[derive(Template)]
#[template(path = "change_password.html")]
pub(crate) struct ChangePassword {
    pub(crate) chrome: Chrome,
    /// The path of the account's pages.
    pub(crate) base: String,
    /// Whose, for password managers.
    pub(crate) email: String,
    pub(crate) form: String,
    pub(crate) problem: Option<Problem>,
}

impl ChangePassword {
    fn title(&self) -> String {
        problem::title(self.chrome.t, self.chrome.t.account.change_password, self.problem.as_ref())
    }

    fn lies_in_new(&self) -> bool {
        self.problem.as_ref().is_some_and(|problem| problem.marks("password"))
    }

    fn current_field(&self) -> Field<'_> {
        Field::current_password(self.chrome.t).with(self.problem.as_ref()).focus(!self.lies_in_new())
    }

    fn password_field(&self) -> Field<'_> {
        Field::new_password(self.chrome.t).with(self.problem.as_ref()).focus(self.lies_in_new())
    }

    fn repeat_field(&self) -> Field<'_> {
        Field::repeat(self.chrome.t).with(self.problem.as_ref())
    }
}

#[cfg(test)]
mod sample {
    use super::super::Page;
    use super::super::samples::{ADA, FORM, LONG, branded, plain};
    use super::*;

    const BASE: &str = "/account/dir_1";

    impl Page for ChangeName {
        fn sample() -> Vec<(&'static str, Self)> {
            let page = |chrome, name: &str, problem| Self {
                chrome,
                base: BASE.to_owned(),
                name: name.to_owned(),
                display_name: String::new(),
                form: FORM.to_owned(),
                problem,
            };
            let bad = Problem::typed(&plain().t.problem.name, &["name"]);
            let odd = Problem::typed(&plain().t.problem.display_name, &["display_name"]);
            vec![
                ("account-name", page(plain(), "Ada Lovelace", None)),
                (
                    "account-name-display-bad",
                    Self { display_name: LONG.to_owned(), ..page(plain(), "Ada Lovelace", Some(odd)) },
                ),
                ("account-name-bad", page(branded(), LONG, Some(bad))),
            ]
        }
    }

    impl Page for ChangeEmail {
        fn sample() -> Vec<(&'static str, Self)> {
            let page = |new: &str, problem| Self {
                chrome: plain(),
                base: BASE.to_owned(),
                email: ADA.to_owned(),
                new: new.to_owned(),
                form: FORM.to_owned(),
                problem,
            };
            let wrong = Problem::typed(&plain().t.problem.wrong_password, &["current"]);
            vec![
                ("account-email", page("", None)),
                ("account-email-wrong", page("ada@new.example", Some(wrong))),
            ]
        }
    }

    impl Page for VerifyEmail {
        fn sample() -> Vec<(&'static str, Self)> {
            let page = |problem| Self {
                chrome: plain(),
                base: BASE.to_owned(),
                email: ADA.to_owned(),
                form: FORM.to_owned(),
                problem,
            };
            let wait = Problem::throttled(plain().t, std::time::Duration::from_mins(10));
            vec![("account-verify", page(None)), ("account-verify-throttled", page(Some(wait)))]
        }
    }

    impl Page for ChangePassword {
        fn sample() -> Vec<(&'static str, Self)> {
            let page = |problem| Self {
                chrome: plain(),
                base: BASE.to_owned(),
                email: ADA.to_owned(),
                form: FORM.to_owned(),
                problem,
            };
            let t = plain().t;
            vec![
                ("account-password", page(None)),
                (
                    "account-password-wrong",
                    page(Some(Problem::typed(&t.problem.wrong_password, &["current"]))),
                ),
                (
                    "account-password-differ",
                    page(Some(Problem::typed(&t.problem.differ, &["password", "repeat"]))),
                ),
            ]
        }
    }
}
