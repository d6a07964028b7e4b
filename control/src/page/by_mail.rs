//! The pages before and behind a mailed link that ask for no password: an address, "check your mail", a button,
//! and that it is done.

use askama::Template;

use super::field::Field;
use super::text::fill;
use super::{Chrome, LeadsTo, Problem, problem};

/// Asks for an address to send a link to.
#[derive(Template)]
#[template(path = "ask_mail.html")]
pub(crate) struct AskMail {
    pub(crate) chrome: Chrome,
    pub(crate) kind: AskMailKind,
    /// What it is for.
    pub(crate) app: Option<LeadsTo>,
    /// As typed before.
    pub(crate) email: String,
    /// The form token.
    pub(crate) form: String,
    pub(crate) problem: Option<Problem>,
    /// Back to the sign-in page.
    pub(crate) sign_in: String,
}

/// What the link will be for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AskMailKind {
    SignUp,
    Recover,
}

impl AskMail {
    const fn action(&self) -> &'static str {
        match self.kind {
            AskMailKind::SignUp => "/sign-up",
            AskMailKind::Recover => "/recover",
        }
    }

    fn heading(&self) -> String {
        let t = &self.chrome.t.by_mail;
        match (self.kind, &self.app) {
            (AskMailKind::Recover, _) => t.recover_title.to_owned(),
            (AskMailKind::SignUp, Some(app)) => fill(t.sign_up_for, &app.name),
            (AskMailKind::SignUp, None) => t.sign_up_title.to_owned(),
        }
    }

    const fn text(&self) -> &'static str {
        let t = &self.chrome.t.by_mail;
        match self.kind {
            AskMailKind::SignUp => t.sign_up_text,
            AskMailKind::Recover => t.recover_text,
        }
    }

    const fn submit(&self) -> &'static str {
        let t = &self.chrome.t.by_mail;
        match self.kind {
            AskMailKind::SignUp => t.sign_up_submit,
            AskMailKind::Recover => t.recover_submit,
        }
    }

    /// What leads back to the sign-in page.
    const fn back(&self) -> &'static str {
        let t = &self.chrome.t.by_mail;
        match self.kind {
            AskMailKind::SignUp => t.have_account,
            AskMailKind::Recover => t.remembered,
        }
    }

    fn title(&self) -> String {
        problem::title(self.chrome.t, &self.heading(), self.problem.as_ref())
    }

    fn email_field(&self) -> Field<'_> {
        Field::email(self.chrome.t, &self.email).with(self.problem.as_ref()).focus(true)
    }
}

/// A mail is on its way, or would be: the same words whether the address has an account or not (R13).
#[derive(Template)]
#[template(path = "mail_sent.html")]
pub(crate) struct MailSent {
    pub(crate) chrome: Chrome,
    pub(crate) kind: MailSentKind,
    /// The address, as typed.
    pub(crate) email: String,
    /// Where to go from here: to correct the address, or back.
    pub(crate) back: String,
}

/// What the mail is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MailSentKind {
    SignUp,
    Recover,
    /// An address of somebody who is signed in: theirs, or a new one.
    Address,
}

impl MailSent {
    fn text(&self) -> String {
        let t = &self.chrome.t.by_mail;
        let pattern = match self.kind {
            MailSentKind::SignUp => t.sent_sign_up,
            MailSentKind::Recover => t.sent_recover,
            MailSentKind::Address => t.sent_address,
        };
        fill(pattern, &self.email)
    }

    fn back_label(&self) -> &'static str {
        let t = &self.chrome.t.by_mail;
        if self.kind == MailSentKind::Address { t.sent_account } else { t.sent_other }
    }
}

/// A link that asks for nothing but a button: opening it must not do what it is for, because mail scanners open
/// links.
#[derive(Template)]
#[template(path = "confirm_address.html")]
pub(crate) struct ConfirmAddress {
    pub(crate) chrome: Chrome,
    /// What the button does.
    pub(crate) what: Confirms,
    /// The address, or whose account it is.
    pub(crate) email: String,
    /// Whose accounts these are.
    pub(crate) whose: String,
    /// The link's own path.
    pub(crate) action: String,
    /// The form token.
    pub(crate) form: String,
}

/// What a button behind a link does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Confirms {
    /// The address of an account is its owner's.
    Address,
    /// The account has this address from now on.
    NewAddress,
    /// An account that exists may be used for one project more.
    Invitation,
}

impl ConfirmAddress {
    fn heading(&self) -> String {
        let t = &self.chrome.t.by_mail;
        match self.what {
            Confirms::Address => t.confirm_title.to_owned(),
            Confirms::NewAddress => t.change_title.to_owned(),
            Confirms::Invitation => fill(t.choose_invitation_title, &self.whose),
        }
    }

    fn text(&self) -> String {
        let t = &self.chrome.t.by_mail;
        match self.what {
            Confirms::Address => fill(t.confirm_text, &self.whose),
            Confirms::NewAddress => fill(t.change_text, &self.whose),
            Confirms::Invitation => fill(t.choose_invitation_known, &self.whose),
        }
    }

