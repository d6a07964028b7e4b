//! The account page: who is signed in, what they can change, where they are signed in, and the way out.

use askama::Template;

use super::text::{Texts, fill};
use super::{Chrome, Moment};

/// One account of this browser.
#[derive(Template)]
#[template(path = "account.html")]
pub(crate) struct Account {
    pub(crate) chrome: Chrome,
    pub(crate) card: Card,
    /// The path its own pages begin with.
    pub(crate) base: String,
    /// The full name; the card has the one that is shown.
    pub(crate) name: String,
    pub(crate) is_verified: bool,
    /// Whether mail can be sent: without it, an address can be neither verified nor changed.
    pub(crate) mail: bool,
    /// Browsers that are signed in, with this one.
    pub(crate) browsers: usize,
    pub(crate) apps: Vec<App>,
    /// What was just done, to be told once.
    pub(crate) saved: Option<Saved>,
    /// Whether this browser is signed in with other accounts too.
    pub(crate) others: bool,
}

/// What was just done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Saved {
    Name,
    Password,
}

/// The accounts of a browser with more than one.
#[derive(Template)]
#[template(path = "accounts.html")]
pub(crate) struct Accounts {
    pub(crate) chrome: Chrome,
    pub(crate) cards: Vec<(Card, String)>,
}

/// A sign-in.
pub(crate) struct Card {
    /// What they are called.
    pub(crate) name: String,
    pub(crate) email: String,
    /// Whose account it is: the directory's name.
    pub(crate) directory: String,
    pub(crate) since: Moment,
    pub(crate) until: Moment,
    /// The form token for signing this one out.
    pub(crate) form: String,
}

/// An application somebody is signed in to.
pub(crate) struct App {
    pub(crate) host: String,
    /// Its `https://` origin.
    pub(crate) origin: String,
    pub(crate) until: Moment,
}

impl App {
    fn until_text(&self, t: &Texts) -> String {
        fill(t.account.app_until, &self.until.for_people(t))
    }
}

impl Account {
    fn browsers_text(&self) -> String {
        let t = &self.chrome.t.account;
        match self.browsers {
            0 | 1 => t.sessions_one.to_owned(),
            many => fill(t.sessions_many, &many.to_string()),
        }
    }

    fn saved_text(&self) -> Option<&'static str> {
        let t = &self.chrome.t.account;
        self.saved.map(|saved| match saved {
            Saved::Name => t.saved_name,
            Saved::Password => t.saved_password,
        })
    }
}

#[cfg(test)]
mod sample {
    use super::super::Page;
    use super::super::samples::{ADA, FORM, LONG, at, branded, plain};
    use super::*;

    fn app(host: &str) -> App {
        App { host: host.to_owned(), origin: format!("https://{host}:8443"), until: at(12 * 3600) }
    }

    fn card(name: &str, email: &str, directory: &str) -> Card {
        Card {
            name: name.to_owned(),
            email: email.to_owned(),
            directory: directory.to_owned(),
            since: at(0),
            until: at(12 * 3600),
            form: FORM.to_owned(),
        }
    }

    impl Page for Account {
        fn sample() -> Vec<(&'static str, Self)> {
            let page = |chrome, card: Card, is_verified, browsers, apps, saved| Self {
                chrome,
                name: card.name.clone(),
                card,
                base: "/account/dir_1".to_owned(),
                is_verified,
                mail: true,
                browsers,
                apps,
                saved,
                others: false,
            };
            let ada = || card("Ada Lovelace", ADA, "Shop");
            let apps = || vec![app("shop.localhost"), app("shop--staging.localhost")];
            let long = card(LONG, &format!("{}@shop.example", "lovelace.".repeat(6)), LONG);
            let bare = page(plain(), ada(), false, 1, Vec::new(), None);
            let called = page(plain(), card("Countess of code", ADA, "Shop"), true, 1, apps(), None);
            vec![
                ("account", page(plain(), ada(), true, 3, apps(), None)),
                ("account-saved", page(plain(), ada(), true, 1, apps(), Some(Saved::Password))),
                ("account-bare", Self { mail: false, others: true, ..bare }),
                ("account-display-name", Self { name: "Ada Lovelace".to_owned(), ..called }),
                ("account-long", page(branded(), long, false, 2, apps(), Some(Saved::Name))),
            ]
        }
    }

    impl Page for Accounts {
        fn sample() -> Vec<(&'static str, Self)> {
            let cards = vec![
                (card("Operator", "operator@mezu.localhost", "Operators"), "/account/dir_1".to_owned()),
                (card("Ada Lovelace", ADA, "Shop"), "/account/dir_2".to_owned()),
            ];
            vec![("accounts", Self { chrome: plain(), cards })]
        }
    }
}