    const fn submit(&self) -> &'static str {
        let t = &self.chrome.t.by_mail;
        match self.what {
            Confirms::Address => t.confirm_submit,
            Confirms::NewAddress => t.change_submit,
            Confirms::Invitation => t.join_submit,
        }
    }
}

/// Something is done, and where to go from here.
#[derive(Template)]
#[template(path = "done.html")]
pub(crate) struct Done {
    pub(crate) chrome: Chrome,
    pub(crate) kind: DoneKind,
    /// The address it is about, where one is named.
    pub(crate) email: String,
    /// Where to go: a path here, or an application's address.
    pub(crate) next: String,
    /// The application's name, if it leads to one.
    pub(crate) app: Option<String>,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DoneKind {
    Recovered,
    Verified,
    AddressChanged,
    Joined,
}

impl Done {
    const fn heading(&self) -> &'static str {
        let t = &self.chrome.t.by_mail;
        match self.kind {
            DoneKind::Recovered => t.recovered_title,
            DoneKind::Verified => t.confirmed_title,
            DoneKind::AddressChanged => t.changed_title,
            DoneKind::Joined => t.joined_title,
        }
    }

    fn text(&self) -> String {
        let t = &self.chrome.t.by_mail;
        match self.kind {
            DoneKind::Recovered => t.recovered_text.to_owned(),
            DoneKind::Verified => t.confirmed_text.to_owned(),
            DoneKind::AddressChanged => fill(t.changed_text, &self.email),
            DoneKind::Joined => t.joined_text.to_owned(),
        }
    }

    fn next_label(&self) -> String {
        let t = &self.chrome.t.by_mail;
        match (self.kind, &self.app) {
            (DoneKind::Recovered, _) => t.recovered_next.to_owned(),
            (_, Some(app)) => fill(t.to_app, app),
            (_, None) => t.to_account.to_owned(),
        }
    }
}

#[cfg(test)]
mod sample {
    use super::super::Page;
    use super::super::samples::{ADA, FORM, branded, plain, shop};
    use super::*;

    impl Page for AskMail {
        fn sample() -> Vec<(&'static str, Self)> {
            let page = |chrome, kind, app, email: &str, problem| Self {
                chrome,
                kind,
                app,
                email: email.to_owned(),
                form: FORM.to_owned(),
                problem,
                sign_in: "/sign-in".to_owned(),
            };
            let bad = Problem::typed(&plain().t.problem.email, &["email"]);
            let domain = Problem::typed(&plain().t.problem.email_domain, &["email"]);
            vec![
                ("sign-up", page(plain(), AskMailKind::SignUp, Some(shop()), "", None)),
                ("sign-up-domain", page(branded(), AskMailKind::SignUp, Some(shop()), ADA, Some(domain))),
                ("recover", page(plain(), AskMailKind::Recover, Some(shop()), "", None)),
                ("recover-bad", page(plain(), AskMailKind::Recover, None, "ada", Some(bad))),
            ]
        }
    }

    impl Page for MailSent {
        fn sample() -> Vec<(&'static str, Self)> {
            let page = |chrome, kind, email: &str| Self {
                chrome,
                kind,
                email: email.to_owned(),
                back: "/sign-up".to_owned(),
            };
            vec![
                ("mail-sent-sign-up", page(plain(), MailSentKind::SignUp, ADA)),
                ("mail-sent-recover", page(branded(), MailSentKind::Recover, ADA)),
                (
                    "mail-sent-address",
                    page(plain(), MailSentKind::Address, &format!("{}@shop.example", "lovelace".repeat(8))),
                ),
            ]
        }
    }

    impl Page for ConfirmAddress {
        fn sample() -> Vec<(&'static str, Self)> {
            let page = |what| Self {
                chrome: plain(),
                what,
                email: ADA.to_owned(),
                whose: "Shop".to_owned(),
                action: "/verify/x".to_owned(),
                form: FORM.to_owned(),
            };
            vec![
                ("verify-email", page(Confirms::Address)),
                ("change-email-link", page(Confirms::NewAddress)),
                ("invitation-known", page(Confirms::Invitation)),
            ]
        }
    }

    impl Page for Done {
        fn sample() -> Vec<(&'static str, Self)> {
            let page = |kind, next: &str, app: Option<&str>| Self {
                chrome: plain(),
                kind,
                email: ADA.to_owned(),
                next: next.to_owned(),
                app: app.map(str::to_owned),
            };
            vec![
                ("recovered", page(DoneKind::Recovered, "https://shop.localhost:8443/orders", Some("Shop"))),
                ("verified", page(DoneKind::Verified, "/account", None)),
                ("email-changed", page(DoneKind::AddressChanged, "/account", None)),
                ("joined", page(DoneKind::Joined, "https://shop.localhost:8443/", Some("Shop"))),
            ]
        }
    }
}
